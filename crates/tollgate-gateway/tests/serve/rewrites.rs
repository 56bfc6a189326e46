//! Requests that rewrites send elsewhere: no way round keys, rights and lists, and nothing of a client's is
//! expanded.

use serde_json::{Value, json};

use crate::{Answer, Gateway, api, upstream};

/// An API below its own id, with these entries of `extended_paths` besides its own.
fn with_paths(id: &str, target: &str, paths: Value) -> Value {
    let mut api = api(id, &format!("/{id}/"), target);
    let own = &mut api["version_data"]["versions"]["Default"]["extended_paths"];
    for (list, entries) in paths.as_object().expect("lists") {
        let all = own[list].as_array().cloned().unwrap_or_default();
        let more = entries.as_array().expect("entries");
        own[list] = all.iter().chain(more).cloned().collect();
    }
    api
}

fn rewrite(path: &str, pattern: &str, target: &str) -> Value {
    json!({"path": path, "method": "GET", "match_pattern": pattern, "rewrite_to": target})
}

/// Two APIs that send requests to themselves and to each other.
fn start(name: &str) -> Gateway {
    let target = format!("http://127.0.0.1:{}/base", upstream());
    let secrets = json!({"secrets": {"tok": "sssecret"}});
    let one = with_paths(
        "one",
        &target,
        json!({
        "internal": [{"path": "^/inner", "method": "GET"}],
        "url_rewrites": [
            rewrite("/again/(.*)", "/again/(.*)", "tyk://self/$1"),
            rewrite("/checked/(.*)", "/checked/(.*)", "tyk://self/$1?check_limits=true"),
            rewrite("/health", "/health", "tyk://self/orders"),
            rewrite("/over/(.*)", "/over/(.*)", "tyk://two/$1"),
            rewrite("/twice/(.*)", "/twice/(.*)", "tyk://self/over/$1"),
            rewrite("/round", "/round", "tyk://self/round?loop_limit=2"),
                rewrite("/deep", "/deep", "tyk://self/deep?loop_limit=100"),
            rewrite("/down", "/down/(x*)x", "tyk://self/down/$1?loop_limit=100"),
            rewrite("/echo", "/echo\\?u=(.*)", "$1"),
            rewrite("/files", "/files\\?p=(.*)", "/files/$1"),
            rewrite("/say", "/say/(.*)", "/said/$1?plan=$tyk_meta.plan&k=$secret_conf.tok"),
        ]}),
    );
    let two = with_paths(
        "two",
        &target,
        json!({
            "internal": [{"path": "^/inner", "method": "GET"}],
            "url_rewrites": [rewrite("/back/(.*)", "/back/(.*)", "tyk://one/$1")],
        }),
    );
    let mut two = two;
    two["auth"] = json!({"auth_header_name": "X-Two"});
    Gateway::with(name, &secrets, &[one, two])
}

/// A key for an API that opens these paths alone.
fn key(gateway: &Gateway, api: &str, paths: &[&str], quota: i64) -> String {
    let allowed: Vec<_> = paths
        .iter()
        .map(|path| json!({"url": path, "methods": ["GET"]}))
        .collect();
    gateway.make_key_of(&json!({
        "org_id": "org1", "rate": 1000, "per": 1, "quota_max": quota, "quota_renewal_rate": 3600,
        "meta_data": {"plan": "gold", "secret": "s3"},
        "access_rights": {api: {"api_id": api, "versions": ["Default"], "allowed_urls": allowed}}}))
}

fn ask(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    gateway
        .try_ask("GET", path, headers, "")
        .expect("an answer")
}

#[track_caller]
fn check(answer: &Answer, status: u16, start: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(answer.body.contains(start), "{}", answer.body);
}

