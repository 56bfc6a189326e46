//! Metrics of requests, upstreams and reloads, by the `metrics` facade.
//!
//! Labels are ids of APIs, classes of status, and reasons from a fixed list: never a path, a key or
//! anything else that a client can choose. At most [`MAX_APIS`] ids are told apart over the life of the
//! process; further ones are counted as `other`.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use http::{Request, Response, StatusCode};
use metrics::{Counter, Histogram, SharedString, Unit};
use parking_lot::Mutex;

use super::traces::{Tracer, UpstreamSpan};
use crate::{proxy::ProxyError, serve::InFlight};

/// How many APIs have labels of their own.
pub const MAX_APIS: usize = 1000;

const REQUESTS: &str = "tollgate_requests_total";
const DURATION: &str = "tollgate_request_duration_seconds";
const ENDPOINT_REQUESTS: &str = "tollgate_endpoint_requests_total";
const ENDPOINT_DURATION: &str = "tollgate_endpoint_request_duration_seconds";
const UPSTREAM: &str = "tollgate_upstream_duration_seconds";
const SENT: &str = "tollgate_response_body_bytes_total";
const RELOADS: &str = "tollgate_config_reloads_total";
const RELOADED: &str = "tollgate_config_last_reload_success";
const RELOADED_AT: &str = "tollgate_config_last_reload_timestamp_seconds";
const APIS: &str = "tollgate_apis";
const REQUESTS_NOW: &str = "tollgate_requests_in_flight";
const CONNECTIONS_NOW: &str = "tollgate_connections";
const TUNNELS_NOW: &str = "tollgate_tunnels";
const LINES_LOST: &str = "tollgate_log_lines_lost_total";
const SPANS_LOST: &str = "tollgate_spans_lost_total";
const STORE_DURATION: &str = "tollgate_store_op_duration_seconds";
const STORE_OP_FAILURES: &str = "tollgate_store_op_failures_total";
const STORE_UP: &str = "tollgate_store_up";
const BUILD: &str = "tollgate_build_info";

/// The bounds of histograms of seconds, from 50 µs to a minute.
pub const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Says what every metric means, of the gateway and of the layers it is made of.
pub fn describe() {
    let (count, seconds) = (Unit::Count, Unit::Seconds);
    metrics::describe_counter!(
        REQUESTS,
        count,
        "Requests, by API, class of status and decision"
    );
    metrics::describe_histogram!(
        DURATION,
        seconds,
        "From a request's head to its answer's end"
    );
    metrics::describe_counter!(
        ENDPOINT_REQUESTS,
        count,
        "Requests to endpoints that a definition tracks, by class of status"
    );
    metrics::describe_histogram!(
        ENDPOINT_DURATION,
        seconds,
        "The same, from a request's head to its answer's end"
    );
    metrics::describe_histogram!(
        UPSTREAM,
        seconds,
        "From sending a request to its answer's head"
    );
    metrics::describe_counter!(SENT, Unit::Bytes, "Bytes of bodies sent to clients");
    metrics::describe_counter!(RELOADS, count, "Reloads, by result");
    metrics::describe_gauge!(RELOADED, count, "Whether the last reload was put in force");
    metrics::describe_gauge!(
        RELOADED_AT,
        seconds,
        "When files were last put in force, in Unix seconds"
    );
    metrics::describe_gauge!(APIS, count, "APIs in force, by state");
    metrics::describe_gauge!(
        REQUESTS_NOW,
        count,
        "Requests whose answer has not been sent whole"
    );
    metrics::describe_gauge!(CONNECTIONS_NOW, count, "Open connections of clients");
    metrics::describe_gauge!(
        TUNNELS_NOW,
        count,
        "Connections that went over to another protocol"
    );
    metrics::describe_counter!(LINES_LOST, count, "Lines that no log had room for");
    metrics::describe_counter!(SPANS_LOST, count, "Spans that could not be sent");
    metrics::describe_histogram!(
        STORE_DURATION,
        seconds,
        "Calls of the store that were waited for"
    );
    metrics::describe_counter!(
        STORE_OP_FAILURES,
        count,
        "Calls of the store that failed, by what they failed of"
    );
    metrics::describe_gauge!(
        STORE_UP,
        count,
        "Whether the store answered when it was asked last"
    );
    metrics::describe_gauge!(BUILD, count, "Always 1; the label names the version");
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let of_layers = [
        ("tollgate_rejections_total", "Refusals of gates, by reason"),
        (
            "tollgate_would_reject_total",
            "What gates in observe mode would have refused",
        ),
        (
            "tollgate_store_failures_total",
            "Failures of the store, by the gate that asked",
        ),
    ];
    for (name, help) in of_layers {
        metrics::describe_counter!(name, Unit::Count, help);
    }
}

