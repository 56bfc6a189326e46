//! Plays what of the conformance corpus needs no gateway: merged sessions, rights, patterns.
//!
//! The data lies in `tests/conformance` at the root of the workspace. A case that its `defect` or
//! `newer` text answers otherwise than recorded has its right answer in `fixtures/corrections.json`;
//! where we differ on purpose from any other, `in_process.toml` says so and why.

#[path = "corpus/patterns.rs"]
mod patterns;
#[path = "corpus/requests.rs"]
mod requests;
#[path = "corpus/sessions.rs"]
mod sessions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::Value;
use tollgate_core::{
    access::PathOptions,
    policy::{Policy, PolicySet, Unusable},
};

/// What came of one step.
enum Outcome {
    Equal,
    Differs(String),
    NeedsGateway,
}

impl Outcome {
    fn compare<T: PartialEq + std::fmt::Debug>(ours: &T, theirs: &T) -> Self {
        if ours == theirs {
            Self::Equal
        } else {
            Self::Differs(format!("ours {ours:?}, expected {theirs:?}"))
        }
    }
}

/// A case, with what every step needs of it.
struct Case<'a> {
    json: &'a Value,
    policies: PolicySet,
    options: PathOptions,
    corrections: &'a Value,
}

impl<'a> Case<'a> {
    fn new(json: &'a Value, corrections: &'a Value) -> Self {
        let server = &json["config"]["http_server_options"];
        let is_on = |option: &Value| option.as_bool().unwrap_or(false);
        Self {
            json,
            policies: policies(json),
            options: PathOptions {
                prefix: is_on(&server["enable_path_prefix_matching"]),
                suffix: is_on(&server["enable_path_suffix_matching"]),
                ignore_case: is_on(&json["config"]["ignore_endpoint_case"]),
            },
            corrections: &corrections[text(&json["name"])],
        }
    }

    fn apis(&self) -> impl Iterator<Item = &'a Value> {
        self.json["apis"].as_array().into_iter().flatten()
    }

    fn has_corrected_steps(&self) -> bool {
        let mut names = self
            .corrections
            .as_object()
            .into_iter()
            .flat_map(|all| all.keys());
        names.any(|name| name.parse::<usize>().is_ok())
    }

    /// The steps' outcomes. Behind a step that changes something only a gateway knows the state.
    fn play(&self) -> Vec<Outcome> {
        let mut is_fresh = true;
        let steps = self.json["steps"].as_array().expect("is a list");
        let play = |(index, step): (usize, &Value)| {
            let correction = &self.corrections[index.to_string()];
            let outcome = match (&step["admin"], &step["request"]) {
                (Value::Object(_), _) => sessions::play(self, step, correction, is_fresh),
                (_, Value::Object(_)) if is_fresh => {
                    let outcome = requests::play(self, step, correction);
                    outcome.unwrap_or_else(|| patterns::play(self, step, correction))
                }
                _ => Outcome::NeedsGateway,
            };
            let admin = &step["admin"];
            is_fresh &= step["request"].is_object()
                || admin["method"] == "GET"
                || text(&admin["path"]).ends_with("/preview")
                || step["expect"]["status"].as_u64() >= Some(400);
            outcome
        };
        steps.iter().enumerate().map(play).collect()
    }
}

/// The policies of a case, from its record file or from a folder.
fn policies(case: &Value) -> PolicySet {
    let path = text(&case["config"]["policies"]["policy_path"]);
    if let Some(folder) = path.strip_prefix("${FILES}/") {
        let files = case["files"].as_object().into_iter().flatten();
        let files = files.filter(|(name, _)| name.starts_with(folder));
        return files
            .filter_map(|(_, file)| Policy::from_json(text(file)).ok())
            .collect();
    }
    match &case["policies"] {
        Value::Object(policies) => {
            let text = serde_json::to_vec(policies).expect("is JSON");
            let (mut read, mut unusable) = (Vec::new(), Unusable::default());
            for (id, policy) in PolicySet::each_of_record_file(&text).expect("is read") {
                match policy {
                    Ok(policy) => read.push(policy),
                    Err(_) => drop(unusable.ids.insert(id)),
                }
            }
            PolicySet::from_iter(read).with_unusable(unusable)
        }
        _ => PolicySet::default(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn conformance() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance")
}

fn read_json(path: PathBuf) -> Value {
    let text = fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    serde_json::from_slice(&text).expect("is JSON")
}

/// Lines `case-name = "why"`.
fn differences() -> BTreeMap<String, String> {
    let text = fs::read_to_string(conformance().join("in_process.toml")).expect("is there");
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    lines
        .map(|(name, why)| (name.to_owned(), why.trim_matches('"').to_owned()))
        .collect()
}

#[derive(Debug, Default)]
struct Counts {
    equal: usize,
    corrected: usize,
    differ_knowingly: usize,
    needs_gateway: usize,
    unexplained: Vec<String>,
}

#[test]
fn the_corpus_is_answered_as_recorded() {
    let corrections = read_json(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corrections.json"),
    );
    let differences = differences();
    let mut unused = BTreeSet::new(); // Of the cases here: others play the rest of the corpus.
    let mut unexplained = Vec::new();
    for area in ["policies", "access_rights", "path_matching"] {
        let cases = read_json(conformance().join(format!("cases/{area}.json")));
        let mut counts = Counts::default();
        for json in cases.as_array().expect("is a list") {
            let case = Case::new(json, &corrections);
            unused.extend(
                differences
                    .get_key_value(text(&json["name"]))
                    .map(|(name, _)| name.clone()),
            );
            count(&case, &differences, &mut unused, &mut counts);
        }
        report(area, &counts);
        unexplained.append(&mut counts.unexplained);
    }
    assert!(unexplained.is_empty(), "\n{}", unexplained.join("\n"));
    assert!(unused.is_empty(), "no longer differ: {unused:?}");
}

fn count(
    case: &Case<'_>,
    differences: &BTreeMap<String, String>,
    unused: &mut BTreeSet<String>,
    counts: &mut Counts,
) {
    let name = text(&case.json["name"]);
    let outcomes = case.play();
    let differing: Vec<_> = outcomes
        .iter()
        .enumerate()
        .filter_map(|(index, outcome)| match outcome {
            Outcome::Differs(how) => Some(format!("{name}, step {index}: {how}")),
            _ => None,
        })
        .collect();
    if !differing.is_empty() {
        if differences.contains_key(name) {
            unused.remove(name);
            counts.differ_knowingly += 1;
        } else {
            counts.unexplained.extend(differing);
        }
    } else if outcomes
        .iter()
        .all(|outcome| matches!(outcome, Outcome::NeedsGateway))
    {
        counts.needs_gateway += 1;
    } else if !case.has_corrected_steps() {
        counts.equal += 1;
    } else {
        counts.corrected += 1;
    }
}

#[expect(clippy::print_stdout, reason = "the counts are what one runs this for")]
fn report(area: &str, counts: &Counts) {
    let Counts {
        equal,
        corrected,
        differ_knowingly,
        needs_gateway,
        unexplained,
    } = counts;
    let played = equal + corrected + differ_knowingly + unexplained.len();
    println!(
        "{area}: {played} played: {equal} equal, {corrected} as their defect or newer text says, \
         {differ_knowingly} differ knowingly, {} unexplained; {needs_gateway} need a gateway",
        unexplained.len()
    );
}
