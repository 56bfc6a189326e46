//! Showing a key, and what would become of one.

use http::StatusCode;
use tollgate_core::{
    Session,
    policy::{self, Merged, PolicyError},
};

use super::{Policies, read_sent, to_json};
use crate::{
    Inner,
    answer::{Answer, Refusal, json},
    call::{Call, Tail, json_text},
    members::Members,
};

/// `GET /tyk/keys/{id}`: the session with its policies as they are in force.
pub(crate) async fn show(admin: &Inner, call: &Call, id: &str) -> Answer {
    if call.query.given("hashed").is_some() && !admin.is_hashing() {
        let message = "Key requested by hash but key hashing is not enabled";
        return Err(Refusal::new(400, message));
    }
    let org = admin.org_of(&call.query);
    let found = admin.find(&admin.named(&call.query, org, id)).await?;
    let found = found.ok_or(Refusal::new(404, "Key not found"))?;
    let (mut session, policies) = shown(admin, found.loaded.session());
    admin.fill_in_quotas(&found.loaded, &mut session).await?;
    Ok(json(StatusCode::OK, to_json(&session, policies)))
}

/// `POST /tyk/keys/preview`: the session with its policies; nothing is stored.
pub(crate) fn preview(admin: &Inner, call: &Call) -> Answer {
    let malformed = || Refusal::new(500, "Unmarshalling failed");
    let sent = json_text(&call.body, Tail::Ignored).ok_or_else(malformed)?;
    let mut session = read_sent(&sent, &admin.settings).ok_or_else(malformed)?;
    let now = admin.now();
    let created = jiff::Timestamp::from_nanosecond(i128::from(now.unix_nanos));
    session.date_created = created.unwrap_or_default().into();
    session.last_updated = now.unix().0.to_string();
    let (session, policies) = match in_force(admin, &session) {
        Err(PolicyError::Unusable { .. }) => (without_limits(session), Policies::Applied),
        merged => shown_as(&session, merged),
    };
    let shown = with_empty_lists(to_json(&session, policies), &sent);
    Ok(json(StatusCode::OK, shown))
}

/// A list of policies that was sent empty is shown so; a stored one is `null`.
fn with_empty_lists(shown: String, sent: &str) -> String {
    const POLICIES: &str = "apply_policies";
    let is_empty = Members::of(sent).is_ok_and(|sent| sent.get(POLICIES) == Some("[]"));
    match Members::of(&shown) {
        Ok(mut members) if is_empty => {
            members.set(POLICIES, &[(); 0]);
            members.to_json()
        }
        _ => shown,
    }
}

/// The session with its policies.
fn shown(admin: &Inner, session: &Session) -> (Session, Policies) {
    shown_as(session, in_force(admin, session))
}

fn in_force(admin: &Inner, session: &Session) -> Result<Merged, PolicyError> {
    let policies = admin.control.policies();
    let options = admin.settings.policy_options();
    policy::apply(session, &policies, &session.org_id, options)
}

fn shown_as(session: &Session, merged: Result<Merged, PolicyError>) -> (Session, Policies) {
    match merged {
        Ok(merged) => (merged.session, Policies::Applied),
        Err(_) => (session.clone(), Policies::Failed),
    }
}

/// What a policy that can not be read makes of a session: its limits and rights gave way, and nothing came in
/// their place.
fn without_limits(session: Session) -> Session {
    Session {
        rate: 0.0,
        per: 0.0,
        smoothing: None,
        throttle_interval: 0.0,
        throttle_retry_limit: 0,
        max_query_depth: 0,
        quota_max: 0,
        quota_remaining: 0,
        quota_renewal_rate: 0,
        access_rights: Default::default(),
        ..session
    }
}
