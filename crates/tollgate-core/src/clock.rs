//! Time, which comes in from outside.
//!
//! A request reads the time once, wall clock and monotonic clock together, as one [`Moment`]. The
//! monotonic half decides limits; the wall half decides `expires` and is written out. This is the
//! only module of the crate that asks the machine for its time.
//!
//! ```
//! use std::time::Duration;
//! use tollgate_core::{Clock, ManualClock};
//!
//! let clock = ManualClock::at(1_700_000_000);
//! let before = clock.now();
//! clock.advance(Duration::from_secs(60));
//! assert_eq!(clock.now(), before.after(Duration::from_secs(60)));
//! clock.set_wall(0); // As an operator would.
//! assert!(clock.now().ticks > before.ticks);
//! ```

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;

use crate::future::BoxFuture;

/// Whole seconds since the first of January 1970, UTC.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixSeconds(pub u64);

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Moment {
    /// Nanoseconds on a clock that never goes back; its zero means nothing.
    pub ticks: u64,
    /// Nanoseconds since 1970, UTC, as the wall clock has it.
    pub unix_nanos: u64,
}

impl Moment {
    /// The wall clock's second.
    pub fn unix(self) -> UnixSeconds {
        UnixSeconds(self.unix_nanos / NANOS)
    }

    /// The moment `by` later on both clocks.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        let by = nanos(by);
        Self {
            ticks: self.ticks.saturating_add(by),
            unix_nanos: self.unix_nanos.saturating_add(by),
        }
    }
}

const NANOS: u64 = 1_000_000_000;

/// A duration in nanoseconds; about 584 years at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells the time and waits for it.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Moment;

    /// Waits until the monotonic clock has reached `at`.
    fn sleep_until(&self, at: Moment) -> BoxFuture<()>;

    /// Whether [`sleep_until`](Self::sleep_until) can be asked. Where it can not, a request that would
    /// wait for its turn is refused.
    fn sleeps(&self) -> bool {
        true
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Moment {
        (**self).now()
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<()> {
        (**self).sleep_until(at)
    }

    fn sleeps(&self) -> bool {
        (**self).sleeps()
    }
}

/// Reads the machine's clocks. A [`Clock`] needs a runtime's timer besides.
///
/// Both are told by the processor's own counter, and set by the system's clocks every 20 ms: reading
/// those takes five times as long. Between two settings the counter goes as fast as the system's clock
/// to some millionths; when somebody sets the wall clock, requests know 20 ms later. Where a processor
/// has no such counter, the system's monotonic clock stands in.
pub fn machine_time() -> Moment {
    static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::new);
    MACHINE.now()
}

/// The processor's counter, and what the system's clocks are ahead of it.
struct Machine {
    counter: quanta::Clock,
    counter_start: u64,
    start: Instant,
    set_at: AtomicU64, // By the counter, in nanoseconds; zero for never.
    ahead: AtomicU64,
    wall_ahead: AtomicU64,
}

impl Machine {
    const SET_EVERY: u64 = 20_000_000;

    fn new() -> Self {
        let counter = quanta::Clock::new();
        Self {
            counter_start: counter.raw(),
            counter,
            start: Instant::now(),
            set_at: AtomicU64::new(0),
            ahead: AtomicU64::new(0),
            wall_ahead: AtomicU64::new(0),
        }
    }

    #[inline]
    fn now(&self) -> Moment {
        let raw = self.counter.raw();
        let counted = self.counter.delta_as_nanos(self.counter_start, raw);
        // Acquire and release pair up: who sees the new time of setting sees what was set.
        let set_at = self.set_at.load(Acquire);
        // One that went back, as on a machine that was moved, is far from it too.
        if Self::SET_EVERY <= counted.wrapping_sub(set_at) || set_at == 0 {
            return self.set(counted);
        }
        let ticks = counted.wrapping_add(self.ahead.load(Relaxed));
        Moment {
            ticks,
            unix_nanos: ticks.wrapping_add(self.wall_ahead.load(Relaxed)),
        }
    }

    #[cold]
    fn set(&self, counted: u64) -> Moment {
        // One second in, so that "a little before now" needs no care for zero.
        let ticks = nanos(self.start.elapsed()).saturating_add(NANOS);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let unix_nanos = nanos(unix.unwrap_or_default());
        self.ahead.store(ticks.wrapping_sub(counted), Relaxed);
        self.wall_ahead
            .store(unix_nanos.wrapping_sub(ticks), Relaxed);
        self.set_at.store(counted.max(1), Release);
        Moment { ticks, unix_nanos }
    }
}

/// The machine's clocks, without a timer: it tells the time and can not wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Moment {
        machine_time()
    }

    fn sleep_until(&self, _at: Moment) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }

    fn sleeps(&self) -> bool {
        false
    }
}

/// A clock that stands until it is moved: for tests.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
}

#[derive(Debug, Default)]
struct ManualState {
    now: Moment,
    sleepers: Vec<(u64, Waker)>,
}

impl ManualClock {
    /// A clock that stands at this wall-clock second.
    pub fn at(unix_seconds: u64) -> Self {
        let now = Moment {
            ticks: NANOS,
            unix_nanos: unix_seconds.saturating_mul(NANOS),
        };
        Self {
            state: Arc::new(Mutex::new(ManualState {
                now,
                sleepers: Vec::new(),
            })),
        }
    }

    /// Moves both clocks on, and wakes who waited for it.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock();
        state.now = state.now.after(by);
        let now = state.now.ticks;
        let sleepers = std::mem::take(&mut state.sleepers);
        let (woken, asleep): (Vec<_>, _) = sleepers.into_iter().partition(|(at, _)| *at <= now);
        state.sleepers = asleep;
        drop(state);
        woken.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Sets the wall clock alone, as an operator or NTP would.
    pub fn set_wall(&self, unix_seconds: u64) {
        self.state.lock().now.unix_nanos = unix_seconds.saturating_mul(NANOS);
    }

    /// How many wait for this clock.
    pub fn sleepers(&self) -> usize {
        self.state.lock().sleepers.len()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        self.state.lock().now
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<()> {
        let state = self.state.clone();
        Box::pin(std::future::poll_fn(move |cx| {
            let mut state = state.lock();
            if state.now.ticks >= at.ticks {
                return Poll::Ready(());
            }
            state
                .sleepers
                .retain(|(_, waker)| !waker.will_wake(cx.waker()));
            state.sleepers.push((at.ticks, cx.waker().clone()));
            Poll::Pending
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_time_is_that_of_the_systems_clocks() {
        machine_time(); // The first one compares the clocks, which takes long on a busy machine.
        let (start, unix) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let first = machine_time();
        let mut last = first;
        while start.elapsed() < Duration::from_millis(100) {
            let now = machine_time();
            let back = last.ticks.saturating_sub(now.ticks);
            assert!(back < 1_000_000, "{back} ns back");
            last = now;
        }
        let elapsed = nanos(start.elapsed());
        let counted = machine_time().ticks - first.ticks;
        assert!(
            counted.abs_diff(elapsed) < 5_000_000,
            "{counted} for {elapsed}"
        );
        let wall = nanos(unix.elapsed().expect("after 1970"));
        assert!(machine_time().unix_nanos.abs_diff(wall) < 50_000_000);
    }
}
