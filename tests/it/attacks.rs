//! Attacks, by number, against real stacks. `docs/attacks.md` lists what is covered, and by which test.
//!
//! Every attack is expected to be refused with the status that is stated, with no call of the service
//! and no charge, unless the test says otherwise.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::body::Body;
use http::{Method, Request, Response};
use tollgate::{
    ChargeWhen, KeyScheme, LimitHeaders, MemoryStore, Rate, Session, SharedStore, Tollgate,
    access::{PathOptions, VersionRule},
    clock::ManualClock,
    limits::RateLimitLayer,
    pass::Rules,
    policy::PolicySet,
    stack::Builder,
    store::{cached::CacheOptions, memory::MemoryOptions},
    token_source::{CookieSource, HeaderSource, QuerySource, TokenSource},
};
use tower::{Layer, Service, service_fn};

use crate::support::{Far, ask, ok, response, status, statuses, store};

/// A service that counts its calls.
fn counting() -> (
    impl Service<
        Request<Body>,
        Response = Response<Body>,
        Error = std::convert::Infallible,
        Future: Send,
    > + Clone
    + Send,
    Arc<AtomicUsize>,
) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let service = service_fn(move |_: Request<Body>| {
        counter.fetch_add(1, SeqCst);
        std::future::ready(Ok(Response::new(Body::empty())))
    });
    (service, calls)
}

/// Sends requests that must all be refused with this status, and one that must pass: nothing that was
/// refused has reached the service or has cost anything of the quota of one.
async fn check(
    build: impl FnOnce(Builder) -> Builder,
    session: &str,
    refused: u16,
    attacks: impl Into<Vec<Request<Body>>>,
) {
    let mut session: Session = session.parse().unwrap();
    (session.quota_max, session.quota_renewal_rate) = (1, 60);
    let store = MemoryStore::new();
    store.insert("joes-key", session).unwrap();
    let (service, calls) = counting();
    let service = build(Tollgate::builder(store).quota())
        .build()
        .unwrap()
        .layer()
        .layer(service);
    for attack in attacks.into() {
        let what = format!("{attack:?}");
        assert_eq!(status(&service, attack).await, refused, "{what}");
    }
    assert_eq!(calls.load(SeqCst), 0);
    assert_eq!(status(&service, ask("/open", "joes-key")).await, 200);
}

fn with_header(path: &str, name: &str, value: &[u8]) -> Request<Body> {
    let request = Request::get(path)
        .header("authorization", "joes-key")
        .header(name, value);
    request.body(Body::empty()).unwrap()
}

// A. Credentials

#[tokio::test]
async fn attack_01_the_first_source_that_has_a_token_decides() {
    let sources = [
        HeaderSource::default().shared(),
        QuerySource::new("key").shared(),
    ];
    let store = store(&[("key-good", "{}")]);
    let service = Tollgate::builder(store)
        .token_sources(sources)
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    // A good token in the second source does not help a bad one in the first.
    assert_eq!(
        status(&service, ask("/?key=key-good", "key-bad")).await,
        403
    );
    assert_eq!(
        status(&service, ask("/?key=key-bad", "key-good")).await,
        200
    );
}

#[tokio::test]
async fn attack_02_two_credentials_in_one_place_are_refused() {
    let twice = with_header("/open", "authorization", b"other-key");
    let joined = Request::get("/open").header("authorization", "Bearer joes-key, Bearer other-key");
    check(
        |stack| stack,
        "{}",
        400,
        vec![twice, joined.body(Body::empty()).unwrap()],
    )
    .await;
}

#[tokio::test]
async fn attack_04_a_credential_of_odd_bytes_is_refused() {
    let odd = |value: &[u8]| {
        Request::get("/open")
            .header("authorization", value)
            .body(Body::empty())
            .unwrap()
    };
    check(
        |stack| stack,
        "{}",
        400,
        vec![odd(b"joes-k\xe9y"), odd("joes-kéy".as_bytes())],
    )
    .await;
    let long = vec![b'a'; 1 << 20];
    check(
        |stack| stack,
        "{}",
        403,
        vec![odd(&long), odd(&long[..4097]), odd(b"ab")],
    )
    .await;
}

