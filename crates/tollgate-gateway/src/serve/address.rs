//! Who the client is: the peer, or whom a trusted proxy names.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Which peers are believed when they name a client.
///
/// What another peer sends of `Forwarded`, `X-Forwarded-…` and `X-Real-IP` is dropped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    depth: ForwardedDepth,
}

/// Which address of `X-Forwarded-For` is the client's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum ForwardedDepth {
    /// From the right, the first that is no trusted proxy.
    #[default]
    Untrusted,
    /// The first of all, as Tyk reads it (`xff_depth` 0). Only where every proxy before us
    /// replaces what clients send.
    First,
    /// The so-manieth from the right, beginning with 1 (`xff_depth`).
    FromRight(usize),
}

impl TrustedProxies {
    /// Believes peers in these networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            networks: networks.into_iter().collect(),
            depth: ForwardedDepth::default(),
        }
    }

    /// Believes nobody.
    pub fn none() -> Self {
        Self::new([])
    }

    /// Believes this machine.
    pub fn loopback() -> Self {
        let v4 = IpNet::new([127, 0, 0, 0].into(), 8);
        let v6 = IpNet::new(std::net::Ipv6Addr::LOCALHOST.into(), 128);
        Self::new(v4.into_iter().chain(v6))
    }

    /// Which address of `X-Forwarded-For` is the client's.
    pub fn with_depth(mut self, depth: ForwardedDepth) -> Self {
        self.depth = depth;
        self
    }

    /// Whether an address is that of a trusted proxy.
    pub fn trusts(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.networks.iter().any(|network| network.contains(&addr))
    }

    /// The client's address, by the words of a trusted peer: `X-Real-IP`, `X-Forwarded-For`, the peer.
    ///
    /// What is no address is passed over.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        let mut real = headers.get_all(X_REAL_IP).iter();
        if let (Some(only), None) = (real.next(), real.next())
            && let Some(addr) = address(only.as_bytes())
        {
            return addr;
        }
        self.forwarded(headers, peer)
            .unwrap_or_else(|| peer.to_canonical())
    }

    fn forwarded(&self, headers: &HeaderMap, peer: IpAddr) -> Option<IpAddr> {
        let lines = headers
            .get_all(X_FORWARDED_FOR)
            .iter()
            .map(HeaderValue::as_bytes);
        let mut all = lines.flat_map(|line| line.split(|byte| *byte == b','));
        match self.depth {
            ForwardedDepth::First => all.next().and_then(address),
            ForwardedDepth::FromRight(depth) => {
                let all: Vec<_> = all.collect();
                let index = all.len().checked_sub(depth.max(1))?;
                address(all[index])
            }
            ForwardedDepth::Untrusted => {
                let all: Vec<_> = all.collect();
                let mut client = peer.to_canonical();
                for part in all.into_iter().rev() {
                    // Behind what is no address, nothing can be told.
                    let Some(addr) = address(part) else { break };
                    client = addr;
                    if !self.trusts(addr) {
                        break;
                    }
                }
                Some(client)
            }
        }
    }
}

impl Default for TrustedProxies {
    /// Believes this machine.
    fn default() -> Self {
        Self::loopback()
    }
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    text.parse::<IpAddr>().ok().map(|addr| addr.to_canonical())
}

/// Whether anything names a client, in any spelling that an upstream might take for it.
pub(super) fn has_claims(headers: &HeaderMap) -> bool {
    headers.keys().any(is_claim)
}

/// Drops what names a client.
pub(super) fn drop_claims(headers: &mut HeaderMap) {
    let claims: Vec<_> = headers
        .keys()
        .filter(|name| is_claim(name))
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
}

fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str();
    if !name.starts_with('x') {
        return name == "forwarded";
    }
    let spelling = |wanted: &str| {
        name.len() >= wanted.len()
            && name
                .bytes()
                .zip(wanted.bytes())
                .all(|(ours, theirs)| ours == theirs || (theirs == b'-' && ours == b'_'))
    };
    spelling("x-forwarded-") || (name.len() == 9 && spelling("x-real-ip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "10.0.0.1";

    #[track_caller]
    fn check(proxies: &TrustedProxies, sent: &[(&'static str, &'static str)], client: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let found = proxies.client(&headers, PEER.parse().unwrap());
        assert_eq!(found.to_string(), client, "{sent:?}");
    }

    fn trusting(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()))
    }

    #[test]
    fn attack_36_the_nearest_address_that_is_no_proxy_is_the_client() {
        let proxies = trusting(&["10.0.0.0/8"]);
        let check = |sent, client| check(&proxies, sent, client);
        check(&[], PEER);
        check(&[("x-forwarded-for", "6.6.6.6")], "6.6.6.6");
        check(&[("x-forwarded-for", "1.1.1.1, 6.6.6.6")], "6.6.6.6");
        check(
            &[("x-forwarded-for", "1.1.1.1, 6.6.6.6, 10.9.9.9")],
            "6.6.6.6",
        );
        check(
            &[
                ("x-forwarded-for", "1.1.1.1"),
                ("x-forwarded-for", "6.6.6.6"),
            ],
            "6.6.6.6",
        );
        check(&[("x-forwarded-for", "10.1.1.1")], "10.1.1.1");
        check(&[("x-forwarded-for", "1.1.1.1, junk")], PEER);
        check(&[("x-forwarded-for", "1.2.3.4:80")], PEER);
        check(
            &[("x-real-ip", " 5.5.5.5 "), ("x-forwarded-for", "6.6.6.6")],
            "5.5.5.5",
        );
        check(
            &[("x-real-ip", "junk"), ("x-forwarded-for", "6.6.6.6")],
            "6.6.6.6",
        );
        check(&[("x-real-ip", "5.5.5.5"), ("x-real-ip", "4.4.4.4")], PEER);
        check(&[("x-real-ip", "2001:db8:0:0::1")], "2001:db8::1");
        check(&[("x-real-ip", "::ffff:1.2.3.4")], "1.2.3.4");
    }

    #[test]
    fn attack_36_a_depth_counts_from_the_right() {
        let proxies = |depth| trusting(&["10.0.0.0/8"]).with_depth(depth);
        let sent = &[("x-forwarded-for", "1.1.1.1, 2.2.2.2, 3.3.3.3")];
        check(&proxies(ForwardedDepth::First), sent, "1.1.1.1");
        check(&proxies(ForwardedDepth::FromRight(1)), sent, "3.3.3.3");
        check(&proxies(ForwardedDepth::FromRight(2)), sent, "2.2.2.2");
        check(&proxies(ForwardedDepth::FromRight(4)), sent, PEER);
        let junk = &[("x-forwarded-for", "junk, 7.7.7.7")];
        check(&proxies(ForwardedDepth::First), junk, PEER);
    }

    #[test]
    fn trust_is_by_network_and_a_mapped_address_is_its_own() {
        let proxies = TrustedProxies::loopback();
        for (addr, trusted) in [
            ("127.0.0.1", true),
            ("127.255.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("128.0.0.1", false),
            ("::2", false),
        ] {
            assert_eq!(proxies.trusts(addr.parse().unwrap()), trusted, "{addr}");
        }
    }

    #[test]
    fn attack_36_claims_are_dropped_in_every_spelling() {
        let mut headers = HeaderMap::new();
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-prefix",
            "x-forwarded-proto",
            "x_forwarded_for",
            "x-forwarded_for",
            "x-real-ip",
            "x_real_ip",
            "x-forwarder",
            "x-real-ipx",
            "x-a",
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        drop_claims(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-a", "x-forwarder", "x-real-ipx"]);
    }
}
