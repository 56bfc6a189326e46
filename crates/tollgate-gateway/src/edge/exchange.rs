//! What stands between the gates and the upstream on single paths: schemas of bodies and circuit breakers.
//!
//! Both come after the limits, as with Tyk: what is refused here was charged.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, StatusCode, request::Parts};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tollgate::{Refusals, Rejection};
use tollgate_core::future::BoxFuture;
use tower_service::Service;

use super::{breaker::Breaker, schema::Schema, sizes::too_large, unread};
use crate::{
    answer::whole,
    onward::{Onward, OnwardBody, OnwardFuture},
    serve::{Beginning, RequestBody},
};

/// What is checked of one request. It travels in the request's extensions.
#[derive(Clone, Debug)]
pub struct Checks {
    /// The schema of its body.
    pub schema: Option<Arc<Schema>>,
    /// The breaker of its path.
    pub breaker: Option<Arc<Breaker>>,
}

/// The way on, with what is checked before it where requests say so.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    onward: Onward,
    /// None where no path of the API has anything to check.
    refusals: Option<Refusals>,
}

impl Checked {
    /// Checks nothing.
    pub(crate) fn not(onward: Onward) -> Self {
        Self {
            onward,
            refusals: None,
        }
    }

    /// Checks what requests say, and refuses in this form.
    pub(crate) fn new(onward: Onward, refusals: Refusals) -> Self {
        Self {
            onward,
            refusals: Some(refusals),
        }
    }
}

impl Service<Request<RequestBody>> for Checked {
    type Response = Response<OnwardBody>;
    type Error = Infallible;
    type Future = CheckedFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.onward.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> CheckedFuture {
        let Some(refusals) = &self.refusals else {
            let future = self.onward.call(request);
            return CheckedFuture::Direct { future };
        };
        let Some(checks) = request.extensions_mut().remove::<Checks>() else {
            let future = self.onward.call(request);
            return CheckedFuture::Direct { future };
        };
        // What is ready stays so: the way on always is.
        let future = Box::pin(checks.run(self.onward.clone(), request, refusals.clone()));
        CheckedFuture::Checked { future }
    }
}

impl Checks {
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
        let permit = match &self.breaker {
            None => None,
            Some(breaker) => match breaker.ask(Instant::now()) {
                Some(permit) => Some(permit),
                None => return refuse(&refusals, &left_alone(), &request.into_parts().0),
            },
        };
        let Ok(response) = onward.call(request).await;
        if let Some(permit) = permit {
            permit.ended(!response.status().is_server_error(), Instant::now());
        }
        response
    }
}

/// Reads a body whole, which then goes on as it came.
async fn read(schema: &Schema, body: &mut RequestBody) -> Result<(), Rejection> {
    let beginning = body.beginning(schema.most).await;
    let Beginning { bytes, is_whole } = beginning.map_err(|err| unread(&err))?;
    if !is_whole {
        return Err(too_large());
    }
    schema.check(&bytes)
}

fn left_alone() -> Rejection {
    Rejection::custom(
        "breaker_open",
        StatusCode::SERVICE_UNAVAILABLE,
        "Service temporarily unavailable.",
    )
}

fn refuse(refusals: &Refusals, rejection: &Rejection, head: &Parts) -> Response<OnwardBody> {
    let response = refusals.render(rejection, head);
    response.map(|body| OnwardBody::Api {
        body: Box::new(whole(body)),
    })
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
