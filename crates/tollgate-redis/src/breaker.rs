//! Leaves a server alone that fails again and again, so that no request waits for it.
//!
//! While it is open, requests are told so at once. Whether the server is back is tried in the background, by
//! [`Link`](crate::link::Link); should nobody do that, one request tries after a while.

use std::time::Duration;

/// How many failures in [`WITHIN`], and the time that waiting for them took, open the breaker.
const FAILURES: u32 = 5;
const WITHIN: Duration = Duration::from_secs(1);
/// What fails within so many nanoseconds is one failure: a connection that breaks takes all its calls along.
const AT_ONCE: u64 = 2_000_000;
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);
/// How long a request lets the background try alone, in nanoseconds.
const GRACE: u64 = 3_000_000_000;

/// What a breaker says of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Says {
    /// Call.
    Go,
    /// Do not; there may be an answer after this time.
    Wait(Duration),
}

/// Closed, or open. Times are ticks of the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// Since when failures are counted, the last one, and how many.
    failures: (u64, u64, u32),
    /// Until when the server is left alone; zero where it is closed.
    open_until: u64,
    /// How often it opened without an answer in between.
    openings: u32,
    /// Until when others wait for the request that tries; zero for none.
    tries_until: u64,
}

impl Breaker {
    /// Whether to call now. `patience` is how long a call may take.
    pub(crate) fn ask(&mut self, now: u64, patience: Duration) -> Says {
        if self.open_until == 0 {
            return Says::Go;
        }
        let waits_until = self.open_until.saturating_add(GRACE).max(self.tries_until);
        if now < waits_until {
            let hopes_for = self.open_until.saturating_sub(now);
            return Says::Wait(Duration::from_nanos(hopes_for).max(patience));
        }
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        self.tries_until = now.saturating_add(patience);
        Says::Go
    }

    /// When to try whether the server is back; zero where it is there.
    pub(crate) fn open_until(&self) -> u64 {
        self.open_until
    }

    /// There was an answer. Says whether there had not been before.
    pub(crate) fn answered(&mut self) -> bool {
        let was_open = self.open_until != 0;
        *self = Self::default();
        was_open
    }

    /// A request got none, within `patience` at most. `jitter`, from 0 to 1, spreads the tries of many nodes. Says
    /// whether that opened it.
    pub(crate) fn failed(&mut self, now: u64, patience: Duration, jitter: f64) -> bool {
        if self.open_until != 0 {
            // One of before, or the one that tries.
            if self.tries_until != 0 {
                self.open(now, jitter);
            }
            return false;
        }
        let (since, last, count) = self.failures;
        let within = WITHIN.saturating_add(patience.saturating_mul(FAILURES));
        let is_fresh = Duration::from_nanos(now.saturating_sub(since)) <= within;
        let is_same = now.saturating_sub(last) < AT_ONCE;
        self.failures = match (is_fresh && count > 0, is_same) {
            (true, true) => (since, last, count),
            (true, false) => (since, now, count + 1),
            (false, _) => (now, now, 1),
        };
        if self.failures.2 < FAILURES {
            return false;
        }
        self.open(now, jitter);
        true
    }

    /// The server is not back.
    pub(crate) fn open(&mut self, now: u64, jitter: f64) {
        let longer = SHORTEST.saturating_mul(1 << self.openings.min(10));
        let rest = longer.min(LONGEST).mul_f64(0.5 + jitter / 2.0);
        self.open_until = now.saturating_add(rest.as_nanos() as u64).max(1);
        self.tries_until = 0;
        self.openings = self.openings.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PATIENCE: Duration = Duration::from_millis(20);

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        let opened = (1..=5).map(|failure| breaker.failed(failure * 5 * MS, PATIENCE, 1.0));
        assert_eq!(
            opened.collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
        breaker
    }

    #[test]
    fn it_opens_after_five_failures_that_are_close() {
        assert_eq!(opened().open_until(), 275 * MS);
        let mut breaker = Breaker::default();
        for failure in 0..20 {
            assert!(!breaker.failed(failure * 600 * MS, PATIENCE, 1.0));
        }
    }

    #[test]
    fn what_fails_together_is_one_failure() {
        let mut breaker = Breaker::default();
        for call in 0..100 {
            assert!(!breaker.failed(MS + call * 1000, PATIENCE, 1.0));
        }
    }

    #[test]
    fn nobody_waits_while_it_is_open_nor_makes_it_longer() {
        let mut breaker = opened();
        let says = |breaker: &mut Breaker, ms| breaker.ask(ms * MS, PATIENCE);
        assert_eq!(
            says(&mut breaker, 25),
            Says::Wait(Duration::from_millis(250))
        );
        assert!(!breaker.failed(26 * MS, PATIENCE, 1.0), "one of before");
        assert_eq!(breaker.open_until(), 275 * MS);
        assert_eq!(
            says(&mut breaker, 300),
            Says::Wait(PATIENCE),
            "the background tries"
        );
        breaker.open(300 * MS, 1.0);
        assert_eq!(breaker.open_until(), 800 * MS, "longer");
        assert!(breaker.answered(), "it closes");
        assert_eq!(says(&mut breaker, 801), Says::Go);
        assert_eq!(says(&mut breaker, 801), Says::Go);
    }

    #[test]
    fn a_request_tries_where_nobody_does() {
        let mut breaker = opened();
        assert_eq!(breaker.ask(3275 * MS, PATIENCE), Says::Go);
        assert_eq!(
            breaker.ask(3275 * MS, PATIENCE),
            Says::Wait(PATIENCE),
            "one tries already"
        );
        breaker.failed(3295 * MS, PATIENCE, 1.0);
        assert_eq!(breaker.open_until(), 3795 * MS);
    }

    #[test]
    fn it_never_rests_longer_than_five_seconds() {
        let mut breaker = opened();
        for _ in 0..100 {
            let now = breaker.open_until();
            breaker.open(now, 1.0);
            assert!(breaker.open_until() - now <= LONGEST.as_nanos() as u64);
        }
    }
}
