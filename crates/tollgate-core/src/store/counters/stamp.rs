//! What is known of a counter without its lock: that a charge was refused, and will be for a while.

use std::{
    num::NonZeroU64,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
    time::Duration,
};

use super::super::{Charge, tally};
use crate::{
    clock::nanos,
    limits::{Limit, Period, Quota},
};

/// A charge of one unit that passes or is refused, as words.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Question {
    kind: u64,
    max: u64,
    window: u64,
}

impl Question {
    /// `None` where the answer hangs on more than the limit and the tally.
    #[inline]
    pub(super) fn of(charge: &Charge) -> Option<Self> {
        if charge.cost != NonZeroU64::MIN || !tally::refuses(charge) {
            return None;
        }
        match &charge.limit {
            Limit::Rate(rate) => Some(Self {
                kind: rate.algorithm as u64,
                max: rate.requests.get(),
                window: rate.window_nanos(),
            }),
            Limit::Quota(Quota {
                max,
                period: Period::Every(length),
            }) => Some(Self {
                kind: u64::MAX,
                max: max.get(),
                window: nanos(*length),
            }),
            Limit::Quota(_) => None,
        }
    }
}

/// A refusal that holds until a time, read without the counter's lock.
///
/// It answers the same question again, no earlier than it was answered first. Whoever locks the counter
/// to change it, or to answer another question, clears it first. So the count is as it was, and so are
/// the times: what is counted leaves the window when it was said to. (Wide slots that are shared by
/// rates of several windows do not learn that the longest was asked for meanwhile. Who clears the stamp
/// tells them so: they stay wide as if it had been asked for just then.)
///
/// Its words are read one by one, and a reader takes none of them if a write came in between: `state`
/// is odd while one is under way, and another number after each.
#[derive(Default)]
pub(super) struct Stamp {
    state: AtomicU64, // The last bit: being written. The one before: there is one.
    kind: AtomicU64,
    max: AtomicU64,
    window: AtomicU64,
    since: AtomicU64,
    until: AtomicU64,
    resets_at: AtomicU64,
}

impl Stamp {
    const WRITING: u64 = 1;
    const SET: u64 = 2;
    const NEXT: u64 = 4;

    /// How long the charge is still refused and until nothing counts; `None` for "ask the tally".
    #[inline]
    pub(super) fn denies(&self, charge: &Charge, now: u64) -> Option<(Duration, Duration)> {
        let state = self.state.load(Acquire);
        if state & (Self::WRITING | Self::SET) != Self::SET {
            return None;
        }
        let question = Question {
            kind: self.kind.load(Relaxed),
            max: self.max.load(Relaxed),
            window: self.window.load(Relaxed),
        };
        let (since, until) = (self.since.load(Relaxed), self.until.load(Relaxed));
        let resets_at = self.resets_at.load(Relaxed);
        fence(Acquire);
        if self.state.load(Relaxed) != state || now < since || until <= now {
            return None;
        }
        let left = |at: u64| Duration::from_nanos(at.saturating_sub(now));
        (Question::of(charge)? == question).then(|| (left(until), left(resets_at)))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.state.load(Relaxed) & Self::SET != 0
    }

    // Both are called with the counter locked: there is one writer.

    /// Tells whether there was one.
    #[inline]
    pub(super) fn clear(&self) -> bool {
        let state = self.state.load(Relaxed);
        let was_set = state & Self::SET != 0;
        if was_set {
            self.state.store((state & !Self::SET) + Self::NEXT, Relaxed);
        }
        was_set
    }

    pub(super) fn write(&self, question: &Question, since: u64, until: u64, resets_at: u64) {
        let state = self.state.load(Relaxed) & !Self::SET;
        self.state.store(state + Self::WRITING, Relaxed);
        fence(Release);
        self.kind.store(question.kind, Relaxed);
        self.max.store(question.max, Relaxed);
        self.window.store(question.window, Relaxed);
        self.since.store(since, Relaxed);
        self.until.store(until, Relaxed);
        self.resets_at.store(resets_at, Relaxed);
        self.state.store(state + Self::NEXT + Self::SET, Release);
    }
}
