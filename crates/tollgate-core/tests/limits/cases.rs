//! The cases of the specification that one process decides; the numbers are its.

use super::*;

#[test]
fn case_6_a_window_slides() {
    check(
        rate(2.0, 2.0),
        &[
            (0.0, true),
            (1.9, true),
            (1.95, false),
            (2.05, true),
            (2.1, false),
            (2.15, false),
        ],
    );
    let bucket = rate(2.0, 2.0).with_algorithm(Algorithm::Bucket);
    check(
        bucket,
        &[
            (0.0, true),
            (1.9, true),
            (1.95, false),
            (2.05, true),
            (2.1, true),
            (2.15, false),
        ],
    );
}

#[test]
fn case_7_half_a_request_a_second_is_one_in_two() {
    for algorithm in ALGORITHMS {
        let rate = rate(0.5, 1.0).with_algorithm(algorithm);
        check(
            rate,
            &[
                (0.0, true),
                (0.5, false),
                (1.1, false),
                (1.999, false),
                (2.0, true),
            ],
        );
    }
}

#[test]
fn case_8_a_window_may_be_shorter_than_a_second() {
    let times = [0.0, 0.0, 0.1, 0.2, 0.3, 0.4, 0.499, 0.5, 0.5, 0.55];
    let passes = [
        true, true, true, true, true, false, false, true, true, false,
    ];
    let requests: Vec<_> = times.into_iter().zip(passes).collect();
    check(rate(5.0, 0.5), &requests);
}

#[test]
fn case_9_a_window_keeps_its_fraction() {
    check(
        rate(2.0, 1.9),
        &[
            (0.0, true),
            (0.0, true),
            (1.05, false),
            (1.899_999, false),
            (1.9, true),
        ],
    );
}

#[test]
fn cases_10_and_11_tell_when_one_more_would_pass() {
    let bed = Bed::new(rate(3.0, 10.0));
    let standings = [0.0, 1.0, 2.0, 3.0].map(|time| {
        let standing = bed.standing(after(time));
        (
            standing.remaining,
            standing.retry_in.as_secs(),
            standing.exceeded,
        )
    });
    assert_eq!(
        standings,
        [(2, 0, false), (1, 0, false), (0, 8, false), (0, 7, true)]
    );
    check(rate(2.0, 60.0), &[(0.0, true), (0.0, true), (0.0, false)]);
}

#[test]
fn case_12_refused_requests_do_not_count() {
    let passing = [0, 1, 10, 11, 20, 21, 30];
    let requests: Vec<_> = (0..=30)
        .map(|second| (f64::from(second), passing.contains(&second)))
        .collect();
    check(rate(2.0, 10.0), &requests);
}

#[test]
fn case_13_a_request_as_old_as_the_window_is_gone() {
    check(
        rate(1.0, 10.0),
        &[(0.0, true), (9.999_999, false), (10.0, true)],
    );
}

fn fixed(requests: f64, per: f64) -> Bed {
    Bed::new(rate(requests, per).with_algorithm(Algorithm::FixedWindow))
}

#[test]
fn case_17_fixed_windows_lie_side_by_side() {
    let bed = fixed(2.0, 10.0);
    let times = [1.0, 1.5, 1.9, 10.0].map(|time| bed.passes(at(1_700_000_000.0 + time)));
    assert_eq!(times, [true, true, false, true]);
}

#[test]
fn case_18_fixed_windows_are_counted_from_the_year_1() {
    let ends = |per, seconds: f64| {
        let resets_in = fixed(9.0, per).standing(at(seconds)).resets_in.unwrap();
        seconds as u64 + resets_in.as_secs()
    };
    assert_eq!(ends(7.0, 1_700_000_009.0), 1_700_000_004 + 7);
    assert_eq!(ends(604_800.0, 1_700_000_009.0), 1_699_833_600 + 604_800);
}

#[test]
fn case_19_across_an_edge_fixed_windows_admit_twice_and_sliding_ones_do_not() {
    let times = [9.9, 9.9, 10.0, 10.0].map(|time| at(1_700_000_000.0 + time));
    assert_eq!(times.map(|now| fixed(2.0, 10.0).passes(now)), [true; 4]);
    let bed = fixed(2.0, 10.0);
    assert_eq!(times.map(|now| bed.passes(now)), [true; 4]);
    let bed = Bed::new(rate(2.0, 10.0));
    assert_eq!(times.map(|now| bed.passes(now)), [true, true, false, false]);
}

