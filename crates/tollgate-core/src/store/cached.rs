//! A cache of records before a slow store.
//!
//! [`SharedStore::cached`] keeps what was read for a while, bounded in number and in age, and "there
//! is none" more briefly. A record that many ask for at once is read once. No task runs and no runtime
//! is needed: whoever asks first reads for all who ask meanwhile.
//!
//! The store's notices of change empty it: a record that was read before a notice came is never
//! answered to who asks after it, also where the notice came while it was being read. When notices were
//! lost, what was read before only counts for [`CacheOptions::lost_age`].
//!
//! A store that fails is [`StoreErrorKind::Unavailable`](super::StoreErrorKind), unless
//! [`CacheOptions::stale_age`] lets old records stand in. Counters are not cached.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use tollgate_core::store::{SharedStore, cached::CacheOptions};
//!
//! # let slow = SharedStore::memory();
//! let store = slow.cached(CacheOptions::new().age(Duration::from_secs(30)));
//! ```

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use quick_cache::sync::Cache;

use super::{
    Change, ChangeSink, Expect, ListPage, ListQuery, Loaded, SessionStore, SharedStore, StorageKey,
    StoreError, Version,
};
use crate::{
    clock::{Clock, machine_time, nanos},
    session::Session,
};

/// Settings of [`SharedStore::cached`].
#[derive(Clone)]
#[must_use]
pub struct CacheOptions {
    records: usize,
    age: Duration,
    absent_age: Duration,
    lost_age: Duration,
    stale_age: Duration,
    clock: Option<Arc<dyn Clock>>,
}

impl CacheOptions {
    /// 100 000 records for a minute, "there is none" for a second, five seconds after lost notices,
    /// nothing stale, the machine's clock.
    pub fn new() -> Self {
        Self {
            records: 100_000,
            age: Duration::from_secs(60),
            absent_age: Duration::from_secs(1),
            lost_age: Duration::from_secs(5),
            stale_age: Duration::ZERO,
            clock: None,
        }
    }

    /// How many answers are kept.
    pub fn records(mut self, records: usize) -> Self {
        self.records = records;
        self
    }

    /// How long a record is good. One whose lifetime in the store ends meanwhile is answered until
    /// then.
    pub fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// How long "there is none" is good.
    pub fn absent_age(mut self, age: Duration) -> Self {
        self.absent_age = age;
        self
    }

    /// How long an answer is good that was read before notices of change were lost.
    pub fn lost_age(mut self, age: Duration) -> Self {
        self.lost_age = age;
        self
    }

    /// How old a record may be that is answered because the store fails. A record that is known to
    /// have changed is not.
    pub fn stale_age(mut self, age: Duration) -> Self {
        self.stale_age = age;
        self
    }

    /// Ages by this clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl SharedStore {
    /// This store behind a cache of its records. See the [module docs](self).
    pub fn cached(&self, options: CacheOptions) -> SharedStore {
        let changes = Arc::new(Changes::new(options.clock.clone()));
        let heard = changes.clone();
        self.on_change(Arc::new(move |change| heard.hear(change)));
        self.with_sessions(Cached {
            cache: Cache::new(options.records),
            inner: self.clone(),
            changes,
            options,
            asked: AtomicU64::new(0),
        })
    }
}

const STRIPES: usize = 4096;
const TRIES: usize = 3; // Reads that a change overtook, before one goes past the cache.

/// What is known of changes. Keys share a number with others, so a change may also empty some answers
/// that it does not concern.
struct Changes {
    hasher: RandomState,
    stripes: Box<[AtomicU64]>,
    all: AtomicU64,
    lost_at: AtomicU64, // A tick; zero for never.
    clock: Option<Arc<dyn Clock>>,
}

/// The numbers of changes that a read began with.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Seen {
    stripe: u64,
    all: u64,
}

impl Changes {
    fn new(clock: Option<Arc<dyn Clock>>) -> Self {
        Self {
            hasher: RandomState::new(),
            stripes: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
            all: AtomicU64::new(0),
            lost_at: AtomicU64::new(0),
            clock,
        }
    }

    fn now(&self) -> u64 {
        let moment = self.clock.as_ref().map(|clock| clock.now());
        moment.unwrap_or_else(machine_time).ticks
    }

    fn stripe(&self, key: &str) -> &AtomicU64 {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }

    fn seen(&self, key: &str) -> Seen {
        Seen {
            stripe: self.stripe(key).load(SeqCst),
            all: self.all.load(SeqCst),
        }
    }

    fn hear(&self, change: Change<'_>) {
        match change {
            Change::Key(key) => self.stripe(key).fetch_add(1, SeqCst),
            Change::All => self.all.fetch_add(1, SeqCst),
            Change::Lost => self.lost_at.fetch_max(self.now(), SeqCst),
        };
    }
}

/// What the store said, and when.
#[derive(Clone)]
struct Answer {
    what: What,
    seen: Seen,
    read_at: u64, // A tick.
}

#[derive(Clone)]
enum What {
    Found(Arc<Loaded>),
    Absent,
    /// The store failed. Good for who was already waiting when it did, and for nobody else.
    Failed {
        err: Arc<StoreError>,
        asked: u64,
    },
    /// The store failed, and this old record stands in. Good for the same.
    Stale {
        loaded: Arc<Loaded>,
        asked: u64,
    },
}

impl Answer {
    fn told(&self) -> Result<Option<Arc<Loaded>>, StoreError> {
        match &self.what {
            What::Found(loaded) | What::Stale { loaded, .. } => Ok(Some(loaded.clone())),
            What::Absent => Ok(None),
            What::Failed { err, .. } => {
                Err(StoreError::new(err.kind(), err.to_string()).with_source(err.clone()))
            }
        }
    }
}

