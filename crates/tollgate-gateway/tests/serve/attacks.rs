//! Attacks on the program as a whole: its control API, and its files.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use serde_json::{Value, json};
use tollgate_gateway::config::DEFAULT_SECRET;

use crate::{Gateway, SECRET, api, upstream};

const KEYS: &str = "/tyk/keys";
const OURS: &str = "/tollgate/keys";

fn target() -> String {
    format!("http://127.0.0.1:{}/", upstream())
}

#[test]
fn attack_71_the_control_api_is_for_who_shows_the_secret() {
    let settings = json!({"control_api_hostname": "localhost"});
    let gateway = Gateway::with(
        "attack-71",
        &settings,
        &[api("orders", "/orders/", &target())],
    );
    let key = gateway.make_key_for(&["orders"]);
    let own = ("x-forwarded-for", "127.0.0.1");
    let refused: [&[(&str, &str)]; 9] = [
        &[],
        &[own],
        &[("x-tyk-authorization", "")],
        &[("x-tyk-authorization", DEFAULT_SECRET), own],
        &[("x-tyk-authorization", &SECRET[1..])],
        &[("x-tyk-authorization", &format!("{SECRET}x"))],
        &[
            ("x-tyk-authorization", SECRET),
            ("x-tyk-authorization", "other"),
        ],
        &[("authorization", SECRET)],
        &[("x-tyk-authorization", &key)],
    ];
    for headers in refused {
        for (method, path) in [
            ("GET", KEYS),
            ("POST", KEYS),
            ("GET", "/tyk/reload/"),
            ("GET", OURS),
            ("GET", "/tollgate/metrics"),
        ] {
            let answer = gateway.try_ask(method, path, headers, "{}").unwrap();
            assert_eq!(
                answer.status, 403,
                "{method} {path} {headers:?}: {}",
                answer.body
            );
            assert!(!answer.body.contains(SECRET));
        }
    }
    let shown = ("x-tyk-authorization", SECRET);
    assert_eq!(
        gateway.try_ask("GET", OURS, &[shown], "").unwrap().status,
        200
    );
    // A name that somebody else made to lead here is not ours, whatever else comes along.
    for (path, expected) in [(KEYS, 404), (OURS, 404), ("/tollgate/metrics", 404)] {
        let answer = gateway.ask_as(
            "evil.example",
            path,
            &[shown, ("x-forwarded-host", "localhost")],
        );
        assert_eq!(answer, expected, "{path}");
    }
}

#[test]
fn attack_71_a_secret_that_everybody_knows_stops_the_start() {
    let gateway = Gateway::with("attack-71-secret", &json!({}), &[]);
    for secret in ["", DEFAULT_SECRET] {
        let folder = gateway
            .folder
            .join(if secret.is_empty() { "none" } else { "known" });
        fs::create_dir(&folder).unwrap();
        let conf = json!({"secret": secret, "app_path": folder, "listen_port": gateway.port});
        fs::write(folder.join("tyk.conf"), conf.to_string()).unwrap();
        let started = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["serve", "--store", "embedded", "--conf"])
            .arg(folder.join("tyk.conf"))
            .output()
            .unwrap();
        assert!(!started.status.success());
        let told = String::from_utf8(started.stderr).unwrap();
        assert!(told.contains("secret: "), "{told}");
        assert!(!folder.join("tollgate.redb").exists(), "nothing was opened");
    }
}

