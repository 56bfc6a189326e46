//! The lease protocol: its two halves by hand, and worlds in which it goes wrong.
//!
//! The worlds are larger in release: `cargo test -p tollgate-core --all-features --release --test
//! lease -- --nocapture` prints what was offered, admitted and allowed.
#![cfg(feature = "test-util")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are tests"
)]

use std::num::NonZeroU64;

use proptest::prelude::*;
use smallvec::SmallVec;
use tollgate_core::lease::{
    Ask, Epoch, Grant, HolderTerms, LeaseHolder, LeaseId, LeaseMode, LeaseRecord, LeaseSpan,
    LeaseTake, LeaseTerms, NodeId, Settle, Spent, chunk,
    simulation::{Report, Scenario, Span, run},
};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;

fn epochs(limit: u64, ends_nanos: u64) -> LeaseTerms {
    LeaseTerms {
        limit: NonZeroU64::new(limit).unwrap(),
        span: LeaseSpan::Epoch { ends_nanos },
        ttl_nanos: SECOND,
    }
}

fn sliding(limit: u64) -> LeaseTerms {
    LeaseTerms {
        limit: NonZeroU64::new(limit).unwrap(),
        span: LeaseSpan::Sliding {
            window_nanos: 10 * SECOND,
            dilation_nanos: SECOND,
        },
        ttl_nanos: SECOND,
    }
}

fn lease(node: u64, serial: u64) -> LeaseId {
    let node = NodeId(node);
    LeaseId { node, serial }
}

fn ask(node: u64, serial: u64, want: u64) -> Ask {
    Ask {
        lease: lease(node, serial),
        want,
        least: want,
        epoch: Epoch::default(),
        granted: 0,
        alone: 0,
        settles: Default::default(),
    }
}

// The record.

#[test]
fn a_record_grants_no_more_than_its_limit() {
    let (mut record, terms) = (LeaseRecord::new(), epochs(10, 100));
    assert_eq!(record.acquire(&terms, &ask(1, 0, 7), 50).granted, 7);
    let last = record.acquire(&terms, &ask(2, 0, 7), 60);
    assert_eq!((last.granted, last.used, last.holders), (3, 10, 2));
    assert_eq!((last.ends_in_nanos, last.retry_in_nanos), (40, 40));
    assert_eq!(record.acquire(&terms, &ask(1, 1, 1), 99).granted, 0);
    let next = record.acquire(&epochs(10, 200), &ask(1, 2, 1), 100);
    assert_eq!((next.granted, next.epoch), (1, Epoch(100)));
}

#[test]
fn asked_again_a_lease_is_answered_as_it_was() {
    let (mut record, terms) = (LeaseRecord::new(), epochs(10, SECOND));
    let first = record.acquire(&terms, &ask(1, 0, 7), 50);
    assert_eq!(record.acquire(&terms, &ask(1, 0, 7), 60), first);
    assert_eq!(record.used(60), 7);
}

#[test]
fn units_come_back_once_and_in_their_epoch() {
    let (mut record, terms) = (LeaseRecord::new(), epochs(10, 100));
    let grant = record.acquire(&terms, &ask(1, 0, 7), 50);
    let settle = Settle {
        lease: grant.lease,
        epoch: grant.epoch,
        unused: 4,
        used: SmallVec::new(),
    };
    let other = Settle {
        epoch: Epoch(1),
        ..settle.clone()
    };
    assert_eq!(record.settle(&other, 60), 0);
    assert_eq!(record.settle(&settle, 60), 4);
    assert_eq!(record.settle(&settle, 60), 0);
    assert_eq!(record.used(60), 3);
    let late = record.acquire(&terms, &ask(1, 1, 7), 60);
    let settle = Settle {
        lease: late.lease,
        ..settle
    };
    assert_eq!(record.settle(&settle, 100), 0, "the epoch is over");
}

