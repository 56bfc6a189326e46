//! Policies: a record file, or a list.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_core::{
    ApiId, OrgId, PolicyId, Session,
    access::PathOptions,
    policy::{self, Merged, Policy, PolicyOptions, PolicySet},
    session::ApiLimit,
};

use super::{
    numbers::check_limits,
    session::{check_survives, is_comparable},
};

/// Checks a file of policies.
pub fn check(data: &[u8]) {
    let record = PolicySet::from_record_file(data);
    let list = PolicySet::from_list(data);
    assert!(record.is_err() || list.is_err(), "an object is no list");
    let json = String::from_utf8_lossy(data);
    for (policies, duplicates) in [record, list].into_iter().flatten() {
        let count = policies.iter().count();
        assert_eq!(policies.len(), count);
        assert_eq!(policies.is_empty(), count == 0);
        assert!(count > 0 || duplicates.is_empty());
        for policy in policies.iter() {
            check_policy(policy, &policies, is_comparable(&json));
        }
        for (org, policies_of) in by_organisation(&policies) {
            check_merges(&policies, &org, policies_of);
        }
    }
}

/// A policy is found, and what is written of it is read as the same.
fn check_policy(policy: &Policy, policies: &PolicySet, is_comparable: bool) {
    let found = policies.get(&policy.org_id, &policy.id);
    assert!(found.is_some_and(|found| std::ptr::eq(found, policy)));
    let written = policy.to_json();
    let again = Policy::from_json(&written).expect("what is written can be read");
    assert_eq!(again.to_json(), written);
    if is_comparable {
        assert!(again == *policy, "{policy:?} is read as {again:?}");
    }
    for problem in policy.check(PathOptions::strict()) {
        assert!(problem.place().starts_with("access_rights."), "{problem}");
    }
}

/// The policies of each organisation, in the order of their ids: a set has none.
fn by_organisation(policies: &PolicySet) -> BTreeMap<OrgId, Vec<&Policy>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for policy in policies.iter() {
        all.entry(policy.org_id.clone()).or_default().push(policy);
    }
    for of_org in all.values_mut() {
        of_org.sort_by(|one, other| one.id.cmp(&other.id));
    }
    all
}

/// A default session takes the policies of an organisation, each alone and all together.
fn check_merges(policies: &PolicySet, org: &OrgId, of_org: Vec<&Policy>) {
    for policy in &of_org {
        check_merge(policies, org, &[policy]);
    }
    check_merge(policies, org, &of_org);
}

fn check_merge(policies: &PolicySet, org: &OrgId, named: &[&Policy]) {
    let session = Session {
        org_id: org.clone(),
        apply_policies: named.iter().map(|policy| policy.id.clone()).collect(),
        ..Session::default()
    };
    let apply = || policy::apply(&session, policies, org, PolicyOptions::default());
    let merged = apply();
    assert_eq!(format!("{merged:?}"), format!("{:?}", apply()));
    let Ok(Merged {
        session, origins, ..
    }) = merged
    else {
        return;
    };
    assert_eq!(origins.missing, Vec::<PolicyId>::new());
    let is_inactive = named.iter().any(|policy| policy.is_inactive);
    assert_eq!(session.is_inactive, is_inactive);
    check_granted(&session, named);
    for api in session.access_rights.keys() {
        check_limits(&session, api);
    }
    check_numbers(&session, named);
    let written = session.to_json();
    check_survives(&session, &written);
}

/// A session holds what its policies grant, no more and no less.
fn check_granted(session: &Session, named: &[&Policy]) {
    let grants = |policy: &&&Policy| {
        let parts = &policy.partitions;
        parts.acl || !(parts.quota || parts.rate_limit || parts.complexity)
    };
    let granting = named.iter().filter(grants);
    let granted: BTreeSet<&ApiId> = granting
        .flat_map(|policy| policy.access_rights.keys())
        .collect();
    let held: BTreeSet<&ApiId> = session.access_rights.keys().collect();
    assert_eq!(held, granted);
}

/// Where every policy says a rate and a quota, every entry has one that some policy says.
fn check_numbers(session: &Session, named: &[&Policy]) {
    let limits: Vec<_> = named.iter().flat_map(|policy| limits_of(policy)).collect();
    let ruled = named.iter().all(|policy| rules_limits(policy));
    if ruled
        && limits
            .iter()
            .all(|limit| limit.rate > 0.0 && limit.per > 0.0)
    {
        for (api, entry) in session.access_rights.iter() {
            let said =
                |limit: &ApiLimit| (limit.rate, limit.per) == (entry.limit.rate, entry.limit.per);
            assert!(
                limits.iter().any(said),
                "{api}: {:?} is not of {limits:?}",
                entry.limit
            );
        }
    }
    if ruled && limits.iter().all(|limit| limit.quota_max > 0) {
        for (api, entry) in session.access_rights.iter() {
            let quota = |limit: &ApiLimit| (limit.quota_max, limit.quota_renewal_rate);
            let said = |limit: &ApiLimit| quota(limit) == quota(&entry.limit);
            assert!(
                limits.iter().any(said),
                "{api}: {:?} is not of {limits:?}",
                entry.limit
            );
        }
    }
}

/// Whether a policy rules both rates and quotas.
fn rules_limits(policy: &Policy) -> bool {
    let parts = &policy.partitions;
    let is_whole = !(parts.quota || parts.rate_limit || parts.complexity || parts.acl);
    is_whole || (parts.quota && parts.rate_limit)
}

/// All limits that a policy says: its root's, and those of entries with any number set.
fn limits_of(policy: &Policy) -> Vec<ApiLimit> {
    let root = ApiLimit {
        rate: policy.rate,
        per: policy.per,
        quota_max: policy.quota_max,
        quota_renewal_rate: policy.quota_renewal_rate,
        ..ApiLimit::default()
    };
    let entries = policy
        .access_rights
        .values()
        .map(|entry| entry.limit.clone());
    let said = entries.filter(|limit| !limit.is_empty());
    std::iter::once(root).chain(said).collect()
}
