//! Both ends of the wire, as bytes.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tollgate_gateway::{
    proxy::{ClientOptions, Proxy, ProxyBody, ProxyOptions, Target, Targets, UpstreamClient},
    serve::{Listener, RequestBody, ServeOptions, ServerTls, Stop, serve},
};
use tower::ServiceExt;

use crate::ports::free_port;

/// What is waited for comes at once, or a test is wrong.
pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, what)
        .await
        .expect("took too long")
}

/// One end of a connection.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    seen: Vec<u8>,
}

impl Wire {
    pub(super) async fn connect(addr: SocketAddr) -> Self {
        Self::from(TcpStream::connect(addr).await.unwrap())
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends what the other end may not take any more.
    pub(super) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// What comes up to some text, with it.
    pub(super) async fn until(&mut self, text: &str) -> String {
        loop {
            let found = self
                .seen
                .windows(text.len())
                .position(|part| part == text.as_bytes());
            if let Some(at) = found {
                let rest = self.seen.split_off(at + text.len());
                let until = std::mem::replace(&mut self.seen, rest);
                return String::from_utf8_lossy(&until).into_owned();
            }
            let before = self.seen.len();
            let _ = within(self.stream.read_buf(&mut self.seen)).await;
            let got = String::from_utf8_lossy(&self.seen);
            assert!(
                self.seen.len() > before,
                "{text:?} did not come, but {got:?}"
            );
        }
    }

    /// So many bytes.
    pub(super) async fn exactly(&mut self, length: usize) {
        while self.seen.len() < length {
            let read = within(self.stream.read_buf(&mut self.seen)).await;
            assert_ne!(read.unwrap_or(0), 0, "{} of {length} came", self.seen.len());
        }
        self.seen.drain(..length);
    }

    /// A head, up to its empty line.
    pub(super) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// All that comes until the other end closes.
    pub(super) async fn rest(&mut self) -> String {
        let mut all = std::mem::take(&mut self.seen);
        let _ = within(self.stream.read_to_end(&mut all)).await;
        String::from_utf8_lossy(&all).into_owned()
    }
}

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream,
            seen: Vec::new(),
        }
    }
}

/// An upstream that the test plays.
pub(super) struct Upstream {
    pub(super) addr: SocketAddr,
    pub(super) connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Plays each connection; it is told how many came before.
    pub(super) async fn play<F, Fut>(play: F) -> Self
    where
        F: Fn(Wire, usize) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn({
            let connections = connections.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let before = connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(play(Wire::from(stream), before));
                }
            }
        });
        Self {
            addr,
            connections,
            task,
        }
    }

    /// Answers each request without body by its own head.
    pub(super) async fn echo() -> Self {
        Self::play(|mut wire, _| async move {
            loop {
                let mut head = [0];
                if wire.stream.peek(&mut head).await.unwrap_or(0) == 0 {
                    return;
                }
                let head = wire.head().await;
                let length = head.len();
                wire.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}"
                ))
                .await;
            }
        })
        .await
    }

    /// Answers each connection's first request without body by some bytes, and closes.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::play(move |mut wire, _| async move {
            wire.head().await;
            wire.send(answer).await;
        })
        .await
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(super) fn seen(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address on which nobody listens, and that no connection of another test gets.
pub(super) fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], free_port().unwrap()).into()
}

/// Server and proxy under test.
pub(super) struct Gateway {
    pub(super) addr: SocketAddr,
    pub(super) stop: Stop,
}

/// What a gateway is made of.
#[derive(Default)]
pub(super) struct Setup {
    pub(super) client: ClientOptions,
    pub(super) proxy: ProxyOptions,
    pub(super) serve: ServeOptions,
    pub(super) tls: Option<ServerTls>,
}

impl Gateway {
    pub(super) async fn before(url: &str) -> Self {
        Setup::default().start(&[url]).await
    }

    pub(super) async fn connect(&self) -> Wire {
        Wire::connect(self.addr).await
    }

    /// Sends bytes, and gives what comes until the connection is closed.
    pub(super) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut wire = self.connect().await;
        wire.send(bytes).await;
        wire.rest().await
    }

    /// Asks for a path on a connection of its own.
    pub(super) async fn get(&self, path: &str, fields: &str) -> String {
        let fields = if fields.is_empty() {
            String::new()
        } else {
            format!("{fields}\r\n")
        };
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n{fields}\r\n");
        self.exchange(request).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cut();
    }
}

impl Setup {
    pub(super) async fn start(self, urls: &[&str]) -> Gateway {
        let proxy: Proxy<RequestBody> = proxy(&self.client, self.proxy, urls);
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        if let Some(tls) = self.tls {
            listener = listener.with_tls(tls);
        }
        let addr = listener.local_addr().unwrap();
        let stop = Stop::new();
        tokio::spawn(serve(listener, proxy, self.serve, stop.clone()));
        Gateway { addr, stop }
    }
}

pub(super) fn proxy<B>(client: &ClientOptions, options: ProxyOptions, urls: &[&str]) -> Proxy<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let targets = urls.iter().map(|url| Target::parse(url).unwrap()).collect();
    let targets = Targets::round_robin(targets).unwrap();
    Proxy::new(UpstreamClient::new(client).unwrap(), targets, options).unwrap()
}

/// Sends one request through a proxy without a server.
pub(super) async fn ask(
    urls: &[&str],
    options: ProxyOptions,
    request: Request<Full<Bytes>>,
) -> Response<ProxyBody> {
    let proxy = proxy(&ClientOptions::default(), options, urls);
    within(proxy.oneshot(request)).await.unwrap()
}

/// Status line of a response, and its body.
pub(super) fn parts(response: &str) -> (&str, &str) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((response, ""));
    (head.lines().next().unwrap_or_default(), body)
}
