//! Gates that only observe, and what the outside is told.

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tollgate::{
    OnStoreError, SharedStore, Tollgate, access_rights::AccessRightsLayer, limits::RateLimitLayer,
    session::SessionLayer, stack::Builder,
};
use tower::{Layer, ServiceBuilder};

use crate::support::{Far, ask, ok, statuses, store};

const SESSION: &str = r#"{"rate": 1, "per": 60, "access_rights": {"orders": {}}}"#;

/// Runs a story, and tells which counters it moved.
fn counted(story: impl Future<Output = ()>) -> Vec<(String, u64)> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(story));
    let mut counters: Vec<_> = snapshotter
        .snapshot()
        .into_vec()
        .into_iter()
        .filter_map(|(key, _, _, value)| {
            let labels: Vec<_> = key
                .key()
                .labels()
                .map(|label| label.value().to_owned())
                .collect();
            let DebugValue::Counter(count) = value else {
                return None;
            };
            Some((format!("{} {}", key.key().name(), labels.join(" ")), count))
        })
        .collect();
    counters.sort();
    counters
}

#[track_caller]
fn check(
    build: impl FnOnce(Builder) -> Builder,
    far: bool,
    statuses_seen: &[u16],
    counters: &[(&str, u64)],
) {
    let memory = store(&[("joes-key", SESSION)]);
    let store = if far {
        Far::new(memory).shared()
    } else {
        memory.into()
    };
    let builder = Tollgate::builder(store).api("orders").rate_limit();
    let service = build(builder).build().unwrap().layer().layer(ok());
    let moved = counted(async move {
        let tokens = ["joes-key", "joes-key", "nobody", "other"];
        assert_eq!(
            statuses(&service, tokens.map(|token| ask("/", token))).await,
            statuses_seen
        );
    });
    let moved: Vec<_> = moved
        .iter()
        .map(|(name, count)| (&**name, *count))
        .collect();
    assert_eq!(moved, counters);
}

#[test]
fn refusals_are_counted_by_reason_and_by_nothing_else() {
    let counters = [
        ("tollgate_rejections_total key_rate_limited", 1),
        ("tollgate_rejections_total key_unknown", 2),
    ];
    check(|stack| stack, false, &[200, 429, 403, 403], &counters);
    check(|stack| stack, true, &[200, 429, 403, 403], &counters);
}

#[test]
fn what_an_observing_gate_would_refuse_is_counted_and_let_through() {
    for far in [false, true] {
        check(
            Builder::observe_limits,
            far,
            &[200, 200, 403, 403],
            &[
                ("tollgate_rejections_total key_unknown", 2),
                ("tollgate_would_reject_total key_rate_limited", 1),
            ],
        );
        check(
            Builder::observe_session,
            far,
            &[200, 429, 200, 200],
            &[
                ("tollgate_rejections_total key_rate_limited", 1),
                ("tollgate_would_reject_total key_unknown", 2),
                ("tollgate_would_reject_total no_session", 4), // Rights and limits, for each of two.
            ],
        );
    }
}

#[test]
fn layers_alone_can_observe_too() {
    let store = store(&[(
        "joes-key",
        r#"{"rate": 1, "per": 60, "access_rights": {"other": {}}}"#,
    )]);
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(store.clone()))
        .layer(AccessRightsLayer::new("orders").observe())
        .layer(RateLimitLayer::per_session(store).observe())
        .service(ok());
    let moved = counted(async move {
        assert_eq!(
            statuses(&service, [(); 2].map(|()| ask("/", "joes-key"))).await,
            [200, 200]
        );
    });
    assert_eq!(
        moved,
        [
            ("tollgate_would_reject_total api_not_granted".to_owned(), 2),
            ("tollgate_would_reject_total key_rate_limited".to_owned(), 1),
        ]
    );
}

#[test]
fn an_observed_limit_is_in_no_header() {
    let service = RateLimitLayer::global(tollgate::Rate::per_second(1))
        .observe()
        .layer(ok());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let response = runtime.block_on(crate::support::response(&service, ask("/", "")));
    assert!(response.headers().is_empty(), "{:?}", response.headers());
}

#[test]
fn a_store_that_fails_is_counted_by_the_gate_that_asked() {
    let far = Far::new(store(&[("joes-key", SESSION)]));
    far.fail(true);
    let limits = SharedStore::new(store(&[("joes-key", SESSION)]), far.clone());
    for (store, gate, status) in [
        (far.shared(), "session", 503),
        (far.shared(), "organisation", 503),
        (limits, "limits", 200),
    ] {
        let mut builder = Tollgate::builder(store).rate_limit();
        if gate == "organisation" {
            builder = builder.organisation("acme").organisation_limits();
        }
        let then = match gate {
            "limits" => OnStoreError::Local,
            _ => OnStoreError::Refuse,
        };
        let service = builder.on_store_error(then).build().unwrap();
        let service = service.layer().layer(ok());
        let moved = counted(async move {
            assert_eq!(statuses(&service, [ask("/", "joes-key")]).await, [status]);
        });
        let name = format!("tollgate_store_failures_total {gate}");
        assert!(moved.contains(&(name, 1)), "{moved:?}");
    }
}
