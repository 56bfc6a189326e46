//! Who may import whom, and what core code may not touch.
//!
//! The rules are a table. A crate that has no line in it fails the test, so that whoever adds one says
//! where it stands.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

/// What a crate may depend on outside its tests.
struct Rule {
    /// A crate, or with a `*` at the end all that start so.
    name: &'static str,
    /// Crates of ours.
    ours: Ours,
    /// Crates of others that it never depends on, on any platform.
    never: &'static [&'static str],
    /// Crates that are there only with a feature.
    only_optional: &'static [&'static str],
}

enum Ours {
    Only(&'static [&'static str]),
    Any,
}

const fn rule(name: &'static str, ours: &'static [&'static str]) -> Rule {
    Rule {
        name,
        ours: Ours::Only(ours),
        never: &[],
        only_optional: &[],
    }
}

const fn free(name: &'static str) -> Rule {
    Rule {
        ours: Ours::Any,
        ..rule(name, &[])
    }
}

const CORE: &[&str] = &["tollgate-core"];

/// Runtimes, servers, clients, and whatever else opens a socket.
const NETWORK: &[&str] = &[
    "async-std",
    "axum-core",
    "h2",
    "hyper",
    "hyper-util",
    "mio",
    "quinn",
    "redis",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio-util",
    "tonic",
    "ureq",
    "warp",
];

/// What no core code depends on.
const CORE_NEVER: &[&str] = &[
    "async-std",
    "axum",
    "axum-core",
    "h2",
    "hyper",
    "hyper-util",
    "mio",
    "quinn",
    "redis",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tokio-util",
    "tonic",
    "tower",
    "tower-http",
    "tower-layer",
    "tower-service",
    "ureq",
    "warp",
];

const RULES: &[Rule] = &[
    Rule {
        never: CORE_NEVER,
        ..rule("tollgate-core", &[])
    },
    Rule {
        never: NETWORK,
        only_optional: &["axum", "tokio", "tollgate-template"],
        ..rule("tollgate", &["tollgate-core", "tollgate-template"])
    },
    rule("tollgate-template", &[]),
    rule("tollgate-identity", CORE),
    rule("tollgate-embedded", CORE),
    rule("tollgate-redis", CORE),
    rule("tollgate-js", CORE),
    rule("tollgate-grpc", CORE),
    rule("tollgate-admin", CORE),
    Rule {
        ours: Ours::Only(&[
            "tollgate",
            "tollgate-admin",
            "tollgate-core",
            "tollgate-embedded",
            "tollgate-grpc",
            "tollgate-identity",
            "tollgate-js",
            "tollgate-redis",
            "tollgate-template",
        ]),
        ..rule("tollgate-gateway", &[])
    },
    free("tollgate-bench"),
    free("tollgate-tests"),
    free("axum-app"),
    free("custom-gate"),
    free("custom-store"),
    free("hyper-gateway"),
    free("one-layer"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>, // `None` is a normal one.
    optional: bool,
    path: Option<PathBuf>, // Only of a crate in the workspace.
}

fn metadata() -> Metadata {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("cargo's own format")
}

/// The arrows of a crate that no line allows.
fn forbidden(package: &Package, rules: &[Rule]) -> Vec<String> {
    let name = &package.name;
    let Some(rule) = rules.iter().find(|rule| rule.name == name) else {
        return vec![format!("{name} has no line in the table of walls.rs")];
    };
    let is_built_in = |dependency: &&Dependency| dependency.kind.as_deref() != Some("dev");
    let mut forbidden = Vec::new();
    for dependency in package.dependencies.iter().filter(is_built_in) {
        let other = &*dependency.name;
        let may = match rule.ours {
            Ours::Only(ours) => dependency.path.is_none() || ours.contains(&other),
            Ours::Any => true,
        };
        if !may || rule.never.contains(&other) {
            forbidden.push(format!("{name} -> {other}"));
        }
        if rule.only_optional.contains(&other) && !dependency.optional {
            forbidden.push(format!("{name} -> {other}, without a feature"));
        }
    }
    forbidden
}

#[test]
fn no_arrow_is_drawn_that_the_design_does_not_have() {
    let metadata = metadata();
    let forbidden: Vec<_> = metadata
        .packages
        .iter()
        .flat_map(|package| forbidden(package, RULES))
        .collect();
    assert!(forbidden.is_empty(), "{forbidden:#?}");
}

/// The clock waits by tokio's timer, so that is a default; nothing else of a runtime is.
#[test]
fn a_user_without_axum_does_not_build_it() {
    let metadata = metadata();
    let tollgate = metadata
        .packages
        .iter()
        .find(|package| package.name == "tollgate");
    let features = &tollgate.expect("is there").features;
    assert_eq!(features["default"], ["tokio"]);
}

#[test]
fn the_table_finds_what_it_should() {
    #[track_caller]
    fn check(name: &str, dependency: &str, shape: (Option<&str>, bool, bool), wrong: bool) {
        let (kind, optional, ours) = shape;
        let package = Package {
            name: name.into(),
            features: BTreeMap::new(),
            dependencies: vec![Dependency {
                name: dependency.into(),
                kind: kind.map(Into::into),
                optional,
                path: ours.then(PathBuf::new),
            }],
        };
        assert_eq!(
            !forbidden(&package, RULES).is_empty(),
            wrong,
            "{name} -> {dependency}"
        );
    }
    let (normal, dev, optional, ours) = (
        (None, false, false),
        (Some("dev"), false, false),
        (None, true, false),
        (None, false, true),
    );
    check("tollgate-core", "tokio", normal, true);
    check("tollgate-core", "tokio", dev, false);
    check("tollgate-core", "tokio", optional, true);
    check(
        "tollgate-core",
        "tower-service",
        (Some("build"), false, false),
        true,
    );
    check("tollgate-core", "tollgate", ours, true);
    check("tollgate", "tokio", normal, true);
    check("tollgate", "tokio", optional, false);
    check("tollgate", "tollgate-redis", ours, true);
    check("tollgate", "hyper", optional, true);
    check("tollgate-redis", "tollgate-core", ours, false);
    check("tollgate-redis", "tollgate", ours, true);
    check("tollgate-redis", "tollgate-js", ours, true);
    check("tollgate-template", "tollgate-core", ours, true);
    check("tollgate-gateway", "tollgate-bench", ours, true);
    check("tollgate-unheard-of", "http", normal, true);
}

/// Rust files below a folder, with their texts.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).expect("is a folder") {
        let path = entry.expect("is read").path();
        if path.is_dir() {
            sources.append(&mut self::sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("is text");
            sources.push((path, text));
        }
    }
    sources
}

/// Numbered lines outside comments and outside what is built for tests alone.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut code = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let start = line.trim_start();
        if start.starts_with("#[cfg(test)]") {
            // The item is one line, or ends where something closes at the indent at which it began.
            let close = format!("{}}}", &line[..line.len() - start.len()]);
            let mut item = lines.by_ref().map(|(_, line)| line);
            let first = item.find(|line| !line.trim_start().starts_with("#["));
            if first.is_some_and(|line| !line.ends_with([';', '}'])) {
                item.find(|line| line.trim_end_matches(';') == close);
            }
        } else if !start.starts_with("//") {
            let before_comment = line.split("// ").next().unwrap_or_default();
            code.push((at + 1, before_comment));
        }
    }
    code
}

