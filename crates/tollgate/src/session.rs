//! Middleware that finds the session behind a request's token.
//!
//! The token is looked for in [sources](crate::token_source), in the order in which they were
//! written; the default is `Authorization`, with or without `Bearer`. The session is read from the
//! store under the names that the [`KeyScheme`] gives the token, its policies are applied, and it is
//! handed on to the gates behind.
//!
//! A request is rejected
//!
//! - with `401` if it has no token, or the session has expired;
//! - with `400` if what it has can not be a token;
//! - with `403` if no session is stored for the token, its policies make none, it is inactive, it is
//!   of another organisation than the API, or it has a password: such a session is a user's, and its
//!   name alone opens nothing (Tyk lets it in);
//! - with `503` if the store gives no answer, unless told otherwise.
//!
//! Nothing is written to the store.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use tollgate::{MemoryStore, SharedStore, session::SessionLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//! # async fn handle(_: Request<()>) -> Result<Response<axum::body::Body>, std::convert::Infallible> {
//! #     Ok(Response::default())
//! # }
//!
//! let store = MemoryStore::new();
//! store.insert("joes-key", r#"{"alias": "joe", "rate": 10, "per": 1}"#.parse()?)?;
//! let service = SessionLayer::new(store).layer(service_fn(handle));
//!
//! let request = Request::get("/").header("authorization", "Bearer joes-key").body(())?;
//! assert_eq!(service.clone().oneshot(request).await?.status(), 200);
//! assert_eq!(service.oneshot(Request::new(())).await?.status(), 401);
//! # Ok(())
//! # }
//! ```
//!
//! Tokens in a cookie or else in a header, hashed in the store, and not shown to the service:
//!
//! ```
//! use http::HeaderName;
//! use tollgate::{KeyScheme, MemoryStore, session::SessionLayer};
//! use tollgate::token_source::{CookieSource, HeaderSource, TokenSource};
//!
//! let layer = SessionLayer::new(MemoryStore::new())
//!     .with_sources([
//!         CookieSource::new("sid").shared(),
//!         HeaderSource::new(HeaderName::from_static("x-api-key")).shared(),
//!     ])
//!     .with_keys(KeyScheme::sha256())
//!     .with_credential_removed();
//! ```

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{HeaderMap, request::Parts};
use smallvec::{SmallVec, smallvec};
use tollgate_core::{
    Loaded, Moment, PolicyId, Rejection, StoreError,
    pass::{HeldPass, Pass, Plan, Rules},
    policy::PolicySet,
    store::{SharedStore, StorageKey, StoreErrorKind},
    token::{KeyScheme, is_visible},
};

use crate::{
    explain::Fact,
    gate::{Acts, Gate, Step},
    plan::CurrentPlan,
    report,
    single::{Single, single_gate_layer},
    token_source::{HeaderSource, TokenSource},
    visit::Visit,
};

/// Layer that finds the session behind a request's token.
///
/// See the [module docs](crate::session) for examples.
#[derive(Clone, Debug)]
#[must_use]
pub struct SessionLayer(Single<SessionGate>);

single_gate_layer!(SessionLayer);

/// What a gate does when its store gives no answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnStoreError {
    /// The request is refused with 503.
    #[default]
    Refuse,
    /// The request goes on: without a session, or without being counted.
    Admit,
    /// Limits alone: this process counts by itself, against the whole limit. With N processes up to
    /// N times the limit may pass while the store is away. A session gate refuses, as there is
    /// nothing local to ask.
    Local,
}

impl SessionLayer {
    /// Looks tokens up in this store.
    pub fn new(store: impl Into<SharedStore>) -> Self {
        Self(Single::new(SessionGate::new(store.into())))
    }

    /// Asks these sources for the token, in this order, in place of `Authorization`.
    pub fn with_sources(self, sources: impl IntoIterator<Item = Arc<dyn TokenSource>>) -> Self {
        Self(
            self.0
                .change(|gate| gate.sources = sources.into_iter().collect()),
        )
    }

    /// How tokens become names in the store. The default is [`KeyScheme::plain`].
    pub fn with_keys(self, keys: KeyScheme) -> Self {
        Self(self.0.change(|gate| gate.keys = keys))
    }

    /// Applies these policies to sessions that name them.
    pub fn with_policies(self, policies: PolicySet) -> Self {
        Self(
            self.0
                .change(|gate| gate.set_plan(gate.plan.load().with_policies(policies))),
        )
    }

    /// How sessions are read: organisation, path patterns, windows of rates.
    pub fn with_rules(self, rules: Rules) -> Self {
        Self(
            self.0
                .change(|gate| gate.set_plan(gate.plan.load().with_rules(rules))),
        )
    }

