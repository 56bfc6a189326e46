//! What decides about a request: the [`Gate`], and a list of them, [`Gates`].
//!
//! Every layer of this crate is a gate, and a layer of yours can be one too. [`Gated`] asks the gates
//! of its list in order. The first that refuses ends the walk; the service is called when none does.
//!
//! # Example
//!
//! ```
//! use http::{StatusCode, request::Parts};
//! use tollgate::{Rejection, gate::{Gate, Gates, Step}, gated::GateLayer, visit::Visit};
//! use tower::{Layer, ServiceExt, service_fn};
//! # use http::{Request, Response};
//! # use http_body_util::Full;
//! # use bytes::Bytes;
//!
//! /// Lets nobody in whose request names no language.
//! struct LanguageGate;
//!
//! impl Gate for LanguageGate {
//!     fn name(&self) -> &'static str {
//!         "language"
//!     }
//!
//!     fn admit(&self, head: &mut Parts, _visit: &mut Visit) -> Step {
//!         if head.headers.contains_key("accept-language") {
//!             return Step::Pass;
//!         }
//!         Step::Refuse(Rejection::custom("no_language", StatusCode::NOT_ACCEPTABLE, "name a language"))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn handle(_: Request<()>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
//! #     Ok(Response::default())
//! # }
//! let service = GateLayer::new(LanguageGate).layer(service_fn(handle));
//! let response = service.oneshot(Request::new(())).await?;
//! assert_eq!(response.status(), 406);
//! # Ok(())
//! # }
//! ```
//!
//! [`Gated`]: crate::gated::Gated

use std::sync::Arc;

use http::{Extensions, HeaderMap, StatusCode, request::Parts};
use tollgate_core::{Clock, Moment, Rejection, future::BoxFuture};

use crate::{
    clock::default_clock,
    express::{Asked, Express, Look},
    limits::LimitGate,
    rate_headers::LimitHeaders,
    refusal::Refusals,
    report,
    seen::Seen,
    visit::Visit,
};

/// Decides whether a request may pass.
pub trait Gate: Send + Sync + 'static {
    /// A short name for logs and explanations, as `rate limit`.
    fn name(&self) -> &'static str;

    /// Looks at the head of a request and at what gates before found out.
    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step;

    /// What it does once it has let a request pass. Asked once, when the gate takes its place in a list;
    /// one that says no is not called for it.
    fn acts(&self) -> Acts {
        Acts::ALL
    }

    /// Changes the head once every gate has let the request pass. It can refuse nothing any more.
    fn forward(&self, _head: &mut Parts, _visit: &Visit) {}

    /// Changes the head of the response. Runs for every gate that was asked, last first, also when the
    /// request was refused.
    fn depart(&self, _visit: &Visit, _response: &mut Departure<'_>) {}
}

/// What a gate does besides [`admit`](Gate::admit).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Acts {
    /// Whether [`forward`](Gate::forward) does anything.
    pub forward: bool,
    /// Whether [`depart`](Gate::depart) does anything.
    pub depart: bool,
}

impl Acts {
    /// Both.
    pub const ALL: Self = Self {
        forward: true,
        depart: true,
    };

    /// Neither.
    pub const NONE: Self = Self {
        forward: false,
        depart: false,
    };
}

/// What a gate says.
pub enum Step {
    /// The next gate is asked.
    Pass,
    /// The request may not pass.
    Refuse(Rejection),
    /// The answer needs a wait; see [`Step::wait`].
    Wait(BoxFuture<Resume>),
    /// The request waits for a moment; see [`Step::wait_until`].
    WaitUntil(Moment, Resume),
}

/// What a gate does when its wait is over.
pub struct Resume(Box<GoOn>);

type GoOn = dyn FnOnce(&mut Parts, &mut Visit) -> Step + Send;

impl Step {
    /// Waits for `what`, then goes on with its result, the head and the visit in hand again.
    pub fn wait<T: Send + 'static>(
        what: impl Future<Output = T> + Send + 'static,
        then: impl FnOnce(T, &mut Parts, &mut Visit) -> Self + Send + 'static,
    ) -> Self {
        Self::Wait(Box::pin(async move {
            let result = what.await;
            Resume(Box::new(move |head, visit| then(result, head, visit)))
        }))
    }

    /// Waits on the clock of the gates, then goes on.
    pub fn wait_until(
        at: Moment,
        then: impl FnOnce(&mut Parts, &mut Visit) -> Self + Send + 'static,
    ) -> Self {
        Self::WaitUntil(at, Resume(Box::new(then)))
    }
}

impl From<Result<(), Rejection>> for Step {
    fn from(result: Result<(), Rejection>) -> Self {
        match result {
            Ok(()) => Self::Pass,
            Err(rejection) => Self::Refuse(rejection),
        }
    }
}

impl Resume {
    pub(crate) fn go_on(self, head: &mut Parts, visit: &mut Visit) -> Step {
        (self.0)(head, visit)
    }
}

/// The head of a response on its way out.
#[derive(Debug)]
pub struct Departure<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a mut HeaderMap,
    /// Its extensions; a refusal has its [`Rejection`] here.
    pub extensions: &'a mut Extensions,
}

