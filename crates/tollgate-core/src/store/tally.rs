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

mod decide;
mod form;
mod ready;
mod smoothed;

use std::{collections::VecDeque, time::Duration};

pub use self::decide::{look, take};
pub(crate) use self::{
    decide::{
        Alone, Tallies, admit, charge_alone, decide, decide_apart, decide_one, decide_two, refused,
        refuses, taken,
    },
    ready::Brief,
};
use self::{
    form::{Ask, Form},
    smoothed::Smoothed,
};
use super::{Charge, Standing};
use crate::{
    clock::Moment,
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

    /// Its limit was asked for, last at `now`, by some who did not come by here.
    #[cold]
    pub(crate) fn was_asked(&mut self, now: Moment) {
        match &mut self.0 {
            State::Slots(slots) => slots.was_asked(now.ticks),
            State::WideSlots(slots) => slots.was_asked(now.ticks),
            _ => {}
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
