//! API keys that carry something, as tower layers.
//!
//! A client sends a token. Behind it stands a [`Session`]: what it may call, how often, how much, and
//! with which data attached, as the Tyk gateway defines it. This crate puts that session before any
//! tower service:
//!
//! - [`Tollgate::builder`] makes one layer of everything, in the right order: start here;
//! - single layers do one thing each: [`session`], [`access_rights`], [`limits`], [`meta_inject`], [`url_rewrite`],
//!   and with the feature `template` [`body_transform`](https://docs.rs/tollgate/latest/tollgate/body_transform);
//! - [`gate`] is how to add a decision of your own, [`store`] how to keep sessions elsewhere.
//!
//! See [`stack`] for an example of the whole.

pub mod access_rights;
mod admit;
pub mod body;
#[cfg(feature = "template")]
pub mod body_transform;
pub mod buffer;
pub mod clock;
#[cfg(feature = "template")]
mod coding;
pub mod context;
pub mod explain;
mod express;
#[cfg(feature = "axum")]
pub mod extract;
pub mod gate;
pub mod gated;
pub mod limits;
pub mod meta_inject;
mod organisation;
mod path;
mod plan;
pub mod rate_headers;
pub mod refusal;
mod report;
#[cfg(feature = "axum")]
pub mod router;
mod seen;
pub mod session;
mod settlement;
mod single;
pub mod stack;
pub mod token_source;
pub mod url_rewrite;
pub mod visit;

pub use admit::{Admitted, Refused};
pub use rate_headers::LimitHeaders;
pub use refusal::Refusals;
pub use session::OnStoreError;
pub use settlement::{ChargeWhen, UnitsKept};
pub use stack::Tollgate;
pub use tollgate_core::{
    ApiId, OrgId, PolicyId, Rejection, Session, access, ids,
    limits::{Algorithm, Limit, Period, Quota, Rate, Throttle},
    meta, pass, policy, rejection, rewrite, session as record, store,
    store::{MemoryStore, SharedStore},
    token,
    token::KeyScheme,
    variables,
};
