//! What is noted of one request, from its head to the end of its answer.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::{Extensions, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tollgate::{
    ApiId, Rejection,
    clock::{Clock, Moment, TokioClock},
};
use tracing::{Level, Span};

use super::{
    access_log::{AccessLog, Answerer, Entry, Subject},
    caller::Caller,
    meters::Meters,
    request_id::RequestIds,
    traces::{ApiTracer, RequestSpan},
    tracked::{Endpoint, Tracked},
};
use crate::{answer::AnswerBody, proxy::ProxyError, serve::RequestBody};

/// What is told of requests to one API.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiWatch {
    pub(super) log: Option<(AccessLog, Arc<Subject>)>,
    pub(super) meters: Option<Arc<Meters>>,
    pub(super) tracer: Option<ApiTracer>,
    pub(super) request_ids: RequestIds,
    pub(super) is_untracked: bool,
    pub(super) leads: Leads,
}

/// What may be in the extensions of an API's answers: nothing else is looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leads {
    /// Whether other APIs may have answered.
    pub(crate) to_apis: bool,
    /// Whether some endpoints are tracked otherwise than the rest.
    pub(crate) to_tracked: bool,
}

/// One request that is watched.
pub(crate) struct Watch {
    began: Moment,
    meters: Option<Arc<Meters>>,
    endpoint: Option<Arc<Endpoint>>,
    span: Option<RequestSpan>,
    /// What the log says of who answers.
    by: Option<Box<Answerer>>,
    /// What it says of the request. None where another API handed that on: the line is that API's.
    entry: Option<Box<Entry>>,
    id: Option<HeaderValue>,
    status: Option<StatusCode>, // None until it is answered.
    sent: u64,
    has_ended: bool,
    is_untracked: bool,
}

/// In the extensions of an answer to a request that was handed on: what the log is to say of it.
#[derive(Clone)]
enum Handed {
    /// What the API that answered says, if it has a log.
    By(Option<Box<Answerer>>),
    /// Nothing: that API does not want it to be tracked.
    Untracked,
}

impl ApiWatch {
    /// Begins to watch a request, if anybody looks. What is told of the request itself is read now, as
    /// its head is about to be changed.
    pub(crate) fn begin(&self, request: &mut Request<RequestBody>) -> Option<Box<Watch>> {
        let is_logged = tracing::enabled!(target: TARGET, Level::DEBUG);
        let is_named = self.log.is_some() || self.request_ids.are_told() || is_logged;
        let id = is_named.then(|| self.request_ids.name(request.headers_mut()));
        let mut watch = self.watch(request, is_named)?;
        if let Some(((log, _), id)) = self.log.as_ref().zip(id.clone()) {
            let trace = watch.span.as_ref().map(RequestSpan::trace_id);
            let entry = Entry::new(log.clone(), (id, trace), request);
            watch.entry = Some(Box::new(entry));
        }
        watch.id = id;
        Some(watch)
    }

    /// Begins to watch a request that another API hands on, if anybody looks.
    pub(crate) fn begin_handed(&self, request: &mut Request<RequestBody>) -> Option<Box<Watch>> {
        self.watch(request, false)
    }

    fn watch(&self, request: &mut Request<RequestBody>, is_named: bool) -> Option<Box<Watch>> {
        if !is_named && self.log.is_none() && self.meters.is_none() && self.tracer.is_none() {
            return None;
        }
        let tracer = self.tracer.as_ref();
        let subject = self.log.as_ref().map(|(_, subject)| subject.clone());
        Some(Box::new(Watch {
            began: TokioClock.now(),
            meters: self.meters.clone(),
            endpoint: None,
            span: tracer.map(|tracer| tracer.request(request)),
            by: subject.map(|subject| Box::new(Answerer::new(subject, request))),
            entry: None,
            id: None,
            status: None,
            sent: 0,
            has_ended: request.method() == Method::HEAD, // Whatever the length says, nothing follows.
            is_untracked: self.is_untracked,
        }))
    }

    /// The request has an answer. `decision` is what the answer means, where it is the gateway's own and
    /// does not say so itself.
    pub(crate) fn answered(
        &self,
        watch: Option<Box<Watch>>,
        mut response: Response<AnswerBody>,
        decision: Option<&'static str>,
    ) -> Response<AnswerBody> {
        let Some(mut watch) = watch else {
            return response;
        };
        self.settle(&mut watch, &mut response, decision);
        if let Some(id) = &watch.id {
            self.request_ids.tell(id, response.headers_mut());
        }
        if let Some(span) = &watch.span {
            response.headers_mut().insert(TRACE_ID, span.trace_id());
        }
        response.body_mut().watched(watch);
        response
    }

    /// The request has an answer, which the API that handed it on is about to get.
    pub(crate) fn answered_handed(
        &self,
        watch: Option<Box<Watch>>,
        mut response: Response<AnswerBody>,
    ) -> Response<AnswerBody> {
        let mut handed = Handed::By(None);
        if let Some(mut watch) = watch {
            self.settle(&mut watch, &mut response, None);
            handed = if watch.is_untracked {
                Handed::Untracked
            } else {
                Handed::By(watch.by.take())
            };
            response.body_mut().watched(watch);
        } else if self.is_untracked {
            handed = Handed::Untracked;
        }
        response.extensions_mut().insert(handed);
        response
    }

