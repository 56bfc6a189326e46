//! Listeners: connections of clients, with limits on everything, and an end in phases.
//!
//! [`serve`] takes connections, over TLS where told, speaks HTTP/1.1 and HTTP/2 on them, and gives each
//! request to a service. Before that, requests that others could frame or address otherwise are
//! refused (400), what ends at our hop is taken out, and [`Peer`] and
//! [`ClientAddr`](tollgate::context::ClientAddr) are put into the extensions: whom an untrusted peer
//! names as client is dropped (see [`TrustedProxies`]). [`Stop`] ends it.
//!
//! # Example
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//! use http::{Request, Response};
//! use tollgate_gateway::serve::{Listener, RequestBody, ServeOptions, Stop, serve};
//! use tower::service_fn;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! async fn hello(_: Request<RequestBody>) -> Result<Response<String>, Infallible> {
//!     Ok(Response::new("hello".into()))
//! }
//!
//! let stop = Stop::new();
//! let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await?;
//! let serving = tokio::spawn(serve(listener, service_fn(hello), ServeOptions::default(), stop.clone()));
//!
//! stop.wait(Duration::from_secs(30)).await;
//! serving.await?;
//! # Ok(())
//! # }
//! ```

mod address;
mod body;
mod connection;
mod edge;
mod framing;
mod io;
mod no_head;
mod peer;
mod stop;
mod tls;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower_service::Service;

pub(crate) use self::stop::Tunnel;
pub use self::{
    address::{ForwardedDepth, TrustedProxies},
    body::{Beginning, RequestBody, RequestBodyError, RequestBodyTimedOut, RequestBodyTooLarge},
    peer::Peer,
    stop::{InFlight, Stop, Stopped},
    tls::{CertificateFiles, ServerTls, TlsError},
};
use self::{
    connection::Acceptor,
    stop::{CountedConnection, Phase, reached},
};

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Who is believed when they name a client.
    pub proxies: TrustedProxies,
    /// How many connections at once; further ones wait to be taken.
    pub max_connections: usize,
    /// How many bytes the head of a request may have, at least 8192. More is 431.
    pub max_head_bytes: usize,
    /// How many headers a request may have. More is 431.
    pub max_headers: usize,
    /// How long a head may take, from its first byte to its last; and the first byte of a connection.
    pub head_timeout: Duration,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    /// How long nothing of a body may come. Then 408.
    pub body_idle_timeout: Duration,
    /// How much of a body is taken, in bytes.
    pub most_body: u64,
    /// How long a client may not read what is written to it.
    pub write_timeout: Duration,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// Speaks HTTP/2 without TLS, where a client begins so. Over TLS see [`ServerTls::without_http2`].
    pub http2_in_clear: bool,
    /// How many requests at once on a connection of HTTP/2.
    pub http2_max_streams: u32,
    /// How many requests that a client took back may wait to be noticed, before its connection ends.
    pub http2_max_pending_resets: usize,
    /// How many requests we may have to reset for errors of the client, before its connection ends.
    pub http2_max_error_resets: usize,
    /// Pings a connection of HTTP/2 that often.
    pub http2_ping: Option<Duration>,
    /// How long a ping may take.
    pub http2_ping_timeout: Duration,
    /// Writes names of headers as `X-Name`, as Tyk does, and not as `x-name`. Only HTTP/1.1 can.
    pub title_case_headers: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            proxies: TrustedProxies::default(),
            max_connections: 65_536,
            max_head_bytes: 64 * 1024,
            max_headers: 100,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(120),
            body_idle_timeout: Duration::from_secs(120),
            most_body: u64::MAX,
            write_timeout: Duration::from_secs(120),
            handshake_timeout: Duration::from_secs(10),
            http2_in_clear: true,
            http2_max_streams: 128,
            http2_max_pending_resets: 20,
            http2_max_error_resets: 256,
            http2_ping: Some(Duration::from_secs(60)),
            http2_ping_timeout: Duration::from_secs(20),
            title_case_headers: true,
        }
    }
}

/// A socket that takes connections. Clones take from the same one, which closes with the last of them.
#[derive(Clone, Debug)]
pub struct Listener {
    tcp: Arc<TcpListener>,
    tls: Option<ServerTls>,
}

impl Listener {
    /// Listens on an address; port 0 is any free one.
    ///
    /// # Errors
    ///
    /// Where the address can not be had.
    pub async fn bind(addr: SocketAddr) -> std::io::Result<Self> {
        TcpListener::bind(addr).await.map(Self::from)
    }

    /// Speaks TLS on every connection.
    pub fn with_tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// Where the system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self::from(Arc::new(tcp))
    }
}

impl From<Arc<TcpListener>> for Listener {
    fn from(tcp: Arc<TcpListener>) -> Self {
        Self { tcp, tls: None }
    }
}

/// Serves connections until it is stopped. Those that are open then go on in tasks of their own;
/// [`Stop::wait`] waits for them.
///
/// The service is cloned for each connection and each request.
pub async fn serve<S, R>(listener: Listener, service: S, options: ServeOptions, stop: Stop)
where
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    S::Future: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let life = stop.life();
    let room = Arc::new(Semaphore::new(
        options.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let acceptor = Arc::new(Acceptor::new(options, listener.tls));
    let mut phases = life.phase();
    loop {
        let taken = tokio::select! {
            () = reached(&mut phases, Phase::Draining) => return,
            taken = take(&listener.tcp, &room) => taken,
        };
        let Some((tcp, place)) = taken else { continue };
        let counted = CountedConnection::open(life);
        let (acceptor, service, life) = (acceptor.clone(), service.clone(), life.clone());
        tokio::spawn(async move {
            acceptor.serve(tcp, service, counted, life).await;
            drop(place);
        });
    }
}

/// The next connection, as soon as there is room for it.
async fn take(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((tcp, _)) => Some((tcp, place)),
        Err(err) => {
            tracing::warn!(%err, "a connection could not be taken");
            // Where there are no more files, they do not come back at once.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}
