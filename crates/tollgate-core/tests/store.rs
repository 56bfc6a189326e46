//! The stores of this crate, and one written by hand, against the contract.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use proptest::prelude::*;
use tollgate_core::{
    Loaded, ManualClock, Moment, Session, StoreError,
    clock::Clock,
    limits::{Algorithm, Limit, Period, Quota, Rate},
    store::{
        Change, ChangeSink, Charge, ChargeMode, Counter, CounterName, Expect, LimitStore,
        ListQuery, MemoryStore, ReadyCharges, SessionStore, SharedStore, StorageKey,
        StoreErrorKind, Verdict, Version,
        cached::CacheOptions,
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

#[test]
fn a_cache_before_a_slow_store_keeps_the_contract() {
    let clock = clock();
    let slow = SharedStore::new(Slow::new(&clock), Minimal::new(&clock));
    let options = CacheOptions::new().age(SECOND).clock(clock.clone());
    let store = slow.cached(options);
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

// The table of counters.

fn named(name: &str, limit: impl Into<Limit>) -> [Charge; 1] {
    [Charge::new(CounterName::of(&[name.as_bytes()]), limit)]
}

fn passes(store: &MemoryStore, batch: &[Charge], now: Moment) -> bool {
    matches!(store.try_take(batch, now), Some(Verdict::Taken(_)))
}

fn hour(max: u64) -> Limit {
    Quota::per(max, Period::Every(3600 * SECOND)).into()
}

#[test]
fn the_table_is_bounded_and_shared_counters_only_count_too_much() {
    let now = clock().now();
    for limit in [hour(1), Rate::per(1, 3600 * SECOND).into()] {
        let store = MemoryOptions::new().max_counters(100).build();
        let try_all = || {
            let passes = |key: &u32| passes(&store, &named(&key.to_string(), limit.clone()), now);
            (0..20_000).filter(passes).count()
        };
        assert!(try_all() < 100 + 4096 + 1);
        assert_eq!(store.counters(), 100);
        assert_eq!(try_all(), 0, "none passes twice");
    }
}

/// Many names share each overflow counter. `other` is charged in between; no name may take more
/// than `limit` allows.
#[track_caller]
fn is_not_forgotten_with(other: impl Into<Limit>, limit: Limit) {
    let (store, other) = (MemoryOptions::new().max_counters(0).build(), other.into());
    let take = |name: String, limit: &Limit, time| {
        let now = clock().now().after(Duration::from_millis(time));
        passes(&store, &named(&name, limit.clone()), now)
    };
    let others = |time| {
        for key in 0..10_000 {
            take(format!("other-{key}"), &other, time);
        }
    };
    let mut most = 0;
    let mut took = vec![0; 1000];
    for time in [500, 10_000] {
        others(time - 500);
        for (key, took) in took.iter_mut().enumerate() {
            *took += (0..40)
                .filter(|_| take(format!("it-{key}"), &limit, time))
                .count() as u64;
            most = most.max(*took);
        }
    }
    assert!(
        0 < most && most <= limit.max(),
        "{most} of {limit:?} with {other:?}"
    );
}

#[test]
fn what_shares_a_counter_is_not_forgotten_with_the_shorter() {
    // More than a counter has counted of the others, so that some pass.
    let brief = Quota::per(u64::MAX, Period::Every(SECOND));
    is_not_forgotten_with(brief, hour(30));
    let brief = Rate::per_second(1_000_000);
    for algorithm in [Algorithm::Sliding, Algorithm::Bucket, Algorithm::Gcra] {
        let slow = Rate::per(30, 3600 * SECOND);
        let (brief, slow) = (
            brief.with_algorithm(algorithm),
            slow.with_algorithm(algorithm),
        );
        is_not_forgotten_with(brief, slow.into());
    }
}

#[test]
fn a_name_that_overflowed_is_held_with_its_count() {
    let store = MemoryOptions::new().max_counters(0).build();
    let now = clock().now();
    let name = CounterName::of(&[b"a"]);
    let text = String::from_utf8(name.as_bytes().to_vec()).unwrap();
    assert!(passes(&store, &[Charge::new(name, hour(1))], now));
    let held = [Charge::new(Counter::new(text), hour(1))];
    assert!(!passes(&store, &held, now));
    assert!(passes(&store, &held, now.after(3600 * SECOND)));
}

#[test]
fn a_name_that_overflowed_stays_there_while_it_counts() {
    let store = MemoryOptions::new().max_counters(1000).build();
    let now = clock().now();
    let brief = Rate::per_second(1);
    for key in 0..5000 {
        passes(&store, &named(&format!("brief-{key}"), brief), now);
    }
    let names: Vec<_> = (0..50).map(|key| format!("long-{key}")).collect();
    for name in &names {
        passes(&store, &named(name, hour(1)), now);
    }
    // The brief ones are over, so there is room again.
    let later = now.after(10 * SECOND);
    for key in 0..5000 {
        passes(&store, &named(&format!("other-{key}"), brief), later);
    }
    let again = later.after(10 * SECOND);
    let twice = names
        .iter()
        .find(|name| passes(&store, &named(name, hour(1)), again));
    assert_eq!(twice, None);
}

#[test]
fn a_batch_does_not_drop_its_own_new_counters() {
    let (store, clock) = (MemoryStore::new(), clock());
    for round in 0..100 {
        let names: Vec<_> = (0..250).map(|key| format!("{round}-{key}")).collect();
        let batch: Vec<_> = names
            .iter()
            .map(|name| named(name, Rate::per_second(1))[0].clone())
            .collect();
        assert!(passes(&store, &batch, clock.now()));
        for charge in &batch {
            assert_eq!(store.used(charge.counter.name(), clock.now()), 1);
        }
        clock.advance(10 * SECOND);
    }
}

#[test]
fn dead_counters_are_dropped_by_the_way() {
    let clock = clock();
    let store = MemoryStore::new();
    let algorithms = [
        Algorithm::Sliding,
        Algorithm::Bucket,
        Algorithm::Gcra,
        Algorithm::FixedWindow,
    ];
    for algorithm in algorithms {
        for key in 0..10_000 {
            let rate = Rate::per_second(1).with_algorithm(algorithm);
            passes(&store, &named(&key.to_string(), rate), clock.now());
            clock.advance(10 * SECOND);
        }
        // A shard sweeps only when something is put into it.
        assert!(store.counters() < 2000, "{algorithm:?}: {store:?}");
    }
}

#[test]
fn what_is_held_is_never_dropped_and_found_by_name() {
    let clock = clock();
    let store = MemoryOptions::new().max_counters(10).build();
    let held = [Charge::new(Counter::new("held"), Rate::per_second(2))];
    assert!(passes(&store, &held, clock.now()));
    clock.advance(10 * SECOND);
    for key in 0..1000 {
        passes(&store, &named(&key.to_string(), hour(1)), clock.now());
    }
    assert!(passes(&store, &held, clock.now()));
    // Another holder of the name draws on the same count.
    let other = [Charge::new(Counter::new("held"), Rate::per_second(2))];
    assert!(passes(&store, &other, clock.now()));
    assert!(!passes(&store, &held, clock.now()));
    assert_eq!(store.used("held", clock.now()), 2);
    store.forget("held");
    assert!(passes(&store, &held, clock.now()));
}

#[test]
fn a_count_made_by_name_goes_on_when_it_is_held() {
    let (store, now) = (MemoryStore::new(), clock().now());
    let by_name = |max| named("n", hour(max))[0].clone();
    let text = String::from_utf8(by_name(1).counter.name().to_vec()).unwrap();
    let held = |max| Charge::new(Counter::new(text.clone()), hour(max));
    assert!(passes(&store, &[by_name(2)], now));
    assert!(passes(&store, &[held(2)], now));
    assert!(!passes(&store, &[by_name(2)], now));
    // Both ways in one batch are one counter too.
    assert!(!passes(&store, &[held(3), by_name(3)], now));
    assert!(passes(&store, &[held(4), by_name(4)], now));
    assert_eq!(store.used(&text, now), 4);
}

#[test]
fn a_counter_held_for_one_store_serves_another_by_name() {
    let now = clock().now();
    let (one, other) = (MemoryStore::new(), MemoryStore::new());
    let charge = [Charge::new(Counter::new("a"), hour(1))];
    assert!(passes(&one, &charge, now));
    assert!(passes(&other, &charge, now));
    assert!(!passes(&one, &charge, now));
    assert!(!passes(&other, &charge, now));
}

#[test]
fn threads_in_any_order_never_take_too_much_nor_lock_up() {
    let (store, now) = (MemoryStore::new(), clock().now());
    let held: Vec<_> = (0..3).map(|key| Counter::new(format!("h{key}"))).collect();
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (store, held, passed) = (&store, &held, &passed);
            scope.spawn(move || {
                let held = held.iter().map(|counter| counter.clone().into());
                let anew = Counter::new(format!("h{}", thread % 3)).into();
                let counters = held.chain([anew]);
                let mut batch: Vec<Charge> = counters
                    .map(|counter: tollgate_core::store::CounterRef| {
                        Charge::new(counter, hour(1000))
                    })
                    .chain((0..3).map(|key| named(&format!("n{key}"), hour(900))[0].clone()))
                    .collect();
                batch.rotate_left(thread % 7);
                if thread % 2 == 0 {
                    batch.reverse();
                }
                for _ in 0..200 {
                    passed.fetch_add(u64::from(passes(store, &batch, now)), SeqCst);
                }
            });
        }
    });
    let passed = passed.into_inner();
    assert!(0 < passed && passed <= 900, "{passed}");
    for key in 0..3 {
        let used = store.used(format!("h{key}"), now);
        assert!(passed <= used && used <= 1000, "h{key}: {used} of {passed}");
        let by_name = &named(&format!("n{key}"), hour(900))[0];
        assert_eq!(store.used(by_name.counter.name(), now), passed);
    }
}

