//! Tollgate's store on Redis or Valkey, shared by any number of gateways and services, and by running Tyk
//! nodes.
//!
//! # Example
//!
//! ```no_run
//! use tollgate_core::store::{SharedStore, cached::CacheOptions};
//! use tollgate_redis::RedisOptions;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store: SharedStore = RedisOptions::single("redis://127.0.0.1:6379/0")?.connect()?.into();
//! let store = store.cached(CacheOptions::new()); // Sessions in memory, dropped when others change them.
//! # Ok(())
//! # }
//! ```
//!
//! # Sessions
//!
//! Records are Tyk's: its text under its names (`apikey-…`, `orgkey.…`). A key made by Tyk works here, and
//! the reverse. Writes compare and set: a count of writes stands beside each record, and the text itself is
//! compared, since Tyk writes without counting. Of two writes within a millisecond that Tyk's overwrites
//! with one of 2²⁴ texts, the difference is not seen.
//!
//! # Limits
//!
//! All limits of a request are charged by one script in one round trip, by the server's clock, wholly or
//! not at all; a refusal writes nothing. What was refused a moment ago is refused here, without a round
//! trip: see [`RedisOptions::denial_age`]. Names are Tyk's where [`Naming::Tyk`] says so, and half a quota
//! used there is half used here.
//!
//! Large limits are leased ([`RedisOptions::mode`]): a node asks for many units at once, counted as used from then on, and
//! admits requests from them without a round trip. [`RedisStore::close`] gives back what was not used.
//!
//! - Sliding windows up to 128 requests (all of them under Tyk's names) are kept request by request; larger
//!   ones in 64 slots: never above the limit, and up to 1.6 % below it under load.
//! - Waiting for a turn works with sliding windows and GCRA, and in a cluster where all counters of the
//!   request lie in one slot.
//! - Units of GCRA are not given back.
//! - In a cluster the counters of one key lie together. Those of an organisation are asked at the same time,
//!   and one gives back what the other refused: a crash in between loses units, never more.
//! - Replication of Redis is asynchronous: a fail-over forgets what the old master had not yet sent, unless
//!   [`RedisOptions::wait_replicas`] waits for it.
//!
//! # When the server is away
//!
//! A call fails after [`RedisOptions::deadline`], or later where it is made [`patiently`]; after five failures within
//! a second the server is left alone for 250 ms, then longer up to 5 s, and no request waits: the background tries
//! whether it is back. Sessions stay in the cache before this store as its options say. For limits, [`OnStoreError`]
//! says for rates and for quotas what happens.
//!
//! The script that charges may have run when its answer is lost: its units are lost, and never granted twice.
#![warn(missing_docs)]

mod ask;
mod breaker;
mod clock;
mod examine;
mod fallback;
mod heartbeat;
mod held;
mod keys;
mod leased;
mod leases;
mod limits;
mod link;
mod moving;
mod notices;
mod options;
mod sessions;
mod store;

pub use examine::{Examined, Finding, Server, Weight};
pub use keys::Naming;
pub use link::patiently;
pub use notices::ReloadSink;
pub use options::{Certificates, LimitMode, OnStoreError, RedisOptions, Servers, Tls};
pub use store::RedisStore;
