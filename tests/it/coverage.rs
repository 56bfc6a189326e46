//! Which attack is covered by which test: `docs/attacks.md` is made from the tests, and this test fails
//! when it is not what they say. `UPDATE_DOCS=1 cargo test -p tollgate-tests --test it coverage` writes
//! it anew.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The attacks, by number: what is tried, and the part of Tollgate that a test waits for where there is
/// none yet.
const ATTACKS: &[(u8, &str, Option<&str>)] = &[
    (1, "a token in two places", None),
    (2, "two tokens in one place", None),
    (3, "odd spellings of `Bearer`", None),
    (4, "tokens of odd bytes or length", None),
    (5, "escapes and pluses in a query", None),
    (6, "two cookies of one name", None),
    (7, "a hash presented as the token", None),
    (8, "the prefix of another organisation", None),
    (9, "an altered JSON token", None),
    (10, "a token that starts another", None),
    (11, "collisions of murmur hashes", None),
    (12, "characters of patterns in a token", None),
    (13, "guessing by time", None),
    (14, "a key asked for before it is made", None),
    (15, "expiry at its edges, and clocks set back", None),
    (16, "a key switched off while it is cached", None),
    (17, "a revoked key while the store is away", None),
    (18, "rotation under load", None),
    (19, "a key deleted and made again", None),
    (20, "a policy that is gone under a live key", None),
    (21, "a key whose policies grant nothing", None),
    (22, "paths that are not clean", None),
    (23, "paths that hide something in escapes", None),
    (24, "other forms of a request target", None),
    (25, "a query that looks like a path", None),
    (26, "patterns without anchors", None),
    (27, "patterns that do not compile", None),
    (28, "patterns of great size or backtracking", None),
    (29, "methods in other spellings, overriding headers", None),
    (30, "versions that disagree", None),
    (31, "empty and missing path lists", None),
    (32, "a way to another API", None),
    (33, "upgrades and streams", None),
    (34, "headers that the stack sets, sent by the client", None),
    (35, "`Connection` naming headers of ours", None),
    (36, "forged addresses", None),
    (37, "line breaks in header values", None),
    (38, "headers that frame the message", None),
    (39, "the credential still there upstream", None),
    (40, "headers without end", None),
    (41, "values that look like variables", None),
    (42, "names that start another", None),
    (
        43,
        "templates that go on for ever, grow, or look around",
        None,
    ),
    (44, "documents that are bombs", None),
    (45, "bodies that are not what they say", None),
    (46, "a transform that fails", None),
    (47, "values that write more than a value", None),
    (49, "many connections at once", None),
    (50, "a burst at a window's edge", None),
    (51, "many nodes and the last unit", None),
    (52, "clocks that jump, calendars", None),
    (53, "odd numbers for limits", None),
    (54, "varying what names a counter", None),
    (55, "keys without end", None),
    (56, "what is charged and what is not", None),
    (57, "a remote store flushed, failed over, slow", None),
    (58, "policies changed under load", None),
    (59, "a cost that the client names", None),
    (67, "framing that is read in two ways", None),
    (68, "an early answer before a large body", None),
    (69, "bytes behind an upgrade", None),
    (70, "expectations, resets, continuations, slow ends", None),
    (71, "the control API without its secret", None),
    (72, "a key that is given what is another's", None),
    (74, "secrets in logs, metrics and answers", None),
    (75, "an import of what is no record", None),
    (
        76,
        "a reload of files that are broken, half written, or elsewhere",
        None,
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// The tests by the number in their names.
fn tests() -> BTreeMap<u8, Vec<String>> {
    let mut files = Vec::new();
    for folder in ["crates", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let mut tests: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("text");
        let place = file
            .strip_prefix(root())
            .expect("below the root")
            .display()
            .to_string();
        for line in text
            .lines()
            .filter_map(|line| line.split("fn attack_").nth(1))
        {
            let Some((number, _)) = line.split_once('_') else {
                continue; // This very file.
            };
            let name = line.split('(').next().unwrap_or(line);
            let (Ok(number), true) = (number.parse(), line.contains('(')) else {
                continue;
            };
            tests
                .entry(number)
                .or_default()
                .push(format!("`{place}` `attack_{name}`"));
        }
    }
    tests
}

fn page() -> String {
    let tests = tests();
    let mut page = String::from(
        "# Attacks, and the tests that try them\n\nMade from the tests; see `tests/it/coverage.rs`. Numbers that are missing here\n\
         belong to parts that do not exist yet (scripts, JWT).\n\n\
         | # | attack | tests |\n|---:|---|---|\n",
    );
    for (number, subject, waits) in ATTACKS {
        let found = tests.get(number).map(|tests| tests.join("<br>"));
        let covered = match (found, waits) {
            (Some(tests), _) => tests,
            (None, Some(part)) => format!("waits for: {part}"),
            (None, None) => panic!("attack {number} ({subject}) has no test"),
        };
        writeln!(page, "| {number} | {subject} | {covered} |").expect("a string");
    }
    page
}

#[test]
fn the_list_of_attacks_is_what_the_tests_say() {
    let path = root().join("docs/attacks.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).expect("written");
    }
    let written = fs::read_to_string(&path).expect("docs/attacks.md");
    assert!(
        written == page,
        "docs/attacks.md is old: run with UPDATE_DOCS=1"
    );
}
