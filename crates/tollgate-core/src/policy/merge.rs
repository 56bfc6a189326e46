//! One session made of a session and its policies.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    ApiOrigins, Merged, Origins, Partitions, Policy, PolicyError, PolicyOptions,
    limits::{QuotaPart, RatePart, deeper, merge_endpoints, merge_named, merge_primitives},
    lists::{unite_rights, unite_texts},
};
use crate::{
    access::{CompiledRights, Organisations},
    ids::{ApiId, OrgId, PolicyId},
    session::{AccessDefinition, ApiLimit, Rights, Session},
};

/// A session without policies: entries with limits of their own get counters of their own.
pub(super) fn without_policies(session: &Session) -> Merged {
    let mut session = session.clone();
    drop_repeated_tags(&mut session);
    let is_own = |(api, entry): (&ApiId, &AccessDefinition)| {
        entry.limit.is_empty() || entry.allowance_scope == api.as_str()
    };
    // Changing makes the map the session's alone, so it is not touched without need.
    if !session.access_rights.iter().all(is_own) {
        for (api, entry) in session.access_rights.iter_mut() {
            if !entry.limit.is_empty() {
                entry.allowance_scope = api.to_string();
            }
        }
    }
    let compiled = Arc::new(CompiledRights::of(&session.access_rights));
    Merged {
        session,
        origins: Arc::default(),
        compiled,
    }
}

/// Applies policies in order, all of which are there.
pub(super) fn merge(
    session: &Session,
    policies: &[&Policy],
    org: &OrgId,
    options: PolicyOptions,
    memory: Option<&Memory>,
) -> Result<Merged, PolicyError> {
    check_kinds(policies, org, options.organisations)?;
    let roots = Roots::of(session);
    let granted = match memory {
        Some(memory) => memory.granted(&roots, policies, org)?,
        None => Arc::new(Granted::by(&roots, policies)?),
    };
    let mut session = granted.put_into(session);
    drop_repeated_tags(&mut session);
    for policy in policies {
        apply_whole(&mut session, policy);
        if !(policy.partitions.per_api && options.ignore_per_api_signatures) {
            session.hmac_enabled |= policy.hmac_enabled;
            session.enable_http_signature_validation |= policy.enable_http_signature_validation;
        }
    }
    Ok(Merged {
        session,
        origins: granted.origins.clone(),
        compiled: granted.compiled.clone(),
    })
}

fn check_kinds(
    policies: &[&Policy],
    org: &OrgId,
    organisations: Organisations,
) -> Result<(), PolicyError> {
    let (mut per_api, mut partitioned) = (false, false);
    for Policy {
        id,
        org_id,
        partitions,
        ..
    } in policies
    {
        let policy = || id.clone();
        if organisations == Organisations::Separate && org_id != org {
            return Err(PolicyError::OtherOrganisation { policy: policy() });
        }
        if partitions.per_api && partitions.is_partitioned() {
            return Err(PolicyError::PerApiAndPartitions { policy: policy() });
        }
        per_api |= partitions.per_api;
        partitioned |= partitions.is_partitioned();
        if per_api && partitioned {
            return Err(PolicyError::PerApiAmongPartitioned { policy: policy() });
        }
    }
    Ok(())
}

/// An entry in the making, and which of its parts policies have given.
#[derive(Default)]
struct Draft {
    entry: AccessDefinition,
    given: Partitions,
    granted_by: PolicyId, // The last one; meant only where `given.acl` is set.
    origins: ApiOrigins,
}

struct Merge<'a> {
    own: &'a Rights,
    session: Session, // Of which only limits are meant.
    drafts: BTreeMap<ApiId, Draft>,
    root: ApiOrigins, // Whose limits stand at the session's root.
    root_quota_given: bool,
}

impl<'a> Merge<'a> {
    fn new(roots: &'a Roots) -> Self {
        Self {
            own: &roots.0.access_rights,
            session: roots.0.clone(),
            drafts: BTreeMap::new(),
            root: ApiOrigins::default(),
            root_quota_given: false,
        }
    }

    /// The session's own limits give way to a policy that rules them.
    fn clear(&mut self, ruled: &Partitions) {
        if ruled.quota {
            self.session.quota_max = 0;
            self.session.quota_remaining = 0;
        }
        if ruled.rate_limit {
            RatePart::default().put_into_session(&mut self.session);
            self.session.throttle_interval = 0.0;
            self.session.throttle_retry_limit = 0;
        }
        if ruled.complexity {
            self.session.max_query_depth = 0;
        }
    }

