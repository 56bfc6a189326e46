//! The service that carries transforms.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts,
};
use http_body::Body;
use pin_project_lite::pin_project;
use tollgate_core::{Rejection, future::BoxFuture};
use tower_service::Service;

use super::{
    BodyTransform, BodyTransformError, BodyTransformLayer, Given, OnTransformError, Rules,
    forget_old_body, recoded,
};
use crate::{
    body::GateBody,
    buffer::{Read, ReplayBody, Whole, broken, read, set_length, too_large},
    coding::Recode,
    visit::Visit,
};

/// The service of [`BodyTransformLayer`].
#[derive(Clone, Debug)]
pub struct BodyTransforming<S> {
    pub(super) inner: S,
    pub(super) layer: BodyTransformLayer,
}

/// The body of a response behind the layer: the service's own, another in its place, or that of a refusal.
pub type TransformedBody<R> = GateBody<ReplayBody<R>>;

impl<S, B, R> Service<Request<B>> for BodyTransforming<S>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Send,
{
    type Response = Response<TransformedBody<R>>;
    type Error = S::Error;
    type Future = BodyTransformFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let rules = &self.layer.rules;
        let of_request = rules.find(&rules.request, request.method(), request.uri().path());
        let of_response = rules.find(&rules.response, request.method(), request.uri().path());
        if of_request.is_none() && of_response.is_none() {
            // Nothing is looked at or waited for.
            let request = request.map(ReplayBody::untouched);
            return BodyTransformFuture::Untouched {
                future: self.inner.call(request),
            };
        }
        let exchange = Exchange {
            rules: rules.clone(),
            of_request: of_request.cloned(),
            of_response: of_response.cloned(),
        };
        let unready = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, unready);
        BodyTransformFuture::Transforming {
            future: Box::pin(exchange.run(ready, request)),
        }
    }
}

pin_project! {
    /// A request whose body, or whose response's, may be made into another.
    #[project = FutureProjection]
    #[must_use = "futures do nothing unless polled"]
    pub enum BodyTransformFuture<F, R, E> {
        /// Neither is.
        #[doc(hidden)]
        Untouched { #[pin] future: F },
        /// One is, or both.
        #[doc(hidden)]
        Transforming { future: BoxFuture<Result<Response<TransformedBody<R>>, E>> },
    }
}

impl<F, R, E> fmt::Debug for BodyTransformFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyTransformFuture")
    }
}

impl<F, R, E> Future for BodyTransformFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<TransformedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            FutureProjection::Untouched { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(
                    response.map(|body| GateBody::inner(ReplayBody::untouched(body)))
                ))
            }
            FutureProjection::Transforming { future } => future.as_mut().poll(cx),
        }
    }
}

/// What is done with one request and its response.
struct Exchange {
    rules: Arc<Rules>,
    of_request: Option<BodyTransform>,
    of_response: Option<BodyTransform>,
}

impl Exchange {
    async fn run<S, B, R>(
        self,
        mut service: S,
        request: Request<B>,
    ) -> Result<Response<TransformedBody<R>>, S::Error>
    where
        S: Service<Request<ReplayBody<B>>, Response = Response<R>>,
        B: Body<Data = Bytes> + Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
    {
        let is_head = request.method() == Method::HEAD;
        let (mut head, body) = request.into_parts();
        let visit = head.extensions.get::<Arc<Visit>>().cloned();
        // The template of the response is given the request as it came.
        let of_response = self
            .of_response
            .as_ref()
            .map(|transform| (transform, transform.given(&head, visit.as_deref())));
        let body = match &self.of_request {
            None => ReplayBody::untouched(body),
            Some(transform) => {
                let changed = self
                    .request(transform, &mut head, visit.as_deref(), body)
                    .await;
                match changed {
                    Ok(body) => body,
                    Err(rejection) => return Ok(self.refuse(&rejection, &head)),
                }
            }
        };
        let Some((transform, given)) = of_response else {
            let response = service.call(Request::from_parts(head, body)).await?;
            return Ok(response.map(|body| GateBody::inner(ReplayBody::untouched(body))));
        };
        // What the request says of the form of an answer, should this one have to be refused.
        let mut refused_as = Request::new(()).into_parts().0;
        refused_as.headers.clone_from(&head.headers);
        let response = service.call(Request::from_parts(head, body)).await?;
        let (mut answer, body) = response.into_parts();
        // What a gate or a layer within refused is no answer of the service.
        let is_refusal = answer.extensions.get::<Rejection>().is_some();
        if is_head || is_refusal || !may_transform(answer.status, &answer.headers) {
            let body = GateBody::inner(ReplayBody::untouched(body));
            return Ok(Response::from_parts(answer, body));
        }
        match self
            .response(transform, &given, &mut answer.headers, body)
            .await
        {
            Ok(body) => Ok(Response::from_parts(answer, GateBody::inner(body))),
            Err(rejection) => Ok(self.refuse(&rejection, &refused_as)),
        }
    }

