//! What stands in a stack, and in which order.

use axum::{Router, routing::get};
use http::{StatusCode, request::Parts};
use tollgate::{
    MemoryStore, Rejection, Tollgate,
    access_rights::AccessRightsLayer,
    extract::{CurrentSession, QuotaStanding},
    gate::{Gate, Step},
    limits::RateLimitLayer,
    stack::{BuildError, Builder},
    token_source::{HeaderSource, TokenSource},
    visit::Visit,
};
use tower::Layer;

use crate::support::{Far, ask, ok, response, status, statuses, store};

struct Closed;

impl Gate for Closed {
    fn name(&self) -> &'static str {
        "closed"
    }

    fn admit(&self, head: &mut Parts, _visit: &mut Visit) -> Step {
        match head.uri.path() {
            "/closed" => Step::Refuse(Rejection::custom(
                "closed",
                StatusCode::IM_A_TEAPOT,
                "closed",
            )),
            _ => Step::Pass,
        }
    }
}

#[track_caller]
fn check(build: impl FnOnce(Builder) -> Builder, error: BuildError, text: &str) {
    let built = build(Tollgate::builder(MemoryStore::new())).build();
    assert_eq!(built.err(), Some(error));
    assert!(error.to_string().contains(text), "{error}");
}

#[test]
fn sets_that_can_not_go_together_are_refused_by_name() {
    let no_source = |what| BuildError::NoSessionSource(what);
    check(
        |stack| stack.token_sources([]).quota(),
        no_source("quota"),
        "quota needs a session",
    );
    check(
        |stack| stack.token_sources([]).rate_limit(),
        no_source("rate_limit"),
        "rate_limit",
    );
    check(
        |stack| stack.token_sources([]).api("a"),
        no_source("api"),
        "api",
    );
    check(
        |stack| stack.token_sources([]),
        BuildError::Empty,
        "without any gate",
    );
    check(
        |stack| stack.session_gate(Closed).session_gate(Closed),
        BuildError::TwoSessionGates,
        "two session gates",
    );
    let given = || [HeaderSource::default().shared()];
    check(
        |stack| stack.token_sources(given()).session_gate(Closed),
        BuildError::TwoSessionGates,
        "two session gates",
    );
    check(
        |stack| stack.versions(Default::default(), |_| None),
        BuildError::NoApi("versions"),
        "versions needs an API",
    );
}

#[tokio::test]
async fn gates_of_ones_own_stand_before_the_limits() {
    let store = store(&[("joes-key", r#"{"rate": 1, "per": 60}"#)]);
    let gate = Tollgate::builder(store)
        .rate_limit()
        .gate(Closed)
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    // No token: the session gate is asked first.
    assert_eq!(status(&service, ask("/closed", "")).await, 401);
    let refused = response(&service, ask("/closed", "joes-key")).await;
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.extensions().get::<Rejection>().unwrap().code()
        ),
        (418, "closed")
    );
    // It has cost nothing.
    assert_eq!(
        statuses(&service, [(); 2].map(|()| ask("/", "joes-key"))).await,
        [200, 429]
    );
}

#[tokio::test]
async fn inactive_is_told_before_expired_and_both_before_rights() {
    let store = store(&[
        ("key-both", r#"{"is_inactive": true, "expires": 1}"#),
        ("key-expired", r#"{"expires": 1}"#),
        ("key-never", r#"{"expires": -1}"#),
    ]);
    let service = Tollgate::builder(store)
        .api("orders")
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    let code = async |token: &str| {
        let refused = response(&service, ask("/", token)).await;
        refused.extensions().get::<Rejection>().unwrap().clone()
    };
    assert_eq!(code("key-both").await, Rejection::KeyInactive);
    assert_eq!(code("key-expired").await, Rejection::KeyExpired);
    assert_eq!(code("key-never").await, Rejection::ApiNotGranted);
}

#[tokio::test]
async fn a_request_asks_a_store_once_for_its_session_and_once_for_all_limits() {
    let far = Far::new(store(&[
        (
            "limited",
            r#"{"org_id": "acme", "rate": 3, "per": 60, "quota_max": 100, "quota_renewal_rate": 60,
                "access_rights": {"orders": {}}}"#,
        ),
        ("unlimited", r#"{"access_rights": {"orders": {}}}"#),
        (
            "of-others",
            r#"{"rate": 3, "per": 60, "access_rights": {"users": {}}}"#,
        ),
    ]));
    let stack = Tollgate::builder(far.shared()).api("orders");
    let stack = stack.rate_limit().quota().build().unwrap();
    let service = stack.layer().layer(ok());
    for (token, answer, calls) in [
        ("limited", 200, 2),
        ("limited", 200, 2),
        ("limited", 200, 2),
        ("limited", 429, 2),
        ("unlimited", 200, 1),
        ("of-others", 403, 1),
        ("", 401, 0),
    ] {
        assert_eq!(status(&service, ask("/", token)).await, answer, "{token}");
        assert_eq!(far.calls(), calls, "{token}: {answer}");
    }
}

#[tokio::test]
async fn who_misses_a_layer_in_front_says_which() {
    let memory = store(&[("joes-key", "{}")]);
    let rights = AccessRightsLayer::new("orders").layer(ok());
    let limits = RateLimitLayer::per_session(memory.clone()).layer(ok());
    let answers = [
        response(&rights, ask("/", "joes-key")).await,
        response(&limits, ask("/", "joes-key")).await,
    ];
    for answer in answers {
        assert_eq!(answer.status(), 500);
        let rejection = answer.extensions().get();
        let Some(Rejection::Misconfigured(why)) = rejection else {
            panic!("{rejection:?}");
        };
        assert!(why.contains("SessionLayer"), "{why}");
    }

    let bare = Router::new()
        .route("/session", get(async |_: CurrentSession| {}))
        .route("/quota", get(async |_: QuotaStanding| {}));
    let gate = Tollgate::builder(memory).build().unwrap();
    for (app, path, layer) in [
        (bare.clone(), "/session", "SessionLayer"),
        (bare.layer(gate.layer()), "/quota", "QuotaLayer"),
    ] {
        let answer = response(&app, ask(path, "joes-key")).await;
        assert_eq!(answer.status(), 500);
        let text = axum::body::to_bytes(answer.into_body(), 999).await.unwrap();
        assert!(String::from_utf8_lossy(&text).contains(layer), "{text:?}");
    }
}
