//! The side of a node: the chunks it holds, and the question that is on its way.

use std::num::NonZeroU64;

use smallvec::SmallVec;

use super::{Ask, DRIFT, Epoch, Grant, LeaseId, NodeId, Settle, Settles, Used, chunk};

/// What a holder goes by. It comes with the request, so it may change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HolderTerms {
    /// How many units all nodes have together.
    pub limit: NonZeroU64,
    /// For how long a chunk should last, in nanoseconds: 250 ms to 1 s.
    pub horizon_nanos: u64,
    /// The length of a period or window, in nanoseconds: how long a share lasts while the store is
    /// away.
    pub period_nanos: u64,
    /// How finely the record is told when units were used, in nanoseconds: at most so far apart are those that are told
    /// together. Zero where it has no use for that, as in periods.
    pub grain_nanos: u64,
}

/// What a holder says to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseTake {
    /// The units are the request's.
    Taken {
        /// Where they come from, for [`LeaseHolder::give_back`]; empty when admitted alone.
        spent: SmallVec<[Spent; 2]>,
        /// How many to [`ask`](LeaseHolder::ask) for in the background: little is left.
        refill: Option<u64>,
    },
    /// Not enough is held. The request waits for the answer to an [`ask`](LeaseHolder::ask), the one
    /// on its way if there is one.
    NeedMore {
        /// How many to ask for.
        want: u64,
    },
    /// The record had nothing left.
    Refused {
        /// When it may have, in nanoseconds; `u64::MAX` for never.
        retry_in_nanos: u64,
    },
}

/// Units taken off one lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spent {
    /// The lease.
    pub lease: LeaseId,
    /// How many.
    pub units: u64,
}

/// What one node holds of one limit.
///
/// The times passed in are the node's own, of a clock that never goes back and does not stop when the
/// machine sleeps.
#[derive(Clone, Debug)]
pub struct LeaseHolder {
    node: NodeId,
    serial: u64, // Of the next question.
    epoch: Epoch,
    granted: u64,                 // In this epoch.
    chunks: SmallVec<[Chunk; 4]>, // Of this epoch, the oldest first; at most `MOST`.
    asked: Option<Asked>,         // One question at a time.
    gone: SmallVec<[Chunk; 4]>,   // Not yet settled with the record; at most `MOST`.
    last: Option<Grant>,          // What the record said of itself.
    refused_until: u64,
    retry_at: u64,
    short: u64, // What the largest request lacks that waits for an answer.
    demand: Demand,
    rtt_nanos: u64,
    alone: Alone,
}

#[derive(Clone, Debug)]
struct Chunk {
    lease: LeaseId,
    tokens: u64,
    granted: u64,
    void_at: u64,
    uses: Vec<Uses>, // The oldest first; of no more units than were taken.
}

/// Units that were taken within one grain of time.
#[derive(Clone, Copy, Debug)]
struct Uses {
    units: u64,
    since: u64,
    last: u64,
}

#[derive(Clone, Debug)]
struct Asked {
    ask: Ask,
    first_sent: u64,
}

/// What was admitted while the store was away.
#[derive(Clone, Copy, Debug, Default)]
struct Alone {
    since: u64,
    admitted: u64, // In the period that began then.
    untold: u64,   // Of this period and the last.
}

impl LeaseHolder {
    /// How many chunks are held, and how many settlements wait. Units beyond that are lost to the
    /// epoch.
    pub const MOST: usize = 8;

