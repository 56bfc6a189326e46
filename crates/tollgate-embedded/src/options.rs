//! Settings of an [`EmbeddedStore`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tollgate_core::{Clock, Moment, StoreError, clock::machine_time};

use crate::{EmbeddedStore, backend::Faults};

/// When a write is on the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Durability {
    /// Before it is answered: it survives a loss of power.
    #[default]
    Synced,
    /// When the system sees fit: it survives the end of the process, however sudden. A loss of power
    /// may damage the file.
    Written,
}

/// How much of a limit is drawn ahead: what a crash can lose of it.
///
/// A chunk is a hundredth of the limit, at least ten but no more than a tenth, at least one, and at
/// most [`most`](Self::most).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Chunks {
    most: u64,
}

impl Chunks {
    /// Chunks of at most so many units; one of zero counts as one.
    pub const fn of_at_most(units: u64) -> Self {
        let most = if units == 0 { 1 } else { units };
        Self { most }
    }

    /// The largest chunk.
    pub const fn most(self) -> u64 {
        self.most
    }

    /// How many units are drawn of a limit of `max`.
    ///
    /// ```
    /// use tollgate_embedded::Chunks;
    ///
    /// let chunks = Chunks::default();
    /// let of = |max| chunks.of(max);
    /// assert_eq!([of(1), of(50), of(100), of(1000)], [1, 5, 10, 10]);
    /// assert_eq!([of(5000), of(1_000_000), of(u64::MAX)], [50, 10_000, 10_000]);
    /// ```
    pub fn of(self, max: u64) -> u64 {
        let small = (max / 10).clamp(1, 10);
        (max / 100).max(small).min(self.most)
    }
}

impl Default for Chunks {
    /// At most 10 000 units.
    fn default() -> Self {
        Self::of_at_most(10_000)
    }
}

/// Settings of an [`EmbeddedStore`].
///
/// ```
/// use tollgate_embedded::{Durability, EmbeddedOptions};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("tollgate.redb");
/// let store = EmbeddedOptions::new(path)
///     .durability(Durability::Written)
///     .cached_sessions(10_000)
///     .open()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct EmbeddedOptions {
    pub(crate) path: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) chunks: Chunks,
    pub(crate) cached_sessions: usize,
    pub(crate) cached_bytes: usize,
    pub(crate) max_counters: usize,
    pub(crate) clock: Option<Arc<dyn Clock>>, // `None` for the machine's.
    pub(crate) faults: Faults,
}

impl EmbeddedOptions {
    /// A store in this file, which is made where it is missing: synced, in default chunks, with 50 000
    /// sessions and 8 MiB of the file in memory, four million counters, and the machine's clock.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            durability: Durability::default(),
            chunks: Chunks::default(),
            cached_sessions: 50_000,
            cached_bytes: 8 << 20,
            max_counters: 4_000_000,
            clock: None,
            faults: Faults::default(),
        }
    }

    /// When a write is on the disk.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How much of a limit is drawn ahead.
    pub fn chunks(mut self, chunks: Chunks) -> Self {
        self.chunks = chunks;
        self
    }

    /// How many sessions are kept in memory, ready for use. Others are read from the file when they are
    /// asked for.
    pub fn cached_sessions(mut self, sessions: usize) -> Self {
        self.cached_sessions = sessions;
        self
    }

    /// How many bytes of the file are kept in memory, besides what the system keeps.
    pub fn cached_bytes(mut self, bytes: usize) -> Self {
        self.cached_bytes = bytes;
        self
    }

    /// How many counters that are stored may count at once; one more is refused as
    /// [`Full`](tollgate_core::store::StoreErrorKind::Full).
    pub fn max_counters(mut self, counters: usize) -> Self {
        self.max_counters = counters;
        self
    }

    /// Ends sessions and periods by this clock: the one that layers read.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Opens the file, mends it where it was not closed, and starts the thread that writes it.
    ///
    /// A file that may not be written is opened to be read: sessions are found, and whatever would write
    /// fails as [`Unavailable`](tollgate_core::store::StoreErrorKind::Unavailable).
    ///
    /// # Errors
    ///
    /// Fails where another process has the file open, where it is damaged, of a newer format or not one
    /// of this store's, and where it can not be made. The message names the file.
    pub fn open(self) -> Result<EmbeddedStore, StoreError> {
        EmbeddedStore::open_with(self)
    }

    pub(crate) fn now(&self) -> Moment {
        let moment = self.clock.as_ref().map(|clock| clock.now());
        moment.unwrap_or_else(machine_time)
    }
}
