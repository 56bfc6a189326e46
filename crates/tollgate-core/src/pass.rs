//! A session compiled for use: the [`Pass`].
//!
//! A record is compiled when it is loaded or changed, not when it is asked: its policies are applied,
//! its rights compiled, its limits made into charges, its header values filled. A request then reads
//! the result through one `Arc`. What to compile for is the [`Plan`] of a stack; each plan has an id
//! of its own and its own snapshot of the policies, so that no request mixes two.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;

use crate::{
    access::{
        ApiRights, MasterKeys, Organisations, PathOptions, RequestPath, RuleProblem, VersionRule,
        organisation_allowed,
    },
    ids::{ApiId, OrgId},
    limits::{Algorithm, ApiLimits, Limit, LimitError},
    policy::{self, Origins, PolicyOptions, PolicySet},
    rejection::{LimitOwner, Rejection},
    session::{AccessDefinition, Endpoint, EndpointMethod, Session},
    store::{Charge, Counter, Loaded, StorageKey},
    sync::{OnceLock, RwLock},
    variables::{NoContext, Text, UnsafeValues, ValueStyle, header_value},
};

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
    /// How the windows of rates are kept.
    pub algorithm: Algorithm,
}

/// What sessions are compiled for: rules, a snapshot of the policies, and texts to fill.
#[derive(Clone, Debug)]
pub struct Plan {
    id: PlanId,
    rules: Rules,
    policies: PolicySet,
    texts: Arc<[PlannedText]>,
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

impl Default for Plan {
    fn default() -> Self {
        Self::new(Rules::default(), PolicySet::default())
    }
}

impl Plan {
    /// A plan with these rules and policies.
    pub fn new(rules: Rules, policies: PolicySet) -> Self {
        Self {
            id: PlanId::next(),
            rules,
            policies,
            texts: Arc::default(),
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

    /// A new plan with other policies.
    #[must_use]
    pub fn with_policies(&self, policies: PolicySet) -> Self {
        Self {
            id: PlanId::next(),
            policies,
            ..self.clone()
        }
    }

    /// A new plan with other rules.
    #[must_use]
    pub fn with_rules(&self, rules: Rules) -> Self {
        Self {
            id: PlanId::next(),
            rules,
            ..self.clone()
        }
    }

    /// A new plan that fills these texts; [`Pass::text`] has them in this order.
    #[must_use]
    pub fn with_texts(&self, texts: impl IntoIterator<Item = PlannedText>) -> Self {
        Self {
            id: PlanId::next(),
            texts: texts.into_iter().collect(),
            ..self.clone()
        }
    }

    /// The record compiled for this plan, once.
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyUnknown`] where its policies make no session, as Tyk answers;
    /// [`Rejection::ApiNotGranted`] where it is of another organisation. The log has the reason.
    pub fn pass(&self, loaded: &Loaded) -> Result<Arc<Pass>, Rejection> {
        loaded.passes().get_or_compile(self.id, || {
            let session = loaded.session();
            let organisation = self.organisation_of(session);
            if !organisation_allowed(&session.org_id, organisation, self.rules.organisations) {
                return Err(Rejection::ApiNotGranted);
            }
            let options = PolicyOptions {
                allow_inline_policies: self.rules.allow_inline_policies,
                organisations: self.rules.organisations,
            };
            let merged = policy::apply(session, &self.policies, organisation, options);
            let merged = merged.map_err(|error| {
                let alias = &*session.alias;
                tracing::warn!(target: "tollgate", alias, %error, "policies make no session");
                Rejection::KeyUnknown
            })?;
            let origins = merged.origins;
            Pass::compile(
                self.clone(),
                loaded.key().clone(),
                merged.session.into(),
                origins,
            )
        })
    }

    /// An organisation's record compiled for this plan: its own limits, for all its keys together.
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyUnknown`] where its numbers are no limits.
    pub fn organisation_pass(&self, loaded: &Loaded) -> Result<Arc<Pass>, Rejection> {
        loaded.passes().get_or_compile(self.id, || {
            let session = Session {
                access_rights: Default::default(),
                ..(**loaded.session()).clone()
            };
            let plan = Self {
                texts: Arc::default(),
                ..self.clone()
            };
            let key = loaded.key().clone();
            let entry = self
                .source(LimitOwner::Organisation, None)
                .compile(&session, &key);
            let entry = entry.map_err(|error| unusable(&session, &error))?;
            Ok(Pass::of(
                plan,
                key,
                session.into(),
                Origins::default(),
                entry,
            ))
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
pub(crate) struct Passes {
    first: OnceLock<(PlanId, Compiled)>, // Most records meet one plan; it is found without a lock.
    others: RwLock<Vec<(PlanId, Compiled)>>,
}

type Compiled = Result<Arc<Pass>, Rejection>;

impl Passes {
    /// How many plans a record remembers besides its first; the oldest goes.
    const OTHERS: usize = 64;

    fn get_or_compile(&self, plan: PlanId, compile: impl FnOnce() -> Compiled) -> Compiled {
        let first = || {
            let first = self.first.get().filter(|(id, _)| *id == plan);
            first.map(|(_, compiled)| compiled.clone())
        };
        if let Some(compiled) = first() {
            return compiled;
        }
        let find = |others: &[(PlanId, Compiled)]| {
            others
                .iter()
                .find(|(id, _)| *id == plan)
                .map(|(_, compiled)| compiled.clone())
        };
        if let Some(compiled) = find(&self.others.read()) {
            return compiled;
        }
        let compiled = compile();
        if self.first.set((plan, compiled.clone())).is_ok() {
            return compiled;
        }
        let mut others = self.others.write();
        if let Some(compiled) = first().or_else(|| find(&others)) {
            return compiled; // Another request was faster: one pass for each plan, never two.
        }
        if others.len() == Self::OTHERS {
            drop(others.remove(0));
        }
        others.push((plan, compiled.clone()));
        compiled
    }
}

/// A session compiled for one stack.
pub struct Pass {
    plan: Plan,
    key: StorageKey,
    session: Arc<Session>,
    origins: Origins,
    root: Entry,
    entries: Box<[LazyEntry]>, // Sorted by API.
    texts: Box<[Filled]>,
}

struct LazyEntry {
    api: ApiId,
    // A key may hold many APIs and call one: each is compiled when it is first called.
    entry: OnceLock<Result<Box<Entry>, Rejection>>,
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
    fn compile(
        plan: Plan,
        key: StorageKey,
        session: Arc<Session>,
        origins: Origins,
    ) -> Result<Arc<Self>, Rejection> {
        let root = plan.source(LimitOwner::Key, None).compile(&session, &key);
        let root = root.map_err(|error| unusable(&session, &error))?;
        Ok(Self::of(plan, key, session, origins, root))
    }

    fn of(
        plan: Plan,
        key: StorageKey,
        session: Arc<Session>,
        origins: Origins,
        root: Entry,
    ) -> Arc<Self> {
        let lazy = |api: &ApiId| LazyEntry {
            api: api.clone(),
            entry: OnceLock::new(),
        };
        let entries = session.access_rights.keys().map(lazy).collect();
        let texts = plan.texts.iter().map(|text| text.fill(&session)).collect();
        Arc::new(Self {
            plan,
            key,
            session,
            origins,
            root,
            entries,
            texts,
        })
    }

    /// The session with its policies applied.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The name under which the session is stored, for counters.
    pub fn key(&self) -> &StorageKey {
        &self.key
    }

    /// Which policies the parts of the session come from.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// The session's own limits, where no API is named.
    pub fn root(&self) -> &Entry {
        &self.root
    }

    /// The place of the entry for an API.
    ///
    /// # Errors
    ///
    /// [`Rejection::ApiNotGranted`] where the session does not hold the API;
    /// [`Rejection::KeyUnknown`] where the entry's numbers are no limits.
    pub fn find(&self, api: &ApiId) -> Result<EntryAt, Rejection> {
        if self.entries.is_empty() && self.plan.rules.master_keys == MasterKeys::Allowed {
            return Ok(EntryAt(None));
        }
        let found = self.entries.binary_search_by(|entry| entry.api.cmp(api));
        let at = found.map_err(|_| Rejection::ApiNotGranted)?;
        let lazy = &self.entries[at];
        let compiled = lazy.entry.get_or_init(|| self.compile_entry(&lazy.api));
        compiled
            .as_ref()
            .map(|_| EntryAt(Some(at)))
            .map_err(Clone::clone)
    }

    /// The entry at a place that [`find`](Self::find) told.
    pub fn entry(&self, at: EntryAt) -> &Entry {
        let found =
            at.0.and_then(|at| self.entries.get(at))
                .and_then(|lazy| lazy.entry.get());
        match found {
            Some(Ok(entry)) => entry,
            _ => &self.root,
        }
    }

    /// The API of an entry; `None` for the session's own limits.
    pub fn api_of(&self, at: EntryAt) -> Option<&ApiId> {
        at.0.and_then(|at| self.entries.get(at))
            .map(|lazy| &lazy.api)
    }

    /// What a text of the plan gave for this session.
    pub fn text(&self, at: usize) -> &Filled {
        self.texts.get(at).unwrap_or(&Filled::ByRequest)
    }

    fn compile_entry(&self, api: &ApiId) -> Result<Box<Entry>, Rejection> {
        let right = &self.session.access_rights[api];
        let (rights, problems) = ApiRights::compile(right, self.plan.rules.paths);
        self.report(api, &problems);
        let source = self.plan.source(LimitOwner::Key, Some((api, right)));
        let entry = source.compile(&self.session, &self.key);
        let entry = entry.map_err(|error| unusable(&self.session, &error))?;
        Ok(Box::new(Entry {
            rights: Some(rights),
            ..entry
        }))
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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EntryAt(Option<usize>);

/// What a session holds of one API, compiled: rights, and charges ready to be made.
#[derive(Debug)]
pub struct Entry {
    rights: Option<ApiRights>, // None: every path of every version.
    limits: ApiLimits,
    scope: Box<str>,
    charges: ChargeSet,
    endpoints: EndpointCharges,
    counter_text: Option<Text>,
}

/// Charges by endpoint, under the endpoint's name.
type EndpointCharges = Box<[(Box<str>, ChargeSet)]>;

/// Which limits are charged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kinds {
    /// Rates alone.
    Rate,
    /// Quotas alone.
    Quota,
    /// Both.
    Both,
}

/// Charges, the rates before the quotas.
#[derive(Debug)]
struct ChargeSet {
    charges: Box<[Charge]>,
    rates: usize,
}

impl ChargeSet {
    fn of(&self, kinds: Kinds) -> &[Charge] {
        match kinds {
            Kinds::Rate => &self.charges[..self.rates],
            Kinds::Quota => &self.charges[self.rates..],
            Kinds::Both => &self.charges,
        }
    }
}

impl Entry {
    /// Whether the version that the request names may be called.
    ///
    /// # Errors
    ///
    /// [`Rejection::ApiNotGranted`].
    pub fn version_allowed(
        &self,
        version: Option<&str>,
        rule: &VersionRule,
    ) -> Result<(), Rejection> {
        let allowed = self
            .rights
            .as_ref()
            .is_none_or(|rights| rights.allows_version(version, rule));
        if allowed {
            Ok(())
        } else {
            Err(Rejection::ApiNotGranted)
        }
    }

    /// Whether the path may be called with this method.
    ///
    /// # Errors
    ///
    /// [`Rejection::PathNotGranted`].
    pub fn path_allowed(&self, method: &str, path: &RequestPath<'_>) -> Result<(), Rejection> {
        let allowed = self
            .rights
            .as_ref()
            .is_none_or(|rights| rights.paths().allows(method, path));
        if allowed {
            Ok(())
        } else {
            Err(Rejection::PathNotGranted)
        }
    }

    /// The limits that hold.
    pub fn limits(&self) -> &ApiLimits {
        &self.limits
    }

    /// The name of the counters that this entry shares with others; empty: the session's own.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Whether some paths have rates of their own, so that [`charges`](Self::charges) needs the path.
    pub fn has_endpoints(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// The charges of a request.
    pub fn charges(&self, kinds: Kinds, call: Option<(&str, &RequestPath<'_>)>) -> &[Charge] {
        let rules = self.rights.as_ref().map(ApiRights::endpoints);
        let found = rules
            .zip(call)
            .and_then(|(rules, (method, path))| rules.find(method, path));
        let own = found.and_then(|limit| {
            self.endpoints
                .iter()
                .find(|(name, _)| **name == *limit.name())
        });
        own.map_or(&self.charges, |(_, charges)| charges).of(kinds)
    }

    /// The text that names the counters in place of the token, where it speaks of the request
    /// (`meta_data.rate_limit_pattern`).
    pub fn counter_text(&self) -> Option<&Text> {
        self.counter_text.as_ref()
    }
}

/// What an [`Entry`] is compiled from.
struct Source<'a> {
    owner: LimitOwner,
    /// The API's entry; `None` for the session's own limits.
    right: Option<(&'a ApiId, &'a AccessDefinition)>,
    algorithm: Algorithm,
}

impl Source<'_> {
    fn compile(&self, session: &Session, key: &StorageKey) -> Result<Entry, LimitError> {
        let no_api = ApiId::default();
        let api = self.right.map_or(&no_api, |(api, _)| api);
        let limits = ApiLimits::of(session, api)?.with_algorithm(self.algorithm);
        let pattern = counter_pattern(session).filter(|_| self.owner == LimitOwner::Key);
        let filled = |text: &Text| text.fill(Some(&session.meta_data), &NoContext, ValueStyle::Tyk);
        let by_request = |text: &Text| text.context_names().next().is_some();
        let (counter_text, pattern) = match pattern {
            Some(text) if by_request(&text) => (Some(text), None),
            pattern => (None, pattern.map(|text| filled(&text))),
        };
        let who = Who {
            owner: self.owner,
            key: key.as_str(),
            pattern: pattern.filter(|name| !name.is_empty()),
            scope: limits.scope.clone().unwrap_or_default(),
        };
        let endpoints = self.right.map(|right| self.endpoints(right, &limits, &who));
        Ok(Entry {
            rights: None,
            charges: who.charges(&limits, None),
            endpoints: endpoints.transpose()?.unwrap_or_default(),
            counter_text,
            scope: who.scope,
            limits,
        })
    }

    fn endpoints(
        &self,
        (api, right): (&ApiId, &AccessDefinition),
        limits: &ApiLimits,
        who: &Who<'_>,
    ) -> Result<EndpointCharges, LimitError> {
        let all = right.endpoints.iter().flat_map(|endpoint| {
            let methods = endpoint.methods.iter();
            methods.map(move |method| (endpoint, method))
        });
        let compile = |(endpoint, method): (&Endpoint, &EndpointMethod)| {
            let name: Box<str> = format!("{}:{}", method.name, endpoint.path).into();
            let limits = limits
                .clone()
                .with_endpoint(method.limit.rate, method.limit.per)?;
            let limits = limits.with_algorithm(self.algorithm);
            let charges = who.charges(&limits, Some(&format!("{api}:{name}")));
            Ok((name, charges))
        };
        all.map(compile).collect()
    }
}

/// The text that names counters in place of the token, where the session has one
/// (`meta_data.rate_limit_pattern`; only a text is one).
fn counter_pattern(session: &Session) -> Option<Text> {
    let pattern = session.meta_data.get("rate_limit_pattern")?.as_text()?;
    Some(Text::with_secrets(&pattern, |_| None))
}

/// Whose counters they are.
struct Who<'a> {
    owner: LimitOwner,
    key: &'a str,
    pattern: Option<String>,
    scope: Box<str>,
}

impl Who<'_> {
    fn charges(&self, limits: &ApiLimits, endpoint: Option<&str>) -> ChargeSet {
        let rate = limits.rate.map(|rate| {
            let patience = match self.owner {
                LimitOwner::Key => limits.patience(),
                _ => Duration::ZERO, // An organisation's requests do not wait.
            };
            self.charge("rate", endpoint, Limit::Rate(rate), patience)
        });
        let quota = limits
            .quota
            .clone()
            .map(|quota| self.charge("quota", None, Limit::Quota(quota), Duration::ZERO));
        let rates = usize::from(rate.is_some());
        ChargeSet {
            charges: rate.into_iter().chain(quota).collect(),
            rates,
        }
    }

    fn charge(
        &self,
        kind: &str,
        endpoint: Option<&str>,
        limit: Limit,
        patience: Duration,
    ) -> Charge {
        let counter = Counter::new(self.counter_name(kind, endpoint));
        Charge {
            patience,
            owner: self.owner,
            ..Charge::new(counter, limit)
        }
    }

    /// Each part is preceded by its length, so that no two lists of parts make one name.
    fn counter_name(&self, kind: &str, endpoint: Option<&str>) -> String {
        let of = match (self.owner, &self.pattern) {
            (LimitOwner::Organisation, _) => "org",
            (_, Some(_)) => "pattern",
            (_, None) => "key",
        };
        let key = self.pattern.as_deref().unwrap_or(self.key);
        let parts = [&*self.scope, key, endpoint.unwrap_or_default()];
        let mut name = format!("{kind}:{of}");
        for part in parts {
            name.push_str(&format!(":{}:{part}", part.len()));
        }
        name
    }
}
