//! Where a request goes that has passed the gates of its API: to an upstream, to that of its version, or
//! to another API of this gateway.
//!
//! Another API is called in this process, without a socket, and through all that it has before its
//! upstream: lists, addresses, key, rights, limits. Nothing that was decided for the first API counts for
//! the second; a request may go on so only a few times ([`MOST_HOPS`]).

use std::{
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
use tollgate::{
    ApiId, Refusals, Rejection,
    access::RequestPath,
    clock::{Clock, TokioClock},
    visit::Visit,
};
use tollgate_core::future::BoxFuture;
use tower_service::Service;

use crate::{
    answer::{AnswerBody, whole},
    api::Api,
    edge::versions::Chosen,
    proxy::{Proxy, ProxyBody, ProxyFuture},
    serve::RequestBody,
};

/// How often a request that went from one API to another may do so again, as in Tyk.
pub(crate) const MOST_HOPS: u8 = 5;

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

/// How often a request has gone from one API to another.
#[derive(Clone, Copy, Debug, Default)]
struct Hops(u8);

/// In the extensions of an answer: another API gave it, and told of limits what there is to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfAnotherApi;

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
            Err(refused) => {
                let (rejection, head) = *refused;
                let mut response = self.refusals.render(&rejection, &head).map(whole);
                response.extensions_mut().insert(rejection);
                Box::pin(std::future::ready(response))
            }
        }
    }
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
    let Hops(hops) = head.extensions.get().copied().unwrap_or_default();
    if hops > MOST_HOPS {
        let message = "Loop level too deep. Found more than 5 loops in single request";
        return Err(Box::new((failed("too_many_hops", message), head)));
    }
    if let Err(rejection) = cut(&mut head.uri, listen_path) {
        return Err(Box::new((rejection, head)));
    }
    head.extensions.insert(Hops(hops + 1));
    head.extensions.remove::<Chosen>();
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

fn failed(code: &'static str, message: &'static str) -> Rejection {
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
        Api { future: BoxFuture<Response<AnswerBody>> },
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
            FutureProjection::Api { future } => {
                let mut response = ready!(future.as_mut().poll(cx));
                response.extensions_mut().insert(OfAnotherApi);
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
