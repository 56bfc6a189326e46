//! What several members of a definition together must be, and what their texts must be.

mod paths;
mod versions;

use std::net::IpAddr;

use http::{HeaderName, Uri};
use ipnet::IpNet;
use tollgate_core::access::{PathOptions, PathPattern};

use super::{Cors, Definition, ListenPath, Transport, internal_target, version::expires_at};
use crate::{
    config::Config,
    meta_schema, overrides,
    ports::Protocol,
    problem::{JsonPath, Problem, last_line},
    proxy::ForwardProxy,
    reference::SecretSources,
    route,
    suggest::nearest,
    tls::{TlsMembers, UNVERIFIED},
};

/// What is wrong with a definition that could be read.
pub(super) fn check(definition: &Definition, sources: SecretSources<'_>) -> Vec<Problem> {
    let config = sources.config;
    let mut checks = Checks {
        problems: Vec::new(),
        options: config.path_options(),
        has_proxy: !definition.proxy.transport.proxy_url.is_empty(),
        config,
        sources,
    };
    checks.names(definition, config);
    checks.port(definition);
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
    sources: SecretSources<'a>,
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
        match ListenPath::clean(listen_path) {
            None if definition.internal && listen_path.is_empty() => {}
            None => {
                let message = "expected a path without spaces, as `/orders/`";
                self.error("proxy.listen_path".into(), message);
            }
            Some(path) => {
                if let Err(err) = route::pattern(&path) {
                    let reason = last_line(&err);
                    let message = format!("expected an expression in `{{name:…}}`: {reason}");
                    self.error("proxy.listen_path".into(), message);
                }
            }
        }
        if !config.enable_custom_domains
            && !definition.domain.is_empty()
            && !definition.domain_disabled
        {
            let message = "not looked at: the configuration has no `enable_custom_domains`";
            self.warning("domain".into(), message);
        }
    }

    fn port(&mut self, definition: &Definition) {
        let (config, number) = (self.config, definition.listen_port);
        let path = || JsonPath::from("listen_port");
        if config.own_port(number).is_err() {
            let message =
                format!("{number} is no port: expected 1 to 65535, or 0 for the gateway's");
            self.error(path(), message);
        }
        let Some(own) = definition.own_port(config) else {
            return;
        };
        if Protocol::of(&definition.protocol, config).is_none() {
            return; // Which is told of.
        }
        let (port, protocol) = (own.port, own.protocol.name());
        if let Some(whose) = config.has_port(port) {
            self.error(path(), format!("{port} is the port of {whose}"));
        } else if !own.is_allowed(config) {
            let message =
                format!("port {port} is not in `ports_whitelist.{protocol}` of the configuration");
            let hint = "put it there, or set `disable_ports_whitelist`";
            self.problems
                .push(Problem::error("", message).at(path()).help(hint));
        }
        if own.protocol == Protocol::Https && !config.http_server_options.has_certificates() {
            let message = "`http_server_options` of the configuration has no certificate for it";
            self.error(path(), format!("port {port} speaks TLS, and {message}"));
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

#[cfg(test)]
mod tests;
