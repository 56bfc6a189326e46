//! Attacks on the life of keys, on addresses, and by headers, against the program.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{Gateway, api, upstream};

/// The program with two APIs: `open` for all, and `orders` for keys.
fn gateway(name: &str, settings: &Value) -> Gateway {
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut open = api("open", "/open/", &target);
    open["use_keyless"] = json!(true);
    Gateway::with(name, settings, &[api("orders", "/orders/", &target), open])
}

fn rights() -> Value {
    json!({"orders": {"api_id": "orders", "versions": ["Default"]}})
}

fn session() -> Value {
    json!({
        "org_id": "org1", "rate": 10000, "per": 1, "quota_max": -1, "expires": 0,
        "access_rights": rights()})
}

fn with(session: &Value, member: &str, value: Value) -> Value {
    let mut session = session.clone();
    session[member] = value;
    session
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20)); // Between two looks at the condition.
    }
}

fn update(gateway: &Gateway, key: &str, session: &Value) {
    let path = format!("/tyk/keys/{key}");
    let updated = gateway.admin("PUT", &path, &session.to_string());
    assert_eq!(updated.status, 200, "{}", updated.body);
}

#[test]
fn attack_15_a_key_ends_at_its_second_and_odd_ends_break_nothing() {
    let gateway = gateway("attack-15", &json!({}));
    for never in [0, -1, i64::MAX, now() * 1000] {
        let key = gateway.make_key_of(&with(&session(), "expires", json!(never)));
        assert_eq!(gateway.ask("/orders/x", &key).status, 200, "{never}");
    }
    let past = with(&session(), "expires", json!(now() - 1));
    let made = gateway.admin("POST", "/tyk/keys/gone", &past.to_string());
    assert_eq!(made.status, 400, "{}", made.body);

    let end = now() + 2;
    let key = gateway.make_key_of(&with(&session(), "expires", json!(end)));
    wait_until("it ends", || gateway.ask("/orders/x", &key).status != 200);
    assert!(end <= now(), "it ended too early");
    let refused = gateway.ask("/orders/x", &key);
    assert_eq!(refused.status, 401, "{}", refused.body);
}

#[test]
fn attack_16_a_key_switched_off_is_refused_from_the_next_request_on() {
    let gateway = gateway("attack-16", &json!({}));
    let key = gateway.make_key_of(&session());
    let is_off = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut late = 0;
            while !is_off.load(Ordering::Acquire) {
                gateway.ask("/orders/x", &key);
            }
            for _ in 0..50 {
                late += u32::from(gateway.ask("/orders/x", &key).status == 200);
            }
            late
        });
        update(
            &gateway,
            &key,
            &with(&session(), "is_inactive", json!(true)),
        );
        is_off.store(true, Ordering::Release);
        assert_eq!(
            asking.join().unwrap(),
            0,
            "passed after it was switched off"
        );
    });
    assert_eq!(gateway.ask("/orders/x", &key).status, 403);
    update(&gateway, &key, &session());
    assert_eq!(gateway.ask("/orders/x", &key).status, 200);
}

#[test]
fn attack_17_a_revoked_key_is_gone_at_once_and_after_a_crash() {
    let mut gateway = gateway("attack-17", &json!({}));
    let key = gateway.make_key_of(&session());
    assert_eq!(gateway.ask("/orders/x", &key).status, 200);
    let deleted = gateway.admin("DELETE", &format!("/tyk/keys/{key}"), "");
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    assert_eq!(gateway.ask("/orders/x", &key).status, 403);
    gateway.crash();
    assert_eq!(gateway.ask("/orders/x", &key).status, 403);
}

