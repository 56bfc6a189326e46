//! How the upstreams of an API are reached: TLS, and a proxy on the way, compiled.

use std::{collections::BTreeMap, path::Path};

use tollgate_core::ErrorChain;

use super::{Composer, Wrong};
use crate::{
    definition::Definition,
    problem::JsonPath,
    proxy::{
        ByHost, ClientError, ForwardProxy, Identity, KeyPin, NoForwardProxy, Roots, UpstreamClient,
        UpstreamTls, UpstreamWay,
    },
    serve::RequestBody,
    tls::TlsRules,
};

impl Composer<'_> {
    /// The connections to the upstreams of an API.
    pub(super) fn client(
        &self,
        definition: &Definition,
    ) -> Result<UpstreamClient<RequestBody>, Wrong> {
        let proxy = forward_proxy(definition).map_err(|err| {
            let path = JsonPath::from("proxy.transport").key("proxy_url");
            (path, err.to_string())
        })?;
        let tls = self.upstream_tls(definition)?;
        let wrong = |err: ClientError| {
            (
                JsonPath::from("proxy.transport"),
                ErrorChain(&err).to_string(),
            )
        };
        self.pools.get(UpstreamWay { tls, proxy }).map_err(wrong)
    }

    fn upstream_tls(&self, definition: &Definition) -> Result<UpstreamTls, Wrong> {
        let (own, all) = (&definition.proxy.transport, self.config);
        let or = |own: u16, all: u16| if own == 0 { all } else { own };
        let suites = if own.ssl_ciphers.is_empty() {
            &all.proxy_ssl_ciphers
        } else {
            &own.ssl_ciphers
        };
        let rules = TlsRules::new(
            or(own.ssl_min_version, all.proxy_ssl_min_version),
            or(own.ssl_max_version, all.proxy_ssl_max_version),
            suites,
        );
        let rules = rules.map_err(|err| ("proxy.transport".into(), err.to_string()))?;
        let is_unverified = own.ssl_insecure_skip_verify || all.proxy_ssl_insecure_skip_verify;
        let security = &all.security;
        let empty = BTreeMap::new();
        let unless = |disabled: bool, map| if disabled { &empty } else { map };
        let certificates = unless(
            definition.upstream_certificates_disabled,
            &definition.upstream_certificates,
        );
        let keys = unless(
            definition.certificate_pinning_disabled,
            &definition.pinned_public_keys,
        );
        Ok(UpstreamTls {
            roots: if is_unverified {
                Roots::UnverifiedDangerous
            } else {
                Roots::System
            },
            rules,
            common_names: own.ssl_force_common_name_check || all.ssl_force_common_name_check,
            identities: ByHost::layers([
                by_host(certificates, "upstream_certificates", identity)?,
                by_host(
                    &security.certificates.upstream,
                    "security.certificates.upstream",
                    identity,
                )
                .map_err(of_config)?,
            ]),
            pins: ByHost::layers([
                by_host(keys, "pinned_public_keys", pins)?,
                by_host(
                    &security.pinned_public_keys,
                    "security.pinned_public_keys",
                    pins,
                )
                .map_err(of_config)?,
            ]),
        })
    }
}

/// The proxy on the way, if there is one.
fn forward_proxy(definition: &Definition) -> Result<Option<ForwardProxy>, NoForwardProxy> {
    let url = &definition.proxy.transport.proxy_url;
    (!url.is_empty()).then(|| url.parse()).transpose()
}

/// A problem of the configuration, told of a definition that it stops.
fn of_config((path, message): Wrong) -> Wrong {
    let message = format!("`{path}` of the configuration: {message}");
    (JsonPath::root(), message)
}

/// What a map by hosts says; empty texts say nothing.
fn by_host<T>(
    map: &BTreeMap<String, String>,
    member: &str,
    read: impl Fn(&str) -> Result<T, ClientError>,
) -> Result<BTreeMap<String, T>, Wrong> {
    let map = map.iter().filter(|(_, text)| !text.trim().is_empty());
    let read = |(host, text): (&String, &String)| {
        let wrong = |err: ClientError| {
            (
                JsonPath::from(member).key(host),
                ErrorChain(&err).to_string(),
            )
        };
        Ok((host.to_ascii_lowercase(), read(text).map_err(wrong)?))
    };
    map.map(read).collect()
}

/// A certificate and its key in one file.
fn identity(file: &str) -> Result<Identity, ClientError> {
    Identity::read(Path::new(file), Path::new(file))
}

fn pins(keys: &str) -> Result<Vec<KeyPin>, ClientError> {
    keys.split(',')
        .map(|key| KeyPin::read(key.trim()))
        .collect()
}
