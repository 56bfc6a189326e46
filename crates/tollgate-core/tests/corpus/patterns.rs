//! Requests that one pattern of a definition decides: lists, and headers that mark a match.

use serde_json::Value;
use tollgate_core::access::{PathOptions, PathPattern, RequestPath};

use super::{Case, Outcome, requests::served, text};

pub(crate) fn play(case: &Case<'_>, step: &Value, correction: &Value) -> Outcome {
    judge(case, step, correction).unwrap_or(Outcome::NeedsGateway)
}

fn judge(case: &Case<'_>, step: &Value, correction: &Value) -> Option<Outcome> {
    let (request, expect) = (&step["request"], &step["expect"]);
    let target = text(&request["path"]);
    let api = served(case, target)?;
    let (kind, entries) = only_list(api)?;
    let matched = correction["matched"].as_bool().or_else(|| {
        let status = expect["status"].as_u64()?;
        let marks = &expect["upstream"]["headers"]["x-mark"];
        match (kind, status) {
            (_, 301) => Some(false),
            ("white_list", 200) | ("black_list", 403) => Some(true),
            ("white_list", 403) | ("black_list", 200) => Some(false),
            ("transform_headers", 200) => Some(!marks.is_null()),
            _ => None,
        }
    })?;
    let path = RequestPath::of(target, Some(text(&api["proxy"]["listen_path"])));
    let Ok(path) = path else {
        let refused =
            matches!(expect["status"].as_u64(), Some(301)) || correction["refused"] == true;
        return Some(Outcome::compare(&true, &refused));
    };
    let method = text(&request["method"]);
    let ours = entries.iter().any(|entry| {
        let wanted = text(&entry["method"]);
        let any_method = wanted.is_empty() && kind != "transform_headers";
        entry["disabled"] != true
            && (any_method || wanted == method)
            && matches(case.options, kind, entry, &path)
    });
    Some(Outcome::compare(&ours, &matched))
}

fn matches(options: PathOptions, kind: &str, entry: &Value, path: &RequestPath<'_>) -> bool {
    let options = PathOptions {
        ignore_case: options.ignore_case || entry["ignore_case"] == true,
        ..options
    };
    match PathPattern::compile(text(&entry["path"]), options) {
        Ok(pattern) if kind == "transform_headers" => pattern.matches(path.behind_listen_path()),
        Ok(pattern) => pattern.matches_request(path),
        Err(_) => false,
    }
}

/// The one list of an API with one version, where it needs no key and is of a kind that shows.
fn only_list(api: &Value) -> Option<(&str, &[Value])> {
    let versions = api["version_data"]["versions"].as_object()?;
    let [version] = versions.values().collect::<Vec<_>>()[..] else {
        return None;
    };
    let mut lists = version["extended_paths"].as_object()?.iter();
    let (kind, entries) = lists.next()?;
    let has_actions = |entry: &Value| entry["method_actions"].is_object();
    let entries = entries.as_array()?;
    let is_usual = version["use_extended_paths"] == true
        && version["ignore_endpoint_case"] != true
        && api["definition"]["strip_path"] != true
        && api["use_keyless"] == true
        && lists.next().is_none()
        && !entries.iter().any(has_actions);
    let shows = ["white_list", "black_list", "transform_headers"].contains(&kind.as_str());
    (is_usual && shows).then_some((kind.as_str(), entries.as_slice()))
}
