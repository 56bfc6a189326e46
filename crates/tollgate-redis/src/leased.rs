//! Requests whose limits are leased: what is answered at once, and what goes over the wire meanwhile.
//!
//! A request is admitted here if all its limits are leased and each has enough. If one has not, it waits for the answer
//! that is on its way, and is asked for like any other if that brings too little.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use redis::Script;
use smallvec::SmallVec;
use tollgate_core::{
    Moment,
    lease::{Epoch, Grant, LeaseId, NodeId, Settles},
    limits::Limit,
    store::{Batch, Charge, ChargeMode, Refused, Standing, Standings, StoreError, Taken, Verdict},
};

use crate::{
    RedisStore,
    ask::{Ask, LARGEST},
    held::untouched,
    keys,
    leases::{Lease, Question, Renewal, Take, Terms, Units},
    limits::{Mode, held, script, unreadable},
    options::LimitMode,
};

static LEASE: LazyLock<Script> = LazyLock::new(|| {
    script(&[
        include_str!("scripts/leases.lua"),
        include_str!("scripts/lease.lua"),
    ])
});
static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    script(&[
        include_str!("scripts/leases.lua"),
        include_str!("scripts/settle.lua"),
    ])
});

/// How many leases are given back at once when the store is closed.
const SETTLED_AT_ONCE: usize = 64;

/// What can be said at once.
#[expect(clippy::large_enum_variant, reason = "what is told is the usual case")]
pub(crate) enum AtOnce {
    Told(Verdict),
    /// When these have been answered there may be more.
    Short(SmallVec<[Arc<Lease>; 4]>),
    /// The server is to be asked.
    Exact,
}

type Held = SmallVec<[(Arc<Lease>, Terms); 4]>;

/// Units that were taken for a request that is not decided yet; put back where it is not admitted.
struct Spending(SmallVec<[(Arc<Lease>, Units); 4]>);

impl Spending {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        for (lease, spent) in &self.0 {
            lease.put_back(spent);
        }
    }
}

impl RedisStore {
    /// What is held of the limits of a batch; `None` where one of them is not leased.
    fn leases_of(&self, batch: &[Charge]) -> Option<Held> {
        if batch.is_empty() {
            return None;
        }
        batch.iter().map(|charge| self.lease_of(charge)).collect()
    }

    pub(crate) fn lease_of(&self, charge: &Charge) -> Option<(Arc<Lease>, Terms)> {
        // A sentinel is put up by the request that fills a window, so each has to ask.
        let is_guarded = self.has_sentinels() && matches!(charge.limit, Limit::Rate(_));
        if self.mode() == LimitMode::Exact || is_guarded {
            return None;
        }
        let terms = Terms::of(charge, self.longest_lease())?;
        if terms.holder.limit < charge.cost {
            return None; // It never passes.
        }
        let make = || crate::ask::base_name(charge, self.naming());
        let lease = held(charge)?.lease(charge, make, |name| self.leases().of(name));
        Some((lease, terms))
    }

    /// Whether all of the batch is here and was taken, where nobody asks how much is left.
    pub(crate) fn admit_leased(&self, batch: &[Charge], now: Moment) -> bool {
        let Some(leases) = self.leases_of(batch) else {
            return false;
        };
        let fresh = self.moment().ticks;
        let mut held = batch.iter().zip(&leases);
        held.all(|(charge, (lease, _))| lease.has(charge, fresh))
            && matches!(
                self.take_held(batch, &leases, now),
                AtOnce::Told(Verdict::Taken(_))
            )
    }

    /// Takes all of the batch from what is here, or nothing.
    pub(crate) fn take_leased(&self, batch: &[Charge], now: Moment) -> AtOnce {
        match self.leases_of(batch) {
            Some(leases) => self.take_held(batch, &leases, now),
            None => AtOnce::Exact,
        }
    }