/// Gates in the order in which they are asked, with what they share: clock and form of refusals.
///
/// Cheap to clone: a layer holds one and gives it to every service it makes.
#[derive(Clone)]
pub struct Gates(Arc<Set>);

#[derive(Clone)]
struct Set {
    seats: Vec<Seat>,
    clock: Arc<dyn Clock>,
    refusals: Refusals,
    express: Option<Arc<Express>>,
    can_wait: bool, // On the clock.
    leaves_visit: bool,
    acts: Acts, // Of any gate.
    /// The headers of limits, where no more than these is done to a response.
    tells: Option<LimitHeaders>,
}

#[derive(Clone)]
struct Seat {
    gate: Arc<dyn Gate>,
    observed: bool,
    acts: Acts,
    /// What it does to a response, where that is only to tell of a limit.
    tells: Option<LimitHeaders>,
}

impl Seat {
    fn of(gate: Arc<dyn Gate>, observed: bool) -> Self {
        let acts = gate.acts();
        Self {
            gate,
            observed,
            acts,
            tells: None,
        }
    }

    fn of_limits(gate: LimitGate) -> Self {
        let tells = Some(gate.headers()).filter(|headers| headers.are_told());
        Self {
            tells,
            ..Self::of(Arc::new(gate), false)
        }
    }
}

/// Where a walk through the gates ended.
pub(crate) enum Walk {
    Through,
    Refused(Rejection),
    Waits(BoxFuture<Resume>),
}

impl Gates {
    /// No gates, to be filled with [`and`](Self::and).
    pub fn none() -> Self {
        let clock = default_clock();
        Self(Arc::new(Set {
            seats: Vec::new(),
            can_wait: clock.sleeps(),
            clock,
            refusals: Refusals::default(),
            express: None,
            leaves_visit: true,
            acts: Acts::NONE,
            tells: None,
        }))
    }

    /// One gate.
    pub fn of(gate: impl Gate) -> Self {
        Self::none().and(gate)
    }

    /// Adds a gate behind the others.
    #[must_use]
    pub fn and(self, gate: impl Gate) -> Self {
        self.seat(Arc::new(gate), false)
    }

    /// Adds a gate that is asked but not obeyed: what it would refuse is counted as `would_reject`, and
    /// the request goes on.
    #[must_use]
    pub fn and_observed(self, gate: impl Gate) -> Self {
        self.seat(Arc::new(gate), true)
    }

    #[must_use]
    pub(crate) fn seat(self, gate: Arc<dyn Gate>, observed: bool) -> Self {
        self.with(|set| set.seats.push(Seat::of(gate, observed)))
    }

    /// Adds the gate that charges.
    #[must_use]
    pub(crate) fn and_limits(self, gate: LimitGate) -> Self {
        self.with(|set| set.seats.push(Seat::of_limits(gate)))
    }