    fn refuse<R>(&self, rejection: &Rejection, head: &Parts) -> Response<TransformedBody<R>> {
        self.rules
            .refusals
            .render(rejection, head)
            .map(GateBody::refused)
    }

    /// The body that goes on.
    async fn request<B: Body<Data = Bytes>>(
        &self,
        transform: &BodyTransform,
        head: &mut Parts,
        visit: Option<&Visit>,
        body: B,
    ) -> Result<ReplayBody<B>, Rejection> {
        let whole = match read(body, self.rules.most).await {
            Read::Whole(whole) => whole,
            Read::TooLarge(body) => return self.rules.on_error.or_forward(body, too_large()),
            Read::Broken(_) => return Err(broken()),
        };
        let mut headers = head.headers.clone();
        let made = recoded(
            &mut headers,
            &whole.bytes,
            self.rules.most,
            Recode::AsBefore,
            |bytes, room| transform.render_within(bytes, &transform.given(head, visit), room),
        );
        match made {
            Ok(bytes) => {
                head.headers = headers;
                Ok(self.rules.replaced(&mut head.headers, bytes, whole))
            }
            Err(err) => {
                report(&err, "request");
                self.rules
                    .on_error
                    .or_forward(whole.into(), refusal_of_request(&err))
            }
        }
    }

    async fn response<R: Body<Data = Bytes>>(
        &self,
        transform: &BodyTransform,
        given: &Given,
        headers: &mut HeaderMap,
        body: R,
    ) -> Result<ReplayBody<R>, Rejection> {
        let whole = match read(body, self.rules.most).await {
            Read::Whole(whole) => whole,
            Read::TooLarge(body) => {
                let refusal = upstream_failed("Response body too large");
                return self.rules.on_error.or_forward(body, refusal);
            }
            Read::Broken(_) => return Err(upstream_failed("Response body broke off")),
        };
        let mut changed = headers.clone();
        let made = recoded(
            &mut changed,
            &whole.bytes,
            self.rules.most,
            Recode::AsBefore,
            |bytes, room| transform.render_within(bytes, given, room),
        );
        match made {
            Ok(bytes) => {
                *headers = changed;
                forget_old_body(headers);
                Ok(self.rules.replaced(headers, bytes, whole))
            }
            Err(err) => {
                report(&err, "response");
                self.rules
                    .on_error
                    .or_forward(whole.into(), refusal_of_response(&err))
            }
        }
    }
}

impl Rules {
    /// Puts new bytes in place of a body that was read.
    fn replaced<B>(&self, headers: &mut HeaderMap, bytes: Bytes, whole: Whole) -> ReplayBody<B> {
        set_length(headers, bytes.len());
        headers.remove("trailer"); // Where the length is told, there are none in HTTP/1.1.
        if let Some(content_type) = &self.content_type {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
        Whole { bytes, ..whole }.into()
    }
}

impl OnTransformError {
    fn or_forward<B>(
        self,
        body: ReplayBody<B>,
        refusal: Rejection,
    ) -> Result<ReplayBody<B>, Rejection> {
        match self {
            Self::Refuse => Err(refusal),
            Self::Forward => Ok(body),
        }
    }
}

/// Whether a response to a method other than `HEAD` has a body that a transform may be for: an event stream
/// is none, as it need not end.
pub fn may_transform(status: StatusCode, headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|text| text.split(';').next());
    let is_stream =
        media_type.is_some_and(|name| name.trim().eq_ignore_ascii_case("text/event-stream"));
    let has_none = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    !is_stream && !has_none && !status.is_informational()
}

fn refusal_of_request(err: &BodyTransformError) -> Rejection {
    if err.is_too_large() {
        let message = "Request body takes too much memory to be transformed";
        return Rejection::custom("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, message);
    }
    if err.is_of_body() {
        let message = "Request body can not be read";
        return Rejection::custom("body_unreadable", StatusCode::BAD_REQUEST, message);
    }
    template_failed()
}

fn refusal_of_response(err: &BodyTransformError) -> Rejection {
    if err.is_too_large() {
        return upstream_failed("Response body takes too much memory to be transformed");
    }
    if err.is_of_body() {
        return upstream_failed("Response body can not be read");
    }
    template_failed()
}

fn template_failed() -> Rejection {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Rejection::custom("template_failed", status, "Internal Server Error")
}

fn upstream_failed(message: &'static str) -> Rejection {
    Rejection::custom("upstream_body", StatusCode::BAD_GATEWAY, message)
}

fn report(err: &BodyTransformError, side: &'static str) {
    metrics::counter!("tollgate_transform_failures_total", "side" => side).increment(1);
    let source = std::error::Error::source(err);
    let source = source.map(ToString::to_string).unwrap_or_default();
    tracing::warn!(side, error = %err, cause = %source, "body transform failed");
}
