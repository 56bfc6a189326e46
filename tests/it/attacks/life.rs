//! B. Life of keys.

use super::*;

#[tokio::test]
async fn attack_15_expiry_is_exact_and_never_overflows() {
    let clock = ManualClock::at(1_700_000_000);
    let store = store(&[
        ("key-past", r#"{"expires": 1699999999}"#),
        ("key-now", r#"{"expires": 1700000000}"#),
        ("key-zero", r#"{"expires": 0}"#),
        ("key-minus", r#"{"expires": -1}"#),
        ("key-milliseconds", r#"{"expires": 1700000000000}"#),
        ("key-huge", r#"{"expires": 9223372036854775807}"#),
    ]);
    let service = Tollgate::builder(store)
        .clock(clock.clone())
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    let keys = [
        "key-past",
        "key-now",
        "key-zero",
        "key-minus",
        "key-milliseconds",
        "key-huge",
    ];
    let all = || keys.map(|key| ask("/", key));
    assert_eq!(
        statuses(&service, all()).await,
        [401, 200, 200, 200, 200, 200]
    );
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        statuses(&service, all()).await,
        [401, 401, 200, 200, 200, 200]
    );
    // A wall clock that is set back lets an expired key in again, as its time says; nothing panics.
    clock.set_wall(0);
    assert_eq!(statuses(&service, all()).await, [200; 6]);
}

#[tokio::test]
async fn attack_16_a_key_switched_off_is_refused_within_the_caches_age() {
    let far = Far::new(store(&[("joes-key", "{}")]));
    let clock = ManualClock::at(0);
    let nodes: Vec<_> = (0..3)
        .map(|_| {
            far.shared().cached(
                CacheOptions::new()
                    .clock(clock.clone())
                    .age(Duration::from_secs(5)),
            )
        })
        .collect();
    let services: Vec<_> = nodes
        .iter()
        .map(|node| {
            Tollgate::builder(node.clone())
                .build()
                .unwrap()
                .layer()
                .layer(ok())
        })
        .collect();
    for service in &services {
        assert_eq!(status(service, ask("/", "joes-key")).await, 200);
    }
    let inactive = r#"{"is_inactive": true}"#.parse().unwrap();
    nodes[0]
        .put("joes-key", inactive, Default::default(), None)
        .await
        .unwrap();
    // The node that wrote knows at once, the others within five seconds.
    assert_eq!(status(&services[0], ask("/", "joes-key")).await, 403);
    clock.advance(Duration::from_secs(6));
    for service in &services {
        assert_eq!(status(service, ask("/", "joes-key")).await, 403);
    }
}

#[tokio::test]
async fn attack_17_a_revoked_key_is_not_served_from_memory_while_the_store_is_away() {
    let far = Far::new(store(&[("joes-key", "{}")]));
    let clock = ManualClock::at(0);
    let cached = far.shared().cached(
        CacheOptions::new()
            .clock(clock.clone())
            .age(Duration::from_secs(5)),
    );
    let service = Tollgate::builder(cached.clone())
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    assert!(cached.delete("joes-key").await.unwrap());
    far.fail(true);
    assert_eq!(status(&service, ask("/", "joes-key")).await, 503);
    clock.advance(Duration::from_secs(60));
    assert_eq!(status(&service, ask("/", "joes-key")).await, 503);
}

#[tokio::test]
async fn attack_20_a_policy_that_is_gone_or_inactive_refuses() {
    let policies = |json: &str| PolicySet::from_record_file(json.as_bytes()).unwrap().0;
    let gold = r#"{"gold": {"rate": 10, "per": 1, "access_rights": {"orders": {}}, "is_inactive": INACTIVE}}"#;
    let gate = Tollgate::builder(store(&[("joes-key", r#"{"apply_policies": ["gold"]}"#)]))
        .policies(policies(&gold.replace("INACTIVE", "false")))
        .api("orders")
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    gate.replace_policies(policies(&gold.replace("INACTIVE", "true")));
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
    gate.replace_policies(PolicySet::default());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
}

#[tokio::test]
async fn attack_21_a_key_whose_policies_grant_nothing_is_refused() {
    let quota_only = r#"{"quota": {"quota_max": 10, "partitions": {"quota": true}, "access_rights": {"orders": {}}}}"#;
    let session = r#"{"apply_policies": ["quota", "gone"], "access_rights": {"orders": {}}}"#;
    let gate = Tollgate::builder(store(&[("joes-key", session)]))
        .policies(
            PolicySet::from_record_file(quota_only.as_bytes())
                .unwrap()
                .0,
        )
        .api("orders")
        .build()
        .unwrap();
    assert_eq!(
        status(&gate.layer().layer(ok()), ask("/", "joes-key")).await,
        403
    );
}
