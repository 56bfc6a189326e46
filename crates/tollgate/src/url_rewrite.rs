//! Middleware that sends requests to another URL: Tyk's `url_rewrites`, as a layer.
//!
//! A rewrite looks for a pattern in path and query. Where it matches, the request's URI becomes the
//! target's text, in which `$1` is what the first group matched and variables have their values; triggers
//! choose other targets. The rules are those of [`rewrite`](tollgate_core::rewrite), and `docs/rewrites.md`
//! tells them at length.
//!
//! The URI changes once every gate of the stack has let the request pass: rights and limits look at the
//! path that the client called. By hand, put this layer behind them.
//!
//! A request is rejected
//!
//! - with `400` if what the client sent makes no URL in the place where it stands, or one that can be read
//!   in two ways; with `500` if metadata or the target do;
//! - with `500` if a trigger looks at the body and no [`BufferBodyLayer`](crate::buffer::BufferBodyLayer)
//!   stands in front, or a `tyk://` target is hit and nobody follows it.
//!
//! Nothing is read from or written to the store.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use tollgate::{MemoryStore, rewrite::RewriteTrigger, session::SessionLayer, url_rewrite::UrlRewriteLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let store = MemoryStore::new();
//! store.insert("joes-key", r#"{"meta_data": {"region": "eu"}}"#.parse()?)?;
//!
//! let rewrite = UrlRewriteLayer::new("^/v1/(.*)", "/$tyk_meta.region/v2/$1")?
//!     .when(RewriteTrigger::any("/beta/$1").header("x-channel", "^beta$"))?;
//! let service = ServiceBuilder::new()
//!     .layer(SessionLayer::new(store))
//!     .layer(rewrite)
//!     .service(service_fn(async |request: Request<()>| {
//!         let target = request.uri().to_string();
//!         Ok::<_, std::convert::Infallible>(Response::new(axum::body::Body::from(target)))
//!     }));
//!
//! # use http_body_util::BodyExt;
//! let ask = |channel: &str| {
//!     let request = Request::get("/v1/items?page=2").header("authorization", "joes-key");
//!     request.header("x-channel", channel).body(())
//! };
//! let body = service.clone().oneshot(ask("stable")?).await?.into_body().collect().await?.to_bytes();
//! assert_eq!(body, "/eu/v2/items?page=2");
//! let body = service.oneshot(ask("beta")?).await?.into_body().collect().await?.to_bytes();
//! assert_eq!(body, "/beta/items?page=2");
//! # Ok(())
//! # }
//! ```
//!
//! With entries of a Tyk definition, in a stack:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tollgate::{
//!     MemoryStore, Tollgate, access::PathOptions, rewrite::UrlRewriteEntry, url_rewrite::UrlRewriteLayer,
//! };
//!
//! let entries: Vec<UrlRewriteEntry> = serde_json::from_str(r#"[
//!     {"path": "/v1", "method": "GET", "match_pattern": "/v1/(.*)", "rewrite_to": "/v2/$1"}
//! ]"#)?;
//! let gate = Tollgate::builder(MemoryStore::new())
//!     .api("orders")
//!     .quota()
//!     .rewrite(UrlRewriteLayer::of_entries(&entries, PathOptions::default())?)
//!     .build()?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use http::{HeaderValue, Uri, header::HOST, request::Parts, uri::PathAndQuery};
use tollgate_core::{
    Rejection,
    access::{PathOptions, PathPattern, PatternError},
    rewrite::{
        Destination, Facts, Rewrite, RewriteError, RewriteFailed, RewriteTrigger, Rewritten,
        UrlRewriteEntry,
    },
};

use crate::{
    buffer::Buffered,
    context::RequestContext,
    explain::Fact,
    gate::{Acts, Gate, Step},
    path::request_path,
    single::{Single, single_gate_layer},
    visit::Visit,
};

/// Layer that sends requests to another URL.
///
/// See the [module docs](crate::url_rewrite) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct UrlRewriteLayer(Single<UrlRewriteGate>);

single_gate_layer!(UrlRewriteLayer);

/// An entry can not be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("url_rewrites[{index}]")]
pub struct EntryError {
    index: usize,
    source: EntryFault,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryFault {
    /// Its path.
    #[error("path: {0}")]
    Path(PatternError),
    /// Anything else.
    #[error(transparent)]
    Rewrite(RewriteError),
}

impl EntryError {
    /// Which entry, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What is wrong with it.
    pub fn fault(&self) -> &EntryFault {
        &self.source
    }
}

impl UrlRewriteLayer {
    /// Rewrites every request in whose path and query the pattern is found.
    ///
    /// # Errors
    ///
    /// Fails where the pattern can not be compiled, or the target is no URL.
    pub fn new(pattern: &str, target: &str) -> Result<Self, RewriteError> {
        Ok(Self::of(vec![Entry {
            place: None,
            rewrite: Rewrite::new(pattern, target)?,
        }]))
    }

