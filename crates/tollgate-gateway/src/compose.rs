//! From a definition to what serves it: the edge, the gates, and the proxy, made once when the definition
//! is loaded.

mod checks;
mod cors;
mod expiry;
mod lists;
mod names;
mod onward;
mod public_urls;
mod rates;
mod rewrites;
mod tokens;
mod tracking;
pub(crate) mod transforms;
mod upstream_tls;
mod versions;

use std::{borrow::Cow, sync::Arc};

use http::request::Parts;
use tollgate::{
    KeyScheme, LimitHeaders, Refusals, SharedStore, Tollgate, pass::Rules, policy::PolicySet,
    stack::Builder,
};
use tower::Layer;

use crate::{
    api::{Access, Api},
    config::Config,
    definition::Definition,
    edge::{
        addresses::Addresses,
        exchange::Checked,
        headers::HeaderGate,
        kept_session::KeptSession,
        limit_headers::LimitHeadersGate,
        token::TokenGate,
        transforms::TransformGate,
        upstream::UpstreamGate,
        usage::Usage,
        versions::{Chosen, Versions},
    },
    load::ServedApi,
    observe::{Leads, Observer},
    onward::Looped,
    overrides::{AnswerOverrides, Templates, refusals},
    problem::{JsonPath, Problem},
    proxy::UpstreamPools,
    reference::SecretSources,
    serve::RequestBody,
};

pub use self::names::Names;
use self::{expiry::own_end, onward::cut_path};

/// What all APIs of a snapshot share.
pub struct Composer<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where keys and counters are.
    pub store: &'a SharedStore,
    /// The policies.
    pub policies: &'a PolicySet,
    /// How tokens become names in the store.
    pub keys: &'a KeyScheme,
    /// Where secrets are that texts name.
    pub secrets: SecretSources<'a>,
    /// What the APIs are called.
    pub names: &'a Names,
    /// The connections to upstreams.
    pub pools: &'a UpstreamPools<RequestBody>,
    /// Who looks at requests.
    pub observer: &'a Observer,
    /// Templates of refusals.
    pub templates: &'a Arc<Templates>,
}

/// Where something is in a definition, and what is wrong with it.
type Wrong = (JsonPath, String);

