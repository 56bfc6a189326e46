//! What the versions of a definition say, compiled.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{
    HeaderName, Method,
    header::{CONNECTION, CONTENT_LENGTH},
};
use regex::Regex;
use serde::Deserialize;
use tollgate::{
    access::PathOptions,
    variables::{SecretName, Text},
};

use super::{
    Composer, Wrong,
    expiry::{ends, expiry},
    lists::lists,
};
use crate::{
    definition::{Definition, HeaderEntry, ResponseProcessor, Version, VersionSource},
    edge::{
        SkippedVersion, Where,
        headers::{HeaderRules, HeaderSet},
        sizes::Sizes,
        tracking::Tracking,
        transforms::TransformRules,
        upstream::{CheckRules, UpstreamRules},
        versions::{Default as DefaultVersion, Location, VersionApis, VersionRules, Versions},
    },
    problem::JsonPath,
};

impl Composer<'_> {
    pub(super) fn versions(
        &self,
        definition: &Definition,
        listen: &Arc<str>,
    ) -> Result<Versions, Wrong> {
        let data = &definition.version_data;
        let skips = skipped_version(&definition.definition);
        let last = self.injected_last(&definition.response_processors)?;
        let compile = |(name, version): (&String, &Version)| {
            let place = |inner: &str| -> JsonPath {
                JsonPath::from("version_data")
                    .key("versions")
                    .key(name)
                    .key(inner)
            };
            let rules = self.version(name, version, skips.as_ref(), last.as_ref());
            let mut rules = rules.map_err(|(inner, message)| (place(&inner), message))?;
            rules.expires = expiry(definition, version);
            rules.tracking = self
                .tracking(definition, version, skips.as_ref())
                .map_err(|(member, message)| (place("extended_paths").key(member), message))?;
            rules.transforms = self
                .transforms(definition, version, skips.as_ref())
                .map_err(|(member, message)| (place("extended_paths").key(member), message))?;
            rules.upstream.checks = self
                .check_rules(definition, version, skips.as_ref())
                .map_err(|(member, message)| (place("extended_paths").key(member), message))?;
            rules.upstream.checks.rewrites = self
                .rewrites(
                    definition,
                    version,
                    skips.as_ref(),
                    (listen, &rules.headers),
                )
                .map_err(|message| (place("extended_paths").key("url_rewrites"), message))?;
            rules.rates = self
                .rate_entries(definition, version, skips.as_ref())
                .map_err(|message| {
                    let place = place("extended_paths");
                    (place.key("rate_limit"), message)
                })?;
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
            strips_final: self.config.tollgate.strip_final_version,
            falls_back: source.fallback_to_default,
            by_name,
            default,
            apis: source
                .enabled
                .then(|| self.version_apis(source))
                .transpose()?,
        })
    }

    fn version_apis(&self, source: &VersionSource) -> Result<VersionApis, Wrong> {
        let find = |(name, id): (&String, &String)| {
            let place = || JsonPath::from("definition.versions").key(name);
            let api = self.names.find(id).map_err(|message| (place(), message))?;
            Ok((name.clone(), api))
        };
        Ok(VersionApis {
            name: source.name.clone(),
            default: source.default.clone(),
            by_name: source
                .versions
                .iter()
                .map(find)
                .collect::<Result<_, Wrong>>()?,
        })
    }

    /// The message's place is the member of the version.
    fn version(
        &self,
        name: &str,
        version: &Version,
        skips: Option<&SkippedVersion>,
        last: Option<&HeaderSet>,
    ) -> Result<VersionRules, (String, String)> {
        let mut options = self.config.path_options();
        let paths = &version.extended_paths;
        let in_paths =
            |member: &str, message: String| (format!("extended_paths.{member}"), message);
        let extended = version.use_extended_paths;
        let sizes = entries(extended, &paths.size_limits, (options, skips), |entry| {
            let limit = u64::try_from(entry.size_limit).unwrap_or_default();
            (entry.disabled, &entry.path, &entry.method, limit)
        });
        let limits = entries(extended, &paths.hard_timeouts, (options, skips), |entry| {
            let limit = entry.limit().unwrap_or(Duration::MAX);
            (entry.disabled, &entry.path, &entry.method, limit)
        });
        let methods = entries(
            extended,
            &paths.method_transforms,
            (options, skips),
            |entry| {
                let method = may_become(&entry.to_method);
                (entry.disabled, &entry.path, &entry.method, method)
            },
        );
        let headers = self.headers(version, skips, last)?;
        options.ignore_case |= version.ignore_endpoint_case;
        let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
        let whole = version.global_enforce_timeout.0;
        let has_timeout = !version.global_enforce_timeout_disabled && !whole.is_zero();
        Ok(VersionRules {
            name: name.into(),
            ends: ends(&version.expires),
            expires: None,
            lists: lists(version, options)?,
            sizes: Sizes {
                all: positive(version.global_size_limit)
                    .filter(|_| !version.global_size_limit_disabled),
                by_path: sizes.map_err(|message| in_paths("size_limits", message))?,
            },
            headers,
            rates: Vec::new(),
            tracking: Tracking::default(),
            transforms: TransformRules::default(),
            upstream: UpstreamRules {
                timeout: has_timeout.then_some(whole),
                timeout_by_path: limits.map_err(|message| in_paths("hard_timeouts", message))?,
                method_by_path: methods
                    .map_err(|message| in_paths("method_transforms", message))?,
                checks: CheckRules::default(),
            },
        })
    }

    fn headers(
        &self,
        version: &Version,
        skips: Option<&SkippedVersion>,
        last: Option<&HeaderSet>,
    ) -> Result<HeaderRules, (String, String)> {
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
                    place.skipping(skips.cloned()),
                    self.header_set(&entry.delete_headers, &entry.add_headers)?,
                ))
            };
            let compiled: Result<Vec<_>, String> = list.map(compile).collect();
            compiled.map_err(|message| (format!("extended_paths.{member}"), message))
        };
        let rules = HeaderRules {
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
            response_last: last
                .filter(|_| !version.global_response_headers_disabled)
                .cloned()
                .unwrap_or_default(),
            response_by_path: of_paths(
                "transform_response_headers",
                &paths.transform_response_headers,
            )?,
            ..HeaderRules::default()
        };
        Ok(rules.spelled())
    }

    fn header_set(
        &self,
        remove: &[String],
        add: &BTreeMap<String, String>,
    ) -> Result<HeaderSet, String> {
        let mut remove: Vec<_> = remove
            .iter()
            .map(|name| header_name(name))
            .collect::<Result<_, _>>()?;
        let secret = |name: SecretName<'_>| self.secrets.find(name);
        let mut set = Vec::new();
        for (name, text) in add {
            let header = header_name(name)?;
            if header == CONTENT_LENGTH {
                return Err(format!("`{name}` frames the message, and can not be set"));
            }
            if header == CONNECTION {
                // It ends at this hop, with what it names.
                let named = text.split(',').map(|name| header_name(name.trim()));
                remove.extend(named.filter_map(Result::ok));
            } else if !ends_at_this_hop(&header, text) {
                set.push((header, Text::with_secrets(text, secret)));
            }
        }
        if add
            .keys()
            .any(|name| name.eq_ignore_ascii_case("connection"))
        {
            set.retain(|(name, _)| !remove.contains(name));
        }
        let keeps_spelling = self.config.ignore_canonical_mime_header_key;
        let spelled = add.keys().filter(|_| keeps_spelling).cloned().collect();
        Ok(HeaderSet {
            remove,
            set,
            spelled,
        })
    }

    /// What response processors called `header_injector` do; of several, the later goes before the earlier.
    fn injected_last(&self, processors: &[ResponseProcessor]) -> Result<Option<HeaderSet>, Wrong> {
        let mut merged = InjectorOptions::default();
        let mut is_there = false;
        for (index, processor) in processors.iter().enumerate() {
            if processor.name != "header_injector" || processor.options.0.is_null() {
                continue;
            }
            let options = InjectorOptions::deserialize(&processor.options.0);
            let options = options.map_err(|err| (injector_place(index), err.to_string()))?;
            merged.add_headers.extend(options.add_headers);
            merged.remove_headers.extend(options.remove_headers);
            is_there = true;
        }
        if !is_there {
            return Ok(None);
        }
        let set = self.header_set(&merged.remove_headers, &merged.add_headers);
        set.map(Some)
            .map_err(|message| ("response_processors".into(), message))
    }
}

