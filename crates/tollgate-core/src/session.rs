//! The session object: what a token stands for.
//!
//! Field names and their order are Tyk's (Tyk documentation: *Token Session Object Details*), so a
//! search for a word of Tyk's documents ends here. Every member may be missing or `null`; what that
//! means is written beside the field. Rules that read the record live elsewhere: who may call what
//! in [`access`](crate::access), how much in [`limits`](crate::limits), what policies change in
//! [`policy`](crate::policy).

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    clock::UnixSeconds,
    ids::{ApiId, OrgId, PolicyId, Secret},
    meta::MetaData,
    rejection::Rejection,
    wire::{self, Member, RecordError, plain_members, record},
};

record! {
    /// The session object behind one token, letter for letter as Tyk stores it.
    ///
    /// ```
    /// use tollgate_core::Session;
    ///
    /// let session: Session = r#"{"rate": 10, "per": 60, "quota_max": -1, "note": "kept"}"#.parse()?;
    /// assert_eq!(session.rate, 10.0);
    /// assert!(session.to_json().contains(r#""note":"kept""#));
    /// # Ok::<(), tollgate_core::RecordError>(())
    /// ```
    pub struct Session {
        /// Deprecated, never read.
        pub last_check: i64 = "last_check" keep,
        /// Deprecated, never read.
        pub allowance: f64 = "allowance" keep,
        /// Requests allowed in `per` seconds. Zero and below: no rate limit.
        pub rate: f64 = "rate" keep,
        /// The rate's window, in seconds.
        pub per: f64 = "per" keep,
        /// Seconds between two tries of a request that met the rate limit. Zero and below: none.
        pub throttle_interval: f64 = "throttle_interval" keep,
        /// How many such tries. Zero and below: none.
        pub throttle_retry_limit: i64 = "throttle_retry_limit" keep,
        /// Allowed depth of GraphQL queries. Zero and −1: any.
        pub max_query_depth: i64 = "max_query_depth" keep,
        /// When the key was made.
        pub date_created: DateTime = "date_created" keep,
        /// When the key ends, in Unix seconds. Below 1: never. See [`Session::lifecycle`].
        pub expires: i64 = "expires" keep,
        /// Requests allowed in a quota period. Zero and below: no quota.
        pub quota_max: i64 = "quota_max" keep,
        /// State, for information: when the running period ends, in Unix seconds.
        pub quota_renews: i64 = "quota_renews" keep,
        /// State, for information: what is left. Limits are decided by counters, never by this.
        pub quota_remaining: i64 = "quota_remaining" keep,
        /// The quota period, in seconds. Zero and below: the quota never renews.
        pub quota_renewal_rate: i64 = "quota_renewal_rate" keep,
        /// What the key may call. Empty: a master key, see [`access`](crate::access).
        pub access_rights: Rights = "access_rights" keep,
        /// The organisation that owns the key.
        pub org_id: OrgId = "org_id" keep,
        /// The OAuth client that the key was issued through.
        pub oauth_client_id: String = "oauth_client_id" keep,
        /// The last token issued, by OAuth client.
        pub oauth_keys: BTreeMap<String, Secret> = "oauth_keys" keep,
        /// The organisation and the SHA-256 of the client certificate bound to the key.
        pub certificate: String = "certificate" keep,
        /// Certificates that the token may be presented with. Empty: any.
        pub mtls_static_certificate_bindings: Vec<String> = "mtls_static_certificate_bindings" omit,
        /// The password of a basic-auth user.
        pub basic_auth_data: BasicAuthData = "basic_auth_data" keep,
        /// The key's own JWT secret.
        pub jwt_data: JwtData = "jwt_data" keep,
        /// Whether the key may sign requests with HMAC.
        pub hmac_enabled: bool = "hmac_enabled" keep,
        /// Whether the key may sign requests with HMAC or RSA.
        pub enable_http_signature_validation: bool = "enable_http_signature_validation" keep,
        /// The HMAC secret.
        pub hmac_string: Secret = "hmac_string" keep,
        /// The certificate that holds the RSA public key.
        pub rsa_certificate_id: String = "rsa_certificate_id" keep,
        /// Whether the key is switched off.
        pub is_inactive: bool = "is_inactive" keep,
        /// Deprecated: the one policy. Read only where `apply_policies` is empty.
        pub apply_policy_id: PolicyId = "apply_policy_id" keep,
        /// The policies that make this session, in order.
        pub apply_policies: Vec<PolicyId> = "apply_policies" keep,
        /// Seconds that analytics of this key are kept. Read from organisation sessions alone.
        pub data_expires: i64 = "data_expires" keep,
        /// When to tell somebody how much of the quota is used.
        pub monitor: Monitor = "monitor" keep,
        /// Deprecated spelling of `enable_detailed_recording`.
        pub enable_detail_recording: bool = "enable_detail_recording" keep,
        /// Whether analytics hold whole requests and responses of this key.
        pub enable_detailed_recording: bool = "enable_detailed_recording" keep,
        /// Free data about the identity: into headers, URLs, bodies and the user's own types.
        pub meta_data: MetaData = "meta_data" keep,
        /// Tags for analytics.
        pub tags: Vec<String> = "tags" keep,
        /// A name for people. Never a key to anything.
        pub alias: String = "alias" keep,
        /// Unix seconds of the last administrative write, as text.
        pub last_updated: String = "last_updated" keep,
        /// Until when a plugin's answer may be reused, in Unix seconds.
        pub id_extractor_deadline: i64 = "id_extractor_deadline" keep,
        /// Seconds that the record lives in the store. Zero: as long as the API says. Kept for who
        /// writes records; no layer writes one.
        pub session_lifetime: i64 = "session_lifetime" keep,
        /// What becomes of the record after `expires`: `retain`, `delete`, or nothing of its own.
        pub post_expiry_action: String = "post_expiry_action" omit,
        /// Seconds that a retained record outlives `expires`. −1: for ever.
        pub post_expiry_grace_period: i64 = "post_expiry_grace_period" omit,
        /// How the rate limit grows and shrinks with use.
        pub smoothing: Option<Smoothing> = "smoothing" keep,
    }
}

