//! Versions of an API, and what is done on single paths.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use tollgate_core::access::VersionRule;
pub use tollgate_core::rewrite::{RewriteMatch, RewriteOptions, RewriteTrigger, UrlRewriteEntry};

use crate::{
    record::{GoDuration, Unread, record},
    support::asks,
};

record! {
    /// How a request names its version.
    pub struct VersionSource {
        /// Whether versions are APIs of their own.
        pub enabled: bool,
        /// The name of this API as a version.
        pub name: String,
        /// The version of a request that names none; `self` is this API.
        pub default: String,
        /// `header`, `url-param` or `url`.
        pub location: String,
        /// The header or parameter.
        pub key: String,
        /// Old spelling of `strip_versioning_data`.
        pub strip_path: bool,
        /// Whether the name is taken out of the request.
        pub strip_versioning_data: bool,
        /// A pattern that names in the path must match.
        pub url_versioning_pattern: String,
        /// Whether the default stands in for a version that does not exist.
        pub fallback_to_default: bool,
        /// API ids by version.
        pub versions: BTreeMap<String, String>,
    }

    /// The versions.
    pub struct VersionData {
        /// Whether there is only one.
        pub not_versioned: bool,
        /// The version of a request that names none.
        pub default_version: String,
        /// The versions by name.
        pub versions: BTreeMap<String, Version>,
    }

    /// A version.
    pub struct Version {
        /// The name again.
        pub name: String,
        /// When the version ends; see [`expires_at`].
        pub expires: String,
        /// Lists of paths, where `use_extended_paths` is off.
        pub paths: PathLists,
        /// Whether `extended_paths` are read, and not `paths`.
        pub use_extended_paths: bool,
        /// What is done on single paths.
        pub extended_paths: ExtendedPaths,
        /// Headers set in requests.
        pub global_headers: BTreeMap<String, String>,
        /// Headers taken out of requests.
        pub global_headers_remove: Vec<String>,
        /// Whether neither is done.
        pub global_headers_disabled: bool,
        /// Headers set in answers.
        pub global_response_headers: BTreeMap<String, String>,
        /// Headers taken out of answers.
        pub global_response_headers_remove: Vec<String>,
        /// Whether neither is done.
        pub global_response_headers_disabled: bool,
        /// Whether lists match letters in either case.
        pub ignore_endpoint_case: bool,
        /// The largest request body, in bytes. Zero: any.
        pub global_size_limit: i64,
        /// Whether it is not looked at.
        pub global_size_limit_disabled: bool,
        /// How long an exchange may take.
        pub global_enforce_timeout: GoDuration,
        /// Whether it may take any time.
        pub global_enforce_timeout_disabled: bool,
        /// Where requests of this version go.
        pub override_target: String,
    }

    /// Lists of paths.
    pub struct PathLists {
        /// Paths that need no key.
        pub ignored: Vec<String>,
        /// Paths that alone may be called.
        pub white_list: Vec<String>,
        /// Paths that may not be called.
        pub black_list: Vec<String>,
    }

    /// What is done on single paths. Of entries that match, the first counts.
    pub struct ExtendedPaths {
        /// Paths that need no key.
        pub ignored: Vec<ListEntry>,
        /// Paths that alone may be called.
        pub white_list: Vec<ListEntry>,
        /// Paths that may not be called.
        pub black_list: Vec<ListEntry>,
        /// Paths that the gateway answers itself.
        pub mock_response: Vec<MockEntry>,
        /// Paths whose answers are cached.
        pub cache: Vec<String>,
        /// The same, in more words.
        pub advance_cache_config: Vec<AdvancedCacheEntry>,
        /// Request bodies that are rewritten.
        pub transform: Vec<TemplateEntry>,
        /// Answers that are rewritten.
        pub transform_response: Vec<TemplateEntry>,
        /// Request bodies that are rewritten by jq.
        pub transform_jq: Vec<JqEntry>,
        /// Answers that are rewritten by jq.
        pub transform_jq_response: Vec<JqEntry>,
        /// Headers of requests.
        pub transform_headers: Vec<HeaderEntry>,
        /// Headers of answers.
        pub transform_response_headers: Vec<HeaderEntry>,
        /// How long an exchange may take.
        pub hard_timeouts: Vec<HardTimeoutEntry>,
        /// Upstreams that are left alone when they fail.
        pub circuit_breakers: Vec<CircuitBreakerEntry>,
        /// Other paths for upstreams.
        pub url_rewrites: Vec<UrlRewriteEntry>,
        /// Scripts that answer.
        #[serde(rename = "virtual")]
        pub virtual_endpoints: Vec<VirtualEntry>,
        /// The largest request body.
        pub size_limits: Vec<SizeLimitEntry>,
        /// Other methods for upstreams.
        pub method_transforms: Vec<MethodTransformEntry>,
        /// Paths that are recorded by themselves.
        pub track_endpoints: Vec<TrackEntry>,
        /// Paths that are not recorded.
        pub do_not_track_endpoints: Vec<TrackEntry>,
        /// Bodies that must match a schema.
        pub validate_json: Vec<ValidateJsonEntry>,
        /// Requests that must match the OpenAPI definition.
        pub validate_request: Vec<ValidateRequestEntry>,
        /// Paths that are reached by other APIs alone.
        pub internal: Vec<InternalEntry>,
        /// Go plugins.
        pub go_plugin: Vec<GoPluginEntry>,
        /// Kept GraphQL operations.
        pub persist_graphql: Vec<PersistGraphQlEntry>,
        /// The rate of all callers together, on this path.
        pub rate_limit: Vec<RateLimitEntry>,
    }

