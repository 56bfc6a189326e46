//! One counter's count, and the decision over a batch of them.
//!
//! A [`Tally`] is what a store keeps for a counter. It takes the form that the limit of the charge
//! asks for, and when that limit changes it changes form and keeps the count: a raised limit acts at
//! once, a lowered one is not exceeded. [`take`] looks at all tallies of a batch, then adds to all or
//! to none. A store of your own needs no more than a map of tallies and a lock:
//!
//! ```
//! use std::collections::HashMap;
//! use tollgate_core::{
//!     Moment,
//!     limits::Rate,
//!     store::{Charge, Counter, Verdict, tally::{self, Tally}},
//! };
//!
//! let mut tallies: HashMap<Vec<u8>, Tally> = HashMap::new();
//! let batch = [Charge::new(Counter::new("ann"), Rate::per_second(1))];
//! let mut take = |now: Moment| {
//!     let mut named: Vec<_> = batch
//!         .iter()
//!         .map(|charge| tallies.remove(charge.counter.name()).unwrap_or_default())
//!         .collect();
//!     let verdict = tally::take(&batch, &mut named, now);
//!     for (charge, tally) in batch.iter().zip(named) {
//!         tallies.insert(charge.counter.name().to_owned(), tally);
//!     }
//!     verdict
//! };
//! assert!(matches!(take(Moment::default()), Verdict::Taken(_)));
//! assert!(matches!(take(Moment::default()), Verdict::Refused(_)));
//! ```
//!
//! # What a changed limit keeps
//!
//! A new maximum acts on the count as it is. A new window or another algorithm takes over what is
//! known, on the safe side: as if it had been used just now where the time is not known. Callers that
//! share a counter may have different maxima; with `Sliding` also different windows.
//!
//! A counter is of one kind: a rate and a quota have counters of their own, or each forgets what the
//! other does not need.

use std::{collections::VecDeque, time::Duration};

use smallvec::SmallVec;

use super::{Charge, ChargeMode, Refused, Standing, Standings, Taken, Verdict};
use crate::{
    clock::{Moment, nanos},
    limits::{Algorithm, Limit, Quota, Rate},
    quota::{Ends, QuotaState},
    rate::{Bucket, EXACT, FixedWindow, Gcra, Ring, Slots},
};

/// How many units may wait for their turn at one counter; over it a request is refused at once.
pub const MAX_WAITING: u64 = 100;

/// How many waiting requests a counter keeps that another counter of their batch made wait.
const MAX_BYSTANDERS: usize = 4096;

/// What one counter has counted.
#[derive(Clone, Debug, Default)]
pub struct Tally(State);

/// Three words; what needs more is in a box. The fields of the small forms stand here one by one,
/// because a struct's padding could not hold the tag.
#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Empty,
    Ring(Ring),
    Slots(Slots<u32>),
    WideSlots(Slots<u64>), // For rates above what 32 bits count.
    Fixed {
        used: Seven,
        ends: u64,
        window: u64,
    },
    Bucket {
        used: Seven,
        start: u64,
        ends: u64,
    },
    Gcra {
        since: Seven,
        interval: u64,
        whole_at: u64,
    },
    Quota {
        used: Seven,
        start: u64,
        ends: Ends,
    },
    Queued(Box<Queued>),
}

/// A tally with requests that wait for their turn.
#[derive(Clone, Debug)]
struct Queued {
    state: State,                  // Never `Queued`.
    waiting: VecDeque<(u64, u64)>, // When and how many, by time; never empty.
    counts_for: u64,               // How long the last of them counts, in nanoseconds.
}

const _: () = assert!(size_of::<Tally>() == 24);

/// A number of seven bytes; larger ones are the largest.
#[derive(Clone, Copy, Debug, Default)]
struct Seven([u8; 7]);

impl Seven {
    const MAX: u64 = (1 << 56) - 1;
}

impl From<u64> for Seven {
    fn from(number: u64) -> Self {
        let [low @ .., _] = number.min(Self::MAX).to_le_bytes();
        Self(low)
    }
}

