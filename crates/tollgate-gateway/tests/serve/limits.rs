//! Rates of the API and of its paths, and what a key's holder is told of its limits.

use serde_json::{Value, json};

use crate::{Gateway, api, upstream};

fn gateway(name: &str, change: impl Fn(&mut Value)) -> Gateway {
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut orders = api("orders", "/orders/", &target);
    change(&mut orders);
    Gateway::with(name, &json!({}), &[orders])
}

#[track_caller]
fn check(gateway: &Gateway, path: &str, key: &str, expected: &[u16]) {
    let found: Vec<_> = expected
        .iter()
        .map(|_| gateway.ask(path, key).status)
        .collect();
    assert_eq!(found, expected, "{path}");
}

#[test]
fn a_path_has_a_rate_in_place_of_the_api_s() {
    let gateway = gateway("path-rates", |orders| {
        orders["global_rate_limit"] = json!({"rate": 2, "per": 60});
        orders["version_data"]["versions"]["Default"]["extended_paths"]["rate_limit"] = json!([
            {"path": "/own", "method": "GET", "rate": 1, "per": 60},
            {"path": "/free", "method": "GET", "rate": -1, "per": 60},
            {"disabled": true, "path": "/off", "method": "GET", "rate": 1, "per": 60}]);
    });
    let key = gateway.make_key_for(&["orders"]);
    check(&gateway, "/orders/own", &key, &[200, 429]);
    check(&gateway, "/orders/free", &key, &[200, 200, 200, 200]);
    check(&gateway, "/orders/off", &key, &[200]);
    check(&gateway, "/orders/x", &key, &[200, 429]);
    let refused = gateway.ask("/orders/own", &key);
    assert!(
        refused.body.contains("API Rate Limit Exceeded"),
        "{}",
        refused.body
    );
}

#[test]
fn a_holder_reads_its_limits_and_spends_nothing() {
    let gateway = gateway("usage", |_| ());
    let rights = json!({"orders": {"api_id": "orders", "versions": ["Default"],
        "allowed_urls": [{"url": "/orders/x", "methods": ["GET"]}],
        "limit": {"rate": 3, "per": 60, "quota_max": 7, "quota_renewal_rate": 600}}});
    let session = json!({"org_id": "org1", "rate": 10, "per": 60, "access_rights": rights});
    let key = gateway.make_key_of(&session);
    check(&gateway, "/orders/x", &key, &[200]);
    for _ in 0..5 {
        let told = gateway.ask("/orders/tyk/rate-limits/", &key);
        assert_eq!(told.status, 200, "{}", told.body);
        let mut told: Value = serde_json::from_str(&told.body).unwrap();
        assert!(told["quota"]["quota_renews"].take().as_u64() > Some(0));
        let expected = json!({
            "quota": {"quota_max": 7, "quota_remaining": 6, "quota_renews": null},
            "rate_limit": {"requests": 3, "per_unit": 60}});
        assert_eq!(told, expected);
    }
    check(&gateway, "/orders/tyk/rate-limits/", "", &[401]);
    check(&gateway, "/orders/tyk/rate-limits/", "nobody", &[403]);
    check(&gateway, "/orders/tyk/rate-limits", &key, &[403]); // No slash: a path like others.
    check(&gateway, "/orders/x", &key, &[200, 200, 429]);
    check(&gateway, "/orders/tyk/rate-limits/", &key, &[200]);
}

#[test]
fn a_quota_that_was_not_used_is_told_as_it_is_stored() {
    let gateway = gateway("unused", |_| ());
    let rights = json!({"orders": {"api_id": "orders", "versions": ["Default"]}});
    let session = json!({"org_id": "org1", "rate": 10, "per": 60, "quota_max": 7,
        "quota_remaining": 3, "quota_renewal_rate": 600, "access_rights": rights});
    let key = gateway.make_key_of(&session);
    let left = || {
        let told = gateway.ask("/orders/tyk/rate-limits/", &key);
        let told: Value = serde_json::from_str(&told.body).unwrap();
        told["quota"]["quota_remaining"].clone()
    };
    assert_eq!(left(), 3);
    check(&gateway, "/orders/x", &key, &[200]);
    assert_eq!(left(), 6);
}

#[test]
fn what_is_left_to_an_organisation_is_not_told_to_its_keys() {
    let target = format!("http://127.0.0.1:{}", upstream());
    let settings = json!({"enforce_org_quotas": true});
    let gateway = Gateway::with("org-told", &settings, &[api("orders", "/orders/", &target)]);
    let organisation = json!({"quota_max": 5, "quota_renewal_rate": 600}).to_string();
    gateway.admin("POST", "/tyk/org/keys/org1", &organisation);
    let rights = json!({"orders": {"api_id": "orders", "versions": ["Default"]}});
    for (quota, told) in [(-1, -1), (0, 0), (9, 9)] {
        let session = json!({"org_id": "org1", "rate": 10, "per": 60, "quota_max": quota,
            "quota_renewal_rate": 600, "access_rights": rights});
        let key = gateway.make_key_of(&session);
        let answer = gateway.ask("/orders/x", &key);
        let expected = format!("x-ratelimit-limit: {told}\r\n");
        assert!(answer.head.contains(&expected), "{}", answer.head);
    }
}
