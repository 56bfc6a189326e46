//! Policies: templates that make sessions.
//!
//! A session names policies; [`apply`] makes of both the session that is in force. It is made anew
//! whenever the session is loaded, and nothing of a policy is ever stored in a key: a policy that is
//! changed, switched off or taken away works at once on every key that names it.
//!
//! # Example
//!
//! ```
//! use tollgate_core::policy::{self, PolicyOptions, PolicySet};
//! use tollgate_core::{OrgId, Session};
//!
//! let record = br#"{"gold": {"org_id": "acme", "rate": 50, "per": 1,
//!                            "access_rights": {"orders": {"versions": ["Default"]}}}}"#;
//! let (policies, _) = PolicySet::from_record_file(record)?;
//!
//! let session: Session = r#"{"org_id": "acme", "apply_policies": ["gold"]}"#.parse()?;
//! let merged = policy::apply(&session, &policies, &OrgId::from("acme"), PolicyOptions::default())?;
//! assert_eq!(merged.session.access_rights["orders"].limit.rate, 50.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Differences from Tyk
//!
//! - Parts of a limit merge field by field, whatever the order of the policies.
//! - A key is inactive where it says so itself *or* a policy does.
//! - Quota and period are chosen as one pair, and a quota of 0 ranks as what it is: no limit.
//! - A policy that opens all paths is not narrowed by another one.
//! - `per_api` policies unite versions, paths and lists, and switch on signatures, like others.
//! - Policies in a key's own `meta_data` count only where [`PolicyOptions`] say so.
//! - A key whose policies grant nothing is refused.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    access::{self, CompiledRights, Organisations, PathOptions, RuleProblem},
    ids::{ApiId, OrgId, PolicyId},
    meta::MetaData,
    session::{AccessDefinition, Session, Smoothing},
    wire::{self, Member, RecordError, record},
};

mod limits;
mod lists;
mod merge;
mod set;

pub(crate) use merge::Memory;
pub use set::{Duplicate, PolicyLoadError, PolicySet, ReadPolicy, Unusable};

record! {
    /// A policy, letter for letter as Tyk stores it.
    pub struct Policy {
        /// The dashboard's id. Taken for `id` where that is empty.
        pub object_id: String = "_id" omit,
        /// The id that sessions use.
        pub id: PolicyId = "id" keep,
        /// A name for people.
        pub name: String = "name" keep,
        /// The organisation, which must be the API's.
        pub org_id: OrgId = "org_id" keep,
        /// See [`Session::rate`]. Zero: the policy says nothing of it. −1: no limit.
        pub rate: f64 = "rate" keep,
        /// See [`Session::per`].
        pub per: f64 = "per" keep,
        /// See [`Session::quota_max`].
        pub quota_max: i64 = "quota_max" keep,
        /// See [`Session::quota_renewal_rate`].
        pub quota_renewal_rate: i64 = "quota_renewal_rate" keep,
        /// See [`Session::throttle_interval`].
        pub throttle_interval: f64 = "throttle_interval" keep,
        /// See [`Session::throttle_retry_limit`].
        pub throttle_retry_limit: i64 = "throttle_retry_limit" keep,
        /// See [`Session::max_query_depth`].
        pub max_query_depth: i64 = "max_query_depth" keep,
        /// What a key may call. Without any, the policy gives its limits to the APIs of others.
        pub access_rights: BTreeMap<ApiId, AccessDefinition> = "access_rights" keep,
        /// See [`Session::hmac_enabled`].
        pub hmac_enabled: bool = "hmac_enabled" keep,
        /// See [`Session::enable_http_signature_validation`].
        pub enable_http_signature_validation: bool = "enable_http_signature_validation" keep,
        /// Kept, never read.
        pub active: bool = "active" keep,
        /// Whether every key with this policy is switched off.
        pub is_inactive: bool = "is_inactive" keep,
        /// Tags for every key.
        pub tags: Vec<String> = "tags" keep,
        /// Seconds that a new key lives, see [`key_expires_in`].
        pub key_expires_in: i64 = "key_expires_in" keep,
        /// See [`Session::post_expiry_action`].
        pub post_expiry_action: String = "post_expiry_action" omit,
        /// See [`Session::post_expiry_grace_period`].
        pub post_expiry_grace_period: i64 = "post_expiry_grace_period" omit,
        /// The parts of a session that the policy rules.
        pub partitions: Partitions = "partitions" keep,
        /// When the policy was changed.
        pub last_updated: String = "last_updated" keep,
        /// Data for every key.
        pub meta_data: MetaData = "meta_data" keep,
        /// See [`Session::smoothing`].
        pub smoothing: Option<Smoothing> = "smoothing" omit,
    }
}

