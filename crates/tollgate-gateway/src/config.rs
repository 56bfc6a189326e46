//! The configuration: Tyk's `tyk.conf`.
//!
//! JSON, or TOML or YAML by the ending of the file's name; overrides from the environment as Tyk takes
//! them, `TYK_GW_LISTENPORT`; references in texts. Names and defaults are Tyk's: what is left
//! out is zero, empty or off, and what that means is said by the methods here.
//!
//! What becomes of each setting is in one table, `config/settings.rs`.
//!
//! ```
//! use std::path::Path;
//! use tollgate_gateway::{config::Config, load::LoadOptions, reference::Environment};
//!
//! let environment: Environment = [("TYK_GW_LISTENPORT", "9000")].into_iter().collect();
//! let text = r#"{"listen_port": 8080, "secret": "change-me-first"}"#.to_owned();
//! let (config, report) =
//!     Config::from_text(Path::new("tyk.conf"), text, &environment, &LoadOptions::default());
//! let config = config.expect("is right");
//! assert_eq!(config.listen_port, 9000);
//! assert!(report.problems.is_empty(), "{report}");
//! ```

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::TryFromIntError,
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use http::{HeaderValue, StatusCode};
use tollgate::{Algorithm, Refusals};
use tollgate_core::{
    Secret,
    access::{MasterKeys, PathOptions},
};

use crate::{
    document::{Document, Tree},
    load::LoadOptions,
    overrides::ErrorOverrides,
    problem::{JsonPath, Problem, Report},
    record::{Unread, record},
    reference::{Environment, References, Secrets},
    secret_stores::SecretStores,
    shape::{self, Shape},
};

mod check;
mod environment;
mod kv;
mod sections;
mod settings;
mod traces;

pub use kv::{ConsulLogin, ConsulOptions, ConsulTls, FileStore, KvOptions, VaultOptions};
pub use sections::{
    AccessLogs, AnalyticsOptions, AuthOverride, CertificateFile, CertificateOptions, ControlPlane,
    ControlSecurity, CoprocessOptions, DashboardOptions, DnsCache, HealthCheck, HttpServerOptions,
    LivenessCheck, LocalSessionCache, MetricsOptions, Monitor, NormalisedUrls, PoliciesOptions,
    PortList, PortRange, ServiceDiscoveryDefaults, StorageOptions, StoreRules, TollgateOptions,
    UptimeTestOptions, WebHook,
};
pub use settings::SETTINGS;
pub use traces::{OpenTelemetryOptions, OtlpMetricsOptions, Sampling, TracesTls};

/// The secret of the configuration that Tyk writes where there is none. Everybody knows it.
pub const DEFAULT_SECRET: &str = "352d20ee67be67f6340b4c0605b044b7";

record! {
    /// The configuration.
    pub struct Config {
        /// The only host that is served; empty for any.
        pub hostname: String,
        /// The address to listen on; empty for all.
        pub listen_address: String,
        /// The port to listen on; see [`Config::port`].
        pub listen_port: u16,
        /// The host that the control API is served under; empty for any.
        pub control_api_hostname: String,
        /// The port of the control API, if it has its own.
        pub control_api_port: u16,
        /// What callers of the control API have to know.
        #[schemars(with = "String")]
        pub secret: Secret,
        /// Signs what gateways tell each other.
        #[schemars(with = "String")]
        pub node_secret: Secret,
        /// Where the process id is written.
        pub pid_file_location: String,
        /// Whether signatures of other gateways may be missing.
        pub allow_insecure_configs: bool,
        /// The key that signatures of bundles and of other gateways are checked with.
        pub public_key_path: String,
        /// Whether the dashboard may change the configuration.
        pub allow_remote_config: bool,
        /// Certificates.
        pub security: ControlSecurity,
        /// How the gateway listens.
        pub http_server_options: HttpServerOptions,
        /// The header that names the default version where it was used.
        pub version_header: String,
        /// Whether other gateways do not tell this one to reload.
        pub suppress_redis_signal_reload: bool,
        /// Seconds between two reloads.
        pub reload_interval: i64,
        /// Seconds that a reload waits for more of its kind.
        pub reload_wait_time: i64,

