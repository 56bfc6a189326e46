//! Middleware that makes bodies into others, by templates: of requests, and of responses.
//!
//! A template is one of Go's `text/template` with sprig's functions, see [`tollgate_template`]. Its dot is the
//! body; with [`with_session`](BodyTransform::with_session) the session's metadata is `._tyk_meta`, with
//! [`with_context`](BodyTransform::with_context) the request is `._tyk_context`. What a client sends under these
//! names is not seen.
//!
//! A body is read whole, up to a cap (1 MiB unless [told otherwise](BodyTransformLayer::with_limit)); its
//! coding (gzip, deflate, Brotli, Zstandard) is undone, and where it was gzip or deflate done again. The length is
//! set; a response loses what was said of its old body (`ETag`, `Digest` …). Bodies that no transform is for are
//! neither read nor waited for, nor are responses to `HEAD`, of 204 and 304, event streams, and what a layer within
//! refused.
//!
//! A request is refused where its body is larger than the cap (`413`), breaks off or can not be read (`400`), or the
//! template fails (`500`); a response is replaced where its body is larger or can not be read (`502`), or the
//! template fails (`500`). What one body takes is bounded by the cap, see [`Memory`]; what takes more is refused as a
//! body that is too large. With [`OnTransformError::Forward`] the body goes on as it came, and `413`, `400`, `502`
//! and `500` of these are not sent. Nothing is written to the store.
//!
//! # Example
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate::body_transform::{BodyTransform, BodyTransformLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let template = BodyTransform::parse("greeting", r#"{"hello": {{ .name | jsonMarshal }}}"#)?;
//! let service = BodyTransformLayer::response(template).layer(service_fn(async |_: Request<_>| {
//!     Ok::<_, std::convert::Infallible>(Response::new(Full::<bytes::Bytes>::from(r#"{"name": "Ann"}"#)))
//! }));
//! let response = service.oneshot(Request::new(Full::<bytes::Bytes>::default())).await?;
//! assert_eq!(response.headers()["content-length"], "16");
//! assert_eq!(response.into_body().collect().await?.to_bytes(), r#"{"hello": "Ann"}"#);
//! # Ok(())
//! # }
//! ```
//!
//! # With the session
//!
//! ```
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollgate::{
//!     MemoryStore, body_transform::{BodyTransform, BodyTransformLayer}, buffer::ReplayBody, session::SessionLayer,
//! };
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! store.insert("joes-key", r#"{"meta_data": {"user": "joe"}}"#.parse()?)?;
//!
//! let template = BodyTransform::parse("order", r#"{"by": "{{ ._tyk_meta.user }}", "n": {{ .n }}}"#)?;
//! let service = ServiceBuilder::new()
//!     .layer(SessionLayer::new(store))
//!     .layer(BodyTransformLayer::request(template.with_session()))
//!     .service(service_fn(async |request: Request<ReplayBody<Full<bytes::Bytes>>>| {
//!         let body = request.into_body().collect().await.map_err(|err| err.to_string())?.to_bytes();
//!         Ok::<_, String>(Response::new(Full::new(body)))
//!     }));
//!
//! let body = Full::<bytes::Bytes>::from(r#"{"n": 2, "_tyk_meta": {"user": "root"}}"#);
//! let request = Request::post("/").header("authorization", "joes-key").body(body)?;
//! let response = service.oneshot(request).await?;
//! assert_eq!(response.into_body().collect().await?.to_bytes(), r#"{"by": "joe", "n": 2}"#);
//! # Ok(())
//! # }
//! ```
//!
//! # Differences from Tyk
//!
//! Variables are looked for in the template's own text alone, not in what it writes of a client's body. Names of the
//! gateway's own values are taken out of bodies. What a template wrote before it failed is not sent. A template that
//! can not be parsed is an error. Templates do not share what they define.

mod decision;
mod fragment;
mod memory;
mod service;

use std::sync::Arc;

use http::{HeaderValue, Method};
use tollgate_core::access::{PathOptions, PathPattern, PatternError, RequestPath};
use tower_layer::Layer;

pub(crate) use self::decision::Fields;
pub use self::{
    decision::{
        BodyFormat, BodyTemplateError, BodyTransform, BodyTransformError, Given, forget_old_body,
        recoded,
    },
    fragment::{
        Side, TemplateData, TransformEntry, TransformEntryError, TransformPaths,
        TransformPathsError,
    },
    memory::Memory,
    service::{BodyTransformFuture, BodyTransforming, TransformedBody, may_transform},
};
pub use crate::coding::{CodingError, Recode};
use crate::{Refusals, buffer};

/// Layer that makes bodies into others.
///
/// See the [module docs](crate::body_transform) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct BodyTransformLayer {
    rules: Arc<Rules>,
}

/// What becomes of a body that can not be made into another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnTransformError {
    /// The request is refused; the response is replaced by an error.
    #[default]
    Refuse,
    /// It goes on as it came.
    Forward,
}

#[derive(Clone, Debug)]
struct Rules {
    request: Vec<Rule>,
    response: Vec<Rule>,
    most: usize,
    on_error: OnTransformError,
    content_type: Option<HeaderValue>,
    listen_path: Option<Box<str>>,
    refusals: Refusals,
}

/// A transform, and which requests it is for: none is all.
#[derive(Clone, Debug)]
struct Rule {
    place: Option<(Box<str>, PathPattern)>,
    transform: BodyTransform,
}

impl BodyTransformLayer {
    /// Changes nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "a layer that does nothing is nobody's default"
    )]
    pub fn new() -> Self {
        let rules = Rules {
            request: Vec::new(),
            response: Vec::new(),
            most: buffer::MOST,
            on_error: OnTransformError::default(),
            content_type: None,
            listen_path: None,
            refusals: Refusals::tyk(),
        };
        Self {
            rules: Arc::new(rules),
        }
    }

    /// Changes the body of every request.
    pub fn request(transform: impl Into<BodyTransform>) -> Self {
        Self::new().change(|rules| rules.request.push(Rule::of_all(transform.into())))
    }

    /// Changes the body of every response.
    pub fn response(transform: impl Into<BodyTransform>) -> Self {
        Self::new().change(|rules| rules.response.push(Rule::of_all(transform.into())))
    }

    /// Changes the bodies of requests with this method to paths of this pattern, unless an earlier one does.
    ///
    /// # Errors
    ///
    /// Fails where the pattern can not be compiled.
    pub fn request_on(
        self,
        method: &str,
        path: &str,
        options: PathOptions,
        transform: impl Into<BodyTransform>,
    ) -> Result<Self, PatternError> {
        let rule = Rule::of(method, path, options, transform.into())?;
        Ok(self.change(|rules| rules.request.push(rule)))
    }

    /// Changes the bodies of responses to such requests, unless an earlier one does.
    ///
    /// # Errors
    ///
    /// Fails where the pattern can not be compiled.
    pub fn response_on(
        self,
        method: &str,
        path: &str,
        options: PathOptions,
        transform: impl Into<BodyTransform>,
    ) -> Result<Self, PatternError> {
        let rule = Rule::of(method, path, options, transform.into())?;
        Ok(self.change(|rules| rules.response.push(rule)))
    }

    /// Reads bodies of up to so many bytes, and decodes them to as many. Each takes up to twice as much [`Memory`].
    pub fn with_limit(self, most: usize) -> Self {
        self.change(|rules| rules.most = most)
    }

    /// Does this with bodies that can not be made into others.
    pub fn on_error(self, on_error: OnTransformError) -> Self {
        self.change(|rules| rules.on_error = on_error)
    }

    /// Says that the new bodies are of this type. Else what was said of the old ones stays.
    pub fn with_content_type(self, content_type: HeaderValue) -> Self {
        self.change(|rules| rules.content_type = Some(content_type))
    }

    /// Matches patterns of paths with what is behind this path.
    pub fn with_listen_path(self, listen_path: &str) -> Self {
        self.change(|rules| rules.listen_path = Some(listen_path.into()))
    }

    /// Refuses in this form in place of Tyk's.
    pub fn with_refusals(self, refusals: Refusals) -> Self {
        self.change(|rules| rules.refusals = refusals)
    }

    fn change(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(Arc::make_mut(&mut self.rules));
        self
    }
}