#[test]
fn a_grant_the_record_forgot_is_counted_when_its_node_asks() {
    let (mut record, terms) = (LeaseRecord::new(), epochs(100, SECOND));
    let first = record.acquire(&terms, &ask(1, 0, 10), 1);
    let copy = record.clone();
    record.acquire(&terms, &ask(1, 1, 30), 2);
    let mut record = copy;
    let told = Ask {
        epoch: first.epoch,
        granted: 40,
        ..ask(1, 2, 5)
    };
    assert_eq!(record.acquire(&terms, &told, 3).used, 45);
    let of_another_epoch = Ask {
        epoch: Epoch(first.epoch.0 + 1),
        granted: 90,
        ..ask(1, 3, 5)
    };
    assert_eq!(record.acquire(&terms, &of_another_epoch, 4).used, 50);
}

#[test]
fn what_was_admitted_alone_is_counted_as_far_as_it_fits() {
    let (mut record, terms) = (LeaseRecord::new(), epochs(100, SECOND));
    let told = Ask {
        alone: 60,
        ..ask(1, 0, 5)
    };
    assert_eq!(record.acquire(&terms, &told, 1).used, 65);
    assert_eq!(
        record.acquire(&terms, &told, 1).used,
        65,
        "the same question"
    );
    let told = Ask {
        alone: 60,
        ..ask(2, 0, 5)
    };
    let grant = record.acquire(&terms, &told, 2);
    assert_eq!((grant.used, grant.granted), (100, 0));
}

#[test]
fn a_clock_set_back_does_not_end_or_lengthen_an_epoch() {
    let (mut record, terms) = (LeaseRecord::new(), epochs(10, 100));
    record.acquire(&terms, &ask(1, 0, 1), 90);
    let grant = record.acquire(&terms, &ask(1, 1, 1), 20);
    assert_eq!((grant.ends_in_nanos, grant.used), (10, 2));
}

#[test]
fn a_changed_limit_keeps_the_count() {
    let mut record = LeaseRecord::new();
    record.acquire(&epochs(10, SECOND), &ask(1, 0, 10), 1);
    assert_eq!(
        record.acquire(&epochs(5, SECOND), &ask(1, 1, 1), 2).granted,
        0
    );
    assert_eq!(
        record
            .acquire(&epochs(12, SECOND), &ask(1, 2, 9), 3)
            .granted,
        2
    );
}

#[test]
fn a_window_grants_its_limit_each_window_and_dilation() {
    for limit in [100, 1000] {
        let (mut record, terms) = (LeaseRecord::new(), sliding(limit));
        let grant = record.acquire(&terms, &ask(1, 0, 2 * limit), 50 * SECOND);
        assert_eq!((grant.granted, grant.ends_in_nanos), (limit, SECOND));
        assert!(10 * SECOND < grant.retry_in_nanos);
        let early = record.acquire(&terms, &ask(1, 1, 1), 60 * SECOND + SECOND / 2);
        assert_eq!(early.granted, 0);
        // Slots are up to a 63rd of the window late.
        let later = record.acquire(&terms, &ask(1, 2, 1), 61 * SECOND + SECOND / 2);
        assert_eq!(later.granted, 1);
        let settle = Settle {
            lease: later.lease,
            epoch: later.epoch,
            unused: 1,
            used: SmallVec::new(),
        };
        assert_eq!(record.settle(&settle, 62 * SECOND), 1);
        assert_eq!(record.used(62 * SECOND), 0);
        assert!(record.is_over(90 * SECOND));
    }
}

#[test]
fn a_record_remembers_a_bounded_number_of_leases_and_nodes() {
    let (mut record, terms) = (LeaseRecord::new(), epochs(u64::MAX, u64::MAX));
    let all = LeaseRecord::MOST as u64 + 10;
    for node in 0..all {
        record.acquire(&terms, &ask(node, 0, 1), node);
    }
    assert_eq!(record.answer(lease(9, 0)), None);
    assert!(record.answer(lease(11, 0)).is_some());
    assert_eq!(record.used(all), all);
    assert!(record.holders(&terms, all) <= LeaseRecord::MOST as u64);
}

