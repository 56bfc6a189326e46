//! Traces: a span for each request, and one for each call of an upstream, sent over OTLP.
//!
//! Names are those of OpenTelemetry's conventions for HTTP, and Tyk's for what is of a gateway. The trace
//! that a client names goes on, in a new span; where it names none, or names it wrongly, one begins. Spans
//! hold methods, paths and codes, and of a key its alias: never a token, a header, a query or a body.

mod export;
mod propagation;

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, Method, Request, StatusCode, Uri};
use opentelemetry::{
    KeyValue,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TracerProvider,
    },
};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span},
};

use tollgate::context::TraceId;
use tollgate_core::ErrorChain;

use self::{
    export::{OtlpExporter, UNTRACKED},
    propagation::Propagation,
};
use super::Caller;
use crate::{
    config::{Config, OpenTelemetryOptions},
    definition::Definition,
};

/// Makes spans. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagation: Propagation,
}

impl Tracer {
    /// Begins to trace, where the configuration asks for it. What can not be sent is lost, and told in the
    /// log; nobody who is served waits for it.
    pub fn begin(config: &Config) -> Option<Self> {
        let options = &config.opentelemetry;
        if !options.enabled {
            return None;
        }
        let exporter = OtlpExporter::new(options)
            .inspect_err(|err| tracing::error!("nothing is traced: {}", ErrorChain(&**err)))
            .ok()?;
        let (batch, queue) = options.batch_sizes();
        let batches = BatchConfigBuilder::default()
            .with_max_export_batch_size(batch)
            .with_max_queue_size(queue)
            .with_scheduled_delay(options.batch_delay())
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let resource = Resource::builder_empty()
            .with_service_name(options.service_name().to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(sampler(options))
            .with_resource(resource)
            .build();
        Some(Self(Arc::new(Inner {
            tracer: provider.tracer("tollgate"),
            provider,
            propagation: Propagation::from_name(&options.context_propagation),
        })))
    }

    /// Sends what waits, for at most a few seconds. Nothing is traced afterwards.
    pub fn end(&self) {
        if let Err(err) = self.0.provider.shutdown() {
            tracing::warn!(%err, "the last spans may be lost");
        }
    }

    /// What makes the spans of one API.
    pub(crate) fn api(&self, definition: &Definition) -> ApiTracer {
        let listen = &definition.proxy.listen_path;
        ApiTracer {
            tracer: self.clone(),
            route: Some(listen.as_str().into()),
            attributes: [
                ("tyk.api.id", definition.api_id.as_str()),
                ("tyk.api.name", &definition.name),
                ("tyk.api.orgid", definition.org_id.as_str()),
                ("http.route", listen),
            ]
            .map(|(name, value)| KeyValue::new(name, value.to_owned()))
            .into(),
        }
    }

    /// What makes the spans of requests that meet no API.
    pub(crate) fn no_api(&self) -> ApiTracer {
        ApiTracer {
            tracer: self.clone(),
            route: None,
            attributes: Arc::default(),
        }
    }

    /// Begins the span of a call of an upstream, and names it to that. There is none where the request that
    /// leads to it is not traced.
    pub(crate) fn upstream<B>(
        &self,
        request: &mut Request<B>,
        uri: &http::Uri,
    ) -> Option<UpstreamSpan> {
        let Parent(parent) = request.extensions_mut().remove::<Parent>()?;
        let mut attributes = vec![
            method(request.method()),
            KeyValue::new("server.address", uri.host().unwrap_or_default().to_owned()),
            KeyValue::new("url.full", without_query(uri)),
        ];
        let port = uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        });
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        let builder = SpanBuilder::from_name(request.method().to_string())
            .with_kind(SpanKind::Client)
            .with_attributes(attributes);
        let context = opentelemetry::Context::new().with_remote_span_context(parent);
        let span = builder.start_with_context(&self.0.tracer, &context);
        let headers = request.headers_mut();
        self.0.propagation.inject(span.span_context(), headers);
        Some(UpstreamSpan(span))
    }
}

fn sampler(options: &OpenTelemetryOptions) -> Sampler {
    let sampling = &options.sampling;
    let sampler = match sampling.r#type.as_str() {
        "AlwaysOff" => Sampler::AlwaysOff,
        "TraceIDRatioBased" if sampling.rate == 0.0 => Sampler::TraceIdRatioBased(0.5), // As in Tyk.
        "TraceIDRatioBased" => Sampler::TraceIdRatioBased(sampling.rate),
        _ => Sampler::AlwaysOn,
    };
    if sampling.parent_based {
        Sampler::ParentBased(Box::new(sampler))
    } else {
        sampler
    }
}

/// The span of what leads to calls: in the extensions of a request.
#[derive(Clone, Debug)]
struct Parent(SpanContext);

/// Leaves the calls that this request leads to out of its trace.
pub(crate) fn untrack(extensions: &mut http::Extensions) {
    extensions.remove::<Parent>();
}

