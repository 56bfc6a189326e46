//! The parts of the configuration that have members of their own.

use std::collections::BTreeMap;

use tollgate_core::Secret;

use crate::{
    problem::JsonPath,
    record::{GoDuration, Unread, record},
    tls::TlsMembers,
};

record! {
    /// Certificates.
    pub struct ControlSecurity {
        /// Encrypts the private keys of stored certificates.
        #[schemars(with = "String")]
        pub private_certificate_encoding_secret: Secret,
        /// Whether callers of the control API need a certificate.
        pub control_api_use_mutual_tls: bool,
        /// Whether a token that is bound to a certificate may come without.
        pub allow_unsafe_dynamic_mtls_token: bool,
        /// Public keys of upstreams, by host.
        pub pinned_public_keys: BTreeMap<String, String>,
        /// Certificates, by use.
        pub certificates: CertificateOptions,
    }

    /// Certificates, by use.
    pub struct CertificateOptions {
        /// Of clients that every API takes.
        pub apis: Vec<String>,
        /// Shown to upstreams, by host.
        pub upstream: BTreeMap<String, String>,
        /// Of callers of the control API.
        pub control_api: Vec<String>,
        /// Shown to the dashboard.
        pub dashboard_api: Vec<String>,
        /// Shown to the control plane.
        pub mdcb_api: Vec<String>,
    }

    /// How the gateway listens.
    pub struct HttpServerOptions {
        /// Seconds to read a request. Zero: 120.
        pub read_timeout: i64,
        /// Seconds to write an answer. Zero: 120.
        pub write_timeout: i64,
        /// Whether clients speak TLS.
        pub use_ssl: bool,
        /// Whether certificates come from Let's Encrypt.
        pub use_ssl_le: bool,
        /// Whether clients may speak HTTP/2. Left out: without TLS alone, as in Tyk. `false`: never.
        pub enable_http2: Option<bool>,
        /// Whether `/app` does not serve `/apple`.
        pub enable_strict_routes: bool,
        /// Whether path patterns match from the start of the path.
        pub enable_path_prefix_matching: bool,
        /// Whether path patterns match up to the end of the path.
        pub enable_path_suffix_matching: bool,
        /// Has no effect on a listener.
        pub ssl_insecure_skip_verify: bool,
        /// Whether connections may be upgraded.
        pub enable_websockets: bool,
        /// Certificates, by host.
        pub certificates: Vec<CertificateFile>,
        /// Certificates: paths of files that hold certificate and key.
        pub ssl_certificates: Vec<String>,
        /// The host of the certificates.
        pub server_name: String,
        /// The oldest TLS, as `771` for 1.2.
        pub min_version: u16,
        /// The newest TLS.
        pub max_version: u16,
        /// Cipher suites.
        pub ssl_ciphers: Vec<String>,
        /// Milliseconds after which a part of an answer is sent on.
        pub flush_interval: i64,
        /// Whether `//` and `/../` in a path are left as they are.
        pub skip_url_cleaning: bool,
        /// Whether the path is sent on in the client's spelling.
        pub skip_target_path_escaping: bool,
        /// The largest body of a request, in bytes. Zero: any.
        pub max_request_body_size: i64,
        /// The largest body of an answer that is changed, in bytes. Zero: any.
        pub max_response_body_size: i64,
        /// Which address of `X-Forwarded-For` is the client's, from the right.
        pub xff_depth: i64,
    }

    /// A certificate of one host.
    pub struct CertificateFile {
        /// The host.
        pub domain_name: String,
        /// The file of the certificate.
        pub cert_file: String,
        /// The file of the key.
        pub key_file: String,
    }

    /// Ports that APIs may listen on.
    pub struct PortList {
        /// From one to another.
        pub ranges: Vec<PortRange>,
        /// Single ones.
        pub ports: Vec<i64>,
    }

    /// Ports from one to another, both included.
    pub struct PortRange {
        /// The first.
        pub from: i64,
        /// The last.
        pub to: i64,
    }

    /// Where policies come from.
    pub struct PoliciesOptions {
        /// `file`, `service` or `rpc`; anything else is `file`.
        pub policy_source: String,
        /// The dashboard.
        pub policy_connection_string: String,
        /// The file of all policies.
        pub policy_record_name: String,
        /// Whether the dashboard's policies keep their own id.
        pub allow_explicit_policy_id: bool,
        /// The folder of policies, one in each file. Comes before the file of all.
        pub policy_path: String,
        /// Whether ids may hold any character.
        pub allow_unsafe_policy_ids: bool,
    }

