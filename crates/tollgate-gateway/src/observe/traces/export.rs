//! Sends spans: protobuf over HTTP/1.1, or by gRPC over HTTP/2.
//!
//! It is called by one thread of the SDK, which waits for it; a runtime of its own drives the connection,
//! so that the one that serves requests has no part in it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri,
    header::{CONTENT_TYPE, HOST, TE},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use prost::Message;
use tollgate_core::ErrorChain;

use crate::{
    config::{OpenTelemetryOptions, TracesTls},
    observe::meters,
    proxy::{ClientOptions, Protocol, ProxyBody, UpstreamClient, UpstreamTls},
    tls::TlsRules,
};

/// The attribute of spans that are not sent.
pub(super) const UNTRACKED: &str = "tollgate.untracked";

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";

/// The most that is read of an answer, in bytes.
const MOST_ANSWER: usize = 64 * 1024;

/// Sends spans.
#[derive(Debug)]
pub(super) struct OtlpExporter {
    runtime: tokio::runtime::Runtime,
    client: UpstreamClient<Full<Bytes>>,
    form: Form,
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    resource: ResourceAttributesWithSchema,
    is_failing: AtomicBool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Http,
    Grpc,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why spans were not taken.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("no answer: {0}")]
    Unreachable(String),
    #[error("no answer in time")]
    TimedOut,
    #[error("answered with {0}")]
    Refused(String),
}

impl OtlpExporter {
    pub(super) fn new(options: &OpenTelemetryOptions) -> Result<Self, BoxError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = ClientOptions {
            connect_timeout: options.connect_timeout(),
            handshake_timeout: options.connect_timeout(),
            max_idle_per_upstream: 0, // Nobody looks after a connection between two batches.
            tls: tls(&options.tls)?,
            ..ClientOptions::default()
        };
        let form = if options.is_grpc() {
            Form::Grpc
        } else {
            Form::Http
        };
        let endpoint = options.endpoint_uri();
        let endpoint = endpoint.ok_or("the endpoint is no URL")?;
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let mut value = HeaderValue::try_from(value.expose())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::try_from(name)?, value);
        }
        Ok(Self {
            runtime,
            client: UpstreamClient::new(&client)?,
            form,
            uri: whole(endpoint, form)?,
            headers,
            timeout: options.export_timeout(),
            resource: ResourceAttributesWithSchema::default(),
            is_failing: AtomicBool::new(false),
        })
    }

    async fn send(&self, spans: Bytes) -> Result<(), ExportError> {
        let protocol = match self.form {
            Form::Http => Protocol::Http1,
            Form::Grpc => Protocol::Http2,
        };
        let sending = async {
            let response = self.client.send_over(protocol, self.request(spans)).await;
            let response =
                response.map_err(|err| ExportError::Unreachable(ErrorChain(&err).to_string()))?;
            self.read(response).await
        };
        let sent = tokio::time::timeout(self.timeout, sending).await;
        sent.map_err(|_| ExportError::TimedOut)?
    }

    fn request(&self, spans: Bytes) -> Request<Full<Bytes>> {
        let (kind, body) = match self.form {
            Form::Http => ("application/x-protobuf", spans),
            Form::Grpc => ("application/grpc", framed(&spans)),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        match (self.form, self.uri.authority()) {
            (Form::Http, Some(host)) => {
                let host = HeaderValue::try_from(host.as_str());
                headers.extend(host.ok().map(|host| (HOST, host)));
            }
            _ => {
                headers.insert(TE, HeaderValue::from_static("trailers"));
                *request.version_mut() = http::Version::HTTP_2;
            }
        }
        request
    }

    /// What the answer says of the spans.
    async fn read(&self, response: Response<ProxyBody>) -> Result<(), ExportError> {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await;
        let body = body.map_err(|err| ExportError::Unreachable(ErrorChain(&*err).to_string()))?;
        if !head.status.is_success() {
            return Err(ExportError::Refused(head.status.to_string()));
        }
        let trailers = body.trailers().cloned().unwrap_or_default();
        let mut bytes = body.to_bytes();
        if self.form == Form::Grpc {
            // Where there is no message, the status is in the head.
            let status = trailers
                .get("grpc-status")
                .or(head.headers.get("grpc-status"));
            let status = status
                .and_then(|status| status.to_str().ok())
                .unwrap_or("2");
            if status != "0" {
                return Err(ExportError::Refused(format!("the gRPC status {status}")));
            }
            bytes = bytes.slice(bytes.len().min(5)..);
        }
        let answer = ExportTraceServiceResponse::decode(bytes).unwrap_or_default();
        match answer.partial_success {
            Some(partial) if partial.rejected_spans > 0 => Err(ExportError::Refused(format!(
                "{} spans refused",
                partial.rejected_spans
            ))),
            _ => Ok(()),
        }
    }

    /// Tells the log when things change, and metrics each time.
    fn tell(&self, spans: usize, sent: &Result<(), ExportError>) {
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        match sent {
            Err(error) => {
                meters::spans_lost(spans);
                if !was_failing {
                    tracing::warn!(%error, "spans are lost, as they can not be sent");
                }
            }
            Ok(()) if was_failing => tracing::info!("spans are sent again"),
            Ok(()) => {}
        }
    }
}

impl SpanExporter for OtlpExporter {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.retain(|span| {
            span.attributes
                .iter()
                .all(|of| of.key.as_str() != UNTRACKED)
        });
        let count = batch.len();
        if count == 0 {
            return Ok(());
        }
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let spans = request.encode_to_vec().into();
        let sent = self.runtime.block_on(self.send(spans));
        self.tell(count, &sent);
        sent.map_err(|err| OTelSdkError::InternalFailure(err.to_string()))
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

/// Where spans are sent. A path of the endpoint's own is taken as it is, for plain HTTP.
fn whole(endpoint: Uri, form: Form) -> Result<Uri, http::Error> {
    let mut parts = endpoint.into_parts();
    let path = parts.path_and_query.take();
    let own = path.filter(|path| form == Form::Http && path.path() != "/");
    let usual = match form {
        Form::Http => HTTP_PATH,
        Form::Grpc => GRPC_PATH,
    };
    parts.path_and_query = Some(own.unwrap_or(PathAndQuery::from_static(usual)));
    Ok(Uri::from_parts(parts)?)
}

/// A message of gRPC: not compressed, its length, itself.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX)); // A batch has no gigabytes.
    framed.put_slice(message);
    framed.freeze()
}

fn tls(options: &TracesTls) -> Result<UpstreamTls, BoxError> {
    let (oldest, newest) = options.versions();
    let certificate = if options.enable {
        &options.cert_file
    } else {
        ""
    };
    let (unverified, authorities) = (options.insecure_skip_verify, &options.ca_file);
    Ok(UpstreamTls {
        rules: TlsRules::new(oldest, newest, &[])?,
        ..UpstreamTls::of_files(unverified, authorities, certificate, &options.key_file)?
    })
}
