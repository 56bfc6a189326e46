//! Where the limits of a key stand, for who administrates it and for who holds it.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tollgate_core::{Loaded, OrgId, limits::Limit, policy::apply};

use super::{Answer, Asked, Problem, json as answer};
use crate::{Inner, counters, counters::later, lookup::Named};

/// `GET /tollgate/keys/{key}/usage`.
pub(super) async fn of_key(admin: &Inner, asked: &Asked) -> Answer {
    let loaded = asked.find(admin).await?;
    Ok(answer(StatusCode::OK, &told(admin, &loaded).await?))
}

/// `GET /tollgate/usage`, with the token in `Authorization`. It tells what the token's holder could
/// find out by using it up.
pub(super) async fn of_holder(admin: &Inner, asked: &Asked) -> Answer {
    let unknown = || {
        let challenge = HeaderValue::from_static("Bearer");
        Problem::new(StatusCode::UNAUTHORIZED, "the token is missing or unknown")
            .with_header(header::WWW_AUTHENTICATE, challenge)
    };
    let mut shown = asked.headers.get_all(header::AUTHORIZATION).iter();
    let (Some(shown), None) = (shown.next(), shown.next()) else {
        return Err(unknown());
    };
    let shown = shown.to_str().map_err(|_| unknown())?.trim();
    let token = match shown.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => shown,
    };
    if token.len() < admin.keys.min_length() {
        return Err(unknown()); // By so short an id nobody is let in.
    }
    let org = OrgId::from(asked.query.get("org_id"));
    let named = Named::Presented(org, token);
    let found = admin.find(&named).await?.ok_or_else(unknown)?;
    let session = found.loaded.session();
    // Who knows the name of a user is not the user.
    if !session.basic_auth_data.password.is_empty() {
        return Err(unknown());
    }
    let policies = admin.control.policies();
    let options = admin.settings.policy_options();
    let merged = apply(session, &policies, &session.org_id, options);
    let merged = merged.map_err(|_| unknown())?;
    let alive = merged.session.lifecycle(admin.now().unix());
    alive.map_err(|refusal| Problem::new(StatusCode::FORBIDDEN, refusal.message().to_owned()))?;
    Ok(answer(StatusCode::OK, &told(admin, &found.loaded).await?))
}

async fn told(admin: &Inner, loaded: &Loaded) -> Result<Value, Problem> {
    let now = admin.now().unix().0;
    let usages = admin.usage(loaded).await?;
    let limits: Vec<Value> = usages.iter().map(|usage| one(usage, now)).collect();
    Ok(json!({ "limits": limits }))
}

fn one(usage: &counters::Usage, now: u64) -> Value {
    let standing = usage.standing;
    let used = standing.max.saturating_sub(standing.remaining);
    let resets = standing.resets_in.filter(|_| 0 < used);
    let mut value = limit(&usage.limit);
    value["api_id"] = json!(usage.api);
    value["scope"] = json!(usage.scope);
    value["used"] = json!(used);
    value["remaining"] = json!(standing.remaining);
    value["resets"] = json!(resets.map(|time| later(now, time)));
    value
}

/// What a limit allows.
pub(super) fn limit(limit: &Limit) -> Value {
    match limit {
        Limit::Rate(rate) => json!({
            "kind": "rate",
            "max": rate.requests,
            "per_seconds": rate.window.as_secs_f64(),
        }),
        Limit::Quota(quota) => json!({ "kind": "quota", "max": quota.max }),
    }
}