    /// Counts an answer, and takes out of it what is not the client's.
    fn settle(
        &self,
        watch: &mut Watch,
        response: &mut Response<AnswerBody>,
        decision: Option<&'static str>,
    ) {
        let status = response.status();
        let extensions = response.extensions_mut();
        let handed = self.leads.to_apis.then(|| extensions.remove::<Handed>());
        let handed = handed.flatten();
        let tracked = self
            .leads
            .to_tracked
            .then(|| extensions.remove::<Tracked>());
        let decision = match (decision, &handed) {
            (Some(decision), _) => Some(Cow::Borrowed(decision)),
            (None, Some(_)) => Some(Cow::Borrowed(HANDED_ON)),
            (None, None) => own_decision(extensions),
        };
        watch.answered(status, decision.as_deref(), extensions);
        match tracked.flatten() {
            Some(Tracked::As(endpoint)) => watch.tracks(endpoint, status),
            Some(Tracked::Never) => watch.untrack(),
            None => {}
        }
        match handed {
            Some(Handed::By(Some(other))) => watch.handed_to(other),
            Some(Handed::Untracked) => watch.entry = None,
            Some(Handed::By(None)) | None => {}
        }
    }
}

/// Tells the client of its trace, as Tyk does.
const TRACE_ID: HeaderName = HeaderName::from_static("x-tyk-trace-id");

/// What spans of requests are for, in filters of the log.
const TARGET: &str = "tollgate::request";

/// The span in which a request is served: what is logged then tells which request it was.
pub(crate) fn span(watch: Option<&Watch>, api: &ApiId) -> Span {
    let Some(id) = watch.and_then(|watch| watch.id.as_ref()) else {
        return Span::none();
    };
    // Only letters, digits and a few marks are taken from a client.
    let request_id = id.to_str().unwrap_or_default();
    tracing::debug_span!(target: TARGET, "request", request_id, api = api.as_str())
}

impl Watch {
    fn answered(
        &mut self,
        status: StatusCode,
        decision: Option<&str>,
        extensions: &mut Extensions,
    ) {
        self.status = Some(status);
        if let Some(meters) = &self.meters {
            match decision {
                Some(decision) => meters.decided(Some(status), decision),
                None => meters.served(status),
            }
        }
        if let Some(span) = &mut self.span {
            let nobody = Caller::default();
            let caller = extensions.get().unwrap_or(&nobody);
            span.answered(status, decision, caller);
        }
        if let Some(by) = &mut self.by {
            by.answered(decision, extensions);
        }
        if let Some(entry) = &mut self.entry {
            entry.answered(extensions);
        }
    }

    /// The request was one to an endpoint that the definition tracks.
    fn tracks(&mut self, endpoint: Arc<Endpoint>, status: StatusCode) {
        endpoint.answered(status);
        if let Some(span) = &mut self.span {
            span.tracks(endpoint.name());
        }
        if let Some(by) = &mut self.by {
            by.tracks(endpoint.clone());
        }
        self.endpoint = Some(endpoint);
    }

    /// The definition does not want the request to be told of.
    fn untrack(&mut self) {
        self.is_untracked = true;
        self.entry = None;
        if let Some(span) = &mut self.span {
            span.is_not_tracked();
        }
    }

    /// Another API answered.
    fn handed_to(&mut self, mut other: Box<Answerer>) {
        if let Some(by) = self.by.take() {
            other.came_by(&by);
        }
        self.by = Some(other);
    }

    /// So many bytes of the body were handed on.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// All of the body was.
    pub(crate) fn ended(&mut self) {
        self.has_ended = true;
    }
}

impl Drop for Watch {
    /// A body is dropped when all of it was sent, or when there is nobody left to send it to; so is a
    /// request that has no answer yet.
    fn drop(&mut self) {
        let ticks = TokioClock.now().ticks.saturating_sub(self.began.ticks);
        let took = Duration::from_nanos(ticks);
        if let Some(meters) = &self.meters {
            if self.status.is_none() {
                meters.decided(None, CLIENT_GONE);
            }
            meters.ended(took, self.sent);
        }
        if let Some(endpoint) = &self.endpoint {
            endpoint.ended(took);
        }
        if let Some(span) = self.span.as_mut().filter(|_| self.status.is_none()) {
            span.gone();
        }
        if let Some((entry, by)) = self.entry.take().zip(self.by.take()) {
            let end = End {
                status: self.status,
                took,
                sent: self.sent,
                is_whole: self.has_ended && self.status.is_some(),
            };
            entry.write(&by, &end);
        }
    }
}

/// How a request ended.
pub(super) struct End {
    /// None where the client did not wait for the answer.
    pub(super) status: Option<StatusCode>,
    pub(super) took: Duration,
    pub(super) sent: u64,
    pub(super) is_whole: bool,
}

/// The decision about a request that another API answered: what it decided is told of that one.
const HANDED_ON: &str = "handed_on";

/// The decision about a request whose client has gone before there was an answer.
pub(super) const CLIENT_GONE: &str = "client_gone";

/// What an answer of the gateway's own means; `None` for an upstream's.
fn own_decision(extensions: &Extensions) -> Option<Cow<'static, str>> {
    if let Some(error) = extensions.get::<ProxyError>() {
        return Some(error.kind().code().into());
    }
    let rejection = extensions.get::<Rejection>()?;
    Some(rejection.code().to_owned().into())
}
