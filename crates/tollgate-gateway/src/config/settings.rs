//! What becomes of each setting: the table.

use serde_json::Value;

use crate::{
    load::Store,
    problem::{Problem, Step},
    support::{Row, Table, only, part_of, refused, warns, works},
};

const ANALYTICS: &str = "analytics are not built; nothing is recorded";
const EVENTS: &str = "events are not built; nobody is told";
const TRACES: &str = "traces are not built; nothing is traced";
const LOGS: &str = "the log goes to standard output alone";
const SCRIPTS: &str = "scripts are not built; an API that asks for one is not loaded";
const PLUGINS: &str = "plugins are not built; an API that asks for one is not loaded";
const CACHE: &str = "answers are not cached";
const NO_EFFECT: &str = "has no effect";
const DASHBOARD: &str = "a dashboard is not asked; definitions and policies come from files";
const REDIS_TLS: &str = "1.2 and 1.3 are spoken with Redis, and neither can be left out";
const ONE_CONNECTION: &str = "one connection carries all calls";
const UPTIME: &str = "upstreams are not tested";
const OAUTH: &str = "use_oauth2";

/// Every setting of the configuration.
pub const SETTINGS: &[Row] = &[
    works("hostname"),
    works("listen_address"),
    works("listen_port"),
    works("control_api_hostname"),
    works("control_api_port"),
    works("secret"),
    works("node_secret"),
    warns("pid_file_location", "no file is written"),
    works("allow_insecure_configs"),
    part_of("public_key_path", "enable_bundle_downloader"),
    warns("allow_remote_config", DASHBOARD),
    part_of(
        "security.private_certificate_encoding_secret",
        "security.certificates",
    ),
    refused(
        "security.control_api_use_mutual_tls",
        "mutual TLS is not built",
    ),
    refused(
        "security.allow_unsafe_dynamic_mtls_token",
        "mutual TLS is not built",
    ),
    works("security.pinned_public_keys"),
    refused("security.certificates.apis", "mutual TLS is not built"),
    works("security.certificates.upstream"),
    part_of(
        "security.certificates.control_api",
        "security.control_api_use_mutual_tls",
    ),
    part_of("security.certificates.dashboard_api", "use_db_app_configs"),
    part_of("security.certificates.mdcb_api", "slave_options.use_rpc"),
    works("http_server_options"),
    refused(
        "http_server_options.use_ssl_le",
        "certificates do not come from Let's Encrypt",
    ),
    warns("http_server_options.ssl_insecure_skip_verify", NO_EFFECT),
    works("version_header"),
    works("suppress_redis_signal_reload"),
    warns("reload_interval", "a reload does not wait for others"),
    warns("reload_wait_time", NO_EFFECT),
    works("hash_keys"),
    works("hash_key_function"),
    works("hash_key_function_fallback"),
    part_of("basic_auth_hash_key_function", "use_basic_auth"),
    works("enable_hashed_keys_listing"),
    works("disable_key_actions_by_username"),
    works("min_token_length"),
    works("allow_master_keys"),
    works("template_path"),
    only(
        "policies.policy_source",
        &["", "file"],
        "policies come from files alone",
    ),
    part_of(
        "policies.policy_connection_string",
        "policies.policy_source",
    ),
    works("policies.policy_record_name"),
    warns("policies.allow_explicit_policy_id", NO_EFFECT),
    works("policies.policy_path"),
    works("policies.allow_unsafe_policy_ids"),
    works("ports_whitelist"),
    works("disable_ports_whitelist"),
    works("app_path"),
    refused("use_db_app_configs", "definitions come from files alone"),
    part_of("db_app_conf_options", "use_db_app_configs"),
    refused(
        "db_app_conf_options.node_is_segmented",
        "APIs are not chosen by tags; this gateway would serve those of others",
    ),
    works("storage"),
    only("storage.type", &["", "redis"], "there is no other store"),
    warns("storage.optimisation_max_idle", ONE_CONNECTION),
    warns("storage.optimisation_max_active", ONE_CONNECTION),
    warns("storage.timeout", "see `tollgate.store.timeout`"),
    only(
        "storage.tls_min_version",
        &["", "1.0", "1.1", "1.2"],
        REDIS_TLS,
    ),
    only("storage.tls_max_version", &["", "1.3"], REDIS_TLS),
    works("disable_dashboard_zeroconf"),
    part_of("slave_options", "slave_options.use_rpc"),
    refused("slave_options.use_rpc", "hybrid gateways are not built"),
    warns("management_node", "this gateway serves traffic"),
    part_of("auth_override", "auth_override.force_auth_provider"),
    refused(
        "auth_override.force_auth_provider",
        "keys are kept in the store alone",
    ),
    refused(
        "auth_override.force_session_provider",
        "sessions are kept in the store alone",
    ),
    works("enable_fixed_window_rate_limiter"),
    works("enable_redis_rolling_limiter"),
    works("enable_sentinel_rate_limiter"),
    works("enable_non_transactional_rate_limiter"),
    works("enable_rate_limit_smoothing"),
    works("drl_notification_frequency"),
    works("drl_threshold"),
    works("drl_enable_sentinel_rate_limiter"),
    works("rate_limit_response_headers"),
    warns("enforce_org_data_age", ANALYTICS),
    warns("enforce_org_data_detail_logging", ANALYTICS),
    works("enforce_org_quotas"),
    works("experimental_process_org_off_thread"),
    part_of("monitor", "monitor.enable_trigger_monitors"),
    warns("monitor.enable_trigger_monitors", EVENTS),
    works("max_idle_connections"),
    works("max_idle_connections_per_host"),
    works("max_conn_time"),
    works("close_idle_connections"),
    works("close_connections"),
    works("enable_custom_domains"),
    part_of(
        "service_discovery",
        "proxy.service_discovery.use_discovery_service",
    ),
    works("proxy_ssl_insecure_skip_verify"),
    warns(
        "proxy_enable_http2",
        "upstreams are asked for HTTP/1.1, or for HTTP/2 where the target says h2c",
    ),
    works("proxy_ssl_min_version"),
    works("proxy_ssl_max_version"),
    works("proxy_ssl_ciphers"),
    works("proxy_default_timeout"),
    works("proxy_ssl_disable_renegotiation"),
    works("proxy_close_connections"),
    works("ssl_force_common_name_check"),
    warns("uptime_tests.config.enable_uptime_analytics", UPTIME),
    part_of(
        "uptime_tests",
        "uptime_tests.config.enable_uptime_analytics",
    ),
    warns(
        "health_check.enable_health_checks",
        "the old health API is not built",
    ),
    part_of("health_check", "health_check.enable_health_checks"),
    works("health_check_endpoint_name"),
    works("readiness_check_endpoint_name"),
    works("liveness_check"),
    part_of("oauth_refresh_token_expire", OAUTH),
    part_of("oauth_token_expire", OAUTH),
    part_of("oauth_token_expired_retain_period", OAUTH),
    part_of("oauth_redirect_uri_separator", OAUTH),
    part_of("oauth_error_status_code", OAUTH),
    warns("enable_key_logging", "tokens are never logged"),
    warns("enable_analytics", ANALYTICS),
    part_of("analytics_config", "enable_analytics"),
    warns("enable_separate_analytics_store", ANALYTICS),
    part_of("analytics_storage", "enable_separate_analytics_store"),
    warns(
        "dns_cache.enabled",
        "names are asked for as the system says",
    ),
    part_of("dns_cache", "dns_cache.enabled"),
    works("disable_regexp_cache"),
    works("regexp_cache_expire"),
    works("local_session_cache"),
    warns("enable_separate_cache_store", CACHE),
    part_of("cache_storage", "enable_separate_cache_store"),
    warns("enable_bundle_downloader", PLUGINS),
    part_of("bundle_base_url", "enable_bundle_downloader"),
    part_of("bundle_insecure_skip_verify", "enable_bundle_downloader"),
    warns("enable_jsvm", SCRIPTS),
    part_of("jsvm_timeout", "enable_jsvm"),
    part_of("disable_virtual_path_blobs", "enable_jsvm"),
    part_of("tyk_js_path", "enable_jsvm"),
    part_of("middleware_path", "enable_jsvm"),
    part_of("coprocess_options", "coprocess_options.enable_coprocess"),
    warns("coprocess_options.enable_coprocess", PLUGINS),
    works("ignore_endpoint_case"),
    works("ignore_canonical_mime_header_key"),
    works("log_level"),
    works("log_format"),
    works("access_logs.enabled"),
    part_of("access_logs", "access_logs.enabled"),
    warns("tracing.enabled", TRACES),
    part_of("tracing", "tracing.enabled"),
    if cfg!(feature = "otlp") {
        works("opentelemetry.enabled")
    } else {
        warns(
            "opentelemetry.enabled",
            "this program is built without the feature `otlp`; nothing is traced",
        )
    },
    part_of("opentelemetry", "opentelemetry.enabled"),
    warns(
        "opentelemetry.metrics.enabled",
        "metrics are not sent over OTLP; Prometheus reads them",
    ),
    warns("newrelic", TRACES),
    warns("enable_http_profiler", "profiles are not built"),
    warns("use_redis_log", LOGS),
    warns("use_sentry", LOGS),
    part_of("sentry_code", "use_sentry"),
    part_of("sentry_log_level", "use_sentry"),
    warns("use_syslog", LOGS),
    part_of("syslog_transport", "use_syslog"),
    part_of("syslog_network_addr", "use_syslog"),
    warns("use_graylog", LOGS),
    part_of("graylog_network_addr", "use_graylog"),
    warns("use_logstash", LOGS),
    part_of("logstash_transport", "use_logstash"),
    part_of("logstash_network_addr", "use_logstash"),
    warns(
        "track_404_logs",
        "requests that meet no API are in the access log, if that is on",
    ),
    warns("statsd_connection_string", "metrics do not go to StatsD"),
    part_of("statsd_prefix", "statsd_connection_string"),
    warns("event_handlers", EVENTS),
    warns("event_trigers_defunct", EVENTS),
    warns("event_triggers_defunct", EVENTS),
    works("hide_generator_header"),
    works("suppress_default_org_store"),
    warns(
        "legacy_enable_allowance_countdown",
        "`allowance` is not counted down",
    ),
    works("force_global_session_lifetime"),
    works("session_lifetime_respects_key_expiration"),
    works("global_session_lifetime"),
    works("kv.consul"),
    warns("kv.consul.wait_time", "nothing is watched"),
    refused(
        "kv.consul.tls_config.address",
        "a certificate is looked at for the name in `address`",
    ),
    refused("kv.consul.tls_config.ca_path", "expected `ca_file`"),
    works("kv.vault"),
    refused("kv.stores", "stores under names of one's own are not built"),
    works("kv.file.base_path"),
    works("secrets"),
    warns(
        "override_messages",
        "has no effect, as in Tyk; `error_overrides` has",
    ),
    works("error_overrides"),
    warns("cloud", NO_EFFECT),
    part_of("jwt_ssl_insecure_skip_verify", "enable_jwt"),
    warns("enable_config_inspection", "the configuration is not shown"),
    works("tollgate"),
];

