//! Showing a key, and what would become of one.

use http::StatusCode;
use tollgate_core::{Session, policy};

use super::{Policies, read, to_json};
use crate::{
    Inner,
    answer::{Answer, Refusal, json},
    call::{Call, Tail, json_text},
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
    let session = json_text(&call.body, Tail::Ignored).and_then(|json| read(&json));
    let mut session = session.ok_or(Refusal::new(500, "Unmarshalling failed"))?;
    let now = admin.now();
    let created = jiff::Timestamp::from_nanosecond(i128::from(now.unix_nanos));
    session.date_created = created.unwrap_or_default().into();
    session.last_updated = now.unix().0.to_string();
    let (session, policies) = shown(admin, &session);
    Ok(json(StatusCode::OK, to_json(&session, policies)))
}

/// The session with its policies.
fn shown(admin: &Inner, session: &Session) -> (Session, Policies) {
    let policies = admin.control.policies();
    let options = admin.settings.policy_options();
    match policy::apply(session, &policies, &session.org_id, options) {
        Ok(merged) => (merged.session, Policies::Applied),
        Err(_) => (session.clone(), Policies::Failed),
    }
}
