//! `tollgate key`, against a gateway and against its store's file.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::{Gateway, SECRET, ports::free_port};

/// Calls the program; what it is told goes to its standard input.
fn call(arguments: &[&str], environment: &[(&str, &str)], told: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = program.stdin.take().unwrap();
    stdin.write_all(told.as_bytes()).unwrap();
    drop(stdin);
    program.wait_with_output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

impl Gateway {
    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Calls `tollgate key` for this gateway.
    pub(super) fn key(&self, arguments: &[&str]) -> Output {
        let url = self.url();
        let environment = [("TOLLGATE_URL", &*url), ("TOLLGATE_SECRET", SECRET)];
        call(&[&["key"], arguments].concat(), &environment, "")
    }

    /// What it prints as JSON.
    #[track_caller]
    pub(super) fn key_json(&self, arguments: &[&str]) -> Value {
        let output = self.key(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn conf(&self) -> String {
        self.folder.join("tyk.conf").to_str().unwrap().to_owned()
    }

    fn stop(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }
}

#[test]
fn a_key_is_made_shown_rotated_and_revoked() {
    let gateway = Gateway::start("key-life");
    let made = gateway.key_json(&[
        "create",
        "--policy",
        "gold",
        "--alias",
        "ann",
        "--meta",
        "user=ann",
        "--tag",
        "a",
        "--expires",
        "30d",
    ]);
    let (token, name) = (
        made["token"].as_str().unwrap(),
        made["key"].as_str().unwrap(),
    );
    assert!(
        token.starts_with("org1") && token != name,
        "the policy's organisation"
    );
    assert_eq!(gateway.ask("/orders/7", token).status, 200);

    for named in [token, name] {
        let shown = gateway.key_json(&["show", named]);
        assert_eq!(shown["key"], name);
        assert_eq!(shown["session"]["alias"], "ann");
        assert_eq!(
            shown["rights"]["apis"]["orders"]["granted_by"],
            json!(["policy gold"])
        );
        let quota = shown["limits"].as_array().unwrap().iter();
        let mut quota = quota.filter(|limit| limit["kind"] == "quota");
        assert_eq!(quota.next().unwrap()["used"], 1);
    }
    let shown = text(&gateway.key(&["show", name]).stdout);
    for part in [
        "alias     ann",
        "policies  gold",
        "meta      user=ann",
        "orders",
        "1000 in 1 min",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains(token));

    let output = gateway.key(&["rotate", name, "--overlap", "1h", "--quiet"]);
    let next = text(&output.stdout).trim().to_owned();
    assert_eq!(gateway.ask("/orders/7", &next).status, 200);
    assert_eq!(gateway.ask("/orders/7", token).status, 200, "the overlap");

    let output = gateway.key(&["revoke", token, &next, "no-key-at-all"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout).matches("revoked ").count(), 2);
    assert_eq!(text(&output.stderr), "key 3 of 3: there is no such key\n");
    for token in [token, &next] {
        assert_eq!(gateway.ask("/orders/7", token).status, 403);
    }
}

#[test]
fn a_key_is_made_of_a_file_and_of_an_api() {
    let gateway = Gateway::start("key-file");
    let file = gateway.folder.join("session.json");
    fs::write(&file, r#"{"alias": "file", "rate": 1, "per": 60}"#).unwrap();
    let file = file.to_str().unwrap();
    let made = gateway.key_json(&[
        "create", "--file", file, "--api", "orders", "--rate", "2/1m", "--quota", "5/1d",
    ]);
    let token = made["token"].as_str().unwrap();
    let statuses = [0; 3].map(|_| gateway.ask("/orders/7", token).status);
    assert_eq!(statuses, [200, 200, 429]);

    let refused = gateway.key(&["create", "--policy", "none"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = text(&refused.stderr);
    assert!(told.contains("policy not found: \"none\""), "{told}");
}

#[test]
fn a_list_has_filters_and_pages() {
    let gateway = Gateway::start("key-list");
    for alias in ["ann-1", "ann-2", "bob"] {
        gateway.key_json(&[
            "create",
            "--policy",
            "gold",
            "--alias",
            alias,
            "--expires",
            "1d",
        ]);
    }
    let aliases = |list: &Value| {
        let keys = list["keys"].as_array().unwrap().iter();
        let mut aliases: Vec<_> = keys
            .map(|key| key["alias"].as_str().unwrap().to_owned())
            .collect();
        aliases.sort();
        aliases
    };
    let found = |arguments: &[&str]| aliases(&gateway.key_json(&[&["list"], arguments].concat()));
    assert_eq!(found(&["--alias", "ann*"]), ["ann-1", "ann-2"]);
    assert_eq!(found(&["--policy", "gold", "--all"]).len(), 3);
    assert_eq!(found(&["--expires-before", "1h"]).len(), 0);
    assert_eq!(found(&["--expires-after", "1h"]).len(), 3);
    assert_eq!(found(&["--meta", "user=ann"]).len(), 0);

    let first = gateway.key_json(&["list", "--limit", "2"]);
    let cursor = first["cursor"].as_str().unwrap();
    let second = gateway.key_json(&["list", "--cursor", cursor]);
    let mut both = [aliases(&first), aliases(&second)].concat();
    both.sort();
    assert_eq!(both, ["ann-1", "ann-2", "bob"]);

    let table = text(&gateway.key(&["list", "--alias", "bob"]).stdout);
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(
        lines[0].starts_with("KEY") && lines[1].ends_with("active"),
        "{table}"
    );
}

#[test]
fn keys_move_to_another_gateway_with_their_tokens() {
    let old = Gateway::start("key-export");
    let token = old.make_key();
    old.key_json(&["create", "--policy", "gold", "--alias", "other"]);
    let file = old.folder.join("keys.jsonl");
    let file = file.to_str().unwrap();
    let exported = old.key(&["export", "--output", file]);
    assert!(exported.status.success(), "{}", text(&exported.stderr));
    let lines = fs::read_to_string(file).unwrap();
    assert_eq!(lines, text(&old.key(&["export"]).stdout));
    assert_eq!(lines.lines().count(), 2);
    assert!(!lines.contains(&token), "names alone are stored");

    let new = Gateway::start("key-import");
    let import = |more: &[&str]| new.key_json(&[&["import", file], more].concat());
    let counts = |created: u64, updated: u64, dry_run: bool| json!({"created": created, "updated": updated, "ended": 0, "failed": 0, "dry_run": dry_run});
    assert_eq!(import(&["--dry-run"]), counts(2, 0, true));
    assert_eq!(new.ask("/orders/7", &token).status, 403);
    assert_eq!(import(&["--from-line", "2"]), counts(1, 0, false));
    assert_eq!(import(&[]), counts(1, 1, false));
    assert_eq!(import(&[]), counts(0, 2, false));
    assert_eq!(new.ask("/orders/7", &token).status, 200);
}

#[test]
fn lines_that_are_wrong_are_told_and_the_others_are_imported() {
    let gateway = Gateway::start("key-wrong-lines");
    let good =
        json!({"key": "good-hash", "session": {"org_id": "org1", "apply_policies": ["gold"]}});
    let no_policy = json!({"key": "b", "session": {"org_id": "org1", "apply_policies": ["none"]}});
    let wrong = json!({"key": "c", "session": {"rate": "many"}});
    let ended = json!({"key": "d", "session": {"apply_policies": ["gold"], "expires": 1000}});
    let lines = format!("{good}\n\n{{\"key\"\n{no_policy}\n{wrong}\n{ended}");
    let file = gateway.folder.join("lines");
    fs::write(&file, lines).unwrap();
    let output = gateway.key(&["import", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let counts = "created: 1, updated: 0, failed: 3, passed over as ended: 1\n";
    assert_eq!(text(&output.stdout), counts);
    let told = text(&output.stderr);
    let mut told: Vec<_> = told.lines().collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "line 3: expected {\"key\": …, \"session\": {…}}",
            "line 4: the session grants nothing, or its policies make no session",
            "line 5: no session: rate",
        ]
    );
}

#[test]
fn without_a_gateway_the_file_of_the_store_is_worked_on() {
    let mut gateway = Gateway::start("key-offline");
    let conf = gateway.conf();
    let offline = |arguments: &[&str]| {
        call(
            &[&["key", "--offline", "--conf", &conf], arguments].concat(),
            &[],
            "",
        )
    };
    let locked = offline(&["list"]);
    assert_eq!(locked.status.code(), Some(1));
    let told = text(&locked.stderr);
    let advice = format!("ask that: --url {}", gateway.url());
    assert!(told.contains(&advice) && told.contains("in use"), "{told}");

    gateway.stop();
    let made = offline(&["create", "--policy", "gold", "--quiet"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let token = text(&made.stdout).trim().to_owned();
    let listed = text(&offline(&["list"]).stdout);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    gateway.crash();
    assert_eq!(gateway.ask("/orders/7", &token).status, 200);

    let nowhere = [
        "key",
        "list",
        "--conf",
        &conf,
        "--store-file",
        "/none/such.redb",
    ];
    let told = text(&call(&nowhere, &[], "").stderr);
    assert!(told.contains("there is no such store"), "{told}");
}

#[test]
fn the_secret_comes_from_where_nobody_reads_it() {
    let gateway = Gateway::start("key-secret");
    let (url, conf) = (gateway.url(), gateway.conf());
    let file = gateway.folder.join("secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let file = file.to_str().unwrap();
    let token = gateway.make_key();
    for (arguments, told) in [
        (&["--conf", &*conf][..], ""),
        (&["--url", &url, "--secret-file", file], ""),
        (&["--url", &url, "--secret-file", "-"], SECRET),
    ] {
        let output = call(&[&["key", "show", &token], arguments].concat(), &[], told);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
    }
    let output = call(&["key", "show", "-", "--conf", &conf], &[], &token);
    assert!(output.status.success(), "{}", text(&output.stderr));

    let wrong = ["key", "list", "--url", &url, "--secret", "a wrong one"];
    let output = call(&wrong, &[], "");
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("the secret is missing or wrong"), "{told}");
    assert!(
        told.contains("--secret can be read by every user"),
        "{told}"
    );
    assert!(!told.contains("a wrong one"), "{told}");
}

#[test]
fn what_is_not_understood_ends_with_2() {
    let secret = [("TOLLGATE_SECRET", SECRET)];
    for arguments in [
        &["list"][..],
        &[
            "list",
            "--url",
            "http://127.0.0.1:1",
            "--offline",
            "--conf",
            "x",
        ],
        &["list", "--offline"],
        &["create", "--rate", "many"],
        &["create", "--meta", "x"],
        &["list", "--limit", "1", "--all"],
        &["revoke"],
    ] {
        let output = call(&[&["key"], arguments].concat(), &secret, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let nobody = ["key", "list", "--url", "http://127.0.0.1:1"];
    let output = call(&nobody, &secret, "");
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("no gateway answers at http://127.0.0.1:1"),
        "{told}"
    );
}

/// The commands of `docs/keys.md` print what the page says; `…` there is anything.
#[test]
fn the_page_runs_as_it_stands() {
    let page = include_str!("../../../../docs/keys.md");
    let (_, block) = page.split_once("```console\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let mut steps: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command, Vec::new())),
            None => steps.last_mut().unwrap().1.push(line),
        }
    }
    let folder = std::env::temp_dir().join(format!("tollgate-page-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let port = free_port().unwrap();
    let mut gateway = Gateway {
        program: Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["quickstart", "--dir", "demo", "--port", &port.to_string()])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
        folder,
        port,
        tls: None,
    };
    gateway.wait_until_ready();

    const NEXT: &str = "--- the next step ---";
    let commands = steps.iter().map(|(command, _)| *command);
    let script = commands
        .collect::<Vec<_>>()
        .join(&format!("\necho '{NEXT}'\n"));
    let program = Path::new(env!("CARGO_BIN_EXE_tollgate")).parent().unwrap();
    let ran = Command::new("sh")
        .args(["-c", &format!("exec 2>&1\n{script}")])
        .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
        .current_dir(&gateway.folder)
        .output()
        .unwrap();
    gateway.stop();
    let printed = text(&ran.stdout);
    let printed: Vec<_> = printed.split(&format!("{NEXT}\n")).collect();
    assert_eq!(printed.len(), steps.len());
    for ((command, expected), printed) in steps.iter().zip(printed) {
        let lines: Vec<_> = printed.lines().collect();
        let is_like = expected.len() == lines.len()
            && expected
                .iter()
                .zip(&lines)
                .all(|(expected, line)| is_like(expected, line));
        assert!(is_like, "{command}\n{printed}");
    }
}

/// Whether a line is as expected, with anything for `…`.
fn is_like(expected: &str, line: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        match parts.peek() {
            None => return rest.ends_with(part),
            Some(_) => match rest.split_once(part) {
                Some((_, behind)) => rest = behind,
                None => return false,
            },
        }
    }
    true
}

#[test]
fn every_shell_completes() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = call(&["completions", shell], &[], "");
        assert!(output.status.success());
        let script = text(&output.stdout);
        assert!(
            script.contains("quickstart") && script.contains("from-line"),
            "{shell}"
        );
    }
    if Path::new("/bin/bash").exists() {
        let script = text(&call(&["completions", "bash"], &[], "").stdout);
        let asked = format!(
            "{script}\nCOMP_WORDS=(tollgate key re); COMP_CWORD=2; _tollgate tollgate re key\n\
             echo \"${{COMPREPLY[@]}}\""
        );
        let bash = Command::new("/bin/bash")
            .args(["-c", &asked])
            .output()
            .unwrap();
        assert_eq!(
            text(&bash.stdout).trim(),
            "revoke",
            "{}",
            text(&bash.stderr)
        );
    }
}
