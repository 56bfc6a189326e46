//! What went wrong between us and an upstream, and how the client is answered.

use std::{error::Error as StdError, fmt, io};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use tollgate::Refusals;
use tollgate_core::{ErrorChain, Rejection};

use super::{body::ProxyBody, connect::ConnectFailure};

/// Why a proxied request has no answer of its upstream.
///
/// It is in the extensions of the answer that the proxy gave in the upstream's place, so that logs
/// and metrics can tell. The text is for the log: it may name an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProxyError {
    kind: ProxyErrorKind,
    detail: Option<Box<str>>,
}

/// The kinds of [`ProxyError`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ProxyErrorKind {
    /// The upstream's name has no address.
    LookupFailed,
    /// The upstream refuses connections.
    Refused,
    /// No connection within the time for it.
    ConnectTimedOut,
    /// The TLS handshake with the upstream failed.
    Tls,
    /// No connection for another reason, as an unreachable network.
    Unreachable,
    /// No head of a response in time, or the exchange reached its limit.
    TimedOut,
    /// The upstream closed or reset the connection before it answered.
    Reset,
    /// What the upstream sent is no response.
    BadReply,
    /// The client's body ended too soon, or could not be read.
    RequestBody,
    /// The client sent nothing of its body for too long.
    RequestBodyTimedOut,
    /// The client's body is larger than what is taken.
    RequestBodyTooLarge,
    /// The path can be read in two ways.
    PathAmbiguous,
    /// The request can not be sent to the upstream, as its target is no valid URI.
    BadRequest,
}

impl ProxyErrorKind {
    /// A stable name, fit for a metric's label.
    pub fn code(self) -> &'static str {
        match self {
            Self::LookupFailed => "lookup_failed",
            Self::Refused => "connection_refused",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::Tls => "tls",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Reset => "reset",
            Self::BadReply => "bad_reply",
            Self::RequestBody => "request_body",
            Self::RequestBodyTimedOut => "request_body_timed_out",
            Self::RequestBodyTooLarge => "request_body_too_large",
            Self::PathAmbiguous => "path_ambiguous",
            Self::BadRequest => "bad_request",
        }
    }

    /// Whether no connection was made, so that nothing of the request has left.
    pub fn is_connect(self) -> bool {
        matches!(
            self,
            Self::LookupFailed
                | Self::Refused
                | Self::ConnectTimedOut
                | Self::Tls
                | Self::Unreachable
        )
    }

    /// Status and message as Tyk answers (spec: *Reverse proxy*).
    fn rejection(self, bad_gateway: StatusCode) -> Rejection {
        let (status, message) = match self {
            Self::PathAmbiguous => return Rejection::PathAmbiguous,
            Self::LookupFailed => (bad_gateway, "Upstream host lookup failed"),
            Self::TimedOut => (
                StatusCode::GATEWAY_TIMEOUT,
                "Upstream service reached hard timeout.",
            ),
            Self::RequestBody => (
                StatusCode::BAD_REQUEST,
                "There was a problem with reading Body of the Request.",
            ),
            Self::RequestBodyTimedOut => (StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
            Self::RequestBodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
            }
            Self::BadRequest => (StatusCode::BAD_REQUEST, "Bad Request"),
            Self::Refused
            | Self::ConnectTimedOut
            | Self::Tls
            | Self::Unreachable
            | Self::Reset
            | Self::BadReply => (bad_gateway, "There was a problem proxying the request"),
        };
        Rejection::custom(self.code(), status, message)
    }
}

impl ProxyError {
    pub(super) fn new(kind: ProxyErrorKind) -> Self {
        Self { kind, detail: None }
    }

    /// Reads an error of the client, and says what it means.
    pub(super) fn of(err: &(dyn StdError + 'static)) -> Self {
        Self {
            kind: kind_of(err),
            detail: Some(ErrorChain(err).to_string().into_boxed_str()),
        }
    }

    /// What went wrong.
    pub fn kind(&self) -> ProxyErrorKind {
        self.kind
    }

    /// Whether no connection was made.
    pub(super) fn is_connect(&self) -> bool {
        self.kind.is_connect()
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.code())?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl StdError for ProxyError {}

fn kind_of(err: &(dyn StdError + 'static)) -> ProxyErrorKind {
    let mut level = Some(err);
    let mut kind = ProxyErrorKind::Reset;
    while let Some(err) = level {
        if let Some(failure) = err.downcast_ref::<ConnectFailure>() {
            return failure.kind();
        }
        if let Some(client) = err.downcast_ref::<hyper_util::client::legacy::Error>()
            && client.is_connect()
        {
            kind = ProxyErrorKind::Unreachable;
        }
        if let Some(err) = err.downcast_ref::<hyper::Error>() {
            if err.is_parse() {
                return ProxyErrorKind::BadReply;
            }
            if err.is_user() {
                kind = ProxyErrorKind::BadRequest;
            }
        }
        if let Some(err) = err.downcast_ref::<io::Error>()
            && err.kind() == io::ErrorKind::ConnectionRefused
        {
            return ProxyErrorKind::Refused;
        }
        level = err.source();
    }
    kind
}

/// How an answer in the upstream's place is written; taken from the request before it is sent.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerForm {
    content_type: Option<HeaderValue>,
}

impl AnswerForm {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            content_type: headers.get(CONTENT_TYPE).cloned(),
        }
    }

    /// The answer to the client, with the error in its extensions.
    pub(super) fn answer(
        self,
        error: ProxyError,
        bad_gateway: StatusCode,
        refusals: &Refusals,
    ) -> Response<ProxyBody> {
        let (mut head, ()) = Request::new(()).into_parts();
        if let Some(content_type) = self.content_type {
            head.headers.insert(CONTENT_TYPE, content_type);
        }
        let rejection = error.kind.rejection(bad_gateway);
        let mut response: Response<Bytes> = refusals.render(&rejection, &head);
        // No gate refused: it is the upstream that failed.
        response.extensions_mut().remove::<Rejection>();
        response.extensions_mut().insert(error);
        response.map(ProxyBody::own)
    }
}
