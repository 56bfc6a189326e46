//! The side of the store: what was handed out, and to whom.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use super::{Ask, Epoch, Grant, LeaseId, LeaseSpan, LeaseTerms, NodeId, Settle, chunk};
use crate::{
    clock::Moment,
    limits::Rate,
    store::{
        Charge, CounterName, Standing, Verdict,
        tally::{self, Tally},
    },
};

/// What one limit has handed out.
///
/// Each call is one step: whoever carries it makes it atomic. The times passed in are the store's; one
/// earlier than one seen before counts as that one.
#[derive(Clone, Debug, Default)]
pub struct LeaseRecord {
    epoch: Epoch,
    count: Count,
    latest_nanos: u64,
    grants: BTreeMap<LeaseId, Granted>, // Of this epoch.
    nodes: BTreeMap<NodeId, Node>,      // Of this epoch.
}

#[derive(Clone, Debug, Default)]
enum Count {
    #[default]
    Nothing,
    Epoch {
        used: u64,
        ends_nanos: u64,
    },
    /// Grants stand in the window as requests do where nothing is leased.
    Sliding {
        tally: Tally,
        rate: Rate,
    },
}

#[derive(Clone, Debug)]
struct Granted {
    answer: Grant,
    at_nanos: u64,
    settled: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    granted: u64, // In this epoch, whatever came back.
    seen_nanos: u64,
}

impl LeaseRecord {
    /// A lease is remembered for so many times its length, so that its units can still come back.
    /// One that is forgotten is granted anew when it is asked for again, and can not be settled.
    pub const REMEMBERED: u64 = 4;

    /// How many leases and nodes are remembered. Over it the oldest go.
    pub const MOST: usize = 4096;

    /// A record that has handed out nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The epoch that runs, or ran last.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The store's nanosecond at which the epoch ends; `u64::MAX` for never.
    pub fn ends_nanos(&self) -> u64 {
        match self.count {
            Count::Epoch { ends_nanos, .. } => ends_nanos,
            _ => u64::MAX,
        }
    }

    /// How much is handed out at this time. Above the limit only when a lost grant was reported after
    /// its units had been granted again.
    pub fn used(&self, now_nanos: u64) -> u64 {
        match &self.count {
            Count::Epoch { used, ends_nanos } if now_nanos < *ends_nanos => *used,
            Count::Sliding { tally, rate } => {
                let standing = look(&mut tally.clone(), *rate, moment(now_nanos));
                standing.max - standing.remaining
            }
            _ => 0,
        }
    }

    /// What was answered to this lease, while it is remembered.
    pub fn answer(&self, lease: LeaseId) -> Option<&Grant> {
        self.grants.get(&lease).map(|granted| &granted.answer)
    }

    /// Whether nothing in the record counts any more, so that it can be dropped.
    pub fn is_over(&self, now_nanos: u64) -> bool {
        match &self.count {
            Count::Nothing => true,
            Count::Epoch { ends_nanos, .. } => *ends_nanos <= now_nanos,
            Count::Sliding { tally, .. } => tally.is_over(moment(now_nanos)),
        }
    }

    /// Grants up to what is asked for, or says what was answered when the lease was asked for before.
    pub fn acquire(&mut self, terms: &LeaseTerms, ask: &Ask, now_nanos: u64) -> Grant {
        let now_nanos = self.reach(now_nanos);
        self.begin(terms, now_nanos);
        for settle in &ask.settles {
            self.settle(settle, now_nanos);
        }
        self.forget(terms, now_nanos);
        if let Some(granted) = self.grants.get(&ask.lease) {
            return granted.answer;
        }
        self.mend(ask, now_nanos);
        let alone = ask.alone.min(self.remaining(terms, now_nanos));
        self.add(alone, now_nanos);
        self.nodes.entry(ask.lease.node).or_default().seen_nanos = now_nanos;
        let remaining = self.remaining(terms, now_nanos);
        // What the node knew of the others may be old by now.
        let part = chunk(ask.want, remaining, self.holders(terms, now_nanos));
        let granted = part.max(ask.least).min(ask.want).min(remaining);
        self.add(granted, now_nanos);
        let node = self.nodes.entry(ask.lease.node).or_default();
        node.granted = node.granted.saturating_add(granted);
        let answer = self.answer_to(terms, ask.lease, granted, now_nanos);
        let granted = Granted {
            answer,
            at_nanos: now_nanos,
            settled: false,
        };
        self.grants.insert(ask.lease, granted);
        answer
    }

