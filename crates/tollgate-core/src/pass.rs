//! A session compiled for use: the [`Pass`].
//!
//! A record is compiled when it is loaded or changed, not when it is asked: its policies are applied,
//! its rights compiled, its limits made into charges, its header values filled. A request then reads
//! the result through one `Arc`. What to compile for is the [`Plan`] of a stack; each plan has an id
//! of its own and its own snapshot of the policies, so that no request mixes two.
//!
//! ```
//! use std::sync::Arc;
//! use tollgate_core::{Loaded, Rejection, Session, pass::Plan, store::Version};
//!
//! let plan = Arc::new(Plan::default());
//! let session: Session = r#"{"access_rights": {"orders": {}}}"#.parse()?;
//! let loaded = Loaded::new("joes-key", session, Version(1));
//!
//! let granted = |api: &str| plan.pass(&loaded)?.find(&api.into()).map(drop);
//! assert_eq!(granted("orders"), Ok(()));
//! assert_eq!(granted("users"), Err(Rejection::ApiNotGranted));
//! # Ok::<(), tollgate_core::RecordError>(())
//! ```

mod entry;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use http::HeaderValue;

use crate::{
    access::{
        CompiledRights, MasterKeys, Organisations, PathOptions, RuleProblem, organisation_allowed,
    },
    clock::UnixSeconds,
    ids::{ApiId, OrgId},
    limits::{Algorithm, ApiLimits, LimitError},
    policy::{self, Memory, Origins, PolicyOptions, PolicySet},
    rejection::{LimitOwner, Rejection},
    session::{AccessDefinition, Lifetime, Rights, Session},
    store::{Loaded, StorageKey},
    sync::{OnceLock, RwLock},
    variables::{NoContext, Text, UnsafeValues, ValueStyle, header_value},
};

use entry::Source;
pub use entry::{Entry, Kinds, quota_counter};

/// How a stack reads sessions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// The organisation of the APIs; empty: that of each session.
    pub organisation: OrgId,
    /// How path patterns are read.
    pub paths: PathOptions,
    /// What a session without any rights may call.
    pub master_keys: MasterKeys,
    /// Whether a session of another organisation may call these APIs.
    pub organisations: Organisations,
    /// Whether a session's `meta_data.policies` may stand in for policies that are loaded.
    pub allow_inline_policies: bool,
    /// Whether a `per_api` policy does not switch on signatures; see [`PolicyOptions`].
    pub ignore_per_api_signatures: bool,
    /// How the windows of rates are kept.
    pub algorithm: Algorithm,
    /// Whether rates grow and shrink with use where a session's `smoothing` says so; only those whose window
    /// slides do.
    pub smoothing: bool,
}

/// What sessions are compiled for: rules, a snapshot of the policies, and texts to fill.
pub struct Plan {
    id: PlanId,
    retired: Retired,
    rules: Rules,
    policies: PolicySet,
    texts: Arc<[PlannedText]>,
    memory: Memory,
}

/// A header's value, to be filled with each session's metadata.
#[derive(Clone, Debug)]
pub struct PlannedText {
    /// The text.
    pub text: Text,
    /// How values that are not texts are written.
    pub style: ValueStyle,
    /// What becomes of values that no header can hold.
    pub unsafe_values: UnsafeValues,
}

/// No two plans of a process share one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct PlanId(u64);

impl PlanId {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// Whether a plan is no longer in force, shared with all that was compiled for it.
#[derive(Clone, Debug, Default)]
struct Retired(Arc<AtomicBool>);

impl Retired {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self::new(Rules::default(), PolicySet::default())
    }
}

impl Plan {
    /// A plan with these rules and policies.
    pub fn new(rules: Rules, policies: PolicySet) -> Self {
        Self::of(rules, policies, Arc::default())
    }