fn injector_place(index: usize) -> JsonPath {
    JsonPath::from("response_processors")
        .index(index)
        .key("options")
}

/// The options of a `header_injector`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct InjectorOptions {
    add_headers: BTreeMap<String, String>,
    remove_headers: Vec<String>,
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("`{name}` can not be a header's name"))
}

/// Whether a header says something of one hop alone, so that it is not sent on. `TE: trailers` is.
fn ends_at_this_hop(name: &HeaderName, value: &str) -> bool {
    match name.as_str() {
        "te" => !value.eq_ignore_ascii_case("trailers"),
        name => [
            "keep-alive",
            "proxy-authenticate",
            "proxy-authorization",
            "proxy-connection",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ]
        .contains(&name),
    }
}

/// A method that requests may become, as in Tyk.
fn may_become(name: &str) -> Option<Method> {
    use Method as M;
    let method = M::from_bytes(name.to_ascii_uppercase().as_bytes()).ok()?;
    let known = [M::GET, M::POST, M::PUT, M::DELETE, M::OPTIONS, M::PATCH];
    known.contains(&method).then_some(method)
}

/// Entries for single paths that are on.
pub(super) fn entries<T, V>(
    extended: bool,
    list: &[T],
    (options, skips): (PathOptions, Option<&SkippedVersion>),
    read: impl Fn(&T) -> (bool, &String, &String, V),
) -> Result<Vec<(Where, V)>, String> {
    let mut entries = Vec::new();
    for entry in list.iter().filter(|_| extended) {
        let (disabled, path, method, value) = read(entry);
        if !disabled {
            let place = Where::new(path, method, options).map_err(|err| err.to_string())?;
            entries.push((place.skipping(skips.cloned()), value));
        }
    }
    Ok(entries)
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
        "url" => Location::Path(version_pattern(source)),
        _ => Location::None,
    })
}

/// What patterns skip, too; a version that is in the path was cut out before.
fn skipped_version(source: &VersionSource) -> Option<SkippedVersion> {
    let skips = source.strips() && source.location != "url";
    skips.then(|| SkippedVersion {
        pattern: version_pattern(source),
    })
}

/// What names of versions look like; `None` for anything, also where the pattern can not be used: it decides
/// what is cut out of the path, and never which version a key may call.
fn version_pattern(source: &VersionSource) -> Option<Regex> {
    let pattern = &source.url_versioning_pattern;
    (!pattern.is_empty())
        .then(|| Regex::new(pattern).ok())
        .flatten()
}
