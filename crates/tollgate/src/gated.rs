//! The service that carries gates.
//!
//! [`Gated`] is the only service that the deciding layers of this crate make. On the ready path it
//! asks the gates and calls the service: it clones nothing, boxes nothing and waits for nothing. Only
//! where a gate must wait, the wait and what is parked meanwhile share one box.
//!
//! Readiness is tower's: the service that said it was ready is the one that is called, and when a
//! request is refused, what that service reserved is let go.
//!
//! See [`gate`](crate::gate) for an example.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response, request::Parts};
use pin_project_lite::pin_project;
use tollgate_core::{Rejection, Session, future::BoxFuture};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    body::GateBody,
    gate::{Departure, Gate, Gates, Resume, Walk},
    report,
    settlement::Settlement,
    visit::Visit,
};

/// A layer made of gates: for gates of yours.
///
/// See [`gate`](crate::gate) for an example.
#[derive(Clone, Debug)]
#[must_use]
pub struct GateLayer {
    gates: Gates,
}

impl GateLayer {
    /// One gate, or a list of them.
    pub fn new(gate: impl Gate) -> Self {
        Self {
            gates: Gates::of(gate),
        }
    }
}

impl From<Gates> for GateLayer {
    fn from(gates: Gates) -> Self {
        Self { gates }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.gates.clone())
    }
}

/// Which gate refused a request, and whose request it was: in the extensions of the refusal, beside the
/// [`Rejection`], for logs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefusedBy {
    /// The gate's [name](Gate::name).
    pub gate: &'static str,
    /// The session, where one had been found.
    pub session: Option<Arc<Session>>,
}

/// A service behind gates.
#[derive(Clone, Debug)]
pub struct Gated<S> {
    inner: S,
    gates: Gates,
}

impl<S> Gated<S> {
    /// Puts gates before a service.
    pub fn new(inner: S, gates: Gates) -> Self {
        Self { inner, gates }
    }

    /// The service behind the gates.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Clone> Gated<S> {
    /// Takes the service that is ready and leaves a clone, which may not be.
    fn take_ready(&mut self) -> S {
        let unready = self.inner.clone();
        std::mem::replace(&mut self.inner, unready)
    }
}

impl<S, B, R> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
{
    type Response = Response<GateBody<R>>;
    type Error = S::Error;
    type Future = GatedFuture<S::Future, S, B, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let mut visit = self.gates.open();
        Gates::resume(&mut head, &mut visit);
        let mut asked = 0;
        match self.gates.walk(&mut asked, &mut head, &mut visit) {
            Walk::Through => GatedFuture::enter(&mut self.inner, &self.gates, head, body, visit),
            Walk::Refused(rejection) => {
                // What readiness reserved, as a permit, must not stay with a refused request.
                drop(self.take_ready());
                let response = refuse(&self.gates, asked, &rejection, &head, &visit);
                GatedFuture {
                    state: State::Refused {
                        response: Some(response),
                    },
                }
            }
            Walk::Waits(wait) => {
                let (service, gates) = (self.take_ready(), self.gates.clone());
                let parked = Box::new(Parked {
                    wait,
                    gates,
                    asked,
                    visit,
                    head,
                    body,
                    service,
                });
                GatedFuture {
                    state: State::Waiting {
                        parked: Some(parked),
                    },
                }
            }
        }
    }
}

/// A request that waits at a gate.
struct Parked<S, B> {
    wait: BoxFuture<Resume>,
    gates: Gates,
    asked: usize,
    visit: Visit,
    head: Parts,
    body: B,
    service: S,
}

