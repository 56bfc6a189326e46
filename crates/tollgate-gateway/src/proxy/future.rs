//! A request on its way to an upstream: waiting, time limits, another target.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONNECTION, CONTENT_TYPE},
};
use http_body::Body;
use tokio::time::Instant;

use super::{
    Asked, Inner,
    body::{Outgoing, ProxyBody, Watch},
    client::{Call, Limits},
    error::{AnswerForm, ProxyError, ProxyErrorKind},
    headers::{put_upgrade, take_hop_by_hop},
    kept::Reply,
    upgrade::PendingUpgrade,
};
use crate::observe::meters::Noted;

/// The answer to a proxied request.
#[must_use = "futures do nothing unless polled"]
pub struct ProxyFuture<B> {
    state: State<B>,
}

enum State<B> {
    Answered(Option<Response<ProxyBody>>),
    Sent {
        call: Call<B>,
        flight: Option<Flight<B>>,
    },
}

/// What is kept of a request that was sent.
pub(super) struct Flight<B> {
    pub(super) inner: Arc<Inner<B>>,
    pub(super) target: Option<usize>, // In the list; none where the request named its own.
    pub(super) form: AnswerForm,
    pub(super) watch: Arc<Watch<B>>,
    pub(super) upgrade: Option<Box<PendingUpgrade>>,
    pub(super) deadline: Option<Instant>, // Of the whole exchange.
    pub(super) again: Option<Box<Again>>,
    pub(super) noted: Option<Box<Noted>>, // Where it was sent, if somebody wants to know.
}

/// What is needed to send a request to another target, if none of it has left.
pub(super) struct Again {
    pub(super) method: Method,
    pub(super) uri: Uri, // The client's, or a rewrite's.
    pub(super) rewritten: bool,
    pub(super) headers: HeaderMap,
    pub(super) tried: Vec<usize>,
}

impl<B> ProxyFuture<B> {
    pub(super) fn answered(response: Response<ProxyBody>) -> Self {
        Self {
            state: State::Answered(Some(response)),
        }
    }

    pub(super) fn sent(call: Call<B>, flight: Flight<B>) -> Self {
        Self {
            state: State::Sent {
                call,
                flight: Some(flight),
            },
        }
    }
}

impl<B> Future for ProxyFuture<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = Result<Response<ProxyBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (call, flight) = match &mut self.state {
            State::Answered(response) => {
                return Poll::Ready(Ok(response.take().expect("polled after completion")));
            }
            State::Sent { call, flight } => (call, flight),
        };
        loop {
            let response = match ready!(Pin::new(&mut *call).poll(cx)) {
                Ok(response) => flight.take().expect("seen").finish(response),
                Err(error) => {
                    let going = flight.as_mut().expect("polled after completion");
                    let error = going.failed(error);
                    if let Some(next) = going.try_another(&error) {
                        *call = next;
                        continue;
                    }
                    flight.take().expect("seen").answer(error)
                }
            };
            return Poll::Ready(Ok(response));
        }
    }
}

impl<B> Flight<B> {
    /// How long the response is waited for.
    pub(super) fn limits(&self) -> Limits<B> {
        Limits {
            head: self.inner.options.head_timeout,
            deadline: self.deadline,
            watch: self.watch.clone(),
        }
    }

    /// An error, put down to the client where its body was what failed.
    fn failed(&self, error: ProxyError) -> ProxyError {
        if self.watch.has_timed_out() {
            ProxyError::new(ProxyErrorKind::RequestBodyTimedOut)
        } else if self.watch.is_too_large() {
            ProxyError::new(ProxyErrorKind::RequestBodyTooLarge)
        } else if self.watch.has_failed() {
            ProxyError::new(ProxyErrorKind::RequestBody)
        } else {
            error
        }
    }

    fn answer(mut self, error: ProxyError) -> Response<ProxyBody> {
        let options = &self.inner.options;
        tracing::debug!(%error, "no answer of an upstream");
        let form = std::mem::take(&mut self.form);
        let mut response = form.answer(error, options.bad_gateway, &options.refusals);
        self.tell(&mut response);
        response
    }

    /// Tells how long the upstream took, and which it was.
    fn tell<T>(&mut self, response: &mut Response<T>) {
        if let Some(meters) = &self.inner.options.meters {
            let took = self.watch.started().elapsed();
            meters.answered(took, self.noted.take(), response);
        }
    }

    /// Hands the upstream's response on.
    fn finish(mut self, mut response: Response<Reply>) -> Response<ProxyBody> {
        if let Some(target) = self.target {
            self.inner.targets.succeeded(target);
        }
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(response);
        }
        // Of what is not sent nothing is told (RFC 9110 §15.4.5); Go's server does so too.
        let is_untyped = response.status() == StatusCode::NOT_MODIFIED;
        let headers = response.headers_mut();
        take_hop_by_hop(headers);
        if is_untyped {
            headers.remove(CONTENT_TYPE);
        }
        if self.inner.options.close_connections {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        self.tell(&mut response);
        let deadline = self.deadline.take();
        response.map(|body| ProxyBody::upstream(body, deadline))
    }

    fn switch(mut self, mut response: Response<Reply>) -> Response<ProxyBody> {
        let Some(upgrade) = self.upgrade.take() else {
            return self.answer(ProxyError::new(ProxyErrorKind::BadReply)); // Nobody asked.
        };
        if let Err(kind) = upgrade.agrees(&response) {
            return self.answer(ProxyError::new(kind));
        }
        self.tell(&mut response);
        take_hop_by_hop(response.headers_mut());
        put_upgrade(response.headers_mut(), upgrade.protocol.clone());
        upgrade.begin(hyper::upgrade::on(&mut response));
        response.map(|_| ProxyBody::default())
    }
}

impl<B> Flight<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends the request to another target, where no connection was made to this one.
    fn try_another(&mut self, error: &ProxyError) -> Option<Call<B>> {
        let failed = self.target?;
        if !error.is_connect() {
            return None;
        }
        let inner = self.inner.clone();
        if inner.targets.distinct() > 1 {
            inner.targets.failed(failed);
        }
        let again = self.again.as_mut()?;
        again.tried.push(failed);
        if again.tried.len() > inner.options.retries {
            return None;
        }
        let next = inner.targets.pick_other(&again.tried)?;
        let body = self.watch.take_unsent()?;
        let mut request = Request::new(Outgoing::new(body, self.watch.clone()));
        *request.method_mut() = again.method.clone();
        *request.headers_mut() = again.headers.clone();
        let target = inner.targets.get(next);
        let asked = Asked {
            uri: &again.uri,
            rewritten: again.rewritten,
            query: target.query(),
        };
        let path = inner.path_to(target, &asked).ok()?;
        self.target = Some(next);
        self.noted = inner.note(&mut request, target, &path);
        Some(inner.send(&inner.ways[next], target, path, request, self.limits()))
    }
}
