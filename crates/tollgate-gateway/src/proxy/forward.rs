//! A proxy on the way to upstreams: `CONNECT` for what is encrypted, whole URLs for what is not.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri, uri::PathAndQuery};
use percent_encoding::percent_decode_str;

/// A proxy that takes us to upstreams.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct ForwardProxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// Why a text names no proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected `http://host:port`, with `user:password@` before the host if need be")]
pub struct NoForwardProxy;

impl FromStr for ForwardProxy {
    type Err = NoForwardProxy;

    /// Reads `http://user:password@host:port`, where user and password may be escaped as in URLs.
    fn from_str(text: &str) -> Result<Self, NoForwardProxy> {
        let uri: Uri = text.trim().parse().map_err(|_| NoForwardProxy)?;
        let is_whole = uri.path() == "/" && uri.query().is_none();
        if uri.scheme_str() != Some("http") || !is_whole {
            return Err(NoForwardProxy);
        }
        let authority = uri.authority().ok_or(NoForwardProxy)?.as_str();
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let place = Uri::builder()
            .scheme("http")
            .authority(place)
            .path_and_query(PathAndQuery::from_static("/"))
            .build();
        let place = place.map_err(|_| NoForwardProxy)?;
        if place.host().is_none_or(str::is_empty) {
            return Err(NoForwardProxy);
        }
        Ok(Self {
            uri: place,
            authorization: user.map(basic).transpose()?,
        })
    }
}

impl ForwardProxy {
    /// Where it is.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What it is told of who we are.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

/// A user and a password, as `Proxy-Authorization` has them.
fn basic(user: &str) -> Result<HeaderValue, NoForwardProxy> {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let plain: Vec<u8> = percent_decode_str(user)
        .chain([b':'])
        .chain(percent_decode_str(password))
        .collect();
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain)));
    let mut value = value.map_err(|_| NoForwardProxy)?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForwardProxy({})", self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, Option<&str>)>) {
        let proxy = text.parse::<ForwardProxy>().ok();
        let found = proxy.as_ref().map(|proxy| {
            let told = proxy.authorization().map(|value| value.to_str().unwrap());
            (proxy.uri().to_string(), told)
        });
        let expected = expected.map(|(uri, told)| (uri.to_owned(), told));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_proxy_is_a_host_with_or_without_a_user() {
        check("http://proxy:3128", Some(("http://proxy:3128/", None)));
        let told = Some("Basic YW5uOmE6YkA=");
        check("http://ann:a:b%40@[::1]:1", Some(("http://[::1]:1/", told)));
        check("https://proxy:3128", None);
        check("socks5://proxy:1080", None);
        check("proxy:3128", None);
        check("http://proxy/path", None);
        check("http://", None);
    }

    #[test]
    fn a_password_is_not_told() {
        let proxy: ForwardProxy = "http://ann:hidden@proxy".parse().unwrap();
        let told = format!("{proxy:?} {:?}", proxy.authorization());
        assert!(!told.contains("hidden") && !told.contains("YW5u"), "{told}");
    }
}