#[test]
fn a_record_gives_a_node_its_part_and_a_large_request_what_it_needs() {
    let (mut record, terms) = (LeaseRecord::new(), epochs(100, SECOND));
    record.acquire(&terms, &ask(2, 0, 20), 1);
    let many = Ask {
        least: 1,
        ..ask(1, 0, 60)
    };
    assert_eq!(
        record.acquire(&terms, &many, 1).granted,
        20,
        "80 by twice two"
    );
    let large = Ask {
        least: 40,
        ..ask(1, 1, 60)
    };
    assert_eq!(record.acquire(&terms, &large, 1).granted, 40);
}

// The holder.

const HERE: HolderTerms = HolderTerms {
    limit: NonZeroU64::new(100).unwrap(),
    horizon_nanos: SECOND,
    period_nanos: 60 * SECOND,
    grain_nanos: 0,
};

fn grant(lease: LeaseId, epoch: u64, granted: u64) -> Grant {
    Grant {
        lease,
        epoch: Epoch(epoch),
        granted,
        ends_in_nanos: 2 * SECOND,
        ttl_nanos: SECOND,
        used: granted,
        holders: 1,
        retry_in_nanos: 0,
    }
}

/// A holder that was granted so many units by a question of the first second.
fn holder(granted: u64) -> LeaseHolder {
    let mut holder = LeaseHolder::new(NodeId(1));
    let asked = holder.ask(SECOND, granted).unwrap();
    assert!(holder.granted(&HERE, &grant(asked.lease, 5, granted), SECOND + MILLI));
    holder
}

fn is_taken(holder: &mut LeaseHolder, now: u64) -> bool {
    matches!(holder.take(&HERE, now, 1), LeaseTake::Taken { .. })
}

#[test]
fn a_lifetime_is_short_of_what_is_left() {
    let whole = grant(lease(1, 0), 5, 1);
    assert_eq!(whole.lifetime_nanos(), SECOND - SECOND / 2000 - 1);
    let short = Grant {
        ends_in_nanos: 1,
        ..whole
    };
    assert_eq!(short.lifetime_nanos(), 0);
}

#[test]
fn units_are_void_a_lifetime_after_the_question_not_the_answer() {
    let void = SECOND + grant(lease(1, 0), 5, 1).lifetime_nanos();
    assert!(is_taken(&mut holder(5), void - 1));
    let mut late = holder(5);
    assert!(!is_taken(&mut late, void));
    assert_eq!(late.tokens(void), 0);
    let asked = late.ask(void, 1).unwrap();
    assert_eq!(asked.settles[0].unused, 5, "what is void comes back");
    assert_eq!((asked.epoch, asked.granted), (Epoch(5), 5));
}

#[test]
fn an_answer_counts_once_and_only_while_it_is_waited_for() {
    let mut holder = LeaseHolder::new(NodeId(1));
    let asked = holder.ask(SECOND, 5).unwrap();
    assert_eq!(holder.ask(SECOND, 5), None, "one at a time");
    assert_eq!(holder.ask_again().unwrap(), asked);
    let answer = grant(asked.lease, 5, 5);
    assert!(holder.granted(&HERE, &answer, SECOND + 1));
    assert!(!holder.granted(&HERE, &answer, SECOND + 2));
    assert_eq!(holder.tokens(SECOND + 2), 5);
    let asked = holder.ask(SECOND + 3, 5).unwrap();
    holder.abandon();
    assert!(!holder.granted(&HERE, &grant(asked.lease, 5, 5), SECOND + 4));
    assert_eq!(holder.tokens(SECOND + 4), 5);
}

