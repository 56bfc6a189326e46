//! Spans of the program, as a collector gets them.

use std::{
    net::SocketAddr,
    sync::mpsc::{Receiver, Sender, channel},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as AnyValue},
    trace::v1::Span,
};
use prost::Message;
use serde_json::{Value, json};

use crate::{Gateway, api, ports::free_port, upstream};

/// What a collector got at once.
struct Batch {
    path: String,
    headers: HeaderMap,
    request: ExportTraceServiceRequest,
}

/// A collector: OTLP over HTTP/1.1, or by gRPC.
struct Collector {
    address: SocketAddr,
    batches: Receiver<Batch>,
}

impl Collector {
    fn start(is_grpc: bool) -> Self {
        let (sender, batches) = channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(collect(listener, is_grpc, sender));
        });
        Self { address, batches }
    }

    /// The next spans, with what they came in.
    fn next(&self) -> Batch {
        let batch = self.batches.recv_timeout(Duration::from_secs(60));
        batch.expect("spans come")
    }

    /// Spans, until there are so many.
    fn spans(&self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            spans.extend(self.next().spans());
        }
        spans
    }
}

impl Batch {
    fn spans(self) -> impl Iterator<Item = Span> {
        let resources = self.request.resource_spans.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans)
    }
}

async fn collect(listener: std::net::TcpListener, is_grpc: bool, sender: Sender<Batch>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let io = TokioIo::new(listener.accept().await.unwrap().0);
        let sender = sender.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let sender = sender.clone();
            async move { Ok::<_, std::convert::Infallible>(take(request, is_grpc, &sender).await) }
        });
        tokio::spawn(async move {
            let _ = if is_grpc {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                server.serve_connection(io, service).await
            } else {
                let server = hyper::server::conn::http1::Builder::new();
                server.serve_connection(io, service).await
            };
        });
    }
}

type Frames =
    futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, std::convert::Infallible>>>;

async fn take(
    request: Request<Incoming>,
    is_grpc: bool,
    sender: &Sender<Batch>,
) -> Response<StreamBody<Frames>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let message = if is_grpc { body.slice(5..) } else { body };
    let batch = Batch {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        request: ExportTraceServiceRequest::decode(message).unwrap(),
    };
    let _ = sender.send(batch); // The test may have ended.
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = if is_grpc {
        vec![
            Ok(Frame::data(Bytes::from_static(&[0; 5]))), // An empty message.
            Ok(Frame::trailers(trailers)),
        ]
    } else {
        Vec::new()
    };
    Response::new(StreamBody::new(futures_util::stream::iter(frames)))
}

fn start(name: &str, traces: &Value, collector: &Collector, apis: &[Value]) -> Gateway {
    let mut options = json!({
        "enabled": true, "endpoint": collector.address.to_string(), "batch_timeout": 50});
    for (name, value) in traces.as_object().unwrap() {
        options[name] = value.clone();
    }
    let settings = json!({
        "log_format": "json", "access_logs": {"enabled": true}, "opentelemetry": options});
    Gateway::with(name, &settings, apis)
}

fn orders() -> Value {
    let mut orders = api(
        "orders",
        "/orders/",
        &format!("http://127.0.0.1:{}/v2", upstream()),
    );
    orders["version_data"]["versions"]["Default"]["global_headers"]["X-Trace"] =
        json!("$tyk_context.tyk_trace_id");
    orders
}

