//! What becomes of each field of a definition: the table.
//!
//! To switch something on, change its line here, with the tests that then fail.

use crate::support::{Row, Switch, Table, only, part_of, refused, warns, works};

const PLUGINS: &str = "plugins and scripts are not built";
const MUTUAL_TLS: &str = "mutual TLS is not built";
const ANALYTICS: &str = "analytics are not built; nothing is recorded";
const CACHE: &str = "answers are not cached";
const STORES: &str = "keys and sessions are kept in the store alone";

/// Every field of a definition.
pub const FIELDS: &[Row] = &[
    works("tollgate.meta_data_schema"),
    works("id"),
    works("api_id"),
    works("name"),
    works("slug"),
    works("org_id"),
    works("active"),
    works("internal"),
    works("domain"),
    works("domain_disabled"),
    only(
        "protocol",
        &["", "http", "https", "h2c"],
        "this protocol is not built",
    ),
    works("listen_port"),
    refused("enable_proxy_protocol", "the PROXY protocol is not built"),
    part_of("json_rpc_version", "application_protocol"),
    refused("application_protocol", "MCP and JSON-RPC are not built"),
    refused("is_oas", "OpenAPI definitions are not built"),
    refused(
        "security_requirements",
        "alternatives of authentication are not built",
    ),
    // Where requests come in and go.
    works("proxy.listen_path"),
    works("proxy.target_url"),
    works("proxy.strip_listen_path"),
    works("proxy.disable_strip_slash"),
    works("proxy.preserve_host_header"),
    works("proxy.enable_load_balancing"),
    works("proxy.target_list"),
    warns(
        "proxy.check_host_against_uptime_tests",
        "upstreams are not tested; all are used",
    ),
    part_of(
        "proxy.service_discovery",
        "proxy.service_discovery.use_discovery_service",
    ),
    refused(
        "proxy.service_discovery.use_discovery_service",
        "service discovery is not built",
    ),
    works("proxy.transport.ssl_insecure_skip_verify"),
    works("proxy.transport.ssl_min_version"),
    works("proxy.transport.ssl_max_version"),
    works("proxy.transport.ssl_ciphers"),
    works("proxy.transport.ssl_force_common_name_check"),
    works("proxy.transport.proxy_url"),
    // Who may call.
    works("use_keyless"),
    works("use_standard_auth"),
    refused("use_basic_auth", "basic auth is not built"),
    refused("use_oauth2", "OAuth is not built"),
    refused("use_openid", "OpenID Connect is not built"),
    refused("enable_jwt", "JWT is not built"),
    refused("enable_signature_checking", "HTTP signatures are not built"),
    refused("use_mutual_tls_auth", MUTUAL_TLS),
    refused("custom_plugin_auth_enabled", PLUGINS),
    refused("enable_coprocess_auth", PLUGINS),
    refused("use_go_plugin_auth", PLUGINS),
    works("auth"),
    refused("auth.use_certificate", MUTUAL_TLS),
    refused(
        "auth.validate_signature",
        "signatures of tokens are not built",
    ),
    part_of("auth.signature", "auth.validate_signature"),
    works("auth_configs"),
    refused("auth_configs.*.use_certificate", MUTUAL_TLS),
    refused(
        "auth_configs.*.validate_signature",
        "signatures of tokens are not built",
    ),
    part_of(
        "auth_configs.*.signature",
        "auth_configs.*.validate_signature",
    ),
    part_of("basic_auth", "use_basic_auth"),
    part_of("jwt_signing_method", "enable_jwt"),
    part_of("jwt_source", "enable_jwt"),
    part_of("jwt_jwks_uris", "enable_jwt"),
    part_of("jwt_identity_base_field", "enable_jwt"),
    part_of("jwt_client_base_field", "enable_jwt"),
    part_of("jwt_policy_field_name", "enable_jwt"),
    part_of("jwt_default_policies", "enable_jwt"),
    part_of("jwt_issued_at_validation_skew", "enable_jwt"),
    part_of("jwt_expires_at_validation_skew", "enable_jwt"),
    part_of("jwt_not_before_validation_skew", "enable_jwt"),
    part_of("jwt_disable_issued_at_validation", "enable_jwt"),
    part_of("jwt_disable_expires_at_validation", "enable_jwt"),
    part_of("jwt_disable_not_before_validation", "enable_jwt"),
    part_of("jwt_skip_kid", "enable_jwt"),
    part_of("jwt_scope_to_policy_mapping", "enable_jwt"),
    part_of("jwt_scope_claim_name", "enable_jwt"),
    part_of("scopes", "enable_jwt"),
    part_of("idp_client_id_mapping_disabled", "enable_jwt"),
    part_of("openid_options", "use_openid"),
    part_of("oauth_meta", "use_oauth2"),
    part_of("external_oauth", "external_oauth.enabled"),
    refused(
        "external_oauth.enabled",
        "OAuth at another place is not built",
    ),
    part_of("hmac_allowed_clock_skew", "enable_signature_checking"),
    part_of("hmac_allowed_algorithms", "enable_signature_checking"),
    part_of("client_certificates", "use_mutual_tls_auth"),
    only(
        "base_identity_provided_by",
        &["", "auth_token"],
        "the session comes from the token alone",
    ),
    works("strip_auth_data"),
    works("auth_provider"),
    only("auth_provider.storage_engine", &["", "redis"], STORES),
    works("session_provider"),
    only("session_provider.storage_engine", &["", "redis"], STORES),
    // Versions.
    works("definition"),
    works("version_data.not_versioned"),
    works("version_data.default_version"),
    works("version_data.versions.*.name"),
    works("version_data.versions.*.expires"),
    works("version_data.versions.*.paths"),
    works("version_data.versions.*.use_extended_paths"),
    works("version_data.versions.*.global_headers"),
    works("version_data.versions.*.global_headers_remove"),
    works("version_data.versions.*.global_headers_disabled"),
    works("version_data.versions.*.global_response_headers"),
    works("version_data.versions.*.global_response_headers_remove"),
    works("version_data.versions.*.global_response_headers_disabled"),
    works("version_data.versions.*.ignore_endpoint_case"),
    works("version_data.versions.*.global_size_limit"),
    works("version_data.versions.*.global_size_limit_disabled"),
    works("version_data.versions.*.global_enforce_timeout"),
    works("version_data.versions.*.global_enforce_timeout_disabled"),
    works("version_data.versions.*.override_target"),
    works("version_data.versions.*.extended_paths.ignored"),
    works("version_data.versions.*.extended_paths.white_list"),
    works("version_data.versions.*.extended_paths.black_list"),
    works("version_data.versions.*.extended_paths.mock_response"),
    warns("version_data.versions.*.extended_paths.cache", CACHE),
    warns(
        "version_data.versions.*.extended_paths.advance_cache_config",
        CACHE,
    ),
    works("version_data.versions.*.extended_paths.transform"),
    works("version_data.versions.*.extended_paths.transform_response"),
    refused(
        "version_data.versions.*.extended_paths.transform_jq",
        "jq is not built",
    ),
    refused(
        "version_data.versions.*.extended_paths.transform_jq_response",
        "jq is not built",
    ),
    works("version_data.versions.*.extended_paths.transform_headers"),
    works("version_data.versions.*.extended_paths.transform_response_headers"),
    works("version_data.versions.*.extended_paths.hard_timeouts"),
    works("version_data.versions.*.extended_paths.circuit_breakers"),
    works("version_data.versions.*.extended_paths.url_rewrites"),
    refused(
        "version_data.versions.*.extended_paths.virtual",
        "virtual endpoints are not built",
    ),
    works("version_data.versions.*.extended_paths.size_limits"),
    works("version_data.versions.*.extended_paths.method_transforms"),
    works("version_data.versions.*.extended_paths.track_endpoints"),
    works("version_data.versions.*.extended_paths.do_not_track_endpoints"),
    works("version_data.versions.*.extended_paths.validate_json"),
    refused(
        "version_data.versions.*.extended_paths.validate_request",
        "OpenAPI definitions are not built",
    ),
    works("version_data.versions.*.extended_paths.internal"),
    refused("version_data.versions.*.extended_paths.go_plugin", PLUGINS),
    refused(
        "version_data.versions.*.extended_paths.persist_graphql",
        "GraphQL is not built",
    ),
    works("version_data.versions.*.extended_paths.rate_limit"),
    works("expiration"),
    // Limits.
    works("disable_rate_limit"),
    works("disable_quota"),
    works("global_rate_limit"),
    works("session_lifetime"),
    works("session_lifetime_respects_key_expiration"),
    works("dont_set_quota_on_create"),
    works("enable_ip_whitelisting"),
    works("allowed_ips"),
    works("enable_ip_blacklisting"),
    works("blacklisted_ips"),
    works("ip_access_control_disabled"),
    // What is done to requests and answers.
    works("enable_context_vars"),
    part_of("config_data", "custom_middleware"),
    works("config_data_disabled"),
    part_of("custom_middleware.driver", "custom_middleware.pre"),
    refused("custom_middleware.pre", PLUGINS),
    refused("custom_middleware.auth_check", PLUGINS),
    refused("custom_middleware.post_key_auth", PLUGINS),
    refused("custom_middleware.post", PLUGINS),
    refused("custom_middleware.response", PLUGINS),
    warns("custom_middleware.traffic_logs", ANALYTICS),
    part_of(
        "custom_middleware.id_extractor",
        "custom_middleware.auth_check",
    ),
    refused("custom_middleware_bundle", "plugin bundles are not built"),
    works("custom_middleware_bundle_disabled"),
    only(
        "response_processors[].name",
        &[
            "",
            "header_injector",
            "header_transform",
            "response_body_transform",
        ],
        "this response processor is not built",
    ),
    works("response_processors[].options"),
    warns("event_handlers", "events are not built; nobody is told"),
    warns("cache_options.enable_cache", CACHE),
    part_of("cache_options", "cache_options.enable_cache"),
    works("CORS"),
    warns("uptime_tests.check_list", "upstreams are not tested"),
    part_of("uptime_tests", "uptime_tests.check_list"),
    refused(
        "enable_batch_request_support",
        "batch requests are not built",
    ),
    // What is recorded.
    works("do_not_track"),
    warns("enable_detailed_recording", ANALYTICS),
    warns("expire_analytics_after", ANALYTICS),
    warns("tag_headers", ANALYTICS),
    works("tags"),
    works("tags_disabled"),
    warns("analytics_plugin.enable", ANALYTICS),
    part_of("analytics_plugin", "analytics_plugin.enable"),
    warns(
        "detailed_tracing",
        "traces are not built; nothing is traced",
    ),
    part_of("notifications", "use_oauth2"),
    // TLS and credentials towards upstreams.
    refused("certificates", "certificates of single hosts are not built"),
    works("upstream_certificates"),
    works("upstream_certificates_disabled"),
    works("pinned_public_keys"),
    works("certificate_pinning_disabled"),
    part_of("request_signing", "request_signing.is_enabled"),
    refused(
        "request_signing.is_enabled",
        "signatures for upstreams are not built",
    ),
    part_of("upstream_auth", "upstream_auth.enabled"),
    refused(
        "upstream_auth.enabled",
        "credentials for upstreams are not built",
    ),
    works("error_overrides"),
    works("error_overrides_disabled"),
    part_of("graphql", "graphql.enabled"),
    refused("graphql.enabled", "GraphQL is not built"),
];

