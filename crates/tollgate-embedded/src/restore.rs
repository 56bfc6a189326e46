//! How a count in memory begins with what the file says of it.

use std::{num::NonZeroU64, time::Duration};

use tollgate_core::{
    Moment,
    limits::{Limit, Period, Quota},
    store::{Charge, CounterRef},
};

use crate::record::Mark;

/// The charge that makes a fresh count what the mark says; `None` where nothing counts.
///
/// A period goes on until the mark ends. The units of a window count as if they had been taken now,
/// since when they were is not stored: too long rather than too short. `limit` is the one that the
/// counter is asked for first.
pub(crate) fn charge(
    counter: &CounterRef,
    mark: &Mark,
    limit: &Limit,
    now: Moment,
) -> Option<Charge> {
    if mark.is_over(now.unix_nanos) {
        return None;
    }
    let units = NonZeroU64::new(mark.units)?;
    let limit = match limit {
        Limit::Rate(rate) => {
            let mut rate = rate.with_steps(None); // What counts is not asked how much was allowed.
            rate.requests = rate.requests.max(units);
            Limit::Rate(rate)
        }
        Limit::Quota(quota) => Limit::Quota(Quota {
            max: units,
            period: period(mark, &quota.period, now)?,
        }),
    };
    let mut charge = Charge::new(counter.clone(), limit);
    charge.cost = units;
    Some(charge)
}

/// The period that ends when the mark does; that of the limit, where it ends then.
fn period(mark: &Mark, period: &Period, now: Moment) -> Option<Period> {
    let Some(left) = mark.left(now.unix_nanos) else {
        return Some(Period::Never);
    };
    match period {
        Period::Calendar(calendar) if calendar.end_of_period(now.unix_nanos) == mark.until => {
            Some(period.clone())
        }
        _ if left == 0 => None,
        _ => Some(Period::Every(Duration::from_nanos(left))),
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::{
        limits::Rate,
        store::{Counter, LimitStore, MemoryStore, Standing, Verdict},
    };

    use super::*;
    use crate::record::NEVER;

    const SECOND: u64 = 1_000_000_000;

    /// How the limit stands at `second`, if the file says so many units until then.
    fn standing(units: u64, until: u64, limit: &Limit, second: u64) -> Standing {
        let mark = Mark {
            units,
            until: until.saturating_mul(SECOND),
            written: 1000 * SECOND,
        };
        let now = Moment {
            ticks: SECOND,
            unix_nanos: second * SECOND,
        };
        let (memory, counter) = (MemoryStore::new(), Counter::new("ann").into());
        if let Some(charge) = charge(&counter, &mark, limit, now) {
            assert!(matches!(
                memory.try_take(&[charge], now),
                Some(Verdict::Taken(_))
            ));
        }
        let looked = crate::at_once(memory.look(&[Charge::new(counter, limit.clone())], now));
        match looked.unwrap().unwrap() {
            Verdict::Taken(taken) => taken.standings[0],
            Verdict::Refused(refused) => refused.standings[0],
        }
    }

    #[track_caller]
    fn check((units, until): (u64, u64), limit: impl Into<Limit>, second: u64, told: (u64, u64)) {
        let limit = limit.into();
        let standing = standing(units, until, &limit, second);
        let resets_in = standing.resets_in.map_or(u64::MAX, |left| left.as_secs());
        assert_eq!(
            (standing.remaining, resets_in),
            told,
            "{limit:?} at {second}"
        );
    }

    #[test]
    fn a_period_goes_on_until_its_mark_ends() {
        let hour = Period::Every(Duration::from_secs(3600));
        let quota = |max| Quota::per(max, hour.clone());
        check((30, 1100), quota(100), 1040, (70, 60));
        check((30, 1100), quota(100), 1099, (70, 1));
        check((30, 1100), quota(100), 1100, (100, 0));
        check((30, 1100), quota(20), 1040, (0, 60));
        // A clock that was set back: no longer than when it was written.
        check((30, 1100), quota(100), 10, (70, 100));
        let never = Quota::per(100, Period::Never);
        check((30, NEVER), never, 1_000_000, (70, u64::MAX));
    }

    #[test]
    fn units_of_a_window_count_from_now_on() {
        let minute = |requests| Rate::per(requests, Duration::from_secs(60));
        check((30, 1100), minute(100), 1040, (70, 60));
        check((30, 1100), minute(100), 1100, (100, 0));
        check((30, 1100), minute(10), 1040, (0, 60));
        check((300, 1100), minute(1000), 1040, (700, 60));
    }
}
