//! What a case needs of a gateway, read from the case's own members, and what of it is built.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    case::{Case, Step},
    gateway::Store,
};

/// Something that a gateway may have or not.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Need {
    Analytics,
    BasicAuth,
    BodyTransforms,
    Cache,
    Certificates,
    GoPlugins,
    GraphQl,
    GrpcPlugins,
    Jwt,
    LocationRewrites,
    OAuth,
    OpenId,
    Redis,
    RequestSigning,
    Rewrites,
    ScriptHooks,
    ServiceDiscovery,
    SignedRequests,
    SignedTokens,
    Smoothing,
    UptimeTests,
    VirtualEndpoints,
    Webhooks,
}

impl Need {
    /// What the gateway has on this store. A need moves here with the issue that builds it.
    pub(crate) fn is_built(self, store: Store) -> bool {
        match self {
            Self::BodyTransforms | Self::LocationRewrites | Self::Rewrites | Self::Smoothing => {
                true
            }
            Self::Redis => store == Store::Redis,
            Self::Analytics
            | Self::BasicAuth
            | Self::Cache
            | Self::Certificates
            | Self::GoPlugins
            | Self::GraphQl
            | Self::GrpcPlugins
            | Self::Jwt
            | Self::OAuth
            | Self::OpenId
            | Self::RequestSigning
            | Self::ScriptHooks
            | Self::ServiceDiscovery
            | Self::SignedRequests
            | Self::SignedTokens
            | Self::UptimeTests
            | Self::VirtualEndpoints
            | Self::Webhooks => false,
        }
    }
}

/// Members of a definition that are a switch: on where they hold `true`, a text, or anything at all in them.
const SWITCHES: [(&str, Need); 22] = [
    ("/use_basic_auth", Need::BasicAuth),
    ("/enable_jwt", Need::Jwt),
    ("/use_oauth2", Need::OAuth),
    ("/external_oauth/enabled", Need::OAuth),
    ("/use_openid", Need::OpenId),
    ("/enable_signature_checking", Need::SignedRequests),
    ("/request_signing/is_enabled", Need::RequestSigning),
    ("/auth/validate_signature", Need::SignedTokens),
    (
        "/auth_configs/authToken/validate_signature",
        Need::SignedTokens,
    ),
    ("/auth/use_certificate", Need::Certificates),
    (
        "/auth_configs/authToken/use_certificate",
        Need::Certificates,
    ),
    ("/use_mutual_tls_auth", Need::Certificates),
    ("/upstream_certificates", Need::Certificates),
    ("/enable_coprocess_auth", Need::GrpcPlugins),
    ("/use_go_plugin_auth", Need::GoPlugins),
    ("/graphql/enabled", Need::GraphQl),
    ("/cache_options/enable_cache", Need::Cache),
    (
        "/proxy/service_discovery/use_discovery_service",
        Need::ServiceDiscovery,
    ),
    ("/proxy/check_host_against_uptime_tests", Need::UptimeTests),
    ("/uptime_tests/check_list", Need::UptimeTests),
    ("/event_handlers/events", Need::Webhooks),
    ("/notifications/oauth_on_keychange_url", Need::OAuth),
];

/// Lists of a version's `extended_paths`.
const PATHS: [(&str, Need); 12] = [
    ("url_rewrites", Need::Rewrites),
    ("transform", Need::BodyTransforms),
    ("transform_response", Need::BodyTransforms),
    ("transform_jq", Need::BodyTransforms),
    ("transform_jq_response", Need::BodyTransforms),
    ("cache", Need::Cache),
    ("advance_cache_config", Need::Cache),
    ("virtual", Need::VirtualEndpoints),
    ("do_not_track_endpoints", Need::Analytics),
    ("track_endpoints", Need::Analytics),
    ("go_plugin", Need::GoPlugins),
    ("persist_graphql", Need::GraphQl),
];

/// What hooks stand in, besides their `driver`.
const HOOKS: [&str; 5] = ["pre", "post", "post_key_auth", "auth_check", "response"];

