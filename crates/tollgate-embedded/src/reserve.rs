//! Units that were drawn from the file and wait to be used: why a limit is never exceeded.
//!
//! The file holds a *mark* for each counter that is never below what counts. Here is what lies between
//! the two: *tokens*. A request is admitted by taking tokens, under the lock that its count in memory is
//! changed under, so that
//!
//! 1. *tokens and count together only grow by a draw*: admitting moves units from the tokens to the
//!    count, giving back moves them back, and a window that passes takes some away;
//! 2. *a draw is written before its tokens are there*: the mark of a draw is the count, the tokens that
//!    are there, those on their way, and the new ones, and they are handed out when it is durable. So
//!    until the next draw the count is at or below the mark;
//! 3. *no token outlives its mark*: it is void before units that it could admit would count longer than
//!    the mark is said to. In a period that runs it is void when the period ends; where none runs, a
//!    token may start one only for a short while, and the mark counts that much longer.
//!
//! Who waited for a draw has a [`Claim`] on as much as it waited for, until it has looked again: requests
//! that come by meanwhile do not take it away, however often they come.
//!
//! After a crash a counter begins with its mark. What was drawn and not used is lost to it: one chunk at
//! most, besides what requests were waiting for just then, and what was given back and not used again.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tollgate_core::{
    Moment,
    limits::{Limit, Period},
    store::{Charge, CounterRef, Standing},
};

use crate::record::{Mark, NEVER};

/// A counter that is stored.
#[derive(Debug)]
pub(crate) struct Reserve {
    pub(crate) counter: CounterRef, // As the counts in memory know it.
    pub(crate) hold: Mutex<Hold>,
}

impl Reserve {
    pub(crate) fn new(counter: CounterRef) -> Self {
        Self {
            counter,
            hold: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &[u8] {
        self.counter.name()
    }
}

/// For how long units of a charge count once they are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Span {
    /// So many nanoseconds.
    Length(u64),
    /// Until the end of a period of this calendar.
    Calendar(u64),
    /// For ever.
    Never,
}

impl Span {
    /// Shorter ones are not stored.
    const STORED: u64 = 10_000_000_000;

    pub(crate) fn of(charge: &Charge) -> Self {
        match &charge.limit {
            Limit::Rate(rate) => {
                Self::Length(nanos(rate.window).saturating_add(nanos(charge.patience)))
            }
            Limit::Quota(quota) => match &quota.period {
                Period::Never => Self::Never,
                Period::Every(length) => Self::Length(nanos(*length)),
                Period::Calendar(calendar) => {
                    let mut hasher = DefaultHasher::new();
                    (calendar.unit as u8).hash(&mut hasher);
                    match calendar.zone.iana_name() {
                        Some(name) => name.hash(&mut hasher),
                        None => Arc::as_ptr(calendar).hash(&mut hasher),
                    }
                    Self::Calendar(hasher.finish())
                }
            },
        }
    }

    /// Whether a charge of this limit is stored: by its window or period alone, however long who is
    /// patient may wait.
    pub(crate) fn is_stored(limit: &Limit) -> bool {
        match limit {
            Limit::Rate(rate) => Self::STORED <= nanos(rate.window),
            Limit::Quota(quota) => match &quota.period {
                Period::Every(length) => Self::STORED <= nanos(*length),
                _ => true,
            },
        }
    }

    /// Whether tokens that were drawn for this are good for `other`.
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::Length(long), Self::Length(short)) => short <= long,
            _ => self == other,
        }
    }
}

/// Counts are exact up to here; a larger limit counts as this one.
const LARGEST: u64 = (1 << 56) - 1;

/// No window or period that is not stored is as long.
pub(crate) const LONGEST_UNSTORED: u64 = Span::STORED;

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// When tokens are void: by whichever clock is there first.
#[derive(Clone, Copy, Debug, Default)]
struct Void {
    tick: u64,
    unix_nanos: u64,
}

impl Void {
    fn is_past(self, now: Moment) -> bool {
        self.tick <= now.ticks || self.unix_nanos <= now.unix_nanos
    }
}