    /// A policy without rights: its limits become the session's, for APIs that others grant.
    fn apply_to_root(&mut self, policy: &Policy) {
        let ruled = policy.partitions.ruled();
        let origin = || Some(policy.id.clone());
        if ruled.rate_limit {
            RatePart::of_policy(policy).put_into_session(&mut self.session);
            self.session.throttle_interval = policy.throttle_interval;
            self.session.throttle_retry_limit = policy.throttle_retry_limit;
            self.root.rate = origin();
        }
        if ruled.complexity {
            self.session.max_query_depth = policy.max_query_depth;
            self.root.complexity = origin();
        }
        if ruled.quota {
            QuotaPart::of_policy(policy).put_into_session(&mut self.session);
            self.root_quota_given = true;
            self.root.quota = origin();
        }
    }

    fn apply_parts(&mut self, policy: &Policy) {
        let ruled = policy.partitions.ruled();
        for (api, entry) in &policy.access_rights {
            let draft = self.drafts.entry(api.clone()).or_default();
            draft.keep_renewal(self.own.get(api));
            draft.name_after(entry);
            if ruled.acl {
                draft.take_rights(policy, entry);
            }
            if ruled.quota {
                draft.take_quota(policy, entry);
            }
            if ruled.rate_limit {
                draft.take_rate(policy, entry);
            }
            if ruled.complexity {
                draft.take_depth(policy, entry);
            }
        }
        self.raise_root(policy, &ruled);
    }

    /// The root holds the largest of each limit, for readers that look at it alone.
    fn raise_root(&mut self, policy: &Policy, ruled: &Partitions) {
        let session = &mut self.session;
        let quota = QuotaPart::of_policy(policy);
        if ruled.quota && (!self.root_quota_given || quota.beats(QuotaPart::of_session(session))) {
            quota.put_into_session(session);
            self.root_quota_given = true;
            self.root.quota = Some(policy.id.clone());
        }
        if ruled.rate_limit {
            let rate = RatePart::of_policy(policy);
            if rate.beats(&RatePart::of_session(session)) {
                rate.put_into_session(session);
                self.root.rate = Some(policy.id.clone());
            }
            session.throttle_interval = session.throttle_interval.max(policy.throttle_interval);
            session.throttle_retry_limit = session
                .throttle_retry_limit
                .max(policy.throttle_retry_limit);
        }
        if ruled.complexity {
            session.max_query_depth = deeper(session.max_query_depth, policy.max_query_depth);
            self.root.complexity = Some(policy.id.clone());
        }
    }

    fn apply_per_api(&mut self, policy: &Policy) {
        for (api, entry) in &policy.access_rights {
            let own = self.own.get(api);
            let mut draft = Draft::per_api(policy, api, entry);
            draft.keep_renewal(own);
            draft.entry.disable_introspection |= own.is_some_and(|own| own.disable_introspection);
            match self.drafts.entry(api.clone()) {
                Entry::Vacant(place) => {
                    place.insert(draft);
                }
                Entry::Occupied(mut place) => {
                    let earlier = std::mem::take(place.get_mut());
                    draft.follow(earlier);
                    place.insert(draft);
                }
            }
        }
    }

    fn finish(mut self) -> Result<Granted, PolicyError> {
        let counts = |part: fn(&Partitions) -> bool| {
            self.drafts
                .values()
                .filter(|draft| part(&draft.given))
                .count()
        };
        let is_one_api = counts(|given| given.quota) == 1
            && counts(|given| given.rate_limit) == 1
            && counts(|given| given.complexity) == 1;
        self.drafts.retain(|_, draft| draft.given.acl);
        if self.drafts.is_empty() {
            return Err(PolicyError::NoValidPolicies);
        }
        for draft in self.drafts.values_mut() {
            draft.fill_from_root(&self.session, &self.root);
        }
        self.set_scopes();
        if is_one_api {
            let limits = self.drafts.values().map(|draft| &draft.entry.limit);
            limits.for_each(|limit| raise_to(&mut self.session, limit));
        }
        let (mut rights, mut origins) = (BTreeMap::new(), Origins::default());
        for (api, draft) in self.drafts {
            origins.apis.insert(api.clone(), draft.origins);
            rights.insert(api, draft.entry);
        }
        self.session.access_rights = rights.into();
        let compiled = CompiledRights::of(&self.session.access_rights);
        Ok(Granted {
            limits: Roots(self.session),
            origins: origins.into(),
            compiled: compiled.into(),
        })
    }