        /// Whether tokens are stored under their hash.
        pub hash_keys: bool,
        /// How tokens are written and hashed.
        pub hash_key_function: String,
        /// How tokens were hashed before.
        pub hash_key_function_fallback: Vec<String>,
        /// How passwords are hashed.
        pub basic_auth_hash_key_function: String,
        /// Whether hashed keys may be listed.
        pub enable_hashed_keys_listing: bool,
        /// Whether keys can not be changed by their user name.
        pub disable_key_actions_by_username: bool,
        /// The shortest token; see [`Config::min_token_length`].
        pub min_token_length: i64,
        /// Whether a key without access rights may call everything.
        pub allow_master_keys: bool,
        /// The folder of error templates.
        pub template_path: String,
        /// Where policies come from.
        pub policies: PoliciesOptions,
        /// Ports that APIs may listen on, by protocol.
        pub ports_whitelist: BTreeMap<String, PortList>,
        /// Whether APIs may listen on any port.
        pub disable_ports_whitelist: bool,
        /// The folder of API definitions.
        pub app_path: String,
        /// Whether API definitions come from the dashboard.
        pub use_db_app_configs: bool,
        /// The dashboard.
        pub db_app_conf_options: DashboardOptions,
        /// Redis.
        pub storage: Option<StorageOptions>,
        /// Whether the dashboard is not looked for.
        pub disable_dashboard_zeroconf: bool,
        /// The control plane of a hybrid gateway.
        pub slave_options: ControlPlane,
        /// Whether this gateway serves no traffic.
        pub management_node: bool,
        /// Other places for keys and sessions.
        pub auth_override: AuthOverride,

        /// Fixed windows for rates.
        pub enable_fixed_window_rate_limiter: bool,
        /// A log of requests for rates, shared by all gateways.
        pub enable_redis_rolling_limiter: bool,
        /// Rates that refuse until a whole window was quiet.
        pub enable_sentinel_rate_limiter: bool,
        /// Has no effect.
        pub enable_non_transactional_rate_limiter: bool,
        /// Rates that grow and shrink with use.
        pub enable_rate_limit_smoothing: bool,
        /// Seconds between two notices of gateways about their share.
        pub drl_notification_frequency: i64,
        /// The rate for each gateway from which on shares are not worth it.
        pub drl_threshold: f64,
        /// Sentinel for rates below the threshold.
        pub drl_enable_sentinel_rate_limiter: bool,
        /// Which limits `X-RateLimit-…` tells of: `quotas`, or `rate_limits`.
        pub rate_limit_response_headers: String,

        /// Whether organisations say how long their analytics are kept.
        pub enforce_org_data_age: bool,
        /// Whether organisations ask for detailed analytics.
        pub enforce_org_data_detail_logging: bool,
        /// Whether the organisation's own record has limits.
        pub enforce_org_quotas: bool,
        /// Whether these limits are checked beside the request.
        pub experimental_process_org_off_thread: bool,
        /// Who is told when much of a quota is used.
        pub monitor: Monitor,

        /// Idle connections to all upstreams. Zero: any number.
        pub max_idle_connections: i64,
        /// Idle connections to one upstream. Zero: 100.
        pub max_idle_connections_per_host: i64,
        /// Seconds that a connection to an upstream is used. Zero: any time.
        pub max_conn_time: i64,
        /// Whether idle connections to upstreams are closed.
        pub close_idle_connections: bool,
        /// Whether every connection of a client ends with its answer.
        pub close_connections: bool,
        /// Whether APIs are told apart by host.
        pub enable_custom_domains: bool,
        /// Defaults of service discovery.
        pub service_discovery: ServiceDiscoveryDefaults,
        /// Whether no certificate of an upstream is checked.
        pub proxy_ssl_insecure_skip_verify: bool,
        /// Whether upstreams are asked for HTTP/2.
        pub proxy_enable_http2: bool,
        /// The oldest TLS for upstreams, as `771` for 1.2.
        pub proxy_ssl_min_version: u16,
        /// The newest TLS for upstreams.
        pub proxy_ssl_max_version: u16,
        /// Cipher suites for upstreams.
        pub proxy_ssl_ciphers: Vec<String>,
        /// Seconds to connect, and seconds until the answer begins; see [`Config::upstream_timeout`].
        pub proxy_default_timeout: f64,
        /// Whether TLS is not renegotiated.
        pub proxy_ssl_disable_renegotiation: bool,
        /// Whether every connection to an upstream ends with its answer.
        pub proxy_close_connections: bool,
        /// Whether the common name of certificates is compared.
        pub ssl_force_common_name_check: bool,