impl Rule {
    fn of_all(transform: BodyTransform) -> Self {
        Self {
            place: None,
            transform,
        }
    }

    fn of(
        method: &str,
        path: &str,
        options: PathOptions,
        transform: BodyTransform,
    ) -> Result<Self, PatternError> {
        let pattern = PathPattern::compile(path, options)?;
        Ok(Self {
            place: Some((method.into(), pattern)),
            transform,
        })
    }
}

impl Rules {
    /// The first transform for a request.
    fn find<'r>(
        &self,
        rules: &'r [Rule],
        method: &Method,
        path: &str,
    ) -> Option<&'r BodyTransform> {
        let is_for_all = |rule: &&Rule| rule.place.is_none();
        if rules.iter().all(|rule| is_for_all(&rule)) {
            return rules.first().map(|rule| &rule.transform);
        }
        // A path that can be read in two ways is nobody's.
        let path = RequestPath::of(path, self.listen_path.as_deref()).ok()?;
        let is_of = |rule: &&Rule| match &rule.place {
            None => true,
            Some((of, pattern)) => {
                &**of == method.as_str() && pattern.matches(path.behind_listen_path())
            }
        };
        rules.iter().find(is_of).map(|rule| &rule.transform)
    }
}

impl<S> Layer<S> for BodyTransformLayer {
    type Service = BodyTransforming<S>;

    fn layer(&self, inner: S) -> BodyTransforming<S> {
        BodyTransforming {
            inner,
            layer: self.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
