//! Where a request carries its token: [`TokenSource`].
//!
//! [`SessionLayer`](crate::session::SessionLayer) asks its sources in the order in which they were
//! written; the first that has a token decides, and the others are not looked at. A token that comes
//! twice in one source, with two values, is refused: which one is meant can not be told. `Bearer` is cut
//! off wherever the token came from.
//!
//! # Example
//!
//! A source of your own:
//!
//! ```
//! use std::borrow::Cow;
//! use http::request::Parts;
//! use tollgate::{Rejection, token_source::TokenSource};
//!
//! /// The first segment of the path.
//! struct PathSource;
//!
//! impl TokenSource for PathSource {
//!     fn find<'a>(&self, head: &'a Parts) -> Result<Option<Cow<'a, str>>, Rejection> {
//!         Ok(head.uri.path().split('/').nth(1).filter(|segment| !segment.is_empty()).map(Cow::from))
//!     }
//! }
//! # let head = http::Request::get("/k1/x").body(()).unwrap().into_parts().0;
//! # assert_eq!(PathSource.find(&head).unwrap().unwrap(), "k1");
//! ```

use std::{borrow::Cow, sync::Arc};

use http::{
    HeaderName, HeaderValue, Uri,
    header::{AUTHORIZATION, COOKIE},
    request::Parts,
    uri::PathAndQuery,
};
use tollgate_core::{Rejection, token::is_visible, variables::form_pair};

/// Finds a token in the head of a request.
pub trait TokenSource: Send + Sync + 'static {
    /// The token, or `None` where this source has none.
    ///
    /// # Errors
    ///
    /// [`Rejection::CredentialMalformed`] where what is there can not be a token.
    fn find<'a>(&self, head: &'a Parts) -> Result<Option<Cow<'a, str>>, Rejection>;

    /// The header that tells all: where it comes once, and its value is one word, that is the token. `None`
    /// for a source that looks elsewhere.
    fn header(&self) -> Option<&HeaderName> {
        None
    }

    /// Takes the token out of the request, so that the service does not see it. Called where the layer
    /// was told to, once the request may pass.
    fn remove(&self, head: &mut Parts) {
        let _ = head;
    }

    /// The source as one of a list.
    fn shared(self) -> Arc<dyn TokenSource>
    where
        Self: Sized,
    {
        Arc::new(self)
    }
}

/// A token in a header, with or without `Bearer` before it.
///
/// The scheme is read in any case and with any space behind it, as RFC 9110 §11.4 has it.
#[derive(Clone, Debug)]
pub struct HeaderSource {
    name: HeaderName,
    scheme: Scheme,
}

#[derive(Clone, Copy, Debug)]
enum Scheme {
    /// `Bearer` is cut off where it stands.
    Optional,
    /// What has no `Bearer` is no token.
    Required,
}

impl HeaderSource {
    /// The token in this header; `Bearer` before it is cut off.
    pub fn new(name: HeaderName) -> Self {
        Self {
            name,
            scheme: Scheme::Optional,
        }
    }

    /// The token in `Authorization: Bearer …` (RFC 6750 §2.1). Other schemes are not ours: this source
    /// then has no token.
    pub fn bearer() -> Self {
        Self {
            name: AUTHORIZATION,
            scheme: Scheme::Required,
        }
    }
}

impl Default for HeaderSource {
    /// `Authorization`, with or without `Bearer`, as Tyk.
    fn default() -> Self {
        Self::new(AUTHORIZATION)
    }
}

