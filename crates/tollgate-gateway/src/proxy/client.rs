//! The connections to upstreams that proxies share.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    path::PathBuf,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Request, Response, Uri,
    header::PROXY_AUTHORIZATION,
    uri::{PathAndQuery, Scheme},
};
use http_body::Body;
use hyper_util::{
    client::legacy::{Builder, Client, ResponseFuture},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, Sleep};

use super::{
    body::{Outgoing, ProxyBody, Watch},
    connect::Connector,
    error::{ProxyError, ProxyErrorKind},
    forward::ForwardProxy,
    kept::{Exchange, Kept, Origin, Reply},
    target::Target,
    trust::{Sessions, UpstreamTls, Verifier},
};

/// How connections to upstreams are made and kept.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// For name look-up and TCP together.
    pub connect_timeout: Duration,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// How long a connection may wait in the pool.
    pub idle_timeout: Duration,
    /// How many connections may wait in the pool for each upstream.
    pub max_idle_per_upstream: usize,
    /// How many bytes the head of a response may have.
    pub max_head_bytes: usize,
    /// Pings a connection of HTTP/2 that often; it is closed where none comes back.
    pub http2_ping: Option<Duration>,
    /// Writes names of headers as `X-Name`, as Tyk does, and not as `x-name`. Only HTTP/1.1 can.
    pub title_case_headers: bool,
    /// Whom to believe, and who we are.
    pub tls: UpstreamTls,
    /// A proxy on the way.
    pub proxy: Option<ForwardProxy>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The file can not be read as PEM.
    #[error("can not read certificates or key from {}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate to believe.
    #[error("no certificate of an authority was found")]
    NoRoots(#[source] Option<io::Error>),
    /// Certificate and key are not usable.
    #[error("TLS can not be set up")]
    Tls(#[from] rustls::Error),
}

impl Default for ClientOptions {
    /// Tyk's values: 30 s to connect, 10 s for TLS, 90 s in the pool.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
            max_idle_per_upstream: 512,
            max_head_bytes: 1 << 20,
            http2_ping: None,
            title_case_headers: true,
            tls: UpstreamTls::default(),
            proxy: None,
        }
    }
}

/// The pool of connections. Clones share it, and so may proxies for different upstreams.
///
/// `B` is the body of requests.
pub struct UpstreamClient<B> {
    /// Where it is known beforehand that HTTP/1.1 is spoken.
    http1: Arc<Kept<B>>,
    /// Where TLS agrees on it.
    automatic: Client<Connector, Outgoing<B>>,
    http2: Client<Connector, Outgoing<B>>,
    proxy: Option<ForwardProxy>,
}

/// How requests reach one target.
pub(super) enum Way<B> {
    Kept(Arc<Origin<B>>),
    Pooled(Protocol),
}

/// A request that was sent.
pub(super) enum Call<B> {
    Kept(Exchange<B>),
    Pooled(Pin<Box<dyn Future<Output = Result<Response<Reply>, ProxyError>> + Send>>),
}

impl<B> Future for Call<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Response<Reply>, ProxyError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Kept(exchange) => Pin::new(exchange).poll(cx),
            Self::Pooled(call) => call.as_mut().poll(cx),
        }
    }
}

/// How long a response is waited for.
pub(super) struct Limits<B> {
    /// For its head, once the request has been sent.
    pub(super) head: Duration,
    /// Of the whole exchange.
    pub(super) deadline: Option<Instant>,
    pub(super) watch: Arc<Watch<B>>,
}

impl<B> Limits<B> {
    /// When the request was handed to the client.
    pub(super) fn started(&self) -> Instant {
        self.watch.started()
    }

    /// When the response's head is first missed.
    pub(super) fn first(&self, now: Instant) -> Instant {
        self.within_deadline(now + self.head)
    }

    fn within_deadline(&self, limit: Instant) -> Instant {
        self.deadline.map_or(limit, |deadline| deadline.min(limit))
    }