    /// The dashboard.
    pub struct DashboardOptions {
        /// Where it is.
        pub connection_string: String,
        /// Seconds to wait for it.
        pub connection_timeout: i64,
        /// Whether this gateway serves only APIs with one of its tags.
        pub node_is_segmented: bool,
        /// The tags.
        pub tags: Vec<String>,
    }

    /// A Redis.
    pub struct StorageOptions {
        /// `redis`.
        #[serde(rename = "type")]
        pub kind: String,
        /// Its host.
        pub host: String,
        /// Its port.
        pub port: i64,
        /// Old spelling of `addrs`.
        pub hosts: BTreeMap<String, String>,
        /// Its nodes.
        pub addrs: Vec<String>,
        /// The master's name, with Sentinel.
        pub master_name: String,
        /// The password of Sentinel.
        #[schemars(with = "String")]
        pub sentinel_password: Secret,
        /// The user.
        pub username: String,
        /// The password.
        #[schemars(with = "String")]
        pub password: Secret,
        /// The number of the database.
        pub database: i64,
        /// Idle connections.
        pub optimisation_max_idle: i64,
        /// Connections.
        pub optimisation_max_active: i64,
        /// Seconds to wait for an answer.
        pub timeout: i64,
        /// Whether it is a cluster.
        pub enable_cluster: bool,
        /// Whether it speaks TLS.
        pub use_ssl: bool,
        /// Whether its certificate is not checked.
        pub ssl_insecure_skip_verify: bool,
        /// The file of its authority.
        pub ca_file: String,
        /// The file of the certificate shown to it.
        pub cert_file: String,
        /// The file of that certificate's key.
        pub key_file: String,
        /// The oldest TLS.
        pub tls_min_version: String,
        /// The newest TLS.
        pub tls_max_version: String,
    }

    /// Who is told when much of a quota is used.
    pub struct Monitor {
        /// Whether anybody is.
        pub enable_trigger_monitors: bool,
        /// Who, and how.
        pub configuration: WebHook,
        /// Per cent of the quota.
        pub global_trigger_limit: f64,
        /// Whether quotas of keys count.
        pub monitor_user_keys: bool,
        /// Whether quotas of organisations count.
        pub monitor_org_keys: bool,
    }

    /// A request that tells of an event.
    pub struct WebHook {
        /// The method.
        pub method: String,
        /// The URL.
        pub target_path: String,
        /// The file of the body's template.
        pub template_path: String,
        /// Headers.
        pub header_map: BTreeMap<String, String>,
        /// Seconds until the same event is told again.
        pub event_timeout: i64,
    }

    /// Defaults of service discovery.
    pub struct ServiceDiscoveryDefaults {
        /// Seconds that an answer is remembered.
        pub default_cache_timeout: i64,
    }

    /// Tests of upstreams.
    pub struct UptimeTestOptions {
        /// Whether this gateway makes none.
        pub disable: bool,
        /// Gateways that make them together.
        pub poller_group: String,
        /// How they are made.
        pub config: Unread,
    }

    /// The deprecated health API.
    pub struct HealthCheck {
        /// Whether it is served.
        pub enable_health_checks: bool,
        /// Seconds that it looks back.
        pub health_check_value_timeouts: i64,
    }

    /// How often the gateway looks after itself.
    pub struct LivenessCheck {
        /// Nanoseconds between two looks. Zero: ten seconds.
        pub check_duration: i64,
    }

    /// How requests are recorded.
    pub struct AnalyticsOptions {
        /// Where to.
        #[serde(rename = "type")]
        pub kind: String,
        /// Addresses that are not recorded.
        pub ignored_ips: Vec<String>,
        /// Whether requests and answers are recorded whole.
        pub enable_detailed_recording: bool,
        /// Whether the country is recorded.
        pub enable_geo_ip: bool,
        /// The file of countries.
        pub geo_ip_db_path: String,
        /// Which parts of paths are replaced.
        pub normalise_urls: NormalisedUrls,
        /// Workers.
        pub pool_size: i64,
        /// Records that wait.
        pub records_buffer_size: i64,
        /// Seconds that records are kept in Redis.
        pub storage_expiration_time: i64,
        /// Whether records are spread over keys.
        pub enable_multiple_analytics_keys: bool,
        /// Seconds between two writes.
        pub purge_interval: f64,
        /// `msgpack` or `protobuf`.
        pub serializer_type: String,
    }