/// Members that are read only where one beside them says so. `x_disabled` beside `x` needs no line.
const SWITCHES: &[Switch] = &[
    Switch {
        member: "extended_paths",
        beside: "use_extended_paths",
        value: true,
    },
    Switch {
        member: "paths",
        beside: "use_extended_paths",
        value: false,
    },
    Switch {
        member: "pinned_public_keys",
        beside: "certificate_pinning_disabled",
        value: false,
    },
];

/// The table.
pub(super) const TABLE: Table = Table {
    rows: FIELDS,
    switches: SWITCHES,
};

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        definition::Definition,
        problem::Severity,
        shape::{Kind, Node},
        support::Support,
    };

    fn begins(outer: &str, inner: &str) -> bool {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }

    #[test]
    fn every_field_has_a_line_and_every_line_a_field() {
        let leaves = Definition::shape().root().leaves();
        for (path, _) in &leaves {
            assert!(TABLE.row(path).is_some(), "{path} has no line in the table");
        }
        for row in FIELDS {
            let is_known =
                |(leaf, _): &(String, Node<'_>)| begins(row.path, leaf) || begins(leaf, row.path);
            assert!(leaves.iter().any(is_known), "{} is no field", row.path);
        }
    }

    /// A value that asks for something.
    fn sample(kind: Kind<'_>) -> Value {
        match kind {
            Kind::Bool => json!(true),
            Kind::Whole => json!(1),
            Kind::Number => json!(1.5),
            Kind::Text => json!("x"),
            Kind::List(items) => json!([sample(items.kind())]),
            Kind::Map(values) => json!({"k": sample(values.kind())}),
            Kind::Object(_) | Kind::Free => json!({"k": "x"}),
        }
    }

    /// The value with all that leads to it: `*` is a name, `[]` an item.
    fn within(path: &str, value: Value) -> Value {
        let mut outer = value;
        for part in path.rsplit('.') {
            let (name, items) = part.split_once('[').map_or((part, 0), |(name, rest)| {
                (name, 1 + rest.matches('[').count())
            });
            for _ in 0..items {
                outer = json!([outer]);
            }
            let name = if name == "*" { "k" } else { name };
            outer = json!({name: outer});
            if name == "extended_paths" {
                outer["use_extended_paths"] = json!(true);
            }
        }
        outer
    }

    fn severity(value: &Value) -> Option<Severity> {
        TABLE
            .evaluate(value)
            .problems
            .iter()
            .map(|problem| problem.severity)
            .max()
    }

    /// Fields that switch something off: what asks for them asks for less.
    fn switches_off(path: &str) -> bool {
        path.ends_with("disabled")
    }

    #[test]
    fn every_field_in_turn_works_warns_or_is_refused() {
        let mut seen = [0; 3];
        for (path, node) in Definition::shape().root().leaves() {
            let row = TABLE.row(&path).unwrap();
            let found = severity(&within(&path, sample(node.kind())));
            let expected = match row.support {
                _ if switches_off(&path) => None,
                Support::Works | Support::PartOf(_) => None,
                Support::Only(..) | Support::Refused(_) => Some(Severity::Error),
                Support::Warns(_) => Some(Severity::Warning),
            };
            assert_eq!(found, expected, "{path}: {row:?}");
            seen[found.map_or(0, |severity| 1 + severity as usize)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
    }

    #[test]
    fn every_line_that_is_not_the_shape_s_own_is_asked_for_too() {
        for row in FIELDS {
            let expected = match row.support {
                Support::Refused(_) => Severity::Error,
                Support::Warns(_) => Severity::Warning,
                _ => continue,
            };
            let found = severity(&within(row.path, json!([{"path": "/"}])));
            assert_eq!(found, Some(expected), "{}", row.path);
        }
    }

    #[test]
    fn a_field_is_part_of_one_that_has_a_line() {
        for row in FIELDS {
            if let Support::PartOf(other) = row.support {
                let is_line = |row: &Row| begins(other, row.path);
                assert!(
                    FIELDS.iter().any(is_line),
                    "{}: {other} has no line",
                    row.path
                );
            }
        }
    }

    /// Run with `--nocapture` to see how much of Tyk is there.
    #[test]
    fn the_lines_are_counted() {
        println!("{}", crate::support::count(FIELDS));
    }

    #[test]
    fn what_is_switched_off_asks_for_nothing() {
        let version = |use_extended_paths: bool| {
            json!({"version_data": {"versions": {"v": {
                "use_extended_paths": use_extended_paths,
                "extended_paths": {"virtual": [{"path": "/"}]}}}}})
        };
        assert_eq!(severity(&version(true)), Some(Severity::Error));
        assert_eq!(severity(&version(false)), None);
        for quiet in [
            json!({"graphql": {"enabled": false, "schema": "type Query"}}),
            json!({"jwt_source": "x", "jwt_signing_method": "rsa"}),
            json!({"custom_middleware_bundle": "b", "custom_middleware_bundle_disabled": true}),
            json!({"pinned_public_keys": {"*": "x"}, "certificate_pinning_disabled": true}),
            json!({"custom_middleware": {"driver": "otto", "pre": [{"disabled": true, "name": "x"}]}}),
        ] {
            assert_eq!(severity(&quiet), None, "{quiet}");
        }
    }
}