    /// Rewrites by entries of Tyk's definitions: the first that is on, and for the path and method of a
    /// request, decides.
    ///
    /// # Errors
    ///
    /// Fails where an entry can not be used, or names a secret.
    pub fn of_entries(
        entries: &[UrlRewriteEntry],
        options: PathOptions,
    ) -> Result<Self, EntryError> {
        let compile = |(index, entry): (usize, &UrlRewriteEntry)| {
            let compiled = Entry::compile(entry, options);
            compiled.map_err(|source| EntryError { index, source })
        };
        let entries = entries.iter().enumerate();
        let on = entries.filter(|(_, entry)| !entry.disabled);
        Ok(Self::of(on.map(compile).collect::<Result<_, _>>()?))
    }

    fn of(entries: Vec<Entry>) -> Self {
        Self(Single::new(UrlRewriteGate {
            entries,
            listen_path: None,
            leaves_internal: false,
        }))
    }

    /// Adds a trigger behind the others of the last rewrite.
    ///
    /// # Errors
    ///
    /// Fails where a pattern can not be compiled, or the target is no URL.
    pub fn when(self, trigger: RewriteTrigger) -> Result<Self, RewriteError> {
        let mut result = Ok(());
        let changed = self.0.change(|gate| {
            if let Some(last) = gate.entries.last_mut() {
                match last.rewrite.clone().when(trigger) {
                    Ok(rewrite) => last.rewrite = rewrite,
                    Err(err) => result = Err(err),
                }
            }
        });
        result.map(|()| Self(changed))
    }

    /// The part of the path that is not the API's own, as `/shop/`: paths of entries may leave it out.
    pub fn with_listen_path(self, listen_path: impl Into<Box<str>>) -> Self {
        let listen_path = Arc::<str>::from(listen_path.into());
        Self(self.0.change(|gate| gate.listen_path = Some(listen_path)))
    }

    /// Tells these variables of triggers, as `trigger-0-X-Tier-0`, besides those that the targets name: to whatever
    /// comes behind and has them in a text, as `$tyk_context.trigger-0-X-Tier-0` in a header of
    /// [`MetaInjectLayer`](crate::meta_inject::MetaInjectLayer). In a stack rewrites come last, as in Tyk: there they
    /// are in headers of responses alone.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use http::{Request, Response};
    /// use tollgate::{meta_inject::MetaInjectLayer, rewrite::RewriteTrigger, url_rewrite::UrlRewriteLayer};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// let name = "trigger-0-X-Tier-0";
    /// let rewrite = UrlRewriteLayer::new("^/orders", "/orders")?
    ///     .when(RewriteTrigger::any("/fast").header("x-tier", "gold|silver"))?
    ///     .telling([name]);
    /// let inject = MetaInjectLayer::new().response("x-served-as", &format!("$tyk_context.{name}"))?;
    /// let service = ServiceBuilder::new().layer(rewrite).layer(inject).service(service_fn(async |_: Request<()>| {
    ///     Ok::<_, std::convert::Infallible>(Response::new(axum::body::Body::empty()))
    /// }));
    /// let request = Request::get("/orders").header("x-tier", "gold").body(())?;
    /// assert_eq!(service.oneshot(request).await?.headers()["x-served-as"], "gold");
    /// # Ok(())
    /// # }
    /// ```
    pub fn telling<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        Self(self.0.change(|gate| {
            for entry in &mut gate.entries {
                entry.rewrite = entry.rewrite.clone().telling(names.iter().copied());
            }
        }))
    }

    /// Writes values as Tyk does: booleans and objects as nothing, and escaped as in a query everywhere.
    pub fn with_tyk_values(self) -> Self {
        Self(self.0.change(|gate| {
            for entry in &mut gate.entries {
                entry.rewrite = entry.rewrite.clone().with_tyk_values();
            }
        }))
    }

    /// Leaves `tyk://` targets in the request's extensions, as
    /// [`Internal`](tollgate_core::rewrite::Internal), for a service behind that follows them; the URI
    /// stays. Whoever follows one has to ask for key and rights of the API that it names.
    pub fn with_internal_targets(self) -> Self {
        Self(self.0.change(|gate| gate.leaves_internal = true))
    }

    /// The gate, for a stack; see [`Builder::rewrite`](crate::stack::Builder::rewrite).
    pub fn into_gate(self) -> UrlRewriteGate {
        self.0.into_gate()
    }
}

/// The gate of [`UrlRewriteLayer`].
#[derive(Clone, Debug)]
pub struct UrlRewriteGate {
    entries: Vec<Entry>,
    listen_path: Option<Arc<str>>,
    /// Whether somebody behind follows `tyk://`.
    leaves_internal: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Path and method; none is any.
    place: Option<(PathPattern, Box<str>)>,
    rewrite: Rewrite,
}

