//! The standard stack: every gate, in the right order, as one layer.
//!
//! ```text
//! organisation ─ session ─ access rights ─ metadata ─ gates of yours ─ limits ─► service
//! ```
//!
//! The organisation's own record is asked first where its id is fixed, so that one that is switched
//! off lets nobody in. Limits come last: what any other gate refuses costs nothing.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, routing::get};
//! use http::Request;
//! use tollgate::{MemoryStore, Tollgate};
//! use tower::ServiceExt;
//!
//! let store = MemoryStore::new();
//! store.insert(
//!     "joes-key",
//!     r#"{"rate": 1, "per": 60, "access_rights": {"orders": {}}, "meta_data": {"user": "joe"}}"#.parse()?,
//! )?;
//!
//! let gate = Tollgate::builder(store)
//!     .api("orders")
//!     .rate_limit()
//!     .quota()
//!     .inject("x-user", "$tyk_meta.user")?
//!     .build()?;
//! let app = Router::new().route("/", get(|| async { "hello" })).layer(gate.layer());
//!
//! let ask = || Request::get("/").header("authorization", "joes-key").body(Body::empty());
//! assert_eq!(app.clone().oneshot(ask()?).await?.status(), 200);
//! assert_eq!(app.oneshot(ask()?).await?.status(), 429);
//! # Ok(())
//! # }
//! ```

use std::{borrow::Cow, fmt, sync::Arc};

use http::request::Parts;
use tollgate_core::{
    ApiId, Clock, OrgId,
    access::VersionRule,
    limits::{Limit, Rate},
    pass::Rules,
    policy::PolicySet,
    rejection::LimitOwner,
    store::{ChargeMode, SharedStore},
    token::KeyScheme,
    variables::{UnsafeValues, ValueStyle},
};

use crate::{
    access_rights::{AccessRightsGate, ApiChoice, Versions},
    admit::{Admitted, Refused},
    explain::{self, Explanation},
    express::{Express, Rest},
    gate::{Gate, Gates},
    gated::GateLayer,
    limits::{LimitGate, OwnLimit},
    meta_inject::{InjectError, Injected, MetaInjectGate, Side},
    organisation::OrganisationGate,
    rate_headers::LimitHeaders,
    refusal::Refusals,
    session::{OnStoreError, SessionGate},
    settlement::ChargeWhen,
    token_source::TokenSource,
    url_rewrite::UrlRewriteLayer,
};

/// A stack of gates, ready to be put before services.
///
/// See the [module docs](crate::stack) for an example. Cheap to clone; clones share all counts.
#[derive(Clone, Debug)]
pub struct Tollgate {
    gates: Gates,
    session: Option<SessionGate>,
}

impl Tollgate {
    /// Starts a stack over this store.
    pub fn builder(store: impl Into<SharedStore>) -> Builder {
        Builder::new(store.into())
    }

    /// The stack as a layer. Build it as often as you like: all its services share one state.
    pub fn layer(&self) -> GateLayer {
        self.gates.clone().into()
    }

    /// The same for a `Router` of axum; see [`router`](crate::router).
    #[cfg(feature = "axum")]
    pub fn router_layer(&self) -> crate::router::RouterLayer {
        self.gates.clone().into()
    }

    /// Decides about a request without a service, and charges it: for other proxies and for external
    /// authorisation. See [`Admitted`] for an example.
    ///
    /// # Errors
    ///
    /// Fails with the answer that the client should get.
    pub async fn admit(&self, head: Parts) -> Result<Admitted, Refused> {
        crate::admit::admit(&self.gates, head).await
    }

    /// What every gate would say of a request, and by which values. Nothing is charged. See
    /// [`explain`](mod@crate::explain) for an example.
    pub async fn explain(&self, head: &Parts) -> Explanation {
        explain::explain(&self.gates, head).await
    }

    /// Puts other policies in force for the next request on. Counts stay; no request sees some of the
    /// old policies and some of the new ones.
    pub fn replace_policies(&self, policies: PolicySet) {
        if let Some(session) = &self.session {
            session.plan.replace_policies(policies);
        }
    }
}