#[tokio::test]
async fn attack_06_two_cookies_of_one_name_are_refused_if_they_differ() {
    let cookies = |line: &str| {
        Request::get("/open")
            .header("cookie", line)
            .body(Body::empty())
            .unwrap()
    };
    let store = store(&[("joes-key", "{}")]);
    let builder = Tollgate::builder(store).token_sources([CookieSource::new("sid").shared()]);
    let service = builder.build().unwrap().layer().layer(ok());
    assert_eq!(
        status(&service, cookies("sid=joes-key; sid=other")).await,
        400
    );
    assert_eq!(
        status(&service, cookies("sid=joes-key; sid=joes-key")).await,
        200
    );
}

#[tokio::test]
async fn attack_07_the_name_in_the_store_is_no_credential() {
    for keys in [KeyScheme::hashed(), KeyScheme::sha256()] {
        let name = keys.storage_key("joes-key");
        let store = store(&[(name.as_str(), "{}")]);
        let service = Tollgate::builder(store)
            .keys(keys)
            .build()
            .unwrap()
            .layer()
            .layer(ok());
        assert_eq!(status(&service, ask("/", name.as_str())).await, 403);
        assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    }
}

#[tokio::test]
async fn attack_12_characters_of_patterns_find_nothing() {
    let attacks = [
        "*",
        "joes-*",
        "joes-ke?",
        "{joes-key}",
        "joes-key:",
        "joes-key;return 1",
        "orgkey.acme",
    ];
    let attacks = attacks.map(|token| ask("/open", token));
    check(|stack| stack, "{}", 403, attacks).await;
}

#[tokio::test]
async fn attack_13_hashed_names_say_nothing_of_how_near_a_guess_was() {
    let keys = KeyScheme::sha256();
    let name = keys.storage_key("joes-key-0123456789");
    for guess in ["joes-key-0123456780", "joes-key-012345678", "joes"] {
        let other = keys.storage_key(guess);
        let common = name
            .as_str()
            .bytes()
            .zip(other.as_str().bytes())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(common < 8, "{guess} shares {common} digits");
    }
}

#[tokio::test]
async fn attack_14_a_key_asked_for_before_it_was_made_works_then() {
    let far = Far::new(MemoryStore::new());
    let clock = ManualClock::at(0);
    let options = CacheOptions::new()
        .clock(clock.clone())
        .absent_age(Duration::from_secs(1));
    let cached = far.shared().cached(options);
    let service = Tollgate::builder(cached.clone())
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
    // Made by another process, whose notice does not come: known within the age of an absent key.
    far.memory.insert("joes-key", Session::default()).unwrap();
    clock.advance(Duration::from_secs(2));
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
}

// B. Life

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

// C. Rights and paths

const RIGHTS: &str =
    r#"{"access_rights": {"orders": {"allowed_urls": [{"url": "^/open", "methods": ["GET"]}]}}}"#;

#[tokio::test]
async fn attack_22_a_path_that_is_not_clean_is_refused() {
    let paths = [
        "//open",
        "/./open",
        "/x/../open",
        "/open/../admin",
        "/open//admin",
        "/open/.",
    ];
    let attacks = paths.map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), RIGHTS, 400, attacks).await;
    // Another spelling is another path.
    let others = ["/OPEN", "/admin;x=/open", "/admin/open"].map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), RIGHTS, 403, others).await;
}

#[tokio::test]
async fn attack_23_a_path_that_hides_something_is_refused() {
    let paths = [
        "/open/%2e%2e/admin",
        "/open/..%2fadmin",
        "/open%2Fadmin",
        "/open%5cadmin",
        "/open/%252e%252e/x",
        "/open/%00",
        "/open/%c0%af",
        "/open/%u002f",
        "/open/%zz",
        "/open/%0d%0ax",
    ];
    let attacks = paths.map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), RIGHTS, 400, attacks).await;
}