impl Entry {
    fn compile(entry: &UrlRewriteEntry, options: PathOptions) -> Result<Self, EntryFault> {
        let path = PathPattern::compile(&entry.path, options).map_err(EntryFault::Path)?;
        Ok(Self {
            place: Some((path, entry.method.as_str().into())),
            rewrite: Rewrite::try_from(entry).map_err(EntryFault::Rewrite)?,
        })
    }
}

/// Where a request is about to go. It travels in the extensions from `admit` to `forward`.
#[derive(Clone)]
struct Pending(Destination);

impl UrlRewriteGate {
    /// The rewrite of this request.
    fn rewrite(&self, head: &Parts) -> Result<Option<&Rewrite>, Rejection> {
        if let [
            Entry {
                place: None,
                rewrite,
            },
        ] = &*self.entries
        {
            return Ok(Some(rewrite));
        }
        let path = request_path(head, self.listen_path.as_deref())?;
        let is_for = |entry: &&Entry| {
            entry.place.as_ref().is_none_or(|(pattern, method)| {
                **method == *head.method.as_str() && pattern.matches(path.behind_listen_path())
            })
        };
        let found = self.entries.iter().find(is_for);
        Ok(found.map(|entry| &entry.rewrite))
    }

    fn rewritten(&self, head: &Parts, visit: &Visit) -> Result<Option<Rewritten>, Rejection> {
        let Some(rewrite) = self.rewrite(head)? else {
            return Ok(None);
        };
        let payload = match head.extensions.get::<Buffered>() {
            Some(Buffered(bytes)) => &**bytes,
            None if rewrite.reads_payload() => {
                return Err(Rejection::Misconfigured(
                    "UrlRewriteLayer needs a BufferBodyLayer in front: a trigger looks at the body",
                ));
            }
            None => &[],
        };
        let facts = Facts {
            url: head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            headers: &head.headers,
            meta: visit.session().map(|session| &session.meta_data),
            context: &RequestContext { head, visit },
            payload,
        };
        let rewritten = rewrite.apply(&facts).map_err(RewriteFailed::rejection)?;
        let is_internal = |rewritten: &Rewritten| {
            matches!(rewritten.destination, Destination::Internal(_)) && !self.leaves_internal
        };
        if rewritten.as_ref().is_some_and(is_internal) {
            return Err(Rejection::Misconfigured(
                "a tyk:// target needs a service that follows it: with_internal_targets",
            ));
        }
        Ok(rewritten)
    }
}

impl Gate for UrlRewriteGate {
    fn name(&self) -> &'static str {
        "url rewrite"
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: true,
            depart: false,
        }
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        if head.extensions.get::<Pending>().is_some() {
            return Step::Pass; // Another gate of this stack has rewritten it.
        }
        let rewritten = match self.rewritten(head, visit) {
            Ok(Some(rewritten)) => rewritten,
            Ok(None) => return Step::Pass,
            Err(rejection) => return Step::Refuse(rejection),
        };
        visit.explain(|_| {
            let source = match rewritten.target {
                0 => "the rewrite".to_owned(),
                trigger => format!("trigger {}", trigger - 1),
            };
            Fact::of("url", told(&rewritten.destination), source)
        });
        if !rewritten.variables.is_empty() {
            visit.notes_mut().insert(rewritten.variables);
        }
        head.extensions.insert(Pending(rewritten.destination));
        Step::Pass
    }

    fn forward(&self, head: &mut Parts, _visit: &Visit) {
        match head.extensions.remove::<Pending>() {
            None => {}
            Some(Pending(Destination::Path(path))) => {
                let mut parts = std::mem::take(&mut head.uri).into_parts();
                parts.path_and_query = Some(path);
                head.uri = Uri::from_parts(parts).unwrap_or_default();
            }
            Some(Pending(Destination::Url(url))) => {
                let host = url
                    .authority()
                    .map(|host| HeaderValue::from_str(host.as_str()));
                if let Some(Ok(host)) = host {
                    head.headers.insert(HOST, host);
                }
                head.uri = url;
            }
            Some(Pending(Destination::Internal(internal))) => {
                head.extensions.insert(internal);
            }
            Some(Pending(_)) => {}
        }
    }
}