// The cache.

/// Answers some polls late, counts the calls, and can be told to fail.
struct Slow {
    inner: Minimal,
    state: Arc<SlowState>,
}

#[derive(Default)]
struct SlowState {
    calls: AtomicU64,
    fails: AtomicBool,
    held_up: AtomicU64, // Polls that a read waits besides the first.
    sinks: Mutex<Vec<ChangeSink>>,
}

impl SlowState {
    fn tell(&self, change: Change<'_>) {
        let sinks = self.sinks.lock().unwrap();
        sinks.iter().for_each(|sink| sink(change));
    }
}

impl Slow {
    fn new(clock: &ManualClock) -> Self {
        Self {
            inner: Minimal::new(clock),
            state: Arc::default(),
        }
    }
}

impl SessionStore for Slow {
    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        self.state.calls.fetch_add(1, SeqCst);
        // Read before the wait, as when the answer is on its way.
        let found = self.inner.found(key);
        let fails = self.state.fails.load(SeqCst);
        let mut left = 1 + self.state.held_up.load(SeqCst);
        let on_its_way = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            let wait = left > 0;
            left = left.saturating_sub(1);
            if wait { Poll::Pending } else { Poll::Ready(()) }
        });
        on_its_way.await;
        if fails {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "down"));
        }
        Ok(found)
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        self.inner.put(key, session, expect, lifetime).await
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.inner.delete(key).await
    }

    fn on_change(&self, sink: ChangeSink) {
        self.state.sinks.lock().unwrap().push(sink);
    }
}

