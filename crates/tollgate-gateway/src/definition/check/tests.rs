//! Definitions, and what is said of them.

use serde_json::{Value, json};

use super::*;
use crate::{reference::Environment, secret_stores::SecretStores};

/// A definition that is right, with these members put over it.
fn definition(change: &Value) -> Definition {
    let mut value = json!({
        "api_id": "a",
        "version_data": {"not_versioned": true, "versions": {"Default": {"name": "Default", "use_extended_paths": true}}},
        "proxy": {"listen_path": "/a/", "target_url": "http://up"}});
    merge(&mut value, change);
    serde_json::from_value(value).unwrap()
}

fn merge(value: &mut Value, change: &Value) {
    match (value, change) {
        (Value::Object(members), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(members.entry(key).or_insert(Value::Null), change);
            }
        }
        (value, Value::Null) => *value = json!({}),
        (value, change) => *value = change.clone(),
    }
}

#[track_caller]
fn check_with(config: &Config, change: Value, expected: &[&str]) {
    let sources = SecretSources {
        config,
        environment: &Environment::default(),
        stores: &SecretStores::default(),
    };
    let problems = check(&definition(&change), sources);
    let found: Vec<_> = problems
        .iter()
        .map(|problem| problem.path.to_string())
        .collect();
    assert_eq!(found, expected, "{problems:?}");
}

#[track_caller]
fn case(change: Value, expected: &[&str]) {
    check_with(&Config::default(), change, expected);
}

/// A change of the one version.
fn version(change: Value) -> Value {
    json!({"version_data": {"versions": {"Default": change}}})
}

#[track_caller]
fn paths(change: Value, expected: &[&str]) {
    let place = "version_data.versions.Default.extended_paths";
    let expected: Vec<_> = expected
        .iter()
        .map(|path| format!("{place}.{path}"))
        .collect();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    case(version(json!({"extended_paths": change})), &expected);
}

#[test]
fn a_right_definition_has_no_problem() {
    case(json!({}), &[]);
}

#[test]
fn paths_and_targets_are_looked_at() {
    case(
        json!({"proxy": {"listen_path": ""}}),
        &["proxy.listen_path"],
    );
    case(
        json!({"proxy": {"listen_path": "/a b/"}}),
        &["proxy.listen_path"],
    );
    case(json!({"proxy": {"listen_path": "/a/{n:[0-9]+}/"}}), &[]);
    case(
        json!({"proxy": {"listen_path": "/a/{n:[}/"}}),
        &["proxy.listen_path"],
    );
    case(json!({"internal": true, "proxy": {"listen_path": ""}}), &[]);
    for target in ["", "up", "/path", "ftp://up", "http://", "http:// up"] {
        case(
            json!({"proxy": {"target_url": target}}),
            &["proxy.target_url"],
        );
    }
    for target in [
        "tyk://self/x",
        "tyk://other/x",
        "tyk://other?check_limits=true",
    ] {
        case(
            json!({"proxy": {"target_url": target}}),
            &["proxy.target_url"],
        );
    }
    for target in [
        "https://up:1/p?q=1",
        "tyk://other",
        "tyk://other/",
        "h2c://up",
        "http://[::1]:80",
    ] {
        case(json!({"proxy": {"target_url": target}}), &[]);
    }
    let balanced = |list: Value| json!({"proxy": {"enable_load_balancing": true, "target_url": "", "target_list": list}});
    case(
        balanced(json!(["http://a", "b"])),
        &["proxy.target_list[1]"],
    );
    case(
        balanced(json!(["tyk://a", "http://b"])),
        &["proxy.target_list[0]"],
    );
    case(balanced(json!([])), &["proxy.target_list"]);
}

#[test]
fn a_schema_of_metadata_is_looked_at() {
    let schema = |schema: Value| json!({"tollgate": {"meta_data_schema": schema}});
    case(schema(json!({"type": "object"})), &[]);
    case(
        schema(json!({"type": "nothing"})),
        &["tollgate.meta_data_schema"],
    );
    case(
        schema(json!({"$ref": "https://elsewhere.example/s"})),
        &["tollgate.meta_data_schema"],
    );
}