impl From<Seven> for u64 {
    fn from(Seven([a, b, c, d, e, f, g]): Seven) -> Self {
        Self::from_le_bytes([a, b, c, d, e, f, g, 0])
    }
}

impl From<FixedWindow> for State {
    fn from(FixedWindow { used, ends, window }: FixedWindow) -> Self {
        let used = used.into();
        Self::Fixed { used, ends, window }
    }
}

impl From<Bucket> for State {
    fn from(Bucket { used, start, ends }: Bucket) -> Self {
        let used = used.into();
        Self::Bucket { used, start, ends }
    }
}

impl From<Gcra> for State {
    fn from(gcra: Gcra) -> Self {
        Self::Gcra {
            since: gcra.since.into(),
            interval: gcra.interval,
            whole_at: gcra.whole_at,
        }
    }
}

impl From<QuotaState> for State {
    fn from(QuotaState { used, start, ends }: QuotaState) -> Self {
        let used = used.into();
        Self::Quota { used, start, ends }
    }
}

/// The largest maximum that is counted exactly; larger ones count as this one.
fn max(limit: &Limit) -> u64 {
    limit.max().min(Seven::MAX)
}

/// Runs `$body` on the small form made from the fields, and writes it back.
macro_rules! with_small {
    ($state:ident, $small:ident, $made:expr, $body:expr) => {{
        let mut $small = $made;
        $body;
        *$state = $small.into();
    }};
}

impl State {
    /// Takes the form that the limit asks for.
    fn fit(&mut self, limit: &Limit, now: Moment) {
        match limit {
            Limit::Rate(rate) => self.fit_rate(rate, now),
            Limit::Quota(quota) => match self {
                Self::Quota { .. } => {}
                _ => self.go_over_to(QuotaState::new(quota, now).into(), limit, now),
            },
        }
    }

    fn fit_rate(&mut self, rate: &Rate, now: Moment) {
        let (requests, window) = (rate.requests.get().min(Seven::MAX), rate.window_nanos());
        let fresh = match (rate.algorithm, &mut *self) {
            (Algorithm::Sliding, _) => return self.fit_sliding(rate, now),
            (
                Algorithm::FixedWindow,
                &mut Self::Fixed {
                    used,
                    ends,
                    window: was,
                },
            ) => {
                if was != window {
                    let used = used.into();
                    let made = FixedWindow {
                        used,
                        ends,
                        window: was,
                    };
                    with_small!(self, fixed, made, fixed.fit(window, now));
                }
                return;
            }
            (Algorithm::Bucket, &mut Self::Bucket { used, start, ends }) => {
                if ends.checked_sub(start) != Some(window) {
                    let used = used.into();
                    let made = Bucket { used, start, ends };
                    with_small!(self, bucket, made, bucket.fit(window));
                }
                return;
            }
            (
                Algorithm::Gcra,
                &mut Self::Gcra {
                    since,
                    interval,
                    whole_at,
                },
            ) => {
                let since = since.into();
                let made = Gcra {
                    since,
                    interval,
                    whole_at,
                };
                with_small!(self, gcra, made, gcra.fit(requests, window, now.ticks));
                return;
            }
            (Algorithm::FixedWindow, _) => FixedWindow::new(window, now).into(),
            (Algorithm::Bucket, _) => Bucket::new(window, now.ticks).into(),
            (Algorithm::Gcra, _) => Gcra::new(requests, window).into(),
        };
        self.go_over_to(fresh, &Limit::Rate(*rate), now);
    }

    fn fit_sliding(&mut self, rate: &Rate, now: Moment) {
        let (requests, window) = (rate.requests.get().min(Seven::MAX), rate.window_nanos());
        let is_narrow = requests <= u64::from(u32::MAX);
        match self {
            Self::Ring(ring) if requests <= EXACT => return ring.fit(requests, window),
            Self::Ring(ring) => return *self = slots_of(ring, requests, window),
            // Slots stay while they count: a ring would have to guess the times.
            Self::Slots(slots) if EXACT < requests || !slots.is_over(now.ticks) => {
                if is_narrow {
                    slots.fit(window, now.ticks);
                } else {
                    *self = Self::WideSlots(slots.rebuilt(window, now.ticks));
                }
                return;
            }
            Self::WideSlots(slots) if EXACT < requests || !slots.is_over(now.ticks) => {
                return slots.fit(window, now.ticks);
            }
            _ => {}
        }
        let fresh = match requests {
            ..=EXACT => Self::Ring(Ring::new(requests, window)),
            _ if is_narrow => Self::Slots(Slots::new(window, now.ticks)),
            _ => Self::WideSlots(Slots::new(window, now.ticks)),
        };
        self.go_over_to(fresh, &Limit::Rate(*rate), now);
    }