#[tokio::test]
async fn attack_24_other_forms_of_a_target_have_no_other_path() {
    let request = |target: &str, method: Method| {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("authorization", "joes-key");
        request.body(Body::empty()).unwrap()
    };
    let absolute = request("http://other.example/admin", Method::GET);
    check(|stack| stack.api("orders"), RIGHTS, 403, vec![absolute]).await;
    let odd = vec![
        request("*", Method::OPTIONS),
        request("http://x//open", Method::GET),
    ];
    check(|stack| stack.api("orders"), RIGHTS, 400, odd).await;
}

#[tokio::test]
async fn attack_25_a_query_is_no_part_of_the_path() {
    let paths =
        ["/admin?/open", "/admin?x=^/open", "/admin%3f/open"].map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), RIGHTS, 403, paths).await;
}

#[tokio::test]
async fn attack_26_strict_patterns_match_whole_paths() {
    let rights = r#"{"access_rights": {"orders": {"allowed_urls": [
        {"url": "/open", "methods": ["GET"]}, {"url": "/users/1", "methods": ["GET"]}]}}}"#;
    let strict = Rules {
        paths: PathOptions::strict(),
        ..Rules::default()
    };
    let paths =
        ["/opening", "/x/open", "/users/10", "/users/1/keys"].map(|path| ask(path, "joes-key"));
    check(
        |stack| stack.api("orders").rules(strict),
        rights,
        403,
        paths,
    )
    .await;
}

#[tokio::test]
async fn attack_27_a_pattern_that_does_not_compile_opens_nothing() {
    let rights = r#"{"access_rights": {"orders": {"allowed_urls": [
        {"url": "^/open$", "methods": ["GET"]}, {"url": "(admin", "methods": ["GET"]}, {"url": "^/(?=x)", "methods": ["GET"]}]}}}"#;
    let paths = ["/admin", "/x", "/(admin"].map(|path| ask(path, "joes-key"));
    check(|stack| stack.api("orders"), rights, 403, paths).await;
}

#[tokio::test]
async fn attack_28_patterns_are_bounded_in_size_and_time() {
    let huge = "a".repeat(10 << 20);
    let rights = format!(
        r#"{{"access_rights": {{"orders": {{"allowed_urls": [{{"url": "^/open$", "methods": ["GET"]}},
            {{"url": "{huge}", "methods": ["GET"]}}, {{"url": "((a{{1000}}){{1000}}){{1000}}", "methods": ["GET"]}},
            {{"url": "^/(a+)+$", "methods": ["GET"]}}]}}}}}}"#
    );
    let long = format!("/{}!", "a".repeat(60_000));
    check(
        |stack| stack.api("orders"),
        &rights,
        403,
        vec![ask(&long, "joes-key")],
    )
    .await;
}

#[tokio::test]
async fn attack_29_rights_look_at_the_method_that_is_sent() {
    let method = |method: &str| {
        let request = Request::builder()
            .method(method)
            .uri("/open")
            .header("authorization", "joes-key");
        request
            .header("x-http-method-override", "GET")
            .body(Body::empty())
            .unwrap()
    };
    let methods = ["POST", "get", "TRACE", "CONNECT", "BREW", "HEAD"].map(method);
    check(|stack| stack.api("orders"), RIGHTS, 403, methods).await;
}

#[tokio::test]
async fn attack_30_one_rule_says_which_version_is_called() {
    let rights = r#"{"access_rights": {"orders": {"versions": ["v1"]}}}"#;
    let rule = VersionRule {
        known: vec!["v1".into(), "v2".into()],
        default_version: "v1".into(),
        ..Default::default()
    };
    let attacks = vec![
        with_header("/open?version=v1", "x-version", b"v2"),
        with_header("/v1/open", "x-version", b"v2"),
    ];
    let by_header = |stack: Builder| {
        stack.api("orders").versions(rule, |head| {
            Some(head.headers.get("x-version")?.to_str().ok()?.into())
        })
    };
    check(by_header, rights, 403, attacks).await;
}

