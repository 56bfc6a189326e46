//! What this node counts by itself while the server is away.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU64,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tollgate_core::{
    Moment,
    limits::{Limit, Period},
    store::{Charge, ChargeMode, CounterName, LimitStore, MemoryStore, Standing, Taken, Verdict},
};

use crate::{held::untouched, options::OnStoreError};

/// How many times of being alone are remembered, for units that are given back later.
const TIMES: usize = 64;
/// Two failures less than this apart belong to one time of being alone.
const GAP: u64 = 1_000_000_000;

/// Of so many counters the server is told what was admitted alone; what is beyond it is not.
const TOLD: usize = 10_000;

/// What was admitted alone of one counter.
pub(crate) struct Untold {
    pub(crate) charge: Charge,
    pub(crate) units: u64,
    last: u64, // Tick.
}

impl Untold {
    /// Whether it may still count.
    pub(crate) fn counts(&self, now: Moment) -> bool {
        let length = match &self.charge.limit {
            Limit::Rate(rate) => rate.window,
            Limit::Quota(quota) => match &quota.period {
                Period::Every(length) => *length,
                Period::Never | Period::Calendar(_) => Duration::MAX,
            },
        };
        Duration::from_nanos(now.ticks.saturating_sub(self.last)) < length
    }
}

/// Counters in memory, each up to this node's part of its limit.
pub(crate) struct Fallback {
    counters: MemoryStore,
    /// The first and last ticks of requests that were decided here.
    alone: Mutex<VecDeque<(u64, u64)>>,
    /// By the counter's name.
    untold: Mutex<HashMap<Vec<u8>, Untold, foldhash::fast::RandomState>>,
    has_untold: AtomicBool,
}

impl Fallback {
    pub(crate) fn new() -> Self {
        Self {
            counters: MemoryStore::new(),
            alone: Mutex::default(),
            untold: Mutex::default(),
            has_untold: AtomicBool::new(false),
        }
    }

    /// Decides a batch none of whose limits refuses on failure.
    pub(crate) fn take(
        &self,
        batch: &[Charge],
        rule: impl Fn(&Charge) -> OnStoreError,
        now: Moment,
    ) -> Verdict {
        self.was_alone(now);
        let counted: SmallVec<[Charge; 4]> = batch
            .iter()
            .filter_map(|charge| match rule(charge) {
                OnStoreError::Local { nodes } => Some(part(charge, nodes.get().into())),
                _ => None,
            })
            .collect();
        let decided = self.counters.try_take(&counted, now);
        let mut places = batch.iter().enumerate();
        let is_local = |charge: &Charge| matches!(rule(charge), OnStoreError::Local { .. });
        match decided {
            Some(Verdict::Refused(mut refused)) => {
                let locals = places.filter(|(_, charge)| is_local(charge));
                let place = locals.map(|(place, _)| place).nth(refused.index);
                refused.index = place.unwrap_or_default();
                refused.standings = standings(batch, is_local, &refused.standings);
                Verdict::Refused(refused)
            }
            Some(Verdict::Taken(mut taken)) => {
                for charge in batch.iter().filter(|charge| is_local(charge)) {
                    self.note(charge, charge.cost.get(), now);
                }
                taken.standings = standings(batch, is_local, &taken.standings);
                Verdict::Taken(taken)
            }
            None => Verdict::Taken(Taken {
                standings: places
                    .by_ref()
                    .map(|(_, charge)| untouched(charge))
                    .collect(),
                wait: Duration::ZERO,
                at: now,
            }),
        }
    }

    /// Notes units that the server is to be told of.
    pub(crate) fn note(&self, charge: &Charge, units: u64, now: Moment) {
        if charge.mode == ChargeMode::Observe {
            return;
        }
        let mut untold = self.untold.lock();
        let (name, is_full) = (charge.counter.name(), TOLD <= untold.len());
        if let Some(untold) = untold.get_mut(name) {
            (untold.units, untold.last) = (untold.units.saturating_add(units), now.ticks);
        } else if !is_full {
            let (charge, last) = (charge.clone(), now.ticks);
            untold.insert(
                name.to_vec(),
                Untold {
                    charge,
                    units,
                    last,
                },
            );
        }
        self.has_untold.store(true, Relaxed);
    }

    /// What the server is to be told of, once.
    pub(crate) fn untold(&self) -> Vec<Untold> {
        // A look first: this is asked with each answer.
        if !self.has_untold.load(Relaxed) || !self.has_untold.swap(false, Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.untold.lock())
            .into_values()
            .collect()
    }

    pub(crate) fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        for charge in batch {
            if let Some(untold) = self.untold.lock().get_mut(charge.counter.name()) {
                untold.units = untold.units.saturating_sub(charge.cost.get());
            }
        }
        let batch: Vec<_> = batch.iter().map(|charge| part(charge, 1)).collect();
        self.counters.give_back(&batch, taken_at);
    }

    /// Whether requests were decided here at that moment, so that what was taken was taken here.
    pub(crate) fn was_alone_at(&self, at: Moment) -> bool {
        let alone = self.alone.lock();
        alone
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&at.ticks))
    }

    fn was_alone(&self, now: Moment) {
        let mut alone = self.alone.lock();
        match alone.back_mut() {
            Some((first, last)) if now.ticks <= last.saturating_add(GAP) => {
                *first = (*first).min(now.ticks);
                *last = (*last).max(now.ticks);
            }
            _ => {
                if alone.len() == TIMES {
                    alone.pop_front();
                }
                alone.push_back((now.ticks, now.ticks));
            }
        }
    }
}

/// A charge on this node's part of the limit, under a name of its own: the counter's handle is for Redis.
fn part(charge: &Charge, nodes: u64) -> Charge {
    let share = |max: NonZeroU64| NonZeroU64::new(max.get() / nodes).unwrap_or(NonZeroU64::MIN);
    let mut limit = charge.limit.clone();
    match &mut limit {
        Limit::Rate(rate) => rate.requests = share(rate.requests),
        Limit::Quota(quota) => quota.max = share(quota.max),
    }
    Charge {
        counter: CounterName::of(&[charge.counter.name()]).into(),
        limit,
        ..charge.clone()
    }
}

/// The standings of those that were counted, and untouched ones for the others.
fn standings(
    batch: &[Charge],
    is_local: impl Fn(&Charge) -> bool,
    counted: &[Standing],
) -> SmallVec<[Standing; 4]> {
    let mut counted = counted.iter();
    let standing = |charge: &Charge| {
        let own = is_local(charge).then(|| counted.next()).flatten();
        own.copied().unwrap_or_else(|| untouched(charge))
    };
    batch.iter().map(standing).collect()
}
