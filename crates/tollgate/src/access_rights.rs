//! Middleware that lets a session call what it has rights to: API, version, path and method.
//!
//! The session comes from a [`SessionLayer`](crate::session::SessionLayer) in front. A request is
//! rejected
//!
//! - with `403` if the session's `access_rights` do not hold the API, its version, or the path with
//!   this method; a session without any rights (a master key) is refused unless
//!   [`Rules::master_keys`](tollgate_core::pass::Rules) says otherwise;
//! - with `400` if the path can be read in two ways, as `//admin` or `/%2e%2e/admin`: what is checked
//!   must be what is served;
//! - with `500` if no session layer stands in front.
//!
//! Nothing is read from or written to the store. A pattern that does not compile never grants; its
//! session or policy is named in the log.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use tollgate::{MemoryStore, access_rights::AccessRightsLayer, session::SessionLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! # async fn handle(_: Request<()>) -> Result<Response<axum::body::Body>, std::convert::Infallible> {
//! #     Ok(Response::default())
//! # }
//!
//! let store = MemoryStore::new();
//! store.insert(
//!     "joes-key",
//!     r#"{"access_rights": {"orders": {"allowed_urls": [{"url": "^/orders$", "methods": ["GET"]}]}}}"#.parse()?,
//! )?;
//! let service = ServiceBuilder::new()
//!     .layer(SessionLayer::new(store))
//!     .layer(AccessRightsLayer::new("orders"))
//!     .service(service_fn(handle));
//!
//! let ask = |path: &str| Request::get(path).header("authorization", "joes-key").body(());
//! assert_eq!(service.clone().oneshot(ask("/orders")?).await?.status(), 200);
//! assert_eq!(service.clone().oneshot(ask("/admin")?).await?.status(), 403);
//! assert_eq!(service.oneshot(ask("/x/../orders")?).await?.status(), 400);
//! # Ok(())
//! # }
//! ```

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use http::{Method, request::Parts};
use tollgate_core::{
    ApiId, Rejection,
    access::VersionRule,
    pass::{Entry, EntryAt, Pass},
};

use crate::{
    explain::Fact,
    gate::{Acts, Gate, Step},
    path::{only_path, request_path},
    report,
    seen::Seen,
    single::{Single, single_gate_layer},
    visit::Visit,
};

/// Layer that lets a session call what it has rights to.
///
/// See the [module docs](crate::access_rights) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct AccessRightsLayer(Single<AccessRightsGate>);

single_gate_layer!(AccessRightsLayer);

impl AccessRightsLayer {
    /// Every request calls this API.
    pub fn new(api: impl Into<ApiId>) -> Self {
        Self(Single::new(AccessRightsGate::new(ApiChoice::always(api))))
    }

    /// The request tells which API it calls. `None` is no API of ours, and refused.
    pub fn by(choose: impl Fn(&Parts) -> Option<ApiId> + Send + Sync + 'static) -> Self {
        Self(Single::new(AccessRightsGate::new(ApiChoice::By(Arc::new(
            choose,
        )))))
    }

    /// The part of the path that is not the API's own, as `/shop/`: path patterns may leave it out.
    pub fn with_listen_path(self, listen_path: impl Into<Box<str>>) -> Self {
        Self(
            self.0
                .change(|gate| gate.listen_path = Some(listen_path.into().into())),
        )
    }

    /// The API has versions: which ones, and how a request names one.
    pub fn with_versions<V>(self, rule: VersionRule, version: V) -> Self
    where
        V: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        Self(self.0.change(|gate| {
            gate.versions = Some(Versions {
                rule: Arc::new(rule),
                version: Arc::new(version),
            })
        }))
    }

    /// Lets every request through, and counts what would have been refused.
    pub fn observe(self) -> Self {
        Self(self.0.observe())
    }
}

/// The gate of [`AccessRightsLayer`].
#[derive(Clone)]
pub struct AccessRightsGate {
    pub(crate) api: ApiChoice,
    pub(crate) listen_path: Option<Arc<str>>,
    pub(crate) versions: Option<Versions>,
    /// Whether paths are not asked about.
    pub(crate) any_path: bool,
}

/// How a request tells which API it calls.
#[derive(Clone)]
pub(crate) enum ApiChoice {
    Always(ApiId, Arc<LastPlace>),
    By(Arc<ApiOf>),
}

impl ApiChoice {
    pub(crate) fn always(api: impl Into<ApiId>) -> Self {
        Self::Always(api.into(), Arc::default())
    }
}

/// Where the entry of a fixed API was found last: the next session most likely has it there too.
#[derive(Debug, Default)]
pub(crate) struct LastPlace(AtomicU32);