    /// APIs of one policy share a counter, those of several do not.
    fn set_scopes(&mut self) {
        let granting: BTreeSet<_> = self
            .drafts
            .values()
            .map(|draft| &draft.granted_by)
            .collect();
        if granting.len() < 2 {
            return;
        }
        for draft in self.drafts.values_mut() {
            if draft.entry.allowance_scope.is_empty() {
                draft.entry.allowance_scope = draft.granted_by.to_string();
            }
        }
    }
}

/// What of a session rights and limits are merged from: its own rights, and its limits. All else is
/// as in no session.
#[derive(Clone)]
pub(super) struct Roots(Session);

impl Roots {
    fn of(session: &Session) -> Self {
        Self(Session {
            rate: session.rate,
            per: session.per,
            smoothing: session.smoothing.clone(),
            throttle_interval: session.throttle_interval,
            throttle_retry_limit: session.throttle_retry_limit,
            max_query_depth: session.max_query_depth,
            quota_max: session.quota_max,
            quota_renews: session.quota_renews,
            quota_remaining: session.quota_remaining,
            quota_renewal_rate: session.quota_renewal_rate,
            access_rights: session.access_rights.clone(),
            ..Session::default()
        })
    }

    /// The limits as bits, where they are all that there is: most keys with policies have nothing else
    /// of their own.
    fn as_bits(&self) -> Option<[u64; 9]> {
        let Session {
            rate,
            per,
            throttle_interval,
            ..
        } = self.0;
        let counts = [
            self.0.throttle_retry_limit,
            self.0.max_query_depth,
            self.0.quota_max,
            self.0.quota_renews,
            self.0.quota_remaining,
            self.0.quota_renewal_rate,
        ];
        if self.0.smoothing.is_some() || !self.0.access_rights.is_empty() {
            return None;
        }
        let mut bits = [0; 9];
        let numbers = [rate, per, throttle_interval].map(f64::to_bits);
        let counts = counts.map(|count| count as u64); // The bits are compared, not the number.
        for (bit, value) in bits.iter_mut().zip(numbers.into_iter().chain(counts)) {
            *bit = value;
        }
        Some(bits)
    }
}

/// What policies make of a session's limits and rights: the same for all sessions that bring the same
/// to them.
pub(super) struct Granted {
    limits: Roots,
    origins: Arc<Origins>,
    compiled: Arc<CompiledRights>,
}

impl Granted {
    fn by(roots: &Roots, policies: &[&Policy]) -> Result<Self, PolicyError> {
        let mut merge = Merge::new(roots);
        for policy in policies {
            merge.clear(&policy.partitions.ruled());
        }
        for policy in policies {
            if policy.partitions.per_api {
                merge.apply_per_api(policy);
            } else if policy.access_rights.is_empty() {
                merge.apply_to_root(policy);
            } else {
                merge.apply_parts(policy);
            }
        }
        merge.finish()
    }

    fn put_into(&self, session: &Session) -> Session {
        let Roots(limits) = &self.limits;
        Session {
            rate: limits.rate,
            per: limits.per,
            smoothing: limits.smoothing.clone(),
            throttle_interval: limits.throttle_interval,
            throttle_retry_limit: limits.throttle_retry_limit,
            max_query_depth: limits.max_query_depth,
            quota_max: limits.quota_max,
            quota_renews: limits.quota_renews,
            quota_remaining: limits.quota_remaining,
            quota_renewal_rate: limits.quota_renewal_rate,
            access_rights: limits.access_rights.clone(),
            ..session.clone()
        }
    }
}

/// What was granted before, for sessions that bring the same to the same policies. It belongs to one
/// snapshot of the policies.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<MemoryKey, Arc<Granted>, foldhash::fast::RandomState>>);

#[derive(Eq, Hash, PartialEq)]
struct MemoryKey {
    org: OrgId,
    policies: Box<[PolicyId]>,
    limits: [u64; 9],
}

impl Memory {
    /// Over this many different grants, further ones are made anew for each session.
    const GRANTS: usize = 10_000;

    fn granted(
        &self,
        roots: &Roots,
        policies: &[&Policy],
        org: &OrgId,
    ) -> Result<Arc<Granted>, PolicyError> {
        let granted = || Granted::by(roots, policies).map(Arc::new);
        let Some(limits) = roots.as_bits() else {
            return granted();
        };
        let policies = policies.iter().map(|policy| policy.id.clone()).collect();
        let key = MemoryKey {
            org: org.clone(),
            policies,
            limits,
        };
        if let Some(granted) = self.0.lock().get(&key) {
            return Ok(granted.clone());
        }
        let granted = granted()?;
        let mut all = self.0.lock();
        if all.len() < Self::GRANTS {
            all.insert(key, granted.clone());
        }
        Ok(granted)
    }
}

