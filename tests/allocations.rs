//! What a request allocates on the ready path, counted.
//!
//! An admitted request may allocate what a service does that puts one `Arc` into the extensions and
//! writes the same headers, and nothing where it leaves neither. Counts are exact, so they are tests
//! and not measurements.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use tollgate::{
    LimitHeaders, MemoryStore, Tollgate,
    body_transform::{BodyTransform, BodyTransformLayer},
    buffer::ReplayBody,
    clock::ManualClock,
    stack::Builder,
};
use tollgate_bench::soak::Churn;
use tower::{Layer, Service, ServiceExt, service_fn};

fn leaf() -> impl Service<Request<()>, Response = Response<()>, Error = Infallible> + Clone {
    service_fn(|_: Request<()>| std::future::ready(Ok(Response::new(()))))
}

fn request() -> Request<()> {
    Request::get("/orders/7")
        .header("authorization", "joes-key")
        .body(())
        .expect("a request")
}

/// Allocations of one call, the request being there, after all that happens once.
fn allocations<S>(mut service: S) -> u64
where
    S: Service<Request<()>, Error = Infallible>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut call = |request| {
        runtime.block_on(async { service.ready().await.expect("ready").call(request).await })
    };
    for _ in 0..10 {
        drop(call(request()));
    }
    let request = request();
    allocation_counter::measure(|| drop(call(request))).count_total
}

fn stack() -> Builder {
    let store = MemoryStore::new();
    let session = r#"{"rate": 1000, "per": 1, "quota_max": 100000, "quota_renewal_rate": 60,
        "access_rights": {"orders": {"allowed_urls": [{"url": "^/orders/[0-9]+$", "methods": ["GET"]}]}},
        "meta_data": {"user": "joe"}}"#;
    store
        .insert("joes-key", session.parse().expect("a session"))
        .expect("room");
    Tollgate::builder(store).api("orders").rate_limit().quota()
}

#[test]
fn a_stack_without_headers_and_context_allocates_nothing() {
    let bare = allocations(leaf());
    let gate = stack()
        .headers(LimitHeaders::none())
        .without_context()
        .build()
        .expect("a stack");
    assert_eq!(allocations(gate.layer().layer(leaf())), bare);
}

#[test]
fn headers_and_context_cost_what_they_cost_anybody() {
    let by_hand = service_fn(|mut request: Request<()>| {
        request.extensions_mut().insert(Arc::new(7_u64));
        request
            .headers_mut()
            .insert("x-user", HeaderValue::from_static("joe"));
        let mut response = Response::new(());
        for name in [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ] {
            response
                .headers_mut()
                .insert(name, 1_700_000_000_u64.into());
        }
        drop(request);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let gate = stack()
        .headers(LimitHeaders::quota())
        .inject("x-user", "$tyk_meta.user")
        .expect("a header");
    let gate = gate.build().expect("a stack");
    let (ours, theirs) = (
        allocations(gate.layer().layer(leaf())),
        allocations(by_hand),
    );
    assert!(ours <= theirs, "{ours} allocations, by hand {theirs}");
}

#[test]
fn layers_alone_allocate_nothing() {
    use tollgate::{limits::RateLimitLayer, session::SessionLayer};
    let store = MemoryStore::new();
    let session = r#"{"rate": 1000, "per": 1, "access_rights": {"orders": {}}}"#;
    store
        .insert("joes-key", session.parse().expect("a session"))
        .expect("room");
    let bare = allocations(leaf());
    let by_key = RateLimitLayer::by(
        |head| Some(head.headers.get("authorization")?.to_str().ok()?.into()),
        tollgate::Rate::per_second(1000),
    );
    let by_key = by_key.with_headers(LimitHeaders::none()).without_context();
    assert_eq!(allocations(by_key.layer(leaf())), bare);
    let session = SessionLayer::new(store).without_context();
    assert_eq!(allocations(session.layer(leaf())), bare);
}

/// The small form of `scripts/soak`: keys come and go, and what is held stays what it was.
#[test]
fn memory_is_flat_while_keys_come_and_go() {
    const SESSIONS: usize = 2000;
    let clock = ManualClock::at(1_700_000_000);
    let mut churn = Churn::new(SESSIONS, clock.clone());
    let mut round = || {
        // Every counter of a key that went has ended before the next round.
        clock.advance(Duration::from_secs(60));
        churn.replace(SESSIONS);
    };
    let grown = allocation_counter::measure(|| (0..10).for_each(|_| round())).bytes_current;
    let after = allocation_counter::measure(|| (0..10).for_each(|_| round())).bytes_current;
    assert!(
        after < grown / 50,
        "{after} bytes more in ten rounds, {grown} in those before, which use every session once"
    );
}

/// What a transform holds at most while it is under way, in bytes for each of a body's, at the cap. The body
/// itself is the client's and not counted.
fn held(template: &str, body: &str) -> f64 {
    let transform = BodyTransform::parse("t", template).expect("a template");
    let layer = BodyTransformLayer::request(transform).with_limit(body.len());
    let mut service = layer.layer(service_fn(
        async |request: Request<ReplayBody<Full<Bytes>>>| {
            let made = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Full::new(made.expect("whole").to_bytes())))
        },
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut call = |body: Bytes| {
        let request = Request::new(Full::new(body));
        let response = runtime.block_on(service.call(request)).expect("an answer");
        assert_eq!(response.status(), 200);
    };
    let body = Bytes::from(body.to_owned());
    call(body.clone());
    let again = body.clone();
    let measured = allocation_counter::measure(|| call(again));
    measured.bytes_max as f64 / body.len() as f64
}

/// What a tree of `serde_json` takes for it.
fn tree(body: &str) -> f64 {
    let measured = allocation_counter::measure(|| {
        let read: serde_json::Value = serde_json::from_str(body).expect("JSON");
        drop(read);
    });
    measured.bytes_max as f64 / body.len() as f64
}

#[test]
fn what_a_transform_holds_is_bounded_by_the_body() {
    const CAP: usize = 256 << 10;
    let text = format!("\"{}\"", "words and words ".repeat(16));
    let order =
        r#"{"id": 71823, "name": "a chair of oak", "price": 129.5, "tags": ["new", "wood"]}"#;
    // Of lists of these: at most while it is counted, and while it is written again.
    let bodies = [
        ("texts", &*text, 0.5, 2.0),
        ("orders", order, 4.5, 7.0),
        ("numbers", "7", 18.5, 18.5),
        ("objects", r#"{"":0}"#, 17.5, 17.5),
    ];
    for (name, item, counted, written) in bodies {
        let times = (CAP - 2) / (item.len() + 1) - 1;
        let body = format!("[{}{item}]", format!("{item},").repeat(times));
        let is = held("{{ len .array }}", &body);
        assert!(is <= counted, "{name}, counted: {is}");
        let is = held("{{ .array | jsonMarshal }}", &body);
        assert!(is <= written, "{name}, written: {is}");
        println!("{name}: {is:.1}, a tree alone {:.1}", tree(&body));
    }
}
