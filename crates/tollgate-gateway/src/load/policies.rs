//! Policies from files: one file of all, or a folder with one in each.

use std::path::Path;

use tollgate_core::policy::{Duplicate, Policy, PolicyLoadError, PolicySet};

use super::json_files;
use crate::{
    config::Config,
    document::{self, Document},
    problem::{JsonPath, Position, Problem, Report},
    suggest::nearest,
};

/// Members of a policy that core does not write where they are empty.
const WRITTEN_WHERE_SET: &[&str] = &[
    "_id",
    "post_expiry_action",
    "post_expiry_grace_period",
    "smoothing",
];

/// The policies that the configuration names; `None` where they can not be used.
pub(super) fn load(config: &Config, report: &mut Report) -> Option<PolicySet> {
    let source = &config.policies;
    let before = report.problems.len();
    let policies = if !source.policy_path.is_empty() {
        folder(Path::new(&source.policy_path), report)
    } else if !source.policy_record_name.is_empty() {
        record_file(Path::new(&source.policy_record_name), report)
    } else {
        Vec::new()
    };
    for (file, policy) in &policies {
        check(file, policy, config, report);
    }
    let mut errors = report.problems[before..].iter();
    if errors.any(|problem| problem.severity == crate::problem::Severity::Error) {
        return None;
    }
    let last_file = policies.last().map(|(file, _)| file.clone());
    let (set, duplicates) =
        PolicySet::from_policies(policies.into_iter().map(|(_, policy)| policy));
    let place = last_file.unwrap_or_default();
    report.extend(
        duplicates
            .iter()
            .map(|duplicate| duplicated(&place, duplicate)),
    );
    Some(set)
}

fn duplicated(file: &Path, duplicate: &Duplicate) -> Problem {
    Problem::warning(file, format!("{duplicate}; the last one counts"))
}

type Found = Vec<(std::path::PathBuf, Policy)>;

/// One policy in each file.
fn folder(folder: &Path, report: &mut Report) -> Found {
    let files = match json_files(folder) {
        Ok(files) => files,
        Err(problem) => {
            report.push(problem);
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for file in files {
        match policy_file(&file) {
            Ok(policy) if policy.id.is_empty() => {
                report.push(Problem::warning(
                    file,
                    "a policy without `id`, and not used",
                ));
            }
            Ok(policy) => found.push((file, policy)),
            Err(problem) => report.push(problem),
        }
    }
    found
}

fn policy_file(file: &Path) -> Result<Policy, Problem> {
    let text = document::read_text(file)?;
    Policy::from_json(&text).map_err(|err| {
        let mut problem = Problem::error(file, err.message()).at(err.path().into());
        let (line, column) = err.position();
        problem.position = (line > 0).then_some(Position { line, column });
        problem
    })
}

/// All policies in one file, by id.
fn record_file(file: &Path, report: &mut Report) -> Found {
    let read = document::read_text(file).and_then(|text| {
        PolicySet::from_record_file(text.as_bytes()).map_err(|err| unusable(file, text, &err))
    });
    match read {
        Ok((policies, duplicates)) => {
            report.extend(
                duplicates
                    .iter()
                    .map(|duplicate| duplicated(file, duplicate)),
            );
            let mut found: Vec<_> = policies.iter().cloned().collect();
            found.sort_by(|one, other| one.id.cmp(&other.id));
            found
                .into_iter()
                .map(|policy| (file.to_owned(), policy))
                .collect()
        }
        Err(problem) => {
            report.push(problem);
            Vec::new()
        }
    }
}

fn unusable(file: &Path, text: String, err: &PolicyLoadError) -> Problem {
    let (path, message) = match err {
        PolicyLoadError::Policy { policy, source } => {
            let mut path = JsonPath::root().key(policy);
            for step in JsonPath::from(source.path()).steps() {
                path = match step {
                    crate::problem::Step::Key(key) => path.key(key),
                    crate::problem::Step::Index(index) => path.index(*index),
                };
            }
            (path, source.message().to_owned())
        }
        PolicyLoadError::File(source) => (source.path().into(), source.message().to_owned()),
        other => (JsonPath::root(), other.to_string()),
    };
    let problem = Problem::error(file, message).at(path);
    match Document::parse(file, text) {
        Ok(document) => document.place(problem),
        Err(problem) => problem,
    }
}

/// What of a policy can not be followed, and what it says that nobody reads.
fn check(file: &Path, policy: &Policy, config: &Config, report: &mut Report) {
    let root = JsonPath::root().key(policy.id.as_str());
    for problem in policy.check(config.path_options()) {
        let message = format!(
            "pattern {:?} of {} can not be used, and lets nobody in: {}",
            problem.pattern(),
            problem.place(),
            problem.reason().lines().last().unwrap_or_default().trim(),
        );
        report.push(Problem::warning(file, message).at(root.clone()));
    }
    let known = known_members();
    for name in policy.unknown.keys() {
        let names = known.iter().map(String::as_str);
        if let Some(meant) = nearest(name, names) {
            let problem = Problem::warning(file, "unknown, and not read").at(root.key(name));
            report.push(problem.help(format!("did you mean `{meant}`?")));
        }
    }
}

fn known_members() -> Vec<String> {
    let written = serde_json::to_value(Policy::default()).unwrap_or_default();
    let written = written.as_object().into_iter().flatten();
    let written = written.map(|(name, _)| name.clone());
    written
        .chain(WRITTEN_WHERE_SET.iter().map(|name| (*name).to_owned()))
        .collect()
}