impl Draft {
    fn per_api(policy: &Policy, api: &ApiId, entry: &AccessDefinition) -> Self {
        let mut entry = entry.clone();
        if entry.limit.is_empty() {
            entry.limit = root_limit(policy);
            entry.allowance_scope = policy.id.to_string();
        } else {
            entry.allowance_scope = api.to_string();
        }
        let origin = Some(policy.id.clone());
        Self {
            entry,
            given: Partitions::default().ruled(),
            granted_by: policy.id.clone(),
            origins: ApiOrigins {
                rights: vec![policy.id.clone()],
                rate: origin.clone(),
                quota: origin.clone(),
                complexity: origin,
            },
        }
    }

    /// Takes from an earlier policy what it gives more of. Throttling and depth stay ours, as in Tyk.
    fn follow(&mut self, earlier: Self) {
        let limit = &mut self.entry.limit;
        let mut scope = None;
        let rate = RatePart::of_limit(&earlier.entry.limit);
        if earlier.given.rate_limit && rate.beats(&RatePart::of_limit(limit)) {
            rate.put_into(limit);
            self.origins.rate = earlier.origins.rate;
            scope = Some(&earlier.entry.allowance_scope);
        }
        let quota = QuotaPart::of_limit(&earlier.entry.limit);
        if earlier.given.quota && quota.beats(QuotaPart::of_limit(limit)) {
            quota.put_into(limit);
            self.origins.quota = earlier.origins.quota;
            scope = Some(&earlier.entry.allowance_scope);
        }
        if limit.quota_max == -1 {
            limit.quota_renewal_rate = 0;
        }
        if let Some(scope) = scope {
            self.entry.allowance_scope.clone_from(scope);
        }
        if earlier.given.acl {
            let mut entry = earlier.entry.clone();
            unite_rights(&mut entry, &self.entry);
            put_rights(&mut self.entry, entry);
            self.origins.rights.splice(..0, earlier.origins.rights);
            remove_repeated(&mut self.origins.rights);
        }
        let mut endpoints = earlier.entry.endpoints;
        merge_endpoints(&mut endpoints, &self.entry.endpoints);
        self.entry.endpoints = endpoints;
        merge_named(
            &mut self.entry.json_rpc_methods,
            &earlier.entry.json_rpc_methods,
        );
        merge_primitives(
            &mut self.entry.mcp_primitives,
            &earlier.entry.mcp_primitives,
        );
    }

    /// The running period is the key's own, where its entry has limits.
    fn keep_renewal(&mut self, own: Option<&AccessDefinition>) {
        if let Some(own) = own.filter(|own| !own.limit.is_empty()) {
            self.entry.limit.quota_renews = own.limit.quota_renews;
        }
    }

    fn name_after(&mut self, entry: &AccessDefinition) {
        if self.entry.api_id.is_empty() && self.entry.api_name.is_empty() {
            self.entry.api_id.clone_from(&entry.api_id);
            self.entry.api_name.clone_from(&entry.api_name);
        }
    }

    fn take_rights(&mut self, policy: &Policy, entry: &AccessDefinition) {
        if self.given.acl {
            unite_rights(&mut self.entry, entry);
        } else {
            put_rights(&mut self.entry, entry.clone());
        }
        self.given.acl = true;
        self.granted_by = policy.id.clone();
        self.origins.rights.push(policy.id.clone());
        remove_repeated(&mut self.origins.rights);
    }

    fn take_quota(&mut self, policy: &Policy, entry: &AccessDefinition) {
        let quota = QuotaPart::of_entry(policy, &entry.limit);
        if !self.given.quota || quota.beats(QuotaPart::of_limit(&self.entry.limit)) {
            quota.put_into(&mut self.entry.limit);
            self.origins.quota = Some(policy.id.clone());
        }
        self.given.quota = true;
    }

