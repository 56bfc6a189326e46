//! Clients that take their time.

use std::time::Duration;

use super::support::{Setup, Upstream, within};

fn impatient() -> Setup {
    let mut setup = Setup::default();
    setup.serve.head_timeout = Duration::from_millis(80);
    setup.serve.idle_timeout = Duration::from_millis(1000);
    setup.serve.body_idle_timeout = Duration::from_millis(80);
    setup.serve.write_timeout = Duration::from_millis(80);
    setup
}

#[tokio::test]
async fn attack_70_a_slow_head_is_cut_off() {
    let upstream = Upstream::echo().await;
    let gateway = impatient().start(&[&upstream.url()]).await;
    for begin in [
        "",
        "G",
        "PRI * HT",
        "GET / HTTP/1.1\r\nHost: h\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX-A: ",
    ] {
        let mut client = gateway.connect().await;
        client.send(begin).await;
        assert_eq!(client.rest().await, "", "{begin:?}");
    }
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn attack_70_a_head_that_drips_is_cut_off() {
    let upstream = Upstream::echo().await;
    let gateway = impatient().start(&[&upstream.url()]).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n").await;
    within(async {
        while client.try_send("X-A: b\r\n").await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(upstream.seen(), 0);
}

#[tokio::test]
async fn attack_70_the_second_head_is_limited_as_the_first() {
    let upstream = Upstream::echo().await;
    let gateway = impatient().start(&[&upstream.url()]).await;
    let mut client = gateway.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /second")
        .await;
    client.until("\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_while() {
    let upstream = Upstream::echo().await;
    let gateway = impatient().start(&[&upstream.url()]).await;
    let mut client = gateway.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        client.until("\r\n\r\n").await;
        client.until("\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(160)).await; // Longer than a head may take.
    }
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn attack_70_a_body_that_does_not_come_is_cut_off() {
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.rest().await;
    })
    .await;
    let gateway = impatient().start(&[&upstream.url()]).await;
    let response = gateway
        .exchange("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nfive!")
        .await;
    assert!(
        response.starts_with("HTTP/1.1 408 Request Timeout"),
        "{response}"
    );
}

#[tokio::test]
async fn attack_70_who_does_not_read_is_cut_off() {
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
        while wire.try_send([b'x'; 65536]).await {}
    })
    .await;
    let gateway = impatient().start(&[&upstream.url()]).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    within(async {
        while gateway.stop.in_flight().connections != 1 {
            tokio::task::yield_now().await;
        }
        while gateway.stop.in_flight().connections != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(client);
}

#[tokio::test]
async fn connections_have_a_limit_and_wait_for_their_place() {
    let upstream = Upstream::echo().await;
    let mut setup = Setup::default();
    setup.serve.max_connections = 1;
    let gateway = setup.start(&[&upstream.url()]).await;
    let mut first = gateway.connect().await;
    first.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    first.until("GET /1").await;
    let mut second = gateway.connect().await;
    second
        .send("GET /2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .await;
    tokio::task::yield_now().await;
    assert_eq!(gateway.stop.in_flight().connections, 1);
    drop(first);
    assert!(second.rest().await.contains("GET /2"));
}
