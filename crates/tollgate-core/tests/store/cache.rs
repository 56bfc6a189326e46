//! The cache before a slower store.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tollgate_core::{
    Loaded, ManualClock, Session, StoreError,
    store::{
        Change, ChangeSink, Expect, MemoryStore, SessionStore, SharedStore, StorageKey,
        StoreErrorKind, Version,
        cached::CacheOptions,
        conformance::{self, block_on},
    },
};

use super::{Minimal, SECOND, clock, session};

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
fn a_cache_before_a_slow_store_keeps_the_contract() {
    let clock = clock();
    let slow = SharedStore::new(Slow::new(&clock), Minimal::new(&clock));
    let options = CacheOptions::new().age(SECOND).clock(clock.clone());
    let store = slow.cached(options);
    block_on(conformance::sessions(&store, &clock));
    block_on(conformance::limits(&store, &clock));
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
