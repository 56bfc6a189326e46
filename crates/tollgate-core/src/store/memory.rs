//! A store in memory: for one process, and for tests.
//!
//! It answers everything at once, so requests wait for nothing. Sessions stand in a sharded map;
//! counters in a table of their own, see [`counters`](super::counters). Both can be bounded, and
//! nothing runs in the background: what has ended is dropped when something else is put.
//!
//! # Example
//!
//! ```
//! use tollgate_core::store::{MemoryStore, SessionStore};
//!
//! let store = MemoryStore::new();
//! store.insert("ann", r#"{"rate": 10, "per": 60}"#.parse()?)?;
//! assert!(matches!(store.try_get("ann"), Some(Some(_))));
//! assert!(matches!(store.try_get("bob"), Some(None)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    borrow::Borrow,
    collections::{BTreeSet, BinaryHeap},
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use dashmap::{DashMap, Entry};
use parking_lot::{Mutex, RwLock};

use super::{
    Change, ChangeSink, Charge, Expect, KeyedLimit, LimitStore, ListPage, ListQuery, Loaded,
    ReadyCharges, SessionStore, Standing, StoreError, StoreErrorKind, Verdict, Version,
    counters::{Counters, DEFAULT_MAX},
};
use crate::{
    clock::{Clock, Moment, machine_time, nanos},
    session::Session,
};

/// A store in memory. A clone is the same store.
///
/// See the [module docs](self) for an example.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

/// Settings of a [`MemoryStore`].
///
/// ```
/// use tollgate_core::store::memory::MemoryOptions;
///
/// let store = MemoryOptions::new().max_sessions(10_000).build();
/// ```
#[must_use]
pub struct MemoryOptions {
    max_sessions: usize,
    max_counters: usize,
    clock: Option<Arc<dyn Clock>>,
}

struct Inner {
    sessions: DashMap<Record, Ends, foldhash::fast::RandomState>,
    len: AtomicUsize, // Counts a record that is about to be written, so that the bound holds.
    max_sessions: usize,
    endings: Mutex<BTreeSet<(u64, Box<str>)>>, // By tick: records with a lifetime.
    epoch: AtomicU64,                          // Moves when a write is in the map.
    ends_records: AtomicBool,                  // Whether any record was ever put with a lifetime.
    version: AtomicU64, // Over all records, so that one put anew has no version of the old one's.
    sinks: RwLock<Vec<ChangeSink>>,
    clock: Option<Arc<dyn Clock>>, // `None` for the machine's.
    counters: Counters,
}

/// A record, known by the name that is in it: who finds it by name has it in hand already.
struct Record(Arc<Loaded>);

impl Record {
    fn name(&self) -> &[u8] {
        self.0.key().as_bytes()
    }
}

impl Borrow<[u8]> for Record {
    fn borrow(&self) -> &[u8] {
        self.name()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Record {}

impl Hash for Record {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state); // As the slice that it is found by.
    }
}

/// The tick at which a record ends; the last there is for never.
#[derive(Clone, Copy)]
struct Ends(u64);

impl Ends {
    const NEVER: Self = Self(u64::MAX);

    fn is_past(self, now: impl FnOnce() -> u64) -> bool {
        self.0 != u64::MAX && self.0 <= now()
    }

    fn tick(self) -> Option<u64> {
        (self.0 != u64::MAX).then_some(self.0)
    }
}

const SWEPT: usize = 4; // Ended records dropped with each write.
const PAGE: usize = 1000;

impl MemoryOptions {
    /// No bound on sessions, four million counters, the machine's clock.
    pub fn new() -> Self {
        Self {
            max_sessions: usize::MAX,
            max_counters: DEFAULT_MAX,
            clock: None,
        }
    }

    /// Keeps so many sessions; one more is refused as [`StoreErrorKind::Full`].
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Keeps so many counters, those that are held besides. Over it, new names share counters and may
    /// be refused too soon, never too late.
    pub fn max_counters(mut self, counters: usize) -> Self {
        self.max_counters = counters;
        self
    }

    /// Ends sessions by this clock. Counters go by the moment that comes with each call.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The store.
    pub fn build(self) -> MemoryStore {
        MemoryStore(Arc::new(Inner {
            sessions: DashMap::default(),
            len: AtomicUsize::new(0),
            max_sessions: self.max_sessions,
            endings: Mutex::default(),
            epoch: AtomicU64::new(0),
            ends_records: AtomicBool::new(false),
            version: AtomicU64::new(0),
            sinks: RwLock::default(),
            clock: self.clock,
            counters: Counters::new(self.max_counters),
        }))
    }
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// A store with the settings of [`MemoryOptions::new`].
    pub fn new() -> Self {
        MemoryOptions::new().build()
    }