#[test]
fn attack_32_a_way_back_keeps_the_session_and_asks_its_rights() {
    let gateway = start("way-back");
    let some = key(&gateway, "one", &["/again/", "/orders"], -1);
    let auth = [("authorization", some.as_str())];
    let disallowed = "Access to this resource has been disallowed";
    check(
        &ask(&gateway, "/one/orders", &auth),
        200,
        "GET /base/orders",
    );
    check(
        &ask(&gateway, "/one/again/orders", &auth),
        200,
        "GET /base/orders HTTP/1.1",
    );
    check(&ask(&gateway, "/one/again/users", &auth), 403, disallowed);
    check(&ask(&gateway, "/one/users", &auth), 403, disallowed);
    check(&ask(&gateway, "/one/again/closed", &auth), 403, "forbidden");
    check(
        &ask(&gateway, "/one/again/tea", &auth),
        418,
        "short and stout",
    );
    // A path that is open to all leads to no other.
    check(
        &ask(&gateway, "/one/health", &[]),
        401,
        "Authorization field missing",
    );
    check(
        &ask(&gateway, "/one/health", &auth),
        200,
        "GET /base/orders HTTP/1.1",
    );
    let none = key(&gateway, "two", &[], -1);
    check(
        &ask(&gateway, "/one/health", &[("authorization", &none)]),
        403,
        "Access to this API has been disallowed",
    );
}

#[test]
fn attack_32_internal_paths_are_open_to_rewrites_alone() {
    let gateway = start("internal-paths");
    let all = key(&gateway, "one", &[], -1);
    let auth = [("authorization", all.as_str())];
    check(&ask(&gateway, "/one/inner", &auth), 403, "forbidden");
    check(
        &ask(&gateway, "/one/again/inner", &auth),
        200,
        "GET /base/inner",
    );
    check(
        &ask(&gateway, "/one/again/inner", &[]),
        401,
        "Authorization field missing",
    );
}

#[test]
fn attack_32_another_api_knows_nobody_by_the_session_of_the_first() {
    let gateway = start("another-api");
    let of_one = key(&gateway, "one", &[], -1);
    let of_two = key(&gateway, "two", &[], -1);
    let first = ("authorization", of_one.as_str());
    let disallowed = "Access to this API has been disallowed";
    for path in ["/one/over/x", "/one/twice/x"] {
        check(
            &ask(&gateway, path, &[first]),
            401,
            "Authorization field missing",
        );
        check(
            &ask(&gateway, path, &[first, ("x-two", &of_one)]),
            403,
            disallowed,
        );
        check(
            &ask(&gateway, path, &[first, ("x-two", "nobody")]),
            403,
            disallowed,
        );
        check(
            &ask(&gateway, path, &[first, ("x-two", &of_two)]),
            200,
            "GET /base/x",
        );
        check(
            &ask(&gateway, path, &[("x-two", &of_two)]),
            401,
            "Authorization field missing",
        );
    }
    // There and back: the first API looks for its key again, too.
    let both = [first, ("x-two", of_two.as_str())];
    check(
        &ask(&gateway, "/one/over/back/x", &both),
        200,
        "GET /base/x",
    );
    check(
        &ask(&gateway, "/two/back/x", &[both[1]]),
        401,
        "Authorization field missing",
    );
}

#[test]
fn a_way_back_is_charged_where_it_says_so() {
    let gateway = start("charged");
    for (path, last) in [("/one/again/x", 403), ("/one/checked/x", 403)] {
        let key = key(&gateway, "one", &[], 2);
        let auth = [("authorization", key.as_str())];
        check(&ask(&gateway, path, &auth), 200, "GET /base/x");
        let second = ask(&gateway, path, &auth).status;
        assert_eq!(
            second,
            if path.contains("checked") { 403 } else { 200 },
            "{path}"
        );
        assert_eq!(ask(&gateway, path, &auth).status, last);
    }
}

#[test]
fn rounds_end_where_the_definition_says() {
    let gateway = start("rounds");
    let all = key(&gateway, "one", &[], -1);
    let auth = [("authorization", all.as_str())];
    let message = "Loop level too deep. Found more than 2 loops in single request";
    check(
        &ask(&gateway, "/one/round?loop_limit=99", &auth),
        500,
        message,
    );
    let message = "Found more than 100 loops in single request";
    check(&ask(&gateway, "/one/deep", &auth), 500, message);
    // As many steps as may be are gone on no more stack than a thread has, also by the answer.
    let down = format!("/one/down/{}", "x".repeat(100));
    check(
        &ask(&gateway, &down, &auth),
        200,
        "GET /base/down/ HTTP/1.1",
    );
}