/// Places of code where one of `words` stands.
fn mentions(sources: &[(PathBuf, String)], words: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for (path, text) in sources {
        for (at, line) in code(text) {
            let found = words.iter().filter(|word| line.contains(**word));
            places.extend(found.map(|word| format!("{}:{at}: {word}", path.display())));
        }
    }
    places
}

#[test]
fn core_touches_no_clock_file_socket_or_environment() {
    let folder = metadata().workspace_root.join("crates/tollgate-core/src");
    let mut sources = sources(&folder);
    sources.retain(|(path, _)| path != &folder.join("clock.rs"));
    assert!(sources.len() > 20, "found the sources");
    let words = [
        "SystemTime",
        "Instant::now",
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "std::thread::sleep",
        "fs::{",
        "use std::{env",
        "env::var",
    ];
    let places = mentions(&sources, &words);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn nothing_unwraps_outside_tests() {
    let crates = metadata().workspace_root.join("crates");
    let mut all = Vec::new();
    for entry in fs::read_dir(crates).expect("is a folder") {
        let src = entry.expect("is read").path().join("src");
        if src.is_dir() {
            all.append(&mut sources(&src));
        }
    }
    let places = mentions(&all, &[".unwrap()"]);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn code_for_tests_and_comments_is_left_out() {
    let text = "a\n/// x.unwrap()\nb // y\n#[cfg(test)]\nuse c;\n    d\n#[cfg(test)]\nmod e {\n    use f;\n    g.unwrap()\n}\nh\n";
    let lines: Vec<_> = code(text)
        .into_iter()
        .map(|(at, line)| (at, line.trim()))
        .collect();
    assert_eq!(lines, [(1, "a"), (3, "b"), (6, "d"), (12, "h")]);
}
