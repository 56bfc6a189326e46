//! Forms in the bodies of requests, for texts of headers that name what is in them.

use http::{Method, header::CONTENT_TYPE, request::Parts};
use tollgate::{Rejection, context::FormData};

use super::unread;
use crate::serve::RequestBody;

/// The longest form that is read, in bytes. A longer one is sent on, and nothing of it is known.
const LONGEST: usize = 1 << 20;

/// How many fields a form may have: the shortest take many times what they take in the body. Of one that has more
/// nothing is known either.
const MOST_FIELDS: usize = 16_384;

/// Reads the form that a request may bring, and puts it into the extensions. The body is sent on as it
/// came.
///
/// # Errors
///
/// Fails where the body breaks off.
pub async fn read(head: &mut Parts, body: &mut RequestBody) -> Result<(), Rejection> {
    if !is_form(head) {
        return Ok(());
    }
    let beginning = body.beginning(LONGEST).await.map_err(|err| unread(&err))?;
    if let (true, Ok(text)) = (beginning.is_whole, str::from_utf8(&beginning.bytes))
        && has_few_fields(text)
    {
        head.extensions.insert(FormData::parse(text));
    }
    Ok(())
}

fn has_few_fields(form: &str) -> bool {
    form.split('&').nth(MOST_FIELDS).is_none()
}

/// Forms come with the methods that Go reads them of.
fn is_form(head: &Parts) -> bool {
    let content_type = head.headers.get(CONTENT_TYPE);
    let media_type = content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split(';').next());
    let is_form = |name: &str| {
        name.trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    };
    media_type.is_some_and(is_form)
        && [Method::POST, Method::PUT, Method::PATCH].contains(&head.method)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(method: Method, content_type: &str, expected: bool) {
        let request = Request::builder().method(&method);
        let request = request.header(CONTENT_TYPE, content_type).body(());
        let (head, ()) = request.expect("a request").into_parts();
        assert_eq!(is_form(&head), expected, "{method} {content_type}");
    }

    #[test]
    fn a_form_of_too_many_fields_is_not_read() {
        let form = vec!["a="; MOST_FIELDS].join("&");
        assert!(has_few_fields(&form));
        assert!(!has_few_fields(&format!("{form}&a=")));
    }

    #[test]
    fn forms_are_told_by_their_media_type() {
        check(Method::POST, "application/x-www-form-urlencoded", true);
        check(
            Method::PUT,
            "Application/X-WWW-Form-URLEncoded; charset=utf-8",
            true,
        );
        check(Method::POST, "application/json", false);
        check(Method::DELETE, "application/x-www-form-urlencoded", false);
    }
}
