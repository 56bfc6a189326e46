//! The access log: a line for each request, written when its answer has been sent or its client is gone.
//!
//! Names of members are Tyk's where Tyk has the member (`access_logs`, spec: Tyk 5.8 and later); times
//! are milliseconds as there, with three decimals. A line is JSON, or `name=value` as Tyk's text log
//! writes it, with values quoted that hold anything else than plain characters: nothing that a client
//! sends can make a second line, or a second member.

use std::{
    fmt,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{
    Extensions, HeaderValue, Method, Request, Uri, Version,
    header::{HOST, USER_AGENT},
    request::Parts,
};
use jiff::Timestamp;
use tollgate::{KeyScheme, context::ClientAddr, gated::RefusedBy, token_source::TokenSource};

use super::{
    caller::Caller,
    meters::UpstreamNote,
    request_id::trace_of,
    tracked::Endpoint,
    watch::{CLIENT_GONE, End},
};
use crate::{
    definition::Definition,
    serve::{Peer, RequestBody},
};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Form {
    /// `name=value`.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

macro_rules! fields {
    ($( $(#[$meta:meta])* $field:ident = $name:literal, )*) => {
        /// A member of a line.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Field {
            $( $(#[$meta])* $field, )*
        }

        impl Field {
            /// All of them, in the order of a line.
            pub const ALL: &[Self] = &[$( Self::$field, )*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self {
                    $( Self::$field => $name, )*
                }
            }
        }
    };
}

fields! {
    /// The id of the API that answered.
    ApiId = "api_id",
    /// The token's name in the store where tokens are stored hashed, else its last four characters.
    ApiKey = "api_key",
    /// The API's name.
    ApiName = "api_name",
    /// The name of the version that was called.
    ApiVersion = "api_version",
    /// The alias of the key.
    Alias = "alias",
    /// How many bytes of the request's body were read.
    BytesIn = "bytes_in",
    /// How many bytes of the answer's body were handed on.
    BytesOut = "bytes_out",
    /// The APIs that handed the request on to the one that answered, by commas.
    CameBy = "came_by",
    /// The client's address, as trusted proxies tell it.
    ClientIp = "client_ip",
    /// Whether the answer broke off, or the client did not wait for it.
    CutOff = "cut_off",
    /// The pattern of the endpoint, where the definition tracks it.
    Endpoint = "endpoint",
    /// The host that was asked for.
    Host = "host",
    /// All of the time but the upstream's.
    LatencyGateway = "latency_gateway",
    /// From the request's head to the answer's end.
    LatencyTotal = "latency_total",
    /// The request's method.
    Method = "method",
    /// The API's organisation.
    OrgId = "org_id",
    /// The path that was asked for, without the query.
    Path = "path",
    /// The version of HTTP.
    Protocol = "protocol",
    /// Why the answer is the gateway's own, as metrics and problem documents call it.
    Reason = "reason",
    /// The gate that refused.
    RefusedBy = "refused_by",
    /// The other end of the connection: address and port.
    RemoteAddr = "remote_addr",
    /// What the request is called.
    RequestId = "request_id",
    /// The answer's status; 499 where the client did not wait for it.
    Status = "status",
    /// The trace of the request, where it has one.
    TraceId = "trace_id",
    /// Where the request was sent, without the query.
    UpstreamAddr = "upstream_addr",
    /// From sending the request to the head of the upstream's answer.
    UpstreamLatency = "upstream_latency",
    /// What the client calls itself.
    UserAgent = "user_agent",
}

impl Field {
    /// The member of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }
}

/// Where lines go, and what is in them. A clone is the same log.
#[derive(Clone)]
pub struct AccessLog(Arc<Inner>);

type Write = dyn Fn(&[u8]) + Send + Sync;

struct Inner {
    write: Box<Write>,
    form: Form,
    fields: Box<[Field]>,
}

impl AccessLog {
    /// Hands each line, with its end, to `write`, which is called while requests are served and must not
    /// wait. The template names the members; an empty one has all, and names that are unknown are
    /// passed over, as in Tyk.
    pub fn new(
        form: Form,
        template: &[String],
        write: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> Self {
        let named = template.iter().filter_map(|name| Field::from_name(name));
        let fields = if template.is_empty() {
            Field::ALL.into()
        } else {
            named.collect()
        };
        Self(Arc::new(Inner {
            write: Box::new(write),
            form,
            fields,
        }))
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog")
            .field("form", &self.0.form)
            .field("fields", &self.0.fields)
            .finish_non_exhaustive()
    }
}

/// What lines say of an API, and how its tokens are told.
#[derive(Default)]
pub(super) struct Subject {
    id: String,
    name: String,
    org: String,
    sources: Vec<Arc<dyn TokenSource>>,
    keys: Option<KeyScheme>,
}

impl Subject {
    pub(super) fn of(
        definition: &Definition,
        sources: Vec<Arc<dyn TokenSource>>,
        keys: KeyScheme,
    ) -> Self {
        Self {
            id: definition.api_id.as_str().to_owned(),
            name: definition.name.clone(),
            org: definition.org_id.as_str().to_owned(),
            sources,
            keys: Some(keys),
        }
    }

    /// The token of a request in the form in which it may be told.
    fn key_of(&self, request: &mut Request<RequestBody>) -> Option<String> {
        // Sources read a head without its body; it is lent to them.
        let (mut head, ()) = Request::new(()).into_parts();
        head.uri = request.uri().clone();
        std::mem::swap(&mut head.headers, request.headers_mut());
        let key = self.key(&head);
        *request.headers_mut() = head.headers;
        key
    }

    fn key(&self, head: &Parts) -> Option<String> {
        let mut found = self.sources.iter().map(|source| source.find(head));
        let token = found.find_map(Result::transpose)?.ok()?;
        let name = self.keys.as_ref()?.storage_key(&token);
        Some(if name.as_str() == token {
            obfuscated(&token)
        } else {
            name.as_str().to_owned()
        })
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.id).finish()
    }
}

/// As Tyk hides a token that is stored plainly.
fn obfuscated(token: &str) -> String {
    match token.char_indices().rev().nth(3) {
        Some((at, _)) if at > 0 => format!("****{}", &token[at..]),
        _ => "----".to_owned(),
    }
}

/// Who answers a request, and what it has to say of it.
#[derive(Clone)]
pub(super) struct Answerer {
    subject: Arc<Subject>,
    key: Option<String>,
    caller: Caller,
    refused_by: Option<&'static str>,
    reason: Option<String>,
    endpoint: Option<Arc<Endpoint>>,
    /// The APIs that handed the request on, the last one first.
    came_by: Vec<Arc<Subject>>,
}

impl Answerer {
    pub(super) fn new(subject: Arc<Subject>, request: &mut Request<RequestBody>) -> Self {
        Self {
            key: subject.key_of(request),
            subject,
            caller: Caller::default(),
            refused_by: None,
            reason: None,
            endpoint: None,
            came_by: Vec::new(),
        }
    }

    pub(super) fn answered(&mut self, decision: Option<&str>, extensions: &mut Extensions) {
        self.reason = decision.map(str::to_owned);
        self.caller = extensions.remove().unwrap_or_default();
        if let Some(refused) = extensions.remove::<RefusedBy>() {
            self.refused_by = Some(refused.gate);
            self.caller.session = self.caller.session.take().or(refused.session);
        }
    }

    pub(super) fn tracks(&mut self, endpoint: Arc<Endpoint>) {
        self.endpoint = Some(endpoint);
    }

    /// The request was handed on by this API.
    pub(super) fn came_by(&mut self, api: &Self) {
        self.came_by.push(api.subject.clone());
    }
}

/// A line in the making.
pub(super) struct Entry {
    log: AccessLog,
    at: Timestamp,
    id: HeaderValue,
    method: Method,
    uri: Uri,
    version: Version,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    trace: Option<HeaderValue>,
    client: Option<IpAddr>,
    peer: Option<SocketAddr>,
    received: Arc<AtomicU64>,
    upstream: Option<UpstreamNote>,
}

impl Entry {
    /// The trace is the client's, where there is none of our own.
    pub(super) fn new(
        log: AccessLog,
        (id, trace): (HeaderValue, Option<HeaderValue>),
        request: &mut Request<RequestBody>,
    ) -> Self {
        let received = request.body_mut().counted();
        let client = request.extensions().get::<ClientAddr>();
        let client = client.map(|ClientAddr(addr)| *addr);
        let peer = request.extensions().get::<Peer>().map(Peer::addr);
        let header = |name| request.headers().get(name).cloned();
        Self {
            log,
            at: Timestamp::now(),
            id,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: header(HOST),
            user_agent: header(USER_AGENT),
            trace: trace.or_else(|| trace_of(request.headers())),
            client,
            peer,
            received,
            upstream: None,
        }
    }

    pub(super) fn answered(&mut self, extensions: &mut Extensions) {
        self.upstream = extensions.remove();
    }

    pub(super) fn write(&self, by: &Answerer, end: &End) {
        let log = &self.log.0;
        let mut line = Line::begin(log.form);
        line.text("time", &format!("{:.3}", self.at));
        line.text("level", "info");
        line.text("prefix", "access-log");
        for field in &log.fields {
            self.put(*field, by, end, &mut line);
        }
        (log.write)(&line.end());
    }

    /// Writes a member, where there is something to be said.
    fn put(&self, field: Field, by: &Answerer, end: &End, line: &mut Line) {
        let name = field.name();
        let upstream = self.upstream.as_ref();
        match field {
            Field::ApiId => line.given(name, &by.subject.id),
            Field::ApiKey => line.given(name, by.key.as_deref().unwrap_or_default()),
            Field::ApiName => line.given(name, &by.subject.name),
            Field::ApiVersion => {
                let called = by.caller.version.as_ref();
                line.given(name, called.map_or("", |called| &called.name));
            }
            Field::Alias => {
                let session = by.caller.session.as_ref();
                line.given(name, session.map_or("", |session| &session.alias));
            }
            Field::BytesIn => line.raw(name, self.received.load(Ordering::Relaxed)),
            Field::BytesOut => line.raw(name, end.sent),
            Field::CameBy => {
                let ids = by.came_by.iter().rev().map(|api| api.id.as_str());
                line.given(name, &ids.collect::<Vec<_>>().join(","));
            }
            Field::ClientIp => line.shown(name, self.client),
            Field::CutOff if end.is_whole => {}
            Field::CutOff => line.raw(name, true),
            Field::Endpoint => {
                let endpoint = by.endpoint.as_ref();
                line.given(name, endpoint.map_or("", |endpoint| endpoint.name()));
            }
            Field::Host => line.header(name, self.host.as_ref()),
            Field::LatencyGateway => {
                let upstream = upstream.map_or(Duration::ZERO, |upstream| upstream.latency);
                line.raw(name, Millis(end.took.saturating_sub(upstream)));
            }
            Field::LatencyTotal => line.raw(name, Millis(end.took)),
            Field::Method => line.text(name, self.method.as_str()),
            Field::OrgId => line.given(name, &by.subject.org),
            Field::Path => line.text(name, self.uri.path()),
            Field::Protocol => line.text(name, &format!("{:?}", self.version)),
            Field::Reason => {
                let gone = end.status.is_none().then_some(CLIENT_GONE);
                line.given(name, gone.or(by.reason.as_deref()).unwrap_or_default());
            }
            Field::RefusedBy => line.given(name, by.refused_by.unwrap_or_default()),
            Field::RemoteAddr => line.shown(name, self.peer),
            Field::RequestId => line.header(name, Some(&self.id)),
            Field::Status => line.raw(name, end.status.map_or(499, |status| status.as_u16())),
            Field::TraceId => line.header(name, self.trace.as_ref()),
            Field::UpstreamAddr => {
                line.shown(name, upstream.map(|upstream| WithoutQuery(&upstream.uri)))
            }
            Field::UpstreamLatency => {
                if let Some(upstream) = upstream {
                    line.raw(name, Millis(upstream.latency));
                }
            }
            Field::UserAgent => line.header(name, self.user_agent.as_ref()),
        }
    }
}

/// Milliseconds, with three decimals.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

/// A URI up to its query.
struct WithoutQuery<'a>(&'a Uri);

impl fmt::Display for WithoutQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let host = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{host}{}", self.0.path())
    }
}

/// A line as it grows.
struct Line {
    form: Form,
    bytes: Vec<u8>,
}

// Writing into memory does not fail.
impl Line {
    fn begin(form: Form) -> Self {
        let mut bytes = Vec::with_capacity(768);
        if form == Form::Json {
            bytes.push(b'{');
        }
        Self { form, bytes }
    }

    fn name(&mut self, name: &str) {
        let is_first = self.bytes.len() <= 1;
        let (between, mark, behind) = match self.form {
            Form::Json => (",", "\"", "\":"),
            Form::Text => (" ", "", "="),
        };
        for part in [if is_first { "" } else { between }, mark, name, behind] {
            self.bytes.extend_from_slice(part.as_bytes());
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/@^+:*%".contains(&byte);
        if self.form == Form::Text && !text.is_empty() && text.bytes().all(is_plain) {
            self.bytes.extend_from_slice(text.as_bytes());
        } else {
            let _ = serde_json::to_writer(&mut self.bytes, text);
        }
    }

    /// A text that may be missing.
    fn given(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.text(name, text);
        }
    }

    fn shown(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.text(name, &value.to_string());
        }
    }

    fn header(&mut self, name: &str, value: Option<&HeaderValue>) {
        if let Some(value) = value {
            self.given(name, &String::from_utf8_lossy(value.as_bytes()));
        }
    }

    /// A number or a truth value.
    fn raw(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let _ = write!(self.bytes, "{value}");
    }

    fn end(mut self) -> Vec<u8> {
        if self.form == Form::Json {
            self.bytes.push(b'}');
        }
        self.bytes.push(b'\n');
        self.bytes
    }
}