    /// Goes over to another form, with all that still counts as if it had been taken now.
    fn go_over_to(&mut self, fresh: Self, limit: &Limit, now: Moment) {
        let used = self.used_by_own(now);
        *self = fresh;
        if used > 0 {
            self.add(limit, now, used.min(max(limit)));
        }
    }

    /// What counts by the form's own window.
    fn used_by_own(&self, now: Moment) -> u64 {
        match self {
            Self::Ring(ring) => ring.used_by_own(now.ticks),
            Self::Slots(slots) => slots.used_by_own(now.ticks),
            Self::WideSlots(slots) => slots.used_by_own(now.ticks),
            _ => self.used(0, now),
        }
    }

    /// What counts; the sliding forms ask for the window.
    #[inline]
    fn used(&self, window: u64, now: Moment) -> u64 {
        match *self {
            Self::Empty => 0,
            Self::Ring(ref ring) => ring.used(window, now.ticks),
            Self::Slots(ref slots) => slots.used(window, now.ticks),
            Self::WideSlots(ref slots) => slots.used(window, now.ticks),
            Self::Fixed { used, ends, window } => FixedWindow {
                used: used.into(),
                ends,
                window,
            }
            .used(now.ticks),
            Self::Bucket { used, start, ends } => Bucket {
                used: used.into(),
                start,
                ends,
            }
            .used(now.ticks),
            Self::Gcra {
                since,
                interval,
                whole_at,
            } => Gcra {
                since: since.into(),
                interval,
                whole_at,
            }
            .used(now.ticks),
            Self::Quota { used, start, ends } => QuotaState {
                used: used.into(),
                start,
                ends,
            }
            .used(now),
            Self::Queued(ref queued) => queued
                .state
                .used(window, now)
                .saturating_add(queued.units()),
        }
    }

    /// Whether forgetting it changes nothing.
    fn is_over(&self, now: Moment) -> bool {
        match self {
            Self::Ring(ring) => ring.is_over(now.ticks),
            Self::Slots(slots) => slots.is_over(now.ticks),
            Self::WideSlots(slots) => slots.is_over(now.ticks),
            &Self::Fixed { used, ends, window } => FixedWindow {
                used: used.into(),
                ends,
                window,
            }
            .is_over(now.ticks),
            &Self::Gcra { whole_at, .. } => whole_at <= now.ticks,
            Self::Queued(queued) => {
                queued.last().saturating_add(queued.counts_for) <= now.ticks
                    && queued.state.is_over(now)
            }
            _ => self.used(0, now) == 0,
        }
    }

    /// The tick from which on `cost` more fit, in the form of the limit; `None` for never.
    #[inline]
    fn earliest(&self, limit: &Limit, now: Moment, cost: u64) -> Option<u64> {
        let max = max(limit);
        if max < cost {
            return None;
        }
        let window = window(limit);
        Some(match *self {
            Self::Empty => now.ticks,
            Self::Ring(ref ring) => ring.earliest(max, window, now.ticks, cost),
            Self::Slots(ref slots) => slots.earliest(max, window, now.ticks, cost),
            Self::WideSlots(ref slots) => slots.earliest(max, window, now.ticks, cost),
            Self::Fixed { used, ends, window } => FixedWindow {
                used: used.into(),
                ends,
                window,
            }
            .earliest(max, now.ticks, cost),
            Self::Bucket { used, start, ends } => Bucket {
                used: used.into(),
                start,
                ends,
            }
            .earliest(max, now.ticks, cost),
            Self::Gcra {
                since,
                interval,
                whole_at,
            } => Gcra {
                since: since.into(),
                interval,
                whole_at,
            }
            .earliest(max, now.ticks, cost),
            Self::Quota { used, start, ends } => {
                return QuotaState {
                    used: used.into(),
                    start,
                    ends,
                }
                .earliest(max, now, cost);
            }
            Self::Queued(ref queued) => return queued.earliest(limit, now, cost),
        })
    }

