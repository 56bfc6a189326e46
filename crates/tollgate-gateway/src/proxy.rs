//! A service that sends requests to an upstream, and streams both ways.
//!
//! [`Proxy`] is the innermost service of a gateway. A request is answered in the upstream's place
//! where there is no answer of it, with Tyk's status and message, and a [`ProxyError`] in the
//! extensions: 504 for a time limit, 500 (or 502 if so configured) for what else the upstream does
//! wrong, 400 for a path that can be read in two ways or a body that breaks off, 408 for one that does
//! not come.
//!
//! It reads from the request's extensions the [`Peer`] and
//! [`ClientAddr`] that [`serve`](crate::serve) puts there, and
//! [`ProxyHints`]. A request is sent a second time only where nothing of it has left: no connection was
//! made, or a connection from the pool was closed before it took anything.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use tollgate_gateway::proxy::{ClientOptions, Proxy, ProxyOptions, Target, Targets, UpstreamClient};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client: UpstreamClient<Full<Bytes>> = UpstreamClient::new(&ClientOptions::default())?;
//! let targets = Targets::one(Target::parse("http://127.0.0.1:9000/v2")?);
//! let options = ProxyOptions {
//!     listen_path: Some("/orders/".into()),
//!     ..ProxyOptions::default()
//! };
//! let proxy = Proxy::new(client, targets, options)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Differences from Tyk
//!
//! `Expect: 100-continue` is not sent on, as the body is not held back for it. `Upgrade` to another
//! version of HTTP is not sent on, as nothing in it could be checked. Headers that `Connection` names
//! are taken out where the request comes in, not after headers were injected.

mod body;
mod client;
mod connect;
mod error;
mod forward;
mod future;
pub(crate) mod headers;
mod kept;
mod path;
mod pools;
mod relay;
mod target;
mod trust;
mod unverified;
mod upgrade;

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version, header::HOST, uri::PathAndQuery,
};
use http_body::Body;
use tokio::time::Instant;
use tollgate::{Refusals, context::ClientAddr};
use tower_service::Service;

use self::{
    body::{Outgoing, Watch},
    client::{Call, Limits, Way},
    error::AnswerForm,
    future::{Again, Flight},
    path::PathAuthor,
    upgrade::PendingUpgrade,
};
pub use self::{
    body::{ProxyBody, ProxyBodyError},
    client::{ClientError, ClientOptions, Protocol, UpstreamClient},
    error::{ProxyError, ProxyErrorKind},
    forward::{ForwardProxy, NoForwardProxy},
    future::ProxyFuture,
    headers::ForwardedHeaders,
    path::{FinalSlash, PathSpelling},
    pools::{UpstreamPools, UpstreamWay},
    target::{HealthOptions, Target, TargetError, Targets},
    trust::{ByHost, Identity, KeyPin, Roots, UpstreamTls},
};
use crate::{
    observe::meters::{Noted, UpstreamMeters},
    serve::Peer,
};

/// How requests are sent to an upstream.
#[derive(Clone)]
pub struct ProxyOptions {
    /// What is cut from the path, on the edge of a segment; `{name}` in it stands for one segment.
    /// None keeps the whole path.
    pub listen_path: Option<String>,
    /// Whether the target's own final slash is sent where nothing is left of the path.
    pub final_slash: FinalSlash,
    /// How the path is spelled.
    pub spelling: PathSpelling,
    /// Sends the client's `Host`, and not the target's. HTTP/1.1 only.
    pub preserve_host: bool,
    /// Which headers tell of the client.
    pub forwarded: ForwardedHeaders,
    /// Sent where the client sent none.
    pub user_agent: Option<HeaderValue>,
    /// How long to wait for the head of a response, once the request has been sent.
    pub head_timeout: Duration,
    /// Limit of the whole exchange, body included. [`ProxyHints::timeout`] goes before it.
    pub exchange_timeout: Option<Duration>,
    /// Whether `Upgrade` is sent on.
    pub upgrades: bool,
    /// Ends an upgraded connection in which nothing moved for so long.
    pub tunnel_idle_timeout: Option<Duration>,
    /// Tells clients to close their connection after each response.
    pub close_connections: bool,
    /// The status where an upstream can not be reached or understood: 500 as Tyk, or 502.
    pub bad_gateway: StatusCode,
    /// How many other targets of the list are tried where no connection is made.
    pub retries: usize,
    /// How answers in the upstream's place are written.
    pub refusals: Refusals,
    /// Who is told how long upstreams take.
    pub meters: Option<Arc<UpstreamMeters>>,
}

