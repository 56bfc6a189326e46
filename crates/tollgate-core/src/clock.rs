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
/// The wall clock is read every 20 ms; between two readings it goes on with the monotonic one. When
/// somebody sets it, requests know 20 ms later.
pub fn machine_time() -> Moment {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // One second in, so that "a little before now" needs no care for zero.
    let ticks = nanos(START.elapsed()).saturating_add(NANOS);
    Moment {
        ticks,
        unix_nanos: ticks.wrapping_add(wall_offset(ticks)),
    }
}

/// What the wall clock is ahead of the monotonic one, as of the last reading.
fn wall_offset(ticks: u64) -> u64 {
    const EVERY: u64 = 20_000_000;
    static READ_AT: AtomicU64 = AtomicU64::new(0);
    static OFFSET: AtomicU64 = AtomicU64::new(0);
    // Acquire and release pair up: who sees the new time of reading sees its offset too.
    if ticks.saturating_sub(READ_AT.load(Acquire)) < EVERY {
        return OFFSET.load(Relaxed);
    }
    let unix = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let offset = nanos(unix).wrapping_sub(ticks);
    OFFSET.store(offset, Relaxed);
    READ_AT.store(ticks, Release);
    offset
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
