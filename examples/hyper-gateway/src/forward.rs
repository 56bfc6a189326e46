//! The service at the end of the stack: sends a request to the upstream.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    uri::{Authority, InvalidUri, Scheme},
};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::Service;

use crate::hop_by_hop;

/// Sends requests to one upstream.
#[derive(Clone)]
pub(crate) struct Forward {
    upstream: Authority,
    client: Client<HttpConnector, Incoming>, // Keeps a pool of connections.
}

/// The upstream's own body, or a text of ours.
type Body = Either<Incoming, Full<Bytes>>;

impl Forward {
    /// The upstream is named by scheme and authority, as `http://127.0.0.1:8080`.
    pub(crate) fn to(upstream: &str) -> Result<Self, InvalidUri> {
        Ok(Self {
            upstream: upstream.trim_start_matches("http://").parse()?,
            client: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// The request as the upstream gets it. The path and the query stay as they are.
    fn redirect(&self, request: &mut Request<Incoming>) -> Result<(), http::Error> {
        hop_by_hop::remove(request.headers_mut());
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.upstream.clone())
            .path_and_query(path.unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")))
            .build()?;
        let host = HeaderValue::try_from(self.upstream.as_str())?;
        request.headers_mut().insert("host", host);
        Ok(())
    }
}

impl Service<Request<Incoming>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Incoming>) -> Self::Future {
        if self.redirect(&mut request).is_err() {
            return Box::pin(async { Ok(failed(StatusCode::BAD_REQUEST)) });
        }
        let response = self.client.request(request);
        Box::pin(async {
            let Ok(mut response) = response.await else {
                return Ok(failed(StatusCode::BAD_GATEWAY));
            };
            hop_by_hop::remove(response.headers_mut());
            Ok(response.map(Either::Left))
        })
    }
}

fn failed(status: StatusCode) -> Response<Body> {
    let text = status.canonical_reason().unwrap_or_default();
    let mut response = Response::new(Either::Right(Full::from(text)));
    *response.status_mut() = status;
    response
}