    fn of(rules: Rules, policies: PolicySet, texts: Arc<[PlannedText]>) -> Self {
        Self {
            id: PlanId::next(),
            retired: Retired::default(),
            rules,
            policies,
            texts,
            memory: Memory::default(),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The policies.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// A number that no other plan of this process has.
    pub fn id(&self) -> u64 {
        self.id.0
    }

    /// A new plan with other policies.
    #[must_use]
    pub fn with_policies(&self, policies: PolicySet) -> Self {
        Self::of(self.rules.clone(), policies, self.texts.clone())
    }

    /// A new plan with other rules.
    #[must_use]
    pub fn with_rules(&self, rules: Rules) -> Self {
        Self::of(rules, self.policies.clone(), self.texts.clone())
    }

    /// A new plan that fills these texts; [`Pass::text`] has them in this order.
    #[must_use]
    pub fn with_texts(&self, texts: Arc<[PlannedText]>) -> Self {
        Self::of(self.rules.clone(), self.policies.clone(), texts)
    }

    /// The record compiled for this plan, once.
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyUnknown`] where its policies make no session, as Tyk answers;
    /// [`Rejection::ApiNotGranted`] where it is of another organisation. The log has the reason.
    pub fn pass(self: &Arc<Self>, loaded: &Loaded) -> Result<Arc<Pass>, Rejection> {
        let compile = || self.compile(loaded);
        loaded.passes().get_or_compile(self, compile)
    }

    /// Says that no request will ask this plan again, so that records may forget what they compiled for it.
    pub fn retire(&self) {
        self.retired.0.store(true, Ordering::Relaxed);
    }

    /// As [`pass`](Self::pass); what comes back keeps the record, not the pass, where it can.
    ///
    /// # Errors
    ///
    /// As [`pass`](Self::pass).
    pub fn pass_of(self: &Arc<Self>, loaded: Arc<Loaded>) -> Result<HeldPass, Rejection> {
        let pass = self.pass(&loaded)?;
        Ok(HeldPass::of_first(loaded, self.id()).unwrap_or_else(|_| pass.into()))
    }

    fn compile(self: &Arc<Self>, loaded: &Loaded) -> Result<Arc<Pass>, Rejection> {
        let stored = loaded.session();
        let organisation = self.organisation_of(stored);
        if !organisation_allowed(&stored.org_id, organisation, self.rules.organisations) {
            return Err(Rejection::ApiNotGranted);
        }
        let options = PolicyOptions {
            allow_inline_policies: self.rules.allow_inline_policies,
            organisations: self.rules.organisations,
            ignore_per_api_signatures: self.rules.ignore_per_api_signatures,
        };
        let memory = Some(&self.memory);
        let merged = policy::apply_with(stored, &self.policies, organisation, options, memory);
        let merged = merged.map_err(|error| {
            let alias = &*stored.alias;
            tracing::warn!(target: "tollgate", alias, %error, "policies make no session");
            Rejection::KeyUnknown
        })?;
        // A session that its policies do not change is not kept twice.
        let same = merged.session == **stored;
        let session = if same {
            stored.clone()
        } else {
            Arc::new(merged.session)
        };
        Ok(Arc::new(Pass {
            root: Root::of(&session, LimitOwner::Key)?,
            plan: self.clone(),
            key: loaded.key().clone(),
            texts: self.texts.iter().map(|text| text.fill(&session)).collect(),
            entries: Entries::of(merged.compiled.len()),
            rights: merged.compiled,
            origins: merged.origins,
            is_bare: stored.basic_auth_data.password.is_empty(),
            lifetime: session.lifetime(),
            session,
        }))
    }

    /// An organisation's record compiled for this plan: its own limits, for all its keys together.
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyUnknown`] where its numbers are no limits.
    pub fn organisation_pass(self: &Arc<Self>, loaded: &Loaded) -> Result<Arc<Pass>, Rejection> {
        loaded.passes().get_or_compile(self, || {
            let stored = &**loaded.session();
            // As in Tyk: a rate without a window is none, as in records that hold a quota alone.
            let rate = if 0.0 < stored.per { stored.rate } else { 0.0 };
            let session = Session {
                access_rights: Rights::default(),
                rate,
                ..stored.clone()
            };
            Ok(Arc::new(Pass {
                root: Root::of(&session, LimitOwner::Organisation)?,
                plan: self.clone(),
                key: loaded.key().clone(),
                texts: Box::default(),
                entries: Entries::of(0),
                rights: CompiledRights::of(&session.access_rights).into(),
                origins: Arc::default(),
                is_bare: true,
                lifetime: session.lifetime(),
                session: session.into(),
            }))
        })
    }

    fn source<'a>(
        &self,
        owner: LimitOwner,
        right: Option<(&'a ApiId, &'a AccessDefinition)>,
    ) -> Source<'a> {
        Source {
            owner,
            right,
            algorithm: self.rules.algorithm,
            smooths: self.rules.smoothing,
        }
    }

    fn organisation_of<'a>(&'a self, session: &'a Session) -> &'a OrgId {
        if self.rules.organisation.is_empty() {
            &session.org_id
        } else {
            &self.rules.organisation
        }
    }
}

