//! Upstreams that are left alone when they fail: `circuit_breakers`.
//!
//! Closed, a breaker counts how exchanges of the last ten seconds ended. It opens where the last one
//! failed, there were enough of them, and the part that failed reaches the threshold. Open, it answers 503
//! in the upstream's place, until the time of rest is over; meanwhile, unless that is switched off, single
//! requests are let through to see whether the upstream is back, the first after half a second and each
//! half as long again after the one before. One that succeeds closes it.
//!
//! A server error (5xx) and no answer at all are failures; a client that breaks off is none.
//!
//! Tyk's own breaker (`rubyist/circuitbreaker`, a rate over a window with a minimum of samples, and probes
//! with growing pauses) has no like among the crates that are kept: they count in a row, or close after
//! probes alone. Counts are a process's own, and begin anew with a reload.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many buckets of a second make the window.
const BUCKETS: usize = 10;
const FIRST_PROBE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// When a breaker opens, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which part of exchanges fails, from 0 to 1.
    pub threshold: f64,
    /// Of how many at least.
    pub samples: u64,
    /// How long it stays open.
    pub rest: Duration,
    /// Whether single requests are let through meanwhile.
    pub probes: bool,
}

/// The breaker of one entry. All requests share it.
#[derive(Debug)]
pub struct Breaker {
    settings: Settings,
    /// The API and the path, for the log.
    name: String,
    start: Instant,
    state: Mutex<State>, // Held for a few instructions, never across a wait.
}

#[derive(Debug, Default)]
struct State {
    window: Window,
    open: Option<Open>,
}

/// How exchanges ended, by second.
#[derive(Debug, Default)]
struct Window {
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    succeeded: u64,
    failed: u64,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    next_probe: Instant,
    pause: Duration,
    is_probing: bool,
}

/// Lets one exchange begin. It wants to be told how that ended; dropped without, it counts nothing.
#[derive(Debug)]
#[must_use = "says how the exchange ended"]
pub struct Permit {
    breaker: Arc<Breaker>,
    is_probe: bool,
}

impl Window {
    fn add(&mut self, second: u64, has_succeeded: bool) {
        let at = usize::try_from(second).unwrap_or_default() % BUCKETS;
        let bucket = &mut self.buckets[at];
        if bucket.second != second {
            *bucket = Bucket {
                second,
                ..Bucket::default()
            };
        }
        if has_succeeded {
            bucket.succeeded += 1;
        } else {
            bucket.failed += 1;
        }
    }

    /// How many failed, and how many there were.
    fn count(&self, second: u64) -> (u64, u64) {
        let is_recent = |bucket: &&Bucket| second < bucket.second + BUCKETS as u64;
        let recent = self.buckets.iter().filter(is_recent);
        recent.fold((0, 0), |(failed, all), bucket| {
            (
                failed + bucket.failed,
                all + bucket.failed + bucket.succeeded,
            )
        })
    }
}

impl Breaker {
    /// A breaker that is closed. The name is for the log.
    pub fn new(settings: Settings, name: String) -> Arc<Self> {
        Arc::new(Self {
            settings,
            name,
            start: Instant::now(),
            state: Mutex::default(),
        })
    }