/// How long what is drawn is good for.
#[derive(Clone, Copy, Debug)]
struct Terms {
    span: Span,
    void: Void,
    renew_at: u64, // From this tick on, more is drawn in the background however much is left.
    until: u64,    // As in a mark.
}

impl Terms {
    /// `standing` is how the limit stands at `now`.
    fn of(charge: &Charge, standing: &Standing, now: Moment) -> Self {
        let resets_in = standing.resets_in.map_or(u64::MAX, nanos);
        let span = Span::of(charge);
        match (&charge.limit, span) {
            (Limit::Rate(rate), Span::Length(length)) => {
                let good_for = nanos(rate.window);
                let counts = good_for.saturating_add(length).max(resets_in);
                Self::until(span, now, good_for, good_for / 2, counts)
            }
            // A period runs: what is left of it.
            _ if standing.remaining < standing.max && resets_in != u64::MAX => {
                Self::until(span, now, resets_in, resets_in, resets_in)
            }
            (Limit::Quota(quota), Span::Calendar(_)) => {
                let Period::Calendar(calendar) = &quota.period else {
                    unreachable!("its span says so")
                };
                let end = calendar.end_of_period(now.unix_nanos);
                let left = end.saturating_sub(now.unix_nanos);
                Self::until(span, now, left, left, left)
            }
            (_, Span::Length(length)) => {
                const LONGEST: u64 = 60_000_000_000;
                let good_for = (length / 64).min(LONGEST);
                Self::until(span, now, good_for, 0, good_for.saturating_add(length))
            }
            _ => Self {
                span,
                void: Void {
                    tick: u64::MAX,
                    unix_nanos: u64::MAX,
                },
                renew_at: u64::MAX,
                until: NEVER,
            },
        }
    }

    fn until(span: Span, now: Moment, good_for: u64, renew_in: u64, counts: u64) -> Self {
        Self {
            span,
            void: Void {
                tick: now.ticks.saturating_add(good_for),
                unix_nanos: now.unix_nanos.saturating_add(good_for),
            },
            renew_at: now.ticks.saturating_add(renew_in),
            until: now.unix_nanos.saturating_add(counts).min(NEVER - 1),
        }
    }
}

/// What is held of one counter.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// Whether the count in memory began with the file's mark.
    pub(crate) is_restored: bool,
    /// What the file says, or will when the commit under way is done.
    pub(crate) mark: Option<Mark>,
    /// The limit that was drawn for last.
    pub(crate) limit: Option<Limit>,
    tokens: u64,
    terms: Option<Terms>, // Of the tokens.
    pending: u64,         // In the commit under way.
    waiting: u64,         // What requests wait for that asked in the same commit.
    claimed: u64,         // Of the tokens: for those who waited and have not looked again yet.
    chunk: u64,
    is_all: bool,      // There was no more to draw.
    is_renewing: bool, // Somebody asked in the background.
    life: u64,         // Counts resets: what was drawn before one is void.
}

/// Who asks for units.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asker {
    /// Comes by, and leaves what others have a claim on.
    New,
    /// Has a [`Claim`].
    Waited,
}

/// What who waited for a draw may take before others; given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    reserve: Arc<Reserve>,
    units: u64,
    life: u64,
}

impl Claim {
    /// Makes what was drawn usable. The claim is on what the draw was `waiting` for.
    pub(crate) fn grant(reserve: &Arc<Reserve>, drawn: &Drawn) -> Self {
        let mut hold = reserve.hold.lock();
        hold.grant(drawn);
        Self {
            reserve: reserve.clone(),
            units: drawn.waiting,
            life: drawn.life,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.units != 0 {
            self.reserve.hold.lock().release(self.units, self.life);
        }
    }
}

/// A draw that is in the commit under way.
#[derive(Debug)]
pub(crate) struct Drawn {
    units: u64,
    waiting: u64,
    terms: Terms,
    life: u64,
}

impl Hold {
    /// Whether so many units may be admitted, for a charge of this span.
    pub(crate) fn has(&self, units: u64, span: Span, asker: Asker, now: Moment) -> bool {
        let is_good = |terms: &Terms| terms.span.covers(span) && !terms.void.is_past(now);
        let there = match asker {
            Asker::New => self.free(),
            Asker::Waited => self.tokens,
        };
        units <= there && self.terms.as_ref().is_some_and(is_good)
    }

