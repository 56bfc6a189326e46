//! The gate that charges every limit of a request together.

use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;
use tollgate_core::{
    Moment, Rejection, StoreError,
    limits::Limit,
    pass::{Entry, Kinds},
    rejection::LimitOwner,
    store::{
        Batch, Charge, ChargeMode, CounterName, CounterRef, MemoryStore, ReadyCharges, Refused,
        SharedStore, Standing, Taken, Verdict,
    },
    variables::{Text, ValueStyle},
};

use super::{ChooseLimit, OwnLimit};
use crate::{
    context::RequestContext,
    explain::Fact,
    gate::{Acts, Departure, Gate, Step},
    path::request_path,
    rate_headers::LimitHeaders,
    report,
    session::{OnStoreError, RETRY_AFTER},
    settlement::{ChargeWhen, Receipt, Settlement},
    visit::{LimitStanding, Visit},
};

/// The gate of both layers: charges every limit of a request together. No gate may refuse after it.
#[derive(Clone, Debug)]
pub struct LimitGate(Arc<LimitRules>);

#[derive(Clone)]
pub(crate) struct LimitRules {
    pub(crate) store: SharedStore,
    /// Counts alone where [`OnStoreError::Local`] says so.
    local: SharedStore,
    pub(crate) session_rate: bool,
    pub(crate) session_quota: bool,
    pub(crate) own: Vec<OwnLimit>,
    /// One more, which each request chooses.
    pub(crate) chosen: Option<Arc<ChooseLimit>>,
    /// Which requests are charged; all where nothing is said.
    pub(crate) charges: Option<Arc<ChargesOf>>,
    /// Charges nothing and refuses nothing: the visit is told where the limits stand.
    pub(crate) only_looks: bool,
    pub(crate) headers: LimitHeaders,
    pub(crate) on_store_error: OnStoreError,
    pub(crate) mode: ChargeMode,
    pub(crate) charge: ChargeWhen,
    pub(crate) listen_path: Option<Arc<str>>,
    /// The kinds of the session's limits, where nothing else is charged and none only watched.
    ready: Option<Kinds>,
}

pub(crate) type ChargesOf = dyn Fn(&Parts) -> bool + Send + Sync;

impl fmt::Debug for LimitRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitRules")
            .field("session_rate", &self.session_rate)
            .field("session_quota", &self.session_quota)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl LimitGate {
    pub(crate) fn new(store: SharedStore) -> Self {
        Self(Arc::new(LimitRules {
            store,
            local: MemoryStore::new().into(),
            session_rate: false,
            session_quota: false,
            own: Vec::new(),
            chosen: None,
            charges: None,
            only_looks: false,
            headers: LimitHeaders::default(),
            on_store_error: OnStoreError::Refuse,
            mode: ChargeMode::Enforce,
            charge: ChargeWhen::Request,
            listen_path: None,
            ready: None,
        }))
    }

    pub(super) fn of_own(own: OwnLimit) -> Self {
        Self::new(MemoryStore::new().into()).with(|rules| rules.own.push(own))
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut LimitRules)) -> Self {
        self.change(change);
        self
    }

    /// Whether anything is charged but an organisation's limits.
    pub(crate) fn has_limits(&self) -> bool {
        let rules = &self.0;
        rules.session_rate || rules.session_quota || !rules.own.is_empty() || rules.chosen.is_some()
    }

    /// Whether the session's rate and its quota are charged.
    pub(crate) fn of_session(&self) -> (bool, bool) {
        (self.0.session_rate, self.0.session_quota)
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut LimitRules)) {
        let rules = Arc::make_mut(&mut self.0);
        change(rules);
        let is_all = rules.own.is_empty()
            && rules.chosen.is_none()
            && !rules.only_looks
            && rules.mode == ChargeMode::Enforce;
        rules.ready = rules.kinds().filter(|_| is_all);
    }
}

impl Gate for LimitGate {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        let rules = &*self.0;
        if rules.charges.as_ref().is_some_and(|charges| !charges(head)) {
            return Step::Pass;
        }
        let pass = visit.lend_pass(); // Its charges are read while the visit changes.
        let entry = pass.as_ref().map(|pass| visit.entry_of(pass.get()));
        let ready = entry.and_then(|entry| rules.ready_charges(entry, visit));
        let step = ready.map(|ready| self.take_ready(ready, visit));
        visit.put_back_pass(pass);
        step.unwrap_or_else(|| self.admit_any(head, visit))
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: false,
            depart: self.0.headers != LimitHeaders::none(),
        }
    }

    fn depart(&self, visit: &Visit, response: &mut Departure<'_>) {
        self.0.headers.write(visit, response.headers);
    }
}