#[test]
fn units_of_an_old_epoch_go_with_it() {
    let mut holder = holder(5);
    let asked = holder.ask(SECOND + 2 * MILLI, 3).unwrap();
    assert!(holder.granted(&HERE, &grant(asked.lease, 6, 3), SECOND + 3 * MILLI));
    assert_eq!(
        (holder.tokens(SECOND + 3 * MILLI), holder.epoch()),
        (3, Epoch(6))
    );
    let asked = holder.ask(SECOND + 4 * MILLI, 3).unwrap();
    assert_eq!(asked.granted, 3);
    assert!(!holder.granted(&HERE, &grant(asked.lease, 5, 9), SECOND + 5 * MILLI));
    assert_eq!(holder.tokens(SECOND + 5 * MILLI), 3);
}

#[test]
fn what_is_sent_back_is_gone_first() {
    let mut holder = holder(5);
    assert!(is_taken(&mut holder, SECOND + 2 * MILLI));
    let settles = holder.settle(SECOND + 2 * MILLI);
    assert_eq!((settles.len(), settles[0].unused), (1, 4));
    assert_eq!(holder.tokens(SECOND + 2 * MILLI), 0);
    assert_eq!(
        holder.settle(SECOND + 2 * MILLI),
        settles,
        "until the record has them"
    );
    holder.settled(settles[0].lease);
    assert!(holder.settle(SECOND + 2 * MILLI).is_empty());
}

#[test]
fn a_unit_goes_back_into_its_own_chunk_alone() {
    let mut holder = holder(1);
    let LeaseTake::Taken { spent, .. } = holder.take(&HERE, SECOND + 2 * MILLI, 1) else {
        panic!("a unit is there");
    };
    holder.give_back(&spent);
    holder.give_back(&spent);
    assert_eq!(holder.tokens(SECOND + 2 * MILLI), 1);
    let void = SECOND + grant(lease(1, 0), 5, 1).lifetime_nanos();
    assert!(!is_taken(&mut holder, void));
    holder.give_back(&spent);
    assert_eq!(holder.tokens(void), 0);
}

/// The same, where the record is told of each ten milliseconds.
const TOLD: HolderTerms = HolderTerms {
    grain_nanos: 10 * MILLI,
    ..HERE
};

/// Takes a unit of the first second, `millis` after it.
fn used_after(holder: &mut LeaseHolder, millis: u64) -> SmallVec<[Spent; 2]> {
    match holder.take(&TOLD, SECOND + millis * MILLI, 1) {
        LeaseTake::Taken { spent, .. } => spent,
        other => panic!("{other:?}"),
    }
}

/// What is told `millis` after the first second of a chunk that was used up: units, and how long ago.
#[track_caller]
fn check_told(holder: &mut LeaseHolder, millis: u64, expected: &[(u64, u64)]) {
    holder.let_go_of_used();
    let asked = holder.ask(SECOND + millis * MILLI, 1).unwrap();
    let [told] = &asked.settles[..] else {
        panic!("one chunk");
    };
    assert_eq!((told.lease, told.unused), (lease(1, 0), 0));
    let used: Vec<_> = told
        .used
        .iter()
        .map(|used| (used.units, used.idle_nanos))
        .collect();
    // Shorter by the drift of clocks, so that none is told earlier than it was.
    let expected = expected.iter().map(|(units, millis)| {
        let idle = millis * MILLI;
        (*units, idle - idle / 2000 - 1)
    });
    assert_eq!(used, expected.collect::<Vec<_>>());
}

#[test]
fn a_chunk_that_is_used_up_tells_when() {
    let mut holder = holder(4);
    for millis in [2, 9, 12, 30] {
        used_after(&mut holder, millis);
    }
    check_told(&mut holder, 50, &[(2, 41), (1, 38), (1, 20)]);
}

#[test]
fn a_unit_that_came_back_makes_no_other_look_older() {
    let mut holder = holder(2);
    let first = used_after(&mut holder, 2);
    used_after(&mut holder, 20);
    holder.give_back(&first);
    used_after(&mut holder, 40);
    check_told(&mut holder, 50, &[(1, 30), (1, 10)]);
    holder.give_back(&first);
    assert_eq!(holder.tokens(SECOND + 50 * MILLI), 0, "it is told as used");
}