impl LastPlace {
    fn guess(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn remember(&self, at: EntryAt) {
        if at.place() != self.guess() {
            self.0.store(at.place(), Ordering::Relaxed);
        }
    }
}

pub(crate) type ApiOf = dyn Fn(&Parts) -> Option<ApiId> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Versions {
    pub(crate) rule: Arc<VersionRule>,
    pub(crate) version: Arc<VersionOf>,
}

pub(crate) type VersionOf = dyn for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync;

impl fmt::Debug for AccessRightsGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = match &self.api {
            ApiChoice::Always(api, _) => api.as_str(),
            ApiChoice::By(_) => "by request",
        };
        f.debug_struct("AccessRightsGate")
            .field("api", &api)
            .finish_non_exhaustive()
    }
}

impl AccessRightsGate {
    fn new(api: ApiChoice) -> Self {
        Self {
            api,
            listen_path: None,
            versions: None,
            any_path: false,
        }
    }

    fn decide(&self, head: &Parts, visit: &mut Visit) -> Result<(), Rejection> {
        if !visit.has_pass() {
            return Err(without_session(visit));
        }
        let called = match &self.api {
            ApiChoice::Always(api, last) => visit
                .call(api, last.guess())?
                .inspect(|(at, _)| last.remember(*at)),
            ApiChoice::By(choose) => {
                let api = choose(head).ok_or(Rejection::ApiNotGranted)?;
                visit.call(&api, 0)?
            }
        };
        let (_, entry) = called.expect("a pass has an entry for every API it finds");
        self.check(head.into(), entry)
    }

    /// Whether it asks functions of the user, which are given all of the head.
    pub(crate) fn needs_head(&self) -> bool {
        self.versions.is_some()
    }

    /// The entry of a fixed API, and its place. `None` says nothing.
    #[inline]
    pub(crate) fn place<'a>(&self, pass: &'a Pass) -> Option<(EntryAt, &'a Entry)> {
        let ApiChoice::Always(api, last) = &self.api else {
            return None;
        };
        let found = pass.entry_near(api, last.guess()).ok()?;
        last.remember(found.0);
        Some(found)
    }

    /// Whether an entry surely lets the request pass.
    #[inline]
    pub(crate) fn opens(&self, seen: Seen<'_>, entry: &Entry) -> bool {
        self.check(seen, entry).is_ok()
    }

    /// The same of an entry that was asked before, which need not be asked twice for one call.
    #[inline]
    pub(crate) fn opens_again(&self, seen: Seen<'_>, entry: &Entry, opened: &mut Opened) -> bool {
        if self.any_path || self.needs_head() {
            return self.opens(seen, entry);
        }
        let path = only_path(seen, self.listen_path.is_some());
        if path.is_some_and(|path| opened.is(seen.method, path)) {
            return true;
        }
        let opens = self.opens(seen, entry);
        if let Some(path) = path.filter(|_| opens) {
            opened.set(seen.method, path);
        }
        opens
    }

    /// Whether an entry opens version and path.
    #[inline]
    fn check(&self, seen: Seen<'_>, entry: &Entry) -> Result<(), Rejection> {
        if let Some(Versions { rule, version }) = &self.versions {
            let head = seen.head.ok_or(Rejection::ApiNotGranted)?;
            entry.version_allowed(version(head).as_deref(), rule)?;
        }
        if self.any_path {
            return Ok(());
        }
        let path = request_path(seen, self.listen_path.as_deref())?;
        entry.path_allowed(seen.method.as_str(), &path)
    }
}

/// The call that an entry opened last, where its path is not a long one.
pub(crate) struct Opened {
    method: Method,
    path: [u8; Self::LONGEST],
    len: usize, // Zero for none: no path is empty.
}

impl Opened {
    const LONGEST: usize = 64;

    pub(crate) fn none() -> Self {
        Self {
            method: Method::GET,
            path: [0; Self::LONGEST],
            len: 0,
        }
    }

    #[inline]
    fn is(&self, method: &Method, path: &str) -> bool {
        self.len == path.len()
            && self.path[..self.len] == *path.as_bytes()
            && self.method == *method
            && !path.is_empty()
    }

    fn set(&mut self, method: &Method, path: &str) {
        self.len = 0;
        if let Some(place) = self.path.get_mut(..path.len()) {
            place.copy_from_slice(path.as_bytes());
            self.method = method.clone();
            self.len = path.len();
        }
    }
}

#[cold]
fn without_session(visit: &Visit) -> Rejection {
    match visit.is_waived() {
        true => Rejection::SessionMissing,
        false => Rejection::Misconfigured("AccessRightsLayer needs a SessionLayer in front"),
    }
}

impl Gate for AccessRightsGate {
    fn name(&self) -> &'static str {
        "access rights"
    }

    fn acts(&self) -> Acts {
        Acts::NONE
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        let decision = self.decide(head, visit);
        visit.explain(|visit| {
            let granted = decision.is_ok().to_string();
            Fact::of("granted", granted, visit.source_of_rights())
        });
        match decision {
            Ok(()) => Step::Pass,
            // The session gate only observes: so do those that need what it would have found.
            Err(Rejection::SessionMissing) => {
                report::would_reject(&Rejection::SessionMissing);
                Step::Pass
            }
            Err(rejection) => Step::Refuse(rejection),
        }
    }
}