impl Default for ProxyOptions {
    /// Tyk's values.
    fn default() -> Self {
        Self {
            listen_path: None,
            final_slash: FinalSlash::Cut,
            spelling: PathSpelling::Go,
            preserve_host: false,
            forwarded: ForwardedHeaders::default(),
            user_agent: Some(HeaderValue::from_static(concat!(
                "tollgate/",
                env!("CARGO_PKG_VERSION")
            ))),
            head_timeout: Duration::from_secs(30),
            exchange_timeout: None,
            upgrades: true,
            tunnel_idle_timeout: None,
            close_connections: false,
            bad_gateway: StatusCode::INTERNAL_SERVER_ERROR,
            retries: 2,
            refusals: Refusals::tyk(),
            meters: None,
        }
    }
}

/// What one request wants otherwise. Put it into the request's extensions.
#[derive(Clone, Debug, Default)]
pub struct ProxyHints {
    /// Limit of the whole exchange, body included.
    pub timeout: Option<Duration>,
    /// Where to send the request, in place of the list. The query of the list's target goes along.
    pub target: Option<Arc<Target>>,
    /// A rewrite made the path: segments of it may be empty.
    pub rewritten: bool,
    /// Leaves `X-Forwarded-For` as it is.
    pub leave_forwarded_for: bool,
}

/// Why a proxy can not be made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyOptionsError {
    /// A target over `h2c` with the client's `Host`.
    #[error("the client's Host can not be kept on HTTP/2, where the target's authority is sent")]
    HostOnHttp2,
    /// A status for failures that is no server error.
    #[error("a failed upstream is answered by a status of 500 to 599")]
    BadGateway,
}

/// A service that sends requests to an upstream.
///
/// See the [module docs](crate::proxy) for an example. Clones share everything.
#[derive(Debug)]
pub struct Proxy<B> {
    inner: Arc<Inner<B>>,
}

struct Inner<B> {
    client: UpstreamClient<B>,
    targets: Targets,
    ways: Box<[Way<B>]>, // To each target of the list.
    options: ProxyOptions,
}

impl<B> Proxy<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends to `targets` over the connections of `client`.
    ///
    /// # Errors
    ///
    /// Where options contradict each other.
    pub fn new(
        client: UpstreamClient<B>,
        targets: Targets,
        options: ProxyOptions,
    ) -> Result<Self, ProxyOptionsError> {
        let is_http2 = |target: &Target| target.protocol() == Protocol::Http2;
        if options.preserve_host && targets.iter().any(is_http2) {
            return Err(ProxyOptionsError::HostOnHttp2);
        }
        if !options.bad_gateway.is_server_error() {
            return Err(ProxyOptionsError::BadGateway);
        }
        let way = |target: &Target| client.way(target, options.protocol(target));
        let ways = targets.iter().map(way).collect();
        let inner = Arc::new(Inner {
            client,
            targets,
            ways,
            options,
        });
        Ok(Self { inner })
    }
}

impl<B> Clone for Proxy<B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<B> std::fmt::Debug for Inner<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.targets.fmt(f)
    }
}

impl<B> Service<Request<B>> for Proxy<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ProxyBody>;
    type Error = Infallible;
    type Future = ProxyFuture<B>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let form = AnswerForm::of(request.headers());
        let hints = request.extensions_mut().remove::<ProxyHints>();
        let upgrade = self.inner.prepare(&mut request, hints.as_ref());
        let options = &self.inner.options;
        let timeout = hints.as_ref().and_then(|hints| hints.timeout);
        let timeout = timeout.or(options.exchange_timeout);
        let rewritten = hints.as_ref().is_some_and(|hints| hints.rewritten);
        let own_target = hints.and_then(|hints| hints.target);

        let retries = own_target.is_none() && self.inner.targets.distinct() > 1;
        let again = (retries && upgrade.is_none()).then(|| Again::of(&request, rewritten));
        let uri = std::mem::take(request.uri_mut());
        let now = Instant::now();
        let watch = Watch::new(now);
        let mut request = request.map(|body| Outgoing::new(body, watch.clone()));

        let inner = &self.inner;
        let index = own_target.is_none().then(|| inner.targets.pick());
        let listed = inner.targets.get(index.unwrap_or(0));
        let target = own_target.as_deref().unwrap_or(listed);
        let asked = Asked {
            uri: &uri,
            rewritten,
            query: listed.query(),
        };
        let path = match inner.path_to(target, &asked) {
            Ok(path) => path,
            Err(kind) => {
                let error = ProxyError::new(kind);
                let answer = form.answer(error, options.bad_gateway, &options.refusals);
                return ProxyFuture::answered(answer);
            }
        };
        let flight = Flight {
            inner: inner.clone(),
            target: index,
            form,
            deadline: timeout.map(|timeout| now + timeout),
            noted: inner.note(&mut request, target, &path),
            watch,
            upgrade,
            again,
        };
        let limits = flight.limits();
        let call = match index {
            Some(index) => inner.send(&inner.ways[index], target, path, request, limits),
            None => {
                let way = inner.client.way(target, options.protocol(target));
                inner.send(&way, target, path, request, limits)
            }
        };
        ProxyFuture::sent(call, flight)
    }
}

