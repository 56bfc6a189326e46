//! What stands between the gates and the upstream on single paths: schemas of bodies, other bodies, other URLs,
//! and circuit breakers.
//!
//! All come after the limits, as with Tyk: what is refused here was charged.

use std::{
    convert::Infallible,
    future::{Future, ready as ready_now},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tollgate::{Refusals, Rejection, rewrite::TriggerValues};
use tollgate_core::future::BoxFuture;
use tower_service::Service;

use super::{
    breaker::Breaker,
    rewrites::{Onto, RewriteRule, Unwritten},
    schema::Schema,
    sizes::too_large,
    transforms::Transforms,
    unread,
};
use crate::{
    onward::{Onward, OnwardBody, OnwardFuture},
    overrides::{AnswerOverrides, Asked},
    serve::{Beginning, RequestBody},
};

/// What is checked of one request. It travels in the request's extensions.
#[derive(Clone, Debug)]
pub struct Checks {
    /// The schema of its body.
    pub schema: Option<Arc<Schema>>,
    /// What its body, and that of its answer, are made into.
    pub transforms: Option<Arc<Transforms>>,
    /// Where it goes in place of its own URL.
    pub rewrite: Option<Arc<RewriteRule>>,
    /// The breaker of its path.
    pub breaker: Option<Arc<Breaker>>,
}

/// The way on, with what is checked before it where requests say so.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    onward: Onward,
    /// None where no path of the API has anything to check.
    refusals: Option<Refusals>,
    /// How errors of upstreams are answered otherwise.
    overrides: Option<AnswerOverrides>,
}

impl Checked {
    /// Checks nothing.
    pub(crate) fn not(onward: Onward) -> Self {
        Self {
            onward,
            refusals: None,
            overrides: None,
        }
    }

    /// Checks what requests say, and refuses in this form.
    pub(crate) fn new(onward: Onward, refusals: Refusals) -> Self {
        Self {
            onward,
            refusals: Some(refusals),
            overrides: None,
        }
    }

    /// Answers errors of upstreams as these say.
    pub(crate) fn overriding(self, overrides: Option<AnswerOverrides>) -> Self {
        Self { overrides, ..self }
    }

    fn exchange(&mut self, mut request: Request<RequestBody>) -> CheckedFuture {
        let Some(refusals) = &self.refusals else {
            let future = self.onward.call(request);
            return CheckedFuture::Direct { future };
        };
        let Some(checks) = request.extensions_mut().remove::<Checks>() else {
            let future = self.onward.call(request);
            return CheckedFuture::Direct { future };
        };
        if let Some(rewrite) = checks.rewrite_alone() {
            return match rewrite.apply(request, &[]) {
                Ok((onto, _)) => CheckedFuture::Direct {
                    future: self.onward.go(onto, refusals),
                },
                Err(unwritten) => CheckedFuture::Checked {
                    future: Box::pin(ready_now(refused(refusals, *unwritten))),
                },
            };
        }
        // What is ready stays so: the way on always is.
        let future = Box::pin(checks.run(self.onward.clone(), request, refusals.clone()));
        CheckedFuture::Checked { future }
    }
}

impl Service<Request<RequestBody>> for Checked {
    type Response = Response<OnwardBody>;
    type Error = Infallible;
    type Future = CheckedFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.onward.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> CheckedFuture {
        let Some(overrides) = self.overrides.clone() else {
            return self.exchange(request);
        };
        let asked = Asked::by(&request);
        let exchange = self.exchange(request);
        let future = Box::pin(async move {
            let Ok(response) = exchange.await;
            overrides.over(response, &asked).await
        });
        CheckedFuture::Checked { future }
    }
}

impl Checks {
    /// Nothing but transforms.
    pub(super) fn only(transforms: Arc<Transforms>) -> Self {
        Self {
            schema: None,
            transforms: Some(transforms),
            rewrite: None,
            breaker: None,
        }
    }

    /// The rewrite, where it is all and waits for nothing.
    fn rewrite_alone(&self) -> Option<&RewriteRule> {
        let rewrite = self.rewrite.as_deref()?;
        let waits = rewrite.reads_payload() || rewrite.tells();
        let is_alone = self.schema.is_none() && self.transforms.is_none() && self.breaker.is_none();
        (is_alone && !waits).then_some(rewrite)
    }

