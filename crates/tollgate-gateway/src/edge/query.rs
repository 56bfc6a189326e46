//! Queries as Tyk writes them once it took something out: parsed, sorted by name, and encoded anew.

use std::borrow::Cow;

use http::{Uri, request::Parts, uri::PathAndQuery};

/// Writes the query of a request anew, without the parameters of this name.
pub(crate) fn write_anew(head: &mut Parts, without: Option<&str>) {
    let Some(query) = head.uri.query() else {
        return;
    };
    let mut rest: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| Some(&**name) != without)
        .collect();
    rest.sort_by(|(one, _), (other, _)| one.cmp(other));
    let rest = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(rest)
        .finish();
    let rest = rest.replace("%7E", "~").replace('*', "%2A"); // As Go has it.
    let mark = if rest.is_empty() { "" } else { "?" };
    let target = format!("{}{mark}{rest}", head.uri.path());
    set_target(head, &target);
}

/// Gives a request another path and query.
pub(crate) fn set_target(head: &mut Parts, target: &str) {
    if let Ok(target) = PathAndQuery::try_from(target) {
        set_path_and_query(head, target);
    }
}

/// The same, where they have been read.
pub(crate) fn set_path_and_query(head: &mut Parts, target: PathAndQuery) {
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = Some(target);
    head.uri = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_query_is_sorted_and_encoded_anew() {
        let check = |target: &str, expected: &str| {
            let request = Request::get(target).body(()).expect("a request");
            let (mut head, ()) = request.into_parts();
            write_anew(&mut head, Some("k"));
            assert_eq!(head.uri, expected, "{target}");
        };
        check("/x?k=1&z=1&a=2", "/x?a=2&z=1");
        check("/x?b=2&a=2&a=1", "/x?a=2&a=1&b=2");
        check("/x?a=%7e*&k", "/x?a=~%2A");
        check("/x?k=1", "/x");
        check("/x", "/x");
    }
}
