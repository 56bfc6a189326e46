//! Attacks that a server or a proxy can meet, as bytes.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::support::{Gateway, Upstream, Wire, parts, within};

/// Sends bytes, and sees 400, the connection closed, and no upstream asked.
async fn refused(gateway: &Gateway, upstream: &Upstream, bytes: &str, status: &str) {
    let response = gateway.exchange(bytes).await;
    assert!(
        response.starts_with(&format!("HTTP/1.1 {status}")),
        "{bytes:?}: {response}"
    );
    assert_eq!(
        response.matches("HTTP/1.1").count(),
        1,
        "{bytes:?}: {response}"
    );
    assert_eq!(upstream.seen(), 0, "{bytes:?}");
}

#[tokio::test]
async fn attack_22_23_what_can_be_read_in_two_ways_reaches_no_upstream() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    for path in [
        "//admin",
        "/./admin",
        "/a/../admin",
        "/a/..",
        "/%2e%2e%2fadmin",
        "/a/..%2Fb",
        "/a%5Cb",
        "/a\\b",
        "/%252f",
        "/%c0%ae",
        "/%00",
        "/%u002f",
        "/%",
        "/..;/admin",
    ] {
        let response = gateway.get(path, "").await;
        assert!(response.starts_with("HTTP/1.1 400"), "{path}: {response}");
    }
    assert_eq!(upstream.seen(), 0);
}

/// Where rights decide it is refused: `tests/it/attacks/paths.rs`.
#[tokio::test]
async fn attack_23_an_encoded_slash_goes_on_as_it_came() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let response = gateway.get("/a%2Fb", "").await;
    assert!(response.contains("GET /a%2Fb HTTP/1.1"), "{response}");
}

#[tokio::test]
async fn attack_24_a_target_has_one_form_and_one_host() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    for bytes in [
        "CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n",
        "GET http://other/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: h\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a, b\r\nConnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET h:80 HTTP/1.1\r\nHost: h:80\r\nConnection: close\r\n\r\n",
        "GET //h/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    ] {
        refused(&gateway, &upstream, bytes, "400").await;
    }
    let response = gateway
        .exchange("GET http://h/x?y HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await;
    assert!(response.contains("GET /x?y HTTP/1.1"), "{response}");
}

#[tokio::test]
async fn attack_25_an_encoded_question_mark_stays_in_the_path() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    for path in ["/a%3Fb%23c", "/a;x=1", "/a%3Bx"] {
        let response = gateway.get(path, "").await;
        let (_, head) = parts(&response);
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1")), "{head}");
    }
}

#[tokio::test]
async fn attack_29_the_method_goes_on_as_it_was_checked() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    for method in ["get", "TRACE", "PURGE"] {
        let response = gateway
            .exchange(format!(
                "{method} / HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: DELETE\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(
            response.contains(&format!("{method} / HTTP/1.1")),
            "{response}"
        );
    }
}

#[tokio::test]
async fn attack_40_heads_have_limits() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let many = "X-A: b\r\n".repeat(10_000);
    let long = format!("X-A: {}\r\n", "b".repeat(1 << 20));
    let some = "X-A: b\r\n".repeat(101);
    let far = "a".repeat(1 << 20);
    for (line, fields) in [
        ("/", &many),
        ("/", &long),
        ("/", &some),
        (&*format!("/{far}"), &String::new()),
    ] {
        let mut client = gateway.connect().await;
        let request = format!("GET {line} HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        client.try_send(&request).await;
        let response = client.rest().await;
        let is_refused = response.is_empty() || response.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{response}"); // Nothing where the socket was reset before it was read.
    }
    refused(
        &gateway,
        &upstream,
        "GET / HTTP/1.1\r\nHost: h\r\nX-A: b\r\n c\r\n\r\n",
        "400",
    )
    .await;
}

#[tokio::test]
async fn attack_67_framing_that_others_read_otherwise_is_refused() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: +4",
        "Content-Length: 4, 4",
        "Content-Length : 4",
        "Content-Length: -1",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding\x0b: chunked",
        "X-A: b\r\n\tContent-Length: 4",
        "X-A: b\nContent-Length: 4",
        "X-A: b\rContent-Length: 4",
        "X-A: b\0c",
    ] {
        let bytes = format!(
            "POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
        );
        refused(&gateway, &upstream, &bytes, "400").await;
    }
    let old = "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let response = gateway.exchange(old).await;
    assert!(response.contains(" 400 Bad Request"), "{response}");
    refused(&gateway, &upstream, "GET / HTTP/1.1\nHost: h\n\n", "400").await;
    for chunks in [
        "x\r\n",
        "4\nbody\r\n",
        "-1\r\n",
        "4 4\r\nbody\r\n",
        "fffffffffffffffff\r\n",
    ] {
        let bytes = format!(
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
        );
        let response = gateway.exchange(&bytes).await;
        assert!(!response.contains("200 OK"), "{chunks:?}: {response}");
        assert!(!response.contains("smuggled"), "{chunks:?}: {response}");
    }
}

#[tokio::test]
async fn attack_67_a_bad_request_behind_a_good_one_is_refused_alone() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let response = gateway
        .exchange("GET /good HTTP/1.1\r\nHost: h\r\n\r\nGET /bad HTTP/1.1\r\nHost: h\r\nX: y\nZ: z\r\n\r\n")
        .await;
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    assert!(response.contains("GET /good"), "{response}");
    assert!(response.contains("HTTP/1.1 400"), "{response}");
    assert!(!response.contains("GET /bad"), "{response}");
}

