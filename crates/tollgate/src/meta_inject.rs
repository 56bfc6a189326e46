//! Middleware that puts session data into headers, of the request and of the response.
//!
//! A value is a text with `$tyk_meta.x` (the session's metadata) and `$tyk_context.x` (the request
//! itself, see [`context`](crate::context)), parsed once and filled in one pass: what is put in is
//! never looked at again. A header that is set replaces what the client sent under that name, in any
//! spelling.
//!
//! A request is rejected with `500` if a value holds CR, LF, NUL or another control character, unless
//! the layer was told to clean such values. Nothing is read from or written to the store.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use tollgate::{MemoryStore, meta_inject::MetaInjectLayer, session::SessionLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! let store = MemoryStore::new();
//! store.insert("joes-key", r#"{"meta_data": {"user": "joe", "plan": "gold"}}"#.parse()?)?;
//!
//! let service = ServiceBuilder::new()
//!     .layer(SessionLayer::new(store))
//!     .layer(MetaInjectLayer::new().request("x-user", "$tyk_meta.user")?.response("x-plan", "$tyk_meta.plan")?)
//!     .service(service_fn(async |request: Request<()>| {
//!         assert_eq!(request.headers()["x-user"], "joe");
//!         Ok::<_, std::convert::Infallible>(Response::new(axum::body::Body::empty()))
//!     }));
//!
//! let request = Request::get("/").header("authorization", "joes-key").header("x-user", "root").body(())?;
//! assert_eq!(service.oneshot(request).await?.headers()["x-plan"], "gold");
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
};
use tollgate_core::{
    Rejection,
    pass::{Filled, Pass, PlannedText},
    variables::{Context, SecretMissing, Text, UnsafeValues, ValueStyle, header_value},
};

use crate::{
    context::{LimitContext, RequestContext, is_about_limits, is_of_trigger, write_trigger},
    gate::{Acts, Departure, Gate, Step},
    single::{Single, single_gate_layer},
    visit::Visit,
};

/// Layer that puts session data into headers.
///
/// See the [module docs](crate::meta_inject) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct MetaInjectLayer(Single<MetaInjectGate>);

single_gate_layer!(MetaInjectLayer);

/// A header can not be set in this way.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// No header can have this name.
    #[error("`{name}` can not be a header's name")]
    Name {
        /// The name.
        name: String,
    },
    /// The header belongs to the connection or frames the message, so setting it would break either.
    #[error("`{name}` frames the message or belongs to the connection, and can not be set")]
    Framing {
        /// The name.
        name: String,
    },
    /// The text names a secret.
    #[error("the value of `{name}` can not be used")]
    Secret {
        /// The name.
        name: String,
        /// Which secret.
        source: SecretMissing,
    },
}

impl MetaInjectLayer {
    /// Sets nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "a layer that does nothing is nobody's default"
    )]
    pub fn new() -> Self {
        Self(Single::new(MetaInjectGate::default()))
    }

    /// Sets a header of the request.
    ///
    /// # Errors
    ///
    /// Fails where the name is none, frames the message (as `content-length`), or the text names a
    /// secret.
    pub fn request(self, name: &str, text: &str) -> Result<Self, InjectError> {
        let header = Injected::parse(name, text, Side::Request)?;
        Ok(Self(self.0.change(|gate| gate.push(header))))
    }

    /// Sets a header of the response, also of a refusal by a gate further in.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub fn response(self, name: &str, text: &str) -> Result<Self, InjectError> {
        let header = Injected::parse(name, text, Side::Response)?;
        Ok(Self(self.0.change(|gate| gate.push(header))))
    }

    /// Cleans values that no header can hold, in place of refusing the request: CR and LF become a space
    /// each, other control characters go.
    pub fn with_cleaned_values(self) -> Self {
        Self(
            self.0
                .change(|gate| gate.set_unsafe_values(UnsafeValues::Clean)),
        )
    }

    /// Writes booleans, `null` and objects as Tyk does: as nothing.
    pub fn with_tyk_values(self) -> Self {
        Self(self.0.change(|gate| gate.set_style(ValueStyle::Tyk)))
    }
}

/// The gate of [`MetaInjectLayer`].
#[derive(Clone, Debug, Default)]
pub struct MetaInjectGate {
    headers: Vec<Injected>,
    style: ValueStyle,
    unsafe_values: UnsafeValues,
    /// The texts of this gate in the plan of its stack, where it has one: their values are then ready.
    planned: Option<Arc<[PlannedText]>>,
}

