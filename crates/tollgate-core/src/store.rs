//! Where sessions and counters live: two traits that anyone can implement, and one handle.
//!
//! A session record is written rarely, by compare-and-set. Counters live apart: all limits of a
//! request are charged in one step, wholly or not at all, and never make a saved record stale.
//!
//! A minimal [`SessionStore`] is [`get`](SessionStore::get), [`put`](SessionStore::put) and
//! [`delete`](SessionStore::delete); a minimal [`LimitStore`] is [`take`](LimitStore::take),
//! [`look`](LimitStore::look), [`give_back`](LimitStore::give_back) and
//! [`reset`](LimitStore::reset). What answers from memory besides says so in the `try_` methods, and
//! requests then wait for nothing. [`conformance`] tests a store of yours.
//!
//! See [`shared`] and [`memory`] for examples.

use std::{any::Any, fmt, num::NonZeroU64, sync::Arc, time::Duration};

use smallvec::SmallVec;

use crate::{
    clock::Moment, ids::OrgId, limits::Limit, pass::Passes, rejection::LimitOwner,
    session::Session, sync::OnceLock,
};

/// The name under which a session is stored. It is a token, or the hash of one, so `Debug` does not
/// print it.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct StorageKey(SmallVec<[u8; 64]>); // Invariant: text.

impl StorageKey {
    /// A name that is known to be ASCII, and is not looked at again.
    pub(crate) fn of_ascii(name: SmallVec<[u8; 64]>) -> Self {
        debug_assert!(name.is_ascii());
        Self(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made from text")
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl StorageKey {
    /// What names of organisations start with, as Tyk's do.
    pub(crate) const ORGANISATION: &str = "orgkey.";

    /// The name of an organisation's own record. No token is ever looked up under such a name.
    pub fn organisation(organisation: &OrgId) -> Self {
        let mut key = SmallVec::from_slice(Self::ORGANISATION.as_bytes());
        key.extend_from_slice(organisation.as_str().as_bytes());
        Self(key)
    }
}

impl From<&str> for StorageKey {
    fn from(key: &str) -> Self {
        Self(SmallVec::from_slice(key.as_bytes()))
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageKey(…)")
    }
}

/// Counts the writes of one record.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Version(pub u64);

/// What a write expects to find.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Expect {
    /// Whatever is there is replaced.
    #[default]
    Anything,
    /// Nothing may be there.
    Absent,
    /// The record must still be as it was read.
    Version(Version),
}

/// Which pages of a listing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListQuery {
    /// Keys that start with this; empty for all.
    pub prefix: String,
    /// Where the last page ended; `None` for the first.
    pub cursor: Option<String>,
    /// How many keys at most; `None` leaves it to the store.
    pub limit: Option<usize>,
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListPage {
    /// The keys.
    pub keys: Vec<String>,
    /// Where the next page starts; `None` after the last.
    pub next: Option<String>,
}

/// What changed in a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change<'a> {
    /// This record.
    Key(&'a str),
    /// Any record may have.
    All,
    /// Notices were lost for a while; what was cached may be old.
    Lost,
}

/// How much of a quota's running period is used, for moving it to another store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuotaUse {
    /// The units that count.
    pub used: u64,
    /// How long the period goes on; `None` where it has no end.
    pub left: Option<Duration>,
}

/// Takes notices of change.
pub type ChangeSink = Arc<dyn Fn(Change<'_>) + Send + Sync>;

/// Keeps session records.
///
/// `Ok(None)` is "there is none"; a store that can not tell says `Err`.
pub trait SessionStore: Send + Sync + 'static {
    /// The record, if it can be told at once: `Some(None)` is "there surely is none", `None` is
    /// "ask [`get`](Self::get)".
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        let _ = key;
        None
    }

