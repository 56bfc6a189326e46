//! Policies from files: one file of all, or a folder with one in each.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use tollgate_core::{
    ApiId, PolicyId, RecordError,
    policy::{Duplicate, Policy, PolicySet, Unusable},
    session::Smoothing,
};

use super::{check_place, json_files};
use crate::{
    config::Config,
    document::{self, Document, Tree},
    meta_schema,
    problem::{JsonPath, Problem, Report},
    suggest::nearest,
};

/// Members of a policy that core does not write where they are empty.
const WRITTEN_WHERE_SET: &[&str] = &[
    "_id",
    "post_expiry_action",
    "post_expiry_grace_period",
    "smoothing",
    "tollgate",
];

/// A policy, and where it stands.
struct Found {
    document: Arc<Document>,
    place: JsonPath,
    policy: Policy,
}

/// What was read: the policies, and those that can not be used.
#[derive(Default)]
struct Read {
    found: Vec<Found>,
    unusable: Unusable,
}

/// The policies that the configuration names; `None` where not even their ids can be read. One that can
/// not be used is an error in the report, and its keys are refused. `apis` are the ids that can be
/// granted.
pub(super) fn load(
    config: &Config,
    apis: &HashSet<&ApiId>,
    report: &mut Report,
) -> Option<PolicySet> {
    let source = &config.policies;
    let Read { found, unusable } = if !source.policy_path.is_empty() {
        folder(Path::new(&source.policy_path), report)
    } else if !source.policy_record_name.is_empty() {
        record_file(Path::new(&source.policy_record_name), report)
    } else {
        Some(Read::default())
    }?;
    for found in &found {
        let problems = check(found, config, apis);
        report.extend(
            problems
                .into_iter()
                .map(|problem| found.document.place(problem)),
        );
    }
    let file = found.last().map(|found| found.document.file.clone());
    let policies = found.into_iter().map(|found| found.policy);
    let (policies, duplicates) = PolicySet::from_policies(policies);
    let file = file.unwrap_or_default();
    report.extend(
        duplicates
            .iter()
            .map(|duplicate| duplicated(&file, duplicate)),
    );
    Some(policies.with_unusable(unusable))
}

/// One policy in each file; `None` where the folder can not be read.
fn folder(folder: &Path, report: &mut Report) -> Option<Read> {
    let files = json_files(folder)
        .map_err(|problem| report.push(problem))
        .ok()?;
    let mut read = Read::default();
    for file in files {
        let document = match check_place(&file).and_then(|()| Document::read(&file)) {
            Ok(document) => Arc::new(document),
            Err(problem) => {
                read.unusable.without_id += 1;
                report.push(refused(problem, None));
                continue;
            }
        };
        match Policy::from_json(document.text()) {
            Ok(policy) if policy.id.is_empty() => {
                report.push(Problem::warning(
                    file,
                    "a policy without `id`, and not used",
                ));
            }
            Ok(policy) => read.found.push(Found {
                document,
                place: JsonPath::root(),
                policy,
            }),
            Err(err) => {
                let id = id_of(&document.tree);
                let problem = document.place(unreadable(&err, &JsonPath::root()));
                report.push(refused(problem, id.as_ref()));
                match id {
                    Some(id) => drop(read.unusable.ids.insert(id)),
                    None => read.unusable.without_id += 1,
                }
            }
        }
    }
    Some(read)
}

/// The id of a policy that can not be read as a whole.
fn id_of(tree: &Tree) -> Option<PolicyId> {
    let Tree::Object(members) = tree else {
        return None;
    };
    let text = |wanted: &str| {
        let member = members
            .iter()
            .rfind(|(name, _)| name.eq_ignore_ascii_case(wanted));
        match member {
            Some((_, Tree::Text(text))) if !text.is_empty() => Some(text.as_str()),
            _ => None,
        }
    };
    text("id").or_else(|| text("_id")).map(PolicyId::from)
}

/// All policies in one file, by id; `None` where it can not be taken apart.
fn record_file(file: &Path, report: &mut Report) -> Option<Read> {
    let read = document::read_text(file).and_then(|text| Document::parse(&as_json(file), text));
    let document = read
        .map_err(|problem| report.push(at_file(problem, file)))
        .ok()?;
    let each = PolicySet::each_of_record_file(document.text().as_bytes()).map_err(|err| {
        let problem = document.place(unreadable(&err, &JsonPath::root()));
        report.push(at_file(problem, file));
    });
    let document = Arc::new(document);
    let mut read = Read::default();
    for (id, policy) in each.ok()? {
        let place = JsonPath::root().key(id.as_str());
        match policy {
            Ok(policy) => read.found.push(Found {
                document: Arc::clone(&document),
                place,
                policy,
            }),
            Err(err) => {
                let problem = document.place(unreadable(&err, &place));
                report.push(refused(at_file(problem, file), Some(&id)));
                read.unusable.ids.insert(id);
            }
        }
    }
    Some(read)
}

/// Says whose keys a policy that can not be read takes along.
fn refused(mut problem: Problem, id: Option<&PolicyId>) -> Problem {
    let keys = match id {
        Some(id) => format!("keys of policy `{id}` are refused"),
        None => "keys that name a policy that is not there are refused".to_owned(),
    };
    problem.message = format!("{}; {keys}", problem.message).into();
    problem
}

