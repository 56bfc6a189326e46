//! From a definition in Tyk's format to a stack.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderName, header::AUTHORIZATION};
use serde_json::Value;
use tollgate::{
    KeyScheme, SharedStore, Tollgate,
    meta_inject::InjectError,
    pass::Rules,
    stack::BuildError,
    token_source::{CookieSource, HeaderSource, QuerySource, TokenSource},
};
use tollgate_core::{
    ManualClock,
    access::{MasterKeys, VersionRule},
    policy::PolicySet,
    token::{HashFunction, TokenForm},
};

use crate::{headers::Changes, text};

/// Why a definition makes no stack.
pub(crate) enum NoStack {
    /// A header's name is none, or frames the message.
    Header(InjectError),
    Build(BuildError),
}

impl From<InjectError> for NoStack {
    fn from(error: InjectError) -> Self {
        Self::Header(error)
    }
}

impl From<BuildError> for NoStack {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

/// What all stacks of a case share.
pub(crate) struct Shared {
    pub(crate) store: SharedStore,
    pub(crate) clock: ManualClock,
    pub(crate) keys: KeyScheme,
    pub(crate) policies: PolicySet,
    pub(crate) master_keys: bool,
}

/// What of a definition only a gateway has.
pub(crate) fn needs(api: &Value, version: &Value) -> Option<&'static str> {
    let auth = auth(api);
    let is_on = |name: &str| api[name] == true;
    let has = |list: &str| version["extended_paths"][list].is_array();
    let processors = api["response_processors"].as_array().into_iter().flatten();
    let mut processors = processors.map(|processor| text(&processor["name"]));
    let other_session = !text(&api["base_identity_provided_by"]).is_empty();
    let needs = [
        (is_on("use_basic_auth"), "basic auth"),
        (is_on("enable_jwt"), "JWT"),
        (
            is_on("use_mutual_tls_auth") || auth["use_certificate"] == true,
            "certificates",
        ),
        (auth["validate_signature"] == true, "signatures"),
        (other_session, "a session of another method"),
        (has("ignored"), "ignored paths"),
        (has("url_rewrites") || has("method_transforms"), "rewrites"),
        (
            api["cache_options"]["enable_cache"] == true,
            "a response cache",
        ),
        (
            processors.any(|name| name == "header_transform"),
            "rewriting of Location",
        ),
    ];
    needs
        .into_iter()
        .find_map(|(needs, what)| needs.then_some(what))
}

/// `auth_configs.authToken` replaces `auth` whole.
fn auth(api: &Value) -> &Value {
    match &api["auth_configs"]["authToken"] {
        Value::Null => &api["auth"],
        auth => auth,
    }
}

/// Cookie before query before header, as Tyk.
fn sources(api: &Value) -> Vec<Arc<dyn TokenSource>> {
    let auth = auth(api);
    let header = match text(&auth["auth_header_name"]) {
        "" => AUTHORIZATION.as_str(),
        name => name,
    };
    let named = |name: &str| match text(&auth[name]) {
        "" => header.to_owned(),
        name => name.to_owned(),
    };
    let mut sources = Vec::new();
    if auth["use_cookie"] == true {
        sources.push(CookieSource::new(named("cookie_name")).shared());
    }
    if auth["use_param"] == true {
        sources.push(QuerySource::new(named("param_name")).shared());
    }
    if auth["disable_header"] != true {
        let name = HeaderName::try_from(header).expect("a header's name");
        sources.push(HeaderSource::new(name).shared());
    }
    sources
}

/// The scheme that a gateway's configuration asks for, over the corpus's own defaults.
pub(crate) fn keys(config: &Value) -> KeyScheme {
    let form = |name: &Value| {
        let unknown = TokenForm::Json(HashFunction::Murmur64);
        TokenForm::from_name(name.as_str().unwrap_or("murmur64")).unwrap_or(unknown)
    };
    let scheme = if config["hash_keys"] == false {
        KeyScheme::plain()
    } else {
        KeyScheme::hashed()
    };
    let fallbacks = config["hash_key_function_fallback"].as_array();
    scheme
        .with_form(form(&config["hash_key_function"]))
        .with_fallbacks(fallbacks.into_iter().flatten().map(form))
}

/// The stack of an API, for requests of which these headers are set. `None` where nothing is left to
/// do: an open API without headers.
pub(crate) fn stack(
    shared: &Shared,
    api: &Value,
    request: &Changes,
    response: &Changes,
) -> Result<Option<Tollgate>, NoStack> {
    let is_open = api["use_keyless"] == true;
    if is_open && request.layer.is_empty() && response.layer.is_empty() {
        return Ok(None);
    }
    let mut builder = Tollgate::builder(shared.store.clone())
        .clock(shared.clock.clone())
        .tyk_values_for(request, response)?;
    if is_open {
        return Ok(Some(builder.token_sources([]).build()?));
    }
    let master_keys = match shared.master_keys {
        true => MasterKeys::Allowed,
        false => MasterKeys::Refused,
    };
    builder = builder
        .rules(Rules {
            master_keys,
            ..Rules::default()
        })
        .organisation(text(&api["org_id"]))
        .policies(shared.policies.clone())
        .keys(shared.keys.clone())
        .token_sources(sources(api))
        .api(text(&api["api_id"]))
        .listen_path(text(&api["proxy"]["listen_path"]))
        .rate_limit()
        .quota();
    if api["strip_auth_data"] == true {
        builder = builder.remove_credential();
    }
    if api["version_data"]["not_versioned"] != true {
        let key = text(&api["definition"]["key"]).to_owned();
        builder = builder.versions(version_rule(api), move |head| {
            head.headers.get(&key)?.to_str().ok().map(Cow::from)
        });
    }
    Ok(Some(builder.build()?))
}

trait WithHeaders: Sized {
    fn tyk_values_for(self, request: &Changes, response: &Changes) -> Result<Self, InjectError>;
}

impl WithHeaders for tollgate::stack::Builder {
    fn tyk_values_for(
        mut self,
        request: &Changes,
        response: &Changes,
    ) -> Result<Self, InjectError> {
        for (name, value) in &request.layer {
            self = self.inject(name, value)?;
        }
        for (name, value) in &response.layer {
            self = self.inject_response(name, value)?;
        }
        Ok(self.tyk_values())
    }
}

fn version_rule(api: &Value) -> VersionRule {
    let data = &api["version_data"];
    let names = data["versions"].as_object().into_iter().flatten();
    VersionRule {
        not_versioned: false,
        default_version: text(&data["default_version"]).to_owned(),
        fallback_to_default: api["definition"]["fallback_to_default"] == true,
        known: names.map(|(name, _)| name.clone()).collect(),
    }
}