    /// The tick at which what is counted now counts no more; `None` for never.
    fn resets_at(&self, limit: &Limit, now: Moment) -> Option<u64> {
        let window = window(limit);
        Some(match *self {
            Self::Empty => now.ticks,
            Self::Ring(ref ring) => ring.resets_at(window, now.ticks),
            Self::Slots(ref slots) => slots.resets_at(window, now.ticks),
            Self::WideSlots(ref slots) => slots.resets_at(window, now.ticks),
            Self::Fixed { used, ends, window } => FixedWindow {
                used: used.into(),
                ends,
                window,
            }
            .resets_at(now.ticks),
            Self::Bucket { used, start, ends } => Bucket {
                used: used.into(),
                start,
                ends,
            }
            .resets_at(now.ticks),
            Self::Gcra {
                since,
                interval,
                whole_at,
            } => Gcra {
                since: since.into(),
                interval,
                whole_at,
            }
            .resets_at(now.ticks),
            Self::Quota { used, start, ends } => {
                return QuotaState {
                    used: used.into(),
                    start,
                    ends,
                }
                .resets_at(now);
            }
            Self::Queued(ref queued) => {
                let (state, last) = queued.when_all_went(limit, now);
                return state.resets_at(limit, last);
            }
        })
    }

    /// Counts `cost` in the form of the limit.
    #[inline]
    fn add(&mut self, limit: &Limit, now: Moment, cost: u64) {
        match *self {
            Self::Empty => unreachable!("fitted before"),
            Self::Ring(ref mut ring) => ring.add(now.ticks, cost),
            Self::Slots(ref mut slots) => slots.add(now.ticks, cost),
            Self::WideSlots(ref mut slots) => slots.add(now.ticks, cost),
            Self::Fixed { used, ends, window } => {
                let made = FixedWindow {
                    used: used.into(),
                    ends,
                    window,
                };
                with_small!(self, fixed, made, fixed.add(now, cost));
            }
            Self::Bucket { used, start, ends } => {
                let made = Bucket {
                    used: used.into(),
                    start,
                    ends,
                };
                with_small!(
                    self,
                    bucket,
                    made,
                    bucket.add(window(limit), now.ticks, cost)
                );
            }
            Self::Gcra {
                since,
                interval,
                whole_at,
            } => {
                let made = Gcra {
                    since: since.into(),
                    interval,
                    whole_at,
                };
                with_small!(self, gcra, made, gcra.add(now.ticks, cost));
            }
            Self::Quota { used, start, ends } => {
                let Limit::Quota(quota) = limit else {
                    unreachable!("fitted before")
                };
                let made = QuotaState {
                    used: used.into(),
                    start,
                    ends,
                };
                with_small!(self, state, made, state.add(quota, now, cost));
            }
            Self::Queued(ref mut queued) => queued.state.add(limit, now, cost),
        }
    }

    fn give_back(&mut self, limit: &Limit, at: Moment, cost: u64) {
        match *self {
            Self::Empty => {}
            Self::Ring(ref mut ring) => ring.give_back(window(limit), at.ticks, cost),
            Self::Slots(ref mut slots) => slots.give_back(at.ticks, cost),
            Self::WideSlots(ref mut slots) => slots.give_back(at.ticks, cost),
            Self::Fixed { used, ends, window } => {
                let made = FixedWindow {
                    used: used.into(),
                    ends,
                    window,
                };
                with_small!(self, fixed, made, fixed.give_back(at.ticks, cost));
            }
            Self::Bucket { used, start, ends } => {
                let made = Bucket {
                    used: used.into(),
                    start,
                    ends,
                };
                with_small!(self, bucket, made, bucket.give_back(at.ticks, cost));
            }
            Self::Gcra {
                since,
                interval,
                whole_at,
            } => {
                let made = Gcra {
                    since: since.into(),
                    interval,
                    whole_at,
                };
                with_small!(self, gcra, made, gcra.give_back(at.ticks, cost));
            }
            Self::Quota { used, start, ends } => {
                let made = QuotaState {
                    used: used.into(),
                    start,
                    ends,
                };
                with_small!(self, state, made, state.give_back(at, cost));
            }
            Self::Queued(ref mut queued) => {
                if !queued.leave(at.ticks, cost) {
                    queued.state.give_back(limit, at, cost);
                } else if queued.waiting.is_empty() {
                    *self = std::mem::take(&mut queued.state);
                }
            }
        }
    }

