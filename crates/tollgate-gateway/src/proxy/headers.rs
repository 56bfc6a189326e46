//! Headers that end at each hop, and those that tell of the client.
//!
//! By RFC 9110 §7.6.1 the fields that `Connection` names, `Connection` itself, `Keep-Alive`,
//! `Proxy-Connection`, `TE`, `Transfer-Encoding` and `Upgrade` do not go on; with Tyk,
//! `Proxy-Authenticate` and `Proxy-Authorization` do not either. `TE: trailers` stays, as gRPC needs
//! it, and so does `Trailer`, which announces what does go on. `Host` and `Content-Length` are not
//! taken out at a client's wish. No `Via` is added, as Tyk adds none.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, Entry, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE,
        USER_AGENT,
    },
};

use crate::serve::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Takes out what ends at this hop, and returns the protocol that an upgrade is asked to.
pub(crate) fn take_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if !headers.keys().any(is_hop_by_hop) {
        return None;
    }
    let upgrade = wants_upgrade(headers);
    let keeps_trailers = has_token(headers, &TE, "trailers");
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in [
        CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        http::header::PROXY_AUTHENTICATE,
        http::header::PROXY_AUTHORIZATION,
    ] {
        headers.remove(name);
    }
    if keeps_trailers {
        headers.insert(TE, TRAILERS);
    }
    upgrade
}

/// Writes that an upgrade is asked for, or was made.
pub(crate) fn put_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names
        .map(<[u8]>::trim_ascii)
        .filter(|name| !is_usual_option(name))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !matches!(*name, HOST | CONTENT_LENGTH))
        .collect()
}

fn is_usual_option(name: &[u8]) -> bool {
    name.is_empty()
        || [&b"keep-alive"[..], b"close", b"upgrade"]
            .iter()
            .any(|usual| name.eq_ignore_ascii_case(usual))
}

/// The one protocol a client wants to go over to.
///
/// Another version of HTTP, or TLS, is none: what would be said in it could not be checked.
fn wants_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let protocol = protocols.next()?;
    let name = protocol.as_bytes().trim_ascii().to_ascii_lowercase();
    let hides = [&b"h2"[..], b"h3", b"http", b"tls"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    let is_one = protocols.next().is_none() && !name.is_empty() && !name.contains(&b',');
    (is_one && !hides && has_token(headers, &CONNECTION, "upgrade")).then(|| protocol.clone())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|part| {
            let part = part.split(|byte| *byte == b';').next().unwrap_or_default();
            part.trim_ascii().eq_ignore_ascii_case(token.as_bytes())
        })
}

/// Which headers tell the upstream of the client.
///
/// What the client sent of them itself stays only where it comes from a trusted proxy; that is decided
/// where the request is taken in (see [`serve`](crate::serve)).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForwardedHeaders {
    /// Appends the peer's address to `X-Forwarded-For`. Tyk does.
    pub x_forwarded_for: bool,
    /// Sets `X-Forwarded-Proto`, unless a trusted proxy did.
    pub x_forwarded_proto: bool,
    /// Sets `X-Forwarded-Host`, unless a trusted proxy did.
    pub x_forwarded_host: bool,
    /// Sets `X-Real-IP` to the client's address.
    pub x_real_ip: bool,
    /// Appends to `Forwarded` (RFC 7239).
    pub forwarded: bool,
}

impl Default for ForwardedHeaders {
    /// `X-Forwarded-For` only, as Tyk.
    fn default() -> Self {
        Self {
            x_forwarded_for: true,
            x_forwarded_proto: false,
            x_forwarded_host: false,
            x_real_ip: false,
            forwarded: false,
        }
    }
}

impl ForwardedHeaders {
    /// Tells the upstream of the client. `HOST` must still be the client's.
    pub(super) fn put(&self, headers: &mut HeaderMap, peer: &Peer, client: Option<IpAddr>) {
        if self.x_forwarded_for {
            append(headers, X_FORWARDED_FOR, peer.ip_text());
        }
        if self.x_forwarded_proto && !headers.contains_key(X_FORWARDED_PROTO) {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme()));
        }
        if self.x_forwarded_host
            && !headers.contains_key(X_FORWARDED_HOST)
            && let Some(host) = headers.get(HOST).cloned()
        {
            headers.insert(X_FORWARDED_HOST, host);
        }
        if self.x_real_ip {
            let client = client.unwrap_or(peer.addr().ip());
            if let Ok(client) = HeaderValue::try_from(client.to_string()) {
                headers.insert(X_REAL_IP, client);
            }
        }
        if self.forwarded
            && let Some(element) = forwarded_element(headers, peer)
        {
            append(headers, FORWARDED, &element);
        }
    }
}

fn forwarded_element(headers: &HeaderMap, peer: &Peer) -> Option<HeaderValue> {
    let by = match peer.addr().ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("\"[{ip}]\""),
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| !host.contains(['"', '\\']));
    let host = host.map_or_else(String::new, |host| format!(";host=\"{host}\""));
    HeaderValue::try_from(format!("for={by}{host};proto={}", peer.scheme())).ok()
}

