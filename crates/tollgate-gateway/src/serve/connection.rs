//! One connection, from its first byte to its end.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::{
    ServeOptions, ServerTls,
    body::RequestBody,
    edge::{Connection, Edge},
    framing::Framing,
    io::{Socket, Watched},
    peer::Peer,
    stop::{CountedConnection, Life, Phase, reached},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How connections are served; made once for all of a listener.
pub(super) struct Acceptor {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    options: ServeOptions,
    proxies: Arc<super::TrustedProxies>,
    tls: Option<ServerTls>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    Http1,
    Http2,
}

impl Acceptor {
    pub(super) fn new(options: ServeOptions, tls: Option<ServerTls>) -> Self {
        Self {
            http1: builder_of_http1(&options),
            http2: builder_of_http2(&options),
            proxies: Arc::new(options.proxies.clone()),
            options,
            tls,
        }
    }

    /// Serves a connection to its end.
    pub(super) async fn serve<S, R>(
        &self,
        tcp: TcpStream,
        service: S,
        counted: CountedConnection,
        life: Arc<Life>,
    ) where
        S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + 'static,
        S::Error: Into<BoxError> + Send,
        S::Future: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let _counted = counted;
        let mut phases = life.phase();
        let begun = tokio::select! {
            begun = self.begin(tcp, &life) => begun,
            () = reached(&mut phases, Phase::Draining) => return, // Nothing was asked yet.
        };
        match begun {
            Ok((socket, version, peer)) => {
                self.drive(socket, version, peer, service, life, phases)
                    .await;
            }
            Err(err) => tracing::debug!(%err, "a connection did not begin"),
        }
    }

    /// TLS, and which version of HTTP is spoken.
    async fn begin(&self, tcp: TcpStream, life: &Arc<Life>) -> io::Result<(Socket, Version, Peer)> {
        let (addr, local) = (tcp.peer_addr()?, tcp.local_addr()?);
        let _ = tcp.set_nodelay(true); // Slower without, that is all.
        let is_trusted = self.options.proxies.trusts(addr.ip());
        let peer = |is_tls| Peer::on(addr, local, Some(life.clone()), is_tls, is_trusted);
        let limit = self.options.head_timeout;
        let Some(tls) = &self.tls else {
            let version = match timeout(limit, first_bytes(&tcp)).await?? {
                Version::Http2 if self.options.http2_in_clear => Version::Http2,
                _ => Version::Http1, // Which refuses the beginning of the other.
            };
            return Ok((Socket::Tcp(tcp), version, peer(false)));
        };
        let handshake = TlsAcceptor::from(tls.config()).accept(tcp);
        let tls = timeout(self.options.handshake_timeout, handshake).await??;
        let version = match tls.get_ref().1.alpn_protocol() {
            Some(b"h2") => Version::Http2,
            _ => Version::Http1,
        };
        Ok((Socket::Tls(Box::new(tls)), version, peer(true)))
    }

    async fn drive<S, R>(
        &self,
        socket: Socket,
        version: Version,
        peer: Peer,
        service: S,
        life: Arc<Life>,
        phases: watch::Receiver<Phase>,
    ) where
        S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + 'static,
        S::Error: Into<BoxError> + Send,
        S::Future: Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let options = &self.options;
        let switched = Arc::new(AtomicBool::new(false));
        let connection = Arc::new(Connection {
            peer,
            life,
            proxies: self.proxies.clone(),
            max_headers: options.max_headers,
            body_idle: options.body_idle_timeout,
            most_body: options.most_body,
            switched: switched.clone(),
            begun: AtomicU64::new(0),
        });
        let at_rest = Arc::strong_count(&connection) + 1; // Each request holds one more.
        let edge = Edge::new(service, connection.clone());
        let framing =
            (version == Version::Http1).then(|| Framing::new(options.max_head_bytes.max(8192)));
        let (head, write) = (options.head_timeout, options.write_timeout);
        let io = TokioIo::new(Watched::new(socket, framing, switched, head, write));
        match version {
            Version::Http1 => {
                let serving = self.http1.serve_connection(io, edge).with_upgrades();
                let idle = stands_idle(&connection, at_rest, options.idle_timeout);
                run(pin!(serving), idle, phases).await;
            }
            Version::Http2 => {
                let serving = self.http2.serve_connection(io, edge);
                let idle = stands_idle(&connection, at_rest, options.idle_timeout);
                run(pin!(serving), idle, phases).await;
            }
        }
    }
}

