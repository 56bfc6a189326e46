//! Ports that APIs have for themselves: which they may have, and what is spoken there.

use crate::config::{Config, PortList, PortRange};

/// What clients speak on a port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 as `http_server_options.enable_http2` says.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP/1.1 and HTTP/2, without TLS.
    H2c,
}

/// A port of its own that an API asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnPort {
    /// The port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

impl Protocol {
    /// Every name that an API or a list of ports may have.
    pub(crate) const NAMES: [&str; 5] = ["http", "https", "h2c", "tcp", "tls"];

    /// `protocol` of a definition, if it is built; where it is empty, what the gateway speaks.
    pub(crate) fn of(name: &str, config: &Config) -> Option<Self> {
        match &*name.to_ascii_lowercase() {
            "" if config.http_server_options.use_ssl => Some(Self::Https),
            "" | "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            "h2c" => Some(Self::H2c),
            _ => None,
        }
    }

    /// Its name, as in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        }
    }
}

impl OwnPort {
    /// Whether the configuration lets APIs have it.
    pub(crate) fn is_allowed(self, config: &Config) -> bool {
        let lists = &config.ports_whitelist;
        let list = lists.get(self.protocol.name());
        config.disable_ports_whitelist || list.is_some_and(|list| holds(list, self.port.into()))
    }
}

fn holds(list: &PortList, port: i64) -> bool {
    let is_within = |range: &PortRange| (range.from..=range.to).contains(&port);
    list.ports.contains(&port) || list.ranges.iter().any(is_within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: &str, protocol: &str, port: u16, is_allowed: bool) {
        let config: Config = serde_json::from_str(config).expect("a configuration");
        let protocol = Protocol::of(protocol, &config).expect("a protocol");
        let own = OwnPort { port, protocol };
        assert_eq!(own.is_allowed(&config), is_allowed, "{own:?}");
    }

    #[test]
    fn a_port_is_allowed_by_the_list_of_its_protocol() {
        let lists = r#"{"ports_whitelist": {
            "http": {"ports": [80], "ranges": [{"from": 9000, "to": 9001}]}, "https": {"ports": [443]}}}"#;
        check(lists, "http", 80, true);
        check(lists, "", 80, true);
        check(lists, "http", 81, false);
        check(lists, "http", 8999, false);
        check(lists, "http", 9000, true);
        check(lists, "HTTP", 9001, true);
        check(lists, "http", 9002, false);
        check(lists, "http", 443, false);
        check(lists, "https", 443, true);
        check(lists, "h2c", 80, false);
    }

    #[test]
    fn without_a_list_no_port_is_allowed_unless_all_are() {
        check("{}", "http", 9000, false);
        check(r#"{"disable_ports_whitelist": true}"#, "http", 9000, true);
    }

    #[test]
    fn an_api_without_a_protocol_speaks_as_the_gateway_does() {
        let lists = r#"{"http_server_options": {"use_ssl": true}, "ports_whitelist": {
            "https": {"ports": [443]}}}"#;
        check(lists, "", 443, true);
        check(lists, "http", 443, false);
    }
}
