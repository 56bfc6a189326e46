//! Bodies that are read whole before they go on.
//!
//! Whoever must see a body (a transform, a rewrite whose trigger reads the payload, a plugin) reads it
//! with [`read`], up to a cap, and hands on a [`ReplayBody`]: the same bytes, others in their place, or,
//! where the body was larger than the cap, what was read and then the rest as it comes. A body that
//! nobody must see goes through untouched, and is never waited for.
//!
//! [`BufferBodyLayer`] does the reading alone: for services behind it that want the bytes without waiting.
//!
//! # Example
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::{BodyExt, Full};
//! use tollgate::buffer::{Read, ReplayBody, read};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let Read::Whole(whole) = read(Full::new(Bytes::from("hello")), 1024).await else {
//!     return Err("larger than the cap".into());
//! };
//! assert_eq!(whole.bytes, "hello");
//! let body = ReplayBody::<Full<Bytes>>::whole(whole.bytes);
//! assert_eq!(body.collect().await?.to_bytes(), "hello");
//! # Ok(())
//! # }
//! ```

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tollgate_core::{Rejection, future::BoxFuture};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Refusals, body::GateBody};

/// How much of a body is read where nothing else is said, in bytes.
pub const MOST: usize = 1 << 20;

/// What [`read`] found.
pub enum Read<B: Body> {
    /// All of it.
    Whole(Whole),
    /// More than the cap. The body can still go on: nothing of it was lost.
    TooLarge(ReplayBody<B>),
    /// It broke off.
    Broken(B::Error),
}

impl<B: Body> fmt::Debug for Read<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Read::Whole",
            Self::TooLarge(_) => "Read::TooLarge",
            Self::Broken(_) => "Read::Broken",
        })
    }
}

/// A body that was read whole.
#[derive(Clone, Debug, Default)]
pub struct Whole {
    /// Its bytes.
    pub bytes: Bytes,
    /// What came behind them.
    pub trailers: Option<HeaderMap>,
}

/// Reads a body until it ends, or until more than `most` bytes came. One that announces more is not read.
pub async fn read<B: Body<Data = Bytes>>(body: B, most: usize) -> Read<B> {
    if usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX) > most {
        return Read::TooLarge(ReplayBody::untouched(body));
    }
    let mut body = Box::pin(body);
    let mut front = Pieces::default();
    let mut length = 0;
    let mut trailers = None;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame.map(Frame::into_data) {
            Err(err) => return Read::Broken(err),
            Ok(Ok(data)) => {
                length += data.len();
                front.push(data);
                if length > most {
                    return Read::TooLarge(ReplayBody::resumed(front.all(), body));
                }
            }
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
        }
    }
    Read::Whole(Whole {
        bytes: joined(front.all(), length),
        trailers,
    })
}

/// Pieces of a body. Many small ones would take more than the body does, so they are put together.
#[derive(Debug, Default)]
pub struct Pieces {
    whole: VecDeque<Bytes>,
    /// The small ones behind them.
    small: BytesMut,
}

impl Pieces {
    /// Adds one.
    pub fn push(&mut self, mut piece: Bytes) {
        const SMALL: usize = 4 << 10;
        const TOGETHER: usize = 16 << 10;
        let is_first = self.whole.is_empty() && self.small.is_empty();
        if is_first || piece.len() >= SMALL {
            self.end();
            self.whole.push_back(piece);
            return;
        }
        while !piece.is_empty() {
            if self.small.capacity() == self.small.len() {
                self.end();
                self.small = BytesMut::with_capacity(TOGETHER);
            }
            let room = self.small.capacity() - self.small.len();
            self.small
                .extend_from_slice(&piece.split_to(room.min(piece.len())));
        }
    }

    fn end(&mut self) {
        if !self.small.is_empty() {
            self.whole
                .push_back(std::mem::take(&mut self.small).freeze());
        }
    }

    /// All of them, in their order.
    pub fn all(mut self) -> VecDeque<Bytes> {
        self.end();
        self.whole
    }
}

