//! What a tally asks of each way to count, whichever it is.
//!
//! The ways themselves are in `rate.rs` and `quota.rs` and know no limits, only numbers; here they are
//! asked about a limit.

use super::{max, window};
use crate::{
    clock::Moment,
    limits::Limit,
    quota::QuotaState,
    rate::{Bucket, Cell, FixedWindow, Gcra, Ring, Slots},
};

/// What a limit asks of a count at one moment.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) limit: &'a Limit,
    pub(super) max: u64,
    pub(super) window: u64, // Zero for a quota.
    pub(super) now: Moment,
}

impl<'a> Ask<'a> {
    #[inline]
    pub(super) fn new(limit: &'a Limit, now: Moment) -> Self {
        Self {
            limit,
            max: max(limit),
            window: window(limit),
            now,
        }
    }
}

/// One of the ways in which is counted.
pub(super) trait Form {
    /// What counts.
    fn used(&self, ask: &Ask<'_>) -> u64;

    /// How much may count.
    #[inline(always)]
    fn room(&self, ask: &Ask<'_>) -> u64 {
        ask.max
    }

    /// The tick from which on `cost` more fit; `None` for never. `cost` is not above the maximum.
    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64>;

    /// Whether `cost` more fit now.
    #[inline(always)]
    fn fits(&self, ask: &Ask<'_>, cost: u64) -> bool {
        self.used(ask).saturating_add(cost) <= ask.max
    }

    /// The tick at which what is counted now counts no more; `None` for never.
    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64>;

    fn add(&mut self, ask: &Ask<'_>, cost: u64);

    /// Gives back what was taken at the moment of `ask`.
    fn give_back(&mut self, ask: &Ask<'_>, cost: u64);
}

impl Form for Ring {
    #[inline(always)]
    fn used(&self, ask: &Ask<'_>) -> u64 {
        self.used(ask.window, ask.now.ticks)
    }

    #[inline(always)]
    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64> {
        Some(self.earliest(ask.max, ask.window, ask.now.ticks, cost))
    }

    #[inline(always)]
    fn fits(&self, ask: &Ask<'_>, cost: u64) -> bool {
        // Without a search for those that left the window.
        cost <= ask.max && self.earliest(ask.max, ask.window, ask.now.ticks, cost) <= ask.now.ticks
    }

    #[inline(always)]
    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64> {
        Some(self.resets_at(ask.window, ask.now.ticks))
    }

    #[inline(always)]
    fn add(&mut self, ask: &Ask<'_>, cost: u64) {
        self.add(ask.window, ask.now.ticks, cost);
    }

    fn give_back(&mut self, ask: &Ask<'_>, cost: u64) {
        self.give_back(ask.window, ask.now.ticks, cost);
    }
}

impl<C: Cell> Form for Slots<C> {
    #[inline(always)]
    fn used(&self, ask: &Ask<'_>) -> u64 {
        self.used(ask.window, ask.now.ticks)
    }

    #[inline(always)]
    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64> {
        Some(self.earliest(ask.max, ask.window, ask.now.ticks, cost))
    }

    #[inline(always)]
    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64> {
        Some(self.resets_at(ask.window, ask.now.ticks))
    }

    #[inline(always)]
    fn add(&mut self, ask: &Ask<'_>, cost: u64) {
        self.add(ask.now.ticks, cost);
    }

    fn give_back(&mut self, ask: &Ask<'_>, cost: u64) {
        self.give_back(ask.now.ticks, cost);
    }
}

impl Form for FixedWindow {
    #[inline(always)]
    fn used(&self, ask: &Ask<'_>) -> u64 {
        self.used(ask.now.ticks)
    }

    #[inline(always)]
    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64> {
        Some(self.earliest(ask.max, ask.now.ticks, cost))
    }

    #[inline(always)]
    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64> {
        Some(self.resets_at(ask.now.ticks))
    }

    #[inline(always)]
    fn add(&mut self, ask: &Ask<'_>, cost: u64) {
        self.add(ask.now, cost);
    }

    fn give_back(&mut self, ask: &Ask<'_>, cost: u64) {
        self.give_back(ask.now.ticks, cost);
    }
}

impl Form for Bucket {
    #[inline(always)]
    fn used(&self, ask: &Ask<'_>) -> u64 {
        self.used(ask.now.ticks)
    }

    #[inline(always)]
    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64> {
        Some(self.earliest(ask.max, ask.now.ticks, cost))
    }

    #[inline(always)]
    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64> {
        Some(self.resets_at(ask.now.ticks))
    }

    #[inline(always)]
    fn add(&mut self, ask: &Ask<'_>, cost: u64) {
        self.add(ask.window, ask.now.ticks, cost);
    }

    fn give_back(&mut self, ask: &Ask<'_>, cost: u64) {
        self.give_back(ask.now.ticks, cost);
    }
}

impl Form for Gcra {
    #[inline(always)]
    fn used(&self, ask: &Ask<'_>) -> u64 {
        self.used(ask.now.ticks)
    }

    #[inline(always)]
    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64> {
        Some(self.earliest(ask.max, ask.now.ticks, cost))
    }

    #[inline(always)]
    fn fits(&self, ask: &Ask<'_>, cost: u64) -> bool {
        // Without the division that telling how many were used needs.
        cost <= ask.max && self.earliest(ask.max, ask.now.ticks, cost) <= ask.now.ticks
    }

    #[inline(always)]
    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64> {
        Some(self.resets_at(ask.now.ticks))
    }

    #[inline(always)]
    fn add(&mut self, ask: &Ask<'_>, cost: u64) {
        self.add(ask.now.ticks, cost);
    }

    fn give_back(&mut self, ask: &Ask<'_>, cost: u64) {
        self.give_back(ask.now.ticks, cost);
    }
}

impl Form for QuotaState {
    #[inline(always)]
    fn used(&self, ask: &Ask<'_>) -> u64 {
        self.used(ask.now)
    }

    #[inline(always)]
    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64> {
        self.earliest(ask.max, ask.now, cost)
    }

    #[inline(always)]
    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64> {
        self.resets_at(ask.now)
    }

    #[inline(always)]
    fn add(&mut self, ask: &Ask<'_>, cost: u64) {
        let Limit::Quota(quota) = ask.limit else {
            unreachable!("fitted before")
        };
        self.add(quota, ask.now, cost);
    }

    fn give_back(&mut self, ask: &Ask<'_>, cost: u64) {
        self.give_back(ask.now, cost);
    }
}
