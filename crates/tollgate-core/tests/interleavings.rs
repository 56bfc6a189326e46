//! All interleavings of a few threads over the counters and the passes, played by `loom`.
//!
//! ```text
//! RUSTFLAGS="--cfg tollgate_loom" cargo test -p tollgate-core --test interleavings --release
//! ```
//!
//! The code under test is the code that ships: its locks and atomics come from `src/sync.rs`. In the
//! models the table has one shard with chunks of four entries and one overflow counter of each kind, so
//! that every name meets every other. In any other build this file is empty.
#![cfg(tollgate_loom)]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use loom::thread;
use tollgate_core::{
    Loaded, Moment, Session,
    limits::{Limit, Period, Quota, Rate},
    pass::{Plan, Rules},
    policy::PolicySet,
    store::{
        Charge, Counter, CounterName, KeyedLimit, LimitStore, MemoryStore, ReadyCharges, Standing,
        Verdict, Version, memory::MemoryOptions,
    },
};

/// Plays all interleavings, and says how many there are.
fn model(name: &str, play: impl Fn() + Send + Sync + 'static) {
    let plays = Arc::new(AtomicUsize::new(0));
    let counted = plays.clone();
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        play();
    });
    println!("{name}: {} interleavings", plays.load(Relaxed));
}

fn at(seconds: u64) -> Moment {
    Moment {
        ticks: seconds * 1_000_000_000,
        unix_nanos: (1_700_000_000 + seconds) * 1_000_000_000,
    }
}

fn quota(max: u64) -> Limit {
    Quota::per(max, Period::Every(Duration::from_secs(1))).into()
}

fn held(counter: &Arc<Counter>, limit: &Limit) -> Charge {
    Charge::new(counter.clone(), limit.clone())
}

fn named(name: &str, limit: &Limit) -> Charge {
    Charge::new(raw(name), limit.clone())
}

/// The name of a held counter, for one request.
fn raw(name: &str) -> CounterName {
    CounterName::of(&[name.as_bytes()])
}

/// The same name, as a held counter has it.
fn counter(name: &str) -> Arc<Counter> {
    Counter::new(std::str::from_utf8(raw(name).as_bytes()).unwrap())
}

fn takes(store: &MemoryStore, batch: &[Charge], now: Moment) -> bool {
    matches!(store.try_take(batch, now), Some(Verdict::Taken(_)))
}

/// Runs both at once; tells what each said.
fn both<A: Send + 'static, B>(
    one: impl FnOnce() -> A + Send + 'static,
    other: impl FnOnce() -> B,
) -> (A, B) {
    let thread = thread::spawn(one);
    let other = other();
    (thread.join().unwrap(), other)
}

#[test]
fn of_two_takes_of_the_last_unit_one_passes() {
    for limit in [quota(1), Rate::per_second(1).into()] {
        model("two takes, one handle", move || {
            let (store, counter) = (MemoryStore::new(), counter("ann"));
            let charge = held(&counter, &limit);
            let (there, mine) = (store.clone(), charge.clone());
            let (one, other) = both(
                move || takes(&there, &[mine], at(5)),
                || takes(&store, &[charge], at(5)),
            );
            assert!(one != other, "both passed, or none");
            assert_eq!(store.counters(), 1);
        });
    }
}

#[test]
fn a_yes_or_no_by_name_counts_with_a_handle() {
    for limit in [quota(1), Rate::per_second(1).into()] {
        model("a handle and a yes or no", move || {
            let (store, keyed) = (MemoryStore::new(), KeyedLimit::new(limit.clone()));
            let (there, charge) = (store.clone(), held(&counter("ann"), &limit));
            let (one, other) = both(
                move || takes(&there, &[charge], at(5)),
                || store.admit(raw("ann").as_bytes(), &keyed, at(5)),
            );
            assert!(one != other, "both passed, or none");
            assert_eq!(store.counters(), 1);
        });
    }
}