    async fn run(
        self,
        mut onward: Onward,
        mut request: Request<RequestBody>,
        refusals: Refusals,
    ) -> Response<OnwardBody> {
        if let Some(schema) = &self.schema
            && let Err(rejection) = read(schema, request.body_mut()).await
        {
            return refuse(&refusals, &rejection, &request.into_parts().0);
        }
        if let Some(transforms) = &self.transforms
            && let Err(rejection) = transforms.change_request(&mut request).await
        {
            return refuse(&refusals, &rejection, &request.into_parts().0);
        }
        // What the request says of the form of an answer, should its own have to be refused.
        let headers = self.transforms.as_ref().map(|_| request.headers().clone());
        let (onto, told) = match rewrite(self.rewrite.as_deref(), request).await {
            Ok(rewritten) => rewritten,
            Err(unwritten) => return refused(&refusals, *unwritten),
        };
        let permit = match &self.breaker {
            None => None,
            Some(breaker) => match breaker.ask(Instant::now()) {
                Some(permit) => Some(permit),
                None => return refuse(&refusals, &left_alone(), &onto.into_head()),
            },
        };
        let Ok(mut response) = onward.go(onto, &refusals).await;
        if !told.is_empty() {
            response.extensions_mut().insert(told);
        }
        if let Some(permit) = permit {
            permit.ended(!response.status().is_server_error(), Instant::now());
        }
        match (&self.transforms, headers) {
            (Some(transforms), Some(headers)) => {
                let changed = transforms.change_response(response).await;
                changed.unwrap_or_else(|rejection| {
                    let mut head = Request::new(()).into_parts().0;
                    head.headers = headers;
                    refuse(&refusals, &rejection, &head)
                })
            }
            _ => response,
        }
    }
}

async fn read(schema: &Schema, body: &mut RequestBody) -> Result<(), Rejection> {
    let bytes = whole_body(body, schema.most).await?;
    schema.check(&bytes)
}

/// Gives a request its new URL, where it has one, and tells variables of the trigger that fired.
async fn rewrite(
    rule: Option<&RewriteRule>,
    mut request: Request<RequestBody>,
) -> Result<(Onto<RequestBody>, TriggerValues), Unwritten> {
    let Some(rule) = rule else {
        return Ok((Onto::Upstream(request), TriggerValues::default()));
    };
    if !rule.reads_payload() {
        return rule.apply(request, &[]);
    }
    match whole_body(request.body_mut(), rule.most).await {
        Ok(payload) => rule.apply(request, &payload),
        Err(rejection) => Err(Box::new((rejection, request.into_parts().0))),
    }
}

/// Reads a body whole, which then goes on as it came.
async fn whole_body(body: &mut RequestBody, most: usize) -> Result<Bytes, Rejection> {
    let beginning = body.beginning(most).await;
    let Beginning { bytes, is_whole } = beginning.map_err(|err| unread(&err))?;
    if is_whole {
        Ok(bytes)
    } else {
        Err(too_large())
    }
}

fn left_alone() -> Rejection {
    Rejection::custom(
        "breaker_open",
        StatusCode::SERVICE_UNAVAILABLE,
        "Service temporarily unavailable.",
    )
}

fn refused(refusals: &Refusals, (rejection, head): (Rejection, Parts)) -> Response<OnwardBody> {
    refuse(refusals, &rejection, &head)
}

fn refuse(refusals: &Refusals, rejection: &Rejection, head: &Parts) -> Response<OnwardBody> {
    let response = refusals.render(rejection, head);
    response.map(OnwardBody::whole)
}

pin_project! {
    /// The answer to a request that may have been checked.
    #[project = FutureProjection]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) enum CheckedFuture {
        Direct { #[pin] future: OnwardFuture },
        Checked { future: BoxFuture<Response<OnwardBody>> },
    }
}

impl Future for CheckedFuture {
    type Output = Result<Response<OnwardBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            FutureProjection::Direct { future } => future.poll(cx),
            FutureProjection::Checked { future } => {
                Poll::Ready(Ok(ready!(future.as_mut().poll(cx))))
            }
        }
    }
}