#[test]
fn attack_72_what_a_key_is_given_does_not_reach_other_organisations() {
    let (mut ours, mut theirs) = (
        api("ours", "/ours/", &target()),
        api("theirs", "/theirs/", &target()),
    );
    ours["org_id"] = json!("org1");
    theirs["org_id"] = json!("org2");
    let gateway = Gateway::with("attack-72", &json!({}), &[ours, theirs]);
    let policies = json!({"admin": {
        "org_id": "org2", "active": true, "rate": 1000, "per": 1, "quota_max": -1,
        "access_rights": {
            "theirs": {"api_id": "theirs", "versions": ["Default"]},
            "ours": {"api_id": "ours", "versions": ["Default"]}}}});
    fs::write(gateway.folder.join("policies.json"), policies.to_string()).unwrap();
    gateway.reload();
    let rights = |id: &str| json!({id: {"api_id": id, "versions": ["Default"]}});
    // What is tried, and the status at our API and at theirs.
    let tried = [
        (
            json!({"org_id": "org1", "access_rights": rights("ours")}),
            200,
            403,
        ),
        (
            json!({"org_id": "org1", "access_rights": rights("theirs")}),
            403,
            403,
        ),
        (
            json!({"org_id": "org1", "apply_policies": ["admin"]}),
            403,
            403,
        ),
        (
            json!({"org_id": "org1", "apply_policy_id": "admin", "access_rights": rights("ours")}),
            403,
            403,
        ),
        (
            json!({"org_id": "org1", "access_rights": rights("ours"), "is_admin": true,
            "mw": "*", "role": "admin", "policies": ["admin"], "hmac_enabled": false}),
            200,
            403,
        ),
    ];
    for (session, at_ours, at_theirs) in tried {
        let made = gateway.admin("POST", KEYS, &session.to_string());
        let key = match made.status {
            200 => serde_json::from_str::<Value>(&made.body).unwrap()["key"]
                .as_str()
                .unwrap()
                .to_owned(),
            _ => {
                assert_ne!(at_ours, 200, "{}", made.body);
                continue; // Not even made.
            }
        };
        let seen = [("/ours/x", at_ours), ("/theirs/x", at_theirs)];
        for (path, status) in seen {
            assert_eq!(
                gateway.ask(path, &key).status,
                status,
                "{session} at {path}"
            );
        }
        // Nor may its holder say what it is given.
        for (method, path) in [("PUT", "/tyk/keys/mine"), ("POST", KEYS), ("GET", OURS)] {
            let headers = [("authorization", &*key)];
            let answer = gateway
                .try_ask(method, path, &headers, &session.to_string())
                .unwrap();
            assert_eq!(answer.status, 403);
        }
    }
}

#[test]
fn attack_76_what_can_not_be_read_whole_leaves_what_was_served() {
    let orders = api("orders", "/orders/", &target());
    let gateway = Gateway::with("attack-76", &json!({}), std::slice::from_ref(&orders));
    let key = gateway.make_key_for(&["orders"]);
    let file = gateway.folder.join("apps/orders.json");
    let whole = fs::read_to_string(&file).unwrap();
    let elsewhere = gateway.folder.join("elsewhere.json");
    let mut open = orders.clone();
    open["use_keyless"] = json!(true);
    fs::write(&elsewhere, open.to_string()).unwrap();
    let write = |text: &str| fs::write(&file, text).unwrap();
    let link = |target: &Path| {
        fs::remove_file(&file).unwrap();
        symlink(target, &file).unwrap();
    };
    let attempts: [(&str, &dyn Fn()); 7] = [
        ("broken", &|| write("{\"name\": ")),
        ("half written", &|| write(&whole[..whole.len() / 2])),
        ("empty", &|| write("")),
        ("of another type", &|| write("[]")),
        ("not built", &|| {
            write(&whole.replace("use_standard_auth", "use_oauth2"))
        }),
        ("a link out of the folder", &|| link(&elsewhere)),
        ("a link to nothing", &|| {
            link(&gateway.folder.join("nothing"))
        }),
    ];
    for (what, attempt) in attempts {
        attempt();
        gateway.admin("GET", "/tyk/reload/?block=true", "");
        assert_eq!(gateway.ask("/orders/1", "").status, 401, "{what}");
        assert_eq!(gateway.ask("/orders/1", &key).status, 200, "{what}");
        fs::remove_file(&file).unwrap();
        write(&whole);
        gateway.reload();
    }
    // The configuration is not read anew: neither a weaker one nor an older one comes in so.
    let conf = fs::read_to_string(gateway.folder.join("tyk.conf")).unwrap();
    let mut weaker: Value = serde_json::from_str(&conf).unwrap();
    weaker["secret"] = json!(DEFAULT_SECRET);
    weaker["hash_keys"] = json!(false);
    fs::write(gateway.folder.join("tyk.conf"), weaker.to_string()).unwrap();
    gateway.reload();
    assert_eq!(gateway.ask("/orders/1", &key).status, 200);
    let known = [("x-tyk-authorization", DEFAULT_SECRET)];
    assert_eq!(
        gateway.try_ask("GET", KEYS, &known, "").unwrap().status,
        403
    );
    // A link that stays in the folder is a file like others.
    let kept = gateway.folder.join("apps/kept");
    fs::create_dir(&kept).unwrap();
    fs::rename(&file, kept.join("orders.json")).unwrap();
    symlink("kept/orders.json", &file).unwrap();
    gateway.reload();
    assert_eq!(gateway.ask("/orders/1", &key).status, 200);
}
