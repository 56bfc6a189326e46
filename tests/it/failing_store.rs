//! A store that fails is not a client that fails.

use tollgate::{
    MemoryStore, OnStoreError, Rejection, SharedStore, Tollgate, stack::Builder,
    store::memory::MemoryOptions,
};
use tower::Layer;

use crate::support::{Far, ask, ok, response, status, statuses, store};

const SESSION: &str = r#"{"rate": 2, "per": 60, "access_rights": {"orders": {}}}"#;

fn far() -> Far {
    Far::new(store(&[("joes-key", SESSION)]))
}

fn stack(store: impl Into<SharedStore>) -> Builder {
    Tollgate::builder(store).api("orders").rate_limit()
}

#[tokio::test]
async fn no_answer_is_503_and_over_when_the_store_is_back() {
    let far = far();
    let service = stack(far.shared()).build().unwrap().layer().layer(ok());
    for token in ["joes-key", "nobody"] {
        far.fail(true);
        let refused = response(&service, ask("/", token)).await;
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert!(matches!(
            refused.extensions().get(),
            Some(Rejection::StoreUnavailable { .. })
        ));
        let body = axum::body::to_bytes(axum::body::Body::new(refused.into_body()), 999)
            .await
            .unwrap();
        assert!(
            !String::from_utf8_lossy(&body).contains("192.0.2.7"),
            "the store's address is not the client's"
        );
        far.fail(false);
    }
    assert_eq!(
        statuses(
            &service,
            ["joes-key", "nobody"].map(|token| ask("/", token))
        )
        .await,
        [200, 403]
    );
}

#[tokio::test]
async fn a_record_that_can_not_be_read_is_no_bad_key() {
    for then in [
        OnStoreError::Refuse,
        OnStoreError::Admit,
        OnStoreError::Local,
    ] {
        let far = far();
        let builder = stack(far.shared()).on_store_error(then);
        let service = builder.build().unwrap().layer().layer(ok());
        far.spoil(true);
        assert_eq!(
            status(&service, ask("/", "joes-key")).await,
            503,
            "{then:?}"
        );
        far.spoil(false);
        assert_eq!(
            status(&service, ask("/", "joes-key")).await,
            200,
            "{then:?}"
        );
    }
}

#[tokio::test]
async fn limits_without_a_store_refuse_admit_or_count_alone() {
    let run = async |then: OnStoreError| {
        let far = far();
        let sessions = far.memory.clone();
        let store = SharedStore::new(sessions, far.clone());
        let service = stack(store)
            .on_store_error(then)
            .build()
            .unwrap()
            .layer()
            .layer(ok());
        far.fail(true);
        statuses(&service, [(); 4].map(|()| ask("/", "joes-key"))).await
    };
    assert_eq!(run(OnStoreError::Refuse).await, [503, 503, 503, 503]);
    assert_eq!(run(OnStoreError::Admit).await, [200, 200, 200, 200]);
    assert_eq!(run(OnStoreError::Local).await, [200, 200, 429, 429]);
}

#[tokio::test]
async fn a_session_gate_told_to_admit_lets_requests_through_without_a_session() {
    let far = far();
    let service = stack(far.shared())
        .on_store_error(OnStoreError::Admit)
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    far.fail(true);
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    // A request without a token is still the client's fault.
    assert_eq!(status(&service, ask("/", "")).await, 401);
}

#[tokio::test]
async fn a_full_store_refuses_writes_and_recovers() {
    let store = MemoryOptions::new().max_sessions(1).build();
    store.insert("key-1", SESSION.parse().unwrap()).unwrap();
    let full = store.insert("key-2", SESSION.parse().unwrap()).unwrap_err();
    assert_eq!(full.kind(), tollgate::store::StoreErrorKind::Full);
    let shared = SharedStore::from(store.clone());
    assert!(shared.delete("key-1").await.unwrap());
    store.insert("key-2", SESSION.parse().unwrap()).unwrap();
    let service = stack(MemoryStore::clone(&store))
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    assert_eq!(status(&service, ask("/", "key-2")).await, 200);
}
