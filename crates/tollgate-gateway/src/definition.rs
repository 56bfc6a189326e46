//! An API definition: Tyk's classic form.
//!
//! Names and meanings are Tyk's; every member may be missing. What becomes of each is in one table,
//! `definition/fields.rs`; what several members together must be, in `definition/check.rs`. A
//! definition that asks for what is not built, or that can not be followed, is not served: its API
//! answers 503, and a [`Problem`] names file, place and reason.
//!
//! ```
//! use std::path::Path;
//! use tollgate_gateway::{config::Config, definition::Definition, reference::Environment};
//!
//! let text = r#"{
//!     "api_id": "orders",
//!     "use_basic_auth": true,
//!     "version_data": {"not_versioned": true},
//!     "proxy": {"listen_path": "/orders/", "target_url": "http://127.0.0.1:9000"}
//! }"#;
//! let (definition, report) = Definition::from_text(
//!     Path::new("orders.json"),
//!     text.into(),
//!     &Environment::default(),
//!     &Config::default(),
//! );
//! assert_eq!(definition.expect("can be read").proxy.listen_path, "/orders/");
//! assert_eq!(
//!     report.to_string(),
//!     "error: orders.json:3:23: use_basic_auth: basic auth is not built\n",
//! );
//! ```

use std::{collections::BTreeMap, path::Path, sync::OnceLock};

use tollgate_core::{ApiId, OrgId, Secret};

use crate::{
    config::Config,
    document::{Document, Tree},
    overrides::ErrorOverrides,
    ports::{OwnPort, Protocol},
    problem::{JsonPath, Problem, Report},
    record::{Unread, record},
    reference::{Environment, References, SecretSources},
    secret_stores::SecretStores,
    shape::{self, Shape},
};

mod check;
mod fields;
mod proxy;
mod version;

pub use fields::FIELDS;
pub(crate) use proxy::internal_target;
pub use proxy::{ListenPath, Proxy, ServiceDiscovery, Transport};
pub use version::{
    AdvancedCacheEntry, CircuitBreakerEntry, ExtendedPaths, GoPluginEntry, HardTimeoutEntry,
    HeaderEntry, InternalEntry, JqEntry, ListEntry, MethodAction, MethodTransformEntry, MockEntry,
    PathLists, PersistGraphQlEntry, RateLimitEntry, RewriteMatch, RewriteOptions, RewriteTrigger,
    SizeLimitEntry, TemplateData, TemplateEntry, TrackEntry, UrlRewriteEntry, ValidateJsonEntry,
    ValidateRequestEntry, Version, VersionData, VersionSource, VirtualEntry, expires_at,
};

record! {
    /// What Tyk's definitions do not have.
    pub struct ApiOptions {
        /// A JSON Schema of the metadata of keys that may call the API. Compared when a key is written.
        pub meta_data_schema: Unread,
    }

    /// An API definition.
    pub struct Definition {
        /// What Tyk does not have.
        pub tollgate: ApiOptions,
        /// The dashboard's id, never read.
        pub id: String,
        /// The key of `access_rights`.
        #[schemars(with = "String")]
        pub api_id: ApiId,
        /// A name for people.
        pub name: String,
        /// A short name, which may stand before a version in the path.
        pub slug: String,
        /// The organisation.
        #[schemars(with = "String")]
        pub org_id: OrgId,
        /// Whether the API is served. Not given: it is.
        pub active: Option<bool>,
        /// Whether the API is reached by other APIs alone.
        pub internal: bool,
        /// The host, where the configuration has `enable_custom_domains`.
        pub domain: String,
        /// Whether `domain` is not looked at.
        pub domain_disabled: bool,
        /// `http`, `https`, `h2c`, `tcp` or `tls`.
        pub protocol: String,
        /// A port of its own, where the API is served alone with those that have it too. Zero: the gateway's.
        pub listen_port: i64,
        /// Whether connections begin with the client's address.
        pub enable_proxy_protocol: bool,
        /// JSON-RPC.
        pub json_rpc_version: String,
        /// MCP.
        pub application_protocol: String,
        /// Whether there is an OpenAPI definition beside this one.
        pub is_oas: bool,
        /// Alternatives of authentication, from an OpenAPI definition.
        pub security_requirements: Vec<Vec<String>>,
        /// Where requests come in and go.
        pub proxy: Proxy,

