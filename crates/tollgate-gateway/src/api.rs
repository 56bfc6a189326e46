//! One API as it is served.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use http::{Request, Response, StatusCode, request::Parts};
use tollgate::{
    ApiId, Refusals, Rejection, Tollgate, access::RequestPath, clock::UnixSeconds,
    context::ClientAddr, explain::Explanation, gated::Gated, visit::Visit,
};

use crate::{
    edge::{
        addresses::Addresses,
        cors::{self, Cors},
        exchange::Checked,
        forms,
        lists::{From, Listed, Reply},
        query::set_target,
        sizes,
        usage::{self, Usage},
        versions::{Choice, Chosen, VersionRules, Versions},
    },
    observe::{ApiWatch, request_id, tracked::Tracked},
    onward::{At, Handover, Looped, onto},
    serve::RequestBody,
    serving::{Serving, Way},
};

pub(crate) use crate::answer::whole;
pub use crate::answer::{AnswerBody, AnswerError};

/// An API as it is served.
pub struct Api {
    pub(crate) id: ApiId,
    pub(crate) file: PathBuf,
    pub(crate) listen: Arc<str>,
    /// What is cut from paths before they go on.
    pub(crate) listen_path: Option<String>,
    /// Whether the listen path is cut from longer words, too: `/app` from `/apple`.
    pub(crate) cuts_words: bool,
    /// Whether requests may go on to other APIs, which they then have to bring.
    pub(crate) hands_on: bool,
    /// Whether some requests are tracked otherwise than the rest.
    pub(crate) tracks: bool,
    /// Whether rewrites may send them to APIs of this gateway.
    pub(crate) loops: bool,
    pub(crate) versions: Versions,
    pub(crate) cors: Option<Arc<Cors>>,
    pub(crate) addresses: Addresses,
    /// The Unix second from which on it is gone.
    pub(crate) ends: Option<u64>,
    pub(crate) access: Access,
    /// Whether texts of headers name what is in forms.
    pub(crate) reads_forms: bool,
    /// Whether texts name what the request is called.
    pub(crate) names_requests: bool,
    /// For requests that need no key.
    pub(crate) open: Gated<Checked>,
    /// For requests that a rewrite of this API sent back, with the session that was found before; none
    /// where no rewrite does.
    pub(crate) looped: Option<Gated<Checked>>,
    pub(crate) refusals: Refusals,
    /// Whether the gateway's own answers say so, as Tyk's do.
    pub(crate) names_generator: bool,
    pub(crate) watch: ApiWatch,
}

/// Whether an API's callers need a key.
#[expect(clippy::large_enum_variant, reason = "there is one for each API")]
pub(crate) enum Access {
    Open,
    Guarded {
        service: Gated<Checked>,
        gate: Tollgate,
        usage: Usage,
    },
}

/// What the edge says of a request.
enum Entered {
    Guarded,
    Open,
    Answered(Arc<Reply>),
    /// The version that it calls is another API.
    Elsewhere(ApiId),
}

impl Api {
    /// Its id.
    pub fn id(&self) -> &ApiId {
        &self.id
    }

    /// Whether callers need a key.
    pub(crate) fn is_guarded(&self) -> bool {
        matches!(self.access, Access::Guarded { .. })
    }

    /// Answers a request.
    pub(crate) fn serve(
        self: &Arc<Self>,
        mut request: Request<RequestBody>,
        now: UnixSeconds,
    ) -> Serving {
        if self.cuts_words {
            let (mut head, body) = request.into_parts();
            self.part_words(&mut head);
            request = Request::from_parts(head, body);
        }
        let cors = self.cors.as_ref();
        let cors = cors.map(|cors| cors.ask(request.method(), request.headers()));
        let (way, tracked) = match cors.as_ref().map_or(cors::Way::On, |asked| asked.way) {
            cors::Way::On => self.way(request, now),
            cors::Way::Answered => (Way::here(empty(StatusCode::NO_CONTENT)), None),
            cors::Way::Past => (Way::forward(&self.open, request), None),
        };
        Serving::new(self.clone(), cors, tracked, way)
    }

