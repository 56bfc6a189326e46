//! The seeds of the fuzz targets, with every input that a target ever failed on: what must hold of
//! anything holds of them.

#![expect(clippy::unwrap_used, reason = "what fails here is a test")]

#[allow(
    missing_docs,
    unreachable_pub,
    reason = "for the fuzz targets it is a crate of its own"
)]
#[path = "../fuzz/src/lib.rs"]
mod properties;

use std::{collections::BTreeSet, fs, panic, path::Path};

use properties::TARGETS;

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz"))
}

/// Names of what lies in a folder, without endings.
fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(folder)).unwrap();
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| stem(&entry.unwrap().path())).collect()
}

#[track_caller]
fn check(name: &str) {
    let (_, property) = TARGETS.iter().find(|(target, _)| *target == name).unwrap();
    let mut failed = Vec::new();
    let mut count = 0;
    for seed in fs::read_dir(fuzz().join("seeds").join(name)).unwrap() {
        let path = seed.unwrap().path();
        let data = fs::read(&path).unwrap();
        count += 1;
        if panic::catch_unwind(|| property(&data)).is_err() {
            failed.push(path); // The panic's own message stands above.
        }
    }
    assert!(count > 0, "{name} has no seeds");
    assert_eq!(failed, Vec::<&Path>::new());
}

#[test]
fn sessions_hold() {
    check("session");
}

#[test]
fn policies_hold() {
    check("policies");
}

#[test]
fn tokens_hold() {
    check("tokens");
}

#[test]
fn texts_with_variables_hold() {
    check("variables");
}

#[test]
fn paths_and_patterns_hold() {
    check("paths");
}

#[test]
fn rewrites_hold() {
    check("rewrites");
}

#[test]
fn templates_hold() {
    check("templates");
}

#[test]
fn documents_of_xml_hold() {
    check("xml");
}

#[test]
fn every_target_has_a_program_and_seeds() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("seeds"), targets);
}