        /// Whether anybody may call.
        pub use_keyless: bool,
        /// Whether callers bring a token.
        pub use_standard_auth: bool,
        /// Whether callers bring user and password.
        pub use_basic_auth: bool,
        /// Whether callers bring an OAuth token.
        pub use_oauth2: bool,
        /// Whether callers bring an OpenID token.
        pub use_openid: bool,
        /// Whether callers bring a JWT.
        pub enable_jwt: bool,
        /// Whether callers sign requests.
        pub enable_signature_checking: bool,
        /// Whether callers bring a certificate.
        pub use_mutual_tls_auth: bool,
        /// Whether a plugin knows callers.
        pub custom_plugin_auth_enabled: bool,
        /// Old spelling of `custom_plugin_auth_enabled`.
        pub enable_coprocess_auth: bool,
        /// Old spelling of `custom_plugin_auth_enabled`.
        pub use_go_plugin_auth: bool,
        /// Where a token is looked for; older than `auth_configs`.
        pub auth: AuthSource,
        /// Where credentials are looked for, by kind.
        pub auth_configs: BTreeMap<String, AuthSource>,
        /// User and password.
        pub basic_auth: Unread,
        /// JWT: the algorithm.
        pub jwt_signing_method: String,
        /// JWT: the key, or where it is.
        #[schemars(with = "String")]
        pub jwt_source: Secret,
        /// JWT: where keys are.
        pub jwt_jwks_uris: Unread,
        /// JWT: the claim that names the user.
        pub jwt_identity_base_field: String,
        /// JWT: the claim that names the client.
        pub jwt_client_base_field: String,
        /// JWT: the claim that names the policy.
        pub jwt_policy_field_name: String,
        /// JWT: policies where the token names none.
        pub jwt_default_policies: Vec<String>,
        /// JWT: seconds.
        pub jwt_issued_at_validation_skew: i64,
        /// JWT: seconds.
        pub jwt_expires_at_validation_skew: i64,
        /// JWT: seconds.
        pub jwt_not_before_validation_skew: i64,
        /// JWT: whether `iat` is not looked at.
        pub jwt_disable_issued_at_validation: bool,
        /// JWT: whether `exp` is not looked at.
        pub jwt_disable_expires_at_validation: bool,
        /// JWT: whether `nbf` is not looked at.
        pub jwt_disable_not_before_validation: bool,
        /// JWT: whether `kid` is not looked at.
        pub jwt_skip_kid: bool,
        /// JWT: policies by scope; older than `scopes`.
        pub jwt_scope_to_policy_mapping: BTreeMap<String, String>,
        /// JWT: the claim of scopes; older than `scopes`.
        pub jwt_scope_claim_name: String,
        /// Policies by scope.
        pub scopes: Unread,
        /// Whether clients of an identity provider are not kept.
        pub idp_client_id_mapping_disabled: bool,
        /// OpenID providers.
        pub openid_options: Unread,
        /// OAuth.
        pub oauth_meta: Unread,
        /// OAuth at another place.
        pub external_oauth: Unread,
        /// Signatures: seconds.
        pub hmac_allowed_clock_skew: f64,
        /// Signatures: algorithms.
        pub hmac_allowed_algorithms: Vec<String>,
        /// Certificates of callers.
        pub client_certificates: Vec<String>,
        /// Which of several credentials gives the session.
        pub base_identity_provided_by: String,
        /// Whether the credential is taken out of the request.
        pub strip_auth_data: bool,
        /// Where authentication is kept.
        pub auth_provider: Provider,
        /// Where sessions are kept.
        pub session_provider: Provider,

        /// How a request names its version.
        pub definition: VersionSource,
        /// The versions.
        pub version_data: VersionData,
        /// When the API ends, as `2030-01-31 12:00` in UTC.
        pub expiration: String,