    /// The record.
    fn get(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<Arc<Loaded>>, StoreError>> + Send;

    /// The first record that is there, of several names in order.
    ///
    /// A remote store overrides this with one round trip.
    fn get_first(
        &self,
        keys: &[StorageKey],
    ) -> impl Future<Output = Result<Option<Arc<Loaded>>, StoreError>> + Send {
        async move {
            for key in keys {
                if let Some(found) = self.get(key.as_str()).await? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        }
    }

    /// Writes the record. `lifetime` is how long the store keeps it; `None` for ever.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Conflict`] where `expect` does not hold.
    fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> impl Future<Output = Result<Version, StoreError>> + Send;

    /// Removes the record, and says whether there was one.
    fn delete(&self, key: &str) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Lists names of records.
    fn list(&self, query: &ListQuery) -> impl Future<Output = Result<ListPage, StoreError>> + Send {
        let _ = query;
        async {
            Err(StoreError::new(
                StoreErrorKind::Unsupported,
                "this store can not list",
            ))
        }
    }

    /// Asks to be told of changes. The store's own task does the telling.
    fn on_change(&self, sink: ChangeSink) {
        let _ = sink;
    }

    /// A number that changes with every record that is written or removed, before the write is told to be
    /// done. So what [`try_get`](Self::try_get) told after this was read holds while this stays the same.
    /// `None` where that can not be said, as where records end by themselves.
    fn epoch(&self) -> Option<u64> {
        None
    }

    /// Whether [`put`](Self::put) honours [`Expect`]. One that does not is refused by whatever needs
    /// it.
    fn compares_and_sets(&self) -> bool {
        true
    }
}

/// Keeps counters.
pub trait LimitStore: Send + Sync + 'static {
    /// Charges all of `batch` or nothing, if it can be told at once.
    fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict> {
        let _ = (batch, now);
        None
    }

    /// As [`try_take`](Self::try_take), for charges that are made again with each request of a caller.
    /// A store may keep with them what it had to look up.
    fn try_take_ready(&self, ready: &ReadyCharges, now: Moment) -> Option<Verdict> {
        self.try_take(ready.charges(), now)
    }

    /// Charges all of `ready`, if it can be told at once that it fits and nobody has to wait: the usual
    /// case, without a verdict. `false` says nothing, and nothing was charged.
    fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool {
        let _ = (ready, now);
        false
    }

    /// As [`try_admit`](Self::try_admit); where it charges, it tells where each limit stands then, in order.
    fn try_admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool {
        let _ = (ready, now, tell);
        false
    }

    /// Charges all of `batch` or nothing.
    fn take(
        &self,
        batch: &[Charge],
        now: Moment,
    ) -> impl Future<Output = Result<Verdict, StoreError>> + Send;

    /// What [`take`](Self::take) would say, charging nothing.
    fn look(
        &self,
        batch: &[Charge],
        now: Moment,
    ) -> impl Future<Output = Result<Verdict, StoreError>> + Send;

    /// Gives back what was taken at `taken_at`, the moment that [`Taken::at`] told.
    ///
    /// Never waits and never fails, so that it can be called from `Drop`; a remote store queues it. A
    /// unit of a window or period that has ended is gone with it. Leave out charges that took nothing:
    /// observed ones whose [`Standing::exceeded`] is set.
    fn give_back(&self, batch: &[Charge], taken_at: Moment);

    /// Forgets a counter.
    fn reset(&self, counter: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// One counter of one caller, by name. The store keeps its own handle here at first use, so that a
/// second use needs no look-up; a simple store ignores it.
pub struct Counter {
    name: Box<str>,
    handle: Handle,
}

impl Counter {
    /// A counter of this name. Two of one name are one counter in the store.
    pub fn new(name: impl Into<Box<str>>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            handle: Handle::default(),
        })
    }

    /// The name in the store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store's own handle, put there at first use.
    ///
    /// # Panics
    ///
    /// Panics if a handle of another type is there: a counter stays with one store.
    pub fn handle<T: Any + Send + Sync>(&self, find: impl FnOnce(&str) -> Arc<T>) -> &T {
        self.handle.get(|| find(&self.name))
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counter(…)") // The name may hold a token.
    }
}

/// What a store keeps with a name that it was given.
#[derive(Default)]
struct Handle(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Handle {
    fn get<T: Any + Send + Sync>(&self, find: impl FnOnce() -> Arc<T>) -> &T {
        let handle = self.0.get_or_init(|| find());
        handle
            .downcast_ref()
            .expect("a counter stays with one store")
    }
}

/// The charges of one caller, made again with each request. The store keeps its own handle on all of
/// them here, as it does on one in a [`Counter`].
#[repr(C)]
pub struct ReadyCharges {
    charges: Box<[Charge]>,
    handle: Handle,
    /// The memory store's own. It lies here and not behind a handle, so that it is read with what is around it.
    slots: OnceLock<counters::ReadySlots>,
}

impl ReadyCharges {
    /// These charges, in this order.
    pub fn new(charges: impl Into<Box<[Charge]>>) -> Self {
        Self {
            charges: charges.into(),
            handle: Handle::default(),
            slots: OnceLock::default(),
        }
    }

    /// The charges.
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// The store's own handle, put there at first use.
    ///
    /// # Panics
    ///
    /// Panics if a handle of another type is there: charges stay with one store.
    pub fn handle<T: Any + Send + Sync>(&self, find: impl FnOnce(&[Charge]) -> Arc<T>) -> &T {
        self.handle.get(|| find(&self.charges))
    }
}

impl fmt::Debug for ReadyCharges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.charges).finish()
    }
}

