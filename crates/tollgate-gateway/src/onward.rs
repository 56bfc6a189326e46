//! Where a request goes that has passed the gates of its API: to an upstream, to that of its version, or
//! to an API of this gateway.
//!
//! Another API is called in this process, without a socket, and through all that it has before its
//! upstream: lists, addresses, key, rights, limits. Nothing that was decided for the first API counts for
//! the second; a request may go on so only a few times ([`MOST_HOPS`]).
//!
//! A rewrite may lead back to the same API (`tyk://self`). Lists, addresses and rights are asked again for
//! the new path; the session stays, where the gates of this API found one. On the way of a rewrite limits
//! are charged, and the key of the same API is looked for again, only with `check_limits=true`, as in Tyk.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, request::Parts, uri::PathAndQuery};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::task::JoinSet;
use tollgate::{
    ApiId, Refusals, Rejection,
    access::RequestPath,
    clock::{Clock, TokioClock},
    context::ShownToken,
    rewrite::LoopSettings,
    visit::Visit,
};
use tollgate_core::future::BoxFuture;
use tower_service::Service;
use tracing::Instrument as _;

use crate::{
    answer::{AnswerBody, whole},
    api::Api,
    edge::{
        query::set_path_and_query,
        rewrites::{Onto, Whither},
        versions::Chosen,
    },
    proxy::{Proxy, ProxyBody, ProxyFuture, ProxyHints},
    serve::RequestBody,
};

/// How often a request that went from one API to another may do so again, as in Tyk.
pub(crate) const MOST_HOPS: u8 = 5;

/// How many steps of a request one task takes.
const HOPS_OF_A_TASK: u8 = 8;

/// The APIs of a snapshot, those without a public path too. It travels in the extensions of requests to
/// APIs that may hand them on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory(Arc<HashMap<ApiId, Arc<Api>>>);

impl FromIterator<Arc<Api>> for Directory {
    fn from_iter<I: IntoIterator<Item = Arc<Api>>>(apis: I) -> Self {
        let by_id = apis.into_iter().map(|api| (api.id().clone(), api));
        Self(Arc::new(by_id.collect()))
    }
}

/// How often a request has gone from one API to another, and how often it may.
#[derive(Clone, Copy, Debug, Default)]
struct Hops {
    gone: u8,
    /// What the first rewrite said that said anything.
    most: Option<u8>,
}

/// In the extensions of a request that a rewrite sent to an API of this gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looped {
    /// Whether it came from the same API.
    pub(crate) is_own: bool,
    /// Whether limits are charged.
    pub(crate) charges: bool,
    /// Whether the session is that which the gates of this API found before.
    pub(crate) keeps_session: bool,
}

/// A step of a rewrite to an API of this gateway.
#[derive(Debug)]
pub(crate) struct Hop {
    /// Which API.
    pub(crate) whither: Whither,
    /// Path and query there.
    pub(crate) path: PathAndQuery,
    /// How it is called.
    pub(crate) settings: Arc<LoopSettings>,
}

/// In the extensions of an answer: another API gave it, and told of limits what there is to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfAnotherApi;

/// The API that a request is at. It travels in the extensions of requests to APIs whose rewrites may lead
/// to APIs.
#[derive(Clone, Debug)]
pub(crate) struct At(pub(crate) ApiId);

/// The service behind the gates of an API.
#[derive(Clone, Debug)]
pub(crate) enum Onward {
    /// An upstream, or a list of them.
    Upstream(Proxy<RequestBody>),
    /// Some versions have upstreams of their own.
    ByVersion(Arc<ByVersion>),
    /// Another API.
    Api(Arc<Handover>),
}

impl Onward {
    /// Whether requests may go on to other APIs.
    pub(crate) fn leads_to_apis(&self) -> bool {
        match self {
            Self::Upstream(_) => false,
            Self::ByVersion(versions) => {
                let mut all = versions.own.values().chain([&versions.rest]);
                all.any(Self::leads_to_apis)
            }
            Self::Api(_) => true,
        }
    }

    /// Whether it depends on the version where requests go.
    pub(crate) fn differs_by_version(&self) -> bool {
        matches!(self, Self::ByVersion(_))
    }

    /// Sends a request on that may have been rewritten.
    pub(crate) fn go(&mut self, onto: Onto<RequestBody>, refusals: &Refusals) -> OnwardFuture {
        match onto {
            Onto::Upstream(request) => self.call(request),
            Onto::Api(hop, request) => {
                let marks = hop.whither != Whither::Own || hop.settings.check_limits;
                let future = hop.call(request, refusals);
                OnwardFuture::Api { future, marks }
            }
        }
    }
}

/// Versions with upstreams of their own.
#[derive(Debug)]
pub(crate) struct ByVersion {
    pub(crate) own: BTreeMap<String, Onward>,
    pub(crate) rest: Onward,
}