#[test]
fn a_chunk_tells_a_bounded_number_of_moments() {
    let mut holder = holder(100);
    for millis in 2..102 {
        let terms = HolderTerms {
            grain_nanos: 1,
            ..HERE
        };
        let take = holder.take(&terms, SECOND + millis * MILLI, 1);
        assert!(matches!(take, LeaseTake::Taken { .. }));
    }
    holder.let_go_of_used();
    let asked = holder.ask(SECOND + 102 * MILLI, 1).unwrap();
    let used = &asked.settles[0].used;
    assert_eq!((used.len(), used[31].units), (32, 69));
    assert!(used[31].idle_nanos <= MILLI, "the last of them counts");
}

#[test]
fn a_refusal_is_believed_no_longer_than_a_horizon() {
    let mut holder = LeaseHolder::new(NodeId(1));
    let asked = holder.ask(SECOND, 5).unwrap();
    let none = Grant {
        retry_in_nanos: 30 * SECOND,
        ..grant(asked.lease, 5, 0)
    };
    assert!(holder.granted(&HERE, &none, SECOND + MILLI));
    let refused = holder.take(&HERE, 2 * SECOND - 1, 1);
    let retry_in_nanos = 29 * SECOND + 1;
    assert_eq!(refused, LeaseTake::Refused { retry_in_nanos });
    let again = holder.take(&HERE, 2 * SECOND, 1);
    assert!(matches!(again, LeaseTake::NeedMore { .. }));
}

