//! What a rich stack leaves in a request and a response, written by hand, with nothing decided: no key is looked up,
//! no right checked and no limit charged. So much the context and the headers cost alone.

use std::{sync::Arc, task};

use axum::body::Body;
use futures_util::{TryFutureExt, future::MapOk};
use http::{HeaderName, HeaderValue, Request, Response};
use tower::{Layer, Service};

const USER: HeaderName = HeaderName::from_static("x-user");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Writes what a rich stack writes.
#[derive(Clone)]
pub(crate) struct ByHandLayer;

#[derive(Clone)]
pub(crate) struct ByHand<S> {
    inner: S,
    user: HeaderValue,
}

/// For handlers.
struct Caller {
    #[expect(dead_code, reason = "nobody asks in a bench")]
    user: HeaderValue,
}

impl<S> Layer<S> for ByHandLayer {
    type Service = ByHand<S>;

    fn layer(&self, inner: S) -> ByHand<S> {
        let user = HeaderValue::try_from("u0".to_owned()).expect("a value");
        ByHand { inner, user }
    }
}

impl<S, B> Service<Request<Body>> for ByHand<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = MapOk<S::Future, fn(Response<B>) -> Response<B>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let user = self.user.clone();
        request.headers_mut().insert(USER, user.clone());
        request.extensions_mut().insert(Arc::new(Caller { user }));
        self.inner.call(request).map_ok(tell)
    }
}

fn tell<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    headers.insert(LIMIT, 1_000_000_000_000_u64.into());
    headers.insert(REMAINING, 999_999_999_999_u64.into());
    headers.insert(RESET, 1_700_000_000_u64.into());
    response
}
