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

mod form;
mod smoothed;

use std::{collections::VecDeque, time::Duration};

use smallvec::SmallVec;

use form::{Ask, Form};
use smoothed::Smoothed;

use super::{Charge, ChargeMode, Refused, Standing, Standings, Taken, Verdict};
use crate::{
    clock::{Moment, nanos},
    limits::{Algorithm, Limit, Quota, Rate},
    quota::{Ends, QuotaState},
    rate::{Bucket, EXACT, FixedWindow, Gcra, Ring, Slots, usual_width},
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
    Smoothed(Box<Smoothed>),
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

/// Runs `$done` on the form of a state, whichever it is. The small ones are put together from their
/// fields; with `mut`, the fields are written back one by one.
macro_rules! on_form {
    (mut $state:expr, $form:ident => $done:expr, $($rest:pat => $other:expr),*) => {
        match $state {
            Self::Ring($form) => $done,
            Self::Slots($form) => $done,
            Self::WideSlots($form) => $done,
            Self::Smoothed(boxed) => {
                let $form = &mut **boxed;
                $done
            }
            Self::Fixed { used, ends, window } => {
                let mut made = FixedWindow {
                    used: (*used).into(),
                    ends: *ends,
                    window: *window,
                };
                let $form = &mut made;
                let done = $done;
                (*used, *ends, *window) = (made.used.into(), made.ends, made.window);
                done
            }
            Self::Bucket { used, start, ends } => {
                let mut made = Bucket {
                    used: (*used).into(),
                    start: *start,
                    ends: *ends,
                };
                let $form = &mut made;
                let done = $done;
                (*used, *start, *ends) = (made.used.into(), made.start, made.ends);
                done
            }
            Self::Gcra {
                since,
                interval,
                whole_at,
            } => {
                let mut made = Gcra {
                    since: (*since).into(),
                    interval: *interval,
                    whole_at: *whole_at,
                };
                let $form = &mut made;
                let done = $done;
                (*since, *interval, *whole_at) = (made.since.into(), made.interval, made.whole_at);
                done
            }
            Self::Quota { used, start, ends } => {
                let mut made = QuotaState {
                    used: (*used).into(),
                    start: *start,
                    ends: *ends,
                };
                let $form = &mut made;
                let done = $done;
                (*used, *start, *ends) = (made.used.into(), made.start, made.ends);
                done
            }
            $($rest => $other,)*
        }
    };
    ($state:expr, $form:ident => $done:expr, $($rest:pat => $other:expr),*) => {
        match $state {
            Self::Ring($form) => $done,
            Self::Slots($form) => $done,
            Self::WideSlots($form) => $done,
            Self::Smoothed(boxed) => {
                let $form = &**boxed;
                $done
            }
            &Self::Fixed { used, ends, window } => {
                let used = used.into();
                let $form = &FixedWindow { used, ends, window };
                $done
            }
            &Self::Bucket { used, start, ends } => {
                let used = used.into();
                let $form = &Bucket { used, start, ends };
                $done
            }
            &Self::Gcra {
                since,
                interval,
                whole_at,
            } => {
                let since = since.into();
                let $form = &Gcra {
                    since,
                    interval,
                    whole_at,
                };
                $done
            }
            &Self::Quota { used, start, ends } => {
                let used = used.into();
                let $form = &QuotaState { used, start, ends };
                $done
            }
            $($rest => $other,)*
        }
    };
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
        let fresh = match (rate.algorithm, &*self) {
            (Algorithm::Sliding, _) if rate.steps.is_some() => {
                return self.fit_smoothed(rate, now);
            }
            (Algorithm::Sliding, _) => return self.fit_sliding(rate, now),
            (
                Algorithm::FixedWindow,
                &Self::Fixed {
                    used,
                    ends,
                    window: was,
                },
            ) => {
                if was != window {
                    let used = used.into();
                    let mut fixed = FixedWindow {
                        used,
                        ends,
                        window: was,
                    };
                    fixed.fit(window, now);
                    *self = fixed.into();
                }
                return;
            }
            (Algorithm::Bucket, &Self::Bucket { used, start, ends }) => {
                if ends.checked_sub(start) != Some(window) {
                    let used = used.into();
                    let mut bucket = Bucket { used, start, ends };
                    bucket.fit(window);
                    *self = bucket.into();
                }
                return;
            }
            (
                Algorithm::Gcra,
                &Self::Gcra {
                    since,
                    interval,
                    whole_at,
                },
            ) => {
                let since = since.into();
                let mut gcra = Gcra {
                    since,
                    interval,
                    whole_at,
                };
                if !gcra.is_for(requests, window) {
                    gcra.fit(requests, window, now.ticks);
                    *self = gcra.into();
                }
                return;
            }
            (Algorithm::FixedWindow, _) => FixedWindow::new(window, now).into(),
            (Algorithm::Bucket, _) => Bucket::new(window, now.ticks).into(),
            (Algorithm::Gcra, _) => Gcra::new(requests, window).into(),
        };
        self.go_over_to(fresh, &Limit::Rate(*rate), now);
    }

    fn fit_smoothed(&mut self, rate: &Rate, now: Moment) {
        if !matches!(self, Self::Smoothed(_)) {
            *self = Self::Smoothed(Box::new(Smoothed::of(std::mem::take(self))));
        }
        if let Self::Smoothed(smoothed) = self {
            smoothed.window.fit_sliding(rate, now);
        }
    }

    fn fit_sliding(&mut self, rate: &Rate, now: Moment) {
        if let Self::Smoothed(smoothed) = self {
            let window = std::mem::take(&mut smoothed.window);
            *self = window;
        }
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

    /// Whether a charge of this limit finds the form as the last one left it, however late it comes.
    fn stays_for(&self, limit: &Limit) -> bool {
        match self {
            Self::Slots(slots) => slots.is_for(window(limit)),
            Self::WideSlots(slots) => slots.is_for(window(limit)),
            Self::Empty | Self::Smoothed(_) | Self::Queued(_) => false,
            _ => true,
        }
    }

    /// Goes over to another form, with all that still counts as if it had been taken now.
    fn go_over_to(&mut self, fresh: Self, limit: &Limit, now: Moment) {
        let used = self.used_by_own(now);
        *self = fresh;
        if used > 0 {
            let ask = Ask::new(limit, now);
            self.add(&ask, used.min(ask.max));
        }
    }

    /// What counts by the form's own window.
    fn used_by_own(&self, now: Moment) -> u64 {
        match self {
            Self::Ring(ring) => ring.used_by_own(now.ticks),
            Self::Slots(slots) => slots.used_by_own(now.ticks),
            Self::WideSlots(slots) => slots.used_by_own(now.ticks),
            Self::Smoothed(smoothed) => smoothed.window.used_by_own(now),
            Self::Queued(queued) => queued.state.used_by_own(now).saturating_add(queued.units()),
            &Self::Fixed { used, ends, window } => {
                let used = used.into();
                FixedWindow { used, ends, window }.used(now.ticks)
            }
            &Self::Bucket { used, start, ends } => {
                let used = used.into();
                Bucket { used, start, ends }.used(now.ticks)
            }
            &Self::Gcra {
                since,
                interval,
                whole_at,
            } => {
                let since = since.into();
                let gcra = Gcra {
                    since,
                    interval,
                    whole_at,
                };
                gcra.used(now.ticks)
            }
            &Self::Quota { used, start, ends } => {
                let used = used.into();
                QuotaState { used, start, ends }.used(now)
            }
            Self::Empty => 0,
        }
    }

    /// What counts; the sliding forms ask for the window.
    fn used(&self, ask: &Ask<'_>) -> u64 {
        on_form!(self, form => Form::used(form, ask),
            Self::Empty => 0,
            Self::Queued(queued) => queued.state.used(ask).saturating_add(queued.units()))
    }

    /// Whether forgetting it changes nothing.
    fn is_over(&self, now: Moment) -> bool {
        match self {
            Self::Ring(ring) => ring.is_over(now.ticks),
            Self::Slots(slots) => slots.is_over(now.ticks),
            Self::WideSlots(slots) => slots.is_over(now.ticks),
            Self::Smoothed(smoothed) => smoothed.is_over(now.ticks) && smoothed.window.is_over(now),
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
            _ => self.used_by_own(now) == 0,
        }
    }

    /// The tick from which on `cost` more fit, in the form of the limit; `None` for never.
    #[inline]
    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64> {
        if ask.max < cost {
            return None;
        }
        on_form!(self, form => Form::earliest(form, ask, cost),
            Self::Empty => Some(ask.now.ticks),
            Self::Queued(queued) => queued.earliest(ask.limit, ask.now, cost))
    }

    /// The tick at which what is counted now counts no more; `None` for never.
    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64> {
        on_form!(self, form => Form::resets_at(form, ask),
        Self::Empty => Some(ask.now.ticks),
        Self::Queued(queued) => {
            let (state, last) = queued.when_all_went(ask.limit, ask.now);
            state.resets_at(&Ask::new(ask.limit, last))
        })
    }

    /// Counts `cost` in the form of the limit.
    #[inline]
    fn add(&mut self, ask: &Ask<'_>, cost: u64) {
        on_form!(mut self, form => Form::add(form, ask, cost),
            Self::Empty => unreachable!("fitted before"),
            Self::Queued(queued) => queued.state.add(ask, cost));
    }

    fn give_back(&mut self, limit: &Limit, at: Moment, cost: u64) {
        let ask = &Ask::new(limit, at);
        on_form!(mut self, form => Form::give_back(form, ask, cost),
        Self::Empty => {},
        Self::Queued(queued) => {
            if !queued.leave(at.ticks, cost) {
                queued.state.give_back(limit, at, cost);
            } else if queued.waiting.is_empty() {
                *self = std::mem::take(&mut queued.state);
            }
        });
    }

    fn standing(&self, ask: &Ask<'_>, exceeded: bool) -> Standing {
        on_form!(self, form => standing(form, ask, exceeded),
        other => Standing {
            max: ask.limit.max(),
            remaining: ask.max.saturating_sub(other.used(ask)),
            retry_in: other.earliest(ask, 1).map_or(Duration::MAX, |at| until(at, ask.now)),
            resets_in: other.resets_at(ask).map(|at| until(at, ask.now)),
            exceeded,
        })
    }

    /// Whether `cost` more fit now. Not asked of a state that is empty or queued.
    #[inline(always)]
    fn fits(&self, ask: &Ask<'_>, cost: u64) -> bool {
        on_form!(self, form => Form::fits(form, ask, cost),
            Self::Empty | Self::Queued(_) => unreachable!("asked before"))
    }

    /// Counts what was seen to fit; tells where it stands then. Not asked of a state that is empty or
    /// queued.
    #[inline(always)]
    fn count(&mut self, ask: &Ask<'_>, cost: u64) -> Standing {
        on_form!(mut self, form => {
                Form::add(form, ask, cost);
                standing(form, ask, false)
            },
            Self::Empty | Self::Queued(_) => unreachable!("asked before"))
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

/// How long it is until this tick.
#[inline]
fn until(tick: u64, now: Moment) -> Duration {
    // Mostly zero, and then nothing is divided.
    match tick.saturating_sub(now.ticks) {
        0 => Duration::ZERO,
        left => Duration::from_nanos(left),
    }
}

#[inline(always)]
fn standing(form: &impl Form, ask: &Ask<'_>, exceeded: bool) -> Standing {
    let room = form.room(ask);
    let remaining = room.saturating_sub(form.used(ask));
    let retry_in = || {
        let earliest = form.earliest(ask, 1);
        earliest.map_or(Duration::MAX, |at| until(at, ask.now))
    };
    Standing {
        max: if room == ask.max {
            ask.limit.max()
        } else {
            room
        },
        remaining,
        retry_in: if remaining == 0 {
            retry_in()
        } else {
            Duration::ZERO
        },
        resets_in: form.resets_at(ask).map(|at| until(at, ask.now)),
        exceeded,
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
            self.state.add(&Ask::new(limit, at), units);
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
        if self.state.earliest(&Ask::new(limit, now), with_all) == Some(now.ticks) {
            return Some(now.ticks);
        }
        let (state, last) = self.when_all_went(limit, now);
        state.earliest(&Ask::new(limit, last), cost)
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
        self.0.used_by_own(now)
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

    /// Whether a charge fits, and nobody waits.
    #[inline]
    fn has_room(&mut self, ask: &Ask<'_>, cost: u64) -> bool {
        self.fit(ask.limit, ask.now);
        !matches!(self.0, State::Queued(_)) && self.0.fits(ask, cost)
    }

    fn waiting(&self) -> (usize, u64) {
        match &self.0 {
            State::Queued(queued) => (queued.waiting.len(), queued.units()),
            _ => (0, 0),
        }
    }

    /// Whether a refusal by this limit stands as it is until its time has come, if nothing else
    /// happens to the tally.
    pub(crate) fn stays_for(&self, limit: &Limit) -> bool {
        self.0.stays_for(limit)
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

/// What came of one charge, looked at alone.
pub(crate) enum Alone {
    /// It was counted.
    Taken(Standing),
    /// It was refused; the time until it passes.
    Refused(Option<Duration>, Standing),
    /// Somebody waits, or it would wait or be watched: [`decide`] has to.
    Unclear,
}

#[inline(always)]
pub(crate) fn charge_alone(charge: &Charge, tally: &mut Tally, now: Moment) -> Alone {
    tally.fit(&charge.limit, now);
    if matches!(tally.0, State::Queued(_)) {
        return Alone::Unclear;
    }
    let (ask, cost) = (Ask::new(&charge.limit, now), charge.cost.get());
    if tally.0.fits(&ask, cost) {
        return Alone::Taken(tally.0.count(&ask, cost));
    }
    if !refuses(charge) {
        return Alone::Unclear;
    }
    let earliest = tally.0.earliest(&ask, cost);
    let standing = tally.0.standing(&ask, true);
    Alone::Refused(earliest.map(|at| until(at, now)), standing)
}

/// What [`decide`] says to a batch of one charge, by a shorter way where nobody waits.
#[inline]
pub(crate) fn decide_one(batch: &[Charge; 1], tally: &mut Tally, now: Moment) -> Verdict {
    match charge_alone(&batch[0], tally, now) {
        Alone::Taken(standing) => taken(now, [standing]),
        Alone::Refused(retry_in, standing) => refused(0, retry_in, [standing]),
        Alone::Unclear => decide_apart(batch, [tally], now),
    }
}

/// [`decide`] for counters of which no two are one.
#[cold]
#[inline(never)]
pub(crate) fn decide_apart<const N: usize>(
    batch: &[Charge; N],
    tallies: [&mut Tally; N],
    now: Moment,
) -> Verdict {
    decide(batch, &mut Apart(tallies), now)
}

/// The same for two charges with a tally each.
pub(crate) fn decide_two(batch: &[Charge; 2], tallies: [&mut Tally; 2], now: Moment) -> Verdict {
    let ([first, second], [one, two]) = (batch, tallies);
    one.fit(&first.limit, now);
    two.fit(&second.limit, now);
    if matches!(one.0, State::Queued(_)) || matches!(two.0, State::Queued(_)) {
        return decide_apart(batch, [one, two], now);
    }
    let asks = [first, second].map(|charge| Ask::new(&charge.limit, now));
    let costs = [first, second].map(|charge| charge.cost.get());
    let exceeded = [
        !one.0.fits(&asks[0], costs[0]),
        !two.0.fits(&asks[1], costs[1]),
    ];
    if exceeded == [false; 2] {
        let first = one.0.count(&asks[0], costs[0]);
        let second = two.0.count(&asks[1], costs[1]);
        return taken(now, [first, second]);
    }
    if (exceeded[0] && !refuses(first)) || (exceeded[1] && !refuses(second)) {
        return decide_apart(batch, [one, two], now);
    }
    let earliest = [
        one.0.earliest(&asks[0], costs[0]),
        two.0.earliest(&asks[1], costs[1]),
    ];
    let retry_at = match earliest {
        [Some(first), Some(second)] => Some(first.max(second)),
        _ => None,
    };
    let standings = [
        one.0.standing(&asks[0], exceeded[0]),
        two.0.standing(&asks[1], exceeded[1]),
    ];
    let retry_in = retry_at.map(|at| until(at, now));
    refused(usize::from(!exceeded[0]), retry_in, standings)
}

/// Charges counters of which no two are one, if all have room and nobody waits at them; tells whether it
/// did.
#[cold]
pub(crate) fn admit<const N: usize>(
    batch: &[Charge; N],
    mut tallies: [&mut Tally; N],
    now: Moment,
) -> bool {
    let charges = || {
        batch
            .iter()
            .map(|charge| (Ask::new(&charge.limit, now), charge.cost.get()))
    };
    let mut asked = tallies.iter_mut().zip(charges());
    let has_room = asked.all(|(tally, (ask, cost))| tally.has_room(&ask, cost));
    if has_room {
        for (tally, (ask, cost)) in tallies.iter_mut().zip(charges()) {
            tally.0.add(&ask, cost);
        }
    }
    has_room
}

/// What a charge that is made again and again asks of its count, worked out once.
#[derive(Clone, Copy)]
pub(crate) struct Brief {
    max: u64,
    cost: u64,
    window: u64, // Of slots their width. Zero for a quota.
    way: Way,
}

/// The form that it is counted in.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Ring,
    Slots,
    WideSlots,
    Smoothed, // By no short way.
    Fixed,
    Bucket,
    Gcra,
    Quota,
}

impl Way {
    fn of(limit: &Limit) -> Self {
        let Limit::Rate(rate) = limit else {
            return Self::Quota;
        };
        match rate.algorithm {
            Algorithm::Sliding if rate.steps.is_some() => Self::Smoothed,
            Algorithm::Sliding if max(limit) <= EXACT => Self::Ring,
            Algorithm::Sliding if max(limit) <= u64::from(u32::MAX) => Self::Slots,
            Algorithm::Sliding => Self::WideSlots,
            Algorithm::FixedWindow => Self::Fixed,
            Algorithm::Bucket => Self::Bucket,
            Algorithm::Gcra => Self::Gcra,
        }
    }
}

impl Brief {
    pub(crate) fn of(charge: &Charge) -> Self {
        let (window, way) = (window(&charge.limit), Way::of(&charge.limit));
        Self {
            max: max(&charge.limit),
            cost: charge.cost.get(),
            window: match way {
                Way::Slots | Way::WideSlots => usual_width(window),
                _ => window,
            },
            way,
        }
    }
}

impl Tally {
    /// Whether the charge fits into the window or period that is counted now, and the tally has the form
    /// for it: the usual case, told in a few steps. `false` says nothing.
    #[inline(always)]
    pub(crate) fn is_ready_for(&self, brief: &Brief, now: Moment) -> bool {
        let (window, ticks) = (brief.window, now.ticks);
        let fits = |used: u64| used.saturating_add(brief.cost) <= brief.max;
        match (&self.0, brief.way) {
            (State::Slots(slots), Way::Slots) => slots.at_most(window, ticks).is_some_and(fits),
            (State::WideSlots(slots), Way::WideSlots) => {
                slots.at_most(window, ticks).is_some_and(fits)
            }
            (State::Ring(ring), Way::Ring) => {
                ring.is_ready_for(brief.max, window, ticks, brief.cost)
            }
            (&State::Quota { used, start, ends }, Way::Quota) => {
                let used = used.into();
                0 < QuotaState { used, start, ends }.used(now) && fits(used)
            }
            (
                &State::Fixed {
                    used,
                    ends,
                    window: own,
                },
                Way::Fixed,
            ) => own == window && ticks < ends && fits(used.into()),
            (&State::Bucket { used, start, ends }, Way::Bucket) => {
                let used = used.into();
                0 < used && ends.wrapping_sub(start) == window && ticks < ends && fits(used)
            }
            (
                &State::Gcra {
                    interval, whole_at, ..
                },
                Way::Gcra,
            ) => {
                let gcra = Gcra {
                    since: 0,
                    interval,
                    whole_at,
                };
                brief.cost <= brief.max
                    && gcra.is_for(brief.max, window)
                    && gcra.earliest(brief.max, ticks, brief.cost) <= ticks
            }
            _ => false,
        }
    }

    /// Counts a charge that the tally is ready for.
    #[inline(always)]
    pub(crate) fn add_ready(&mut self, brief: &Brief, now: Moment) {
        let cost = brief.cost;
        match &mut self.0 {
            State::Slots(slots) => slots.add_ready(now.ticks, cost),
            State::WideSlots(slots) => slots.add_ready(now.ticks, cost),
            State::Ring(ring) => ring.add_ready(now.ticks, cost),
            State::Quota { used, .. } | State::Fixed { used, .. } | State::Bucket { used, .. } => {
                *used = (u64::from(*used) + cost).into(); // Not above the maximum.
            }
            State::Gcra {
                since,
                interval,
                whole_at,
            } => {
                let mut gcra = Gcra {
                    since: (*since).into(),
                    interval: *interval,
                    whole_at: *whole_at,
                };
                gcra.add(now.ticks, cost);
                (*since, *whole_at) = (gcra.since.into(), gcra.whole_at);
            }
            State::Empty | State::Smoothed(_) | State::Queued(_) => {
                unreachable!("it is ready for nothing")
            }
        }
    }
}

impl Tally {
    /// Where the limit stands right after [`add_ready`](Self::add_ready).
    #[inline(always)]
    pub(crate) fn standing_ready(&self, limit: &Limit, now: Moment) -> Standing {
        let (used, resets_at) = match &self.0 {
            State::Slots(slots) => slots.after_adding(),
            State::Quota { used, ends, .. } => ((*used).into(), ends.tick(now)),
            state => return state.standing(&Ask::new(limit, now), false),
        };
        let remaining = max(limit).saturating_sub(used);
        if remaining == 0 {
            return self.0.standing(&Ask::new(limit, now), false);
        }
        Standing {
            max: limit.max(),
            remaining,
            retry_in: Duration::ZERO,
            resets_in: resets_at.map(|at| until(at, now)),
            exceeded: false,
        }
    }
}

/// Whether it neither waits nor only watches.
pub(crate) fn refuses(charge: &Charge) -> bool {
    charge.mode == ChargeMode::Enforce
        && (charge.patience.is_zero() || matches!(charge.limit, Limit::Quota(_)))
}

// A verdict is some hundred bytes, most of them room for standings that are not there. So it is made
// without any where it is returned, and then gets those it has: nothing large is ever moved.
#[inline(always)]
pub(crate) fn taken<const N: usize>(now: Moment, standings: [Standing; N]) -> Verdict {
    let mut verdict = Verdict::Taken(Taken {
        standings: Standings::new(),
        wait: Duration::ZERO,
        at: now,
    });
    if let Verdict::Taken(taken) = &mut verdict {
        for standing in standings {
            taken.standings.push(standing);
        }
    }
    verdict
}

#[inline(always)]
pub(crate) fn refused<const N: usize>(
    index: usize,
    retry_in: Option<Duration>,
    standings: [Standing; N],
) -> Verdict {
    let mut verdict = Verdict::Refused(Refused {
        index,
        retry_in,
        standings: Standings::new(),
    });
    if let Verdict::Refused(refused) = &mut verdict {
        for standing in standings {
            refused.standings.push(standing);
        }
    }
    verdict
}

/// A tally for each charge.
struct Apart<'a, const N: usize>([&'a mut Tally; N]);

impl<const N: usize> Tallies for Apart<'_, N> {
    fn tally(&mut self, index: usize) -> &mut Tally {
        self.0[index]
    }

    fn same(&self, one: usize, other: usize) -> bool {
        one == other
    }
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
            let ask = Ask::new(&charge.limit, now);
            tally.0.add(&ask, charge.cost.get());
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
        let earliest = tally.0.earliest(&Ask::new(&charge.limit, self.now), cost);
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
            let ask = Ask::new(&charge.limit, now);
            tally.0.standing(&ask, *exceeded)
        })
        .collect()
}
