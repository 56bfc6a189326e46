//! Setting the policies of a key that is known by its hash.

use tollgate_core::{PolicyId, store::StoreErrorKind};

use super::write::lifetime_of;
use crate::{
    Inner, KeyEvent,
    answer::{self, Answer, Refusal, modified},
    call::{Call, Tail, json_text},
    lookup::Named,
    members::Members,
};

#[derive(Debug, Default, PartialEq)]
struct Instruction {
    policy: PolicyId,
    apply_policies: Vec<PolicyId>,
}

impl Instruction {
    /// Reads it as Tyk does: names in any case, of two with one name the later, and `null` as if it were not
    /// there.
    fn read(json: &str) -> Option<Self> {
        let mut read = Self::default();
        if json == "null" {
            return Some(read);
        }
        for (name, value) in Members::of(json).ok()?.iter() {
            if name.eq_ignore_ascii_case("policy") {
                let policy: Option<PolicyId> = serde_json::from_str(value).ok()?;
                read.policy = policy.unwrap_or(read.policy);
            } else if name.eq_ignore_ascii_case("apply_policies") {
                let policies: Option<Vec<Option<PolicyId>>> = serde_json::from_str(value).ok()?;
                let policies = policies
                    .into_iter()
                    .flatten()
                    .map(Option::unwrap_or_default);
                read.apply_policies = policies.collect();
            }
        }
        Some(read)
    }
}

/// `POST /tyk/keys/policy/{hash}`. Whether there are such policies is not asked.
pub(crate) async fn set(admin: &Inner, call: &Call, hash: &str) -> Answer {
    let json = json_text(&call.body, Tail::Ignored);
    let instruction = json.and_then(|json| Instruction::read(&json));
    let instruction = instruction.ok_or(Refusal::new(400, "Couldn't decode instruction"))?;
    let found = admin.find(&Named::Stored(hash)).await?;
    let found = found.ok_or(Refusal::new(404, "Key not found"))?;

    let stored = found.loaded.session();
    let mut session = (**stored).clone();
    session.apply_policies = instruction.apply_policies;
    let policy = Some(instruction.policy).filter(|policy| !policy.is_empty());
    session.apply_policies.extend(policy);
    session.apply_policy_id = PolicyId::default();
    let now = admin.now().unix().0;
    session.last_updated = now.to_string();

    let merged = admin.merged(&session).unwrap_or_else(|_| session.clone());
    admin.check_meta_data(&merged)?;
    let lifetime = lifetime_of(admin, &session, &merged, now);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Option<(&str, &[&str])>) {
        let expected = expected.map(|(policy, policies)| Instruction {
            policy: policy.into(),
            apply_policies: policies.iter().map(|&policy| policy.into()).collect(),
        });
        assert_eq!(Instruction::read(json), expected, "{json}");
    }

    #[test]
    fn instructions_are_read_as_tyk_reads_them() {
        check("null", Some(("", &[])));
        check("{}", Some(("", &[])));
        check(
            r#"{"policy":"p","apply_policies":["q",null]}"#,
            Some(("p", &["q", ""])),
        );
        check(
            r#"{"POLICY":"p","policy":null,"Policy":"r"}"#,
            Some(("r", &[])),
        );
        check("[]", None);
        check(r#""p""#, None);
        check(r#"{"policy":1}"#, None);
        check(r#"{"apply_policies":"p"}"#, None);
    }
}
