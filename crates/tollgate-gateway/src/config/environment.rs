//! `TYK_GW_…`: settings from the environment.
//!
//! A variable's name is the path of its setting in capitals, without underscores inside a member's
//! name: `http_server_options.enable_http2` is `TYK_GW_HTTPSERVEROPTIONS_ENABLEHTTP2`. Where Tyk's own
//! name for a member differs from the file's, its variable does too; those are in a list here. A list is
//! `a,b`, a map is `a:1,b:2`, lists of objects are JSON.

use std::collections::BTreeMap;

use serde_json::Number;

use super::Config;
use crate::{
    document::{Document, Tree},
    problem::{JsonPath, Problem},
    reference::Environment,
    shape::{Kind, Node},
    suggest::nearest,
};

const PREFIX: &str = "TYK_GW_";

/// Starts from nothing in place of the file.
const OMIT_FILE: &str = "OMITCONFIGFILE";

/// Variables that are not named after the member of the file; parts of names, as they stand in a path.
const OTHER_NAMES: &[(&str, &str)] = &[
    (
        "HTTPSERVEROPTIONS_USELE_SSL",
        "http_server_options.use_ssl_le",
    ),
    (
        "HTTPSERVEROPTIONS_CIPHERS",
        "http_server_options.ssl_ciphers",
    ),
    ("SECURITY_CERTIFICATES_API", "security.certificates.apis"),
    (
        "SECURITY_CERTIFICATES_DASHBOARD",
        "security.certificates.dashboard_api",
    ),
    (
        "SECURITY_CERTIFICATES_MDCB",
        "security.certificates.mdcb_api",
    ),
    ("PORTWHITELIST", "ports_whitelist"),
    ("DISABLEPORTWHITELIST", "disable_ports_whitelist"),
    ("STORAGE_MAXIDLE", "storage.optimisation_max_idle"),
    ("STORAGE_MAXACTIVE", "storage.optimisation_max_active"),
    (
        "CACHESTORAGE_MAXIDLE",
        "cache_storage.optimisation_max_idle",
    ),
    (
        "CACHESTORAGE_MAXACTIVE",
        "cache_storage.optimisation_max_active",
    ),
    (
        "ANALYTICSSTORAGE_MAXIDLE",
        "analytics_storage.optimisation_max_idle",
    ),
    (
        "ANALYTICSSTORAGE_MAXACTIVE",
        "analytics_storage.optimisation_max_active",
    ),
    ("MONITOR_CONFIG_METHOD", "monitor.configuration.method"),
    (
        "MONITOR_CONFIG_TARGETPATH",
        "monitor.configuration.target_path",
    ),
    (
        "MONITOR_CONFIG_TEMPLATEPATH",
        "monitor.configuration.template_path",
    ),
    (
        "MONITOR_CONFIG_HEADERLIST",
        "monitor.configuration.header_map",
    ),
    (
        "MONITOR_CONFIG_EVENTTIMEOUT",
        "monitor.configuration.event_timeout",
    ),
    ("MAXIDLECONNS", "max_idle_connections"),
    ("MAXIDLECONNSPERHOST", "max_idle_connections_per_host"),
    ("PROXYSSLCIPHERSUITES", "proxy_ssl_ciphers"),
    ("OAUTHREFRESHEXPIRE", "oauth_refresh_token_expire"),
    (
        "HEALTHCHECK_HEALTHCHECKVALUETIMEOUT",
        "health_check.health_check_value_timeouts",
    ),
    (
        "ANALYTICSCONFIG_GEOIPDBLOCATION",
        "analytics_config.geo_ip_db_path",
    ),
    (
        "ANALYTICSCONFIG_NORMALISEURLS_CUSTOM",
        "analytics_config.normalise_urls.custom_patterns",
    ),
    (
        "LOCALSESSIONCACHE_DISABLECACHESESSIONSTATE",
        "local_session_cache.disable_cached_session_state",
    ),
    (
        "LOCALSESSIONCACHE_CACHESESSIONEVICTION",
        "local_session_cache.cached_session_eviction",
    ),
    ("ENABLESEPERATECACHESTORE", "enable_separate_cache_store"),
    (
        "ENABLESEPERATEANALYTICSSTORE",
        "enable_separate_analytics_store",
    ),
    ("HTTPPROFILE", "enable_http_profiler"),
    ("SUPRESSDEFAULTORGSTORE", "suppress_default_org_store"),
    (
        "SLAVEOPTIONS_BINDTOSLUGSINSTEADOFLISTENPATHS",
        "slave_options.bind_to_slugs",
    ),
    (
        "SLAVEOPTIONS_RPCGLOBALCACHEEXPIRATION",
        "slave_options.rpc_global_cache_expiration",
    ),
];

