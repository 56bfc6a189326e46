//! The table of counters in memory.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use tollgate_core::{
    clock::Clock,
    limits::{Algorithm, Limit, Period, Quota, Rate},
    store::{Charge, Counter, CounterName, KeyedLimit, MemoryStore, memory::MemoryOptions},
};

use super::{SECOND, clock, passes};

fn named(name: &str, limit: impl Into<Limit>) -> [Charge; 1] {
    [Charge::new(CounterName::of(&[name.as_bytes()]), limit)]
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

/// In a table that is as full as tables are, many entries stand far from their place.
#[test]
fn each_of_many_names_is_counted_by_itself() {
    let (store, limit) = (MemoryStore::new(), KeyedLimit::new(hour(2)));
    let now = clock().now();
    for expected in [true, true, false] {
        for name in 0..50_000_u32 {
            assert_eq!(store.admit(name.to_le_bytes(), &limit, now), expected);
        }
    }
    assert_eq!(store.counters(), 50_000);
    assert_eq!(store.used(7_u32.to_le_bytes(), now), 2);
}
