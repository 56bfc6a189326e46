//! Connections of HTTP/1.1 to upstreams, kept for later requests.
//!
//! Such a connection has no task of its own: the request that is on it drives it, and then whoever reads the
//! response. Nothing is handed from one task to another, and nobody is woken but the one who waits for the
//! socket. See `docs/design/gateway.md` for what that spares.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Request, Response, Uri,
    uri::{Authority, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, SendRequest},
    },
};
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, timeout_at};

use super::{
    body::Outgoing,
    client::{ClientOptions, Limits},
    connect::Connector,
    error::{ProxyError, ProxyErrorKind},
    relay::Relay,
};

/// How often those that wait in vain are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// How often a connection is driven again at once, as it woke itself.
const ROUNDS: usize = 8;

/// The origins that requests are sent to, with the connections to each.
pub(super) struct Kept<B> {
    ways: Arc<Ways>,
    origins: Arc<Origins<B>>,
    sweeper: OnceLock<()>,
}

type Origins<B> = Mutex<HashMap<(Scheme, Authority), Arc<Origin<B>>>>;

/// How connections are made and kept.
struct Ways {
    connector: Connector,
    http1: Builder,
    idle_timeout: Duration,
    max_idle: usize,
}

/// A scheme, host and port (RFC 9110 §4.3.1), and the connections to it that wait for a request.
pub(super) struct Origin<B> {
    uri: Uri,
    ways: Arc<Ways>,
    idle: Mutex<Vec<Idle<B>>>,
}

struct Idle<B> {
    link: Box<Link<B>>,
    since: Instant,
}

impl<B> Kept<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) fn new(options: &ClientOptions, connector: Connector) -> Self {
        let mut http1 = Builder::new();
        http1
            .max_buf_size(options.max_head_bytes.max(8192))
            .title_case_headers(options.title_case_headers);
        let ways = Ways {
            connector,
            http1,
            idle_timeout: options.idle_timeout,
            max_idle: options.max_idle_per_upstream,
        };
        Self {
            ways: Arc::new(ways),
            origins: Arc::default(),
            sweeper: OnceLock::new(),
        }
    }

    /// The origin of that name, the same for all who ask.
    pub(super) fn origin(&self, scheme: &Scheme, authority: &Authority) -> Arc<Origin<B>> {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.sweeper.get_or_init(|| {
                runtime.spawn(sweep(Arc::downgrade(&self.origins), self.ways.idle_timeout));
            });
        }
        let mut origins = self.origins.lock();
        let origin = origins
            .entry((scheme.clone(), authority.clone()))
            .or_insert_with(|| {
                Arc::new(Origin {
                    uri: whole(scheme, authority),
                    ways: self.ways.clone(),
                    idle: Mutex::default(),
                })
            });
        origin.clone()
    }
}

fn whole(scheme: &Scheme, authority: &Authority) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
}

/// Closes what has waited for too long or was closed by the upstream, and forgets origins that nobody asks for.
async fn sweep<B>(origins: Weak<Origins<B>>, idle_timeout: Duration)
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    loop {
        tokio::time::sleep(SWEEP.min(idle_timeout)).await;
        let Some(origins) = origins.upgrade() else {
            return;
        };
        let all: Vec<_> = origins.lock().values().cloned().collect();
        for origin in &all {
            origin.sweep(idle_timeout);
        }
        drop(all);
        origins
            .lock()
            .retain(|_, origin| Arc::strong_count(origin) > 1 || !origin.idle.lock().is_empty());
    }
}

