//! What this node remembers of a counter: its name in Redis, where it stood, and that it refused.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tollgate_core::{
    Moment,
    limits::{Algorithm, Limit},
    store::{Charge, Standing},
};

use crate::leases::Lease;

/// Kept with a counter that is held.
pub(crate) struct Held {
    name: Mutex<Option<Named>>,
    seen: Mutex<Seen>,
}

/// The name in Redis, for a form of the limit, which hardly ever changes: a rate's algorithm.
struct Named {
    form: Option<Algorithm>,
    name: Arc<[u8]>,
    lease: Option<Arc<Lease>>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    standing: Option<(Standing, u64)>,
    /// Until this tick nothing of this cost passes.
    denied_until: u64,
    denied_cost: u64,
    /// How many counters had been reset then.
    resets: u64,
}

impl Held {
    pub(crate) fn new() -> Self {
        Self {
            name: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// The name in Redis, made at first use.
    pub(crate) fn name(&self, charge: &Charge, make: impl FnOnce() -> Vec<u8>) -> Arc<[u8]> {
        let mut named = self.name.lock();
        named_of(&mut named, charge, make).name.clone()
    }

    /// What is held of the counter's limit, looked for at first use.
    pub(crate) fn lease(
        &self,
        charge: &Charge,
        make: impl FnOnce() -> Vec<u8>,
        find: impl FnOnce(&Arc<[u8]>) -> Arc<Lease>,
    ) -> Arc<Lease> {
        let mut named = self.name.lock();
        let named = named_of(&mut named, charge, make);
        let name = &named.name;
        named.lease.get_or_insert_with(|| find(name)).clone()
    }

    /// Remembers where the counter stands. A refusal is remembered for `age`, and no longer than it holds.
    pub(crate) fn saw(
        &self,
        charge: &Charge,
        standing: Standing,
        (now, resets): (Moment, u64),
        age: Duration,
    ) {
        let mut seen = self.seen.lock();
        seen.standing = Some((standing, now.ticks));
        if standing.exceeded && !age.is_zero() {
            let age = standing.retry_in.min(age);
            seen.denied_until = now.after(age).ticks;
            seen.denied_cost = charge.cost.get();
            seen.resets = resets;
        } else {
            seen.denied_until = 0;
        }
    }

    /// Forgets that it refused.
    pub(crate) fn forgive(&self) {
        self.seen.lock().denied_until = 0;
    }

    /// Where the counter stands, and whether this charge is surely refused.
    pub(crate) fn standing(&self, charge: &Charge, now: Moment, resets: u64) -> (Standing, bool) {
        let seen = *self.seen.lock();
        let Some((mut standing, at)) = seen.standing else {
            return (untouched(charge), false);
        };
        if standing.max != charge.limit.max() {
            return (untouched(charge), false); // Another limit may let it pass.
        }
        let passed = Duration::from_nanos(now.ticks.saturating_sub(at));
        if standing.retry_in != Duration::MAX {
            standing.retry_in = standing.retry_in.saturating_sub(passed);
        }
        standing.resets_in = standing
            .resets_in
            .map(|resets_in| resets_in.saturating_sub(passed));
        let is_denied = now.ticks < seen.denied_until
            && seen.resets == resets
            && seen.denied_cost <= charge.cost.get()
            && charge.patience.is_zero();
        standing.exceeded = is_denied;
        (standing, is_denied)
    }
}

fn named_of<'a>(
    named: &'a mut Option<Named>,
    charge: &Charge,
    make: impl FnOnce() -> Vec<u8>,
) -> &'a mut Named {
    let form = match &charge.limit {
        Limit::Rate(rate) => Some(rate.algorithm),
        Limit::Quota(_) => None,
    };
    if named.as_ref().is_some_and(|named| named.form != form) {
        *named = None;
    }
    named.get_or_insert_with(|| Named {
        form,
        name: make().into(),
        lease: None,
    })
}

/// Where a limit stands of which nothing is known to be used.
pub(crate) fn untouched(charge: &Charge) -> Standing {
    let max = charge.limit.max();
    Standing {
        max,
        remaining: max,
        retry_in: Duration::ZERO,
        resets_in: Some(Duration::ZERO),
        exceeded: false,
    }
}
