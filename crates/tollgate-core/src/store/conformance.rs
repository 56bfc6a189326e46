//! The suite that every store passes, open to yours.
//!
//! [`sessions`] and [`limits`] run all cases against one store, under names that no other run uses, and
//! panic at the first that fails, with what was expected. They need no runtime of their own: what must
//! happen at once is polled together in one task, and a store that answers at once is asked from several
//! threads besides. Time passes as [`Time`] says, so a store with a [`ManualClock`] is tested without
//! waiting.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use tollgate_core::{ManualClock, store::{MemoryStore, conformance}};
//!
//! let clock = ManualClock::at(1_700_000_000);
//! let store = MemoryStore::with_clock(clock.clone());
//! conformance::sessions(&store, &clock).await;
//! conformance::limits(&store, &clock).await;
//! # }
//! ```

use std::{
    collections::BTreeSet,
    future::poll_fn,
    num::NonZeroU64,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use super::{
    Batch, Charge, ChargeMode, Counter, CounterName, Expect, LimitStore, ListQuery, Refused,
    SessionStore, Standing, StorageKey, StoreErrorKind, Taken, Verdict,
};
use crate::{
    clock::{Clock, ManualClock, Moment, machine_time},
    limits::{Limit, Period, Quota, Rate, RateSteps},
    session::{Session, Smoothing},
};

/// How time passes for the store under test.
pub trait Time: Sync {
    /// The moment that a request would read now.
    fn now(&self) -> Moment;

    /// Comes back when so much time has passed for the store.
    fn pass(&self, by: Duration) -> impl Future<Output = ()> + Send;
}

/// Whether so much time has passed since: where it passes by itself, a busy machine or disk may have taken it.
fn has_passed(time: &impl Time, begun: Moment, span: Duration) -> bool {
    begun.after(span).ticks <= time.now().ticks
}

impl Time for ManualClock {
    fn now(&self) -> Moment {
        Clock::now(self)
    }

    async fn pass(&self, by: Duration) {
        self.advance(by);
    }
}

/// Time that passes by itself: for stores that have a clock of their own.
pub struct RealTime<C>(
    /// Sleeps; its time need not be the store's.
    pub C,
);

impl<C: Clock> Time for RealTime<C> {
    fn now(&self) -> Moment {
        self.0.now()
    }

    async fn pass(&self, by: Duration) {
        self.0.sleep_until(self.0.now().after(by)).await;
    }
}

/// Names that no other run uses.
struct Names(String);

impl Names {
    fn new(suite: &str) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Relaxed);
        let time = machine_time().unix_nanos;
        Self(format!("conformance-{suite}-{time}-{run}-"))
    }

    fn of(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}

/// Runs all cases for a store of sessions.
///
/// Listing is skipped where the store can not list, and what needs compare-and-set where it says that
/// it has none.
///
/// # Panics
///
/// Panics where the store does not keep the contract of [`SessionStore`].
pub async fn sessions<S: SessionStore>(store: &S, time: &impl Time) {
    let names = Names::new("sessions");
    absent_is_not_unavailable(store, &names).await;
    what_is_put_is_found(store, &names).await;
    an_epoch_ends_with_each_change(store, &names).await; // Before any record ends by itself.
    the_first_of_several_is_found(store, &names).await;
    lifetimes_end(store, &names, time).await;
    if store.compares_and_sets() {
        writes_compare(store, &names).await;
        no_update_is_lost(store, &names).await;
        an_old_version_never_comes_back(store, &names).await;
    }
    lists_under_change(store, &names).await;
}

fn session(alias: &str) -> Session {
    Session {
        alias: alias.to_owned(),
        ..Session::default()
    }
}