impl<B> Origin<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends a request, whose target has to be path and query alone. It is sent again on another connection
    /// where the one that was kept is closed and has taken nothing of it.
    pub(super) fn send(
        self: &Arc<Self>,
        request: Request<Outgoing<B>>,
        limits: Limits<B>,
    ) -> Exchange<B> {
        let kept = self.idle.lock().pop();
        Exchange {
            state: match kept {
                Some(Idle { link, .. }) => {
                    State::sent(link, request, limits.first(limits.started()))
                }
                None => State::connecting(self, request, limits.deadline),
            },
            is_reused: true,
            limits,
        }
    }

    async fn connect(
        self: Arc<Self>,
        deadline: Option<Instant>,
    ) -> Result<Box<Link<B>>, ProxyError> {
        let connecting = self.ways.connector.connect(self.uri.clone());
        let connected = match deadline {
            None => connecting.await,
            Some(deadline) => match timeout_at(deadline, connecting).await {
                Ok(connected) => connected,
                Err(_) => return Err(ProxyError::new(ProxyErrorKind::TimedOut)),
            },
        };
        let io = connected.map_err(|failure| ProxyError::of(&failure))?;
        let handshake = self.ways.http1.handshake(io).await;
        let (sender, driver) = handshake.map_err(|error| ProxyError::of(&error))?;
        let relay = Arc::<Relay>::default();
        Ok(Box::new(Link {
            sender,
            driver: Some(Box::pin(driver.with_upgrades())),
            waker: relay.clone().into(),
            relay,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            origin: Arc::downgrade(&self),
        }))
    }

    fn sweep(&self, idle_timeout: Duration) {
        let mut gone = Vec::new(); // Closed when the lock is not held.
        let mut idle = self.idle.lock();
        let now = Instant::now();
        let mut at = 0;
        while at < idle.len() {
            let is_late = idle[at].since + idle_timeout <= now;
            if is_late || !idle[at].link.is_idle() {
                gone.push(idle.remove(at));
            } else {
                at += 1;
            }
        }
    }
}

impl<B> Origin<B> {
    fn give_back(&self, link: Box<Link<B>>) {
        let mut idle = self.idle.lock();
        if idle.len() < self.ways.max_idle {
            let since = Instant::now();
            idle.push(Idle { link, since });
        }
    }
}

impl<B> fmt::Debug for Origin<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.uri)
    }
}

/// What moves bytes for a connection, whose type hyper does not name.
type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// One connection.
struct Link<B> {
    sender: SendRequest<Outgoing<B>>,
    driver: Option<Driver>, // None once it has ended.
    relay: Arc<Relay>,
    waker: Waker, // The relay's.
    timer: Pin<Box<Sleep>>,
    origin: Weak<Origin<B>>,
}

/// A request to an origin of which there is no response yet.
pub(super) struct Exchange<B> {
    state: State<B>,
    limits: Limits<B>,
    is_reused: bool, // Whether the connection was kept from another request.
}

enum State<B> {
    Connecting {
        connecting: Connecting<B>,
        request: Option<Box<Request<Outgoing<B>>>>,
    },
    Sent {
        link: Option<Box<Link<B>>>, // None once there is a response.
        answer: Answer<B>,
    },
}

type Connecting<B> = Pin<Box<dyn Future<Output = Result<Box<Link<B>>, ProxyError>> + Send>>;

/// What the connection says in the end, in a type that hyper does not name.
type Answer<B> = Pin<Box<dyn Future<Output = Answered<B>> + Send>>;

type Answered<B> = Result<Response<Incoming>, TrySendError<Request<Outgoing<B>>>>;

impl<B> State<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn connecting(
        origin: &Arc<Origin<B>>,
        request: Request<Outgoing<B>>,
        deadline: Option<Instant>,
    ) -> Self {
        Self::Connecting {
            connecting: Box::pin(origin.clone().connect(deadline)),
            request: Some(Box::new(request)),
        }
    }

    fn sent(mut link: Box<Link<B>>, request: Request<Outgoing<B>>, limit: Instant) -> Self {
        link.timer.as_mut().reset(limit);
        let answer = Box::pin(link.sender.try_send_request(request));
        Self::Sent {
            link: Some(link),
            answer,
        }
    }
}

impl<B> Future for Exchange<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Response<Reply>, ProxyError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            this.state = match &mut this.state {
                State::Connecting {
                    connecting,
                    request,
                } => {
                    let connected = ready!(connecting.as_mut().poll(cx));
                    // Dropped where there is no connection, and with it goes the body back.
                    let request = request.take().expect("polled after completion");
                    this.is_reused = false;
                    State::sent(connected?, *request, this.limits.first(Instant::now()))
                }
                State::Sent { link, answer } => {
                    let going = link.as_mut().expect("polled after completion");
                    let answered = ready!(going.poll_answer(answer, &this.limits, cx));
                    let link = link.take().expect("seen");
                    match answered {
                        Some(Ok(response)) => {
                            return Poll::Ready(Ok(response.map(|body| Reply::on(body, link))));
                        }
                        Some(Err(failed)) => this.again(link.origin.upgrade(), failed)?,
                        None => {
                            return Poll::Ready(Err(ProxyError::new(ProxyErrorKind::TimedOut)));
                        }
                    }
                }
            };
        }
    }
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends the request on another connection, if nothing of it has left on one that was kept.
    fn again(
        &self,
        origin: Option<Arc<Origin<B>>>,
        mut failed: TrySendError<Request<Outgoing<B>>>,
    ) -> Result<State<B>, ProxyError> {
        let unsent = failed.take_message().filter(|_| self.is_reused);
        match (unsent, origin) {
            (Some(request), Some(origin)) => {
                Ok(State::connecting(&origin, request, self.limits.deadline))
            }
            _ => Err(ProxyError::of(&failed.into_error())),
        }
    }
}