    fn take_held(&self, batch: &[Charge], leases: &Held, request: Moment) -> AtOnce {
        // Units are void at moments of their own, which the request's may be far behind.
        let (now, mode) = (self.moment(), self.mode());
        let mut spent: SmallVec<[Units; 4]> = SmallVec::new();
        let (mut standings, mut short) = (Standings::new(), SmallVec::new());
        let (mut refused, mut is_exact) = (None, false);
        for (place, (charge, (lease, terms))) in batch.iter().zip(leases).enumerate() {
            let (take, question) = lease.take(charge, terms, mode, (request.ticks, now.ticks));
            if let Some(question) = question {
                self.send(lease, question);
            }
            match take {
                Take::Taken {
                    spent: units,
                    standing,
                } => {
                    spent.push(units);
                    standings.push(standing);
                    continue;
                }
                Take::Refused(standing) => {
                    refused.get_or_insert(place);
                    standings.push(standing);
                }
                Take::Short => {
                    short.push(lease.clone());
                    standings.push(untouched(charge));
                }
                Take::Exact => {
                    is_exact = true;
                    standings.push(untouched(charge));
                }
            }
            spent.push(SmallVec::new());
        }
        if refused.is_none() && short.is_empty() && !is_exact {
            return AtOnce::Told(Verdict::Taken(Taken {
                standings,
                wait: Duration::ZERO,
                at: now,
            }));
        }
        for ((lease, _), spent) in leases.iter().zip(&spent) {
            lease.put_back(spent);
        }
        match refused {
            Some(index) => AtOnce::Told(refusal(index, standings)),
            None if is_exact => AtOnce::Exact,
            None => AtOnce::Short(short),
        }
    }

    /// Asks for what is not here: limits of which enough is held are not asked for.
    pub(crate) async fn take_rest(
        &self,
        batch: &[Charge],
        now: Moment,
        until: u64,
    ) -> Result<Verdict, StoreError> {
        let (spending, mut standings) = self.spend(batch);
        if spending.0.is_empty() {
            return self.decide(batch, now, Mode::Take { until }).await;
        }
        let places: SmallVec<[usize; 4]> = (0..batch.len())
            .filter(|place| standings[*place].is_none())
            .collect();
        let rest: Batch = places.iter().map(|place| batch[*place].clone()).collect();
        let verdict = self.decide(&rest, now, Mode::Take { until }).await?;
        let told = match &verdict {
            Verdict::Taken(taken) => &taken.standings,
            Verdict::Refused(refused) => &refused.standings,
        };
        for (place, standing) in places.iter().zip(told) {
            standings[*place] = Some(*standing);
        }
        let standings = standings.into_iter().flatten().collect();
        Ok(match verdict {
            Verdict::Taken(taken) => {
                spending.keep();
                Verdict::Taken(Taken { standings, ..taken })
            }
            Verdict::Refused(refused) => Verdict::Refused(Refused {
                index: places[refused.index],
                standings,
                ..refused
            }),
        })
    }

    fn spend(&self, batch: &[Charge]) -> (Spending, SmallVec<[Option<Standing>; 4]>) {
        let now = self.moment().ticks;
        let mut spending = Spending(SmallVec::new());
        let standings = batch.iter().map(|charge| {
            let (lease, terms) = self.lease_of(charge)?;
            let (spent, standing) = lease.spend(charge, &terms, now)?;
            spending.0.push((lease, spent));
            Some(standing)
        });
        let standings = standings.collect();
        (spending, standings)
    }

    /// Whether a batch that was refused may pass by what this node holds, or will hold in a moment.
    pub(crate) fn may_pass_here(&self, batch: &[Charge], refused: &Refused) -> bool {
        let now = self.moment().ticks;
        let lease = self.lease_of(&batch[refused.index]);
        lease.is_some_and(|(lease, _)| lease.may_have(batch[refused.index].cost.get(), now))
    }

    /// Waits for answers that are on their way, until the tick `until` at the latest.
    pub(crate) async fn wait_for(&self, leases: &[Arc<Lease>], until: u64) {
        let answered = leases.iter().map(|lease| lease.answered());
        let left = until.saturating_sub(self.moment().ticks);
        let left = Duration::from_nanos(left);
        // Who waited too long finds that out by itself.
        let _ = tokio::time::timeout(left, futures_util::future::join_all(answered)).await;
    }

