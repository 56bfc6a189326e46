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

use bytes::Bytes;
use http::{Extensions, Request, Response, request::Parts, response};
use pin_project_lite::pin_project;
use tollgate_core::{Moment, Rejection, Session, future::BoxFuture};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    body::{Bodies, GateBodies, GateBody},
    express::{Express, Known, Look},
    gate::{Departure, Gate, Gates, Resume, Walk},
    rate_headers::Told,
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

    /// Whether a request goes on with what the gates found in its extensions.
    #[cfg(feature = "axum")]
    pub(crate) fn leaves_visit(&self) -> bool {
        self.gates.leaves_visit()
    }

    #[cfg(feature = "axum")]
    pub(crate) fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
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
    type Future = GatedFuture<S::Future, S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.let_in(&mut request) {
            Ok(then) => GatedFuture::inside(self.inner.call(request), then),
            Err(asking) => self.ask(request, asking),
        }
    }
}

// A request's parts are large, and so are visits, futures and responses. On the way to the service each is moved
// as seldom as may be: gates and what prepares the call see them where they are.
impl<S: Clone> Gated<S> {
    /// Lets a usual request in, with all that gates leave in it. Whom it lets in is to be called at once.
    #[inline(always)]
    pub(crate) fn let_in<B>(&self, request: &mut Request<B>) -> Result<Then, Asking> {
        let now = self.gates.now();
        match self.gates.look((&*request).into(), now) {
            Look::Through => Ok(Then::Nothing),
            Look::Met(visit) => {
                self.gates.set_ready(request.headers_mut(), &visit);
                Ok(self.gates.share(request.extensions_mut(), visit, None))
            }
            Look::Known(known) if self.gates.leaves_visit() => {
                self.gates.pass_known(request, now, known)
            }
            look => Err(Asking::From(now, look)),
        }
    }

    /// Asks the gates of a request that was not let in.
    #[inline(never)]
    pub(crate) fn ask<B>(
        &mut self,
        request: Request<B>,
        asking: Asking,
    ) -> GatedFuture<S::Future, S, B>
    where
        S: Service<Request<B>>,
    {
        match asking {
            Asking::From(now, look) => self.ask_from(request, now, look),
            Asking::Rest(visit, asked) => self.ask_rest(request, visit, asked),
        }
    }

    /// Asks the gates behind those that have passed at once.
    #[cold]
    #[inline(never)]
    fn ask_rest<B>(
        &mut self,
        request: Request<B>,
        visit: Arc<Visit>,
        asked: usize,
    ) -> GatedFuture<S::Future, S, B>
    where
        S: Service<Request<B>>,
    {
        let (head, body) = request.into_parts();
        self.go_through(head, body, Arc::unwrap_or_clone(visit), asked)
    }

    /// Asks the gates that have not passed yet.
    #[inline]
    fn ask_from<B>(
        &mut self,
        request: Request<B>,
        now: Moment,
        mut look: Look,
    ) -> GatedFuture<S::Future, S, B>
    where
        S: Service<Request<B>>,
    {
        let (mut head, body) = request.into_parts();
        if let Look::Closer = look {
            look = self.gates.look((&head).into(), now);
        }
        let known = match look {
            Look::Through => {
                let future = self.inner.call(Request::from_parts(head, body));
                return GatedFuture::inside(future, Then::Nothing);
            }
            Look::Met(visit) => {
                self.gates.set_ready(&mut head.headers, &visit);
                let then = self.gates.share(&mut head.extensions, visit, None);
                let future = self.inner.call(Request::from_parts(head, body));
                return GatedFuture::inside(future, then);
            }
            Look::Known(known) => Some(known),
            Look::Closer | Look::Unknown => None,
        };
        let mut visit = self.gates.open_at(now);
        let mut asked = 0;
        if let Some(known) = known {
            known.tell(&mut visit);
            asked = Express::GATES;
        } else {
            Gates::resume(&mut head, &mut visit);
        }
        self.go_through(head, body, visit, asked)
    }

    /// Asks the gates behind those that were `asked`.
    #[inline(always)]
    fn go_through<B>(
        &mut self,
        mut head: Parts,
        body: B,
        mut visit: Visit,
        mut asked: usize,
    ) -> GatedFuture<S::Future, S, B>
    where
        S: Service<Request<B>>,
    {
        let walk = self.gates.walk(&mut asked, &mut head, &mut visit);
        if let Walk::Through = walk {
            self.gates.forward(&mut head, &visit);
            let then = self.gates.enter(&mut head.extensions, visit);
            let future = self.inner.call(Request::from_parts(head, body));
            return GatedFuture::inside(future, then);
        }
        let stopped = Stopped {
            asked,
            visit,
            head,
            body,
        };
        GatedFuture {
            state: self.halt(walk, stopped),
        }
    }
}