impl LimitGate {
    /// Charges what was compiled with the session, where that is all and fits. `false` says nothing.
    #[inline]
    pub(crate) fn charge_at_once(&self, entry: &Entry, now: Moment) -> bool {
        let rules = &*self.0;
        let ready = rules.ready.and_then(|kinds| entry.ready_charges(kinds));
        ready.is_some_and(|ready| rules.store.try_admit(ready, now) || ready.charges().is_empty())
    }

    /// The same of a request whose caller is known to the visit, which is told.
    #[inline]
    pub(crate) fn admits_at_once(&self, visit: &mut Visit) -> bool {
        let pass = visit.lend_pass();
        let entry = pass.as_ref().map(|pass| visit.entry_of(pass.get()));
        let ready = entry.and_then(|entry| self.0.ready_charges(entry, visit));
        let admits = ready.is_some_and(|ready| self.0.admits(ready, visit));
        visit.put_back_pass(pass);
        admits
    }

    /// The same of one who was told before: the visit's limits, if it has any, are those of the entry.
    #[inline]
    pub(crate) fn admits_again(&self, entry: &Entry, visit: &mut Visit) -> bool {
        let rules = &*self.0;
        let Some(ready) = rules.ready.and_then(|kinds| entry.ready_charges(kinds)) else {
            return false;
        };
        let (charges, now) = (ready.charges(), visit.now());
        let is_told = visit.limits().len() == charges.len();
        if !is_told {
            visit.forget_limits();
        }
        let mut at = 0;
        let mut tell = |standing: &Standing| {
            if is_told {
                visit.tell_again(at, standing);
            } else if let Some(charge) = charges.get(at) {
                visit.add_limit(LimitStanding::of(charge, standing));
            }
            at += 1;
        };
        charges.is_empty() || rules.store.try_admit_told(ready, now, &mut tell)
    }

    /// Which headers tell of the limits.
    pub(crate) fn headers(&self) -> LimitHeaders {
        self.0.headers
    }

    /// Whether every request is charged, and for good when it is let in.
    pub(crate) fn charges_for_good(&self) -> bool {
        matches!(self.0.charge, ChargeWhen::Request) && self.0.charges.is_none()
    }

    /// Charges what was compiled with the session.
    #[inline]
    fn take_ready(&self, ready: &ReadyCharges, visit: &mut Visit) -> Step {
        if self.0.admits(ready, visit) {
            Step::Pass
        } else {
            self.decide_ready(ready, visit)
        }
    }

    /// The same where more is to be said than that it fits.
    #[cold]
    fn decide_ready(&self, ready: &ReadyCharges, visit: &mut Visit) -> Step {
        let (rules, now) = (&*self.0, visit.now());
        match &rules.store.try_take_ready(ready, now) {
            Some(verdict) => rules.carry_out(ready.charges(), verdict, &rules.store, visit),
            None => self.take(ready.charges().iter().cloned().collect(), now),
        }
    }

    /// Charges a batch that is made for this request.
    fn admit_any(&self, head: &Parts, visit: &mut Visit) -> Step {
        let rules = &self.0;
        let batch = match rules.batch(head, visit) {
            Ok(batch) => batch,
            Err(rejection) => return Step::Refuse(rejection),
        };
        if batch.is_empty() {
            return Step::Pass;
        }
        if rules.only_looks {
            return self.only_look(batch, visit.now());
        }
        if visit.is_rehearsal() {
            return self.look(batch, visit.now());
        }
        match &rules.store.try_take(&batch, visit.now()) {
            Some(verdict) => rules.carry_out(&batch, verdict, &rules.store, visit),
            None => self.take(batch, visit.now()),
        }
    }

    /// Charges in a store that must be waited for.
    fn take(&self, batch: Batch, now: Moment) -> Step {
        let rules = self.0.clone();
        let taking = rules.store.take(batch.clone(), now);
        Step::wait(taking, move |verdict, _head, visit| match verdict {
            Ok(verdict) => rules.carry_out(&batch, &verdict, &rules.store, visit),
            Err(error) => rules.store_failed(&error, &batch, visit),
        })
    }

    /// Tells the visit where the limits stand.
    fn only_look(&self, batch: Batch, now: Moment) -> Step {
        let rules = self.0.clone();
        let looking = rules.store.look(batch.clone(), now);
        Step::wait(looking, move |verdict, _head, visit| match verdict {
            Ok(verdict) => {
                note(&batch, standings(&verdict), visit);
                Step::Pass
            }
            Err(error) => rules.store_failed(&error, &batch, visit),
        })
    }

    /// Tells what would be charged.
    fn look(&self, batch: Batch, now: Moment) -> Step {
        let rules = self.0.clone();
        let looking = rules.store.look(batch.clone(), now);
        Step::wait(looking, move |verdict, _head, visit| match verdict {
            Ok(verdict) => {
                explain(&batch, standings(&verdict), visit);
                match &verdict {
                    Verdict::Taken(_) => Step::Pass,
                    Verdict::Refused(refused) => Step::Refuse(rejection(&batch, refused)),
                }
            }
            Err(error) => rules.store_failed(&error, &batch, visit),
        })
    }
}

