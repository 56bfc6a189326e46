//! What is checked between the gates and the upstream: sizes and schemas of bodies, circuit breakers.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use serde_json::{Value, json};

use crate::{Answer, Gateway, api, ports::free_port, read_head};

/// An upstream that answers with the body of what it got.
fn upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let head = read_head(&mut connection).to_lowercase();
            if head.contains("transfer-encoding: chunked") {
                let mut rest = Vec::new(); // Never the end of it, in these tests.
                let _ = connection.read_to_end(&mut rest);
                continue;
            }
            let length = head.split("content-length: ").nth(1);
            let length = length.and_then(|rest| rest.lines().next());
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            connection.read_exact(&mut body).unwrap();
            let start = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = connection.write_all(start.as_bytes()); // The client may have gone.
            let _ = connection.write_all(&body);
        }
    });
    format!("http://{address}")
}

fn gateway(name: &str, settings: &Value, target: &str, paths: &Value) -> Gateway {
    let mut open = api("open", "/open/", target);
    open["use_keyless"] = json!(true);
    for (list, entries) in paths.as_object().unwrap() {
        open["version_data"]["versions"]["Default"]["extended_paths"][list] = entries.clone();
    }
    Gateway::with(name, settings, &[open])
}

fn post(gateway: &Gateway, path: &str, body: &str) -> Answer {
    gateway.try_ask("POST", path, &[], body).expect("an answer")
}

#[track_caller]
fn check(answer: &Answer, status: u16, message: &str) {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert!(answer.body.contains(message), "{}", answer.body);
    assert!(
        answer.head.contains("x-generator: tyk.io"),
        "{}",
        answer.head
    );
}

#[test]
fn a_body_that_matches_its_schema_goes_on_as_it_came() {
    let schema = json!({"type": "object", "required": ["a"]});
    let entries = json!([
        {"path": "/a", "method": "POST", "schema": schema},
        {"path": "/b", "method": "POST", "schema_b64": "eyJ0eXBlIjogImludGVnZXIifQ==", "error_response_code": 418}]);
    let gateway = gateway(
        "schema",
        &json!({}),
        &upstream(),
        &json!({"validate_json": entries}),
    );
    let body = "{ \"a\" :1.0,\n\"b\": [] }";
    let passed = post(&gateway, "/open/a", body);
    assert_eq!((passed.status, passed.body.as_str()), (200, body));
    check(&post(&gateway, "/open/a", "{}"), 422, "a: a is required");
    check(&post(&gateway, "/open/a", "{"), 400, "JSON parsing error: ");
    check(
        &post(&gateway, "/open/b", "{}"),
        418,
        "Expected: integer, given: object",
    );
    assert_eq!(post(&gateway, "/open/b", "7").body, "7");
    assert_eq!(post(&gateway, "/open/c", "{").body, "{");
}

#[test]
fn a_schema_that_can_not_be_followed_closes_its_api() {
    let entries = json!([{"path": "/a", "method": "POST", "schema": {"type": "objekt"}}]);
    let gateway = gateway(
        "no-schema",
        &json!({}),
        &upstream(),
        &json!({"validate_json": entries}),
    );
    assert_eq!(post(&gateway, "/open/x", "{}").status, 503);
}