        /// Tests of upstreams.
        pub uptime_tests: UptimeTestOptions,
        /// The deprecated health API.
        pub health_check: HealthCheck,
        /// The path of the health check; see [`Config::health_check_path`].
        pub health_check_endpoint_name: String,
        /// The path of the readiness check; see [`Config::readiness_check_path`].
        pub readiness_check_endpoint_name: String,
        /// How often the gateway looks after itself.
        pub liveness_check: LivenessCheck,

        /// Seconds that a refresh token lives.
        pub oauth_refresh_token_expire: i64,
        /// Seconds that an OAuth token lives.
        pub oauth_token_expire: i64,
        /// Seconds that an expired OAuth token is kept.
        pub oauth_token_expired_retain_period: i64,
        /// Between two redirect URIs.
        pub oauth_redirect_uri_separator: String,
        /// The status of OAuth errors.
        pub oauth_error_status_code: i64,

        /// Whether whole tokens are written into the log.
        pub enable_key_logging: bool,
        /// Whether requests are recorded.
        pub enable_analytics: bool,
        /// How requests are recorded.
        pub analytics_config: AnalyticsOptions,
        /// Whether analytics have a Redis of their own.
        pub enable_separate_analytics_store: bool,
        /// The Redis of analytics.
        pub analytics_storage: StorageOptions,
        /// Names of upstreams that are remembered.
        pub dns_cache: DnsCache,
        /// Whether compiled patterns are not remembered.
        pub disable_regexp_cache: bool,
        /// Seconds that compiled patterns are remembered.
        pub regexp_cache_expire: i64,
        /// The cache of sessions.
        pub local_session_cache: LocalSessionCache,
        /// Whether cached answers have a Redis of their own.
        pub enable_separate_cache_store: bool,
        /// The Redis of cached answers.
        pub cache_storage: StorageOptions,

        /// Whether plugin bundles are downloaded.
        pub enable_bundle_downloader: bool,
        /// Where from.
        pub bundle_base_url: String,
        /// Whether no certificate is checked there.
        pub bundle_insecure_skip_verify: bool,
        /// Whether scripts run.
        pub enable_jsvm: bool,
        /// Seconds that a script may run.
        pub jsvm_timeout: i64,
        /// Whether definitions may not hold scripts.
        pub disable_virtual_path_blobs: bool,
        /// A script that is loaded before all others.
        pub tyk_js_path: String,
        /// The folder of scripts.
        pub middleware_path: String,
        /// Plugins in other processes.
        pub coprocess_options: CoprocessOptions,

        /// Whether path patterns match letters in either case.
        pub ignore_endpoint_case: bool,
        /// Whether headers are sent in the spelling of the definition.
        pub ignore_canonical_mime_header_key: bool,
        /// What is logged: `debug`, `info`, `warn`, `error`.
        pub log_level: String,
        /// How it is written: `text` or `json`.
        pub log_format: String,
        /// A line for each request.
        pub access_logs: AccessLogs,
        /// Traces.
        pub tracing: Unread,
        /// Traces.
        pub opentelemetry: OpenTelemetryOptions,
        /// New Relic.
        pub newrelic: Unread,
        /// Whether profiles are served.
        pub enable_http_profiler: bool,
        /// Whether the log goes to Redis.
        pub use_redis_log: bool,
        /// Whether the log goes to Sentry.
        pub use_sentry: bool,
        /// Where Sentry is.
        #[schemars(with = "String")]
        pub sentry_code: Secret,
        /// What goes to Sentry.
        pub sentry_log_level: String,
        /// Whether the log goes to syslog.
        pub use_syslog: bool,
        /// How.
        pub syslog_transport: String,
        /// Where to.
        pub syslog_network_addr: String,
        /// Whether the log goes to Graylog.
        pub use_graylog: bool,
        /// Where to.
        pub graylog_network_addr: String,
        /// Whether the log goes to Logstash.
        pub use_logstash: bool,
        /// How.
        pub logstash_transport: String,
        /// Where to.
        pub logstash_network_addr: String,
        /// Whether requests that meet no API are logged.
        pub track_404_logs: bool,
        /// Where metrics go.
        pub statsd_connection_string: String,
        /// How their names begin.
        pub statsd_prefix: String,