    /// A path of a list.
    pub struct ListEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method. Empty: any.
        pub method: String,
        /// Whether letters match in either case.
        pub ignore_case: bool,
        /// What is done by method; older than `method`.
        pub method_actions: BTreeMap<String, MethodAction>,
    }

    /// What is done with requests of one method.
    pub struct MethodAction {
        /// `no_action`: what the list says. `reply`: the answer here.
        pub action: String,
        /// The status.
        pub code: i64,
        /// The body.
        pub data: String,
        /// Headers.
        pub headers: BTreeMap<String, String>,
    }

    /// A path that the gateway answers itself.
    pub struct MockEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// Whether letters match in either case.
        pub ignore_case: bool,
        /// The status. Zero: 200.
        pub code: i64,
        /// The body.
        pub body: String,
        /// Headers.
        pub headers: BTreeMap<String, String>,
    }

    /// Answers that are cached.
    pub struct AdvancedCacheEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// What of the body tells answers apart.
        pub cache_key_regex: String,
        /// Which statuses are cached.
        pub cache_response_codes: Vec<i64>,
        /// Seconds.
        pub timeout: i64,
    }

    /// A body that is rewritten.
    pub struct TemplateEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// How.
        pub template_data: TemplateData,
    }

    /// How a body is rewritten.
    pub struct TemplateData {
        /// `json` or `xml`.
        pub input_type: String,
        /// `blob` or `file`.
        pub template_mode: String,
        /// Whether the template sees metadata.
        pub enable_session: bool,
        /// The template in base64, or its file.
        pub template_source: String,
    }

    /// A body that is rewritten by jq.
    pub struct JqEntry {
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// The program.
        pub filter: String,
    }

    /// Headers of one path.
    pub struct HeaderEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// Headers taken out.
        pub delete_headers: Vec<String>,
        /// Headers set, after that.
        pub add_headers: BTreeMap<String, String>,
        /// Never read.
        pub act_on: bool,
    }

    /// How long an exchange may take.
    pub struct HardTimeoutEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// Seconds.
        pub timeout: i64,
        /// The same, as `1s500ms`; comes first.
        pub duration: GoDuration,
    }

    /// When an upstream is left alone.
    pub struct CircuitBreakerEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// Which part of requests fails, from 0 to 1.
        pub threshold_percent: f64,
        /// Of how many requests.
        pub samples: i64,
        /// Seconds until it is asked again.
        pub return_to_service_after: i64,
        /// Whether all requests go there again at once.
        pub disable_half_open_state: bool,
    }

    /// A script that answers.
    pub struct VirtualEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// The function.
        pub response_function_name: String,
        /// `file` or `blob`.
        pub function_source_type: String,
        /// The file, or the script in base64.
        pub function_source_uri: String,
        /// Whether the script sees the session.
        pub use_session: bool,
        /// Whether the upstream is asked where the script fails.
        pub proxy_on_error: bool,
    }

    /// The largest request body.
    pub struct SizeLimitEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// Bytes.
        pub size_limit: i64,
    }

    /// Another method for the upstream.
    pub struct MethodTransformEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// What it becomes.
        pub to_method: String,
    }

    /// A path that is recorded by itself, or not.
    pub struct TrackEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
    }

    /// A body that must match a schema.
    pub struct ValidateJsonEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// The schema.
        pub schema: Unread,
        /// The schema in base64; read where `schema` is not given.
        pub schema_b64: String,
        /// The status of a refusal. Zero: 422.
        pub error_response_code: i64,
    }

    /// A request that must match the OpenAPI definition.
    pub struct ValidateRequestEntry {
        /// Whether the entry is on.
        pub enabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// The status of a refusal. Zero: 422.
        pub error_response_code: i64,
    }

    /// A path that is reached by other APIs alone.
    pub struct InternalEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
    }

    /// A Go plugin.
    pub struct GoPluginEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// Its file.
        pub plugin_path: String,
        /// Its function.
        pub func_name: String,
    }

    /// A kept GraphQL operation.
    pub struct PersistGraphQlEntry {
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// The operation.
        pub operation: String,
        /// Its variables.
        pub variables: Unread,
    }

    /// The rate of all callers together, on one path. Replaces the API's.
    pub struct RateLimitEntry {
        /// Whether the entry is off.
        pub disabled: bool,
        /// The path pattern.
        pub path: String,
        /// The method.
        pub method: String,
        /// Requests. −1: no limit on this path.
        pub rate: f64,
        /// Seconds.
        pub per: f64,
    }
}

