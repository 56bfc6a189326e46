//! A request, read.

use axum::extract::Request;
use bytes::Bytes;
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

/// A request to the control API.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// The path behind `/tyk`, without escapes and without a slash at its end.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Query,
    pub(crate) body: Bytes,
}

/// The query's parameters.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first value of this name; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        let pair = self.0.iter().find(|(key, _)| key == name);
        pair.map_or("", |(_, value)| value)
    }

    /// The first value of this name that is not empty.
    pub(crate) fn given(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// Reads a body up to a bound.
pub(crate) async fn read_body(request: Request, max: usize) -> Result<Bytes, StatusCode> {
    let body = http_body_util::Limited::new(request.into_body(), max);
    let read = http_body_util::BodyExt::collect(body).await;
    read.map(http_body_util::Collected::to_bytes)
        .map_err(|err| {
            let is_long = err.is::<http_body_util::LengthLimitError>();
            if is_long {
                StatusCode::PAYLOAD_TOO_LARGE
            } else {
                StatusCode::BAD_REQUEST
            }
        })
}

/// One segment of a path without escapes; `None` where that is no text or holds a slash.
pub(crate) fn segment(raw: &str) -> Option<String> {
    let decoded = percent_decode_str(raw).decode_utf8().ok()?;
    (!decoded.contains('/')).then(|| decoded.into_owned())
}

/// The first JSON value of a body, and whether more stands behind it: some calls do not look.
pub(crate) enum Tail {
    Refused,
    Ignored,
}

/// The text of a body's JSON value; broken UTF-8 is read as U+FFFD.
pub(crate) fn json_text(body: &[u8], tail: Tail) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let value: Box<RawValue> = match tail {
        Tail::Refused => serde_json::from_str(&text).ok()?,
        Tail::Ignored => {
            let mut values = serde_json::Deserializer::from_str(&text).into_iter();
            values.next()?.ok()?
        }
    };
    Some(String::from(Box::<str>::from(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, strict: Option<&str>, lax: Option<&str>) {
        let read = |tail| json_text(body.as_bytes(), tail);
        assert_eq!(read(Tail::Refused).as_deref(), strict, "{body}");
        assert_eq!(read(Tail::Ignored).as_deref(), lax, "{body}");
    }

    #[test]
    fn what_stands_behind_the_value_is_looked_at_or_not() {
        check(r#"{"a":1}"#, Some(r#"{"a":1}"#), Some(r#"{"a":1}"#));
        check(r#"{"a":1} more"#, None, Some(r#"{"a":1}"#));
        check("null", Some("null"), Some("null"));
        check("", None, None);
        check("{", None, None);
        check("\u{feff}{}", None, None);
        check("{'a':1}", None, None);
    }
}
