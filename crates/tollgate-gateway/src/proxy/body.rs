//! Bodies on their way to an upstream, and back.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::{Instant, Sleep};

use super::kept::Reply;
use crate::serve::{RequestBodyTimedOut, RequestBodyTooLarge};

/// A request's body on its way to an upstream.
///
/// It tells when it was sent, and comes back if nothing of it was.
pub(super) struct Outgoing<B> {
    body: Option<B>, // None only after it went back in `drop`.
    watch: Arc<Watch<B>>,
    is_polled: bool,
}

/// What becomes of a request that was handed to the client.
pub(super) struct Watch<B> {
    started: Instant,
    sent_millis: AtomicU64, // Since `started`; `SENDING` until then.
    outcome: AtomicU8,
    unsent: Mutex<Option<B>>,
}

const SENDING: u64 = u64::MAX;

const FINE: u8 = 0;
const FAILED: u8 = 1;
const TIMED_OUT: u8 = 2;
const TOO_LARGE: u8 = 3;

impl<B> Watch<B> {
    pub(super) fn new(started: Instant) -> Arc<Self> {
        Arc::new(Self {
            started,
            sent_millis: AtomicU64::new(SENDING),
            outcome: AtomicU8::new(FINE),
            unsent: Mutex::new(None),
        })
    }

    /// When the request was handed to the client.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// When a connection had taken the whole request.
    pub(super) fn sent(&self) -> Option<Instant> {
        match self.sent_millis.load(Ordering::Acquire) {
            SENDING => None,
            millis => Some(self.started + Duration::from_millis(millis)),
        }
    }

    /// Whether the client's side failed.
    pub(super) fn has_failed(&self) -> bool {
        self.outcome.load(Ordering::Acquire) != FINE
    }

    /// Whether the client's side sent nothing for too long.
    pub(super) fn has_timed_out(&self) -> bool {
        self.outcome.load(Ordering::Acquire) == TIMED_OUT
    }

    /// Whether the client sent more than is taken.
    pub(super) fn is_too_large(&self) -> bool {
        self.outcome.load(Ordering::Acquire) == TOO_LARGE
    }

    /// The body, if nothing of it has left.
    pub(super) fn take_unsent(&self) -> Option<B> {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        unsent.take()
    }

    fn was_sent(&self) {
        if self.sent_millis.load(Ordering::Relaxed) == SENDING {
            let millis = self.started.elapsed().as_millis();
            let millis = u64::try_from(millis).unwrap_or(SENDING - 1);
            self.sent_millis.store(millis, Ordering::Release);
        }
    }
}

impl<B> Outgoing<B> {
    pub(super) fn new(body: B, watch: Arc<Watch<B>>) -> Self {
        Self {
            body: Some(body),
            watch,
            is_polled: false,
        }
    }
}

impl<B> Body for Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        this.is_polled = true;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        let ended = match &frame {
            Some(Ok(_)) => body.is_end_stream(),
            Some(Err(_)) | None => true,
        };
        let frame = frame.map(|frame| frame.map_err(Into::into));
        if let Some(Err(err)) = &frame {
            let outcome = match &**err {
                err if is_in::<RequestBodyTimedOut>(err) => TIMED_OUT,
                err if is_in::<RequestBodyTooLarge>(err) => TOO_LARGE,
                _ => FAILED,
            };
            this.watch.outcome.store(outcome, Ordering::Release);
        }
        if ended {
            this.watch.was_sent();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        // The client asks when a connection takes the head, and not before.
        let is_whole = self.body.as_ref().is_none_or(Body::is_end_stream);
        if is_whole {
            self.watch.was_sent();
        }
        is_whole
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Whether an error, or what it comes from, is one of this type.
fn is_in<E: std::error::Error + 'static>(err: &(dyn std::error::Error + 'static)) -> bool {
    err.is::<E>() || err.source().is_some_and(is_in::<E>)
}

impl<B> Drop for Outgoing<B> {
    fn drop(&mut self) {
        if !self.is_polled {
            let mut unsent = self
                .watch
                .unsent
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *unsent = self.body.take();
        }
    }
}

/// The body of a proxied response: the upstream's as it comes, or that of an answer of ours.
pub struct ProxyBody {
    kind: Kind,
}

enum Kind {
    Upstream(Reply),
    Limited {
        body: Reply,
        deadline: Pin<Box<Sleep>>,
    },
    Own(Full<Bytes>),
}

/// Why a response broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyBodyError {
    /// The upstream's connection failed.
    #[error("the upstream's response broke off")]
    Upstream(#[from] hyper::Error),
    /// The exchange reached its limit.
    #[error("the exchange reached its time limit")]
    TimedOut,
}

impl ProxyBody {
    pub(super) fn upstream(body: Reply, deadline: Option<Instant>) -> Self {
        let kind = match deadline {
            Some(deadline) if !body.is_end_stream() => Kind::Limited {
                body,
                deadline: Box::pin(tokio::time::sleep_until(deadline)),
            },
            _ => Kind::Upstream(body),
        };
        Self { kind }
    }

    pub(super) fn own(body: Bytes) -> Self {
        Self {
            kind: Kind::Own(Full::new(body)),
        }
    }
}

impl Default for ProxyBody {
    fn default() -> Self {
        Self::own(Bytes::new())
    }
}

impl fmt::Debug for ProxyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Upstream(_) | Kind::Limited { .. } => "ProxyBody(the upstream's)",
            Kind::Own(_) => "ProxyBody(ours)",
        })
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = ProxyBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        match &mut self.kind {
            Kind::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Kind::Limited { body, deadline } => {
                if deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Err(ProxyBodyError::TimedOut)));
                }
                Pin::new(body).poll_frame(cx).map_err(Into::into)
            }
            Kind::Own(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Upstream(body) | Kind::Limited { body, .. } => body.is_end_stream(),
            Kind::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Upstream(body) | Kind::Limited { body, .. } => body.size_hint(),
            Kind::Own(body) => body.size_hint(),
        }
    }
}