    /// When to look again; none where the time is over.
    ///
    /// The time for the head begins when the whole request has been sent, as with Tyk: what it takes
    /// to connect has limits of its own.
    fn next(&self, now: Instant) -> Option<Instant> {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return None;
        }
        let begins = self.watch.sent().unwrap_or(now);
        let limit = begins + self.head;
        (now < limit).then(|| self.within_deadline(limit))
    }

    /// Whether the time is over; the timer goes on to the next limit where it is not.
    pub(super) fn poll_over(&self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
        while timer.as_mut().poll(cx).is_ready() {
            match self.next(Instant::now()) {
                Some(limit) => timer.as_mut().reset(limit),
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

/// Which protocol an upstream is spoken to in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// What TLS agrees on; HTTP/1.1 without TLS.
    #[default]
    Automatic,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, also without TLS (`h2c`).
    Http2,
}

impl<B> UpstreamClient<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Makes a pool.
    ///
    /// # Errors
    ///
    /// Where a certificate or key can not be read, or is not usable.
    pub fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        let verifier = Verifier::of(&options.tls.roots)?;
        let connector = |protocols: &[&[u8]]| {
            let sessions = Sessions::new(&options.tls, verifier.clone(), protocols)?;
            let (connect, handshake) = (options.connect_timeout, options.handshake_timeout);
            let connector = Connector::new(Arc::new(sessions), connect, handshake);
            Ok::<_, ClientError>(match &options.proxy {
                Some(proxy) => connector.by(proxy),
                None => connector,
            })
        };
        Ok(Self {
            http1: Arc::new(Kept::new(options, connector(&[b"http/1.1"])?)),
            automatic: builder(options).build(connector(&[b"h2", b"http/1.1"])?),
            http2: builder(options)
                .http2_only(true)
                .build(connector(&[b"h2"])?),
            proxy: options.proxy.clone(),
        })
    }

    /// Sends a request of our own, as it is: its target is whole, and its `Host` is set.
    ///
    /// # Errors
    ///
    /// Where no answer comes.
    pub async fn send(&self, request: Request<B>) -> Result<Response<ProxyBody>, ProxyError> {
        self.send_over(Protocol::Automatic, request).await
    }

    /// As [`send`](Self::send), in a protocol.
    ///
    /// # Errors
    ///
    /// Where no answer comes.
    pub async fn send_over(
        &self,
        protocol: Protocol,
        request: Request<B>,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let watch = Watch::new(Instant::now());
        let request = request.map(|body| Outgoing::new(body, watch));
        let response = self.pool(protocol).request(request).await;
        let response = response.map_err(|err| ProxyError::of(&err))?;
        Ok(response.map(|body| ProxyBody::upstream(Reply::elsewhere(body), None)))
    }

    /// How requests reach a target; to be asked once.
    pub(super) fn way(&self, target: &Target, protocol: Protocol) -> Way<B> {
        let scheme = target.scheme();
        match protocol {
            Protocol::Automatic if *scheme == Scheme::HTTPS => Way::Pooled(protocol),
            _ if self.proxy.is_some() && *scheme == Scheme::HTTP => Way::Pooled(protocol),
            Protocol::Http2 => Way::Pooled(protocol),
            Protocol::Automatic | Protocol::Http1 => {
                Way::Kept(self.http1.origin(scheme, target.authority()))
            }
        }
    }

    /// Sends a request, which has no URI yet, to a target.
    pub(super) fn request(
        &self,
        way: &Way<B>,
        target: &Target,
        path_and_query: PathAndQuery,
        mut request: Request<Outgoing<B>>,
        limits: Limits<B>,
    ) -> Call<B> {
        match way {
            Way::Kept(origin) => {
                *request.uri_mut() = Uri::from(path_and_query);
                Call::Kept(origin.send(request, limits))
            }
            Way::Pooled(protocol) => {
                *request.uri_mut() = target.uri(path_and_query);
                self.tell_proxy(&mut request);
                let call = self.pool(*protocol).request(request);
                Call::Pooled(Box::pin(in_time(call, limits)))
            }
        }
    }

    /// Tells a proxy that reads the request who we are.
    fn tell_proxy(&self, request: &mut Request<Outgoing<B>>) {
        let proxy = self.proxy.as_ref();
        if let Some(authorization) = proxy.and_then(ForwardProxy::authorization)
            && request.uri().scheme() == Some(&Scheme::HTTP)
        {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
    }

    fn pool(&self, protocol: Protocol) -> &Client<Connector, Outgoing<B>> {
        match protocol {
            Protocol::Http2 => &self.http2,
            Protocol::Automatic | Protocol::Http1 => &self.automatic,
        }
    }
}

/// Waits for the head of a response.
async fn in_time<B>(
    mut call: ResponseFuture,
    limits: Limits<B>,
) -> Result<Response<Reply>, ProxyError> {
    let mut timer = pin!(tokio::time::sleep_until(limits.first(limits.started())));
    poll_fn(|cx| {
        if let Poll::Ready(answered) = Pin::new(&mut call).poll(cx) {
            let answered = answered.map_err(|err| ProxyError::of(&err));
            return Poll::Ready(answered.map(|response| response.map(Reply::elsewhere)));
        }
        let over = limits.poll_over(timer.as_mut(), cx);
        over.map(|()| Err(ProxyError::new(ProxyErrorKind::TimedOut)))
    })
    .await
}

fn builder(options: &ClientOptions) -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(options.idle_timeout)
        .pool_max_idle_per_host(options.max_idle_per_upstream)
        .http1_max_buf_size(options.max_head_bytes.max(8192))
        .http1_title_case_headers(options.title_case_headers)
        .http2_max_header_list_size(u32::try_from(options.max_head_bytes).unwrap_or(u32::MAX))
        .retry_canceled_requests(true)
        .set_host(false);
    if let Some(interval) = options.http2_ping {
        builder.http2_keep_alive_interval(interval);
    }
    builder
}

impl<B> Clone for UpstreamClient<B> {
    fn clone(&self) -> Self {
        Self {
            http1: self.http1.clone(),
            automatic: self.automatic.clone(),
            http2: self.http2.clone(),
            proxy: self.proxy.clone(),
        }
    }
}

impl<B> fmt::Debug for UpstreamClient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamClient")
    }
}