    /// The same past CORS, which concerns the client's own request.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: Request<RequestBody>,
        now: UnixSeconds,
    ) -> Response<AnswerBody> {
        let (way, tracked) = self.way(request, now);
        let mut response = way.await;
        if let Some(tracked) = tracked {
            response.extensions_mut().insert(tracked);
        }
        response
    }

    fn way(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        now: UnixSeconds,
    ) -> (Way, Option<Tracked>) {
        let (mut head, body) = request.into_parts();
        if body.is_too_large() {
            return (Way::here(self.refuse(sizes::too_large(), &head)), None);
        }
        let entered = self.enter(&mut head, now);
        let tracked = self.tracks.then(|| head.extensions.remove()).flatten();
        (self.go_on(entered, head, body), tracked)
    }

    fn go_on(
        self: &Arc<Self>,
        entered: Result<Entered, Rejection>,
        mut head: Parts,
        body: RequestBody,
    ) -> Way {
        let entered = match entered {
            Ok(entered) => entered,
            Err(rejection) => return Way::here(self.refuse(rejection, &head)),
        };
        let is_guarded = match entered {
            Entered::Answered(reply) => return Way::here(answer(&reply)),
            Entered::Elsewhere(api) => {
                let request = Request::from_parts(head, body);
                return Way::elsewhere(self.way_to(api).call(request));
            }
            Entered::Guarded => true,
            Entered::Open => false,
        };
        if is_guarded && self.is_guarded() && usage::is_asked(&head, &self.listen) {
            return Way::elsewhere(self.clone().tell_usage(head));
        }
        if self.names_requests {
            head.extensions.insert(request_id::random());
        }
        if self.reads_forms {
            return Way::elsewhere(self.clone().read_form(is_guarded, head, body));
        }
        let service = self.service(is_guarded, &mut head);
        Way::forward(service, Request::from_parts(head, body))
    }

    /// What a request goes through from here on.
    fn service(&self, is_guarded: bool, head: &mut Parts) -> &Gated<Checked> {
        match &self.access {
            Access::Guarded { service, .. } if is_guarded => self.looped(head).unwrap_or(service),
            _ => &self.open,
        }
    }

    async fn tell_usage(self: Arc<Self>, head: Parts) -> Response<AnswerBody> {
        match &self.access {
            Access::Guarded { usage, .. } => usage.answer(head).await,
            Access::Open => empty(StatusCode::NOT_FOUND), // It is asked for only where keys are.
        }
    }

    async fn read_form(
        self: Arc<Self>,
        is_guarded: bool,
        mut head: Parts,
        mut body: RequestBody,
    ) -> Response<AnswerBody> {
        if let Err(rejection) = forms::read(&mut head, &mut body).await {
            return self.refuse(rejection, &head);
        }
        let service = self.service(is_guarded, &mut head);
        Way::forward(service, Request::from_parts(head, body)).await
    }

    /// Makes what follows the listen path within a word a segment of its own, so that what is checked from
    /// here on is what the upstream will see.
    fn part_words(&self, head: &mut Parts) {
        let target = head.uri.path_and_query();
        let Some(rest) = target.and_then(|target| target.as_str().strip_prefix(&*self.listen))
        else {
            return;
        };
        let has_slash = |slash: &str| {
            let first = rest.get(..slash.len());
            first.is_some_and(|first| first.eq_ignore_ascii_case(slash))
        };
        if !rest.is_empty() && !["/", "?", "%2f"].into_iter().any(has_slash) {
            let target = format!("{}/{rest}", self.listen);
            set_target(head, &target);
        }
    }

    /// What a request goes through that keeps its session.
    fn looped(&self, head: &mut Parts) -> Option<&Gated<Checked>> {
        let looped = head.extensions.get::<Looped>()?;
        let keeps_session = looped.keeps_session;
        if keeps_session && self.looped.is_none() {
            head.extensions.remove::<Arc<Visit>>(); // Its key is looked for, as nobody was.
        }
        self.looped.as_ref().filter(|_| keeps_session)
    }

    /// What is decided before the key is looked for.
    fn enter(&self, head: &mut Parts, now: UnixSeconds) -> Result<Entered, Rejection> {
        let looped = head.extensions.get::<Looped>().copied();
        let before = looped.filter(|looped| looped.is_own);
        let before = before.and_then(|_| head.extensions.remove::<Chosen>());
        let chosen = match before {
            Some(chosen) => chosen, // It stays the version that was called.
            None => match self.versions.choose(head, &self.listen, now.0)? {
                Choice::Here(chosen) => chosen,
                Choice::Api(api) => return Ok(Entered::Elsewhere(api)),
            },
        };
        if self.ends.is_some_and(|end| end <= now.0) {
            return Err(Rejection::custom(
                "api_expired",
                StatusCode::FORBIDDEN,
                "API has expired, please check documentation or contact administrator",
            ));
        }
        let path = RequestPath::of(head.uri.path(), Some(&self.listen))?;
        let tracked = chosen.rules.tracking.ask(head.method.as_str(), &path);
        let listed = self.listed(&chosen.rules, head, &path);
        if let Some(tracked) = tracked {
            tracked.leave(&mut head.extensions);
        }
        let listed = listed?;
        head.extensions.insert(chosen);
        if self.loops {
            head.extensions.insert(At(self.id.clone()));
        }
        Ok(match listed {
            Listed::Open => Entered::Guarded,
            Listed::Ignored => Entered::Open,
            Listed::Answered(reply) => Entered::Answered(reply),
        })
    }

    /// What the lists say of a request from an address that may call, with a body that is not too large.
    fn listed(
        &self,
        rules: &VersionRules,
        head: &Parts,
        path: &RequestPath<'_>,
    ) -> Result<Listed, Rejection> {
        let method = head.method.as_str();
        let looped = head.extensions.get::<Looped>();
        let from = looped.map_or(From::Client, |_| From::Rewrite);
        let listed = rules.lists.ask(method, path, from)?;
        self.addresses.ask(client(head))?;
        if !matches!(listed, Listed::Answered(_)) {
            rules.sizes.ask(method, path, &head.headers)?;
        }
        Ok(listed)
    }

    fn way_to(&self, api: ApiId) -> Handover {
        Handover {
            api: Some(api),
            listen_path: self.listen_path.clone(),
            refusals: self.refusals.clone(),
        }
    }

    fn refuse(&self, rejection: Rejection, head: &Parts) -> Response<AnswerBody> {
        let mut response = self.refusals.render(&rejection, head).map(whole);
        response.extensions_mut().insert(rejection);
        response
    }

    /// What every gate would say of a request; `None` where no key is needed.
    pub async fn explain(
        &self,
        mut head: Parts,
        now: UnixSeconds,
    ) -> Result<Option<Explanation>, Rejection> {
        if self.cuts_words {
            self.part_words(&mut head);
        }
        match (self.enter(&mut head, now)?, &self.access) {
            (Entered::Elsewhere(api), _) => {
                let request = Request::from_parts(head, ());
                let onto = onto(Some(&api), self.listen_path.as_deref(), request);
                let (api, request) = onto.map_err(|refused| refused.0)?;
                Box::pin(api.explain(request.into_parts().0, now)).await
            }
            (Entered::Guarded, Access::Guarded { gate, .. }) => Ok(Some(gate.explain(&head).await)),
            _ => Ok(None),
        }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("id", &self.id)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

fn client(head: &Parts) -> Option<IpAddr> {
    head.extensions
        .get::<ClientAddr>()
        .map(|ClientAddr(addr)| *addr)
}

fn answer(reply: &Reply) -> Response<AnswerBody> {
    let mut response = Response::new(whole(reply.body.clone()));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers.clone();
    response
}

fn empty(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = status;
    response
}
