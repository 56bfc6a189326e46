//! HTTP/2 on either side, as gRPC needs it.

use std::{collections::VecDeque, convert::Infallible};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tollgate_gateway::serve::{Listener, RequestBody, ServeOptions, Stop, serve};
use tower::service_fn;

use super::support::{Gateway, Setup, Upstream, within};

type Frames = StreamBody<
    futures_util::stream::Iter<
        std::collections::vec_deque::IntoIter<Result<Frame<Bytes>, Infallible>>,
    >,
>;

fn frames(data: &[&'static str], trailer: Option<(&'static str, &'static str)>) -> Frames {
    let data = data
        .iter()
        .map(|data| Ok(Frame::data(Bytes::from_static(data.as_bytes()))));
    let mut frames: VecDeque<_> = data.collect();
    if let Some((name, value)) = trailer {
        let mut trailers = HeaderMap::new();
        trailers.insert(name, value.parse().unwrap());
        frames.push_back(Ok(Frame::trailers(trailers)));
    }
    StreamBody::new(futures_util::stream::iter(frames))
}

/// A gRPC-like server over HTTP/2 without TLS: it says what it saw, and `grpc-status` behind it.
async fn grpc() -> (String, Stop) {
    async fn answer(request: Request<RequestBody>) -> Result<Response<Frames>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let saw = format!(
            "{} {:?} te={:?} host={:?} authority={:?} sum={:?} body={:?}",
            head.uri.path(),
            head.version,
            head.headers.get("te"),
            head.headers.contains_key("host"),
            head.uri.authority().is_some(),
            trailers.get("x-sum"),
            body.to_bytes(),
        );
        let saw: &'static str = Box::leak(saw.into_boxed_str());
        let mut response = Response::new(frames(&[saw, "!"], Some(("grpc-status", "0"))));
        response
            .headers_mut()
            .insert("content-type", "application/grpc".parse().unwrap());
        Ok(response)
    }
    let stop = Stop::new();
    let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("h2c://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(
        listener,
        service_fn(answer),
        ServeOptions::default(),
        stop.clone(),
    ));
    (url, stop)
}

async fn connect<B>(gateway: &Gateway) -> SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

async fn whole(response: Response<Incoming>) -> (String, HeaderMap) {
    let body = within(response.into_body().collect()).await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    (
        String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        trailers,
    )
}

#[tokio::test]
async fn grpc_goes_through_with_trailers_both_ways() {
    let (url, _stop) = grpc().await;
    let gateway = Gateway::before(&url).await;
    let mut client = connect(&gateway).await;
    let request = Request::post("http://gateway/pkg.Service/Call")
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(frames(&["ab", "c"], Some(("x-sum", "3"))))
        .unwrap();
    let response = within(client.send_request(request)).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let (body, trailers) = whole(response).await;
    // The server of the test gives every request a host.
    let saw = r#"/pkg.Service/Call HTTP/2.0 te=Some("trailers") host=true authority=true sum=Some("3") body=b"abc"!"#;
    assert_eq!(body, saw);
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let (url, stop) = grpc().await;
    let gateway = Gateway::before(&url).await;
    let client = connect(&gateway).await;
    let mut asked = tokio::task::JoinSet::new();
    for turn in 0..100 {
        let mut client = client.clone();
        asked.spawn(async move {
            let request = Request::get(format!("http://gateway/{turn}"))
                .body(frames(&[], None))
                .unwrap();
            let response = within(client.send_request(request)).await.unwrap();
            whole(response).await.0.starts_with(&format!("/{turn} "))
        });
    }
    assert!(asked.join_all().await.into_iter().all(|is_right| is_right));
    assert_eq!(stop.in_flight().connections, 1);
    assert_eq!(gateway.stop.in_flight().connections, 1);
}

#[tokio::test]
async fn an_upstream_of_http1_gets_http1() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::before(&upstream.url()).await;
    let mut client = connect(&gateway).await;
    let request = Request::get("http://gateway/x")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = within(client.send_request(request)).await.unwrap();
    let head = whole(response).await.0;
    assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Cookie: a=1; b=2\r\n"), "{head}");
    assert_eq!(head.matches("Host: ").count(), 1);
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
}

#[tokio::test]
async fn a_client_of_http1_reaches_an_upstream_of_http2() {
    let (url, _stop) = grpc().await;
    let gateway = Gateway::before(&url).await;
    let response = gateway.get("/x", "TE: trailers").await;
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    assert!(response.contains("/x HTTP/2.0"), "{response}");
}

#[tokio::test]
async fn a_stop_tells_connections_of_http2() {
    use std::time::Duration;
    use tollgate_gateway::serve::Stopped;
    let (url, _stop) = grpc().await;
    let gateway = Gateway::before(&url).await;
    let mut client = connect(&gateway).await;
    let request = || {
        Request::get("http://gateway/x")
            .body(frames(&[], None))
            .unwrap()
    };
    let response = within(client.send_request(request())).await.unwrap();
    whole(response).await;
    let stopped = within(gateway.stop.wait(Duration::from_secs(15))).await;
    assert_eq!(stopped, Stopped::Clean);
    assert!(within(client.send_request(request())).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_of_http2_is_closed() {
    use std::time::Duration;
    let (url, _stop) = grpc().await;
    let mut setup = Setup::default();
    setup.serve.idle_timeout = Duration::from_millis(60);
    let gateway = setup.start(&[&url]).await;
    let client = connect::<Full<Bytes>>(&gateway).await;
    within(async {
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
