//! Requests that go on from one API to another: versions that are APIs, and `tyk://` targets.

use serde_json::{Value, json};

use crate::{Answer, Gateway, api, upstream};

/// An API below its own id.
fn plain(id: &str, target: &str) -> Value {
    api(id, &format!("/{id}/"), target)
}

/// A base API with the versions of `source`, which are APIs, and these APIs besides.
fn start(name: &str, source: Value, mut change: impl FnMut(&mut Vec<Value>)) -> Gateway {
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut base = plain("base", &target);
    base["definition"] = source;
    let mut child = plain("child", &target);
    child["version_data"]["versions"]["Default"]["global_headers"] = json!({"X-Child": "yes"});
    let mut hidden = plain("hidden", &target);
    hidden["internal"] = json!(true);
    let mut apis = vec![base, child, hidden];
    change(&mut apis);
    Gateway::with(name, &json!({}), &apis)
}

fn ask(gateway: &Gateway, path: &str, key: &str, version: &str) -> Answer {
    let headers = [("authorization", key), ("x-ver", version)];
    let given: Vec<_> = headers
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    gateway.try_ask("GET", path, &given, "").expect("an answer")
}

/// Status, and the first line that the upstream got or else the body.
#[track_caller]
fn check(answer: &Answer, status: u16, start: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(answer.body.contains(start), "{}", answer.body);
}

fn source(location: &str) -> Value {
    json!({
        "enabled": true, "name": "one", "default": "self", "location": location, "key": "X-Ver",
        "versions": {"two": "child", "three": "hidden", "gone": "nowhere"}})
}

#[test]
fn attack_32_a_version_that_is_an_api_asks_for_its_own_rights() {
    let gateway = start("children", source("header"), |_| {});
    let of_base = gateway.make_key_for(&["base"]);
    let of_child = gateway.make_key_for(&["child", "hidden"]);
    check(
        &ask(&gateway, "/base/x", &of_base, ""),
        200,
        "GET /x HTTP/1.1",
    );
    check(&ask(&gateway, "/base/x", &of_base, "one"), 200, "GET /x");
    let through = ask(&gateway, "/base/x?q=1", &of_child, "two");
    check(&through, 200, "GET /x?q=1 HTTP/1.1");
    assert!(
        through.body.to_lowercase().contains("x-child: yes"),
        "{}",
        through.body
    );
    assert!(
        through.body.to_lowercase().contains("x-ver: two"),
        "{}",
        through.body
    );

    let disallowed = "Access to this API has been disallowed";
    check(&ask(&gateway, "/base/x", &of_base, "two"), 403, disallowed);
    check(&ask(&gateway, "/base/x", &of_child, ""), 403, disallowed);
    check(
        &ask(&gateway, "/base/x", "", "two"),
        401,
        "Authorization field missing",
    );
    check(
        &ask(&gateway, "/base/x", "nobody", "three"),
        403,
        disallowed,
    );
    // What the child closes is closed by this way too, and what it answers is answered.
    check(
        &ask(&gateway, "/base/tea", "", "three"),
        418,
        "short and stout",
    );
    check(
        &ask(&gateway, "/base/closed", &of_child, "three"),
        403,
        "forbidden",
    );
    // The internal one is reached by this way alone.
    check(&ask(&gateway, "/base/x", &of_child, "three"), 200, "GET /x");
    check(&ask(&gateway, "/hidden/x", &of_child, ""), 404, "Not Found");
    let unknown = "This API version does not seem to exist";
    check(&ask(&gateway, "/base/x", &of_base, "four"), 404, unknown);
    check(&ask(&gateway, "/base/x", "", "gone"), 404, unknown);
}

#[test]
fn the_name_of_a_version_is_taken_out_wherever_it_stands() {
    for (location, target) in [
        ("url", "/base/two/a/b?q=1"),
        ("url-param", "/base/a/b?X-Ver=two&q=1"),
    ] {
        let mut source = source(location);
        source["strip_versioning_data"] = json!(true);
        let gateway = start(&format!("strip-{location}"), source, |_| {});
        let key = gateway.make_key_for(&["child"]);
        check(
            &ask(&gateway, target, &key, ""),
            200,
            "GET /a/b?q=1 HTTP/1.1",
        );
    }
}