struct Cached {
    cache: Cache<String, Answer>,
    inner: SharedStore,
    changes: Arc<Changes>,
    options: CacheOptions,
    asked: AtomicU64, // Numbers the questions.
}

impl Cached {
    /// Whether the answer is good for question number `asked`.
    fn is_good(&self, key: &str, answer: &Answer, asked: Option<u64>) -> bool {
        let longest = match answer.what {
            What::Found(_) => self.options.age,
            What::Absent => self.options.absent_age,
            What::Failed { asked: last, .. } | What::Stale { asked: last, .. } => {
                return asked.is_some_and(|asked| asked < last)
                    && answer.seen == self.changes.seen(key);
            }
        };
        let lost_at = self.changes.lost_at.load(SeqCst);
        let longest = if lost_at != 0 && answer.read_at <= lost_at {
            longest.min(self.options.lost_age)
        } else {
            longest
        };
        answer.seen == self.changes.seen(key)
            && self.changes.now() < answer.read_at.saturating_add(nanos(longest))
    }

    /// An old record that may stand in for a store that fails.
    fn stand_in(&self, key: &str, old: Option<&Answer>) -> Option<Arc<Loaded>> {
        let old = old?;
        let (What::Found(loaded) | What::Stale { loaded, .. }) = &old.what else {
            return None;
        };
        let end = old.read_at.saturating_add(nanos(self.options.stale_age));
        let may = old.seen == self.changes.seen(key) && self.changes.now() < end;
        may.then(|| loaded.clone())
    }

    async fn ask(
        &self,
        key: &str,
        others: &[StorageKey],
    ) -> Result<Option<Arc<Loaded>>, StoreError> {
        let asked = self.asked.fetch_add(1, SeqCst);
        for _ in 0..TRIES {
            let mut old = None;
            self.cache.remove_if(key, |answer| {
                let is_good = self.is_good(key, answer, Some(asked));
                if !is_good {
                    old = Some(answer.clone());
                }
                !is_good
            });
            match self.cache.get_value_or_guard_async(key).await {
                Ok(answer) if self.is_good(key, &answer, Some(asked)) => return answer.told(),
                Ok(_) => {} // Overtaken by a change, or by a question that waited for another.
                Err(guard) => {
                    let answer = self.read(key, others, old.as_ref()).await;
                    // Refused where the place was given to another meanwhile: then it is not kept.
                    let _ = guard.insert(answer.clone());
                    return answer.told();
                }
            }
        }
        self.inner.get(key).await
    }

    /// Asks the store for `key`, and for `others` where that one is not there.
    async fn read(&self, key: &str, others: &[StorageKey], old: Option<&Answer>) -> Answer {
        let seen = self.changes.seen(key);
        let of_others: Vec<Seen> = others
            .iter()
            .map(|other| self.changes.seen(other.as_str()))
            .collect();
        let read_at = self.changes.now();
        let read = if others.is_empty() {
            self.inner.get(key).await
        } else {
            let keys = std::iter::once(StorageKey::from(key)).chain(others.iter().cloned());
            self.inner.get_first(keys.collect()).await
        };
        let found = match read {
            Ok(found) => found,
            Err(err) => return self.failed(key, seen, err, old),
        };
        let is_own = found
            .as_ref()
            .is_some_and(|found| found.key().as_str() == key);
        if !is_own {
            for (other, seen) in others.iter().zip(of_others) {
                let is_it = found.as_ref().filter(|found| found.key() == other);
                let what = is_it.map_or(What::Absent, |found| What::Found(found.clone()));
                let answer = Answer {
                    what,
                    seen,
                    read_at,
                };
                self.cache.insert(other.as_str().into(), answer);
                if is_it.is_some() {
                    break;
                }
            }
        }
        let what = found.filter(|_| is_own).map_or(What::Absent, What::Found);
        Answer {
            what,
            seen,
            read_at,
        }
    }

    fn failed(&self, key: &str, seen: Seen, err: StoreError, old: Option<&Answer>) -> Answer {
        let asked = self.asked.fetch_add(1, SeqCst);
        match (self.stand_in(key, old), old) {
            (Some(loaded), Some(old)) => Answer {
                what: What::Stale { loaded, asked },
                ..old.clone()
            },
            _ => Answer {
                what: What::Failed {
                    err: Arc::new(err),
                    asked,
                },
                seen,
                read_at: self.changes.now(),
            },
        }
    }
}

impl SessionStore for Cached {
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        match self.cache.get(key) {
            Some(answer) if self.is_good(key, &answer, None) => answer.told().ok(),
            _ => self.inner.try_get(key),
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        self.ask(key, &[]).await
    }

    async fn get_first(&self, keys: &[StorageKey]) -> Result<Option<Arc<Loaded>>, StoreError> {
        for (index, key) in keys.iter().enumerate() {
            // The first that is not cached is asked for together with all after it, which then are.
            if let Some(found) = self.ask(key.as_str(), &keys[index + 1..]).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let put = self.inner.put(key, session, expect, lifetime).await;
        self.changes.hear(Change::Key(key)); // After a failure too: it may have been written.
        put
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let deleted = self.inner.delete(key).await;
        self.changes.hear(Change::Key(key));
        deleted
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.inner.list(query.clone()).await
    }

    fn on_change(&self, sink: ChangeSink) {
        self.inner.on_change(sink);
    }

    fn compares_and_sets(&self) -> bool {
        self.inner.compares_and_sets()
    }
}