    /// Takes units back, once for each lease and in its own epoch alone; says how many.
    pub fn settle(&mut self, settle: &Settle, now_nanos: u64) -> u64 {
        let now_nanos = self.reach(now_nanos);
        if settle.epoch != self.epoch || self.has_ended(now_nanos) {
            return 0;
        }
        let Some(granted) = self.grants.get_mut(&settle.lease) else {
            return 0;
        };
        if std::mem::replace(&mut granted.settled, true) {
            return 0;
        }
        let unused = settle.unused.min(granted.answer.granted);
        let at = moment(granted.at_nanos);
        match &mut self.count {
            Count::Nothing => 0,
            Count::Epoch { used, .. } => {
                *used = used.saturating_sub(unused);
                unused
            }
            Count::Sliding { tally, rate } => {
                if let Some(unused) = NonZeroU64::new(unused) {
                    tally.give_back(&charge(*rate, unused), at);
                }
                unused
            }
        }
    }

    /// How many nodes asked lately.
    pub fn holders(&self, terms: &LeaseTerms, now_nanos: u64) -> u64 {
        let lately = lease_nanos(terms).saturating_mul(2);
        let is_live = |node: &&Node| now_nanos < node.seen_nanos.saturating_add(lately);
        self.nodes.values().filter(is_live).count() as u64
    }

    fn reach(&mut self, now_nanos: u64) -> u64 {
        self.latest_nanos = self.latest_nanos.max(now_nanos);
        self.latest_nanos
    }

    fn has_ended(&self, now_nanos: u64) -> bool {
        match &self.count {
            Count::Nothing => true,
            Count::Epoch { ends_nanos, .. } => *ends_nanos <= now_nanos,
            Count::Sliding { .. } => false,
        }
    }

    /// Begins an epoch where none runs; a window of another length goes on with its count.
    fn begin(&mut self, terms: &LeaseTerms, now_nanos: u64) {
        let fresh = match (terms.span, &mut self.count) {
            (LeaseSpan::Epoch { .. }, Count::Epoch { ends_nanos, .. })
                if now_nanos < *ends_nanos =>
            {
                return;
            }
            (LeaseSpan::Sliding { .. }, Count::Sliding { rate, .. }) => {
                *rate = dilated(terms);
                return;
            }
            (LeaseSpan::Epoch { ends_nanos }, _) => Count::Epoch {
                used: 0,
                ends_nanos,
            },
            (LeaseSpan::Sliding { .. }, _) => Count::Sliding {
                tally: Tally::new(),
                rate: dilated(terms),
            },
        };
        *self = Self {
            epoch: Epoch(now_nanos.max(self.epoch.0 + 1)),
            count: fresh,
            latest_nanos: now_nanos,
            ..Self::default()
        };
    }

    /// Forgets leases and nodes that are too old, or too many.
    fn forget(&mut self, terms: &LeaseTerms, now_nanos: u64) {
        let remembered = lease_nanos(terms).saturating_mul(Self::REMEMBERED);
        self.grants
            .retain(|_, granted| now_nanos < granted.at_nanos.saturating_add(remembered));
        while Self::MOST <= self.grants.len() {
            let oldest = self
                .grants
                .iter()
                .min_by_key(|(_, granted)| granted.at_nanos);
            let Some(oldest) = oldest.map(|(lease, _)| *lease) else {
                return;
            };
            self.grants.remove(&oldest);
        }
        while Self::MOST <= self.nodes.len() {
            let oldest = self.nodes.iter().min_by_key(|(_, node)| node.seen_nanos);
            let Some(oldest) = oldest.map(|(node, _)| *node) else {
                return;
            };
            self.nodes.remove(&oldest);
        }
    }

