//! Where requests come in and where they go.

use tollgate_core::access::clean_path;

use crate::record::record;

record! {
    /// Where requests come in and where they go.
    pub struct Proxy {
        /// The path that requests begin with; see [`ListenPath`].
        pub listen_path: String,
        /// Where requests go; its path and query are kept.
        pub target_url: String,
        /// Whether the listen path is cut off.
        pub strip_listen_path: bool,
        /// Whether a target's last slash stays where nothing follows it.
        pub disable_strip_slash: bool,
        /// Whether the client's `Host` is sent on.
        pub preserve_host_header: bool,
        /// Whether requests go to `target_list` in turn.
        pub enable_load_balancing: bool,
        /// Targets.
        pub target_list: Vec<String>,
        /// Whether targets that are down are passed over.
        pub check_host_against_uptime_tests: bool,
        /// Targets that are asked for.
        pub service_discovery: ServiceDiscovery,
        /// How targets are reached.
        pub transport: Transport,
    }

    /// Targets that are asked for.
    pub struct ServiceDiscovery {
        /// Whether they are.
        pub use_discovery_service: bool,
        /// Where.
        pub query_endpoint: String,
        /// Whether there is JSON in the JSON.
        pub use_nested_query: bool,
        /// Where the inner JSON is.
        pub parent_data_path: String,
        /// Where hosts are.
        pub data_path: String,
        /// Where ports are.
        pub port_data_path: String,
        /// What comes behind host and port.
        pub target_path: String,
        /// Whether hosts are used in turn.
        pub use_target_list: bool,
        /// Whether the answer is a list.
        pub endpoint_returns_list: bool,
        /// Whether the answer is not remembered.
        pub cache_disabled: bool,
        /// Seconds that it is.
        pub cache_timeout: i64,
    }

    /// How targets are reached.
    pub struct Transport {
        /// Whether no certificate is checked.
        pub ssl_insecure_skip_verify: bool,
        /// Cipher suites.
        pub ssl_ciphers: Vec<String>,
        /// The oldest TLS, as `771` for 1.2.
        pub ssl_min_version: u16,
        /// The newest TLS.
        pub ssl_max_version: u16,
        /// Whether the common name of certificates is compared.
        pub ssl_force_common_name_check: bool,
        /// A proxy on the way.
        pub proxy_url: String,
    }
}

impl Proxy {
    /// Where requests go: the list where they are balanced, or else the one target.
    pub fn targets(&self) -> &[String] {
        if self.enable_load_balancing {
            &self.target_list
        } else {
            std::slice::from_ref(&self.target_url)
        }
    }
}

/// The name of the API that a target leads to: `orders` in `tyk://orders/`.
pub(crate) fn internal_target(url: &str) -> Option<&str> {
    const SCHEME: &str = "tyk://";
    let url = url.trim();
    let scheme = url.get(..SCHEME.len())?;
    let name = url[SCHEME.len()..].split(['/', '?', '#']).next();
    name.filter(|_| scheme.eq_ignore_ascii_case(SCHEME))
}

/// A listen path, cleaned as Tyk cleans it: with a slash before, without `.`, `..` and `//`. A last
/// slash stays.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ListenPath(String);

impl ListenPath {
    /// Cleans a path. `None` where it is empty or has a space.
    pub fn clean(path: &str) -> Option<Self> {
        if path.is_empty() || path.contains(char::is_whitespace) {
            return None;
        }
        Some(Self(clean_path(path)))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_may_be_another_api() {
        for (url, name) in [
            ("tyk://orders/", Some("orders")),
            ("TYK://a_b", Some("a_b")),
            ("tyk://x?y=/z", Some("x")),
            ("tyk:///x", Some("")),
            ("http://tyk://x", None),
            ("tyk", None),
            ("", None),
        ] {
            assert_eq!(internal_target(url), name, "{url:?}");
        }
    }

    #[test]
    fn a_listen_path_is_cleaned() {
        for (path, clean) in [
            ("/a/", Some("/a/")),
            ("a", Some("/a")),
            ("/", Some("/")),
            ("//a//b/", Some("/a/b/")),
            ("/a/../b/./c", Some("/b/c")),
            ("/../..", Some("/")),
            ("/o/{id}/", Some("/o/{id}/")),
            ("", None),
            ("/a b/", None),
        ] {
            let cleaned = ListenPath::clean(path);
            assert_eq!(cleaned.as_ref().map(ListenPath::as_str), clean, "{path:?}");
        }
    }
}