async fn alias<S: SessionStore>(store: &S, key: &str) -> Option<String> {
    let found = store.get(key).await.expect("the store answers");
    let at_once = store.try_get(key);
    if let Some(at_once) = at_once {
        let at_once = at_once.map(|loaded| loaded.version());
        let found = found.as_ref().map(|loaded| loaded.version());
        assert_eq!(at_once, found, "`try_get` and `get` agree");
    }
    found.map(|loaded| {
        assert_eq!(loaded.key().as_str(), key, "a record knows its name");
        loaded.session().alias.clone()
    })
}

/// Of a store that has epochs.
async fn an_epoch_ends_with_each_change<S: SessionStore>(store: &S, names: &Names) {
    let key = names.of("epoch");
    let mut last = store.epoch();
    let mut has_changed = || {
        let before = std::mem::replace(&mut last, store.epoch());
        last.is_none() || last != before
    };
    for alias in ["one", "two"] {
        let put = store.put(&key, session(alias), Expect::Anything, None);
        put.await.expect("the store answers");
        assert!(has_changed(), "a record that is written ends the epoch");
    }
    store.delete(&key).await.expect("the store answers");
    assert!(has_changed(), "a record that is removed ends the epoch");
}

async fn absent_is_not_unavailable<S: SessionStore>(store: &S, names: &Names) {
    let key = names.of("absent");
    assert_eq!(
        alias(store, &key).await,
        None,
        "a missing record is `Ok(None)`"
    );
    let deleted = store.delete(&key).await.expect("the store answers");
    assert!(!deleted, "nothing was there to delete");
}

async fn what_is_put_is_found<S: SessionStore>(store: &S, names: &Names) {
    let key = names.of("put");
    let put = async |alias| {
        let put = store.put(&key, session(alias), Expect::Anything, None);
        put.await.expect("the store writes")
    };
    let first = put("one").await;
    assert_eq!(alias(store, &key).await.as_deref(), Some("one"));
    let second = put("two").await;
    assert_eq!(alias(store, &key).await.as_deref(), Some("two"));
    if store.compares_and_sets() {
        assert!(first < second, "versions grow");
    }
    assert!(store.delete(&key).await.expect("the store deletes"));
    assert_eq!(alias(store, &key).await, None, "deleted");
}

async fn the_first_of_several_is_found<S: SessionStore>(store: &S, names: &Names) {
    let keys = ["first-a", "first-b", "first-c"].map(|name| names.of(name));
    for key in &keys[1..] {
        let put = store.put(key, session(key), Expect::Anything, None);
        put.await.expect("the store writes");
    }
    let keys = keys.each_ref().map(|key| StorageKey::from(key.as_str()));
    let found = store.get_first(&keys).await.expect("the store answers");
    let found = found.map(|loaded| loaded.key().clone());
    assert_eq!(found.as_ref(), Some(&keys[1]), "the first that is there");
    let found = store
        .get_first(&keys[..1])
        .await
        .expect("the store answers");
    assert!(found.is_none(), "none is there");
}

async fn lifetimes_end<S: SessionStore>(store: &S, names: &Names, time: &impl Time) {
    let second = Duration::from_secs(1);
    let (short, long) = (names.of("short"), names.of("long"));
    let put = async |key: &str, lifetime| {
        let put = store.put(key, session("here"), Expect::Anything, lifetime);
        put.await.expect("the store writes");
    };
    let begun = time.now();
    put(&short, Some(second)).await;
    put(&long, Some(second)).await;
    put(&long, None).await; // The later write decides.
    let found = alias(store, &short).await;
    if !has_passed(time, begun, second) {
        assert_eq!(found.as_deref(), Some("here"));
    }
    time.pass(second + Duration::from_millis(100)).await;
    assert_eq!(alias(store, &short).await, None, "its lifetime is over");
    assert_eq!(alias(store, &long).await.as_deref(), Some("here"));
    let put = store.put(&short, session("again"), Expect::Absent, None);
    put.await.expect("a record that has ended is absent");
}