    /// Counts what the node was granted and the record has forgotten.
    fn mend(&mut self, ask: &Ask, now_nanos: u64) {
        if ask.epoch != self.epoch {
            return;
        }
        let node = self.nodes.entry(ask.lease.node).or_default();
        let lost = ask.granted.saturating_sub(node.granted);
        node.granted = node.granted.max(ask.granted);
        self.add(lost, now_nanos);
    }

    fn remaining(&mut self, terms: &LeaseTerms, now_nanos: u64) -> u64 {
        match &mut self.count {
            Count::Nothing => 0,
            Count::Epoch { used, .. } => terms.limit.get().saturating_sub(*used),
            Count::Sliding { tally, rate } => look(tally, *rate, moment(now_nanos)).remaining,
        }
    }

    fn add(&mut self, units: u64, now_nanos: u64) {
        match &mut self.count {
            Count::Nothing => {}
            Count::Epoch { used, .. } => *used = used.saturating_add(units),
            Count::Sliding { tally, rate } => {
                let now = moment(now_nanos);
                // A window is full at its limit; what was lost beyond that is lost.
                let units = units.min(look(tally, *rate, now).remaining);
                if let Some(units) = NonZeroU64::new(units) {
                    tally::take(&[charge(*rate, units)], std::slice::from_mut(tally), now);
                }
            }
        }
    }

    fn answer_to(
        &mut self,
        terms: &LeaseTerms,
        lease: LeaseId,
        granted: u64,
        now_nanos: u64,
    ) -> Grant {
        let (used, ends_in_nanos, retry_in_nanos) = match &mut self.count {
            Count::Nothing => (0, 0, u64::MAX),
            Count::Epoch { used, ends_nanos } => {
                let left = ends_nanos.saturating_sub(now_nanos);
                // What never ends has no length to wait for.
                let left = if *ends_nanos == u64::MAX {
                    u64::MAX
                } else {
                    left
                };
                let is_full = terms.limit.get() <= *used;
                (*used, left, if is_full { left } else { 0 })
            }
            Count::Sliding { tally, rate } => {
                let standing = look(tally, *rate, moment(now_nanos));
                let retry_in = crate::clock::nanos(standing.retry_in);
                let used = standing.max - standing.remaining;
                (used, dilation_nanos(terms), retry_in)
            }
        };
        Grant {
            lease,
            epoch: self.epoch,
            granted,
            ends_in_nanos,
            ttl_nanos: terms.ttl_nanos,
            used,
            holders: self.holders(terms, now_nanos).max(1),
            retry_in_nanos,
        }
    }
}

fn dilation_nanos(terms: &LeaseTerms) -> u64 {
    match terms.span {
        LeaseSpan::Epoch { .. } => u64::MAX,
        LeaseSpan::Sliding { dilation_nanos, .. } => dilation_nanos,
    }
}

/// How long a lease lasts at most.
fn lease_nanos(terms: &LeaseTerms) -> u64 {
    terms.ttl_nanos.min(dilation_nanos(terms))
}

/// The rate that the grants of a sliding window keep to.
fn dilated(terms: &LeaseTerms) -> Rate {
    let window_nanos = match terms.span {
        LeaseSpan::Epoch { .. } => 0,
        LeaseSpan::Sliding {
            window_nanos,
            dilation_nanos,
        } => window_nanos.saturating_add(dilation_nanos),
    };
    Rate::per(terms.limit.get(), Duration::from_nanos(window_nanos.max(1)))
}

fn charge(rate: Rate, units: NonZeroU64) -> Charge {
    Charge {
        cost: units,
        ..Charge::new(CounterName::of(&[]), rate)
    }
}

fn look(tally: &mut Tally, rate: Rate, now: Moment) -> Standing {
    let batch = [charge(rate, NonZeroU64::MIN)];
    match tally::look(&batch, std::slice::from_mut(tally), now) {
        Verdict::Taken(taken) => taken.standings[0],
        Verdict::Refused(refused) => refused.standings[0],
    }
}

/// A moment of the store's clock. A sliding window asks for no wall clock.
fn moment(nanos: u64) -> Moment {
    Moment {
        ticks: nanos,
        unix_nanos: 0,
    }
}
