//! How a refused request is answered.
//!
//! The status is the rejection's. The body has one of several forms: Tyk's (the default), problem
//! details (RFC 9457), plain text, or one that you make. Except by the last, a gRPC request is
//! answered as gRPC clients read it: status 200 and the outcome in headers.
//!
//! Whatever the form, `Retry-After` is set where the rejection knows when to come back (RFC 9110
//! §10.2.3; whole seconds, rounded up, at least 1), and `WWW-Authenticate` on 401 (RFC 6750 §3).
//!
//! # Example
//!
//! ```
//! use http::Request;
//! use tollgate::{Rejection, refusal::Refusals};
//!
//! let (head, ()) = Request::new(()).into_parts();
//! let response = Refusals::problem().render(&Rejection::KeyUnknown, &head);
//! assert_eq!(response.headers()["content-type"], "application/problem+json");
//! assert_eq!(response.extensions().get::<Rejection>(), Some(&Rejection::KeyUnknown));
//! ```

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    request::Parts,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;
use tollgate_core::Rejection;

use crate::{rate_headers::number, settlement::is_grpc};

/// How refused requests are answered.
#[derive(Clone, Default)]
pub struct Refusals {
    form: Form,
    realm: Realm,
    hides_wait: bool,
}

/// Makes the response to a refused request.
pub type Render = Arc<dyn Fn(&Rejection, &Parts) -> Response<Bytes> + Send + Sync>;

#[derive(Clone, Default)]
enum Form {
    #[default]
    Tyk,
    Problem,
    Plain,
    Custom(Render),
}

#[derive(Clone)]
struct Realm(Option<Cow<'static, str>>);

impl Default for Realm {
    fn default() -> Self {
        Self(Some("tollgate".into()))
    }
}

impl Refusals {
    /// Tyk's bodies: `{"error": "…"}`, or XML where the request's own content type is XML.
    pub fn tyk() -> Self {
        Self::default()
    }

    /// Problem details, RFC 9457: `type`, `title`, `status`, `detail`, and `code` and `retry_after` of
    /// ours.
    pub fn problem() -> Self {
        Self {
            form: Form::Problem,
            ..Self::default()
        }
    }

    /// The message as plain text.
    pub fn plain() -> Self {
        Self {
            form: Form::Plain,
            ..Self::default()
        }
    }

    /// A response of your own. `Retry-After` and `WWW-Authenticate` are added where you set none.
    pub fn custom(
        render: impl Fn(&Rejection, &Parts) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Self {
            form: Form::Custom(Arc::new(render)),
            ..Self::default()
        }
    }

    /// Names this realm in `WWW-Authenticate`. The default is `tollgate`.
    #[must_use]
    pub fn with_realm(mut self, realm: impl Into<Cow<'static, str>>) -> Self {
        self.realm = Realm(Some(realm.into()));
        self
    }

    /// Sends no `WWW-Authenticate`, as Tyk does.
    #[must_use]
    pub fn without_challenge(mut self) -> Self {
        self.realm = Realm(None);
        self
    }

    /// Sends no `Retry-After`, as Tyk does.
    #[must_use]
    pub fn without_retry_after(mut self) -> Self {
        self.hides_wait = true;
        self
    }

    /// The response to a refused request, with the rejection in its extensions.
    pub fn render(&self, rejection: &Rejection, head: &Parts) -> Response<Bytes> {
        let mut response = match &self.form {
            Form::Custom(render) => render(rejection, head),
            _ if is_grpc(&head.headers) => grpc(rejection),
            Form::Tyk => tyk(rejection, head),
            Form::Problem => problem(rejection),
            Form::Plain => answer(
                rejection.status(),
                "text/plain; charset=utf-8",
                rejection.message().to_owned(),
            ),
        };
        self.add_headers(rejection, &mut response);
        response.extensions_mut().insert(rejection.clone());
        response
    }

    fn add_headers(&self, rejection: &Rejection, response: &mut Response<Bytes>) {
        if let (false, Some(wait)) = (self.hides_wait, rejection.retry_after()) {
            response
                .headers_mut()
                .entry(RETRY_AFTER)
                .or_insert_with(|| number(whole_seconds(wait)));
        }
        let challenged = rejection.status() == StatusCode::UNAUTHORIZED;
        if let (true, Some(realm)) = (challenged, &self.realm.0) {
            let error = match rejection {
                Rejection::CredentialMissing => "",
                _ => ", error=\"invalid_token\"",
            };
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(challenge) =
                HeaderValue::try_from(format!("Bearer realm=\"{quoted}\"{error}"))
            {
                response
                    .headers_mut()
                    .entry(WWW_AUTHENTICATE)
                    .or_insert(challenge);
            }
        }
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.form {
            Form::Tyk => "Tyk",
            Form::Problem => "Problem",
            Form::Plain => "Plain",
            Form::Custom(_) => "Custom(…)",
        })
    }
}

