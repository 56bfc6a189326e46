//! What happens to each request before the gateway's service sees it.
//!
//! Refused with 400: `CONNECT`, a missing, doubled or contradicting `Host`, more headers than
//! allowed (431). What ends at our hop is taken out, what an untrusted peer claims about the client
//! too, and crumbs of a cookie (RFC 9113 §8.2.3) are put together. Into the extensions go
//! [`Peer`] and [`ClientAddr`].

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_TYPE, COOKIE, HOST},
};
use http_body::Body;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tollgate::context::ClientAddr;
use tower_service::Service;

use super::{
    address::{TrustedProxies, drop_claims, has_claims},
    body::{RequestBody, ResponseBody},
    peer::Peer,
    stop::{CountedRequest, Life},
};
use crate::proxy::headers::{put_upgrade, take_hop_by_hop};

/// The service of one connection.
pub(super) struct Edge<S> {
    service: S,
    connection: Arc<Connection>,
}

/// What the requests of a connection share.
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) life: Arc<Life>,
    pub(super) proxies: Arc<TrustedProxies>,
    pub(super) max_headers: usize,
    pub(super) body_idle: Duration,
    pub(super) most_body: u64,
    pub(super) switched: Arc<AtomicBool>,
    pub(super) begun: AtomicU64,
}

impl<S> Edge<S> {
    pub(super) fn new(service: S, connection: Arc<Connection>) -> Self {
        Self {
            service,
            connection,
        }
    }
}

impl<S, R> hyper::service::Service<Request<Incoming>> for Edge<S>
where
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone,
    R: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = EdgeFuture<S, S::Future, R, S::Error>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let connection = &self.connection;
        connection.begun.fetch_add(1, Ordering::Relaxed);
        if let Err(refused) = settle(&mut request, connection) {
            let is_http1 = request.version() <= Version::HTTP_11;
            return EdgeFuture {
                state: State::Refused {
                    response: Some(refused.response(is_http1)),
                },
            };
        }
        let request =
            request.map(|body| RequestBody::new(body, connection.body_idle, connection.most_body));
        let counted = Some((CountedRequest::open(&connection.life), connection.clone()));
        let mut service = self.service.clone();
        // Nearly every service is ready at once; then the request is not kept until the first poll.
        let mut nobody = Context::from_waker(Waker::noop());
        let state = match service.poll_ready(&mut nobody) {
            Poll::Ready(Ok(())) => State::Called {
                future: service.call(request),
                counted,
            },
            Poll::Ready(Err(error)) => State::Failed { error: Some(error) },
            Poll::Pending => State::Waiting {
                service,
                request: Some(request),
                counted,
            },
        };
        EdgeFuture { state }
    }
}

pin_project! {
    /// The answer to a request.
    pub(super) struct EdgeFuture<S, F, R, E> {
        #[pin]
        state: State<S, F, R, E>,
    }
}

type Counted = (CountedRequest, Arc<Connection>);

pin_project! {
    #[project = StateProjection]
    enum State<S, F, R, E> {
        Refused { response: Option<Response<ResponseBody<R>>> },
        Failed { error: Option<E> },
        Waiting { service: S, request: Option<Request<RequestBody>>, counted: Option<Counted> },
        Called { #[pin] future: F, counted: Option<Counted> },
    }
}

impl<S, R> Future for EdgeFuture<S, S::Future, R, S::Error>
where
    S: Service<Request<RequestBody>, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect("polled after completion")));
                }
                StateProjection::Failed { error } => {
                    return Poll::Ready(Err(error.take().expect("polled after completion")));
                }
                StateProjection::Waiting {
                    service,
                    request,
                    counted,
                } => {
                    ready!(service.poll_ready(cx))?;
                    State::Called {
                        future: service.call(request.take().expect("called once")),
                        counted: counted.take(),
                    }
                }
                StateProjection::Called { future, counted } => {
                    let response = ready!(future.poll(cx))?;
                    let (counted, connection) = counted.take().expect("polled after completion");
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        connection.switched.store(true, Ordering::Release);
                    }
                    return Poll::Ready(
                        Ok(response.map(|body| ResponseBody::inner(body, counted))),
                    );
                }
            };
            state.set(next);
        }
    }
}

/// Why a request is not even looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refused {
    Connect,
    Host,
    TooManyHeaders,
}

