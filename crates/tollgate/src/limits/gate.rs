//! The gate that charges every limit of a request together.

use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;
use smallvec::SmallVec;
use tollgate_core::{
    Moment, Rejection, StoreError,
    limits::Limit,
    pass::{Entry, Kinds},
    rejection::LimitOwner,
    store::{
        Batch, Charge, ChargeMode, CounterName, CounterRef, MemoryStore, SharedStore, Standing,
        Taken, Verdict,
    },
    variables::{Text, ValueStyle},
};

use super::OwnLimit;
use crate::{
    context::RequestContext,
    explain::Fact,
    gate::{Departure, Gate, Step},
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
    pub(crate) headers: LimitHeaders,
    pub(crate) on_store_error: OnStoreError,
    pub(crate) mode: ChargeMode,
    pub(crate) charge: ChargeWhen,
    pub(crate) listen_path: Option<Arc<str>>,
}

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
            headers: LimitHeaders::default(),
            on_store_error: OnStoreError::Refuse,
            mode: ChargeMode::Enforce,
            charge: ChargeWhen::Request,
            listen_path: None,
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
        self.0.session_rate || self.0.session_quota || !self.0.own.is_empty()
    }

    /// Whether the session's rate and its quota are charged.
    pub(crate) fn of_session(&self) -> (bool, bool) {
        (self.0.session_rate, self.0.session_quota)
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut LimitRules)) {
        change(Arc::make_mut(&mut self.0));
    }
}

impl Gate for LimitGate {
    fn name(&self) -> &'static str {
        "limits"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        let rules = &self.0;
        let decision = {
            let charges = match rules.charges(head, visit) {
                Ok(charges) => charges,
                Err(rejection) => return Step::Refuse(rejection),
            };
            if charges.is_empty() {
                return Step::Pass;
            }
            if visit.is_rehearsal() {
                return self.look(charges.into_batch(), visit.now());
            }
            match rules.store.try_take(&charges, visit.now()) {
                Some(verdict) => {
                    rules.decide(&charges, verdict, &rules.store, visit.keeps_receipt())
                }
                None => return self.take(charges.into_batch(), visit.now()),
            }
        };
        rules.carry_out(decision, visit)
    }

    fn depart(&self, visit: &Visit, response: &mut Departure<'_>) {
        self.0.headers.write(visit, response.headers);
    }
}

impl LimitGate {
    /// Charges in a store that must be waited for.
    fn take(&self, batch: Batch, now: Moment) -> Step {
        let rules = self.0.clone();
        let taking = rules.store.take(batch.clone(), now);
        Step::wait(taking, move |verdict, _head, visit| match verdict {
            Ok(verdict) => {
                let decision = rules.decide(&batch, verdict, &rules.store, visit.keeps_receipt());
                rules.carry_out(decision, visit)
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
                let decision = rules.decide(&batch, verdict, &rules.store, false);
                explain(&decision, visit);
                decision.outcome.map(|_| ()).into()
            }
            Err(error) => rules.store_failed(&error, &batch, visit),
        })
    }
}

/// The charges of a request: those compiled with its session, or a batch made for it.
#[expect(
    clippy::large_enum_variant,
    reason = "a box would be an allocation for each request"
)]
enum Charges<'a> {
    Ready(&'a [Charge]),
    Made(Batch),
}

impl std::ops::Deref for Charges<'_> {
    type Target = [Charge];

    fn deref(&self) -> &[Charge] {
        match self {
            Self::Ready(charges) => charges,
            Self::Made(batch) => batch,
        }
    }
}

impl Charges<'_> {
    fn into_batch(self) -> Batch {
        match self {
            Self::Ready(charges) => charges.iter().cloned().collect(),
            Self::Made(batch) => batch,
        }
    }
}

/// What a verdict means for the request.
struct Decision {
    limits: SmallVec<[LimitStanding; 2]>,
    outcome: Result<Admission, Rejection>,
}

/// What is rare is in boxes, so that the usual decision is small to hand on.
struct Admission {
    at: Moment,
    wait: Duration,
    /// What a cancelled request gives back; none where it can not be cancelled.
    receipt: Option<Box<Receipt>>,
    /// What the response decides about.
    settlement: Option<Box<Settlement>>,
}

