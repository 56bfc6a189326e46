//! Limits that do not come with a key.

use serde_json::{Value, json};

use crate::{Gateway, api, upstream};

/// The program with one API that needs no key, whose definition has these members.
fn start(name: &str, settings: &Value, members: &Value) -> Gateway {
    let mut open = api(
        "open",
        "/open/",
        &format!("http://127.0.0.1:{}", upstream()),
    );
    open["use_keyless"] = json!(true);
    for (name, value) in members.as_object().unwrap() {
        open[name] = value.clone();
    }
    Gateway::with(name, settings, &[open])
}

#[track_caller]
fn check(gateway: &Gateway, statuses: &[u16]) {
    let seen: Vec<_> = statuses
        .iter()
        .map(|_| gateway.ask("/open/x", "").status)
        .collect();
    assert_eq!(seen, statuses);
}

#[test]
fn an_apis_own_rate_holds_without_a_key() {
    let rate = json!({"global_rate_limit": {"rate": 2, "per": 60}});
    check(&start("own-rate", &json!({}), &rate), &[200, 200, 429]);
}

#[test]
fn an_organisations_limits_hold_without_a_key() {
    let settings = json!({"enforce_org_quotas": true});
    let gateway = start("org", &settings, &json!({}));
    let organisation = |members: &Value| {
        let made = gateway.admin("POST", "/tyk/org/keys/org1", &members.to_string());
        assert_eq!(made.status, 200, "{}", made.body);
    };
    check(&gateway, &[200, 200, 200]);
    // A rate without a window is none.
    organisation(&json!({"rate": 1, "quota_max": 2, "quota_renewal_rate": 600}));
    check(&gateway, &[200, 200, 403]);
    organisation(&json!({"is_inactive": true}));
    check(&gateway, &[403]);
}
