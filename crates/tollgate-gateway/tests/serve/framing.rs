//! Framing of HTTP at the whole program, with keys and limits: what is read in two ways is refused, costs
//! nothing, and hides no request.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Gateway, api, read_head};

/// An upstream, and the request lines that it got.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Starts the upstream, which answers every request by 200.
    fn start(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = self.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut connection, seen) = (connection.unwrap(), seen.clone());
                std::thread::spawn(move || {
                    let head = read_head(&mut connection);
                    let line = head.lines().next().unwrap_or_default();
                    seen.0.lock().unwrap().push(line.to_owned());
                    let answer =
                        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                    let _ = connection.write_all(answer.as_bytes()); // The gateway may have gone.
                    let _ = connection.read_to_end(&mut Vec::new());
                });
            }
        });
        port
    }
}

/// A gateway with one API that asks for a key, and what its upstream saw.
fn start(name: &str, settings: &Value) -> (Gateway, Seen) {
    let seen = Seen::default();
    let target = format!("http://127.0.0.1:{}", seen.start());
    let gateway = Gateway::with(name, settings, &[api("orders", "/orders/", &target)]);
    (gateway, seen)
}

/// Sends bytes, and gives what comes until the connection is closed.
fn exchange(gateway: &Gateway, bytes: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let _ = connection.write_all(bytes.as_bytes()); // All of it may not be taken.
    let mut all = Vec::new();
    let _ = connection.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn attack_67_what_can_be_framed_in_two_ways_is_refused_and_costs_nothing() {
    let (gateway, seen) = start("framing", &json!({}));
    let key = gateway.make_key();
    let second =
        format!("GET /orders/smuggled HTTP/1.1\r\nHost: h\r\nAuthorization: {key}\r\n\r\n");
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: +5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "X-A: b\r\n\tContent-Length: 4",
        "X-A: b\nContent-Length: 4",
    ] {
        let first = format!(
            "POST /orders/x HTTP/1.1\r\nHost: h\r\nAuthorization: {key}\r\n{fields}\r\n\r\n0\r\n\r\n"
        );
        let answer = exchange(&gateway, &(first + &second));
        assert!(answer.starts_with("HTTP/1.1 400"), "{fields:?}: {answer}");
        assert!(
            answer.ends_with("\r\n\r\n400 Bad Request"),
            "{fields:?}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{fields:?}: {answer}");
    }
    let old = format!(
        "POST /orders/x HTTP/1.0\r\nAuthorization: {key}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    assert!(exchange(&gateway, &old).contains(" 400 "));
    assert_eq!(seen.lines(), [""; 0]);
    let good = gateway.ask("/orders/good", &key);
    assert!(
        good.head.contains("x-ratelimit-remaining: 7"),
        "{}",
        good.head
    );
}

#[test]
fn attack_68_a_refusal_leaves_nothing_of_a_large_body_to_misread() {
    let (gateway, seen) = start("early", &json!({}));
    let limited = |limit: Value| {
        let mut session =
            json!({"org_id": "org1", "access_rights": {"orders": {"versions": ["Default"]}}});
        for (name, value) in limit.as_object().unwrap() {
            session[name] = value.clone();
        }
        gateway.make_key_of(&session)
    };
    let good = gateway.make_key();
    let over_rate = limited(json!({"rate": 1, "per": 3600}));
    let over_quota = limited(json!({"quota_max": 1, "quota_renewal_rate": 3600}));
    for key in [&over_rate, &over_quota] {
        assert_eq!(gateway.ask("/orders/used-up", key).status, 200);
    }
    let hidden =
        format!("GET /orders/smuggled HTTP/1.1\r\nHost: h\r\nAuthorization: {good}\r\n\r\n");
    let body = hidden.repeat(20_000);
    for (key, status) in [
        ("nobody", "403"),
        (&over_rate, "429"),
        (&over_quota, "403"),
        ("", "401"),
    ] {
        let field = if key.is_empty() {
            String::new()
        } else {
            format!("Authorization: {key}\r\n")
        };
        let request = format!(
            "POST /orders/x HTTP/1.1\r\nHost: h\r\n{field}Content-Length: {}\r\n\r\n{body}\
             GET /orders/second HTTP/1.1\r\nHost: h\r\nAuthorization: {good}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let answer = exchange(&gateway, &request);
        // Where the connection is reset before the answer was read, there is none to see.
        let is_refused = answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}"));
        assert!(is_refused, "{status}: {answer}");
    }
    let lines = seen.lines();
    let is_known = |line: &String| line.contains("/used-up ") || line.contains("/second ");
    assert!(lines.iter().all(is_known), "{lines:?}");
}

#[test]
fn attack_69_what_follows_an_upgrade_that_is_declined_is_a_request_of_its_own() {
    for (name, upgrades) in [("declined", true), ("not-sent", false)] {
        let settings = json!({"http_server_options": {"enable_websockets": upgrades}});
        let (gateway, seen) = start(name, &settings);
        let key = gateway.make_key();
        let upgrade = format!(
            "GET /orders/up HTTP/1.1\r\nHost: h\r\nAuthorization: {key}\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n"
        );
        let behind = "GET /orders/behind HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let answer = exchange(&gateway, &(upgrade + behind));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("HTTP/1.1 401"), "{answer}");
        assert_eq!(seen.lines(), ["GET /up HTTP/1.1"]);
    }
}

#[test]
fn attack_70_who_may_not_pass_is_not_asked_for_a_body() {
    let (gateway, seen) = start("expect", &json!({}));
    let head = "PUT /orders/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n";
    let refused = exchange(&gateway, &format!("{head}Expect: 100-continue\r\n\r\n"));
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    assert_eq!(seen.lines(), [""; 0]);
    let key = gateway.make_key();
    let passed = format!("{head}Authorization: {key}\r\nExpect: 100-continue\r\n\r\nbody");
    let passed = exchange(&gateway, &passed);
    assert!(passed.contains("HTTP/1.1 200"), "{passed}");
}

#[test]
fn attack_70_requests_that_are_taken_back_at_once_use_up_nothing() {
    let (gateway, seen) = start("resets", &json!({}));
    let key = gateway.make_key();
    let literal = |text: &str| {
        let mut bytes = vec![u8::try_from(text.len()).unwrap()];
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    // `GET http://h/orders/x` with the key, without dynamic table.
    let mut head = vec![0x82, 0x86, 0x01];
    head.extend(literal("h"));
    head.push(0x04);
    head.extend(literal("/orders/x"));
    head.push(0x00);
    head.extend(literal("authorization"));
    head.extend(literal(&key));
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    };
    let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    begin.extend(frame(4, 0, 0, &[]));
    let mut one = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    one.write_all(&[begin.clone(), frame(1, 5, 1, &head)].concat())
        .unwrap();
    let begun = Instant::now();
    while seen.lines() != ["GET /x HTTP/1.1"] {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{:?}",
            seen.lines()
        );
        std::thread::sleep(Duration::from_millis(10)); // Between two looks at the condition.
    }
    let mut burst = begin;
    for turn in 0..2000 {
        let stream = turn * 2 + 1;
        burst.extend(frame(1, 5, stream, &head)); // Headers: the whole request.
        burst.extend(frame(3, 0, stream, &8_u32.to_be_bytes())); // Taken back.
    }
    let mut connection = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    let _ = connection.write_all(&burst); // All of it may not be taken.
    let _ = connection.read_to_end(&mut Vec::new());
    let lines = seen.lines();
    assert!(
        lines.len() <= 8,
        "the quota is 8, and {} went on",
        lines.len()
    );
    assert_eq!(
        gateway.ask("/orders/tea", "").status,
        418,
        "others are served"
    );
}
