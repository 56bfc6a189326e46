//! The short ways of the memory store, beside the long one.

use std::time::Duration;

use proptest::prelude::*;
use tollgate_core::{
    Moment,
    clock::Clock,
    limits::{Algorithm, Limit, Period, Quota, Rate},
    store::{
        Charge, ChargeMode, Counter, CounterName, KeyedLimit, LimitStore, MemoryStore,
        ReadyCharges, Verdict, conformance::block_on,
    },
};

use super::{Minimal, SECOND, clock, passes};

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

#[test]
fn a_longer_window_that_is_refused_again_and_again_is_not_forgotten() {
    let (store, ann) = (MemoryStore::new(), Counter::new("ann"));
    let takes = |requests, window, cost: u64, at| {
        let rate = Rate::per(requests, Duration::from_millis(window));
        let mut charge = Charge::new(ann.clone(), rate);
        charge.cost = cost.try_into().unwrap();
        passes(
            &store,
            &[charge],
            clock().now().after(Duration::from_millis(at)),
        )
    };
    let short = |cost, at| takes(200, 1000, cost, at);
    let long = |at| takes(300, 1500, 1, at);
    assert!(short(199, 0) && long(10) && short(100, 1050));
    assert!(!long(1100), "full");
    assert!(!long(1450), "and told so without a look at the count");
    assert!(short(100, 1460) && short(200, 2620));
    assert!(!long(2700), "300 came since 1200");
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
    Admit(usize, usize),
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
        5 => (0..3_usize, 0..4_usize).prop_map(|(counter, limit)| Step::Admit(counter, limit)),
        1 => (0..3_usize, 0..4_usize).prop_map(|(counter, limit)| Step::GiveBack(counter, limit)),
        1 => (0..3_usize).prop_map(Step::Reset),
    ]
}

/// Whether the two count in slots of one counter that are wider than one of them needs. How long they stay so
/// is told exactly to those alone who look at the count each time, so times may differ by a slot.
fn is_of_other_width(one: &Limit, other: &Limit) -> bool {
    let sliding = |limit: &Limit| match limit {
        Limit::Rate(rate) if rate.algorithm == Algorithm::Sliding => Some(*rate),
        _ => None,
    };
    let (Some(one), Some(other)) = (sliding(one), sliding(other)) else {
        return false;
    };
    128 < one.requests.get().max(other.requests.get()) && one.window != other.window
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_short_ways_say_what_the_long_one_says(
        limits in prop::collection::vec(any_limit(), 4),
        steps in prop::collection::vec((any_step(), -20_i64..200), 1..80),
        named in any::<bool>(),
    ) {
        prop_assume!(!limits[..3].iter().any(|limit| is_of_other_width(limit, &limits[3])));
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
                Step::Admit(counter, limit) => {
                    let charge = charge(counter, if limit < 3 { counter } else { 3 });
                    let limit = KeyedLimit::new(charge.limit.clone());
                    let admits = fast.admit(charge.counter.name(), &limit, now);
                    let expected = block_on(slow.take(&[charge], now)).unwrap();
                    prop_assert_eq!(admits, matches!(expected, Verdict::Taken(_)));
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
