//! Who may import whom. The table is the law; `docs/ARCHITECTURE.md` says why.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

/// What a crate of ours may import of ours. A crate that is not here has no place yet.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("tollgate-core", &[]),
    ("tollgate-template", &[]),
    ("tollgate", &["tollgate-core", "tollgate-template"]),
    ("tollgate-identity", &["tollgate-core"]),
    ("tollgate-embedded", &["tollgate-core"]),
    ("tollgate-redis", &["tollgate-core"]),
    ("tollgate-js", &["tollgate-core"]),
    ("tollgate-grpc", &["tollgate-core"]),
    ("tollgate-admin", &["tollgate-core"]),
];

/// Runtimes, servers, clients and frameworks, and who may not have them; optional ones aside.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "tollgate-core",
        &[
            "tokio",
            "hyper",
            "hyper-util",
            "tower",
            "tower-service",
            "tower-layer",
            "axum",
            "redis",
        ],
    ),
    (
        "tollgate",
        &[
            "hyper",
            "hyper-util",
            "axum",
            "tokio",
            "redis",
            "tonic",
            "reqwest",
        ],
    ),
];

struct Arrow {
    from: String,
    to: String,
    optional: bool,
}

/// Every normal dependency of every crate of the workspace.
fn arrows() -> Vec<Arrow> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output();
    let metadata: Value = serde_json::from_slice(&metadata.unwrap().stdout).unwrap();
    let mut arrows = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"].is_null() {
                arrows.push(Arrow {
                    from: package["name"].as_str().unwrap().into(),
                    to: dependency["name"].as_str().unwrap().into(),
                    optional: dependency["optional"] == true,
                });
            }
        }
    }
    arrows
}

fn is_free(package: &str) -> bool {
    ["tollgate-bench", "tollgate-tests", "tollgate-gateway"].contains(&package)
        || !package.starts_with("tollgate")
}

#[test]
fn no_arrow_is_drawn_that_is_not_in_the_table() {
    let arrows = arrows();
    assert!(
        arrows
            .iter()
            .any(|arrow| arrow.from == "tollgate" && arrow.to == "tollgate-core")
    );
    for Arrow { from, to, .. } in &arrows {
        if is_free(from) || !to.starts_with("tollgate") {
            continue;
        }
        let row = MAY_IMPORT.iter().find(|(name, _)| name == from);
        let (_, allowed) =
            row.unwrap_or_else(|| panic!("{from} is not in the table: where does it belong?"));
        assert!(allowed.contains(&&**to), "{from} may not import {to}");
    }
}

#[test]
fn no_crate_has_what_its_users_should_choose() {
    for Arrow { from, to, optional } in arrows() {
        let row = FOREIGN.iter().find(|(name, _)| *name == from);
        let forbidden = row.is_some_and(|(_, names)| names.contains(&&*to));
        assert!(!forbidden || optional, "{from} may not depend on {to}");
    }
}

/// Lines of a source file before its tests.
fn code(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).map(str::to_owned).collect()
}

fn sources(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

#[track_caller]
fn check(package: &str, forbidden: &[&str], except: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates")
        .join(package)
        .join("src");
    let files = sources(&folder);
    assert!(files.len() > 5, "{package} has sources");
    for file in files {
        if except.iter().any(|name| file.ends_with(name)) {
            continue;
        }
        for (number, line) in code(&file).iter().enumerate() {
            for word in forbidden {
                assert!(
                    !line.contains(word),
                    "{}: {word} in code line {number}: {line}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn core_asks_nothing_of_the_machine_but_in_its_clock() {
    let machine = [
        "SystemTime",
        "Instant::now",
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "thread::spawn",
    ];
    check("tollgate-core", &machine, &["clock.rs", "conformance.rs"]);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    for package in [
        "tollgate-core",
        "tollgate",
        "tollgate-admin",
        "tollgate-embedded",
        "tollgate-gateway",
        "tollgate-redis",
    ] {
        check(
            package,
            &[".unwrap()", "todo!", "unimplemented!", "println!", "dbg!"],
            &["failing.rs", "quickstart.rs", "tests.rs"], // Tests, all of it; what a user reads.
        );
    }
}