impl TokenSource for HeaderSource {
    fn find<'a>(&self, head: &'a Parts) -> Result<Option<Cow<'a, str>>, Rejection> {
        let Some(first) = head.headers.get(&self.name) else {
            return Ok(None);
        };
        // Most often no header comes twice.
        if head.headers.keys_len() != head.headers.len() {
            let mut values = head.headers.get_all(&self.name).iter();
            if values.any(|other| other != first) {
                return Err(Rejection::CredentialMalformed);
            }
        }
        // Not `to_str`, which looks at one byte at a time.
        let text = str::from_utf8(first.as_bytes());
        let text = text.map_err(|_| Rejection::CredentialMalformed)?;
        let is_one_word = is_visible(text.as_bytes());
        let token = match self.scheme {
            Scheme::Optional if is_one_word => Some(text),
            Scheme::Required if is_one_word => None,
            scheme => in_scheme(text, scheme)?,
        };
        Ok(token.filter(|token| !token.is_empty()).map(Cow::from))
    }

    #[inline]
    fn header(&self) -> Option<&HeaderName> {
        matches!(self.scheme, Scheme::Optional).then_some(&self.name)
    }

    fn remove(&self, head: &mut Parts) {
        head.headers.remove(&self.name);
    }
}

/// The token of a value that holds more than visible characters.
fn in_scheme(text: &str, scheme: Scheme) -> Result<Option<&str>, Rejection> {
    if !text.is_ascii() {
        return Err(Rejection::CredentialMalformed);
    }
    let text = text.trim();
    match (after_bearer(text), scheme) {
        (Some(token), _) if token.contains(',') => Err(Rejection::CredentialMalformed),
        (Some(token), _) => Ok(Some(token)),
        (None, Scheme::Optional) => Ok(Some(text)),
        (None, Scheme::Required) => Ok(None),
    }
}

fn after_bearer(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_at_checked("bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer") && rest.starts_with([' ', '\t']);
    is_bearer.then(|| rest.trim_start())
}

/// A token in the query, as `?api_key=…`.
///
/// The name is compared exactly; the value is decoded as a form's is (`+` is a space). A pair with a
/// broken escape or with `;` in it is passed over, as Go passes it over.
#[derive(Clone, Debug)]
pub struct QuerySource {
    name: String,
}

impl QuerySource {
    /// The token in this parameter.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    fn is_mine(&self, pair: &str) -> bool {
        form_pair(pair).is_some_and(|(name, _)| name == self.name)
    }
}

impl TokenSource for QuerySource {
    fn find<'a>(&self, head: &'a Parts) -> Result<Option<Cow<'a, str>>, Rejection> {
        let pairs = head
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(form_pair);
        only(
            pairs
                .filter(|(name, _)| *name == self.name)
                .map(|(_, value)| value),
        )
    }

    fn remove(&self, head: &mut Parts) {
        let Some(query) = head.uri.query() else {
            return;
        };
        if !query.split('&').any(|pair| self.is_mine(pair)) {
            return;
        }
        let rest: Vec<_> = query
            .split('&')
            .filter(|pair| !self.is_mine(pair))
            .collect();
        let path = head.uri.path();
        let target = if rest.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{}", rest.join("&"))
        };
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.path_and_query = PathAndQuery::try_from(target).ok();
        head.uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// A token in a cookie (RFC 6265 §4.2).
///
/// The name is compared exactly; double quotes around the value are cut off.
#[derive(Clone, Debug)]
pub struct CookieSource {
    name: String,
}

impl CookieSource {
    /// The token in this cookie.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

impl TokenSource for CookieSource {
    fn find<'a>(&self, head: &'a Parts) -> Result<Option<Cow<'a, str>>, Rejection> {
        only(
            cookies(head)
                .filter(|(name, _)| *name == self.name)
                .map(|(_, value)| Cow::from(value)),
        )
    }

    fn remove(&self, head: &mut Parts) {
        let is_mine = |pair: &[u8]| name_and_value(pair).0 == self.name.as_bytes();
        let lines: Vec<_> = head.headers.get_all(COOKIE).iter().cloned().collect();
        if !lines.iter().flat_map(pairs).any(is_mine) {
            return;
        }
        head.headers.remove(COOKIE);
        for line in lines {
            let rest: Vec<_> = pairs(&line).filter(|pair| !is_mine(pair)).collect();
            let text = HeaderValue::from_bytes(&rest.join(&b"; "[..]));
            if let (false, Ok(text)) = (rest.is_empty(), text) {
                head.headers.append(COOKIE, text);
            }
        }
        // Where nothing is left the header stays, empty, as in Tyk.
        let none = HeaderValue::from_static("");
        head.headers.entry(COOKIE).or_insert(none);
    }
}

