//! Leaves a server alone that fails again and again, so that no request waits for it.

use std::time::Duration;

/// How many failures in [`WITHIN`], and the time that waiting for them took, open the breaker.
const FAILURES: u32 = 5;
const WITHIN: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

/// What a breaker says of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Says {
    /// Call.
    Go,
    /// Do not; there may be an answer after this time.
    Wait(Duration),
}

/// Closed, open, or open with one call on its way that tries. Times are ticks of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// Since when failures are counted, and how many.
    failures: (u64, u32),
    /// Until when nobody calls; zero where it is closed.
    open_until: u64,
    /// How often it opened without an answer in between.
    openings: u32,
    /// Until when others wait for the call that tries.
    tries_until: u64,
}

impl Breaker {
    /// Whether to call now. Of those who ask when its time is over, one tries; `patience` is how long
    /// that may take.
    pub(crate) fn ask(&mut self, now: u64, patience: Duration) -> Says {
        let waits_until = self.open_until.max(self.tries_until);
        if now < waits_until {
            return Says::Wait(Duration::from_nanos(waits_until - now));
        }
        if self.open_until != 0 {
            let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
            self.tries_until = now.saturating_add(patience);
        }
        Says::Go
    }

    /// There was an answer. Says whether there had not been before.
    pub(crate) fn answered(&mut self) -> bool {
        let was_open = self.open_until != 0;
        *self = Self::default();
        was_open
    }

    /// There was none, within `patience` at most. `jitter`, from 0 to 1, spreads the tries of many nodes.
    /// Says whether that opened it.
    pub(crate) fn failed(&mut self, now: u64, patience: Duration, jitter: f64) -> bool {
        let (since, count) = self.failures;
        let within = WITHIN.saturating_add(patience.saturating_mul(FAILURES));
        let is_fresh = Duration::from_nanos(now.saturating_sub(since)) <= within;
        self.failures = if is_fresh {
            (since, count + 1)
        } else {
            (now, 1)
        };
        let was_open = self.open_until != 0;
        if !was_open && self.failures.1 < FAILURES {
            return false;
        }
        let longer = SHORTEST.saturating_mul(1 << self.openings.min(10));
        let rest = longer.min(LONGEST).mul_f64(0.5 + jitter / 2.0);
        self.open_until = now.saturating_add(rest.as_nanos() as u64).max(1);
        self.tries_until = 0;
        self.openings = self.openings.saturating_add(1);
        !was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PATIENCE: Duration = Duration::from_millis(20);

    #[test]
    fn five_failures_within_a_second_open_it() {
        let mut breaker = Breaker::default();
        for failure in 0..4 {
            assert!(!breaker.failed(failure * 10 * MS, PATIENCE, 1.0));
        }
        assert_eq!(breaker.ask(50 * MS, PATIENCE), Says::Go);
        assert!(breaker.failed(50 * MS, PATIENCE, 1.0), "the fifth");
        let waits = breaker.ask(60 * MS, PATIENCE);
        assert_eq!(waits, Says::Wait(Duration::from_millis(240)));
    }

    #[test]
    fn failures_far_apart_do_not() {
        let mut breaker = Breaker::default();
        for failure in 0..20 {
            assert!(!breaker.failed(failure * 600 * MS, PATIENCE, 1.0));
        }
    }

    #[test]
    fn one_tries_when_its_time_is_over() {
        let mut breaker = Breaker::default();
        for _ in 0..5 {
            breaker.failed(0, PATIENCE, 1.0);
        }
        assert_eq!(breaker.ask(250 * MS, PATIENCE), Says::Go);
        let other = breaker.ask(250 * MS, PATIENCE);
        assert_eq!(other, Says::Wait(PATIENCE), "one tries already");
        breaker.failed(270 * MS, PATIENCE, 1.0);
        let longer = breaker.ask(270 * MS, PATIENCE);
        assert_eq!(longer, Says::Wait(Duration::from_millis(500)));
        assert_eq!(breaker.ask(770 * MS, PATIENCE), Says::Go);
        assert!(breaker.answered(), "it closes");
        assert_eq!(breaker.ask(770 * MS, PATIENCE), Says::Go);
        assert_eq!(breaker.ask(770 * MS, PATIENCE), Says::Go);
    }

    #[test]
    fn it_never_waits_longer_than_five_seconds() {
        let mut breaker = Breaker::default();
        let mut now = 0;
        for _ in 0..100 {
            breaker.failed(now, PATIENCE, 1.0);
            if let Says::Wait(wait) = breaker.ask(now, PATIENCE) {
                assert!(wait <= LONGEST, "{wait:?}");
                now += wait.as_nanos() as u64;
            }
        }
    }
}