impl LimitRules {
    /// The session's charges, where no others are made and none of the request's own making.
    #[inline]
    fn ready_charges<'a>(&self, entry: &'a Entry, visit: &Visit) -> Option<&'a ReadyCharges> {
        let is_all = visit.organisation().is_none() && !visit.is_rehearsal();
        entry.ready_charges(self.ready.filter(|_| is_all)?)
    }

    /// Charges for good what surely fits, and tells the visit. `false` says nothing.
    #[inline]
    fn admits(&self, ready: &ReadyCharges, visit: &mut Visit) -> bool {
        let (charges, now) = (ready.charges(), visit.now());
        if charges.is_empty() {
            return true;
        }
        if !matches!(self.charge, ChargeWhen::Request) || visit.keeps_receipt() {
            return false;
        }
        if !visit.is_watched() {
            return self.store.try_admit(ready, now);
        }
        let mut charges = charges.iter();
        self.store.try_admit_told(ready, now, &mut |standing| {
            if let Some(charge) = charges.next() {
                visit.add_limit(LimitStanding::of(charge, standing));
            }
        })
    }

    /// All charges of a request.
    fn batch(&self, head: &Parts, visit: &Visit) -> Result<Batch, Rejection> {
        let mut batch = self.session_charges(head, visit)?;
        if let Some(organisation) = visit.organisation() {
            let charges = organisation.root().charges(Kinds::Both, None);
            batch.extend(charges.iter().cloned());
        }
        batch.extend(self.own.iter().map(|own| own.charge(head)));
        let chosen = self.chosen.as_ref().and_then(|choose| choose(head));
        batch.extend(chosen.map(|chosen| chosen.charge(head)));
        if self.mode == ChargeMode::Observe {
            batch.iter_mut().for_each(observed);
        }
        Ok(batch)
    }

    fn kinds(&self) -> Option<Kinds> {
        match (self.session_rate, self.session_quota) {
            (false, false) => None,
            (true, false) => Some(Kinds::Rate),
            (false, true) => Some(Kinds::Quota),
            (true, true) => Some(Kinds::Both),
        }
    }

    fn session_charges(&self, head: &Parts, visit: &Visit) -> Result<Batch, Rejection> {
        let Some(kinds) = self.kinds() else {
            return Ok(Batch::new());
        };
        let Some(entry) = visit.entry() else {
            if visit.is_waived() {
                report::would_reject(&Rejection::SessionMissing);
                return Ok(Batch::new());
            }
            return Err(Rejection::Misconfigured(
                "limits of the session need a SessionLayer in front",
            ));
        };
        let charges = if entry.has_endpoints() {
            let path = request_path(head, self.listen_path.as_deref())?;
            entry.charges(kinds, Some((head.method.as_str(), &path)))
        } else {
            entry.charges(kinds, None)
        };
        Ok(match entry.counter_text() {
            None => charges.iter().cloned().collect(),
            Some(text) => renamed(charges, entry, &counter_name(text, head, visit)),
        })
    }

    /// Does what a verdict says.
    fn carry_out(
        &self,
        charges: &[Charge],
        verdict: &Verdict,
        store: &SharedStore,
        visit: &mut Visit,
    ) -> Step {
        if visit.is_watched() || self.mode == ChargeMode::Observe {
            note(charges, standings(verdict), visit);
        }
        let taken = match verdict {
            Verdict::Taken(taken) => taken,
            Verdict::Refused(refused) => return Step::Refuse(rejection(charges, refused)),
        };
        let is_final = taken.wait.is_zero() && matches!(self.charge, ChargeWhen::Request);
        if is_final && !visit.keeps_receipt() {
            return Step::Pass;
        }
        self.keep(charges, taken, store, visit)
    }

    /// Keeps charges that may be given back, and waits for the turn of a request that has to.
    #[cold]
    fn keep(
        &self,
        charges: &[Charge],
        taken: &Taken,
        store: &SharedStore,
        visit: &mut Visit,
    ) -> Step {
        let receipt = (visit.keeps_receipt() || !taken.wait.is_zero()).then(|| {
            let charges = taken_by(charges, &taken.standings);
            Box::new(Receipt::new(store.clone(), charges, taken.at))
        });
        let settlement = self.settlement(charges, taken, store);
        if !taken.wait.is_zero() && !visit.can_wait() {
            drop(receipt); // Gives back.
            return Step::Refuse(Rejection::RateLimited {
                limit: first_patient(charges),
                retry_after: taken.wait,
            });
        }
        (visit.receipt, visit.settlement) = (receipt, settlement);
        if taken.wait.is_zero() {
            return Step::Pass;
        }
        Step::wait_until(taken.at, |_head, _visit| Step::Pass)
    }

    /// The quotas that wait for the response, where they are charged by it.
    fn settlement(
        &self,
        charges: &[Charge],
        taken: &Taken,
        store: &SharedStore,
    ) -> Option<Box<Settlement>> {
        if matches!(self.charge, ChargeWhen::Request) {
            return None;
        }
        let mut quotas = taken_by(charges, &taken.standings);
        quotas.retain(|charge| matches!(charge.limit, Limit::Quota(_)));
        let when = self.charge.clone();
        let settlement = |quotas| Settlement::new(store.clone(), quotas, taken.at, when);
        (!quotas.is_empty()).then(|| Box::new(settlement(quotas)))
    }

    fn store_failed(&self, error: &StoreError, batch: &Batch, visit: &mut Visit) -> Step {
        match self.on_store_error {
            OnStoreError::Refuse => {
                report::store_failed(error, "limits", "refused");
                Step::Refuse(Rejection::StoreUnavailable {
                    retry_after: RETRY_AFTER,
                })
            }
            OnStoreError::Admit => {
                report::store_failed(error, "limits", "admitted");
                Step::Pass
            }
            OnStoreError::Local => {
                report::store_failed(error, "limits", "counted by this process alone");
                let verdict = self
                    .local
                    .try_take(batch, visit.now())
                    .expect("memory answers at once");
                self.carry_out(batch, &verdict, &self.local, visit)
            }
        }
    }
}

