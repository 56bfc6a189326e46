//! Chunks of limits that this node holds: the protocol of [`tollgate_core::lease`] on Redis.
//!
//! The record of a limit is its counter and a hash beside it, and `lease.lua` is one step of it. What is granted
//! counts as used from then on, so that nodes that lease and nodes that ask for each request keep one limit
//! together; a node may do the one now and the other then. In a sliding window a grant counts as if it were used at
//! the last moment at which it may be. So of all requests that one window holds, each was counted when the last of
//! them was granted, and they are no more than the limit.
//!
//! A question is sent before the last unit is gone, or void. One that was not answered is sent again as it was, and
//! is answered as it was. Units that are void come back with the next question, or alone when nobody asks any more.

mod terms;

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tollgate_core::{
    clock::machine_time,
    lease::{
        Ask, Grant, HolderTerms, LeaseHolder, LeaseId, LeaseMode, LeaseTake, NodeId, Settles, Spent,
    },
    limits::Limit,
    store::{Charge, Standing},
};

pub(crate) use terms::Terms;

use crate::options::LimitMode;

/// A node that has not asked for so long does it under a new name, half of what `leases.lua` remembers it for.
const FORGOTTEN: u64 = 30_000_000_000;
/// Units that were taken, and of which leases.
pub(crate) type Units = SmallVec<[Spent; 2]>;

/// How many units of a lease are worth the question.
const WORTH: u64 = 4;
/// Of fewer for each node, leases would lose more than five of a hundred units of a sliding window: a chunk of `WORTH`
/// units would last too long beside it.
const FEW_IN_A_WINDOW: u64 = 32;
/// So many units at least are kept in hand while a question is on its way.
const IN_HAND: u64 = 3;

/// All that is held, by the names of counters in Redis.
#[derive(Debug)]
pub(crate) struct Leases {
    known: Mutex<Known>,
    is_closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    leases: HashMap<Arc<[u8]>, Weak<Lease>, foldhash::fast::RandomState>,
    /// Those that are gone are looked for when there are so many.
    sweep_at: usize,
}

impl Leases {
    pub(crate) fn new() -> Self {
        Self {
            known: Mutex::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The lease on this counter. All who count there share it.
    pub(crate) fn of(&self, name: &Arc<[u8]>) -> Arc<Lease> {
        let mut known = self.known.lock();
        if let Some(lease) = known.leases.get(name).and_then(Weak::upgrade) {
            return lease;
        }
        if known.sweep_at <= known.leases.len() {
            known.leases.retain(|_, lease| 0 < lease.strong_count());
            known.sweep_at = 2 * known.leases.len().max(512);
        }
        let lease = Arc::new(Lease::new());
        known.leases.insert(name.clone(), Arc::downgrade(&lease));
        lease
    }

    /// The lease on this counter, where somebody has one.
    pub(crate) fn get(&self, name: &[u8]) -> Option<Arc<Lease>> {
        self.known.lock().leases.get(name).and_then(Weak::upgrade)
    }

    /// From now on nothing is leased. What is held.
    pub(crate) fn close(&self) -> Vec<Arc<Lease>> {
        self.is_closed.store(true, Relaxed);
        let known = self.known.lock();
        known.leases.values().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }
}

/// What is held of one counter. Times are ticks of the monotonic clock.
#[derive(Debug)]
pub(crate) struct Lease {
    state: Mutex<State>,
    /// Tells those who wait that a question was answered, or will not be.
    answered: Notify,
}

#[derive(Debug)]
struct State {
    holder: LeaseHolder,
    /// What was asked for last: the limit tells the scripts of which kind the counter is.
    charge: Option<Charge>,
    is_asking: bool,
    /// Counts questions.
    asked: u64,
    heard_at: u64,
    round_trip: u64,
    /// Until then nothing is left to ask for.
    quiet_until: u64,
    /// Whether the last answer brought less than was asked for.
    is_scarce: bool,
    /// Units that were taken since the last answer.
    taken: u64,
    /// The tick of the request that was counted as demand last: it comes again when it has waited.
    counted: u64,
}

/// A question to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) ask: Ask,
    pub(crate) charge: Charge,
    pub(crate) terms: Terms,
    number: u64,
    sent: u64,
}

/// What is said to a request.
#[derive(Debug)]
pub(crate) enum Take {
    Taken {
        spent: Units,
        standing: Standing,
    },
    /// An answer to a question may help.
    Short,
    /// Nothing is left for anybody.
    Refused(Standing),
    /// The limit is asked for, not leased.
    Exact,
}

/// What to do with a lease whose time is nearly over.
#[derive(Debug)]
pub(crate) enum Renewal {
    /// It is in use: ask for the next.
    Ask(Box<Question>),
    /// It is, and there is nothing to ask for before this tick.
    Later(u64),
    /// It is not.
    Idle,
    /// Somebody has asked already.
    Asked,
}

impl Lease {
    fn new() -> Self {
        Self {
            state: Mutex::new(State {
                holder: LeaseHolder::new(new_node()),
                charge: None,
                is_asking: false,
                asked: 0,
                heard_at: 0,
                round_trip: 0,
                quiet_until: 0,
                is_scarce: false,
                taken: 0,
                counted: 0,
            }),
            answered: Notify::new(),
        }
    }