/// One piece is not copied.
fn joined(mut pieces: VecDeque<Bytes>, length: usize) -> Bytes {
    if pieces.len() == 1 {
        return pieces.pop_front().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(length);
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}

/// Says how long a body is, in place of what was said of the body that it stands for.
pub fn set_length(headers: &mut HeaderMap, length: usize) {
    headers.remove(TRANSFER_ENCODING);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
}

pin_project! {
    /// A body that may have been read: untouched, whole, or what was read and then the rest.
    pub struct ReplayBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Untouched { #[pin] body: B },
        Whole { bytes: Option<Bytes>, trailers: Option<HeaderMap> },
        Resumed { front: VecDeque<Bytes>, rest: Pin<Box<B>> },
    }
}

impl<B> ReplayBody<B> {
    /// A body that nobody looked at.
    pub fn untouched(body: B) -> Self {
        let kind = Kind::Untouched { body };
        Self { kind }
    }

    /// These bytes.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Whole {
            bytes: bytes.into(),
            trailers: None,
        }
        .into()
    }

    fn resumed(front: VecDeque<Bytes>, rest: Pin<Box<B>>) -> Self {
        let kind = Kind::Resumed { front, rest };
        Self { kind }
    }
}

impl<B> From<Whole> for ReplayBody<B> {
    fn from(Whole { bytes, trailers }: Whole) -> Self {
        let bytes = (!bytes.is_empty()).then_some(bytes);
        let kind = Kind::Whole { bytes, trailers };
        Self { kind }
    }
}

impl<B> Default for ReplayBody<B> {
    fn default() -> Self {
        Whole::default().into()
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Untouched { .. } => "ReplayBody(untouched)",
            Kind::Whole { .. } => "ReplayBody(whole)",
            Kind::Resumed { .. } => "ReplayBody(resumed)",
        })
    }
}

impl<B: Body<Data = Bytes>> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Untouched { body } => body.poll_frame(cx),
            KindProjection::Whole { bytes, trailers } => {
                let data = bytes.take().map(Frame::data);
                let frame = data.or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            KindProjection::Resumed { front, rest } => match front.pop_front() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                None => rest.as_mut().poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Untouched { body } => body.is_end_stream(),
            Kind::Whole { bytes, trailers } => bytes.is_none() && trailers.is_none(),
            Kind::Resumed { front, rest } => front.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Untouched { body } => body.size_hint(),
            Kind::Whole { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            Kind::Resumed { front, rest } => {
                let ahead = front.iter().map(Bytes::len).sum::<usize>() as u64;
                let mut hint = rest.size_hint();
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper + ahead);
                }
                hint.set_lower(hint.lower() + ahead);
                hint
            }
        }
    }
}

/// Layer that reads the bodies of requests whole, before the services behind it see the request.
///
/// A body that is larger than the cap is refused with `413`, one that breaks off with `400`. Behind the
/// layer bodies are [`ReplayBody`]s, and the bytes are in the request's extensions as [`Buffered`].
///
/// ```
/// use http::Request;
/// use http_body_util::Full;
/// use tollgate::buffer::{BufferBodyLayer, Buffered, ReplayBody};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// type Body = Full<bytes::Bytes>;
/// let service = BufferBodyLayer::new(1024).layer(service_fn(async |request: Request<ReplayBody<Body>>| {
///     assert_eq!(request.extensions().get::<Buffered>().map(|body| &body.0[..]), Some(&b"hi"[..]));
///     Ok::<_, std::convert::Infallible>(http::Response::new(Body::default()))
/// }));
/// service.oneshot(Request::new(Body::from("hi"))).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BufferBodyLayer {
    most: usize,
    refusals: Refusals,
}

/// The bytes of a request's body, where [`BufferBodyLayer`] read them.
#[derive(Clone, Debug, Default)]
pub struct Buffered(pub Bytes);

impl BufferBodyLayer {
    /// Reads up to `most` bytes.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            refusals: Refusals::tyk(),
        }
    }

    /// Refuses in this form in place of Tyk's.
    pub fn with_refusals(mut self, refusals: Refusals) -> Self {
        self.refusals = refusals;
        self
    }
}

impl<S> Layer<S> for BufferBodyLayer {
    type Service = BufferBody<S>;

