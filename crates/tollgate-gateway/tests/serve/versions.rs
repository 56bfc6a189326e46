//! What answers tell of versions and their ends.

use serde_json::{Value, json};

use crate::{Answer, Gateway, api, upstream};

fn versioned(id: &str, target: &str, versions: &[(&str, &str)]) -> Value {
    let mut api = api(id, &format!("/{id}/"), target);
    api["use_keyless"] = json!(true);
    let version = |(name, expires): &(&str, &str)| {
        let version = json!({"name": name, "expires": expires, "use_extended_paths": true});
        ((*name).to_owned(), version)
    };
    let versions: serde_json::Map<_, _> = versions.iter().map(version).collect();
    api["version_data"] = json!({
        "not_versioned": versions.len() == 1, "default_version": "v1", "versions": versions});
    api["definition"] = json!({"location": "header", "key": "X-Ver"});
    api
}

fn ask(gateway: &Gateway, path: &str, version: &str) -> Answer {
    let headers = [("x-ver", version)];
    let headers = if version.is_empty() {
        &[][..]
    } else {
        &headers
    };
    gateway
        .try_ask("GET", path, headers, "")
        .expect("an answer")
}

#[test]
fn answers_tell_of_the_default_version_and_of_ends() {
    const FAR: &str = "2999-01-02 15:04";
    const PAST: &str = "2006-01-02 15:04";
    let target = format!("http://127.0.0.1:{}", upstream());
    let several = [("v1", ""), ("v2", FAR), ("v3", PAST)];
    let mut ended = versioned("ended", &target, &[("v1", "")]);
    ended["expiration"] = json!(PAST);
    let mut unreadable = versioned("unreadable", &target, &[("v1", "")]);
    unreadable["expiration"] = json!("soon");
    let mut single = versioned("single", &target, &[("v1", PAST)]);
    single["expiration"] = json!(FAR);
    let mut of_all = versioned("all", &target, &several);
    of_all["expiration"] = json!(PAST);
    let apis = [
        versioned("several", &target, &several),
        versioned("past", &target, &[("v1", PAST)]),
        ended,
        unreadable,
        single,
        of_all,
    ];
    let gateway = Gateway::with("ends", &json!({"version_header": "X-Served"}), &apis);
    let far = "x-tyk-api-expires: wed, 02 jan 2999 15:04:00 utc";
    for (path, version, status, told, untold) in [
        ("/several/x", "", 200, "x-served: v1", "expires"),
        ("/several/x", "v1", 200, "", "x-served"),
        ("/several/x", "v2", 200, far, "x-served"),
        ("/several/x", "v3", 403, "", "expires"),
        ("/past/x", "", 200, "", "expires"),
        ("/ended/x", "", 403, "", "expires"),
        ("/unreadable/x", "", 403, "", "expires"),
        ("/single/x", "", 200, far, "x-served"),
        (
            "/all/x",
            "v1",
            200,
            "x-tyk-api-expires: mon, 02 jan 2006 15:04:00 utc",
            "x-served",
        ),
    ] {
        let answer = ask(&gateway, path, version);
        assert_eq!(answer.status, status, "{path} {version}: {}", answer.body);
        assert!(
            answer.head.contains(told),
            "{path} {version}: {}",
            answer.head
        );
        assert!(
            !answer.head.contains(untold),
            "{path} {version}: {}",
            answer.head
        );
    }
}
