//! The body of a response that crossed gates.
//!
//! See [`gate`](crate::gate) for a service whose responses have it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

use crate::settlement::Settlement;

pin_project! {
    /// The service's own body, or that of a refusal. Works over any body of [`Bytes`].
    pub struct GateBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    // Where a body is a pointer, this takes no more room: responses are moved often.
    enum Kind<B> {
        Inner { #[pin] body: B },
        Other { other: Pin<Box<Other<B>>> },
    }
}

pin_project! {
    #[project = OtherProjection]
    enum Other<B> {
        // gRPC tells its outcome at the end: what the request costs is known only then.
        Settling { #[pin] body: B, settlement: Option<Box<Settlement>> },
        Refused { body: Full<Bytes> },
    }
}

impl<B> GateBody<B> {
    /// The service's own body.
    #[inline]
    pub(crate) fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }

    /// The same; its end settles the charges.
    pub(crate) fn settling(body: B, settlement: Box<Settlement>) -> Self {
        let settlement = Some(settlement);
        Self::other(Other::Settling { body, settlement })
    }

    pub(crate) fn refused(body: Bytes) -> Self {
        let body = Full::new(body);
        Self::other(Other::Refused { body })
    }

    #[cold]
    fn other(other: Other<B>) -> Self {
        let other = Box::pin(other);
        Self {
            kind: Kind::Other { other },
        }
    }
}

/// What a service's future says.
pub(crate) type Polled<B, E> = Poll<Result<Response<B>, E>>;

/// Which body the responses of a service behind gates have.
pub(crate) trait Bodies<B> {
    type Body;

    /// The service's own.
    fn own(body: B) -> Self::Body;

    /// A response with the service's own body. Where that stays as it is, the response is not moved.
    #[inline]
    fn own_response<E>(polled: Polled<B, E>) -> Polled<Self::Body, E> {
        polled.map_ok(|response| response.map(Self::own))
    }

    /// Another.
    fn gated(body: GateBody<B>) -> Self::Body;
}

/// A [`GateBody`] around any body.
pub(crate) struct GateBodies;

impl<B> Bodies<B> for GateBodies {
    type Body = GateBody<B>;

    #[inline]
    fn own(body: B) -> GateBody<B> {
        GateBody::inner(body)
    }

    fn gated(body: GateBody<B>) -> GateBody<B> {
        body
    }
}

/// A body of axum's, which needs nothing around it.
#[cfg(feature = "axum")]
pub(crate) struct AxumBodies;

#[cfg(feature = "axum")]
impl Bodies<axum::body::Body> for AxumBodies {
    type Body = axum::body::Body;

    #[inline]
    fn own(body: axum::body::Body) -> axum::body::Body {
        body
    }

    #[inline]
    fn own_response<E>(polled: Polled<axum::body::Body, E>) -> Polled<axum::body::Body, E> {
        polled
    }

    fn gated(body: GateBody<axum::body::Body>) -> axum::body::Body {
        axum::body::Body::new(body)
    }
}

impl<B: Default> Default for GateBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B> std::fmt::Debug for GateBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_refusal = matches!(&self.kind, Kind::Other { other } if other.is_refusal());
        f.write_str(if is_refusal {
            "GateBody(a refusal's)"
        } else {
            "GateBody(the service's)"
        })
    }
}

impl<B: Body<Data = Bytes>> Body for GateBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjection::Inner { body } => body.poll_frame(cx),
            KindProjection::Other { other } => other.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inner { body } => body.is_end_stream(),
            Kind::Other { other } => other.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inner { body } => body.size_hint(),
            Kind::Other { other } => other.size_hint(),
        }
    }
}

impl<B> Other<B> {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

impl<B: Body<Data = Bytes>> Body for Other<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            OtherProjection::Refused { body } => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            OtherProjection::Settling { body, settlement } => {
                let frame = ready!(body.poll_frame(cx));
                let is_data = matches!(&frame, Some(Ok(frame)) if frame.is_data());
                if !is_data && let Some(settlement) = settlement.take() {
                    let end = frame.as_ref().and_then(|frame| frame.as_ref().ok());
                    settlement.at_the_end(end.and_then(Frame::trailers_ref));
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Settling {
                settlement: Some(_),
                ..
            } => false, // Polled to the end, so that it is settled.
            Self::Settling { body, .. } => body.is_end_stream(),
            Self::Refused { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Settling { body, .. } => body.size_hint(),
            Self::Refused { body } => body.size_hint(),
        }
    }
}