        /// Whether rates are not counted.
        pub disable_rate_limit: bool,
        /// Whether quotas are not counted.
        pub disable_quota: bool,
        /// The rate of all callers together.
        pub global_rate_limit: ApiRate,
        /// Seconds that the records of keys live.
        pub session_lifetime: i64,
        /// Whether a record lives at least until its key expires.
        pub session_lifetime_respects_key_expiration: bool,
        /// Whether making a key does not begin its quota anew.
        pub dont_set_quota_on_create: bool,

        /// Whether only `allowed_ips` may call.
        pub enable_ip_whitelisting: bool,
        /// Addresses and networks.
        pub allowed_ips: Vec<String>,
        /// Whether `blacklisted_ips` may not call.
        pub enable_ip_blacklisting: bool,
        /// Addresses and networks.
        pub blacklisted_ips: Vec<String>,
        /// Whether neither list is looked at.
        pub ip_access_control_disabled: bool,

        /// Whether `$tyk_context.` has values.
        pub enable_context_vars: bool,
        /// Data for plugins and scripts.
        pub config_data: Unread,
        /// Whether they do not get it.
        pub config_data_disabled: bool,
        /// Plugins and scripts.
        pub custom_middleware: CustomMiddleware,
        /// The bundle that replaces `custom_middleware`.
        pub custom_middleware_bundle: String,
        /// Whether it does not.
        pub custom_middleware_bundle_disabled: bool,
        /// What is done to answers, in order.
        pub response_processors: Vec<ResponseProcessor>,
        /// Who is told of events.
        pub event_handlers: Unread,
        /// Cached answers.
        pub cache_options: CacheOptions,
        /// Which pages of other sites may call.
        #[serde(rename = "CORS")]
        pub cors: Cors,
        /// Tests of upstreams.
        pub uptime_tests: Unread,
        /// Whether several requests may come in one.
        pub enable_batch_request_support: bool,

        /// Whether nothing is recorded.
        pub do_not_track: bool,
        /// Whether requests are recorded whole.
        pub enable_detailed_recording: bool,
        /// Seconds that records are kept.
        pub expire_analytics_after: i64,
        /// Headers that become tags of records.
        pub tag_headers: Vec<String>,
        /// Gateways that serve the API.
        pub tags: Vec<String>,
        /// Whether all do.
        pub tags_disabled: bool,
        /// A plugin for records.
        pub analytics_plugin: Unread,
        /// Whether every step is traced.
        pub detailed_tracing: bool,
        /// Who is told of OAuth keys.
        pub notifications: Unread,

        /// Certificates of the host.
        pub certificates: Vec<String>,
        /// Certificates shown to upstreams, by host.
        pub upstream_certificates: BTreeMap<String, String>,
        /// Whether none is.
        pub upstream_certificates_disabled: bool,
        /// Public keys of upstreams, by host.
        pub pinned_public_keys: BTreeMap<String, String>,
        /// Whether they are not compared.
        pub certificate_pinning_disabled: bool,
        /// Signatures for upstreams.
        pub request_signing: Unread,
        /// Credentials for upstreams.
        pub upstream_auth: Unread,

        /// Other answers for refusals.
        pub error_overrides: ErrorOverrides,
        /// Whether there are none.
        pub error_overrides_disabled: bool,
        /// GraphQL.
        pub graphql: Unread,
    }

    /// Where a credential is looked for.
    pub struct AuthSource {
        /// A name for people.
        pub name: String,
        /// The header. Empty: `Authorization`.
        pub auth_header_name: String,
        /// Whether no header is looked at.
        pub disable_header: bool,
        /// Whether the query is looked at.
        pub use_param: bool,
        /// The parameter. Empty: the header's name.
        pub param_name: String,
        /// Whether cookies are looked at.
        pub use_cookie: bool,
        /// The cookie. Empty: the header's name.
        pub cookie_name: String,
        /// Whether a certificate may stand for the token.
        pub use_certificate: bool,
        /// Whether the request carries a signature of the token.
        pub validate_signature: bool,
        /// The signature.
        pub signature: SignatureOptions,
    }