struct Bench {
    clock: ManualClock,
    slow: SharedStore,
    state: Arc<SlowState>,
    cached: SharedStore,
}

fn bench(options: CacheOptions) -> Bench {
    let clock = clock();
    let slow = Slow::new(&clock);
    let state = slow.state.clone();
    let slow = SharedStore::new(slow, MemoryStore::new());
    let cached = slow.cached(options.clock(clock.clone()));
    let bench = Bench {
        clock,
        slow,
        state,
        cached,
    };
    bench.put("a", "one");
    bench
}

fn alias(got: &Result<Option<Arc<Loaded>>, StoreError>) -> Result<Option<&str>, StoreErrorKind> {
    match got {
        Ok(found) => Ok(found.as_ref().map(|found| found.session().alias.as_str())),
        Err(err) => Err(err.kind()),
    }
}

impl Bench {
    /// Writes behind the cache's back.
    fn put(&self, key: &str, alias: &str) {
        let put = self.slow.put(key, session(alias), Expect::Anything, None);
        block_on(put).unwrap();
    }

    #[track_caller]
    fn check(&self, key: &str, expected: Result<Option<&str>, StoreErrorKind>, calls: u64) {
        let before = self.state.calls.load(SeqCst);
        let got = block_on(self.cached.get(key));
        assert_eq!(alias(&got), expected);
        assert_eq!(self.state.calls.load(SeqCst) - before, calls, "calls");
    }
}