/// What was made at the head of the request for headers of the response.
#[derive(Clone, Default)]
struct Stash {
    values: Vec<(HeaderName, HeaderValue)>,
    /// Of texts with variables of triggers, which a rewrite behind tells: the other variables.
    known: Vec<(HeaderName, Known)>,
}

/// Context variables and their values.
type Known = Vec<(Box<str>, String)>;

/// The context of a response: what was known at the head of the request, what limits came to, and what triggers
/// told.
struct LateContext<'a> {
    known: &'a Known,
    visit: &'a Visit,
}

impl Context for LateContext<'_> {
    fn write(&self, name: &str, out: &mut String) {
        if is_of_trigger(name) {
            write_trigger(self.visit, name, out);
        } else if is_about_limits(name) {
            LimitContext(self.visit).write(name, out);
        } else if let Some((_, value)) = self.known.iter().find(|(known, _)| **known == *name) {
            out.push_str(value);
        }
    }
}

/// One header to set.
#[derive(Clone, Debug)]
pub(crate) struct Injected {
    name: HeaderName,
    side: Side,
    text: PlannedText,
    about_limits: bool,
    about_triggers: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Request,
    Response,
}

impl Injected {
    pub(crate) fn parse(name: &str, text: &str, side: Side) -> Result<Self, InjectError> {
        let header =
            HeaderName::try_from(name).map_err(|_| InjectError::Name { name: name.into() })?;
        const FRAMING: [HeaderName; 7] = [
            CONNECTION,
            CONTENT_LENGTH,
            HOST,
            TE,
            TRAILER,
            TRANSFER_ENCODING,
            UPGRADE,
        ];
        if FRAMING.contains(&header) {
            return Err(InjectError::Framing { name: name.into() });
        }
        let text = Text::parse(text).map_err(|source| InjectError::Secret {
            name: name.into(),
            source,
        })?;
        let about_limits = text.context_names().any(is_about_limits);
        let about_triggers = text.context_names().any(is_of_trigger);
        let text = PlannedText {
            text,
            style: ValueStyle::Plain,
            unsafe_values: UnsafeValues::Refuse,
        };
        Ok(Self {
            name: header,
            side,
            text,
            about_limits,
            about_triggers,
        })
    }

    /// Whether it is set on the request once limits are decided.
    fn is_late(&self) -> bool {
        self.side == Side::Request && self.about_limits
    }

    /// Whether it is made when the response comes, as a rewrite behind may have told of triggers by then.
    fn waits_for_triggers(&self) -> bool {
        self.side == Side::Response && self.about_triggers
    }

    /// The variables that the response does not know.
    fn known(&self, head: &Parts, visit: &Visit) -> Known {
        let context = RequestContext { head, visit };
        let names = self.text.text.context_names();
        let names = names.filter(|name| !is_about_limits(name) && !is_of_trigger(name));
        let value = |name: &str| {
            let mut value = String::new();
            context.write(name, &mut value);
            (name.into(), value)
        };
        names.map(value).collect()
    }

    fn fill(&self, head: &Parts, visit: &Visit) -> Result<HeaderValue, Rejection> {
        let meta = visit.session().map(|session| &session.meta_data);
        let text = self
            .text
            .text
            .fill(meta, &RequestContext { head, visit }, self.text.style);
        header_value(text, self.text.unsafe_values)
    }
}

