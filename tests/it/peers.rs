//! What other limiters get wrong does not happen here: one test for each defect.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use http::{Request, Response, request::Parts};
use tollgate::{
    Limit, MemoryStore, Rate, Refusals, Tollgate,
    clock::ManualClock,
    context::ClientAddr,
    limits::{OwnLimit, RateLimitLayer},
    rejection::LimitOwner,
    session::SessionLayer,
    store::{Expect, SessionStore, memory::MemoryOptions},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer};

use crate::support::{Far, ask, ok, response, status, statuses, store};

fn tenant(head: &Parts) -> Option<Cow<'_, str>> {
    Some(head.headers.get("x-tenant")?.to_str().ok()?.into())
}

fn hourly(requests: u64) -> Rate {
    Rate::per(requests, Duration::from_secs(3600))
}

/// tower's limits are made anew by every `layer`: for each route, connection or request.
#[tokio::test]
async fn a_layer_built_a_hundred_times_has_one_state() {
    let layer = RateLimitLayer::global(hourly(5));
    let mut admitted = 0;
    for _ in 0..100 {
        admitted += usize::from(status(&layer.layer(ok()), ask("/", "")).await == 200);
    }
    assert_eq!(admitted, 5);
    // A router without `with_state` builds its layers for every request, and one with it for every route.
    let layer = RateLimitLayer::global(hourly(5));
    let router = Router::new()
        .route("/a", get(|| async { "a" }))
        .route("/b", get(|| async { "b" }))
        .layer(layer);
    for app in [router.clone(), router.with_state(())] {
        let paths = ["/a", "/b", "/a", "/b", "/a", "/b"];
        statuses(&app, paths.map(|path| ask(path, ""))).await;
        assert_eq!(status(&app, ask("/a", "")).await, 429);
    }
}

/// Several call a clone of the service that never said it was ready; over a concurrency limit that
/// panics.
#[tokio::test]
async fn the_service_that_is_called_is_the_one_that_was_ready() {
    let memory = store(&[("joes-key", r#"{"rate": 100, "per": 60}"#)]);
    for store in [memory.clone().into(), Far::new(memory).shared()] {
        let gate = Tollgate::builder(store).rate_limit().build().unwrap();
        let service = ServiceBuilder::new()
            .layer(gate.layer())
            .concurrency_limit(1)
            .service(ok());
        assert_eq!(
            statuses(&service, [(); 3].map(|()| ask("/", "joes-key"))).await,
            [200, 200, 200]
        );
    }
}

/// A refused request must not hold the permit that readiness took.
#[tokio::test]
async fn a_refusal_lets_its_permit_go() {
    let memory = store(&[("joes-key", "{}")]);
    for store in [memory.clone().into(), Far::new(memory).shared()] {
        let gate = Tollgate::builder(store).build().unwrap();
        let limit = GlobalConcurrencyLimitLayer::new(1);
        let stack = || gate.layer().layer(limit.layer(ok()));
        // The first service stays alive, as on a kept connection.
        let mut kept = stack();
        let refused = kept
            .ready()
            .await
            .unwrap()
            .call(ask("/", "nobody"))
            .await
            .unwrap();
        assert_eq!(refused.status(), 403);
        let second = tokio::time::timeout(
            Duration::from_secs(5),
            stack().oneshot(ask("/", "joes-key")),
        );
        assert_eq!(second.await.expect("a permit").unwrap().status(), 200);
    }
}

/// tower waits in place of refusing, and governor's layer rounds `Retry-After` down to zero.
#[tokio::test]
async fn over_the_limit_it_answers_at_once_and_says_when_to_come_back() {
    let clock = ManualClock::at(0);
    let layer =
        RateLimitLayer::global(Rate::per(1, Duration::from_millis(900))).with_clock(clock.clone());
    let service = layer.layer(ok());
    assert_eq!(status(&service, ask("/", "")).await, 200);
    let refused = response(&service, ask("/", "")).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    // Who comes back then is let in.
    clock.advance(Duration::from_secs(1));
    assert_eq!(status(&service, ask("/", "")).await, 200);
}

/// An answer of the user's own loses `Retry-After` elsewhere.
#[tokio::test]
async fn an_answer_of_ones_own_says_when_to_come_back() {
    let own = Refusals::custom(|rejection, _| {
        let response = Response::builder().status(rejection.status());
        response.body(Bytes::from_static(b"later")).unwrap()
    });
    let layer = RateLimitLayer::global(hourly(1)).with_clock(ManualClock::at(0));
    let service = layer.with_refusals(own).layer(ok());
    assert_eq!(status(&service, ask("/", "")).await, 200);
    let refused = response(&service, ask("/", "")).await;
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()["retry-after"]),
        (429, &"3600".parse().unwrap())
    );
}

/// `per_second(10)` means one token in ten seconds elsewhere.
#[tokio::test]
async fn ten_per_second_are_ten_in_a_second() {
    let layer = RateLimitLayer::global(Rate::per_second(10)).with_clock(ManualClock::at(0));
    let service = layer.layer(ok());
    let answers = statuses(&service, [(); 12].map(|()| ask("/", ""))).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 10);
}