#[test]
fn attack_18_a_rotation_under_load_has_no_gap_and_an_end() {
    let gateway = gateway("attack-18", &json!({}));
    let key = gateway.make_key_of(&session());
    let is_over = AtomicBool::new(false);
    let rotated = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut refused = Vec::new();
            while !is_over.load(Ordering::Acquire) {
                if gateway.ask("/orders/x", &key).status != 200 {
                    refused.push(now());
                }
            }
            refused
        });
        let found = gateway.admin("POST", "/tollgate/find", &json!({"token": key}).to_string());
        let found: Value = serde_json::from_str(&found.body).unwrap();
        let path = format!("/tollgate/keys/{}/rotate", found["key"].as_str().unwrap());
        let rotated = gateway.admin("POST", &path, r#"{"overlap_seconds": 3}"#);
        assert_eq!(rotated.status, 201, "{}", rotated.body);
        let rotated: Value = serde_json::from_str(&rotated.body).unwrap();
        let token = rotated["token"].as_str().unwrap();
        assert_eq!(gateway.ask("/orders/x", token).status, 200);
        is_over.store(true, Ordering::Release);
        let ends = rotated["old_token_ends"].as_i64().unwrap(); // A slow machine may come this far.
        let refused = asking.join().unwrap();
        assert!(
            refused.iter().all(|at| ends <= *at),
            "the old token had a gap: {refused:?} before {ends}"
        );
        rotated
    });
    wait_until("the old token ends", || {
        gateway.ask("/orders/x", &key).status != 200
    });
    assert!(rotated["old_token_ends"].as_i64().unwrap() <= now());
    let token = rotated["token"].as_str().unwrap();
    assert_eq!(gateway.ask("/orders/x", token).status, 200);
}

#[test]
fn attack_19_a_key_made_again_begins_with_a_whole_quota() {
    let gateway = gateway("attack-19", &json!({}));
    let limited = with(&session(), "quota_max", json!(2));
    let limited = with(&limited, "quota_renewal_rate", json!(3600));
    let path = "/tyk/keys/joes-own-key";
    for _ in 0..2 {
        let made = gateway.admin("POST", path, &limited.to_string());
        assert_eq!(made.status, 200, "{}", made.body);
        let asked = [(); 3].map(|()| gateway.ask("/orders/x", "joes-own-key").status);
        assert_eq!(asked, [200, 200, 403]);
        let made: Value = serde_json::from_str(&made.body).unwrap();
        let path = format!("/tyk/keys/{}", made["key"].as_str().unwrap());
        assert_eq!(gateway.admin("DELETE", &path, "").status, 200);
        assert_eq!(gateway.ask("/orders/x", "joes-own-key").status, 403);
    }
}

