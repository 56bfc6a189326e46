//! Clocks for services: those of [`tollgate_core::clock`], and one that waits with tokio's timer.
//!
//! ```
//! use tollgate::{Rate, clock::ManualClock, limits::RateLimitLayer};
//!
//! let layer = RateLimitLayer::global(Rate::per_second(1)).with_clock(ManualClock::at(0));
//! ```

use std::sync::Arc;

pub use tollgate_core::clock::{Clock, ManualClock, Moment, UnixSeconds};

/// The machine's clocks, and tokio's timer to wait with.
///
/// Waiting needs a tokio runtime with its timer enabled; reading the time needs none.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

#[cfg(feature = "tokio")]
impl Clock for TokioClock {
    fn now(&self) -> Moment {
        tollgate_core::clock::machine_time()
    }

    fn sleep_until(&self, at: Moment) -> tollgate_core::future::BoxFuture<()> {
        let left = at.ticks.saturating_sub(self.now().ticks);
        Box::pin(async move { tokio::time::sleep(std::time::Duration::from_nanos(left)).await })
    }
}

#[cfg(feature = "tokio")]
pub(crate) fn default_clock() -> Arc<dyn Clock> {
    let clock = TokioClock;
    clock.now(); // The first reading takes longer, and no request should wait for it.
    Arc::new(clock)
}

/// Without a runtime's timer nothing can wait: a request that would be throttled is refused.
#[cfg(not(feature = "tokio"))]
pub(crate) fn default_clock() -> Arc<dyn Clock> {
    Arc::new(tollgate_core::clock::MachineClock)
}