/// Puts what the environment says into the document.
pub(super) fn apply(document: &mut Document, environment: &Environment) -> Vec<Problem> {
    if environment
        .get(&format!("{PREFIX}{OMIT_FILE}"))
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        document.tree = Tree::Object(Vec::new());
    }
    let settings = settings();
    let mut problems = Vec::new();
    for (name, text) in environment.with_prefix(PREFIX) {
        if name == OMIT_FILE {
            continue;
        }
        match settings.get(name) {
            Some((path, node)) => match parse(text, *node) {
                Some(value) => set(&mut document.tree, path.steps(), value),
                None => problems.push(wrong(name, *node)),
            },
            None => problems.push(unknown(name, &settings)),
        }
    }
    problems
}

/// Every setting by the name of its variable.
fn settings() -> BTreeMap<String, (JsonPath, Node<'static>)> {
    let leaves: Vec<_> = Config::shape().root().leaves();
    let mut settings = BTreeMap::new();
    for (path, node) in leaves {
        // Lists and maps of objects are set as a whole.
        let whole = path.split(['[', '*']).next().unwrap_or_default();
        let path = whole.trim_end_matches('.').to_owned();
        let other = OTHER_NAMES.iter().find(|(_, other)| **other == *path);
        let value = (
            JsonPath::from(path.as_str()),
            node_of(&path).unwrap_or(node),
        );
        if let Some((name, _)) = other {
            settings.insert((*name).to_owned(), value.clone());
        }
        settings.insert(
            path.to_ascii_uppercase().replace('_', "").replace('.', "_"),
            value,
        );
    }
    settings
}

/// The shape of the member itself where its leaves are those of its items.
fn node_of(path: &str) -> Option<Node<'static>> {
    let mut node = Config::shape().root();
    for part in path.split('.') {
        let Kind::Object(members) = node.kind() else {
            return None;
        };
        node = Node::of(members.get(part)?);
    }
    Some(node)
}

/// The value that a text stands for.
fn parse(text: &str, node: Node<'_>) -> Option<Tree> {
    match node.kind() {
        Kind::Text => Some(Tree::Text(text.to_owned())),
        Kind::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Tree::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Tree::Bool(false)),
            _ => None,
        },
        Kind::Whole => text
            .parse::<i64>()
            .ok()
            .map(|number| Tree::Number(number.into())),
        Kind::Number => text
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map(Tree::Number),
        Kind::List(items) if !matches!(items.kind(), Kind::Object(_)) => {
            let parts = text.split(',').filter(|_| !text.trim().is_empty());
            parts
                .map(|part| parse(part, items))
                .collect::<Option<_>>()
                .map(Tree::List)
        }
        Kind::Map(values) if !matches!(values.kind(), Kind::List(_) | Kind::Object(_)) => {
            let pair = |pair: &str| {
                let (key, value) = pair.split_once(':')?;
                Some((key.to_owned(), parse(value, values)?))
            };
            let pairs = text.split(',').filter(|_| !text.trim().is_empty());
            pairs.map(pair).collect::<Option<_>>().map(Tree::Object)
        }
        _ => serde_json::from_str(text).ok(),
    }
}

/// Puts a value in place of every member of this name.
fn set(tree: &mut Tree, steps: &[crate::problem::Step], value: Tree) {
    let Some((crate::problem::Step::Key(key), rest)) = steps.split_first() else {
        *tree = value;
        return;
    };
    if !matches!(tree, Tree::Object(_)) {
        *tree = Tree::Object(Vec::new());
    }
    let Tree::Object(members) = tree else {
        return;
    };
    if rest.is_empty() {
        members.retain(|(name, _)| !name.eq_ignore_ascii_case(key));
    }
    // Of members with one name the last counts, and objects are merged: so it is the one to change.
    match members
        .iter_mut()
        .rev()
        .find(|(name, _)| name.eq_ignore_ascii_case(key))
    {
        Some((_, member)) => set(member, rest, value),
        None => {
            let mut member = Tree::Null;
            set(&mut member, rest, value);
            members.push((key.clone(), member));
        }
    }
}

fn wrong(name: &str, node: Node<'_>) -> Problem {
    let expected = match node.kind() {
        Kind::Bool => "true or false",
        Kind::Whole => "a whole number",
        Kind::Number => "a number",
        Kind::List(items) if !matches!(items.kind(), Kind::Object(_)) => "a list as `a,b`",
        Kind::Map(values) if !matches!(values.kind(), Kind::List(_) | Kind::Object(_)) => {
            "pairs as `a:1,b:2`"
        }
        _ => "JSON",
    };
    about(
        name,
        Problem::error("environment", format!("expected {expected}")),
    )
}