/// Puts a value behind those that are there, in one line.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let mut line = Vec::new();
    let mut there = match headers.entry(name) {
        Entry::Vacant(place) => {
            place.insert(value.clone());
            return;
        }
        Entry::Occupied(place) => place,
    };
    for before in there.iter() {
        if !before.is_empty() {
            line.extend_from_slice(before.as_bytes());
            line.extend_from_slice(b", ");
        }
    }
    line.extend_from_slice(value.as_bytes());
    if let Ok(line) = HeaderValue::from_maybe_shared(bytes::Bytes::from(line)) {
        there.insert(line);
    }
}

/// Sets `User-Agent` where the client sent none; an empty one of the client's makes it absent.
pub(super) fn put_user_agent(headers: &mut HeaderMap, own: Option<&HeaderValue>) {
    match (headers.get(USER_AGENT), own) {
        (Some(theirs), _) if theirs.is_empty() => {
            headers.remove(USER_AGENT);
        }
        (None, Some(own)) => {
            headers.insert(USER_AGENT, own.clone());
        }
        _ => {}
    }
}

/// Takes out of a request what ends at this hop or is answered here, in one look where there is nothing of it.
/// Returns the protocol that an upgrade is asked to.
pub(super) fn take_own(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let is_own = |name: &HeaderName| is_hop_by_hop(name) || *name == EXPECT;
    if !headers.keys().any(is_own) {
        return None;
    }
    take_expectation(headers);
    take_hop_by_hop(headers)
}

/// `Expect: 100-continue` is answered here, where the body is first asked for, and the body follows the
/// head at once.
fn take_expectation(headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get(EXPECT).is_some_and(is_ours) {
        headers.remove(EXPECT);
    }
}

/// The host a request was sent to, for an upstream that is to see the client's.
pub(super) fn client_host(headers: &HeaderMap, uri: &Uri) -> Option<HeaderValue> {
    let named = headers.get(HOST).cloned();
    named.or_else(|| HeaderValue::from_str(uri.authority()?.as_str()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[track_caller]
    fn check(
        sent: &[(&'static str, &'static str)],
        left: &[(&'static str, &'static str)],
    ) -> Option<String> {
        let mut headers = map(sent);
        let upgrade = take_hop_by_hop(&mut headers);
        assert_eq!(headers, map(left));
        upgrade.map(|protocol| protocol.to_str().unwrap().to_owned())
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        check(&[("x-a", "1")], &[("x-a", "1")]);
        check(
            &[
                ("connection", "keep-alive, X-Foo"),
                ("connection", "x-bar"),
                ("keep-alive", "timeout=5"),
                ("x-foo", "1"),
                ("x-bar", "1"),
                ("x-bar", "2"),
                ("proxy-connection", "close"),
                ("proxy-authorization", "Basic x"),
                ("transfer-encoding", "chunked"),
                ("te", "gzip;q=0.5"),
                ("x-a", "1"),
            ],
            &[("x-a", "1")],
        );
        check(
            &[("te", "gzip, trailers"), ("trailer", "x-t")],
            &[("te", "trailers"), ("trailer", "x-t")],
        );
    }

    #[test]
    fn framing_does_not_go_at_a_clients_wish() {
        check(
            &[
                ("connection", "Host, Content-Length"),
                ("host", "h"),
                ("content-length", "3"),
            ],
            &[("host", "h"), ("content-length", "3")],
        );
    }

    #[test]
    fn an_upgrade_needs_both_headers_and_another_kind_of_protocol() {
        let upgrade =
            |connection, protocol| check(&[("connection", connection), ("upgrade", protocol)], &[]);
        assert_eq!(
            upgrade("keep-alive, Upgrade", "websocket").as_deref(),
            Some("websocket")
        );
        assert_eq!(upgrade("upgrade", "foo").as_deref(), Some("foo"));
        for (connection, protocol) in [
            ("keep-alive", "websocket"),
            ("upgrade", "h2c"),
            ("upgrade, http2-settings", "H2C"),
            ("upgrade", "HTTP/2.0"),
            ("upgrade", "TLS/1.3"),
            ("upgrade", "websocket, h2c"),
            ("upgrade", ""),
        ] {
            assert_eq!(
                upgrade(connection, protocol),
                None,
                "{connection} {protocol}"
            );
        }
    }

    #[test]
    fn addresses_are_put_behind_those_before() {
        let mut headers = map(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
        ]);
        append(
            &mut headers,
            X_FORWARDED_FOR,
            &HeaderValue::from_static("10.0.0.1"),
        );
        assert_eq!(
            headers,
            map(&[("x-forwarded-for", "1.2.3.4, 5.6.7.8, 10.0.0.1")])
        );
    }

    #[test]
    fn a_user_agent_is_given_where_none_was_sent() {
        let own = HeaderValue::from_static("tollgate/1");
        for (sent, left) in [
            (&[][..], &[("user-agent", "tollgate/1")][..]),
            (&[("user-agent", "")][..], &[][..]),
            (&[("user-agent", "curl")][..], &[("user-agent", "curl")][..]),
        ] {
            let mut headers = map(sent);
            put_user_agent(&mut headers, Some(&own));
            assert_eq!(headers, map(left));
        }
    }
}
