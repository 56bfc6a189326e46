//! What handlers of axum can ask for: extractors.
//!
//! [`CurrentSession`] is the session of the request, [`Meta`] its metadata in a type of yours,
//! [`QuotaStanding`] where its quota stands. Without the layer that finds it, a handler answers `500`
//! and the text names the layer.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, routing::get};
//! use http::Request;
//! use tollgate::{MemoryStore, Tollgate, extract::{CurrentSession, Meta, QuotaStanding}};
//! use tower::ServiceExt;
//!
//! #[derive(serde::Deserialize)]
//! struct UserInfo { user: String }
//!
//! async fn hello(session: CurrentSession, Meta(info): Meta<UserInfo>, quota: QuotaStanding) -> String {
//!     format!("{} ({}), {} left", info.user, session.alias, quota.remaining)
//! }
//!
//! let store = MemoryStore::new();
//! store.insert("joes-key", r#"{"alias": "joe@x", "quota_max": 3, "meta_data": {"user": "joe"}}"#.parse()?)?;
//! let gate = Tollgate::builder(store).quota().build()?;
//! let app = Router::new().route("/", get(hello)).layer(gate.layer());
//!
//! let request = Request::get("/").header("authorization", "joes-key").body(Body::empty())?;
//! let body = axum::body::to_bytes(app.oneshot(request).await?.into_body(), 99).await?;
//! assert_eq!(body, "joe (joe@x), 2 left");
//! # Ok(())
//! # }
//! ```

use std::{ops::Deref, sync::Arc};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;
use tollgate_core::{Session, clock::UnixSeconds};

use crate::visit::{LimitKind, Visit};

/// The session of this request, with its policies applied.
#[derive(Clone, Debug)]
pub struct CurrentSession(pub Arc<Session>);

impl Deref for CurrentSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

/// The session's metadata, read into a type of yours.
#[derive(Clone, Copy, Debug)]
pub struct Meta<T>(pub T);

/// Where the quota of this request stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuotaStanding {
    /// Requests allowed in a period.
    pub max: u64,
    /// Requests left in this one.
    pub remaining: u64,
    /// When the next one starts; `None` where the quota never renews.
    pub renews: Option<UnixSeconds>,
}

/// What a handler asked for is not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MissingRejection {
    /// No gate of ours stands in front, or it was told to leave nothing.
    #[error(
        "no session: put a `SessionLayer`, or the layer of a `Tollgate`, in front of this handler, with context"
    )]
    Layer,
    /// A gate stands in front that only observes, and this request came without a session.
    #[error(
        "no session: this request was let through without one, as the session gate only observes"
    )]
    Session,
    /// The session has no quota, or no gate charges it.
    #[error(
        "no quota: the session has none, or no `QuotaLayer`, or `quota()` of a `Tollgate`, stands in front"
    )]
    Quota,
    /// The metadata has another shape than the handler's type.
    #[error("the session's metadata does not have the shape that this handler asks for")]
    Shape,
}

impl IntoResponse for MissingRejection {
    fn into_response(self) -> Response {
        tracing::error!(target: "tollgate", error = %self, "an extractor found nothing");
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

fn visit(parts: &Parts) -> Result<&Arc<Visit>, MissingRejection> {
    parts
        .extensions
        .get::<Arc<Visit>>()
        .ok_or(MissingRejection::Layer)
}

fn session(parts: &Parts) -> Result<&Arc<Session>, MissingRejection> {
    let visit = visit(parts)?;
    let missing = if visit.is_waived() {
        MissingRejection::Session
    } else {
        MissingRejection::Layer
    };
    visit.session().ok_or(missing)
}

impl<S: Sync> FromRequestParts<S> for CurrentSession {
    type Rejection = MissingRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, MissingRejection> {
        session(parts).cloned().map(Self)
    }
}

/// No session is `None`; a missing layer is still an error.
impl<S: Sync> OptionalFromRequestParts<S> for CurrentSession {
    type Rejection = MissingRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> Result<Option<Self>, MissingRejection> {
        match session(parts) {
            Ok(session) => Ok(Some(Self(session.clone()))),
            Err(MissingRejection::Session) => Ok(None),
            Err(missing) => Err(missing),
        }
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Meta<T> {
    type Rejection = MissingRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, MissingRejection> {
        session(parts)?.meta_data.read().map(Self).map_err(|error| {
            tracing::warn!(target: "tollgate", %error, "the metadata of a session has another shape");
            MissingRejection::Shape
        })
    }
}

fn quota(visit: &Visit) -> Option<QuotaStanding> {
    let quota = visit
        .limits()
        .iter()
        .find(|limit| matches!(limit.kind, LimitKind::Quota))?;
    let renews = quota
        .standing
        .resets_in
        .map(|wait| visit.now().after(wait).unix());
    Some(QuotaStanding {
        max: quota.standing.max,
        remaining: quota.standing.remaining,
        renews,
    })
}

impl<S: Sync> FromRequestParts<S> for QuotaStanding {
    type Rejection = MissingRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, MissingRejection> {
        quota(visit(parts)?).ok_or(MissingRejection::Quota)
    }
}

/// No quota is `None`; a missing layer is still an error.
impl<S: Sync> OptionalFromRequestParts<S> for QuotaStanding {
    type Rejection = MissingRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &S,
    ) -> Result<Option<Self>, MissingRejection> {
        visit(parts).map(|visit| quota(visit))
    }
}