    fn take_rate(&mut self, policy: &Policy, entry: &AccessDefinition) {
        let limit = &mut self.entry.limit;
        for rate in [
            RatePart::of_limit(&entry.limit),
            RatePart::of_policy(policy),
        ] {
            if rate.beats(&RatePart::of_limit(limit)) {
                rate.put_into(limit);
                self.origins.rate = Some(policy.id.clone());
            }
        }
        let intervals = [entry.limit.throttle_interval, policy.throttle_interval];
        limit.throttle_interval = intervals
            .into_iter()
            .fold(limit.throttle_interval, f64::max);
        let retries = entry
            .limit
            .throttle_retry_limit
            .max(policy.throttle_retry_limit);
        limit.throttle_retry_limit = limit.throttle_retry_limit.max(retries);
        merge_endpoints(&mut self.entry.endpoints, &entry.endpoints);
        merge_named(&mut self.entry.json_rpc_methods, &entry.json_rpc_methods);
        merge_primitives(&mut self.entry.mcp_primitives, &entry.mcp_primitives);
        self.given.rate_limit = true;
    }

    fn take_depth(&mut self, policy: &Policy, entry: &AccessDefinition) {
        let depth = deeper(policy.max_query_depth, entry.limit.max_query_depth);
        let before = self.entry.limit.max_query_depth;
        self.entry.limit.max_query_depth = deeper(before, depth);
        if !self.given.complexity || self.entry.limit.max_query_depth != before {
            self.origins.complexity = Some(policy.id.clone());
        }
        self.given.complexity = true;
    }

    /// Parts that no policy gave for this API are the session's.
    fn fill_from_root(&mut self, session: &Session, root: &ApiOrigins) {
        let limit = &mut self.entry.limit;
        if !self.given.rate_limit {
            RatePart::of_session(session).put_into(limit);
            limit.throttle_interval = session.throttle_interval;
            limit.throttle_retry_limit = session.throttle_retry_limit;
            self.entry.endpoints.clear();
            self.origins.rate.clone_from(&root.rate);
        }
        if !self.given.complexity {
            limit.max_query_depth = session.max_query_depth;
            self.origins.complexity.clone_from(&root.complexity);
        }
        if !self.given.quota {
            QuotaPart::of_session(session).put_into(limit);
            limit.quota_renews = session.quota_renews;
            self.origins.quota.clone_from(&root.quota);
        }
    }
}

/// What a policy gives to the whole session, whatever its partitions.
fn apply_whole(session: &mut Session, policy: &Policy) {
    session.is_inactive |= policy.is_inactive;
    unite_texts(&mut session.tags, &policy.tags);
    session.meta_data.extend(&policy.meta_data);
    if !policy.post_expiry_action.is_empty() {
        session
            .post_expiry_action
            .clone_from(&policy.post_expiry_action);
    }
    if policy.post_expiry_grace_period != 0 {
        session.post_expiry_grace_period = policy.post_expiry_grace_period;
    }
    // For information only, so that they are compared as Tyk does: as texts.
    if session.last_updated < policy.last_updated {
        session.last_updated.clone_from(&policy.last_updated);
    }
}

/// Takes everything of `rights` but limits, which are another part.
fn put_rights(own: &mut AccessDefinition, mut rights: AccessDefinition) {
    rights.limit = std::mem::take(&mut own.limit);
    rights.endpoints = std::mem::take(&mut own.endpoints);
    rights.json_rpc_methods = std::mem::take(&mut own.json_rpc_methods);
    rights.mcp_primitives = std::mem::take(&mut own.mcp_primitives);
    rights.allowance_scope = std::mem::take(&mut own.allowance_scope);
    *own = rights;
}

fn root_limit(policy: &Policy) -> ApiLimit {
    let mut limit = ApiLimit {
        throttle_interval: policy.throttle_interval,
        throttle_retry_limit: policy.throttle_retry_limit,
        max_query_depth: policy.max_query_depth,
        ..ApiLimit::default()
    };
    RatePart::of_policy(policy).put_into(&mut limit);
    QuotaPart::of_policy(policy).put_into(&mut limit);
    limit
}

/// Makes an API's limits the session's own, where it is the only one. Throttling stays, as in Tyk.
fn raise_to(session: &mut Session, limit: &ApiLimit) {
    RatePart::of_limit(limit).put_into_session(session);
    QuotaPart::of_limit(limit).put_into_session(session);
    session.quota_renews = limit.quota_renews;
    session.max_query_depth = limit.max_query_depth;
}

fn drop_repeated_tags(session: &mut Session) {
    let tags = std::mem::take(&mut session.tags);
    unite_texts(&mut session.tags, &tags);
}

fn remove_repeated(ids: &mut Vec<PolicyId>) {
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
}
