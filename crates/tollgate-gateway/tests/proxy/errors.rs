//! What a client is told where an upstream has no answer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tollgate_gateway::proxy::{ProxyError, ProxyErrorKind, ProxyHints, ProxyOptions};

use super::support::{Setup, Upstream, ask, nobody, parts, within};

const PROBLEM: &str = "{\n    \"error\": \"There was a problem proxying the request\"\n}";
const LATE: &str = "{\n    \"error\": \"Upstream service reached hard timeout.\"\n}";

fn request() -> Request<Full<Bytes>> {
    Request::get("http://gateway/x")
        .body(Full::default())
        .unwrap()
}

fn impatient() -> ProxyOptions {
    ProxyOptions {
        head_timeout: Duration::from_millis(400),
        ..ProxyOptions::default()
    }
}

async fn check(url: &str, kind: ProxyErrorKind, status: u16, body: &str) {
    let response = ask(&[url], impatient(), request()).await;
    let error = response.extensions().get::<ProxyError>().cloned();
    assert_eq!(response.status(), status, "{url}: {error:?}");
    assert_eq!(error.map(|error| error.kind()), Some(kind));
    assert_eq!(response.headers()["content-type"], "application/json");
    let bytes = within(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(bytes, body);
}

#[tokio::test]
async fn each_failure_has_tyks_answer_and_a_kind() {
    let refusing = format!("http://{}", nobody());
    check(&refusing, ProxyErrorKind::Refused, 500, PROBLEM).await;
    let unknown = "{\n    \"error\": \"Upstream host lookup failed\"\n}";
    check(
        "http://nobody.invalid",
        ProxyErrorKind::LookupFailed,
        500,
        unknown,
    )
    .await;
    let upstream = Upstream::play(|_, _| async {}).await;
    check(&upstream.url(), ProxyErrorKind::Reset, 500, PROBLEM).await;
    let upstream = Upstream::answering("what?\r\n\r\n").await;
    check(&upstream.url(), ProxyErrorKind::BadReply, 500, PROBLEM).await;
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\nContent-").await;
    check(&upstream.url(), ProxyErrorKind::Reset, 500, PROBLEM).await;
    let upstream = Upstream::answering(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    )
    .await;
    check(&upstream.url(), ProxyErrorKind::BadReply, 500, PROBLEM).await;
    let upstream = Upstream::play(|wire, _| async move {
        let _open = wire;
        std::future::pending().await
    })
    .await;
    check(&upstream.url(), ProxyErrorKind::TimedOut, 504, LATE).await;
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.send("this is no TLS").await;
        wire.rest().await;
    })
    .await;
    let tls = format!("https://{}", upstream.addr);
    check(&tls, ProxyErrorKind::Tls, 500, PROBLEM).await;
}

#[tokio::test]
async fn the_status_of_a_bad_gateway_can_be_set() {
    let options = ProxyOptions {
        bad_gateway: StatusCode::BAD_GATEWAY,
        ..ProxyOptions::default()
    };
    let url = format!("http://{}", nobody());
    assert_eq!(ask(&[&url], options, request()).await.status(), 502);
}

#[tokio::test]
async fn the_answer_has_the_form_of_the_request() {
    let url = format!("http://{}", nobody());
    let xml = Request::get("/")
        .header("content-type", "text/xml")
        .body(Full::default())
        .unwrap();
    let response = ask(&[&url], ProxyOptions::default(), xml).await;
    assert_eq!(response.headers()["content-type"], "text/xml");
    let grpc = Request::post("/")
        .header("content-type", "application/grpc")
        .body(Full::default())
        .unwrap();
    let response = ask(&[&url], ProxyOptions::default(), grpc).await;
    assert_eq!(response.status(), 200);
    assert!(response.headers().contains_key("grpc-status"));
}

#[tokio::test]
async fn the_whole_exchange_has_a_limit_of_its_own() {
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfive!")
            .await;
        std::future::pending().await
    })
    .await;
    let mut request = request();
    request.extensions_mut().insert(ProxyHints {
        timeout: Some(Duration::from_millis(150)),
        ..ProxyHints::default()
    });
    let response = ask(&[&upstream.url()], ProxyOptions::default(), request).await;
    assert_eq!(response.status(), 200);
    let err = within(response.into_body().collect()).await.unwrap_err();
    assert!(err.to_string().contains("time limit"), "{err}");

    let silent = Upstream::play(|wire, _| async move {
        let _open = wire;
        std::future::pending().await
    })
    .await;
    let options = ProxyOptions {
        exchange_timeout: Some(Duration::from_millis(80)),
        ..ProxyOptions::default()
    };
    let response = ask(&[&silent.url()], options, self::request()).await;
    assert_eq!(response.status(), 504);
}

#[tokio::test]
async fn a_long_upload_is_not_taken_for_a_late_answer() {
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.until("\r\n0\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let mut setup = Setup::default();
    setup.proxy.head_timeout = Duration::from_millis(400);
    let gateway = setup.start(&[&upstream.url()]).await;
    let mut client = gateway.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.send("1\r\nx\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn the_wait_for_an_answer_begins_when_the_body_was_sent() {
    let upstream = Upstream::play(|mut wire, _| async move {
        wire.until("body").await;
        std::future::pending().await
    })
    .await;
    let mut setup = Setup::default();
    setup.proxy.head_timeout = Duration::from_millis(80);
    let gateway = setup.start(&[&upstream.url()]).await;
    let response = gateway
        .exchange(
            "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody",
        )
        .await;
    let (status, body) = parts(&response);
    assert_eq!((status, body), ("HTTP/1.1 504 Gateway Timeout", LATE));
}

#[tokio::test]
async fn a_request_can_name_a_target_of_its_own() {
    use std::sync::Arc;
    use tollgate_gateway::proxy::Target;
    let upstream = Upstream::echo().await;
    let mut request = Request::get("/path?a=1").body(Full::default()).unwrap();
    let target = Target::parse(&format!("{}/other", upstream.url())).unwrap();
    request.extensions_mut().insert(ProxyHints {
        target: Some(Arc::new(target)),
        ..ProxyHints::default()
    });
    let response = ask(&["http://nobody.invalid"], ProxyOptions::default(), request).await;
    let body = within(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    assert!(
        body.starts_with(b"GET /other/path?a=1 HTTP/1.1\r\n"),
        "{body:?}"
    );
}