/// The table, with how the store was chosen.
pub(super) const TABLE: Table = Table {
    rows: SETTINGS,
    switches: &[],
};

/// What of the configuration is not done.
pub(super) fn evaluate(value: &Value, store: Store) -> impl Iterator<Item = Problem> {
    let has_storage = value
        .get("storage")
        .is_some_and(|storage| !storage.is_null());
    let unused = (has_storage && store == Store::Embedded).then(|| {
        let message = "not used: the embedded store was asked for";
        Problem::warning("", message).at("storage".into())
    });
    let is_of_storage = move |problem: &Problem| {
        let steps = problem.path.steps();
        matches!(steps.first(), Some(Step::Key(key)) if key == "storage")
    };
    let problems = TABLE.evaluate(value).problems.into_iter();
    problems
        .filter(move |problem| store != Store::Embedded || !is_of_storage(problem))
        .chain(unused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_setting_has_a_line() {
        for (path, _) in Config::shape().root().leaves() {
            assert!(
                TABLE.row(&path).is_some(),
                "{path} has no line in the table"
            );
        }
    }

    #[test]
    fn every_line_is_about_a_setting() {
        let leaves = Config::shape().root().leaves();
        for row in SETTINGS {
            let is_within = |outer: &str, inner: &str| {
                inner
                    .strip_prefix(outer)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            let is_known = leaves
                .iter()
                .any(|(leaf, _)| is_within(row.path, leaf) || is_within(leaf, row.path));
            assert!(is_known, "{} is no setting", row.path);
        }
    }

    /// Run with `--nocapture` to see how much of Tyk is there.
    #[test]
    fn the_lines_are_counted() {
        println!("{}", crate::support::count(SETTINGS));
    }
}