    /// A holder that holds nothing.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            serial: 0,
            epoch: Epoch::default(),
            granted: 0,
            chunks: SmallVec::new(),
            asked: None,
            gone: SmallVec::new(),
            last: None,
            refused_until: 0,
            retry_at: 0,
            short: 0,
            demand: Demand::default(),
            rtt_nanos: 0,
            alone: Alone::default(),
        }
    }

    /// How many units may be used now.
    pub fn tokens(&self, now_nanos: u64) -> u64 {
        let live = self.chunks.iter().filter(|chunk| now_nanos < chunk.void_at);
        live.map(|chunk| chunk.tokens).sum()
    }

    /// The epoch of the last grant.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last answer, for what a client is told of its limit.
    pub fn last(&self) -> Option<&Grant> {
        self.last.as_ref()
    }

    /// How many units a horizon is asked for here, smoothed.
    pub fn demand(&self) -> u64 {
        self.demand.per_horizon()
    }

    /// Takes `cost` units for a request.
    pub fn take(&mut self, terms: &HolderTerms, now_nanos: u64, cost: u64) -> LeaseTake {
        self.demand.add(terms.horizon_nanos, now_nanos, cost);
        self.retake(terms, now_nanos, cost)
    }

    /// The same for a request that has waited for an answer, and was counted as demand before.
    pub fn retake(&mut self, terms: &HolderTerms, now_nanos: u64, cost: u64) -> LeaseTake {
        self.void(now_nanos);
        let tokens = self.tokens(now_nanos);
        if cost <= tokens {
            let spent = self.spend(terms, now_nanos, cost);
            let refill = self.refill(terms, now_nanos, tokens - cost);
            return LeaseTake::Taken { spent, refill };
        }
        if now_nanos < self.refused_until {
            let retry_in_nanos = match self.retry_at {
                u64::MAX => u64::MAX,
                retry_at => retry_at.saturating_sub(now_nanos),
            };
            return LeaseTake::Refused { retry_in_nanos };
        }
        self.short = self.short.max(cost - tokens);
        let want = self.want(terms).max(cost - tokens);
        LeaseTake::NeedMore { want }
    }

    /// Takes `cost` units while the store can not be asked: what is held, then this node's share of
    /// the limit in each period. What was so admitted is told with the next question.
    pub fn take_alone(&mut self, terms: &HolderTerms, now_nanos: u64, cost: u64) -> LeaseTake {
        self.void(now_nanos);
        if cost <= self.tokens(now_nanos) {
            let spent = self.spend(terms, now_nanos, cost);
            return LeaseTake::Taken {
                spent,
                refill: None,
            };
        }
        let ends = self.alone.since.saturating_add(terms.period_nanos);
        if self.alone.admitted == 0 || ends <= now_nanos {
            self.alone = Alone {
                since: now_nanos,
                admitted: 0,
                untold: self.alone.untold.min(self.alone.admitted),
            };
        }
        let holders = self.last.map_or(1, |last| last.holders.max(1));
        if terms.limit.get() / holders < self.alone.admitted.saturating_add(cost) {
            let ends = self.alone.since.saturating_add(terms.period_nanos);
            return LeaseTake::Refused {
                retry_in_nanos: ends.saturating_sub(now_nanos),
            };
        }
        self.alone.admitted += cost;
        self.alone.untold += cost;
        LeaseTake::Taken {
            spent: SmallVec::new(),
            refill: None,
        }
    }

    /// Puts units back into the chunk they came from. Where that is gone, they are lost.
    pub fn give_back(&mut self, spent: &[Spent]) {
        for spent in spent {
            let chunk = self
                .chunks
                .iter_mut()
                .find(|chunk| chunk.lease == spent.lease);
            if let Some(chunk) = chunk {
                chunk.tokens = chunk.tokens.saturating_add(spent.units).min(chunk.granted);
                chunk.forget_uses();
            }
        }
    }

    /// Units came back to the record by another way, so there may be more than it said last.
    pub fn forget_refusal(&mut self) {
        self.refused_until = 0;
    }

    /// A question for so many units, to be sent at once: `now_nanos` is read before. `None` while one
    /// is on its way.
    pub fn ask(&mut self, now_nanos: u64, want: u64) -> Option<Ask> {
        if self.asked.is_some() {
            return None;
        }
        self.void(now_nanos);
        let lease = LeaseId {
            node: self.node,
            serial: self.serial,
        };
        self.serial += 1;
        let ask = Ask {
            lease,
            want,
            least: std::mem::take(&mut self.short).max(1),
            epoch: self.epoch,
            granted: self.granted,
            alone: self.alone.untold,
            settles: self.settles(now_nanos),
        };
        let asked = self.asked.insert(Asked {
            ask,
            first_sent: now_nanos,
        });
        Some(asked.ask.clone())
    }

    /// The question on its way, to be sent once more when no answer came. Its units are void as soon
    /// as if the first one had been answered.
    pub fn ask_again(&self) -> Option<Ask> {
        self.asked.as_ref().map(|asked| asked.ask.clone())
    }

    /// Waits no more for the question on its way. If its answer still comes, it is ignored: what it
    /// granted is lost to the epoch.
    pub fn abandon(&mut self) {
        self.asked = None;
    }

    /// Takes an answer; `false` where it is none to the question on its way, or of an epoch that is
    /// over.
    pub fn granted(&mut self, terms: &HolderTerms, grant: &Grant, now_nanos: u64) -> bool {
        let Some(asked) = self.asked.take_if(|asked| asked.ask.lease == grant.lease) else {
            return false;
        };
        let ask = &asked.ask;
        // The record has seen them, whatever it made of them.
        let is_told = |chunk: &Chunk| ask.settles.iter().any(|told| told.lease == chunk.lease);
        self.gone.retain(|chunk| !is_told(chunk));
        self.alone.untold = self.alone.untold.saturating_sub(ask.alone);
        let rtt = now_nanos.saturating_sub(asked.first_sent);
        self.rtt_nanos = match self.rtt_nanos {
            0 => rtt,
            smoothed => smoothed - smoothed / 8 + rtt / 8,
        };
        if grant.epoch < self.epoch {
            return false;
        }
        if self.epoch < grant.epoch {
            self.epoch = grant.epoch;
            self.granted = 0;
            self.chunks.clear();
            self.gone.clear();
        }
        self.last = Some(*grant);
        if grant.retry_in_nanos > 0 {
            // Others may give back before the epoch ends, so it is not believed for long; and counted
            // from before it was said, so that no new epoch begins with refusals.
            let believed = grant.retry_in_nanos.min(terms.horizon_nanos);
            self.refused_until = asked.first_sent.saturating_add(believed);
            self.retry_at = asked.first_sent.saturating_add(grant.retry_in_nanos);
        } else {
            self.refused_until = 0;
        }
        self.granted = self.granted.saturating_add(grant.granted);
        if grant.granted > 0 {
            self.keep(Chunk {
                lease: grant.lease,
                tokens: grant.granted,
                granted: grant.granted,
                void_at: asked.first_sent.saturating_add(grant.lifetime_nanos()),
                uses: Vec::new(),
            });
        }
        self.void(now_nanos);
        true
    }

    /// Lets go of all units, and tells what to send to the record: before a shutdown, or when the
    /// limit is used no more.
    pub fn settle(&mut self, now_nanos: u64) -> Settles {
        for chunk in std::mem::take(&mut self.chunks) {
            self.let_go(chunk);
        }
        self.settles(now_nanos)
    }

    /// Lets go of the chunks that are used up, so that the record of a sliding window hears when: units of theirs
    /// that are given back later are lost.
    pub fn let_go_of_used(&mut self) {
        while let Some(at) = self.chunks.iter().position(|chunk| chunk.tokens == 0) {
            let chunk = self.chunks.remove(at);
            self.let_go(chunk);
        }
    }

    /// The record has taken the settlement of this lease.
    pub fn settled(&mut self, lease: LeaseId) {
        self.gone.retain(|chunk| chunk.lease != lease);
    }

    fn settles(&self, now_nanos: u64) -> Settles {
        let told = self.gone.iter().map(|chunk| Settle {
            lease: chunk.lease,
            epoch: self.epoch,
            unused: chunk.tokens,
            used: chunk.uses.iter().map(|uses| uses.told(now_nanos)).collect(),
        });
        told.collect()
    }

    fn keep(&mut self, chunk: Chunk) {
        if self.chunks.len() == Self::MOST {
            let empty = self.chunks.iter().position(|chunk| chunk.tokens == 0);
            let oldest = self.chunks.remove(empty.unwrap_or(0));
            self.let_go(oldest);
        }
        self.chunks.push(chunk);
    }

    /// Lets go of the chunks whose time is over.
    fn void(&mut self, now_nanos: u64) {
        while let Some(at) = self
            .chunks
            .iter()
            .position(|chunk| chunk.void_at <= now_nanos)
        {
            let chunk = self.chunks.remove(at);
            self.let_go(chunk);
        }
    }

    /// The units have left the chunks before anybody can be told of it.
    fn let_go(&mut self, chunk: Chunk) {
        if chunk.tokens == 0 && chunk.uses.is_empty() {
            return; // There is nothing to tell.
        }
        if self.gone.len() == Self::MOST {
            self.gone.remove(0);
        }
        self.gone.push(chunk);
    }

    /// The oldest units go first: they are void first. `cost` is there.
    fn spend(&mut self, terms: &HolderTerms, now_nanos: u64, cost: u64) -> SmallVec<[Spent; 2]> {
        let (mut left, mut spent) = (cost, SmallVec::new());
        for chunk in &mut self.chunks {
            let units = chunk.tokens.min(left);
            if units > 0 {
                chunk.tokens -= units;
                chunk.note_use(terms, now_nanos, units);
                left -= units;
                spent.push(Spent {
                    lease: chunk.lease,
                    units,
                });
            }
        }
        spent
    }

    /// How many to ask for before what is left is gone, where it would be gone before the answer.
    fn refill(&self, terms: &HolderTerms, now_nanos: u64, tokens: u64) -> Option<u64> {
        if self.asked.is_some() || now_nanos < self.refused_until {
            return None;
        }
        let demand = u128::from(self.demand.per_horizon());
        let until_answered = demand * 2 * u128::from(self.rtt_nanos);
        let is_low = u128::from(tokens) * u128::from(terms.horizon_nanos) < until_answered;
        is_low.then(|| self.want(terms))
    }

    fn want(&self, terms: &HolderTerms) -> u64 {
        let (used, holders) = self.last.map_or((0, 1), |last| (last.used, last.holders));
        let remaining = terms.limit.get().saturating_sub(used);
        chunk(self.demand.per_horizon(), remaining, holders)
    }
}

