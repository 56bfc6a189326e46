//! What a request is called, so that the logs of client, gateway and upstream can be put side by side.

use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate::context::RequestId;

/// How requests get their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestIds {
    /// The header that carries the name on to the upstream, and back to the client.
    header: Option<HeaderName>,
}

/// Where a client may name a request if nothing else is said.
static USUAL: HeaderName = HeaderName::from_static("x-request-id");

/// The longest name that is taken from a client.
const LONGEST: usize = 128;

impl RequestIds {
    /// The header's name as it stands in the configuration, which has looked at it; empty for none.
    pub(crate) fn new(header: &str) -> Self {
        Self {
            header: HeaderName::try_from(header).ok(),
        }
    }

    /// Whether names are handed on.
    pub(crate) fn are_told(&self) -> bool {
        self.header.is_some()
    }

    /// The name of a request: the client's, where it gave a fit one, else a fresh one. It is left in the
    /// head where names are handed on.
    pub(crate) fn name(&self, headers: &mut HeaderMap) -> HeaderValue {
        let header = self.header.as_ref().unwrap_or(&USUAL);
        let mut given = headers.get_all(header).iter();
        let only = given.next().filter(|_| given.next().is_none());
        if let Some(id) = only.filter(|id| is_fit(id)) {
            return id.clone();
        }
        let id = fresh();
        if let Some(header) = &self.header {
            headers.insert(header, id.clone());
        }
        id
    }

    /// Tells the client.
    pub(crate) fn tell(&self, id: &HeaderValue, headers: &mut HeaderMap) {
        if let Some(header) = &self.header {
            headers.insert(header, id.clone());
        }
    }
}

/// Whether a client's name is short, and of characters that mean nothing to any log.
fn is_fit(id: &HeaderValue) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(is_plain)
}

/// 128 random bits, in hexadecimal.
fn fresh() -> HeaderValue {
    let bits = u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..));
    let text = format!("{bits:032x}");
    HeaderValue::try_from(text).expect("hexadecimal digits are ASCII")
}

/// A random UUID (RFC 9562, version 4), for texts that name what a request is called.
pub(crate) fn random() -> RequestId {
    let bits = u128::from(fastrand::u64(..)) << 64 | u128::from(fastrand::u64(..));
    let bits = bits & !(0xf << 76 | 0xc << 60) | 0x4 << 76 | 0x8 << 60;
    let text = format!("{bits:032x}");
    let parts = [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ];
    RequestId(parts.join("-").into())
}

/// The id of the trace that a client's `traceparent` names (W3C Trace Context, version 00 and later).
pub(crate) fn trace_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let parent = headers.get("traceparent")?.as_bytes();
    let is_hex = |bytes: &[u8]| {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        bytes.iter().all(is_digit)
    };
    let [v0, v1, b'-', rest @ ..] = parent else {
        return None;
    };
    let (trace, rest) = rest.split_at_checked(32)?;
    let [b'-', rest @ ..] = rest else { return None };
    let (span, rest) = rest.split_at_checked(16)?;
    let is_right =
        is_hex(&[*v0, *v1]) && is_hex(trace) && is_hex(span) && rest.first() == Some(&b'-');
    let is_none = trace.iter().all(|byte| *byte == b'0');
    HeaderValue::from_bytes(trace)
        .ok()
        .filter(|_| is_right && !is_none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_is_a_uuid_of_version_4() {
        let form = regex::Regex::new(
            r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
        );
        let form = form.unwrap();
        for _ in 0..100 {
            let RequestId(id) = random();
            assert!(form.is_match(&id), "{id}");
        }
        assert_ne!(random(), random());
    }

    #[track_caller]
    fn check(header: &str, given: &[&'static str], taken: Option<&str>) {
        let ids = RequestIds::new(header);
        let mut headers = HeaderMap::new();
        let name = if header.is_empty() {
            "x-request-id"
        } else {
            header
        };
        for id in given {
            let name = HeaderName::try_from(name).unwrap();
            headers.append(name, HeaderValue::from_static(id));
        }
        let id = ids.name(&mut headers);
        match taken {
            Some(taken) => assert_eq!(id, taken),
            None => assert!(id.len() == 32 && !given.iter().any(|given| id == *given)),
        }
        if ids.are_told() {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [&id]);
        }
    }

    #[test]
    fn a_client_may_name_its_request_with_plain_characters() {
        check("", &["abc-1.2:3"], Some("abc-1.2:3"));
        check("x-correlation", &["abc"], Some("abc"));
        check("x-correlation", &[], None);
        check("", &[""], None);
        check("x-correlation", &["a b"], None);
        check("x-correlation", &["a\"b"], None);
        check("x-correlation", &["a", "b"], None);
    }

    #[track_caller]
    fn check_trace(parent: &'static str, trace: Option<&str>) {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("traceparent"),
            HeaderValue::from_static(parent),
        )]);
        assert_eq!(
            trace_of(&headers),
            trace.map(|trace| trace.try_into().unwrap())
        );
    }

    #[test]
    fn a_trace_is_named_in_one_form() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        check_trace(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            Some(trace),
        );
        check_trace(
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            None,
        );
        check_trace(
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            None,
        );
        check_trace("00-4bf92f3577b34da6a3ce929d0e0e4736", None);
        check_trace("secret", None);
    }
}