/// Puts a stack together; see [`Tollgate::builder`].
#[must_use]
pub struct Builder {
    session: SessionGate,
    /// What was said of the stack's own session gate, or against it.
    sources: Sources,
    session_gates: Vec<Arc<dyn Gate>>,
    rules: Rules,
    policies: PolicySet,
    api: Option<ApiChoice>,
    listen_path: Option<Arc<str>>,
    versions: Option<Versions>,
    inject: MetaInjectGate,
    own_gates: Vec<Arc<dyn Gate>>,
    limits: LimitGate,
    any_path: bool,
    organisation: Organisation,
    observe_session: bool,
    observe_rights: bool,
    gates: Gates,
}

/// What is asked of the organisation's own record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Organisation {
    Nothing,
    Activity,
    Limits,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sources {
    Default,
    Given,
    None,
}

impl Builder {
    fn new(store: SharedStore) -> Self {
        Self {
            session: SessionGate::new(store.clone()),
            sources: Sources::Default,
            session_gates: Vec::new(),
            rules: Rules::default(),
            policies: PolicySet::default(),
            api: None,
            listen_path: None,
            versions: None,
            inject: MetaInjectGate::default(),
            own_gates: Vec::new(),
            limits: LimitGate::new(store),
            any_path: false,
            organisation: Organisation::Nothing,
            observe_session: false,
            observe_rights: false,
            gates: Gates::none(),
        }
    }

    /// Looks for the token in these sources, in this order, in place of `Authorization`. With none, the
    /// stack has no session: it then holds gates and limits of yours.
    pub fn token_sources(
        mut self,
        sources: impl IntoIterator<Item = Arc<dyn TokenSource>>,
    ) -> Self {
        self.session.sources = sources.into_iter().collect();
        self.sources = if self.session.sources.is_empty() {
            Sources::None
        } else {
            Sources::Given
        };
        self
    }

    /// Finds the session by a gate of yours, which calls [`Visit::set_pass`](crate::visit::Visit::set_pass).
    pub fn session_gate(mut self, gate: impl Gate) -> Self {
        self.session_gates.push(Arc::new(gate));
        self
    }

    /// How tokens become names in the store. The default is [`KeyScheme::plain`].
    pub fn keys(mut self, keys: KeyScheme) -> Self {
        self.session.keys = keys;
        self
    }

    /// Takes the credential out of the request before the service sees it.
    pub fn remove_credential(mut self) -> Self {
        self.session.removes_credential = true;
        self
    }

    /// Takes these out with the [credential](Self::remove_credential): what is sent for other ways to
    /// authenticate, and nobody here looks at.
    pub fn also_remove(mut self, sources: impl IntoIterator<Item = Arc<dyn TokenSource>>) -> Self {
        self.session.also_removed.extend(sources);
        self
    }

    /// Applies these policies to sessions that name them.
    pub fn policies(mut self, policies: PolicySet) -> Self {
        self.policies = policies;
        self
    }

    /// How sessions are read: path patterns, master keys, windows of rates.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// The organisation that the API belongs to. Keys and policies of others are refused.
    pub fn organisation(mut self, organisation: impl Into<OrgId>) -> Self {
        self.rules.organisation = organisation.into();
        self
    }

    /// Reads the organisation's own record too: one that is inactive lets nobody in, and its rate and
    /// quota are charged with the key's. It is the record stored under
    /// [`StorageKey::organisation`](tollgate_core::store::StorageKey::organisation).
    pub fn organisation_limits(mut self) -> Self {
        self.organisation = Organisation::Limits;
        self
    }

    /// Reads the organisation's own record, and charges none of its limits: for requests without a key,
    /// where others need one. Who has none then uses up nothing.
    pub fn organisation_activity(mut self) -> Self {
        self.organisation = Organisation::Activity;
        self
    }

    /// Every request calls this API: the session must hold it, and its entry gives the limits.
    pub fn api(mut self, api: impl Into<ApiId>) -> Self {
        self.api = Some(ApiChoice::always(api));
        self
    }

    /// The request tells which API it calls. `None` is no API of ours, and refused.
    pub fn api_by(
        mut self,
        choose: impl Fn(&Parts) -> Option<ApiId> + Send + Sync + 'static,
    ) -> Self {
        self.api = Some(ApiChoice::By(Arc::new(choose)));
        self
    }

    /// The part of the path that is not the API's own, as `/shop/`: path patterns may leave it out.
    pub fn listen_path(mut self, listen_path: &str) -> Self {
        self.listen_path = Some(listen_path.into());
        self
    }