async fn writes_compare<S: SessionStore>(store: &S, names: &Names) {
    let key = names.of("compare");
    let put = async |expect| store.put(&key, session("x"), expect, None).await;
    let conflicts = async |expect| match put(expect).await {
        Ok(_) => false,
        Err(err) => err.kind() == StoreErrorKind::Conflict,
    };
    let first = put(Expect::Absent).await.expect("nothing is there");
    assert!(conflicts(Expect::Absent).await, "something is there");
    let second = put(Expect::Version(first)).await.expect("as it was read");
    assert!(
        conflicts(Expect::Version(first)).await,
        "changed since it was read"
    );
    store.delete(&key).await.expect("the store deletes");
    assert!(
        conflicts(Expect::Version(second)).await,
        "nothing is there any more"
    );
}

async fn an_old_version_never_comes_back<S: SessionStore>(store: &S, names: &Names) {
    let key = names.of("anew");
    let put = async |expect| store.put(&key, session("x"), expect, None).await;
    let old = put(Expect::Absent).await.expect("nothing is there");
    store.delete(&key).await.expect("the store deletes");
    put(Expect::Absent).await.expect("nothing is there");
    let err = put(Expect::Version(old)).await.expect_err("another record");
    assert_eq!(err.kind(), StoreErrorKind::Conflict);
}

async fn no_update_is_lost<S: SessionStore>(store: &S, names: &Names) {
    const WRITERS: usize = 8;
    const EACH: i64 = 5;
    let key = names.of("lost");
    let put = store.put(&key, session("x"), Expect::Absent, None);
    put.await.expect("nothing is there");
    let writer = async || {
        let mut left = EACH;
        while left > 0 {
            let read = store.get(&key).await.expect("the store answers");
            let read = read.expect("it is there");
            let mut session = Session::clone(read.session());
            session.quota_max += 1;
            let expect = Expect::Version(read.version());
            match store.put(&key, session, expect, None).await {
                Ok(_) => left -= 1,
                Err(err) => assert_eq!(err.kind(), StoreErrorKind::Conflict),
            }
        }
    };
    all((0..WRITERS).map(|_| writer()).collect()).await;
    let read = store.get(&key).await.expect("the store answers");
    let sum = read.map(|read| read.session().quota_max);
    assert_eq!(sum, Some(WRITERS as i64 * EACH), "each update counts");
}

async fn lists_under_change<S: SessionStore>(store: &S, names: &Names) {
    let key = |number: usize| names.of(&format!("list-{number:02}"));
    let put = async |key: &str| {
        let put = store.put(key, session("x"), Expect::Anything, None);
        put.await.expect("the store writes");
    };
    for number in 0..20 {
        put(&key(number)).await;
    }
    let mut query = ListQuery {
        prefix: names.of("list-"),
        cursor: None,
        limit: Some(3),
    };
    let mut listed = Vec::new();
    for page in 0..100 {
        let page_of = match store.list(&query).await {
            Err(err) if err.kind() == StoreErrorKind::Unsupported => return,
            page => page.expect("the store lists"),
        };
        listed.extend(page_of.keys);
        if page == 1 {
            store.delete(&key(19)).await.expect("the store deletes");
            store.delete(&key(0)).await.expect("the store deletes");
            put(&names.of("list-zz")).await;
        }
        query.cursor = page_of.next;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(query.cursor, None, "a listing ends");
    let all: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(all.len(), listed.len(), "each key is listed once");
    assert!(
        listed.iter().all(|key| key.starts_with(&query.prefix)),
        "no other prefix"
    );
    let missing = (1..19).find(|number| !all.contains(&key(*number)));
    assert_eq!(missing, None, "what was there all the time is listed");
}

/// Runs all cases for a store of counters.
///
/// # Panics
///
/// Panics where the store does not keep the contract of [`LimitStore`].
pub async fn limits<L: LimitStore>(store: &L, time: &impl Time) {
    let cases = &Cases {
        store,
        time,
        names: Names::new("limits"),
    };
    cases.takes_up_to_the_limit().await;
    cases.looks_charge_nothing().await;
    cases.a_batch_is_charged_wholly_or_not_at_all().await;
    cases.the_first_that_refuses_is_named().await;
    cases.one_counter_twice_in_a_batch_counts_twice().await;
    cases.what_is_only_watched_refuses_nothing().await;
    cases.what_is_given_back_can_be_taken_again().await;
    cases.what_is_given_back_late_is_gone().await;
    cases.windows_and_periods_end().await;
    cases.a_period_starts_with_its_first_request().await;
    cases.a_changed_limit_keeps_the_count().await;
    cases.an_allowance_grows_with_its_use().await;
    cases.a_reset_forgets().await;
    cases.a_name_is_a_counter_however_it_is_held().await;
    cases.concurrent_first_requests_all_count().await;
    cases.opposite_orders_do_not_lock_up().await;
    cases.threads_never_take_too_much();
}

/// One case of [`limits`] each.
struct Cases<'a, L, T> {
    store: &'a L,
    time: &'a T,
    names: Names,
}

