//! Steps of the control API that show or refuse a merged session.

use serde_json::{Map, Value, json};
use tollgate_core::{
    OrgId, Session,
    access::Organisations,
    policy::{self, PolicyError, PolicyOptions},
};

use super::{Case, Outcome, text};

pub(crate) fn play(case: &Case<'_>, step: &Value, correction: &Value, is_fresh: bool) -> Outcome {
    let (admin, expect) = (&step["admin"], &step["expect"]);
    let path = text(&admin["path"]).split('?').next().unwrap_or_default();
    let Some(name) = path.strip_prefix("/tyk/keys/") else {
        return Outcome::NeedsGateway;
    };
    let status = expect["status"].as_u64().unwrap_or_default();
    match (text(&admin["method"]), name, status) {
        ("POST", "preview", 200) => {
            let shown = Shown::Preview;
            show(case, &admin["body"], expect, correction, shown)
        }
        ("GET", name, 200) if is_fresh && case.json["keys"][name].is_object() => show(
            case,
            &case.json["keys"][name],
            expect,
            correction,
            Shown::Stored,
        ),
        ("POST", _, 200 | 500) if is_fresh => create(case, &admin["body"], expect, correction),
        _ => Outcome::NeedsGateway,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Preview,
    Stored,
}

fn show(
    case: &Case<'_>,
    session: &Value,
    expect: &Value,
    correction: &Value,
    shown: Shown,
) -> Outcome {
    let Ok(session) = Session::from_json(session.to_string()) else {
        return Outcome::NeedsGateway; // A time of the clock, filled in when the case is played.
    };
    let merged = apply(case, &session, Organisations::Mixed);
    let wanted_error = correction["error"].as_str();
    match (merged, wanted_error) {
        (Err(err), Some(wanted)) => Outcome::compare(&err.to_string().as_str(), &wanted),
        (Err(err), None) => Outcome::Differs(err.to_string()),
        (Ok(_), Some(wanted)) => Outcome::Differs(format!("no error, expected: {wanted}")),
        (Ok(session), None) => {
            let mut wanted = expect["json"].clone();
            merge_patch(&mut wanted, &correction["session"]);
            let ours = serde_json::from_str(&session.to_json()).expect("is JSON");
            differing_members(&compared(&ours, shown), &compared(&wanted, shown))
        }
    }
}

fn differing_members(ours: &Map<String, Value>, wanted: &Map<String, Value>) -> Outcome {
    let mut names: Vec<_> = ours.keys().chain(wanted.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| ours.get(*name) != wanted.get(*name));
    if names.is_empty() {
        return Outcome::Equal;
    }
    let shown = |members: &Map<String, Value>, name: &str| match members.get(name) {
        Some(value) => value.to_string(),
        None => "nothing".into(),
    };
    let differences = names.iter().map(|name| {
        let (ours, wanted) = (shown(ours, name), shown(wanted, name));
        format!("{name}: ours {ours}, expected {wanted}")
    });
    Outcome::Differs(differences.collect::<Vec<_>>().join("; "))
}

/// Keys that the control API makes or refuses; other reasons to refuse one need a gateway.
fn create(case: &Case<'_>, session: &Value, expect: &Value, correction: &Value) -> Outcome {
    let Ok(session) = Session::from_json(session.to_string()) else {
        return Outcome::NeedsGateway;
    };
    if session.policies().is_empty() || case.apis().next().is_none() {
        return Outcome::NeedsGateway;
    }
    let corrected = correction["error"].as_str();
    let refused = corrected.is_some() || expect["status"] == 500;
    let message = text(&expect["json"]["message"]);
    let wanted = corrected.or(message.strip_prefix("Failed to create key - "));
    match apply(case, &session, Organisations::Separate) {
        Ok(_) => Outcome::compare(&false, &refused),
        Err(err) if refused => {
            let ours = err.to_string();
            Outcome::compare(&ours.as_str(), &wanted.unwrap_or(&ours))
        }
        Err(err) => Outcome::Differs(err.to_string()),
    }
}

fn apply(
    case: &Case<'_>,
    session: &Session,
    organisations: Organisations,
) -> Result<Session, PolicyError> {
    let options = PolicyOptions {
        organisations,
        allow_inline_policies: case.corrections["allow_inline_policies"] == true,
        ..PolicyOptions::default()
    };
    let org = case.apis().next().map(|api| text(&api["org_id"]));
    let org = OrgId::from(org.unwrap_or("default"));
    policy::apply(session, &case.policies, &org, options).map(|merged| merged.session)
}

/// The members that policies decide, without what is not set. Tags have no order in Tyk.
fn compared(session: &Value, shown: Shown) -> Map<String, Value> {
    const MEMBERS: [&str; 13] = [
        "rate",
        "per",
        "quota_max",
        "quota_renewal_rate",
        "throttle_interval",
        "throttle_retry_limit",
        "max_query_depth",
        "access_rights",
        "is_inactive",
        "hmac_enabled",
        "enable_http_signature_validation",
        "smoothing",
        "tags",
    ];
    let mut compared = Map::new();
    for member in MEMBERS {
        if let Some(value) = without_unset(&session[member], shown) {
            compared.insert(member.into(), value);
        }
    }
    if let Some(Value::Array(tags)) = compared.get_mut("tags") {
        set_of_tags(tags);
    }
    let meta = &session["meta_data"];
    if meta.as_object().is_some_and(|meta| !meta.is_empty()) {
        compared.insert("meta_data".into(), meta.clone());
    }
    compared
}

/// As tags are recorded where their order changes: once for each of them, all that may stand there.
fn set_of_tags(tags: &mut Vec<Value>) {
    if let Some(any) = tags.first().and_then(|tag| tag["$regex"].as_str()) {
        let any: Vec<Value> = any.split('|').map(Value::from).collect();
        if any.len() == tags.len() {
            *tags = any;
        }
    }
    tags.sort_by_key(ToString::to_string);
}

fn without_unset(value: &Value, shown: Shown) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        Value::Number(number) => Some(json!(number.as_f64())),
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => {
            let item = |item| without_unset(item, shown).unwrap_or_default();
            Some(items.iter().map(item).collect())
        }
        Value::Object(members) => {
            let is_state = |name: &str| {
                name == "quota_remaining" || (name == "quota_renews" && shown == Shown::Stored)
            };
            let members = members.iter().filter(|(name, _)| !is_state(name));
            let set = members.filter_map(|(name, value)| {
                without_unset(value, shown).map(|value| (name.clone(), value))
            });
            let set: Map<_, _> = set.collect();
            (!set.is_empty()).then_some(Value::Object(set))
        }
        value => Some(value.clone()),
    }
}

/// RFC 7396, but a patch of `null` changes nothing.
fn merge_patch(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (_, Value::Null) => {}
        (Value::Object(members), Value::Object(changes)) => {
            for (name, change) in changes {
                merge_patch(members.entry(name.clone()).or_insert(Value::Null), change);
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}