#[tokio::test]
async fn attack_68_an_early_answer_leaves_nothing_to_misread() {
    // What is sent as the body is never a request, however it looks.
    let body = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n".repeat(20_000);
    let length = body.len();
    let heads = Arc::new(Mutex::new(Vec::new()));
    // The upstream answers before it has read the body.
    let upstream = Upstream::play({
        let heads = heads.clone();
        move |mut wire, _| {
            let heads = heads.clone();
            async move {
                loop {
                    let head = wire.head().await;
                    heads
                        .lock()
                        .unwrap()
                        .push(head.lines().next().unwrap().to_owned());
                    wire.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
                        .await;
                    if head.starts_with("POST") {
                        wire.exactly(length).await;
                    }
                }
            }
        }
    })
    .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
    client.until("\r\n\r\nno").await;
    let second = "GET /second HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    client.try_send(body + second).await;
    client.rest().await;
    let heads = heads.lock().unwrap();
    let expected = ["POST / HTTP/1.1", "GET /second HTTP/1.1"];
    assert!(
        expected.starts_with(&heads.iter().map(String::as_str).collect::<Vec<_>>()),
        "{heads:?}"
    );
}

#[tokio::test]
async fn attack_68_a_refusal_closes_where_the_body_is_not_read() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client
        .send("POST //x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    let rest = client.rest().await;
    assert!(rest.starts_with("HTTP/1.1 400"), "{rest}");
    assert_eq!(rest.matches("HTTP/1.1").count(), 1);
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn attack_70_an_expectation_is_not_met_where_the_request_is_refused() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let bytes = "PUT //x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    refused(&gateway, &upstream, bytes, "400").await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET http://h/`, without dynamic table.
const GET: &[u8] = &[0x82, 0x84, 0x86, 0x01, 0x01, b'h'];

async fn http2(gateway: &Gateway) -> Wire {
    let mut client = gateway.connect().await;
    client.send(PREFACE).await;
    client.send(frame(SETTINGS, 0, 0, &[])).await;
    client
}

/// Reads to the end, and says whether the server told why it went.
async fn goes_away(client: &mut Wire) -> bool {
    let mut seen = Vec::new();
    let _ = within(tokio::io::AsyncReadExt::read_to_end(
        &mut client.stream,
        &mut seen,
    ))
    .await;
    let mut rest = &seen[..];
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == 7 {
            return true;
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    false
}

#[tokio::test]
async fn attack_70_rapid_resets_end_the_connection() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = http2(&gateway).await;
    let mut burst = Vec::new();
    for turn in 0..2000 {
        let stream = turn * 2 + 1;
        burst.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, GET));
        burst.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
    }
    client.try_send(burst).await;
    goes_away(&mut client).await;
    assert!(upstream.seen() < 200, "{} connections", upstream.seen());
}

#[tokio::test]
async fn attack_70_continuations_without_end_are_not_collected() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = http2(&gateway).await;
    client.send(frame(HEADERS, END_STREAM, 1, GET)).await;
    let more = frame(
        CONTINUATION,
        0,
        1,
        &b"\x00\x03x-a\x7d"
            .iter()
            .copied()
            .chain([b'b'; 125])
            .collect::<Vec<_>>(),
    );
    let mut sent = 0;
    while sent < 100_000 && client.try_send(&more).await {
        sent += 1;
    }
    assert!(sent < 100_000, "all were taken");
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn attack_70_empty_frames_are_not_collected() {
    let asked = Arc::new(Notify::new());
    let upstream = Upstream::play({
        let asked = asked.clone();
        move |mut wire, _| {
            let asked = asked.clone();
            async move {
                wire.head().await;
                asked.notify_one();
                wire.until("end").await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await;
                wire.rest().await;
            }
        }
    })
    .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = http2(&gateway).await;
    let post: &[u8] = &[0x83, 0x84, 0x86, 0x01, 0x01, b'h'];
    client.send(frame(HEADERS, END_HEADERS, 1, post)).await;
    within(asked.notified()).await;
    let empty = frame(DATA, 0, 1, &[]).repeat(1000);
    for _ in 0..200 {
        if !client.try_send(&empty).await {
            return; // The connection was ended, which is an answer as well.
        }
    }
    client.try_send(frame(DATA, END_STREAM, 1, b"end")).await;
    let mut seen = Vec::new();
    within(async {
        // 0x88 is `:status: 200`.
        while !seen.contains(&0x88) {
            let read = tokio::io::AsyncReadExt::read_buf(&mut client.stream, &mut seen).await;
            if read.unwrap_or(0) == 0 {
                break; // So is this.
            }
        }
    })
    .await;
}

#[tokio::test]
async fn attack_67_framing_of_http1_is_malformed_on_http2() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    for field in [
        ("transfer-encoding", "chunked"),
        ("connection", "x"),
        ("upgrade", "h2c"),
        ("Upper", "x"),
    ] {
        let mut client = http2(&gateway).await;
        let mut block = GET.to_vec();
        for text in [&[][..], field.0.as_bytes(), field.1.as_bytes()]
            .iter()
            .skip(1)
        {
            if block.len() == GET.len() {
                block.push(0); // A literal, not to be kept.
            }
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text);
        }
        client
            .send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block))
            .await;
        let mut seen = Vec::new();
        within(async {
            // A frame that resets the stream, or ends the connection.
            while !seen
                .windows(9)
                .any(|head| head[3] == RESET && head[..3] == [0, 0, 4])
            {
                let read = tokio::io::AsyncReadExt::read_buf(&mut client.stream, &mut seen).await;
                if read.unwrap_or(0) == 0 {
                    break;
                }
            }
        })
        .await;
        assert_eq!(upstream.seen(), 0, "{field:?}");
    }
}