    /// Tokens that nobody waits for or has a claim on.
    fn free(&self) -> u64 {
        let kept = self.claimed.saturating_add(self.waiting);
        self.tokens.saturating_sub(kept)
    }

    /// Takes units that are there. Tells whether more should be drawn in the background; it does so
    /// once.
    pub(crate) fn spend(&mut self, units: u64, now: Moment) -> bool {
        debug_assert!(units <= self.tokens, "asked before");
        self.tokens = self.tokens.saturating_sub(units);
        let is_low = self.free() < self.chunk.div_ceil(2) && !self.is_all;
        let is_late = self
            .terms
            .as_ref()
            .is_some_and(|terms| terms.renew_at <= now.ticks);
        let renews = (is_low || is_late) && !self.is_renewing;
        self.is_renewing |= renews;
        renews
    }

    /// Takes back units that count no more, where they are still good.
    pub(crate) fn put_back(&mut self, units: u64, now: Moment) {
        if self
            .terms
            .as_ref()
            .is_some_and(|terms| !terms.void.is_past(now))
        {
            self.tokens = self.tokens.saturating_add(units);
        }
    }

    /// What to write so that `waiting` units more can be handed out when it is durable; `None` where
    /// nothing is left.
    pub(crate) fn draw(
        &mut self,
        charge: &Charge,
        chunk: u64,
        waiting: u64,
        used: u64,
        standing: &Standing,
        now: Moment,
    ) -> Option<(Mark, Drawn)> {
        // By the counter's own window, or by the limit's where that is longer.
        let used = used.max(standing.max.min(LARGEST) - standing.remaining.min(LARGEST));
        if self
            .terms
            .as_ref()
            .is_none_or(|terms| terms.void.is_past(now))
        {
            self.tokens = 0;
        }
        let room = standing.remaining;
        let asked = [self.claimed, self.waiting, waiting];
        let target = chunk.max(asked.into_iter().fold(0, u64::saturating_add));
        let target = target.min(room);
        self.chunk = chunk;
        self.is_all = target == room;
        if room == 0 {
            return None;
        }
        let held = self.tokens.saturating_add(self.pending);
        let units = target.saturating_sub(held);
        let mut terms = Terms::of(charge, standing, now);
        if let (Limit::Rate(_), Some(mark)) = (&charge.limit, &self.mark) {
            terms.until = terms.until.max(mark.until); // Of a longer window, perhaps.
        }
        self.pending = self.pending.saturating_add(units);
        self.waiting = self.waiting.saturating_add(waiting);
        self.limit = Some(charge.limit.clone());
        let mark = Mark {
            units: used.saturating_add(held).saturating_add(units),
            until: terms.until,
            written: now.unix_nanos,
        };
        self.mark = Some(mark);
        let drawn = Drawn {
            units,
            waiting,
            terms,
            life: self.life,
        };
        Some((mark, drawn))
    }

    /// The draw is durable.
    pub(crate) fn grant(&mut self, drawn: &Drawn) {
        if self.finish(drawn) {
            self.tokens = self.tokens.saturating_add(drawn.units);
            self.terms = Some(drawn.terms);
            self.claimed = self.claimed.saturating_add(drawn.waiting);
        }
    }

    fn release(&mut self, units: u64, life: u64) {
        if life == self.life {
            self.claimed = self.claimed.saturating_sub(units);
        }
    }

    /// The draw failed. It may have been written all the same, so the mark stays as it would be.
    pub(crate) fn lose(&mut self, drawn: &Drawn) {
        self.finish(drawn);
    }

    fn finish(&mut self, drawn: &Drawn) -> bool {
        self.is_renewing = false;
        if drawn.life != self.life {
            return false;
        }
        self.pending = self.pending.saturating_sub(drawn.units);
        self.waiting = self.waiting.saturating_sub(drawn.waiting);
        true
    }