impl Chunk {
    /// How many moments are told of a chunk. Uses beyond that are told with the last of them.
    const MOMENTS: usize = 32;

    fn note_use(&mut self, terms: &HolderTerms, now_nanos: u64, units: u64) {
        if terms.grain_nanos == 0 {
            return;
        }
        let is_full = self.uses.len() == Self::MOMENTS;
        match self.uses.last_mut() {
            Some(uses) if is_full || now_nanos < uses.since.saturating_add(terms.grain_nanos) => {
                uses.units += units;
                uses.last = uses.last.max(now_nanos);
            }
            _ => self.uses.push(Uses {
                units,
                since: now_nanos,
                last: now_nanos,
            }),
        }
    }

    /// Forgets uses of units that came back: the oldest, as nobody knows which they were, and none of the others may be
    /// told earlier than it was.
    fn forget_uses(&mut self) {
        let used: u64 = self.uses.iter().map(|uses| uses.units).sum();
        let mut over = used.saturating_sub(self.granted - self.tokens);
        for uses in &mut self.uses {
            let units = uses.units.min(over);
            uses.units -= units;
            over -= units;
        }
        self.uses.retain(|uses| uses.units > 0);
    }
}

impl Uses {
    fn told(&self, now_nanos: u64) -> Used {
        let idle = now_nanos.saturating_sub(self.last);
        Used {
            units: self.units,
            // Less by what this clock may be ahead of the store's.
            idle_nanos: idle.saturating_sub(idle.div_ceil(DRIFT) + 1),
        }
    }
}

/// How many units are asked for in a horizon, smoothed.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    ends: u64, // Of the horizon that is counted; zero before the first.
    count: u64,
    smoothed: u64,
}

impl Demand {
    fn add(&mut self, horizon_nanos: u64, now_nanos: u64, cost: u64) {
        if self.ends <= now_nanos {
            let is_idle = self.ends.saturating_add(horizon_nanos) <= now_nanos;
            self.smoothed = if is_idle {
                0
            } else {
                self.smoothed.midpoint(self.count)
            };
            self.count = 0;
            self.ends = now_nanos.saturating_add(horizon_nanos);
        }
        self.count = self.count.saturating_add(cost);
    }

    /// A rise is believed at once, a fall when it lasts.
    fn per_horizon(&self) -> u64 {
        self.smoothed.max(self.count).max(1)
    }
}
