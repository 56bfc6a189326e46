//! Connections to upstreams: TCP, and TLS over it.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{
        Connected, Connection, HttpConnector,
        dns::{GaiAddrs, GaiResolver, Name},
        proxy::Tunnel,
    },
    rt::TokioIo,
};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;

use super::{error::ProxyErrorKind, forward::ForwardProxy, trust::Sessions};
use crate::small_writes;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct ConnectFailure {
    kind: ProxyErrorKind,
    what: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectFailure {
    pub(super) fn kind(&self) -> ProxyErrorKind {
        self.kind
    }

    fn new(
        kind: ProxyErrorKind,
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = Some(source.into());
        Self { kind, what, source }
    }

    fn bare(kind: ProxyErrorKind, what: &'static str) -> Self {
        Self {
            kind,
            what,
            source: None,
        }
    }
}

/// Makes connections to upstreams.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    /// The way through a proxy.
    tunnel: Option<Tunnel<HttpConnector<Resolver>>>,
    proxy: Option<Uri>,
    tls: Arc<Sessions>,
    connect_timeout: Duration,
    handshake_timeout: Duration,
}

impl Connector {
    pub(super) fn new(
        tls: Arc<Sessions>,
        connect_timeout: Duration,
        handshake_timeout: Duration,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.set_connect_timeout(Some(connect_timeout));
        Self {
            tcp,
            tunnel: None,
            proxy: None,
            tls,
            connect_timeout,
            handshake_timeout,
        }
    }

    /// Goes by a proxy: through it where TLS is spoken, else to it, which then reads the request.
    pub(super) fn by(self, proxy: &ForwardProxy) -> Self {
        let tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
        let tunnel = match proxy.authorization() {
            Some(authorization) => tunnel.with_auth(authorization.clone()),
            None => tunnel,
        };
        Self {
            tunnel: Some(tunnel),
            proxy: Some(proxy.uri().clone()),
            ..self
        }
    }

    async fn dial(&self, uri: Uri, is_tls: bool) -> Result<TcpStream, ConnectFailure> {
        let mut tcp = self.tcp.clone();
        let connected = match (&self.tunnel, &self.proxy) {
            (Some(tunnel), _) if is_tls => {
                let connected = tunnel.clone().call(uri).await;
                return connected.map(TokioIo::into_inner).map_err(tcp_failure);
            }
            (_, Some(proxy)) => tcp.call(proxy.clone()).await,
            (_, None) => tcp.call(uri).await,
        };
        connected.map(TokioIo::into_inner).map_err(tcp_failure)
    }

    /// Makes a connection to scheme, host and port of a URI.
    pub(super) async fn connect(&self, uri: Uri) -> Result<UpstreamIo, ConnectFailure> {
        let is_tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let session = if is_tls {
            let name = server_name(&uri)?;
            let tls = self.tls.with(host(&uri), uri.port_u16().unwrap_or(443));
            let failed = |err| ConnectFailure::new(ProxyErrorKind::Tls, "no TLS", err);
            Some((name, tls.map_err(failed)?))
        } else {
            None
        };
        let is_proxied = self.proxy.is_some() && !is_tls;
        let limit = self.connect_timeout;
        // The look-up of the name counts as well, and what a proxy needs.
        let tcp = match timeout(limit, self.dial(uri, is_tls)).await {
            Ok(tcp) => tcp?,
            Err(_) => {
                let kind = ProxyErrorKind::ConnectTimedOut;
                return Err(ConnectFailure::bare(kind, "no connection in time"));
            }
        };
        let Some((name, tls)) = session else {
            return Ok(UpstreamIo::Tcp {
                io: TokioIo::new(tcp),
                is_proxied,
            });
        };
        let handshake = TlsConnector::from(tls).connect(name, tcp);
        match timeout(self.handshake_timeout, handshake).await {
            Ok(Ok(tls)) => Ok(UpstreamIo::Tls {
                io: Box::new(TokioIo::new(tls)),
            }),
            Ok(Err(err)) => Err(ConnectFailure::new(
                ProxyErrorKind::Tls,
                "TLS handshake failed",
                err,
            )),
            Err(_) => Err(ConnectFailure::bare(
                ProxyErrorKind::Tls,
                "no TLS handshake in time",
            )),
        }
    }
}

fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

fn server_name(uri: &Uri) -> Result<ServerName<'static>, ConnectFailure> {
    ServerName::try_from(host(uri).to_owned())
        .map_err(|err| ConnectFailure::new(ProxyErrorKind::Tls, "no name for a certificate", err))
}

fn tcp_failure(err: impl std::error::Error + Send + Sync + 'static) -> ConnectFailure {
    let mut level: Option<&(dyn std::error::Error + 'static)> = Some(&err);
    let mut kind = ProxyErrorKind::Unreachable;
    while let Some(cause) = level {
        if cause.is::<LookupFailed>() {
            kind = ProxyErrorKind::LookupFailed;
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => kind = ProxyErrorKind::Refused,
                io::ErrorKind::TimedOut => kind = ProxyErrorKind::ConnectTimedOut,
                _ => {}
            }
        }
        level = cause.source();
    }
    ConnectFailure::new(kind, "no connection", err)
}

impl Service<Uri> for Connector {
    type Response = UpstreamIo;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<UpstreamIo, ConnectFailure>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await })
    }
}

/// The system's resolver, with an error that can be told from others.
#[derive(Clone)]
pub(super) struct Resolver(GaiResolver);

/// A name has no address.
#[derive(Debug, thiserror::Error)]
#[error("name look-up failed")]
struct LookupFailed(#[source] io::Error);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = self.0.call(name);
        Box::pin(async move { found.await.map_err(|err| LookupFailed(err).into()) })
    }
}

/// A connection to an upstream.
pub(super) enum UpstreamIo {
    Tcp {
        io: TokioIo<TcpStream>,
        is_proxied: bool,
    },
    Tls {
        io: Box<TokioIo<TlsStream<TcpStream>>>,
    },
}

impl fmt::Debug for UpstreamIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp { .. } => "UpstreamIo(tcp)",
            Self::Tls { .. } => "UpstreamIo(tls)",
        })
    }
}

impl Connection for UpstreamIo {
    fn connected(&self) -> Connected {
        match self {
            Self::Tcp { is_proxied, .. } => Connected::new().proxy(*is_proxied),
            Self::Tls { io } => {
                let is_h2 = io.inner().get_ref().1.alpn_protocol() == Some(b"h2");
                if is_h2 {
                    Connected::new().negotiated_h2()
                } else {
                    Connected::new()
                }
            }
        }
    }
}

impl Read for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => Pin::new(io).poll_read(cx, buf),
            Self::Tls { io } => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl Write for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => Pin::new(io).poll_write(cx, buf),
            Self::Tls { io } => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => Pin::new(io).poll_flush(cx),
            Self::Tls { io } => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => Pin::new(io).poll_shutdown(cx),
            Self::Tls { io } => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp { io, .. } => io.is_write_vectored(),
            Self::Tls { io } => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp { io, .. } => {
                let mut io = Pin::new(io);
                small_writes::as_one(bufs, |bytes| io.as_mut().poll_write(cx, bytes))
                    .unwrap_or_else(|| io.poll_write_vectored(cx, bufs))
            }
            Self::Tls { io } => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }
}
