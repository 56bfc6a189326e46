//! From a definition to what serves it: the edge, the gates, and the proxy, made once when the definition
//! is loaded.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
    request::Parts,
};
use regex::Regex;
use tollgate::{
    Algorithm, KeyScheme, Limit, LimitHeaders, Rate, Refusals, SharedStore, Tollgate,
    access::PathOptions,
    gate::Gates,
    gated::GateLayer,
    limits::OwnLimit,
    pass::Rules,
    policy::PolicySet,
    rejection::LimitOwner,
    stack::Builder,
    token_source::{CookieSource, HeaderSource, QuerySource, TokenSource},
    variables::{SecretName, Text},
};
use tower::Layer;

use crate::{
    api::{Access, Api},
    config::Config,
    definition::{
        Definition, HeaderEntry, ListEntry, MethodAction, Version, VersionSource, expires_at,
    },
    edge::{
        Where,
        addresses::Addresses,
        headers::{HeaderGate, HeaderRules, HeaderSet},
        limit_headers::LimitHeadersGate,
        lists::{Action, Lists, Reply, Says},
        sizes::Sizes,
        upstream::{UpstreamGate, UpstreamRules},
        versions::{Chosen, Default as DefaultVersion, Location, VersionRules, Versions},
    },
    load::ServedApi,
    problem::{JsonPath, Problem},
    proxy::{FinalSlash, Proxy, ProxyOptions, Target, Targets, UpstreamClient},
    reference::{Environment, secret},
    serve::RequestBody,
};

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
    /// Where secrets of headers may come from.
    pub environment: &'a Environment,
    /// The connections to upstreams.
    pub client: &'a UpstreamClient<RequestBody>,
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
        let proxy = self.proxy(definition, &listen)?;
        let header_gate = HeaderGate {
            listen: listen.clone(),
            has_context: definition.enable_context_vars,
        };
        let upstream_gate = UpstreamGate {
            listen: listen.clone(),
        };
        let open = Gates::none().with_refusals(Refusals::tyk());
        let open = match self.limit_headers_gate(definition) {
            Some(gate) => open.and(gate),
            None => open,
        };
        let open = open.and(header_gate.clone()).and(upstream_gate.clone());
        let guarded = (!definition.use_keyless)
            .then(|| {
                let builder = self.gates(definition, &listen)?;
                let builder = self.limit_headers(builder, definition);
                let built = builder.gate(header_gate).gate(upstream_gate).build();
                built.map_err(|err| (JsonPath::root(), err.to_string()))
            })
            .transpose()?;
        Ok(Api {
            id: definition.api_id.clone(),
            file: served.file.clone(),
            listen,
            versions: self.versions(definition)?,
            addresses: addresses(definition)?,
            ends: ends(&definition.expiration, "expiration")?,
            access: guarded.map_or(Access::Open, |gate| Access::Guarded {
                service: gate.layer().layer(proxy.clone()),
                gate,
            }),
            open: GateLayer::from(open).layer(proxy),
            refusals: Refusals::tyk(),
            names_generator: !self.config.hide_generator_header,
        })
    }

    fn proxy(
        &self,
        definition: &Definition,
        listen: &Arc<str>,
    ) -> Result<Proxy<RequestBody>, Wrong> {
        let settings = &definition.proxy;
        let options = ProxyOptions {
            listen_path: settings.strip_listen_path.then(|| listen.to_string()),
            final_slash: if settings.disable_strip_slash {
                FinalSlash::Kept
            } else {
                FinalSlash::Cut
            },
            preserve_host: settings.preserve_host_header,
            head_timeout: self.config.upstream_timeout(),
            upgrades: self.config.http_server_options.enable_websockets,
            close_connections: self.config.close_connections,
            ..ProxyOptions::default()
        };
        let targets = targets(settings.targets())?;
        Proxy::new(self.client.clone(), targets, options)
            .map_err(|err| ("proxy".into(), err.to_string()))
    }

    /// Everything about the key.
    fn gates(&self, definition: &Definition, listen: &Arc<str>) -> Result<Builder, Wrong> {
        let (config, algorithm) = (self.config, self.algorithm());
        let rules = Rules {
            organisation: definition.org_id.clone(),
            paths: config.path_options(),
            master_keys: config.master_keys(),
            algorithm,
            ..Rules::default()
        };
        let rule = definition.version_data.rule(&definition.definition);
        let mut builder = Tollgate::builder(self.store.clone())
            .keys(self.keys.clone())
            .token_sources(token_sources(definition)?)
            .policies(self.policies.clone())
            .rules(rules)
            .api(definition.api_id.clone())
            .listen_path(listen)
            .versions(rule, named)
            .refusals(Refusals::tyk());
        if !definition.disable_rate_limit {
            builder = builder.rate_limit();
        }
        if !definition.disable_quota {
            builder = builder.quota();
        }
        if config.enforce_org_quotas {
            builder = builder.organisation_limits();
        }
        if definition.strip_auth_data {
            builder = builder.remove_credential();
        }
        if let Some((rate, per)) = definition.api_rate() {
            let rate = Rate::from_wire(rate, per, algorithm);
            let rate = rate.map_err(|err| ("global_rate_limit".into(), err.to_string()))?;
            let name = format!("api:{}", definition.api_id);
            let limit = |rate| OwnLimit::global(&name, LimitOwner::Api, Limit::Rate(rate));
            builder = rate.into_iter().map(limit).fold(builder, Builder::limit);
        }
        Ok(builder)
    }

    fn algorithm(&self) -> Algorithm {
        if self.config.enable_fixed_window_rate_limiter {
            Algorithm::FixedWindow
        } else {
            Algorithm::Sliding
        }
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
        let tells_of_rate = self.config.rate_limit_response_headers == "rate_limits";
        (!tells_of_rate).then(|| LimitHeadersGate {
            api: definition.api_id.clone(),
        })
    }

    fn versions(&self, definition: &Definition) -> Result<Versions, Wrong> {
        let data = &definition.version_data;
        let compile = |(name, version): (&String, &Version)| {
            let place = |inner: &str| -> JsonPath {
                JsonPath::from("version_data")
                    .key("versions")
                    .key(name)
                    .key(inner)
            };
            let rules = self.version(name, version);
            let rules = rules.map_err(|(inner, message)| (place(&inner), message))?;
            Ok((name.clone(), Arc::new(rules)))
        };
        let by_name: BTreeMap<_, _> = data
            .versions
            .iter()
            .map(compile)
            .collect::<Result<_, Wrong>>()?;
        let only = || {
            let named = data.only().and_then(|(name, _)| by_name.get(name));
            named.cloned().unwrap_or_default()
        };
        let default = if data.not_versioned {
            DefaultVersion::Only(only())
        } else {
            DefaultVersion::Named(data.default_version.clone())
        };
        let source = &definition.definition;
        Ok(Versions {
            location: location(source)?,
            strips: source.strips(),
            falls_back: source.fallback_to_default,
            by_name,
            default,
        })
    }

    /// The message's place is the member of the version.
    fn version(&self, name: &str, version: &Version) -> Result<VersionRules, (String, String)> {
        let mut options = self.config.path_options();
        let paths = &version.extended_paths;
        let in_paths =
            |member: &str, message: String| (format!("extended_paths.{member}"), message);
        let extended = version.use_extended_paths;
        let sizes = entries(extended, &paths.size_limits, options, |entry| {
            let limit = u64::try_from(entry.size_limit).unwrap_or_default();
            (entry.disabled, &entry.path, &entry.method, limit)
        });
        let limits = entries(extended, &paths.hard_timeouts, options, |entry| {
            let limit = entry.limit().unwrap_or(Duration::MAX);
            (entry.disabled, &entry.path, &entry.method, limit)
        });
        let methods = entries(extended, &paths.method_transforms, options, |entry| {
            let method = Method::from_bytes(entry.to_method.to_ascii_uppercase().as_bytes());
            let method = method.unwrap_or_default();
            (entry.disabled, &entry.path, &entry.method, method)
        });
        let headers = self.headers(version)?;
        options.ignore_case |= version.ignore_endpoint_case;
        let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
        let whole = version.global_enforce_timeout.0;
        let has_timeout = !version.global_enforce_timeout_disabled && !whole.is_zero();
        Ok(VersionRules {
            name: name.into(),
            ends: ends(&version.expires, "expires")
                .map_err(|(_, message)| ("expires".into(), message))?,
            lists: lists(version, options)?,
            sizes: Sizes {
                all: positive(version.global_size_limit)
                    .filter(|_| !version.global_size_limit_disabled),
                by_path: sizes.map_err(|message| in_paths("size_limits", message))?,
            },
            headers,
            upstream: UpstreamRules {
                timeout: has_timeout.then_some(whole),
                timeout_by_path: limits.map_err(|message| in_paths("hard_timeouts", message))?,
                method_by_path: methods
                    .map_err(|message| in_paths("method_transforms", message))?,
            },
        })
    }

    fn headers(&self, version: &Version) -> Result<HeaderRules, (String, String)> {
        let (paths, extended) = (&version.extended_paths, version.use_extended_paths);
        let set = |member: &str, off: bool, remove: &[String], add: &BTreeMap<String, String>| {
            if off {
                return Ok(HeaderSet::default());
            }
            self.header_set(remove, add)
                .map_err(|message| (member.to_owned(), message))
        };
        let of_paths = |member: &str, list: &[HeaderEntry]| {
            let list = list.iter().filter(|entry| extended && !entry.disabled);
            let compile = |entry: &HeaderEntry| {
                let place = Where::new(&entry.path, &entry.method, self.config.path_options());
                let place = place.map_err(|err| err.to_string())?;
                Ok((
                    place,
                    self.header_set(&entry.delete_headers, &entry.add_headers)?,
                ))
            };
            let compiled: Result<Vec<_>, String> = list.map(compile).collect();
            compiled.map_err(|message| (format!("extended_paths.{member}"), message))
        };
        Ok(HeaderRules {
            request: set(
                "global_headers",
                version.global_headers_disabled,
                &version.global_headers_remove,
                &version.global_headers,
            )?,
            request_by_path: of_paths("transform_headers", &paths.transform_headers)?,
            response: set(
                "global_response_headers",
                version.global_response_headers_disabled,
                &version.global_response_headers_remove,
                &version.global_response_headers,
            )?,
            response_by_path: of_paths(
                "transform_response_headers",
                &paths.transform_response_headers,
            )?,
        })
    }

    fn header_set(
        &self,
        remove: &[String],
        add: &BTreeMap<String, String>,
    ) -> Result<HeaderSet, String> {
        let name = |name: &String| {
            HeaderName::try_from(name.as_str())
                .map_err(|_| format!("`{name}` can not be a header's name"))
        };
        let secret = |name: SecretName<'_>| secret(name, self.config, self.environment);
        let value = |(header, text): (&String, &String)| {
            Ok((name(header)?, Text::with_secrets(text, secret)))
        };
        Ok(HeaderSet {
            remove: remove.iter().map(name).collect::<Result<_, String>>()?,
            set: add.iter().map(value).collect::<Result<_, String>>()?,
        })
    }
}