impl Composer<'_> {
    /// What serves this API.
    ///
    /// # Errors
    ///
    /// Fails with what can not be followed.
    pub fn api(&self, served: &ServedApi) -> Result<Api, Problem> {
        let problem = |(path, message): Wrong| Problem::error(&served.file, message).at(path);
        self.compose(served).map_err(problem)
    }

    fn compose(&self, served: &ServedApi) -> Result<Api, Wrong> {
        let definition = &served.definition;
        let listen = served.listen_path.as_ref();
        let listen: Arc<str> = listen.map_or("/", |path| path.as_str()).into();
        let onward = self.onward(definition, &listen)?;
        let versions = self.versions(definition, &listen)?;
        let context = ContextNames::of(definition, &versions);
        let header_gate = HeaderGate {
            listen: listen.clone(),
            has_context: definition.enable_context_vars,
        };
        let transform_gate = versions.have_transforms().then(|| TransformGate {
            listen: listen.clone(),
        });
        let upstream_gate = UpstreamGate {
            listen: listen.clone(),
            leaves_version: onward.differs_by_version() || versions.have_rewrites(),
        };
        let version_headers = self.version_headers(definition)?;
        let caller = self.observer.caller_gate();
        // An answer goes by the gates the other way: this one sees it after its headers were changed.
        let public_urls = public_urls::public_urls(definition, &listen)?;
        let build = |builder: Builder| {
            let mut builder = self.limit_headers(builder, definition);
            if let Some(gate) = &version_headers {
                builder = builder.gate(gate.clone());
            }
            let builder = caller.into_iter().fold(builder, Builder::gate);
            let builder = public_urls.clone().into_iter().fold(builder, Builder::gate);
            let transform_gate = transform_gate.clone().into_iter();
            let builder = transform_gate.fold(builder, Builder::gate);
            let builder = builder.gate(header_gate.clone());
            let built = builder.gate(upstream_gate.clone()).build();
            built.map_err(|err| (JsonPath::root(), err.to_string()))
        };
        let open = build(self.open_gates(definition, &listen)?)?;
        let guarded = (!definition.use_keyless)
            .then(|| {
                let mut builder = self.gates(definition, &listen)?;
                if context.token {
                    builder = builder.gate(self.token_gate(definition)?);
                }
                let gate = build(builder)?;
                Ok((gate, self.usage(definition, &listen)?))
            })
            .transpose()?;
        let looped = (!definition.use_keyless && versions.lead_back())
            .then(|| build(self.looped_gates(definition, &listen)?))
            .transpose()?;
        let loops = versions.rewrite_to_apis();
        let hands_on = loops || onward.leads_to_apis() || versions.apis.is_some();
        let leads = Leads {
            to_apis: hands_on,
            to_tracked: versions.have_tracking(),
        };
        let refusals = self.refusals(definition)?;
        let onward = if versions.has_checks() {
            Checked::new(onward, refusals.clone())
        } else {
            Checked::not(onward)
        };
        let onward = onward.overriding(self.answers(definition, refusals.clone())?);
        let sources = if definition.use_keyless {
            Vec::new()
        } else {
            tokens::sources(definition)?
        };
        Ok(Api {
            id: definition.api_id.clone(),
            file: served.file.clone(),
            hands_on,
            tracks: leads.to_tracked,
            loops,
            listen_path: cut_path(definition, &listen),
            cuts_words: definition.proxy.strip_listen_path
                && !self.config.http_server_options.enable_strict_routes
                && !listen.ends_with('/'),
            listen,
            versions,
            reads_forms: context.request_data,
            names_requests: context.request_id,
            cors: cors::cors(definition)?,
            addresses: addresses(definition)?,
            ends: own_end(definition),
            access: guarded.map_or(Access::Open, |(gate, usage)| Access::Guarded {
                service: gate.layer().layer(onward.clone()),
                gate,
                usage,
            }),
            looped: looped.map(|gate| gate.layer().layer(onward.clone())),
            open: open.layer().layer(onward),
            refusals,
            names_generator: !self.config.hide_generator_header,
            watch: self.observer.api(definition, sources, self.keys, leads),
        })
    }

    fn token_gate(&self, definition: &Definition) -> Result<TokenGate, Wrong> {
        Ok(TokenGate {
            sources: tokens::sources(definition)?,
            keys: self.keys.clone(),
            organisation: definition.org_id.clone(),
        })
    }

    /// Everything about the key.
    fn gates(&self, definition: &Definition, listen: &Arc<str>) -> Result<Builder, Wrong> {
        let rule = definition.version_data.rule(&definition.definition);
        let mut builder = self
            .common_gates(definition, listen)?
            .keys(self.keys.clone())
            .token_sources(tokens::sources(definition)?)
            .policies(self.policies.clone())
            .api(definition.api_id.clone())
            .versions(rule, named);
        if !self.config.tollgate.store.unreadable_keys_are_unavailable {
            builder = builder.unreadable_keys_are_unknown();
        }
        if self.has_organisation(definition) {
            builder = builder.organisation_limits();
        }
        if !definition.disable_rate_limit {
            builder = builder.rate_limit();
        }
        if !definition.disable_quota {
            builder = builder.quota();
        }
        if definition.strip_auth_data {
            builder = builder
                .remove_credential()
                .also_remove(tokens::removed(definition)?);
        }
        Ok(builder)
    }

    /// What requests go through that a rewrite of the same API sent back, with the session that was found
    /// before: their rights are asked again, and nothing is charged.
    fn looped_gates(&self, definition: &Definition, listen: &Arc<str>) -> Result<Builder, Wrong> {
        let rule = definition.version_data.rule(&definition.definition);
        let builder = self.gates_of_all(definition, listen)?;
        let builder = builder.session_gate(KeptSession);
        Ok(builder.api(definition.api_id.clone()).versions(rule, named))
    }

    /// What requests without a key go through. Where others need one, these use up no limit of the
    /// organisation.
    fn open_gates(&self, definition: &Definition, listen: &Arc<str>) -> Result<Builder, Wrong> {
        let builder = self.common_gates(definition, listen)?;
        Ok(match self.has_organisation(definition) {
            true if definition.use_keyless => builder.organisation_limits(),
            true => builder.organisation_activity(),
            false => builder,
        })
    }

    /// Whether the organisation's own record is read.
    fn has_organisation(&self, definition: &Definition) -> bool {
        self.config.enforce_org_quotas && !definition.org_id.is_empty()
    }

    /// What holds with a key and without: the API's own limits.
    fn common_gates(&self, definition: &Definition, listen: &Arc<str>) -> Result<Builder, Wrong> {
        let builder = self.gates_of_all(definition, listen)?;
        let builder = self.api_limits(builder, definition, listen)?;
        Ok(match self.names.are_looped_to() {
            true => builder.limits_where(is_charged),
            false => builder,
        })
    }

    /// What holds of every request.
    fn gates_of_all(&self, definition: &Definition, listen: &Arc<str>) -> Result<Builder, Wrong> {
        let rules = Rules {
            organisation: definition.org_id.clone(),
            paths: self.config.path_options(),
            master_keys: self.config.master_keys(),
            algorithm: self.config.algorithm(),
            smoothing: self.config.smooths_rates(),
            ignore_per_api_signatures: !self.config.tollgate.per_api_signatures,
            ..Rules::default()
        };
        Ok(Tollgate::builder(self.store.clone())
            .token_sources([])
            .rules(rules)
            .listen_path(listen)
            .refusals(self.refusals(definition)?))
    }

    /// How requests are refused.
    fn refusals(&self, definition: &Definition) -> Result<Refusals, Wrong> {
        let of_api = definition.active_error_overrides();
        let refusals = refusals(
            self.templates.over(self.config.refusals()),
            self.templates,
            of_api,
            &self.config.error_overrides,
        );
        refusals.map_err(|message| ("error_overrides".into(), message))
    }

    /// How errors of upstreams are answered otherwise.
    fn answers(
        &self,
        definition: &Definition,
        refusals: Refusals,
    ) -> Result<Option<AnswerOverrides>, Wrong> {
        let answers = AnswerOverrides::new(
            self.templates.over(self.config.refusals()),
            refusals,
            self.templates,
            definition.active_error_overrides(),
            &self.config.error_overrides,
        );
        answers.map_err(|message| ("error_overrides".into(), message))
    }

    /// What tells a key's holder of its limits.
    fn usage(&self, definition: &Definition, listen: &Arc<str>) -> Result<Usage, Wrong> {
        let builder = self.gates(definition, listen)?.only_look().any_path();
        let gate = builder.headers(LimitHeaders::none()).build();
        Ok(Usage {
            gate: gate.map_err(|err| (JsonPath::root(), err.to_string()))?,
            api: definition.api_id.clone(),
            exact_reset: self.config.tollgate.exact_quota_reset,
        })
    }

    /// Which limit `X-RateLimit-…` tells of.
    fn limit_headers(&self, builder: Builder, definition: &Definition) -> Builder {
        match self.limit_headers_gate(definition) {
            Some(gate) => builder.headers(LimitHeaders::none()).gate(gate),
            None => builder.headers(LimitHeaders::rate()),
        }
    }

    /// What tells of the quota; `None` where the configuration wants the rate to be told of.
    fn limit_headers_gate(&self, definition: &Definition) -> Option<LimitHeadersGate> {
        let tells_of_rate =
            self.config.tollgate.rate_headers && self.config.asks_for_rate_headers();
        (!tells_of_rate).then(|| LimitHeadersGate {
            api: definition.api_id.clone(),
            exact_reset: self.config.tollgate.exact_quota_reset,
        })
    }
}

