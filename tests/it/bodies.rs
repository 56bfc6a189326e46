//! Over any body of bytes: axum's, hyper's, tonic's, a plain one.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use tollgate::{MemoryStore, Tollgate, gate::Gates, gated::Gated};
use tower::{Layer, Service, ServiceExt, service_fn};

fn gate() -> Tollgate {
    let store = MemoryStore::new();
    store
        .insert("joes-key", r#"{"rate": 1, "per": 60}"#.parse().unwrap())
        .unwrap();
    Tollgate::builder(store).rate_limit().build().unwrap()
}

/// A body goes through whole; a refusal has a body of the same type.
async fn check<B, R>(body: fn() -> B, response: fn() -> R)
where
    B: Send + 'static,
    R: Body<Data = Bytes, Error: std::fmt::Debug> + Send + 'static,
{
    let inner =
        service_fn(
            move |_: Request<B>| async move { Ok::<_, Infallible>(Response::new(response())) },
        );
    let service = gate().layer().layer(inner);
    for (status, text) in [
        (200, "hello"),
        (429, "{\n    \"error\": \"Rate Limit Exceeded\"\n}"),
    ] {
        let request = Request::get("/")
            .header("authorization", "joes-key")
            .body(body())
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            text
        );
    }
}

#[tokio::test]
async fn every_body_goes_through() {
    let hello = || Full::new(Bytes::from_static(b"hello"));
    check(Empty::<Bytes>::new, hello).await;
    check(axum::body::Body::empty, || axum::body::Body::from("hello")).await;
    check(tonic::body::Body::empty, || {
        tonic::body::Body::new(Full::new(Bytes::from_static(b"hello")))
    })
    .await;
    check(
        || (),
        || UnsyncBoxBody::new(Full::new(Bytes::from_static(b"hello"))),
    )
    .await;
    // No body at all: the request's may be anything, of any type.
    check(|| "a text", hello).await;
}

#[tokio::test]
async fn a_grpc_client_reads_its_refusal() {
    let inner = service_fn(async |_: Request<tonic::body::Body>| {
        Ok::<_, Infallible>(Response::new(tonic::body::Body::empty()))
    });
    let service = gate().layer().layer(inner);
    let request = Request::post("/orders.Orders/List").header("content-type", "application/grpc");
    let response = service
        .oneshot(request.body(tonic::body::Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::Unauthenticated, "Authorization field missing")
    );
}

/// What axum and hyper ask of services, and of futures that are spawned.
#[test]
fn services_and_futures_can_be_sent_and_kept() {
    fn sendable<T: Send + 'static>(_: &T) {}
    fn shareable<T: Send + Sync + Clone + 'static>(_: &T) {}
    let inner = service_fn(|_: Request<axum::body::Body>| {
        std::future::ready(Ok::<_, Infallible>(
            Response::new(axum::body::Body::empty()),
        ))
    });
    let mut service = Gated::new(inner, Gates::none());
    shareable(&service);
    sendable(&service.call(Request::new(axum::body::Body::empty())));
}

/// axum and hyper clone the whole stack for each request.
#[test]
fn a_service_is_its_inner_one_and_a_pointer() {
    let (ours, pointer) = (size_of::<Gated<[u64; 3]>>(), size_of::<usize>());
    assert_eq!(ours, size_of::<[u64; 3]>() + pointer);
}