record! {
    /// What a session may call of one API: a value of `access_rights`.
    pub struct AccessDefinition {
        /// For people. Only the key in `access_rights` names the API.
        pub api_name: String = "api_name" keep,
        /// For people, like `api_name`.
        pub api_id: String = "api_id" keep,
        /// Versions that may be called. Not read where the API has no versions.
        pub versions: Vec<String> = "versions" keep,
        /// Paths that may be called. Empty: all.
        pub allowed_urls: Vec<AllowedUrl> = "allowed_urls" keep,
        /// GraphQL: types and fields that may not be asked for.
        pub restricted_types: Vec<GraphQlType> = "restricted_types" keep,
        /// GraphQL: types and fields that alone may be asked for. Empty: all.
        pub allowed_types: Vec<GraphQlType> = "allowed_types" keep,
        /// Limits of this API alone. Where any number in it is set, it replaces *all* of the
        /// session's own limits for this API.
        pub limit: ApiLimit = "limit" keep,
        /// GraphQL: depth by field.
        pub field_access_rights: Vec<FieldAccess> = "field_access_rights" keep,
        /// GraphQL: whether introspection is refused.
        pub disable_introspection: bool = "disable_introspection" keep,
        /// State: which counters this entry shares with others. Empty: the session's own.
        pub allowance_scope: String = "allowance_scope" keep,
        /// Rate limits by path and method.
        pub endpoints: Vec<Endpoint> = "endpoints" omit,
        /// Rate limits by JSON-RPC method.
        pub json_rpc_methods: Vec<NamedLimit> = "json_rpc_methods" omit,
        /// JSON-RPC methods that may be called.
        pub json_rpc_methods_access_rights: AccessLists = "json_rpc_methods_access_rights" omit,
        /// Rate limits by MCP tool, resource or prompt.
        pub mcp_primitives: Vec<McpPrimitive> = "mcp_primitives" omit,
        /// MCP tools, resources and prompts that may be used.
        pub mcp_access_rights: McpAccess = "mcp_access_rights" omit,
    }
}