/// The counters of one API, looked up once.
#[derive(Debug)]
pub(crate) struct Meters {
    api: SharedString,
    /// Of requests that were served, by the hundreds of their status.
    served: [Counter; 5],
    duration: Histogram,
    sent: Counter,
}

impl Meters {
    pub(crate) fn of(api: &str) -> Self {
        let api = label(api);
        let served = CLASSES.map(|class| {
            metrics::counter!(REQUESTS, "api" => api.clone(), "status" => class, "decision" => "served")
        });
        Self {
            duration: metrics::histogram!(DURATION, "api" => api.clone()),
            sent: metrics::counter!(SENT, "api" => api.clone()),
            served,
            api,
        }
    }

    /// Counts an answer of the upstream, or one in its place that a definition holds.
    pub(crate) fn served(&self, status: StatusCode) {
        self.served[class_index(status)].increment(1);
    }

    /// Counts an answer that is the gateway's own, by its reason.
    pub(crate) fn decided(&self, status: Option<StatusCode>, decision: &str) {
        let class = status.map_or("none", class);
        let labels = [
            ("api", self.api.clone()),
            ("status", SharedString::const_str(class)),
            ("decision", decision.to_owned().into()),
        ];
        metrics::counter!(REQUESTS, &labels).increment(1);
    }

    /// The answer's body has been handed on.
    pub(crate) fn ended(&self, after: Duration, bytes: u64) {
        self.duration.record(after);
        self.sent.increment(bytes);
    }
}

/// Statuses by their hundreds.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn class_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, 5) - 1
}

fn class(status: StatusCode) -> &'static str {
    CLASSES[class_index(status)]
}

/// The counters of one endpoint that a definition has tracked, looked up once.
#[derive(Debug)]
pub(crate) struct EndpointMeters {
    answered: [Counter; 5],
    duration: Histogram,
}

impl EndpointMeters {
    /// The endpoint is the pattern of the definition, so that clients can not make new ones.
    pub(crate) fn of(api: &str, endpoint: &str, method: &str) -> Self {
        let labels = [
            ("api", label(api)),
            ("endpoint", endpoint.to_owned().into()),
            ("method", method.to_owned().into()),
        ];
        let answered = CLASSES.map(|class| {
            let [api, endpoint, method] = labels.clone();
            let labels = [
                api,
                endpoint,
                method,
                ("status", SharedString::const_str(class)),
            ];
            metrics::counter!(ENDPOINT_REQUESTS, &labels)
        });
        Self {
            answered,
            duration: metrics::histogram!(ENDPOINT_DURATION, &labels),
        }
    }

    pub(crate) fn answered(&self, status: StatusCode) {
        self.answered[class_index(status)].increment(1);
    }

    pub(crate) fn ended(&self, after: Duration) {
        self.duration.record(after);
    }
}

/// The histogram of one API's upstream, whether answers are to say where they come from, and who traces.
#[derive(Debug)]
pub struct UpstreamMeters {
    duration: Histogram,
    is_noted: bool,
    tracer: Option<Tracer>,
}

/// What is kept of a request that is sent.
pub(crate) struct Noted {
    uri: Option<http::Uri>,
    span: Option<UpstreamSpan>,
}

/// Where an answer comes from; in its extensions, if the access log asks for it.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamNote {
    pub(crate) uri: http::Uri,
    pub(crate) latency: Duration,
}

impl UpstreamMeters {
    pub(crate) fn of(api: Option<&str>, is_noted: bool, tracer: Option<Tracer>) -> Self {
        let histogram = |api| metrics::histogram!(UPSTREAM, "api" => label(api));
        Self {
            duration: api.map_or_else(Histogram::noop, histogram),
            is_noted,
            tracer,
        }
    }

