//! The suite that every store passes.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::time::Duration;

use tollgate_core::{
    Clock, ManualClock,
    limits::{Limit, Period, Quota, Rate},
    store::{
        Charge, Counter, LimitStore, MemoryStore, ReadyCharges, Standing, Verdict, conformance,
    },
};
use tollgate_embedded::{Durability, EmbeddedOptions};

#[test]
fn it_is_a_store() {
    for durability in [Durability::Synced, Durability::Written] {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(1_700_000_000);
        let store = EmbeddedOptions::new(folder.path().join("store.redb"))
            .durability(durability)
            .clock(clock.clone())
            .open()
            .unwrap();
        conformance::block_on(conformance::sessions(&store, &clock));
        conformance::block_on(conformance::limits(&store, &clock));
    }
}

/// A rate and a quota of a key.
fn limits_of_a_key() -> ReadyCharges {
    let rate = Limit::from(Rate::per(100, Duration::from_secs(1)));
    let quota = Quota::per(250, Period::Every(Duration::from_secs(3600))).into();
    let charges = [("rate", rate), ("quota", quota)];
    let charge = |(name, limit)| Charge::new(Counter::new(name), limit);
    ReadyCharges::new(charges.map(charge))
}

#[test]
fn what_it_tells_at_once_is_what_a_verdict_tells() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_700_000_000);
    let options = EmbeddedOptions::new(folder.path().join("store.redb"));
    let store = options.clock(clock.clone()).open().unwrap();
    let memory = MemoryStore::new();
    let (ready, expected) = (limits_of_a_key(), limits_of_a_key());
    let mut told_at_once = 0;
    for _ in 0..300 {
        let now = clock.now();
        let mut told: Vec<Standing> = Vec::new();
        let is_admitted = store.try_admit_told(&ready, now, &mut |standing| told.push(*standing));
        let expected = memory.try_take_ready(&expected, now).unwrap();
        if is_admitted {
            let Verdict::Taken(taken) = &expected else {
                panic!("{expected:?} after {told_at_once}");
            };
            assert_eq!(told[..], taken.standings[..]);
            told_at_once += 1;
        } else {
            assert!(told.is_empty());
            let verdict = conformance::block_on(store.take(ready.charges(), now)).unwrap();
            assert_eq!(verdict, expected);
        }
        clock.advance(Duration::from_millis(20));
    }
    assert!(100 < told_at_once, "{told_at_once}");
}
