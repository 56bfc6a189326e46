//! `tollgate import` and `tollgate export`, between a Redis as Tyk fills it and either store.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::redis::{Redis, session, start};
use crate::{Gateway, api, launch, upstream};

const NEW: &str = "4102444800"; // In the year 2100.

/// Calls the program for a gateway's configuration.
fn call(command: &str, gateway: &Gateway, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg(command)
        .arg("--conf")
        .arg(gateway.folder.join("tyk.conf"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

/// What it prints as JSON, and its exit code.
#[track_caller]
fn told(command: &str, gateway: &Gateway, arguments: &[&str]) -> (Value, i32) {
    let output = call(command, gateway, &[arguments, &["--json"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    let told = serde_json::from_slice(&output.stdout);
    (
        told.unwrap_or_else(|_| panic!("{error}")),
        output.status.code().unwrap(),
    )
}

fn url(redis: &Redis) -> String {
    format!("redis://127.0.0.1:{}/0", redis.port)
}

/// A gateway on its own file with an API `a`, that does not run.
fn embedded(name: &str) -> Gateway {
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut gateway = Gateway::with(name, &json!({}), &[api("a", "/a/", &target)]);
    stop(&mut gateway);
    gateway
}

fn stop(gateway: &mut Gateway) {
    gateway.program.kill().unwrap();
    gateway.program.wait().unwrap();
}

fn begin(gateway: &mut Gateway) {
    gateway.program = launch(&gateway.folder);
    gateway.wait_until_ready();
}

/// The only name of this pattern, without what all begin with.
fn name_of(redis: &Redis, begins: &str) -> String {
    let name = redis.cli(&["KEYS", &format!("{begins}*")]);
    name.strip_prefix(begins).unwrap().to_owned()
}

#[test]
fn keys_and_half_used_quotas_come_from_tyks_redis_and_go_back() {
    let redis = Redis::start();
    let tyk = start("transfer-tyk", &redis);
    let key = tyk.make_key_of(&session(5));
    for _ in 0..3 {
        assert_eq!(tyk.ask("/a/x", &key).status, 200);
    }
    let hash = name_of(&redis, "quota-");
    let other = [
        (
            "apikey-0011223344556677",
            r#"{"alias": "bob", "rate": 1, "per": 1, "future": 1, "apply_policies": ["gone"],
                "basic_auth_data": {"password": "p"}}"#,
        ),
        ("apikey-1111111111111111", r#"{"rate": "ten"}"#),
        ("apikey-plain", "{}"),
        (
            "orgkey.org1",
            r#"{"quota_max": 7, "quota_renewal_rate": 60}"#,
        ),
        ("oauth-data.a.oauth-clientid.c", "{}"),
        ("quota-0011223344556688", "4"),
    ];
    for (name, text) in other {
        redis.cli(&["SET", name, text]);
    }
    redis.cli(&["PEXPIRE", "apikey-0011223344556677", "3000000"]);

    let mut gateway = embedded("transfer-here");
    let from = ["--from", &*url(&redis)];
    let dry = told("import", &gateway, &[&from[..], &["--dry-run"]].concat());
    let expected = json!({"made": 3, "updated": 0, "same": 0, "kept": 0, "failed": 1});
    assert_eq!((&dry.0["keys"], dry.1), (&expected, 1), "{}", dry.0);
    let (report, code) = told("import", &gateway, &from);
    assert_eq!(
        (&report["keys"], code),
        (&expected, 1),
        "nothing was written before"
    );
    assert_eq!(report["organisations"]["made"], 1);
    assert_eq!(report["quotas"], json!({"moved": 1, "there": 2}));
    assert_eq!(report["left"], json!({"OAuth clients and tokens": 1}));
    let findings = &report["findings"];
    assert_eq!(findings["unknown_members"]["records"], json!({"future": 1}));
    assert_eq!(findings["unknown_policies"]["records"], json!({"gone": 1}));
    assert_eq!(findings["names"]["records"].as_object().unwrap().len(), 1);
    let failure = &report["failures"][0];
    assert_eq!(failure["name"], "1111111111111111");
    assert!(
        failure["reason"].as_str().unwrap().contains("rate"),
        "{failure}"
    );
    let (again, _) = told("import", &gateway, &from);
    let same = json!({"made": 0, "updated": 0, "same": 3, "kept": 0, "failed": 1});
    assert_eq!(again["keys"], same);
    assert_eq!(again["quotas"]["moved"], 0, "{again}");

    begin(&mut gateway);
    for expected in [200, 200, 403] {
        assert_eq!(
            gateway.ask("/a/x", &key).status,
            expected,
            "two of five were left"
        );
    }
    stop(&mut gateway);

    let back = Redis::start();
    let to = ["--to", &*url(&back)];
    let (report, code) = told("export", &gateway, &to);
    assert_eq!((&report["keys"]["made"], code), (&json!(3), 0), "{report}");
    assert_eq!(back.cli(&["GET", &format!("quota-{hash}")]), "5");
    let left: i64 = back
        .cli(&["TTL", &format!("quota-{hash}")])
        .parse()
        .unwrap();
    assert!((3000..=3600).contains(&left), "{left}");
    let stays: i64 = back
        .cli(&["TTL", "apikey-0011223344556677"])
        .parse()
        .unwrap();
    assert!((2000..=3000).contains(&stays), "{stays}");
    let text: Value = serde_json::from_str(&back.cli(&["GET", "apikey-0011223344556677"])).unwrap();
    assert_eq!(
        (&text["alias"], &text["future"]),
        (&json!("bob"), &json!(1))
    );
    assert!(
        back.cli(&["GET", "orgkey.org1"])
            .contains(r#""quota_max":7"#)
    );
    let two = start("transfer-back", &back);
    assert_eq!(
        two.ask("/a/x", &key).status,
        403,
        "it is used up there, too"
    );
}

#[test]
fn what_is_newer_stays_unless_it_is_to_be_replaced() {
    let (old, new) = (Redis::start(), Redis::start());
    let mut gateway = start("transfer-newer", &new);
    stop(&mut gateway);
    let name = "apikey-0011223344556677";
    let record =
        |alias: &str, written: &str| json!({"alias": alias, "last_updated": written}).to_string();
    let alias = || {
        let text: Value = serde_json::from_str(&new.cli(&["GET", name])).unwrap();
        text["alias"].clone()
    };
    old.cli(&["SET", name, &record("old", "1700000000")]);
    new.cli(&["SET", name, &record("new", NEW)]);
    let from = ["--from", &*url(&old)];
    let (report, code) = told("import", &gateway, &from);
    assert_eq!((&report["keys"]["kept"], code), (&json!(1), 0));
    assert_eq!(alias(), "new");
    let (report, _) = told("import", &gateway, &[&from[..], &["--overwrite"]].concat());
    assert_eq!(report["keys"]["updated"], 1);
    assert_eq!(alias(), "old");
    old.cli(&["SET", name, &record("later", "1800000000")]);
    let (report, _) = told("import", &gateway, &from);
    assert_eq!(
        (&report["keys"]["updated"], alias()),
        (&json!(1), json!("later"))
    );
}

#[test]
fn a_run_goes_on_where_another_was_broken_off() {
    let mut redis = Redis::start();
    let made = "for i = 1, 3000 do redis.call('SET', string.format('apikey-%016x', i), '{}') end";
    redis.cli(&["EVAL", made, "0"]);
    redis.cli(&["SET", "orgkey.org1", "{}"]);
    let gateway = embedded("transfer-goes-on");
    let url = url(&redis);
    let (report, code) = told(
        "import",
        &gateway,
        &["--from", &url, "--cursor", "organisations."],
    );
    assert_eq!((&report["keys"]["made"], code), (&json!(0), 0));
    assert_eq!(report["organisations"]["made"], 1);
    let (report, _) = told("import", &gateway, &["--from", &url]);
    assert_eq!(report["keys"]["made"], 3000);
    for wrong in ["x", "keys.x"] {
        let output = call("import", &gateway, &["--from", &url, "--cursor", wrong]);
        assert_eq!(output.status.code(), Some(1), "{wrong}");
    }
    redis.end();
    let output = call("import", &gateway, &["--from", &url]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("the Redis of the Tyk does not answer"),
        "{error}"
    );
}

#[test]
fn a_tyks_own_file_says_where_its_redis_is_and_signs_notices() {
    let redis = Redis::start();
    let gateway = start("transfer-conf", &redis);
    redis.cli(&["SET", "apikey-0011223344556677", "{}"]);
    let mut here = embedded("transfer-conf-here");
    let conf = gateway.folder.join("tyk.conf");
    let conf = conf.to_str().unwrap();
    let (report, _) = told("import", &here, &["--from-conf", conf]);
    assert_eq!(report["keys"]["made"], 1, "{report}");
    begin(&mut here);
    let key = here.make_key_of(&session(5));
    stop(&mut here);
    assert_eq!(
        gateway.ask("/a/x", &key).status,
        403,
        "remembered for a while as not there"
    );
    let (report, _) = told("export", &here, &["--to-conf", conf]);
    assert_eq!(report["keys"]["made"], 1, "{report}");
    assert_eq!(gateway.ask("/a/x", &key).status, 200, "it was told");
}

#[test]
fn attack_75_what_is_no_record_is_told_and_all_others_move() {
    let redis = Redis::start();
    let made = [
        "redis.call('SET', 'apikey-0000000000000001', string.rep('x', 5 * 1024 * 1024))",
        "redis.call('SET', 'apikey-0000000000000002', string.rep('[', 100000))",
        "redis.call('SET', 'apikey-0000000000000003', '{\"meta_data\": ' .. string.rep('[', 10000))",
        "redis.call('HSET', 'apikey-0000000000000004', 'a', 'b')",
        "redis.call('SET', 'apikey-\\255\\254', '{}')",
        "redis.call('SET', 'apikey-0000000000000005', '')",
        "redis.call('SET', 'apikey-0000000000000006', '{}')",
    ];
    for made in made {
        redis.cli(&["EVAL", made, "0"]);
    }
    let gateway = embedded("transfer-attack");
    let (report, code) = told("import", &gateway, &["--from", &url(&redis)]);
    let expected = json!({"made": 1, "updated": 0, "same": 0, "kept": 0, "failed": 5});
    assert_eq!((&report["keys"], code), (&expected, 1), "{report}");
    for failure in report["failures"].as_array().unwrap() {
        assert!(failure["reason"].as_str().unwrap().len() < 300, "{failure}");
    }
}