#[test]
fn a_body_is_not_taken_beyond_the_limit() {
    let settings = json!({"http_server_options": {"max_request_body_size": 10}});
    let entries = json!([{"path": "/schema", "method": "POST", "schema": {}}]);
    let gateway = gateway(
        "most",
        &settings,
        &upstream(),
        &json!({"validate_json": entries}),
    );
    assert_eq!(post(&gateway, "/open/x", "0123456789").body, "0123456789");
    let message = "Request Entity Too Large";
    check(&post(&gateway, "/open/x", "0123456789a"), 413, message);
    for path in ["x", "schema"] {
        let mut connection = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
        let request = format!(
            "POST /open/{path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
             6\r\n\"01234\r\n6\r\n56789\"\r\n0\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).unwrap();
        let head = read_head(&mut connection);
        assert!(head.starts_with("HTTP/1.1 413"), "{path}: {head}");
    }
}

#[test]
fn an_upstream_that_fails_is_left_alone() {
    let target = format!("http://127.0.0.1:{}", free_port().unwrap());
    let entries = json!([{"path": "/x", "method": "GET", "threshold_percent": 0.5, "samples": 3,
        "return_to_service_after": 60, "disable_half_open_state": true}]);
    let gateway = gateway(
        "breaker",
        &json!({}),
        &target,
        &json!({"circuit_breakers": entries}),
    );
    for _ in 0..3 {
        assert_eq!(gateway.ask("/open/x", "").status, 500);
    }
    for _ in 0..3 {
        check(
            &gateway.ask("/open/x", ""),
            503,
            "Service temporarily unavailable.",
        );
    }
    assert_eq!(gateway.ask("/open/y", "").status, 500);
}

#[test]
fn refusals_are_answered_as_the_api_and_the_configuration_say() {
    let target = upstream();
    let mut shut = api("shut", "/shut/", &target);
    shut["error_overrides"] = json!({"401": [{"match": {"flag": "AMF"}, "response": {
        "status_code": 418, "body": "nope", "headers": {"X-A": "b"}}}]});
    let other = api("other", "/other/", &target);
    let settings = json!({"error_overrides": {"4xx": [{"response": {"message": "go away"}}]}});
    let gateway = Gateway::with("overrides", &settings, &[shut, other]);
    let overridden = gateway.ask("/shut/x", "");
    assert_eq!((overridden.status, overridden.body.as_str()), (418, "nope"));
    assert!(
        overridden.head.contains("x-a: b\r\n"),
        "{}",
        overridden.head
    );
    assert_eq!(overridden.head.matches("x-generator").count(), 1);
    check(
        &gateway.ask("/shut/x", "nobody"),
        403,
        "\"error\": \"go away\"",
    );
    check(&gateway.ask("/other/x", ""), 401, "\"error\": \"go away\"");
}

#[test]
fn refusals_have_the_form_of_the_templates() {
    let folder =
        std::env::temp_dir().join(format!("tollgate-template-files-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write(
        "error.json",
        r#"{"fault": "{{.Message}}", "code": {{.StatusCode}}}"#,
    );
    write("error_403.json", r#"{"denied": true}"#);
    write("error.xml", "<fault>{{.Message}}</fault>");
    write("error_401.xml", "{{.Broken");
    let mut orders = api("orders", "/orders/", &upstream());
    orders["error_overrides"] = json!({"403": [
        {"match": {"message_pattern": "forbidden"}, "response": {"message": "closed today"}}]});
    let settings = json!({"template_path": folder});
    let gateway = Gateway::with("templates", &settings, &[orders]);
    let ask = |path: &str, kind: &str| {
        let headers = [("content-type", kind), ("authorization", "nobody")];
        let given = if path.ends_with("none") {
            &headers[..1]
        } else {
            &headers
        };
        gateway.try_ask("GET", path, given, "").unwrap()
    };
    for (path, kind, status, body) in [
        (
            "/orders/none",
            "text/plain",
            401,
            r#"{"fault": "Authorization field missing", "code": 401}"#,
        ),
        (
            "/orders/none",
            "text/xml",
            401,
            "<fault>Authorization field missing</fault>",
        ),
        ("/orders/x", "text/plain", 403, r#"{"denied": true}"#),
        // What an override says is said in the form of the templates too.
        (
            "/orders/closed",
            "text/xml",
            403,
            "<fault>closed today</fault>",
        ),
    ] {
        let answer = ask(path, kind);
        assert_eq!((answer.status, &*answer.body), (status, body), "{path}");
    }
    write("error_401.json", "go away");
    gateway.reload();
    assert_eq!(ask("/orders/none", "text/plain").body, "go away");
    let log = fs::read_to_string(gateway.folder.join("log")).unwrap();
    assert!(log.contains("error_401.xml: not used"), "{log}");
    fs::remove_dir_all(folder).unwrap();
}
