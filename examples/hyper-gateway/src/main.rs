//! A gateway on hyper: a stack in front, and a client that passes requests on.
//!
//! ```text
//! cargo run -p hyper-gateway UPSTREAM [PORT]      # UPSTREAM as 127.0.0.1:8000
//! curl -i http://127.0.0.1:3000/orders -H 'authorization: joes-key'
//! ```
//!
//! Bodies are streamed both ways. Headers of the connection are not passed on (RFC 9110 §7.6.1), and the
//! upstream reads who asks in `x-user`.

use std::convert::Infallible;

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tollgate::{MemoryStore, Tollgate};
use tower::{ServiceBuilder, service_fn};

type Body = Either<Incoming, Empty<Bytes>>;

/// Passes a request on to the upstream.
#[derive(Clone)]
struct Proxy {
    client: Client<HttpConnector, Incoming>,
    upstream: Authority,
}

impl Proxy {
    async fn pass_on(self, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let mut target = std::mem::take(request.uri_mut()).into_parts();
        target.scheme = Some(http::uri::Scheme::HTTP);
        target.authority = Some(self.upstream);
        *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
        remove_connection_headers(request.headers_mut());
        request.headers_mut().remove(header::HOST); // The client writes the upstream's.
        Ok(match self.client.request(request).await {
            Ok(mut response) => {
                remove_connection_headers(response.headers_mut());
                response.map(Either::Left)
            }
            Err(_) => {
                let mut response = Response::new(Either::Right(Empty::new()));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        })
    }
}

/// Headers that speak of one connection, and those that `Connection` names.
fn remove_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let always = [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    for name in named.into_iter().chain(always) {
        headers.remove(name);
    }
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "tells where it listens")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let upstream: Authority = arguments.next().ok_or("which upstream?")?.parse()?;
    let port: u16 = arguments.next().as_deref().unwrap_or("3000").parse()?;

    let store = MemoryStore::new();
    let session =
        r#"{"rate": 2, "per": 60, "access_rights": {"orders": {}}, "meta_data": {"user": "joe"}}"#;
    store.insert("joes-key", session.parse()?)?;
    let gate = Tollgate::builder(store)
        .api_by(|head| head.uri.path().split('/').nth(1).map(Into::into)) // The first segment.
        .rate_limit()
        .remove_credential()
        .inject("x-user", "$tyk_meta.user")?
        .build()?;

    let client = Client::builder(TokioExecutor::new()).build_http();
    let proxy = Proxy { client, upstream };
    let service = ServiceBuilder::new()
        .layer(gate.layer())
        .service(service_fn(move |request| proxy.clone().pass_on(request)));

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            // A client that breaks its connection off breaks nothing else.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
