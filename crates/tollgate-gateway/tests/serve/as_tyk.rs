//! What is as in Tyk unless a setting of our own says otherwise.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{Gateway, api, upstream};

fn start(name: &str, settings: &Value, listen_path: &str) -> Gateway {
    let target = format!("http://127.0.0.1:{}", upstream());
    let orders = api("orders", listen_path, &target);
    Gateway::with(name, settings, &[orders])
}

/// In how many seconds the quota of the answers ends, as two of them say.
fn resets(gateway: &Gateway) -> [u64; 2] {
    let key = gateway.make_key();
    [(); 2].map(|()| {
        let answer = gateway.ask("/orders/x", &key);
        let (_, rest) = answer.head.split_once("x-ratelimit-reset: ").unwrap();
        let (reset, _) = rest.split_once('\r').unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        reset.parse::<u64>().unwrap().saturating_sub(now.as_secs())
    })
}

#[test]
fn the_first_answer_of_a_period_tells_its_end_where_that_is_wanted() {
    let [first, second] = resets(&start("reset", &json!({}), "/orders/"));
    assert!(first < 2 && 3500 < second, "{first} {second}");
    let exact = json!({"tollgate": {"exact_quota_reset": true}});
    let [first, second] = resets(&start("exact", &exact, "/orders/"));
    assert!(3500 < first && 3500 < second, "{first} {second}");
}

#[test]
fn rules_see_what_is_left_of_a_word() {
    let loose = json!({"http_server_options": {"enable_strict_routes": false}});
    let gateway = start("words", &loose, "/ord");
    let key = gateway.make_key();
    for (path, sent) in [
        ("/orders?a=1", "GET /ers?a=1 "),
        ("/ord/x", "GET /x "),
        ("/ord", "GET / "),
    ] {
        let answer = gateway.ask(path, &key);
        assert!(answer.body.starts_with(sent), "{path}: {}", answer.body);
    }
    for path in ["/ord/closed", "/ordclosed", "/ord%63losed"] {
        assert_eq!(gateway.ask(path, &key).status, 403, "{path}");
    }
    assert_eq!(gateway.ask("/ord..%2fx", &key).status, 400);
}

#[test]
fn keys_are_stored_as_they_are_sent_where_that_is_wanted() {
    let session = json!({
        "org_id": "org1", "rate": 10, "per": 1, "quota_max": -1, "later": 1,
        "access_rights": {"orders": {"api_id": "orders", "versions": ["Default"], "later": 1}}});
    let gateway = start("sent", &json!({}), "/orders/");
    let made = gateway.admin("POST", "/tyk/keys/ab", &session.to_string());
    let made: Value = serde_json::from_str(&made.body).unwrap();
    assert_eq!(gateway.ask("/orders/x", "ab").status, 403);
    assert_eq!(
        gateway
            .ask("/orders/x", made["key"].as_str().unwrap())
            .status,
        200
    );
    let shown = gateway.admin("GET", "/tyk/keys/ab?org_id=org1", "");
    assert_eq!(shown.status, 200, "{}", shown.body);
    assert!(!shown.body.contains("later"), "{}", shown.body);

    let ours = json!({"tollgate": {"refuse_short_ids": true, "keep_unknown_members": true}});
    let gateway = start("kept", &ours, "/orders/");
    let make = |id: &str| gateway.admin("POST", &format!("/tyk/keys/{id}"), &session.to_string());
    assert_eq!((make("ab").status, make("abc").status), (400, 200));
    assert_eq!(gateway.ask("/orders/x", "abc").status, 200);
    let shown = gateway.admin("GET", "/tyk/keys/abc?org_id=org1", "");
    assert_eq!(shown.body.matches("later").count(), 2, "{}", shown.body);
}

#[test]
fn nothing_is_served_before_there_are_policies() {
    let file = format!("tollgate-late-policies-{}.json", std::process::id());
    let file = std::env::temp_dir().join(file);
    let late = json!({"policies": {"policy_source": "file", "policy_record_name": file}});
    let gateway = start("late", &late, "/orders/");
    let answer = gateway.ask("/orders/health", "");
    assert_eq!(
        (answer.status, &*answer.body),
        (404, "404 page not found\n")
    );
    std::fs::write(&file, "{}").unwrap();
    gateway.reload();
    let status = gateway.ask("/orders/health", "").status;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status, 200);
}

#[test]
fn an_answer_tells_what_it_is_and_its_values_stay_on_one_line() {
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut orders = api("orders", "/orders/", &target);
    let version = &mut orders["version_data"]["versions"]["Default"];
    version["global_response_headers"] = json!({"X-Two": "a\r\nb\u{7f}c"});
    version["extended_paths"]["mock_response"] =
        json!([{"path": "/page", "method": "GET", "code": 200, "body": "<p>"}]);
    let gateway = Gateway::with("told", &json!({}), &[orders]);
    let key = gateway.make_key();
    let answer = gateway.ask("/orders/x", &key);
    assert!(answer.body.starts_with("GET /x "), "{}", answer.body);
    for line in [
        "content-type: text/plain; charset=utf-8\r\n",
        "x-two: a  bc\r\n",
    ] {
        assert!(answer.head.contains(line), "{}", answer.head);
    }
    let page = gateway.ask("/orders/page", "");
    assert!(
        page.head
            .contains("content-type: text/html; charset=utf-8\r\n"),
        "{}",
        page.head
    );
}

#[test]
fn an_api_is_found_by_its_id_where_no_other_listens() {
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut inner = api("inner", "/in/", &target);
    inner["internal"] = json!(true);
    let apis = [
        api("orders", "/ord/", &target),
        api("ord", "/o/", &target),
        inner,
    ];
    let gateway = Gateway::with("ids", &json!({}), &apis);
    let key = gateway.make_key_for(&["orders"]);
    let ask = |path| gateway.ask(path, &key);
    assert!(
        ask("/ord/x").body.starts_with("GET /x "),
        "its listen path is cut"
    );
    assert!(
        ask("/orders/x").body.starts_with("GET /orders/x "),
        "its id is not"
    );
    assert_eq!(gateway.ask("/orders/x", "").status, 401);
    assert_eq!(ask("/orders/closed").status, 403);
    assert_eq!(ask("/o/x").status, 403, "a key for another");
    assert_eq!(ask("/inner/x").status, 404);
}
