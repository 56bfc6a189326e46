//! Answers as Tyk's control API gives them: JSON and a line feed.

use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use tollgate_core::{ErrorChain, StoreError, store::StorageKey};

/// What a handler of `/tyk/…` ends with.
pub(crate) type Answer = Result<Response, Refusal>;

/// A request that was not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    message: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            message: message.into(),
        }
    }

    pub(crate) fn into_parts(self) -> (StatusCode, Cow<'static, str>) {
        (self.status, self.message)
    }
}

/// A store that fails is not a client that fails; the log has the reason.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        log(&error, "the store failed");
        Self::new(503, "Storage is not available")
    }
}

/// Tells an error, and what caused it, to the log.
pub(crate) fn log(error: &(dyn std::error::Error + 'static), what: &str) {
    let error = ErrorChain(error);
    tracing::error!(target: "tollgate", %error, "{what}");
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Status {
            status: "error",
            message: &self.message,
        };
        json(self.status, to_json(&body))
    }
}

#[derive(Serialize)]
struct Status<'a> {
    status: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct Modified<'a> {
    key: &'a str,
    status: &'static str,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hash: Option<&'a str>,
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("texts are JSON")
}

/// JSON and a line feed.
pub(crate) fn json(status: StatusCode, mut body: String) -> Response {
    body.push('\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Done, and nothing to tell but this.
pub(crate) fn done(message: &str) -> Response {
    let body = Status {
        status: "ok",
        message,
    };
    json(StatusCode::OK, to_json(&body))
}

/// Something was `added`, `modified`, `deleted` or `updated`.
pub(crate) fn modified(key: &str, action: &'static str, hash: Option<&StorageKey>) -> Response {
    let body = Modified {
        key,
        status: "ok",
        action,
        key_hash: hash.map(StorageKey::as_str),
    };
    json(StatusCode::OK, to_json(&body))
}

/// A list of names.
pub(crate) fn names(keys: &[String]) -> Response {
    json(
        StatusCode::OK,
        to_json(&serde_json::json!({ "keys": keys })),
    )
}

/// What Go's server writes for a path that nobody has.
pub(crate) fn not_found() -> Response {
    let mut response = Response::new(Body::from("404 page not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}
