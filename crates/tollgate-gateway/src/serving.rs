//! A request at an API, until there is an answer.
//!
//! What is usual has a type that can be named, so that it needs no box: an answer that is there at once, or a
//! request on its way through the gates to the upstream. What waits for something else is boxed.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderName, HeaderValue, Request, Response, Version};
use pin_project_lite::pin_project;
use tollgate::{
    clock::{Clock, TokioClock},
    gated::Gated,
};
use tollgate_core::future::BoxFuture;
use tower_service::Service;
use tracing::{Instrument, instrument::Instrumented};

use crate::{
    answer::AnswerBody,
    api::Api,
    edge::{content_type, cors::Asked, exchange::Checked, is_own_answer},
    observe::{self, Watch, tracked::Tracked},
    serve::RequestBody,
};

pin_project! {
    /// An API's answer to a request.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Serving {
        api: Arc<Api>,
        cors: Option<Asked>,
        tracked: Option<Tracked>,
        // Whether it waits for the body to tell what it is.
        is_guessed: bool,
        #[pin]
        way: Way,
    }
}

pin_project! {
    /// Where the answer comes from.
    #[project = WayProjection]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) enum Way {
        Here { response: Option<Response<AnswerBody>> },
        Forward { #[pin] future: <Gated<Checked> as Service<Request<RequestBody>>>::Future },
        Elsewhere { future: BoxFuture<Response<AnswerBody>> },
    }
}

impl Way {
    /// The answer is there.
    pub(crate) fn here(response: Response<AnswerBody>) -> Self {
        Self::Here {
            response: Some(response),
        }
    }

    /// Sends a request on. It is called at once, and not when it is first waited for: so the request is moved
    /// once less, and is no part of what waits.
    pub(crate) fn forward(service: &Gated<Checked>, request: Request<RequestBody>) -> Self {
        Self::Forward {
            future: service.clone().call(request), // It is always ready.
        }
    }
}

impl Way {
    /// The answer is waited for.
    pub(crate) fn elsewhere(
        answer: impl Future<Output = Response<AnswerBody>> + Send + 'static,
    ) -> Self {
        Self::Elsewhere {
            future: Box::pin(answer),
        }
    }
}

impl Future for Way {
    type Output = Response<AnswerBody>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            WayProjection::Here { response } => {
                Poll::Ready(response.take().expect("polled after completion"))
            }
            WayProjection::Forward { future } => {
                let Ok(response) = ready!(future.poll(cx));
                Poll::Ready(response.map(AnswerBody::from))
            }
            WayProjection::Elsewhere { future } => future.as_mut().poll(cx),
        }
    }
}

impl Serving {
    /// An answer on its way.
    pub(crate) fn new(
        api: Arc<Api>,
        cors: Option<Asked>,
        tracked: Option<Tracked>,
        way: Way,
    ) -> Self {
        Self {
            api,
            cors,
            tracked,
            is_guessed: false,
            way,
        }
    }
}

impl Future for Serving {
    type Output = Response<AnswerBody>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut response = ready!(this.way.as_mut().poll(cx));
        if !*this.is_guessed && content_type::is_missing(&response) {
            *this.is_guessed = true;
            this.way
                .set(Way::elsewhere(content_type::guessed(response)));
            response = ready!(this.way.poll(cx));
        }
        if let Some(tracked) = this.tracked.take() {
            response.extensions_mut().insert(tracked);
        }
        *response.version_mut() = Version::HTTP_11; // The upstream's own concerns its own hop.
        if this.api.names_generator && is_own_answer(response.extensions()) {
            const GENERATOR: HeaderName = HeaderName::from_static("x-generator");
            let tyk = HeaderValue::from_static("tyk.io");
            response.headers_mut().insert(GENERATOR, tyk);
        }
        if let Some(asked) = this.cors.take() {
            asked.write(response.headers_mut());
        }
        Poll::Ready(response)
    }
}

pin_project! {
    /// A listener's answer to a request.
    #[must_use = "futures do nothing unless polled"]
    pub struct FrontFuture {
        #[pin]
        source: Source,
    }
}

pin_project! {
    #[project = SourceProjection]
    enum Source {
        Here { response: Option<Response<AnswerBody>> },
        Api { api: Arc<Api>, watch: Option<Box<Watch>>, #[pin] serving: Instrumented<Serving> },
        Control { future: BoxFuture<Response<AnswerBody>> },
    }
}

impl FrontFuture {
    /// The answer is there.
    pub(crate) fn here(response: Response<AnswerBody>) -> Self {
        let response = Some(response);
        Self {
            source: Source::Here { response },
        }
    }

    /// An API answers, and is watched.
    pub(crate) fn api(api: Arc<Api>, mut request: Request<RequestBody>) -> Self {
        let watch = api.watch.begin(&mut request);
        let span = observe::span(watch.as_deref(), api.id());
        let serving = span.in_scope(|| api.serve(request, TokioClock.now().unix()));
        Self {
            source: Source::Api {
                serving: serving.instrument(span),
                api,
                watch,
            },
        }
    }

    /// The control API answers.
    pub(crate) fn control(future: BoxFuture<Response<AnswerBody>>) -> Self {
        Self {
            source: Source::Control { future },
        }
    }
}

impl Future for FrontFuture {
    type Output = Result<Response<AnswerBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().source.project() {
            SourceProjection::Here { response } => {
                response.take().expect("polled after completion")
            }
            SourceProjection::Api {
                api,
                watch,
                serving,
            } => {
                let response = ready!(serving.poll(cx));
                api.watch.answered(watch.take(), response, None)
            }
            SourceProjection::Control { future } => ready!(future.as_mut().poll(cx)),
        }))
    }
}