/// Makes the spans of one API.
#[derive(Clone, Debug)]
pub(crate) struct ApiTracer {
    tracer: Tracer,
    route: Option<Arc<str>>,
    attributes: Arc<[KeyValue]>,
}

impl ApiTracer {
    /// Begins the span of a request: within that of the API that handed it on, or of the client.
    pub(crate) fn request<B>(&self, request: &mut Request<B>) -> RequestSpan {
        let inner = &self.tracer.0;
        let handed = request.extensions_mut().remove::<Parent>();
        let (kind, context) = match handed {
            Some(Parent(parent)) => {
                let context = opentelemetry::Context::new().with_remote_span_context(parent);
                (SpanKind::Internal, context)
            }
            None => (
                SpanKind::Server,
                inner.propagation.extract(request.headers()),
            ),
        };
        let name = match &self.route {
            Some(route) => format!("{} {route}", known(request.method())),
            None => known(request.method()).to_owned(),
        };
        let mut attributes = Vec::with_capacity(self.attributes.len() + 8);
        attributes.extend_from_slice(&self.attributes);
        attributes.push(method(request.method()));
        attributes.push(KeyValue::new("url.path", request.uri().path().to_owned()));
        let builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_attributes(attributes);
        let span = builder.start_with_context(&inner.tracer, &context);
        let trace: Arc<str> = span.span_context().trace_id().to_string().into();
        let extensions = request.extensions_mut();
        extensions.insert(Parent(span.span_context().clone()));
        extensions.insert(TraceId(trace.clone()));
        RequestSpan {
            span: Box::new(span),
            trace,
        }
    }
}

/// The span of a request. It ends when this is dropped.
pub(crate) struct RequestSpan {
    span: Box<Span>,
    trace: Arc<str>,
}

impl RequestSpan {
    /// The trace that it belongs to.
    pub(crate) fn trace_id(&self) -> HeaderValue {
        HeaderValue::try_from(self.trace.as_ref()).expect("hexadecimal digits are ASCII")
    }

    /// The request has an answer, and why that is the gateway's own, if it is.
    pub(crate) fn answered(&mut self, status: StatusCode, decision: Option<&str>, caller: &Caller) {
        let span = &mut self.span;
        span.set_attribute(code(status));
        if let Some(decision) = decision {
            span.set_attribute(KeyValue::new("tollgate.decision", decision.to_owned()));
        }
        if let Some(session) = caller
            .session
            .as_ref()
            .filter(|session| !session.alias.is_empty())
        {
            span.set_attribute(KeyValue::new("tyk.api.apikey.alias", session.alias.clone()));
        }
        if let Some(version) = &caller.version {
            span.set_attribute(KeyValue::new("tyk.api.version", version.name.clone()));
        }
        if status.is_server_error() {
            span.set_status(Status::error(decision.unwrap_or_default().to_owned()));
        }
    }

    /// The request is one to this endpoint.
    pub(crate) fn tracks(&mut self, endpoint: &str) {
        self.span
            .set_attribute(KeyValue::new("tollgate.endpoint", endpoint.to_owned()));
    }

    /// The definition does not want the request to be told of: the span is not sent.
    pub(crate) fn is_not_tracked(&mut self) {
        self.span.set_attribute(KeyValue::new(UNTRACKED, true));
    }

    /// The client did not wait for the answer.
    pub(crate) fn gone(&mut self) {
        self.span.set_status(Status::error("client_gone"));
    }
}

/// The span of a call of an upstream. Where it is dropped, there was no answer.
pub(crate) struct UpstreamSpan(Span);

impl UpstreamSpan {
    /// The head of the answer has come, or it is clear why none will.
    pub(crate) fn answered(mut self, answer: Result<StatusCode, &'static str>) {
        match answer {
            Ok(status) => {
                self.0.set_attribute(code(status));
                if status.is_client_error() || status.is_server_error() {
                    self.0.set_status(Status::error(""));
                }
            }
            Err(why) => {
                self.0.set_attribute(KeyValue::new("error.type", why));
                self.0.set_status(Status::error(why));
            }
        }
        self.0.end();
    }
}

impl Drop for UpstreamSpan {
    fn drop(&mut self) {
        // Where it has ended, this changes nothing.
        self.0.set_status(Status::error("not_answered"));
    }
}

fn code(status: StatusCode) -> KeyValue {
    KeyValue::new("http.response.status_code", i64::from(status.as_u16()))
}

fn method(method: &Method) -> KeyValue {
    KeyValue::new("http.request.method", Cow::Owned::<str>(method.to_string()))
}

/// A method for the name of a span, of which there are to be few.
fn known(method: &Method) -> &str {
    const KNOWN: [Method; 8] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::HEAD,
        Method::OPTIONS,
        Method::TRACE,
    ];
    if KNOWN.contains(method) {
        method.as_str()
    } else {
        "HTTP"
    }
}

/// Scheme, host and path.
fn without_query(uri: &Uri) -> String {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!(
        "{}://{host}{}",
        uri.scheme_str().unwrap_or_default(),
        uri.path()
    )
}