/// Everything the case needs beyond what every gateway has.
pub(crate) fn of(case: &Case) -> BTreeSet<Need> {
    let mut needs = BTreeSet::new();
    for api in &case.apis {
        definition(api, &mut needs);
    }
    config(&case.config, &mut needs);
    let bodies = case.steps.iter().filter_map(|step| step.admin.as_ref());
    let sessions = case.keys.values().chain(bodies.map(|admin| &admin["body"]));
    if is_something(&case.config["enable_rate_limit_smoothing"])
        && sessions.into_iter().any(smooths)
    {
        needs.insert(Need::Smoothing);
    }
    if case.hook_prefix.is_some() {
        needs.insert(Need::Webhooks);
    }
    if !case.grpc.is_null() {
        needs.insert(Need::GrpcPlugins);
    }
    for needed in case.steps.iter().filter_map(step) {
        needs.insert(needed);
    }
    // A definition may come by the control API too.
    for admin in case.steps.iter().filter_map(|step| step.admin.as_ref()) {
        if admin["path"]
            .as_str()
            .is_some_and(|path| path.starts_with("/tyk/apis"))
        {
            definition(&admin["body"], &mut needs);
        }
    }
    needs
}

fn definition(api: &Value, needs: &mut BTreeSet<Need>) {
    let is_on = |place: &str| api.pointer(place).is_some_and(is_something);
    needs.extend(
        SWITCHES
            .iter()
            .filter(|(place, _)| is_on(place))
            .map(|(_, need)| need),
    );

    for version in members(&api["version_data"]["versions"]) {
        let paths = &version["extended_paths"];
        needs.extend(
            PATHS
                .iter()
                .filter(|(list, _)| is_something(&paths[list]))
                .map(|(_, need)| need),
        );
    }

    let hooks = &api["custom_middleware"];
    if HOOKS
        .iter()
        .any(|hook| members(&hooks[hook]).next().is_some() || is_something(&hooks[hook]["name"]))
    {
        needs.insert(match hooks["driver"].as_str() {
            Some("grpc") => Need::GrpcPlugins,
            Some("goplugin") => Need::GoPlugins,
            _ => Need::ScriptHooks,
        });
    }

    for processor in members(&api["response_processors"]) {
        match processor["name"].as_str() {
            Some("header_transform") => drop(needs.insert(Need::LocationRewrites)),
            Some("response_body_transform" | "response_body_transform_jq") => {
                needs.insert(Need::BodyTransforms);
            }
            _ => {}
        }
    }
}

fn config(config: &Value, needs: &mut BTreeSet<Need>) {
    let switches = [
        ("/enable_analytics", Need::Analytics),
        ("/monitor/enable_trigger_monitors", Need::Webhooks),
        ("/event_handlers", Need::Webhooks),
        ("/basic_auth_hash_key_function", Need::BasicAuth),
        ("/coprocess_options/enable_coprocess", Need::GrpcPlugins),
        ("/security/certificates", Need::Certificates),
        ("/http_server_options/use_ssl", Need::Certificates),
    ];
    let is_on = |place: &str| config.pointer(place).is_some_and(is_something);
    needs.extend(
        switches
            .iter()
            .filter(|(place, _)| is_on(place))
            .map(|(_, need)| need),
    );
}

fn step(step: &Step) -> Option<Need> {
    if step.redis.is_some() {
        return Some(Need::Redis);
    }
    if step.analytics.is_some() {
        return Some(Need::Analytics);
    }
    if step.plugin.is_some() || step.plugin_events.is_some() {
        return Some(Need::GrpcPlugins);
    }
    if step.collect.is_some() {
        return Some(Need::Webhooks);
    }
    let path = step.admin.as_ref()?["path"].as_str()?;
    let resources = [
        ("/tyk/oauth", Need::OAuth),
        ("/tyk/certs", Need::Certificates),
        ("/tyk/cache", Need::Cache),
    ];
    resources
        .iter()
        .find(|(resource, _)| path.starts_with(resource))
        .map(|(_, need)| *need)
}

/// Whether a session asks for a rate that grows and shrinks with use, for itself or for an API.
fn smooths(session: &Value) -> bool {
    let limits = members(&session["access_rights"]).map(|right| &right["limit"]);
    let mut all = limits.chain([session]).map(|limit| &limit["smoothing"]);
    all.any(|smoothing| {
        let numbers = ["threshold", "trigger", "step", "delay"];
        let are_set = numbers
            .iter()
            .all(|name| smoothing[name].as_f64() > Some(0.0));
        is_something(&smoothing["enabled"]) && are_set
    })
}

/// The members of an object, or the values of a list.
fn members(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Object(members) => Box::new(members.values()),
        Value::Array(values) => Box::new(values.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}
