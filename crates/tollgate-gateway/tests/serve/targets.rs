//! Where requests go: upstreams of APIs and of versions.

use serde_json::{Value, json};

use crate::{Gateway, api, ports::free_port, upstream};

#[test]
fn a_failed_upstream_has_the_status_that_the_configuration_says() {
    let target = format!("http://127.0.0.1:{}", free_port().unwrap());
    for (settings, status) in [
        (json!({}), 500),
        (json!({"tollgate": {"bad_gateway_status": 502}}), 502),
    ] {
        let mut open = api("open", "/open/", &target);
        open["use_keyless"] = json!(true);
        let gateway = Gateway::with("gone", &settings, &[open]);
        assert_eq!(gateway.ask("/open/x", "").status, status, "{settings}");
    }
}

/// An API with two versions, the second of which has an upstream of its own.
fn versioned(default_target: &str, own_target: &str) -> Value {
    let mut api = api("orders", "/orders/", default_target);
    let first = api["version_data"]["versions"]["Default"].clone();
    let mut second = first.clone();
    second["name"] = json!("v2");
    second["override_target"] = json!(own_target);
    api["definition"] = json!({"location": "header", "key": "X-Ver"});
    api["version_data"] = json!({
        "not_versioned": false, "default_version": "Default",
        "versions": {"Default": first, "v2": second}});
    api
}

#[test]
fn a_version_has_an_upstream_of_its_own() {
    let base = format!("http://127.0.0.1:{}", upstream());
    let two = format!("{base}/two?k=1");
    let mut balanced = versioned("", &two);
    balanced["api_id"] = json!("balanced");
    balanced["proxy"] = json!({
        "listen_path": "/balanced/", "strip_listen_path": true,
        "enable_load_balancing": true, "target_list": [format!("{base}/list")]});
    let mut single = versioned(&base, &two);
    single["api_id"] = json!("single");
    single["proxy"]["listen_path"] = json!("/single/");
    single["version_data"]["not_versioned"] = json!(true);
    let apis = [versioned(&base, &two), balanced, single];
    let gateway = Gateway::with("override", &json!({}), &apis);
    let rights = json!({"versions": ["Default", "v2"]});
    let key = gateway.make_key_of(&json!({"org_id": "org1", "access_rights": {
        "orders": rights, "balanced": rights, "single": rights}}));
    let sent = |path: &str, version: &str| {
        let headers = [("authorization", key.as_str()), ("x-ver", version)];
        let answer = gateway.try_ask("GET", path, &headers, "").unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body.lines().next().unwrap().to_owned()
    };
    assert_eq!(sent("/orders/x?q=2", ""), "GET /x?q=2 HTTP/1.1");
    assert_eq!(sent("/orders/x?q=2", "v2"), "GET /two/x?k=1&q=2 HTTP/1.1");
    // As in Tyk: the list comes first, and what has only one version reads none of this.
    assert_eq!(sent("/balanced/x", "v2"), "GET /list/x HTTP/1.1");
    assert_eq!(sent("/single/x", "v2"), "GET /x HTTP/1.1");
    // What a version closes stays closed on its own upstream.
    let headers = [("authorization", key.as_str()), ("x-ver", "v2")];
    let closed = gateway.try_ask("GET", "/orders/closed", &headers, "");
    assert_eq!(closed.unwrap().status, 403);
}