/// The passes of one record: one for each plan that met it. They go with the record, so a change
/// drops them all.
#[derive(Default)]
#[repr(C)] // What each request looks at comes last, before the name in the record.
pub(crate) struct Passes {
    others: RwLock<Vec<Kept>>,
    first: OnceLock<Kept>, // Most records meet one plan; it is found without a lock.
    is_outdated: AtomicBool, // The first is of a plan that is retired, and there are others.
}

/// What a record keeps for one plan.
#[derive(Clone)]
struct Kept {
    plan: PlanId,
    retired: Retired,
    compiled: Compiled,
}

type Compiled = Result<Arc<Pass>, Rejection>;

impl Passes {
    /// How many plans in force a record remembers besides its first; the oldest goes.
    const OTHERS: usize = 64;

    fn get_or_compile(&self, plan: &Plan, compile: impl FnOnce() -> Compiled) -> Compiled {
        let first = || {
            let first = self.first.get().filter(|first| first.plan == plan.id);
            first.map(|first| first.compiled.clone())
        };
        if let Some(compiled) = first() {
            return compiled;
        }
        let find = |others: &[Kept]| {
            let kept = others.iter().find(|kept| kept.plan == plan.id);
            kept.map(|kept| kept.compiled.clone())
        };
        if let Some(compiled) = find(&self.others.read()) {
            return compiled;
        }
        let compiled = compile();
        let kept = Kept {
            plan: plan.id,
            retired: plan.retired.clone(),
            compiled: compiled.clone(),
        };
        let Err(kept) = self.first.set(kept) else {
            return compiled;
        };
        let mut others = self.others.write();
        if let Some(compiled) = first().or_else(|| find(&others)) {
            return compiled; // Another request was faster: one pass for each plan, never two.
        }
        others.retain(|kept| !kept.retired.is_set());
        if others.len() == Self::OTHERS {
            drop(others.remove(0));
        }
        others.push(kept);
        if self.first.get().is_some_and(|first| first.retired.is_set()) {
            self.is_outdated.store(true, Ordering::Relaxed);
        }
        compiled
    }

    /// Whether [`renewed`](Self::renewed) would be found sooner.
    #[inline]
    pub(crate) fn are_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Relaxed)
    }

    /// The passes of plans in force, with the newest first.
    pub(crate) fn renewed(&self) -> Self {
        let others = self.others.read();
        let in_force = others.iter().filter(|kept| !kept.retired.is_set());
        let mut kept: Vec<_> = in_force.cloned().collect();
        let first = OnceLock::new();
        if let Some(newest) = kept.pop() {
            let _ = first.set(newest); // Nobody else has it yet.
        }
        Self {
            first,
            others: RwLock::new(kept),
            is_outdated: AtomicBool::new(false),
        }
    }
}

/// A pass in use. Most are kept by the record that they were compiled from: a request then counts one
/// reference up and down, not two.
#[derive(Clone, Debug)]
pub struct HeldPass(Holder);