fn unknown(name: &str, settings: &BTreeMap<String, (JsonPath, Node<'_>)>) -> Problem {
    let problem = Problem::warning("environment", "unknown, and not read");
    let problem = match nearest(name, settings.keys().map(String::as_str)) {
        Some(known) => problem.help(format!("did you mean `{PREFIX}{known}`?")),
        None => problem,
    };
    about(name, problem)
}

fn about(name: &str, problem: Problem) -> Problem {
    problem.at(JsonPath::root().key(&format!("{PREFIX}{name}")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn applied(json: &str, variables: &[(&str, &str)]) -> (Value, Vec<String>) {
        let mut document = Document::parse(Path::new("t"), json.into()).unwrap();
        let problems = apply(&mut document, &variables.iter().copied().collect());
        (
            document.tree.into_value(),
            problems.iter().map(ToString::to_string).collect(),
        )
    }

    #[track_caller]
    fn check(variable: (&str, &str), expected: Value) {
        let (value, problems) = applied("{}", &[variable]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(value, expected);
    }

    #[test]
    fn every_kind_of_value_is_read() {
        check(("TYK_GW_SECRET", "s,t"), json!({"secret": "s,t"}));
        check(("TYK_GW_LISTENPORT", "80"), json!({"listen_port": 80}));
        check(
            ("TYK_GW_PORTWHITELIST", r#"{"http": {"ports": [9000]}}"#),
            json!({"ports_whitelist": {"http": {"ports": [9000]}}}),
        );
        check(
            ("TYK_GW_DRLTHRESHOLD", "2.5"),
            json!({"drl_threshold": 2.5}),
        );
        check(
            ("TYK_GW_DBAPPCONFOPTIONS_TAGS", "a,b"),
            json!({"db_app_conf_options": {"tags": ["a", "b"]}}),
        );
        check(
            ("TYK_GW_HASHKEYFUNCTIONFALLBACK", ""),
            json!({"hash_key_function_fallback": []}),
        );
        check(
            ("TYK_GW_STORAGE_HOSTS", "h:1"),
            json!({"storage": {"hosts": {"h": "1"}}}),
        );
        check(
            (
                "TYK_GW_HTTPSERVEROPTIONS_CERTIFICATES",
                r#"[{"domain_name": "a"}]"#,
            ),
            json!({"http_server_options": {"certificates": [{"domain_name": "a"}]}}),
        );
    }

    #[test]
    fn other_names_are_known() {
        check(
            ("TYK_GW_STORAGE_MAXIDLE", "5"),
            json!({"storage": {"optimisation_max_idle": 5}}),
        );
        check(
            ("TYK_GW_MAXIDLECONNS", "5"),
            json!({"max_idle_connections": 5}),
        );
        let settings = settings();
        for (name, path) in OTHER_NAMES {
            assert_eq!(settings[*name].0.to_string(), *path);
        }
    }

    #[test]
    fn the_file_s_own_member_is_replaced_in_any_case() {
        let (value, _) = applied(
            r#"{"Listen_Port": 1, "storage": {"host": "h"}}"#,
            &[("TYK_GW_LISTENPORT", "2"), ("TYK_GW_STORAGE_PORT", "3")],
        );
        assert_eq!(
            value,
            json!({"listen_port": 2, "storage": {"host": "h", "port": 3}})
        );
    }

    #[test]
    fn the_file_can_be_left_out() {
        let (value, _) = applied(
            r#"{"listen_port": 1}"#,
            &[("TYK_GW_OMITCONFIGFILE", "True")],
        );
        assert_eq!(value, json!({}));
    }

    #[test]
    fn what_can_not_be_read_is_told_without_its_value() {
        let (_, problems) = applied(
            "{}",
            &[
                ("TYK_GW_HASHKEYS", "secret"),
                ("TYK_GW_LISTENPROT", "1"),
                ("TYK_GW_SECRETS", "secret"),
            ],
        );
        assert_eq!(
            problems,
            [
                "error: environment: TYK_GW_HASHKEYS: expected true or false",
                "warning: environment: TYK_GW_LISTENPROT: unknown, and not read (did you mean `TYK_GW_LISTENPORT`?)",
                "error: environment: TYK_GW_SECRETS: expected pairs as `a:1,b:2`",
            ]
        );
    }
}
