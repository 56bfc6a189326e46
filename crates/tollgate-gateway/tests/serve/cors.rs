//! Pages of other sites.

use serde_json::{Value, json};

use crate::{Answer, Gateway, api, upstream};

fn gateway(name: &str, section: &Value) -> Gateway {
    let mut orders = api(
        "orders",
        "/orders/",
        &format!("http://127.0.0.1:{}", upstream()),
    );
    orders["CORS"] = section.clone();
    Gateway::with(name, &json!({}), &[orders])
}

fn ask(gateway: &Gateway, method: &str, headers: &[(&str, &str)]) -> Answer {
    gateway
        .try_ask(method, "/orders/x", headers, "")
        .expect("an answer")
}

#[test]
fn a_preflight_needs_no_key_and_refusals_can_be_read() {
    let section = json!({"enable": true, "allowed_origins": ["https://*.shop.test"],
        "allowed_methods": ["GET"], "exposed_headers": ["X-RateLimit-Limit"],
        "allow_credentials": true, "max_age": 60});
    let gateway = gateway("cors", &section);
    let origin = ("Origin", "https://www.shop.test");
    let wanted = ("Access-Control-Request-Method", "GET");
    let preflight = ask(&gateway, "OPTIONS", &[origin, wanted]);
    assert_eq!((preflight.status, preflight.body.as_str()), (204, ""));
    for line in [
        "access-control-allow-origin: https://www.shop.test\r\n",
        "access-control-allow-methods: get\r\n",
        "access-control-allow-credentials: true\r\n",
        "access-control-max-age: 60\r\n",
        "vary: origin\r\n",
    ] {
        assert!(preflight.head.contains(line), "{}", preflight.head);
    }
    let refused = ask(&gateway, "GET", &[origin]);
    assert_eq!(refused.status, 401);
    for line in [
        "access-control-allow-origin: https://www.shop.test\r\n",
        "access-control-expose-headers: x-ratelimit-limit\r\n",
    ] {
        assert!(refused.head.contains(line), "{}", refused.head);
    }
    for answer in [
        ask(
            &gateway,
            "OPTIONS",
            &[("Origin", "https://evil.test"), wanted],
        ),
        ask(&gateway, "GET", &[("Origin", "https://evil.test")]),
        ask(&gateway, "GET", &[]),
    ] {
        assert!(
            !answer.head.contains("access-control-allow"),
            "{}",
            answer.head
        );
    }
    let no_preflight = ask(&gateway, "OPTIONS", &[origin]);
    assert_eq!(no_preflight.status, 401, "it is a request like others");
}

#[test]
fn options_go_to_the_upstream_where_that_is_asked() {
    let section = json!({"enable": true, "options_passthrough": true});
    let gateway = gateway("cors-passthrough", &section);
    let passed = ask(&gateway, "OPTIONS", &[("Origin", "http://a.test")]);
    assert_eq!(passed.status, 200);
    let seen = passed.body.to_lowercase();
    assert!(seen.starts_with("options /x http/1.1"), "{seen}");
    assert!(!seen.contains("x-path"), "no gate was asked: {seen}");
    assert_eq!(ask(&gateway, "GET", &[]).status, 401);
}