    /// Takes the credential out of the request before the service sees it, from every source.
    pub fn with_credential_removed(self) -> Self {
        Self(self.0.change(|gate| gate.removes_credential = true))
    }

    /// What to do when the store gives no answer.
    pub fn on_store_error(self, then: OnStoreError) -> Self {
        Self(self.0.change(|gate| gate.on_store_error = then))
    }

    /// Lets every request through, and counts what would have been refused. Gates behind then see
    /// requests without a session and let them pass too.
    pub fn observe(self) -> Self {
        Self(self.0.observe())
    }
}

/// The gate of [`SessionLayer`].
#[derive(Clone)]
pub struct SessionGate {
    pub(crate) store: SharedStore,
    pub(crate) sources: Vec<Arc<dyn TokenSource>>,
    pub(crate) keys: KeyScheme,
    pub(crate) plan: Arc<CurrentPlan>,
    pub(crate) removes_credential: bool,
    /// What leaves with the credential besides.
    pub(crate) also_removed: Vec<Arc<dyn TokenSource>>,
    pub(crate) on_store_error: OnStoreError,
    /// Whether a record that can not be read is as none.
    pub(crate) passes_over_unreadable: bool,
}

impl std::fmt::Debug for SessionGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionGate")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl SessionGate {
    pub(crate) fn new(store: SharedStore) -> Self {
        Self {
            store,
            sources: vec![Arc::new(HeaderSource::default())],
            keys: KeyScheme::plain(),
            plan: CurrentPlan::new(Plan::default()),
            removes_credential: false,
            also_removed: Vec::new(),
            on_store_error: OnStoreError::Refuse,
            passes_over_unreadable: false,
        }
    }

    /// Gives this gate a plan of its own: clones of the gate keep theirs.
    pub(crate) fn set_plan(&mut self, plan: Plan) {
        self.plan = CurrentPlan::new(plan);
    }

    /// The token of the first source that has one.
    fn token<'a>(&self, head: &'a Parts) -> Result<Cow<'a, str>, Rejection> {
        for source in &self.sources {
            if let Some(token) = source.find(head)? {
                return Ok(token);
            }
        }
        Err(Rejection::CredentialMissing)
    }

    /// The record in memory of a token that is its name; `None` says nothing.
    #[inline]
    pub(crate) fn find_at_once(&self, head: &Parts) -> Option<Arc<Loaded>> {
        let token = self.token(head).ok()?;
        let name = self.keys.presented_name(self.plan.organisation(), &token)?;
        self.store.try_get(name)?
    }

    /// The same of a token that is all of what stands in its header. The outer `None` says that this can not
    /// be told from here.
    #[inline]
    pub(crate) fn find_presented(&self, presented: Option<&[u8]>) -> Option<Option<Arc<Loaded>>> {
        let token = presented.filter(|text| is_visible(text))?;
        let token = str::from_utf8(token).ok()?;
        let name = self.keys.presented_name(self.plan.organisation(), token);
        Some(name.and_then(|name| self.store.try_get(name)?))
    }

    /// What stands in the one header that tokens come from; `None` where it is there twice, or they may come
    /// from elsewhere.
    #[inline]
    pub(crate) fn only_header<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        let [source] = &self.sources[..] else {
            return None;
        };
        let value = headers.get(source.header()?)?;
        let is_alone = headers.keys_len() == headers.len(); // No header comes twice.
        is_alone.then_some(value.as_bytes())
    }

    /// See [`SessionStore::epoch`](tollgate_core::store::SessionStore::epoch).
    #[inline]
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.store.epoch()
    }

    #[inline]
    pub(crate) fn plan_id(&self) -> u64 {
        self.plan.id()
    }

    /// The record's pass for the plan in force, which has this id; `None` where it has none.
    #[inline]
    pub(crate) fn pass_of(&self, loaded: Arc<Loaded>, plan: u64) -> Option<HeldPass> {
        match HeldPass::of_first(loaded, plan) {
            Ok(held) => Some(held),
            Err(loaded) => self.plan.load().pass_of(loaded).ok(),
        }
    }

    /// Whether a bare token may use the session now.
    #[inline]
    pub(crate) fn may(&self, pass: &Pass, now: Moment) -> bool {
        check(pass, now).is_ok()
    }

    /// Asks for the names that the token may be stored under, in the order in which they are tried.
    fn look_up(&self, token: &str, visit: &mut Visit) -> Step {
        let organisation = self.plan.organisation();
        if let Some(name) = self.keys.presented_name(organisation, token) {
            return match self.store.try_get(name) {
                Some(Some(loaded)) => accept(&self.plan, loaded, visit).into(),
                Some(None) => Step::Refuse(Rejection::KeyUnknown),
                None => self.ask(smallvec![name.into()]),
            };
        }
        let mut names = self.keys.candidates(organisation, token);
        for at in 0..names.len() {
            match self.store.try_get(names[at].as_str()) {
                Some(Some(loaded)) => return accept(&self.plan, loaded, visit).into(),
                Some(None) => {}
                None => {
                    names.drain(..at); // Those before are surely not there.
                    return self.ask(names);
                }
            }
        }
        Step::Refuse(Rejection::KeyUnknown)
    }

    fn ask(&self, names: SmallVec<[StorageKey; 2]>) -> Step {
        let (plan, then) = (self.plan.clone(), self.on_store_error);
        let passes_over = self.passes_over_unreadable;
        Step::wait(
            self.store.get_first(names),
            move |found, _head, visit| match found {
                Ok(Some(loaded)) => accept(&plan, loaded, visit).into(),
                Ok(None) => Step::Refuse(Rejection::KeyUnknown),
                Err(error) if passes_over && error.kind() == StoreErrorKind::Corrupt => {
                    report::store_failed(&error, "session", "refused");
                    Step::Refuse(Rejection::KeyUnknown)
                }
                Err(error) => store_failed(&error, "session", then, visit),
            },
        )
    }
}