    /// A signature of the token.
    pub struct SignatureOptions {
        /// The algorithm.
        pub algorithm: String,
        /// The header.
        pub header: String,
        /// Whether the query is looked at.
        pub use_param: bool,
        /// The parameter.
        pub param_name: String,
        /// The secret.
        #[schemars(with = "String")]
        pub secret: Secret,
        /// Seconds.
        pub allowed_clock_skew: i64,
        /// The status of refusals.
        pub error_code: i64,
        /// Their message.
        pub error_message: String,
    }

    /// Where something is kept.
    pub struct Provider {
        /// A name.
        pub name: String,
        /// The store.
        pub storage_engine: String,
        /// What the store needs.
        pub meta: Unread,
    }

    /// The rate of all callers together.
    pub struct ApiRate {
        /// Whether there is none.
        pub disabled: bool,
        /// Requests.
        pub rate: f64,
        /// Seconds.
        pub per: f64,
    }

    /// Plugins and scripts.
    pub struct CustomMiddleware {
        /// What runs them.
        pub driver: String,
        /// Before authentication.
        pub pre: Vec<Unread>,
        /// For authentication.
        pub auth_check: Unread,
        /// After authentication.
        pub post_key_auth: Vec<Unread>,
        /// Before the request leaves.
        pub post: Vec<Unread>,
        /// For answers.
        pub response: Vec<Unread>,
        /// For records.
        pub traffic_logs: Vec<Unread>,
        /// When the answer of `auth_check` may be used again.
        pub id_extractor: Unread,
    }

    /// Something that is done to answers.
    pub struct ResponseProcessor {
        /// What.
        pub name: String,
        /// How.
        pub options: Unread,
    }

    /// Cached answers.
    pub struct CacheOptions {
        /// Whether there are any.
        pub enable_cache: bool,
        /// Seconds.
        pub cache_timeout: i64,
        /// Whether every `GET`, `HEAD` and `OPTIONS` is cached.
        pub cache_all_safe_requests: bool,
        /// Which statuses are cached.
        pub cache_response_codes: Vec<i64>,
        /// Whether the upstream decides.
        pub enable_upstream_cache_control: bool,
        /// The header it decides with.
        pub cache_control_ttl_header: String,
        /// Headers that tell answers apart.
        pub cache_by_headers: Vec<String>,
    }

    /// Which pages of other sites may call.
    pub struct Cors {
        /// Whether any may.
        pub enable: bool,
        /// Origins. Empty: all.
        pub allowed_origins: Vec<String>,
        /// Methods. Empty: `GET`, `POST` and `HEAD`.
        pub allowed_methods: Vec<String>,
        /// Headers of the request.
        pub allowed_headers: Vec<String>,
        /// Headers of the answer.
        pub exposed_headers: Vec<String>,
        /// Whether they may send cookies.
        pub allow_credentials: bool,
        /// Seconds that browsers remember it.
        pub max_age: i64,
        /// Whether every `OPTIONS` goes to the upstream, past all else.
        pub options_passthrough: bool,
        /// Whether decisions are logged.
        pub debug: bool,
    }
}

/// What could be made of a definition's file even where it can not be served: enough to answer 503.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outline {
    pub(crate) api_id: String,
    pub(crate) listen_path: String,
    pub(crate) domain: String,
    /// `None` where it can not be read.
    pub(crate) listen_port: Option<i64>,
}

