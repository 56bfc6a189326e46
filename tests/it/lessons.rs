//! `docs/lessons.md` names tests and files: all of them exist.

use std::{fs, path::Path};

/// The sorts of rows: lessons to copy and to avoid, how to put layers together, wishes, what is new.
const SECTIONS: [(&str, usize); 5] = [("C", 20), ("A", 18), ("P", 4), ("U", 36), ("N", 15)];

struct Row {
    number: String,
    standing: String,
    shown_by: String,
}

fn read(path: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).ok()
}

fn rows() -> Vec<Row> {
    let page = read("docs/lessons.md").expect("the page");
    let lines = page.lines().filter(|line| line.starts_with("| "));
    let cells = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect());
    let rows = cells.filter(|cells: &Vec<_>| cells[0] != "#");
    rows.map(|cells| {
        let [number, _, standing, shown_by] = cells[..] else {
            panic!("a row of four cells: {cells:?}");
        };
        Row {
            number: number.to_owned(),
            standing: standing.to_owned(),
            shown_by: shown_by.to_owned(),
        }
    })
    .collect()
}

/// Whether this source has a test of this name: a function behind `#[test]`, `#[tokio::test(…)]` or the like.
fn has_test(source: &str, name: &str) -> bool {
    let start = format!("fn {name}(");
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let is_it = line.starts_with(&start) || line.starts_with(&format!("async {start}"));
        let above = lines[..at].iter().rev();
        let mut heads = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let is_test = |line: &&str| {
            let attribute = line.strip_prefix("#[").unwrap_or_default();
            let path = attribute.split(['(', ']']).next();
            path.is_some_and(|path| path.ends_with("test"))
        };
        is_it && heads.any(is_test)
    })
}

#[test]
fn every_lesson_has_a_row() {
    let rows = rows();
    let numbers: Vec<_> = rows.iter().map(|row| row.number.clone()).collect();
    let wanted = SECTIONS
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")));
    assert_eq!(numbers, wanted.collect::<Vec<_>>());
}

#[test]
fn what_is_kept_is_shown_and_all_that_is_named_exists() {
    for row in rows() {
        let known = ["kept", "waits for: ", "not done: "];
        assert!(
            known.iter().any(|word| row.standing.starts_with(word)),
            "{}: {}",
            row.number,
            row.standing
        );
        let mut source = None;
        let mut seen = 0;
        for name in row.shown_by.split('`').skip(1).step_by(2) {
            if name.contains('/') || name.contains('.') {
                let text = read(name);
                assert!(text.is_some(), "{}: there is no {name}", row.number);
                source = text;
            } else {
                let source = source.as_deref().unwrap_or_default();
                let exists = has_test(source, name);
                assert!(exists, "{}: there is no test {name}", row.number);
            }
            seen += 1;
        }
        let is_kept = row.standing.starts_with("kept");
        assert!(seen > 0 || !is_kept, "{}: what shows it?", row.number);
    }
}

#[test]
fn a_function_is_a_test_only_behind_an_attribute() {
    let source = "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test(flavor = \"x\")]\n// Why.\nasync fn three() {}";
    for (name, is_test) in [
        ("one", true),
        ("two", false),
        ("three", true),
        ("on", false),
    ] {
        assert_eq!(has_test(source, name), is_test, "{name}");
    }
}
