//! A sliding window of which only an allowance may be used, which grows and shrinks with use.
//!
//! The allowance changes with a request that is admitted, so a refusal writes nothing. It is forgotten when
//! nothing was admitted for twice as long as two changes are apart, and begins anew.

use super::{
    State,
    form::{Ask, Form},
    moment,
};
use crate::limits::{Limit, RateSteps};

#[derive(Clone, Debug, Default)]
pub(super) struct Smoothed {
    pub(super) window: State, // A sliding one.
    allowance: Option<Allowance>,
}

/// Times are ticks.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    requests: u64,
    stays_until: u64,
    ends: u64,
}

impl Smoothed {
    pub(super) fn of(window: State) -> Self {
        Self {
            window,
            allowance: None,
        }
    }

    pub(super) fn is_over(&self, now: u64) -> bool {
        self.allowance.is_none_or(|allowance| allowance.ends <= now)
    }

    fn allowance(&self, now: u64) -> Option<Allowance> {
        self.allowance.filter(|allowance| now < allowance.ends)
    }

    /// How many requests the window may hold at the moment of `ask`.
    fn requests(&self, ask: &Ask<'_>) -> u64 {
        let Some(steps) = steps(ask.limit) else {
            return ask.max;
        };
        match self.allowance(ask.now.ticks) {
            None => steps.first(ask.max),
            Some(allowance) => self.stepped(&allowance, steps, ask),
        }
    }

    fn stepped(&self, allowance: &Allowance, steps: &RateSteps, ask: &Ask<'_>) -> u64 {
        if ask.now.ticks <= allowance.stays_until {
            return steps.within(allowance.requests, ask.max);
        }
        steps.next(allowance.requests, self.window.used(ask), ask.max)
    }

    /// The same question, with the allowance in place of the rate.
    fn allowed<'a>(&self, ask: &Ask<'a>) -> Ask<'a> {
        Ask {
            max: self.requests(ask),
            ..*ask
        }
    }

    fn step(&mut self, steps: &RateSteps, ask: &Ask<'_>) {
        let now = ask.now.ticks;
        let delay = steps.delay_nanos();
        let was = self.allowance(now);
        let requests = self.requests(ask);
        let stays_until = match was {
            Some(was) if was.requests == requests => was.stays_until,
            _ => now.saturating_add(delay),
        };
        self.allowance = Some(Allowance {
            requests,
            stays_until,
            ends: now.saturating_add(delay.saturating_mul(2)),
        });
    }
}

fn steps(limit: &Limit) -> Option<&RateSteps> {
    match limit {
        Limit::Rate(rate) => rate.steps.as_ref(),
        Limit::Quota(_) => None,
    }
}

impl Form for Smoothed {
    fn used(&self, ask: &Ask<'_>) -> u64 {
        self.window.used(ask)
    }

    fn room(&self, ask: &Ask<'_>) -> u64 {
        self.requests(ask)
    }

    fn earliest(&self, ask: &Ask<'_>, cost: u64) -> Option<u64> {
        let by_window = self.window.earliest(&self.allowed(ask), cost);
        // The next change may come before units leave the window.
        let Some(allowance) = self.allowance(ask.now.ticks) else {
            return by_window;
        };
        let changes = allowance.stays_until.saturating_add(1);
        if changes <= ask.now.ticks || by_window.is_some_and(|at| at <= changes) {
            return by_window;
        }
        let then = Ask {
            now: moment(changes, ask.now),
            ..*ask
        };
        if self.fits(&then, cost) {
            Some(changes)
        } else {
            by_window
        }
    }

    fn fits(&self, ask: &Ask<'_>, cost: u64) -> bool {
        self.window.fits(&self.allowed(ask), cost)
    }

    fn resets_at(&self, ask: &Ask<'_>) -> Option<u64> {
        self.window.resets_at(ask)
    }

    fn add(&mut self, ask: &Ask<'_>, cost: u64) {
        if let Some(steps) = steps(ask.limit) {
            self.step(steps, ask);
        }
        self.window.add(ask, cost);
    }

    fn give_back(&mut self, ask: &Ask<'_>, cost: u64) {
        self.window.give_back(ask.limit, ask.now, cost);
    }
}