/// What `X-Forwarded-For` says first is the client's word.
#[tokio::test]
async fn a_forged_forwarded_for_gains_nothing() {
    let by_address = RateLimitLayer::by(
        |head| {
            head.extensions
                .get()
                .map(|ClientAddr(ip)| ip.to_string().into())
        },
        hourly(1),
    );
    let service = by_address.layer(ok());
    let peer: IpAddr = "198.51.100.1".parse().unwrap();
    let mut admitted = 0;
    for forged in 0..50 {
        let request =
            Request::get("/").header("x-forwarded-for", format!("10.0.0.{forged}, 198.51.100.1"));
        let request = request
            .extension(ClientAddr(peer))
            .body(Body::empty())
            .unwrap();
        admitted += usize::from(status(&service, request).await == 200);
    }
    assert_eq!(admitted, 1);
}

/// Keys stay for ever elsewhere, unless the user runs a thread that drops them.
#[tokio::test]
async fn a_flood_of_new_keys_stays_within_its_bound() {
    let memory = MemoryOptions::new().max_counters(1000).build();
    let service = RateLimitLayer::by(tenant, hourly(1))
        .with_store(memory.clone())
        .layer(ok());
    let ask = |tenant: u32| {
        Request::get("/")
            .header("x-tenant", tenant.to_string())
            .body(Body::empty())
            .unwrap()
    };
    for key in 0..20_000 {
        status(&service, ask(key)).await;
    }
    assert!(memory.counters() <= 1010, "{} counters", memory.counters());
    // Nobody gains by the flood: who was refused stays refused.
    assert_eq!(status(&service, ask(0)).await, 429);
}

#[tokio::test]
async fn keys_that_have_rested_are_dropped() {
    let clock = ManualClock::at(0);
    let memory = MemoryStore::new();
    let layer = RateLimitLayer::by(tenant, Rate::per_second(1)).with_store(memory.clone());
    let service = layer.with_clock(clock.clone()).layer(ok());
    for round in 0..10 {
        for key in 0..2000 {
            let request = Request::get("/").header("x-tenant", format!("{round}-{key}"));
            status(&service, request.body(Body::empty()).unwrap()).await;
        }
        clock.advance(Duration::from_secs(10));
    }
    assert!(
        memory.counters() < 6000,
        "{} counters of 20,000",
        memory.counters()
    );
}

/// A changed plan is a new bucket elsewhere, so that switching plans multiplies the allowance.
#[tokio::test]
async fn a_changed_limit_keeps_its_count() {
    let memory = MemoryStore::new();
    let mut admitted = 0;
    for limit in [10, 11, 12, 13] {
        let service = RateLimitLayer::by(tenant, hourly(limit))
            .with_store(memory.clone())
            .layer(ok());
        let answers = statuses(&service, [(); 20].map(|()| ask("/", ""))).await;
        admitted += answers.iter().filter(|status| **status == 200).count();
    }
    assert_eq!(admitted, 13);
}

/// What one limit refuses still costs the other elsewhere.
#[tokio::test]
async fn a_refused_request_costs_no_limit() {
    let wide = OwnLimit::global("wide", LimitOwner::Own, Limit::Rate(hourly(100)));
    let tight = OwnLimit::by("tight", Limit::Rate(hourly(1)), tenant);
    let gate = Tollgate::builder(MemoryStore::new())
        .token_sources([])
        .limit(wide)
        .limit(tight)
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    let ask = |tenant: u32| {
        Request::get("/")
            .header("x-tenant", tenant.to_string())
            .body(Body::empty())
            .unwrap()
    };
    let answers = statuses(&service, [(); 100].map(|()| ask(0))).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses(&service, (1..100).map(ask)).await, [200; 99]);
    assert_eq!(status(&service, ask(100)).await, 429);
}

/// A whole record that is written back loses what others wrote meanwhile.
#[tokio::test]
async fn of_two_writers_one_is_told() {
    let store = store(&[("joes-key", r#"{"quota_max": 0}"#)]);
    let writers = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let read = store.get("joes-key").await.unwrap().unwrap();
                let mut session = (**read.session()).clone();
                session.quota_max += 1;
                tokio::task::yield_now().await;
                if store
                    .put("joes-key", session, Expect::Version(read.version()), None)
                    .await
                    .is_ok()
                {
                    return;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(
        store
            .get("joes-key")
            .await
            .unwrap()
            .unwrap()
            .session()
            .quota_max,
        20
    );
}

/// A request in flight writes a session back that was deleted meanwhile elsewhere.
#[tokio::test]
async fn a_request_in_flight_revives_nothing() {
    let store = store(&[("joes-key", r#"{"rate": 5, "per": 60}"#)]);
    let gate = Arc::new(tokio::sync::Notify::new());
    let held = gate.clone();
    let stack = Tollgate::builder(store.clone())
        .rate_limit()
        .build()
        .unwrap();
    let app = Router::new()
        .route("/slow", get(move || async move { held.notified().await }))
        .route("/", get(|| async {}))
        .layer(stack.layer());
    let slow = tokio::spawn(app.clone().oneshot(ask("/slow", "joes-key")));
    tokio::task::yield_now().await;
    assert!(store.delete("joes-key").await.unwrap());
    gate.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    assert_eq!(status(&app, ask("/", "joes-key")).await, 403);
}

/// Work starts in `layer` elsewhere, and for one store of the process alone.
#[tokio::test]
async fn no_layer_starts_a_task() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = tasks();
    let store = store(&[("joes-key", r#"{"rate": 5, "per": 60}"#)]);
    let layers = ServiceBuilder::new()
        .layer(SessionLayer::new(store.clone()))
        .layer(RateLimitLayer::per_session(store));
    let service = layers.service(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    assert_eq!(tasks(), before);
}
