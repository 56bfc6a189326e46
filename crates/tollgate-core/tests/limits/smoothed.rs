//! Rates that grow and shrink with use.

use tollgate_core::{limits::RateSteps, session::Smoothing};

use super::*;

fn steps(threshold: i64, step: i64, delay: i64) -> Option<RateSteps> {
    RateSteps::from_wire(&Smoothing {
        enabled: true,
        threshold,
        trigger: 0.5,
        step,
        delay,
        ..Smoothing::default()
    })
}

#[test]
fn case_100_an_allowance_grows_and_shrinks_by_steps() {
    let next = |threshold, (allowance, used, max)| {
        steps(threshold, 10, 1).unwrap().next(allowance, used, max)
    };
    assert_eq!(next(1, (50, 45, 100)), 60);
    assert_eq!(next(1, (50, 44, 100)), 50);
    assert_eq!(next(1, (95, 90, 100)), 100);
    assert_eq!(next(10, (50, 36, 100)), 50);
    assert_eq!(next(10, (50, 35, 100)), 40);
    assert_eq!(next(15, (20, 5, 100)), 15);
    assert_eq!(next(1, (50, 50, 50)), 50);
    // Of changed settings: never below the threshold, never above the rate.
    assert_eq!(next(70, (50, 45, 100)), 70);
    assert_eq!(next(1, (50, 45, 20)), 20);
    assert_eq!(next(200, (50, 0, 20)), 20);
}

#[test]
fn case_102_smoothing_that_is_not_valid_is_none() {
    assert!(steps(5, 5, 1).is_some());
    assert_eq!(steps(0, 5, 1), None);
    assert_eq!(steps(5, 0, 1), None);
    assert_eq!(steps(5, 5, 0), None);
    let off = |trigger, enabled| {
        RateSteps::from_wire(&Smoothing {
            enabled,
            threshold: 5,
            trigger,
            step: 5,
            delay: 1,
            ..Smoothing::default()
        })
    };
    assert!(off(0.5, true).is_some());
    for (trigger, enabled) in [(0.5, false), (0.0, true), (-1.0, true), (f64::NAN, true)] {
        assert_eq!(off(trigger, enabled), None, "{trigger} {enabled}");
    }
}

#[test]
fn case_101_an_allowance_begins_with_its_threshold() {
    let rate = rate(20.0, 60.0).with_steps(steps(5, 5, 1));
    let bed = Bed::new(rate);
    let admitted = |time: f64| (0..30).filter(|_| bed.passes(after(time))).count();
    assert_eq!(admitted(0.0), 5);
    assert_eq!(admitted(1.0), 0, "not before the delay is over");
    let standing = bed.standing(after(1.0));
    assert_eq!((standing.max, standing.remaining), (5, 0));
    assert!(standing.retry_in <= Duration::from_nanos(1), "{standing:?}");
    assert_eq!([1.1, 1.2, 2.2, 3.3, 4.4].map(admitted), [5, 0, 5, 5, 0]);
    assert_eq!(admitted(60.5), 0, "the allowance was forgotten");
    assert_eq!(admitted(75.0), 5);
}

#[test]
fn an_allowance_shrinks_where_little_is_used() {
    let rate = rate(20.0, 10.0).with_steps(steps(5, 5, 6));
    let bed = Bed::new(rate);
    let admitted = |time: f64| (0..30).filter(|_| bed.passes(after(time))).count();
    assert_eq!(admitted(0.0), 5);
    assert_eq!(admitted(6.1), 5);
    assert_eq!(admitted(10.1), 5, "those of the beginning left the window");
    assert_eq!(admitted(12.2), 5, "fifteen");
    let max = |time: f64| bed.standing(after(time)).max;
    assert_eq!(max(21.0), 10);
    assert_eq!(max(28.0), 5);
    assert_eq!(max(35.0), 5);
}

#[test]
fn a_threshold_above_the_rate_is_the_rate() {
    let bed = Bed::new(rate(3.0, 60.0).with_steps(steps(50, 5, 2)));
    assert_eq!((0..9).filter(|_| bed.passes(after(0.0))).count(), 3);
}