impl<B> Link<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Waits for the head of a response; none where it does not come in time.
    fn poll_answer(
        &mut self,
        answer: &mut Answer<B>,
        limits: &Limits<B>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Answered<B>>> {
        let answered = self.drive(cx, |link, nobody| {
            link.turn();
            answer.as_mut().poll(nobody)
        });
        if answered.is_ready() {
            return answered.map(Some);
        }
        let mut own = Context::from_waker(&self.waker);
        limits
            .poll_over(self.timer.as_mut(), &mut own)
            .map(|()| None)
    }

    /// Drives the connection until there is what is waited for, or there is nothing to do. What is waited for
    /// is brought by the connection alone, which is driven here: so it has nobody to wake.
    fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.relay.begin(cx.waker());
        for _ in 0..ROUNDS {
            let polled = poll(self, &mut Context::from_waker(Waker::noop()));
            if polled.is_ready() {
                self.relay.end();
                return polled;
            }
            if self.relay.rest() {
                return Poll::Pending;
            }
        }
        self.relay.end();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Drives the connection. One that ends is dropped, which gives back what it had not begun to send.
    fn turn(&mut self) {
        if let Some(driver) = &mut self.driver {
            let mut own = Context::from_waker(&self.waker);
            if driver.as_mut().poll(&mut own).is_ready() {
                self.driver = None; // What went wrong is told by the response, or its body.
            }
        }
    }

    /// Whether another request can be sent.
    fn is_idle(&mut self) -> bool {
        self.relay.begin(Waker::noop());
        self.turn();
        self.relay.end();
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// A connection whose response is being read.
trait Drive: Send {
    /// Reads a frame of the body.
    fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

    /// The body has ended: keeps the connection, if it can be used again.
    fn give_back(self: Box<Self>);
}

impl<B> Drive for Link<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.drive(cx, |link, nobody| {
            let polled = Pin::new(&mut *body).poll_frame(nobody);
            if polled.is_ready() {
                return polled;
            }
            link.turn();
            Pin::new(&mut *body).poll_frame(nobody)
        })
    }

    fn give_back(mut self: Box<Self>) {
        if self.is_idle()
            && let Some(origin) = self.origin.upgrade()
        {
            origin.give_back(self);
        }
    }
}

/// The body of a response, with the connection it comes on.
pub(super) struct Reply {
    body: Incoming,
    link: Option<Box<dyn Drive>>, // None for one that has a task of its own, and once all was read.
    broken: Option<hyper::Error>,
}

impl Reply {
    /// On a connection that is driven elsewhere.
    pub(super) fn elsewhere(body: Incoming) -> Self {
        Self {
            body,
            link: None,
            broken: None,
        }
    }

    fn on<B>(body: Incoming, link: Box<Link<B>>) -> Self
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut reply = Self {
            body,
            link: Some(link),
            broken: None,
        };
        reply.settle();
        reply
    }

    /// Gives the connection back, once all of the body was read.
    fn settle(&mut self) {
        if self.body.is_end_stream()
            && let Some(link) = self.link.take()
        {
            link.give_back();
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(link) = &mut this.link else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        let polled = link.poll_frame(&mut this.body, cx);
        match polled {
            Poll::Ready(Some(Ok(_))) => this.settle(),
            Poll::Ready(None) => {
                if let Some(link) = this.link.take() {
                    link.give_back();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                // What came before goes out first: a server drops what it holds when a body fails.
                (this.link, this.broken) = (None, Some(error));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