#[derive(Clone, Debug)]
enum Holder {
    Own(Arc<Pass>),
    /// Invariant: the record's first pass is there, and is no refusal.
    Record(Arc<Loaded>),
}

impl HeldPass {
    /// The record's pass for the plan of this id, where the record met that plan first and it made one.
    #[inline]
    pub fn of_first(loaded: Arc<Loaded>, plan: u64) -> Result<Self, Arc<Loaded>> {
        match loaded.passes().first.get() {
            Some(first) if first.plan.0 == plan && first.compiled.is_ok() => {
                Ok(Self(Holder::Record(loaded)))
            }
            _ => Err(loaded),
        }
    }

    /// The pass.
    #[inline]
    pub fn get(&self) -> &Arc<Pass> {
        match &self.0 {
            Holder::Own(pass) => pass,
            Holder::Record(loaded) => {
                let first = loaded.passes().first.get();
                let pass = first.and_then(|first| first.compiled.as_ref().ok());
                pass.expect("a record is held for its first pass")
            }
        }
    }
}

impl From<Arc<Pass>> for HeldPass {
    fn from(pass: Arc<Pass>) -> Self {
        Self(Holder::Own(pass))
    }
}

/// A session compiled for one stack.
///
/// Of a key that nobody asked for lately, each line of the cache must be waited for. So what each request
/// looks at lies together: the end of the first entry, and what comes after that here.
#[repr(C)]
pub struct Pass {
    plan: Arc<Plan>,
    key: StorageKey,
    session: Arc<Session>,
    origins: Arc<Origins>,
    root: Root,
    texts: Box<[Filled]>,
    entries: Entries,
    rights: Arc<CompiledRights>,
    lifetime: Lifetime,
    is_bare: bool, // A bare token may use it: there is no password.
}

/// A session's own limits. They are compiled where somebody asks: most keys are used for APIs alone.
struct Root {
    owner: LimitOwner,
    compiled: OnceLock<Box<Entry>>,
}

impl Root {
    /// Fails where the session's own numbers are no limits.
    fn of(session: &Session, owner: LimitOwner) -> Result<Self, Rejection> {
        let numbers = ApiLimits::of(session, &ApiId::default());
        numbers.map_err(|error| unusable(session, &error))?;
        Ok(Self {
            owner,
            compiled: OnceLock::new(),
        })
    }
}

/// What a pass holds of each API, by place in its rights; `None` where the numbers of an entry are no
/// limits. Most keys are used for one API, whose entry is here and not behind another reference.
#[repr(C)]
struct Entries {
    others: OnceLock<Box<[Place]>>,
    first: OnceLock<First>,
    len: usize,
}

#[repr(C)]
struct First {
    entry: Option<Entry>,
    at: usize,
}

type Place = OnceLock<Option<Box<Entry>>>;

impl Entries {
    fn of(len: usize) -> Self {
        Self {
            len,
            first: OnceLock::new(),
            others: OnceLock::new(),
        }
    }

    fn get_or_compile(&self, at: usize, compile: impl FnOnce() -> Option<Entry>) -> Option<&Entry> {
        let mut compile = Some(compile);
        let mut compile = || compile.take().and_then(|compile| compile());
        let first = self.first.get_or_init(|| First {
            entry: compile(),
            at,
        });
        if first.at == at {
            return first.entry.as_ref();
        }
        let others = self
            .others
            .get_or_init(|| (0..self.len).map(|_| OnceLock::new()).collect());
        let entry = others[at].get_or_init(|| compile().map(Box::new));
        entry.as_deref()
    }

    /// The entry at a place, where it was compiled.
    #[inline]
    fn get(&self, at: usize) -> Option<&Entry> {
        match self.first.get() {
            Some(first) if first.at == at => first.entry.as_ref(),
            _ => self.others.get()?.get(at)?.get()?.as_deref(),
        }
    }
}