    /// A store that ends sessions by this clock.
    pub fn with_clock(clock: impl Clock) -> Self {
        MemoryOptions::new().clock(clock).build()
    }

    /// Puts a session in place of whatever is stored under this name, at once. A name is not always a
    /// token: one that is shorter than [`KeyScheme::min_length`](crate::token::KeyScheme::min_length),
    /// three bytes where nothing else is said, is found by no request.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Full`] where the store is bounded and has no room.
    pub fn insert(&self, key: &str, session: Session) -> Result<Version, StoreError> {
        let version = self.0.put(key, session, Expect::Anything, None)?;
        self.0.tell(Change::Key(key));
        Ok(version)
    }

    /// How many sessions it holds, ended ones that were not yet dropped included.
    pub fn sessions(&self) -> usize {
        self.0.sessions.len()
    }

    /// How many counters it keeps, ended ones that were not yet dropped included.
    pub fn counters(&self) -> usize {
        self.0.counters.len()
    }

    /// Charges one unit under a name, if the limit has room for it at `now`, and tells whether it did: the least that
    /// can be asked, for limits by name and nothing else. [`LimitStore::try_take`] tells where a limit stands, and
    /// charges several at once.
    ///
    /// ```
    /// use tollgate_core::{clock::machine_time, limits::Rate, store::{KeyedLimit, MemoryStore}};
    ///
    /// let (store, limit) = (MemoryStore::new(), KeyedLimit::new(Rate::per_second(1)));
    /// let now = machine_time();
    /// assert!(store.admit("ann", &limit, now));
    /// assert!(!store.admit("ann", &limit, now));
    /// assert!(store.admit("bob", &limit, now));
    /// ```
    pub fn admit(&self, name: impl AsRef<[u8]>, limit: &KeyedLimit, now: Moment) -> bool {
        self.0.counters.admit_named(name.as_ref(), limit, now)
    }

    /// How much counts under this name at `now`. Nothing is changed.
    pub fn used(&self, counter: impl AsRef<[u8]>, now: Moment) -> u64 {
        self.0.counters.used(counter.as_ref(), now)
    }

    /// Forgets a counter of any name, at once.
    pub fn forget(&self, counter: impl AsRef<[u8]>) {
        self.0.counters.reset(counter.as_ref());
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("sessions", &self.sessions())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn now(&self) -> u64 {
        self.clock
            .as_ref()
            .map_or_else(machine_time, |clock| clock.now())
            .ticks
    }

    fn get(&self, key: &str) -> Option<Arc<Loaded>> {
        let record = self.sessions.get(key.as_bytes())?;
        if record.value().is_past(|| self.now()) {
            return None;
        }
        let loaded = record.key().0.clone();
        if loaded.passes().are_outdated() {
            drop(record);
            return Some(self.renew(loaded));
        }
        Some(loaded)
    }

    /// Puts a record in its own place that finds the newest plan first. Who holds the old one goes on with
    /// it.
    #[cold]
    fn renew(&self, loaded: Arc<Loaded>) -> Arc<Loaded> {
        let renewed = Arc::new(loaded.renewed());
        match self.sessions.entry(Record(renewed.clone())) {
            Entry::Occupied(entry) if Arc::ptr_eq(&entry.key().0, &loaded) => {
                let ends = *entry.get();
                entry.replace_entry(ends);
                renewed
            }
            _ => loaded, // Changed meanwhile.
        }
    }

    fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let now = self.now();
        self.sweep(now);
        let version = Version(self.version.fetch_add(1, Relaxed) + 1);
        let loaded = Arc::new(Loaded::new(key, session, version));
        let entry = self.sessions.entry(Record(loaded));
        let there = match &entry {
            Entry::Occupied(entry) if !entry.get().is_past(|| now) => Some(entry.key().0.version()),
            _ => None,
        };
        match (expect, there) {
            (Expect::Anything, _) | (Expect::Absent, None) => {}
            (Expect::Version(expected), Some(version)) if expected == version => {}
            _ => return Err(conflict()),
        }
        let ends = lifetime.map_or(Ends::NEVER, |lifetime| {
            Ends(now.saturating_add(nanos(lifetime)))
        });
        if ends.tick().is_some() {
            self.ends_records.store(true, Release); // Before anybody finds the record.
        }
        let replaced = match entry {
            Entry::Occupied(entry) => entry.replace_entry(ends).1.tick(),
            Entry::Vacant(entry) => {
                self.make_room()?;
                entry.insert(ends);
                None
            }
        };
        self.epoch.fetch_add(1, Release);
        // Both under the record's lock in the map would deadlock with nobody, but last longer.
        if replaced.is_some() || ends.tick().is_some() {
            let mut endings = self.endings.lock();
            if let Some(end) = replaced {
                endings.remove(&(end, key.into()));
            }
            if let Some(end) = ends.tick() {
                endings.insert((end, key.into()));
            }
        }
        Ok(version)
    }