impl MetaInjectGate {
    pub(crate) fn push(&mut self, mut header: Injected) {
        (header.text.style, header.text.unsafe_values) = (self.style, self.unsafe_values);
        self.headers.push(header);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    pub(crate) fn set_unsafe_values(&mut self, rule: UnsafeValues) {
        self.unsafe_values = rule;
        self.headers
            .iter_mut()
            .for_each(|header| header.text.unsafe_values = rule);
    }

    pub(crate) fn set_style(&mut self, style: ValueStyle) {
        self.style = style;
        self.headers
            .iter_mut()
            .for_each(|header| header.text.style = style);
    }

    /// Has the values made with the session, where that is compiled: the plan fills these texts.
    pub(crate) fn plan(&mut self) -> Arc<[PlannedText]> {
        let texts = self.headers.iter().map(|header| header.text.clone());
        self.planned.insert(texts.collect()).clone()
    }

    /// The value that was made with the session.
    fn ready<'a>(&self, at: usize, visit: &'a Visit) -> Option<&'a Filled> {
        self.made_with(at, visit.pass()?)
    }

    fn made_with<'a>(&self, at: usize, pass: &'a Pass) -> Option<&'a Filled> {
        let filled = pass.text(self.planned.as_ref()?, at)?;
        (!matches!(filled, Filled::ByRequest)).then_some(filled)
    }

    /// Whether the values of all headers were made with the session.
    pub(crate) fn is_ready(&self, pass: &Pass) -> bool {
        let is_made = |at| matches!(self.made_with(at, pass), Some(Filled::Value(_)));
        (0..self.headers.len()).all(is_made)
    }

    fn inject(&self, head: &mut Parts, visit: &mut Visit) -> Result<(), Rejection> {
        for (at, header) in self.headers.iter().enumerate() {
            if header.waits_for_triggers() {
                let known = header.known(head, visit);
                let stash: &mut Stash = visit.notes_mut().get_or_insert_default();
                stash.known.push((header.name.clone(), known));
                continue;
            }
            if header.about_limits {
                continue; // Limits are decided last; such a value holds digits and is set then.
            }
            let (value, is_ready) = match self.ready(at, visit) {
                Some(Filled::Value(value)) => (value.clone(), true),
                Some(Filled::Refused) => return Err(Rejection::HeaderValueRefused),
                Some(Filled::ByRequest) | None => (header.fill(head, visit)?, false),
            };
            match header.side {
                Side::Request => set_header(&mut head.headers, &header.name, value),
                Side::Response if is_ready => {} // Found again when the response comes.
                Side::Response => {
                    let stash: &mut Stash = visit.notes_mut().get_or_insert_default();
                    stash.values.push((header.name.clone(), value));
                }
            }
        }
        Ok(())
    }

    /// Sets the headers of a request whose values were made with the session. `false` where others are to be
    /// set too, or none may be.
    #[inline]
    pub(crate) fn set_ready(&self, headers: &mut HeaderMap, pass: &Pass) -> bool {
        for (at, header) in self.headers.iter().enumerate() {
            let Some(Filled::Value(value)) = self.made_with(at, pass) else {
                return false;
            };
            if header.side == Side::Request {
                set_header(headers, &header.name, value.clone());
            }
        }
        true
    }

    /// The value of a header of the response; `None` where the request was refused before it was made.
    fn response_value(&self, at: usize, visit: &Visit) -> Option<HeaderValue> {
        let header = &self.headers[at];
        if header.waits_for_triggers() {
            let stash: &Stash = visit.notes().get()?;
            let (_, known) = stash.known.iter().find(|(name, _)| *name == header.name)?;
            let meta = visit.session().map(|session| &session.meta_data);
            let context = LateContext { known, visit };
            let text = header.text.text.fill(meta, &context, header.text.style);
            return header_value(text, header.text.unsafe_values).ok();
        }
        if header.about_limits {
            let meta = visit.session().map(|session| &session.meta_data);
            let text = header
                .text
                .text
                .fill(meta, &LimitContext(visit), header.text.style);
            return header_value(text, header.text.unsafe_values).ok();
        }
        match self.ready(at, visit) {
            Some(Filled::Value(value)) => Some(value.clone()),
            Some(_) => None,
            None => {
                let stash: &Stash = visit.notes().get()?;
                let mut own = stash.values.iter();
                let own = own.find(|(name, _)| *name == header.name);
                own.map(|(_, value)| value.clone())
            }
        }
    }
}

impl Gate for MetaInjectGate {
    fn name(&self) -> &'static str {
        "metadata"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        self.inject(head, visit).into()
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: self.headers.iter().any(Injected::is_late),
            depart: self
                .headers
                .iter()
                .any(|header| header.side == Side::Response),
        }
    }

    fn forward(&self, head: &mut Parts, visit: &Visit) {
        for header in self.headers.iter().filter(|header| header.is_late()) {
            if let Ok(value) = header.fill(head, visit) {
                set_header(&mut head.headers, &header.name, value);
            }
        }
    }

    fn depart(&self, visit: &Visit, response: &mut Departure<'_>) {
        for (at, header) in self
            .headers
            .iter()
            .enumerate()
            .filter(|(_, header)| header.side == Side::Response)
        {
            if let Some(value) = self.response_value(at, visit) {
                response.headers.insert(header.name.clone(), value);
            }
        }
    }
}

/// Sets a header of a request so that nothing of the client's stands in its place: not under another
/// spelling, and the client's `Connection` can not have it dropped on the way.
#[inline]
pub fn set_header(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    // Most often neither is there: that is seen in one walk.
    let is_to_go = |other: &HeaderName| {
        let is_spelling = same_with_underscores(other.as_str(), name.as_str()) && other != name;
        is_spelling || *other == CONNECTION
    };
    if headers.keys().any(is_to_go) {
        remove_spellings(headers, name, |other| other != name);
        keep_from_connection(headers, name);
    }
    headers.insert(name, value); // By reference: a name that is copied and moved at once is waited for.
}