/// Which counter a charge goes to.
#[derive(Clone, Debug)]
pub enum CounterRef {
    /// One that is held, with its handle.
    Held(Arc<Counter>),
    /// One that is named for this request alone.
    Named(CounterName),
}

/// The name of a counter made for one request; up to 64 bytes without an allocation.
#[derive(Clone, Eq, PartialEq)]
pub struct CounterName(SmallVec<[u8; 64]>);

impl CounterName {
    /// A name of parts, joined so that no two lists of parts make one name.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut name = SmallVec::new();
        for part in parts {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            name.extend_from_slice(&length.to_le_bytes()[..if length < 128 { 1 } else { 4 }]);
            name.extend_from_slice(part);
        }
        Self(name)
    }

    /// A name that is made elsewhere.
    pub(crate) fn whole(name: &[u8]) -> Self {
        Self(SmallVec::from_slice(name))
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for CounterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CounterName(…)")
    }
}

impl From<Arc<Counter>> for CounterRef {
    fn from(counter: Arc<Counter>) -> Self {
        Self::Held(counter)
    }
}

impl From<CounterName> for CounterRef {
    fn from(name: CounterName) -> Self {
        Self::Named(name)
    }
}

impl CounterRef {
    /// The name's bytes.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Held(counter) => counter.name().as_bytes(),
            Self::Named(name) => name.as_bytes(),
        }
    }
}

/// One limit of one request: which counter, how much it allows, what this request costs.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Who is counted.
    pub counter: CounterRef,
    /// How much is allowed. It comes with the request, so it can change and the count stays.
    pub limit: Limit,
    /// What the request costs. More than the limit never passes.
    pub cost: NonZeroU64,
    /// Whether the limit refuses or is only watched.
    pub mode: ChargeMode,
    /// How long a request over a *rate* may wait for its turn; zero for not at all.
    pub patience: Duration,
    /// Whose limit it is, for refusals and headers.
    pub owner: LimitOwner,
}

impl Charge {
    /// One request, refused over the limit, without patience, of a limit of one's own.
    pub fn new(counter: impl Into<CounterRef>, limit: impl Into<Limit>) -> Self {
        Self {
            counter: counter.into(),
            limit: limit.into(),
            cost: NonZeroU64::MIN,
            mode: ChargeMode::Enforce,
            patience: Duration::ZERO,
            owner: LimitOwner::Own,
        }
    }
}

