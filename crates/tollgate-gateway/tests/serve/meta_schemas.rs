//! Schemas of metadata: what a key is written with, by the control API and by `tollgate key`.

use serde_json::{Value, json};

use crate::{Gateway, api, upstream};

fn start(name: &str) -> Gateway {
    let mut orders = api(
        "orders",
        "/orders/",
        &format!("http://127.0.0.1:{}", upstream()),
    );
    orders["tollgate"] = json!({"meta_data_schema": {
        "type": "object", "required": ["user"],
        "properties": {"user": {"type": "object", "properties": {"level": {"type": "integer", "maximum": 5}}}}}});
    Gateway::with(name, &json!({}), &[orders])
}

fn key(meta: Value) -> Value {
    json!({
        "org_id": "org1", "rate": 1000, "per": 1, "quota_max": -1, "meta_data": meta,
        "access_rights": {"orders": {"api_id": "orders", "versions": ["Default"]}}})
}

#[test]
fn a_key_is_refused_whose_metadata_is_not_as_the_api_wants_it() {
    let gateway = start("meta-schema");
    let right = key(json!({"user": {"level": 5}}));
    let wrong = key(json!({"user": {"level": "secret"}}));
    let place = "meta_data.user.level: ";
    for (method, path, body) in [
        ("POST", "/tyk/keys", &wrong),
        ("POST", "/tyk/keys/create", &wrong),
        ("POST", "/tyk/keys/joes-key", &wrong),
    ] {
        let refused = gateway.admin(method, path, &body.to_string());
        assert_eq!(refused.status, 400, "{path}: {}", refused.body);
        assert!(refused.body.contains(place), "{}", refused.body);
        assert!(refused.body.contains("(API orders)"), "{}", refused.body);
        assert!(!refused.body.contains("secret"), "{}", refused.body);
    }
    let made = gateway.admin("POST", "/tyk/keys/joes-key", &right.to_string());
    assert_eq!(made.status, 200, "{}", made.body);
    for wrong in [wrong, key(json!({}))] {
        let refused = gateway.admin("PUT", "/tyk/keys/joes-key", &wrong.to_string());
        assert_eq!(refused.status, 400, "{}", refused.body);
    }
    let changed = gateway.admin("PUT", "/tyk/keys/joes-key", &right.to_string());
    assert_eq!(changed.status, 200, "{}", changed.body);
}

#[test]
fn a_policy_has_a_schema_too_and_the_program_tells_what_is_wrong() {
    let gateway = start("meta-schema-policy");
    let policy = json!({"gold": {
        "id": "gold", "org_id": "org1", "rate": 10, "per": 1, "quota_max": -1,
        "meta_data": {"user": {"level": 1}, "plan": "gold"},
        "tollgate": {"meta_data_schema": {"required": ["team"]}},
        "access_rights": {"orders": {"api_id": "orders", "versions": ["Default"]}}}});
    let file = gateway.folder.join("policies.json");
    std::fs::write(file, policy.to_string()).unwrap();
    let reloaded = gateway.admin("GET", "/tyk/reload/?block=true", "");
    assert_eq!(reloaded.status, 200, "{}", reloaded.body);

    // What the policy brings along counts.
    let refused = gateway.key(&["create", "--policy", "gold", "--meta", "user=ann"]);
    assert!(!refused.status.success());
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        told.contains("meta_data: ") && told.contains("(policy gold)"),
        "{told}"
    );
    let made = gateway.key_json(&["create", "--policy", "gold", "--meta", "team=blue"]);
    let token = made["token"].as_str().unwrap();
    assert_eq!(gateway.ask("/orders/7", token).status, 200);
}