    /// Takes the charge's units for the request that came at `request`, and says what to ask, where that is to be
    /// done now.
    pub(crate) fn take(
        &self,
        charge: &Charge,
        terms: &Terms,
        mode: LimitMode,
        (request, now): (u64, u64),
    ) -> (Take, Option<Question>) {
        let mut state = self.state.lock();
        if !state.is_within(charge.limit.max()) {
            return (Take::Exact, None);
        }
        let cost = charge.cost.get();
        let take = if state.counted == request {
            state.holder.retake(&terms.holder, now, cost)
        } else {
            state.counted = request;
            state.holder.take(&terms.holder, now, cost)
        };
        match take {
            LeaseTake::Taken { spent, .. } => {
                state.taken = state.taken.saturating_add(cost);
                let standing = state.standing(&charge.limit, terms, now);
                let asks = state.is_low(terms, now) && state.is_worth(terms, mode);
                let question = if asks {
                    state.ask(charge, terms, now, 0)
                } else {
                    None
                };
                (Take::Taken { spent, standing }, question)
            }
            LeaseTake::Refused { retry_in_nanos } => {
                let standing = Standing {
                    retry_in: span(retry_in_nanos).unwrap_or(Duration::MAX),
                    remaining: 0,
                    exceeded: true,
                    ..state.standing(&charge.limit, terms, now)
                };
                (Take::Refused(standing), None)
            }
            LeaseTake::NeedMore { .. } if !state.is_worth(terms, mode) => (Take::Exact, None),
            LeaseTake::NeedMore { want } => (Take::Short, state.ask(charge, terms, now, want)),
        }
    }

    /// Takes units that are here, for a request that asks for its other limits.
    pub(crate) fn spend(
        &self,
        charge: &Charge,
        terms: &Terms,
        now: u64,
    ) -> Option<(Units, Standing)> {
        let mut state = self.state.lock();
        let cost = charge.cost.get();
        if state.holder.tokens(now) < cost || !state.is_within(charge.limit.max()) {
            return None;
        }
        let LeaseTake::Taken { spent, .. } = state.holder.retake(&terms.holder, now, cost) else {
            return None;
        };
        state.taken = state.taken.saturating_add(cost);
        let standing = state.standing(&charge.limit, terms, now);
        Some((spent, standing))
    }

    /// Whether it may be worth looking here again: so many units are here, or a question is on its way.
    pub(crate) fn may_have(&self, units: u64, now: u64) -> bool {
        let state = self.state.lock();
        state.is_asking || units <= state.holder.tokens(now)
    }

    /// Units came back to the counter.
    pub(crate) fn forgive(&self) {
        let mut state = self.state.lock();
        state.quiet_until = 0;
        state.holder.forget_refusal();
    }

    /// Whether the charge's units are here. Nothing is counted.
    pub(crate) fn has(&self, charge: &Charge, now: u64) -> bool {
        let state = self.state.lock();
        charge.cost.get() <= state.holder.tokens(now) && state.is_within(charge.limit.max())
    }

    /// Puts units back that were taken just now.
    pub(crate) fn put_back(&self, spent: &[Spent]) {
        let mut state = self.state.lock();
        state.holder.give_back(spent);
        let units: u64 = spent.iter().map(|spent| spent.units).sum();
        state.taken = state.taken.saturating_sub(units);
    }

    /// How many units are here unused.
    pub(crate) fn unused(&self, now: u64) -> u64 {
        self.state.lock().holder.tokens(now)
    }

    /// Waits while a question is on its way.
    pub(crate) async fn answered(&self) {
        let answered = self.answered.notified();
        let mut answered = std::pin::pin!(answered);
        answered.as_mut().enable(); // Before looking, so that no answer is missed.
        let is_asking = self.state.lock().is_asking;
        if is_asking {
            answered.await;
        }
    }

