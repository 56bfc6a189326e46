//! Bodies go on as they come, both ways.

use std::sync::Arc;

use tokio::sync::Notify;

use super::support::{Gateway, Upstream, within};

#[tokio::test]
async fn a_response_that_never_ends_is_delivered_as_it_comes() {
    let (more, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let upstream = Upstream::play({
        let (more, gone) = (more.clone(), gone.clone());
        move |mut wire, _| {
            let (more, gone) = (more.clone(), gone.clone());
            async move {
                wire.head().await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
                for part in ["one", "two", "six"] {
                    wire.send(format!("3\r\n{part}\r\n")).await;
                    more.notified().await;
                }
                wire.rest().await;
                gone.notify_one();
            }
        }
    })
    .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client.send("GET /events HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK"));
    for part in ["one", "two", "six"] {
        client.until(part).await; // Only this much has been sent so far.
        more.notify_one();
    }
    drop(client);
    within(gone.notified()).await; // Who goes away is not waited for.
}

#[tokio::test]
async fn a_request_is_sent_on_as_it_comes() {
    let seen = Arc::new(Notify::new());
    let upstream = Upstream::play({
        let seen = seen.clone();
        move |mut wire, _| {
            let seen = seen.clone();
            async move {
                let head = wire.head().await.to_lowercase();
                assert!(head.contains("transfer-encoding: chunked"), "{head}");
                for part in ["one", "two"] {
                    wire.until(part).await;
                    seen.notify_one();
                }
                wire.until("0\r\n").await;
                wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for part in ["one", "two"] {
        client.send(format!("3\r\n{part}\r\n")).await;
        within(seen.notified()).await;
    }
    client.send("0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 204"));
}

#[tokio::test]
async fn trailers_go_on_both_ways() {
    let upstream = Upstream::play(|mut wire, _| async move {
        let head = wire.head().await.to_lowercase();
        assert!(head.contains("trailer: x-sum"), "{head}");
        assert!(head.contains("te: trailers"), "{head}");
        let end = wire.until("\r\n\r\n").await.to_lowercase();
        assert!(end.contains("x-sum: 7"), "{end}");
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n2\r\nok\r\n0\r\nX-End: 8\r\n\r\n").await;
    })
    .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let response = gateway
        .exchange(
            "POST / HTTP/1.1\r\nHost: h\r\nConnection: close, TE\r\nTE: trailers\r\nTrailer: X-Sum\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
        .await
        .to_lowercase();
    assert!(response.contains("trailer: x-end"), "{response}");
    assert!(response.ends_with("0\r\nx-end: 8\r\n\r\n"), "{response}");
}

#[tokio::test]
async fn lengths_stay_as_the_upstream_gave_them() {
    for (method, answer, head, body) in [
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "content-length: 2",
            "ok",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
            "content-length: 7",
            "",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            "etag: \"x\"",
            "",
        ),
        (
            "GET",
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "404 not found",
            "",
        ),
        (
            "GET",
            "HTTP/1.0 200 OK\r\n\r\nto the end",
            "200 ok",
            "to the end",
        ),
    ] {
        let upstream = Upstream::answering(answer).await;
        let gateway = Gateway::before(&upstream.url()).await;
        let response = gateway
            .exchange(format!("{method} / HTTP/1.0\r\nHost: h\r\n\r\n"))
            .await;
        let (start, rest) = response.split_once("\r\n\r\n").unwrap();
        assert!(start.to_lowercase().contains(head), "{start}");
        assert_eq!(rest, body, "{answer}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_made_whole() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfive!").await;
    let gateway = Gateway::before(&upstream.url()).await;
    let response = gateway.get("/", "").await;
    assert!(response.ends_with("\r\n\r\nfive!"), "{response}");
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n")
            .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let response = gateway.get("/", "").await;
    assert!(response.ends_with("5\r\nfive!\r\n"), "{response}"); // No last chunk.
}

#[tokio::test]
async fn an_expectation_is_answered_when_the_body_is_wanted() {
    let upstream = Upstream::play(|mut wire, _| async move {
        let head = wire.head().await.to_lowercase();
        assert!(!head.contains("expect"), "{head}");
        wire.until("body").await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client
        .send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 Continue"));
    client.send("body").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK"));
}