    /// Whether an exchange may begin; none where the upstream is left alone.
    pub fn ask(self: &Arc<Self>, now: Instant) -> Option<Permit> {
        let permit = |is_probe| {
            Some(Permit {
                breaker: self.clone(),
                is_probe,
            })
        };
        let mut state = self.state();
        let Some(open) = &mut state.open else {
            return permit(false);
        };
        if open.until <= now {
            self.close(&mut state);
            return permit(false);
        }
        if !self.settings.probes || open.is_probing || now < open.next_probe {
            return None;
        }
        open.is_probing = true;
        permit(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, is_probe: bool, has_succeeded: bool, now: Instant) {
        let mut state = self.state();
        match &mut state.open {
            Some(_) if is_probe && has_succeeded => self.close(&mut state),
            Some(open) if is_probe => {
                open.is_probing = false;
                open.next_probe = now + open.pause;
                open.pause = (open.pause + open.pause / 2).min(LONGEST_PAUSE);
            }
            Some(_) => {} // It began before the breaker opened.
            None => self.count(&mut state, has_succeeded, now),
        }
    }

    fn count(&self, state: &mut State, has_succeeded: bool, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        state.window.add(second, has_succeeded);
        if has_succeeded {
            return;
        }
        let (failed, all) = state.window.count(second);
        if all < self.settings.samples || (failed as f64) < self.settings.threshold * all as f64 {
            return;
        }
        tracing::warn!(breaker = %self.name, failed, of = all, "an upstream is left alone");
        state.open = Some(Open {
            until: now + self.settings.rest,
            next_probe: now + FIRST_PROBE,
            pause: FIRST_PROBE + FIRST_PROBE / 2,
            is_probing: false,
        });
    }

    fn close(&self, state: &mut State) {
        tracing::warn!(breaker = %self.name, "an upstream is asked again");
        *state = State::default();
    }
}

impl Permit {
    /// The exchange ended.
    pub fn ended(self, has_succeeded: bool, now: Instant) {
        self.breaker.ended(self.is_probe, has_succeeded, now);
    }
}

impl Drop for Permit {
    /// Lets another probe follow one that was broken off.
    fn drop(&mut self) {
        if let Some(open) = self.breaker.state().open.as_mut().filter(|_| self.is_probe) {
            open.is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens at which tenth of a second: `+` and `-` are exchanges that succeed and fail, `?` is
    /// one that is broken off, `!` one that is refused.
    #[track_caller]
    fn check(probes: bool, story: &[(u64, &str)]) {
        let settings = Settings {
            threshold: 0.5,
            samples: 4,
            rest: Duration::from_secs(5),
            probes,
        };
        let breaker = Breaker::new(settings, "test".into());
        for (tenths, events) in story {
            let now = breaker.start + Duration::from_millis(tenths * 100);
            for event in events.chars() {
                match (breaker.ask(now), event) {
                    (Some(permit), '+') => permit.ended(true, now),
                    (Some(permit), '-') => permit.ended(false, now),
                    (Some(permit), '?') => drop(permit),
                    (None, '!') => {}
                    (asked, _) => panic!("{event} at {tenths}: {asked:?}"),
                }
            }
        }
    }

    #[test]
    fn it_opens_where_enough_of_enough_fail() {
        check(false, &[(0, "---"), (1, "-!")]);
        check(false, &[(0, "++--!")]);
        check(false, &[(0, "+++--+--!")]);
        check(false, &[(0, "+++++--+-+")]);
        check(false, &[(0, "--++"), (1, "+")]); // A success opens nothing.
        check(false, &[(0, "???---"), (1, "-!")]);
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        check(false, &[(0, "---"), (105, "---"), (106, "-!")]);
        check(false, &[(0, "---"), (94, "-!")]);
    }

    #[test]
    fn it_closes_when_its_rest_is_over() {
        check(false, &[(0, "----!"), (49, "!"), (50, "+++---"), (51, "!")]);
    }

    #[test]
    fn single_requests_find_out_whether_the_upstream_is_back() {
        check(true, &[(0, "----!"), (4, "!"), (5, "+"), (6, "---+")]);
        check(
            true,
            &[
                (0, "----"),
                (5, "-!"),
                (12, "!"),
                (13, "-!"),
                (24, "!"),
                (25, "+++"),
            ],
        );
        check(true, &[(0, "----"), (5, "?-!")]);
    }

    #[test]
    fn one_probe_at_a_time() {
        let settings = Settings {
            threshold: 1.0,
            samples: 1,
            rest: Duration::from_secs(60),
            probes: true,
        };
        let breaker = Breaker::new(settings, "test".into());
        let opened = breaker.start;
        breaker.ask(opened).expect("closed").ended(false, opened);
        let later = opened + Duration::from_secs(1);
        let probe = breaker.ask(later).expect("a probe");
        assert!(breaker.ask(later).is_none());
        probe.ended(true, later);
        assert!(breaker.ask(later).is_some());
    }
}