/// What texts of an API need that costs something.
struct ContextNames {
    token: bool,
    request_data: bool,
    request_id: bool,
}

impl ContextNames {
    fn of(definition: &Definition, versions: &Versions) -> Self {
        let all = || {
            let versions = versions.by_name.values();
            versions.flat_map(|rules| rules.context_names())
        };
        let has_context = definition.enable_context_vars;
        let is_named = |wanted: &str| {
            let is_named = all().any(|name| name.starts_with(wanted));
            has_context && (is_named || versions.templates_mention(wanted))
        };
        Self {
            token: is_named("token"),
            request_data: is_named("request_data"),
            request_id: is_named("request_id"),
        }
    }
}

/// Whether limits are charged: what a rewrite sent from one API to another costs nothing more, unless it
/// says `check_limits=true`.
fn is_charged(head: &Parts) -> bool {
    let looped = head.extensions.get::<Looped>();
    looped.is_none_or(|looped| looped.charges)
}

/// The version that a request names.
fn named(head: &Parts) -> Option<Cow<'_, str>> {
    let chosen = head.extensions.get::<Chosen>()?;
    chosen.named.as_deref().map(Cow::from)
}

fn addresses(definition: &Definition) -> Result<Addresses, Wrong> {
    if definition.ip_access_control_disabled {
        return Ok(Addresses::default());
    }
    let allowed = definition
        .enable_ip_whitelisting
        .then_some(&*definition.allowed_ips);
    let blocked: &[String] = if definition.enable_ip_blacklisting {
        &definition.blacklisted_ips
    } else {
        &[]
    };
    let wrong = |text| {
        (
            "allowed_ips".into(),
            format!("`{text}` is neither an address nor a network"),
        )
    };
    Addresses::new(allowed, blocked).map_err(wrong)
}