    fn make_room(&self) -> Result<(), StoreError> {
        let bounded = |len| (len < self.max_sessions).then_some(len + 1);
        let room = self.len.fetch_update(Relaxed, Relaxed, bounded);
        room.map(drop)
            .map_err(|_| StoreError::new(StoreErrorKind::Full, "no room for another session"))
    }

    /// Drops a few records that have ended.
    fn sweep(&self, now: u64) {
        for _ in 0..SWEPT {
            let mut endings = self.endings.lock();
            if endings.first().is_none_or(|(end, _)| now < *end) {
                return;
            }
            let Some((_, key)) = endings.pop_first() else {
                return;
            };
            drop(endings);
            let dropped = self
                .sessions
                .remove_if(key.as_bytes(), |_, ends| ends.is_past(|| now));
            if dropped.is_some() {
                self.len.fetch_sub(1, Relaxed);
            }
        }
    }

    fn delete(&self, key: &str) -> bool {
        let Some((_, ends)) = self.sessions.remove(key.as_bytes()) else {
            return false;
        };
        self.epoch.fetch_add(1, Release);
        self.len.fetch_sub(1, Relaxed);
        if let Some(end) = ends.tick() {
            self.endings.lock().remove(&(end, key.into()));
        }
        !ends.is_past(|| self.now())
    }

    /// The smallest keys after the cursor. Keys are sorted, so whatever is put or deleted meanwhile,
    /// a key that was there all the time is listed once.
    fn list(&self, query: &ListQuery) -> ListPage {
        let (now, limit) = (self.now(), query.limit.unwrap_or(PAGE).clamp(1, PAGE));
        let after = query.cursor.as_deref();
        let mut page: BinaryHeap<String> = BinaryHeap::with_capacity(limit + 2);
        for record in &self.sessions {
            let key = record.key().0.key().as_str();
            let wanted = key.starts_with(&query.prefix)
                && after.is_none_or(|after| after < key)
                && !record.value().is_past(|| now);
            let fits = page.len() <= limit || page.peek().is_some_and(|last| key < &**last);
            if wanted && fits {
                page.push(key.to_owned());
                if limit + 1 < page.len() {
                    page.pop();
                }
            }
        }
        let mut keys = page.into_sorted_vec();
        let more = limit < keys.len();
        keys.truncate(limit);
        let next = more.then(|| keys.last().cloned()).flatten();
        ListPage { keys, next }
    }

    fn tell(&self, change: Change<'_>) {
        let sinks = self.sinks.read().clone(); // A sink may ask for the store, or add a sink.
        sinks.iter().for_each(|sink| sink(change));
    }
}

fn conflict() -> StoreError {
    let message = "the record is not as the writer expected";
    StoreError::new(StoreErrorKind::Conflict, message)
}

impl SessionStore for MemoryStore {
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        Some(self.0.get(key))
    }

    fn epoch(&self) -> Option<u64> {
        let epoch = self.0.epoch.load(Acquire);
        (!self.0.ends_records.load(Acquire)).then_some(epoch)
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        Ok(self.0.get(key))
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let version = self.0.put(key, session, expect, lifetime)?;
        self.0.tell(Change::Key(key));
        Ok(version)
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let was_there = self.0.delete(key);
        self.0.tell(Change::Key(key));
        Ok(was_there)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        Ok(self.0.list(query))
    }

    fn on_change(&self, sink: ChangeSink) {
        self.0.sinks.write().push(sink);
    }
}

impl LimitStore for MemoryStore {
    fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict> {
        Some(self.0.counters.take(batch, now))
    }

    fn try_take_ready(&self, ready: &ReadyCharges, now: Moment) -> Option<Verdict> {
        Some(self.0.counters.take_ready(ready, now))
    }

    fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool {
        self.0.counters.admit_ready(ready, now)
    }

    fn try_admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool {
        self.0.counters.admit_told(ready, now, tell)
    }

    async fn take(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        Ok(self.0.counters.take(batch, now))
    }

    async fn look(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        Ok(self.0.counters.look(batch, now))
    }

    fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        self.0.counters.give_back(batch, taken_at);
    }

    async fn reset(&self, counter: &str) -> Result<(), StoreError> {
        self.0.counters.reset(counter.as_bytes());
        Ok(())
    }
}