    /// Lets a request wait for its turn at `at`.
    fn queue(&mut self, limit: &Limit, at: u64, cost: u64) {
        if !matches!(self, Self::Queued(_)) {
            *self = Self::Queued(Box::new(Queued {
                state: std::mem::take(self),
                waiting: VecDeque::new(),
                counts_for: 0,
            }));
        }
        let Self::Queued(queued) = self else {
            unreachable!("made just now")
        };
        let place = queued.waiting.partition_point(|(time, _)| *time <= at);
        queued.waiting.insert(place, (at, cost));
        queued.counts_for = queued.counts_for.max(window(limit));
    }
}

/// Slots with the times of a ring.
fn slots_of(ring: &Ring, requests: u64, window: u64) -> State {
    let oldest = ring.times().next().unwrap_or_default();
    if requests <= u64::from(u32::MAX) {
        let mut slots = Slots::new(window, oldest);
        ring.times().for_each(|time| slots.add(time, 1));
        State::Slots(slots)
    } else {
        let mut slots = Slots::new(window, oldest);
        ring.times().for_each(|time| slots.add(time, 1));
        State::WideSlots(slots)
    }
}

fn window(limit: &Limit) -> u64 {
    match limit {
        Limit::Rate(rate) => rate.window_nanos(),
        Limit::Quota(_) => 0,
    }
}

impl Queued {
    fn units(&self) -> u64 {
        self.waiting.iter().map(|(_, units)| units).sum()
    }

    fn last(&self) -> u64 {
        self.waiting.back().map_or(0, |(at, _)| *at)
    }

    /// Counts those whose turn has come.
    fn settle(&mut self, limit: &Limit, now: Moment) {
        while let Some(&(at, units)) = self.waiting.front() {
            if now.ticks < at {
                return;
            }
            self.waiting.pop_front();
            let at = moment(at, now);
            self.state.fit(limit, at);
            self.state.add(limit, at, units);
        }
    }

    /// The state as it will be when nobody waits any more, and when that is.
    fn when_all_went(&self, limit: &Limit, now: Moment) -> (State, Moment) {
        let last = moment(self.last().max(now.ticks), now);
        let mut later = self.clone();
        later.settle(limit, last);
        (later.state, last)
    }

    fn earliest(&self, limit: &Limit, now: Moment, cost: u64) -> Option<u64> {
        // All who wait count from now on, wherever their turn is: then no window holds too many.
        let with_all = cost.saturating_add(self.units());
        if self.state.earliest(limit, now, with_all) == Some(now.ticks) {
            return Some(now.ticks);
        }
        let (state, last) = self.when_all_went(limit, now);
        state.earliest(limit, last, cost)
    }

    /// Takes units out of the queue; `false` where they do not wait.
    fn leave(&mut self, at: u64, cost: u64) -> bool {
        let Some(place) = self
            .waiting
            .iter()
            .position(|(time, units)| *time == at && *units == cost)
        else {
            return false;
        };
        self.waiting.remove(place);
        true
    }
}

/// The moment of this tick, by the clocks of `now`.
fn moment(ticks: u64, now: Moment) -> Moment {
    let unix_nanos = if now.ticks <= ticks {
        now.unix_nanos.saturating_add(ticks - now.ticks)
    } else {
        now.unix_nanos.saturating_sub(now.ticks - ticks)
    };
    Moment { ticks, unix_nanos }
}

