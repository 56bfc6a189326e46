//! What gates hand to each other about one request: the [`Visit`].
//!
//! It starts with the time, read once. The session gate adds who calls, the access gate what is
//! called, the limit gate where the limits stand. When the request goes on to the service, the visit
//! goes with it as one `Arc` in the extensions, where handlers and extractors find it and a second
//! [`Gated`](crate::gated::Gated) further in takes it up again.
//!
//! ```
//! use std::sync::Arc;
//! use tollgate::visit::Visit;
//!
//! /// Who calls; for a service behind the gates.
//! fn alias<B>(request: &http::Request<B>) -> Option<String> {
//!     let visit: &Arc<Visit> = request.extensions().get()?;
//!     Some(visit.session()?.alias.to_string())
//! }
//! ```

use std::{num::NonZeroU64, sync::Arc};

use http::Extensions;
use smallvec::SmallVec;
use tollgate_core::{
    ApiId, Moment, PolicyId, Rejection, Session,
    limits::{Limit, LimitSource, Period},
    pass::{Entry, EntryAt, HeldPass, Pass},
    policy::ApiOrigins,
    rejection::LimitOwner,
    store::{Charge, ChargeMode, Standing},
};

use crate::{
    explain::Fact,
    refusal::whole_seconds,
    settlement::{Receipt, Settlement},
};

/// What is known of one request so far.
#[derive(Default)]
pub struct Visit {
    now: Moment,
    pass: Option<HeldPass>,
    organisation: Option<Arc<Pass>>,
    /// The entry of the API that is called; `None` where no gate asked.
    called: Option<EntryAt>,
    waived: bool,
    limits: SmallVec<[LimitStanding; 2]>, // A rate and a quota; more are rare.
    /// What gates keep for themselves.
    notes: Extensions,
    pub(crate) receipt: Option<Box<Receipt>>,
    pub(crate) settlement: Option<Box<Settlement>>,
    /// Values noted so far, where somebody asked for an explanation.
    rehearsal: Option<Vec<Fact>>,
    keeps_receipt: bool,
    can_wait: bool,
    is_watched: bool,
}

/// Where one limit of the request stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitStanding {
    /// Whose limit.
    pub owner: LimitOwner,
    /// What kind.
    pub kind: LimitKind,
    /// The rate's window, or the quota's period where it has a fixed length, in whole seconds, rounded
    /// up.
    pub seconds: Option<NonZeroU64>,
    /// Where it stands.
    pub standing: Standing,
    /// Whether it refuses or is only watched.
    pub mode: ChargeMode,
}

impl LimitStanding {
    #[inline]
    pub(crate) fn of(charge: &Charge, standing: &Standing) -> Self {
        let (kind, length) = match &charge.limit {
            Limit::Rate(rate) => (LimitKind::Rate, Some(rate.window)),
            Limit::Quota(quota) => match quota.period {
                Period::Every(period) => (LimitKind::Quota, Some(period)),
                Period::Never | Period::Calendar(_) => (LimitKind::Quota, None),
            },
        };
        let seconds = length.and_then(|length| NonZeroU64::new(whole_seconds(length)));
        Self {
            owner: charge.owner,
            kind,
            seconds,
            standing: *standing,
            mode: charge.mode,
        }
    }

    /// A short name: whose limit, and what kind.
    pub fn name(&self) -> &'static str {
        let is_rate = matches!(self.kind, LimitKind::Rate);
        match (self.owner, is_rate) {
            (LimitOwner::Key, true) => "key",
            (LimitOwner::Key, false) => "quota",
            (LimitOwner::Api, true) => "api",
            (LimitOwner::Api, false) => "api-quota",
            (LimitOwner::Organisation, true) => "organisation",
            (LimitOwner::Organisation, false) => "organisation-quota",
            (_, true) => "own",
            (_, false) => "own-quota",
        }
    }

    pub(crate) fn is_over_in_observation(&self) -> bool {
        self.mode == ChargeMode::Observe && self.standing.exceeded
    }

    /// What a client is told who went over this limit.
    pub(crate) fn rejection(&self) -> Rejection {
        match self.kind {
            LimitKind::Rate => Rejection::RateLimited {
                limit: self.owner,
                retry_after: self.standing.retry_in,
            },
            LimitKind::Quota => Rejection::QuotaExceeded {
                limit: self.owner,
                renews_in: self.standing.resets_in,
            },
        }
    }

    /// The Unix second at which the client has something again: when a quota renews, or when a rate
    /// would admit one more.
    pub(crate) fn reset_at(&self, now: Moment) -> u64 {
        match self.kind {
            // Rounded up: who comes back in that second is let in.
            LimitKind::Rate => {
                let at = now.after(self.standing.retry_in);
                let is_later = !self.standing.retry_in.is_zero();
                let part = is_later && !at.unix_nanos.is_multiple_of(1_000_000_000);
                at.unix().0 + u64::from(part)
            }
            LimitKind::Quota => {
                now.after(self.standing.resets_in.unwrap_or_default())
                    .unix()
                    .0
            }
        }
    }
}

