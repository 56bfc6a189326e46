//! Which headers a definition sets and deletes for one request, and how their values are made.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tollgate_core::{
    Rejection,
    access::{PathOptions, PathPattern},
    meta::MetaData,
    variables::{NoContext, SecretName, Text, UnsafeValues, ValueStyle, header_value},
};

use crate::text;

/// What happens to the headers of one request or one response.
#[derive(Default)]
pub(crate) struct Changes {
    /// Set by the layer.
    pub(crate) layer: BTreeMap<String, String>,
    /// Set by [`Text`] alone: the layer takes no secrets, and has no switch for context variables.
    pub(crate) plain: BTreeMap<String, String>,
    /// No layer deletes.
    pub(crate) delete: Vec<String>,
}

/// The two sides of a definition, by Tyk's names.
pub(crate) struct Side {
    globals: &'static str,
    removes: &'static str,
    disabled: &'static str,
    entries: &'static str,
}

pub(crate) const REQUEST: Side = Side {
    globals: "global_headers",
    removes: "global_headers_remove",
    disabled: "global_headers_disabled",
    entries: "transform_headers",
};

pub(crate) const RESPONSE: Side = Side {
    globals: "global_response_headers",
    removes: "global_response_headers_remove",
    disabled: "global_response_headers_disabled",
    entries: "transform_response_headers",
};

impl Changes {
    /// On the request globals come first and then the endpoint's, on the response the other way; within
    /// one of them deletions come first.
    pub(crate) fn of(side: &Side, api: &Value, version: &Value, request: (&str, &str)) -> Self {
        let entry = entry(&version["extended_paths"][side.entries], request);
        let endpoint = (&entry["add_headers"], &entry["delete_headers"]);
        let globals = if version[side.disabled] == true {
            (&Value::Null, &Value::Null)
        } else {
            (&version[side.globals], &version[side.removes])
        };
        let is_request = side.entries == REQUEST.entries;
        let mut order = if is_request {
            vec![globals, endpoint]
        } else {
            vec![endpoint, globals]
        };
        let processors = api["response_processors"].as_array().into_iter().flatten();
        if !is_request && version[side.disabled] != true {
            let injectors = processors.filter(|processor| processor["name"] == "header_injector");
            order.extend(injectors.map(|injector| {
                let options = &injector["options"];
                (&options["add_headers"], &options["remove_headers"])
            }));
        }
        let mut set = BTreeMap::new();
        let mut delete = Vec::new();
        for (adds, deletes) in order {
            for name in deletes.as_array().into_iter().flatten().map(text) {
                set.retain(|other: &String, _| !other.eq_ignore_ascii_case(name));
                delete.push(name.to_owned());
            }
            for (name, value) in adds.as_object().into_iter().flatten() {
                set.retain(|other, _| !other.eq_ignore_ascii_case(name));
                set.insert(name.clone(), text(value).to_owned());
            }
        }
        let has_context = api["enable_context_vars"] == true;
        let (layer, plain) = set.into_iter().partition(|(_, value)| {
            let is_off = value.contains("$tyk_context.") && !has_context;
            !is_off && Text::parse(value).is_ok()
        });
        Self {
            layer,
            plain,
            delete,
        }
    }

    /// Deletes, and sets what the layer did not.
    pub(crate) fn apply(
        &self,
        headers: &mut HeaderMap,
        meta: Option<&MetaData>,
        secrets: &Secrets<'_>,
    ) -> Result<(), Rejection> {
        for (name, value) in &self.plain {
            let filled = Text::with_secrets(value, |name| secrets.find(name));
            let filled = filled.fill(meta, &NoContext, ValueStyle::Tyk);
            let name =
                HeaderName::try_from(name.as_str()).map_err(|_| Rejection::HeaderValueRefused);
            headers.insert(name?, header_value(filled, UnsafeValues::Refuse)?);
        }
        let is_set = |name: &String| {
            let mut set = self.layer.keys().chain(self.plain.keys());
            set.any(|other| other.eq_ignore_ascii_case(name))
        };
        for name in self.delete.iter().filter(|name| !is_set(name)) {
            headers.remove(name.as_str());
        }
        Ok(())
    }
}

/// The first entry that is on and fits.
fn entry<'a>(entries: &'a Value, (method, path): (&str, &str)) -> &'a Value {
    let fits = |entry: &&Value| {
        let pattern = PathPattern::compile(text(&entry["path"]), PathOptions::default());
        entry["disabled"] != true
            && entry["method"] == method
            && pattern.is_ok_and(|pattern| pattern.matches(path))
    };
    let mut entries = entries.as_array().into_iter().flatten();
    entries.find(fits).unwrap_or(&Value::Null)
}

/// Secrets as the gateway's configuration and environment have them.
pub(crate) struct Secrets<'a> {
    pub(crate) config: &'a Value,
    pub(crate) environment: &'a Value,
}

impl Secrets<'_> {
    fn find(&self, secret: SecretName<'_>) -> Option<String> {
        let value = match secret.place {
            "conf" => &self.config[secret.name],
            "env" => &self.environment[format!("TYK_SECRET_{}", secret.name.to_uppercase())],
            _ => &Value::Null,
        };
        value.as_str().map(str::to_owned)
    }
}
