//! What several settings of the configuration together must be, and what their texts must be.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
use serde_json::Value;
use tollgate_core::{Secret, token::HashFunction};

use super::{Config, DEFAULT_SECRET};
use crate::{
    load::{DefaultSecret, LoadOptions, Store},
    observe::access_log::Field,
    overrides,
    ports::Protocol,
    problem::{JsonPath, Problem},
    storage,
    tls::{TlsMembers, UNVERIFIED},
};

impl Config {
    /// What only several settings together say.
    pub(super) fn check(&self, value: &Value, options: &LoadOptions) -> Vec<Problem> {
        let mut problems = Vec::new();
        let is_known = self.secret.is_empty() || self.secret == Secret::from(DEFAULT_SECRET);
        if is_known && options.default_secret == DefaultSecret::Refused {
            let message = if self.secret.is_empty() {
                "there is no secret, so that anybody could use the control API"
            } else {
                "this is the secret of Tyk's example, which everybody knows"
            };
            let hint = "set one of your own, or start with --allow-default-secret";
            problems.push(Problem::error("", message).at("secret".into()).help(hint));
        }
        let function = &self.hash_key_function;
        if !function.is_empty() && HashFunction::from_name(function).is_none() {
            let message = "unknown; `murmur64` is used, as Tyk does";
            problems.push(Problem::warning("", message).at("hash_key_function".into()));
        }
        let chosen = [
            "enable_fixed_window_rate_limiter",
            "enable_sentinel_rate_limiter",
            "enable_redis_rolling_limiter",
        ];
        let is_on = |name: &&str| value.get(*name) == Some(&Value::Bool(true));
        let mut on = chosen.into_iter().filter(is_on);
        if let (Some(first), Some(second)) = (on.next(), on.next()) {
            let message = format!("not used, as `{first}` is set too and comes first");
            problems.push(Problem::warning("", message).at(second.into()));
        }
        if self.enable_rate_limit_smoothing && !self.smooths_rates() {
            let path = JsonPath::from("enable_rate_limit_smoothing");
            let message = "has no effect without `enable_redis_rolling_limiter`: only windows that slide are \
                           smoothed";
            problems.push(Problem::warning("", message).at(path));
        }
        if self.asks_for_rate_headers() && !self.tollgate.rate_headers {
            let path = JsonPath::from("rate_limit_response_headers");
            let message = "has no effect, as in Tyk 5.6: newer releases follow it";
            let hint = "set `tollgate.rate_headers` beside it";
            problems.push(Problem::warning("", message).at(path).help(hint));
        }
        let header = &self.version_header;
        if !header.is_empty() && HeaderName::try_from(header.as_str()).is_err() {
            let message = "no header can have this name";
            problems.push(Problem::error("", message).at("version_header".into()));
        }
        problems.extend(self.check_addresses());
        for name in self.ports_whitelist.keys() {
            if !Protocol::NAMES.contains(&name.as_str()) {
                let path = JsonPath::from("ports_whitelist").key(name);
                let message = "no protocol has this name, in small letters";
                problems.push(Problem::warning("", message).at(path));
            }
        }
        problems.extend(self.kv.check());
        if options.store == Store::FromConfig {
            problems.extend(storage::check(self));
        }
        let server = &self.http_server_options;
        if server.use_ssl && !server.has_certificates() {
            let path = JsonPath::from("http_server_options.use_ssl");
            problems.push(Problem::error("", "there is no certificate").at(path));
        }
        problems.extend(server.tls_members().check());
        let to_upstreams = TlsMembers {
            oldest: ("proxy_ssl_min_version".into(), self.proxy_ssl_min_version),
            newest: ("proxy_ssl_max_version".into(), self.proxy_ssl_max_version),
            suites: ("proxy_ssl_ciphers".into(), &self.proxy_ssl_ciphers),
        };
        problems.extend(to_upstreams.check());
        if self.proxy_ssl_insecure_skip_verify {
            let path = JsonPath::from("proxy_ssl_insecure_skip_verify");
            problems.push(Problem::warning("", UNVERIFIED).at(path));
        }
        if !self.listen_address.is_empty() && self.listen_ip().is_none() {
            let message = "expected an address, as `127.0.0.1` or `::`, or `localhost`";
            problems.push(Problem::error("", message).at("listen_address".into()));
        }
        problems.extend(overrides::check(
            &self.error_overrides,
            &"error_overrides".into(),
        ));
        problems
    }

    fn check_addresses(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let path = JsonPath::from("tollgate.trusted_proxies");
        let proxies = self.tollgate.trusted_proxies.iter().flatten();
        for (index, proxy) in proxies.enumerate() {
            if proxy.parse::<IpAddr>().is_err() && proxy.parse::<IpNet>().is_err() {
                let message = "expected an address or a network, as `10.0.0.0/8`";
                problems.push(Problem::error("", message).at(path.index(index)));
            }
        }
        problems.extend(self.check_observation());
        problems.extend(self.opentelemetry.check());
        if ![0, 500, 502].contains(&self.tollgate.bad_gateway_status) {
            let path = JsonPath::from("tollgate.bad_gateway_status");
            problems.push(Problem::error("", "expected 500 or 502").at(path));
        }
        problems
    }

    fn check_observation(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |path: &str, expected: &str| {
            problems.push(Problem::error("", format!("expected {expected}")).at(path.into()));
        };
        let tollgate = &self.tollgate;
        if HeaderValue::from_str(&tollgate.user_agent).is_err() {
            wrong("tollgate.user_agent", "the value of a header");
        }
        let header = &tollgate.request_id_header;
        if !header.is_empty() && HeaderName::try_from(header.as_str()).is_err() {
            wrong("tollgate.request_id_header", "the name of a header");
        }
        if !["", "stderr", "stdout"].contains(&&*tollgate.access_log_output) {
            wrong("tollgate.access_log_output", "`stderr` or `stdout`");
        }
        let metrics = &tollgate.metrics;
        if !metrics.address.is_empty() && metrics.address.parse::<SocketAddr>().is_err() {
            let expected = "an address and a port, as `127.0.0.1:9100`";
            wrong("tollgate.metrics.address", expected);
        }
        if !metrics.path.is_empty() && !metrics.path.starts_with('/') {
            wrong("tollgate.metrics.path", "a path, as `/metrics`");
        }
        let template = JsonPath::from("access_logs.template");
        for (index, name) in self.access_logs.template.iter().enumerate() {
            if Field::from_name(name).is_none() {
                let message = "no member of a line has this name";
                problems.push(Problem::warning("", message).at(template.index(index)));
            }
        }
        problems
    }
}