record! {
    /// A path that may be called, and how.
    pub struct AllowedUrl {
        /// The path pattern, see [`access`](crate::access).
        pub url: String = "url" keep,
        /// The methods, in capitals. Empty: none.
        pub methods: Vec<String> = "methods" keep,
    }
}

record! {
    /// Limits of one API.
    ///
    /// The fields mean what they mean in [`Session`]. A record in which every number is zero is no
    /// limit of its own: the session's then hold.
    pub struct ApiLimit {
        /// See [`Session::rate`].
        pub rate: f64 = "rate" keep,
        /// See [`Session::per`].
        pub per: f64 = "per" keep,
        /// See [`Session::throttle_interval`].
        pub throttle_interval: f64 = "throttle_interval" keep,
        /// See [`Session::throttle_retry_limit`].
        pub throttle_retry_limit: i64 = "throttle_retry_limit" keep,
        /// See [`Session::max_query_depth`].
        pub max_query_depth: i64 = "max_query_depth" keep,
        /// See [`Session::quota_max`].
        pub quota_max: i64 = "quota_max" keep,
        /// See [`Session::quota_renews`].
        pub quota_renews: i64 = "quota_renews" keep,
        /// See [`Session::quota_remaining`].
        pub quota_remaining: i64 = "quota_remaining" keep,
        /// See [`Session::quota_renewal_rate`].
        pub quota_renewal_rate: i64 = "quota_renewal_rate" keep,
        /// See [`Session::smoothing`].
        pub smoothing: Option<Smoothing> = "smoothing" omit,
    }
}

impl ApiLimit {
    /// Whether the session's own limits hold in place of these.
    ///
    /// Tyk does not look at `smoothing` here and so loses it; we do.
    pub fn is_empty(&self) -> bool {
        let numbers = [self.rate, self.per, self.throttle_interval];
        let counts = [
            self.throttle_retry_limit,
            self.max_query_depth,
            self.quota_max,
            self.quota_renews,
            self.quota_remaining,
            self.quota_renewal_rate,
        ];
        numbers.iter().all(|n| *n == 0.0) && counts.iter().all(|n| *n == 0)
    }
}

record! {
    /// How a rate limit grows and shrinks with use. Valid where it is enabled and all else is
    /// above zero.
    pub struct Smoothing {
        /// Whether it is in use.
        pub enabled: bool = "enabled" keep,
        /// The allowance to start from, in requests.
        pub threshold: i64 = "threshold" keep,
        /// Which part of a step must be used up before the next is taken.
        pub trigger: f64 = "trigger" keep,
        /// Requests by which the allowance changes at once.
        pub step: i64 = "step" keep,
        /// Seconds between two changes.
        pub delay: i64 = "delay" keep,
    }
}

record! {
    /// A path with rate limits of its own.
    pub struct Endpoint {
        /// The path pattern, see [`access`](crate::access).
        pub path: String = "path" keep,
        /// The limits, by method.
        pub methods: Vec<EndpointMethod> = "methods" keep,
    }
}

record! {
    /// The rate limit of one method of an [`Endpoint`].
    pub struct EndpointMethod {
        /// The method, in any case.
        pub name: String = "name" keep,
        /// Its rate limit.
        pub limit: RateLimit = "limit" keep,
    }
}

record! {
    /// A rate limit alone.
    pub struct RateLimit {
        /// See [`Session::rate`].
        pub rate: f64 = "rate" omit,
        /// See [`Session::per`].
        pub per: f64 = "per" omit,
        /// See [`Session::smoothing`].
        pub smoothing: Option<Smoothing> = "smoothing" omit,
    }
}

record! {
    /// A rate limit of something that has a name.
    pub struct NamedLimit {
        /// The name.
        pub name: String = "name" keep,
        /// Its rate limit.
        pub limit: RateLimit = "limit" keep,
    }
}

