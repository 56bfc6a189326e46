//! `error_overrides` for errors that upstreams answer with.

use std::io::{Read, Write};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::{Answer, Gateway, api, read_head, serving};

/// An upstream whose answer is named by the path: `/STATUS/WHAT`.
fn upstream() -> String {
    let port = serving(|connection| {
        let head = read_head(connection);
        let path = head.split(' ').nth(1).unwrap_or_default();
        let mut parts = path.trim_start_matches('/').split('/');
        let status = parts.next().unwrap_or_default();
        let (kind, body) = body(parts.next().unwrap_or_default());
        let length = body.len();
        let start = format!(
            "HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n{kind}\
             etag: \"1\"\r\nx-own: yes\r\nconnection: close\r\n\r\n"
        );
        let _ = connection.write_all(start.as_bytes()); // The client may have gone.
        if !head.starts_with("HEAD") {
            let _ = connection.write_all(&body);
        }
    });
    format!("http://127.0.0.1:{port}")
}

fn body(what: &str) -> (&'static str, Vec<u8>) {
    let coded = br#"{"error": {"code": "E42"}}"#;
    match what {
        "trace" => (
            "content-type: text/html\r\n",
            b"<pre>panic at secret.rs:7</pre>".to_vec(),
        ),
        "coded" => ("content-type: application/json\r\n", coded.to_vec()),
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(coded).unwrap();
            (
                "content-type: application/json\r\ncontent-encoding: gzip\r\n",
                encoder.finish().unwrap(),
            )
        }
        "grpc" => ("content-type: application/grpc\r\n", b"raw".to_vec()),
        "large" => ("", vec![b'a'; (1 << 20) + 1]),
        _ => ("content-type: text/plain\r\n", b"as it was".to_vec()),
    }
}

fn start(name: &str, of_api: Value, of_all: Value) -> Gateway {
    let mut orders = api("orders", "/orders/", &upstream());
    orders["use_keyless"] = json!(true);
    orders["error_overrides"] = of_api;
    Gateway::with(name, &json!({"error_overrides": of_all}), &[orders])
}

#[track_caller]
fn check(answer: &Answer, status: u16, body: &str) {
    assert_eq!(
        (answer.status, &*answer.body),
        (status, body),
        "{}",
        answer.head
    );
}

#[test]
fn an_error_of_an_upstream_is_answered_as_the_rules_say() {
    let of_api = json!({
        "404": [
            {"match": {"body_field": "error.code", "body_value": "E42"},
             "response": {"status_code": 410, "body": "{\"gone\": {{.StatusCode}}, \"why\": \"{{.Message}}\"}", "message": "no \"more\""}},
            {"match": {"flag": "AMF"}, "response": {"body": "of refusals"}},
            {"match": {"message_pattern": "panic at"},
             "response": {"body": "<e>sorry</e>", "headers": {"Content-Type": "text/html", "X-A": "b"}}}],
        "503": [{"response": {"headers": {"X-A": "status alone"}}}]});
    let of_all = json!({"5xx": [{"match": {"flag": "URS"}, "response": {"message": "try later"}}]});
    let gateway = start("override-answers", of_api, of_all);
    let ask = |path: &str| gateway.ask(path, "");
    let message = "{\n    \"error\": \"try later\"\n}";

    let gone = r#"{"gone": 410, "why": "no \"more\""}"#;
    for path in ["/orders/404/coded", "/orders/404/gzip"] {
        let answer = ask(path);
        check(&answer, 410, gone);
        assert!(answer.head.contains("content-type: application/json\r\n"));
        let length = format!("content-length: {}\r\n", gone.len());
        assert!(answer.head.contains(&length), "{}", answer.head);
        assert!(answer.head.contains("x-own: yes\r\n"), "{}", answer.head);
        for name in ["etag", "content-encoding", "x-generator"] {
            assert!(!answer.head.contains(name), "{}", answer.head);
        }
    }
    let html = ask("/orders/404/trace");
    check(&html, 404, "<e>sorry</e>");
    assert!(html.head.contains("content-type: text/html\r\n") && html.head.contains("x-a: b\r\n"));
    check(&ask("/orders/500/trace"), 500, message);
    let headers_alone = ask("/orders/503/plain");
    check(&headers_alone, 503, "as it was");
    assert!(headers_alone.head.contains("x-a: status alone\r\n"));

    // What no rule is about goes on as it came.
    check(&ask("/orders/404/plain"), 404, "as it was");
    check(
        &ask("/orders/400/trace"),
        400,
        "<pre>panic at secret.rs:7</pre>",
    );
    check(
        &ask("/orders/200/trace"),
        200,
        "<pre>panic at secret.rs:7</pre>",
    );
    check(&ask("/orders/500/grpc"), 500, "raw");
    let large = ask("/orders/404/large");
    assert_eq!((large.status, large.body.len()), (404, (1 << 20) + 1));

    let head = gateway
        .try_ask("HEAD", "/orders/500/trace", &[], "")
        .unwrap();
    check(&head, 500, "");
    let xml = [("content-type", "text/xml")];
    let xml = gateway
        .try_ask("GET", "/orders/500/trace", &xml, "")
        .unwrap();
    assert!(
        xml.body.contains("<error>try later</error>"),
        "{}",
        xml.body
    );
}

#[test]
fn a_rule_that_asks_for_many_places_refuses_its_api() {
    let many = json!({"match": {"body_field": "all.#.code", "body_value": "1"}, "response": {"body": "x"}});
    let gateway = start("override-many", json!({ "404": [many] }), json!({}));
    assert_eq!(gateway.ask("/orders/404/coded", "").status, 503);
    let mut log = String::new();
    let mut file = std::fs::File::open(gateway.folder.join("log")).unwrap();
    file.read_to_string(&mut log).unwrap();
    assert!(
        log.contains("error_overrides.404[0].match.body_field: `all.#.code`"),
        "{log}"
    );
}
