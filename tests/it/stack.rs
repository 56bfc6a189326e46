//! The standard stack, over stores that answer at once and stores that do not.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body, routing::get};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use tollgate::{
    ChargeWhen, LimitHeaders, MemoryStore, Period, Quota, Rate, Refusals, Rejection, SharedStore,
    Tollgate,
    access_rights::AccessRightsLayer,
    clock::ManualClock,
    limits::{OwnLimit, RateLimitLayer},
    pass::Rules,
    policy::PolicySet,
    session::SessionLayer,
    token_source::{CookieSource, HeaderSource, QuerySource, TokenSource},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{Far, ask, ok, response, status, statuses, store};

const SESSION: &str = r#"{
    "rate": 3, "per": 60, "quota_max": 2, "quota_renewal_rate": 3600,
    "access_rights": {"orders": {"allowed_urls": [{"url": "^/orders", "methods": ["GET"]}]}},
    "meta_data": {"user": "joe"}
}"#;

/// The same story over every kind of store.
async fn story(store: SharedStore) {
    let gate = Tollgate::builder(store)
        .api("orders")
        .rate_limit()
        .quota()
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    assert_eq!(status(&service, Request::new(Body::empty())).await, 401);
    assert_eq!(status(&service, ask("/orders", "nobody")).await, 403);
    assert_eq!(status(&service, ask("/admin", "joes-key")).await, 403);
    assert_eq!(status(&service, ask("/x/../orders", "joes-key")).await, 400);
    // What was refused has cost nothing: the quota of two is whole, and the rate of three is not reached.
    assert_eq!(
        statuses(&service, [(); 4].map(|()| ask("/orders", "joes-key"))).await,
        [200, 200, 403, 403]
    );
    let refused = response(&service, ask("/orders", "joes-key")).await;
    assert!(matches!(
        refused.extensions().get(),
        Some(Rejection::QuotaExceeded { .. })
    ));
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "0");
    assert_eq!(refused.headers()["retry-after"], "3600");
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "{\n    \"error\": \"Quota exceeded\"\n}");
}

#[tokio::test]
async fn answers_the_same_over_every_store() {
    let memory = || store(&[("joes-key", SESSION)]);
    story(memory().into()).await;
    story(Far::new(memory()).shared()).await;
    let memory = memory();
    story(SharedStore::new(memory.clone(), Far::new(memory))).await;
}

