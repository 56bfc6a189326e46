//! Which trace a request belongs to, in its headers: W3C Trace Context, or B3 as Zipkin has it.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// How traces are named.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Propagation {
    /// `traceparent` and `tracestate`.
    TraceContext,
    /// `X-B3-TraceId` and others, or all in `b3`.
    B3,
}

impl Propagation {
    pub(super) fn from_name(name: &str) -> Self {
        match name {
            "b3" => Self::B3,
            _ => Self::TraceContext,
        }
    }

    /// What a client says of the trace that its request belongs to.
    pub(super) fn extract(self, headers: &HeaderMap) -> Context {
        let empty = Context::new();
        match self {
            Self::TraceContext => {
                TraceContextPropagator::new().extract_with_context(&empty, &Headers(headers))
            }
            Self::B3 => match b3(headers) {
                Some(parent) => empty.with_remote_span_context(parent),
                None => empty,
            },
        }
    }

    /// Tells an upstream, in place of what the client said.
    pub(super) fn inject(self, span: &SpanContext, headers: &mut HeaderMap) {
        if !span.is_valid() {
            return;
        }
        match self {
            Self::TraceContext => {
                let context = Context::new().with_remote_span_context(span.clone());
                let mut headers = HeadersMut(headers);
                TraceContextPropagator::new().inject_context(&context, &mut headers);
            }
            Self::B3 => {
                headers.remove(SINGLE);
                headers.remove(PARENT);
                let is_sampled = if span.is_sampled() { "1" } else { "0" };
                let mut headers = HeadersMut(headers);
                headers.set(TRACE, span.trace_id().to_string());
                headers.set(SPAN, span.span_id().to_string());
                headers.set(SAMPLED, is_sampled.to_owned());
            }
        }
    }
}

const SINGLE: &str = "b3";
const TRACE: &str = "x-b3-traceid";
const SPAN: &str = "x-b3-spanid";
const PARENT: &str = "x-b3-parentspanid";
const SAMPLED: &str = "x-b3-sampled";
const FLAGS: &str = "x-b3-flags";

/// One header first, then several, as Zipkin reads them.
fn b3(headers: &HeaderMap) -> Option<SpanContext> {
    let headers = Headers(headers);
    if let Some(single) = headers.get(SINGLE) {
        let mut parts = single.split('-');
        let (trace, span) = (parts.next()?, parts.next()?);
        return b3_context(trace, span, parts.next());
    }
    let sampled = match headers.get(FLAGS) {
        Some("1") => Some("d"),
        _ => headers.get(SAMPLED),
    };
    b3_context(headers.get(TRACE)?, headers.get(SPAN)?, sampled)
}

fn b3_context(trace: &str, span: &str, sampled: Option<&str>) -> Option<SpanContext> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if ![16, 32].contains(&trace.len()) || span.len() != 16 || !is_hex(trace) || !is_hex(span) {
        return None;
    }
    let is_sampled = matches!(sampled, Some("1" | "d" | "true"));
    let flags = TraceFlags::default().with_sampled(is_sampled);
    let trace = TraceId::from_hex(trace).ok()?;
    let span = SpanId::from_hex(span).ok()?;
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// Headers of which each may come once: what comes twice says nothing.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(key).iter();
        let only = values.next().filter(|_| values.next().is_none());
        only?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        let Ok(name) = HeaderName::try_from(key) else {
            return;
        };
        match HeaderValue::try_from(value) {
            Ok(value) if !value.is_empty() => {
                self.0.insert(name, value);
            }
            _ => {
                self.0.remove(name); // Nothing is to be said.
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[track_caller]
    fn check(
        propagation: Propagation,
        fields: &[(&'static str, &'static str)],
        expected: Option<(&str, bool)>,
    ) {
        let context = propagation.extract(&headers(fields));
        let span = context.span().span_context().clone();
        let found = span
            .is_valid()
            .then(|| (span.trace_id().to_string(), span.is_sampled()));
        let expected = expected.map(|(trace, sampled)| (trace.to_owned(), sampled));
        assert_eq!(found, expected, "{fields:?}");
    }

    #[test]
    fn a_trace_is_named_in_w3c_form() {
        let w3c = Propagation::TraceContext;
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        check(w3c, &[("traceparent", parent)], Some((ID, true)));
        let off = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        check(w3c, &[("traceparent", off)], Some((ID, false)));
        check(w3c, &[("traceparent", parent), ("traceparent", off)], None);
        check(w3c, &[("traceparent", "secret")], None);
        check(w3c, &[], None);
    }

    #[test]
    fn a_trace_is_named_in_b3_form() {
        let b3 = Propagation::B3;
        let many = [(TRACE, ID), (SPAN, "00f067aa0ba902b7"), (SAMPLED, "1")];
        check(b3, &many, Some((ID, true)));
        check(b3, &many[..2], Some((ID, false)));
        check(b3, &many[..1], None);
        let single = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0";
        check(b3, &[(SINGLE, single)], Some((ID, false)));
        let short = "a3ce929d0e0e4736-00f067aa0ba902b7-d";
        let padded = "0000000000000000a3ce929d0e0e4736";
        check(b3, &[(SINGLE, short)], Some((padded, true)));
        check(b3, &[(SINGLE, "0")], None);
    }

    #[test]
    fn what_is_told_takes_the_place_of_what_was_said() {
        let said = headers(&[("b3", "x"), (PARENT, "1"), ("tracestate", "a=b")]);
        let trace = TraceId::from_hex(ID).unwrap();
        let span = SpanId::from_hex("00f067aa0ba902b7").unwrap();
        let sampled = TraceFlags::SAMPLED;
        let span = SpanContext::new(trace, span, sampled, false, TraceState::default());
        let mut told = said.clone();
        Propagation::B3.inject(&span, &mut told);
        assert_eq!(
            (told.len(), &told[TRACE], &told[SAMPLED]),
            (
                4,
                &HeaderValue::from_static(ID),
                &HeaderValue::from_static("1")
            )
        );
        let mut told = said;
        Propagation::TraceContext.inject(&span, &mut told);
        assert_eq!(
            told["traceparent"],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        );
        assert!(!told.contains_key("tracestate"));
    }
}