impl Tally {
    /// A tally that has counted nothing.
    pub const fn new() -> Self {
        Self(State::Empty)
    }

    /// How much counts at `now`, by the last limit that was charged here; who waits counts already.
    pub fn used(&self, now: Moment) -> u64 {
        match &self.0 {
            State::Queued(queued) => queued.state.used_by_own(now) + queued.units(),
            state => state.used_by_own(now),
        }
    }

    /// Whether nothing counts any more, so that the tally can be forgotten.
    pub fn is_over(&self, now: Moment) -> bool {
        self.0.is_over(now)
    }

    /// Gives back the units of a charge taken at this moment, if they still count.
    pub fn give_back(&mut self, charge: &Charge, taken_at: Moment) {
        self.0.give_back(&charge.limit, taken_at, charge.cost.get());
    }

    /// Settles who waited, and takes the form that the limit asks for.
    fn fit(&mut self, limit: &Limit, now: Moment) {
        if let State::Queued(queued) = &mut self.0 {
            queued.settle(limit, now);
            if queued.waiting.is_empty() {
                self.0 = std::mem::take(&mut queued.state);
            } else {
                queued.state.fit(limit, now);
                return;
            }
        }
        self.0.fit(limit, now);
    }

    fn waiting(&self) -> (usize, u64) {
        match &self.0 {
            State::Queued(queued) => (queued.waiting.len(), queued.units()),
            _ => (0, 0),
        }
    }

    fn standing(&self, limit: &Limit, now: Moment, exceeded: bool) -> Standing {
        let after = |tick: u64| Duration::from_nanos(tick.saturating_sub(now.ticks));
        let used = self.0.used(window(limit), now);
        let retry_at = self.0.earliest(limit, now, 1);
        Standing {
            max: limit.max(),
            remaining: max(limit).saturating_sub(used),
            retry_in: retry_at.map_or(Duration::MAX, after),
            resets_in: self.0.resets_at(limit, now).map(after),
            exceeded,
        }
    }

    /// Makes a shared tally of quotas last as long as this one needs.
    pub(crate) fn extend(&mut self, quota: &Quota, now: Moment) {
        if let State::Quota { used, start, ends } = self.0 {
            let mut state = QuotaState {
                used: used.into(),
                start,
                ends,
            };
            if state.used(now) > 0 {
                state.extend(quota, now);
                self.0 = state.into();
            }
        }
    }
}

/// The tallies of a batch, by the charge's place in it.
pub(crate) trait Tallies {
    fn tally(&mut self, index: usize) -> &mut Tally;

    /// Whether two charges go to one tally.
    fn same(&self, one: usize, other: usize) -> bool;
}

/// The tallies by place; charges of one name go to the tally of the first.
struct ByPlace<'a> {
    batch: &'a [Charge],
    tallies: &'a mut [Tally],
}

impl Tallies for ByPlace<'_> {
    fn tally(&mut self, index: usize) -> &mut Tally {
        let first = (0..index).find(|first| self.same(*first, index));
        &mut self.tallies[first.unwrap_or(index)]
    }

    fn same(&self, one: usize, other: usize) -> bool {
        self.batch[one].counter.name() == self.batch[other].counter.name()
    }
}

/// Charges all of `batch` or nothing. `tallies` are in the batch's order; of several charges with one
/// name only the first one's tally is used.
///
/// # Panics
///
/// Panics if there is not one tally for each charge.
pub fn take(batch: &[Charge], tallies: &mut [Tally], now: Moment) -> Verdict {
    assert_eq!(batch.len(), tallies.len(), "one tally for each charge");
    decide(batch, &mut ByPlace { batch, tallies }, now)
}

/// What [`take`] would say, charging nothing: the standings are those of now. The tallies may change
/// form.
///
/// # Panics
///
/// Panics if there is not one tally for each charge.
pub fn look(batch: &[Charge], tallies: &mut [Tally], now: Moment) -> Verdict {
    assert_eq!(batch.len(), tallies.len(), "one tally for each charge");
    let tallies = &mut ByPlace { batch, tallies };
    examine(batch, tallies, now).verdict(batch, tallies)
}

