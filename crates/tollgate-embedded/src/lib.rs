//! Tollgate's store in one file.
//!
//! [`EmbeddedStore`] keeps sessions and counters in a file of its own, on [redb](https://www.redb.org): for one machine,
//! without a server. What it has answered survives a restart, and a crash.
//!
//! # Example
//!
//! ```
//! use tollgate_core::store::{Expect, SessionStore, SharedStore};
//! use tollgate_embedded::EmbeddedStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("tollgate.redb");
//! let store = EmbeddedStore::open(&path)?;
//! let session = r#"{"rate": 10, "per": 60, "quota_max": 1000}"#.parse()?;
//! store.put("ann", session, Expect::Absent, None).await?;
//! store.close()?;
//!
//! let store: SharedStore = EmbeddedStore::open(&path)?.into(); // What every layer takes.
//! assert!(store.get("ann").await?.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! # Sessions
//!
//! A write is answered when it is on the disk; writes that wait together share a commit. So many
//! sessions as [`EmbeddedOptions::cached_sessions`] says are kept in memory, and answered at once; others
//! are read from the file when they are asked for. Lifetimes end by the wall clock.
//!
//! # Counters
//!
//! Counts stand in memory and are decided there, exactly. The file holds a *mark* for each that is never
//! below what counts: a [chunk](Chunks) of a limit is drawn ahead, and none of it is used before the
//! mark that covers it is on the disk. More is drawn in the background when half a chunk is left, so
//! that hardly a request waits. What is given back goes to the running chunk.
//!
//! - *Closed*, by [`EmbeddedStore::close`] or with its last clone, the file says what was admitted to
//!   the unit.
//! - *After a crash* a counter begins with its mark. A limit is never exceeded. At most a chunk of
//!   it is lost until its period or window has passed, besides what requests were waiting for just then
//!   and what was given back and not used again.
//! - Windows and periods below ten seconds are not stored. After a crash each begins full: nothing
//!   passes it until it has gone by once. After a clean end they begin empty.
//! - Units of longer windows count from the start on, since the file does not say when they were taken:
//!   for up to a window too long. Periods of quotas end when they would have.
//!
//! Whether a counter is stored is told by the window or period of the charge, so all who share one should
//! be on one side of ten seconds. When the wall clock is set while the store is closed, periods end by
//! the new time; set back, they last no longer than they would have.
//!
//! # When the file fails
//!
//! Sessions in memory are still found, others as long as the file can be read, and chunks are used up.
//! Whatever has to be written fails: as [`Full`](tollgate_core::store::StoreErrorKind::Full) where the
//! disk is, as [`Unavailable`](tollgate_core::store::StoreErrorKind::Unavailable) otherwise, which layers
//! answer with 503. The file is opened again after a failure, so the store goes on when the disk does.
#![warn(missing_docs)]

mod backend;
mod counters;
mod error;
#[cfg(test)]
mod failing;
mod file;
mod moving;
mod options;
mod queue;
mod record;
mod registry;
mod reserve;
mod restore;
mod sessions;
mod store;
mod sweep;
mod writer;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

pub use options::{Chunks, Durability, EmbeddedOptions};
pub use store::EmbeddedStore;

/// What a future of a store in memory says: it does not wait.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}
