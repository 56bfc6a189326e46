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

#[path = "limits/cases.rs"]
mod cases;
#[path = "limits/properties.rs"]
mod properties;
#[path = "limits/smoothed.rs"]
mod smoothed;
#[path = "limits/wire.rs"]
mod wire;

const SECOND: Duration = Duration::from_secs(1);
const NANOS: u64 = 1_000_000_000;

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Sliding,
    Algorithm::FixedWindow,
    Algorithm::Bucket,
    Algorithm::Gcra,
];

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

fn quota(max: i64, renewal: i64) -> Quota {
    Quota::from_wire(max, renewal).unwrap()
}

/// So many requests a minute, in every way there is.
fn limits(max: u64) -> Vec<Limit> {
    let rates = ALGORITHMS.map(|algorithm| Rate::per_minute(max).with_algorithm(algorithm).into());
    let quota = Quota::per(max, Period::Every(60 * SECOND)).into();
    rates.into_iter().chain([quota]).collect()
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

// Limits that change.

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