#[tokio::test]
async fn attack_31_an_empty_list_of_paths_opens_all_of_the_api_and_no_other() {
    for urls in ["", r#""allowed_urls": null"#, r#""allowed_urls": []"#] {
        let rights = format!(r#"{{"access_rights": {{"orders": {{{urls}}}}}}}"#);
        let service = |api: &str| {
            let store = store(&[("joes-key", &rights)]);
            Tollgate::builder(store)
                .api(api)
                .build()
                .unwrap()
                .layer()
                .layer(ok())
        };
        assert_eq!(
            status(&service("orders"), ask("/any", "joes-key")).await,
            200
        );
        assert_eq!(
            status(&service("users"), ask("/any", "joes-key")).await,
            403
        );
    }
    // No rights at all are no rights, unless master keys are allowed.
    check(
        |stack| stack.api("orders"),
        RIGHTS,
        403,
        vec![ask("/admin", "joes-key")],
    )
    .await;
    let master = store(&[("joes-key", "{}")]);
    let service = Tollgate::builder(master)
        .api("orders")
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
}

#[tokio::test]
async fn attack_33_upgrades_and_streams_pass_the_same_gates() {
    let upgrade = |protocol: &str| {
        let mut request = with_header("/admin", "upgrade", protocol.as_bytes());
        request
            .headers_mut()
            .insert("connection", "upgrade".parse().unwrap());
        request
    };
    let attacks = vec![
        upgrade("websocket"),
        upgrade("h2c"),
        with_header("/admin", "accept", b"text/event-stream"),
    ];
    check(|stack| stack.api("orders"), RIGHTS, 403, attacks).await;
}

// D. Headers

#[tokio::test]
async fn attack_34_headers_that_the_stack_sets_are_its_own() {
    let session = r#"{"meta_data": {"user": "joe"}}"#;
    let builder = Tollgate::builder(store(&[("joes-key", session)]))
        .inject("x-user", "$tyk_meta.user")
        .unwrap();
    let builder = builder.inject("x-plan", "$tyk_meta.none").unwrap();
    let service =
        builder
            .build()
            .unwrap()
            .layer()
            .layer(service_fn(async |request: Request<Body>| {
                let seen: Vec<_> = request
                    .headers()
                    .iter()
                    .map(|(name, value)| format!("{name}={value:?}"))
                    .collect();
                assert!(
                    seen.iter().all(|header| !header.contains("root")),
                    "{seen:?}"
                );
                assert_eq!(request.headers().get_all("x-user").iter().count(), 1);
                assert_eq!(request.headers()["x-plan"], ""); // Empty, and not the client's.
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            }));
    for name in ["x-user", "X-User", "x_user", "X_USER", "x-plan", "x_plan"] {
        assert_eq!(status(&service, with_header("/", name, b"root")).await, 200);
    }
}

#[tokio::test]
async fn attack_35_the_clients_connection_header_drops_nothing_of_ours() {
    let session = r#"{"meta_data": {"user": "joe"}}"#;
    let builder = Tollgate::builder(store(&[("joes-key", session)]))
        .inject("x-user", "$tyk_meta.user")
        .unwrap();
    let service =
        builder
            .build()
            .unwrap()
            .layer()
            .layer(service_fn(async |request: Request<Body>| {
                let connection = request
                    .headers()
                    .get("connection")
                    .map(|value| value.to_str().unwrap().to_owned());
                assert!(
                    !connection
                        .unwrap_or_default()
                        .to_lowercase()
                        .contains("x-user")
                );
                assert_eq!(request.headers()["x-user"], "joe");
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            }));
    for value in ["x-user", "close, X-User", "X-USER,authorization"] {
        assert_eq!(
            status(&service, with_header("/", "connection", value.as_bytes())).await,
            200
        );
    }
}

// F. Limits

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