/// The way to another API.
#[derive(Debug)]
pub(crate) struct Handover {
    /// Which API; none where it is not loaded.
    pub(crate) api: Option<ApiId>,
    /// What is cut from the path.
    pub(crate) listen_path: Option<String>,
    /// How it is told that there is no way.
    pub(crate) refusals: Refusals,
}

impl Handover {
    /// Gives a request to the other API.
    pub(crate) fn call(&self, request: Request<RequestBody>) -> BoxFuture<Response<AnswerBody>> {
        let api = self.api.as_ref();
        match onto(api, self.listen_path.as_deref(), request) {
            Ok((api, mut request)) => Box::pin(async move {
                let watch = api.watch.begin_handed(&mut request);
                let response = api.serve(request, TokioClock.now().unix()).await;
                api.watch.answered_handed(watch, response)
            }),
            Err(refused) => no_way(*refused, &self.refusals),
        }
    }
}

fn no_way(
    (rejection, head): (Rejection, Parts),
    refusals: &Refusals,
) -> BoxFuture<Response<AnswerBody>> {
    let response = refusals.render(&rejection, &head).map(whole);
    Box::pin(std::future::ready(response))
}

impl Hop {
    fn call(
        self,
        request: Request<RequestBody>,
        refusals: &Refusals,
    ) -> BoxFuture<Response<AnswerBody>> {
        let is_own = self.whither == Whither::Own;
        let (mut head, body) = request.into_parts();
        let api = match self.enter(&mut head) {
            Ok(api) => api,
            Err(rejection) => return no_way((rejection, head), refusals),
        };
        let hops = head.extensions.get::<Hops>().map_or(0, |hops| hops.gone);
        let answer = Box::pin(async move {
            let mut request = Request::from_parts(head, body);
            let now = TokioClock.now().unix();
            if is_own {
                return api.answer(request, now).await;
            }
            let watch = api.watch.begin_handed(&mut request);
            let response = api.serve(request, now).await;
            api.watch.answered_handed(watch, response)
        });
        if hops % HOPS_OF_A_TASK == 0 {
            return Box::pin(in_its_own_task(answer, refusals.clone()));
        }
        answer
    }

    /// Makes a request one to the API that it goes to. What was decided for the step before goes; the
    /// session stays where it is the same API's, and the key is not to be looked at again.
    fn enter(self, head: &mut Parts) -> Result<Arc<Api>, Rejection> {
        let mut hops: Hops = head.extensions.get().copied().unwrap_or_default();
        hops.most = hops.most.or(self.settings.limit);
        count(&mut hops)?;
        let here = head.extensions.get::<At>().map(|At(api)| api);
        let id = match &self.whither {
            Whither::Own => here,
            Whither::Other(id) => id.as_ref(),
        };
        let directory = head.extensions.get::<Directory>();
        let api = id.and_then(|id| directory?.0.get(id)).cloned();
        let api = api.ok_or_else(|| failed("target_missing", "Can't detect loop target"))?;

        let is_own = self.whither == Whither::Own;
        let charges = self.settings.check_limits;
        let visit = head.extensions.get::<Arc<Visit>>();
        let has_session = visit.is_some_and(|visit| visit.pass().is_some());
        let keeps_session = is_own && !charges && has_session;
        if api.is_guarded() && !keeps_session {
            head.extensions.remove::<Arc<Visit>>();
        }
        if !is_own {
            head.extensions.remove::<Chosen>();
        }
        head.extensions.remove::<ProxyHints>();
        head.extensions.remove::<ShownToken>();
        head.extensions.insert(hops);
        head.extensions.insert(Looped {
            is_own,
            charges,
            keeps_session,
        });
        set_path_and_query(head, self.path);
        if let Some(method) = &self.settings.method {
            head.method = method.clone();
        }
        Ok(api)
    }
}

/// Waits for an answer in a task of its own, which ends with whoever waits: many steps, each polled by the one
/// before, would need more stack than a thread has.
async fn in_its_own_task(
    answer: BoxFuture<Response<AnswerBody>>,
    refusals: Refusals,
) -> Response<AnswerBody> {
    let mut task = JoinSet::new();
    task.spawn(answer.in_current_span());
    match task.join_next().await {
        Some(Ok(response)) => response,
        _ => {
            let broken = failed("loop_failed", "There was a problem proxying the request");
            no_way((broken, Request::new(()).into_parts().0), &refusals).await
        }
    }
}

/// Counts one more step, where it may be gone.
fn count(hops: &mut Hops) -> Result<(), Rejection> {
    let most = hops.most.unwrap_or(MOST_HOPS);
    if hops.gone > most {
        let message =
            format!("Loop level too deep. Found more than {most} loops in single request");
        return Err(failed("too_many_hops", message));
    }
    hops.gone += 1;
    Ok(())
}

/// Why a request can not go on, and its head.
pub(crate) type NoWay = Box<(Rejection, Parts)>;