#[test]
fn a_record_is_good_for_its_age() {
    let bench = bench(CacheOptions::new().age(10 * SECOND).absent_age(SECOND));
    assert!(bench.cached.try_get("a").is_none(), "not read yet");
    bench.check("a", Ok(Some("one")), 1);
    bench.put("a", "two");
    bench.check("a", Ok(Some("one")), 0);
    assert!(matches!(bench.cached.try_get("a"), Some(Some(_))));
    bench.clock.advance(10 * SECOND);
    assert!(bench.cached.try_get("a").is_none());
    bench.check("a", Ok(Some("two")), 1);

    bench.check("none", Ok(None), 1);
    bench.check("none", Ok(None), 0);
    assert!(matches!(bench.cached.try_get("none"), Some(None)));
    bench.clock.advance(SECOND);
    bench.check("none", Ok(None), 1);
}

#[test]
fn notices_empty_it() {
    let bench = bench(CacheOptions::new());
    for change in [Change::Key("a"), Change::All] {
        bench.put("a", "one");
        bench.state.tell(Change::All);
        bench.check("a", Ok(Some("one")), 1);
        bench.put("a", "two");
        bench.state.tell(change);
        assert!(bench.cached.try_get("a").is_none());
        bench.check("a", Ok(Some("two")), 1);
    }
}

#[test]
fn lost_notices_shorten_the_age() {
    let bench = bench(CacheOptions::new().age(60 * SECOND).lost_age(5 * SECOND));
    bench.check("a", Ok(Some("one")), 1);
    bench.state.tell(Change::Lost);
    bench.clock.advance(5 * SECOND - Duration::from_nanos(1));
    bench.check("a", Ok(Some("one")), 0);
    bench.clock.advance(Duration::from_nanos(1));
    bench.check("a", Ok(Some("one")), 1);
    bench.clock.advance(59 * SECOND);
    bench.check("a", Ok(Some("one")), 0); // Read after the loss.
}

#[test]
fn writes_through_it_are_seen() {
    let bench = bench(CacheOptions::new());
    bench.check("a", Ok(Some("one")), 1);
    let put = bench
        .cached
        .put("a", session("two"), Expect::Anything, None);
    block_on(put).unwrap();
    bench.check("a", Ok(Some("two")), 1);
    assert!(block_on(bench.cached.delete("a")).unwrap());
    bench.check("a", Ok(None), 1);
}

#[test]
fn a_store_that_fails_is_unavailable() {
    let bench = bench(CacheOptions::new().age(SECOND));
    bench.check("a", Ok(Some("one")), 1);
    bench.state.fails.store(true, SeqCst);
    bench.check("a", Ok(Some("one")), 0);
    bench.clock.advance(SECOND);
    bench.check("a", Err(StoreErrorKind::Unavailable), 1);
    bench.check("a", Err(StoreErrorKind::Unavailable), 1); // A failure is not kept.
    bench.state.fails.store(false, SeqCst);
    bench.check("a", Ok(Some("one")), 1);
}

#[test]
fn old_records_stand_in_for_a_stated_time_unless_they_changed() {
    let bench = bench(CacheOptions::new().age(SECOND).stale_age(60 * SECOND));
    bench.check("a", Ok(Some("one")), 1);
    bench.state.fails.store(true, SeqCst);
    bench.clock.advance(59 * SECOND);
    bench.check("a", Ok(Some("one")), 1);
    bench.check("a", Ok(Some("one")), 1);
    bench.check("b", Err(StoreErrorKind::Unavailable), 1);
    bench.clock.advance(SECOND);
    bench.check("a", Err(StoreErrorKind::Unavailable), 1);

    bench.state.fails.store(false, SeqCst);
    bench.check("a", Ok(Some("one")), 1);
    bench.state.fails.store(true, SeqCst);
    bench.state.tell(Change::Key("a"));
    bench.check("a", Err(StoreErrorKind::Unavailable), 1);
}

/// Polls all of them in rounds, and calls `between` after each.
fn together<F: Future + Unpin>(
    mut futures: Vec<F>,
    mut between: impl FnMut(usize),
) -> Vec<F::Output> {
    let mut done: Vec<_> = futures.iter().map(|_| None).collect();
    let mut round = 0;
    block_on(poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none() {
                if let Poll::Ready(output) = std::pin::Pin::new(future).poll(cx) {
                    *done = Some(output);
                }
            }
        }
        between(round);
        round += 1;
        if done.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    done.into_iter().flatten().collect()
}

