//! Watched files: what changes is in force without being asked for.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::super::{Gateway, api};

/// Waits until something is so.
#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(20)); // Between two looks at the condition.
    }
}

/// A definition of an API that is found here.
fn found_at(listen_path: &str) -> Value {
    api("orders", listen_path, "http://127.0.0.1:1")
}

impl Gateway {
    fn watching(name: &str) -> Self {
        let watched = json!({"tollgate": {"watch_files": true}, "log_level": "info"});
        Self::with(name, &watched, &[found_at("/orders/")])
    }

    #[track_caller]
    fn wait_for(&self, path: &str, status: u16) {
        let what = format!("{path} is {status}");
        wait_until(&what, || self.ask(path, "").status == status);
    }

    fn told(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

#[test]
fn what_is_written_or_renamed_is_served_and_what_is_broken_is_not() {
    let gateway = Gateway::watching("watch");
    let apps = gateway.folder.join("apps");
    let file = apps.join("orders.json");
    fs::write(&file, found_at("/written/").to_string()).unwrap();
    gateway.wait_for("/written/7", 401);

    let aside = apps.join(".orders.json.swp");
    fs::write(&aside, found_at("/renamed/").to_string()).unwrap();
    fs::rename(&aside, &file).unwrap();
    gateway.wait_for("/renamed/7", 401);

    fs::write(&file, "{").unwrap();
    let failures = || gateway.told().matches("not reloaded").count();
    wait_until("a broken file is told", || failures() == 1);
    assert_eq!(gateway.ask("/renamed/7", "").status, 401);

    fs::remove_dir_all(&apps).unwrap();
    wait_until("the folder is missed", || failures() == 2);
    assert_eq!(gateway.ask("/renamed/7", "").status, 401);
    fs::create_dir(&apps).unwrap();
    fs::write(&file, found_at("/again/").to_string()).unwrap();
    gateway.wait_for("/again/7", 401);
    fs::write(&file, found_at("/once-more/").to_string()).unwrap();
    gateway.wait_for("/once-more/7", 401);
}

#[test]
fn the_same_content_is_not_read_again() {
    let gateway = Gateway::watching("watch-same");
    let file = gateway.folder.join("apps/orders.json");
    fs::write(&file, fs::read(&file).unwrap()).unwrap();
    fs::write(gateway.folder.join("apps/notes.txt"), "no definition").unwrap();
    std::thread::sleep(Duration::from_millis(600)); // Time enough for what must not happen.
    fs::write(&file, found_at("/other/").to_string()).unwrap();
    gateway.wait_for("/other/7", 401);
    wait_until("the reload is told", || gateway.told().contains("reloaded"));
    assert_eq!(gateway.told().matches("reloaded").count(), 1);
}

#[test]
fn a_mount_of_kubernetes_is_swapped_as_a_whole() {
    let mount = std::env::temp_dir().join(format!("tollgate-mount-{}", std::process::id()));
    let _ = fs::remove_dir_all(&mount); // Of an earlier run.
    let version = |name: &str, listen_path: &str| {
        let version = mount.join(name);
        fs::create_dir_all(&version).unwrap();
        let definition = found_at(listen_path).to_string();
        fs::write(version.join("orders.json"), definition).unwrap();
        let link: &Path = &mount.join("..data_tmp");
        symlink(name, link).unwrap();
        fs::rename(link, mount.join("..data")).unwrap();
    };
    version("..1", "/first/");
    symlink("..data/orders.json", mount.join("orders.json")).unwrap();
    let settings = json!({"tollgate": {"watch_files": true}, "app_path": mount});
    let gateway = Gateway::with("watch-mount", &settings, &[]);
    assert_eq!(gateway.ask("/first/7", "").status, 401);
    version("..2", "/second/");
    fs::remove_dir_all(mount.join("..1")).unwrap();
    gateway.wait_for("/second/7", 401);
    assert_eq!(gateway.ask("/first/7", "").status, 404);
    version("..3", "/third/");
    gateway.wait_for("/third/7", 401);
    fs::remove_dir_all(&mount).unwrap();
}

#[test]
fn a_policy_that_changes_is_in_force_on_its_keys() {
    let gateway = Gateway::watching("watch-policy");
    let key = gateway.make_key();
    let file = gateway.folder.join("policies.json");
    let policies = fs::read_to_string(&file).unwrap();
    let mut policies: Value = serde_json::from_str(&policies).unwrap();
    policies["gold"]["is_inactive"] = json!(true);
    fs::write(&file, policies.to_string()).unwrap();
    wait_until("the policy is in force", || {
        gateway.ask("/orders/7", &key).status == 403
    });
}

#[test]
fn files_that_definitions_name_are_watched_and_of_the_configuration_it_is_told() {
    let gateway = Gateway::watching("watch-named");
    let certificate = gateway.folder.join("own.pem");
    let mut named = found_at("/named/");
    named["upstream_certificates"] = json!({"*": certificate});
    fs::write(gateway.folder.join("apps/orders.json"), named.to_string()).unwrap();
    let refused = || gateway.told().matches("not reloaded").count();
    wait_until("there is no such file", || refused() == 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec!["gateway.test".to_owned()]).unwrap();
    let own = own.self_signed(&key).unwrap();
    fs::write(&certificate, own.pem() + &key.serialize_pem()).unwrap();
    named["proxy"]["listen_path"] = json!("/there/");
    fs::write(gateway.folder.join("apps/orders.json"), named.to_string()).unwrap();
    gateway.wait_for("/there/7", 401);
    // Named by what is in force now.
    fs::write(&certificate, "no certificate").unwrap();
    wait_until("the file is read anew", || refused() >= 2);
    assert_eq!(gateway.ask("/there/7", "").status, 401, "the old one stays");

    let conf = gateway.folder.join("tyk.conf");
    let mut settings: Value = serde_json::from_str(&fs::read_to_string(&conf).unwrap()).unwrap();
    settings["secret"] = json!("another-secret-1");
    settings["hash_keys"] = json!(false);
    fs::write(&conf, settings.to_string()).unwrap();
    wait_until("what has changed is told", || {
        gateway.told().contains(r#"settings="hash_keys, secret""#)
    });
    fs::write(&conf, "{").unwrap();
    wait_until("a broken configuration is told", || {
        gateway.told().contains("a start would fail")
    });
    assert_eq!(gateway.ask("/there/7", "").status, 401);
    assert!(!gateway.told().contains("another-secret-1"));
}