#[test]
fn three_ways_to_one_counter_count_together() {
    model("two handles and a name", || {
        let (store, limit) = (MemoryStore::new(), quota(2));
        let ways = [
            held(&counter("ann"), &limit),
            held(&counter("ann"), &limit),
            named("ann", &limit),
        ];
        let threads = ways.map(|charge| {
            let store = store.clone();
            thread::spawn(move || takes(&store, &[charge], at(5)))
        });
        let passed = threads.map(|thread| thread.join().unwrap());
        assert_eq!(passed.iter().filter(|passed| **passed).count(), 2);
        assert_eq!(store.used(raw("ann").as_bytes(), at(5)), 2);
        assert_eq!(store.counters(), 1);
    });
}

#[test]
fn what_is_held_is_not_swept_away() {
    model("hold and sweep", || {
        let (store, limit) = (MemoryStore::new(), quota(1));
        assert!(takes(&store, &[named("ann", &limit)], at(1)));
        // What ann used is over by now; the insertion of another name looks at all entries.
        let there = store.clone();
        let sweep = move || takes(&there, &[named("bob", &quota(1))], at(5));
        let ann = held(&counter("ann"), &limit);
        let (_, passed) = both(sweep, || takes(&store, &[ann.clone()], at(5)));
        assert!(passed);
        assert!(!takes(&store, &[named("ann", &limit)], at(5)));
        assert!(!takes(&store, &[ann], at(5)));
        assert_eq!(store.counters(), 2);
    });
}

#[test]
fn a_handle_that_goes_leaves_its_count() {
    model("drop and take and sweep", || {
        let (store, limit) = (MemoryStore::new(), quota(1));
        let ann = held(&counter("ann"), &limit);
        let (there, also_there) = (store.clone(), store.clone());
        let holder = thread::spawn(move || takes(&there, &[ann], at(5)));
        let sweeper = thread::spawn(move || takes(&also_there, &[named("bob", &quota(1))], at(5)));
        let mine = takes(&store, &[named("ann", &limit)], at(5));
        assert!(holder.join().unwrap() != mine);
        assert!(sweeper.join().unwrap());
        assert_eq!(store.used(raw("ann").as_bytes(), at(5)), 1);
        assert_eq!(store.counters(), 2);
    });
}

#[test]
fn a_unit_given_back_can_be_taken_once() {
    model("give back and two takes", || {
        let (store, limit) = (MemoryStore::new(), quota(1));
        let ann = held(&counter("ann"), &limit);
        assert!(takes(&store, &[ann.clone()], at(5)));
        let (there, theirs) = (store.clone(), ann.clone());
        let taker = thread::spawn(move || takes(&there, &[theirs], at(5)));
        let there = store.clone();
        let also = thread::spawn(move || takes(&there, &[named("ann", &quota(1))], at(5)));
        store.give_back(&[ann], at(5));
        let passed = [taker.join().unwrap(), also.join().unwrap()];
        assert!(passed != [true, true]);
        let passed = passed.iter().filter(|passed| **passed).count();
        assert_eq!(store.used(raw("ann").as_bytes(), at(5)), passed as u64);
    });
}

#[test]
fn a_reset_leaves_one_counter() {
    model("reset and hold and take", || {
        let (store, limit) = (MemoryStore::new(), quota(1));
        assert!(takes(&store, &[named("ann", &limit)], at(5)));
        let there = store.clone();
        let reset = move || there.forget(raw("ann").as_bytes());
        let ann = held(&counter("ann"), &limit);
        let (_, passed) = both(reset, || takes(&store, &[ann.clone()], at(5)));
        // By its handle or by its name: whatever came first, there is one count.
        let used = store.used(raw("ann").as_bytes(), at(5));
        assert!(used <= 1);
        assert!(!passed || used <= 1);
        let after = takes(&store, &[ann], at(5));
        assert_eq!(after, used == 0);
        assert!(!takes(&store, &[named("ann", &limit)], at(5)));
        assert_eq!(store.counters(), 1);
    });
}