/// Takes a header out of a request, under every spelling that an upstream may take for it.
pub fn remove_header(headers: &mut HeaderMap, name: &HeaderName) {
    remove_spellings(headers, name, |_| true);
}

/// Removes headers that differ from `name` in `_` and `-` alone (attacks 34 and 35).
#[cold]
fn remove_spellings(
    headers: &mut HeaderMap,
    name: &HeaderName,
    also: impl Fn(&HeaderName) -> bool,
) {
    let is_spelling =
        |other: &HeaderName| same_with_underscores(other.as_str(), name.as_str()) && also(other);
    let found: Vec<_> = headers
        .keys()
        .filter(|other| is_spelling(other))
        .cloned()
        .collect();
    found
        .iter()
        .for_each(|spelling| drop(headers.remove(spelling)));
}

fn same_with_underscores(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.len() == other.len() && one.bytes().map(plain).eq(other.bytes().map(plain))
}

fn keep_from_connection(headers: &mut HeaderMap, name: &HeaderName) {
    let is_name = |option: &&str| option.trim().eq_ignore_ascii_case(name.as_str());
    let lines: Vec<_> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .collect();
    if !lines
        .iter()
        .flat_map(|line| line.split(','))
        .any(|option| is_name(&option))
    {
        return;
    }
    let rest: Vec<_> = lines
        .iter()
        .flat_map(|line| line.split(','))
        .filter(|option| !is_name(option))
        .collect();
    let rest = HeaderValue::try_from(rest.join(",").trim());
    headers.remove(CONNECTION);
    if let Ok(rest) = rest
        && !rest.is_empty()
    {
        headers.insert(CONNECTION, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack 38.
    #[test]
    fn attack_38_headers_that_frame_the_message_can_not_be_set() {
        let framing = [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "TE",
            "trailer",
            "Upgrade",
        ];
        for name in framing {
            let refused = MetaInjectLayer::new().request(name, "x").unwrap_err();
            assert_eq!(refused, InjectError::Framing { name: name.into() });
        }
        for name in [":path", "a b", "", "x\r\ny"] {
            assert_eq!(
                MetaInjectLayer::new().response(name, "x").unwrap_err(),
                InjectError::Name { name: name.into() }
            );
        }
        let secret = MetaInjectLayer::new()
            .request("x-a", "$secret_env.A")
            .unwrap_err();
        assert!(matches!(secret, InjectError::Secret { .. }));
    }

    #[test]
    fn a_connection_keeps_what_is_not_ours() {
        let mut headers = HeaderMap::new();
        headers.append(CONNECTION, "keep-alive, X-User".parse().unwrap());
        headers.append(CONNECTION, "x-user".parse().unwrap());
        set_header(
            &mut headers,
            &HeaderName::from_static("x-user"),
            HeaderValue::from_static("joe"),
        );
        assert_eq!(headers[CONNECTION], "keep-alive");
        assert_eq!(headers["x-user"], "joe");
    }

    #[tokio::test]
    async fn a_response_tells_what_a_rewrite_behind_was_triggered_by() {
        use tollgate_core::rewrite::RewriteTrigger;
        use tower::{Layer, ServiceExt, service_fn};

        let store = crate::MemoryStore::new();
        let session = r#"{"meta_data": {"user": "joe"}}"#.parse().unwrap();
        store.insert("joes-key", session).unwrap();
        let name = "trigger-0-X-Tier-0";
        let rewrite = crate::url_rewrite::UrlRewriteLayer::new("^/orders", "/orders")
            .unwrap()
            .when(RewriteTrigger::any("/fast").header("x-tier", "gold|silver"))
            .unwrap()
            .telling([name]);
        let text = format!("$tyk_meta.user $tyk_context.path [$tyk_context.{name}]");
        let gate = crate::Tollgate::builder(store)
            .inject("x-as", &text)
            .and_then(|stack| stack.inject_response("x-as", &text))
            .unwrap()
            .rewrite(rewrite)
            .build()
            .unwrap();
        let service = gate
            .layer()
            .layer(service_fn(async |request: http::Request<()>| {
                // A request's headers are set before it is rewritten.
                assert_eq!(request.headers()["x-as"], "joe /orders []");
                Ok::<_, std::convert::Infallible>(http::Response::new(axum::body::Body::empty()))
            }));
        for (tier, expected) in [
            ("silver", "joe /orders [silver]"),
            ("none", "joe /orders []"),
        ] {
            let request = http::Request::get("/orders")
                .header("authorization", "joes-key")
                .header("x-tier", tier)
                .body(())
                .unwrap();
            let response = service.clone().oneshot(request).await.unwrap();
            assert_eq!(response.headers()["x-as"], expected);
        }
    }
}
