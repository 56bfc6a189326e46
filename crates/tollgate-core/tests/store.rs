//! The stores of this crate, and one written by hand, against the contract.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "store/cache.rs"]
mod cache;
#[path = "store/short_ways.rs"]
mod short_ways;
#[path = "store/table.rs"]
mod table;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tollgate_core::{
    Loaded, ManualClock, Moment, Session, StoreError,
    clock::Clock,
    store::{
        Change, Charge, Expect, LimitStore, ListQuery, MemoryStore, SessionStore, SharedStore,
        StoreErrorKind, Verdict, Version,
        conformance::{self, block_on},
        memory::MemoryOptions,
        tally::{self, Tally},
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn clock() -> ManualClock {
    ManualClock::at(1_700_000_000)
}

fn session(alias: &str) -> Session {
    Session {
        alias: alias.to_owned(),
        ..Session::default()
    }
}

fn passes(store: &MemoryStore, batch: &[Charge], now: Moment) -> bool {
    matches!(store.try_take(batch, now), Some(Verdict::Taken(_)))
}

// The suite.

#[test]
fn memory_keeps_the_contract() {
    let clock = clock();
    let store = MemoryStore::with_clock(clock.clone());
    block_on(conformance::sessions(&store, &clock));
    block_on(conformance::limits(&store, &clock));
}

#[test]
fn the_handle_keeps_the_contract() {
    let clock = clock();
    let store = SharedStore::from(MemoryStore::with_clock(clock.clone()));
    block_on(conformance::sessions(&store, &clock));
    block_on(conformance::limits(&store, &clock));
}

#[test]
fn a_minimal_store_keeps_the_contract() {
    let clock = clock();
    let store = Minimal::new(&clock);
    block_on(conformance::sessions(&store, &clock));
    block_on(conformance::limits(&store, &clock));
}

/// What has to be written by hand, and no more.
struct Minimal {
    clock: ManualClock,
    sessions: Mutex<HashMap<String, (Arc<Loaded>, u64)>>,
    version: AtomicU64,
    tallies: Mutex<HashMap<Vec<u8>, Tally>>,
}

impl Minimal {
    fn new(clock: &ManualClock) -> Self {
        Self {
            clock: clock.clone(),
            sessions: Mutex::default(),
            version: AtomicU64::new(0),
            tallies: Mutex::default(),
        }
    }

    fn found(&self, key: &str) -> Option<Arc<Loaded>> {
        let sessions = self.sessions.lock().unwrap();
        let (loaded, end) = sessions.get(key)?;
        (self.clock.now().ticks < *end).then(|| loaded.clone())
    }

    fn with_tallies(
        &self,
        batch: &[Charge],
        work: impl FnOnce(&mut [Tally]) -> Verdict,
    ) -> Verdict {
        let mut all = self.tallies.lock().unwrap();
        let tally = |charge: &Charge| all.get(charge.counter.name()).cloned();
        let mut named: Vec<Tally> = batch
            .iter()
            .map(|charge| tally(charge).unwrap_or_default())
            .collect();
        let verdict = work(&mut named);
        // Backwards: of several with one name the first counts.
        for (charge, tally) in batch.iter().zip(named).rev() {
            all.insert(charge.counter.name().to_owned(), tally);
        }
        verdict
    }
}

impl SessionStore for Minimal {
    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        Ok(self.found(key))
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let there = self.found(key).map(|loaded| loaded.version());
        let as_expected = match expect {
            Expect::Anything => true,
            Expect::Absent => there.is_none(),
            Expect::Version(version) => there == Some(version),
        };
        if !as_expected {
            return Err(StoreError::new(StoreErrorKind::Conflict, "changed"));
        }
        let version = Version(self.version.fetch_add(1, SeqCst));
        let end = lifetime.map_or(u64::MAX, |lifetime| self.clock.now().after(lifetime).ticks);
        let loaded = Arc::new(Loaded::new(key, session, version));
        let mut sessions = self.sessions.lock().unwrap();
        sessions.insert(key.to_owned(), (loaded, end));
        Ok(version)
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let there = self.found(key).is_some();
        self.sessions.lock().unwrap().remove(key);
        Ok(there)
    }
}

impl LimitStore for Minimal {
    async fn take(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        Ok(self.with_tallies(batch, |tallies| tally::take(batch, tallies, now)))
    }