impl Gate for SessionGate {
    fn name(&self) -> &'static str {
        "session"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        match self.token(head) {
            Ok(token) => self.look_up(&token, visit),
            Err(rejection) => Step::Refuse(rejection),
        }
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: self.removes_credential,
            depart: false,
        }
    }

    fn forward(&self, head: &mut Parts, _visit: &Visit) {
        if self.removes_credential {
            let sources = self.sources.iter().chain(&self.also_removed);
            sources.for_each(|source| source.remove(head));
        }
    }
}

/// Makes what was found the session of this request, if it may be used.
fn accept(plan: &CurrentPlan, loaded: Arc<Loaded>, visit: &mut Visit) -> Result<(), Rejection> {
    let held = match HeldPass::of_first(loaded, plan.id()) {
        Ok(held) => held,
        Err(loaded) => plan.load().pass_of(loaded)?,
    };
    let pass = held.get();
    if pass.is_for_bare_tokens() {
        visit.explain(|_| Fact::of("alias", pass.session().alias.clone(), "the stored session"));
        visit.explain(|_| Fact::of("policies", policies_of(pass), "the stored session"));
    }
    check(pass, visit.now())?;
    visit.set_pass(held);
    Ok(())
}

/// Whether a bare token may use the session now.
#[inline]
fn check(pass: &Pass, now: Moment) -> Result<(), Rejection> {
    if !pass.is_for_bare_tokens() {
        return Err(Rejection::KeyUnknown); // Whoever knows the name of such a user is not the user.
    }
    pass.lifecycle(now.unix())
}

fn policies_of(pass: &Pass) -> String {
    let ids = pass.session().policies().iter().map(PolicyId::as_str);
    ids.collect::<Vec<_>>().join(", ")
}

/// A store that fails is not a client that fails.
pub(crate) fn store_failed(
    error: &StoreError,
    gate: &'static str,
    then: OnStoreError,
    visit: &mut Visit,
) -> Step {
    match then {
        // A record that can not be read may be one that is switched off.
        OnStoreError::Admit if error.kind() != StoreErrorKind::Corrupt => {
            report::store_failed(error, gate, "admitted");
            visit.waive();
            Step::Pass
        }
        _ => {
            report::store_failed(error, gate, "refused");
            Step::Refuse(Rejection::StoreUnavailable {
                retry_after: RETRY_AFTER,
            })
        }
    }
}

/// When a client may try again after a store failed.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tollgate_core::store::{MemoryStore, SessionStore};

    use super::*;

    #[test]
    fn a_session_with_a_password_is_no_bare_token() {
        for (password, accepted) in [("", Ok(())), ("pw", Err(Rejection::KeyUnknown))] {
            let store = MemoryStore::new();
            let session = format!(r#"{{"basic_auth_data": {{"password": "{password}"}}}}"#);
            let session = session.parse().expect("is a session");
            store.insert("ann", session).expect("there is room");
            let loaded = store.try_get("ann").flatten().expect("was put");
            let plan = CurrentPlan::new(Plan::default());
            assert_eq!(accept(&plan, loaded, &mut Visit::default()), accepted);
        }
    }
}
