//! The least that a proxy on hyper does, to measure ours against: hyper's server, the pooled client of
//! `hyper-util`, bodies streamed both ways. No limits, no time-outs, no headers of its own.
//!
//! ```text
//! bare_proxy LISTEN UPSTREAM
//! ```
//!
//! Run by the bin `gateway`.

use std::net::SocketAddr;

use http::{
    HeaderValue, Request, Uri,
    header::HOST,
    uri::{Authority, Scheme},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::{TcpListener, TcpStream};

type Upstream = Client<HttpConnector, Incoming>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("bare_proxy LISTEN UPSTREAM");
    let listen: SocketAddr = next()?.parse()?;
    let upstream: Authority = next()?.parse()?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream, client.clone(), upstream.clone()));
    }
}

/// Serves one connection. It ends with an error where the client goes away: nobody needs to know.
async fn serve(stream: TcpStream, client: Upstream, upstream: Authority) {
    let _ = stream.set_nodelay(true); // Slower without, that is all.
    let service = service_fn(|request| client.request(direct(request, &upstream)));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ = serving.await;
}

/// Gives a request the upstream's address.
fn direct(mut request: Request<Incoming>, upstream: &Authority) -> Request<Incoming> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream.clone());
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    if let Ok(host) = HeaderValue::from_str(upstream.as_str()) {
        request.headers_mut().insert(HOST, host);
    }
    request
}
