//! `tollgate check` on small folders of files, as a user runs it.
//!
//! `TOLLGATE_UPDATE=1 cargo test -p tollgate-gateway` writes what is expected anew, and the schemas.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/files")
        .join(name)
}

fn check(name: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("check")
        .args(arguments)
        .current_dir(folder(name))
        .env_clear()
        .env("GATEWAY_SECRET", "only-for-this-test")
        .output()
        .unwrap()
}

/// Compares with a file, or writes it.
#[track_caller]
fn expect(file: &Path, text: &str) {
    if std::env::var_os("TOLLGATE_UPDATE").is_some() {
        fs::write(file, text).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(text, expected, "{} differs", file.display());
}

#[test]
fn what_is_wrong_is_told_with_file_line_and_reason() {
    for (arguments, file) in [(&["--json"][..], "expected.json"), (&[], "expected.txt")] {
        let arguments = [&["--conf", "tyk.conf", "--store", "embedded"], arguments].concat();
        let output = check("broken", &arguments);
        assert_eq!(output.status.code(), Some(2));
        expect(
            &folder("broken").join(file),
            &String::from_utf8(output.stdout).unwrap(),
        );
    }
}

#[test]
fn redis_is_taken_unless_the_embedded_store_is_asked_for() {
    let told = |arguments: &[&str]| {
        let output = check("broken", &[&["--conf", "tyk.conf"], arguments].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let unused = "tyk.conf:6:14: storage: not used: the embedded store was asked for";
    let (by_file, embedded) = (told(&[]), told(&["--store", "embedded"]));
    assert!(!by_file.contains("storage"), "{by_file}");
    assert!(embedded.contains(unused), "{embedded}");
}

#[test]
fn what_is_right_is_one_line() {
    let output = check("fine", &["--conf", "gateway.toml", "--strict"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text,
        "errors: 0, warnings: 0; APIs: 1 served, 0 refused, 0 inactive; policies: 1\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_warning_counts_where_it_is_asked_to() {
    let typo = [("TYK_GW_LISTENPROT", "1")];
    for (arguments, code) in [(&[][..], 0), (&["--strict"], 1)] {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["check", "--conf", "gateway.toml"])
            .args(arguments)
            .current_dir(folder("fine"))
            .env_clear()
            .env("GATEWAY_SECRET", "only-for-this-test")
            .envs(typo)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
fn the_published_schemas_are_those_of_the_types() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
    for (name, schema) in tollgate_gateway::schema::ALL {
        let (file, schema) = (docs.join(name).with_extension("json"), schema());
        let printed = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["schema", name])
            .output()
            .unwrap();
        let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
        assert!(printed == schema, "{name} is printed otherwise");
        if std::env::var_os("TOLLGATE_UPDATE").is_some() {
            fs::write(&file, serde_json::to_string_pretty(&schema).unwrap() + "\n").unwrap();
        }
        let published: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert!(
            published == schema,
            "{} differs from the types",
            file.display()
        );
    }
}

#[test]
fn the_schemas_of_records_have_every_member_that_is_written() {
    let session = tollgate_core::Session::default().to_json();
    let policy = tollgate_core::policy::Policy::default().to_json();
    for (schema, record) in [
        (tollgate_gateway::schema::session(), session),
        (tollgate_gateway::schema::policy(), policy),
    ] {
        let record: Value = serde_json::from_str(&record).unwrap();
        for (name, value) in record.as_object().unwrap() {
            let member = &schema["properties"][name];
            assert!(member.is_object(), "{name}");
            let takes_null = member.to_string().contains("\"null\"");
            assert!(takes_null || !value.is_null(), "{name}: {member}");
        }
        assert!(schema.get("required").is_none());
    }
}
