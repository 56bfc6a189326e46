//! Connections that go over to another protocol.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};
use tollgate_gateway::serve::Stopped;

use super::support::{Gateway, Setup, Upstream, parts, within};

/// An upstream that speaks WebSocket and says what it hears.
async fn web_socket() -> Upstream {
    Upstream::play(|wire, _| async move {
        let mut socket = accept_async(wire.stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// An upstream that goes over to `foo`, says a word at once, and then what it hears.
async fn foo() -> Upstream {
    Upstream::play(|mut wire, _| async move {
        let head = wire.head().await.to_lowercase();
        assert!(
            head.contains("upgrade: foo") && head.contains("connection: upgrade"),
            "{head}"
        );
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\nhello;",
        )
        .await;
        loop {
            let heard = wire.until(";").await;
            if heard == "end;" {
                return;
            }
            wire.send(heard).await;
        }
    })
    .await
}

const FOO: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";

#[tokio::test]
async fn a_web_socket_talks_through() {
    let upstream = web_socket().await;
    let gateway = Gateway::before(&upstream.url().replace("http", "ws")).await;
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (mut socket, response) = within(client_async("ws://gateway/chat", stream))
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    for text in ["one", "two", &"long ".repeat(100_000)] {
        socket.send(Message::text(text)).await.unwrap();
        let heard = within(socket.next()).await.unwrap().unwrap();
        assert_eq!(heard, Message::text(text));
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn another_protocol_is_tunnelled_both_ways_until_one_end_closes() {
    let upstream = foo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client.send(FOO).await;
    let head = client.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("upgrade: foo"), "{head}");
    assert_eq!(client.until(";").await, "hello;");
    // What is no HTTP is nobody's business here.
    client
        .send("GET / HTTP/1.1\nContent-Length: 1\nContent-Length: 2\n\n;")
        .await;
    client.until("Content-Length: 2\n\n;").await;
    assert_eq!(gateway.stop.in_flight().tunnels, 1);
    client.send("end;").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let upstream = foo().await;
    let mut setup = Setup::default();
    setup.proxy.tunnel_idle_timeout = Some(Duration::from_millis(60));
    let gateway = setup.start(&[&upstream.url()]).await;
    let mut client = gateway.connect().await;
    client.send(FOO).await;
    client.until("hello;").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_tunnel_is_waited_for_and_cut_at_the_deadline() {
    let upstream = foo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client.send(FOO).await;
    client.until("hello;").await;
    let stopped = within(gateway.stop.wait(Duration::from_millis(60))).await;
    assert!(
        matches!(stopped, Stopped::Cut(left) if left.tunnels == 1),
        "{stopped:?}"
    );
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn the_upstream_may_decline() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client.send(FOO).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(client.until("no").await, "no");
}

#[tokio::test]
async fn another_protocol_than_asked_for_is_no_answer() {
    let upstream = Upstream::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bar\r\n\r\n",
    )
    .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client.send(FOO).await;
    assert!(client.head().await.starts_with("HTTP/1.1 500"));
}

#[tokio::test]
async fn attack_69_bytes_behind_an_upgrade_wait_for_its_answer() {
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
            .await;
        let second = wire.head().await;
        assert!(second.starts_with("GET /second HTTP/1.1"), "{second}");
        wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nyes")
            .await;
    })
    .await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client
        .send(format!("{FOO}GET /second HTTP/1.1\r\nHost: h\r\n\r\n"))
        .await;
    client.until("no").await; // The second is a request of its own, and checked as such.
    client.until("yes").await;

    let mut client = gateway.connect().await;
    client.send(format!("{FOO}no request\n\n")).await;
    assert!(client.rest().await.contains("HTTP/1.1 400 Bad Request"));
}

#[tokio::test]
async fn attack_33_an_upgrade_to_http_hides_nothing() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    for protocol in ["h2c", "HTTP/2.0", "TLS/1.0", "websocket, h2c"] {
        let response = gateway
            .get("/", &format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: x"))
            .await;
        let (_, head) = parts(&response);
        let head = head.to_lowercase();
        assert!(
            !head.contains("upgrade") && !head.contains("http2-settings"),
            "{head}"
        );
    }
}
