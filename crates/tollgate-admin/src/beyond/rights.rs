//! What a key may do, and who says so.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use tollgate_core::{
    ApiId, PolicyId, Session,
    limits::{ApiLimits, Limit},
    policy::{ApiOrigins, apply},
    session::AccessDefinition,
};

use super::{Answer, Asked, Problem, json as answer};
use crate::Inner;

#[derive(Serialize)]
struct Rights<'a> {
    key: &'a str,
    alias: &'a str,
    org_id: &'a str,
    policies: &'a [PolicyId],
    missing_policies: &'a [PolicyId],
    is_inactive: bool,
    expires: Option<u64>,
    /// Whether it may call everything.
    is_master: bool,
    apis: BTreeMap<&'a ApiId, Value>,
}

/// `GET /tollgate/keys/{key}/rights`.
pub(super) async fn show(admin: &Inner, asked: &Asked) -> Answer {
    let loaded = asked.find(admin).await?;
    let stored = loaded.session();
    let policies = admin.control.policies();
    let options = admin.settings.policy_options();
    let merged = apply(stored, &policies, &stored.org_id, options);
    let merged = merged.map_err(|error| {
        let detail = format!("the policies make no session: {error}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    let session = &merged.session;
    let no_origins = ApiOrigins::default();
    let apis = session.access_rights.iter().map(|(api, right)| {
        let origins = merged.origins.apis.get(api).unwrap_or(&no_origins);
        (api, entry(session, api, right, origins))
    });
    let masters = tollgate_core::access::MasterKeys::Allowed;
    let is_master = session.access_rights.is_empty() && admin.settings.master_keys == masters;
    Ok(answer(
        StatusCode::OK,
        &Rights {
            key: loaded.key().as_str(),
            alias: &session.alias,
            org_id: session.org_id.as_str(),
            policies: stored.policies(),
            missing_policies: &merged.origins.missing,
            is_inactive: session.is_inactive,
            expires: session.expiry().map(|at| at.0),
            is_master,
            apis: apis.collect(),
        },
    ))
}

fn entry(session: &Session, api: &ApiId, right: &AccessDefinition, origins: &ApiOrigins) -> Value {
    let source = |policy: &Option<PolicyId>| match policy {
        Some(policy) => format!("policy {policy}"),
        None => "key".into(),
    };
    let urls = right.allowed_urls.iter();
    let urls: Vec<Value> = urls
        .map(|allowed| json!({"url": allowed.url, "methods": allowed.methods}))
        .collect();
    let limits = ApiLimits::of(session, api).ok();
    let rate = limits.as_ref().and_then(|limits| limits.rate);
    let quota = limits.and_then(|limits| limits.quota);
    json!({
        "versions": right.versions,
        "allowed_urls": urls,
        "scope": right.allowance_scope,
        "granted_by": match &*origins.rights {
            [] => vec!["key".to_owned()],
            policies => policies.iter().map(|policy| format!("policy {policy}")).collect(),
        },
        "rate": rate.map(|rate| with_source(&rate.into(), &source(&origins.rate))),
        "quota": quota.map(|quota| with_source(&quota.into(), &source(&origins.quota))),
    })
}

fn with_source(limit: &Limit, source: &str) -> Value {
    let mut value = super::usage::limit(limit);
    value["source"] = source.into();
    value
}
