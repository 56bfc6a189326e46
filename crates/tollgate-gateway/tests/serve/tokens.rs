//! Where tokens are looked for, and what leaves with them.

use serde_json::{Value, json};

use crate::{Answer, Gateway, api, upstream};

/// The program with one API, whose definition has these members, and a key for it.
fn start(name: &str, settings: &Value, members: &Value) -> (Gateway, String) {
    let mut definition = api("a", "/a/", &format!("http://127.0.0.1:{}", upstream()));
    for (name, value) in members.as_object().unwrap() {
        definition[name] = value.clone();
    }
    let gateway = Gateway::with(name, settings, &[definition]);
    let key = gateway.make_key_for(&["a"]);
    (gateway, key)
}

fn ask(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    gateway
        .try_ask("GET", path, headers, "")
        .expect("an answer")
}

#[test]
fn of_several_tokens_that_of_the_strongest_source_counts() {
    let members = json!({"auth": {"use_param": true, "use_cookie": true}});
    let (gateway, key) = start("sources", &json!({}), &members);
    let check = |header: &str, query: &str, cookie: &str, status: u16| {
        let cookie = format!("Authorization={cookie}");
        let headers = [("authorization", header), ("cookie", cookie.as_str())];
        let path = format!("/a/x?Authorization={query}");
        let answer = ask(&gateway, &path, &headers);
        assert_eq!(answer.status, status, "{header}, {query}, {cookie}");
    };
    check(&key, "", "", 200);
    check("", &key, "", 200);
    check("", "", &key, 200);
    check("wrong", &key, "", 200);
    check("wrong", "wrong", &key, 200);
    check(&key, "wrong", "", 403);
    check(&key, &key, "wrong", 403);
    check("wrong", &format!("bearer%20{key}"), "", 200);
}

#[test]
fn an_api_that_looks_for_tokens_nowhere_lets_nobody_in() {
    let members = json!({"auth": {"disable_header": true}});
    let (gateway, key) = start("nowhere", &json!({}), &members);
    assert_eq!(gateway.ask("/a/x", &key).status, 401);
}

#[test]
fn what_is_sent_for_other_methods_leaves_with_the_token() {
    let members = json!({"strip_auth_data": true, "auth_configs": {
        "authToken": {"auth_header_name": "x-token"},
        "basic": {"auth_header_name": "x-basic"},
        "jwt": {"auth_header_name": "x-jwt", "disable_header": true, "use_cookie": true, "cookie_name": "jwt"},
    }});
    let (gateway, key) = start("stripped", &json!({}), &members);
    let headers = [
        ("x-token", key.as_str()),
        ("x-basic", "one"),
        ("x-jwt", "two"),
        ("cookie", "a=1; jwt=three"),
        ("authorization", "four"),
    ];
    let answer = ask(&gateway, "/a/x", &headers);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = answer.body.to_lowercase();
    for gone in ["x-token", "x-basic", "x-jwt", "three", &key.to_lowercase()] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    assert!(seen.contains("cookie: a=1\r\n"), "{seen}");
    assert!(seen.contains("authorization: four\r\n"), "{seen}");
}

#[test]
fn an_id_alone_is_no_token_where_the_configuration_says_so() {
    for (off, status) in [(false, 200), (true, 403)] {
        let settings = json!({
            "hash_key_function": "murmur64", "disable_key_actions_by_username": off});
        let (gateway, _) = start("ids", &settings, &json!({}));
        let session = json!({"org_id": "org1", "rate": 9, "per": 1, "quota_max": -1,
            "access_rights": {"a": {"api_id": "a", "versions": ["Default"]}}});
        let made = gateway.admin("POST", "/tyk/keys/joes-key", &session.to_string());
        let made: Value = serde_json::from_str(&made.body).unwrap();
        let token = made["key"].as_str().unwrap();
        assert_eq!(gateway.ask("/a/x", token).status, 200, "{made}");
        assert_eq!(gateway.ask("/a/x", "joes-key").status, status, "{settings}");
    }
}