    /// The API has versions: which ones, and how a request names one.
    pub fn versions<V>(mut self, rule: VersionRule, version: V) -> Self
    where
        V: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        self.versions = Some(Versions {
            rule: Arc::new(rule),
            version: Arc::new(version),
        });
        self
    }

    /// Charges the session's rate.
    pub fn rate_limit(mut self) -> Self {
        self.limits = self.limits.with(|rules| rules.session_rate = true);
        self
    }

    /// Charges the session's quota.
    pub fn quota(mut self) -> Self {
        self.limits = self.limits.with(|rules| rules.session_quota = true);
        self
    }

    /// When quotas are charged. The default is when a request is let in.
    pub fn charge_quota(mut self, when: ChargeWhen) -> Self {
        self.limits = self.limits.with(|rules| rules.charge = when);
        self
    }

    /// One rate for all callers of the API together.
    pub fn api_rate(self, rate: Rate) -> Self {
        self.limit(OwnLimit::global("api", LimitOwner::Api, Limit::Rate(rate)))
    }

    /// A limit of yours, charged with the others in one step.
    pub fn limit(mut self, own: OwnLimit) -> Self {
        self.limits = self.limits.with(|rules| rules.own.push(own));
        self
    }

    /// A limit of yours that each request chooses, charged with the others in one step. `None` charges
    /// nothing. Of several calls, the last one counts.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::sync::Arc;
    /// # use http::Request;
    /// use tollgate::{Limit, MemoryStore, Rate, Tollgate, limits::OwnLimit, rejection::LimitOwner};
    ///
    /// let one = Limit::Rate(Rate::per_minute(1));
    /// let export = Arc::new(OwnLimit::global("export", LimitOwner::Own, one));
    /// let gate = Tollgate::builder(MemoryStore::new())
    ///     .token_sources([])
    ///     .limit_by(move |head| (head.uri.path() == "/export").then(|| export.clone()))
    ///     .build()?;
    ///
    /// let head = |path: &str| Request::get(path).body(()).map(|it| it.into_parts().0);
    /// assert!(gate.admit(head("/export")?).await.is_ok());
    /// assert!(gate.admit(head("/export")?).await.is_err());
    /// assert!(gate.admit(head("/other")?).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn limit_by(
        mut self,
        choose: impl Fn(&Parts) -> Option<Arc<OwnLimit>> + Send + Sync + 'static,
    ) -> Self {
        self.limits = self
            .limits
            .with(|rules| rules.chosen = Some(Arc::new(choose)));
        self
    }

    /// Charges limits only for requests of which this says so; others pass, and no limit is told of. Of
    /// several calls, the last one counts.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use http::Request;
    /// use tollgate::{MemoryStore, Rate, Tollgate};
    ///
    /// let gate = Tollgate::builder(MemoryStore::new())
    ///     .token_sources([])
    ///     .api_rate(Rate::per_minute(1))
    ///     .limits_where(|head| head.uri.path() != "/health")
    ///     .build()?;
    ///
    /// let head = |path: &str| Request::get(path).body(()).map(|it| it.into_parts().0);
    /// assert!(gate.admit(head("/x")?).await.is_ok());
    /// assert!(gate.admit(head("/x")?).await.is_err());
    /// assert!(gate.admit(head("/health")?).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits_where(
        mut self,
        charges: impl Fn(&Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.limits = self
            .limits
            .with(|rules| rules.charges = Some(Arc::new(charges)));
        self
    }

    /// Charges nothing, and refuses nobody for a limit: the [`Visit`](crate::visit::Visit) is told where
    /// the limits stand, for the service behind to answer.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use http::Request;
    /// use tollgate::{MemoryStore, Tollgate};
    ///
    /// let store = MemoryStore::new();
    /// store.insert("joes-key", r#"{"quota_max": 1}"#.parse()?)?;
    /// let gate = Tollgate::builder(store).quota().only_look().build()?;
    /// for _ in 0..3 {
    ///     let request = Request::get("/").header("authorization", "joes-key").body(())?;
    ///     let admitted = gate.admit(request.into_parts().0).await?;
    ///     assert_eq!(admitted.visit().limits()[0].standing.remaining, 1);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn only_look(mut self) -> Self {
        self.limits = self.limits.with(|rules| rules.only_looks = true);
        self
    }

    /// Asks for the right to call the API, whatever the path.
    pub fn any_path(mut self) -> Self {
        self.any_path = true;
        self
    }

    /// Sets a header of the request; see [`meta_inject`](crate::meta_inject).
    ///
    /// # Errors
    ///
    /// Fails where the name is none, frames the message, or the text names a secret.
    pub fn inject(mut self, name: &str, text: &str) -> Result<Self, InjectError> {
        self.inject
            .push(Injected::parse(name, text, Side::Request)?);
        Ok(self)
    }

    /// Sets a header of the response.
    ///
    /// # Errors
    ///
    /// As [`inject`](Self::inject).
    pub fn inject_response(mut self, name: &str, text: &str) -> Result<Self, InjectError> {
        self.inject
            .push(Injected::parse(name, text, Side::Response)?);
        Ok(self)
    }

    /// Cleans values that no header can hold, in place of refusing the request.
    pub fn clean_values(mut self) -> Self {
        self.inject.set_unsafe_values(UnsafeValues::Clean);
        self
    }

    /// Writes booleans, `null` and objects as Tyk does: as nothing.
    pub fn tyk_values(mut self) -> Self {
        self.inject.set_style(ValueStyle::Tyk);
        self
    }

    /// Sends requests to another URL, once every gate has looked at theirs; see
    /// [`url_rewrite`](crate::url_rewrite). What can not be rewritten is refused before anything is
    /// charged; limits that a target names are therefore not told in it.
    pub fn rewrite(self, rewrite: UrlRewriteLayer) -> Self {
        self.gate(rewrite.into_gate())
    }

    /// A gate of yours, asked when session and rights are known and nothing is charged yet.
    pub fn gate(mut self, gate: impl Gate) -> Self {
        self.own_gates.push(Arc::new(gate));
        self
    }

    /// Refuses a key whose record can not be read as an unknown one, with 403, as Tyk does. Otherwise it is
    /// refused with 503: the key may be a good one.
    pub fn unreadable_keys_are_unknown(mut self) -> Self {
        self.session.passes_over_unreadable = true;
        self
    }

    /// What to do when the store gives no answer.
    pub fn on_store_error(mut self, then: OnStoreError) -> Self {
        self.session.on_store_error = then;
        self.limits = self.limits.with(|rules| rules.on_store_error = then);
        self
    }

    /// Lets requests through without a session, and counts what would have been refused.
    pub fn observe_session(mut self) -> Self {
        self.observe_session = true;
        self
    }

    /// Lets requests through without the right, and counts what would have been refused.
    pub fn observe_rights(mut self) -> Self {
        self.observe_rights = true;
        self
    }

    /// Lets requests over a limit through, and counts what would have been refused.
    pub fn observe_limits(mut self) -> Self {
        self.limits = self.limits.with(|rules| rules.mode = ChargeMode::Observe);
        self
    }

    /// Which headers tell where the limits stand.
    pub fn headers(mut self, headers: LimitHeaders) -> Self {
        self.limits = self.limits.with(|rules| rules.headers = headers);
        self
    }

    /// Answers refused requests in this form.
    pub fn refusals(mut self, refusals: Refusals) -> Self {
        self.gates = self.gates.with_refusals(refusals);
        self
    }

    /// Reads the time from `clock` in place of the machine's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.gates = self.gates.with_clock(clock);
        self
    }

    /// Leaves nothing in the request's extensions: handlers then can not ask for the session. Where no gate
    /// changes the response either, a request costs no allocation.
    pub fn without_context(mut self) -> Self {
        self.gates = self.gates.without_context();
        self
    }

    /// Puts the gates in order.
    ///
    /// # Errors
    ///
    /// Fails where the settings can not go together; the error names them.
    pub fn build(mut self) -> Result<Tollgate, BuildError> {
        self.check()?;
        let texts = self.inject.plan();
        let fixed_organisation = !self.rules.organisation.is_empty();
        let policies = std::mem::take(&mut self.policies);
        let plan = self.session.plan.load().with_policies(policies);
        self.session
            .set_plan(plan.with_rules(self.rules.clone()).with_texts(texts));
        let has_session = self.sources != Sources::None && self.session_gates.is_empty();
        let session = has_session.then_some(self.session.clone());

        let is_charged = self.organisation == Organisation::Limits;
        let organisation = (self.organisation != Organisation::Nothing)
            .then(|| OrganisationGate::new(&self.session, is_charged));
        let (express, access) = (self.express(), self.access());
        let (before, behind) = if fixed_organisation {
            (organisation, None)
        } else {
            (None, organisation)
        };
        let mut gates = self.gates;
        gates = before.into_iter().fold(gates, Gates::and);
        gates = match session.clone() {
            Some(session) => gates.seat(Arc::new(session), self.observe_session),
            None => self
                .session_gates
                .into_iter()
                .fold(gates, |gates, gate| gates.seat(gate, self.observe_session)),
        };
        gates = behind.into_iter().fold(gates, Gates::and);
        if let Some(access) = access {
            gates = gates.seat(Arc::new(access), self.observe_rights);
        }
        if !self.inject.is_empty() {
            gates = gates.and(self.inject);
        }
        gates = self
            .own_gates
            .into_iter()
            .fold(gates, |gates, gate| gates.seat(gate, false));
        if self.limits.has_limits() || is_charged {
            gates = gates.and_limits(
                self.limits
                    .with(|rules| rules.listen_path = self.listen_path),
            );
        }
        if let Some(express) = express {
            gates = gates.with_express(express);
        }
        if gates.iter().next().is_none() {
            return Err(BuildError::Empty);
        }
        Ok(Tollgate { gates, session })
    }

    /// The gates in one look, where the stack begins with session and rights, both are obeyed, and records have
    /// the names that are presented. Limits belong to it where they come next and a request is charged for good.
    fn express(&self) -> Option<Express> {
        let begins = self.session_gates.is_empty()
            && self.sources != Sources::None
            && self.organisation == Organisation::Nothing
            && self
                .session
                .keys
                .is_by_presented(self.session.plan.organisation())
            && !self.observe_session
            && !self.observe_rights;
        let access = self.access().filter(|_| begins)?;
        let limits = self.limits.has_limits() && self.limits.charges_for_good();
        let limits = (limits && self.own_gates.is_empty()).then(|| self.limits.clone());
        let rest = limits.clone().map(|limits| Rest {
            inject: self.inject.clone(),
            limits,
        });
        let limits = limits.filter(|_| self.inject.is_empty());
        Some(Express::new(self.session.clone(), access, limits, rest))
    }

    fn access(&self) -> Option<AccessRightsGate> {
        self.api.clone().map(|api| AccessRightsGate {
            api,
            listen_path: self.listen_path.clone(),
            versions: self.versions.clone(),
            any_path: self.any_path,
        })
    }

    /// Whether an organisation is asked about that only a session can name.
    fn needs_organisation(&self) -> bool {
        self.organisation != Organisation::Nothing && self.rules.organisation.is_empty()
    }

    fn check(&self) -> Result<(), BuildError> {
        let given = self.session_gates.len() + usize::from(self.sources == Sources::Given);
        if given > 1 {
            return Err(BuildError::TwoSessionGates);
        }
        if self.sources == Sources::None && self.session_gates.is_empty() {
            let (rate, quota) = self.limits.of_session();
            let needs = [
                (rate, "rate_limit"),
                (quota, "quota"),
                (self.api.is_some(), "api"),
                (self.needs_organisation(), "organisation_limits"),
            ];
            if let Some((_, what)) = needs.into_iter().find(|(needs, _)| *needs) {
                return Err(BuildError::NoSessionSource(what));
            }
        }
        if self.api.is_none() && self.versions.is_some() {
            return Err(BuildError::NoApi("versions"));
        }
        Ok(())
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// A stack can not be built like this.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Something needs a session, and no source of a token is left to find one by.
    #[error("{0} needs a session, and there is no token source: `token_sources` was given none")]
    NoSessionSource(&'static str),
    /// Two gates would find the session.
    #[error(
        "two session gates: `session_gate` replaces the stack's own, and was given twice or with `token_sources`"
    )]
    TwoSessionGates,
    /// A setting of the API without an API.
    #[error("{0} needs an API: say `api` or `api_by`")]
    NoApi(&'static str),
    /// A stack in which no gate is left.
    #[error("a stack without any gate")]
    Empty,
}
