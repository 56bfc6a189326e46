//! The connections to upstreams that proxies share.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use super::{
    body::{Outgoing, Watch},
    connect::Connector,
    trust::{Sessions, UpstreamTls, Verifier},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Builder, Client, ResponseFuture},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::Instant;

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
        }
    }
}

/// The pool of connections. Clones share it, and so may proxies for different upstreams.
///
/// `B` is the body of requests.
pub struct UpstreamClient<B> {
    automatic: Client<Connector, Outgoing<B>>,
    http1: Client<Connector, Outgoing<B>>,
    http2: Client<Connector, Outgoing<B>>,
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
            Ok::<_, ClientError>(Connector::new(Arc::new(sessions), connect, handshake))
        };
        Ok(Self {
            automatic: builder(options).build(connector(&[b"h2", b"http/1.1"])?),
            http1: builder(options).build(connector(&[b"http/1.1"])?),
            http2: builder(options)
                .http2_only(true)
                .build(connector(&[b"h2"])?),
        })
    }

    /// Sends a request of our own, as it is: its target is whole, and its `Host` is set.
    ///
    /// # Errors
    ///
    /// Where no answer comes.
    pub async fn send(
        &self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
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
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let watch = Watch::new(Instant::now());
        let request = request.map(|body| Outgoing::new(body, watch));
        Ok(self.request(protocol, request).await?)
    }

    pub(super) fn request(
        &self,
        protocol: Protocol,
        request: Request<Outgoing<B>>,
    ) -> ResponseFuture {
        match protocol {
            Protocol::Automatic => self.automatic.request(request),
            Protocol::Http1 => self.http1.request(request),
            Protocol::Http2 => self.http2.request(request),
        }
    }
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
            automatic: self.automatic.clone(),
            http1: self.http1.clone(),
            http2: self.http2.clone(),
        }
    }
}

impl<B> fmt::Debug for UpstreamClient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamClient")
    }
}