#[test]
fn a_hundred_who_miss_make_one_call() {
    for fails in [false, true] {
        let bench = bench(CacheOptions::new());
        bench.state.held_up.store(3, SeqCst);
        bench.state.fails.store(fails, SeqCst);
        let gets = (0..100).map(|_| bench.cached.get("a")).collect();
        let got = together(gets, |_| {});
        assert!(got.iter().all(|got| got.is_err() == fails));
        assert_eq!(bench.state.calls.load(SeqCst), 1, "fails: {fails}");
    }
}

#[test]
fn a_change_while_it_is_read_is_not_missed() {
    let bench = bench(CacheOptions::new());
    bench.state.held_up.store(3, SeqCst);
    let got = together(vec![bench.cached.get("a")], |round| {
        if round == 0 {
            bench.put("a", "two");
            bench.state.tell(Change::Key("a"));
        }
    });
    // Who asked before the change may read what was there before, and nobody else.
    assert_eq!(alias(&got[0]), Ok(Some("one")));
    assert!(bench.cached.try_get("a").is_none());
    bench.check("a", Ok(Some("two")), 1);
}

#[test]
fn who_asks_after_a_change_does_not_join_an_older_read() {
    let bench = bench(CacheOptions::new());
    bench.state.held_up.store(5, SeqCst);
    let mut older = bench.cached.get("a");
    let mut cx = Context::from_waker(Waker::noop());
    assert!(older.as_mut().poll(&mut cx).is_pending());
    bench.put("a", "two");
    bench.state.tell(Change::Key("a"));
    let got = together(vec![older, bench.cached.get("a")], |_| {});
    let aliases = [alias(&got[0]), alias(&got[1])];
    assert_eq!(aliases, [Ok(Some("one")), Ok(Some("two"))]);
}

#[test]
fn a_read_that_is_dropped_passes_its_turn_on() {
    let bench = bench(CacheOptions::new());
    bench.state.held_up.store(5, SeqCst);
    let mut first = Some(bench.cached.get("a"));
    let mut cx = Context::from_waker(Waker::noop());
    let polled = first.as_mut().map(|first| first.as_mut().poll(&mut cx));
    assert!(polled.is_some_and(|polled| polled.is_pending()));
    let got = together(vec![bench.cached.get("a")], |_| first = None);
    assert_eq!(alias(&got[0]), Ok(Some("one")));
    assert_eq!(bench.state.calls.load(SeqCst), 2);
}

#[test]
fn several_names_are_asked_for_in_order_and_kept() {
    let bench = bench(CacheOptions::new());
    let keys = ["none", "a", "b"].map(StorageKey::from);
    for calls in [2, 0] {
        let before = bench.state.calls.load(SeqCst);
        let got = block_on(bench.cached.get_first(keys.iter().cloned().collect()));
        assert_eq!(alias(&got), Ok(Some("one")));
        assert_eq!(bench.state.calls.load(SeqCst) - before, calls);
    }
}