#[tokio::test]
async fn a_token_is_found_where_the_sources_say_and_taken_out() {
    let sources = [
        CookieSource::new("sid").shared(),
        QuerySource::new("key").shared(),
        HeaderSource::bearer().shared(),
    ];
    let store = store(&[
        ("key-a", r#"{"alias": "a"}"#),
        ("key-b", r#"{"alias": "b"}"#),
    ]);
    let gate = Tollgate::builder(store)
        .token_sources(sources)
        .remove_credential()
        .build()
        .unwrap();
    let service = gate
        .layer()
        .layer(service_fn(async |request: Request<Body>| {
            let alias = request
                .extensions()
                .get::<Arc<tollgate::visit::Visit>>()
                .unwrap()
                .session()
                .unwrap();
            let seen = format!("{} {} {:?}", alias.alias, request.uri(), request.headers());
            Ok::<_, std::convert::Infallible>(Response::new(seen))
        }));
    let seen = async |request: http::request::Builder| {
        let response = service
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        String::from_utf8(
            response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        )
        .unwrap()
    };
    assert_eq!(
        seen(Request::get("/?x=1&key=key-a").header("authorization", "Bearer key-b")).await,
        "a /?x=1 {}"
    );
    assert_eq!(
        seen(Request::get("/").header("cookie", "sid=key-b; z=1")).await,
        r#"b / {"cookie": "z=1"}"#
    );
}

#[tokio::test]
async fn headers_of_the_client_do_not_pass_for_the_sessions() {
    let gate = Tollgate::builder(store(&[("joes-key", SESSION)]))
        .inject("x-user", "$tyk_meta.user")
        .unwrap()
        .inject("x-path", "$tyk_context.path $tyk_context.headers_X_Evil")
        .unwrap()
        .build()
        .unwrap();
    let service = gate
        .layer()
        .layer(service_fn(async |request: Request<Body>| {
            Ok::<_, std::convert::Infallible>(Response::new(format!("{:?}", request.headers())))
        }));
    let request = Request::get("/a")
        .header("authorization", "joes-key")
        .header("x_user", "root") // Attack 34.
        .header("x-user", "root")
        .header("connection", "x-user, close") // Attack 35.
        .header("x-evil", "$tyk_meta.user"); // Attack 41.
    let response = service
        .oneshot(request.body(Body::empty()).unwrap())
        .await
        .unwrap();
    let seen = response.into_body().collect().await.unwrap().to_bytes();
    let seen = String::from_utf8(seen.to_vec()).unwrap();
    assert!(seen.contains(r#""x-user": "joe""#), "{seen}");
    assert!(seen.contains(r#""x-path": "/a $tyk_meta.user""#), "{seen}");
    assert!(!seen.contains("root"), "{seen}");
    assert!(seen.contains(r#""connection": "close""#), "{seen}");
}

#[tokio::test]
async fn a_stack_in_another_fills_its_own_headers() {
    let store = store(&[("joes-key", r#"{"meta_data": {"a": "of a", "b": "of b"}}"#)]);
    let stack = |header: &str, text: &str| {
        let builder = Tollgate::builder(store.clone());
        builder.inject(header, text).unwrap()
    };
    let inner = stack("x-b", "$tyk_meta.b").token_sources([]).build();
    let outer = stack("x-a", "$tyk_meta.a").build();
    let service = service_fn(async |request: Request<Body>| {
        assert_eq!(request.headers()["x-a"], "of a");
        assert_eq!(request.headers()["x-b"], "of b");
        Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
    });
    let service = outer
        .unwrap()
        .layer()
        .layer(inner.unwrap().layer().layer(service));
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
}

#[tokio::test]
async fn what_an_observed_quota_did_not_take_is_not_given_back() {
    let session = r#"{"quota_max": 1, "quota_renewal_rate": 60}"#;
    let stack = Tollgate::builder(store(&[("joes-key", session)])).quota();
    let stack = stack.charge_quota(ChargeWhen::Success).observe_limits();
    let stack = stack.build().unwrap();
    let fails = service_fn(async |_: Request<Body>| {
        let response = Response::builder().status(500).body(Body::empty());
        Ok::<_, std::convert::Infallible>(response.unwrap())
    });
    let (fails, serves) = (stack.layer().layer(fails), stack.layer().layer(ok()));
    assert_eq!(status(&serves, ask("/", "joes-key")).await, 200);
    assert_eq!(status(&fails, ask("/", "joes-key")).await, 500);
    let (head, _) = ask("/", "joes-key").into_parts();
    let explanation = stack.explain(&head).await.to_string();
    assert!(explanation.contains("0 of 1 in 60 s left"), "{explanation}");
}

#[tokio::test]
async fn a_value_that_would_split_a_header_is_refused_or_cleaned() {
    let session = r#"{"meta_data": {"bad": "a\r\nx-admin: 1"}}"#;
    let build = |clean: bool| {
        let builder = Tollgate::builder(store(&[("joes-key", session)]));
        let builder = if clean {
            builder.clean_values() // Before the header or after it is the same.
        } else {
            builder
        };
        builder
            .inject("x-user", "$tyk_meta.bad")
            .unwrap()
            .build()
            .unwrap()
            .layer()
            .layer(service_fn(async |request: Request<Body>| {
                assert_eq!(request.headers()["x-user"], "a  x-admin: 1");
                Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
            }))
    };
    assert_eq!(status(&build(false), ask("/", "joes-key")).await, 500);
    assert_eq!(status(&build(true), ask("/", "joes-key")).await, 200);
}

#[tokio::test]
async fn limits_are_told_in_both_kinds_of_headers_also_on_refusals() {
    let gate = Tollgate::builder(store(&[("joes-key", SESSION)]))
        .rate_limit()
        .quota()
        .headers(LimitHeaders::rate().with_ietf())
        .clock(ManualClock::at(1_700_000_000))
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    let headers = async || {
        let response = response(&service, ask("/", "joes-key")).await;
        let text = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let x = ["limit", "remaining", "reset"].map(|name| text(&format!("x-ratelimit-{name}")));
        (x.join(" "), text("ratelimit-policy"), text("ratelimit"))
    };
    let policy = r#""key";q=3;w=60, "quota";q=2;w=3600"#.to_owned();
    let now = "1700000000";
    let first = headers().await;
    assert_eq!(
        first,
        (
            format!("3 2 {now}"),
            policy.clone(),
            r#""key";r=2;t=60, "quota";r=1;t=3600"#.into()
        )
    );
    headers().await;
    let refused = headers().await;
    assert_eq!(
        refused,
        (
            format!("3 1 {now}"),
            policy,
            r#""key";r=1;t=60, "quota";r=0;t=3600"#.into()
        )
    );
}

#[tokio::test]
async fn rights_look_at_the_path_before_a_nested_router_cut_it() {
    let session = r#"{"access_rights": {"orders": {"allowed_urls": [{"url": "^/shop/a$", "methods": ["GET"]}]}}}"#;
    let gate = Tollgate::builder(store(&[("joes-key", session)]))
        .api("orders")
        .build()
        .unwrap();
    let inner = Router::new()
        .route("/a", get(|| async { "a" }))
        .route("/shop/a", get(|| async { "deep" }))
        .layer(gate.layer());
    let app = Router::new().nest("/shop", inner);
    assert_eq!(status(&app, ask("/shop/a", "joes-key")).await, 200);
    // Its own part of the path is the one that is allowed, the whole path is not.
    assert_eq!(status(&app, ask("/shop/shop/a", "joes-key")).await, 403);
}

#[tokio::test]
async fn policies_make_the_session_and_can_be_replaced_under_load() {
    let policies = |json: &str| PolicySet::from_record_file(json.as_bytes()).unwrap().0;
    let gold =
        r#"{"gold": {"rate": RATE, "per": 60, "quota_max": -1, "access_rights": {"orders": {}}}}"#;
    let gate = Tollgate::builder(store(&[("joes-key", r#"{"apply_policies": ["gold"]}"#)]))
        .policies(policies(&gold.replace("RATE", "2")))
        .api("orders")
        .rate_limit()
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    let three = || [(); 3].map(|()| ask("/", "joes-key"));
    assert_eq!(statuses(&service, three()).await, [200, 200, 429]);
    // A higher limit holds at once, and what was used stays used.
    gate.replace_policies(policies(&gold.replace("RATE", "4")));
    assert_eq!(statuses(&service, three()).await, [200, 200, 429]);
    // Attack 20: a policy that is gone refuses, it does not free.
    gate.replace_policies(PolicySet::default());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 403);
}

#[tokio::test]
async fn a_stack_built_anew_keeps_the_counts() {
    let store = store(&[("joes-key", r#"{"rate": 3, "per": 60}"#)]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let gate = Tollgate::builder(store.clone())
            .rate_limit()
            .build()
            .unwrap();
        seen.push(
            status(&gate.layer().layer(ok()), ask("/", "joes-key"))
                .await
                .as_u16(),
        );
    }
    assert_eq!(seen, [200, 200, 200, 429]);
}

#[tokio::test]
async fn a_rate_layer_alone_finds_endpoints_below_a_listen_path() {
    let session = r#"{"rate": 9, "per": 60, "access_rights": {"a": {
        "endpoints": [{"path": "^/much", "methods": [{"name": "GET", "limit": {"rate": 1, "per": 60}}]}]}}}"#;
    let store = store(&[("joes-key", session)]);
    let limits = RateLimitLayer::per_session(store.clone()).with_listen_path("/app/");
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(store))
        .layer(AccessRightsLayer::new("a").with_listen_path("/app/"))
        .layer(limits)
        .service(ok());
    let paths = ["/app/much", "/app/much", "/app/other"];
    assert_eq!(
        statuses(&service, paths.map(|path| ask(path, "joes-key"))).await,
        [200, 429, 200]
    );
}

#[tokio::test]
async fn each_api_and_endpoint_has_the_limit_that_its_entry_says() {
    let session = r#"{"rate": 1, "per": 60, "access_rights": {
        "a": {"limit": {"rate": 2, "per": 60}, "allowance_scope": "a",
              "endpoints": [{"path": "^/much", "methods": [{"name": "GET", "limit": {"rate": 3, "per": 60}}]}]},
        "b": {}}}"#;
    let gate = Tollgate::builder(store(&[("joes-key", session)]))
        .api_by(|head| head.headers.get("x-api")?.to_str().ok().map(Into::into))
        .rate_limit()
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    let ask = |api: &str, path: &str| {
        let mut request = ask(path, "joes-key");
        request.headers_mut().insert("x-api", api.parse().unwrap());
        request
    };
    assert_eq!(
        statuses(&service, [(); 3].map(|()| ask("a", "/"))).await,
        [200, 200, 429]
    );
    assert_eq!(
        statuses(&service, [(); 4].map(|()| ask("a", "/much"))).await,
        [200, 200, 200, 429]
    );
    assert_eq!(
        statuses(&service, [(); 2].map(|()| ask("b", "/"))).await,
        [200, 429]
    );
    assert_eq!(status(&service, ask("c", "/")).await, 403);
    let no_api = response(&service, crate::support::ask("/", "joes-key")).await;
    assert_eq!(no_api.extensions().get(), Some(&Rejection::ApiNotGranted));
}

#[tokio::test]
async fn keys_that_share_a_pattern_share_their_counters() {
    let session = |dev: &str| {
        format!(
            r#"{{"rate": 3, "per": 60, "meta_data": {{"rate_limit_pattern": "$tyk_meta.dev", "dev": "{dev}"}}}}"#
        )
    };
    let (one, two, three) = (session("d"), session("d"), session("e"));
    let store = store(&[("key-1", &one), ("key-2", &two), ("key-3", &three)]);
    let service = Tollgate::builder(store)
        .rate_limit()
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    let keys = ["key-1", "key-1", "key-2", "key-2", "key-1", "key-3"];
    assert_eq!(
        statuses(&service, keys.map(|key| ask("/", key))).await,
        [200, 200, 200, 429, 429, 200]
    );
}

#[tokio::test]
async fn a_pattern_may_speak_of_the_request() {
    let session = r#"{"rate": 1, "per": 60, "meta_data": {"rate_limit_pattern": "$tyk_context.headers_X_Device"}}"#;
    let service = Tollgate::builder(store(&[("joes-key", session)]))
        .rate_limit()
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    let ask = |device: &str| {
        let mut request = ask("/", "joes-key");
        request
            .headers_mut()
            .insert("x-device", device.parse().unwrap());
        request
    };
    assert_eq!(
        statuses(&service, ["a", "b", "a", "b"].map(ask)).await,
        [200, 200, 429, 429]
    );
}

#[tokio::test]
async fn an_organisation_stands_above_its_keys() {
    let key = r#"{"org_id": "acme", "rate": 100, "per": 60}"#;
    let store = store(&[("key-1", key), ("key-2", key)]);
    store
        .insert(
            "orgkey.acme",
            r#"{"quota_max": 3, "quota_renewal_rate": 60}"#.parse().unwrap(),
        )
        .unwrap();
    let gate = Tollgate::builder(store.clone())
        .organisation_limits()
        .rate_limit()
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    let keys = ["key-1", "key-2", "key-1", "key-2"];
    assert_eq!(
        statuses(&service, keys.map(|key| ask("/", key))).await,
        [200, 200, 200, 403]
    );
    let refused = response(&service, ask("/", "key-1")).await;
    assert_eq!(
        refused.extensions().get::<Rejection>().unwrap().code(),
        "organisation_quota_exceeded"
    );
    // Nobody comes in by the organisation's own record.
    assert_eq!(status(&service, ask("/", "orgkey.acme")).await, 403);

    store
        .insert("orgkey.acme", r#"{"is_inactive": true}"#.parse().unwrap())
        .unwrap();
    let refused = response(&service, ask("/", "key-1")).await;
    assert_eq!(
        refused.extensions().get(),
        Some(&Rejection::OrganisationInactive)
    );
}

#[tokio::test]
async fn the_apis_own_rate_is_charged_with_the_keys() {
    let key = r#"{"rate": 100, "per": 60, "quota_max": 10, "quota_renewal_rate": 60}"#;
    let gate = Tollgate::builder(store(&[("key-1", key), ("key-2", key)]))
        .rate_limit()
        .quota()
        .api_rate(Rate::per(2, Duration::from_secs(60)))
        .limit(OwnLimit::global(
            "own",
            tollgate::rejection::LimitOwner::Own,
            Quota::per(50, Period::Never).into(),
        ))
        .build()
        .unwrap();
    let service = gate.layer().layer(ok());
    assert_eq!(
        statuses(
            &service,
            ["key-1", "key-2", "key-1"].map(|key| ask("/", key))
        )
        .await,
        [200, 200, 429]
    );
    let refused = response(&service, ask("/", "key-1")).await;
    // The refusals have cost the key's quota nothing.
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "9");
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "{\n    \"error\": \"API Rate Limit Exceeded\"\n}");
}

#[tokio::test]
async fn a_throttled_request_waits_for_its_turn_and_is_charged_once() {
    let clock = ManualClock::at(0);
    let session = r#"{"rate": 1, "per": 2, "throttle_interval": 1, "throttle_retry_limit": 3,
        "quota_max": 10, "quota_renewal_rate": 60}"#;
    let gate = Tollgate::builder(store(&[("joes-key", session)]))
        .rate_limit()
        .quota()
        .clock(clock.clone());
    let service = gate.build().unwrap().layer().layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
    let waiting = tokio::spawn({
        let service = service.clone();
        async move { response(&service, ask("/", "joes-key")).await }
    });
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    // A third would wait four seconds, longer than three tries of a second.
    assert_eq!(status(&service, ask("/", "joes-key")).await, 429);
    clock.advance(Duration::from_secs(2));
    let waited = waiting.await.unwrap();
    assert_eq!(
        (
            waited.status().as_u16(),
            &waited.headers()["x-ratelimit-remaining"]
        ),
        (200, &"8".parse().unwrap())
    );
}

#[tokio::test]
async fn a_quota_is_charged_by_what_the_response_says() {
    let session = r#"{"quota_max": 2, "quota_renewal_rate": 60}"#;
    let build = |when: ChargeWhen| {
        let gate = Tollgate::builder(store(&[("joes-key", session)]))
            .quota()
            .charge_quota(when)
            .build()
            .unwrap();
        gate.layer()
            .layer(service_fn(async |request: Request<Body>| {
                let status: u16 = request.uri().path()[1..].parse().unwrap();
                Ok::<_, std::convert::Infallible>(
                    Response::builder()
                        .status(status)
                        .header("x-cost", "0")
                        .body(Body::empty())
                        .unwrap(),
                )
            }))
    };
    let paths = ["/500", "/404", "/200", "/200", "/200"];
    let requests = || paths.map(|path| ask(path, "joes-key"));
    assert_eq!(
        statuses(&build(ChargeWhen::Request), requests()).await,
        [500, 404, 403, 403, 403]
    );
    assert_eq!(
        statuses(&build(ChargeWhen::Success), requests()).await,
        [500, 404, 200, 200, 403]
    );
    let by_header = ChargeWhen::Response(Arc::new(|response| {
        u64::from(response.headers["x-cost"] != "0")
    }));
    assert_eq!(
        statuses(&build(by_header), requests()).await,
        [500, 404, 200, 200, 200]
    );
}

#[tokio::test]
async fn grpc_tells_at_its_end_whether_it_is_charged() {
    let session = r#"{"quota_max": 2, "quota_renewal_rate": 60}"#;
    let builder = Tollgate::builder(store(&[("joes-key", session)]))
        .quota()
        .charge_quota(ChargeWhen::Success);
    let service =
        builder
            .build()
            .unwrap()
            .layer()
            .layer(service_fn(async |request: Request<Body>| {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", request.uri().path()[1..].parse().unwrap());
                let frames = [
                    Ok::<_, std::convert::Infallible>(http_body::Frame::data(
                        bytes::Bytes::from_static(b"x"),
                    )),
                    Ok(http_body::Frame::trailers(trailers)),
                ];
                let body = StreamBody::new(futures_util::stream::iter(frames));
                Ok::<_, std::convert::Infallible>(
                    Response::builder()
                        .header("content-type", "application/grpc")
                        .body(body)
                        .unwrap(),
                )
            }));
    let call = async |outcome: &str| {
        let response = response(&service, ask(outcome, "joes-key")).await;
        let status = response.status();
        drop(response.into_body().collect().await.unwrap());
        status.as_u16()
    };
    let outcomes = ["/13", "/5", "/0", "/13", "/0", "/0"];
    let mut seen = Vec::new();
    for outcome in outcomes {
        seen.push(call(outcome).await);
    }
    assert_eq!(seen, [200, 200, 200, 200, 200, 403]);
}

#[tokio::test]
async fn refusals_take_the_form_that_was_asked_for() {
    let builder = Tollgate::builder(MemoryStore::new()).refusals(Refusals::problem());
    let service = builder.build().unwrap().layer().layer(ok());
    let refused = response(&service, Request::new(Body::empty())).await;
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(
        refused.headers()["www-authenticate"],
        "Bearer realm=\"tollgate\""
    );
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "credential_missing");
}

#[tokio::test]
async fn an_explanation_names_every_gate_and_charges_nothing() {
    let policies =
        r#"{"gold": {"rate": 5, "per": 60, "quota_max": -1, "access_rights": {"orders": {}}}}"#;
    let gate = Tollgate::builder(store(&[(
        "joes-key",
        r#"{"alias": "joe", "apply_policies": ["gold"]}"#,
    )]))
    .policies(PolicySet::from_record_file(policies.as_bytes()).unwrap().0)
    .api("orders")
    .rate_limit()
    .build()
    .unwrap();
    let head = |token: &str| ask("/", token).into_parts().0;
    for _ in 0..10 {
        let explanation = gate.explain(&head("joes-key")).await;
        assert!(explanation.passes(), "{explanation}");
        let limits = &explanation.of("limits").unwrap().facts[0];
        assert_eq!(
            (&*limits.value, &*limits.source),
            ("5 of 5 in 60 s left", "policy gold")
        );
    }
    let refused = gate.explain(&head("nobody")).await;
    assert!(!refused.passes());
    assert!(
        refused
            .to_string()
            .contains("session: refused, 403 key_unknown"),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("limits: not asked"),
        "{refused}"
    );
}

#[tokio::test]
async fn admits_without_a_service() {
    let session = r#"{"quota_max": 2, "quota_renewal_rate": 60}"#;
    let builder = Tollgate::builder(store(&[("joes-key", session)]))
        .quota()
        .charge_quota(ChargeWhen::Success);
    let gate = builder.build().unwrap();
    let admit = async || gate.admit(ask("/", "joes-key").into_parts().0).await;
    admit().await.unwrap().cancel();
    admit()
        .await
        .unwrap()
        .answered(StatusCode::BAD_GATEWAY, &mut HeaderMap::new());
    admit()
        .await
        .unwrap()
        .answered(StatusCode::OK, &mut HeaderMap::new());
    drop(admit().await.unwrap()); // Without a word it stays charged.
    let refused = admit().await.unwrap_err();
    assert_eq!(refused.response().status(), 403);
}

#[tokio::test]
async fn numbers_that_are_no_limits_let_nobody_in() {
    for session in [r#"{"rate": 5, "per": 0}"#, r#"{"rate": 5, "per": -1}"#] {
        let gate = Tollgate::builder(store(&[("joes-key", session)]))
            .rate_limit()
            .build()
            .unwrap();
        assert_eq!(
            status(&gate.layer().layer(ok()), ask("/", "joes-key")).await,
            403,
            "{session}"
        );
    }
    let rules = Rules {
        master_keys: tollgate::access::MasterKeys::Allowed,
        ..Rules::default()
    };
    let gate =
        Tollgate::builder(store(&[("joes-key", r#"{"rate": 1e308, "per": 1}"#)])).rules(rules);
    let service = gate
        .api("any")
        .rate_limit()
        .build()
        .unwrap()
        .layer()
        .layer(ok());
    assert_eq!(status(&service, ask("/", "joes-key")).await, 200);
}
