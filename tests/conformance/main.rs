//! Plays what of the conformance corpus needs stacks and headers, but no server.
//!
//! A case is played in process: its keys go into a store, each of its requests through a stack made of
//! its API's definition, and what the client and the upstream get is compared with what was recorded.
//! Policies, rights and path patterns are played by the core's own tests.
//!
//! - A case marked `defect` or `newer` has its right answer in `corrections.json`, by the number of the
//!   step; where nothing is to be corrected, `as_recorded` says why. One without a line fails.
//! - Where we differ on purpose from any other, `in_process.toml` says so and why.
//! - What needs a gateway is counted, with what it needs.
//!
//! Headers that tell where limits stand are left out: those are recorded for limits, elsewhere.

mod compare;
mod headers;
mod records;
mod stack;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::Value;

use crate::world::World;

/// What came of one step.
enum Outcome {
    Equal,
    Differs(String),
    /// What only a gateway has.
    Needs(&'static str),
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

fn read_json(name: &str) -> Value {
    let path = folder().join(name);
    let text = fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    serde_json::from_slice(&text).expect("is JSON")
}

fn differences() -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct File {
        differences: BTreeMap<String, String>,
    }
    let text = fs::read_to_string(folder().join("in_process.toml")).expect("is there");
    let file: File = toml::from_str(&text).expect("is a table of reasons");
    file.differences
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[derive(Default)]
struct Counts {
    equal: usize,
    corrected: usize,
    differ_knowingly: usize,
    needs: BTreeMap<&'static str, usize>,
    steps: usize,
    steps_played: usize,
}

/// What is compared with: the lines that are used are taken out.
struct Ledger {
    corrections: Value,
    differences: BTreeMap<String, String>,
    unused: BTreeSet<String>,
    unexplained: Vec<String>,
}

impl Ledger {
    fn read() -> Self {
        let corrections = read_json("corrections.json");
        let names = corrections.as_object().expect("has cases").keys();
        Self {
            unused: names.cloned().collect(),
            corrections,
            differences: differences(),
            unexplained: Vec::new(),
        }
    }

    fn count(&mut self, case: &Value, outcomes: &[Outcome], counts: &mut Counts) {
        let name = text(&case["name"]);
        let correction = &self.corrections[name];
        self.unused.remove(name);
        counts.steps += outcomes.len();
        let played = |outcome: &&Outcome| !matches!(outcome, Outcome::Needs(_));
        let steps_played = outcomes.iter().filter(played).count();
        counts.steps_played += steps_played;
        let differing: Vec<_> = outcomes.iter().enumerate().filter_map(differing).collect();
        let knowingly = self.differences.contains_key(name);
        let is_marked = case["defect"].is_string() || case["newer"].is_string();

        if let (0, Some(Outcome::Needs(what))) = (steps_played, outcomes.last()) {
            *counts.needs.entry(what).or_default() += 1;
        } else if !differing.is_empty() && knowingly {
            counts.differ_knowingly += 1;
        } else if !differing.is_empty() {
            let lines = differing.iter().map(|line| format!("{name}, {line}"));
            self.unexplained.extend(lines);
        } else if knowingly {
            self.unexplained.push(format!("{name}: no longer differs"));
        } else if is_marked && correction.is_null() {
            let line = format!("{name}: as recorded, and no line of corrections.json says why");
            self.unexplained.push(line);
        } else if correction.is_null() || correction["as_recorded"].is_string() {
            counts.equal += 1;
        } else {
            counts.corrected += 1;
        }
    }
}

fn differing((index, outcome): (usize, &Outcome)) -> Option<String> {
    match outcome {
        Outcome::Differs(how) => Some(format!("step {index}: {how}")),
        _ => None,
    }
}

#[tokio::test]
async fn the_corpus_is_answered_as_recorded() {
    let mut ledger = Ledger::read();
    for area in ["session_tokens", "meta_headers", "context_vars"] {
        let cases = read_json(&format!("cases/{area}.json"));
        let mut counts = Counts::default();
        for case in cases.as_array().expect("is a list") {
            let correction = ledger.corrections[text(&case["name"])].clone();
            let outcomes = World::new(case).play(&correction).await;
            ledger.count(case, &outcomes, &mut counts);
        }
        report(area, &counts);
    }
    let Ledger {
        unexplained,
        unused,
        ..
    } = ledger;
    assert!(unexplained.is_empty(), "\n{}", unexplained.join("\n"));
    assert!(unused.is_empty(), "corrections of no case: {unused:?}");
}

#[expect(clippy::print_stdout, reason = "the counts are what one runs this for")]
fn report(area: &str, counts: &Counts) {
    let Counts {
        equal,
        corrected,
        differ_knowingly,
        needs,
        steps,
        steps_played,
    } = counts;
    let needing: usize = needs.values().sum();
    println!(
        "{area:<16} {equal:>4} equal {corrected:>3} corrected {differ_knowingly:>3} differ knowingly \
         {needing:>3} need a gateway; {steps_played} of {steps} steps played"
    );
    for (what, cases) in needs {
        println!("{:<16} {cases:>4} for {what}", "");
    }
}

#[test]
fn what_differs_knowingly_is_told_to_readers() {
    let page = folder().join("../../docs/compatibility.md");
    let page = fs::read_to_string(page).expect("is there");
    let is_missing = |name: &&String| !page.contains(&format!("`{name}`"));
    let differences = differences();
    let untold: Vec<_> = differences.keys().filter(is_missing).collect();
    assert!(untold.is_empty(), "docs/compatibility.md lacks {untold:?}");
}
