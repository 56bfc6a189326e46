//! Folders of files as one snapshot.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use tollgate_gateway::{
    load::{self, Api, LoadOptions, Loaded},
    problem::Report,
    reference::Environment,
};

/// Writes files below a fresh folder and loads its `tyk.conf`; `${HERE}` is the folder.
fn load(name: &str, files: &[(&str, &str)]) -> (Option<Loaded>, Report) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    for (file, text) in files {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text.replace("${HERE}", folder.to_str().unwrap())).unwrap();
    }
    load::load(
        &folder.join("tyk.conf"),
        &Environment::default(),
        &LoadOptions::default(),
    )
}

const CONFIG: (&str, &str) = (
    "tyk.conf",
    r#"{"secret": "only-for-this-test", "app_path": "${HERE}/apps", "enable_custom_domains": true,
        "policies": {"policy_path": "${HERE}/policies"}}"#,
);
const NO_POLICIES: (&str, &str) = ("policies/readme.txt", "no policy");

fn api(id: &str, listen_path: &str) -> String {
    let proxy = json!({"listen_path": listen_path, "target_url": "http://up"});
    let versions = json!({"not_versioned": true});
    json!({"api_id": id, "proxy": proxy, "version_data": versions}).to_string()
}

fn states(loaded: &Loaded) -> Vec<(&str, &'static str, Option<&str>)> {
    let listen_path = |api: &'_ Api| match api {
        Api::Served(api) | Api::Inactive(api) => api.listen_path.clone(),
        Api::Refused(api) => api.listen_path.clone(),
    };
    let state = |api: &'_ Api| {
        let path = listen_path(api).map(|path| &*path.as_str().to_owned().leak());
        (
            api.id().as_str().to_owned().leak() as &str,
            api.state(),
            path,
        )
    };
    loaded.apis.iter().map(state).collect()
}

#[test]
fn the_first_by_file_name_keeps_its_path_and_its_id() {
    let on_host = r#"{"api_id": "d", "version_data": {"not_versioned": true}, "domain": "Shop.example",
        "proxy": {"listen_path": "/a/", "target_url": "http://up"}}"#;
    let internal = r#"{"api_id": "e", "version_data": {"not_versioned": true}, "internal": true,
        "proxy": {"listen_path": "/a/", "target_url": "http://up"}}"#;
    let (loaded, report) = load(
        "first",
        &[
            CONFIG,
            NO_POLICIES,
            ("apps/1.json", &api("a", "/a/")),
            ("apps/2.json", &api("b", "a/")),
            ("apps/3.json", &api("a", "/c/")),
            ("apps/4.json", on_host),
            ("apps/5.json", internal),
            ("apps/6.json", &api("f", "/a")),
        ],
    );
    assert_eq!(
        states(&loaded.unwrap()),
        [
            ("a", "served", Some("/a/")),
            ("b", "refused", None),
            ("a", "refused", Some("/c/")),
            ("d", "served", Some("/a/")),
            ("e", "served", Some("/a/")),
            ("f", "served", Some("/a")),
        ]
    );
    assert_eq!(report.problems.len(), 2, "{report}");
}

#[test]
fn secrets_of_stores_that_are_not_there_refuse_the_definition() {
    let with = |member: &str, entry: serde_json::Value| {
        let mut paths = serde_json::Map::new();
        paths.insert(member.to_owned(), json!([entry]));
        let version =
            json!({"name": "Default", "use_extended_paths": true, "extended_paths": paths});
        let versions = json!({"not_versioned": true, "versions": {"Default": version}});
        let proxy = json!({"listen_path": "/a/", "target_url": "http://up"});
        json!({"api_id": "a", "proxy": proxy, "version_data": versions}).to_string()
    };
    let header = |text: &str| {
        let entry = json!({"path": "/", "method": "GET", "add_headers": {"x-secret": text}});
        with("transform_headers", entry)
    };
    let target = |text: &str| {
        let entry = json!({"path": "/", "method": "GET", "match_pattern": "/", "rewrite_to": text});
        with("url_rewrites", entry)
    };
    let template = |blob: &str| {
        let data = json!({"input_type": "json", "template_mode": "blob", "template_source": blob});
        with(
            "transform",
            json!({"path": "/", "method": "GET", "template_data": data}),
        )
    };
    for (definition, refused) in [
        (header("vault://a"), true),
        (header("kv://vault/a#b"), true),
        (header("$kv{consul:a}"), true),
        (target("consul://a"), true),
        (target("/x?k=$kv{elsewhere:a}"), true),
        // As with Tyk without a store these stand for nothing; the last two are `x$secret_vault.a.b` and
        // `x$secret_env.a`.
        (header("$secret_vault.a.b"), false),
        (target("/x?k=$secret_consul.a"), false),
        (template("eCRzZWNyZXRfdmF1bHQuYS5i"), false),
        (template("eCRzZWNyZXRfZW52LmE="), false),
        (header("$secret_file.a$secret_conf.b$secret_env.c"), false),
        (header("kv://env/a"), false),
    ] {
        let files = [CONFIG, NO_POLICIES, ("apps/1.json", &*definition)];
        let (loaded, report) = load("unbuilt", &files);
        let loaded = loaded.unwrap();
        let state = states(&loaded)[0].1;
        let expected = if refused { "refused" } else { "served" };
        assert_eq!(state, expected, "{definition}: {report}");
        let report_text = report.to_string();
        let is_told = ["vault", "consul"].into_iter().any(|store| {
            report_text.contains(&format!(
                "there is no `kv.{store}`, so it stands for nothing"
            ))
        });
        let names_one = ["vault.", "consul.", "RfdmF1bHQ"];
        let names_one = names_one.iter().any(|name| definition.contains(name));
        assert_eq!(is_told, names_one, "{definition}: {report}");
    }
}

