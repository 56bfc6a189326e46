//! A request that is dropped on the way is charged wholly or not at all.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use tollgate::{Tollgate, clock::ManualClock};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{Far, ask, ok, status, statuses, store};

const SESSION: &str = r#"{"rate": 2, "per": 60, "quota_max": 2, "quota_renewal_rate": 60}"#;

/// Polls a request so often, then drops it.
async fn polled<F: Future>(times: usize, future: F) {
    let mut future = pin!(future);
    for _ in 0..times {
        let done = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        assert!(!done, "it was answered before it was dropped");
    }
}

#[tokio::test]
async fn dropped_at_any_wait_it_is_charged_wholly_or_not_at_all() {
    for times in 1..4 {
        let far = Far::new(store(&[("joes-key", SESSION)]));
        let gate = Tollgate::builder(far.shared())
            .rate_limit()
            .quota()
            .build()
            .unwrap();
        let service = gate.layer().layer(service_fn(async |_: Request<Body>| {
            std::future::pending::<()>().await;
            Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
        }));
        polled(times, service.oneshot(ask("/", "joes-key"))).await;
        let service = gate.layer().layer(ok());
        let left = statuses(&service, [(); 3].map(|()| ask("/", "joes-key"))).await;
        // Two waits, for the session and for the limits; the third poll is at the service: charged.
        let expected = if times < 3 {
            [200, 200, 429]
        } else {
            [200, 429, 429]
        };
        assert_eq!(left, expected, "dropped after {times} polls");
    }
}

#[tokio::test]
async fn dropped_while_it_waits_for_its_turn_it_gives_its_turn_back() {
    let session = r#"{"rate": 1, "per": 10, "throttle_interval": 5, "throttle_retry_limit": 2,
        "quota_max": 2, "quota_renewal_rate": 60}"#;
    let clock = ManualClock::at(0);
    let gate = Tollgate::builder(store(&[("joes-key", session)]))
        .rate_limit()
        .quota()
        .clock(clock.clone());
    let service = gate.build().unwrap().layer().layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    polled(1, service.clone().oneshot(ask("/", "joes-key"))).await;
    // Its turn and its unit of the quota are free again.
    clock.advance(Duration::from_secs(10));
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    clock.advance(Duration::from_secs(10));
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
}

#[tokio::test]
async fn a_service_that_panics_leaves_the_stack_whole() {
    let gate = Tollgate::builder(store(&[("joes-key", SESSION)]))
        .rate_limit()
        .quota()
        .build()
        .unwrap();
    let service = gate
        .layer()
        .layer(service_fn(async |request: Request<Body>| {
            assert_ne!(request.uri().path(), "/panic");
            Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
        }));
    let panicking = tokio::spawn(service.clone().oneshot(ask("/panic", "joes-key")));
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(
        statuses(&service, [(); 2].map(|()| ask("/", "joes-key"))).await,
        [200, 429]
    );
}
