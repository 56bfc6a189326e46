//! The words and rules of Tollgate.
//!
//! A client sends a token; behind it stands a [`Session`]: what it may call, how often, how much,
//! and with which data attached. This crate holds that record letter for letter as Tyk has it, the
//! rules that read it as plain functions over plain values, and the contract of the stores that keep
//! it. It opens no socket, starts no task and knows no web framework; the `tollgate` crate carries
//! these rules to HTTP.

pub mod access;
mod chain;
pub mod clock;
pub mod future;
pub mod ids;
pub mod lease;
pub mod limits;
pub mod meta;
pub mod pass;
pub mod policy;
pub mod quota;
pub mod rate;
pub mod rejection;
pub mod rewrite;
pub mod session;
pub mod store;
mod sync;
pub mod token;
pub mod variables;
pub mod wire;

pub use chain::ErrorChain;
pub use clock::{Clock, ManualClock, Moment};
pub use ids::{ApiId, OrgId, PolicyId, Secret};
pub use rejection::Rejection;
pub use session::Session;
pub use store::{Loaded, StoreError};
pub use wire::RecordError;
