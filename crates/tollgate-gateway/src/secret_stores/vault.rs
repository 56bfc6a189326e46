//! Vault: its engine for keys and values, of both versions.
//!
//! Source: "Using Vault as a KV store" of Tyk's documents; `GET /v1/PATH` of Vault's HTTP API.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Answer, Kept, SecretStoreError,
    fetch::{Asking, in_path, sensitive},
};
use crate::{config::VaultOptions, proxy::UpstreamTls};

pub(super) const NAME: &str = "Vault";

/// A secret: its fields.
type Fields = Arc<Map<String, Value>>;

/// Vault.
#[derive(Debug)]
pub(super) struct Vault {
    address: String,
    headers: HeaderMap,
    /// Whether the engine keeps versions of a secret.
    has_versions: bool,
    asking: Asking,
    kept: Kept<Fields>,
}

/// What both versions answer; that with versions has `data` within `data`.
#[derive(Deserialize)]
struct Found<T> {
    data: T,
}

#[derive(Deserialize)]
struct Version {
    data: Option<Map<String, Value>>,
}

impl Vault {
    pub(super) fn new(options: &VaultOptions) -> Self {
        let token = HeaderName::from_static("x-vault-token");
        let own = HeaderName::from_static("x-vault-request");
        let token = sensitive(options.token.expose()).map(|value| (token, value));
        let own = Some((own, HeaderValue::from_static("true")));
        Self {
            address: options.url().trim_end_matches('/').to_owned(),
            headers: [token, own].into_iter().flatten().collect(),
            has_versions: options.kv_version != 1,
            asking: Asking {
                store: NAME,
                tls: UpstreamTls::default(),
                timeout: options.timeout(),
                retries: options.retries(),
            },
            kept: Kept::default(),
        }
    }

    /// A field of a secret; all of them, as JSON, where none is named.
    pub(super) fn get(&self, path: &str, field: Option<&str>) -> Answer {
        let fields = self.kept.get_or_ask(path, || self.ask(path))?;
        let Some(field) = field else {
            return Ok(Value::Object((*fields).clone()).to_string());
        };
        match fields.get(field) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Ok(other.to_string()),
            None => Err(SecretStoreError::Missing {
                store: NAME,
                what: format!("field {field:?} of {path:?}"),
            }),
        }
    }

    fn ask(&self, path: &str) -> Result<Fields, SecretStoreError> {
        let uri = format!("{}/v1/{}", self.address, self.path_of(path));
        let missing = || SecretStoreError::missing(NAME, path);
        let body = self.asking.get(&uri, &self.headers)?.ok_or_else(missing)?;
        let fields = if self.has_versions {
            let found = serde_json::from_slice::<Found<Version>>(&body);
            found.map(|found| found.data.data)
        } else {
            let found = serde_json::from_slice::<Found<Map<String, Value>>>(&body);
            found.map(|found| Some(found.data))
        };
        // What serde says of it could quote the secret.
        let fields = fields.map_err(|_| {
            SecretStoreError::away(NAME, "answers with something else than a secret")
        })?;
        fields.map(Arc::new).ok_or_else(missing)
    }

    /// The engine is the first part of the path; where it keeps versions, `data` follows it.
    fn path_of(&self, path: &str) -> String {
        let path = path.trim_matches('/');
        match path.split_once('/') {
            Some((engine, secret)) if self.has_versions => {
                format!("{}/data/{}", in_path(engine), in_path(secret))
            }
            _ => in_path(path),
        }
    }
}

impl VaultOptions {
    /// Whether there is anything of it.
    pub(crate) fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// The agent's address, where there is one.
    pub(crate) fn url(&self) -> &str {
        if self.agent_address.is_empty() {
            &self.address
        } else {
            &self.agent_address
        }
    }

    /// How long an answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        match self.timeout.0 {
            Duration::ZERO => Duration::from_secs(60),
            timeout => timeout,
        }
    }

    /// How often it is asked again.
    pub(crate) fn retries(&self) -> u32 {
        match self.max_retries {
            ..=0 => 2,
            retries => u32::try_from(retries).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_with_versions_has_data_behind_its_name() {
        let path = |kv_version, path| {
            let options = VaultOptions {
                kv_version,
                ..VaultOptions::default()
            };
            Vault::new(&options).path_of(path)
        };
        assert_eq!(path(0, "secret/a/b"), "secret/data/a/b");
        assert_eq!(path(2, "/kv-v2/a b/"), "kv-v2/data/a%20b");
        assert_eq!(path(1, "secret/a/b"), "secret/a/b");
        assert_eq!(path(2, "plain"), "plain");
    }
}