impl Definition {
    /// Whether a rewrite may send requests to APIs of the gateway.
    pub(crate) fn rewrites_to_apis(&self) -> bool {
        let versions = self.version_data.versions.values();
        let entries = versions.flat_map(|version| &version.extended_paths.url_rewrites);
        let mut targets = entries.flat_map(|entry| {
            let triggers = entry.triggers.iter().map(|trigger| &trigger.rewrite_to);
            triggers.chain([&entry.rewrite_to])
        });
        targets.any(|target| {
            let scheme = target.get(.."tyk:".len());
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("tyk:"))
        })
    }

    /// Reads a file. Where the report has errors, the API can not be served; the definition is there
    /// as far as it could be read.
    pub fn load(file: &Path, environment: &Environment, config: &Config) -> (Option<Self>, Report) {
        match Document::read(file) {
            Ok(document) => Self::read(document, environment, config),
            Err(problem) => (None, Report::of_one(problem)),
        }
    }

    /// Reads a text that stands in a file of this name. As [`load`](Self::load).
    pub fn from_text(
        file: &Path,
        text: String,
        environment: &Environment,
        config: &Config,
    ) -> (Option<Self>, Report) {
        match Document::parse(file, text) {
            Ok(document) => Self::read(document, environment, config),
            Err(problem) => (None, Report::of_one(problem)),
        }
    }

    /// With stores of secrets of its own.
    fn read(
        document: Document,
        environment: &Environment,
        config: &Config,
    ) -> (Option<Self>, Report) {
        let sources = SecretSources {
            config,
            environment,
            stores: &SecretStores::new(&config.kv),
        };
        Self::from_document(document, sources)
    }

    pub(crate) fn from_document(
        mut document: Document,
        sources: SecretSources<'_>,
    ) -> (Option<Self>, Report) {
        let mut report = Report::default();
        if is_open_api(&document.tree) {
            let message = "an OpenAPI definition, which is not built; Tyk's classic form is";
            report.push(Problem::error(&document.file, message));
            return (None, report);
        }
        report.extend(replace_references(&mut document, sources));
        let shaped = shape::shape(&document, Self::shape());
        report.extend(shaped.report.problems);
        let place = |problem| document.place(problem);
        report.extend(
            fields::TABLE
                .evaluate(&shaped.value)
                .problems
                .into_iter()
                .map(place),
        );
        match shape::read::<Self>(&document, &shaped.value) {
            Ok(definition) => {
                report.extend(check::check(&definition, sources).into_iter().map(place));
                (Some(definition), report)
            }
            Err(problem) => {
                report.push(problem);
                (None, report)
            }
        }
    }

    pub(crate) fn shape() -> &'static Shape {
        static SHAPE: OnceLock<Shape> = OnceLock::new();
        Shape::cached::<Self>(&SHAPE)
    }

    /// Whether the API is served: `active` is not `false`, or the configuration does not look at it.
    pub fn is_active(&self, config: &Config) -> bool {
        config.tollgate.serve_inactive_apis || self.active != Some(false)
    }

    /// The host that the API is served under, in small letters; `None` is any.
    pub fn host(&self, config: &Config) -> Option<String> {
        let own = if self.domain_disabled {
            ""
        } else {
            &self.domain
        };
        config.host_of(own)
    }

    /// Its own port; `None` where it shares that of the gateway, or where `listen_port` is no port.
    pub fn own_port(&self, config: &Config) -> Option<OwnPort> {
        let port = config.own_port(self.listen_port).ok()??;
        let protocol = Protocol::of(&self.protocol, config);
        let protocol = protocol.unwrap_or(Protocol::Http); // Others are refused by name.
        Some(OwnPort { port, protocol })
    }

    /// Where a token is looked for: `auth_configs.authToken`, or `auth` where that is not given.
    pub fn token_source(&self) -> &AuthSource {
        self.auth_configs.get("authToken").unwrap_or(&self.auth)
    }

    /// The rate of all callers together, in requests and seconds, if there is one.
    pub fn api_rate(&self) -> Option<(f64, f64)> {
        let ApiRate {
            disabled,
            rate,
            per,
        } = self.global_rate_limit;
        let is_on = !disabled && !self.disable_rate_limit && rate > 0.0 && per > 0.0;
        is_on.then_some((rate, per))
    }

    /// The answers in place of refusals, as far as they are on.
    pub fn active_error_overrides(&self) -> Option<&ErrorOverrides> {
        (!self.error_overrides_disabled && !self.error_overrides.is_empty())
            .then_some(&self.error_overrides)
    }
}

/// What a file says of itself, however wrong the rest of it is.
pub(crate) fn outline(tree: &Tree) -> Outline {
    let text = |value: Option<&Tree>| match value {
        Some(Tree::Text(text)) => text.clone(),
        _ => String::new(),
    };
    let proxy = tree.member("proxy");
    Outline {
        api_id: text(tree.member("api_id")),
        listen_path: text(proxy.and_then(|proxy| proxy.member("listen_path"))),
        domain: text(tree.member("domain")),
        listen_port: match tree.member("listen_port") {
            None | Some(Tree::Null) => Some(0),
            Some(Tree::Number(number)) => number.as_i64(),
            Some(_) => None,
        },
    }
}