/// A wait in whole seconds, rounded up: who comes back then is not refused again for being early.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    let part = u64::from(wait.subsec_nanos() > 0);
    wait.as_secs().saturating_add(part).max(1)
}

fn answer(status: StatusCode, content_type: &'static str, body: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Tyk chooses by the *request's* content type, compared exactly, without parameters; SOAP is told in JSON.
fn tyk(rejection: &Rejection, head: &Parts) -> Response<Bytes> {
    let content_type = head
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = content_type.map(|text| text.split(';').next().unwrap_or_default());
    let xml = match media_type {
        Some("application/xml") => Some("application/xml"),
        Some("text/xml") => Some("text/xml"),
        _ => None,
    };
    let (status, message) = (rejection.status(), rejection.message());
    match xml {
        Some(content_type) => {
            let declaration = "<?xml version = \"1.0\" encoding = \"UTF-8\"?>";
            answer(
                status,
                content_type,
                format!("{declaration}\n<error>{}</error>\n", xml_text(message)),
            )
        }
        None => answer(status, "application/json", tyk_json(message)),
    }
}

/// In one allocation where nothing of the message has to be escaped, as in none of ours.
fn tyk_json(message: &str) -> String {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\<>&=".contains(&byte);
    if message.bytes().all(is_plain) {
        ["{\n    \"error\": \"", message, "\"\n}"].concat()
    } else {
        format!("{{\n    \"error\": \"{}\"\n}}", json_text(message))
    }
}

/// Text between the quotes of a JSON string, with the escapes that Go's templates have for scripts, so as Tyk's
/// refusals have it: it ends no element of a page either. An apostrophe has none, as JSON knows none for it.
pub fn json_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '<' | '>' | '&' | '=' | '\0'..' ' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Text between the tags of XML, escaped as Go does it, so as Tyk's refusals have it.
pub fn xml_text(text: &str) -> String {
    let escape = |c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        c => String::from(c),
    };
    text.chars().map(escape).collect()
}

fn problem(rejection: &Rejection) -> Response<Bytes> {
    let kind = match rejection {
        Rejection::RateLimited { .. } | Rejection::QuotaExceeded { .. } => {
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        }
        _ => "about:blank",
    };
    let status = rejection.status();
    let mut problem = json!({
        "type": kind,
        "title": status.canonical_reason().unwrap_or("Refused"),
        "status": status.as_u16(),
        "detail": rejection.message(),
        "code": rejection.code(),
    });
    if let Some(wait) = rejection.retry_after() {
        problem["retry_after"] = whole_seconds(wait).into();
    }
    answer(status, "application/problem+json", problem.to_string())
}

/// A trailers-only response: the outcome of a call that was never begun.
fn grpc(rejection: &Rejection) -> Response<Bytes> {
    const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');
    let mut response = answer(StatusCode::OK, "application/grpc", String::new());
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("grpc-status"),
        grpc_status(rejection).into(),
    );
    let message = utf8_percent_encode(rejection.message(), MESSAGE).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    response
}

