//! What the stories share.

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response, StatusCode};
use tower::{Service, ServiceExt, service_fn};

/// A request with this token.
pub(crate) fn ask(path: &str, token: &str) -> Request<Body> {
    let request = Request::get(path).header("authorization", token);
    request.body(Body::empty()).expect("a request")
}

/// A service that answers 200.
pub(crate) fn ok()
-> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send {
    service_fn(async |_: Request<Body>| Ok(Response::new(Body::from("ok"))))
}

/// The status of one request.
pub(crate) async fn status<S, B>(service: &S, request: Request<Body>) -> StatusCode
where
    S: Service<Request<Body>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
{
    service
        .clone()
        .oneshot(request)
        .await
        .expect("no error")
        .status()
}