impl LimitRules {
    fn charges<'a>(&self, head: &Parts, visit: &'a Visit) -> Result<Charges<'a>, Rejection> {
        let session = self.session_charges(head, visit)?;
        let organisation = visit
            .organisation()
            .map_or(&[][..], |pass| pass.root().charges(Kinds::Both, None));
        if self.own.is_empty() && organisation.is_empty() && self.mode == ChargeMode::Enforce {
            return Ok(session);
        }
        let of_others = organisation
            .iter()
            .cloned()
            .chain(self.own.iter().map(|own| own.charge(head)));
        let mut batch = session.into_batch();
        batch.extend(of_others);
        if self.mode == ChargeMode::Observe {
            batch.iter_mut().for_each(observed);
        }
        Ok(Charges::Made(batch))
    }

    fn session_charges<'a>(
        &self,
        head: &Parts,
        visit: &'a Visit,
    ) -> Result<Charges<'a>, Rejection> {
        let kinds = match (self.session_rate, self.session_quota) {
            (false, false) => return Ok(Charges::Ready(&[])),
            (true, false) => Kinds::Rate,
            (false, true) => Kinds::Quota,
            (true, true) => Kinds::Both,
        };
        let Some(entry) = visit.entry() else {
            if visit.is_waived() {
                report::would_reject(&Rejection::SessionMissing);
                return Ok(Charges::Ready(&[]));
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
            None => Charges::Ready(charges),
            Some(text) => Charges::Made(renamed(charges, entry, &counter_name(text, head, visit))),
        })
    }

    fn decide(
        &self,
        charges: &[Charge],
        verdict: Verdict,
        store: &SharedStore,
        keeps_receipt: bool,
    ) -> Decision {
        let (standings, outcome) = match verdict {
            Verdict::Taken(taken) => {
                let may_be_cancelled = keeps_receipt || !taken.wait.is_zero();
                let receipt = may_be_cancelled.then(|| {
                    let taken_by = taken_by(charges, &taken.standings);
                    Box::new(Receipt::new(store.clone(), taken_by, taken.at))
                });
                let settlement = self.settlement(charges, &taken, store);
                let admission = Admission {
                    at: taken.at,
                    wait: taken.wait,
                    receipt,
                    settlement,
                };
                (taken.standings, Ok(admission))
            }
            Verdict::Refused(refused) => {
                let rejection = rejection(&charges[refused.index], refused.retry_in);
                (refused.standings, Err(rejection))
            }
        };
        let mut limits = SmallVec::new();
        for (charge, standing) in charges.iter().zip(&standings) {
            limits.push(LimitStanding::of(charge, *standing));
        }
        Decision { limits, outcome }
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

    fn carry_out(&self, decision: Decision, visit: &mut Visit) -> Step {
        for limit in decision
            .limits
            .iter()
            .filter(|limit| limit.is_over_in_observation())
        {
            report::would_reject(&limit.rejection());
        }
        visit.add_limits(decision.limits);
        let admission = match decision.outcome {
            Ok(admission) => admission,
            Err(rejection) => return Step::Refuse(rejection),
        };
        if admission.wait.is_zero() {
            (visit.receipt, visit.settlement) = (admission.receipt, admission.settlement);
            return Step::Pass;
        }
        if !visit.can_wait() {
            drop(admission.receipt); // Gives back.
            let limit = LimitOwner::Key;
            return Step::Refuse(Rejection::RateLimited {
                limit,
                retry_after: admission.wait,
            });
        }
        (visit.receipt, visit.settlement) = (admission.receipt, admission.settlement);
        Step::wait_until(admission.at, |_head, _visit| Step::Pass)
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
                let decision = self.decide(batch, verdict, &self.local, visit.keeps_receipt());
                self.carry_out(decision, visit)
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
    let rename = |charge: &Charge| {
        let kind: &[u8] = if matches!(charge.limit, Limit::Rate(_)) {
            b"rate"
        } else {
            b"quota"
        };
        let counter =
            CounterName::of(&[b"pattern", kind, entry.scope().as_bytes(), name.as_bytes()]);
        Charge {
            counter: CounterRef::Named(counter),
            ..charge.clone()
        }
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

fn rejection(charge: &Charge, retry_in: Option<Duration>) -> Rejection {
    match charge.limit {
        Limit::Rate(_) => Rejection::RateLimited {
            limit: charge.owner,
            retry_after: retry_in.unwrap_or(Duration::MAX),
        },
        Limit::Quota(_) => Rejection::QuotaExceeded {
            limit: charge.owner,
            renews_in: retry_in,
        },
    }
}

fn explain(decision: &Decision, visit: &mut Visit) {
    for limit in &decision.limits {
        let Standing { max, remaining, .. } = limit.standing;
        let value = match limit.seconds {
            Some(seconds) => format!("{remaining} of {max} in {seconds} s left"),
            None => format!("{remaining} of {max} left"),
        };
        visit.explain(|visit| Fact::of(limit.name(), value, visit.source_of(limit)));
    }
}
