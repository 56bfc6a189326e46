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

use http::request::Parts;
use tollgate_core::{
    ApiId, Rejection,
    access::VersionRule,
    pass::{Entry, EntryAt, Pass},
};

use crate::{
    explain::Fact,
    gate::{Acts, Gate, Step},
    path::request_path,
    report,
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
        self.check(head, entry)
    }

    /// The place of the entry of a fixed API, where it lets the request pass. `None` says nothing.
    #[inline]
    pub(crate) fn find(&self, head: &Parts, pass: &Pass) -> Option<EntryAt> {
        let ApiChoice::Always(api, last) = &self.api else {
            return None;
        };
        let (at, entry) = pass.entry_near(api, last.guess()).ok()?;
        last.remember(at);
        self.check(head, entry).is_ok().then_some(at)
    }

    /// Whether an entry opens version and path.
    #[inline]
    fn check(&self, head: &Parts, entry: &Entry) -> Result<(), Rejection> {
        if let Some(Versions { rule, version }) = &self.versions {
            entry.version_allowed(version(head).as_deref(), rule)?;
        }
        if self.any_path {
            return Ok(());
        }
        let path = request_path(head, self.listen_path.as_deref())?;
        entry.path_allowed(head.method.as_str(), &path)
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