    /// A request is about to be sent to this URI; a trace is named in its headers.
    pub(crate) fn note<B>(
        &self,
        request: &mut Request<B>,
        uri: impl Fn() -> http::Uri,
    ) -> Option<Box<Noted>> {
        let tracer = self.tracer.as_ref();
        let span = tracer.and_then(|tracer| tracer.upstream(request, &uri()));
        let uri = self.is_noted.then(uri);
        (uri.is_some() || span.is_some()).then(|| Box::new(Noted { uri, span }))
    }

    /// The head of an answer has come, or it is clear that none will.
    pub(crate) fn answered<B>(
        &self,
        latency: Duration,
        noted: Option<Box<Noted>>,
        response: &mut Response<B>,
    ) {
        self.duration.record(latency);
        let Some(noted) = noted else { return };
        if let Some(span) = noted.span {
            let error = response.extensions().get::<ProxyError>();
            span.answered(error.map_or(Ok(response.status()), |error| Err(error.kind().code())));
        }
        if let Some(uri) = noted.uri {
            let note = UpstreamNote { uri, latency };
            response.extensions_mut().insert(note);
        }
    }
}

/// How long one kind of call of a store takes.
pub(super) fn store_duration(store: &'static str, op: &'static str) -> Histogram {
    metrics::histogram!(STORE_DURATION, "store" => store, "op" => op)
}

/// Tells that a call of a store failed.
pub(super) fn store_failed(store: &'static str, op: &'static str, kind: &'static str) {
    metrics::counter!(STORE_OP_FAILURES, "store" => store, "op" => op, "kind" => kind).increment(1);
}

/// Tells that so many spans could not be sent.
#[cfg(feature = "otlp")]
pub(crate) fn spans_lost(spans: usize) {
    metrics::counter!(SPANS_LOST).increment(u64::try_from(spans).unwrap_or(u64::MAX));
}

/// Tells whether the store answers.
pub(crate) fn store_is_up(is_up: bool) {
    metrics::gauge!(STORE_UP).set(f64::from(u8::from(is_up)));
}

/// Tells what is under way, and how many lines were lost so far.
pub fn looked(in_flight: &InFlight, lines_lost: usize) {
    let now = [
        (REQUESTS_NOW, in_flight.requests),
        (CONNECTIONS_NOW, in_flight.connections),
        (TUNNELS_NOW, in_flight.tunnels),
    ];
    for (name, count) in now {
        metrics::gauge!(name).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
    }
    let lost = u64::try_from(lines_lost).unwrap_or(u64::MAX);
    metrics::counter!(LINES_LOST).absolute(lost);
}

/// Tells that files were read, and what of them is in force.
pub(crate) fn in_force(served: usize, refused: usize) {
    metrics::counter!(RELOADS, "result" => "success").increment(1);
    metrics::gauge!(RELOADED).set(1.0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    metrics::gauge!(RELOADED_AT).set(now.unwrap_or_default().as_secs_f64());
    for (state, count) in [("served", served), ("refused", refused)] {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metrics::gauge!(APIS, "state" => state).set(f64::from(count));
    }
}

/// Tells that files were read, and what was in force before still is.
pub(crate) fn not_reloaded() {
    metrics::counter!(RELOADS, "result" => "failure").increment(1);
    metrics::gauge!(RELOADED).set(0.0);
}

/// An API's id as a label: its own, while there are few.
fn label(api: &str) -> SharedString {
    static KNOWN: LazyLock<Mutex<HashSet<Arc<str>>>> = LazyLock::new(Mutex::default);
    known(&mut KNOWN.lock(), api)
}

fn known(known: &mut HashSet<Arc<str>>, api: &str) -> SharedString {
    if let Some(api) = known.get(api) {
        return api.clone().into();
    }
    if known.len() >= MAX_APIS {
        return SharedString::const_str("other");
    }
    let api: Arc<str> = api.into();
    known.insert(api.clone());
    api.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apis_without_end_have_labels_with_one() {
        let mut seen = HashSet::new();
        for api in 0..MAX_APIS {
            assert_eq!(&*known(&mut seen, &api.to_string()), api.to_string());
        }
        assert_eq!(&*known(&mut seen, "one-more"), "other");
        assert_eq!(&*known(&mut seen, "7"), "7");
        assert_eq!(seen.len(), MAX_APIS);
    }
}