    /// Which parts of paths are replaced.
    pub struct NormalisedUrls {
        /// Whether any are.
        pub enabled: bool,
        /// UUIDs.
        pub normalise_uuids: bool,
        /// ULIDs.
        pub normalise_ulids: bool,
        /// Numbers.
        pub normalise_numbers: bool,
        /// Patterns.
        pub custom_patterns: Vec<String>,
    }

    /// Names of upstreams that are remembered.
    pub struct DnsCache {
        /// Whether they are.
        pub enabled: bool,
        /// Seconds.
        pub ttl: i64,
        /// Which of several addresses is taken.
        pub multiple_ips_handle_strategy: String,
    }

    /// The cache of sessions.
    pub struct LocalSessionCache {
        /// Whether there is none.
        pub disable_cached_session_state: bool,
        /// Never read.
        pub cached_session_timeout: i64,
        /// Never read.
        pub cached_session_eviction: i64,
    }

    /// Plugins in other processes.
    pub struct CoprocessOptions {
        /// Whether there are any.
        pub enable_coprocess: bool,
        /// Where they are.
        pub coprocess_grpc_server: String,
        /// The largest answer, in bytes.
        pub grpc_recv_max_size: i64,
        /// The largest question, in bytes.
        pub grpc_send_max_size: i64,
        /// The authority of the connection.
        pub grpc_authority: String,
        /// Whether answers are asked for in turn.
        pub grpc_round_robin_load_balancing: bool,
        /// Where Tyk's Python modules are.
        pub python_path_prefix: String,
        /// Which Python.
        pub python_version: String,
    }

    /// The control plane of a hybrid gateway.
    pub struct ControlPlane {
        /// Whether keys, policies and definitions come from it.
        pub use_rpc: bool,
        /// Whether it speaks TLS.
        pub use_ssl: bool,
        /// Whether its certificate is not checked.
        pub ssl_insecure_skip_verify: bool,
        /// Where it is.
        pub connection_string: String,
        /// The organisation.
        pub rpc_key: String,
        /// The key of a user there.
        #[schemars(with = "String")]
        pub api_key: Secret,
        /// Whether what it says is remembered.
        pub enable_rpc_cache: bool,
        /// Whether APIs are served under their slug.
        pub bind_to_slugs: bool,
        /// Whether changed keys are not asked for.
        pub disable_keyspace_sync: bool,
        /// The group of gateways.
        pub group_id: String,
        /// Seconds to wait for a call.
        pub call_timeout: i64,
        /// Seconds to wait for a sign of life.
        pub ping_timeout: i64,
        /// Connections.
        pub rpc_pool_size: i64,
        /// Seconds between two questions for changed keys.
        pub key_space_sync_interval: f64,
        /// Seconds that certificates are remembered.
        pub rpc_cert_cache_expiration: f64,
        /// Seconds that keys are remembered.
        pub rpc_global_cache_expiration: f64,
        /// Whether everything is fetched at the start.
        pub synchroniser_enabled: bool,
    }

    /// Other places for keys and sessions.
    pub struct AuthOverride {
        /// Whether `auth_provider` holds for all APIs.
        pub force_auth_provider: bool,
        /// Where keys are.
        pub auth_provider: Unread,
        /// Whether `session_provider` holds for all APIs.
        pub force_session_provider: bool,
        /// Where sessions are.
        pub session_provider: Unread,
    }