        /// Who is told of events.
        pub event_handlers: Unread,
        /// Old spelling of `event_handlers`.
        pub event_trigers_defunct: Unread,
        /// Old spelling of `event_handlers`.
        pub event_triggers_defunct: Unread,
        /// Whether answers do not name the gateway.
        pub hide_generator_header: bool,
        /// Whether the organisation's record is not made by itself.
        pub suppress_default_org_store: bool,
        /// Whether `allowance` counts down.
        pub legacy_enable_allowance_countdown: bool,
        /// Whether `global_session_lifetime` holds for all keys.
        pub force_global_session_lifetime: bool,
        /// Whether a record lives at least until its key expires.
        pub session_lifetime_respects_key_expiration: bool,
        /// Seconds that records live.
        pub global_session_lifetime: i64,
        /// Stores of secrets.
        pub kv: KvOptions,
        /// Secrets, for `secrets://` and `$secret_conf.` in definitions.
        #[schemars(with = "BTreeMap<String, String>")]
        pub secrets: BTreeMap<String, Secret>,
        /// Other texts and codes for refusals.
        pub override_messages: Unread,
        /// Other answers for refusals.
        pub error_overrides: ErrorOverrides,
        /// Whether this is Tyk's cloud.
        pub cloud: bool,
        /// Whether no certificate of a key set is checked.
        pub jwt_ssl_insecure_skip_verify: bool,
        /// Whether the configuration can be read by the control API.
        pub enable_config_inspection: bool,

        /// What Tyk does not have.
        pub tollgate: TollgateOptions,
    }
}

impl Config {
    /// Reads a file. There is no configuration where the report has errors.
    pub fn load(
        file: &Path,
        environment: &Environment,
        options: &LoadOptions,
    ) -> (Option<Self>, Report) {
        match Document::read(file) {
            Ok(document) => Self::from_document(document, environment, options),
            Err(problem) => (None, Report::of_one(problem)),
        }
    }

    /// Reads a text that stands in a file of this name. As [`load`](Self::load).
    pub fn from_text(
        file: &Path,
        text: String,
        environment: &Environment,
        options: &LoadOptions,
    ) -> (Option<Self>, Report) {
        match Document::parse(file, text) {
            Ok(document) => Self::from_document(document, environment, options),
            Err(problem) => (None, Report::of_one(problem)),
        }
    }

    fn from_document(
        mut document: Document,
        environment: &Environment,
        options: &LoadOptions,
    ) -> (Option<Self>, Report) {
        let mut report = Report::default();
        report.extend(environment::apply(&mut document, environment));
        report.extend(replace_references(&mut document, environment));
        let shaped = shape::shape(&document, Self::shape());
        report.extend(shaped.report.problems);
        if report.has_errors() {
            return (None, report);
        }
        let config: Self = match shape::read(&document, &shaped.value) {
            Ok(config) => config,
            Err(problem) => {
                report.push(problem);
                return (None, report);
            }
        };
        let place = |problem| document.place(problem);
        report.extend(settings::evaluate(&shaped.value, options.store).map(place));
        report.extend(config.check(&shaped.value, options).into_iter().map(place));
        let is_right = !report.has_errors();
        (is_right.then_some(config), report)
    }