#[test]
fn the_default_stands_in_only_where_it_may_and_with_its_own_rights() {
    let mut to_child = source("header");
    to_child["default"] = json!("two");
    to_child["fallback_to_default"] = json!(true);
    let gateway = start("fallback", to_child.clone(), |_| {});
    let (of_base, of_child) = (
        gateway.make_key_for(&["base"]),
        gateway.make_key_for(&["child"]),
    );
    for version in ["", "two", "nope", "gone"] {
        check(&ask(&gateway, "/base/x", &of_child, version), 200, "GET /x");
        check(
            &ask(&gateway, "/base/x", &of_base, version),
            403,
            "disallowed",
        );
    }
    check(&ask(&gateway, "/base/x", &of_base, "one"), 200, "GET /x");
    drop(gateway);
    to_child["default"] = json!("gone");
    let gateway = start("fallback-gone", to_child, |_| {});
    check(
        &ask(&gateway, "/base/x", "", "nope"),
        500,
        "Internal Server Error",
    );
}

#[test]
fn versions_that_lead_to_each_other_come_to_an_end() {
    let gateway = start("round", source("header"), |apis| {
        apis[1]["definition"] = json!({
            "enabled": true, "name": "x", "location": "header", "key": "X-Ver",
            "versions": {"two": "base"}});
    });
    let key = gateway.make_key_for(&["base", "child"]);
    check(
        &ask(&gateway, "/base/x", &key, "two"),
        500,
        "Loop level too deep",
    );
}

#[test]
fn a_base_that_has_ended_still_leads_to_its_versions() {
    let gateway = start("ended-base", source("header"), |apis| {
        apis[0]["expiration"] = json!("2006-01-02 15:04");
    });
    let key = gateway.make_key_for(&["base", "child"]);
    check(&ask(&gateway, "/base/x", &key, "two"), 200, "GET /x");
    check(
        &ask(&gateway, "/base/x", &key, "one"),
        403,
        "API has expired",
    );
}

#[test]
fn what_a_child_would_say_is_explained() {
    let gateway = start("explain-child", source("header"), |_| {});
    let key = gateway.make_key_for(&["base"]);
    let question = |version: &str| json!({"token": key, "method": "GET", "path": "/base/x", "headers": {"x-ver": version}});
    let explain = |version: &str| {
        let question = question(version).to_string();
        gateway.admin("POST", "/tollgate/explain", &question)
    };
    let (own, childs) = (explain("one"), explain("two"));
    assert_eq!((own.status, childs.status), (200, 200), "{}", childs.body);
    assert!(!own.body.contains("refused"), "{}", own.body);
    assert!(childs.body.contains("refused"), "{}", childs.body);
}

/// APIs `first` and `second`, the first of which leads to the second.
fn chained(name: &str, change: impl FnOnce(&mut Value, &mut Value)) -> Gateway {
    let mut first = plain("first", "tyk://second");
    let mut second = plain("second", &format!("http://127.0.0.1:{}", upstream()));
    change(&mut first, &mut second);
    Gateway::with(name, &json!({}), &[first, second])
}

#[test]
fn attack_32_a_target_that_is_an_api_authenticates_again() {
    let gateway = chained("chain", |_, second| {
        second["internal"] = json!(true);
        second["proxy"]["listen_path"] = json!("");
    });
    let of_first = gateway.make_key_for(&["first"]);
    let of_both = gateway.make_key_for(&["first", "second"]);
    check(
        &ask(&gateway, "/first/x?q=1", &of_both, ""),
        200,
        "GET /x?q=1 HTTP/1.1",
    );
    let disallowed = "Access to this API has been disallowed";
    check(&ask(&gateway, "/first/x", &of_first, ""), 403, disallowed);
    check(
        &ask(&gateway, "/first/x", "", ""),
        401,
        "Authorization field missing",
    );
    check(&ask(&gateway, "/second/x", &of_both, ""), 404, "Not Found");
    let post = gateway.try_ask("POST", "/first/x", &[("authorization", &of_both)], "body");
    check(&post.unwrap(), 200, "Content-Length: 4");
}