/// The version that a request names.
fn named(head: &Parts) -> Option<Cow<'_, str>> {
    let chosen = head.extensions.get::<Chosen>()?;
    chosen.named.as_deref().map(Cow::from)
}

/// Entries for single paths that are on.
fn entries<T, V>(
    extended: bool,
    list: &[T],
    options: PathOptions,
    read: impl Fn(&T) -> (bool, &String, &String, V),
) -> Result<Vec<(Where, V)>, String> {
    let mut entries = Vec::new();
    for entry in list.iter().filter(|_| extended) {
        let (disabled, path, method, value) = read(entry);
        if !disabled {
            let place = Where::new(path, method, options).map_err(|err| err.to_string())?;
            entries.push((place, value));
        }
    }
    Ok(entries)
}

fn lists(version: &Version, options: PathOptions) -> Result<Lists, (String, String)> {
    let mut lists = Lists::default();
    if !version.use_extended_paths {
        let of_text = [
            ("paths.ignored", &version.paths.ignored, Says::Ignored),
            ("paths.black_list", &version.paths.black_list, Says::Blocked),
            ("paths.white_list", &version.paths.white_list, Says::Allowed),
        ];
        for (member, paths, says) in of_text {
            for path in paths {
                lists
                    .add((path, ""), options, BTreeMap::new(), says.clone())
                    .map_err(|err| (member.to_owned(), err.to_string()))?;
            }
        }
        return Ok(lists);
    }
    let paths = &version.extended_paths;
    for entry in paths.mock_response.iter().filter(|entry| !entry.disabled) {
        let reply = reply(entry.code, &entry.headers, &entry.body);
        let says = reply.map(|reply| Says::Reply(Arc::new(reply)));
        let options = PathOptions {
            ignore_case: options.ignore_case || entry.ignore_case,
            ..options
        };
        says.and_then(|says| {
            let added = lists.add((&entry.path, &entry.method), options, BTreeMap::new(), says);
            added.map_err(|err| err.to_string())
        })
        .map_err(|message| ("extended_paths.mock_response".to_owned(), message))?;
    }
    let of_entries = [
        ("ignored", &paths.ignored, Says::Ignored),
        ("black_list", &paths.black_list, Says::Blocked),
        ("white_list", &paths.white_list, Says::Allowed),
    ];
    for (member, entries, says) in of_entries {
        for entry in entries.iter().filter(|entry| !entry.disabled) {
            add_entry(&mut lists, entry, options, &says)
                .map_err(|message| (format!("extended_paths.{member}"), message))?;
        }
    }
    for entry in paths.internal.iter().filter(|entry| !entry.disabled) {
        lists
            .add(
                (&entry.path, &entry.method),
                options,
                BTreeMap::new(),
                Says::Internal,
            )
            .map_err(|err| ("extended_paths.internal".to_owned(), err.to_string()))?;
    }
    Ok(lists)
}