    /// Sends a question in the background. The request that brought it may be gone before the answer is here.
    fn send(&self, lease: &Arc<Lease>, question: Question) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let (store, lease) = (self.clone(), lease.clone());
                runtime.spawn(async move { store.keep(&lease, question).await });
            }
            // Without a runtime there is nobody to send it.
            Err(_) => {
                lease.hear(&question, None, 0);
            }
        }
    }

    /// Asks, and asks for the next lease before this one is over, as long as it is in use. Then gives back what is
    /// left.
    async fn keep(&self, lease: &Lease, mut question: Question) {
        loop {
            let grant = self.ask_for(&question).await;
            if let Err(error) = &grant {
                tracing::debug!(%error, "a question for a lease was not answered");
            }
            let now = self.moment().ticks;
            let Some(void_at) = lease.hear(&question, grant.as_ref().ok(), now) else {
                return;
            };
            let mut at = void_at.saturating_sub(lease.lead(&question.terms));
            question = loop {
                self.sleep_until(at).await;
                match lease.renew(&question, self.mode(), self.moment().ticks) {
                    Renewal::Ask(next) => break *next,
                    Renewal::Later(quiet_until) => at = quiet_until,
                    Renewal::Asked => return,
                    Renewal::Idle => {
                        self.sleep_until(void_at).await;
                        return self.settle(lease, false).await;
                    }
                }
            };
        }
    }

    async fn sleep_until(&self, tick: u64) {
        let left = tick.saturating_sub(self.moment().ticks);
        tokio::time::sleep(Duration::from_nanos(left)).await;
    }

    async fn ask_for(&self, question: &Question) -> Result<Grant, StoreError> {
        let (ask, terms) = (&question.ask, &question.terms);
        let mut script = LEASE.prepare_invoke();
        let counter = self.ask_of(&question.charge, self.moment());
        write_record(&counter, &mut script);
        script.arg(terms.holder.horizon_nanos / 1000);
        script.arg(ask.lease.node.0).arg(ask.lease.serial);
        script
            .arg(ask.want.min(LARGEST))
            .arg(ask.least.min(LARGEST));
        script.arg(terms.share.min(LARGEST));
        script.arg(ask.epoch.0).arg(ask.granted);
        write_settles(&ask.settles, &mut script);
        let answer: Vec<i64> = self.link().charge(&script, self.link().until()).await?;
        let (grant, now) = heard(&answer, ask.lease, terms).ok_or_else(unreadable)?;
        self.server_clock().set(now, self.moment());
        self.report();
        Ok(grant)
    }

    /// Gives back what is void, where nothing else is held; or all.
    async fn settle(&self, lease: &Lease, all: bool) {
        let now = self.moment();
        let Some((charge, node, settles)) = lease.let_go(all, now.ticks) else {
            return;
        };
        match self.send_settles(&charge, node, &settles, now).await {
            Ok(_) => lease.settled(settles.iter().map(|settle| settle.lease)),
            // They go with the next question, if there is one.
            Err(error) => tracing::debug!(%error, "leased units were not given back"),
        }
    }

    async fn send_settles(
        &self,
        charge: &Charge,
        node: NodeId,
        settles: &Settles,
        now: Moment,
    ) -> Result<i64, StoreError> {
        let mut script = SETTLE.prepare_invoke();
        write_record(&self.ask_of(charge, now), &mut script);
        let epoch = settles
            .first()
            .map_or(Epoch::default(), |settle| settle.epoch);
        script.arg(node.0).arg(epoch.0);
        write_settles(settles, &mut script);
        self.link().script(&script).await
    }

    /// Gives back all that is held.
    pub(crate) async fn settle_all(&self) {
        let leases = self.leases().close();
        let until = self.link().until();
        let settled = leases.iter().map(|lease| async move {
            self.wait_for(std::slice::from_ref(lease), until).await;
            self.settle(lease, true).await;
        });
        let settled = stream::iter(settled).buffer_unordered(SETTLED_AT_ONCE);
        settled.for_each(std::future::ready).await;
    }

    /// What this node holds unused of each limit of a batch. Who looks waits until nothing is on its way.
    pub(crate) async fn unused(&self, batch: &[Charge]) -> SmallVec<[u64; 4]> {
        let leases: SmallVec<[_; 4]> = batch.iter().map(|charge| self.lease_of(charge)).collect();
        let held: SmallVec<[_; 4]> = leases
            .iter()
            .flatten()
            .map(|(lease, _)| lease.clone())
            .collect();
        self.wait_for(&held, self.link().until()).await;
        let now = self.moment().ticks;
        let unused = |held: &Option<(Arc<Lease>, Terms)>| {
            held.as_ref().map_or(0, |(lease, _)| lease.unused(now))
        };
        leases.iter().map(unused).collect()
    }

    /// What a look told, with what was `unused` here.
    pub(crate) fn with_unused(&self, batch: &[Charge], unused: &[u64], looked: Verdict) -> Verdict {
        let mut standings = match &looked {
            Verdict::Taken(taken) => taken.standings.clone(),
            Verdict::Refused(refused) => refused.standings.clone(),
        };
        let mut index = None;
        for (place, (charge, standing)) in batch.iter().zip(&mut standings).enumerate() {
            if unused[place] > 0 {
                let remaining = standing.remaining.saturating_add(unused[place]);
                standing.remaining = remaining.min(standing.max);
                standing.retry_in = Duration::ZERO;
                standing.exceeded &= standing.remaining < charge.cost.get();
            }
            if standing.exceeded && charge.mode == ChargeMode::Enforce {
                index.get_or_insert(place);
            }
        }
        match (looked, index) {
            (Verdict::Taken(taken), _) => Verdict::Taken(Taken { standings, ..taken }),
            (Verdict::Refused(refused), Some(index)) => Verdict::Refused(Refused {
                index,
                standings,
                ..refused
            }),
            (Verdict::Refused(_), None) => Verdict::Taken(Taken {
                standings,
                wait: Duration::ZERO,
                at: self.moment(),
            }),
        }
    }
}