/// The charges that took something: an observed one that was over its limit did not.
fn taken_by(charges: &[Charge], standings: &[Standing]) -> Batch {
    let counted = |(charge, standing): &(&Charge, &Standing)| {
        charge.mode == ChargeMode::Enforce || !standing.exceeded
    };
    charges
        .iter()
        .zip(standings)
        .filter(counted)
        .map(|(charge, _)| charge.clone())
        .collect()
}

/// Moves a charge to a counter of its own, which refuses nothing.
fn observed(charge: &mut Charge) {
    charge.counter = CounterRef::Named(CounterName::of(&[b"observed", charge.counter.name()]));
    charge.mode = ChargeMode::Observe;
    charge.patience = Duration::ZERO;
}

/// The same charges under a name that the session's own text gives (`rate_limit_pattern`). An empty
/// name leaves them as they are.
fn renamed(charges: &[Charge], entry: &Entry, name: &str) -> Batch {
    let rename = |charge: &Charge| Charge {
        counter: CounterRef::Named(entry.counter_of_pattern(&charge.limit, name)),
        ..charge.clone()
    };
    match name {
        "" => charges.iter().cloned().collect(),
        _ => charges.iter().map(rename).collect(),
    }
}

fn counter_name(text: &Text, head: &Parts, visit: &Visit) -> String {
    let meta = visit.session().map(|session| &session.meta_data);
    text.fill(meta, &RequestContext { head, visit }, ValueStyle::Tyk)
}

fn standings(verdict: &Verdict) -> &[Standing] {
    match verdict {
        Verdict::Taken(taken) => &taken.standings,
        Verdict::Refused(refused) => &refused.standings,
    }
}

/// Writes into the visit where the limits stand.
fn note(charges: &[Charge], standings: &[Standing], visit: &mut Visit) {
    for (charge, standing) in charges.iter().zip(standings) {
        let limit = LimitStanding::of(charge, standing);
        if limit.is_over_in_observation() {
            report::would_reject(&limit.rejection());
        }
        visit.add_limit(limit);
    }
}

fn rejection(charges: &[Charge], refused: &Refused) -> Rejection {
    let charge = &charges[refused.index];
    match charge.limit {
        Limit::Rate(_) => Rejection::RateLimited {
            limit: charge.owner,
            retry_after: refused.retry_in.unwrap_or(Duration::MAX),
        },
        Limit::Quota(_) => Rejection::QuotaExceeded {
            limit: charge.owner,
            renews_in: refused.retry_in,
        },
    }
}

/// Whose limit made a request wait.
fn first_patient(charges: &[Charge]) -> LimitOwner {
    let patient = charges.iter().find(|charge| !charge.patience.is_zero());
    patient.map_or(LimitOwner::Key, |charge| charge.owner)
}

fn explain(charges: &[Charge], standings: &[Standing], visit: &mut Visit) {
    for (charge, standing) in charges.iter().zip(standings) {
        let limit = LimitStanding::of(charge, standing);
        let Standing { max, remaining, .. } = limit.standing;
        let value = match limit.seconds {
            Some(seconds) => format!("{remaining} of {max} in {seconds} s left"),
            None => format!("{remaining} of {max} left"),
        };
        visit.explain(|visit| Fact::of(limit.name(), value, visit.source_of(&limit)));
    }
}