#[test]
fn the_cache_is_bounded() {
    let bench = bench(CacheOptions::new().records(10));
    for key in 0..1000 {
        bench.check(&format!("k{key}"), Ok(None), 1);
    }
    let kept = |key: &u32| bench.cached.try_get(&format!("k{key}")).is_some();
    assert!((0..1000).filter(kept).count() <= 40, "a few more at most");
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

// The short ways of the memory store, beside the long one.

const MINUTE: Duration = Duration::from_secs(60);

/// A counter that has refused, and then one thing more.
#[track_caller]
fn check_after_refusal(what: impl FnOnce(&MemoryStore, &mut Charge, &mut Moment), passes: bool) {
    let store = MemoryStore::new();
    let mut charge = Charge::new(Counter::new("ann"), Rate::per(2, MINUTE));
    let mut now = clock().now().after(SECOND);
    let take = |charge: &Charge, now| store.try_take(std::slice::from_ref(charge), now).unwrap();
    let until_passes = |verdict| match verdict {
        Verdict::Refused(refused) => refused.retry_in,
        Verdict::Taken(_) => Some(Duration::ZERO),
    };
    assert_eq!(until_passes(take(&charge, now)), Some(Duration::ZERO));
    assert_eq!(until_passes(take(&charge, now)), Some(Duration::ZERO));
    for left in [60, 59, 58] {
        let left = Duration::from_secs(left);
        assert_eq!(until_passes(take(&charge, now)), Some(left));
        now = now.after(SECOND);
    }
    what(&store, &mut charge, &mut now);
    assert_eq!(matches!(take(&charge, now), Verdict::Taken(_)), passes);
}

#[test]
fn a_refusal_is_repeated_only_while_it_holds() {
    let at = |seconds| clock().now().after(seconds * SECOND);
    check_after_refusal(|_, _, _| {}, false);
    let raised = |_: &_, charge: &mut Charge, _: &mut _| charge.limit = Rate::per(3, MINUTE).into();
    check_after_refusal(raised, true);
    check_after_refusal(
        |_, charge, _| charge.limit = Rate::per(1, MINUTE).into(),
        false,
    );
    let shorter =
        |_: &_, charge: &mut Charge, _: &mut _| charge.limit = Rate::per(2, SECOND).into();
    check_after_refusal(shorter, true);
    check_after_refusal(|store, _, _| store.forget("ann"), true);
    let given_back = |store: &MemoryStore, charge: &mut Charge, _: &mut Moment| {
        store.give_back(std::slice::from_ref(charge), at(1));
    };
    check_after_refusal(given_back, true);
    let raised_for_one = |store: &MemoryStore, charge: &mut Charge, now: &mut Moment| {
        let mut raised = charge.clone();
        raised.limit = Rate::per(3, MINUTE).into();
        let verdict = store.try_take(&[raised], *now);
        assert!(matches!(verdict, Some(Verdict::Taken(_))));
        *now = at(61); // One of three has just come.
    };
    check_after_refusal(raised_for_one, true);
    check_after_refusal(|_, _, now| *now = at(0), false); // The clock goes back.
    check_after_refusal(|_, _, now| now.ticks = at(61).ticks - 1, false);
    check_after_refusal(|_, _, now| *now = at(61), true);
}

/// A rate and a quota in one step, of which one has refused, say of two calls later what a store says that
/// remembers no refusal.
#[track_caller]
fn check_pair(limits: [Limit; 2], between: impl Fn(&dyn Fn(&[Charge], Moment), &[Charge])) {
    let clock = clock();
    let (fast, ready, slow) = (MemoryStore::new(), MemoryStore::new(), Minimal::new(&clock));
    let names = ["ann", "bob"];
    let charges = || {
        let charge = |(name, limit): (&str, &Limit)| Charge::new(Counter::new(name), limit.clone());
        names.into_iter().zip(&limits).map(charge)
    };
    let batch: Vec<_> = charges().collect();
    let pair = ReadyCharges::new(charges().collect::<Vec<_>>());
    let mut now = clock.now();
    let same = |now| {
        let expected = block_on(slow.take(&batch, now)).unwrap();
        assert_eq!(fast.try_take(&batch, now).unwrap(), expected);
        // As gates ask: first for a yes, then for all of the answer.
        let admits = ready.try_admit_told(&pair, now, &mut |_| {});
        if !admits {
            assert_eq!(ready.try_take_ready(&pair, now).unwrap(), expected);
        }
        assert!(!admits || matches!(expected, Verdict::Taken(_)));
    };
    for _ in 0..6 {
        same(now);
        now = now.after(SECOND);
    }
    let take = |batch: &[Charge], now: Moment| {
        let expected = block_on(slow.take(batch, now)).unwrap();
        assert_eq!(fast.try_take(batch, now).unwrap(), expected);
        assert_eq!(ready.try_take(batch, now).unwrap(), expected);
    };
    between(&take, &batch);
    for _ in 0..80 {
        same(now);
        now = now.after(SECOND);
    }
}

#[test]
fn a_refusal_of_one_of_two_is_repeated_only_while_it_holds() {
    let (few, many) = (Rate::per(2, MINUTE), Rate::per(9, MINUTE));
    let quota = |max| Limit::from(Quota::per(max, Period::Every(MINUTE)));
    let start = clock().now();
    for limits in [
        [few.into(), quota(9)],
        [many.into(), quota(2)],
        [few.into(), quota(2)],
        [Rate::per(200, MINUTE).into(), quota(2)],
        [few.into(), Quota::per(3, Period::Never).into()],
        [many.into(), Quota::per(3, Period::Never).into()],
    ] {
        check_pair(limits.clone(), |_, _| {});
        // The one that has room counts more meanwhile, and is full then.
        for index in [0, 1] {
            check_pair(limits.clone(), |take, batch| {
                for _ in 0..8 {
                    take(&batch[index..=index], start.after(6 * SECOND));
                }
            });
        }
    }
}

fn any_limit() -> impl Strategy<Value = Limit> {
    let rate = |requests: u64, window: u64, algorithm| {
        let rate = Rate::per(requests, Duration::from_millis(window));
        Limit::from(rate.with_algorithm(algorithm))
    };
    let algorithm = prop_oneof![
        Just(Algorithm::Sliding),
        Just(Algorithm::FixedWindow),
        Just(Algorithm::Bucket),
        Just(Algorithm::Gcra),
    ];
    let period = prop_oneof![
        Just(Period::Never),
        (1_u64..3000).prop_map(|millis| Period::Every(Duration::from_millis(millis))),
    ];
    prop_oneof![
        (1_u64..4, prop_oneof![Just(1000_u64), Just(1500)], algorithm)
            .prop_map(move |(requests, window, algorithm)| rate(requests, window, algorithm)),
        (129_u64..131).prop_map(move |requests| rate(requests, 1000, Algorithm::Sliding)),
        (1_u64..5, period).prop_map(|(max, period)| Quota::per(max, period).into()),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Take(Vec<(usize, usize, u64, bool, u64)>), // Counter, limit, cost, observed, patience.
    GiveBack(usize, usize),
    Reset(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let cost = prop_oneof![8 => Just(1_u64), 2 => 2_u64..4, 1 => Just(128)];
    let patience = prop_oneof![9 => Just(0_u64), 1 => 1_u64..2000];
    let charge = (
        0..3_usize,
        0..4_usize,
        cost,
        prop::bool::weighted(0.1),
        patience,
    );
    prop_oneof![
        20 => prop::collection::vec(charge, 1..4).prop_map(Step::Take),
        1 => (0..3_usize, 0..4_usize).prop_map(|(counter, limit)| Step::GiveBack(counter, limit)),
        1 => (0..3_usize).prop_map(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_short_ways_say_what_the_long_one_says(
        limits in prop::collection::vec(any_limit(), 4),
        steps in prop::collection::vec((any_step(), -20_i64..200), 1..80),
        named in any::<bool>(),
    ) {
        let clock = clock();
        let (fast, slow) = (MemoryStore::new(), Minimal::new(&clock));
        let names = ["a", "b", "c"];
        let held = names.map(Counter::new);
        let mut now = clock.now();
        let charge = |counter: usize, limit: usize| {
            // Each limit goes mostly to one counter: else they only ever change form.
            let limit = limits[limit % 4].clone();
            if named {
                Charge::new(CounterName::of(&[names[counter].as_bytes()]), limit)
            } else {
                Charge::new(held[counter].clone(), limit)
            }
        };
        for (step, millis) in steps {
            now.ticks = now.ticks.saturating_add_signed(millis * 1_000_000);
            now.unix_nanos = now.unix_nanos.saturating_add_signed(millis * 1_000_000);
            match step {
                Step::Take(charges) => {
                    let charges = charges.into_iter();
                    let batch: Vec<_> = charges
                        .map(|(counter, limit, cost, observed, patience)| {
                            let limit = if limit < 3 { counter } else { 3 };
                            let mut charge = charge(counter, limit);
                            charge.cost = cost.try_into().unwrap();
                            if observed {
                                charge.mode = ChargeMode::Observe;
                            }
                            charge.patience = Duration::from_millis(patience);
                            charge
                        })
                        .collect();
                    let verdict = fast.try_take(&batch, now).unwrap();
                    let expected = block_on(slow.take(&batch, now)).unwrap();
                    prop_assert_eq!(verdict, expected);
                }
                Step::GiveBack(counter, limit) => {
                    let batch = [charge(counter, limit)];
                    fast.give_back(&batch, now);
                    slow.give_back(&batch, now);
                }
                Step::Reset(counter) => {
                    fast.forget(charge(counter, 0).counter.name());
                    let name = charge(counter, 0).counter.name().to_owned();
                    slow.tallies.lock().unwrap().remove(&name);
                }
            }
        }
    }
}
