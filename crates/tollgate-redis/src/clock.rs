//! The server's clock, as far as it is known here.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tollgate_core::Moment;

/// How far the server's clock is ahead of the ticks here, in microseconds.
///
/// Moments at which units were taken are the server's; here they are told as ticks, and told back when
/// the units are given back. So the difference stays as it is, though each answer tells it anew, until
/// the clocks have drifted apart.
#[derive(Debug, Default)]
pub(crate) struct ServerClock(Mutex<Ahead>);

#[derive(Debug, Default)]
struct Ahead {
    /// `None` where the server never said anything.
    by: Option<i64>,
    /// The last changes: in which tick, and what it was before.
    changes: VecDeque<(u64, i64)>,
    /// The largest difference seen since then: answers that came late tell smaller ones.
    largest: i64,
    since: u64,
}

impl ServerClock {
    /// From so many microseconds on, the clocks have drifted apart.
    const APART: i64 = 1000;
    /// For so many nanoseconds answers are looked at before the server's clock is said to go slower.
    const WATCHED: u64 = 10_000_000_000;
    /// So many changes are remembered: the first answers, on a busy machine, make several.
    const CHANGES: usize = 16;

    /// The server said `server`, and its answer is here at `received`: its clock is ahead by the
    /// difference at least.
    pub(crate) fn set(&self, server: u64, received: Moment) {
        let seen = signed(server).saturating_sub(signed(received.ticks / 1000));
        let mut ahead = self.0.lock();
        let Some(by) = ahead.by else {
            *ahead = Ahead {
                by: Some(seen),
                changes: VecDeque::new(),
                largest: seen,
                since: received.ticks,
            };
            return;
        };
        ahead.largest = ahead.largest.max(seen);
        let is_watched = received.ticks.saturating_sub(ahead.since) >= Self::WATCHED;
        let is_ahead = by + Self::APART < seen;
        let is_behind = is_watched && ahead.largest < by - Self::APART;
        if is_ahead || is_behind {
            let now = if is_ahead { seen } else { ahead.largest };
            // The answer's own moment is told by the new difference.
            let changed = received.ticks / 1000 * 1000;
            if ahead.changes.len() == Self::CHANGES {
                ahead.changes.pop_front();
            }
            ahead.changes.push_back((changed, by));
            ahead.by = Some(now);
        }
        if is_watched {
            (ahead.largest, ahead.since) = (seen, received.ticks);
        }
    }

    /// The server's Unix time in microseconds; the wall clock's where the server never said anything.
    pub(crate) fn micros(&self, at: Moment) -> u64 {
        let ahead = self.0.lock();
        let Some(by) = ahead.by else {
            return at.unix_nanos / 1000;
        };
        // Of a moment before the difference changed, the earliest reading is the safe one.
        let later = ahead
            .changes
            .iter()
            .filter(|(changed, _)| at.ticks < *changed);
        let by = later.fold(by, |by, (_, before)| by.min(*before));
        u64::try_from(signed(at.ticks / 1000).saturating_add(by)).unwrap_or_default()
    }

    /// The moment here at which the server's clock says `server`.
    pub(crate) fn moment(&self, server: u64, now: Moment) -> Moment {
        let Some(by) = self.0.lock().by else {
            return now;
        };
        let ticks = u64::try_from(signed(server).saturating_sub(by)).unwrap_or_default();
        let ticks = ticks.saturating_mul(1000);
        let unix_nanos = if now.ticks <= ticks {
            now.unix_nanos.saturating_add(ticks - now.ticks)
        } else {
            now.unix_nanos.saturating_sub(now.ticks - ticks)
        };
        Moment { ticks, unix_nanos }
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Moment {
        Moment {
            ticks: micros * 1000,
            unix_nanos: 5_000_000,
        }
    }

    #[test]
    fn a_moment_goes_there_and_back() {
        let clock = ServerClock::default();
        assert_eq!(clock.micros(at(10)), 5000, "nothing is known");
        clock.set(1_000_000, at(100)); // It took until 100 to hear of it.
        assert_eq!(clock.micros(at(90)), 999_990, "not later than it was");
        let moment = clock.moment(1_234_567, at(100));
        assert_eq!(clock.micros(moment), 1_234_567);
        clock.set(1_000_950, at(1_200)); // This answer came late.
        assert_eq!(clock.micros(moment), 1_234_567, "it stays");
    }

    #[test]
    fn clocks_that_drift_apart_are_followed() {
        let clock = ServerClock::default();
        clock.set(1_000_000, at(0));
        clock.set(1_012_000, at(10_000));
        assert_eq!(
            clock.micros(at(10_000)),
            1_012_000,
            "the server's is faster"
        );
        assert_eq!(clock.micros(at(9_000)), 1_009_000, "before, the earlier");
        clock.set(6_000_000, at(5_000_000));
        assert_eq!(clock.micros(at(5_000_000)), 6_002_000, "one late answer");
        clock.set(16_000_000, at(15_000_000));
        clock.set(26_000_000, at(25_000_000));
        clock.set(36_000_000, at(35_000_000));
        assert_eq!(clock.micros(at(35_000_000)), 36_000_000, "it is slower");
    }
}
