//! Which limit holds, and what each algorithm admits.
#![cfg(feature = "test-util")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{num::NonZeroU64, time::Duration};

use jiff::tz::TimeZone;
use proptest::prelude::*;
use tollgate_core::{
    Moment, Session,
    limits::{
        Algorithm, ApiLimits, CalendarUnit, Limit, LimitSource, Period, Quota, Rate, Throttle,
    },
    store::{
        Charge, ChargeMode, Counter, LimitStore, MemoryStore, Refused, Standing, Taken, Verdict,
        conformance::block_on,
    },
};

#[path = "limits/smoothed.rs"]
mod smoothed;

const SECOND: Duration = Duration::from_secs(1);
const NANOS: u64 = 1_000_000_000;

/// So many seconds after 1970, on both clocks.
fn at(seconds: f64) -> Moment {
    let nanos = (seconds * 1e6).round() as u64 * 1000;
    Moment {
        ticks: nanos % (1_600_000_000 * NANOS) + NANOS,
        unix_nanos: nanos,
    }
}

/// After an instant that no window and no period starts at by chance.
fn after(seconds: f64) -> Moment {
    Moment {
        ticks: 5 * NANOS,
        unix_nanos: 1_700_000_000 * NANOS,
    }
    .after(Duration::from_secs_f64(seconds))
}

struct Bed {
    store: MemoryStore,
    charge: [Charge; 1],
}

impl Bed {
    fn new(limit: impl Into<Limit>) -> Self {
        Self {
            store: MemoryStore::new(),
            charge: [Charge::new(Counter::new("it"), limit)],
        }
    }

    fn limit(&mut self, limit: impl Into<Limit>) {
        self.charge[0].limit = limit.into();
    }

    fn verdict(&self, now: Moment) -> Verdict {
        self.store.try_take(&self.charge, now).unwrap()
    }

    fn passes(&self, now: Moment) -> bool {
        matches!(self.verdict(now), Verdict::Taken(_))
    }

    fn standing(&self, now: Moment) -> Standing {
        standing(&self.verdict(now))
    }
}

fn standing(verdict: &Verdict) -> Standing {
    match verdict {
        Verdict::Taken(Taken { standings, .. }) | Verdict::Refused(Refused { standings, .. }) => {
            standings[0]
        }
    }
}

fn rate(requests: f64, per: f64) -> Rate {
    let rate = Rate::from_wire(requests, per, Algorithm::Sliding);
    rate.unwrap().unwrap()
}

/// Requests in order, and whether each passes.
#[track_caller]
fn check(limit: impl Into<Limit>, requests: &[(f64, bool)]) {
    let bed = Bed::new(limit);
    let got: Vec<_> = requests
        .iter()
        .map(|(time, _)| (*time, bed.passes(after(*time))))
        .collect();
    assert_eq!(got, requests);
}

// Numbers of the wire.

#[track_caller]
fn reads(requests: f64, per: f64, expected: Result<Option<(u64, f64)>, &str>) {
    let got = Rate::from_wire(requests, per, Algorithm::Sliding);
    let got = got.map(|rate| rate.map(|rate| (rate.requests.get(), rate.window.as_secs_f64())));
    let got = got.map_err(|err| err.field().to_owned());
    assert_eq!(got, expected.map_err(str::to_owned), "{requests} per {per}");
}

#[test]
fn rates_are_read_with_their_fractions() {
    reads(0.0, 0.0, Ok(None));
    reads(-1.0, 60.0, Ok(None));
    reads(-1.0, f64::NAN, Ok(None));
    reads(1.0, 60.0, Ok(Some((1, 60.0))));
    reads(2.9, 5.9, Ok(Some((2, 5.9))));
    reads(5.0, 0.5, Ok(Some((5, 0.5))));
    reads(0.5, 1.0, Ok(Some((1, 2.0))));
    reads(0.1, 1.0, Ok(Some((1, 10.0))));
    reads(1.0, 1e-30, Ok(Some((1, 1e-9))));
}