    pub(crate) fn shape() -> &'static Shape {
        static SHAPE: OnceLock<Shape> = OnceLock::new();
        Shape::cached::<Self>(&SHAPE)
    }

    /// How requests are refused.
    pub fn refusals(&self) -> Refusals {
        if self.tollgate.refusal_headers {
            Refusals::tyk()
        } else {
            Refusals::tyk().without_challenge().without_retry_after()
        }
    }

    /// What the gateway calls itself to upstreams.
    pub fn user_agent(&self) -> HeaderValue {
        const TYK: HeaderValue = HeaderValue::from_static("Tyk/v5.6.0");
        match &*self.tollgate.user_agent {
            "" => TYK,
            own => HeaderValue::from_str(own).unwrap_or(TYK),
        }
    }

    /// The port to listen on; Tyk's default is 8080.
    pub fn port(&self) -> u16 {
        if self.listen_port == 0 {
            8080
        } else {
            self.listen_port
        }
    }

    /// The port of an API with this `listen_port`; `None` is the gateway's.
    ///
    /// # Errors
    ///
    /// Where it is no port.
    pub fn own_port(&self, listen_port: i64) -> Result<Option<u16>, TryFromIntError> {
        let port = u16::try_from(listen_port)?;
        Ok((port != 0 && port != self.port()).then_some(port))
    }

    /// What of the gateway, besides its APIs, listens on a port.
    pub(crate) fn has_port(&self, port: u16) -> Option<&'static str> {
        let metrics = self.tollgate.metrics.address.parse::<SocketAddr>();
        if port == self.control_api_port {
            Some("the control API")
        } else if metrics.is_ok_and(|address| address.port() == port) {
            Some("the metrics")
        } else {
            None
        }
    }

    /// The host of an API with this domain, in small letters: the domain where these are looked at, or else
    /// `hostname`; `None` is any.
    pub fn host_of(&self, domain: &str) -> Option<String> {
        let has_own = self.enable_custom_domains && !domain.is_empty();
        let host = if has_own { domain } else { &self.hostname };
        (!host.is_empty()).then(|| host.to_ascii_lowercase())
    }

    /// The address to listen on; all of IPv4 where none is given. `None` where it can not be understood.
    pub fn listen_ip(&self) -> Option<IpAddr> {
        let text = self.listen_address.trim_matches(['[', ']']);
        match text {
            "" => Some(Ipv4Addr::UNSPECIFIED.into()),
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            text => text.parse().ok(),
        }
    }

    /// The shortest token that is looked up, in characters: longer than `min_token_length`, as in Tyk
    /// 5.6, or just as long, as in newer releases, where short ids are refused.
    pub fn shortest_token(&self) -> usize {
        const DEFAULT: usize = 3;
        let least = match usize::try_from(self.min_token_length) {
            Ok(length) if length > 0 => length,
            _ => DEFAULT,
        };
        least + usize::from(!self.tollgate.refuse_short_ids)
    }

    /// How rates are counted. Without a word it is by windows that begin with a request, as Tyk does it
    /// on one gateway. Of its sentinel the exact form is what is meant.
    pub fn algorithm(&self) -> Algorithm {
        if self.enable_fixed_window_rate_limiter {
            Algorithm::FixedWindow
        } else if self.enable_sentinel_rate_limiter || self.enable_redis_rolling_limiter {
            Algorithm::Sliding
        } else {
            Algorithm::Bucket
        }
    }

    /// Whether rates grow and shrink with use where a key or a policy says so.
    pub fn smooths_rates(&self) -> bool {
        self.enable_rate_limit_smoothing && self.algorithm() == Algorithm::Sliding
    }

    /// Whether `X-RateLimit-…` are to tell of the rate, in the words of newer releases of Tyk.
    pub(crate) fn asks_for_rate_headers(&self) -> bool {
        self.rate_limit_response_headers == "rate_limits"
    }

    /// How path patterns are read.
    pub fn path_options(&self) -> PathOptions {
        PathOptions {
            prefix: self.http_server_options.enable_path_prefix_matching,
            suffix: self.http_server_options.enable_path_suffix_matching,
            ignore_case: self.ignore_endpoint_case,
        }
    }

    /// What a key without access rights may call.
    pub fn master_keys(&self) -> MasterKeys {
        if self.allow_master_keys {
            MasterKeys::Allowed
        } else {
            MasterKeys::Refused
        }
    }

    /// How long an upstream may take to be connected, and as long again until its answer begins.
    pub fn upstream_timeout(&self) -> Duration {
        const DEFAULT: Duration = Duration::from_secs(30);
        match Duration::try_from_secs_f64(self.proxy_default_timeout) {
            Ok(timeout) if !timeout.is_zero() => timeout,
            _ => DEFAULT,
        }
    }

    /// The status where an upstream can not be reached or understood: 500 as in Tyk, or 502.
    pub fn bad_gateway_status(&self) -> StatusCode {
        match self.tollgate.bad_gateway_status {
            502 => StatusCode::BAD_GATEWAY,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// How long between two looks at whether the store answers; at least a tenth of a second.
    pub fn liveness_interval(&self) -> Duration {
        const DEFAULT: Duration = Duration::from_secs(10);
        const SHORTEST: Duration = Duration::from_millis(100);
        match u64::try_from(self.liveness_check.check_duration) {
            Ok(nanos) if nanos > 0 => Duration::from_nanos(nanos).max(SHORTEST),
            _ => DEFAULT,
        }
    }

    /// The path of the health check, as `/hello`.
    pub fn health_check_path(&self) -> String {
        endpoint(&self.health_check_endpoint_name, "hello")
    }

    /// The path of the readiness check, as `/ready`.
    pub fn readiness_check_path(&self) -> String {
        endpoint(&self.readiness_check_endpoint_name, "ready")
    }
}

impl Secrets for BTreeMap<String, Secret> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(Secret::expose)
    }
}

