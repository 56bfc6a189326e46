//! The body of an answer, whoever made it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use tollgate::body::GateBody;

use crate::{observe::Watch, onward::OnwardBody};

/// Why an answer's body broke off.
pub type AnswerError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer: the upstream's as it comes, a text of the gateway, or that of the control API.
///
/// It knows when it has been sent, and tells whoever watches the request.
pub struct AnswerBody {
    kind: Kind,
    watch: Option<Box<Watch>>, // Small where nobody looks: answers are moved often.
}

enum Kind {
    Proxied(GateBody<OnwardBody>),
    Whole(Full<Bytes>),
    Other(UnsyncBoxBody<Bytes, AnswerError>),
}

impl AnswerBody {
    /// A body of any kind.
    pub(crate) fn other<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<AnswerError>,
    {
        Kind::Other(body.map_err(Into::into).boxed_unsync()).into()
    }

    /// Tells `watch` of the rest of this answer.
    pub(crate) fn watched(&mut self, watch: Box<Watch>) {
        self.watch = Some(watch);
    }
}

impl From<Kind> for AnswerBody {
    fn from(kind: Kind) -> Self {
        Self { kind, watch: None }
    }
}

impl From<GateBody<OnwardBody>> for AnswerBody {
    fn from(body: GateBody<OnwardBody>) -> Self {
        Kind::Proxied(body).into()
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Proxied(_) => "AnswerBody(the upstream's)",
            Kind::Whole(_) | Kind::Other(_) => "AnswerBody(ours)",
        })
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let polled = match &mut self.kind {
            Kind::Proxied(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Kind::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Kind::Other(body) => Pin::new(body).poll_frame(cx),
        };
        let this = &mut *self;
        if let (Poll::Ready(frame), Some(watch)) = (&polled, &mut this.watch) {
            match frame {
                Some(Ok(frame)) => watch.sent(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) => {}
                None => watch.ended(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Proxied(body) => body.is_end_stream(),
            Kind::Whole(body) => body.is_end_stream(),
            Kind::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Proxied(body) => body.size_hint(),
            Kind::Whole(body) => body.size_hint(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    /// Who polls a body stops at the frame behind which nothing is left, and asks for none where there
    /// is nothing.
    fn drop(&mut self) {
        if let Some(mut watch) = self.watch.take()
            && self.is_end_stream()
        {
            watch.ended();
        }
    }
}

/// A body that is there.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> AnswerBody {
    Kind::Whole(Full::new(bytes.into())).into()
}