record! {
    /// The parts of a session that a policy rules. Without any it rules them all.
    pub struct Partitions {
        /// The quota.
        pub quota: bool = "quota" keep,
        /// The rate limit, throttling, and the limits of endpoints.
        pub rate_limit: bool = "rate_limit" keep,
        /// The depth of GraphQL queries.
        pub complexity: bool = "complexity" keep,
        /// What may be called.
        pub acl: bool = "acl" keep,
        /// Everything, with limits and counters of its own for each API.
        pub per_api: bool = "per_api" keep,
    }
}

impl Partitions {
    fn is_partitioned(&self) -> bool {
        self.quota || self.rate_limit || self.complexity || self.acl
    }

    /// The parts, with none named made to all. `per_api` rules all parts as well.
    fn ruled(&self) -> Self {
        let all = !self.is_partitioned();
        Self {
            quota: all || self.quota,
            rate_limit: all || self.rate_limit,
            complexity: all || self.complexity,
            acl: all || self.acl,
            ..self.clone()
        }
    }
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    ///
    /// Fails where the text is not one JSON object, or a member has the wrong type.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, RecordError> {
        let policy: Self = wire::from_json(json.as_ref())?;
        Ok(policy.with_object_id())
    }

    /// Writes the policy.
    pub fn to_json(&self) -> String {
        wire::to_json(self)
    }

    /// Drops the members that are not of the record, at every level.
    pub fn forget_unknown(&mut self) {
        Member::forget_unknown(self);
    }

    /// The policy's patterns that can not be used, for a report when it is loaded. A problem's place
    /// is as in `access_rights.orders.allowed_urls[1].url`.
    pub fn check(&self, options: PathOptions) -> Vec<RuleProblem> {
        access::compile_entries(&self.access_rights, options).1
    }

    fn with_object_id(mut self) -> Self {
        let is_object_id = self.object_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if self.id.is_empty() && is_object_id {
            self.id = self.object_id.as_str().into();
        }
        self
    }
}

/// How policies are applied.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct PolicyOptions {
    /// Whether a list of policies in the session's own `meta_data.policies` is used in place of those
    /// that it names. Whoever may write a key's `meta_data` may then grant anything.
    pub allow_inline_policies: bool,
    /// Whether policies must be of the API's organisation. [`Organisations::Mixed`] is for showing a
    /// key where no API is given.
    pub organisations: Organisations,
    /// Whether a `per_api` policy does not switch on signatures (`hmac_enabled`,
    /// `enable_http_signature_validation`), as in Tyk.
    pub ignore_per_api_signatures: bool,
}

/// The policies of a session make no session.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The only policy of the session is not there.
    #[error("policy not found: {:?}", .policy.as_str())]
    NotFound {
        /// The policy.
        policy: PolicyId,
    },
    /// A policy is there, and can not be read.
    #[error("policy can not be read: {:?}", .policy.as_str())]
    Unusable {
        /// The policy.
        policy: PolicyId,
    },
    /// A policy is of another organisation than the API.
    #[error("attempting to apply policy from different organisation to key, skipping")]
    OtherOrganisation {
        /// The policy.
        policy: PolicyId,
    },
    /// A policy has `per_api` and another partition.
    #[error("cannot apply policy {policy} which has per_api and any of partitions set")]
    PerApiAndPartitions {
        /// The policy.
        policy: PolicyId,
    },
    /// Some policies have `per_api` and some are partitioned.
    #[error("cannot apply multiple policies when some have per_api set and some are partitioned")]
    PerApiAmongPartitioned {
        /// The policy that does not go with those before it.
        policy: PolicyId,
    },
    /// The policies grant no API, or none of several is there.
    #[error("key has no valid policies to be applied")]
    NoValidPolicies,
    /// The policies in the session's `meta_data` can not be read.
    #[error("policies in the key's meta_data can not be read")]
    InlineUnreadable(#[source] RecordError),
}

/// A session with its policies in force. It is never stored.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The session in force.
    pub session: Session,
    /// Where its parts come from.
    pub origins: Arc<Origins>,
    /// Its rights, compiled where they are first asked; shared by sessions with the same.
    pub(crate) compiled: Arc<CompiledRights>,
}

