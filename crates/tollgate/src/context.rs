//! `$tyk_context.x`: what a text may say of the request itself.
//!
//! | name | value |
//! |---|---|
//! | `path`, `path_parts` | the decoded path; its segments, joined by commas |
//! | `headers_<Name>`, `headers_Host` | a header's first value; the name in the capitals of Go, `-` written `_` |
//! | `cookies_<name>` | a cookie's value; `-` in the name is written `_` |
//! | `request_data` | all parameters, as `a:1;b:2,3`: those of a form where [`FormData`] is in the request's extensions, then those of the query |
//! | `request_data_<name>` | the first value of a parameter; `-` in the name is written `_` |
//! | `remote_addr` | the client's address, where [`ClientAddr`] is in the request's extensions |
//! | `request_id` | what the request is called, where [`RequestId`] is in the request's extensions |
//! | `tyk_trace_id` | the trace of the request, where [`TraceId`] is in the request's extensions |
//! | `token` | nothing, unless [`ShownToken`] is in the request's extensions: a credential has no place in a header |
//! | `trigger-0-X-Tier-0` and so on | what the trigger of a rewrite before matched, where its layer [tells it](crate::url_rewrite::UrlRewriteLayer::telling) |
//! | `rate_limit_limit`, `rate_limit_remaining`, `rate_limit_reset` | the rate that was charged last; seconds since 1970 |
//! | `quota_limit`, `quota_remaining`, `quota_reset` | the quota that was charged last |
//!
//! Any other name is empty (spec: *Context variables*).
//!
//! ```
//! use tollgate::meta_inject::MetaInjectLayer;
//!
//! let layer = MetaInjectLayer::new().request("x-path", "$tyk_context.path")?;
//! # Ok::<(), tollgate::meta_inject::InjectError>(())
//! ```

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _, net::IpAddr, sync::Arc};

use http::{HeaderMap, header::HOST, request::Parts};
use percent_encoding::percent_decode_str;
use tollgate_core::{
    rewrite::TriggerValues,
    token::Token,
    variables::{Context, form_pair},
};

use crate::{
    token_source::cookies,
    visit::{LimitKind, LimitStanding, Visit},
};

/// The client's address, for `$tyk_context.remote_addr`.
///
/// Put it into the request's extensions where you know it. What `X-Forwarded-For` says is the
/// client's word, so it is never read here: decide which proxies you trust, and put the address in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAddr(pub IpAddr);

/// The trace that a request belongs to, for `$tyk_context.tyk_trace_id`: 32 hexadecimal digits.
///
/// Whoever traces puts it into the request's extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TraceId(pub Arc<str>);

/// What the request is called, for `$tyk_context.request_id`.
///
/// Whoever names requests puts it into their extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestId(pub Arc<str>);

/// The pairs of a form in the request's body, for `$tyk_context.request_data`.
///
/// No gate reads bodies: whoever does may put this into the request's extensions.
///
/// ```
/// use tollgate::context::FormData;
///
/// let form = FormData::parse("a=1&b=x+y&a=2");
/// assert_eq!(form.first("a"), Some("1"));
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FormData(Arc<[(String, String)]>);

impl FormData {
    /// Reads a form. A pair with a broken escape or a `;` is left out.
    pub fn parse(form: &str) -> Self {
        let pairs = form.split('&').filter_map(form_pair);
        let owned = pairs.map(|(name, value)| (name.into_owned(), value.into_owned()));
        Self(owned.collect())
    }

    /// The first value of a name.
    pub fn first(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(other, _)| other == name);
        pair.map(|(_, value)| value.as_str())
    }
}

/// The token of a request, for `$tyk_context.token`.
///
/// Put it into the request's extensions where somebody asked to have it shown to the upstream.
#[derive(Clone, Debug)]
pub struct ShownToken(pub Token);

/// The context of a request at a gate: what `$tyk_context.x` stands for.
///
/// ```
/// use http::Request;
/// use tollgate::{context::RequestContext, variables::{Text, ValueStyle}, visit::Visit};
///
/// let (head, ()) = Request::get("/orders/7").body(()).unwrap().into_parts();
/// let context = RequestContext { head: &head, visit: &Visit::default() };
/// let text = Text::parse("path: $tyk_context.path")?;
/// assert_eq!(text.fill(None, &context, ValueStyle::Plain), "path: /orders/7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RequestContext<'a> {
    /// The head of the request.
    pub head: &'a Parts,
    /// What gates found out.
    pub visit: &'a Visit,
}

/// Whether a name is about limits, which are decided last.
pub(crate) fn is_about_limits(name: &str) -> bool {
    name.starts_with("rate_limit_") || name.starts_with("quota_")
}

/// Whether a rewrite's trigger tells it.
pub(crate) fn is_of_trigger(name: &str) -> bool {
    name.starts_with("trigger-")
}

/// Writes what a trigger told, where a rewrite before did.
pub(crate) fn write_trigger(visit: &Visit, name: &str, out: &mut String) {
    if let Some(triggers) = visit.notes().get::<TriggerValues>() {
        triggers.write(name, out);
    }
}