#[test]
fn batches_in_opposite_orders_take_all_or_nothing() {
    model("opposite orders, held", || {
        let (store, limit) = (MemoryStore::new(), quota(1));
        let (ann, bob) = (held(&counter("ann"), &limit), held(&counter("bob"), &limit));
        let (there, theirs) = (store.clone(), [bob.clone(), ann.clone()]);
        let (one, other) = both(
            move || takes(&there, &theirs, at(5)),
            || takes(&store, &[ann, bob], at(5)),
        );
        assert!(one != other);
        assert_eq!(store.used(raw("ann").as_bytes(), at(5)), 1);
        assert_eq!(store.used(raw("bob").as_bytes(), at(5)), 1);
    });
    model("opposite orders, one of each named", || {
        let (store, limit) = (MemoryStore::new(), quota(1));
        let (ann, bob) = (held(&counter("ann"), &limit), held(&counter("bob"), &limit));
        let (there, theirs) = (store.clone(), [bob, named("ann", &limit)]);
        let (one, other) = both(
            move || takes(&there, &theirs, at(5)),
            || takes(&store, &[ann, named("bob", &limit)], at(5)),
        );
        assert!(one != other);
    });
}

/// The shortest way through the counters of a session, which tells where they stand.
#[test]
fn ready_charges_are_never_oversold() {
    model("two ready charges of two counters", || {
        let store = MemoryStore::new();
        let batch = || {
            let rate = Rate::per_second(1000).into(); // In slots.
            [
                held(&counter("rate"), &rate),
                held(&counter("quota"), &quota(2)),
            ]
        };
        let ready = Arc::new(ReadyCharges::new(batch()));
        assert!(store.try_admit(&ready, at(5)));
        let admits = |store: &MemoryStore, ready: &ReadyCharges| {
            let mut told = Vec::new();
            let tell = &mut |standing: &Standing| told.push(standing.remaining);
            let admitted = store.try_admit_told(ready, at(5), tell);
            assert_eq!(told.len(), if admitted { 2 } else { 0 });
            admitted
        };
        let (there, theirs) = (store.clone(), ready.clone());
        let (one, other) = both(move || admits(&there, &theirs), || admits(&store, &ready));
        assert!(one != other, "both passed, or none");
        assert_eq!(store.used(raw("rate").as_bytes(), at(5)), 2);
        assert_eq!(store.used(raw("quota").as_bytes(), at(5)), 2);
    });
}

#[test]
fn a_full_table_counts_too_much_and_never_too_little() {
    model("overflow", || {
        let store = MemoryOptions::new().max_counters(1).build();
        let limit = quota(1);
        assert!(takes(&store, &[named("ann", &limit)], at(5)));
        let there = store.clone();
        let bob = held(&counter("bob"), &limit);
        let (one, other) = both(
            move || takes(&there, &[named("bob", &quota(1))], at(5)),
            || takes(&store, &[bob], at(5)),
        );
        assert!(!(one && other), "one unit was taken twice");
        assert!(!takes(&store, &[named("ann", &limit)], at(5)));
    });
}

fn plan() -> Arc<Plan> {
    Arc::new(Plan::new(Rules::default(), PolicySet::default()))
}

#[test]
fn a_plan_has_one_pass_of_a_record() {
    model("passes of one plan", || {
        let plan = plan();
        let loaded = Arc::new(Loaded::new("ann", Session::default(), Version(1)));
        let (theirs, there) = (plan.clone(), loaded.clone());
        let (one, other) = both(
            move || theirs.pass(&there).unwrap(),
            || plan.pass(&loaded).unwrap(),
        );
        assert!(Arc::ptr_eq(&one, &other));
        assert!(Arc::ptr_eq(&one, &plan.pass(&loaded).unwrap()));
    });
    model("passes of two plans", || {
        let (plan, other_plan) = (plan(), plan());
        let loaded = Arc::new(Loaded::new("ann", Session::default(), Version(1)));
        let thread = |plan: &Arc<Plan>| {
            let (plan, loaded) = (plan.clone(), loaded.clone());
            thread::spawn(move || plan.pass(&loaded).unwrap())
        };
        let (one, other) = (thread(&other_plan), thread(&other_plan));
        let mine = plan.pass(&loaded).unwrap();
        let (one, other) = (one.join().unwrap(), other.join().unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &mine));
        assert!(Arc::ptr_eq(&mine, &plan.pass(&loaded).unwrap()));
        assert!(Arc::ptr_eq(&one, &other_plan.pass(&loaded).unwrap()));
    });
}
