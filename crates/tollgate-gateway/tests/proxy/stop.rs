//! The end of a server, in phases.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::Notify};
use tollgate_gateway::serve::{InFlight, Stopped};

use super::support::{Gateway, Upstream, within};

/// An upstream that says when it was asked, and answers when it is told to.
async fn patient() -> (Upstream, Arc<Notify>, Arc<Notify>) {
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let upstream = Upstream::play({
        let (asked, answer) = (asked.clone(), answer.clone());
        move |mut wire, _| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                wire.head().await;
                asked.notify_one();
                answer.notified().await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
                    .await;
            }
        }
    })
    .await;
    (upstream, asked, answer)
}

#[tokio::test]
async fn what_is_under_way_ends_and_nothing_new_begins() {
    let (upstream, asked, answer) = patient().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    within(asked.notified()).await;
    let flying = InFlight {
        connections: 1,
        requests: 1,
        tunnels: 0,
    };
    assert_eq!(gateway.stop.in_flight(), flying);

    let stopping = tokio::spawn({
        let stop = gateway.stop.clone();
        async move { stop.wait(Duration::from_secs(15)).await }
    });
    within(async {
        // The listener goes as soon as its task runs.
        while TcpStream::connect(gateway.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!stopping.is_finished());
    answer.notify_one();
    let response = client.rest().await.to_lowercase();
    assert!(response.contains("connection: close"), "{response}");
    assert!(response.ends_with("done"), "{response}");
    assert_eq!(within(stopping).await.unwrap(), Stopped::Clean);
    assert_eq!(gateway.stop.in_flight(), InFlight::default());
}

#[tokio::test]
async fn idle_connections_are_closed_at_once() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut silent = gateway.connect().await;
    let mut idle = gateway.connect().await;
    idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    idle.until("\r\n\r\n").await;
    idle.until("\r\n\r\n").await; // The echoed head.
    let stopped = within(gateway.stop.wait(Duration::from_secs(15))).await;
    assert_eq!(stopped, Stopped::Clean);
    assert_eq!((silent.rest().await, idle.rest().await), Default::default());
}

#[tokio::test]
async fn the_deadline_cuts_what_is_left() {
    let (upstream, asked, _answer) = patient().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = gateway.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    within(asked.notified()).await;
    let stopped = within(gateway.stop.wait(Duration::from_millis(60))).await;
    assert_eq!(
        stopped,
        Stopped::Cut(InFlight {
            connections: 1,
            requests: 1,
            tunnels: 0
        })
    );
    assert_eq!(client.rest().await, "");
    assert_eq!(gateway.stop.in_flight(), InFlight::default());
}
