//! Requests that go to another URL: `url_rewrites` of a version, behind the gates.
//!
//! Lists, rights and limits have looked at the path that the client called; nothing of that is asked
//! again where a request leaves for an upstream. Where it goes on to an API of this gateway, that API asks
//! everything anew; see `onward.rs`.

use std::sync::Arc;

use http::{Request, Uri, request::Parts, uri::PathAndQuery};
use tollgate::{
    ApiId, Rejection,
    access::RequestPath,
    context::RequestContext,
    rewrite::{
        Destination, Facts, Internal, Rewrite, RewriteFailed, Rewritten, TargetKind, TriggerValues,
    },
    variables::{Context, NoContext},
    visit::Visit,
};

use super::{query::set_path_and_query, versions::Chosen};
use crate::{
    onward::Hop,
    proxy::{ProxyHints, Target, TargetError},
};

/// A rewrite, and where its targets lead.
#[derive(Debug)]
pub struct RewriteRule {
    rewrite: Rewrite,
    ways: Box<[Way]>, // By the number of the target.
    /// Whether `$tyk_context.` has values.
    has_context: bool,
    /// What the API is served below.
    listen: Arc<str>,
    /// How much of a body a trigger looks at, in bytes; one that is larger is refused.
    pub most: usize,
}

/// Where a target leads.
#[derive(Debug)]
enum Way {
    /// To the upstream.
    Path,
    /// To this one.
    Host(Arc<Target>),
    /// To one that metadata tells.
    HostByMeta,
    /// To an API of this gateway.
    Api(Whither),
}

/// An API of this gateway, as another one names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whither {
    /// The same.
    Own,
    /// Another; none where it is not loaded.
    Other(Option<ApiId>),
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Onto<B> {
    /// It goes to an upstream.
    Upstream(Request<B>),
    /// It goes to an API.
    Api(Hop, Request<B>),
}

impl<B> Onto<B> {
    pub(crate) fn into_head(self) -> Parts {
        let (Self::Upstream(request) | Self::Api(_, request)) = self;
        request.into_parts().0
    }
}

/// A request that can not be rewritten, and its head.
pub(crate) type Unwritten = Box<(Rejection, Parts)>;

/// What an API says, as far as its rewrites need to know.
#[derive(Debug)]
pub struct Place {
    /// Whether `$tyk_context.` has values.
    pub has_context: bool,
    /// What it is served below.
    pub listen: Arc<str>,
    /// How much of a body is read, in bytes.
    pub most: usize,
}

