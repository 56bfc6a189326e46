//! Traces over OTLP: the `opentelemetry` block.

use std::{collections::BTreeMap, time::Duration};

use tollgate_core::Secret;

use crate::{
    problem::{JsonPath, Problem},
    record::record,
};

record! {
    /// Traces over OTLP.
    pub struct OpenTelemetryOptions {
        /// Whether requests are traced.
        pub enabled: bool,
        /// How spans are sent: `grpc`, or `http`. Empty: `grpc`.
        pub exporter: String,
        /// Where to: `host:port`, or a URL. Empty: `localhost:4317`.
        pub endpoint: String,
        /// Headers of what is sent.
        #[schemars(with = "BTreeMap<String, String>")]
        pub headers: BTreeMap<String, Secret>,
        /// Seconds to connect. Zero: 1.
        pub connection_timeout: i64,
        /// What this service is called. Empty: `tyk`.
        pub resource_name: String,
        /// `batch`. Empty: `batch`.
        pub span_processor_type: String,
        /// Which headers name a trace: `tracecontext`, or `b3`. Empty: `tracecontext`.
        pub context_propagation: String,
        /// The header of `custom` and `composite` propagation.
        pub custom_trace_header: String,
        /// TLS.
        pub tls: TracesTls,
        /// Which requests are traced.
        pub sampling: Sampling,
        /// Spans that are sent together. Zero: 512.
        pub batch_size: i64,
        /// Milliseconds until a batch is sent that is not full. Zero: 5000.
        pub batch_timeout: i64,
        /// Spans that wait; further ones are lost. Zero: 2048.
        pub batch_queue_size: i64,
        /// Milliseconds that sending may take. Zero: 30000.
        pub batch_export_timeout: i64,
        /// Metrics over OTLP.
        pub metrics: OtlpMetricsOptions,
    }

    /// Metrics over OTLP.
    pub struct OtlpMetricsOptions {
        /// Whether metrics are sent.
        pub enabled: bool,
    }

    /// TLS towards who takes the spans.
    pub struct TracesTls {
        /// Whether TLS is spoken.
        pub enable: bool,
        /// Whether no certificate is looked at.
        pub insecure_skip_verify: bool,
        /// The authorities that are believed, in a PEM file. Empty: the system's.
        pub ca_file: String,
        /// Our certificate.
        pub cert_file: String,
        /// Its key.
        pub key_file: String,
        /// The newest version: `1.2` or `1.3`.
        pub max_version: String,
        /// The oldest version: `1.2` or `1.3`.
        pub min_version: String,
    }

    /// Which requests are traced.
    pub struct Sampling {
        /// `AlwaysOn`, `AlwaysOff` or `TraceIDRatioBased`. Empty: `AlwaysOn`.
        pub r#type: String,
        /// The part of traces for `TraceIDRatioBased`, from 0 to 1. Zero: 0.5.
        pub rate: f64,
        /// Whether the caller's decision goes first, where it made one.
        pub parent_based: bool,
    }
}

/// The names of Tyk's samplers.
const SAMPLERS: [&str; 4] = ["", "AlwaysOn", "AlwaysOff", "TraceIDRatioBased"];

impl OpenTelemetryOptions {
    /// What of the block can not be followed.
    pub(super) fn check(&self) -> Vec<Problem> {
        if !self.enabled {
            return Vec::new();
        }
        let path = |member: &str| JsonPath::from("opentelemetry").key(member);
        let mut problems = Vec::new();
        let mut wrong =
            |path: JsonPath, message: &str| problems.push(Problem::error("", message).at(path));
        if !["", "grpc", "http"].contains(&self.exporter.as_str()) {
            wrong(path("exporter"), "expected `grpc` or `http`");
        }
        if self.endpoint_uri().is_none() {
            let message = "expected `host:port`, or a URL as `https://host:4318`";
            wrong(path("endpoint"), message);
        }
        for (name, value) in &self.headers {
            let is_right = http::HeaderName::try_from(name).is_ok()
                && http::HeaderValue::try_from(value.expose()).is_ok();
            if !is_right {
                wrong(path("headers").key(name), "this header can not be sent");
            }
        }
        let sampling = path("sampling");
        if !SAMPLERS.contains(&self.sampling.r#type.as_str()) {
            let message = "expected `AlwaysOn`, `AlwaysOff` or `TraceIDRatioBased`";
            wrong(sampling.key("type"), message);
        }
        if !(0.0..=1.0).contains(&self.sampling.rate) {
            wrong(
                sampling.key("rate"),
                "expected a part of the whole, from 0 to 1",
            );
        }
        let tls = path("tls");
        for (member, version) in [
            ("min_version", &self.tls.min_version),
            ("max_version", &self.tls.max_version),
        ] {
            if tls_version(version).is_none() {
                wrong(tls.key(member), "expected `1.2` or `1.3`");
            }
        }
        let mut other =
            |path: JsonPath, message: &str| problems.push(Problem::warning("", message).at(path));
        if !["", "tracecontext", "b3"].contains(&self.context_propagation.as_str()) {
            let message = "not built; `tracecontext` is used";
            other(path("context_propagation"), message);
        }
        if !["", "batch"].contains(&self.span_processor_type.as_str()) {
            let message = "spans are sent in batches, so that no request waits for it";
            other(path("span_processor_type"), message);
        }
        problems
    }

