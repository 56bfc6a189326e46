//! What is noted of one request, from its head to the end of its answer.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Extensions, HeaderValue, Method, Request, Response, StatusCode};
use tollgate::{ApiId, Rejection};
use tracing::{Level, Span};

use super::{
    access_log::{AccessLog, Entry, Subject},
    meters::Meters,
    request_id::RequestIds,
};
use crate::{answer::AnswerBody, proxy::ProxyError, serve::RequestBody};

/// What is told of requests to one API.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiWatch {
    pub(super) log: Option<(AccessLog, Arc<Subject>)>,
    pub(super) meters: Option<Arc<Meters>>,
    pub(super) request_ids: RequestIds,
}

/// One request that is watched.
pub(crate) struct Watch {
    began: Instant,
    meters: Option<Arc<Meters>>,
    entry: Option<Box<Entry>>,
    id: Option<HeaderValue>,
    status: Option<StatusCode>, // None until it is answered.
    sent: u64,
    has_ended: bool,
}

impl ApiWatch {
    /// Begins to watch a request, if anybody looks. What is told of the request itself is read now, as
    /// its head is about to be changed.
    pub(crate) fn begin(&self, request: &mut Request<RequestBody>) -> Option<Watch> {
        let is_logged = tracing::enabled!(target: TARGET, Level::DEBUG);
        let is_named = self.log.is_some() || self.request_ids.are_told() || is_logged;
        if !is_named && self.meters.is_none() {
            return None;
        }
        let id = is_named.then(|| self.request_ids.name(request.headers_mut()));
        let entry = self.log.as_ref().zip(id.clone());
        let entry = entry.map(|((log, subject), id)| {
            Box::new(Entry::new(log.clone(), subject.clone(), id, request))
        });
        Some(Watch {
            began: Instant::now(),
            meters: self.meters.clone(),
            entry,
            id,
            status: None,
            sent: 0,
            has_ended: request.method() == Method::HEAD, // Whatever the length says, nothing follows.
        })
    }

    /// The request has an answer. `decision` is what the answer means, where it is the gateway's own and
    /// does not say so itself.
    pub(crate) fn answered(
        &self,
        watch: Option<Watch>,
        mut response: Response<AnswerBody>,
        decision: Option<&'static str>,
    ) -> Response<AnswerBody> {
        let Some(mut watch) = watch else {
            return response;
        };
        let status = response.status();
        watch.status = Some(status);
        let decision = decision.map(Cow::Borrowed);
        let decision = decision.or_else(|| own_decision(response.extensions()));
        if let Some(meters) = &watch.meters {
            match &decision {
                Some(decision) => meters.decided(Some(status), decision),
                None => meters.served(status),
            }
        }
        if let Some(id) = &watch.id {
            self.request_ids.tell(id, response.headers_mut());
        }
        if let Some(entry) = &mut watch.entry {
            entry.answered(decision.as_deref(), response.extensions_mut());
        }
        response.body_mut().watched(watch);
        response
    }
}

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
        let took = self.began.elapsed();
        if let Some(meters) = &self.meters {
            if self.status.is_none() {
                meters.decided(None, CLIENT_GONE);
            }
            meters.ended(took, self.sent);
        }
        if let Some(entry) = self.entry.take() {
            let end = End {
                status: self.status,
                took,
                sent: self.sent,
                is_whole: self.has_ended && self.status.is_some(),
            };
            entry.write(&end);
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
