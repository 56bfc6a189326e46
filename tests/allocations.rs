//! What a request allocates on the ready path, counted.
//!
//! An admitted request may allocate what a service does that puts one `Arc` into the extensions and
//! writes the same headers, and nothing where it leaves neither. Counts are exact, so they are tests
//! and not measurements.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response};
use tollgate::{LimitHeaders, MemoryStore, Tollgate, clock::ManualClock, stack::Builder};
use tollgate_bench::soak::Churn;
use tower::{Layer, Service, ServiceExt, service_fn};

#[path = "allocations/transforms.rs"]
mod transforms;

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