impl Context for RequestContext<'_> {
    fn write(&self, name: &str, out: &mut String) {
        if is_about_limits(name) {
            return LimitContext(self.visit).write(name, out);
        }
        if is_of_trigger(name) {
            write_trigger(self.visit, name, out);
        } else if name == "path" {
            out.push_str(&decoded_path(self.head)); // Asked for most, and mostly as it stands.
        } else if let Some(value) = self.head_value(name) {
            out.push_str(&value);
        }
    }

    /// Lists and numbers are none.
    fn text(&self, name: &str) -> Option<String> {
        let is_list = matches!(name, "path_parts" | "request_data");
        if is_list || is_about_limits(name) {
            return None;
        }
        self.head_value(name)
    }
}

impl RequestContext<'_> {
    fn head_value(&self, name: &str) -> Option<String> {
        let head = self.head;
        match name {
            "path" => Some(decoded_path(head).into_owned()),
            "path_parts" => Some(path_parts(head)),
            "remote_addr" => head
                .extensions
                .get::<ClientAddr>()
                .map(|ClientAddr(ip)| ip.to_string()),
            "tyk_trace_id" => head
                .extensions
                .get::<TraceId>()
                .map(|TraceId(id)| id.as_ref().to_owned()),
            "request_id" => head
                .extensions
                .get::<RequestId>()
                .map(|RequestId(id)| id.as_ref().to_owned()),
            "headers_Host" => host(head),
            "request_data" => Some(request_data(head)),
            "token" => head
                .extensions
                .get::<ShownToken>()
                .map(|ShownToken(token)| token.expose().to_owned()),
            _ => {
                let (space, wanted) = name.split_once('_')?;
                match space {
                    "headers" => header(&head.headers, wanted),
                    "cookies" => cookie(head, wanted),
                    "request" => parameter(head, wanted.strip_prefix("data_")?),
                    _ => None,
                }
            }
        }
    }
}

fn decoded_path(head: &Parts) -> Cow<'_, str> {
    percent_decode_str(head.uri.path()).decode_utf8_lossy()
}

/// The segments, without the empty one before the first slash.
fn path_parts(head: &Parts) -> String {
    decoded_path(head).trim_start_matches('/').replace('/', ",")
}

fn host(head: &Parts) -> Option<String> {
    let named = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| head.uri.host()).map(str::to_owned)
}

fn header(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let value = headers
        .iter()
        .find(|(name, _)| is_in_capitals(name.as_str(), wanted))?
        .1;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// Whether `wanted` is the name as Go writes it: a capital first and behind each `-`, which is here `_`.
fn is_in_capitals(name: &str, wanted: &str) -> bool {
    let mut before = b'-';
    let in_capitals = name.bytes().map(|byte| {
        let capital = std::mem::replace(&mut before, byte) == b'-';
        match byte {
            b'-' => b'_',
            _ if capital => byte.to_ascii_uppercase(),
            _ => byte,
        }
    });
    in_capitals.eq(wanted.bytes())
}

fn cookie(head: &Parts, wanted: &str) -> Option<String> {
    cookies(head)
        .filter(|(name, _)| same_name(name, wanted))
        .last()
        .map(|(_, value)| value.to_owned())
}

/// The parameters of a request: of the form in its body, then of its query.
fn parameters(head: &Parts) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let form = head.extensions.get::<FormData>().into_iter();
    let form = form.flat_map(|FormData(pairs)| pairs.iter());
    let form = form.map(|(name, value)| (name.into(), value.into()));
    let query = head.uri.query().unwrap_or_default().split('&');
    form.chain(query.filter_map(form_pair))
}

fn parameter(head: &Parts, wanted: &str) -> Option<String> {
    parameters(head)
        .find(|(name, _)| same_name(name, wanted))
        .map(|(_, value)| value.into_owned())
}

/// All parameters, sorted by name; the values of a name in their order.
fn request_data(head: &Parts) -> String {
    let mut by_name = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in parameters(head) {
        by_name.entry(name).or_default().push(value);
    }
    let lists = by_name
        .iter()
        .map(|(name, values)| format!("{name}:{}", values.join(",")));
    lists.collect::<Vec<_>>().join(";")
}

/// Compares a name with one in which `-` is written `_`.
fn same_name(name: &str, wanted: &str) -> bool {
    let written = |byte: u8| if byte == b'-' { b'_' } else { byte };
    name.bytes().map(written).eq(wanted.bytes().map(written))
}

/// What is left of the context when the response comes: the limits.
pub(crate) struct LimitContext<'a>(pub(crate) &'a Visit);

impl Context for LimitContext<'_> {
    fn write(&self, name: &str, out: &mut String) {
        let (wants_rate, figure) = match (
            name.strip_prefix("rate_limit_"),
            name.strip_prefix("quota_"),
        ) {
            (Some(figure), _) => (true, figure),
            (_, Some(figure)) => (false, figure),
            _ => return,
        };
        let is_kind = |limit: &&LimitStanding| matches!(limit.kind, LimitKind::Rate) == wants_rate;
        let Some(limit) = self.0.limits().iter().rfind(is_kind) else {
            return;
        };
        let value = match figure {
            "limit" => limit.standing.max,
            "remaining" => limit.standing.remaining,
            "reset" => limit.reset_at(self.0.now()),
            _ => return,
        };
        let _ = write!(out, "{value}"); // Writing to a string can not fail.
    }
}

