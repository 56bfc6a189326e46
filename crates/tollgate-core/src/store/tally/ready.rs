//! A charge that is made again and again, counted in a few steps where nothing about it is unusual.

use std::time::Duration;

use super::{State, Tally, form::Ask, max, until, window};
use crate::{
    clock::Moment,
    limits::{Algorithm, Limit},
    quota::QuotaState,
    rate::{EXACT, Gcra, usual_width},
    store::{Charge, Standing},
};

/// What a charge that is made again and again asks of its count, worked out once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief {
    max: u64,
    cost: u64,
    window: u64, // Of slots their width, of GCRA the interval. Zero for a quota.
    way: Way,
}

/// The form that it is counted in.
#[derive(Clone, Copy, Debug, PartialEq)]
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
        let max = max(&charge.limit);
        Self {
            max,
            cost: charge.cost.get(),
            window: match way {
                Way::Slots | Way::WideSlots => usual_width(window),
                Way::Gcra => Gcra::interval_of(max.max(1), window),
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
                // By the charge's own interval, which is at hand while the tally is still waited for.
                let gcra = Gcra {
                    since: 0,
                    interval: window,
                    whole_at,
                };
                brief.cost <= brief.max
                    && interval == window
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
                since, whole_at, ..
            } => {
                let mut gcra = Gcra {
                    since: (*since).into(),
                    interval: brief.window, // The same.
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
    /// Where the limit stands, if it is ready for the charge, which is not made.
    #[inline]
    pub(crate) fn room_for(&self, charge: &Charge, now: Moment) -> Option<Standing> {
        self.is_ready_for(&Brief::of(charge), now)
            .then(|| self.0.standing(&Ask::new(&charge.limit, now), false))
    }

    /// Counts as [`add_ready`](Self::add_ready) does, and tells where the limit of the charge stands then.
    #[inline(always)]
    pub(crate) fn add_told(&mut self, brief: &Brief, limit: &Limit, now: Moment) -> Standing {
        let (used, resets_at) = match &mut self.0 {
            State::Slots(slots) => {
                slots.add_ready(now.ticks, brief.cost);
                slots.after_adding()
            }
            State::Quota { used, ends, .. } => {
                let sum = u64::from(*used) + brief.cost; // Not above the maximum.
                *used = sum.into();
                (sum, ends.tick(now))
            }
            _ => {
                self.add_ready(brief, now);
                return self.0.standing(&Ask::new(limit, now), false);
            }
        };
        let remaining = brief.max.saturating_sub(used);
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