    /// Reads the time from `clock` in place of the machine's.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.with(|set| {
            set.can_wait = clock.sleeps();
            set.clock = Arc::new(clock);
        })
    }

    /// Answers refused requests in this form.
    #[must_use]
    pub fn with_refusals(self, refusals: Refusals) -> Self {
        self.with(|set| set.refusals = refusals)
    }

    /// Leaves nothing in the request's extensions: handlers then can not ask for the session. Where no gate
    /// changes the response either, a request costs no allocation.
    #[must_use]
    pub fn without_context(self) -> Self {
        self.with(|set| set.leaves_visit = false)
    }

    /// The same settings with this gate alone.
    #[must_use]
    pub(crate) fn with_only(self, gate: Arc<dyn Gate>, observed: bool) -> Self {
        self.with(|set| {
            set.seats = vec![Seat::of(gate, observed)];
            set.express = None;
        })
    }

    /// Has usual requests let through by these gates at once, with which the list begins.
    #[must_use]
    pub(crate) fn with_express(self, express: Express) -> Self {
        self.with(|set| set.express = Some(Arc::new(express)))
    }

    fn with(mut self, change: impl FnOnce(&mut Set)) -> Self {
        let set = Arc::make_mut(&mut self.0);
        change(set);
        set.acts = Acts {
            forward: set.seats.iter().any(|seat| seat.acts.forward),
            depart: set.seats.iter().any(|seat| seat.acts.depart),
        };
        let mut departing = set.seats.iter().filter(|seat| seat.acts.depart);
        set.tells = match (departing.next(), departing.next()) {
            (Some(only), None) => only.tells,
            _ => None,
        };
        self
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.0.refusals
    }

    pub(crate) fn leaves_visit(&self) -> bool {
        self.0.leaves_visit
    }

    /// Whether the visit is read by a gate once the request went through.
    pub(crate) fn departs(&self) -> bool {
        self.0.acts.depart
    }

    /// The headers of limits, where no more than these is done to a response.
    pub(crate) fn tells(&self) -> Option<LimitHeaders> {
        self.0.tells
    }

    /// The gates by place, for explanations.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&dyn Gate, bool)> {
        self.0.seats.iter().map(|seat| (&*seat.gate, seat.observed))
    }

    /// Asks the gates behind those that told who calls, where they are asked at once and none has to see the
    /// request again once it may pass. Fails with how many gates have passed.
    #[inline]
    pub(crate) fn pass_at_once(
        &self,
        headers: &mut HeaderMap,
        visit: &mut Visit,
    ) -> Result<(), usize> {
        let express = self.0.express.as_deref();
        let express = express.filter(|_| !self.0.acts.forward);
        express.map_or(Err(Express::GATES), |express| {
            express.pass_rest(headers, visit)
        })
    }

    /// Sets the headers of a request whose visit is known already.
    #[inline]
    pub(crate) fn set_ready(&self, headers: &mut HeaderMap, visit: &Visit) {
        if let Some(express) = self.0.express.as_deref() {
            express.set_ready(headers, visit);
        }
    }

    /// Starts a visit at the time of the clock.
    pub(crate) fn open(&self) -> Visit {
        self.open_at(self.now())
    }

    pub(crate) fn now(&self) -> Moment {
        self.0.clock.now()
    }

    #[inline]
    pub(crate) fn open_at(&self, now: Moment) -> Visit {
        Visit::start(now, self.0.can_wait, self.is_watched())
    }

    /// The same with a visit that is there.
    #[inline]
    pub(crate) fn begin(&self, visit: &mut Visit, now: Moment) {
        visit.begin(now, self.0.can_wait, self.is_watched());
    }

    /// Whether anybody may read what gates find, once the request went through.
    pub(crate) fn is_watched(&self) -> bool {
        self.leaves_visit() || self.0.acts != Acts::NONE
    }

    /// Lets a usual request through, or tells who calls.
    #[inline]
    pub(crate) fn look(&self, seen: Seen<'_>, now: Moment) -> Look {
        let Some(express) = self.0.express.as_deref() else {
            return Look::Unknown;
        };
        // A session may come from further out.
        if !seen.extensions.is_empty() && seen.extensions.get::<Arc<Visit>>().is_some() {
            return Look::Unknown;
        }
        let is_watched = self.is_watched();
        let asked = Asked {
            now,
            is_watched,
            goes_on: is_watched && !self.0.acts.forward,
            can_wait: self.0.can_wait,
        };
        express.look(seen, asked)
    }

    /// Goes on with the visit of a `Gated` further out.
    #[inline]
    pub(crate) fn resume(head: &mut Parts, visit: &mut Visit) {
        if !head.extensions.is_empty()
            && let Some(outer) = head.extensions.remove()
        {
            visit.go_on_with(outer);
        }
    }

    /// Asks the gates from `at` on.
    pub(crate) fn walk(&self, at: &mut usize, head: &mut Parts, visit: &mut Visit) -> Walk {
        while let Some(seat) = self.0.seats.get(*at) {
            *at += 1;
            let step = seat.gate.admit(head, visit);
            if let Step::Pass = step {
                std::mem::forget(step); // There is nothing to drop, which is not seen otherwise.
            } else if let Some(end) = self.halt(*at, step, visit) {
                return end;
            }
        }
        Walk::Through
    }

    /// Goes on where a gate waited: `step` is what it says now.
    pub(crate) fn go_on(
        &self,
        at: &mut usize,
        step: Step,
        head: &mut Parts,
        visit: &mut Visit,
    ) -> Walk {
        match self.halt(*at, step, visit) {
            Some(end) => end,
            None => self.walk(at, head, visit),
        }
    }

    /// What a step of the gate asked last means; `None` to go on.
    #[cold]
    fn halt(&self, asked: usize, step: Step, visit: &mut Visit) -> Option<Walk> {
        match step {
            Step::Pass => None,
            Step::Wait(wait) => Some(Walk::Waits(wait)),
            Step::WaitUntil(at, resume) => {
                let sleep = self.0.clock.sleep_until(at);
                Some(Walk::Waits(Box::pin(async move {
                    sleep.await;
                    resume
                })))
            }
            Step::Refuse(rejection) if self.0.seats[asked - 1].observed => {
                report::would_reject(&rejection);
                visit.waive();
                None
            }
            Step::Refuse(rejection) => Some(Walk::Refused(rejection)),
        }
    }

    /// The name of the gate asked last.
    pub(crate) fn asked_last(&self, asked: usize) -> &'static str {
        asked
            .checked_sub(1)
            .and_then(|at| self.0.seats.get(at))
            .map_or("none", |seat| seat.gate.name())
    }

    pub(crate) fn forward(&self, head: &mut Parts, visit: &Visit) {
        if !self.0.acts.forward {
            return;
        }
        for seat in self.0.seats.iter().filter(|seat| seat.acts.forward) {
            seat.gate.forward(head, visit);
        }
    }

    pub(crate) fn depart(&self, asked: usize, visit: &Visit, response: &mut Departure<'_>) {
        let asked = self.0.seats.iter().take(asked).rev();
        for seat in asked.filter(|seat| seat.acts.depart) {
            seat.gate.depart(visit, response);
        }
    }
}

impl std::fmt::Debug for Gates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.seats.iter().map(|seat| seat.gate.name()))
            .finish()
    }
}
