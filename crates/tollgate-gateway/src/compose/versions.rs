//! What the versions of a definition say, compiled.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderName, Method};
use regex::Regex;
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
    definition::{Definition, HeaderEntry, Version, VersionSource},
    edge::{
        Where,
        headers::{HeaderRules, HeaderSet},
        sizes::Sizes,
        upstream::UpstreamRules,
        versions::{Default as DefaultVersion, Location, VersionApis, VersionRules, Versions},
    },
    problem::JsonPath,
    reference::secret,
};

impl Composer<'_> {
    pub(super) fn versions(&self, definition: &Definition) -> Result<Versions, Wrong> {
        let data = &definition.version_data;
        let compile = |(name, version): (&String, &Version)| {
            let place = |inner: &str| -> JsonPath {
                JsonPath::from("version_data")
                    .key("versions")
                    .key(name)
                    .key(inner)
            };
            let rules = self.version(name, version);
            let mut rules = rules.map_err(|(inner, message)| (place(&inner), message))?;
            rules.expires = expiry(definition, version);
            rules.rates = self.rate_entries(definition, version).map_err(|message| {
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
