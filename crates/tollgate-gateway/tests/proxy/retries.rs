//! What is sent a second time: only what never left.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tollgate_gateway::proxy::{ClientOptions, Proxy, ProxyOptions};
use tower::ServiceExt;

use super::support::{Setup, Upstream, Wire, nobody, proxy, within};

fn get() -> Request<Full<Bytes>> {
    Request::get("/x").body(Full::default()).unwrap()
}

fn post(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("/x").body(body.into()).unwrap()
}

async fn text(proxy: &Proxy<Full<Bytes>>, request: Request<Full<Bytes>>) -> (u16, String) {
    let response = within(proxy.clone().oneshot(request)).await.unwrap();
    let status = response.status().as_u16();
    let body = within(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// An upstream that answers each request by its name, and keeps no connection.
async fn named(name: &'static str) -> Upstream {
    Upstream::play(move |mut wire: Wire, _| async move {
        let head = wire.head().await.to_lowercase();
        if head.contains("content-length: 4") {
            wire.until("body").await;
        }
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{name}"
        ))
        .await;
    })
    .await
}

#[tokio::test]
async fn an_upstream_may_close_what_it_kept_open() {
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.head().await;
        // It says nothing of closing, and closes.
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
    })
    .await;
    let proxy = proxy(
        &ClientOptions::default(),
        ProxyOptions::default(),
        &[&upstream.url()],
    );
    for _ in 0..50 {
        assert_eq!(text(&proxy, get()).await, (200, "ok".into()));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_used_again() {
    let upstream = Upstream::echo().await;
    let proxy = proxy(
        &ClientOptions::default(),
        ProxyOptions::default(),
        &[&upstream.url()],
    );
    for _ in 0..10 {
        assert_eq!(text(&proxy, get()).await.0, 200);
        tokio::task::yield_now().await;
    }
    assert_eq!(upstream.seen(), 1);
}

#[tokio::test]
async fn a_connection_that_waits_for_too_long_is_closed() {
    let (told, closed) = tokio::sync::mpsc::unbounded_channel();
    let mut closed = closed;
    let upstream = Upstream::play(move |mut wire: Wire, _| {
        let told = told.clone();
        async move {
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
            let _ = told.send(wire.rest().await);
        }
    })
    .await;
    let client = ClientOptions {
        idle_timeout: std::time::Duration::from_millis(20),
        ..ClientOptions::default()
    };
    let proxy = proxy(&client, ProxyOptions::default(), &[&upstream.url()]);
    assert_eq!(text(&proxy, get()).await, (200, "ok".into()));
    assert_eq!(within(closed.recv()).await.as_deref(), Some(""));
}

#[tokio::test]
async fn a_connection_is_used_again_only_where_all_of_its_answer_was_read() {
    let upstream = Upstream::play(|mut wire, before| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            .await;
        if before == 1 {
            wire.send("0\r\n\r\n").await;
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain")
                .await;
        }
        wire.rest().await;
    })
    .await;
    let proxy = proxy(
        &ClientOptions::default(),
        ProxyOptions::default(),
        &[&upstream.url()],
    );
    let left = within(proxy.clone().oneshot(get())).await.unwrap();
    drop(left); // Somebody went away in the middle.
    assert_eq!(text(&proxy, get()).await, (200, "one".into()));
    assert_eq!(text(&proxy, get()).await, (200, "again".into()));
    assert_eq!(upstream.seen(), 2);
}

#[tokio::test]
async fn a_body_that_began_is_not_sent_again() {
    let bodies = Arc::new(AtomicUsize::new(0));
    let play = {
        let bodies = bodies.clone();
        move |mut wire: Wire, _| {
            let bodies = bodies.clone();
            async move {
                wire.until("begin").await;
                bodies.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let (first, second) = (
        Upstream::play(play.clone()).await,
        Upstream::play(play).await,
    );
    let setup = Setup::default();
    let gateway = setup.start(&[&first.url(), &second.url()]).await;
    let response = gateway
        .exchange(
            "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 9\r\n\r\nbegin",
        )
        .await;
    assert!(response.starts_with("HTTP/1.1 500"), "{response}");
    assert_eq!(bodies.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_request_that_was_read_is_not_sent_again() {
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.head().await;
    })
    .await;
    let other = named("b").await;
    let urls = [upstream.url(), other.url()];
    let proxy = proxy(
        &ClientOptions::default(),
        ProxyOptions::default(),
        &[&urls[0], &urls[1]],
    );
    assert_eq!(text(&proxy, get()).await.0, 500);
    assert_eq!((upstream.seen(), other.seen()), (1, 0));
}

#[tokio::test]
async fn targets_have_their_turn() {
    let (a, b) = (named("a").await, named("b").await);
    let urls = [a.url(), b.url(), a.url()];
    let proxy = proxy(
        &ClientOptions::default(),
        ProxyOptions::default(),
        &[&urls[0], &urls[1], &urls[2]],
    );
    let mut turns = String::new();
    for _ in 0..6 {
        turns += &text(&proxy, get()).await.1;
    }
    assert_eq!(turns, "abaaba");
}

#[tokio::test]
async fn a_target_that_refuses_is_passed_over_with_the_body_whole() {
    let dead = format!("http://{}", nobody());
    let alive = named("a").await;
    let urls = [dead, alive.url()];
    let proxy = proxy(
        &ClientOptions::default(),
        ProxyOptions::default(),
        &[&urls[0], &urls[1]],
    );
    for _ in 0..6 {
        assert_eq!(text(&proxy, post("body")).await, (200, "a".into()));
    }
}

#[tokio::test]
async fn if_all_refuse_the_answer_says_so_and_they_are_tried_again() {
    let (one, two) = (nobody(), nobody());
    let urls = [format!("http://{one}"), format!("http://{two}")];
    let proxy = proxy(
        &ClientOptions::default(),
        ProxyOptions::default(),
        &[&urls[0], &urls[1]],
    );
    assert_eq!(text(&proxy, get()).await.0, 500);
    let listener = tokio::net::TcpListener::bind(two).await.unwrap();
    tokio::spawn(async move {
        loop {
            let mut wire = Wire::from(listener.accept().await.unwrap().0);
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nup")
                .await;
        }
    });
    assert_eq!(text(&proxy, get()).await, (200, "up".into()));
    assert_eq!(text(&proxy, get()).await, (200, "up".into()));
}