/// The limit that refused, of a batch whose limits are all leased.
fn refusal(index: usize, standings: Standings) -> Verdict {
    let exceeded = standings.iter().filter(|standing| standing.exceeded);
    let retry_in = exceeded.map(|standing| standing.retry_in).max();
    Verdict::Refused(Refused {
        index,
        retry_in: retry_in.filter(|retry_in| *retry_in != Duration::MAX),
        standings,
    })
}

/// The counter and its record, as `leases.lua` reads them.
fn write_record(counter: &Ask, script: &mut redis::ScriptInvocation<'_>) {
    counter.write_counter(script);
    script.key(keys::leases(&counter.name));
}

/// Leases that come back, as `leases.lua` reads them.
fn write_settles(settles: &Settles, script: &mut redis::ScriptInvocation<'_>) {
    for settle in settles {
        script.arg(settle.lease.serial).arg(settle.unused);
        script.arg(settle.used.len());
        for used in &settle.used {
            script.arg(used.units).arg(used.idle_nanos / 1000);
        }
    }
}

/// An answer of `lease.lua`, and the server's time.
fn heard(answer: &[i64], lease: LeaseId, terms: &Terms) -> Option<(Grant, u64)> {
    let [granted, epoch, ends, used, holders, retry, now] = answer else {
        return None;
    };
    // Below zero is for ever.
    let nanos =
        |micros: i64| u64::try_from(micros).map_or(u64::MAX, |micros| micros.saturating_mul(1000));
    let grant = Grant {
        lease,
        epoch: Epoch(u64::try_from(*epoch).ok()?),
        granted: u64::try_from(*granted).ok()?,
        ends_in_nanos: nanos(*ends),
        ttl_nanos: terms.holder.horizon_nanos,
        used: u64::try_from(*used).unwrap_or_default(),
        holders: u64::try_from(*holders).ok()?,
        retry_in_nanos: nanos(*retry),
    };
    Some((grant, u64::try_from(*now).ok()?))
}