/// Requests at the times given wait so long, or are refused.
#[track_caller]
fn waits(rate: Rate, patience: Duration, requests: &[(f64, Option<f64>)]) {
    let mut bed = Bed::new(rate);
    bed.charge[0].patience = patience;
    let got: Vec<_> = requests
        .iter()
        .map(|(time, _)| match bed.verdict(after(*time)) {
            Verdict::Taken(taken) => (*time, Some(taken.wait.as_secs_f64())),
            Verdict::Refused(_) => (*time, None),
        })
        .collect();
    assert_eq!(got, requests);
}

#[test]
fn case_49_a_throttled_request_waits_for_its_turn() {
    for algorithm in [Algorithm::Sliding, Algorithm::Bucket, Algorithm::Gcra] {
        let rate = rate(1.0, 2.0).with_algorithm(algorithm);
        // The third queues behind the second; the fourth would wait too long.
        waits(
            rate,
            3 * SECOND,
            &[
                (0.0, Some(0.0)),
                (0.5, Some(1.5)),
                (1.0, Some(3.0)),
                (1.5, None),
                (3.0, Some(3.0)),
            ],
        );
    }
    waits(
        rate(200.0, 1.0),
        SECOND,
        &[(0.0, Some(0.0)), (0.5, Some(0.0))],
    );
}

#[test]
fn case_50_without_patience_none_waits() {
    waits(
        rate(1.0, 2.0),
        Duration::ZERO,
        &[(0.0, Some(0.0)), (0.5, None), (2.0, Some(0.0))],
    );
}

#[test]
fn case_51_who_would_wait_too_long_is_refused_at_once() {
    waits(
        rate(1.0, 60.0),
        2 * SECOND,
        &[(0.0, Some(0.0)), (0.0, None), (58.0, Some(2.0))],
    );
}

#[test]
fn case_52_a_throttled_request_costs_one_unit_of_quota() {
    let quota = Quota::per(10, Period::Every(3600 * SECOND));
    let mut throttled = Charge::new(Counter::new("rate"), rate(1.0, 2.0));
    throttled.patience = 3 * SECOND;
    let batch = [throttled, Charge::new(Counter::new("quota"), quota)];
    let store = MemoryStore::new();
    for (time, wait) in [(0.0, 0.0), (0.5, 1.5)] {
        let Some(Verdict::Taken(taken)) = store.try_take(&batch, after(time)) else {
            panic!("refused at {time}");
        };
        assert_eq!(taken.wait.as_secs_f64(), wait);
        assert_eq!(taken.at, after(time + wait));
    }
    assert_eq!(store.used("quota", after(0.6)), 2);
    assert_eq!(store.used("quota", after(9.0)), 2);
}

#[test]
fn case_54_a_reservation_can_be_let_go() {
    for algorithm in ALGORITHMS {
        let mut bed = Bed::new(rate(1.0, 2.0).with_algorithm(algorithm));
        bed.charge[0].patience = 9 * SECOND;
        bed.passes(after(0.0));
        let Verdict::Taken(second) = bed.verdict(after(0.5)) else {
            panic!("it waits");
        };
        bed.store.give_back(&bed.charge, second.at);
        let Verdict::Taken(third) = bed.verdict(after(0.5)) else {
            panic!("it waits");
        };
        assert_eq!(third.at, second.at, "{algorithm:?}: the turn is free again");
    }
}

#[test]
fn no_more_than_a_hundred_wait_at_one_counter() {
    for requests in [1.0, 1000.0] {
        let mut bed = Bed::new(rate(requests, 1.0));
        bed.charge[0].patience = 3600 * SECOND;
        let waiting = (0..3000)
            .filter(|_| {
                matches!(bed.verdict(after(0.0)), Verdict::Taken(taken) if taken.wait > Duration::ZERO)
            })
            .count();
        assert_eq!(waiting, 100);
        assert!(matches!(bed.verdict(after(50_000.0)), Verdict::Taken(_)));
    }
}