const SECOND: Duration = Duration::from_secs(1);

fn quota(max: u64) -> Limit {
    Quota::per(max, Period::Every(Duration::from_secs(3600))).into()
}

fn costing(mut charge: Charge, cost: u64) -> Charge {
    charge.cost = NonZeroU64::new(cost).expect("a cost above zero");
    charge
}

impl<L: LimitStore, T: Time> Cases<'_, L, T> {
    fn charge(&self, name: &str, limit: impl Into<Limit>) -> Charge {
        Charge::new(Counter::new(self.names.of(name)), limit)
    }

    async fn verdict(&self, batch: &[Charge]) -> Verdict {
        let taken = self.store.take(batch, self.time.now()).await;
        taken.expect("the store answers")
    }

    async fn taken(&self, batch: &[Charge]) -> Taken {
        match self.verdict(batch).await {
            Verdict::Taken(taken) => taken,
            Verdict::Refused(refused) => panic!("expected to pass: {refused:?}"),
        }
    }

    async fn refused(&self, batch: &[Charge]) -> Refused {
        match self.verdict(batch).await {
            Verdict::Refused(refused) => refused,
            Verdict::Taken(taken) => panic!("expected to be refused: {taken:?}"),
        }
    }

    /// Takes the only unit of a window, and asks for one more before it ends.
    async fn used_up_and_refused(&self, batch: &[Charge], window: Duration) -> Refused {
        let mut begun = self.time.now();
        self.taken(batch).await;
        loop {
            let asked = self.time.now();
            match self.verdict(batch).await {
                Verdict::Refused(refused) => return refused,
                Verdict::Taken(taken) => assert!(
                    has_passed(self.time, begun, window),
                    "expected to be refused: {taken:?}"
                ),
            }
            begun = asked; // Of the window that this one began.
        }
    }

    async fn look(&self, batch: &[Charge]) -> Verdict {
        let looked = self.store.look(batch, self.time.now()).await;
        looked.expect("the store answers")
    }

    async fn left(&self, charge: &Charge) -> u64 {
        match self.look(std::slice::from_ref(charge)).await {
            Verdict::Taken(Taken { standings, .. })
            | Verdict::Refused(Refused { standings, .. }) => standings[0].remaining,
        }
    }

    async fn takes_up_to_the_limit(&self) {
        for limit in [Rate::per(3, 60 * SECOND).into(), quota(3)] {
            let charge = [self.charge(&format!("up-to-{limit:?}"), limit)];
            for left in [2, 1, 0] {
                let standing = self.taken(&charge).await.standings[0];
                assert_eq!((standing.max, standing.remaining), (3, left));
                assert!(!standing.exceeded);
            }
            let refused = self.refused(&charge).await;
            assert_eq!(refused.standings[0].remaining, 0);
            assert!(refused.standings[0].exceeded, "it refused");
            assert!(refused.retry_in.is_some(), "it would pass some time");
        }
        let too_dear = costing(self.charge("too-dear", quota(3)), 4);
        let refused = self.refused(&[too_dear]).await;
        assert_eq!(refused.retry_in, None, "more than the limit never passes");
    }

    async fn looks_charge_nothing(&self) {
        let charge = self.charge("look", quota(1));
        for _ in 0..3 {
            let looked = self.look(std::slice::from_ref(&charge)).await;
            assert!(matches!(looked, Verdict::Taken(_)), "it would pass");
        }
        assert_eq!(self.left(&charge).await, 1);
        self.taken(std::slice::from_ref(&charge)).await;
        let looked = self.look(std::slice::from_ref(&charge)).await;
        assert!(matches!(looked, Verdict::Refused(_)), "it would not pass");
    }

    async fn a_batch_is_charged_wholly_or_not_at_all(&self) {
        let roomy = self.charge("whole-roomy", quota(10));
        let rate = self.charge("whole-rate", Rate::per(10, 60 * SECOND));
        let tight = self.charge("whole-tight", quota(1));
        let batch = [roomy.clone(), tight, rate.clone()];
        self.taken(&batch).await;
        for _ in 0..3 {
            self.refused(&batch).await;
        }
        assert_eq!(
            self.left(&roomy).await,
            9,
            "only the admitted request counts"
        );
        assert_eq!(
            self.left(&rate).await,
            9,
            "only the admitted request counts"
        );
    }

    async fn the_first_that_refuses_is_named(&self) {
        let roomy = self.charge("named-roomy", quota(10));
        let one = self.charge("named-one", quota(1));
        let other = self.charge("named-other", quota(1));
        self.taken(&[one.clone(), other.clone()]).await;
        let refused = self.refused(&[roomy, one, other]).await;
        assert_eq!(refused.index, 1);
        let exceeded = refused.standings.iter().map(|standing| standing.exceeded);
        assert_eq!(exceeded.collect::<Vec<_>>(), [false, true, true]);
    }

    async fn one_counter_twice_in_a_batch_counts_twice(&self) {
        let charge = self.charge("twice", quota(3));
        let batch = [charge.clone(), charge.clone()];
        self.taken(&batch).await;
        assert_eq!(self.left(&charge).await, 1);
        assert_eq!(self.refused(&batch).await.index, 1);
        assert_eq!(self.left(&charge).await, 1);
    }

    async fn what_is_only_watched_refuses_nothing(&self) {
        let mut watched = self.charge("watched", quota(1));
        watched.mode = ChargeMode::Observe;
        let batch = [watched.clone(), self.charge("watching", quota(3))];
        let exceeded = async || self.taken(&batch).await.standings[0].exceeded;
        assert!(!exceeded().await);
        assert!(exceeded().await, "over the limit, and admitted");
        assert!(exceeded().await, "over the limit, and admitted");
        self.refused(&batch).await;
        assert_eq!(self.left(&watched).await, 0, "it stops at its maximum");

        let mut unseen = self.charge("watched-unseen", quota(9));
        unseen.mode = ChargeMode::Observe;
        self.refused(&[unseen.clone(), batch[1].clone()]).await;
        assert_eq!(
            self.left(&unseen).await,
            9,
            "a refused request is not counted"
        );
    }

    async fn what_is_given_back_can_be_taken_again(&self) {
        for limit in [Rate::per(3, 60 * SECOND).into(), quota(3)] {
            let charge = costing(self.charge(&format!("back-{limit:?}"), limit), 3);
            let batch = std::slice::from_ref(&charge);
            let taken = self.taken(batch).await;
            self.refused(batch).await;
            self.store.give_back(batch, taken.at);
            self.settled(&charge, 3).await;
            self.taken(batch).await;
        }
    }

    /// Waits until so much is left: a remote store gives back a little later.
    async fn settled(&self, charge: &Charge, left: u64) {
        for _ in 0..100 {
            if self.left(charge).await == left {
                return;
            }
            self.time.pass(Duration::from_millis(5)).await;
        }
        assert_eq!(self.left(charge).await, left, "what is given back is there");
    }

    async fn what_is_given_back_late_is_gone(&self) {
        let limit = Quota::per(2, Period::Every(SECOND));
        let charge = self.charge("late", limit);
        let batch = std::slice::from_ref(&charge);
        let taken = self.taken(batch).await;
        self.time.pass(2 * SECOND).await;
        let begun = self.time.now();
        self.taken(batch).await;
        self.store.give_back(batch, taken.at);
        let left = self.left(&charge).await;
        if !has_passed(self.time, begun, SECOND) {
            assert_eq!(left, 1, "of a period that has ended");
        }
    }

    async fn windows_and_periods_end(&self) {
        let once = Quota::per(1, Period::Never);
        let batch = [self.charge("never", once)];
        let never = self.taken(&batch).await.standings[0];
        assert_eq!(never.resets_in, None, "it never renews");
        assert_eq!(self.refused(&batch).await.retry_in, None);

        let limits = [
            Limit::from(Rate::per(1, SECOND)),
            Quota::per(1, Period::Every(SECOND)).into(),
        ];
        for limit in limits {
            let charge = [self.charge(&format!("end-{limit:?}"), limit)];
            let refused = self.used_up_and_refused(&charge, SECOND).await;
            let retry_in = refused.retry_in.expect("it would pass some time");
            assert!(retry_in <= SECOND, "not later than it ends: {retry_in:?}");
            self.time.pass(retry_in + Duration::from_millis(50)).await;
            self.taken(&charge).await;
        }
        self.refused(&batch).await;
    }

    async fn a_period_starts_with_its_first_request(&self) {
        let charge = self.charge("starts", Quota::per(9, Period::Every(2 * SECOND)));
        let batch = std::slice::from_ref(&charge);
        self.time.pass(3 * SECOND / 2).await;
        let resets_in = self.taken(batch).await.standings[0].resets_in;
        let resets_in = resets_in.expect("it renews");
        assert!(
            SECOND < resets_in && resets_in <= 2 * SECOND,
            "{resets_in:?}"
        );
    }

    async fn a_changed_limit_keeps_the_count(&self) {
        let minute = 60 * SECOND;
        let limits: [fn(u64) -> Limit; 2] = [quota, |max| Rate::per(max, 60 * SECOND).into()];
        for (number, limit) in limits.into_iter().enumerate() {
            let charge = |max| self.charge(&format!("changed-{number}"), limit(max));
            for _ in 0..5 {
                self.taken(&[charge(10)]).await;
            }
            let raised = self.taken(&[charge(20)]).await.standings[0];
            assert_eq!(raised.remaining, 14, "a raised limit acts at once");
            self.refused(&[charge(3)]).await;
            assert_eq!(self.left(&charge(20)).await, 14, "and the count stays");
        }
        let rate = |window| self.charge("changed-window", Rate::per(2, window));
        self.taken(&[rate(minute)]).await;
        self.taken(&[rate(2 * minute)]).await;
        self.refused(&[rate(2 * minute)]).await;
    }

    async fn an_allowance_grows_with_its_use(&self) {
        let smoothing = Smoothing {
            enabled: true,
            threshold: 5,
            trigger: 0.5,
            step: 5,
            delay: 1,
            ..Smoothing::default()
        };
        let steps = RateSteps::from_wire(&smoothing);
        let rate = Rate::per(12, 60 * SECOND).with_steps(steps);
        let charge = [self.charge("smoothed", rate)];
        let told = |standing: Standing| (standing.max, standing.remaining);
        for left in (0..5).rev() {
            let taken = self.taken(&charge).await;
            assert_eq!(told(taken.standings[0]), (5, left));
        }
        let refused = self.refused(&charge).await;
        let retry_in = refused.retry_in.expect("it would pass some time");
        assert!(retry_in <= 2 * SECOND, "when it grows: {retry_in:?}");
        for (max, taken) in [(10, 5), (12, 2)] {
            self.time.pass(SECOND + Duration::from_millis(50)).await;
            for left in (0..taken).rev() {
                let taken = self.taken(&charge).await;
                assert_eq!(told(taken.standings[0]), (max, left));
            }
            self.refused(&charge).await;
        }
        self.store
            .reset(&self.names.of("smoothed"))
            .await
            .expect("it resets");
        let taken = self.taken(&charge).await;
        assert_eq!(told(taken.standings[0]), (5, 4), "and begins anew");
    }

    async fn a_reset_forgets(&self) {
        let charge = [self.charge("reset", quota(1))];
        self.taken(&charge).await;
        self.refused(&charge).await;
        let reset = self.store.reset(&self.names.of("reset")).await;
        reset.expect("the store resets");
        self.taken(&charge).await;
        let reset = self.store.reset(&self.names.of("unknown")).await;
        reset.expect("there is nothing to forget");
    }

    async fn a_name_is_a_counter_however_it_is_held(&self) {
        let name = CounterName::of(&[self.names.0.as_bytes(), b"held"]);
        let charge = Charge::new(name, quota(9));
        self.taken(std::slice::from_ref(&charge)).await;
        let again = Charge::new(
            CounterName::of(&[self.names.0.as_bytes(), b"held"]),
            quota(9),
        );
        assert_eq!(self.left(&again).await, 8);
        let anew = self.charge("anew", quota(9));
        self.taken(std::slice::from_ref(&anew)).await;
        drop(anew); // As a reload does: the count is found by name.
        assert_eq!(self.left(&self.charge("anew", quota(9))).await, 8);
    }

    async fn concurrent_first_requests_all_count(&self) {
        let charge = self.charge("first", quota(1000));
        let batch = std::slice::from_ref(&charge);
        all((0..100).map(|_| self.taken(batch)).collect()).await;
        assert_eq!(self.left(&charge).await, 900);

        let charge = self.charge("first-tight", Rate::per(10, 60 * SECOND));
        let batch = std::slice::from_ref(&charge);
        let verdicts = all((0..40).map(|_| self.verdict(batch)).collect()).await;
        let passed = verdicts
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Taken(_)));
        assert_eq!(passed.count(), 10, "never more than the limit");
    }

    async fn opposite_orders_do_not_lock_up(&self) {
        let (one, other) = (self.charge("a", quota(50)), self.charge("b", quota(50)));
        let there = [one.clone(), other.clone()];
        let back = [other.clone(), one.clone()];
        let batches = (0..40).map(|turn| if turn % 2 == 0 { &there } else { &back });
        all(batches.map(|batch| self.taken(batch)).collect()).await;
        assert_eq!(self.left(&one).await, 10);
        assert_eq!(self.left(&other).await, 10);
    }

    /// A store that answers at once has no waits in between at which tasks could meet.
    fn threads_never_take_too_much(&self) {
        let now = self.time.now();
        let (one, other) = (self.charge("x", quota(300)), self.charge("y", quota(500)));
        let there: Batch = [one.clone(), other.clone()].into_iter().collect();
        let back: Batch = [other, one].into_iter().collect();
        if self.store.try_take(&there, now).is_none() {
            return;
        }
        let passed = AtomicU64::new(1);
        std::thread::scope(|scope| {
            for batch in [&there, &back, &there, &back] {
                let passed = &passed;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let verdict = self.store.try_take(batch, now);
                        if let Some(Verdict::Taken(_)) = verdict {
                            passed.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 300, "the tighter limit, to the unit");
    }
}

/// Polls all of them together.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none() {
                if let Poll::Ready(output) = future.as_mut().poll(cx) {
                    *done = Some(output);
                }
            }
        }
        if done.iter().all(Option::is_some) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Runs a future on this thread: for a store that needs no runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