    /// Hears the answer to a question; `None` where none came. Until when the units may be used, if there are any.
    pub(crate) fn hear(&self, question: &Question, grant: Option<&Grant>, now: u64) -> Option<u64> {
        let mut state = self.state.lock();
        state.is_asking = false;
        let is_taken = grant.is_some_and(|grant| state.hear(question, grant, now));
        drop(state);
        self.answered.notify_waiters();
        let grant = grant.filter(|grant| is_taken && 0 < grant.granted)?;
        Some(question.sent.saturating_add(grant.lifetime_nanos()))
    }

    /// How long before a lease is over the next is asked for.
    pub(crate) fn lead(&self, terms: &Terms) -> u64 {
        const TIMER: u64 = 2_000_000; // Timers are late by so much.
        let round_trip = self.state.lock().round_trip;
        let lead = round_trip + round_trip / 4 + TIMER;
        lead.min(terms.holder.horizon_nanos / 4)
    }

    /// What to do as the lease that `question` brought is nearly over.
    pub(crate) fn renew(&self, question: &Question, mode: LimitMode, now: u64) -> Renewal {
        let mut state = self.state.lock();
        if state.asked != question.number {
            return Renewal::Asked;
        }
        if state.taken == 0 || !state.is_worth(&question.terms, mode) {
            return Renewal::Idle;
        }
        if now < state.quiet_until {
            return Renewal::Later(state.quiet_until);
        }
        let asked = state.ask(&question.charge, &question.terms, now, 0);
        asked.map_or(Renewal::Idle, |question| Renewal::Ask(Box::new(question)))
    }

    /// Units to give back: of leases that are over, or of all; and whose counter they are.
    pub(crate) fn let_go(&self, all: bool, now: u64) -> Option<(Charge, NodeId, Settles)> {
        let mut state = self.state.lock();
        if !all && 0 < state.holder.tokens(now) {
            return None;
        }
        let settles = state.holder.settle(now);
        let node = settles.first()?.lease.node;
        Some((state.charge.clone()?, node, settles))
    }

    /// The record has these back.
    pub(crate) fn settled(&self, leases: impl Iterator<Item = LeaseId>) {
        let mut state = self.state.lock();
        leases.for_each(|lease| state.holder.settled(lease));
    }

    /// The counter was forgotten, and with it all that was granted.
    pub(crate) fn reset(&self) {
        let mut state = self.state.lock();
        state.begin_anew();
        state.quiet_until = 0;
    }
}

impl State {
    /// A holder that nobody knows. A question on its way is answered to nobody.
    fn begin_anew(&mut self) {
        self.holder = LeaseHolder::new(new_node());
        self.taken = 0;
    }

    /// Whether what is here was granted within this limit: it may be lower than the one that was asked for.
    fn is_within(&self, limit: u64) -> bool {
        self.holder.last().is_none_or(|last| last.used <= limit)
    }

    /// Whether leases pay here. Of a limit that is hardly a unit for each node, all would hold none.
    fn is_worth(&self, terms: &Terms, mode: LimitMode) -> bool {
        let HolderTerms {
            limit,
            horizon_nanos,
            period_nanos,
            ..
        } = terms.holder;
        let demand = self.holder.demand();
        let holders = self.holder.last().map_or(1, |last| last.holders);
        let is_few = terms.slides && limit.get() < FEW_IN_A_WINDOW * holders;
        let per_second = match mode {
            LimitMode::Exact => return false,
            LimitMode::Leased => f64::INFINITY,
            LimitMode::Auto if demand < WORTH || is_few => return false,
            LimitMode::Auto => demand as f64 * 1e9 / horizon_nanos as f64,
        };
        let chosen = LeaseMode::choose(limit.get(), period_nanos, holders, per_second);
        chosen == LeaseMode::Leased
    }

    /// Whether what is here may be gone before a question is answered.
    fn is_low(&self, terms: &Terms, now: u64) -> bool {
        let demand = u128::from(self.holder.demand());
        let meanwhile = demand * u128::from(self.round_trip);
        let meanwhile = meanwhile / u128::from(terms.holder.horizon_nanos.max(1));
        // Where there are more requests than units, units should not lie here.
        let in_hand = if self.is_scarce {
            1
        } else {
            meanwhile + u128::from(IN_HAND)
        };
        u128::from(self.holder.tokens(now)) < meanwhile + in_hand
    }

