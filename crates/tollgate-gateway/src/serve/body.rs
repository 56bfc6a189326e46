//! Bodies of requests and responses at the server's edge.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use tollgate::buffer::Pieces;

use super::stop::CountedRequest;

/// The body of a request, as it comes. It ends with an error where the client sends nothing for too long,
/// or more than is taken.
pub struct RequestBody {
    /// None where there is nothing, as with most requests: these are moved often, and so they are small.
    some: Option<Box<SomeBody>>,
}

/// A body of which there is something, or may be.
#[derive(Default)]
struct SomeBody {
    inner: Option<Incoming>, // None where the client sends none.
    idle: Duration,
    left: u64,                      // How many bytes are still taken.
    timer: Option<Pin<Box<Sleep>>>, // Made at the first wait: most bodies never wait.
    is_waiting: bool,
    /// What was read of it before its turn, and comes first.
    ahead: VecDeque<Frame<Bytes>>,
    count: Option<Arc<AtomicU64>>,
}

/// The beginning of a body, read before the body is sent on.
#[derive(Debug)]
pub struct Beginning {
    /// What it begins with.
    pub bytes: Bytes,
    /// Whether that is all.
    pub is_whole: bool,
}

/// Why a request's body broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestBodyError {
    /// The client's connection failed, or it sent what is no body.
    #[error("the request's body broke off")]
    Client(#[source] hyper::Error),
    /// Nothing came for too long.
    #[error("the request's body did not come")]
    TimedOut(#[source] RequestBodyTimedOut),
    /// It is larger than what is taken.
    #[error("the request's body is too large")]
    TooLarge(#[source] RequestBodyTooLarge),
}

/// The client sent nothing of its body for too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("nothing came for too long")]
pub struct RequestBodyTimedOut;

/// The client sent more than is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("more came than is taken")]
pub struct RequestBodyTooLarge;

impl RequestBody {
    pub(super) fn new(inner: Incoming, idle: Duration, most: u64) -> Self {
        let is_empty = inner.is_end_stream() && inner.size_hint().exact() == Some(0);
        let some = (!is_empty).then(|| {
            Box::new(SomeBody {
                inner: Some(inner),
                idle,
                left: most,
                ..SomeBody::default()
            })
        });
        Self { some }
    }

    /// Whether more is announced than is taken.
    pub fn is_too_large(&self) -> bool {
        let announced = |some: &SomeBody| Some(some.inner.as_ref()?.size_hint().lower());
        let some = self.some.as_deref();
        some.is_some_and(|some| announced(some).is_some_and(|length| some.left < length))
    }

    /// Counts the bytes that the client sends from here on.
    pub(crate) fn counted(&mut self) -> Arc<AtomicU64> {
        let some = self.some.as_mut();
        some.map_or_else(Arc::default, |some| {
            some.count.get_or_insert_default().clone()
        })
    }

    /// Reads what the body begins with, until it ends or more than `most` bytes are there. It is kept, and
    /// the body goes on as if nobody had looked.
    ///
    /// # Errors
    ///
    /// Fails where the body breaks off.
    pub async fn beginning(&mut self, most: usize) -> Result<Beginning, RequestBodyError> {
        match &mut self.some {
            Some(some) => some.beginning(most).await,
            None => Ok(Beginning {
                bytes: Bytes::new(),
                is_whole: true,
            }),
        }
    }

    /// Sends these bytes in place of the body, which was read to its end.
    pub(crate) fn replace(&mut self, bytes: Bytes) {
        self.some.get_or_insert_default().replace(bytes);
    }
}

impl SomeBody {
    async fn beginning(&mut self, most: usize) -> Result<Beginning, RequestBodyError> {
        let data = self.ahead.iter().filter_map(Frame::data_ref);
        let mut length = data.map(Bytes::len).sum::<usize>();
        let mut pieces = Pieces::default();
        let is_whole = loop {
            if length > most {
                break false;
            }
            let frame = poll_fn(|cx| self.poll_client(cx)).await.transpose()?;
            let Some(frame) = frame else { break true };
            match frame.into_data() {
                Ok(data) => {
                    length += data.len();
                    pieces.push(data);
                }
                Err(trailers) => {
                    let before = std::mem::take(&mut pieces).all();
                    self.ahead.extend(before.into_iter().map(Frame::data));
                    self.ahead.push_back(trailers);
                }
            }
        };
        self.ahead.extend(pieces.all().into_iter().map(Frame::data));
        let mut data = self.ahead.iter().filter_map(Frame::data_ref);
        let bytes = match (data.next(), data.next()) {
            (Some(one), None) => one.clone(),
            _ => {
                let data = self.ahead.iter().filter_map(Frame::data_ref);
                Bytes::from(data.fold(Vec::with_capacity(length), |mut all, data| {
                    all.extend_from_slice(data);
                    all
                }))
            }
        };
        if is_whole {
            // One is enough: what is sent on is what was read.
            self.replace(bytes.clone());
        }
        Ok(Beginning { bytes, is_whole })
    }

    fn replace(&mut self, bytes: Bytes) {
        let trailers = std::mem::take(&mut self.ahead).into_iter();
        let trailers = trailers.filter(Frame::is_trailers);
        let data = (!bytes.is_empty()).then(|| Frame::data(bytes));
        self.ahead = data.into_iter().chain(trailers).collect();
    }

    fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.is_waiting = false;
                if let Some(Ok(frame)) = &frame {
                    let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                    if let Some(count) = &self.count {
                        count.fetch_add(bytes, Ordering::Relaxed);
                    }
                    let Some(left) = self.left.checked_sub(bytes) else {
                        return Poll::Ready(Some(Err(RequestBodyError::TooLarge(
                            RequestBodyTooLarge,
                        ))));
                    };
                    self.left = left;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(RequestBodyError::Client)))
            }
            Poll::Pending => self
                .poll_late(cx)
                .map(|()| Some(Err(RequestBodyError::TimedOut(RequestBodyTimedOut)))),
        }
    }

    /// Whether the client took too long. Asked only when there is nothing to read.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = || Instant::now() + self.idle;
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.is_waiting {
                    timer.as_mut().reset(limit());
                }
                timer
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(limit()))),
        };
        self.is_waiting = true;
        timer.as_mut().poll(cx)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(some) = &mut self.some else {
            return Poll::Ready(None);
        };
        match some.ahead.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => some.poll_client(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_ended = |inner: &Incoming| inner.is_end_stream();
        let some = self.some.as_deref();
        some.is_none_or(|some| some.ahead.is_empty() && some.inner.as_ref().is_none_or(is_ended))
    }

    fn size_hint(&self) -> SizeHint {
        let Some(some) = self.some.as_deref() else {
            return SizeHint::with_exact(0);
        };
        let inner = some.inner.as_ref();
        let mut hint = inner.map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let data = some.ahead.iter().filter_map(Frame::data_ref);
        let ahead = data.map(|data| data.len() as u64).sum::<u64>();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + ahead);
        }
        hint.set_lower(hint.lower() + ahead);
        hint
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestBody")
    }
}

pin_project! {
    /// The body of a response, which is counted until it was sent.
    pub(super) struct ResponseBody<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<R> {
        Inner { #[pin] body: R, counted: CountedRequest },
        Refused { body: Full<Bytes> },
    }
}

impl<R> ResponseBody<R> {
    pub(super) fn inner(body: R, counted: CountedRequest) -> Self {
        Self {
            kind: Kind::Inner { body, counted },
        }
    }

    pub(super) fn refused(text: &'static str) -> Self {
        Self {
            kind: Kind::Refused {
                body: Full::new(Bytes::from_static(text.as_bytes())),
            },
        }
    }
}

impl<R: Body<Data = Bytes>> Body for ResponseBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body, .. } => body.poll_frame(cx),
            KindProjection::Refused { body } => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body, .. } => body.is_end_stream(),
            Kind::Refused { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body, .. } => body.size_hint(),
            Kind::Refused { body } => body.size_hint(),
        }
    }
}
