//! Errors as RFC 9457 has them.

use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tollgate_core::StoreError;

use crate::{ControlError, ControlErrorKind, answer, answer::Refusal, keys::write::PutError};

/// A request that was not done. The detail never holds what was sent.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            header: None,
        }
    }

    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }
}

pub(super) fn unknown_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here")
}

/// The record is not as the caller has seen it.
pub(super) fn changed() -> Problem {
    let detail = "the key was changed since it was read";
    Problem::new(StatusCode::PRECONDITION_FAILED, detail)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, message) = refusal.into_parts();
        Self::new(status, message)
    }
}

impl From<PutError> for Problem {
    fn from(error: PutError) -> Self {
        match error {
            // What policies make of a session is the caller's to mend here.
            PutError::Refused(refusal) => refusal.into(),
            PutError::Faster => changed(),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        match error.kind() {
            ControlErrorKind::Invalid => Self::bad_request(error.to_string()),
            ControlErrorKind::NotFound => Self::new(StatusCode::NOT_FOUND, "there is no such API"),
            ControlErrorKind::Unsupported => {
                Self::new(StatusCode::NOT_IMPLEMENTED, "this gateway can not do that")
            }
            _ => {
                answer::log(&error, "the gateway failed");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the gateway can not tell now",
                )
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        if let Some(header) = self.header {
            let (name, value) = *header;
            response.headers_mut().insert(name, value);
        }
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
