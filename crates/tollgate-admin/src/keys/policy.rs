//! Setting the policies of a key that is known by its hash.

use serde::Deserialize;
use tollgate_core::{PolicyId, store::StoreErrorKind};

use super::write::lifetime_of;
use crate::{
    Inner, KeyEvent,
    answer::{self, Answer, Refusal, modified},
    call::{Call, Tail, json_text},
    lookup::Named,
};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Instruction {
    policy: Option<PolicyId>,
    apply_policies: Option<Vec<PolicyId>>,
}

/// `POST /tyk/keys/policy/{hash}`. Whether there are such policies is not asked.
pub(crate) async fn set(admin: &Inner, call: &Call, hash: &str) -> Answer {
    let json = json_text(&call.body, Tail::Refused);
    let instruction = json.and_then(|json| serde_json::from_str::<Instruction>(&json).ok());
    let instruction = instruction.ok_or(Refusal::new(400, "Couldn't decode instruction"))?;
    let found = admin.find(&Named::Stored(hash)).await?;
    let found = found.ok_or(Refusal::new(404, "Key not found"))?;

    let stored = found.loaded.session();
    let mut session = (**stored).clone();
    session.apply_policies = instruction.apply_policies.unwrap_or_default();
    let policy = instruction.policy.filter(|policy| !policy.is_empty());
    session.apply_policies.extend(policy);
    session.apply_policy_id = PolicyId::default();

    let merged = admin.merged(&session).unwrap_or_else(|_| session.clone());
    admin.check_meta_data(&merged)?;
    let lifetime = lifetime_of(admin, &session, &merged, admin.now().unix().0);
    let org = session.org_id.clone();
    let put = admin.replace(&found.loaded, session, lifetime).await;
    put.map_err(|error| {
        if error.kind() != StoreErrorKind::Conflict {
            answer::log(&error, "the store failed");
        }
        Refusal::new(500, "Could not write key data")
    })?;
    admin.control.key_changed(KeyEvent::Updated {
        org: &org,
        name: hash,
    });
    Ok(modified(hash, "updated", None))
}