impl VersionSource {
    /// Whether the name of the version is taken out of the request.
    pub fn strips(&self) -> bool {
        self.strip_path || self.strip_versioning_data
    }
}

impl VersionData {
    /// What core's rights need to know of the versions.
    pub fn rule(&self, source: &VersionSource) -> VersionRule {
        VersionRule {
            not_versioned: self.not_versioned,
            default_version: self.default_version.clone(),
            fallback_to_default: source.fallback_to_default,
            known: self.versions.keys().cloned().collect(),
        }
    }

    /// The version of an API that has only one: the single one, or else `Default`, `default` or the
    /// one without a name. `None` where there is none, or more than one of these.
    pub fn only(&self) -> Option<(&str, &Version)> {
        let mut versions = self
            .versions
            .iter()
            .map(|(name, version)| (name.as_str(), version));
        if self.versions.len() == 1 {
            return versions.next();
        }
        let mut defaults = versions.filter(|(name, _)| ["Default", "default", ""].contains(name));
        let first = defaults.next();
        first.filter(|_| defaults.next().is_none())
    }
}

impl ValidateJsonEntry {
    /// The schema, in whichever form it is given.
    ///
    /// # Errors
    ///
    /// Fails where there is none, or it can not be read.
    pub fn schema(&self) -> Result<Value, String> {
        if asks(&self.schema.0) || self.schema_b64.is_empty() {
            return match &self.schema.0 {
                Value::Null => Err("there is no schema".into()),
                schema => Ok(schema.clone()),
            };
        }
        let text = BASE64_STANDARD.decode(&self.schema_b64);
        let text = text.map_err(|_| "`schema_b64` is no base64".to_owned())?;
        serde_json::from_slice(&text).map_err(|_| "`schema_b64` holds no JSON".into())
    }
}

impl HardTimeoutEntry {
    /// How long the exchange may take; `None` is any time.
    pub fn limit(&self) -> Option<Duration> {
        let seconds = Duration::from_secs(u64::try_from(self.timeout).unwrap_or_default());
        let limit = if self.duration.0.is_zero() {
            seconds
        } else {
            self.duration.0
        };
        (!limit.is_zero()).then_some(limit)
    }
}

/// When something ends that says `2030-01-31 12:00`, in UTC. `Ok(None)` is never.
///
/// # Errors
///
/// Fails with a text that is no time. Tyk takes that as ended.
pub fn expires_at(text: &str) -> Result<Option<jiff::Timestamp>, jiff::Error> {
    if text.is_empty() || text == "-1" {
        return Ok(None);
    }
    let time = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M", text)?;
    jiff::tz::TimeZone::UTC.to_timestamp(time).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read_as_tyk_writes_it() {
        assert!(matches!(expires_at(""), Ok(None)));
        assert!(matches!(expires_at("-1"), Ok(None)));
        let end = expires_at("2999-01-02 15:04").unwrap().unwrap();
        assert_eq!(end.to_string(), "2999-01-02T15:04:00Z");
        for wrong in [
            "2999-01-02",
            "soon",
            "2999-13-02 15:04",
            "2999-01-02T15:04:00Z",
        ] {
            assert!(expires_at(wrong).is_err(), "{wrong}");
        }
    }

    #[track_caller]
    fn check(names: &[&str], only: Option<&str>) {
        let versions = names
            .iter()
            .map(|name| ((*name).to_owned(), Version::default()));
        let data = VersionData {
            versions: versions.collect(),
            ..VersionData::default()
        };
        assert_eq!(data.only().map(|(name, _)| name), only, "{names:?}");
    }

    #[test]
    fn an_api_without_versions_has_one() {
        check(&["v7"], Some("v7"));
        check(&["v7", "Default"], Some("Default"));
        check(&["v7", "default"], Some("default"));
        check(&["Default", "default"], None);
        check(&["a", "b"], None);
        check(&[], None);
    }

    #[test]
    fn the_duration_comes_before_the_seconds() {
        let entry = |timeout, text: &str| HardTimeoutEntry {
            timeout,
            duration: text.parse().unwrap(),
            ..HardTimeoutEntry::default()
        };
        assert_eq!(entry(5, "").limit(), Some(Duration::from_secs(5)));
        assert_eq!(entry(5, "100ms").limit(), Some(Duration::from_millis(100)));
        assert_eq!(entry(0, "").limit(), None);
        assert_eq!(entry(-1, "").limit(), None);
    }
}
