//! `/tyk/policies…`: shown as they are in force, written for the next reload.

use http::StatusCode;
use tollgate_core::{OrgId, policy::Policy};

use crate::{
    ControlError, ControlErrorKind, Inner,
    answer::{self, Answer, Refusal, json, modified},
    call::{Call, Tail, json_text},
    members::Members,
};

/// A member that Tyk's policies have, and nothing here asks for.
const GRAPHQL: &str = "graphql_access_rights";

const INVALID_ID: &str = "Invalid Policy ID: Allowed characters: a-z, A-Z, 0-9, ., _, -, ~";

/// `GET /tyk/policies`.
pub(crate) fn list(admin: &Inner) -> Answer {
    let policies = admin.control.policies();
    let mut all: Vec<&Policy> = policies.iter().collect();
    all.sort_by(|a, b| (&a.id, &a.org_id).cmp(&(&b.id, &b.org_id)));
    let all = all.into_iter().map(|policy| to_json(admin, policy));
    let all: Vec<String> = all.collect();
    Ok(json(StatusCode::OK, format!("[{}]", all.join(","))))
}

/// `GET /tyk/policies/{id}`.
pub(crate) fn show(admin: &Inner, id: &str) -> Answer {
    let policies = admin.control.policies();
    let policy = policies.get(&OrgId::default(), &id.into());
    let policy = policy.ok_or(Refusal::new(404, "Policy not found"))?;
    Ok(json(StatusCode::OK, to_json(admin, policy)))
}

/// `POST /tyk/policies` and `PUT /tyk/policies/{id}`; a `PUT` may make one.
pub(crate) async fn write(admin: &Inner, call: &Call, path_id: Option<&str>) -> Answer {
    let malformed = || Refusal::new(400, "Request malformed");
    let text = json_text(&call.body, Tail::Ignored).ok_or_else(malformed)?;
    let policy = match &*text {
        "null" => Policy::default(),
        text => Policy::from_json(text).map_err(|_| malformed())?,
    };
    let is_object_id = |id: &str| id.len() == 24 && id.bytes().all(|c| c.is_ascii_hexdigit());
    if !policy.object_id.is_empty() && !is_object_id(&policy.object_id) {
        return Err(malformed());
    }
    if let Some(path_id) = path_id
        && path_id != policy.id.as_str()
    {
        let message = "Request ID does not match that in policy! For Update operations these must \
                       match.";
        return Err(Refusal::new(400, message));
    }
    if policy.id.is_empty() {
        return Err(Refusal::new(400, "Unable to create policy without id."));
    }
    check_id(policy.id.as_str())?;
    let json = serde_json::to_string_pretty(&policy).map_err(|_| malformed())?;
    let written = admin.control.write_policy(policy.id.clone(), json).await;
    written.map_err(|error| refused(&error, "Failed to create file!"))?;
    let action = if path_id.is_some() {
        "modified"
    } else {
        "added"
    };
    Ok(modified(policy.id.as_str(), action, None))
}

/// `DELETE /tyk/policies/{id}`.
pub(crate) async fn delete(admin: &Inner, id: &str) -> Answer {
    check_id(id)?;
    let removed = admin.control.remove_policy(id.into()).await;
    removed.map_err(|error| refused(&error, "Delete failed"))?;
    Ok(modified(id, "deleted", None))
}

/// An id becomes the name of a file: one that would leave the folder is refused, one with a slash is
/// the name of none.
fn check_id(id: &str) -> Result<(), Refusal> {
    let leaves = id.contains("..") || id.starts_with(['/', '.']) || id.contains('\\');
    if leaves || id.contains(char::is_control) || 200 < id.len() {
        return Err(Refusal::new(400, INVALID_ID));
    }
    if id.contains('/') {
        return Err(Refusal::new(500, "Failed to create file!"));
    }
    Ok(())
}

fn refused(error: &ControlError, otherwise: &'static str) -> Refusal {
    match error.kind() {
        ControlErrorKind::Invalid => Refusal::new(400, error.to_string()),
        ControlErrorKind::NoFolder => Refusal::new(500, "Unable to access policy storage."),
        ControlErrorKind::NotFiles => Refusal::new(
            500,
            "Due to enabled service policy source, please use the Dashboard API",
        ),
        ControlErrorKind::NotFound => Refusal::new(500, otherwise),
        _ => {
            answer::log(error, "a policy was not written");
            Refusal::new(500, otherwise)
        }
    }
}

/// A policy with every member that Tyk writes, and no others where those are not kept.
fn to_json(admin: &Inner, policy: &Policy) -> String {
    let json = if admin.settings.drop_unknown_members {
        let mut policy = policy.clone();
        let graphql = policy.unknown.remove_entry(GRAPHQL);
        policy.forget_unknown();
        policy.unknown.extend(graphql);
        policy.to_json()
    } else {
        policy.to_json()
    };
    let Ok(mut members) = Members::of(&json) else {
        return json;
    };
    members.set_default("_id", &"");
    members.set_default(GRAPHQL, &());
    members.set_default("smoothing", &());
    members.to_json()
}
