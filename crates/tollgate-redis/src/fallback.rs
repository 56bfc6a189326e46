//! What this node counts by itself while the server is away.

use std::{collections::VecDeque, num::NonZeroU64, time::Duration};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tollgate_core::{
    Moment,
    limits::Limit,
    store::{Charge, CounterName, LimitStore, MemoryStore, Standing, Taken, Verdict},
};

use crate::{held::untouched, options::OnStoreError};

/// How many times of being alone are remembered, for units that are given back later.
const TIMES: usize = 64;
/// Two failures less than this apart belong to one time of being alone.
const GAP: u64 = 1_000_000_000;

/// Counters in memory, each up to this node's part of its limit.
pub(crate) struct Fallback {
    counters: MemoryStore,
    /// The first and last ticks of requests that were decided here.
    alone: Mutex<VecDeque<(u64, u64)>>,
}

impl Fallback {
    pub(crate) fn new() -> Self {
        Self {
            counters: MemoryStore::new(),
            alone: Mutex::default(),
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

    pub(crate) fn give_back(&self, batch: &[Charge], taken_at: Moment) {
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