/// What kind of limit it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LimitKind {
    /// So many requests a window.
    Rate,
    /// So many requests a period.
    Quota,
}

/// A copy leaves out what can be done only once: receipts and settlements.
impl Clone for Visit {
    fn clone(&self) -> Self {
        Self {
            now: self.now,
            pass: self.pass.clone(),
            organisation: self.organisation.clone(),
            called: self.called,
            waived: self.waived,
            limits: self.limits.clone(),
            notes: self.notes.clone(),
            receipt: None,
            settlement: None,
            rehearsal: None,
            keeps_receipt: false,
            can_wait: self.can_wait,
            is_watched: self.is_watched,
        }
    }
}

impl Visit {
    // Each field by itself: with `..Self::default()` all of them would be written twice.
    #[inline]
    pub(crate) fn start(now: Moment, can_wait: bool, is_watched: bool) -> Self {
        Self {
            now,
            pass: None,
            organisation: None,
            called: None,
            waived: false,
            limits: SmallVec::new(),
            notes: Extensions::new(),
            receipt: None,
            settlement: None,
            rehearsal: None,
            keeps_receipt: false,
            can_wait,
            is_watched,
        }
    }

    /// Makes an empty visit one that starts now.
    #[inline]
    pub(crate) fn begin(&mut self, now: Moment, can_wait: bool, is_watched: bool) {
        (self.now, self.can_wait, self.is_watched) = (now, can_wait, is_watched);
    }

    /// Takes over what another visit of the same request found.
    #[cold]
    pub(crate) fn go_on_with(&mut self, outer: Arc<Self>) {
        *self = Self {
            now: self.now,
            can_wait: self.can_wait,
            is_watched: self.is_watched,
            ..Arc::unwrap_or_clone(outer)
        };
    }

