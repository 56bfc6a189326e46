//! Bodies that templates make into others.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
};

use serde_json::{Value, json};

use crate::{Gateway, api, read_head};

/// An upstream that answers `{"up": "stream"}`, and tells what bodies it got.
fn json_upstream() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let head = read_head(&mut connection).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            connection.read_exact(&mut body).unwrap();
            let _ = tell.send(String::from_utf8(body).unwrap()); // The test may be over.
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                          content-length: 16\r\nconnection: close\r\n\r\n{\"up\": \"stream\"}";
            let _ = connection.write_all(answer.as_bytes()); // The client may have gone.
        }
    });
    (port, told)
}

/// The entry of the seed definition, letter for letter but for its template.
fn entry(source: &str) -> Value {
    json!([{
        "template_data": {
            "input_type": "json", "template_mode": "blob", "enable_session": true,
            "template_source": source, "input": "", "output": ""
        },
        "path": "/get", "method": "GET", "fromDashboard": true
    }])
}

#[test]
fn the_seed_definition_runs_as_printed() {
    let (port, bodies) = json_upstream();
    let mut seed = api("orders", "/orders/", &format!("http://127.0.0.1:{port}"));
    let paths = &mut seed["version_data"]["versions"]["Default"]["extended_paths"];
    paths["transform"] = entry("Ymxvb3A=");
    paths["transform_response"] = entry("e3sgLl90eWtfbWV0YS5qd3QgfX0=");
    let gateway = Gateway::with("transforms", &json!({}), &[seed]);
    let key = gateway.make_key_of(&json!({
        "org_id": "org1", "meta_data": {"jwt": "of-this-key"},
        "access_rights": {"orders": {"api_id": "orders", "versions": ["Default"]}}}));

    let answer = gateway.ask("/orders/get", &key);
    assert_eq!((answer.status, answer.body.as_str()), (200, "of-this-key"));
    assert!(
        answer.head.contains("content-length: 11\r\n"),
        "{}",
        answer.head
    );
    assert_eq!(bodies.recv().unwrap(), "bloop");

    // Another path has no transform.
    let answer = gateway.ask("/orders/other", &key);
    assert_eq!(answer.body, "{\"up\": \"stream\"}");
    assert_eq!(bodies.recv().unwrap(), "");
}

#[test]
fn a_body_that_takes_too_much_memory_is_one_that_is_too_large() {
    let body = format!("[{}7]", "7,".repeat(20_000));
    for (refuses, status) in [(false, 200), (true, 413)] {
        let (port, bodies) = json_upstream();
        let mut doubling = api("open", "/open/", &format!("http://127.0.0.1:{port}"));
        doubling["use_keyless"] = json!(true);
        let paths = &mut doubling["version_data"]["versions"]["Default"]["extended_paths"];
        // `{{ range until 9 }}{{ $.array | jsonMarshal }}{{ end }}`
        paths["transform"] =
            entry("e3sgcmFuZ2UgdW50aWwgOSB9fXt7ICQuYXJyYXkgfCBqc29uTWFyc2hhbCB9fXt7IGVuZCB9fQ==");
        let settings = json!({
            "http_server_options": {"max_request_body_size": 50_000},
            "tollgate": {"refuse_failed_transforms": refuses}});
        let gateway = Gateway::with("memory", &settings, &[doubling]);
        let answer = gateway.try_ask("GET", "/open/get", &[], &body);
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.body);
        if !refuses {
            assert_eq!(bodies.recv().unwrap(), body);
        }
    }
}

#[test]
fn a_body_that_can_not_be_transformed_goes_on_unless_that_is_refused() {
    for (refuses, status, body) in [(false, 200, "{\"up\": \"stream\"}"), (true, 500, "")] {
        let (port, _bodies) = json_upstream();
        let mut failing = api("open", "/open/", &format!("http://127.0.0.1:{port}"));
        failing["use_keyless"] = json!(true);
        let paths = &mut failing["version_data"]["versions"]["Default"]["extended_paths"];
        // `{{ index .up 99 }}`
        paths["transform_response"] = entry("e3sgaW5kZXggLnVwIDk5IH19");
        let settings = json!({"tollgate": {"refuse_failed_transforms": refuses}});
        let gateway = Gateway::with("untransformed", &settings, &[failing]);
        let answer = gateway.ask("/open/get", "");
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(body), "{}", answer.body);
        assert!(refuses || answer.body == body, "{}", answer.body);
        assert!(!answer.body.contains("index"), "{}", answer.body);
    }
}