/// What is known of a request that was not let in at once.
pub(crate) enum Asking {
    /// What came of a look at it.
    From(Moment, Look),
    /// So many gates have passed.
    Rest(Arc<Visit>, usize),
}

/// A request that did not go through all gates at once.
struct Stopped<B> {
    asked: usize,
    visit: Visit,
    head: Parts,
    body: B,
}

impl<S: Clone> Gated<S> {
    /// Answers a request that may not pass, or parks it.
    #[cold]
    #[inline(never)]
    fn halt<F, B>(&mut self, walk: Walk, stopped: Stopped<B>) -> State<F, S, B> {
        match walk {
            Walk::Waits(wait) => {
                let (service, gates) = (self.take_ready(), self.gates.clone());
                let parked = Box::new(Parked {
                    wait,
                    gates,
                    service,
                    stopped,
                });
                State::Waiting {
                    parked: Some(parked),
                }
            }
            Walk::Refused(rejection) => {
                // What readiness reserved, as a permit, must not stay with a refused request.
                drop(self.take_ready());
                State::refused(&self.gates, &rejection, &stopped)
            }
            Walk::Through => unreachable!("the service was called"),
        }
    }
}

/// A request that waits at a gate.
struct Parked<S, B> {
    wait: BoxFuture<Resume>,
    gates: Gates,
    service: S,
    stopped: Stopped<B>,
}

pin_project! {
    /// A request on its way through gates and service.
    #[must_use = "futures do nothing unless polled"]
    pub struct GatedFuture<F, S, B> {
        #[pin]
        state: State<F, S, B>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, S, B> {
        Inside { #[pin] future: F, then: Then },
        Refused { response: Option<Box<Response<Bytes>>> },
        Waiting { parked: Option<Box<Parked<S, B>>> },
    }
}

impl<F, S, B> GatedFuture<F, S, B> {
    #[inline]
    pub(crate) fn inside(future: F, then: Then) -> Self {
        Self {
            state: State::Inside { future, then },
        }
    }
}

impl<F, S, B> State<F, S, B> {
    fn refused(gates: &Gates, rejection: &Rejection, stopped: &Stopped<B>) -> Self {
        let Stopped {
            asked, visit, head, ..
        } = stopped;
        let response = refuse(gates, rejection, *asked, visit, head);
        Self::Refused {
            response: Some(response),
        }
    }
}

/// What is to be done when the response comes.
pub(crate) enum Then {
    /// No gate departs, and nothing is to be settled.
    Nothing,
    /// A limit is told of: all that the gates do.
    Tell(Told),
    Depart(Departing),
}

pub(crate) struct Departing {
    visit: Arc<Visit>,
    settlement: Option<Box<Settlement>>,
    gates: Gates,
}

impl Gates {
    /// Has a request through whose caller is known, without taking it apart. Where gates are to be asked as
    /// usual, the visit comes back, and how many have passed.
    #[inline(never)]
    fn pass_known<B>(
        &self,
        request: &mut Request<B>,
        now: Moment,
        known: Known,
    ) -> Result<Then, Asking> {
        let mut shared = Arc::<Visit>::default(); // Made where it will stay.
        let visit = Arc::get_mut(&mut shared).expect("nobody else has it yet");
        self.begin(visit, now);
        known.tell(visit);
        match self.pass_at_once(request.headers_mut(), visit) {
            Ok(()) => Ok(self.share(request.extensions_mut(), shared, None)),
            Err(asked) => Err(Asking::Rest(shared, asked)),
        }
    }

    /// Leaves the visit to the service, which is to be called now: from here on the charges stay.
    #[inline(always)]
    fn enter(&self, extensions: &mut Extensions, mut visit: Visit) -> Then {
        if let Some(receipt) = visit.receipt.take() {
            receipt.keep();
        }
        let settlement = visit.settlement.take();
        let tells = settlement.is_none() && !self.leaves_visit();
        if let Some(then) = self.tell_of(&visit).filter(|_| tells) {
            return then;
        }
        self.share(extensions, Arc::new(visit), settlement)
    }

    /// Puts the visit where the service finds it, and keeps it where it is needed for the response.
    #[inline(always)]
    fn share(
        &self,
        extensions: &mut Extensions,
        visit: Arc<Visit>,
        settlement: Option<Box<Settlement>>,
    ) -> Then {
        let told = self.tell_of(&visit).filter(|_| settlement.is_none());
        if let Some(then) = told {
            if self.leaves_visit() {
                extensions.insert(visit);
            }
            return then;
        }
        if self.leaves_visit() {
            extensions.insert(visit.clone());
        }
        Then::Depart(Departing {
            visit,
            settlement,
            gates: self.clone(),
        })
    }

    /// What is left to do where gates do no more to a response than to tell of a limit: the visit need not
    /// be kept for it.
    #[inline]
    fn tell_of(&self, visit: &Visit) -> Option<Then> {
        if !self.departs() {
            return Some(Then::Nothing);
        }
        Some(match self.tells()?.told(visit) {
            Some(told) => Then::Tell(told),
            None => Then::Nothing,
        })
    }
}

impl Departing {
    /// Settles and asks the gates. What comes back is settled at the end of the body.
    fn depart(&mut self, head: &mut response::Parts) -> Option<Box<Settlement>> {
        let mut departure = Departure {
            status: head.status,
            headers: &mut head.headers,
            extensions: &mut head.extensions,
        };
        let settlement = self.settlement.take();
        let unsettled = settlement.and_then(|charges| charges.at_the_head(&departure));
        self.gates.depart(usize::MAX, &self.visit, &mut departure);
        unsettled
    }
}

impl<S, B, R> Future for GatedFuture<S::Future, S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<GateBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_with::<GateBodies, R>(cx)
    }
}