#[test]
fn attack_32_an_open_api_opens_no_other() {
    let gateway = chained("open-chain", |first, second| {
        first["use_keyless"] = json!(true);
        second["version_data"]["versions"]["Default"]["extended_paths"]["internal"] =
            json!([{"path": "/inside", "method": "GET"}]);
    });
    check(
        &ask(&gateway, "/first/x", "", ""),
        401,
        "Authorization field missing",
    );
    let key = gateway.make_key_for(&["second"]);
    check(&ask(&gateway, "/first/x", &key, ""), 200, "GET /x");
    // The client chooses this path, so it is no other API that asks for it.
    check(&ask(&gateway, "/first/inside", &key, ""), 403, "forbidden");
}

#[test]
fn each_api_asks_for_the_key_where_it_wants_it() {
    let gateway = chained("headers-chain", |_, second| {
        second["auth"] = json!({"auth_header_name": "X-Ver"});
    });
    let (one, two) = (
        gateway.make_key_for(&["first"]),
        gateway.make_key_for(&["second"]),
    );
    check(&ask(&gateway, "/first/x", &one, &two), 200, "GET /x");
    check(
        &ask(&gateway, "/first/x", &one, "nobody"),
        403,
        "disallowed",
    );
    check(
        &ask(&gateway, "/first/x", &one, ""),
        401,
        "Authorization field missing",
    );
    check(&ask(&gateway, "/first/x", &two, &two), 403, "disallowed");
}

#[test]
fn a_request_counts_in_every_api_that_it_passes() {
    let gateway = chained("quota-chain", |_, _| {});
    let rights = json!({"first": {"versions": ["Default"]}, "second": {"versions": ["Default"]}});
    let key = gateway.make_key_of(&json!({
        "org_id": "org1", "quota_max": 3, "quota_renewal_rate": 3600, "access_rights": rights}));
    let passed = ask(&gateway, "/first/x", &key, "");
    check(&passed, 200, "GET /x");
    let told: Vec<_> = passed
        .head
        .lines()
        .filter(|line| line.contains("remaining"))
        .collect();
    assert_eq!(told, ["x-ratelimit-remaining: 1"]);
    check(&ask(&gateway, "/first/x", &key, ""), 403, "Quota exceeded");
}

#[test]
fn a_round_of_targets_comes_to_an_end() {
    let gateway = chained("loop", |first, second| {
        first["use_keyless"] = json!(true);
        second["use_keyless"] = json!(true);
        second["proxy"]["target_url"] = json!("tyk://first/");
    });
    let message = "Loop level too deep. Found more than 5 loops in single request";
    check(&ask(&gateway, "/first/x", "", ""), 500, message);
}

#[test]
fn a_target_that_is_not_served_is_not_found() {
    let gateway = chained("lost", |first, second| {
        first["use_keyless"] = json!(true);
        second["enable_jwt"] = json!(true); // Not built.
    });
    check(
        &ask(&gateway, "/first/x", "", ""),
        500,
        "Couldn't detect target",
    );
    check(&ask(&gateway, "/second/x", "", ""), 503, "");
}

#[test]
fn requests_go_on_while_apis_are_replaced() {
    let gateway = chained("reload-chain", |first, second| {
        first["use_keyless"] = json!(true);
        second["use_keyless"] = json!(true);
    });
    std::thread::scope(|scope| {
        let asking =
            scope.spawn(|| (0..200).all(|_| ask(&gateway, "/first/x", "", "").status == 200));
        while !asking.is_finished() {
            gateway.reload();
        }
        assert!(asking.join().unwrap(), "a request was lost");
    });
}