fn endpoint(name: &str, default: &str) -> String {
    let name = if name.is_empty() { default } else { name };
    format!("/{}", name.trim_start_matches('/'))
}

/// Replaces references; first those of `kv`, which says where the others lead.
fn replace_references(document: &mut Document, environment: &Environment) -> Vec<Problem> {
    let is_kv = |name: &str| name.eq_ignore_ascii_case("kv");
    let files = KvOptions {
        file: kv_of(document).file,
        ..KvOptions::default()
    };
    let mut problems = replace_within(document, is_kv, environment, &files);
    let kv = kv_of(document);
    let others = replace_within(document, |name| !is_kv(name), environment, &kv);
    problems.extend(others);
    problems
        .into_iter()
        .map(|problem| document.place(problem))
        .collect()
}

/// The block `kv` as it stands. What is wrong with it is told where all is read.
fn kv_of(document: &Document) -> KvOptions {
    let mut shaped = shape::shape(document, Config::shape()).value;
    let kv = shaped.get_mut("kv").map(serde_json::Value::take);
    let kv = kv.and_then(|kv| serde_json::from_value(kv).ok());
    kv.unwrap_or_default()
}

/// Replaces references in members of these names.
fn replace_within(
    document: &mut Document,
    is_meant: impl Fn(&str) -> bool,
    environment: &Environment,
    kv: &KvOptions,
) -> Vec<Problem> {
    let references = References {
        environment,
        secrets: None,
        folder: &kv.file.base_path,
        stores: &SecretStores::new(kv),
    };
    let Tree::Object(members) = &mut document.tree else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for (name, member) in members.iter_mut().filter(|(name, _)| is_meant(name)) {
        member.for_each_text(&JsonPath::root().key(name), &mut |path, text| {
            let results = [
                references.replace(text),
                references.replace_secret_env(text),
            ];
            let found = results.into_iter().filter_map(Result::err);
            problems.extend(found.map(|problem| problem.at(path.clone())));
        });
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{DefaultSecret, Store};

    #[track_caller]
    fn check(text: &str, environment: &[(&str, &str)], expected: &[&str]) -> Option<Config> {
        let environment = environment.iter().copied().collect();
        let options = LoadOptions {
            default_secret: DefaultSecret::Allowed,
            ..LoadOptions::default()
        };
        let (config, report) =
            Config::from_text(Path::new("t.conf"), text.into(), &environment, &options);
        let found: Vec<_> = report.problems.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
        config
    }

    #[test]
    fn a_wrong_type_names_file_place_and_what_was_expected() {
        let config = check(
            "{\n  \"listen_port\": \"8080\"\n}",
            &[],
            &["error: t.conf:2:18: listen_port: expected a whole number, found a text"],
        );
        assert!(config.is_none());
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error() {
        let config = check(
            r#"{"listen_port": 80800}"#,
            &[],
            &["error: t.conf:1:17: listen_port: invalid value: integer `80800`, expected u16"],
        );
        assert!(config.is_none());
    }

    #[test]
    fn an_unknown_setting_is_told_with_what_was_meant() {
        check(
            r#"{"policies": {"policy_recrod_name": "p"}}"#,
            &[],
            &[
                "warning: t.conf:1:37: policies.policy_recrod_name: unknown, and not read (did you mean `policy_record_name`?)",
            ],
        );
    }

    #[test]
    fn the_environment_comes_last() {
        let config = check(
            r#"{"listen_port": 1, "hash_keys": true}"#,
            &[
                ("TYK_GW_LISTENPORT", "2"),
                ("TYK_GW_HASHKEYS", "false"),
                ("TYK_GW_HTTPSERVEROPTIONS_ENABLESTRICTROUTES", "1"),
                ("TYK_GW_HTTPSERVEROPTIONS_ENABLEHTTP2", "false"),
                ("TYK_GW_HASHKEYFUNCTIONFALLBACK", "murmur64,sha256"),
                ("TYK_GW_SECRETS", "a:1,b:2"),
            ],
            &[],
        );
        let config = config.unwrap();
        assert_eq!(config.listen_port, 2);
        assert!(!config.hash_keys);
        assert!(config.http_server_options.enable_strict_routes);
        assert_eq!(config.http_server_options.enable_http2, Some(false));
        assert_eq!(config.hash_key_function_fallback, ["murmur64", "sha256"]);
        assert_eq!(config.secrets["b"].expose(), "2");
    }

    #[test]
    fn references_are_replaced() {
        let config = check(
            r#"{"secret": "env://S", "node_secret": "$secret_env.node", "secrets": {"x": "env://S"}}"#,
            &[("S", "hidden-a"), ("TYK_SECRET_NODE", "hidden-b")],
            &[],
        );
        let config = config.unwrap();
        assert_eq!(config.secret.expose(), "hidden-a");
        assert_eq!(config.node_secret.expose(), "hidden-b");
        assert_eq!(config.secrets["x"].expose(), "hidden-a");
        let printed = format!("{config:?}");
        assert!(!printed.contains("hidden"));
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        check(
            r#"{"tollgate": {"trusted_proxies": ["10.0.0.0/8", "proxy"], "bad_gateway_status": 503}}"#,
            &[],
            &[
                "error: t.conf:1:49: tollgate.trusted_proxies[1]: expected an address or a network, as `10.0.0.0/8`",
                "error: t.conf:1:81: tollgate.bad_gateway_status: expected 500 or 502",
            ],
        );
        check(
            r#"{"listen_address": "here", "http_server_options": {"min_version": 770, "max_version": 5, "ssl_ciphers": ["X"]}}"#,
            &[],
            &[
                "error: t.conf:1:87: http_server_options.max_version: 5 is no version of TLS: expected 771 for 1.2, or 772 for 1.3",
                "warning: t.conf:1:106: http_server_options.ssl_ciphers[0]: this cipher suite is not spoken",
                "error: t.conf:1:20: listen_address: expected an address, as `127.0.0.1` or `::`, or `localhost`",
            ],
        );
        check(
            r#"{"version_header": "X Ver"}"#,
            &[],
            &["error: t.conf:1:20: version_header: no header can have this name"],
        );
        check(
            r#"{"http_server_options": {"use_ssl": true}}"#,
            &[],
            &["error: t.conf:1:37: http_server_options.use_ssl: there is no certificate"],
        );
        check(
            r#"{"enable_redis_rolling_limiter": true, "enable_sentinel_rate_limiter": true, "hash_key_function": "md5"}"#,
            &[],
            &[
                "warning: t.conf:1:99: hash_key_function: unknown; `murmur64` is used, as Tyk does",
                "warning: t.conf:1:34: enable_redis_rolling_limiter: not used, as `enable_sentinel_rate_limiter` is set too and comes first",
            ],
        );
        check(
            r#"{"error_overrides": {"4x": [], "401": [{"match": {"message_pattern": "("}, "response": {"code": 99}}]}}"#,
            &[],
            &[
                "error: t.conf:1:70: error_overrides.401[0].match.message_pattern: can not be used: unclosed group",
                "error: t.conf:1:97: error_overrides.401[0].response.code: expected a status from 200 to 599",
                "error: t.conf:1:28: error_overrides.4x: expected a status as `401`, or `4xx` or `5xx`",
            ],
        );
    }

    #[test]
    fn redis_is_not_replaced_in_silence() {
        let text = r#"{"storage": {"type": "redis", "tls_max_version": "1.1"}, "secret": "s"}"#;
        let load = |store| {
            let options = LoadOptions {
                store,
                ..LoadOptions::default()
            };
            Config::from_text(
                Path::new("t"),
                text.into(),
                &Environment::default(),
                &options,
            )
        };
        let (config, report) = load(Store::FromConfig);
        assert!(config.is_none());
        assert!(report.problems[0].message.contains("Redis"), "{report}");
        let (config, report) = load(Store::Embedded);
        assert!(config.is_some(), "{report}");
        assert_eq!(
            report.problems[0].severity,
            crate::problem::Severity::Warning
        );
    }

    #[test]
    fn a_secret_that_everybody_knows_is_refused() {
        for text in ["{}", r#"{"secret": "352d20ee67be67f6340b4c0605b044b7"}"#] {
            let options = LoadOptions::default();
            let environment = Environment::default();
            let (config, report) =
                Config::from_text(Path::new("t"), text.into(), &environment, &options);
            assert!(config.is_none());
            assert_eq!(report.problems[0].path.to_string(), "secret");
        }
    }
}