/// The gRPC status that says the same (gRPC documentation: *Status codes*).
fn grpc_status(rejection: &Rejection) -> u64 {
    match rejection {
        Rejection::QuotaExceeded { .. } => 8,
        _ => match rejection.status() {
            StatusCode::BAD_REQUEST => 3,
            StatusCode::NOT_FOUND => 5,
            StatusCode::FORBIDDEN => 7,
            StatusCode::TOO_MANY_REQUESTS => 8,
            StatusCode::SERVICE_UNAVAILABLE => 14,
            StatusCode::UNAUTHORIZED => 16,
            status if status.is_client_error() => 9,
            _ => 13,
        },
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tollgate_core::rejection::LimitOwner;

    use super::*;

    fn head(content_type: Option<&str>) -> Parts {
        let mut request = Request::builder();
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(refusals: &Refusals, asked: Option<&str>, content_type: &str, body: &str) {
        let response = refusals.render(&Rejection::KeyUnknown, &head(asked));
        assert_eq!(response.headers()[CONTENT_TYPE], content_type);
        assert_eq!(response.body(), body);
    }

    #[test]
    fn tyk_answers_in_json_or_xml() {
        let json = "{\n    \"error\": \"Access to this API has been disallowed\"\n}";
        let xml = "<?xml version = \"1.0\" encoding = \"UTF-8\"?>\n\
                   <error>Access to this API has been disallowed</error>\n";
        let tyk = Refusals::tyk();
        check(&tyk, None, "application/json", json);
        check(&tyk, Some("text/plain"), "application/json", json);
        check(&tyk, Some("TEXT/XML"), "application/json", json);
        check(&tyk, Some("text/xml; charset=UTF-8"), "text/xml", xml);
        check(&tyk, Some("application/soap+xml"), "application/json", json);
    }

    #[test]
    fn a_message_can_write_neither_json_nor_xml() {
        let rejection = Rejection::custom("x", StatusCode::FORBIDDEN, "it's <\"&\n");
        let json = Refusals::tyk().render(&rejection, &head(None));
        assert_eq!(
            json.body(),
            "{\n    \"error\": \"it's \\u003C\\\"\\u0026\\u000A\"\n}"
        );
        let read: serde_json::Value = serde_json::from_slice(json.body()).unwrap();
        assert_eq!(read["error"], rejection.message());
        let xml = Refusals::tyk().render(&rejection, &head(Some("text/xml")));
        assert!(
            xml.body()
                .ends_with(b"<error>it&#39;s &lt;&#34;&amp;\n</error>\n")
        );
    }

    #[test]
    fn waits_are_rounded_up() {
        for (wait, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (2900, 3)] {
            assert_eq!(
                whole_seconds(Duration::from_millis(wait)),
                seconds,
                "{wait} ms"
            );
        }
    }

    #[test]
    fn problem_details_name_the_code() {
        let rejection = Rejection::RateLimited {
            limit: LimitOwner::Key,
            retry_after: Duration::from_millis(2900),
        };
        let response = Refusals::problem().render(&rejection, &head(None));
        let problem: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(problem["status"], 429);
        assert_eq!(problem["code"], "key_rate_limited");
        assert_eq!(problem["retry_after"], 3);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
        let response = Refusals::tyk()
            .without_retry_after()
            .render(&rejection, &head(None));
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn grpc_is_told_in_its_own_way() {
        for refusals in [Refusals::tyk(), Refusals::problem(), Refusals::plain()] {
            let response = refusals.render(
                &Rejection::CredentialMissing,
                &head(Some("application/grpc+proto")),
            );
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["grpc-status"], "16");
            assert_eq!(
                response.headers()["grpc-message"],
                "Authorization field missing"
            );
        }
        assert!(!is_grpc(&head(Some("application/grpc-web")).headers));
    }

    #[test]
    fn a_401_challenges() {
        let challenge = |rejection, refusals: Refusals| {
            let response = refusals.render(&rejection, &head(None));
            response
                .headers()
                .get(WWW_AUTHENTICATE)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let missing = challenge(
            Rejection::CredentialMissing,
            Refusals::tyk().with_realm("a \"b\""),
        );
        assert_eq!(missing.as_deref(), Some("Bearer realm=\"a \\\"b\\\"\""));
        let expired = challenge(Rejection::KeyExpired, Refusals::tyk());
        assert_eq!(
            expired.as_deref(),
            Some("Bearer realm=\"tollgate\", error=\"invalid_token\"")
        );
        assert_eq!(
            challenge(Rejection::KeyExpired, Refusals::tyk().without_challenge()),
            None
        );
        assert_eq!(challenge(Rejection::KeyUnknown, Refusals::tyk()), None);
    }
}