    async fn look(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        Ok(self.with_tallies(batch, |tallies| tally::look(batch, tallies, now)))
    }

    fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        let mut all = self.tallies.lock().unwrap();
        for charge in batch {
            if let Some(tally) = all.get_mut(charge.counter.name()) {
                tally.give_back(charge, taken_at);
            }
        }
    }

    async fn reset(&self, counter: &str) -> Result<(), StoreError> {
        self.tallies.lock().unwrap().remove(counter.as_bytes());
        Ok(())
    }
}

// Sessions in memory.

#[test]
fn records_that_have_ended_make_room() {
    let clock = clock();
    let options = MemoryOptions::new().max_sessions(2);
    let store = options.clock(clock.clone()).build();
    let put = |key: &str, lifetime| {
        let put = store.put(key, session(key), Expect::Anything, lifetime);
        block_on(put).map_err(|err| err.kind())
    };
    put("a", Some(SECOND)).unwrap();
    put("b", None).unwrap();
    assert_eq!(put("c", None), Err(StoreErrorKind::Full));
    put("b", None).unwrap(); // Nothing is added.
    clock.advance(SECOND);
    put("c", None).unwrap();
    assert_eq!(store.sessions(), 2);
    assert!(block_on(store.delete("b")).unwrap());
    put("d", None).unwrap();
    assert_eq!(put("e", None), Err(StoreErrorKind::Full));
}

#[test]
fn writes_are_told() {
    let store = MemoryStore::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    store.on_change(Arc::new(move |change| {
        if let Change::Key(key) = change {
            heard.lock().unwrap().push(key.to_owned());
        }
    }));
    block_on(store.put("a", session("a"), Expect::Anything, None)).unwrap();
    block_on(store.delete("a")).unwrap();
    assert_eq!(*told.lock().unwrap(), ["a", "a"]);
}

#[test]
fn a_listing_is_sorted_and_paged() {
    let store = MemoryStore::new();
    for key in ["b2", "a", "b1", "b3", "c"] {
        block_on(store.put(key, session(key), Expect::Anything, None)).unwrap();
    }
    let query = |cursor| ListQuery {
        prefix: "b".into(),
        cursor,
        limit: Some(2),
    };
    let page = block_on(store.list(&query(None))).unwrap();
    assert_eq!(page.keys, ["b1", "b2"]);
    let page = block_on(store.list(&query(page.next))).unwrap();
    assert_eq!((page.keys, page.next), (vec!["b3".to_owned()], None));
}

#[test]
fn one_update_of_many_threads_wins_each_time() {
    let store = MemoryStore::new();
    block_on(store.put("a", session("a"), Expect::Absent, None)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut left = 50;
                while left > 0 {
                    let read = store.try_get("a").unwrap().unwrap();
                    let mut session = Session::clone(read.session());
                    session.quota_max += 1;
                    let put = store.put("a", session, Expect::Version(read.version()), None);
                    left -= i32::from(block_on(put).is_ok());
                }
            });
        }
    });
    let read = store.try_get("a").unwrap().unwrap();
    assert_eq!(read.session().quota_max, 200);
}

// The handle.

#[test]
fn a_handle_is_an_object_that_goes_anywhere() {
    fn anywhere<T: Clone + Send + Sync + 'static>(handle: T) -> T {
        handle
    }
    let store = anywhere(SharedStore::memory());
    let put = store.put("a", session("a"), Expect::Absent, None);
    let get = store.get("a");
    let other = std::thread::spawn(move || block_on(put).map(drop).and(block_on(get)));
    assert!(other.join().unwrap().unwrap().is_some());
    assert!(store.try_get("a").unwrap().is_some());
    assert!(store.compares_and_sets());
}