fn told(destination: &Destination) -> String {
    match destination {
        Destination::Path(path) => path.to_string(),
        Destination::Url(url) => url.to_string(),
        Destination::Internal(internal) => format!("tyk://{}{}", internal.api, internal.path),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};
    use serde_json::json;

    use super::*;

    /// The URI, the host and the extensions behind the gate; or the refusal.
    fn through(layer: UrlRewriteLayer, mut head: Parts) -> Result<Parts, Rejection> {
        let gate = layer.into_gate();
        let mut visit = Visit::default();
        match gate.admit(&mut head, &mut visit) {
            Step::Refuse(rejection) => Err(rejection),
            _ => {
                gate.forward(&mut head, &visit);
                Ok(head)
            }
        }
    }

    fn get(target: &str) -> Parts {
        let request = Request::get(target).header("host", "here").body(());
        request.unwrap().into_parts().0
    }

    fn entries(value: serde_json::Value) -> Result<UrlRewriteLayer, EntryError> {
        let entries: Vec<UrlRewriteEntry> = serde_json::from_value(value).unwrap();
        UrlRewriteLayer::of_entries(&entries, PathOptions::default())
    }

    #[track_caller]
    fn check(layer: &UrlRewriteLayer, target: &str, expected: &str) {
        let head = through(layer.clone(), get(target)).unwrap();
        assert_eq!(head.uri, expected, "{target}");
    }

    #[test]
    fn the_first_entry_for_path_and_method_decides() {
        let layer = entries(json!([
            {"path": "/a", "method": "GET", "match_pattern": "/x", "rewrite_to": "/off", "disabled": true},
            {"path": "/a", "method": "POST", "match_pattern": "", "rewrite_to": "/posted"},
            {"path": "/a", "method": "GET", "match_pattern": "/a/(.*)", "rewrite_to": "/one/$1"},
            {"path": "/a", "method": "GET", "match_pattern": "", "rewrite_to": "/never"},
            {"path": "/b", "method": "GET", "match_pattern": "/b", "rewrite_to": "http://up:1/two?k=1"},
        ]));
        let layer = layer.unwrap().with_listen_path("/api/");
        check(&layer, "/api/a/7?q", "/one/7?q");
        check(&layer, "/api/a", "/api/a");
        check(&layer, "/api/c", "/api/c");
        let head = through(layer.clone(), get("/api/b")).unwrap();
        assert_eq!(
            (head.uri.to_string().as_str(), head.headers[HOST].as_bytes()),
            ("http://up:1/two?k=1", &b"up:1"[..])
        );
        let mut posted = get("/api/a");
        posted.method = Method::POST;
        assert_eq!(through(layer, posted).unwrap().uri, "/posted");
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        let fault = |value| entries(value).unwrap_err().fault().to_string();
        let entry =
            |change: &str, value: &str| json!([{"path": "/", "method": "GET", change: value}]);
        assert!(fault(entry("path", "(")).starts_with("path: "));
        assert!(fault(entry("match_pattern", "(")).starts_with("match_pattern: "));
        assert!(fault(entry("rewrite_to", "$secret_env.X")).contains("secret"));
        assert_eq!(entries(entry("rewrite_to", "a:b")).unwrap_err().index(), 0);
        let layer = UrlRewriteLayer::new("", "/").unwrap();
        assert!(layer.when(RewriteTrigger::any("a:b")).is_err());
    }

    #[test]
    fn a_body_is_looked_at_where_it_was_read() {
        let layer = UrlRewriteLayer::new("", "/base").unwrap();
        let layer = layer
            .when(RewriteTrigger::any("/hit").payload("sku"))
            .unwrap();
        assert!(matches!(
            through(layer.clone(), get("/")),
            Err(Rejection::Misconfigured(_))
        ));
        for (body, expected) in [("a sku", "/hit"), ("none", "/base")] {
            let mut head = get("/");
            head.extensions.insert(Buffered(body.into()));
            assert_eq!(through(layer.clone(), head).unwrap().uri, expected);
        }
    }

    #[test]
    fn an_internal_target_goes_nowhere_by_itself() {
        use tollgate_core::rewrite::Internal;
        let layer = UrlRewriteLayer::new("", "tyk://other/x?check_limits=true").unwrap();
        assert!(matches!(
            through(layer.clone(), get("/")),
            Err(Rejection::Misconfigured(_))
        ));
        let head = through(layer.with_internal_targets(), get("/here")).unwrap();
        let internal: &Internal = head.extensions.get().unwrap();
        assert_eq!(
            (&*internal.api, internal.path.as_str(), head.uri.path()),
            ("other", "/x", "/here")
        );
    }

    #[test]
    fn attack_23_what_the_client_brings_makes_no_other_path() {
        let layer = UrlRewriteLayer::new("/go\\?p=(.*)", "/files/$1").unwrap();
        for target in [
            "/go?p=../admin",
            "/go?p=..%2Fadmin",
            "/go?p=%zz",
            "/go?p=a%5Cb",
        ] {
            let refused = through(layer.clone(), get(target)).unwrap_err();
            assert_eq!(refused, Rejection::PathAmbiguous, "{target}");
        }
    }
}
