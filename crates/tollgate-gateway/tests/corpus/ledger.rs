//! What came of the cases: counts for each file, and what fails the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, mem,
};

use crate::{
    case::{AREAS, Case, folder},
    gateway::Store,
    needs::Need,
    play::Played,
};

/// Of the cases that count, this many of a hundred pass in each file.
const OF_EACH_FILE: f64 = 90.0;
const FAILURES: usize = 0;

/// How many of a hundred pass in all together. On Redis more is seen of what is knowingly otherwise: nothing is
/// written for refused requests.
fn of_all(store: Store) -> f64 {
    match store {
        Store::Embedded => 97.0,
        Store::Redis => 95.0,
    }
}

/// What came of one case.
pub(crate) enum Verdict {
    Equal,
    /// What differs, a line for each place.
    Differs(Vec<String>),
    /// What is not built.
    Pending(Vec<Need>),
}

impl Verdict {
    pub(crate) fn of(played: Played) -> Self {
        match played.differences.is_empty() {
            true => Self::Equal,
            false => Self::Differs(played.differences),
        }
    }
}

#[derive(Default)]
struct Counts {
    passing: usize,
    differing: usize,
    failing: usize,
    pending: usize,
    marked_same: usize,
    marked_differ: usize,
}

impl Counts {
    fn built(&self) -> usize {
        self.passing + self.differing + self.failing
    }

    fn add(&mut self, other: &Self) {
        self.passing += other.passing;
        self.differing += other.differing;
        self.failing += other.failing;
        self.pending += other.pending;
        self.marked_same += other.marked_same;
        self.marked_differ += other.marked_differ;
    }

    #[expect(clippy::cast_precision_loss, reason = "there are a few thousand cases")]
    fn percent(&self) -> f64 {
        match self.built() {
            0 => 100.0,
            built => 100.0 * self.passing as f64 / built as f64,
        }
    }
}

/// The counts, and the reasons of `differences.toml`.
pub(crate) struct Ledger {
    store: Store,
    reasons: BTreeMap<String, String>,
    unused: BTreeSet<String>,
    counts: BTreeMap<String, Counts>,
    needs: BTreeMap<Need, usize>,
    problems: Vec<String>,
    failures: Vec<String>,
}

impl Ledger {
    pub(crate) fn read(store: Store) -> Self {
        let reasons = reasons(store);
        Self {
            store,
            unused: reasons.keys().cloned().collect(),
            reasons,
            counts: BTreeMap::new(),
            needs: BTreeMap::new(),
            problems: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn count(&mut self, case: &Case, verdict: Verdict) {
        let counts = self.counts.entry(case.area.clone()).or_default();
        let is_reasoned = self.reasons.contains_key(&case.name);
        self.unused.remove(&case.name);
        let mut problem = |what: &str| self.problems.push(format!("{}: {what}", case.name));
        match verdict {
            _ if case.is_marked() && is_reasoned => {
                problem("is marked, and needs no reason in differences.toml");
            }
            Verdict::Pending(needs) => {
                counts.pending += 1;
                for need in needs {
                    *self.needs.entry(need).or_default() += 1;
                }
            }
            Verdict::Equal if case.is_marked() => counts.marked_same += 1,
            Verdict::Differs(_) if case.is_marked() => counts.marked_differ += 1,
            Verdict::Equal => {
                counts.passing += 1;
                if is_reasoned {
                    problem("passes: strike it from differences.toml");
                }
            }
            Verdict::Differs(_) if is_reasoned => counts.differing += 1,
            Verdict::Differs(lines) => {
                counts.failing += 1;
                let lines = lines.join("\n  ");
                self.failures
                    .push(format!("{}: {}\n  {lines}", case.name, case.why));
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "the counts are what one runs this for")]
    pub(crate) fn report(&self) {
        println!(
            "{:<18}{:>7}{:>9}{:>11}{:>9}{:>9}{:>9}   {:>6}{:>8}",
            format!("on {:?}", self.store),
            "built",
            "passing",
            "differing",
            "failing",
            "pending",
            "%",
            "same",
            "differs"
        );
        for area in AREAS {
            println!("{}", row(area, &self.counts[area]));
        }
        println!(
            "{}   (the last two: cases that are marked)",
            row("all", &self.total())
        );
        let needs: Vec<_> = self
            .needs
            .iter()
            .map(|(need, cases)| format!("{need:?} {cases}"))
            .collect();
        println!("pending for: {}", needs.join(", "));
        for failure in &self.failures {
            println!("\n{failure}");
        }
    }

    /// Fails the run where too little passes, or something is not explained.
    pub(crate) fn judge(mut self) {
        let unused = mem::take(&mut self.unused);
        self.problems.extend(
            unused
                .iter()
                .map(|name| format!("{name}: differences.toml names no case of that name")),
        );
        let short = |name: &str, counts: &Counts, wanted: f64| {
            let percent = counts.percent();
            (percent < wanted).then(|| format!("{name}: {percent:.1} % pass, expected {wanted}"))
        };
        let files = self
            .counts
            .iter()
            .filter_map(|(area, counts)| short(area, counts, OF_EACH_FILE));
        let of_all = of_all(self.store);
        let mut problems: Vec<_> = files.chain(short("all", &self.total(), of_all)).collect();
        problems.append(&mut self.problems);
        let failures = self.failures.len();
        if failures > FAILURES {
            problems.push(format!(
                "{failures} cases fail, expected {FAILURES} at most"
            ));
        }
        assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    }

    fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.counts.values().for_each(|counts| total.add(counts));
        total
    }
}

fn row(name: &str, counts: &Counts) -> String {
    let Counts {
        passing,
        differing,
        failing,
        pending,
        marked_same,
        marked_differ,
    } = counts;
    format!(
        "{name:<18}{:>7}{passing:>9}{differing:>11}{failing:>9}{pending:>9}{:>9.1}   {marked_same:>6}{marked_differ:>8}",
        counts.built(),
        counts.percent(),
    )
}

/// Why we answer otherwise on a store, by the name of the case.
pub(crate) fn reasons(store: Store) -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct File {
        differences: BTreeMap<String, String>,
        on_redis: BTreeMap<String, String>,
    }
    let text = fs::read_to_string(folder().join("differences.toml")).expect("is there");
    let mut file: File = toml::from_str(&text).expect("is a table of reasons");
    if store == Store::Redis {
        file.differences.append(&mut file.on_redis);
    }
    file.differences
}
