//! Traces, in a build without the feature `otlp`: there is no tracer, so that nothing of this is called.

use http::{HeaderValue, Request, StatusCode};

use crate::{config::Config, definition::Definition};

/// Makes spans.
#[derive(Clone, Debug)]
pub enum Tracer {}

impl Tracer {
    /// None.
    pub fn begin(_: &Config) -> Option<Self> {
        None
    }

    /// Sends what waits.
    pub fn end(&self) {
        match *self {}
    }

    pub(crate) fn api(&self, _: &Definition) -> ApiTracer {
        match *self {}
    }

    pub(crate) fn no_api(&self) -> ApiTracer {
        match *self {}
    }

    pub(crate) fn upstream<B>(&self, _: &mut Request<B>, _: &http::Uri) -> Option<UpstreamSpan> {
        match *self {}
    }
}

/// Makes the spans of one API.
#[derive(Clone, Debug)]
pub(crate) enum ApiTracer {}

impl ApiTracer {
    pub(crate) fn request<B>(&self, _: &mut Request<B>) -> RequestSpan {
        match *self {}
    }
}

/// The span of a request.
pub(crate) enum RequestSpan {}

impl RequestSpan {
    pub(crate) fn trace_id(&self) -> HeaderValue {
        match *self {}
    }

    pub(crate) fn answered(&mut self, _: StatusCode, _: Option<&str>, _: &super::Caller) {
        match *self {}
    }

    pub(crate) fn tracks(&mut self, _: &str) {
        match *self {}
    }

    pub(crate) fn is_not_tracked(&mut self) {
        match *self {}
    }

    pub(crate) fn gone(&mut self) {
        match *self {}
    }
}

/// The span of a call of an upstream.
pub(crate) enum UpstreamSpan {}

impl UpstreamSpan {
    pub(crate) fn answered(self, _: Result<StatusCode, &'static str>) {
        match self {}
    }
}

/// Leaves the calls that this request leads to out of its trace.
pub(crate) fn untrack(_: &mut http::Extensions) {}
