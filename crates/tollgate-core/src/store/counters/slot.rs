//! A counter that somebody holds, with a lock of its own.

use std::time::Duration;

use super::{
    super::{
        Charge, Standing, Verdict,
        tally::{self, Alone, Tally},
    },
    stamp::{Question, Stamp},
};
use crate::{
    clock::{Moment, nanos},
    sync::{Mutex, MutexGuard, OnceLock},
};

/// A counter that somebody holds. It has a cache line of its own, so that two hot counters do not
/// slow down each other.
#[repr(align(64))]
pub(crate) struct Slot {
    pub(super) tally: Mutex<Tally>,
    pub(super) table: u64,
    pub(super) print: u64,
    stamp: OnceLock<Box<Stamp>>, // Made with the first refusal.
}

#[cfg(not(tollgate_loom))] // Locks of models are larger.
const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    pub(super) fn new(table: u64, print: u64, tally: Tally) -> Self {
        Self {
            tally: Mutex::new(tally),
            table,
            print,
            stamp: OnceLock::new(),
        }
    }

    /// Locks it to be changed.
    #[inline]
    pub(super) fn lock(&self, now: Moment) -> MutexGuard<'_, Tally> {
        let mut tally = self.tally.lock();
        if self.stamp.get().is_some_and(|stamp| stamp.clear()) {
            tally.was_asked(now);
        }
        tally
    }

    /// Whether a charge was refused, and nothing happened since.
    #[inline]
    pub(super) fn is_stamped(&self) -> bool {
        self.stamp.get().is_some_and(|stamp| stamp.is_set())
    }

    /// Where the limit stands of a charge that was refused before and is refused again.
    #[inline]
    pub(super) fn denies(&self, charge: &Charge, now: Moment) -> Option<Standing> {
        let (retry_in, resets_in) = self.stamp.get()?.denies(charge, now.ticks)?;
        Some(Standing {
            max: charge.limit.max(),
            remaining: 0,
            retry_in,
            resets_in: Some(resets_in),
            exceeded: true,
        })
    }

    #[inline]
    pub(super) fn take(&self, batch: &[Charge; 1], now: Moment) -> Verdict {
        if let Some(standing) = self.denies(&batch[0], now) {
            return tally::refused(0, Some(standing.retry_in), [standing]);
        }
        let mut tally = self.lock(now);
        match tally::charge_alone(&batch[0], &mut tally, now) {
            Alone::Taken(standing) => tally::taken(now, [standing]),
            Alone::Refused(retry_in, standing) => {
                self.remember(&batch[0], &tally, retry_in, &standing, now.ticks);
                tally::refused(0, retry_in, [standing])
            }
            Alone::Unclear => tally::decide_apart(batch, [&mut tally], now),
        }
    }

    /// Stamps the slot with a refusal that will be repeated. The tally is still locked.
    #[cold]
    pub(super) fn remember(
        &self,
        charge: &Charge,
        tally: &Tally,
        retry_in: Option<Duration>,
        standing: &Standing,
        now: u64,
    ) {
        let (Some(question), Some(retry_in), Some(resets_in)) =
            (Question::of(charge), retry_in, standing.resets_in)
        else {
            return;
        };
        if standing.remaining == 0 && tally.stays_for(&charge.limit) {
            let at = |wait: Duration| now.saturating_add(nanos(wait));
            let stamp = self.stamp.get_or_init(Box::default);
            stamp.write(&question, now, at(retry_in), at(resets_in));
        }
    }
}