fn add_entry(
    lists: &mut Lists,
    entry: &ListEntry,
    options: PathOptions,
    says: &Says,
) -> Result<(), String> {
    let action = |(method, action): (&String, &MethodAction)| {
        let action = match action.action.as_str() {
            "no_action" => Action::AsListed,
            "reply" => Action::Reply(Arc::new(reply(action.code, &action.headers, &action.data)?)),
            _ => Action::Forbidden,
        };
        Ok((method.clone(), action))
    };
    let by_method = if entry.method.is_empty() {
        entry
            .method_actions
            .iter()
            .map(action)
            .collect::<Result<_, String>>()?
    } else {
        BTreeMap::new()
    };
    let options = PathOptions {
        ignore_case: options.ignore_case || entry.ignore_case,
        ..options
    };
    lists
        .add(
            (&entry.path, &entry.method),
            options,
            by_method,
            says.clone(),
        )
        .map_err(|err| err.to_string())
}

fn reply(code: i64, headers: &BTreeMap<String, String>, body: &str) -> Result<Reply, String> {
    let code = if code == 0 { 200 } else { code };
    let status = u16::try_from(code)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok());
    let mut fields = HeaderMap::new();
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(CONTENT_TYPE, text); // As Go guesses where nothing is said.
    for (name, value) in headers {
        let wrong = || format!("the header `{name}` can not be sent");
        let value = HeaderValue::try_from(value).map_err(|_| wrong())?;
        fields.insert(HeaderName::try_from(name).map_err(|_| wrong())?, value);
    }
    Ok(Reply {
        status: status.ok_or_else(|| format!("{code} is no status"))?,
        headers: fields,
        body: Bytes::from(body.to_owned()),
    })
}