/// Names and values of a request's cookies, in order. As in Go, one whose name is no token or whose value holds what
/// no value may is none, and those beside it are not touched by that.
pub(crate) fn cookies(head: &Parts) -> impl Iterator<Item = (&str, &str)> {
    let lines = head.headers.get_all(COOKIE).iter();
    lines.flat_map(pairs).filter_map(|pair| {
        let (name, value) = name_and_value(pair);
        let unquoted = value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""));
        let value = unquoted.unwrap_or(value);
        let is_of_name =
            |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let is_of_value = |byte: &u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(byte);
        let is_cookie =
            !name.is_empty() && name.iter().all(is_of_name) && value.iter().all(is_of_value);
        let (name, value) = (str::from_utf8(name).ok()?, str::from_utf8(value).ok()?);
        is_cookie.then_some((name, value))
    })
}

/// The pairs of a line of cookies.
fn pairs(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes()
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii)
}

/// What is before the first equals sign, and what is behind it.
fn name_and_value(pair: &[u8]) -> (&[u8], &[u8]) {
    let end = pair.iter().position(|byte| *byte == b'=');
    let (name, value) = pair.split_at(end.unwrap_or(pair.len()));
    (name.trim_ascii(), value.get(1..).unwrap_or_default())
}

/// The one value that all are; empty ones do not count.
fn only<'a>(values: impl Iterator<Item = Cow<'a, str>>) -> Result<Option<Cow<'a, str>>, Rejection> {
    let mut values = values.filter(|value| !value.is_empty());
    let Some(first) = values.next() else {
        return Ok(None);
    };
    if values.any(|other| other != first) {
        return Err(Rejection::CredentialMalformed);
    }
    Ok(Some(without_scheme(first)).filter(|token| !token.is_empty()))
}