impl ProxyOptions {
    /// What is spoken with a target.
    fn protocol(&self, target: &Target) -> Protocol {
        if self.preserve_host {
            Protocol::Http1
        } else {
            target.protocol()
        }
    }
}

impl Again {
    fn of<B>(request: &Request<B>, rewritten: bool) -> Box<Self> {
        Box::new(Self {
            rewritten,
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            tried: Vec::new(),
        })
    }
}

/// What a request asks for.
struct Asked<'a> {
    /// Its URI as it came, or as a rewrite left it.
    uri: &'a Uri,
    /// Whether a rewrite made the path.
    rewritten: bool,
    /// The query that goes before its own.
    query: Option<&'a str>,
}

impl<B> Inner<B> {
    /// Makes the headers those of our own hop.
    fn prepare(
        &self,
        request: &mut Request<B>,
        hints: Option<&ProxyHints>,
    ) -> Option<Box<PendingUpgrade>> {
        let protocol = headers::take_own(request.headers_mut());
        let peer = request.extensions().get::<Peer>().cloned();
        let upgrade = protocol
            .filter(|_| self.options.upgrades && request.version() == Version::HTTP_11)
            .map(|protocol| {
                Box::new(PendingUpgrade {
                    client: hyper::upgrade::on(&mut *request),
                    protocol,
                    peer: peer.clone(),
                    idle: self.options.tunnel_idle_timeout,
                })
            });
        if let Some(peer) = &peer {
            let client = request.extensions().get::<ClientAddr>().map(|addr| addr.0);
            let leave = hints.is_some_and(|hints| hints.leave_forwarded_for);
            self.forwarded(leave)
                .put(request.headers_mut(), peer, client);
        }
        if self.options.preserve_host
            && let Some(host) = headers::client_host(request.headers(), request.uri())
        {
            request.headers_mut().insert(HOST, host);
        }
        let fields = request.headers_mut();
        headers::put_user_agent(fields, self.options.user_agent.as_ref());
        if let Some(upgrade) = &upgrade {
            headers::put_upgrade(fields, upgrade.protocol.clone());
        }
        upgrade
    }

    fn forwarded(&self, leave: bool) -> std::borrow::Cow<'_, ForwardedHeaders> {
        let forwarded = &self.options.forwarded;
        if !leave {
            return std::borrow::Cow::Borrowed(forwarded);
        }
        std::borrow::Cow::Owned(ForwardedHeaders {
            x_forwarded_for: false,
            ..forwarded.clone()
        })
    }

    /// Path and query of a request to a target.
    fn path_to(&self, target: &Target, asked: &Asked<'_>) -> Result<PathAndQuery, ProxyErrorKind> {
        let author = if asked.rewritten {
            PathAuthor::Rewrite
        } else {
            PathAuthor::Client
        };
        let listen_path = self.options.listen_path.as_deref();
        let spelling = self.options.spelling;
        let rest = path::outbound(asked.uri.path(), listen_path, spelling, author)
            .map_err(|_| ProxyErrorKind::PathAmbiguous)?;
        let path = target.path_and_query(asked.uri, &rest, self.options.final_slash, asked.query);
        path.map_err(|_| ProxyErrorKind::BadRequest)
    }

    /// What is kept of a request that is sent, if somebody wants to know of it.
    fn note<T>(
        &self,
        request: &mut Request<T>,
        target: &Target,
        path: &PathAndQuery,
    ) -> Option<Box<Noted>> {
        let meters = self.options.meters.as_ref()?;
        meters.note(request, || target.uri(path.clone()))
    }
}

impl<B> Inner<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends a request to a target.
    fn send(
        &self,
        way: &Way<B>,
        target: &Target,
        path: PathAndQuery,
        mut request: Request<Outgoing<B>>,
        limits: Limits<B>,
    ) -> Call<B> {
        // Which version the client speaks concerns only its own hop.
        *request.version_mut() = Version::HTTP_11;
        if target.protocol() == Protocol::Http2 && !self.options.preserve_host {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(HOST); // The authority says it.
        } else if !self.options.preserve_host {
            request.headers_mut().insert(HOST, target.host().clone());
        }
        self.client.request(way, target, path, request, limits)
    }
}
