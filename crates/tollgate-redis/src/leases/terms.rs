//! Which limits can be leased, and for how long.

use std::{num::NonZeroU64, time::Duration};

use tollgate_core::{
    lease::{HolderTerms, LeaseMode},
    limits::{Algorithm, Limit, Period},
    store::{Charge, ChargeMode, CounterRef},
};

/// In the shortest windows a unit may be used for three of twenty parts of the window, and for so long at most.
const SHORT: u64 = 150_000_000;
/// Uses within so small a part of a lease are told together.
const GRAINS: u64 = 32;

/// How a limit is leased. Times are nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) holder: HolderTerms,
    /// Whether the window slides: there is no period at whose end units are void.
    pub(crate) slides: bool,
    /// How many units all nodes together may use while a lease lasts, where the window slides; zero for periods.
    pub(crate) share: u64,
}

impl Terms {
    /// How the limit of this charge is leased; `None` where it is always asked for.
    ///
    /// A request that may wait for its turn needs to know when that is, one that is only watched must not use
    /// units up, and a counter that is named for one request has no place to hold any.
    pub(crate) fn of(charge: &Charge, longest: Duration) -> Option<Self> {
        let is_plain = charge.mode == ChargeMode::Enforce && charge.patience.is_zero();
        if !is_plain || matches!(charge.counter, CounterRef::Named(_)) {
            return None;
        }
        let longest = nanos(longest).max(1);
        let (period, horizon, slides) = match &charge.limit {
            Limit::Rate(rate) => {
                let window = nanos(rate.window);
                match rate.algorithm {
                    _ if rate.steps.is_some() => return None, // Its allowance is known to the server alone.
                    Algorithm::Sliding => {
                        let lasts = (window / 100).max((window / 20 * 3).min(SHORT));
                        (window, lasts.min(longest), true)
                    }
                    Algorithm::FixedWindow | Algorithm::Bucket => {
                        (window, (window / 4).min(longest), false)
                    }
                    Algorithm::Gcra => return None,
                }
            }
            Limit::Quota(quota) => match &quota.period {
                Period::Every(length) => {
                    let length = nanos(*length);
                    (length, (length / 4).min(longest), false)
                }
                Period::Never | Period::Calendar(_) => (u64::MAX, longest, false),
            },
        };
        if period < LeaseMode::SHORTEST_NANOS {
            return None;
        }
        let limit = NonZeroU64::new(charge.limit.max())?;
        let share = u128::from(limit.get()) * u128::from(horizon) / u128::from(period);
        Some(Self {
            holder: HolderTerms {
                limit,
                horizon_nanos: horizon,
                period_nanos: period,
                grain_nanos: if slides { horizon / GRAINS } else { 0 },
            },
            slides,
            share: if slides {
                u64::try_from(share).unwrap_or(u64::MAX)
            } else {
                0
            },
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tollgate_core::{
        limits::{Quota, Rate},
        store::{Counter, CounterName},
    };

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MS: u64 = 1_000_000;

    #[track_caller]
    fn check(limit: impl Into<Limit>, lasts_ms: u64, share: u64) {
        let charge = Charge::new(Counter::new("ann"), limit);
        let terms = Terms::of(&charge, SECOND).expect("it can be leased");
        assert_eq!(terms.holder.horizon_nanos, lasts_ms * MS, "{charge:?}");
        assert_eq!(terms.share, share, "{charge:?}");
    }

    #[test]
    fn a_lease_is_short_beside_its_window() {
        check(Rate::per(1000, SECOND), 150, 150);
        check(Rate::per(1000, SECOND / 5), 30, 150);
        check(Rate::per(1000, SECOND * 10), 150, 15);
        check(Rate::per(100_000, SECOND * 60), 600, 1000);
        check(Rate::per(1000, SECOND * 86_400), 1000, 0);
        let bucket = Rate::per(1000, SECOND).with_algorithm(Algorithm::Bucket);
        check(bucket, 250, 0);
        check(Quota::per(1000, Period::Every(SECOND * 60)), 1000, 0);
        check(Quota::per(1000, Period::Never), 1000, 0);
    }

    #[test]
    fn what_can_not_be_leased_is_asked_for() {
        let never = |charge: Charge| assert!(Terms::of(&charge, SECOND).is_none(), "{charge:?}");
        let ann = || Counter::new("ann");
        never(Charge::new(ann(), Rate::per(1000, SECOND / 6)));
        let gcra = Rate::per(1000, SECOND).with_algorithm(Algorithm::Gcra);
        never(Charge::new(ann(), gcra));
        let named = CounterName::of(&[b"ann"]);
        never(Charge::new(named, Rate::per(1000, SECOND)));
        let charge = || Charge::new(ann(), Rate::per(1000, SECOND));
        never(Charge {
            patience: SECOND,
            ..charge()
        });
        never(Charge {
            mode: ChargeMode::Observe,
            ..charge()
        });
    }
}