#[test]
fn attack_20_21_a_key_whose_policies_are_gone_or_grant_nothing_is_refused() {
    let gateway = gateway("attack-20", &json!({}));
    let of_policy = json!({"org_id": "org1", "apply_policies": ["gold"]});
    let key = gateway.make_key_of(&of_policy);
    assert_eq!(gateway.ask("/orders/x", &key).status, 200);
    let policies = gateway.folder.join("policies.json");
    let gold = std::fs::read_to_string(&policies).unwrap();
    let nothing = json!({"gold": {"org_id": "org1", "active": true, "quota_max": -1, "partitions": {"quota": true}}});
    let off = gold.replace(r#""active":true"#, r#""is_inactive":true"#);
    assert_ne!(off, gold);
    for without in ["{}".to_owned(), off, nothing.to_string()] {
        std::fs::write(&policies, &without).unwrap();
        gateway.reload();
        let refused = gateway.ask("/orders/x", &key);
        assert!(
            [401, 403].contains(&refused.status),
            "{without}: {}",
            refused.status
        );
    }
    std::fs::write(&policies, &gold).unwrap();
    gateway.reload();
    assert_eq!(gateway.ask("/orders/x", &key).status, 200);
}

/// Asks as a client that names itself so, and returns the status and what the upstream saw.
fn claim(gateway: &Gateway, claims: &[(&str, &str)]) -> (u16, String) {
    let answer = gateway.try_ask("GET", "/open/x", claims, "").unwrap();
    (answer.status, answer.body.to_lowercase())
}

fn address_gateway(name: &str, settings: &Value) -> Gateway {
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut open = api("open", "/open/", &target);
    open["use_keyless"] = json!(true);
    open["enable_ip_whitelisting"] = json!(true);
    open["allowed_ips"] = json!(["9.9.9.9"]);
    Gateway::with(name, settings, &[open])
}

const FORWARDED: &str = "x-forwarded-for";

#[test]
fn attack_36_a_peer_that_is_no_trusted_proxy_names_nobody() {
    let gateway = address_gateway(
        "attack-36-nobody",
        &json!({"tollgate": {"trusted_proxies": []}}),
    );
    for claims in [
        [(FORWARDED, "9.9.9.9")],
        [("x-real-ip", "9.9.9.9")],
        [("forwarded", "for=9.9.9.9")],
        [("x_forwarded_for", "9.9.9.9")],
    ] {
        assert_eq!(claim(&gateway, &claims).0, 403, "{claims:?}");
    }
}

#[test]
fn attack_36_a_trusted_proxy_names_the_nearest_client() {
    let gateway = address_gateway("attack-36-near", &json!({}));
    let (status, seen) = claim(&gateway, &[(FORWARDED, "9.9.9.9")]);
    assert_eq!(status, 200);
    assert!(
        seen.contains("x-forwarded-for: 9.9.9.9, 127.0.0.1"),
        "{seen}"
    );
    // Further left stands what the client said.
    assert_eq!(claim(&gateway, &[(FORWARDED, "9.9.9.9, 6.6.6.6")]).0, 403);
    assert_eq!(claim(&gateway, &[(FORWARDED, "9.9.9.9, junk")]).0, 403);
    assert_eq!(claim(&gateway, &[]).0, 403);
}

#[test]
fn attack_36_a_depth_of_two_is_the_second_from_the_right() {
    let settings = json!({"http_server_options": {"xff_depth": 2}});
    let gateway = address_gateway("attack-36-depth", &settings);
    assert_eq!(
        claim(&gateway, &[(FORWARDED, "1.1.1.1, 9.9.9.9, 6.6.6.6")]).0,
        200
    );
    assert_eq!(
        claim(&gateway, &[(FORWARDED, "9.9.9.9, 1.1.1.1, 6.6.6.6")]).0,
        403
    );
    assert_eq!(claim(&gateway, &[(FORWARDED, "9.9.9.9")]).0, 403);
}

#[test]
fn attack_38_no_definition_and_no_data_of_a_key_frames_a_message() {
    let target = format!("http://127.0.0.1:{}", upstream());
    let with_headers = |id: &str, headers: Value| {
        let mut api = api(id, &format!("/{id}/"), &target);
        api["version_data"]["versions"]["Default"]["global_headers"] = headers;
        api
    };
    let apis = [
        with_headers("length", json!({"Content-Length": "3"})),
        with_headers("name", json!({"X A": "1"})),
        with_headers(
            "hop",
            json!({"Host": "evil", "Transfer-Encoding": "chunked", "Connection": "X-Kept, close"}),
        ),
        with_headers("data", json!({"X-Data": "$tyk_meta.data"})),
    ];
    let gateway = Gateway::with("attack-38", &json!({}), &apis);
    let key = |data: &str| {
        let rights = ["hop", "data"].map(|id| {
            (
                id.to_owned(),
                json!({"api_id": id, "versions": ["Default"]}),
            )
        });
        let rights: serde_json::Map<_, _> = rights.into_iter().collect();
        let session = with(&session(), "access_rights", rights.into());
        gateway.make_key_of(&with(&session, "meta_data", json!({"data": data})))
    };
    let plain = key("joe");
    for refused in ["/length/x", "/name/x"] {
        assert_eq!(gateway.ask(refused, &plain).status, 503, "{refused}");
    }
    let seen = gateway.ask("/hop/x", &plain).body.to_lowercase();
    assert!(seen.contains("host: 127.0.0.1:"), "{seen}");
    assert!(
        !seen.contains("chunked") && !seen.contains("close"),
        "{seen}"
    );
    assert!(gateway.ask("/data/x", &plain).body.contains("joe"));
    for data in ["a\r\nX-Admin: 1", "a\nX-Admin: 1", "a\0b"] {
        let answer = gateway.ask("/data/x", &key(data));
        assert_eq!(answer.status, 500, "{data:?}");
        assert!(!answer.body.to_lowercase().contains("x-admin"), "{data:?}");
    }
}

#[test]
fn attack_40_headers_without_end_reach_nobody() {
    let gateway = gateway("attack-40", &json!({}));
    let many: Vec<_> = (0..10_000)
        .map(|number| (format!("x-{number}"), "1"))
        .collect();
    let many: Vec<_> = many
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let long = "a".repeat(1 << 20);
    let folded = [("x-a", "1\r\n 2")];
    for headers in [&many[..], &[("x-long", long.as_str())][..], &folded[..]] {
        // The connection may be closed before all was read.
        let answer = gateway.try_ask("GET", "/open/x", headers, "");
        let status = answer.map_or(400, |answer| answer.status);
        assert!([400, 431].contains(&status), "{status}");
    }
    assert_eq!(gateway.ask("/open/x", "").status, 200);
}
