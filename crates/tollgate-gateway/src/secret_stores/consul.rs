//! Consul: its keys and values.
//!
//! Source: "Using Consul as a KV store" of Tyk's documents; `GET /v1/kv/KEY?raw` of Consul's HTTP API.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use super::{
    Answer, Kept, SecretStoreError,
    fetch::{Asking, in_path, sensitive},
};
use crate::{config::ConsulOptions, proxy::UpstreamTls};

const NAME: &str = "Consul";
const TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES: u32 = 2;

/// Consul.
#[derive(Debug)]
pub(super) struct Consul {
    address: String,
    headers: HeaderMap,
    /// What is behind the key.
    query: String,
    /// TLS files that can not be read are told when it is asked.
    asking: Result<Asking, SecretStoreError>,
    kept: Kept<String>,
}

impl Consul {
    pub(super) fn new(options: &ConsulOptions) -> Self {
        let token = Some(options.token.expose()).filter(|token| !token.is_empty());
        let token = token.and_then(sensitive);
        let token = token.map(|value| (HeaderName::from_static("x-consul-token"), value));
        let login = &options.http_auth;
        let basic = || {
            let pair = format!("{}:{}", login.username, login.password.expose());
            sensitive(&format!("Basic {}", STANDARD.encode(pair)))
        };
        let basic = (!login.username.is_empty()).then(basic).flatten();
        let basic = basic.map(|value| (AUTHORIZATION, value));
        let query = match &*options.datacenter {
            "" => "?raw".to_owned(),
            datacenter => format!("?raw&dc={}", in_path(datacenter)),
        };
        let tls = &options.tls_config;
        let tls = UpstreamTls::of_files(
            tls.insecure_skip_verify,
            &tls.ca_file,
            &tls.cert_file,
            &tls.key_file,
        );
        let asking = tls.map(|tls| Asking {
            store: NAME,
            tls,
            timeout: TIMEOUT,
            retries: RETRIES,
        });
        Self {
            address: options.url(),
            headers: [token, basic].into_iter().flatten().collect(),
            query,
            asking: asking.map_err(|err| SecretStoreError::away(NAME, err)),
            kept: Kept::default(),
        }
    }

    /// The value of a key, which must be a text.
    pub(super) fn get(&self, key: &str) -> Answer {
        self.kept.get_or_ask(key, || self.ask(key))
    }

    fn ask(&self, key: &str) -> Answer {
        let asking = self.asking.as_ref().map_err(Clone::clone)?;
        let uri = format!("{}/v1/kv/{}{}", self.address, in_path(key), self.query);
        let missing = || SecretStoreError::missing(NAME, key);
        let body = asking.get(&uri, &self.headers)?.ok_or_else(missing)?;
        String::from_utf8(body.into()).map_err(|_| SecretStoreError::Missing {
            store: NAME,
            what: format!("text under {key:?}"),
        })
    }
}

impl ConsulOptions {
    /// Whether there is anything of it.
    pub(crate) fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// Where it is, without a path.
    pub(crate) fn url(&self) -> String {
        let address = match &*self.address {
            "" => "127.0.0.1:8500",
            address => address.trim_end_matches('/'),
        };
        match (address.contains("://"), &*self.scheme) {
            (true, _) => address.to_owned(),
            (false, "") => format!("http://{address}"),
            (false, scheme) => format!("{scheme}://{address}"),
        }
    }
}