#[test]
fn rewrites_are_looked_at() {
    let rewrite = |change: Value| {
        let mut entry =
            json!({"path": "/", "method": "GET", "match_pattern": "/x", "rewrite_to": "/y"});
        merge(&mut entry, &change);
        json!({"url_rewrites": [entry]})
    };
    let case = |change: Value, place: &str| {
        paths(rewrite(change), &[&format!("url_rewrites[0].{place}")]);
    };
    paths(rewrite(json!({})), &[]);
    paths(
        rewrite(json!({"disabled": true, "match_pattern": "("})),
        &[],
    );
    case(json!({"match_pattern": "("}), "match_pattern");
    case(json!({"path": "("}), "path");
    case(json!({"method": ""}), "method");
    case(json!({"rewrite_to": "a:b/c"}), "rewrite_to");
    case(json!({"rewrite_to": "http://$1/"}), "rewrite_to");
    case(json!({"rewrite_to": "ftp://h/"}), "rewrite_to");
    let trigger = |on: &str, options: Value| json!({"triggers": [{"on": on, "options": options, "rewrite_to": "/z"}]});
    let header = |rx: &str| json!({"header_matches": {"X-A": {"match_rx": rx}}});
    paths(rewrite(trigger("any", header("1"))), &[]);
    case(trigger("any", json!({})), "triggers[0].options");
    case(trigger("all", json!({})), "triggers[0].options");
    case(trigger("some", header("1")), "triggers[0].on");
    case(
        trigger("any", header("(")),
        "triggers[0].options.header_matches.X-A.match_rx",
    );
}

#[test]
fn tls_of_upstreams_is_looked_at() {
    let transport = |change: Value| json!({"proxy": {"transport": change}});
    case(transport(json!({"ssl_min_version": 771})), &[]);
    case(
        transport(json!({"ssl_min_version": 769, "ssl_insecure_skip_verify": true})),
        &[
            "proxy.transport.ssl_min_version",
            "proxy.transport.ssl_insecure_skip_verify",
        ],
    );
    case(
        transport(json!({"ssl_max_version": 769, "ssl_ciphers": ["X"]})),
        &[
            "proxy.transport.ssl_max_version",
            "proxy.transport.ssl_ciphers[0]",
        ],
    );
}

#[test]
fn addresses_are_looked_at() {
    case(
        json!({"allowed_ips": ["10.0.0.1", "::1", "10.0.0.0/8", "2001:db8::/32"]}),
        &[],
    );
    case(
        json!({"allowed_ips": ["10.0.0.1", "10.0.0"]}),
        &["allowed_ips[1]"],
    );
    case(
        json!({"blacklisted_ips": ["10.0.0.0/33", ""]}),
        &["blacklisted_ips[0]", "blacklisted_ips[1]"],
    );
}

#[test]
fn the_cors_section_is_looked_at() {
    let cors = |section: Value| json!({"CORS": section});
    case(
        cors(
            json!({"enable": true, "allowed_headers": ["*", "x-a", "x a"], "exposed_headers": [""]}),
        ),
        &["CORS.allowed_headers[2]", "CORS.exposed_headers[0]"],
    );
    case(
        cors(json!({"enable": true, "allow_credentials": true})),
        &["CORS.allow_credentials"],
    );
    case(cors(json!({"allow_credentials": true})), &[]);
    case(
        cors(json!({"enable": true, "allow_credentials": true, "allowed_origins": ["http://a"]})),
        &[],
    );
}