impl RewriteRule {
    /// A rewrite whose `tyk://` targets are found by `find`.
    ///
    /// # Errors
    ///
    /// Fails where a target can not be used.
    pub fn new(
        rewrite: Rewrite,
        place: Place,
        find: impl Fn(&str) -> Result<Whither, String>,
    ) -> Result<Self, String> {
        let wrong = |err: TargetError| err.to_string();
        let way = |kind: TargetKind<'_>| {
            Ok(match kind {
                TargetKind::Host(scheme, host) => {
                    let target = Target::parse(&format!("{scheme}://{host}"));
                    Way::Host(Arc::new(target.map_err(wrong)?))
                }
                TargetKind::HostByMeta => Way::HostByMeta,
                TargetKind::Internal(name) => Way::Api(find(name)?),
                _ => Way::Path,
            })
        };
        let ways: Result<_, String> = rewrite.target_kinds().map(way).collect();
        Ok(Self {
            ways: ways?,
            rewrite,
            has_context: place.has_context,
            listen: place.listen,
            most: place.most,
        })
    }

    /// Whether requests may go on to APIs of this gateway.
    pub fn leads_to_apis(&self) -> bool {
        self.ways.iter().any(|way| matches!(way, Way::Api(_)))
    }

    /// Whether requests may come back to the same API.
    pub fn leads_back(&self) -> bool {
        let is_own = |way: &Way| matches!(way, Way::Api(Whither::Own));
        self.ways.iter().any(is_own)
    }

    /// Whether a trigger looks at the body.
    pub fn reads_payload(&self) -> bool {
        self.rewrite.reads_payload()
    }

    /// Whether headers of the answer name variables of its triggers.
    pub fn tells(&self) -> bool {
        self.rewrite.tells()
    }

    /// The context variables that it names.
    pub fn context_names(&self) -> impl Iterator<Item = &str> {
        self.rewrite.context_names()
    }

    /// Gives a request its new URL.
    pub(crate) fn apply<B>(
        &self,
        request: Request<B>,
        payload: &[u8],
    ) -> Result<(Onto<B>, TriggerValues), Unwritten> {
        let (mut head, body) = request.into_parts();
        let rewritten = match self.rewritten(&head, payload) {
            Ok(Some(rewritten)) => rewritten,
            Ok(None) => {
                let request = Request::from_parts(head, body);
                return Ok((Onto::Upstream(request), TriggerValues::default()));
            }
            Err(rejection) => return Err(Box::new((rejection, head))),
        };
        let hop = match self.turn(&mut head, &rewritten) {
            Ok(hop) => hop,
            Err(rejection) => return Err(Box::new((rejection, head))),
        };
        let request = Request::from_parts(head, body);
        let onto = match hop {
            Some(hop) => Onto::Api(hop, request),
            None => Onto::Upstream(request),
        };
        Ok((onto, rewritten.variables))
    }

    fn rewritten(&self, head: &Parts, payload: &[u8]) -> Result<Option<Rewritten>, Rejection> {
        let none = Visit::default();
        let visit = head.extensions.get::<Arc<Visit>>();
        let visit = visit.map_or(&none, |visit| visit);
        let of_request = RequestContext { head, visit };
        let context: &dyn Context = if self.has_context {
            &of_request
        } else {
            &NoContext
        };
        let url = head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let facts = Facts {
            url,
            headers: &head.headers,
            meta: visit.session().map(|session| &session.meta_data),
            context,
            payload,
        };
        self.rewrite.apply(&facts).map_err(RewriteFailed::rejection)
    }

    /// Turns the head to its new URL, or tells to which API it goes.
    fn turn(&self, head: &mut Parts, rewritten: &Rewritten) -> Result<Option<Hop>, Rejection> {
        let broken = || RewriteFailed::ByTarget.rejection();
        let path = match (&rewritten.destination, &self.ways[rewritten.target]) {
            (Destination::Internal(internal), Way::Api(whither)) => {
                return Ok(Some(hop(internal, whither.clone())));
            }
            (Destination::Url(url), way) => {
                let target = match way {
                    Way::Host(target) => target.clone(),
                    _ => Arc::new(target_of(url).ok_or_else(broken)?),
                };
                let hints: &mut ProxyHints = head.extensions.get_or_insert_default();
                hints.target = Some(target);
                url.path_and_query().ok_or_else(broken)?
            }
            (Destination::Path(path), _) => path,
            _ => return Err(broken()),
        };
        set_path_and_query(head, path.clone());
        let leaves = self.leaves_forwarded_for(head);
        let hints: &mut ProxyHints = head.extensions.get_or_insert_default();
        hints.rewritten = true;
        hints.leave_forwarded_for = leaves;
        Ok(None)
    }

    /// Whether `X-Forwarded-For` is not added to. What entries of single paths say of that is asked of
    /// the path that is sent, as in Tyk.
    fn leaves_forwarded_for(&self, head: &Parts) -> bool {
        let Some(chosen) = head.extensions.get::<Chosen>() else {
            return false;
        };
        let path = RequestPath::of_rewritten(head.uri.path(), Some(&self.listen));
        let rules = &chosen.rules.headers;
        path.is_ok_and(|path| rules.leave_forwarded_for(head.method.as_str(), &path))
    }
}

fn hop(internal: &Internal, whither: Whither) -> Hop {
    Hop {
        whither,
        path: internal.path.clone(),
        settings: internal.settings.clone(),
    }
}

/// The upstream of a URL that metadata made.
fn target_of(url: &Uri) -> Option<Target> {
    let (scheme, host) = (url.scheme_str()?, url.authority()?);
    Target::parse(&format!("{scheme}://{host}")).ok()
}