#[test]
fn numbers_that_are_none_are_errors() {
    reads(f64::NAN, 1.0, Err("rate"));
    reads(f64::INFINITY, 1.0, Err("rate"));
    reads(f64::NEG_INFINITY, 1.0, Err("rate"));
    reads(1.0, 0.0, Err("per"));
    reads(1.0, -1.0, Err("per"));
    reads(1.0, f64::NAN, Err("per"));
    reads(1.0, f64::INFINITY, Err("per"));
}

#[test]
fn the_largest_numbers_saturate_and_still_limit() {
    let largest = Duration::from_nanos(u64::MAX).as_secs_f64();
    reads(1e308, 1.0, Ok(Some((u64::MAX, 1.0))));
    reads(1.0, 1e308, Ok(Some((1, largest))));
    reads(1e-308, 1e308, Ok(Some((1, largest))));
    for algorithm in ALGORITHMS {
        let bed = Bed::new(rate(1.0, 1e308).with_algorithm(algorithm));
        assert!(bed.passes(after(0.0)));
        assert!(!bed.passes(after(1e9)), "{algorithm:?}");
        let bed = Bed::new(rate(1e308, 1e308).with_algorithm(algorithm));
        assert!(bed.passes(after(0.0)), "{algorithm:?}");
    }
}

#[test]
fn an_error_says_where_and_what() {
    let err = Rate::from_wire(1.0, -2.0, Algorithm::Sliding).unwrap_err();
    assert_eq!(
        err.to_string(),
        "per: expected a number above zero, found -2"
    );
    let session: Session = r#"{"access_rights": {"a": {"limit": {"rate": 1}}}}"#
        .parse()
        .unwrap();
    let err = ApiLimits::of(&session, &"a".into()).unwrap_err();
    assert_eq!(err.field(), "access_rights.a.limit.per");
}

#[test]
fn quotas_and_throttles_are_read() {
    let every = |seconds| Period::Every(Duration::from_secs(seconds));
    let read = |max, renewal| Quota::from_wire(max, renewal).map(|quota| quota.period);
    assert_eq!(read(0, 60), None);
    assert_eq!(read(-1, 60), None);
    assert_eq!(read(1, 60), Some(every(60)));
    assert_eq!(read(1, 0), Some(Period::Never));
    assert_eq!(read(1, -1), Some(Period::Never));
    assert_eq!(read(1, i64::MAX), Some(every(i64::MAX as u64)));

    let patience =
        |interval, retries| Throttle::from_wire(interval, retries).map(Throttle::patience);
    assert_eq!(patience(1.0, 3), Some(3 * SECOND));
    assert_eq!(patience(0.5, 3), Some(3 * SECOND / 2));
    assert_eq!(patience(1.0, 0), None);
    assert_eq!(patience(0.0, 3), None);
    assert_eq!(patience(-1.0, 3), None);
    assert_eq!(patience(f64::NAN, 3), None);
    assert_eq!(patience(f64::INFINITY, i64::MAX), Some(Throttle::LONGEST));
}

#[test]
fn algorithms_have_names() {
    for algorithm in ALGORITHMS {
        assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
    }
    assert_eq!(Algorithm::from_name("leaky"), None);
    assert!("leaky".parse::<Algorithm>().is_err());
}

// Which limit holds.

#[track_caller]
fn holds(json: &str, expected: (Option<u64>, Option<u64>, LimitSource)) {
    let session: Session = json.parse().unwrap();
    let limits = ApiLimits::of(&session, &"a".into()).unwrap();
    let rate = limits.rate.map(|rate| rate.requests.get());
    let quota = limits.quota.map(|quota| quota.max.get());
    assert_eq!((rate, quota, limits.source), expected, "{json}");
}