#[test]
fn versions_are_looked_at() {
    case(
        version(json!({"name": "other"})),
        &["version_data.versions.Default.name"],
    );
    case(version(json!({"name": ""})), &[]);
    case(
        version(json!({"expires": "soon"})),
        &["version_data.versions.Default.expires"],
    );
    for (single, expected) in [(true, &[][..]), (false, &["expiration"])] {
        case(
            json!({"expiration": "2999-01-02 15:04", "version_data": {"not_versioned": single},
                "definition": {"location": "header", "key": "x-version"}}),
            expected,
        );
    }
    let own_target = "version_data.versions.Default.override_target";
    case(
        version(json!({"override_target": "http://up"})),
        &[own_target],
    );
    for (target, balanced, expected) in [
        ("up", false, &[own_target][..]),
        ("http://up", false, &[]),
        ("http://up", true, &[own_target]),
    ] {
        let mut changed = version(json!({"override_target": target}));
        changed["version_data"]["not_versioned"] = json!(false);
        changed["definition"] = json!({"location": "header", "key": "x-version"});
        changed["proxy"] = json!({"enable_load_balancing": balanced, "target_list": ["http://a"]});
        case(changed, expected);
    }
    case(
        json!({"version_data": {"versions": {"default": {}}}}),
        &["version_data.versions"],
    );
    case(json!({"version_data": null}), &["version_data"]);
    case(json!({"definition": {"location": "cookie"}}), &[]);
    case(
        json!({"definition": {"location": "cookie"}, "version_data": {"not_versioned": false}}),
        &["definition.location"],
    );
    case(
        json!({"definition": {"url_versioning_pattern": "("}}),
        &["definition.url_versioning_pattern"],
    );
    case(
        version(
            json!({"use_extended_paths": false, "extended_paths": {"white_list": [{"path": "/"}]}}),
        ),
        &["version_data.versions.Default.extended_paths"],
    );
    case(
        version(json!({"use_extended_paths": false, "paths": {"black_list": ["/a", "/("]}})),
        &["version_data.versions.Default.paths.black_list[1]"],
    );
}

#[test]
fn a_pattern_that_can_not_be_used_is_named() {
    for list in [
        "ignored",
        "white_list",
        "black_list",
        "mock_response",
        "transform_headers",
        "hard_timeouts",
        "size_limits",
        "method_transforms",
        "track_endpoints",
        "internal",
        "rate_limit",
    ] {
        let entry =
            json!({list: [{"path": "/good"}, {"disabled": true, "path": "/("}, {"path": "/("}]});
        paths(entry, &[&format!("{list}[2].path")]);
    }
}

#[test]
fn entries_are_looked_at() {
    paths(
        json!({"mock_response": [{"code": 0}, {"code": 418}, {"code": 99}]}),
        &["mock_response[2].code"],
    );
    paths(
        json!({"black_list": [{"path": "/", "method_actions": {"GET": {"action": "reply", "code": 1000}}}]}),
        &["black_list[0].method_actions.GET.code"],
    );
    paths(
        json!({"circuit_breakers": [
            {"threshold_percent": 0.5, "samples": 5, "return_to_service_after": 1},
            {"threshold_percent": 50.0}]}),
        &[
            "circuit_breakers[1].threshold_percent",
            "circuit_breakers[1].samples",
            "circuit_breakers[1].return_to_service_after",
        ],
    );
    paths(
        json!({"transform_headers": [{"add_headers": {"X-A": "", "x-a": "", "X B": ""}}]}),
        &[
            "transform_headers[0].add_headers.X B",
            "transform_headers[0].add_headers.x-a",
        ],
    );
    paths(
        json!({"transform_response_headers": [{"add_headers": {"Content-length": "1"}}]}),
        &["transform_response_headers[0].add_headers.Content-length"],
    );
}

#[test]
fn schemas_are_looked_at() {
    paths(
        json!({"validate_json": [
            {"schema": {}}, {"schema": {"type": "objekt"}}, {"path": "/(", "schema": {}}, {},
            {"schema_b64": "e30="}, {"schema_b64": "e"}, {"schema": {}, "error_response_code": 99}]}),
        &[
            "validate_json[2].path",
            "validate_json[1].schema",
            "validate_json[3].schema",
            "validate_json[5].schema",
            "validate_json[6].error_response_code",
        ],
    );
}

#[test]
fn what_the_configuration_leaves_out_is_told() {
    case(json!({"domain": "a.example"}), &["domain"]);
    let config = Config {
        enable_custom_domains: true,
        ..Config::default()
    };
    check_with(&config, json!({"domain": "a.example"}), &[]);
    case(json!({"active": false}), &["active"]);
    case(json!({"api_id": ""}), &["api_id"]);
    case(
        json!({"auth_configs": {"authToken": {}, "authtoken": {}}}),
        &["auth_configs.authtoken"],
    );
}