    /// Whether somebody may read what gates find, once the request went through them.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched || self.keeps_receipt || self.is_rehearsal()
    }

    /// Whether the clock of the gates can be waited on.
    pub(crate) fn can_wait(&self) -> bool {
        self.can_wait
    }

    /// What gates of yours keep about this request, from `admit` to `depart`: by type, as the extensions
    /// of a request.
    pub fn notes(&self) -> &Extensions {
        &self.notes
    }

    /// The same, to be written.
    pub fn notes_mut(&mut self) -> &mut Extensions {
        &mut self.notes
    }

    /// The time of this request, read once.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// The session of this request, with its policies applied.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.pass().map(|pass| pass.session())
    }

    /// The session compiled for the stack that found it.
    pub fn pass(&self) -> Option<&Arc<Pass>> {
        self.pass.as_ref().map(HeldPass::get)
    }

    pub(crate) fn has_pass(&self) -> bool {
        self.pass.is_some()
    }

    /// Makes this the request's session: for gates of yours that know it from elsewhere.
    pub fn set_pass(&mut self, pass: impl Into<HeldPass>) {
        self.pass = Some(pass.into());
        self.called = None;
    }

    pub(crate) fn set_called(&mut self, at: EntryAt) {
        self.called = Some(at);
    }

    /// Takes the pass out, so that it can be read while the visit changes; it must be put back.
    pub(crate) fn lend_pass(&mut self) -> Option<HeldPass> {
        self.pass.take()
    }

    pub(crate) fn put_back_pass(&mut self, pass: Option<HeldPass>) {
        self.pass = pass;
    }

    /// What a pass holds of the API that is called.
    pub(crate) fn entry_of<'a>(&self, pass: &'a Pass) -> &'a Entry {
        self.called.map_or_else(|| pass.root(), |at| pass.entry(at))
    }

    /// The organisation's session, where its limits hold too.
    pub fn organisation(&self) -> Option<&Arc<Pass>> {
        self.organisation.as_ref()
    }

    pub(crate) fn set_organisation(&mut self, pass: Arc<Pass>) {
        self.organisation = Some(pass);
    }

    /// Notes which API is called: its entry gives rights and limits from here on. Tells the entry and where
    /// it is; `None` without a session.
    ///
    /// # Errors
    ///
    /// [`Rejection::ApiNotGranted`] if the session does not hold the API.
    #[inline]
    pub(crate) fn call(
        &mut self,
        api: &ApiId,
        guess: u32,
    ) -> Result<Option<(EntryAt, &Entry)>, Rejection> {
        let Some(pass) = &self.pass else {
            return Ok(None);
        };
        let (at, entry) = pass.get().entry_near(api, guess)?;
        self.called = Some(at);
        Ok(Some((at, entry)))
    }

    /// What the session holds of the API that is called; its own limits where none is named.
    pub fn entry(&self) -> Option<&Entry> {
        Some(self.entry_of(self.pass()?))
    }

    /// Whether a session gate in observe mode let the request through without a session.
    pub fn is_waived(&self) -> bool {
        self.waived
    }

    pub(crate) fn waive(&mut self) {
        self.waived = true;
    }

    /// Where the limits of this request stand, in the order in which they were charged.
    pub fn limits(&self) -> &[LimitStanding] {
        &self.limits
    }

    /// Adds where a limit stands; what is only observed is told to nobody.
    #[inline]
    pub(crate) fn add_limit(&mut self, limit: LimitStanding) {
        if limit.mode == ChargeMode::Enforce {
            self.limits.push(limit);
        }
    }

    pub(crate) fn forget_limits(&mut self) {
        self.limits.clear();
    }

    /// Tells where a limit stands that was added before.
    #[inline]
    pub(crate) fn tell_again(&mut self, at: usize, standing: &Standing) {
        if let Some(limit) = self.limits.get_mut(at) {
            limit.standing = *standing;
        }
    }

    /// Whether charges must be kept so that they can be given back: the request is served elsewhere.
    pub(crate) fn keeps_receipt(&self) -> bool {
        self.keeps_receipt
    }

    pub(crate) fn keep_receipt(&mut self) {
        self.keeps_receipt = true;
    }

    /// Whether nothing may be charged: the visit only explains.
    pub fn is_rehearsal(&self) -> bool {
        self.rehearsal.is_some()
    }

    pub(crate) fn rehearse(&mut self) {
        self.rehearsal = Some(Vec::new());
    }

    /// Notes a value that a gate decided by, if somebody asked for an explanation.
    pub fn explain(&mut self, fact: impl FnOnce(&Self) -> Fact) {
        if self.is_rehearsal() {
            let fact = fact(self);
            self.rehearsal.get_or_insert_default().push(fact);
        }
    }

    /// Where the session's rights to the API come from.
    pub(crate) fn source_of_rights(&self) -> String {
        let policies = self
            .origins()
            .map(|origins| &*origins.rights)
            .unwrap_or_default();
        match policies {
            [] => "the session".to_owned(),
            policies => policies_named(policies),
        }
    }

    /// Where a limit's numbers come from.
    pub(crate) fn source_of(&self, limit: &LimitStanding) -> String {
        if limit.owner != LimitOwner::Key {
            return limit.owner.as_str().to_owned();
        }
        let is_rate = matches!(limit.kind, LimitKind::Rate);
        let policy = self.origins().and_then(|origins| {
            if is_rate {
                origins.rate.as_ref()
            } else {
                origins.quota.as_ref()
            }
        });
        if let Some(policy) = policy {
            return policies_named(std::slice::from_ref(policy));
        }
        let limits = self.entry().map(Entry::limits);
        match limits.map(|limits| {
            if is_rate {
                limits.rate_source
            } else {
                limits.source
            }
        }) {
            Some(LimitSource::Endpoint) => "the session's endpoint".to_owned(),
            Some(LimitSource::Api) => "the session's entry for the API".to_owned(),
            Some(LimitSource::Root) | None => "the session".to_owned(),
        }
    }

    fn origins(&self) -> Option<&ApiOrigins> {
        let pass = self.pass()?;
        let api = pass.api_of(self.called?)?;
        pass.origins().apis.get(api)
    }

    pub(crate) fn take_facts(&mut self) -> Vec<Fact> {
        self.rehearsal
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }
}

fn policies_named(policies: &[PolicyId]) -> String {
    let names: Vec<_> = policies.iter().map(PolicyId::as_str).collect();
    format!("policy {}", names.join(", "))
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit")
            .field("now", &self.now)
            .field("has_session", &self.pass.is_some())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