#[test]
fn an_entrys_limit_replaces_all_of_the_sessions() {
    use LimitSource::{Api, Root};
    let of = |limit: &str| {
        format!(
            r#"{{"rate": 1, "per": 60, "quota_max": 10, "quota_renewal_rate": 60,
                "access_rights": {{"a": {{"limit": {limit}}}}}}}"#
        )
    };
    holds(&of("{}"), (Some(1), Some(10), Root));
    holds(&of("null"), (Some(1), Some(10), Root));
    holds(
        &of(r#"{"quota_max": 100, "quota_renewal_rate": 60}"#),
        (None, Some(100), Api),
    );
    holds(&of(r#"{"rate": 5, "per": 1}"#), (Some(5), None, Api));
    holds(&of(r#"{"rate": -1}"#), (None, None, Api));
    holds(&of(r#"{"max_query_depth": 3}"#), (None, None, Api));
    holds(r#"{"rate": 2, "per": 1}"#, (Some(2), None, Root));
    holds(
        r#"{"rate": 2, "per": 1, "access_rights": {"b": {}}}"#,
        (Some(2), None, Root),
    );
}

#[test]
fn an_entry_with_smoothing_alone_keeps_the_sessions_numbers() {
    let smoothing = r#"{"enabled": true, "threshold": 5, "trigger": 0.5, "step": 5, "delay": 1}"#;
    let of = |smoothing: &str| {
        let json = format!(
            r#"{{"rate": 20, "per": 60,
                "access_rights": {{"a": {{"limit": {{"smoothing": {smoothing}}}}}}}}}"#
        );
        ApiLimits::of(&json.parse().unwrap(), &"a".into()).unwrap()
    };
    let limits = of(smoothing);
    assert_eq!(limits.rate, Some(rate(20.0, 60.0)));
    assert_eq!(limits.source, LimitSource::Root);
    assert_eq!(
        limits.smoothing.map(|smoothing| smoothing.threshold),
        Some(5)
    );
    assert_eq!(
        of(r#"{"enabled": true, "threshold": 5}"#).smoothing,
        None,
        "not valid"
    );
}

#[test]
fn an_entry_without_smoothing_has_the_sessions() {
    let json = r#"{"rate": 20, "per": 60, "smoothing":
        {"enabled": true, "threshold": 5, "trigger": 0.5, "step": 5, "delay": 1},
        "access_rights": {"a": {"limit": {"rate": 9, "per": 60}}}}"#;
    let limits = ApiLimits::of(&json.parse().unwrap(), &"a".into()).unwrap();
    let steps = |limits: ApiLimits| limits.smoothed().rate.and_then(|rate| rate.steps);
    assert_eq!(steps(limits.clone()).map(|steps| steps.first(9)), Some(5));
    let fixed = limits.with_algorithm(Algorithm::FixedWindow);
    assert_eq!(steps(fixed), None, "only a window that slides");
}

#[test]
fn an_endpoint_replaces_the_rate_alone() {
    let json = r#"{"rate": 1, "per": 60, "quota_max": 10, "throttle_interval": 1,
        "throttle_retry_limit": 2, "access_rights": {"a": {"allowance_scope": "s"}}}"#;
    let limits = ApiLimits::of(&json.parse().unwrap(), &"a".into()).unwrap();
    let limits = limits.with_algorithm(Algorithm::Gcra);
    assert_eq!(limits.scope.as_deref(), Some("s"));
    assert_eq!(limits.patience(), 2 * SECOND);

    let endpoint = limits.clone().with_endpoint(5.0, 1.0).unwrap();
    let expected = Rate::per_second(5).with_algorithm(Algorithm::Gcra);
    assert_eq!(endpoint.rate, Some(expected));
    assert_eq!(endpoint.rate_source, LimitSource::Endpoint);
    assert_eq!(
        (endpoint.quota, endpoint.source),
        (limits.quota.clone(), LimitSource::Root)
    );

    let free = limits.clone().with_endpoint(-1.0, 0.0).unwrap();
    assert_eq!(free.rate, None);
    assert!(limits.with_endpoint(1.0, 0.0).is_err());
}

// The cases of the specification that one process decides; the numbers are its.

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

fn quota(max: i64, renewal: i64) -> Quota {
    Quota::from_wire(max, renewal).unwrap()
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

#[test]
fn callers_with_different_limits_share_one_count() {
    let mut bed = Bed::new(rate(2.0, 60.0));
    for (large, passes) in [
        (false, true),
        (true, true),
        (false, false),
        (true, true),
        (true, false),
    ] {
        bed.limit(rate(if large { 3.0 } else { 2.0 }, 60.0));
        assert_eq!(bed.passes(after(0.0)), passes);
    }
    // The short window does not make the long one forget, whichever way it is counted.
    for requests in [10, 300] {
        let mut bed = Bed::new(Rate::per_minute(requests));
        let mut passed = 0;
        for tenth in 0..590 {
            let now = after(f64::from(tenth) / 10.0);
            bed.limit(Rate::per_second(requests));
            passed += u64::from(bed.passes(now));
            bed.limit(Rate::per_minute(requests));
            let may_pass = passed < requests;
            assert_eq!(bed.passes(now), may_pass, "{passed} of {requests}");
            passed += u64::from(may_pass);
        }
        assert!(
            requests < passed,
            "the short limit admits more in the long window"
        );
    }
}

#[test]
fn a_window_grows_shorter_when_nobody_asks_for_the_longer() {
    let mut bed = Bed::new(rate(1000.0, 3600.0));
    assert!(bed.passes(after(0.0)));
    bed.limit(rate(1000.0, 1.0));
    bed.charge[0].cost = NonZeroU64::new(999).unwrap();
    // The long window's slots last a minute, so the first second's requests count for two.
    assert!(bed.passes(after(0.1)));
    assert!(!bed.passes(after(2.0)));
    assert!(bed.passes(after(3700.0)));
    assert!(!bed.passes(after(3700.5)));
    assert!(bed.passes(after(3701.1)));
}

#[test]
fn another_algorithm_keeps_the_count_on_the_safe_side() {
    for from in ALGORITHMS {
        for to in ALGORITHMS {
            let mut bed = Bed::new(rate(5.0, 60.0).with_algorithm(from));
            (0..4).for_each(|_| assert!(bed.passes(after(1.0))));
            bed.limit(rate(5.0, 60.0).with_algorithm(to));
            let passes = [1.0, 1.0].map(|time| bed.passes(after(time)));
            assert_eq!(passes, [true, false], "{from:?} to {to:?}");
        }
    }
}

// Calendars.

#[track_caller]
fn ends(unit: CalendarUnit, zone: &str, now: &str, end: &str) {
    let zone = TimeZone::posix(zone).unwrap();
    let nanos = |time: &str| {
        let time: jiff::Timestamp = time.parse().unwrap();
        u64::try_from(time.as_nanosecond()).unwrap()
    };
    let Period::Calendar(calendar) = Period::calendar(unit, zone) else {
        unreachable!()
    };
    let got = calendar.end_of_period(nanos(now));
    let told = jiff::Timestamp::from_nanosecond(got.into()).unwrap();
    assert_eq!(got, nanos(end), "{unit:?} of {now}: {told}");
}

#[test]
fn periods_of_the_calendar_end_at_midnight_there() {
    use CalendarUnit::{Day, Month, Week, Year};
    let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
    ends(Day, berlin, "2026-01-15T12:00:00Z", "2026-01-15T23:00:00Z");
    ends(Day, berlin, "2026-01-15T22:59:59Z", "2026-01-15T23:00:00Z");
    ends(Day, berlin, "2026-01-15T23:00:00Z", "2026-01-16T23:00:00Z");
    // The days on which summer time starts and ends have 23 and 25 hours.
    ends(Day, berlin, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    ends(Day, berlin, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    ends(Week, berlin, "2026-03-29T12:00:00Z", "2026-03-29T22:00:00Z");
    ends(Week, berlin, "2026-03-29T22:00:00Z", "2026-04-05T22:00:00Z");
    ends(
        Month,
        berlin,
        "2024-02-10T00:00:00Z",
        "2024-02-29T23:00:00Z",
    );
    ends(
        Month,
        berlin,
        "2026-01-31T22:59:59Z",
        "2026-01-31T23:00:00Z",
    );
    ends(
        Month,
        berlin,
        "2026-01-31T23:00:00Z",
        "2026-02-28T23:00:00Z",
    );
    ends(Year, berlin, "2026-07-01T00:00:00Z", "2026-12-31T23:00:00Z");
    // A midnight that is skipped: the day starts at one.
    let skips = "<-04>4<-03>,M9.1.0/0,M4.1.0/0";
    ends(Day, skips, "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z");
    // A midnight that comes twice: the earlier.
    ends(
        Day,
        "<-04>4<-03>,M9.1.0/0,M4.1.0/1",
        "2026-04-04T12:00:00Z",
        "2026-04-05T03:00:00Z",
    );
}

#[test]
fn a_daily_quota_renews_at_midnight() {
    let bed = Bed::new(Quota::daily(1, TimeZone::UTC));
    let noon = 1_700_000_000.0 - 1_700_000_000.0 % 86_400.0 + 43_200.0;
    let passes = [0.0, 43_199.0, 43_200.0, 43_201.0].map(|time| bed.passes(at(noon + time)));
    assert_eq!(passes, [true, false, true, false]);
    let weekly = Bed::new(Quota::weekly(1, TimeZone::UTC)).standing(at(noon));
    assert!(weekly.resets_in.unwrap() <= 7 * 86_400 * SECOND);
    let monthly = Bed::new(Quota::monthly(1, TimeZone::UTC)).standing(at(noon));
    assert!(monthly.resets_in.unwrap() <= 31 * 86_400 * SECOND);
}

// Giving back.

#[test]
fn what_is_given_back_can_be_taken_again() {
    for limit in limits(5) {
        let bed = Bed::new(limit.clone());
        let taken: Vec<_> = [0.0, 0.1, 0.1, 0.2, 0.3].map(after).into();
        taken.iter().for_each(|now| assert!(bed.passes(*now)));
        assert!(!bed.passes(after(0.3)));
        for now in &taken[1..3] {
            bed.store.give_back(&bed.charge, *now);
        }
        let passes = [0.3, 0.3, 0.3].map(|time| bed.passes(after(time)));
        assert_eq!(passes, [true, true, false], "{limit:?}");
    }
}

#[test]
fn what_is_given_back_after_its_window_is_gone() {
    for limit in limits(1) {
        let bed = Bed::new(limit.clone());
        assert!(bed.passes(after(0.0)));
        assert!(bed.passes(after(61.0)));
        bed.store.give_back(&bed.charge, after(0.0));
        assert!(!bed.passes(after(61.0)), "{limit:?}");
    }
}

#[test]
fn a_charge_that_is_dropped_stays() {
    let bed = Bed::new(quota(1, 60));
    drop(bed.verdict(after(0.0)));
    assert!(!bed.passes(after(1.0)));
}

#[test]
fn what_was_never_taken_is_given_back_to_nobody() {
    for limit in limits(2) {
        let bed = Bed::new(limit.clone());
        bed.store.give_back(&bed.charge, after(0.0));
        let passes = [0.0, 0.0, 0.0].map(|time| bed.passes(after(time)));
        assert_eq!(passes, [true, true, false], "{limit:?}");
    }
}

// Clocks.

#[test]
fn a_wall_clock_that_is_set_grants_nothing() {
    for limit in limits(5) {
        let bed = Bed::new(limit.clone());
        let mut passed = 0;
        // Set to and fro by up to an hour, while two windows' time passes.
        for tenth in 0..1200u64 {
            let now = after(tenth as f64 / 10.0);
            let hours = [0, 3600, 3601, 59, 3599, 7200][tenth as usize % 6] * NANOS;
            let unix_nanos = now.unix_nanos - 3600 * NANOS + hours;
            passed += u64::from(bed.passes(Moment { unix_nanos, ..now }));
        }
        assert!(passed <= 15, "{limit:?}: {passed}");
        assert!(5 <= passed, "{limit:?}: {passed}");
    }
}

#[test]
fn ticks_that_go_back_grant_nothing() {
    for limit in limits(5) {
        let bed = Bed::new(limit.clone());
        let passed = (0..100)
            .filter(|step| bed.passes(after(f64::from((100 - step) % 7))))
            .count();
        assert!(passed <= 5, "{limit:?}: {passed}");
    }
}

#[test]
fn an_hour_ahead_and_back_is_survived() {
    for limit in limits(5) {
        let bed = Bed::new(limit.clone());
        (0..5).for_each(|_| assert!(bed.passes(after(0.0))));
        let ahead = (0..9).filter(|_| bed.passes(after(3600.0))).count();
        assert_eq!(ahead, 5, "{limit:?}");
        let back = (0..9).filter(|_| bed.passes(after(1.0))).count();
        assert_eq!(back, 0, "{limit:?}");
        assert!(bed.passes(after(3700.0)), "{limit:?}");
    }
    let zero = Moment::default();
    for limit in limits(1).into_iter().chain([rate(1000.0, 1e9).into()]) {
        let mut bed = Bed::new(limit.clone());
        assert!(bed.passes(zero), "{limit:?}");
        bed.store.give_back(&bed.charge, zero);
        let last = Moment {
            ticks: u64::MAX,
            unix_nanos: u64::MAX,
        };
        bed.passes(last);
        bed.charge[0].patience = Duration::MAX;
        bed.passes(last);
        bed.passes(zero);
    }
}

// Watching.

#[test]
fn what_is_only_watched_stays_at_its_maximum() {
    for limit in limits(2) {
        let mut bed = Bed::new(limit.clone());
        bed.charge[0].mode = ChargeMode::Observe;
        let exceeded = [0.0, 0.0, 0.0, 0.0].map(|time| bed.standing(after(time)).exceeded);
        assert_eq!(exceeded, [false, false, true, true], "{limit:?}");
        assert_eq!(bed.store.used("it", after(0.0)), 2, "{limit:?}");
        bed.charge[0].mode = ChargeMode::Enforce;
        assert!(!bed.passes(after(0.0)));
    }
}

#[test]
fn a_look_tells_where_limits_stand() {
    let bed = Bed::new(quota(100, 60));
    bed.passes(after(0.0));
    let looked = block_on(bed.store.look(&bed.charge, after(10.0))).unwrap();
    let standing = standing(&looked);
    assert_eq!(
        (standing.remaining, standing.resets_in),
        (99, Some(50 * SECOND))
    );
    let looked = block_on(bed.store.look(&bed.charge, after(70.0))).unwrap();
    assert!(matches!(&looked, Verdict::Taken(taken) if taken.standings[0].remaining == 100));
}

// Properties.

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Sliding,
    Algorithm::FixedWindow,
    Algorithm::Bucket,
    Algorithm::Gcra,
];

/// So many requests a minute, in every way there is.
fn limits(max: u64) -> Vec<Limit> {
    let rates = ALGORITHMS.map(|algorithm| Rate::per_minute(max).with_algorithm(algorithm).into());
    let quota = Quota::per(max, Period::Every(60 * SECOND)).into();
    rates.into_iter().chain([quota]).collect()
}

/// The most units in any half-open window, by two pointers over a log in order.
fn most(log: &[(u64, u64)], window: u64) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (time, units) in log {
        sum += units;
        while log[first].0 + window <= *time {
            sum -= log[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

fn any_rate() -> impl Strategy<Value = Rate> {
    let requests = prop_oneof![1..6u64, 1..129u64, 120..140u64, 129..3000u64];
    let window = prop_oneof![1..100u64, 1000..1_000_000u64, Just(NANOS), Just(60 * NANOS)];
    let algorithm = proptest::sample::select(ALGORITHMS.to_vec());
    (requests, window, algorithm).prop_map(|(requests, window, algorithm)| {
        Rate::per(requests, Duration::from_nanos(window)).with_algorithm(algorithm)
    })
}

/// Steps as parts of a window, with what each request costs.
fn arrivals() -> impl Strategy<Value = Vec<(f64, u64)>> {
    let step = prop_oneof![
        4 => Just(0.0),
        4 => 0.0..0.1f64,
        2 => 0.0..1.2f64,
        1 => Just(1.0),
        1 => Just(0.5)
    ];
    let cost = prop_oneof![3 => Just(1u64), 1 => 1..5u64, 1 => 1..200u64];
    proptest::collection::vec((step, cost), 1..300)
}

fn bound(rate: &Rate) -> u64 {
    match rate.algorithm {
        Algorithm::Sliding => rate.requests.get(),
        _ => 2 * rate.requests.get(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_window_holds_more_than_its_bound(
        rate in any_rate(), patience in prop_oneof![2 => Just(0.0), 1 => 0.0..3.0f64],
        arrivals in arrivals(),
    ) {
        let window = rate.window.as_nanos() as u64;
        let mut bed = Bed::new(rate);
        bed.charge[0].patience = rate.window.mul_f64(patience);
        let (mut now, mut log) = (after(0.0), Vec::new());
        for (step, cost) in arrivals {
            now = now.after(Duration::from_nanos((step * window as f64) as u64));
            bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
            match bed.verdict(now) {
                Verdict::Taken(taken) => {
                    prop_assert!(taken.wait <= bed.charge[0].patience);
                    prop_assert!(taken.standings[0].remaining < rate.requests.get());
                    log.push((taken.at.ticks, cost));
                }
                Verdict::Refused(refused) => {
                    let never = rate.requests.get() < cost;
                    prop_assert_eq!(refused.retry_in.is_none(), never);
                }
            }
        }
        log.sort_unstable();
        prop_assert!(most(&log, window) <= bound(&rate));
    }

    /// What `retry_in` says is true to the nanosecond: then it passes, just before it does not.
    #[test]
    fn retry_in_is_when_it_passes(rate in any_rate(), arrivals in arrivals()) {
        let window = rate.window.as_nanos() as u64;
        let mut bed = Bed::new(rate);
        let mut now = after(0.0);
        for (step, cost) in arrivals {
            now = now.after(Duration::from_nanos((step * window as f64) as u64));
            bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
            if let Verdict::Refused(Refused { retry_in: Some(retry_in), .. }) = bed.verdict(now) {
                prop_assert!(retry_in > Duration::ZERO);
                let just_before = now.after(retry_in - Duration::from_nanos(1));
                prop_assert!(!bed.passes(just_before), "{:?} too late", rate.algorithm);
                now = now.after(retry_in);
                prop_assert!(bed.passes(now), "{:?} too early", rate.algorithm);
            }
        }
    }

    #[test]
    fn a_period_holds_no_more_than_its_quota(
        max in 1..20u64, arrivals in arrivals(), patience in any::<bool>(),
    ) {
        let bed = Bed::new(Quota::per(max, Period::Every(SECOND)));
        let mut bed = bed;
        bed.charge[0].patience = if patience { SECOND } else { Duration::ZERO };
        let mut now = after(0.0);
        let (mut start, mut used) = (0, 0);
        for (step, cost) in arrivals {
            now = now.after(SECOND.mul_f64(step));
            bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
            if used == 0 || start + NANOS <= now.ticks {
                (start, used) = (now.ticks, 0);
            }
            let passes = used + cost <= max;
            prop_assert_eq!(bed.passes(now), passes);
            used += if passes { cost } else { 0 };
        }
    }

    /// The limit changes under way; no window of the longest length holds more than the largest.
    #[test]
    fn changed_limits_are_not_exceeded(
        changes in proptest::collection::vec((1..300u64, arrivals()), 1..6),
    ) {
        let mut bed = Bed::new(Rate::per_second(1));
        let (mut now, mut log) = (after(0.0), Vec::new());
        for (requests, arrivals) in changes {
            bed.limit(Rate::per_second(requests));
            for (step, cost) in arrivals {
                now = now.after(SECOND.mul_f64(step));
                bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
                if bed.passes(now) {
                    log.push((now.ticks, cost));
                    let edge = now.ticks - NANOS;
                    let in_window = log.iter().filter(|(time, _)| edge < *time);
                    let sum: u64 = in_window.map(|(_, cost)| cost).sum();
                    prop_assert!(sum <= requests, "{} of {}", sum, requests);
                }
            }
        }
    }

    /// Kinds of windows and algorithms change under way: nothing panics, and a sliding window that
    /// takes over never admits more than its rate from then on.
    #[test]
    fn any_limit_follows_any_other(
        rates in proptest::collection::vec((any_rate(), arrivals()), 1..8),
    ) {
        let mut bed = Bed::new(Rate::per_second(1));
        let mut now = after(0.0);
        for (rate, arrivals) in rates {
            bed.limit(rate);
            let window = rate.window.as_nanos() as u64;
            let mut log = Vec::new();
            for (step, cost) in arrivals.into_iter().take(50) {
                now = now.after(Duration::from_nanos((step * window as f64) as u64));
                bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
                if bed.passes(now) {
                    log.push((now.ticks, cost));
                }
            }
            prop_assert!(most(&log, window) <= bound(&rate));
        }
    }

    /// Takes and gives back in any order, with clocks that jump: what is taken and not given back
    /// stays below the limit in every window, by the latest time that was read.
    #[test]
    fn jumps_and_give_backs_grant_nothing(
        rate in any_rate(),
        steps in proptest::collection::vec((-1.0..1.5f64, 1..4u64, any::<prop::sample::Index>(), 0..3u8), 1..200),
    ) {
        prop_assume!(rate.algorithm == Algorithm::Sliding);
        let window = rate.window.as_nanos() as u64;
        let mut bed = Bed::new(rate);
        let start = after(1000.0 * rate.window.as_secs_f64());
        let (mut now, mut latest) = (start, 0);
        let mut log: Vec<(u64, u64, Moment)> = Vec::new();
        for (step, cost, index, what) in steps {
            let by = Duration::from_nanos((step.abs() * window as f64 / 4.0) as u64);
            now = if step < 0.0 {
                Moment { ticks: now.ticks - by.as_nanos() as u64, ..now }
            } else {
                now.after(by)
            };
            bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
            if what == 0 && !log.is_empty() {
                let (_, cost, at) = log.remove(index.index(log.len()));
                bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
                bed.store.give_back(&bed.charge, at);
                continue;
            }
            if let Verdict::Taken(taken) = bed.verdict(now) {
                latest = now.ticks.max(latest);
                log.push((latest, cost, taken.at));
            }
            let times: Vec<_> = log.iter().map(|(time, cost, _)| (*time, *cost)).collect();
            prop_assert!(most(&times, window) <= rate.requests.get());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Under load the slots admit at least 63 of 64 parts of the rate.
    #[test]
    fn slots_lose_little(requests in 129..2000u64, window in 100_000..10 * NANOS, steps in 100..400u64) {
        let bed = Bed::new(Rate::per(requests, Duration::from_nanos(window)));
        let mut now = after(0.0);
        let mut passed = 0;
        for _ in 0..steps * 20 {
            while bed.passes(now) {
                passed += 1;
            }
            now = now.after(Duration::from_nanos(window / steps + 1));
        }
        // Twenty windows' time; the one under way, and the step that is polled at, are not lost.
        let ideal = requests * 20;
        let least = ideal - ideal.div_ceil(64) - requests - ideal / steps;
        prop_assert!(least <= passed && passed <= ideal + requests, "{} of {}", passed, ideal);
    }

    /// Batches of any counters in any order from several threads: none is above its limit, and all
    /// that were admitted are counted whole.
    #[test]
    fn batches_are_whole_from_any_thread(
        maxima in proptest::collection::vec(1..200u64, 4),
        orders in proptest::collection::vec(proptest::sample::subsequence(vec![0, 1, 2, 3], 1..=4).prop_shuffle(), 1..=8),
    ) {
        let store = MemoryStore::new();
        let now = after(0.0);
        let counters: Vec<_> = (0..4).map(|number| Counter::new(format!("c{number}"))).collect();
        let limit = |number: usize| -> Limit {
            if number % 2 == 0 {
                Rate::per_second(maxima[number]).into()
            } else {
                Quota::per(maxima[number], Period::Every(SECOND)).into()
            }
        };
        let admitted: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = orders.iter().map(|order| {
                let (store, counters, limit) = (&store, &counters, &limit);
                scope.spawn(move || {
                    let charge = |number: &usize| Charge::new(counters[*number].clone(), limit(*number));
                    let batch: Vec<_> = order.iter().map(charge).collect();
                    let takes = (0..100).map(|_| store.try_take(&batch, now));
                    takes.filter(|verdict| matches!(verdict, Some(Verdict::Taken(_)))).count() as u64
                })
            }).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (number, max) in maxima.iter().enumerate() {
            let of = orders.iter().zip(&admitted).filter(|(order, _)| order.contains(&number));
            let expected: u64 = of.map(|(_, admitted)| admitted).sum();
            prop_assert!(expected <= *max);
            prop_assert_eq!(store.used(format!("c{number}"), now), expected);
        }
    }
}