/// The attribute of a span, as a text.
fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    let value = found.and_then(|attribute| attribute.value.clone()?.value);
    match value {
        Some(AnyValue::StringValue(text)) => text,
        Some(AnyValue::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

#[track_caller]
fn of_kind(spans: &[Span], kind: i32) -> &Span {
    let mut found = spans.iter().filter(|span| span.kind == kind);
    let span = found.next().expect("a span of this kind");
    assert_eq!(found.next(), None);
    span
}

#[test]
fn a_trace_goes_on_through_the_gateway_and_holds_no_secret() {
    let collector = Collector::start(false);
    let http = json!({
        "exporter": "http", "resource_name": "edge", "headers": {"x-collector-key": "k-4711"}});
    let mut gateway = start("traces", &http, &collector, &[orders()]);
    let key = gateway.make_key();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("authorization", &*key), ("traceparent", &*parent)];
    let answer = gateway.try_ask("GET", "/orders/7?card=unsaid", &headers, "");
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains(&format!("x-tyk-trace-id: {trace}")));
    let log = gateway.log_of_all();

    let first = collector.next();
    assert_eq!(first.path, "/v1/traces");
    assert_eq!(first.headers["content-type"], "application/x-protobuf");
    assert_eq!(first.headers["x-collector-key"], "k-4711");
    let resource = first.request.resource_spans[0].resource.clone().unwrap();
    assert_eq!(attribute(&resource.attributes, "service.name"), "edge");
    let told = format!("{:?}", first.request);
    for secret in [&*key, "unsaid", crate::SECRET] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
    let mut spans: Vec<_> = first.spans().collect();
    if spans.len() < 2 {
        spans.extend(collector.spans(1));
    }
    let (server, client) = (of_kind(&spans, SERVER), of_kind(&spans, CLIENT));
    assert_eq!(hex(&server.trace_id), trace);
    assert_eq!(hex(&server.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(server.name, "GET /orders/");
    for (name, value) in [
        ("tyk.api.id", "orders"),
        ("tyk.api.apikey.alias", "joe"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/orders/7"),
    ] {
        assert_eq!(attribute(&server.attributes, name), value, "{name}");
    }
    assert_eq!(client.parent_span_id, server.span_id);
    let url = attribute(&client.attributes, "url.full");
    assert!(
        url.starts_with("http://127.0.0.1:") && url.ends_with("/v2/7"),
        "{url}"
    );
    // The upstream is told of the span that the call of it is.
    let seen = answer.body.to_lowercase();
    let named = format!("traceparent: 00-{trace}-{}-01", hex(&client.span_id));
    assert!(seen.contains(&named), "{named} in {seen}");
    assert!(seen.contains(&format!("x-trace: {trace}")), "{seen}");
    assert!(log.contains(&format!(r#""trace_id":"{trace}""#)) && !log.contains("k-4711"));
}

#[test]
fn spans_go_by_grpc_and_traces_are_named_in_b3() {
    let collector = Collector::start(true);
    let b3 = json!({"context_propagation": "b3"});
    let gateway = start("traces-grpc", &b3, &collector, &[orders()]);
    let key = gateway.make_key();
    let single = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1";
    let headers = [("authorization", &*key), ("b3", single)];
    let answer = gateway.try_ask("GET", "/orders/7", &headers, "").unwrap();
    let first = collector.next();
    assert_eq!(
        first.path,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    );
    let mut spans: Vec<_> = first.spans().collect();
    if spans.len() < 2 {
        spans.extend(collector.spans(1));
    }
    let client = of_kind(&spans, CLIENT);
    assert_eq!(hex(&client.trace_id), &single[..32]);
    let seen = answer.body.to_lowercase();
    assert!(
        seen.contains(&format!("x-b3-spanid: {}", hex(&client.span_id))),
        "{seen}"
    );
    assert!(
        !seen.contains("\r\nb3:") && !seen.contains("traceparent"),
        "{seen}"
    );

    assert_eq!(gateway.ask("/orders/7", "nobody").status, 403);
    let refused = collector.spans(1).remove(0);
    assert_eq!(refused.parent_span_id, Vec::<u8>::new());
    assert_eq!(
        attribute(&refused.attributes, "tollgate.decision"),
        "key_unknown"
    );
    assert_eq!(
        attribute(&refused.attributes, "http.response.status_code"),
        "403"
    );
}

#[test]
fn a_collector_that_is_away_costs_spans_and_no_request() {
    let collector = Collector::start(false);
    let closed = format!("127.0.0.1:{}", free_port().unwrap());
    let away = json!({"exporter": "http", "endpoint": closed});
    let mut gateway = start("traces-away", &away, &collector, &[orders()]);
    let key = gateway.make_key();
    assert_eq!(gateway.ask("/orders/7", &key).status, 200);
    gateway.wait_for_line("spans are lost");
    let metrics = gateway.metrics();
    let lost = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tollgate_spans_lost_total "));
    assert!(lost.is_some_and(|lost| lost != "0"), "{metrics}");
    gateway.log_of_all(); // It stops all the same.
}

#[test]
fn what_is_not_to_be_tracked_or_sampled_is_not_sent() {
    let collector = Collector::start(false);
    let http = json!({"exporter": "http", "sampling": {"type": "AlwaysOff", "parent_based": true}});
    let mut silent = orders();
    silent["api_id"] = json!("silent");
    silent["proxy"]["listen_path"] = json!("/silent/");
    silent["use_keyless"] = json!(true);
    silent["do_not_track"] = json!(true);
    let mut orders = orders();
    orders["use_keyless"] = json!(true);
    orders["version_data"]["versions"]["Default"]["extended_paths"]["do_not_track_endpoints"] =
        json!([{"path": "/never", "method": "GET"}]);
    let mut gateway = start("traces-sampled", &http, &collector, &[orders, silent]);
    let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let ask = |path: &str, parent: &str| {
        let headers = [("traceparent", parent)];
        let headers = if parent.is_empty() { &[][..] } else { &headers };
        let answer = gateway.try_ask("GET", path, headers, "").unwrap();
        assert_eq!(answer.status, 200, "{path}");
        answer.body.to_lowercase()
    };
    // Who is not traced is told so, and what was said of others goes on as it is.
    let unsampled = ask("/orders/1", "");
    let named = unsampled
        .lines()
        .find(|line| line.starts_with("traceparent: 00-"));
    assert!(
        named.is_some_and(|line| line.trim().ends_with("-00")),
        "{unsampled}"
    );
    assert!(ask("/orders/never", sampled).contains(&format!("traceparent: {sampled}")));
    assert!(ask("/silent/2", sampled).contains(&format!("traceparent: {sampled}")));
    assert!(!ask("/orders/3", sampled).contains(sampled));
    gateway.log_of_all();
    let mut paths = Vec::new();
    while let Ok(batch) = collector.batches.try_recv() {
        paths.extend(
            batch
                .spans()
                .map(|span| (span.kind, attribute(&span.attributes, "url.path"))),
        );
    }
    paths.sort();
    assert_eq!(
        paths,
        [(SERVER, "/orders/3".to_owned()), (CLIENT, String::new())]
    );
}