/// One limit that any number of names have, each for itself; made once, and asked for again and again with
/// [`MemoryStore::admit`].
#[derive(Clone, Debug)]
pub struct KeyedLimit {
    charge: Charge, // Of no name.
    brief: tally::Brief,
}

impl KeyedLimit {
    /// This limit for each name, one unit at a time.
    pub fn new(limit: impl Into<Limit>) -> Self {
        let charge = Charge::new(CounterName::whole(&[]), limit);
        Self {
            brief: tally::Brief::of(&charge),
            charge,
        }
    }

    /// The charge of this name.
    fn charge_of(&self, name: &[u8]) -> Charge {
        Charge {
            counter: CounterName::whole(name).into(),
            ..self.charge.clone()
        }
    }
}

/// Whether a limit refuses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ChargeMode {
    /// Over the limit, the request is refused.
    #[default]
    Enforce,
    /// Over the limit, only the [`Standing`] says so, and the request is not counted here: the
    /// counter stays at or below its maximum, as one that refuses would. It counts admitted requests
    /// alone.
    Observe,
}

/// The charges of one request.
pub type Batch = SmallVec<[Charge; 4]>;

/// Where each limit of a batch stands, in the batch's order.
pub type Standings = SmallVec<[Standing; 4]>;

/// Where a limit stands after a decision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// How much is allowed.
    pub max: u64,
    /// How much is left.
    pub remaining: u64,
    /// When one more unit would be admitted; zero where it would be now, [`Duration::MAX`] for never.
    pub retry_in: Duration,
    /// When nothing of what is counted now counts any more: a quota renews, a window has passed.
    /// `None` for a quota that never renews.
    pub resets_in: Option<Duration>,
    /// Whether this request went over the limit: it was refused by it, or would be were it not only
    /// observed.
    pub exceeded: bool,
}

/// What a store says to a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// All was charged.
    Taken(Taken),
    /// Nothing was charged.
    Refused(Refused),
}

/// All was charged.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Where the limits stand now.
    pub standings: Standings,
    /// How long the request must wait for its turn; zero unless a charge had patience.
    pub wait: Duration,
    /// The moment the units belong to: now, or when the wait is over.
    pub at: Moment,
}

/// Nothing was charged.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// The first charge of the batch that refused.
    pub index: usize,
    /// When the batch would pass, as far as all its limits can tell; `None` for never.
    pub retry_in: Option<Duration>,
    /// Where the limits stand.
    pub standings: Standings,
}

/// A record as it was read. What each request looks at comes first, and lies together.
#[repr(C)]
pub struct Loaded {
    passes: Passes,
    key: StorageKey,
    session: Arc<Session>,
    version: Version,
}

impl Loaded {
    /// The record as it was read under this name.
    pub fn new(
        key: impl Into<StorageKey>,
        session: impl Into<Arc<Session>>,
        version: Version,
    ) -> Self {
        Self {
            key: key.into(),
            session: session.into(),
            version,
            passes: Passes::default(),
        }
    }

    /// The name under which it is stored.
    pub fn key(&self) -> &StorageKey {
        &self.key
    }

    /// The record, without its policies.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn passes(&self) -> &Passes {
        &self.passes
    }

    /// The same record, which forgets plans that are no longer in force and finds the newest first.
    pub(crate) fn renewed(&self) -> Self {
        Self {
            key: self.key.clone(),
            session: self.session.clone(),
            version: self.version,
            passes: self.passes.renewed(),
        }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A store could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// It gave no answer, or not in time.
    Unavailable,
    /// It has no room.
    Full,
    /// The record is not as the writer expected.
    Conflict,
    /// It can not do this at all.
    Unsupported,
    /// What is stored can not be read.
    Corrupt,
}

impl StoreError {
    /// An error of this kind. The message is for the log, without keys.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same, with what caused it.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

pub mod cached;
#[cfg(feature = "test-util")]
pub mod conformance;
pub mod counters;
pub mod memory;
pub mod shared;
pub mod tally;

pub use memory::MemoryStore;
pub use shared::SharedStore;
