//! Policies from files: one file of all, or a folder with one in each.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use tollgate_core::{
    ApiId, RecordError,
    policy::{Duplicate, Policy, PolicyLoadError, PolicySet},
};

use super::json_files;
use crate::{
    config::Config,
    document::{self, Document},
    problem::{JsonPath, Problem, Report},
    suggest::nearest,
};

/// Members of a policy that core does not write where they are empty.
const WRITTEN_WHERE_SET: &[&str] = &[
    "_id",
    "post_expiry_action",
    "post_expiry_grace_period",
    "smoothing",
];

/// A policy, and where it stands.
struct Found {
    document: Arc<Document>,
    place: JsonPath,
    policy: Policy,
}

/// The policies that the configuration names; `None` where they can not be used. `apis` are the ids
/// that can be granted.
pub(super) fn load(
    config: &Config,
    apis: &HashSet<&ApiId>,
    report: &mut Report,
) -> Option<PolicySet> {
    let source = &config.policies;
    let found = if !source.policy_path.is_empty() {
        folder(Path::new(&source.policy_path), report)
    } else if !source.policy_record_name.is_empty() {
        record_file(Path::new(&source.policy_record_name), report)
    } else {
        Some(Vec::new())
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
    Some(policies)
}

/// One policy in each file; `None` where one of them can not be used.
fn folder(folder: &Path, report: &mut Report) -> Option<Vec<Found>> {
    let files = json_files(folder)
        .map_err(|problem| report.push(problem))
        .ok()?;
    let mut all = Some(Vec::new());
    for file in files {
        match policy_file(&file) {
            Ok(found) if found.policy.id.is_empty() => {
                report.push(Problem::warning(
                    file,
                    "a policy without `id`, and not used",
                ));
            }
            Ok(found) => {
                all = all.map(|mut all| {
                    all.push(found);
                    all
                })
            }
            Err(problem) => {
                report.push(problem);
                all = None;
            }
        }
    }
    all
}

fn policy_file(file: &Path) -> Result<Found, Problem> {
    let document = Document::read(file)?;
    let policy = Policy::from_json(document.text())
        .map_err(|err| document.place(unreadable(&err, &JsonPath::root())))?;
    Ok(Found {
        document: Arc::new(document),
        place: JsonPath::root(),
        policy,
    })
}

/// All policies in one file, by id.
fn record_file(file: &Path, report: &mut Report) -> Option<Vec<Found>> {
    let read = document::read_text(file).and_then(|text| Document::parse(&as_json(file), text));
    let document = read
        .map_err(|problem| report.push(at_file(problem, file)))
        .ok()?;
    match PolicySet::from_record_file(document.text().as_bytes()) {
        Ok((policies, duplicates)) => {
            report.extend(
                duplicates
                    .iter()
                    .map(|duplicate| duplicated(file, duplicate)),
            );
            let document = Arc::new(document);
            let mut policies: Vec<_> = policies.iter().cloned().collect();
            policies.sort_by(|one, other| (&one.id, &one.org_id).cmp(&(&other.id, &other.org_id)));
            let found = policies.into_iter().map(|policy| Found {
                document: Arc::clone(&document),
                place: JsonPath::root().key(policy.id.as_str()),
                policy,
            });
            Some(found.collect())
        }
        Err(err) => {
            let problem = document.place(unusable(&err));
            report.push(at_file(problem, file));
            None
        }
    }
}

/// Policies are JSON, whatever their file is called.
fn as_json(file: &Path) -> PathBuf {
    file.with_extension("json")
}

fn at_file(mut problem: Problem, file: &Path) -> Problem {
    problem.file = file.to_owned();
    problem
}

fn unusable(err: &PolicyLoadError) -> Problem {
    match err {
        PolicyLoadError::Policy { policy, source } => {
            unreadable(source, &JsonPath::root().key(policy))
        }
        PolicyLoadError::File(source) => unreadable(source, &JsonPath::root()),
        other => Problem::error("", other.to_string()),
    }
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
    let known = known_members();
    for name in policy.unknown.keys() {
        if let Some(meant) = nearest(name, known.iter().map(String::as_str)) {
            let problem = Problem::warning("", "unknown, and not read").at(place.key(name));
            problems.push(problem.help(format!("did you mean `{meant}`?")));
        }
    }
    problems
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
    fn a_wrong_type_is_told_in_words() {
        let wrong = |json: &str| in_words(Policy::from_json(json).unwrap_err().message());
        assert_eq!(wrong(r#"{"rate": "1"}"#), "found a text, expected a number");
        assert_eq!(
            wrong(r#"{"quota_max": 1.5}"#),
            "found floating point `1.5`, expected a whole number"
        );
    }
}