pin_project! {
    /// A request on its way through gates and service.
    #[must_use = "futures do nothing unless polled"]
    pub struct GatedFuture<F, S, B, R> {
        #[pin]
        state: State<F, S, B, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, S, B, R> {
        Inside { #[pin] future: F, then: Then },
        Refused { response: Option<Response<GateBody<R>>> },
        Waiting { parked: Option<Box<Parked<S, B>>> },
    }
}

/// What is to be done when the response comes; `None` where no gate departs, and nothing is to be settled.
type Then = Option<Departing>;

struct Departing {
    visit: Arc<Visit>,
    settlement: Option<Box<Settlement>>,
    gates: Gates,
}

// A request's parts are large, and so is a future. Both are moved as seldom as may be: this returns what
// `call` returns, so that it is made where the caller wants it.
impl<F, S, B, R> GatedFuture<F, S, B, R> {
    /// Calls the service; from here on the charges stay.
    #[inline(always)]
    fn enter(service: &mut S, gates: &Gates, mut head: Parts, body: B, mut visit: Visit) -> Self
    where
        S: Service<Request<B>, Future = F>,
    {
        gates.forward(&mut head, &visit);
        let settlement = visit.settlement.take();
        if let Some(receipt) = visit.receipt.take() {
            receipt.keep();
        }
        let departs = gates.departs() || settlement.is_some();
        let then = if gates.leaves_visit() {
            let visit = Arc::new(visit);
            head.extensions.insert(visit.clone());
            departs.then(|| Departing::new(visit, settlement, gates))
        } else {
            departs.then(|| Departing::new(Arc::new(visit), settlement, gates))
        };
        Self {
            state: State::Inside {
                future: service.call(Request::from_parts(head, body)),
                then,
            },
        }
    }
}

impl Departing {
    fn new(visit: Arc<Visit>, settlement: Option<Box<Settlement>>, gates: &Gates) -> Self {
        Self {
            visit,
            settlement,
            gates: gates.clone(),
        }
    }

    /// Settles, asks the gates, and gives the response its body.
    fn depart<R>(&mut self, response: Response<R>) -> Response<GateBody<R>> {
        let (mut head, body) = response.into_parts();
        let mut departure = Departure {
            status: head.status,
            headers: &mut head.headers,
            extensions: &mut head.extensions,
        };
        let settlement = self.settlement.take();
        let unsettled = settlement.and_then(|charges| charges.at_the_head(&departure));
        self.gates.depart(usize::MAX, &self.visit, &mut departure);
        let body = match unsettled {
            Some(settlement) => GateBody::settling(body, settlement),
            None => GateBody::inner(body),
        };
        Response::from_parts(head, body)
    }
}

impl<S, B, R> Future for GatedFuture<S::Future, S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<GateBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Inside { future, then } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(match then {
                        Some(departing) => departing.depart(response),
                        None => response.map(GateBody::inner),
                    }));
                }
                StateProjection::Refused { response } => {
                    return Poll::Ready(Ok(response.take().expect("polled after completion")));
                }
                StateProjection::Waiting { parked } => {
                    let waiting = parked.as_mut().expect("polled after completion");
                    let resume = ready!(waiting.wait.as_mut().poll(cx));
                    match waiting.resume(resume) {
                        Walk::Waits(wait) => {
                            waiting.wait = wait;
                            continue;
                        }
                        Walk::Refused(rejection) => {
                            let Parked {
                                gates,
                                asked,
                                visit,
                                head,
                                ..
                            } = *parked.take().expect("seen");
                            let response = refuse(&gates, asked, &rejection, &head, &visit);
                            State::Refused {
                                response: Some(response),
                            }
                        }
                        Walk::Through => {
                            let Parked {
                                gates,
                                visit,
                                head,
                                body,
                                mut service,
                                ..
                            } = *parked.take().expect("seen");
                            Self::enter(&mut service, &gates, head, body, visit).state
                        }
                    }
                }
            };
            state.set(next);
        }
    }
}

impl<S, B> Parked<S, B> {
    fn resume(&mut self, resume: Resume) -> Walk {
        let step = resume.go_on(&mut self.head, &mut self.visit);
        self.gates
            .go_on(&mut self.asked, step, &mut self.head, &mut self.visit)
    }
}

/// Answers a request that may not pass.
fn refuse<R>(
    gates: &Gates,
    asked: usize,
    rejection: &Rejection,
    head: &Parts,
    visit: &Visit,
) -> Response<GateBody<R>> {
    let gate = gates.asked_last(asked);
    report::refused(rejection, gate);
    let (mut answer, body) = gates.refusals().render(rejection, head).into_parts();
    let session = visit.session().cloned();
    answer.extensions.insert(RefusedBy { gate, session });
    let mut departure = Departure {
        status: answer.status,
        headers: &mut answer.headers,
        extensions: &mut answer.extensions,
    };
    gates.depart(asked, visit, &mut departure);
    Response::from_parts(answer, GateBody::refused(body))
}