    /// Nobody draws after all.
    pub(crate) fn calm(&mut self) {
        self.is_renewing = false;
    }

    /// Makes all void that was drawn, also what is in the commit under way.
    pub(crate) fn void(&mut self) {
        self.life += 1;
        (self.tokens, self.pending, self.waiting, self.claimed) = (0, 0, 0, 0);
    }

    /// Whether it can be forgotten: the file has nothing to say of it that counts, and nobody draws.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        let is_past = self.mark.is_none_or(|mark| mark.is_over(now.unix_nanos));
        let is_void = self
            .terms
            .as_ref()
            .is_none_or(|terms| terms.void.is_past(now));
        is_past && (self.tokens == 0 || is_void) && self.pending == 0 && !self.is_renewing
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::{limits::Quota, store::Counter};

    use super::*;

    const MAX: u64 = 100;
    const CHUNK: u64 = 10;

    fn standing(used: u64) -> Standing {
        Standing {
            max: MAX,
            remaining: MAX - used,
            retry_in: Duration::ZERO,
            resets_in: Some(Duration::from_secs(3600)),
            exceeded: false,
        }
    }

    /// Does what is told, bit by bit, and checks after each step that the file is not behind.
    fn play(mut dice: u64) {
        let gives_back = dice.is_multiple_of(2);
        let quota = Quota::per(MAX, Period::Every(Duration::from_secs(3600)));
        let charge = Charge::new(Counter::new("ann"), quota);
        let (span, now) = (Span::of(&charge), Moment::default());
        let (mut hold, mut used, mut durable) = (Hold::default(), 0, 0);
        let mut under_way: Option<(Mark, Drawn)> = None;
        let (mut claimants, mut most_waited) = (0, 0); // Of a unit each.
        for step in 0..300 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match dice >> 61 {
                0..=2 if hold.has(1, span, Asker::New, now) => {
                    hold.spend(1, now);
                    used += 1;
                }
                3 if 0 < claimants => {
                    let is_there = hold.has(1, span, Asker::Waited, now);
                    assert!(is_there || used == MAX, "{step}: taken away");
                    if is_there {
                        hold.spend(1, now);
                        used += 1;
                    }
                    hold.release(1, hold.life);
                    claimants -= 1;
                }
                4 if gives_back && 0 < used => {
                    used -= 1;
                    hold.put_back(1, now);
                }
                5 if under_way.is_none() => {
                    let waiting = dice >> 33 & 15;
                    under_way = hold.draw(&charge, CHUNK, waiting, used, &standing(used), now);
                }
                6 => {
                    if let Some((mark, drawn)) = under_way.take() {
                        durable = mark.units;
                        hold.grant(&drawn);
                        claimants += drawn.waiting;
                    }
                }
                7 => {
                    if let Some((_, drawn)) = under_way.take() {
                        hold.lose(&drawn); // And it was not written.
                    }
                }
                _ => {}
            }
            let ahead = hold.tokens + used;
            assert!(
                ahead <= durable && durable <= MAX,
                "{step}: {ahead} of {durable}"
            );
            // What requests ask for in one commit is below 16 here, besides those that have a claim.
            let is_lost = durable.saturating_sub(used);
            most_waited = most_waited.max(claimants + 15);
            assert!(
                gives_back || is_lost <= CHUNK.max(most_waited),
                "{step}: {is_lost} would be lost"
            );
        }
    }

    #[test]
    fn the_mark_is_never_below_what_counts_and_at_most_a_chunk_above() {
        (0..500).for_each(play);
    }

    #[track_caller]
    fn check(tokens_for: Span, charge: Span, covered: bool) {
        assert_eq!(
            tokens_for.covers(charge),
            covered,
            "{tokens_for:?}, {charge:?}"
        );
    }

    #[test]
    fn tokens_are_good_for_what_counts_no_longer() {
        check(Span::Length(5), Span::Length(5), true);
        check(Span::Length(5), Span::Length(6), false);
        check(Span::Length(5), Span::Never, false);
        check(Span::Never, Span::Never, true);
        check(Span::Never, Span::Length(5), false);
        check(Span::Calendar(1), Span::Calendar(2), false);
    }
}