record! {
    /// The rate limit of an MCP tool, resource or prompt.
    pub struct McpPrimitive {
        /// `tool`, `resource` or `prompt`.
        pub kind: String = "type" keep,
        /// Its name.
        pub name: String = "name" keep,
        /// Its rate limit.
        pub limit: RateLimit = "limit" keep,
    }
}

record! {
    /// Names that may and may not be used.
    pub struct AccessLists {
        /// Alone allowed. Empty: all.
        pub allowed: Vec<String> = "allowed" omit,
        /// Refused in any case.
        pub blocked: Vec<String> = "blocked" omit,
    }
}

record! {
    /// MCP tools, resources and prompts that may and may not be used.
    pub struct McpAccess {
        /// Tools.
        pub tools: AccessLists = "tools" omit,
        /// Resources.
        pub resources: AccessLists = "resources" omit,
        /// Prompts.
        pub prompts: AccessLists = "prompts" omit,
    }
}

record! {
    /// A GraphQL type and some of its fields.
    pub struct GraphQlType {
        /// The type's name.
        pub name: String = "name" keep,
        /// The fields.
        pub fields: Vec<String> = "fields" keep,
    }
}

record! {
    /// The allowed depth below one GraphQL field.
    pub struct FieldAccess {
        /// The type's name.
        pub type_name: String = "type_name" keep,
        /// The field's name.
        pub field_name: String = "field_name" keep,
        /// The limits.
        pub limits: FieldLimits = "limits" keep,
    }
}

record! {
    /// Limits of one GraphQL field.
    pub struct FieldLimits {
        /// Allowed depth. −1: any.
        pub max_query_depth: i64 = "max_query_depth" keep,
    }
}

record! {
    /// The password of a basic-auth user.
    pub struct BasicAuthData {
        /// The password, or its hash.
        pub password: Secret = "password" keep,
        /// How `password` was hashed: empty for not at all, `bcrypt`, `sha256`, `murmur…`.
        pub hash_type: String = "hash_type" keep,
    }
}

record! {
    /// The key's own JWT secret.
    pub struct JwtData {
        /// An HMAC secret or a PEM.
        pub secret: Secret = "secret" keep,
    }
}

record! {
    /// When to tell somebody how much of the quota is used.
    pub struct Monitor {
        /// Per cents of the quota.
        pub trigger_limits: Vec<f64> = "trigger_limits" keep,
    }
}

/// What a session may call, by API: a map that sessions with the same rights share.
///
/// It reads as the map it is. Who changes it gets a map of its own first.
#[derive(Clone, Default)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(inline, transparent)
)]
pub struct Rights(Arc<BTreeMap<ApiId, AccessDefinition>>);

impl Rights {
    /// Whether both are one map in memory.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for Rights {
    type Target = BTreeMap<ApiId, AccessDefinition>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Rights {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Arc::make_mut(&mut self.0)
    }
}

impl From<BTreeMap<ApiId, AccessDefinition>> for Rights {
    fn from(rights: BTreeMap<ApiId, AccessDefinition>) -> Self {
        Self(Arc::new(rights))
    }
}

impl FromIterator<(ApiId, AccessDefinition)> for Rights {
    fn from_iter<I: IntoIterator<Item = (ApiId, AccessDefinition)>>(rights: I) -> Self {
        BTreeMap::from_iter(rights).into()
    }
}

impl PartialEq for Rights {
    fn eq(&self, other: &Self) -> bool {
        self.is_shared_with(other) || self.0 == other.0
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Member for Rights {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::read(deserializer).map(Self::from)
    }
    fn write<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
    fn read_again<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        Arc::make_mut(&mut self.0).read_again(deserializer)
    }
    fn forget_unknown(&mut self) {
        Arc::make_mut(&mut self.0).forget_unknown();
    }
}

/// A time in RFC 3339 form, kept as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(inline, transparent)
)]
pub struct DateTime(Box<str>);

impl DateTime {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The time, unless it is Tyk's "not set", the first of January of the year 1.
    pub fn timestamp(&self) -> Option<jiff::Timestamp> {
        self.0.parse().ok().filter(|_| !self.is_unset())
    }
}