fn is_open_api(tree: &Tree) -> bool {
    let Tree::Object(members) = tree else {
        return false;
    };
    let names = ["openapi", "swagger", "x-tyk-api-gateway"];
    members.iter().any(|(key, _)| names.contains(&key.as_str()))
}

fn replace_references(document: &mut Document, sources: SecretSources<'_>) -> Vec<Problem> {
    let references = References {
        environment: sources.environment,
        secrets: Some(&sources.config.secrets),
        folder: &sources.config.kv.file.base_path,
        stores: sources.stores,
    };
    let mut problems = Vec::new();
    document
        .tree
        .for_each_text(&JsonPath::root(), &mut |path, text| {
            let found = references.replace(text).err();
            problems.extend(found.map(|problem| problem.at(path.clone())));
        });
    problems
        .into_iter()
        .map(|problem| document.place(problem))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(text: &str, config: &Config) -> (Option<Definition>, Vec<String>) {
        let environment = [("TARGET", "http://up")].into_iter().collect();
        let (definition, report) =
            Definition::from_text(Path::new("d.json"), text.into(), &environment, config);
        (
            definition,
            report.problems.iter().map(ToString::to_string).collect(),
        )
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) -> Definition {
        let (definition, problems) = load(text, &Config::default());
        assert_eq!(problems, expected);
        definition.unwrap()
    }

    /// The example of the spec that is called complete.
    const EXAMPLE: &str = r#"{
      "name": "Orders", "api_id": "orders", "org_id": "org1", "active": true,
      "use_keyless": false, "use_standard_auth": true,
      "auth_configs": {"authToken": {"auth_header_name": "X-Api-Key"}},
      "definition": {"location": "header", "key": "X-Version"},
      "version_data": {"not_versioned": true, "default_version": "", "versions": {"Default": {
        "name": "Default", "use_extended_paths": true,
        "global_headers": {"X-Plan": "$tyk_meta.plan"},
        "extended_paths": {
          "ignored": [{"path": "/healthz", "method": "GET"}],
          "hard_timeouts": [{"path": "/export", "method": "GET", "timeout": 5}]}}}},
      "proxy": {"listen_path": "/orders/", "target_url": "http://127.0.0.1:9000/v2",
                "strip_listen_path": true}}"#;

    #[test]
    fn the_complete_example_loads_without_a_word() {
        let definition = check(EXAMPLE, &[]);
        assert_eq!(definition.api_id.as_str(), "orders");
        assert_eq!(definition.token_source().auth_header_name, "X-Api-Key");
        let paths = &definition.version_data.versions["Default"].extended_paths;
        assert_eq!(paths.hard_timeouts[0].timeout, 5);
    }

    /// What Tyk's page on session metadata shows of a definition.
    #[test]
    fn the_seed_definition_loads_without_a_warning() {
        let entry = |source: &str| {
            json!([{
                "template_data": {"input_type": "json", "template_mode": "blob", "enable_session": true,
                                  "template_source": source, "input": "", "output": ""},
                "path": "/get", "method": "GET", "fromDashboard": true}])
        };
        let seed = |source: &str| {
            let definition = json!({
                "api_id": "a",
                "proxy": {"listen_path": "/a/", "target_url": "http://up"},
                "version_data": {"not_versioned": true, "versions": {"Default": {"use_extended_paths": true,
                    "extended_paths": {"transform": entry("Ymxvb3A="), "transform_response": entry(source)}}}}});
            load(&definition.to_string(), &Config::default()).1
        };
        assert_eq!(seed("e3sgLl90eWtfbWV0YS5qd3QgfX0="), [""; 0]);
        // One that is no template is passed over with a word.
        let problems = seed("e3sgLmEg");
        let place = "version_data.versions.Default.extended_paths.transform_response[0].template_data.template_source";
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("warning") && problems[0].contains(place),
            "{problems:?}"
        );
        assert!(problems[0].contains("template: :1:"), "{problems:?}");
    }

    #[test]
    fn null_and_other_spellings_are_read_as_go_reads_them() {
        let definition = check(
            r#"{"API_ID": "a", "allowed_ips": null, "cors": {"enable": true, "allowed_origins": null},
                "tags": [null], "version_data": {"not_versioned": true, "versions": null},
                "proxy": {"Listen_Path": "/a/", "target_url": "env://TARGET"}}"#,
            &[],
        );
        assert_eq!(definition.proxy.target_url, "http://up");
        assert!(definition.cors.enable);
        assert_eq!(definition.tags, [""]);
    }

    #[test]
    fn a_wrong_type_names_file_place_and_what_was_expected() {
        let (definition, problems) = load(
            "{\"version_data\": {\"not_versioned\": true},\n \"api_id\": \"a\", \"session_lifetime\": \"60\",\n \"proxy\": {\"listen_path\": \"/a/\", \"target_url\": \"http://up\"}}",
            &Config::default(),
        );
        assert_eq!(
            problems,
            ["error: d.json:2:37: session_lifetime: expected a whole number, found a text"]
        );
        assert!(definition.is_some());
    }

    #[test]
    fn a_port_of_its_own_is_looked_at() {
        let config: Config = serde_json::from_str(
            r#"{"listen_port": 80, "control_api_port": 9001, "tollgate": {"metrics": {"address": "[::]:9002"}},
                "ports_whitelist": {"http": {"ranges": [{"from": 9000, "to": 9002}]}, "https": {"ports": [9000]}}}"#,
        )
        .unwrap();
        let check = |members: &str, expected: &[&str]| {
            let proxy = r#""version_data": {"not_versioned": true}, "proxy": {"listen_path": "/a/", "target_url": "http://up"}"#;
            let text = format!(r#"{{{members}, "api_id": "a", {proxy}}}"#);
            let (definition, problems) = load(&text, &config);
            assert_eq!(problems, expected, "{members}");
            definition.unwrap().own_port(&config).map(|own| own.port)
        };
        assert_eq!(check(r#""listen_port": 9000"#, &[]), Some(9000));
        assert_eq!(check(r#""listen_port": 80"#, &[]), None);
        assert_eq!(check(r#""listen_port": 0"#, &[]), None);
        let wrong = |what: &str| format!("error: d.json:1:17: listen_port: {what}");
        for (port, told) in [
            (
                "65536",
                "65536 is no port: expected 1 to 65535, or 0 for the gateway's",
            ),
            (
                "-1",
                "-1 is no port: expected 1 to 65535, or 0 for the gateway's",
            ),
            ("9001", "9001 is the port of the control API"),
            ("9002", "9002 is the port of the metrics"),
            (
                "9003",
                "port 9003 is not in `ports_whitelist.http` of the configuration (put it there, or set \
                 `disable_ports_whitelist`)",
            ),
        ] {
            check(&format!(r#""listen_port": {port}"#), &[&wrong(told)]);
        }
        let no_certificate = "port 9000 speaks TLS, and `http_server_options` of the configuration has no \
                              certificate for it";
        let https = r#""listen_port": 9000, "protocol": "https""#;
        check(https, &[&wrong(no_certificate)]);
        let (_, problems) = load(r#"{"listen_port": 9000, "protocol": "tls"}"#, &config);
        assert!(
            problems
                .iter()
                .any(|told| told.contains("this protocol is not built"))
        );
        assert!(!problems.iter().any(|told| told.contains("listen_port")));
    }

    #[test]
    fn an_open_api_definition_is_refused_by_name() {
        let (definition, problems) = load(r#"{"openapi": "3.0.3"}"#, &Config::default());
        assert!(definition.is_none());
        assert!(problems[0].contains("OpenAPI"));
    }

    #[test]
    fn an_outline_is_read_of_anything() {
        let document = Document::parse(
            Path::new("x"),
            r#"{"Api_Id": "a", "domain": 5, "proxy": {"LISTEN_PATH": "/a/"}, "active": "no", "listen_port": "1"}"#
                .into(),
        );
        let expected = Outline {
            api_id: "a".into(),
            listen_path: "/a/".into(),
            domain: String::new(),
            listen_port: None,
        };
        assert_eq!(outline(&document.unwrap().tree), expected);
    }
}