impl Refused {
    fn response<R>(self, is_http1: bool) -> Response<ResponseBody<R>> {
        let (status, text) = match self {
            Self::Connect => (
                StatusCode::BAD_REQUEST,
                "400 Bad Request: CONNECT is not served",
            ),
            Self::Host => (
                StatusCode::BAD_REQUEST,
                "400 Bad Request: exactly one Host is needed",
            ),
            Self::TooManyHeaders => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "431 Request Header Fields Too Large",
            ),
        };
        let mut response = Response::new(ResponseBody::refused(text));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        if is_http1 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

fn settle<B>(request: &mut Request<B>, connection: &Connection) -> Result<(), Refused> {
    if request.method() == Method::CONNECT {
        return Err(Refused::Connect);
    }
    if request.headers().len() > connection.max_headers {
        return Err(Refused::TooManyHeaders);
    }
    let version = request.version();
    let host = host(request.headers(), request.uri(), version)?;
    let peer = &connection.peer;
    let headers = request.headers_mut();
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if let Some(protocol) = take_hop_by_hop(headers) {
        put_upgrade(headers, protocol);
    }
    if version == Version::HTTP_2 {
        join_cookies(headers);
    }
    let mut client = peer.addr().ip();
    if has_claims(headers) {
        if peer.is_trusted() {
            client = connection.proxies.client(headers, client);
        } else {
            drop_claims(headers);
        }
    }
    let extensions = request.extensions_mut();
    extensions.insert(ClientAddr(client));
    extensions.insert(peer.clone());
    Ok(())
}

/// The one host of a request, where it is not in the headers yet.
fn host(headers: &HeaderMap, uri: &Uri, version: Version) -> Result<Option<HeaderValue>, Refused> {
    let mut named = headers.get_all(HOST).iter();
    let (first, second) = (named.next(), named.next());
    if second.is_some() {
        return Err(Refused::Host);
    }
    let Some(authority) = uri.authority() else {
        // Only before HTTP/1.1 a request may come without.
        let may_lack = version < Version::HTTP_11;
        let is_plain = first.is_some_and(|host| is_host(host.as_bytes()));
        return if is_plain || (may_lack && first.is_none()) {
            Ok(None)
        } else {
            Err(Refused::Host)
        };
    };
    if !is_host(authority.as_str().as_bytes()) {
        return Err(Refused::Host);
    }
    match first {
        Some(first)
            if first
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            Ok(None)
        }
        Some(_) => Err(Refused::Host),
        None => HeaderValue::from_str(authority.as_str())
            .map(Some)
            .map_err(|_| Refused::Host),
    }
}

/// Whether a text can be nothing but host and port.
fn is_host(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(byte))
}

/// HTTP/2 sends a cookie in crumbs; HTTP/1.1 knows one line.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    let whole = Bytes::from(crumbs.join(&b"; "[..]));
    if let Ok(whole) = HeaderValue::from_maybe_shared(whole) {
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(
        uri: &'static str,
        hosts: &[&'static str],
        version: Version,
        outcome: Result<Option<&str>, Refused>,
    ) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        let found = host(&headers, &Uri::from_static(uri), version);
        let outcome = outcome.map(|host| host.map(|host| HeaderValue::from_str(host).unwrap()));
        assert_eq!(found, outcome, "{uri} {hosts:?}");
    }

    #[test]
    fn attack_24_a_host_comes_from_one_place() {
        let (one, one_zero, two) = (Version::HTTP_11, Version::HTTP_10, Version::HTTP_2);
        check("/x", &["h"], one, Ok(None));
        check("/x", &["h:80"], one, Ok(None));
        check("/x", &["[::1]:80"], one, Ok(None));
        check("/x", &[], one, Err(Refused::Host));
        check("/x", &[], one_zero, Ok(None));
        check("/x", &[], two, Err(Refused::Host));
        check("/x", &["h", "h"], one, Err(Refused::Host));
        check("/x", &["h/../x"], one, Err(Refused::Host));
        check("/x", &["a@h"], one, Err(Refused::Host));
        check("/x", &["a, b"], one, Err(Refused::Host));
        check("http://h/x", &["H"], one, Ok(None));
        check("http://h/x", &["other"], one, Err(Refused::Host));
        check("http://h/x", &[], one, Ok(Some("h")));
        check("https://h/x", &[], two, Ok(Some("h")));
        check("https://a@h/x", &[], two, Err(Refused::Host));
    }

    #[test]
    fn crumbs_make_one_cookie() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2"] {
            headers.append(COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        assert_eq!(
            headers.get_all(COOKIE).iter().collect::<Vec<_>>(),
            ["a=1; b=2"]
        );
    }
}