/// Where the parts of a merged session come from, for explanations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origins {
    /// By API. Empty where the session has no policies.
    pub apis: BTreeMap<ApiId, ApiOrigins>,
    /// Policies that the session names and that are not there.
    pub missing: Vec<PolicyId>,
}

/// Where the parts of one entry come from. `None` is the session itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiOrigins {
    /// Every policy that granted something, in order.
    pub rights: Vec<PolicyId>,
    /// The policy whose rate won.
    pub rate: Option<PolicyId>,
    /// The policy whose quota won.
    pub quota: Option<PolicyId>,
    /// The policy whose query depth won.
    pub complexity: Option<PolicyId>,
}

/// The session that is in force at an API of organisation `org`.
///
/// # Errors
///
/// Fails where the policies make no session. The client then sees an unknown key; the error is for
/// the log.
pub fn apply(
    session: &Session,
    policies: &PolicySet,
    org: &OrgId,
    options: PolicyOptions,
) -> Result<Merged, PolicyError> {
    apply_with(session, policies, org, options, None)
}

/// The same, remembering what the policies grant for the next session that brings the same to them.
pub(crate) fn apply_with(
    session: &Session,
    policies: &PolicySet,
    org: &OrgId,
    options: PolicyOptions,
    memory: Option<&Memory>,
) -> Result<Merged, PolicyError> {
    if let Some(inline) = inline_policies(session, options)? {
        let inline: Vec<&Policy> = inline.iter().collect();
        return merge::merge(session, &inline, org, options, None);
    }
    let ids = session.policies();
    if ids.is_empty() {
        return Ok(merge::without_policies(session));
    }
    let (found, missing) = look_up(ids, scope(session, org), policies);
    if let Some(policy) = unusable(ids, &missing, policies) {
        let policy = policy.clone();
        return Err(PolicyError::Unusable { policy });
    }
    if let ([id], []) = (ids, &*found) {
        return Err(PolicyError::NotFound { policy: id.clone() });
    }
    let mut merged = merge::merge(session, &found, org, options, memory)?;
    if !missing.is_empty() {
        Arc::make_mut(&mut merged.origins).missing = missing;
    }
    Ok(merged)
}

/// How long a key lives that is made now: the last of its policies that says so decides.
///
/// Only for making keys: a key in force is not changed by it.
pub fn key_expires_in(session: &Session, policies: &PolicySet, org: &OrgId) -> Option<Duration> {
    let (found, _) = look_up(session.policies(), scope(session, org), policies);
    let seconds = |policy: &&Policy| u64::try_from(policy.key_expires_in).ok();
    let mut lifetimes = found.iter().rev().filter_map(seconds);
    lifetimes
        .find(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

fn scope<'a>(session: &'a Session, org: &'a OrgId) -> &'a OrgId {
    if session.org_id.is_empty() {
        org
    } else {
        &session.org_id
    }
}

fn look_up<'a>(
    ids: &[PolicyId],
    scope: &OrgId,
    policies: &'a PolicySet,
) -> (Vec<&'a Policy>, Vec<PolicyId>) {
    let mut missing = Vec::new();
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        match policies.get(scope, id) {
            Some(policy) => found.push(policy),
            None => missing.push(id.clone()),
        }
    }
    (found, missing)
}

/// The policy that can not be read, or may be one that can not.
fn unusable<'a>(
    ids: &'a [PolicyId],
    missing: &'a [PolicyId],
    policies: &PolicySet,
) -> Option<&'a PolicyId> {
    let unusable = policies.unusable();
    let named = ids.iter().find(|id| unusable.ids.contains(*id));
    named.or_else(|| missing.first().filter(|_| unusable.without_id > 0))
}

/// The policies in `meta_data.policies`; anything but a list there is plain data.
fn inline_policies(
    session: &Session,
    options: PolicyOptions,
) -> Result<Option<Vec<Policy>>, PolicyError> {
    let value = session.meta_data.get("policies");
    let list = value.filter(|value| value.as_str().starts_with('['));
    let (Some(list), true) = (list, options.allow_inline_policies) else {
        return Ok(None);
    };
    let policies: Vec<Policy> =
        wire::from_json(list.as_str().as_bytes()).map_err(PolicyError::InlineUnreadable)?;
    let policies = policies.into_iter().map(Policy::with_object_id);
    Ok(Some(policies.collect()))
}
