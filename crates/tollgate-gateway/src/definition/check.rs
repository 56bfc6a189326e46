//! What several members of a definition together must be, and what their texts must be.

use std::{error::Error, net::IpAddr};

use http::{HeaderName, StatusCode, Uri};
use ipnet::IpNet;
use tollgate::body_transform::{Side, TransformEntryError};
use tollgate_core::{
    access::{PathOptions, PathPattern},
    rewrite::{Rewrite, RewriteOptions, TargetKind, UrlRewriteEntry},
};

use super::{
    Cors, Definition, ExtendedPaths, ListEntry, ListenPath, Transport, Version, internal_target,
    version::expires_at,
};
use crate::{
    compose::transforms::{format_of_request, template},
    config::Config,
    edge::schema::Schema,
    meta_schema, overrides,
    problem::{JsonPath, Problem, last_line},
    proxy::ForwardProxy,
    suggest::nearest,
    tls::{TlsMembers, UNVERIFIED},
};

/// What is wrong with a definition that could be read.
pub(super) fn check(definition: &Definition, config: &Config) -> Vec<Problem> {
    let mut checks = Checks {
        problems: Vec::new(),
        options: config.path_options(),
        has_proxy: !definition.proxy.transport.proxy_url.is_empty(),
        config,
    };
    checks.names(definition, config);
    checks.targets(definition);
    checks.transport(&definition.proxy.transport);
    checks.addresses("allowed_ips", &definition.allowed_ips);
    checks.addresses("blacklisted_ips", &definition.blacklisted_ips);
    checks.end(&definition.expiration, "expiration".into());
    checks.end_of_versions(definition);
    checks.auth_sources(definition);
    checks.cors(&definition.cors);
    let schema = &definition.tollgate.meta_data_schema.0;
    if !schema.is_null()
        && let Err(message) = meta_schema::compile(schema)
    {
        checks.error("tollgate.meta_data_schema".into(), message);
    }
    checks.version_source(definition);
    if definition.version_data.not_versioned && definition.version_data.only().is_none() {
        checks.without_single_version(definition);
    }
    let versions = JsonPath::from("version_data.versions");
    for (name, version) in &definition.version_data.versions {
        let path = versions.key(name);
        checks.version_name(name, version, definition, &path);
        checks.override_target(version, definition, path.key("override_target"));
        checks.version(version, &path);
    }
    if let Some(overrides) = definition.active_error_overrides() {
        checks
            .problems
            .extend(overrides::check(overrides, &"error_overrides".into()));
    }
    checks.problems
}

struct Checks<'a> {
    problems: Vec<Problem>,
    options: PathOptions,
    /// Whether upstreams are reached by a proxy.
    has_proxy: bool,
    config: &'a Config,
}

