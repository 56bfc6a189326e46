//! Stores of secrets: the block `kv`.

use http::Uri;
use tollgate_core::Secret;

use crate::{
    problem::{JsonPath, Problem},
    record::{GoDuration, Unread, record},
    tls::is_readable_on_the_way,
};

record! {
    /// Stores of secrets.
    pub struct KvOptions {
        /// Files, for `$secret_file.` and `kv://file/`.
        pub file: FileStore,
        /// Consul, for `$secret_consul.`, `consul://` and `kv://consul/`.
        pub consul: ConsulOptions,
        /// Vault, for `$secret_vault.`, `vault://` and `kv://vault/`.
        pub vault: VaultOptions,
        /// Stores under names of one's own.
        pub stores: Unread,
    }

    /// A folder whose files are secrets.
    pub struct FileStore {
        /// The folder.
        pub base_path: String,
    }

    /// Vault, which is asked when files are read.
    pub struct VaultOptions {
        /// Where it is, as `https://vault.example:8200`.
        pub address: String,
        /// Where its agent is; this is asked then.
        pub agent_address: String,
        /// How often it is asked again where it fails. Zero: twice.
        pub max_retries: i64,
        /// How long an answer may take, all tries together; a number is nanoseconds. Zero: 60 s.
        pub timeout: GoDuration,
        /// What lets us read.
        #[schemars(with = "String")]
        pub token: Secret,
        /// The version of its engine for keys and values: 1 or 2. Zero: 2.
        pub kv_version: i64,
    }

    /// Consul, which is asked when files are read.
    pub struct ConsulOptions {
        /// Where it is, as `consul.example:8500`. Empty: `127.0.0.1:8500`.
        pub address: String,
        /// `http` or `https`. Empty: `http`.
        pub scheme: String,
        /// Its data centre. Empty: that of whom is asked.
        pub datacenter: String,
        /// Basic authentication.
        pub http_auth: ConsulLogin,
        /// Has no effect: nothing is watched.
        pub wait_time: GoDuration,
        /// What lets us read.
        #[schemars(with = "String")]
        pub token: Secret,
        /// TLS.
        pub tls_config: ConsulTls,
    }

    /// Basic authentication at Consul.
    pub struct ConsulLogin {
        /// The name. Empty: none.
        pub username: String,
        /// The password.
        #[schemars(with = "String")]
        pub password: Secret,
    }

    /// TLS towards Consul.
    pub struct ConsulTls {
        /// Another name to look for in its certificate.
        pub address: String,
        /// The authorities that are believed, in a PEM file. Empty: the system's.
        pub ca_file: String,
        /// A folder of them.
        pub ca_path: String,
        /// Our certificate.
        pub cert_file: String,
        /// Its key.
        pub key_file: String,
        /// Whether no certificate is looked at.
        pub insecure_skip_verify: bool,
    }
}

impl KvOptions {
    /// What of the block can not be followed, and what is not safe.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let urls = [
            (
                "kv.vault",
                self.vault.is_given(),
                self.vault.url().to_owned(),
            ),
            ("kv.consul", self.consul.is_given(), self.consul.url()),
        ];
        for (place, is_given, url) in urls {
            if is_given && url.parse().is_ok_and(|url| is_readable_on_the_way(&url)) {
                let message = "secrets travel in clear text: the address is no https";
                problems.push(Problem::warning("", message).at(JsonPath::from(place)));
            }
        }
        let mut wrong = |path: &str, message: &str| {
            problems.push(Problem::error("", message).at(JsonPath::from(path)));
        };
        if self.vault.is_given() {
            let (place, address) = match &*self.vault.agent_address {
                "" => ("kv.vault.address", &*self.vault.address),
                agent => ("kv.vault.agent_address", agent),
            };
            if !is_address(address) {
                wrong(place, "expected a URL, as `https://vault.example:8200`");
            }
            if self.vault.token.expose().is_empty() {
                wrong(
                    "kv.vault.token",
                    "expected a token: nothing can be read without",
                );
            }
            if ![0, 1, 2].contains(&self.vault.kv_version) {
                wrong("kv.vault.kv_version", "expected 1 or 2");
            }
        }
        if self.consul.is_given() {
            if !is_address(&self.consul.url()) {
                wrong("kv.consul.address", "expected `host:port`, or a URL");
            }
            let tls = &self.consul.tls_config;
            if tls.cert_file.is_empty() != tls.key_file.is_empty() {
                let message = "expected a certificate and its key: `cert_file` and `key_file`";
                wrong("kv.consul.tls_config.cert_file", message);
            }
        }
        problems
    }
}

/// Whether it is a URL of a host, without a path.
fn is_address(text: &str) -> bool {
    let Ok(uri) = text.trim_end_matches('/').parse::<Uri>() else {
        return false;
    };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.query().is_none()
        && uri.path() == "/"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kv: serde_json::Value, expected: &[&str]) {
        let kv: KvOptions = serde_json::from_value(kv).unwrap();
        let places = kv
            .check()
            .into_iter()
            .map(|problem| problem.path.to_string());
        assert_eq!(places.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_store_needs_an_address_and_what_lets_us_in() {
        check(json!({}), &[]);
        let vault = |address: &str| json!({"vault": {"address": address, "token": "t"}});
        check(vault("https://v:8200/"), &[]);
        check(vault("http://[::1]:8200"), &[]);
        check(vault("http://v:8200"), &["kv.vault"]);
        check(vault("v:8200"), &["kv.vault.address"]);
        check(
            json!({"vault": {"address": "https://v"}}),
            &["kv.vault.token"],
        );
        let agent = json!({"agent_address": "https://v/x", "token": "t", "kv_version": 3});
        let expected = ["kv.vault.agent_address", "kv.vault.kv_version"];
        check(json!({ "vault": agent }), &expected);
        check(json!({"consul": {"datacenter": "d"}}), &[]);
        check(json!({"consul": {"address": "https://c:8500"}}), &[]);
        check(json!({"consul": {"address": "c:8500"}}), &["kv.consul"]);
        check(json!({"consul": {"scheme": "ftp"}}), &["kv.consul.address"]);
        let half = json!({"tls_config": {"cert_file": "c"}});
        let expected = ["kv.consul.tls_config.cert_file"];
        check(json!({ "consul": half }), &expected);
    }
}