    /// Whether spans are sent by gRPC, and not by plain HTTP.
    pub fn is_grpc(&self) -> bool {
        self.exporter != "http"
    }

    /// Where spans are sent: scheme and host, and a path where one is given.
    pub fn endpoint_uri(&self) -> Option<http::Uri> {
        let endpoint = match self.endpoint.as_str() {
            "" => "localhost:4317",
            endpoint => endpoint,
        };
        let scheme = if self.tls.enable { "https" } else { "http" };
        let uri = if endpoint.contains("://") {
            endpoint.parse::<http::Uri>()
        } else {
            format!("{scheme}://{endpoint}").parse()
        };
        let uri = uri.ok()?;
        let is_right = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty());
        is_right.then_some(uri)
    }

    /// How long it may take to connect.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(count(self.connection_timeout, 1))
    }

    /// How long it may take to send a batch.
    pub fn export_timeout(&self) -> Duration {
        Duration::from_millis(count(self.batch_export_timeout, 30_000))
    }

    /// How long a span may wait for others.
    pub fn batch_delay(&self) -> Duration {
        Duration::from_millis(count(self.batch_timeout, 5_000))
    }

    /// How many spans are sent together, and how many may wait.
    pub fn batch_sizes(&self) -> (usize, usize) {
        let size = |given, default| usize::try_from(count(given, default)).unwrap_or(usize::MAX);
        (
            size(self.batch_size, 512),
            size(self.batch_queue_size, 2048),
        )
    }

    /// What this service is called.
    pub fn service_name(&self) -> &str {
        match self.resource_name.as_str() {
            "" => "tyk",
            name => name,
        }
    }
}

impl TracesTls {
    /// The oldest and the newest version, as TLS numbers them; zero for any.
    pub fn versions(&self) -> (u16, u16) {
        let version = |name: &str| tls_version(name).unwrap_or_default();
        (version(&self.min_version), version(&self.max_version))
    }
}

fn tls_version(name: &str) -> Option<u16> {
    Some(match name {
        "" => 0,
        "1.0" => 769,
        "1.1" => 770,
        "1.2" => 771,
        "1.3" => 772,
        _ => return None,
    })
}

/// A number of the file, where it says one.
fn count(given: i64, default: u64) -> u64 {
    match u64::try_from(given) {
        Ok(given) if given > 0 => given,
        _ => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(endpoint: &str, tls: bool, expected: Option<&str>) {
        let options = OpenTelemetryOptions {
            endpoint: endpoint.into(),
            tls: TracesTls {
                enable: tls,
                ..TracesTls::default()
            },
            ..OpenTelemetryOptions::default()
        };
        let uri = options.endpoint_uri().map(|uri| uri.to_string());
        assert_eq!(uri.as_deref(), expected, "{endpoint}");
    }

    #[test]
    fn an_endpoint_is_a_host_or_a_url() {
        check("", false, Some("http://localhost:4317/"));
        check("collector:4318", true, Some("https://collector:4318/"));
        check(
            "https://c.example/otlp",
            false,
            Some("https://c.example/otlp"),
        );
        check("ftp://c.example", false, None);
        check("a b", false, None);
    }
}