impl<S, B> GatedFuture<S::Future, S, B>
where
    S: Service<Request<B>>,
{
    /// Polls it to a response with a body of this kind. The service's own is not moved for it.
    #[inline]
    pub(crate) fn poll_with<O, R>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<O::Body>, S::Error>>
    where
        S: Service<Request<B>, Response = Response<R>>,
        O: Bodies<R>,
    {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Inside { future, then } => {
                    let departing = match then {
                        Then::Nothing => return O::own_response(future.poll(cx)),
                        Then::Tell(told) => {
                            let mut polled = O::own_response(future.poll(cx));
                            if let Poll::Ready(Ok(response)) = &mut polled {
                                told.write(response.headers_mut());
                            }
                            return polled;
                        }
                        Then::Depart(departing) => departing,
                    };
                    let (mut head, body) = ready!(future.poll(cx))?.into_parts();
                    let body = match departing.depart(&mut head) {
                        None => O::own(body),
                        Some(settlement) => O::gated(GateBody::settling(body, settlement)),
                    };
                    return Poll::Ready(Ok(Response::from_parts(head, body)));
                }
                StateProjection::Refused { response } => {
                    let response = response.take().expect("polled after completion");
                    let body = |body| O::gated(GateBody::refused(body));
                    return Poll::Ready(Ok(response.map(body)));
                }
                StateProjection::Waiting { parked } => ready!(Parked::go_on(parked, cx)),
            };
            state.set(next);
        }
    }
}

impl<S, B> Parked<S, B> {
    /// Waits, and goes on to the next gates and to the service. What comes back is to be polled.
    #[cold]
    fn go_on(parked: &mut Option<Box<Self>>, cx: &mut Context<'_>) -> Poll<State<S::Future, S, B>>
    where
        S: Service<Request<B>>,
    {
        let waiting = parked.as_mut().expect("polled after completion");
        let walk = loop {
            let resume = ready!(waiting.wait.as_mut().poll(cx));
            match waiting.resume(resume) {
                Walk::Waits(wait) => waiting.wait = wait,
                walk => break walk,
            }
        };
        let Self {
            gates,
            mut service,
            stopped,
            ..
        } = *parked.take().expect("seen");
        if let Walk::Refused(rejection) = walk {
            return Poll::Ready(State::refused(&gates, &rejection, &stopped));
        }
        let Stopped {
            visit,
            mut head,
            body,
            ..
        } = stopped;
        gates.forward(&mut head, &visit);
        let then = gates.enter(&mut head.extensions, visit);
        let future = service.call(Request::from_parts(head, body));
        Poll::Ready(State::Inside { future, then })
    }

    fn resume(&mut self, resume: Resume) -> Walk {
        let Stopped {
            asked, visit, head, ..
        } = &mut self.stopped;
        let step = resume.go_on(head, visit);
        self.gates.go_on(asked, step, head, visit)
    }
}

/// Answers a request that may not pass.
fn refuse(
    gates: &Gates,
    rejection: &Rejection,
    asked: usize,
    visit: &Visit,
    head: &Parts,
) -> Box<Response<Bytes>> {
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
    Box::new(Response::from_parts(answer, body))
}
