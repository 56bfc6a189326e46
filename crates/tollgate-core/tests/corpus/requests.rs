//! Requests whose key's rights decide.

use serde_json::Value;
use tollgate_core::{
    ApiId, OrgId, Rejection, Session,
    access::{AccessRights, Granted, MasterKeys, Organisations, RequestPath, VersionRule},
    clock::UnixSeconds,
    policy::{self, PolicyOptions},
};

use super::{Case, Outcome, text};

/// `None` where no key decides.
pub(crate) fn play(case: &Case<'_>, step: &Value, correction: &Value) -> Option<Outcome> {
    let request = &step["request"];
    let target = text(&request["path"]);
    let api = served(case, target)?;
    let header = |name: &str| {
        let mut headers = request["headers"].as_array()?.iter();
        headers.find_map(|pair| {
            text(&pair[0])
                .eq_ignore_ascii_case(name)
                .then(|| text(&pair[1]))
        })
    };
    let key = &case.json["keys"][header("Authorization")?];
    if api["use_keyless"] == true || !key.is_object() || !is_plain(api) {
        return None;
    }
    let Some(wanted) = wanted(step, correction) else {
        return Some(Outcome::NeedsGateway);
    };
    let session = Session::from_json(key.to_string()).expect("is a session");
    let version = version(api, target, header);
    let ours = decide(case, api, &session, request, version.as_deref());
    let ours = ours.map_or_else(
        |rejection| rejection.message().to_owned(),
        |()| String::new(),
    );
    Some(Outcome::compare(&ours, &wanted))
}

/// What the client reads, empty where the rights let the request pass. `None` where something else
/// than rights speaks.
fn wanted(step: &Value, correction: &Value) -> Option<String> {
    let corrected = &correction["message"];
    if corrected.is_string() {
        return Some(text(corrected).to_owned());
    }
    let message = text(&step["expect"]["json"]["error"]);
    match step["expect"]["status"].as_u64()? {
        200 | 429 => Some(String::new()),
        301 => Some(Rejection::PathAmbiguous.message().to_owned()),
        403 if message == "Quota exceeded" => Some(String::new()),
        403 => [
            Rejection::ApiNotGranted,
            Rejection::PathNotGranted,
            Rejection::KeyInactive,
        ]
        .iter()
        .map(Rejection::message)
        .find(|known| *known == message)
        .map(str::to_owned),
        _ => None,
    }
}

fn decide(
    case: &Case<'_>,
    api: &Value,
    session: &Session,
    request: &Value,
    version: Option<&str>,
) -> Result<(), Rejection> {
    let (id, org) = (
        ApiId::from(text(&api["api_id"])),
        OrgId::from(text(&api["org_id"])),
    );
    let path = RequestPath::of(
        text(&request["path"]),
        Some(text(&api["proxy"]["listen_path"])),
    )?;
    let merged = policy::apply(session, &case.policies, &org, PolicyOptions::default());
    let session = merged.map_err(|_| Rejection::KeyUnknown)?.session;
    session.lifecycle(UnixSeconds(0))?;
    let master_keys = match case.json["config"]["allow_master_keys"].as_bool() {
        Some(true) => MasterKeys::Allowed,
        _ => MasterKeys::Refused,
    };
    let (rights, _) = AccessRights::compile(&session, case.options);
    match rights.api(&id, &org, master_keys, Organisations::Separate)? {
        Granted::Everything => Ok(()),
        Granted::Entry(entry) => {
            entry.check(version, &version_rule(api), text(&request["method"]), &path)
        }
    }
}

/// The API that serves the target: the longest listen path.
pub(crate) fn served<'a>(case: &Case<'a>, target: &str) -> Option<&'a Value> {
    let listen_path = |api: &&Value| text(&api["proxy"]["listen_path"]).to_owned();
    let apis = case
        .apis()
        .filter(|api| target.starts_with(&listen_path(api)));
    apis.max_by_key(|api| listen_path(api).len())
}

/// Whether nothing but a key's rights decides: no lists, no versions that end or are APIs.
fn is_plain(api: &Value) -> bool {
    let versions = api["version_data"]["versions"].as_object();
    let is_empty = |value: &Value| match value {
        Value::Object(members) => members
            .values()
            .all(|list| list == &Value::Array(Vec::new())),
        value => value.is_null(),
    };
    let plain = |version: &Value| {
        is_empty(&version["extended_paths"])
            && is_empty(&version["paths"])
            && text(&version["expires"]).is_empty()
    };
    api["definition"]["enabled"] != true
        && text(&api["expiration"]).is_empty()
        && versions.is_none_or(|versions| versions.values().all(plain))
}

fn version_rule(api: &Value) -> VersionRule {
    let data = &api["version_data"];
    let names = data["versions"].as_object().into_iter().flatten();
    VersionRule {
        not_versioned: data["not_versioned"] == true,
        default_version: text(&data["default_version"]).to_owned(),
        fallback_to_default: api["definition"]["fallback_to_default"] == true,
        known: names.map(|(name, _)| name.clone()).collect(),
    }
}

fn version<'a>(
    api: &Value,
    target: &str,
    header: impl Fn(&str) -> Option<&'a str>,
) -> Option<String> {
    let key = text(&api["definition"]["key"]);
    match text(&api["definition"]["location"]) {
        "header" => header(key).map(str::to_owned),
        "url-param" => {
            let (_, query) = target.split_once('?')?;
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.to_owned())
        }
        "url" => {
            let behind = target.strip_prefix(text(&api["proxy"]["listen_path"]))?;
            behind.split(['/', '?']).next().map(str::to_owned)
        }
        _ => None,
    }
}
