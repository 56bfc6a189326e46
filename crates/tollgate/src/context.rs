//! `$tyk_context.x`: what a text may say of the request itself.
//!
//! | name | value |
//! |---|---|
//! | `path`, `path_parts` | the decoded path; its segments, joined by commas |
//! | `headers_<Name>`, `headers_Host` | a header's first value; `-` in the name is written `_`, in any case |
//! | `cookies_<name>` | a cookie's value; `-` in the name is written `_` |
//! | `request_data_<name>` | the first value of a parameter of the query; `-` in the name is written `_` |
//! | `remote_addr` | the client's address, where [`ClientAddr`] is in the request's extensions |
//! | `token` | never: a credential has no place in a header |
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

use std::{fmt::Write as _, net::IpAddr};

use http::{HeaderMap, header::HOST, request::Parts};
use percent_encoding::percent_decode_str;
use tollgate_core::variables::Context;

use crate::{
    token_source::{cookies, form_pair},
    visit::{LimitKind, LimitStanding, Visit},
};

/// The client's address, for `$tyk_context.remote_addr`.
///
/// Put it into the request's extensions where you know it. What `X-Forwarded-For` says is the
/// client's word, so it is never read here: decide which proxies you trust, and put the address in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientAddr(pub IpAddr);

/// The context of a request at a gate.
pub(crate) struct RequestContext<'a> {
    pub(crate) head: &'a Parts,
    pub(crate) visit: &'a Visit,
}

/// Whether a name is about limits, which are decided last.
pub(crate) fn is_about_limits(name: &str) -> bool {
    name.starts_with("rate_limit_") || name.starts_with("quota_")
}

impl Context for RequestContext<'_> {
    fn write(&self, name: &str, out: &mut String) {
        if is_about_limits(name) {
            return LimitContext(self.visit).write(name, out);
        }
        if let Some(value) = self.head_value(name) {
            out.push_str(&value);
        }
    }
}

impl RequestContext<'_> {
    fn head_value(&self, name: &str) -> Option<String> {
        let head = self.head;
        match name {
            "path" => Some(decoded_path(head)),
            "path_parts" => Some(path_parts(head)),
            "remote_addr" => head
                .extensions
                .get::<ClientAddr>()
                .map(|ClientAddr(ip)| ip.to_string()),
            "headers_Host" => host(head),
            _ => {
                let (space, wanted) = name.split_once('_')?;
                match space {
                    "headers" => header(&head.headers, wanted),
                    "cookies" => cookie(head, wanted),
                    "request" => query(head, wanted.strip_prefix("data_")?),
                    _ => None,
                }
            }
        }
    }
}

fn decoded_path(head: &Parts) -> String {
    percent_decode_str(head.uri.path())
        .decode_utf8_lossy()
        .into_owned()
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
    let same = |name: &str| same_name(name, wanted, u8::eq_ignore_ascii_case);
    let value = headers.iter().find(|(name, _)| same(name.as_str()))?.1;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn cookie(head: &Parts, wanted: &str) -> Option<String> {
    cookies(head)
        .filter(|(name, _)| same_name(name, wanted, u8::eq))
        .last()
        .map(|(_, value)| value.to_owned())
}

fn query(head: &Parts, wanted: &str) -> Option<String> {
    let mut pairs = head.uri.query()?.split('&').filter_map(form_pair);
    pairs
        .find(|(name, _)| same_name(name, wanted, u8::eq))
        .map(|(_, value)| value.into_owned())
}

/// Compares a name with one in which `-` is written `_`.
fn same_name(name: &str, wanted: &str, same: fn(&u8, &u8) -> bool) -> bool {
    let written = |byte: u8| if byte == b'-' { b'_' } else { byte };
    name.len() == wanted.len()
        && name
            .bytes()
            .zip(wanted.bytes())
            .all(|(a, b)| same(&written(a), &written(b)))
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

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(name: &str, value: &str) {
        let request = Request::get("https://up.example/a/b%20c?x-y=1&x-y=2&z=%zz")
            .header("x-real-user", "joe")
            .header("cookie", "my-c=1; my-c=\"2\"")
            .extension(ClientAddr("2001:db8::1".parse().unwrap()));
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
    fn names_are_found() {
        check("path", "/a/b c");
        check("path_parts", "a,b c");
        check("headers_X_Real_User", "joe");
        check("headers_Host", "up.example");
        check("cookies_my_c", "2");
        check("request_data_x_y", "1");
        check("remote_addr", "2001:db8::1");
        check("token", "");
        check("request_data_z", "");
        check("rate_limit_limit", "");
        check("nothing", "");
    }
}
