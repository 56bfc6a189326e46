//! The store's file: a kill under load, and no room left.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Gateway, api, upstream};

const QUOTA: usize = 400;

fn start(name: &str) -> (Gateway, String) {
    let target = format!("http://127.0.0.1:{}", upstream());
    let gateway = Gateway::with(name, &json!({}), &[api("a", "/a/", &target)]);
    let key = gateway.make_key_of(&session(QUOTA));
    (gateway, key)
}

fn session(quota: usize) -> Value {
    json!({"org_id": "org1", "rate": 0, "per": 0, "quota_max": quota, "quota_renewal_rate": 3600,
        "access_rights": {"a": {"api_id": "a", "versions": ["Default"]}}})
}

/// Makes a key; `None` where there was no answer, or no room.
fn try_make_key(gateway: &Gateway) -> Result<String, Option<u16>> {
    let headers = [("x-tyk-authorization", crate::SECRET)];
    let answer = gateway.try_ask("POST", "/tyk/keys", &headers, &session(1).to_string());
    let answer = answer.ok_or(None)?;
    if answer.status != 200 {
        return Err(Some(answer.status));
    }
    let made: Value = serde_json::from_str(&answer.body).map_err(|_| None)?;
    made["key"].as_str().map(str::to_owned).ok_or(None)
}

#[test]
fn a_kill_under_load_loses_no_key_and_sells_no_quota_twice() {
    let (mut gateway, key) = start("killed");
    let (admitted, is_used_up) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut made = Vec::new();
    for _ in 0..3 {
        let (is_over, keys) = (AtomicBool::new(false), AtomicUsize::new(0));
        let before = admitted.load(SeqCst);
        let running = &gateway;
        let new = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(SeqCst) {
                        let headers = [("authorization", key.as_str())];
                        let answer = running.try_ask("GET", "/a/x", &headers, "");
                        match answer.map(|answer| answer.status) {
                            Some(200) => _ = admitted.fetch_add(1, SeqCst),
                            Some(403) => is_used_up.store(true, SeqCst),
                            _ => {}
                        }
                    }
                });
            }
            let making = scope.spawn(|| {
                let mut new = Vec::new();
                while let Ok(key) = try_make_key(running) {
                    new.push(key);
                    keys.fetch_add(1, SeqCst);
                }
                new
            });
            // The kill comes into the middle of it. A disk that is slow to write keys may leave none of the quota.
            let begun = Instant::now();
            let is_in_use = || is_used_up.load(SeqCst) || before + 30 <= admitted.load(SeqCst);
            while keys.load(SeqCst) < 10 || !is_in_use() {
                assert!(begun.elapsed() < Duration::from_secs(60), "there is load");
                std::thread::sleep(Duration::from_millis(1)); // Between two looks at the condition.
            }
            kill(running);
            let new = making.join().unwrap();
            is_over.store(true, SeqCst);
            new
        });
        made.extend(new);
        gateway.crash();
    }
    for made in &made {
        assert_eq!(gateway.ask("/a/x", made).status, 200, "{made} was answered");
    }
    while gateway.ask("/a/x", &key).status == 200 {
        admitted.fetch_add(1, SeqCst);
    }
    let admitted = admitted.into_inner();
    assert!(admitted <= QUOTA, "{admitted} of {QUOTA} were admitted");
}

fn kill(gateway: &Gateway) {
    let id = gateway.program.id().to_string();
    let killed = Command::new("kill").args(["-9", &id]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn a_full_disk_is_503_and_no_bad_key() {
    let (mut gateway, key) = start("full");
    gateway.program.kill().unwrap();
    gateway.program.wait().unwrap();
    // A little more than is there: as with a full disk, a write then fails.
    let length = fs::metadata(gateway.folder.join("tollgate.redb"))
        .unwrap()
        .len();
    gateway.program = launch_with_room(&gateway, length / 512 + 1);
    gateway.wait_until_ready();
    let refused = (0..20_000).find_map(|_| try_make_key(&gateway).err());
    let status = refused.expect("a write fails");
    assert_eq!(status, Some(503));
    for path in ["/a/x", "/a/y", "/a/x"] {
        let status = gateway.ask(path, &key).status;
        assert!(
            [200, 503].contains(&status),
            "{status}: not the key's fault"
        );
    }
    gateway.wait_for_line("no room left to write");
    let log = gateway.log();
    assert!(!log.contains("panicked"), "{log}");

    // With room again, nothing is lost.
    gateway.crash();
    assert_eq!(gateway.ask("/a/x", &key).status, 200);
}

#[test]
fn a_file_that_may_not_be_written_is_read_and_writes_are_503() {
    let (mut gateway, limited) = start("read-only");
    let mut free = session(1);
    free["quota_max"] = json!(-1);
    let free = gateway.make_key_of(&free);
    assert_eq!(gateway.ask("/a/x", &limited).status, 200);
    let file = gateway.folder.join("tollgate.redb");
    let writable = fs::metadata(&file).unwrap().permissions();
    let mut readable = writable.clone();
    readable.set_readonly(true);

    // Closed as it should be, it can be read as it is.
    gateway.log_of_all();
    fs::set_permissions(&file, readable.clone()).unwrap();
    gateway.program = crate::launch(&gateway.folder);
    gateway.wait_until_ready();
    assert_eq!(gateway.ask("/a/x", &free).status, 200);
    assert_eq!(gateway.ask("/a/x", "nobody").status, 403);
    assert_eq!(
        gateway.ask("/a/x", &limited).status,
        503,
        "no unit can be noted"
    );
    assert_eq!(try_make_key(&gateway), Err(Some(503)));
    let revoked = gateway.admin("DELETE", &format!("/tyk/keys/{free}"), "");
    assert_eq!(revoked.status, 503, "{}", revoked.body);
    assert_eq!(gateway.ask("/a/x", &free).status, 200, "it was not revoked");
    gateway.wait_for_line("tollgate.redb: may not be written");
    let log = gateway.log();
    assert!(!log.contains("panicked"), "{log}");

    // Left in the middle of something, it would have to be written first.
    fs::set_permissions(&file, writable.clone()).unwrap();
    gateway.crash();
    kill(&gateway);
    gateway.program.wait().unwrap();
    fs::set_permissions(&file, readable).unwrap();
    let mut refused = crate::launch(&gateway.folder);
    assert!(!refused.wait().unwrap().success());
    let log = gateway.log();
    assert!(
        log.contains("can only be mended where it can be written"),
        "{log}"
    );

    fs::set_permissions(&file, writable).unwrap();
    gateway.program = crate::launch(&gateway.folder);
    gateway.wait_until_ready();
    assert_eq!(gateway.ask("/a/x", &limited).status, 200);
    assert_eq!(
        gateway
            .admin("DELETE", &format!("/tyk/keys/{free}"), "")
            .status,
        200
    );
    assert_eq!(gateway.ask("/a/x", &free).status, 403);
}

/// The program, whose files can be no longer than so many blocks of 512 bytes.
fn launch_with_room(gateway: &Gateway, blocks: u64) -> std::process::Child {
    let limited = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"";
    let log = fs::File::create(gateway.folder.join("log")).unwrap();
    Command::new("sh")
        .args(["-c", limited, "sh", &blocks.to_string()])
        .arg(env!("CARGO_BIN_EXE_tollgate"))
        .arg("--conf")
        .arg(gateway.folder.join("tyk.conf"))
        .args(["--store", "embedded"])
        .stderr(log)
        .spawn()
        .unwrap()
}