#[test]
fn attack_41_a_rewrite_expands_nothing_that_a_client_sends() {
    let gateway = start("expands");
    let all = key(&gateway, "one", &[], -1);
    let auth = [("authorization", all.as_str())];
    for (sent, expected) in [
        (
            "$tyk_meta.secret",
            "/base/said/$tyk_meta.secret?plan=gold&k=sssecret",
        ),
        ("$secret_conf.tok", "/base/said/$secret_conf.tok?plan"),
        ("%24tyk_meta.secret", "/base/said/%24tyk_meta.secret?plan"),
        ("$1$0", "/base/said/$1$0?plan"),
    ] {
        let answer = ask(&gateway, &format!("/one/say/{sent}"), &auth);
        check(&answer, 200, expected);
        assert!(!answer.body.contains("s3"), "{}", answer.body);
    }
}

#[test]
fn a_client_chooses_neither_host_nor_folder() {
    let gateway = start("chooses");
    let all = key(&gateway, "one", &[], -1);
    let auth = [("authorization", all.as_str())];
    let evil = upstream();
    let answer = ask(
        &gateway,
        &format!("/one/echo?u=http://127.0.0.1:{evil}/ssrf"),
        &auth,
    );
    let host = format!("host: 127.0.0.1:{evil}");
    assert!(
        !answer.body.to_lowercase().contains(&host),
        "{}",
        answer.body
    );
    for path in [
        "../admin",
        "..%2fadmin",
        "%2e%2e/admin",
        "a%5c..%5cb",
        "%zz",
    ] {
        let answer = ask(&gateway, &format!("/one/files?p={path}"), &auth);
        check(&answer, 400, "ambiguous");
    }
    check(
        &ask(&gateway, "/one/files?p=a/b%20c", &auth),
        200,
        "GET /base/files/a/b%20c HTTP/1.1",
    );
}

#[test]
fn a_definition_that_can_not_be_followed_is_refused_and_named() {
    let target = format!("http://127.0.0.1:{}", upstream());
    let wrong = |id: &str, pattern: &str, to: &str| {
        with_paths(
            id,
            &target,
            json!({"url_rewrites": [rewrite("/", pattern, to)]}),
        )
    };
    let apis = [
        wrong("pattern", "(", "/x"),
        wrong("scheme", "/x", "a:b/c"),
        wrong("host", "/x(.*)", "http://$1/"),
        wrong("name", "/x", "tyk://$tyk_meta.api/x"),
        wrong("right", "/x", "/y"),
    ];
    let gateway = Gateway::with("refused-rewrites", &json!({}), &apis);
    for id in ["pattern", "scheme", "host", "name"] {
        assert_eq!(ask(&gateway, &format!("/{id}/x"), &[]).status, 503, "{id}");
    }
    assert_eq!(ask(&gateway, "/right/x", &[]).status, 401);
}

#[test]
fn headers_of_answers_tell_what_a_trigger_found() {
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut entry = rewrite("/", "/x", "/base");
    entry["triggers"] = json!([{"on": "any", "rewrite_to": "/tier",
        "options": {"header_matches": {"x-tier": {"match_rx": "gold-(.*)"}}}}]);
    let mut told = with_paths("told", &target, json!({"url_rewrites": [entry]}));
    told["use_keyless"] = json!(true);
    let version = &mut told["version_data"]["versions"]["Default"];
    version["global_headers"] = json!({
        "X-In": "[$tyk_context.trigger-0-X-Tier-0-0]", "X-Id": "<$tyk_context.request_id>"});
    version["global_response_headers"] =
        json!({"X-Out": "$tyk_context.path:$tyk_context.trigger-0-X-Tier-0-0"});
    let gateway = Gateway::with("told", &json!({}), &[told]);
    let answer = ask(&gateway, "/told/x", &[("x-tier", "gold-plus")]);
    check(&answer, 200, "GET /tier HTTP/1.1");
    assert!(
        answer.body.to_lowercase().contains("x-in: []"),
        "{}",
        answer.body
    );
    assert!(
        answer
            .head
            .to_lowercase()
            .contains("x-out: /told/x:plus\r\n"),
        "{}",
        answer.head
    );
    assert!(!answer.body.contains("<>"), "{}", answer.body);
    let answer = ask(&gateway, "/told/x", &[]);
    check(&answer, 200, "GET /base HTTP/1.1");
    assert!(
        answer.head.to_lowercase().contains("x-out: /told/x:\r\n"),
        "{}",
        answer.head
    );
}