#[test]
fn a_holder_asks_before_it_runs_dry() {
    let mut holder = holder(40); // The answer took a millisecond.
    let mut refills = Vec::new();
    for request in 0..40 {
        let now = SECOND + 2 * MILLI + request * 100_000;
        match holder.take(&HERE, now, 1) {
            LeaseTake::Taken {
                refill: Some(_), ..
            } => refills.push(request),
            LeaseTake::Taken { refill: None, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    // 40 requests a horizon of a second: two answers' time is worth less than a unit.
    assert_eq!(refills, [39]);
}

#[test]
fn alone_a_node_has_its_share_of_each_period() {
    let mut holder = LeaseHolder::new(NodeId(1));
    let asked = holder.ask(SECOND, 2).unwrap();
    let of_four = Grant {
        holders: 4,
        ..grant(asked.lease, 5, 2)
    };
    assert!(holder.granted(&HERE, &of_four, SECOND + MILLI));
    let admitted = |holder: &mut LeaseHolder, from| {
        let takes = (0..100).map(|_| holder.take_alone(&HERE, from, 1));
        takes
            .filter(|take| matches!(take, LeaseTake::Taken { .. }))
            .count()
    };
    assert_eq!(
        admitted(&mut holder, SECOND + 2 * MILLI),
        27,
        "what it held, and 25"
    );
    assert_eq!(holder.ask(3 * SECOND, 1).unwrap().alone, 25);
    holder.abandon();
    assert_eq!(admitted(&mut holder, 70 * SECOND), 25);
    let asked = holder.ask(71 * SECOND, 1).unwrap();
    assert_eq!(asked.alone, 50, "this period and the last");
    assert!(holder.granted(&HERE, &grant(asked.lease, 5, 1), 71 * SECOND + 1));
    assert_eq!(holder.ask(71 * SECOND + 2, 1).unwrap().alone, 0);
}

#[test]
fn a_chunk_is_a_part_of_what_is_left() {
    for (demand, remaining, holders, expected) in [
        (10, 1000, 4, 10),
        (1000, 1000, 4, 125),
        (1000, 8, 4, 1),
        (1000, 0, 4, 1),
        (0, 1000, 4, 1),
        (1000, 1000, 0, 500),
    ] {
        assert_eq!(
            chunk(demand, remaining, holders),
            expected,
            "{demand} of {remaining}"
        );
    }
}

#[test]
fn small_limits_short_periods_and_idle_nodes_are_exact() {
    let mode = |limit, period, holders, rate| LeaseMode::choose(limit, period, holders, rate);
    assert_eq!(mode(31, SECOND, 4, 10.0), LeaseMode::Exact);
    assert_eq!(mode(32, SECOND, 4, 10.0), LeaseMode::Leased);
    assert_eq!(mode(32, 200 * MILLI - 1, 4, 10.0), LeaseMode::Exact);
    assert_eq!(mode(32, 200 * MILLI, 4, 10.0), LeaseMode::Leased);
    assert_eq!(mode(32, SECOND, 4, 0.99), LeaseMode::Exact);
}

// Worlds.

/// How many seeds are tried; fewer in a debug build.
const SEEDS: u64 = if cfg!(debug_assertions) { 4 } else { 100 };

#[track_caller]
fn play(name: &str, scenario: &Scenario) -> Report {
    let report = run(scenario).unwrap_or_else(|broken| panic!("{name}: {broken}: {scenario:?}"));
    println!(
        "{name}: seed {}, offered {}, admitted {}, limit {}, most {}, mean {:.3}, false refusals {}, \
         questions {}, crashed {}, forgotten {}, steps {}",
        scenario.seed,
        report.offered,
        report.admitted,
        scenario.limit,
        report.most,
        report.use_of(scenario.limit),
        report.false_refusals,
        report.questions,
        report.crashed,
        report.forgotten,
        report.steps,
    );
    report
}

#[test]
fn in_a_calm_world_nearly_all_is_used() {
    for seed in 0..SEEDS {
        for span in [Span::Every, Span::Aligned] {
            let scenario = Scenario {
                span,
                ..Scenario::calm(seed)
            };
            let report = play("calm", &scenario);
            assert!(!report.epochs.is_empty());
            assert!(0.95 <= report.use_of(scenario.limit), "seed {seed}");
        }
    }
}

#[test]
fn in_a_storm_the_limit_holds() {
    for seed in 0..SEEDS {
        for span in [Span::Every, Span::Aligned] {
            let scenario = Scenario {
                span,
                ..Scenario::stormy(seed)
            };
            let report = play("storm", &scenario);
            assert!(report.most <= scenario.limit);
        }
    }
}

#[test]
fn what_a_store_forgets_is_the_most_that_is_exceeded() {
    let mut exceeded = 0;
    // Under 58 a settlement is forgotten and then arrives once more.
    for seed in (0..SEEDS).chain([58]) {
        let scenario = Scenario {
            fail_overs: 5_000,
            lost_writes: 5,
            ..Scenario::stormy(seed)
        };
        let report = play("fail-over", &scenario);
        assert!(report.most <= scenario.limit + report.forgotten);
        exceeded += u64::from(scenario.limit < report.most);
    }
    println!("fail-over: {exceeded} of {SEEDS} worlds went above the limit");
}

fn windows(seed: u64, span: Span) -> Scenario {
    Scenario {
        span,
        skew: 1,
        ttl_nanos: 100 * MILLI,
        offered: 3000,
        ..Scenario::calm(seed)
    }
}

#[test]
fn with_the_dilation_no_window_is_exceeded() {
    for seed in 0..SEEDS / 4 {
        for dilation_nanos in [20 * MILLI, 50 * MILLI, 100 * MILLI] {
            let scenario = windows(seed, Span::Sliding { dilation_nanos });
            let report = play("window", &scenario);
            assert!(report.most <= scenario.limit);
            // The limit each window and dilation, less a slot.
            let whole =
                scenario.lasts_nanos as f64 / (scenario.period_nanos + dilation_nanos) as f64;
            let least = 0.93 * whole * scenario.limit as f64;
            assert!(
                least <= report.admitted as f64,
                "seed {seed}: {}",
                report.admitted
            );
            let stormy = Scenario {
                loss: 50,
                doubled: 50,
                crashes: 100,
                delay_nanos: (MILLI / 4, 10 * MILLI),
                ..scenario
            };
            assert!(play("window, storm", &stormy).most <= stormy.limit);
        }
    }
}

#[test]
fn without_the_dilation_windows_are_exceeded() {
    let dilation_nanos = 100 * MILLI;
    let mut exceeded = 0;
    for seed in 0..SEEDS {
        let broken = run(&windows(seed, Span::Undilated { dilation_nanos }));
        exceeded += u64::from(broken.is_err());
    }
    println!("without the dilation: {exceeded} of {SEEDS} worlds went above the limit");
    let broken = run(&windows(1, Span::Undilated { dilation_nanos })).unwrap_err();
    assert_eq!(broken.what, "a window holds 1001 admissions");
}

#[test]
fn a_clock_that_drifts_more_than_is_allowed_for_uses_units_late() {
    let drifting = |drift| Scenario {
        drift,
        ttl_nanos: 1000 * MILLI,
        offered: 600, // So that units are left when the epoch ends.
        ..Scenario::calm(1)
    };
    play("drift", &drifting(500));
    let broken = run(&drifting(50_000)).unwrap_err();
    assert!(broken.what.contains("used at"), "{broken}");
}

#[test]
fn sixteen_nodes_and_a_million_requests() {
    let requests: u64 = if cfg!(debug_assertions) {
        50_000
    } else {
        1_000_000
    };
    let scenario = Scenario {
        nodes: 16,
        limit: 10_000,
        skew: 3,
        lasts_nanos: SECOND * (requests / 20_000),
        offered: 20_000,
        ttl_nanos: 50 * MILLI, // A slow node holds a chunk for as long, while others are refused.
        ..Scenario::calm(7)
    };
    let report = play("sixteen nodes", &scenario);
    assert!(0.95 <= report.use_of(scenario.limit));
    let stormy = Scenario {
        loss: 50,
        doubled: 50,
        crashes: 20,
        fail_overs: 500,
        lost_writes: 3,
        delay_nanos: (MILLI / 4, 10 * MILLI),
        ..scenario
    };
    let report = play("sixteen nodes, storm", &stormy);
    assert!(report.most <= stormy.limit + report.forgotten);
}

fn worlds() -> impl Strategy<Value = Scenario> {
    let span = prop_oneof![
        Just(Span::Every),
        Just(Span::Aligned),
        (1..200u64).prop_map(|millis| Span::Sliding {
            dilation_nanos: millis * MILLI
        }),
    ];
    let size = (any::<u64>(), 1..12u64, 1..2000u64, span, 0..4u64);
    let times = (100..2000u64, 1..4000u64, 1..1500u64, 0..50u64);
    let faults = (
        0..300u64,
        0..300u64,
        0..5000u64,
        0..30_000u64,
        0..8usize,
        0..=500u64,
    );
    (size, times, faults).prop_map(
        |(
            (seed, nodes, limit, span, skew),
            (period, offered, ttl, delay),
            (loss, doubled, crashes, fail_overs, lost_writes, drift),
        )| Scenario {
            seed,
            nodes,
            limit,
            span,
            period_nanos: period * MILLI,
            lasts_nanos: 4 * period * MILLI,
            offered,
            skew,
            ttl_nanos: ttl * MILLI,
            delay_nanos: (MILLI / 10, MILLI / 10 + delay * MILLI),
            loss,
            doubled,
            crashes,
            fail_overs,
            lost_writes,
            drift,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 2000 }))]

    #[test]
    fn in_any_world_no_more_is_admitted_than_promised(scenario in worlds()) {
        if let Err(broken) = run(&scenario) {
            prop_assert!(false, "{}", broken);
        }
    }
}