#[test]
fn an_api_that_is_refused_keeps_its_path() {
    let refused = r#"{"api_id": "a", "version_data": {"not_versioned": true}, "use_oauth2": true, "domain": "X.example",
        "proxy": {"listen_path": "/a/", "target_url": "http://up"}}"#;
    let files = [
        CONFIG,
        NO_POLICIES,
        ("apps/1.json", refused),
        ("apps/2.json", "{"),
    ];
    let (loaded, report) = load("refused", &files);
    let loaded = loaded.unwrap();
    let refused: Vec<_> = loaded.refused().collect();
    assert_eq!(refused[0].host.as_deref(), Some("x.example"));
    assert_eq!(refused[0].problems, report.problems[..1]);
    assert_eq!(
        states(&loaded),
        [("a", "refused", Some("/a/")), ("", "refused", None)]
    );
}

#[test]
fn companions_of_a_definition_are_passed_over_and_lone_ones_are_not() {
    let open_api = r#"{"openapi": "3.0.3"}"#;
    let (loaded, report) = load(
        "companions",
        &[
            CONFIG,
            NO_POLICIES,
            ("apps/a.json", &api("a", "/a/")),
            ("apps/a-oas.json", open_api),
            ("apps/b-oas.json", open_api),
            ("apps/c.txt", "no definition"),
        ],
    );
    assert_eq!(
        states(&loaded.unwrap()),
        [("a", "served", Some("/a/")), ("", "refused", None)]
    );
    assert!(report.to_string().contains("b-oas.json"), "{report}");
}

#[test]
fn a_policy_that_can_not_be_read_is_named_and_the_others_are_loaded() {
    let wrong = "{\"id\": \"gold\",\n \"quota_max\": \"100\"}";
    let files = [
        CONFIG,
        ("apps/a.json", "{}"),
        ("policies/a.json", wrong),
        ("policies/b.json", r#"{"id": "free"}"#),
    ];
    let (loaded, report) = load("policies", &files);
    let told = report.to_string();
    let expected = "a.json:2:15: quota_max: found a text, expected a whole number; \
                    keys of policy `gold` are refused";
    assert!(told.contains(expected), "{told}");
    let policies = loaded.unwrap().policies;
    assert_eq!(policies.len(), 1);
    assert_eq!(policies.unusable().ids, ["gold".into()].into());
    assert_eq!(policies.unusable().without_id, 0);
}

#[test]
fn a_policy_without_a_readable_id_is_any_that_is_not_there() {
    let files = |text| [CONFIG, ("apps/a.json", "{}"), ("policies/a.json", text)];
    for text in [r#"{"id": "gold""#, r#"{"id": 1}"#, "[]"] {
        let (loaded, report) = load("nameless", &files(text));
        let unusable = loaded.unwrap().policies.unusable().clone();
        assert_eq!((unusable.without_id, unusable.len()), (1, 1));
        assert!(report.has_errors(), "{report}");
    }
}

#[test]
fn a_record_file_is_read_policy_by_policy_or_not_at_all() {
    let config = r#"{"secret": "only-for-this-test",
        "policies": {"policy_record_name": "${HERE}/policies.json"}}"#;
    let files = |text| [("tyk.conf", config), ("policies.json", text)];
    let wrong = "{\"free\": {},\n \"gold\": {\"rate\": \"5\"}}";
    let (loaded, report) = load("record", &files(wrong));
    let told = report.to_string();
    let expected = "policies.json:2:19: gold.rate: found a text, expected a number; \
                    keys of policy `gold` are refused";
    assert!(told.contains(expected), "{told}");
    let policies = loaded.unwrap().policies;
    assert_eq!(policies.len(), 1);
    assert_eq!(policies.unusable().ids, ["gold".into()].into());
    for torn in ["{\"free\": {}", "[]"] {
        let (loaded, report) = load("record", &files(torn));
        assert!(loaded.is_none() && report.has_errors(), "{report}");
    }
}

#[test]
fn no_policy_at_all_is_a_set_and_a_missing_folder_is_an_error() {
    let (loaded, report) = load(
        "none",
        &[CONFIG, NO_POLICIES, ("apps/a.json", &api("a", "/a/"))],
    );
    assert!(loaded.unwrap().policies.is_empty());
    assert_eq!(report.problems, []);
    let (loaded, report) = load("missing", &[CONFIG, ("apps/a.json", &api("a", "/a/"))]);
    assert!(loaded.is_none());
    assert!(report.problems[0].message.starts_with("can not be read"));
}

#[test]
fn a_script_that_tyk_would_find_by_itself_is_refused() {
    let config = r#"{"secret": "only-for-this-test", "enable_jsvm": true,
        "app_path": "${HERE}/apps", "middleware_path": "${HERE}/middleware"}"#;
    let api = |driver: &str| {
        let proxy = json!({"listen_path": "/a/", "target_url": "http://up"});
        json!({"api_id": "a", "proxy": proxy, "custom_middleware": {"driver": driver}}).to_string()
    };
    let script = ("middleware/a/pre/deny.js", "");
    for (driver, state) in [("otto", "refused"), ("", "served")] {
        let files = [("tyk.conf", config), ("apps/a.json", &api(driver)), script];
        let (loaded, report) = load("scripts", &files);
        assert_eq!(loaded.unwrap().apis[0].state(), state, "{report}");
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("large.conf");
    let large = fs::File::create(&file).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    let (loaded, report) = load::load(&file, &Environment::default(), &LoadOptions::default());
    assert!(loaded.is_none());
    assert!(report.to_string().contains("no more than"), "{report}");
    fs::remove_file(file).unwrap();
}