/// A connection that can be told to end.
trait Ends: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<S, B> Ends for http1::UpgradeableConnection<TokioIo<Watched>, S>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<BoxError> + Send,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S, B> Ends for http2::Connection<TokioIo<Watched>, S, TokioExecutor>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Polls a connection until it ends, is told to, or is cut.
async fn run(
    mut serving: Pin<&mut impl Ends>,
    idle: impl Future<Output = ()>,
    mut phases: watch::Receiver<Phase>,
) {
    let mut draining = phases.clone();
    let told = async {
        tokio::select! {
            () = reached(&mut draining, Phase::Draining) => {}
            () = idle => {}
        }
    };
    let mut told = pin!(Seldom::new(told));
    tokio::select! {
        biased;
        ended = serving.as_mut() => return log(ended),
        () = told.as_mut() => {}
    }
    serving.as_mut().end();
    tokio::select! {
        ended = serving.as_mut() => log(ended),
        () = reached(&mut phases, Phase::Cut) => {}
    }
}

fn log(ended: hyper::Result<()>) {
    if let Err(err) = ended {
        tracing::debug!(%err, "a connection ended with an error");
    }
}

/// Waits until no request was under way, and none came, for a whole `idle` or a little longer.
///
/// It looks now and then: a timer that each request sets and clears costs more than all else that is done
/// for the connection.
async fn stands_idle(connection: &Arc<Connection>, at_rest: usize, idle: Duration) {
    const LOOKS: u32 = 4;
    let mut quiet = 0;
    let mut before = connection.begun.load(Ordering::Relaxed);
    // One look more: a request may have ended since the one before the first quiet one.
    while quiet <= LOOKS {
        tokio::time::sleep(idle / LOOKS).await;
        let begun = connection.begun.load(Ordering::Relaxed);
        let is_quiet = begun == before && Arc::strong_count(connection) <= at_rest;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        before = begun;
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which version the first bytes are of. They stay in the socket.
async fn first_bytes(tcp: &TcpStream) -> io::Result<Version> {
    let mut first = [0; PREFACE.len()];
    loop {
        let length = tcp.peek(&mut first).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if length == PREFACE.len() && first == PREFACE {
            return Ok(Version::Http2);
        }
        if !PREFACE.starts_with(&first[..length]) {
            return Ok(Version::Http1);
        }
        // Peeking does not wait for more than is there. This is seldom, and the caller limits it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn builder_of_http1(options: &ServeOptions) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None) // `Watched` sees to slow heads, and `stands_idle` to the rest.
        .max_buf_size(options.max_head_bytes.max(8192))
        .title_case_headers(options.title_case_headers);
    if options.max_headers != 100 {
        builder.max_headers(options.max_headers); // hyper's own 100 needs no allocation.
    }
    builder
}

fn builder_of_http2(options: &ServeOptions) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.http2_max_streams)
        .max_pending_accept_reset_streams(options.http2_max_pending_resets)
        .max_local_error_reset_streams(options.http2_max_error_resets)
        .max_header_list_size(u32::try_from(options.max_head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(options.http2_ping)
        .keep_alive_timeout(options.http2_ping_timeout);
    builder
}

pin_project! {
    /// A future that is polled only when it was itself what woke the task.
    ///
    /// A connection's task wakes for every request; what tells it to end takes a lock each time it
    /// is asked.
    struct Seldom<F> {
        #[pin]
        future: F,
        woken: Arc<Woken>,
        waker: Waker,
    }
}

struct Woken {
    is_woken: AtomicBool,
    task: OnceLock<Waker>, // A connection stays in its task.
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

impl<F> Seldom<F> {
    fn new(future: F) -> Self {
        let woken = Arc::new(Woken {
            is_woken: AtomicBool::new(true),
            task: OnceLock::new(),
        });
        Self {
            future,
            waker: Waker::from(woken.clone()),
            woken,
        }
    }
}

impl<F: Future> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if !this.woken.is_woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        this.woken.task.get_or_init(|| cx.waker().clone());
        this.woken.is_woken.store(false, Ordering::Release);
        this.future.poll(&mut Context::from_waker(this.waker))
    }
}