/// Makes a request one to the other API, as if it came in there.
pub(crate) fn onto<B>(
    id: Option<&ApiId>,
    listen_path: Option<&str>,
    request: Request<B>,
) -> Result<(Arc<Api>, Request<B>), NoWay> {
    let (mut head, body) = request.into_parts();
    let directory = head.extensions.get::<Directory>();
    let api = id.and_then(|id| directory?.0.get(id)).cloned();
    let Some(api) = api else {
        let missing = failed("target_missing", "Couldn't detect target");
        return Err(Box::new((missing, head)));
    };
    let mut hops: Hops = head.extensions.get().copied().unwrap_or_default();
    if let Err(rejection) = count(&mut hops).and_then(|()| cut(&mut head.uri, listen_path)) {
        return Err(Box::new((rejection, head)));
    }
    head.extensions.insert(hops);
    head.extensions.remove::<Chosen>();
    head.extensions.remove::<Looped>();
    head.extensions.remove::<ShownToken>();
    if api.is_guarded() {
        head.extensions.remove::<Arc<Visit>>(); // Who called the first API is nobody to the second.
    }
    Ok((api, Request::from_parts(head, body)))
}

/// Cuts the listen path from a path, as for an upstream.
fn cut(uri: &mut Uri, listen_path: Option<&str>) -> Result<(), Rejection> {
    let rest = RequestPath::of(uri.path(), listen_path)?.spelled_behind_listen_path()?;
    if rest == uri.path() {
        return Ok(());
    }
    let slash = if rest.starts_with('/') { "" } else { "/" };
    let query = uri.query().map(|query| format!("?{query}"));
    let target = format!("{slash}{rest}{}", query.unwrap_or_default());
    let target = PathAndQuery::try_from(target).map_err(|_| Rejection::PathAmbiguous)?;
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(target);
    *uri = Uri::from_parts(parts).map_err(|_| Rejection::PathAmbiguous)?;
    Ok(())
}

fn failed(code: &'static str, message: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection::custom(code, StatusCode::INTERNAL_SERVER_ERROR, message)
}

impl Service<Request<RequestBody>> for Onward {
    type Response = Response<OnwardBody>;
    type Error = Infallible;
    type Future = OnwardFuture;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // As proxies and APIs always are.
    }

    fn call(&mut self, request: Request<RequestBody>) -> OnwardFuture {
        match self {
            Self::Upstream(proxy) => OnwardFuture::Upstream {
                future: proxy.call(request),
            },
            Self::ByVersion(versions) => {
                let chosen = request.extensions().get::<Chosen>();
                let own = chosen.and_then(|chosen| versions.own.get(&chosen.rules.name));
                own.unwrap_or(&versions.rest).clone().call(request)
            }
            Self::Api(way) => OnwardFuture::Api {
                future: way.call(request),
                marks: true,
            },
        }
    }
}

pin_project! {
    /// The answer of an upstream, or of another API.
    #[project = FutureProjection]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) enum OnwardFuture {
        Upstream { #[pin] future: ProxyFuture<RequestBody> },
        // It marks the answer where that tells of limits what there is to tell.
        Api { future: BoxFuture<Response<AnswerBody>>, marks: bool },
    }
}

impl Future for OnwardFuture {
    type Output = Result<Response<OnwardBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project() {
            FutureProjection::Upstream { future } => {
                let Ok(response) = ready!(future.poll(cx));
                response.map(|body| OnwardBody::Upstream { body })
            }
            FutureProjection::Api { future, marks } => {
                let mut response = ready!(future.as_mut().poll(cx));
                if *marks {
                    response.extensions_mut().insert(OfAnotherApi);
                }
                response.map(|body| OnwardBody::Api {
                    body: Box::new(body),
                })
            }
        }))
    }
}

/// The body of an upstream's answer, or of another API's.
pub(crate) enum OnwardBody {
    Upstream { body: ProxyBody },
    Api { body: Box<AnswerBody> }, // It may hold one of these.
}

impl OnwardBody {
    /// A body of the gateway's own.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        let body = Box::new(whole(bytes));
        Self::Api { body }
    }
}

impl Body for OnwardBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Upstream { body } => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Api { body } => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream { body } => body.is_end_stream(),
            Self::Api { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream { body } => body.size_hint(),
            Self::Api { body } => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, listen_path: Option<&str>, expected: Option<&str>) {
        let mut uri: Uri = target.parse().expect("a target");
        let cut = cut(&mut uri, listen_path).is_ok();
        assert_eq!(
            cut.then(|| uri.to_string()).as_deref(),
            expected,
            "{target}"
        );
    }

    #[test]
    fn the_listen_path_is_cut_and_the_query_stays() {
        check("/a/x?y=1", Some("/a/"), Some("/x?y=1"));
        check("/a?y=1", Some("/a/"), Some("/?y=1"));
        check("/a/", Some("/a/"), Some("/"));
        check("/a/x", None, Some("/a/x"));
        check("/%61/x", Some("/a/"), Some("/x"));
        check("/a/b%2Fc", Some("/a/"), Some("/b%2Fc"));
        check("/a%2Fc", Some("/a/"), None);
    }
}