    fn layer(&self, inner: S) -> BufferBody<S> {
        BufferBody {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`BufferBodyLayer`].
#[derive(Clone, Debug)]
pub struct BufferBody<S> {
    inner: S,
    layer: BufferBodyLayer,
}

/// A body that is too large to be read.
pub(crate) fn too_large() -> Rejection {
    Rejection::custom(
        "body_too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "Request body is too large",
    )
}

/// A body that did not come whole.
pub(crate) fn broken() -> Rejection {
    Rejection::custom(
        "body_broken",
        StatusCode::BAD_REQUEST,
        "Request body broke off",
    )
}

impl<S, B, R> Service<Request<B>> for BufferBody<S>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
{
    type Response = Response<GateBody<R>>;
    type Error = S::Error;
    type Future = BufferBodyFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let unready = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, unready);
        let layer = self.layer.clone();
        BufferBodyFuture(Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let rejection = match read(body, layer.most).await {
                Read::Whole(whole) => {
                    head.extensions.insert(Buffered(whole.bytes.clone()));
                    let request = Request::from_parts(head, whole.into());
                    return Ok(ready.call(request).await?.map(GateBody::inner));
                }
                Read::TooLarge(_) => too_large(),
                Read::Broken(_) => broken(),
            };
            let refused = layer.refusals.render(&rejection, &head);
            Ok(refused.map(GateBody::refused))
        }))
    }
}

/// A request whose body is read.
#[must_use = "futures do nothing unless polled"]
pub struct BufferBodyFuture<R, E>(BoxFuture<Result<R, E>>);

impl<R, E> fmt::Debug for BufferBodyFuture<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BufferBodyFuture")
    }
}

impl<R, E> Future for BufferBodyFuture<R, E> {
    type Output = Result<R, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.0.as_mut().poll(cx)))
    }
}

#[cfg(test)]
mod tests {

    use http_body_util::BodyExt;

    use super::*;

    /// A body of several pieces, whose length is not announced.
    struct InPieces(VecDeque<Result<Frame<Bytes>, &'static str>>);

    impl Body for InPieces {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn pieces(texts: &[&'static str]) -> InPieces {
        let frame = |text: &&'static str| match *text {
            "!" => Err("broke off"),
            "." => Ok(Frame::trailers(HeaderMap::new())),
            text => Ok(Frame::data(Bytes::from(text))),
        };
        InPieces(texts.iter().map(frame).collect())
    }

    async fn text<B: Body<Data = Bytes>>(body: ReplayBody<B>) -> Option<String> {
        let whole = body.collect().await.ok()?.to_bytes();
        Some(String::from_utf8(whole.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_is_within_the_cap_is_read_whole() {
        for (texts, whole) in [
            (&["ab", "cd"][..], "abcd"),
            (&["abcd"], "abcd"),
            (&[], ""),
            (&["a", "."], "a"),
        ] {
            let Read::Whole(read) = read(pieces(texts), 4).await else {
                panic!("{texts:?}");
            };
            assert_eq!(read.bytes, whole, "{texts:?}");
            assert_eq!(read.trailers.is_some(), texts.contains(&"."), "{texts:?}");
            assert_eq!(
                text(ReplayBody::<InPieces>::from(read)).await.unwrap(),
                whole
            );
        }
    }

    #[tokio::test]
    async fn what_is_larger_goes_on_as_it_came() {
        let Read::TooLarge(body) = read(pieces(&["ab", "cd", "e", "f"]), 4).await else {
            panic!("read");
        };
        assert_eq!(text(body).await.unwrap(), "abcdef");
        let announced = http_body_util::Full::new(Bytes::from("abcde"));
        let Read::TooLarge(body) = read(announced, 4).await else {
            panic!("read");
        };
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(text(body).await.unwrap(), "abcde");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_told() {
        let broken = read(pieces(&["ab", "!"]), 4).await;
        assert!(matches!(broken, Read::Broken("broke off")), "{broken:?}");
    }

    #[test]
    fn lengths_replace_what_was_said() {
        let mut headers = HeaderMap::new();
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        set_length(&mut headers, 12);
        assert_eq!(headers.get(CONTENT_LENGTH).unwrap(), "12");
        assert_eq!(headers.get(TRANSFER_ENCODING), None);
    }
}