#[test]
fn who_waits_at_one_counter_does_not_hold_up_another() {
    // The API's limit is shared; a throttled key must not close it to others.
    let store = MemoryStore::new();
    let api = Charge::new(Counter::new("api"), Rate::per_second(1000));
    let mut key = Charge::new(Counter::new("key"), rate(1.0, 60.0));
    key.patience = 3600 * SECOND;
    let batch = [key, api.clone()];
    store.try_take(&batch, after(0.0));
    let Some(Verdict::Taken(taken)) = store.try_take(&batch, after(0.0)) else {
        panic!("it waits");
    };
    assert_eq!(taken.wait, 60 * SECOND);
    let taken = store.try_take(&[api], after(0.0));
    assert!(matches!(
        taken,
        Some(Verdict::Taken(Taken {
            wait: Duration::ZERO,
            ..
        }))
    ));
}

#[test]
fn cases_55_and_56_a_quota_refuses_until_it_renews() {
    let bed = Bed::new(quota(2, 3600));
    let told = [0.0, 1.0, 2.0].map(|time| {
        let standing = bed.standing(after(time));
        (standing.remaining, standing.resets_in, standing.exceeded)
    });
    let left = |seconds| Some(seconds * SECOND);
    assert_eq!(
        told,
        [
            (1, left(3600), false),
            (0, left(3599), false),
            (0, left(3598), true)
        ]
    );
    check(
        quota(1, 60),
        &[(0.0, true), (1.0, false), (59.999, false), (60.0, true)],
    );
}

#[test]
fn case_57_a_quota_that_never_renews_refuses_for_ever() {
    check(quota(1, 0), &[(0.0, true), (1.0, false), (1e9, false)]);
    let bed = Bed::new(quota(1, 0));
    bed.passes(after(0.0));
    let Verdict::Refused(refused) = bed.verdict(after(1.0)) else {
        panic!("it is used up");
    };
    assert_eq!(refused.retry_in, None);
    assert_eq!(refused.standings[0].retry_in, Duration::MAX);
    assert_eq!(refused.standings[0].resets_in, None);
}

#[test]
fn case_59_a_period_starts_with_the_first_request_after_the_last() {
    check(
        quota(1, 1),
        &[
            (0.0, true),
            (0.5, false),
            (1.1, true),
            (1.2, false),
            (5.0, true),
            (5.9, false),
            (6.0, true),
        ],
    );
}

#[test]
fn case_60_what_the_rate_refuses_costs_no_quota() {
    let store = MemoryStore::new();
    let batch = [
        Charge::new(Counter::new("quota"), quota(10, 3600)),
        Charge::new(Counter::new("rate"), rate(1.0, 60.0)),
    ];
    for passes in [true, false, false] {
        let verdict = store.try_take(&batch, after(0.0)).unwrap();
        assert_eq!(matches!(verdict, Verdict::Taken(_)), passes);
    }
    assert_eq!(store.used("quota", after(0.0)), 1);
}

#[test]
fn case_64_all_of_a_hundred_first_requests_count() {
    let bed = Bed::new(quota(1000, 60));
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| (0..10).for_each(|_| assert!(bed.passes(after(0.0)))));
        }
    });
    assert_eq!(bed.store.used("it", after(0.0)), 100);
}

#[test]
fn cases_67_and_68_a_changed_maximum_acts_at_once_and_a_changed_period_later() {
    let mut bed = Bed::new(quota(10, 60));
    (0..5).for_each(|_| assert!(bed.passes(after(0.0))));
    bed.limit(quota(20, 3600));
    let standing = bed.standing(after(1.0));
    assert_eq!(
        (standing.remaining, standing.resets_in),
        (14, Some(59 * SECOND))
    );
    bed.limit(quota(3, 3600));
    assert!(!bed.passes(after(2.0)));
    assert!(!bed.passes(after(59.999)));
    assert_eq!(bed.standing(after(60.0)).resets_in, Some(3600 * SECOND));
}

#[test]
fn case_24_a_raised_rate_acts_at_once() {
    for algorithm in ALGORITHMS {
        let rate = |requests| rate(requests, 60.0).with_algorithm(algorithm);
        let mut bed = Bed::new(rate(1.0));
        assert_eq!(
            [0.0, 0.1].map(|time| bed.passes(after(time))),
            [true, false]
        );
        bed.limit(rate(3.0));
        let passes = [0.2, 0.3, 0.4].map(|time| bed.passes(after(time)));
        assert_eq!(passes, [true, true, false], "{algorithm:?}");
    }
}