    /// A question, unless one is on its way or nothing is left.
    fn ask(&mut self, charge: &Charge, terms: &Terms, now: u64, want: u64) -> Option<Question> {
        if self.is_asking || now < self.quiet_until {
            return None;
        }
        let demand = self.holder.demand();
        let lasts = if terms.slides {
            demand * 3 / 5 // Used up before it is void, also where fewer requests come.
        } else {
            demand + demand / 4 // A quarter more, so that it lasts for its time.
        };
        let want = (lasts + IN_HAND).max(want);
        if self.heard_at.saturating_add(FORGOTTEN) < now {
            self.begin_anew();
            self.heard_at = now;
        }
        if terms.slides {
            self.holder.let_go_of_used();
        }
        let ask = self.holder.ask(now, want);
        let ask = ask.or_else(|| self.holder.ask_again())?;
        self.is_asking = true;
        self.asked += 1;
        self.charge = Some(charge.clone());
        Some(Question {
            ask,
            charge: charge.clone(),
            terms: *terms,
            number: self.asked,
            sent: now,
        })
    }

    fn hear(&mut self, question: &Question, grant: &Grant, now: u64) -> bool {
        let terms = &question.terms.holder;
        let round_trip = now.saturating_sub(question.sent);
        self.round_trip = match self.round_trip {
            0 => round_trip,
            smoothed => smoothed - smoothed / 8 + round_trip / 8,
        };
        self.heard_at = now;
        self.is_scarce = question.terms.slides && grant.granted < question.ask.want;
        self.taken = 0;
        self.quiet_until = match grant.retry_in_nanos {
            0 => 0,
            retry_in => question
                .sent
                .saturating_add(retry_in.min(terms.horizon_nanos)),
        };
        self.holder.granted(terms, grant, now)
    }

    /// Where the limit stands, as far as it is known here: what is unused here and was left for all.
    fn standing(&self, limit: &Limit, terms: &Terms, now: u64) -> Standing {
        let max = limit.max();
        let last = self.holder.last();
        let left = last.map_or(max, |last| max.saturating_sub(last.used));
        let remaining = left.saturating_add(self.holder.tokens(now)).min(max);
        let resets_in = if terms.slides {
            span(terms.holder.period_nanos)
        } else {
            let passed = now.saturating_sub(self.heard_at);
            let ends_in = last.map_or(0, |last| last.ends_in_nanos);
            span(ends_in).map(|ends_in| ends_in.saturating_sub(Duration::from_nanos(passed)))
        };
        Standing {
            max,
            remaining,
            retry_in: if remaining > 0 {
                Duration::ZERO
            } else {
                resets_in.unwrap_or(Duration::MAX)
            },
            resets_in,
            exceeded: false,
        }
    }
}

/// A name that no other holder has, of any process.
fn new_node() -> NodeId {
    NodeId(getrandom::u64().unwrap_or_else(|_| machine_time().unix_nanos))
}

/// Nanoseconds; the largest number is for ever.
fn span(nanos: u64) -> Option<Duration> {
    (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use tollgate_core::{lease::Epoch, limits::Rate, store::Counter};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Whether a node leases that is asked for 500 units a second, as one of so many.
    #[track_caller]
    fn check(rate: Rate, holders: u64, mode: LimitMode, expected: bool) {
        let charge = Charge::new(Counter::new("ann"), rate);
        let terms = Terms::of(&charge, Duration::from_secs(1)).expect("it can be leased");
        let lease = Lease::new();
        let mut state = lease.state.lock();
        for request in 0..500 {
            let now = SECOND + request * SECOND / 500;
            state.holder.take(&terms.holder, now, 1);
        }
        let question = state
            .ask(&charge, &terms, 2 * SECOND, 1)
            .expect("none is on its way");
        let grant = Grant {
            lease: question.ask.lease,
            epoch: Epoch(1),
            granted: 1,
            ends_in_nanos: SECOND,
            ttl_nanos: SECOND,
            used: 1,
            holders,
            retry_in_nanos: 0,
        };
        assert!(state.hear(&question, &grant, 2 * SECOND));
        assert_eq!(
            state.is_worth(&terms, mode),
            expected,
            "{rate:?}, {holders} nodes"
        );
    }

    #[test]
    fn a_window_of_few_units_is_asked_for() {
        let second = Duration::from_secs(1);
        let (auto, leased) = (LimitMode::Auto, LimitMode::Leased);
        check(Rate::per(600, second), 16, auto, true);
        check(Rate::per(512, second), 16, auto, true);
        check(Rate::per(511, second), 16, auto, false);
        check(Rate::per(511, second), 15, auto, true);
        check(Rate::per(511, second), 16, leased, true);
        let bucket =
            Rate::per(511, second).with_algorithm(tollgate_core::limits::Algorithm::Bucket);
        check(bucket, 16, auto, true);
    }
}