impl Checks<'_> {
    fn error(&mut self, path: JsonPath, message: impl Into<String>) {
        self.problems.push(Problem::error("", message).at(path));
    }

    fn warning(&mut self, path: JsonPath, message: impl Into<String>) {
        self.problems.push(Problem::warning("", message).at(path));
    }

    fn names(&mut self, definition: &Definition, config: &Config) {
        if definition.api_id.is_empty() {
            self.warning("api_id".into(), "empty: no key can be granted this API");
        }
        if !definition.is_active(config) {
            self.warning("active".into(), "false: the API is not served");
        }
        let listen_path = &definition.proxy.listen_path;
        if ListenPath::clean(listen_path).is_none()
            && !(definition.internal && listen_path.is_empty())
        {
            let message = "expected a path without spaces, as `/orders/`";
            self.error("proxy.listen_path".into(), message);
        }
        if !config.enable_custom_domains
            && !definition.domain.is_empty()
            && !definition.domain_disabled
        {
            let message = "not looked at: the configuration has no `enable_custom_domains`";
            self.warning("domain".into(), message);
        }
    }

    fn transport(&mut self, transport: &Transport) {
        let path = JsonPath::from("proxy.transport");
        let members = TlsMembers {
            oldest: (path.key("ssl_min_version"), transport.ssl_min_version),
            newest: (path.key("ssl_max_version"), transport.ssl_max_version),
            suites: (path.key("ssl_ciphers"), &transport.ssl_ciphers),
        };
        self.problems.extend(members.check());
        let proxy = &transport.proxy_url;
        if !proxy.is_empty()
            && let Err(err) = proxy.parse::<ForwardProxy>()
        {
            self.error(path.key("proxy_url"), err.to_string());
        }
        if transport.ssl_insecure_skip_verify {
            self.warning(path.key("ssl_insecure_skip_verify"), UNVERIFIED);
        }
    }

    fn targets(&mut self, definition: &Definition) {
        let proxy = &definition.proxy;
        if !proxy.enable_load_balancing {
            self.target(&proxy.target_url, "proxy.target_url".into());
            return;
        }
        let path = JsonPath::from("proxy.target_list");
        if proxy.target_list.is_empty() {
            self.error(
                path.clone(),
                "there is no target, and requests are to be balanced",
            );
        }
        for (index, target) in proxy.target_list.iter().enumerate() {
            self.target(target, path.index(index));
            if internal_target(target).is_some() {
                let message = "requests can not be balanced between APIs of this gateway";
                self.error(path.index(index), message);
            }
        }
    }

    fn target(&mut self, target: &str, path: JsonPath) {
        const SCHEMES: [&str; 6] = ["http", "https", "h2c", "ws", "wss", "tyk"];
        let is_right = target.parse::<Uri>().is_ok_and(|uri| {
            uri.host().is_some_and(|host| !host.is_empty())
                && uri
                    .scheme_str()
                    .is_some_and(|scheme| SCHEMES.contains(&scheme))
        });
        if !is_right {
            self.error(path, "expected a URL, as `http://host:port/path`");
        } else if self.has_proxy && target.starts_with("h2c:") {
            let message = "HTTP/2 without TLS does not go through `proxy.transport.proxy_url`";
            self.error(path, message);
        } else if internal_target(target) == Some("self") {
            self.error(path, "an API can not be its own target");
        } else if internal_target(target).is_some() && has_more_than_a_name(target) {
            let message = "only the name is read, as in Tyk: the path is the request's";
            self.warning(path, message);
        }
    }

    fn addresses(&mut self, list: &str, addresses: &[String]) {
        for (index, address) in addresses.iter().enumerate() {
            if address.parse::<IpAddr>().is_err() && address.parse::<IpNet>().is_err() {
                let message = "expected an address or a network, as `10.0.0.0/8`";
                self.error(JsonPath::from(list).index(index), message);
            }
        }
    }

    fn end(&mut self, text: &str, path: JsonPath) {
        if expires_at(text).is_err() {
            let message = "expected a time as `2030-01-31 12:00`; taken as long ago";
            self.warning(path, message);
        }
    }

    fn end_of_versions(&mut self, definition: &Definition) {
        let has_end = !matches!(expires_at(&definition.expiration), Ok(None));
        if has_end && !definition.version_data.not_versioned {
            let message = "does not end an API with versions, as in Tyk; `expires` of each does";
            self.warning("expiration".into(), message);
        }
    }

    fn auth_sources(&mut self, definition: &Definition) {
        const KINDS: [&str; 8] = [
            "authToken",
            "basic",
            "coprocess",
            "externalOAuth",
            "hmac",
            "jwt",
            "oauth",
            "oidc",
        ];
        let source = definition.token_source();
        if source.disable_header && !source.use_param && !source.use_cookie {
            let path = match definition.auth_configs.get("authToken") {
                Some(_) => JsonPath::from("auth_configs.authToken"),
                None => JsonPath::from("auth"),
            };
            let message = "a token is looked for nowhere, so every request is refused";
            self.warning(path.key("disable_header"), message);
        }
        for kind in definition.auth_configs.keys() {
            if !KINDS.contains(&kind.as_str()) {
                let path = JsonPath::from("auth_configs").key(kind);
                let problem = Problem::warning("", "unknown, and not read").at(path);
                self.problems.push(match nearest(kind, KINDS) {
                    Some(known) => problem.help(format!("did you mean `{known}`?")),
                    None => problem,
                });
            }
        }
    }

    fn cors(&mut self, cors: &Cors) {
        if !cors.enable {
            return;
        }
        let path = JsonPath::from("CORS");
        let is_any = |texts: &[String]| texts.is_empty() || texts.iter().any(|text| text == "*");
        if cors.allow_credentials && is_any(&cors.allowed_origins) {
            let message = "not told to browsers, as every origin is allowed";
            self.warning(path.key("allow_credentials"), message);
        }
        for (member, names) in [
            ("allowed_headers", &cors.allowed_headers),
            ("exposed_headers", &cors.exposed_headers),
        ] {
            for (index, name) in names.iter().enumerate() {
                if name != "*" && HeaderName::try_from(name).is_err() {
                    let path = path.key(member).index(index);
                    self.error(path, "no header can have this name");
                }
            }
        }
    }

    fn version_source(&mut self, definition: &Definition) {
        let source = &definition.definition;
        let data = &definition.version_data;
        if !data.not_versioned && data.versions.is_empty() && !source.enabled {
            let message = "there is no version, so every request is refused";
            let problem = Problem::warning("", message).at("version_data".into());
            self.problems
                .push(problem.help("say `not_versioned: true` where there are none"));
        }
        let is_used = source.enabled || !definition.version_data.not_versioned;
        if is_used && !["", "header", "url-param", "url"].contains(&source.location.as_str()) {
            let message = "expected `header`, `url-param` or `url`; no version is found";
            self.warning("definition.location".into(), message);
        }
        if let Err(err) = regex::Regex::new(&source.url_versioning_pattern) {
            let message = format!(
                "can not be used, so every name matches: {}",
                last_line(&err)
            );
            self.warning("definition.url_versioning_pattern".into(), message);
        }
    }

    fn without_single_version(&mut self, definition: &Definition) {
        let path = JsonPath::from("version_data.versions");
        if !definition.version_data.versions.is_empty() {
            let message = "the API has no versions, and it can not be told which of these is meant";
            self.error(path, message);
        }
    }

    /// Tyk takes the inner name for what is done on paths, and the outer one for all else. Here the
    /// outer one is taken; where another version could have been meant, nothing is.
    fn version_name(&mut self, name: &str, version: &Version, all: &Definition, path: &JsonPath) {
        if version.name.is_empty() || version.name == name {
            return;
        }
        let message = format!("differs from the name that the version stands under, `{name}`");
        if all.version_data.versions.len() > 1 {
            self.error(path.key("name"), message);
        } else {
            self.warning(path.key("name"), format!("{message}, which is taken"));
        }
    }

    fn override_target(&mut self, version: &Version, all: &Definition, path: JsonPath) {
        let target = &version.override_target;
        if target.is_empty() {
            return;
        }
        if all.version_data.not_versioned {
            self.warning(path, "not read, as the API has only one version");
        } else if all.proxy.enable_load_balancing {
            let message = "not read, as in Tyk: `proxy.target_list` comes first";
            self.warning(path, message);
        } else {
            self.target(target, path);
        }
    }

    fn version(&mut self, version: &Version, path: &JsonPath) {
        self.end(&version.expires, path.key("expires"));
        if !version.global_headers_disabled {
            self.set_headers(version.global_headers.keys(), &path.key("global_headers"));
        }
        if !version.global_response_headers_disabled {
            let path = path.key("global_response_headers");
            self.set_headers(version.global_response_headers.keys(), &path);
            self.no_content_length(version.global_response_headers.keys(), &path);
        }
        if version.use_extended_paths {
            self.extended_paths(
                &version.extended_paths,
                version,
                &path.key("extended_paths"),
            );
        } else {
            self.path_lists(version, path);
        }
    }

    fn path_lists(&mut self, version: &Version, path: &JsonPath) {
        let lists = [
            ("ignored", &version.paths.ignored),
            ("white_list", &version.paths.white_list),
            ("black_list", &version.paths.black_list),
        ];
        for (name, patterns) in lists {
            for (index, pattern) in patterns.iter().enumerate() {
                let at = path.key("paths").key(name).index(index);
                self.pattern(pattern, self.in_any_case(version.ignore_endpoint_case), at);
            }
        }
        if version.extended_paths != ExtendedPaths::default() {
            let message = "not read, as `use_extended_paths` is off";
            self.warning(path.key("extended_paths"), message);
        }
    }

    fn in_any_case(&self, ignore_case: bool) -> PathOptions {
        PathOptions {
            ignore_case: self.options.ignore_case || ignore_case,
            ..self.options
        }
    }

    fn pattern(&mut self, pattern: &str, options: PathOptions, path: JsonPath) {
        if let Err(err) = PathPattern::compile(pattern, options) {
            self.error(
                path,
                format!("can not be used: {}", last_line(&err.reason())),
            );
        }
    }

    fn extended_paths(&mut self, paths: &ExtendedPaths, version: &Version, path: &JsonPath) {
        let options = self.in_any_case(version.ignore_endpoint_case);
        let lists = [
            ("ignored", &paths.ignored),
            ("white_list", &paths.white_list),
            ("black_list", &paths.black_list),
        ];
        for (name, entries) in lists {
            for (index, entry) in enabled(entries, |entry| entry.disabled) {
                self.list_entry(entry, options, &path.key(name).index(index));
            }
        }
        for (index, entry) in enabled(&paths.mock_response, |entry| entry.disabled) {
            let path = path.key("mock_response").index(index);
            self.pattern(&entry.path, options, path.key("path"));
            self.status(entry.code, path.key("code"));
            self.set_headers(entry.headers.keys(), &path.key("headers"));
        }
        self.single_paths(paths, path);
        self.transforms(paths, path);
        self.header_entries(paths, path);
        for (index, entry) in enabled(&paths.url_rewrites, |entry| entry.disabled) {
            self.rewrite(entry, &path.key("url_rewrites").index(index));
        }
        for (index, entry) in enabled(&paths.circuit_breakers, |entry| entry.disabled) {
            let path = path.key("circuit_breakers").index(index);
            if !(0.0..=1.0).contains(&entry.threshold_percent) {
                self.error(
                    path.key("threshold_percent"),
                    "expected a part of the whole, from 0 to 1",
                );
            }
            if entry.samples < 1 {
                self.error(path.key("samples"), "expected at least one request");
            }
            if entry.return_to_service_after < 1 {
                let message = "the breaker is never open";
                self.warning(path.key("return_to_service_after"), message);
            }
        }
        for (index, entry) in enabled(&paths.validate_json, |entry| entry.disabled) {
            let path = path.key("validate_json").index(index);
            self.status(entry.error_response_code, path.key("error_response_code"));
            let schema = entry.schema();
            let compiled = schema.and_then(|schema| Schema::new(&schema, StatusCode::OK, 0));
            if let Err(message) = compiled {
                self.error(path.key("schema"), message);
            }
        }
    }

    /// The patterns of entries that have nothing else to be looked at.
    fn single_paths(&mut self, paths: &ExtendedPaths, path: &JsonPath) {
        macro_rules! patterns {
            ($($list:ident),*) => {$(
                for (index, entry) in enabled(&paths.$list, |entry| entry.disabled) {
                    let at = path.key(stringify!($list)).index(index).key("path");
                    self.pattern(&entry.path, self.options, at);
                }
            )*};
        }
        patterns!(
            transform,
            transform_response,
            transform_headers,
            transform_response_headers,
            hard_timeouts,
            circuit_breakers,
            size_limits,
            method_transforms,
            url_rewrites,
            track_endpoints,
            do_not_track_endpoints,
            validate_json,
            internal,
            rate_limit
        );
    }

    /// Templates: one that can not be followed is passed over, as with Tyk, and told of here.
    fn transforms(&mut self, paths: &ExtendedPaths, path: &JsonPath) {
        for (side, member, entries) in [
            (Side::Request, "transform", &paths.transform),
            (
                Side::Response,
                "transform_response",
                &paths.transform_response,
            ),
        ] {
            for (index, entry) in enabled(entries, |entry| entry.disabled) {
                let path = path.key(member).index(index).key("template_data");
                if let Err(err) = template(self.config, side, entry, |_| None) {
                    let cause = Error::source(&err).map(|cause| format!(": {cause}"));
                    let cause = cause.unwrap_or_default();
                    let place = match err {
                        TransformEntryError::Mode => "template_mode",
                        _ => "template_source",
                    };
                    let message = format!("{err}{cause}; the entry is passed over, as with Tyk");
                    self.warning(path.key(place), message);
                }
                let input_type = &*entry.template_data.input_type;
                let message = match side {
                    Side::Request if format_of_request(input_type).is_none() => {
                        "expected `json` or `xml`; no body can be read, and all go on as they came"
                    }
                    Side::Response if !["json", "xml"].contains(&input_type) => {
                        "expected `json` or `xml`; taken as `json`"
                    }
                    _ => continue,
                };
                self.warning(path.key("input_type"), message);
            }
        }
    }

    fn rewrite(&mut self, entry: &UrlRewriteEntry, path: &JsonPath) {
        let rewrite = match Rewrite::of_entry(entry, |_| None) {
            Ok(rewrite) => rewrite,
            Err(err) => {
                let place = err.place().split('.');
                let path = place.fold(path.clone(), |path, part| match part.split_once('[') {
                    Some((list, index)) => {
                        let index = index.trim_end_matches(']').parse();
                        path.key(list).index(index.unwrap_or_default())
                    }
                    None => path.key(part),
                });
                return self.error(path, format!("can not be used: {}", last_line(err.fault())));
            }
        };
        if entry.method.is_empty() {
            self.warning(
                path.key("method"),
                "empty: no request has it, so nothing is rewritten",
            );
        }
        if rewrite
            .target_kinds()
            .any(|kind| kind == TargetKind::Unserved)
        {
            let message =
                "the scheme of a target is not served; such requests are answered with 500";
            self.warning(path.key("rewrite_to"), message);
        }
        for (index, trigger) in entry.triggers.iter().enumerate() {
            let path = path.key("triggers").index(index);
            if !["any", "all"].contains(&trigger.on.as_str()) {
                self.warning(path.key("on"), "expected `any` or `all`; taken as `all`");
            }
            if trigger.options == RewriteOptions::default() {
                let always = trigger.on != "any";
                let word = if always { "always" } else { "never" };
                let message = format!("no condition: the trigger {word} fires");
                self.warning(path.key("options"), message);
            }
        }
    }

    fn header_entries(&mut self, paths: &ExtendedPaths, path: &JsonPath) {
        for (index, entry) in enabled(&paths.transform_headers, |entry| entry.disabled) {
            let path = path
                .key("transform_headers")
                .index(index)
                .key("add_headers");
            self.set_headers(entry.add_headers.keys(), &path);
        }
        for (index, entry) in enabled(&paths.transform_response_headers, |entry| entry.disabled) {
            let path = path
                .key("transform_response_headers")
                .index(index)
                .key("add_headers");
            self.set_headers(entry.add_headers.keys(), &path);
            self.no_content_length(entry.add_headers.keys(), &path);
        }
    }

    fn list_entry(&mut self, entry: &ListEntry, options: PathOptions, path: &JsonPath) {
        let ignore_case = options.ignore_case || entry.ignore_case;
        let options = PathOptions {
            ignore_case,
            ..options
        };
        self.pattern(&entry.path, options, path.key("path"));
        for (method, action) in &entry.method_actions {
            let path = path.key("method_actions").key(method);
            self.status(action.code, path.key("code"));
            self.set_headers(action.headers.keys(), &path.key("headers"));
        }
    }

    /// A status, or zero for the usual one.
    fn status(&mut self, code: i64, path: JsonPath) {
        if code != 0 && !(200..=999).contains(&code) {
            self.error(path, "expected a status from 200 to 999");
        }
    }

    /// Names that can be set, none of them twice.
    fn set_headers<'a>(&mut self, names: impl Iterator<Item = &'a String>, path: &JsonPath) {
        let mut seen: Vec<HeaderName> = Vec::new();
        for name in names {
            match HeaderName::try_from(name) {
                Ok(header) if seen.contains(&header) => {
                    self.error(path.key(name), "set twice, in two spellings");
                }
                Ok(header) => seen.push(header),
                Err(_) => self.error(path.key(name), "no header can have this name"),
            }
        }
    }

    fn no_content_length<'a>(&mut self, names: impl Iterator<Item = &'a String>, path: &JsonPath) {
        for name in names.filter(|name| name.eq_ignore_ascii_case("content-length")) {
            self.error(path.key(name), "the length of an answer can not be set");
        }
    }
}

/// Whether a `tyk://` target has a path or a query.
fn has_more_than_a_name(target: &str) -> bool {
    let uri: Uri = target.parse().unwrap_or_default();
    !uri.path().trim_matches('/').is_empty() || uri.query().is_some()
}

fn enabled<T>(
    entries: &[T],
    is_disabled: impl Fn(&T) -> bool,
) -> impl Iterator<Item = (usize, &T)> {
    let entries = entries.iter().enumerate();
    entries.filter(move |(_, entry)| !is_disabled(entry))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
        let problems = check(&definition(&change), config);
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
            cors(
                json!({"enable": true, "allow_credentials": true, "allowed_origins": ["http://a"]}),
            ),
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
            changed["proxy"] =
                json!({"enable_load_balancing": balanced, "target_list": ["http://a"]});
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
            let entry = json!({list: [{"path": "/good"}, {"disabled": true, "path": "/("}, {"path": "/("}]});
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
}