/// The context for templates: each name of the [table above](self) is a field. `headers` are those of the
/// request with the methods of Go's `http.Header`, `request_data` has those of `url.Values`, and `path_parts` begins
/// with an empty text.
#[cfg(feature = "template")]
pub(crate) fn template_context(context: &RequestContext<'_>) -> tollgate_template::Input<'static> {
    use tollgate_template::Input;

    let RequestContext { head, visit } = context;
    let mut fields = crate::body_transform::Fields::new();
    let text = |text: String| Input::Text(text.into());
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();

    let path = decoded_path(head);
    let parts = path.split('/').map(|part| part.to_owned().into());
    fields.insert("path_parts".into(), Input::Texts(parts.collect()));
    fields.insert("path".into(), text(path.into_owned()));

    let mut headers = BTreeMap::<Cow<'static, str>, Vec<Cow<'static, str>>>::new();
    for (name, value) in &head.headers {
        let values = headers.entry(capitals(name.as_str()).into()).or_default();
        values.push(lossy(value.as_bytes()).into());
    }
    headers.remove("Host"); // Go keeps it beside the others.
    for (name, values) in &headers {
        let first = values.first().cloned().unwrap_or_default();
        fields.insert(
            format!("headers_{}", name.replace('-', "_")).into(),
            Input::Text(first),
        );
    }
    fields.insert("headers".into(), Input::Headers(headers));
    fields.insert("headers_Host".into(), text(host(head).unwrap_or_default()));

    for (name, value) in cookies(head) {
        let name = format!("cookies_{}", name.replace('-', "_"));
        fields.insert(name.into(), text(value.to_owned()));
    }

    let mut form = BTreeMap::<Cow<'static, str>, Vec<Cow<'static, str>>>::new();
    for (name, value) in parameters(head) {
        let values = form.entry(name.into_owned().into()).or_default();
        values.push(value.into_owned().into());
    }
    for (name, values) in &form {
        let first = values.first().cloned().unwrap_or_default();
        let name = format!("request_data_{}", name.replace('-', "_"));
        fields.insert(name.into(), Input::Text(first));
    }
    fields.insert("request_data".into(), Input::Form(form));

    for name in ["remote_addr", "request_id", "token"] {
        if let Some(value) = context.head_value(name) {
            fields.insert(name.into(), text(value));
        }
    }
    for space in ["rate_limit", "quota"] {
        for figure in ["limit", "remaining", "reset"] {
            let name = format!("{space}_{figure}");
            let mut value = String::new();
            LimitContext(visit).write(&name, &mut value);
            if let Ok(number) = value.parse() {
                fields.insert(name.into(), Input::Integer(number));
            }
        }
    }
    Input::Map(fields)
}

/// A header's name with a capital first and behind each `-`.
#[cfg(feature = "template")]
fn capitals(name: &str) -> String {
    let mut before = '-';
    let capital = |char: char| {
        let starts = std::mem::replace(&mut before, char) == '-';
        if starts {
            char.to_ascii_uppercase()
        } else {
            char
        }
    };
    name.chars().map(capital).collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(name: &str, value: &str) {
        let request = Request::get("https://up.example/a/b%20c?x-y=1&x-y=2&z=%zz")
            .header("x-real-user", "joe")
            .header("cookie", "my-c=1; my-c=\"2\"")
            .extension(FormData::parse("x-y=0&a-b=f&%zz=1"))
            .extension(ClientAddr("2001:db8::1".parse().unwrap()))
            .extension(RequestId("r-7".into()));
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut out = String::new();
        RequestContext {
            head: &head,
            visit: &Visit::default(),
        }
        .write(name, &mut out);
        assert_eq!(out, value, "{name}");
    }

    #[test]
    fn a_token_is_shown_where_somebody_asked() {
        let token = ShownToken("secret".into());
        assert!(!format!("{token:?}").contains("secret"));
        let (head, ()) = Request::get("/")
            .extension(token)
            .body(())
            .unwrap()
            .into_parts();
        let visit = &Visit::default();
        let mut out = String::new();
        RequestContext { head: &head, visit }.write("token", &mut out);
        assert_eq!(out, "secret");
    }

    #[test]
    fn names_are_found() {
        check("path", "/a/b c");
        check("path_parts", "a,b c");
        check("headers_X_Real_User", "joe");
        check("headers_x_real_user", "");
        check("headers_Host", "up.example");
        check("cookies_my_c", "2");
        check("request_data_x_y", "0");
        check("remote_addr", "2001:db8::1");
        check("token", "");
        check("request_id", "r-7");
        check("request_data_z", "");
        check("request_data_a_b", "f");
        check("request_data", "a-b:f;x-y:0,1,2");
        check("rate_limit_limit", "");
        check("nothing", "");
    }
}