/// What a text gave for a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Filled {
    /// This value.
    Value(HeaderValue),
    /// A value that no header may hold.
    Refused,
    /// It speaks of the request, so it is filled when that comes.
    ByRequest,
}

impl Pass {
    /// The session with its policies applied.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The name under which the session is stored, for counters.
    pub fn key(&self) -> &StorageKey {
        &self.key
    }

    /// Whether the session may be used now; see [`Session::lifecycle`].
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyInactive`] or [`Rejection::KeyExpired`].
    #[inline]
    pub fn lifecycle(&self, now: UnixSeconds) -> Result<(), Rejection> {
        self.lifetime.at(now)
    }

    /// Whether who presents the name alone may use the session: it has no password.
    pub fn is_for_bare_tokens(&self) -> bool {
        self.is_bare
    }

    /// Which policies the parts of the session come from.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// The session's own limits, where no API is named.
    pub fn root(&self) -> &Entry {
        let Root { owner, compiled } = &self.root;
        compiled.get_or_init(|| {
            let source = self.plan.source(*owner, None);
            let entry = source.compile(&self.session, &self.key);
            Box::new(entry.expect("its numbers were read before"))
        })
    }

    /// The place of the entry for an API.
    ///
    /// # Errors
    ///
    /// [`Rejection::ApiNotGranted`] where the session does not hold the API;
    /// [`Rejection::KeyUnknown`] where the entry's numbers are no limits.
    pub fn find(&self, api: &ApiId) -> Result<EntryAt, Rejection> {
        self.find_near(api, 0)
    }

    /// As [`find`](Self::find), looking first at the place where another pass has the API: passes of one
    /// policy have the same places.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub fn find_near(&self, api: &ApiId, guess: u32) -> Result<EntryAt, Rejection> {
        self.entry_near(api, guess).map(|(at, _)| at)
    }

    /// As [`find_near`](Self::find_near), with the entry.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    #[inline]
    pub fn entry_near(&self, api: &ApiId, guess: u32) -> Result<(EntryAt, &Entry), Rejection> {
        if self.entries.len == 0 && self.plan.rules.master_keys == MasterKeys::Allowed {
            return Ok((EntryAt(None), self.root()));
        }
        let found = self.rights.find(api, guess as usize);
        let at = found.ok_or(Rejection::ApiNotGranted)?;
        let entry = self.entries.get_or_compile(at, || self.compile_entry(at));
        let entry = entry.ok_or(Rejection::KeyUnknown)?;
        Ok((EntryAt(Some(at as u32)), entry)) // Below the number of entries of one record.
    }

    /// The entry at a place that [`find`](Self::find) told.
    #[inline]
    pub fn entry(&self, at: EntryAt) -> &Entry {
        let compiled = at.0.and_then(|at| self.entries.get(at as usize));
        compiled.unwrap_or_else(|| self.root())
    }

    /// The API of an entry; `None` for the session's own limits.
    pub fn api_of(&self, at: EntryAt) -> Option<&ApiId> {
        at.0.map(|at| self.rights.api(at as usize).0)
    }

    /// What one of these texts gave for this session; `None` where the plan is one with other texts, as
    /// where two stacks stand in one another and the session is that of the outer.
    pub fn text(&self, texts: &Arc<[PlannedText]>, at: usize) -> Option<&Filled> {
        let are_the_plans = Arc::ptr_eq(&self.plan.texts, texts);
        self.texts.get(at).filter(|_| are_the_plans)
    }

    fn compile_entry(&self, at: usize) -> Option<Entry> {
        let right = self.rights.api(at);
        let report = |problems: &[RuleProblem]| self.report(right.0, problems);
        let rights = self.rights.get(at, self.plan.rules.paths, report);
        let source = self.plan.source(LimitOwner::Key, Some(right));
        match source.compile(&self.session, &self.key) {
            Ok(entry) => Some(entry.with_rights(rights.clone())),
            Err(error) => {
                unusable(&self.session, &error);
                None
            }
        }
    }

    /// A pattern that does not compile grants nothing; who wrote it must know.
    fn report(&self, api: &ApiId, problems: &[RuleProblem]) {
        let policies = self
            .origins
            .apis
            .get(api)
            .map(|origins| &*origins.rights)
            .unwrap_or_default();
        for problem in problems {
            let place = format!("access_rights.{api}.{}", problem.place());
            tracing::warn!(
                target: "tollgate",
                alias = &*self.session.alias,
                ?policies,
                place,
                pattern = problem.pattern(),
                reason = problem.reason(),
                "a pattern does not compile and grants nothing"
            );
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass")
            .field("alias", &self.session.alias)
            .finish_non_exhaustive()
    }
}

impl PlannedText {
    fn fill(&self, session: &Session) -> Filled {
        if self.text.context_names().next().is_some() {
            return Filled::ByRequest;
        }
        let value = self
            .text
            .fill(Some(&session.meta_data), &NoContext, self.style);
        header_value(value, self.unsafe_values).map_or(Filled::Refused, Filled::Value)
    }
}

/// Numbers that are no limits must not become "no limit".
fn unusable(session: &Session, error: &LimitError) -> Rejection {
    tracing::warn!(target: "tollgate", alias = &*session.alias, %error, "the session can not be used");
    Rejection::KeyUnknown
}

/// The place of an entry in a pass.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EntryAt(Option<u32>);

impl EntryAt {
    /// The place as a number; zero for the session's own limits.
    #[inline]
    pub fn place(self) -> u32 {
        self.0.unwrap_or_default()
    }
}

#[cfg(all(test, not(tollgate_loom)))]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, SessionStore, Version};

    #[test]
    fn a_renewed_record_has_the_newest_plan_first() {
        let loaded = Loaded::new("ann", Session::default(), Version(1));
        let plans: Vec<_> = (0..3).map(|_| Arc::new(Plan::default())).collect();
        let passes: Vec<_> = plans.iter().map(|plan| plan.pass(&loaded)).collect();
        assert!(
            !loaded.passes().are_outdated(),
            "the first plan is in force"
        );
        plans[0].retire();
        let last = Arc::new(Plan::default());
        let newest = last.pass(&loaded).expect("a session");
        assert!(loaded.passes().are_outdated());
        let loaded = Arc::new(loaded.renewed());
        let held = HeldPass::of_first(loaded.clone(), last.id()).expect("is first");
        assert!(Arc::ptr_eq(held.get(), &newest));
        assert_eq!(loaded.passes().others.read().len(), 2);
        let again = plans[2].pass(&loaded);
        assert!(Arc::ptr_eq(
            again.as_ref().expect("a session"),
            passes[2].as_ref().expect("a session")
        ));
    }

    #[test]
    fn a_store_in_memory_renews_its_records() {
        let store = MemoryStore::new();
        store.insert("ann", Session::default()).expect("room");
        let find = || store.try_get("ann").flatten().expect("is there");
        for _ in 0..3 {
            let plan = Arc::new(Plan::default());
            let pass = plan.pass(&find()).expect("a session");
            let held = HeldPass::of_first(find(), plan.id()).expect("is first");
            assert!(Arc::ptr_eq(held.get(), &pass));
            plan.retire();
        }
    }

    #[test]
    fn a_record_forgets_what_it_compiled_for_plans_that_are_retired() {
        let loaded = Loaded::new("ann", Session::default(), Version(1));
        for _ in 0..100 {
            let plan = Arc::new(Plan::default());
            plan.pass(&loaded).expect("a session");
            plan.retire();
        }
        let kept = loaded.passes().others.read().len();
        assert_eq!(kept, 1, "the last, until another plan comes");
        let plans: Vec<_> = (0..3).map(|_| Arc::new(Plan::default())).collect();
        for plan in plans.iter().chain(&plans) {
            plan.pass(&loaded).expect("a session");
        }
        assert_eq!(loaded.passes().others.read().len(), 3);
    }
}