fn without_scheme(token: Cow<'_, str>) -> Cow<'_, str> {
    match token {
        Cow::Borrowed(text) => after_bearer(text).unwrap_or(text).into(),
        Cow::Owned(text) => after_bearer(&text)
            .map(str::to_owned)
            .unwrap_or(text)
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(source: &dyn TokenSource, head: &Parts, found: Result<Option<&str>, Rejection>) {
        let token = source.find(head);
        assert_eq!(
            token.as_ref().map(|token| token.as_deref()),
            found.as_ref().map(|token| *token)
        );
    }

    /// Attack 3.
    #[test]
    fn attack_03_the_scheme_is_read_in_every_spelling() {
        let source = HeaderSource::default();
        for spelling in [
            "k",
            "Bearer k",
            "bearer k",
            "BEARER   k",
            "Bearer\tk",
            " Bearer k ",
        ] {
            check(
                &source,
                &head("/", &[("authorization", spelling)]),
                Ok(Some("k")),
            );
        }
        check(
            &source,
            &head("/", &[("authorization", "Basic k")]),
            Ok(Some("Basic k")),
        );
        check(
            &source,
            &head("/", &[("authorization", "Bearer ")]),
            Ok(Some("Bearer")),
        );
        check(&source, &head("/", &[("authorization", "")]), Ok(None));
        check(
            &HeaderSource::bearer(),
            &head("/", &[("authorization", "k")]),
            Ok(None),
        );
    }

    /// Attack 2.
    #[test]
    fn attack_02_two_tokens_in_one_place_are_refused() {
        let malformed = Err(Rejection::CredentialMalformed);
        let source = HeaderSource::default();
        check(
            &source,
            &head("/", &[("authorization", "a"), ("authorization", "b")]),
            malformed.clone(),
        );
        check(
            &source,
            &head("/", &[("authorization", "a"), ("authorization", "a")]),
            Ok(Some("a")),
        );
        check(
            &source,
            &head("/", &[("authorization", "Bearer a, Bearer b")]),
            malformed.clone(),
        );
        check(
            &QuerySource::new("k"),
            &head("/?k=a&k=b", &[]),
            malformed.clone(),
        );
        check(
            &CookieSource::new("k"),
            &head("/", &[("cookie", "k=a; k=b")]),
            malformed,
        );
    }

    /// Attack 5.
    #[test]
    fn attack_05_a_query_is_decoded_in_one_way() {
        let source = QuerySource::new("api key");
        check(&source, &head("/?api+key=a%2Bb", &[]), Ok(Some("a+b")));
        check(&source, &head("/?api%20key=a+b", &[]), Ok(Some("a b")));
        check(&source, &head("/?api+key=%zz&x=1", &[]), Ok(None));
        check(&source, &head("/?api+key=a;b", &[]), Ok(None));
        check(&source, &head("/?API+key=a", &[]), Ok(None));
        check(&source, &head("/?api+key=", &[]), Ok(None));
        check(&source, &head("/?api+key=Bearer%20k", &[]), Ok(Some("k")));
        check(&source, &head("/?api+key=bearer+k", &[]), Ok(Some("k")));
        check(&source, &head("/?api+key=bearer+", &[]), Ok(None));
    }

    /// Attack 6.
    #[test]
    fn attack_06_cookies_of_one_name_must_agree() {
        let source = CookieSource::new("tok");
        check(
            &source,
            &head("/", &[("cookie", "tok2=x; tok=\"a\"")]),
            Ok(Some("a")),
        );
        check(
            &source,
            &head("/", &[("cookie", "tok=a"), ("cookie", "tok=a")]),
            Ok(Some("a")),
        );
        check(
            &source,
            &head("/", &[("cookie", "tok=a"), ("cookie", "tok=b")]),
            Err(Rejection::CredentialMalformed),
        );
    }

    #[test]
    fn a_broken_cookie_hides_no_other() {
        let source = CookieSource::new("tok");
        for (line, token) in [
            ("name=Jos\u{e9}; tok=a", Some("a")),
            ("x=\"y; tok=a", Some("a")),
            ("tok = a b", Some(" a b")),
            ("tok=\"a", None),
            ("tok=a\\b", None),
            ("tok=\u{e9}", None),
        ] {
            let mut head = head("/", &[]);
            let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            head.headers.insert(COOKIE, line.clone());
            check(&source, &head, Ok(token));
            source.remove(&mut head);
            let left = String::from_utf8_lossy(head.headers[COOKIE].as_bytes()).into_owned();
            assert!(!left.contains("tok"), "{line:?}: {left}");
        }
    }

    /// Attack 39.
    #[test]
    fn attack_39_what_is_removed_is_gone_and_the_rest_stays_as_it_was() {
        let mut query = head("/p?z=%7e&k=1&a=b+c&flag", &[]);
        QuerySource::new("k").remove(&mut query);
        assert_eq!(query.uri, "/p?z=%7e&a=b+c&flag");
        let mut only = head("/p?k=1", &[]);
        QuerySource::new("k").remove(&mut only);
        assert_eq!(only.uri, "/p");

        let mut cookie = head("/", &[("cookie", "a=1; tok=k; token2=x")]);
        CookieSource::new("tok").remove(&mut cookie);
        assert_eq!(cookie.headers[COOKIE], "a=1; token2=x");
        let mut lone = head("/", &[("cookie", "tok=k")]);
        CookieSource::new("tok").remove(&mut lone);
        assert_eq!(lone.headers[COOKIE], "");
    }
}