    /// What Tyk does not have.
    pub struct TollgateOptions {
        /// Whether an API with `active: false` is served, as Tyk serves it.
        pub serve_inactive_apis: bool,
        /// The status where an upstream can not be reached: 500 as Tyk, or 502. Zero: 500.
        pub bad_gateway_status: u16,
        /// Addresses and networks of proxies that are believed when they name a client, in
        /// `X-Forwarded-For` or `X-Real-IP`. Left out: this machine. An empty list: nobody.
        pub trusted_proxies: Option<Vec<String>>,
        /// Whether API definitions and policies are read anew when their files change.
        pub watch_files: bool,
        /// Whether refusals have `WWW-Authenticate` and `Retry-After`, which Tyk does not send.
        pub refusal_headers: bool,
        /// Whether the first answer of a quota's period tells when the period ends. In Tyk its
        /// `X-RateLimit-Reset`, and `quota_renews` until the next request, tell when it began.
        pub exact_quota_reset: bool,
        /// Whether the control API refuses ids below `min_token_length`, and tokens of just that length are
        /// looked up, as in newer releases of Tyk. Otherwise such keys open by the token that the answer
        /// shows, as in Tyk 5.6.
        pub refuse_short_ids: bool,
        /// Whether members that Tyk's record does not have are stored where they are sent to the control
        /// API; those of newer releases, `post_expiry_…`, are then followed. Tyk 5.6 drops them. Those of stored
        /// records always stay.
        pub keep_unknown_members: bool,
        /// Whether `rate_limit_response_headers` is followed, as in newer releases of Tyk. Tyk 5.6 does not know
        /// it, and `X-RateLimit-…` tell of the quota.
        pub rate_headers: bool,
        /// Whether `per_api` policies switch on signatures for their keys, as other policies do.
        pub per_api_signatures: bool,
        /// Whether a version that ends the path is cut from it, too, where versions are stripped.
        pub strip_final_version: bool,
        /// The folder of templates of body transforms that are in files. Empty: `files` beside `app_path`.
        /// Files elsewhere are not read.
        pub transform_folder: String,
        /// Whether bodies that can not be transformed are refused. In Tyk they go on as they came.
        pub refuse_failed_transforms: bool,
        /// What the gateway calls itself to upstreams where the client said nothing, or where a
        /// definition took out what it said. Empty: `Tyk/v5.6.0`.
        pub user_agent: String,
        /// The header in which a request's name is taken from the client, handed on to the upstream, and
        /// told to the client. Empty: `X-Request-ID` is read for the log, and none is handed on.
        pub request_id_header: String,
        /// Where the access log goes: `stderr`, or `stdout`. Empty: `stderr`, as Tyk.
        pub access_log_output: String,
        /// Metrics in Prometheus's form.
        pub metrics: MetricsOptions,
        /// How Redis is asked.
        pub store: StoreRules,
    }

    /// How Redis is asked, and what happens where it does not answer.
    pub struct StoreRules {
        /// How long a call may take. Zero: 20 ms.
        pub timeout: GoDuration,
        /// What happens to a request whose rate can not be asked for: `refuse` with 503, `admit`, or
        /// `local`: this node's part is counted here. Empty: `refuse`.
        pub rates_on_error: String,
        /// The same for quotas.
        pub quotas_on_error: String,
        /// How many nodes share the limits, for `local`.
        pub nodes: u32,
        /// Whether Redis is asked for each request: `exact` for each, `leased` for many at once, `auto` as it pays.
        /// Empty: `auto`.
        pub mode: String,
        /// How long units that are leased may be used at most. Zero: a second.
        pub longest_lease: GoDuration,
        /// How many replicas must have what is charged before a request is admitted. Not in a cluster.
        pub wait_replicas: u32,
        /// Whether counters have names and forms of our own, as in a cluster: no Tyk node counts along.
        pub own_names: bool,
        /// Whether Tyk nodes that divide rates among themselves are told of this one.
        pub counts_with_tyk_nodes: bool,
        /// Whether a key whose record can not be read is refused with 503, as it may be a good one. Tyk
        /// refuses it as an unknown key.
        pub unreadable_keys_are_unavailable: bool,
    }

    /// Metrics in Prometheus's form.
    pub struct MetricsOptions {
        /// Whether nothing is counted.
        pub disabled: bool,
        /// An address and port of its own, where no secret is asked for. Empty: they are on the
        /// listener of the control API, below `/tollgate/`, for who shows its secret.
        pub address: String,
        /// The path there. Empty: `/metrics`.
        pub path: String,
    }

    /// A line for each request.
    pub struct AccessLogs {
        /// Whether it is written.
        pub enabled: bool,
        /// The members of a line. Empty: all.
        pub template: Vec<String>,
    }
}

impl HttpServerOptions {
    /// Whether there is a certificate to serve.
    pub(crate) fn has_certificates(&self) -> bool {
        !self.certificates.is_empty() || !self.ssl_certificates.is_empty()
    }

    pub(crate) fn tls_members(&self) -> TlsMembers<'_> {
        let path = JsonPath::from("http_server_options");
        TlsMembers {
            oldest: (path.key("min_version"), self.min_version),
            newest: (path.key("max_version"), self.max_version),
            suites: (path.key("ssl_ciphers"), &self.ssl_ciphers),
        }
    }
}
