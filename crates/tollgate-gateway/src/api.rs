//! One API as it is served.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, request::Parts};
use tollgate::{
    ApiId, Refusals, Rejection, Tollgate, access::RequestPath, clock::UnixSeconds,
    context::ClientAddr, explain::Explanation, gated::Gated, visit::Visit,
};
use tower_service::Service;

use crate::{
    edge::{
        addresses::Addresses,
        cors::{Cors, Way},
        exchange::Checked,
        forms, is_own_answer,
        lists::{From, Listed, Reply},
        query::set_target,
        sizes,
        usage::{self, Usage},
        versions::{Choice, Chosen, VersionRules, Versions},
    },
    observe::{ApiWatch, request_id, tracked::Tracked},
    onward::{At, Handover, Looped, onto},
    serve::RequestBody,
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
    pub async fn serve(
        &self,
        mut request: Request<RequestBody>,
        now: UnixSeconds,
    ) -> Response<AnswerBody> {
        if self.cuts_words {
            let (mut head, body) = request.into_parts();
            self.part_words(&mut head);
            request = Request::from_parts(head, body);
        }
        let cors = self.cors.as_ref();
        let cors = cors.map(|cors| cors.ask(request.method(), request.headers()));
        let mut response = match cors.as_ref().map_or(Way::On, |asked| asked.way) {
            Way::On => self.answer(request, now).await,
            Way::Answered => empty(StatusCode::NO_CONTENT),
            Way::Past => forward(&self.open, request).await,
        };
        *response.version_mut() = Version::HTTP_11; // The upstream's own concerns its own hop.
        if is_own_answer(response.extensions()) && self.names_generator {
            const GENERATOR: HeaderName = HeaderName::from_static("x-generator");
            response
                .headers_mut()
                .insert(GENERATOR, HeaderValue::from_static("tyk.io"));
        }
        if let Some(asked) = cors {
            asked.write(response.headers_mut());
        }
        response
    }

    /// The same past CORS, which concerns the client's own request.
    pub(crate) async fn answer(
        &self,
        request: Request<RequestBody>,
        now: UnixSeconds,
    ) -> Response<AnswerBody> {
        let (mut head, body) = request.into_parts();
        if body.is_too_large() {
            return self.refuse(sizes::too_large(), &head);
        }
        let entered = self.enter(&mut head, now);
        if !self.tracks {
            return self.go_on(entered, head, body).await;
        }
        let tracked = head.extensions.remove::<Tracked>();
        let mut response = self.go_on(entered, head, body).await;
        if let Some(tracked) = tracked {
            response.extensions_mut().insert(tracked);
        }
        response
    }

    async fn go_on(
        &self,
        entered: Result<Entered, Rejection>,
        mut head: Parts,
        mut body: RequestBody,
    ) -> Response<AnswerBody> {
        let entered = match entered {
            Ok(entered) => entered,
            Err(rejection) => return self.refuse(rejection, &head),
        };
        let service = match (&self.access, entered) {
            (_, Entered::Answered(reply)) => return answer(&reply),
            (_, Entered::Elsewhere(api)) => {
                let request = Request::from_parts(head, body);
                return self.way_to(api).call(request).await;
            }
            (Access::Guarded { usage, .. }, Entered::Guarded)
                if usage::is_asked(&head, &self.listen) =>
            {
                return usage.answer(head).await;
            }
            (Access::Guarded { service, .. }, Entered::Guarded) => {
                self.looped(&mut head).unwrap_or(service)
            }
            _ => &self.open,
        };
        if self.names_requests {
            head.extensions.insert(request_id::random());
        }
        if self.reads_forms
            && let Err(rejection) = forms::read(&mut head, &mut body).await
        {
            return self.refuse(rejection, &head);
        }
        forward(service, Request::from_parts(head, body)).await
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

/// Sends a request on. It is called at once, and not when it is first waited for: so the request is moved
/// once less, and is no part of what waits.
fn forward(
    service: &Gated<Checked>,
    request: Request<RequestBody>,
) -> impl Future<Output = Response<AnswerBody>> + use<> {
    let answer = service.clone().call(request); // It is always ready.
    answer.map(|answered| {
        let Ok(response) = answered;
        response.map(AnswerBody::from)
    })
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