fn targets(urls: &[String]) -> Result<Targets, Wrong> {
    let wrong = |err: crate::proxy::TargetError| ("proxy.target_url".into(), err.to_string());
    let targets: Vec<_> = urls
        .iter()
        .map(|url| Target::parse(url))
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    Targets::round_robin(targets).map_err(wrong)
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

/// The Unix second at which something is gone.
fn ends(text: &str, member: &str) -> Result<Option<u64>, Wrong> {
    let end = expires_at(text).map_err(|err| (member.into(), err.to_string()))?;
    Ok(end.map(|end| u64::try_from(end.as_second()).unwrap_or_default()))
}

fn location(source: &VersionSource) -> Result<Location, Wrong> {
    let wrong = |message: String| (JsonPath::from("definition").key("key"), message);
    Ok(match source.location.as_str() {
        "header" if !source.key.is_empty() => {
            let name = HeaderName::try_from(source.key.as_str());
            Location::Header(
                name.map_err(|_| wrong(format!("`{}` can not be a header's name", source.key)))?,
            )
        }
        "url-param" if !source.key.is_empty() => Location::Query(source.key.clone()),
        "url" if source.url_versioning_pattern.is_empty() => Location::Path(None),
        "url" => {
            let pattern = Regex::new(&source.url_versioning_pattern);
            Location::Path(Some(pattern.map_err(|err| wrong(err.to_string()))?))
        }
        _ => Location::None,
    })
}

fn token_sources(definition: &Definition) -> Result<Vec<Arc<dyn TokenSource>>, Wrong> {
    let source = definition.token_source();
    let header = match source.auth_header_name.as_str() {
        "" => AUTHORIZATION,
        name => HeaderName::try_from(name).map_err(|_| {
            let message = format!("`{name}` can not be a header's name");
            (JsonPath::from("auth").key("auth_header_name"), message)
        })?,
    };
    let or_header = |name: &str| {
        if name.is_empty() {
            header.as_str().to_owned()
        } else {
            name.to_owned()
        }
    };
    let mut sources = Vec::new();
    if !source.disable_header {
        sources.push(HeaderSource::new(header.clone()).shared());
    }
    if source.use_param {
        sources.push(QuerySource::new(or_header(&source.param_name)).shared());
    }
    if source.use_cookie {
        sources.push(CookieSource::new(or_header(&source.cookie_name)).shared());
    }
    if sources.is_empty() {
        return Err(("auth".into(), "a token is looked for nowhere".into()));
    }
    Ok(sources)
}