/// Looks at all charges, then adds to all, or to none.
pub(crate) fn decide(batch: &[Charge], tallies: &mut impl Tallies, now: Moment) -> Verdict {
    let look = examine(batch, tallies, now);
    let admitted = if look.refused.is_none() { batch } else { &[] };
    for (index, charge) in admitted.iter().enumerate() {
        if look.exceeded[index] {
            continue; // Only watched.
        }
        let tally = tallies.tally(index);
        if now.ticks < look.turn {
            tally.0.queue(&charge.limit, look.turn, charge.cost.get());
        } else {
            if 1 < batch.len() {
                tally.fit(&charge.limit, now); // Another charge of the batch may have changed it.
            }
            tally.0.add(&charge.limit, now, charge.cost.get());
        }
    }
    look.verdict(batch, tallies)
}

fn examine(batch: &[Charge], tallies: &mut impl Tallies, now: Moment) -> Look {
    let mut look = Look::new(now);
    for (index, charge) in batch.iter().enumerate() {
        let before = (0..index).filter(|before| tallies.same(*before, index));
        let before = before.map(|before| batch[before].cost.get());
        let cost = before.fold(charge.cost.get(), u64::saturating_add);
        let tally = tallies.tally(index);
        tally.fit(&charge.limit, now);
        look.at(index, charge, tally, cost);
    }
    if look.refused.is_none() && now.ticks < look.turn {
        look.refused =
            (0..batch.len()).find(|index| MAX_BYSTANDERS <= tallies.tally(*index).waiting().0);
    }
    look
}

/// What was seen of a batch so far.
struct Look {
    now: Moment,
    turn: u64, // When all who are patient have their turn.
    refused: Option<usize>,
    retry_at: Option<u64>,
    exceeded: SmallVec<[bool; 4]>,
}

impl Look {
    fn new(now: Moment) -> Self {
        Self {
            now,
            turn: now.ticks,
            refused: None,
            retry_at: Some(now.ticks),
            exceeded: SmallVec::new(),
        }
    }

    fn at(&mut self, index: usize, charge: &Charge, tally: &Tally, cost: u64) {
        let now = self.now.ticks;
        let earliest = tally.0.earliest(&charge.limit, self.now, cost);
        let fits = earliest.is_some_and(|at| at <= now);
        if fits || charge.mode == ChargeMode::Observe {
            self.exceeded.push(!fits);
            return;
        }
        let patient = matches!(charge.limit, Limit::Rate(_))
            && tally.waiting().1.saturating_add(cost) <= MAX_WAITING;
        match earliest {
            Some(at) if patient && at - now <= nanos(charge.patience) => {
                self.turn = self.turn.max(at);
                self.exceeded.push(false);
            }
            _ => {
                self.refused.get_or_insert(index);
                self.retry_at = self
                    .retry_at
                    .and_then(|retry_at| Some(retry_at.max(earliest?)));
                self.exceeded.push(true);
            }
        }
    }
}

impl Look {
    fn verdict(&self, batch: &[Charge], tallies: &mut impl Tallies) -> Verdict {
        let now = self.now;
        let standings = standings(batch, tallies, now, &self.exceeded);
        if let Some(index) = self.refused {
            let retry_at = self.retry_at.map(|at| at.max(self.turn) - now.ticks);
            return Verdict::Refused(Refused {
                index,
                retry_in: retry_at.map(Duration::from_nanos),
                standings,
            });
        }
        let wait = Duration::from_nanos(self.turn - now.ticks);
        Verdict::Taken(Taken {
            standings,
            wait,
            at: now.after(wait),
        })
    }
}

fn standings(
    batch: &[Charge],
    tallies: &mut impl Tallies,
    now: Moment,
    exceeded: &[bool],
) -> Standings {
    let charges = batch.iter().zip(exceeded).enumerate();
    charges
        .map(|(index, (charge, exceeded))| {
            let tally = tallies.tally(index);
            tally.standing(&charge.limit, now, *exceeded)
        })
        .collect()
}
