//! F. Limits.

use super::*;

/// How many of so many requests at once are admitted.
async fn admitted<S>(service: &S, tasks: usize, each: usize) -> usize
where
    S: Service<Request<Body>, Response: StatusOf, Error: std::fmt::Debug, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                let mut admitted = 0;
                for _ in 0..each {
                    std::future::poll_fn(|cx| service.poll_ready(cx))
                        .await
                        .unwrap();
                    let response = service.call(ask("/", "joes-key")).await.unwrap();
                    admitted += usize::from(response.is_admitted());
                }
                admitted
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    sum
}

trait StatusOf {
    fn is_admitted(&self) -> bool;
}

impl<B> StatusOf for Response<B> {
    fn is_admitted(&self) -> bool {
        self.status() == 200
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_49_many_connections_admit_no_more_than_one() {
    for tasks in [1, 64, 1000] {
        let session = r#"{"rate": 50, "per": 3600, "quota_max": 70, "quota_renewal_rate": 3600}"#;
        let gate = Tollgate::builder(store(&[("joes-key", session)]))
            .rate_limit()
            .quota()
            .build()
            .unwrap();
        assert_eq!(
            admitted(&gate.layer().layer(ok()), tasks, 1000_usize.div_ceil(tasks)).await,
            50
        );
    }
}

#[tokio::test]
async fn attack_50_a_burst_over_the_edge_of_a_window_gains_nothing() {
    let clock = ManualClock::at(0);
    let layer =
        RateLimitLayer::global(Rate::per(5, Duration::from_secs(10))).with_clock(clock.clone());
    let service = layer.layer(ok());
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(
        statuses(&service, [(); 5].map(|()| ask("/", ""))).await,
        [200; 5]
    );
    clock.advance(Duration::from_millis(2));
    assert_eq!(
        statuses(&service, [(); 5].map(|()| ask("/", ""))).await,
        [429; 5]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_51_of_all_that_ask_for_the_last_unit_one_gets_it() {
    for _ in 0..20 {
        let store = store(&[(
            "joes-key",
            r#"{"quota_max": 1, "quota_renewal_rate": 3600}"#,
        )]);
        let nodes = (0..4).map(|_| {
            let gate = Tollgate::builder(store.clone()).quota().build().unwrap();
            tokio::spawn(async move { admitted(&gate.layer().layer(ok()), 8, 1).await })
        });
        let mut sum = 0;
        for node in nodes.collect::<Vec<_>>() {
            sum += node.await.unwrap();
        }
        assert_eq!(sum, 1);
    }
}

#[tokio::test]
async fn attack_52_a_wall_clock_that_jumps_gives_no_allowance() {
    let clock = ManualClock::at(1_700_000_000);
    let session = r#"{"rate": 2, "per": 60, "quota_max": 3, "quota_renewal_rate": 3600}"#;
    let builder = Tollgate::builder(store(&[("joes-key", session)]))
        .rate_limit()
        .quota()
        .clock(clock.clone());
    let service = builder.build().unwrap().layer().layer(ok());
    let one = async || status(&service, ask("/", "joes-key")).await.as_u16();
    assert_eq!([one().await, one().await], [200, 200]);
    for wall in [
        1_700_000_300,
        1_699_999_700,
        0,
        1_700_003_600,
        4_000_000_000,
    ] {
        clock.set_wall(wall);
        assert_eq!(one().await, 429, "wall clock at {wall}");
    }
}

#[tokio::test]
async fn attack_53_odd_numbers_are_no_infinite_allowance() {
    let run = async |session: Session| {
        let store = MemoryStore::new();
        store.insert("joes-key", session).unwrap();
        let service = Tollgate::builder(store)
            .rate_limit()
            .quota()
            .build()
            .unwrap()
            .layer()
            .layer(ok());
        statuses(&service, [(); 3].map(|()| ask("/", "joes-key"))).await
    };
    let rate = |rate: f64, per: f64| Session {
        rate,
        per,
        ..Session::default()
    };
    // Zero and below is Tyk's "no limit".
    for none in [
        rate(0.0, 60.0),
        rate(-1.0, 60.0),
        rate(0.0, 0.0),
        rate(-1.0, f64::NAN),
    ] {
        assert_eq!(run(none).await, [200; 3]);
    }
    // What is no number, and a window that is none, let nobody in.
    let odd = [
        (f64::NAN, 60.0),
        (f64::INFINITY, 60.0),
        (f64::NEG_INFINITY, 60.0),
        (5.0, 0.0),
        (5.0, -1.0),
        (5.0, f64::NAN),
        (5.0, f64::INFINITY),
        (5.0, f64::NEG_INFINITY),
        (0.5, -0.0),
    ];
    for (number, per) in odd {
        assert_eq!(run(rate(number, per)).await, [403; 3], "{number} per {per}");
    }
    // Fractions count, and what is huge is a limit all the same.
    assert_eq!(run(rate(0.5, 3600.0)).await, [200, 429, 429]);
    assert_eq!(run(rate(2.9, 3600.0)).await, [200, 200, 429]);
    assert_eq!(run(rate(1e308, 1.0)).await, [200; 3]);
    assert_eq!(run(rate(1.0, 1e308)).await, [200, 429, 429]);
    let quota = |quota_max: i64, quota_renewal_rate: i64| Session {
        quota_max,
        quota_renewal_rate,
        ..Session::default()
    };
    for none in [quota(0, 60), quota(-1, 60), quota(i64::MIN, 0)] {
        assert_eq!(run(none).await, [200; 3]);
    }
    for once in [
        quota(1, 0),
        quota(1, -1),
        quota(1, i64::MIN),
        quota(1, i64::MAX),
    ] {
        assert_eq!(run(once).await, [200, 403, 403]);
    }
}

#[tokio::test]
async fn attack_54_nothing_that_a_client_can_vary_changes_its_counter() {
    let session = r#"{"rate": 1, "per": 3600, "access_rights": {"orders": {}}}"#;
    let service = || {
        let store = store(&[("joes-key", session)]);
        Tollgate::builder(store)
            .api("orders")
            .rate_limit()
            .build()
            .unwrap()
            .layer()
            .layer(ok())
    };
    let first = || ask("/a?x=1&y=2", "joes-key");
    let others = || {
        [
            ask("/A", "joes-key"),
            ask("/a/", "joes-key"),
            ask("/a?y=2&x=1", "joes-key"),
            ask("/a", "Bearer joes-key"),
            with_header("/a", "x-forwarded-for", b"192.0.2.1"),
            with_header("/a", "x-alias", b"other"),
        ]
    };
    let service = service();
    assert_eq!(status(&service, first()).await, 200);
    assert_eq!(statuses(&service, others()).await, [429; 6]);
}

#[tokio::test]
async fn attack_55_keys_without_end_fill_no_memory() {
    let memory = MemoryOptions::new().max_counters(5000).build();
    let by_tenant = RateLimitLayer::by(
        |head| Some(head.headers.get("x-tenant")?.to_str().ok()?.into()),
        Rate::per(1, Duration::from_secs(3600)),
    );
    let service = by_tenant.with_store(memory.clone()).layer(ok());
    let first = with_header("/", "x-tenant", b"victim");
    assert_eq!(status(&service, first).await, 200);
    for tenant in 0..50_000 {
        status(
            &service,
            with_header("/", "x-tenant", format!("{tenant}").as_bytes()),
        )
        .await;
    }
    assert!(memory.counters() <= 5100, "{} counters", memory.counters());
    assert_eq!(
        status(&service, with_header("/", "x-tenant", b"victim")).await,
        429
    );
    // Sessions that are not there make no counters at all.
    let store = MemoryStore::new();
    let service = Tollgate::builder(store.clone())
        .rate_limit()
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    for token in 0..1000 {
        assert_eq!(
            status(&service, ask("/", &format!("token-{token}"))).await,
            403
        );
    }
    assert_eq!(store.counters(), 0);
}

#[tokio::test]
async fn attack_56_what_is_charged_is_what_is_documented() {
    let session = r#"{"quota_max": 4, "quota_renewal_rate": 3600, "access_rights": {"orders": {
        "allowed_urls": [{"url": "^/open", "methods": ["GET", "HEAD", "OPTIONS"]}]}}}"#;
    let gate = Tollgate::builder(store(&[("joes-key", session)]))
        .api("orders")
        .quota()
        .build()
        .unwrap();
    let service = gate
        .layer()
        .layer(service_fn(async |request: Request<Body>| {
            let failed = request.uri().path() == "/open/fail";
            Ok::<_, std::convert::Infallible>(
                Response::builder()
                    .status(if failed { 502 } else { 200 })
                    .body(Body::empty())
                    .unwrap(),
            )
        }));
    let method = |method: Method| {
        let mut request = ask("/open", "joes-key");
        *request.method_mut() = method;
        request
    };
    // Refused by rights: free. HEAD, OPTIONS, and what the upstream fails: one unit each.
    let requests = [
        ask("/admin", "joes-key"),
        method(Method::HEAD),
        method(Method::OPTIONS),
        ask("/open/fail", "joes-key"),
        ask("/open", "joes-key"),
        ask("/open", "joes-key"),
    ];
    assert_eq!(
        statuses(&service, requests).await,
        [403, 200, 200, 502, 200, 403]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attack_58_no_request_sees_two_sets_of_policies() {
    let policies = |rate: u64, quota: u64| {
        let json = format!(
            r#"{{"rates": {{"rate": {rate}, "per": 3600, "partitions": {{"rate_limit": true, "acl": true}}, "access_rights": {{"orders": {{}}}}}},
                "quotas": {{"quota_max": {quota}, "quota_renewal_rate": 3600, "partitions": {{"quota": true, "acl": true}}, "access_rights": {{"orders": {{}}}}}}}}"#
        );
        PolicySet::from_record_file(json.as_bytes()).unwrap().0
    };
    let session = r#"{"apply_policies": ["rates", "quotas"]}"#;
    let gate = Tollgate::builder(store(&[("joes-key", session)]))
        .policies(policies(1_000_001, 2_000_001))
        .api("orders")
        .rate_limit()
        .quota()
        .headers(LimitHeaders::none().with_ietf())
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    let reader = tokio::spawn(async move {
        for _ in 0..5000 {
            let response = response(&service, ask("/", "joes-key")).await;
            let policy = response.headers()["ratelimit-policy"].to_str().unwrap();
            let old = policy.contains("q=1000001;") && policy.contains("q=2000001;");
            let new = policy.contains("q=1000002;") && policy.contains("q=2000002;");
            assert!(old || new, "{policy}");
        }
    });
    while !reader.is_finished() {
        for set in [
            policies(1_000_002, 2_000_002),
            policies(1_000_001, 2_000_001),
        ] {
            gate.replace_policies(set);
            tokio::task::yield_now().await;
        }
    }
    reader.await.unwrap();
}

#[tokio::test]
async fn attack_59_a_client_can_not_say_what_it_costs() {
    let session = r#"{"quota_max": 2, "quota_renewal_rate": 3600}"#;
    let kept = ChargeWhen::Response(Arc::new(|_| u64::MAX)); // More than was taken counts as all.
    let gate = Tollgate::builder(store(&[("joes-key", session)]))
        .quota()
        .charge_quota(kept)
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    let costs: [&[u8]; 4] = [b"-1", b"0", b"-9223372036854775808", b"0"];
    let requests = costs.map(|cost| with_header("/", "x-cost", cost));
    assert_eq!(statuses(&service, requests).await, [200, 200, 403, 403]);
}

/// The other half of attack 14: what is made through the same handle is there at once.
#[tokio::test]
async fn attack_14_a_key_made_through_the_cache_works_at_once() {
    let cached: SharedStore = Far::new(MemoryStore::new())
        .shared()
        .cached(CacheOptions::new());
    let service = Tollgate::builder(cached.clone())
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
    cached
        .put("joes-key", Session::default(), Default::default(), None)
        .await
        .unwrap();
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
}