impl Default for DateTime {
    fn default() -> Self {
        Self("0001-01-01T00:00:00Z".into())
    }
}

impl From<jiff::Timestamp> for DateTime {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp.to_string().into())
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<str>::deserialize(deserializer)?;
        match text.parse::<jiff::Timestamp>() {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(serde::de::Error::invalid_value(
                serde::de::Unexpected::Str(&text),
                &"a time as 2006-01-02T15:04:05Z (RFC 3339)",
            )),
        }
    }
}

impl Serialize for DateTime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

plain_members!(DateTime);

impl Session {
    /// Reads a session object.
    ///
    /// # Errors
    ///
    /// Fails where the text is not one JSON object, or a member has the wrong type; the error names
    /// the member's path.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self, RecordError> {
        wire::from_json(json.as_ref())
    }

    /// Writes the session object with every member, as Tyk up to 5.11 does; later ones read it too.
    pub fn to_json(&self) -> String {
        wire::to_json(self)
    }

    /// Writes the session object as Tyk's control API stores a key: with an empty list of tags and an empty
    /// object of metadata, where [`to_json`](Self::to_json) has `null`.
    pub fn to_key_json(&self) -> String {
        let json = self.to_json();
        let mut empty = Vec::new();
        if self.tags.is_empty() {
            empty.push(("tags", "[]"));
        }
        if self.meta_data.is_empty() {
            empty.push(("meta_data", "{}"));
        }
        wire::with_members(json, &empty)
    }

    /// Drops the members that Tyk's record does not have, at every level.
    pub fn forget_unknown(&mut self) {
        Member::forget_unknown(self);
    }

    /// The policies that make this session, in order: `apply_policies`, or else `apply_policy_id`.
    pub fn policies(&self) -> &[PolicyId] {
        if !self.apply_policies.is_empty() {
            &self.apply_policies
        } else if !self.apply_policy_id.is_empty() {
            std::slice::from_ref(&self.apply_policy_id)
        } else {
            &[]
        }
    }

    /// The name of the record whose counters this one shares, in place of counters of its own: a key
    /// that was made from another by rotation. Whoever writes records sets it, see
    /// [`COUNTERS_OF`](Self::COUNTERS_OF).
    pub fn counters_of(&self) -> Option<String> {
        let name = self.unknown.get(Self::COUNTERS_OF)?.as_text()?;
        Some(name).filter(|name| !name.is_empty())
    }

    /// The member, not one of Tyk's, that [`counters_of`](Self::counters_of) reads.
    pub const COUNTERS_OF: &str = "tollgate_counters_of";

    /// When the session ends; `None` for never.
    pub fn expiry(&self) -> Option<UnixSeconds> {
        u64::try_from(self.expires)
            .ok()
            .filter(|at| *at > 0)
            .map(UnixSeconds)
    }

    /// Whether the session may be used at `now`, looked at before anything else.
    ///
    /// A session is expired when the clock's second is *later* than `expires`. Inactive is told
    /// before expired.
    ///
    /// # Errors
    ///
    /// [`Rejection::KeyInactive`] or [`Rejection::KeyExpired`].
    pub fn lifecycle(&self, now: UnixSeconds) -> Result<(), Rejection> {
        self.lifetime().at(now)
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime {
            is_inactive: self.is_inactive,
            ends: self.expiry(),
        }
    }
}

/// When a session may be used: what [`Session::lifecycle`] looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    is_inactive: bool,
    ends: Option<UnixSeconds>,
}

impl Lifetime {
    #[inline]
    pub(crate) fn at(self, now: UnixSeconds) -> Result<(), Rejection> {
        if self.is_inactive {
            return Err(Rejection::KeyInactive);
        }
        match self.ends {
            Some(end) if end < now => Err(Rejection::KeyExpired),
            _ => Ok(()),
        }
    }
}

impl FromStr for Session {
    type Err = RecordError;

    fn from_str(json: &str) -> Result<Self, RecordError> {
        Self::from_json(json)
    }
}