/// Policies are JSON, whatever their file is called.
fn as_json(file: &Path) -> PathBuf {
    file.with_extension("json")
}

fn at_file(mut problem: Problem, file: &Path) -> Problem {
    problem.file = file.to_owned();
    problem
}

fn unreadable(err: &RecordError, place: &JsonPath) -> Problem {
    let path = place.join(&JsonPath::from(err.path()));
    Problem::error("", in_words(err.message())).at(path)
}

/// What serde expects, in the words of the other messages.
fn in_words(message: &str) -> String {
    const WORDS: [(&str, &str); 7] = [
        ("invalid type: ", "found "),
        ("expected i64", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a string", "expected a text"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
    ];
    let replace = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
    WORDS.iter().fold(message.to_owned(), replace)
}

fn duplicated(file: &Path, duplicate: &Duplicate) -> Problem {
    Problem::warning(file, format!("{duplicate}; the last one counts"))
}

/// What of a policy can not be followed, and what it says that nobody reads.
fn check(found: &Found, config: &Config, apis: &HashSet<&ApiId>) -> Vec<Problem> {
    let Found { place, policy, .. } = found;
    let mut problems = Vec::new();
    for problem in policy.check(config.path_options()) {
        let reason = problem.reason().lines().last().unwrap_or_default();
        let message = format!("can not be used, and lets nobody in: {}", reason.trim());
        let path = place.join(&JsonPath::from(problem.place()));
        problems.push(Problem::warning("", message).at(path));
    }
    for api in policy
        .access_rights
        .keys()
        .filter(|api| !apis.contains(api))
    {
        let path = place.key("access_rights").key(api.as_str());
        problems.push(Problem::warning("", "grants an API that does not exist").at(path));
    }
    let unsmoothed = smoothings(policy, place).filter(|_| !config.smooths_rates());
    problems.extend(unsmoothed.map(|path| {
        let message = "has no effect, the whole rate holds: set `enable_rate_limit_smoothing`, and \
                       `enable_redis_rolling_limiter`, as only windows that slide are smoothed";
        Problem::warning("", message).at(path)
    }));
    let schema = match meta_schema::of_policy(policy) {
        Ok(None) => Ok(()),
        Ok(Some(schema)) => meta_schema::compile(&schema).map(drop),
        Err(message) => Err(message),
    };
    if let Err(message) = schema {
        let message = format!("{message}; no key with this policy can be written");
        let path = place.key("tollgate").key("meta_data_schema");
        problems.push(Problem::warning("", message).at(path));
    }
    let known = known_members();
    for name in policy.unknown.keys().filter(|name| *name != "tollgate") {
        if let Some(meant) = nearest(name, known.iter().map(String::as_str)) {
            let problem = Problem::warning("", "unknown, and not read").at(place.key(name));
            problems.push(problem.help(format!("did you mean `{meant}`?")));
        }
    }
    problems
}

/// Where a policy asks for rates that grow and shrink with use.
fn smoothings<'a>(policy: &'a Policy, place: &'a JsonPath) -> impl Iterator<Item = JsonPath> + 'a {
    let is_on = |smoothing: &Option<Smoothing>| {
        smoothing
            .as_ref()
            .is_some_and(|smoothing| smoothing.enabled)
    };
    let own = is_on(&policy.smoothing).then(|| place.key("smoothing"));
    let rights = policy.access_rights.iter();
    let of_apis = rights.filter(move |(_, right)| is_on(&right.limit.smoothing));
    own.into_iter().chain(of_apis.map(|(api, _)| {
        let right = place.key("access_rights").key(api.as_str());
        right.key("limit").key("smoothing")
    }))
}

fn known_members() -> Vec<String> {
    let written = serde_json::to_value(Policy::default()).unwrap_or_default();
    let written = written.as_object().into_iter().flatten();
    let written = written.map(|(name, _)| name.clone());
    let rest = WRITTEN_WHERE_SET.iter().map(|name| (*name).to_owned());
    written.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_found_at_both_places() {
        let found = |json: &str| {
            let policy = Policy::from_json(json).unwrap();
            let root = JsonPath::root();
            let paths = smoothings(&policy, &root);
            paths.map(|path| path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(found(r#"{"smoothing": {"enabled": true}}"#), ["smoothing"]);
        assert!(found(r#"{"smoothing": {"enabled": false}}"#).is_empty());
        let right = r#"{"access_rights": {"a": {"limit": {"smoothing": {"enabled": true}}}}}"#;
        assert_eq!(found(right), ["access_rights.a.limit.smoothing"]);
    }

    #[test]
    fn a_wrong_type_is_told_in_words() {
        let wrong = |json: &str| in_words(Policy::from_json(json).unwrap_err().message());
        assert_eq!(wrong(r#"{"rate": "1"}"#), "found a text, expected a number");
        assert_eq!(
            wrong(r#"{"quota_max": 1.5}"#),
            "found floating point `1.5`, expected a whole number"
        );
    }
}
