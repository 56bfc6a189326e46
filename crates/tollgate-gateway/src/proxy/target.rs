//! Where requests go: one upstream, or a list of them in turn.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::time::Instant;

use super::{
    client::Protocol,
    path::{FinalSlash, join},
};

/// An upstream: scheme, host, and what goes before each request's path and query.
#[derive(Clone, Debug)]
pub struct Target {
    scheme: Scheme,
    authority: Authority,
    host: HeaderValue,
    base: Box<str>, // Invariant: empty, or starts with a slash and is more than one.
    query: Option<Box<str>>,
    protocol: Protocol,
    health: Arc<Health>,
}

/// Why a text is no target.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It is no absolute URL.
    #[error("{0:?} is no absolute URL")]
    NotAUrl(String),
    /// Its scheme is not `http`, `https`, `h2c`, `ws` or `wss`.
    #[error("the scheme {0:?} is not served: expected http, https, h2c, ws or wss")]
    Scheme(String),
    /// It holds a name and password, which would not be sent.
    #[error("a target holds no credentials")]
    Credentials,
    /// There is none at all.
    #[error("the list of targets is empty")]
    Empty,
}

impl Target {
    /// Reads a URL. `ws` and `wss` mean `http` and `https`; `h2c` is HTTP/2 without TLS.
    ///
    /// # Errors
    ///
    /// Where the text is no absolute URL, has another scheme, or holds credentials.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let not_a_url = || TargetError::NotAUrl(url.to_owned());
        let uri: Uri = url.trim().parse().map_err(|_| not_a_url())?;
        let parts = uri.into_parts();
        let authority = parts.authority.ok_or_else(not_a_url)?;
        let scheme = parts.scheme.ok_or_else(not_a_url)?;
        let (scheme, protocol) = match scheme.as_str() {
            "http" | "ws" => (Scheme::HTTP, Protocol::Automatic),
            "https" | "wss" => (Scheme::HTTPS, Protocol::Automatic),
            "h2c" => (Scheme::HTTP, Protocol::Http2),
            other => return Err(TargetError::Scheme(other.to_owned())),
        };
        if authority.as_str().contains('@') {
            return Err(TargetError::Credentials);
        }
        let rest = parts.path_and_query;
        let path = rest.as_ref().map_or("", PathAndQuery::path);
        let query = rest.as_ref().and_then(PathAndQuery::query);
        Ok(Self {
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| not_a_url())?,
            base: if path == "/" { "" } else { path }.into(),
            query: query.filter(|query| !query.is_empty()).map(Into::into),
            scheme,
            authority,
            protocol,
            health: Arc::default(),
        })
    }

    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The query that goes before each request's.
    pub(super) fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Path and query of a request: `rest` is its path behind the listen path, in the spelling to be sent,
    /// and `before` the query that goes before its own.
    pub(super) fn path_and_query(
        &self,
        request: &Uri,
        rest: &str,
        slash: FinalSlash,
        before: Option<&str>,
    ) -> Result<PathAndQuery, http::Error> {
        let is_whole = rest.len() == request.path().len();
        let unchanged = self.base.is_empty() && before.is_none() && is_whole;
        match request.path_and_query() {
            // The usual gateway without prefixes: nothing is copied. A path that was
            // normalised has become shorter, or has no byte that could be.
            Some(same) if unchanged && rest == request.path() => Ok(same.clone()),
            _ => self.joined((before, request.query()), rest, slash),
        }
    }

    /// The whole URI of a request.
    pub(super) fn uri(&self, path_and_query: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts).unwrap_or_default() // All three are there.
    }

    fn joined(
        &self,
        (before, query): (Option<&str>, Option<&str>),
        rest: &str,
        slash: FinalSlash,
    ) -> Result<PathAndQuery, http::Error> {
        let own = before.unwrap_or_default();
        let query = query.unwrap_or_default();
        let length = self.base.len() + rest.len() + own.len() + query.len() + 3;
        let mut text = String::with_capacity(length);
        join(&self.base, rest, slash, &mut text);
        if text.is_empty() {
            text.push('/');
        }
        for (part, before) in [(own, '?'), (query, if own.is_empty() { '?' } else { '&' })] {
            if !part.is_empty() {
                text.push(before);
                text.push_str(part);
            }
        }
        Ok(PathAndQuery::from_maybe_shared(Bytes::from(text))?)
    }
}

/// How long a target that refuses connections is left alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HealthOptions {
    /// After the first refusal. Each further one doubles it.
    pub first_pause: Duration,
    /// At most.
    pub longest_pause: Duration,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Default)]
struct Health {
    down_until_millis: AtomicU64, // Since the list was made; zero while the target is up.
    failures: AtomicU32,
}

/// Upstreams that share the load in turn; one that stands twice in the list gets twice as much.
///
/// A target that refuses connections is skipped for a while. If all of them do, they are tried anyway.
pub struct Targets {
    list: Box<[Target]>, // Invariant: not empty; equal targets share their health.
    next: AtomicUsize,
    distinct: usize,
    since: Instant,
    health: HealthOptions,
}

impl Targets {
    /// One upstream.
    pub fn one(target: Target) -> Self {
        Self::from_list(vec![target])
    }

    /// Upstreams in turn.
    ///
    /// # Errors
    ///
    /// [`TargetError::Empty`] where there is none.
    pub fn round_robin(targets: Vec<Target>) -> Result<Self, TargetError> {
        if targets.is_empty() {
            return Err(TargetError::Empty);
        }
        Ok(Self::from_list(targets))
    }

    /// How long a target that refuses connections is left alone.
    pub fn with_health(mut self, health: HealthOptions) -> Self {
        self.health = health;
        self
    }

    fn from_list(mut list: Vec<Target>) -> Self {
        let mut distinct = 0;
        for index in 0..list.len() {
            let twin = list[..index].iter().find(|before| {
                before.authority == list[index].authority && before.scheme == list[index].scheme
            });
            match twin.map(|twin| twin.health.clone()) {
                Some(health) => list[index].health = health,
                None => distinct += 1,
            }
        }
        Self {
            list: list.into_boxed_slice(),
            next: AtomicUsize::new(0),
            distinct,
            since: Instant::now(),
            health: HealthOptions::default(),
        }
    }

    /// How many different upstreams there are.
    pub(super) fn distinct(&self) -> usize {
        self.distinct
    }

    pub(super) fn get(&self, index: usize) -> &Target {
        &self.list[index]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Target> {
        self.list.iter()
    }

    /// Whose turn it is.
    pub(super) fn pick(&self) -> usize {
        if self.list.len() == 1 {
            return 0;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.list.len();
        self.from(turn)
            .find(|index| self.is_up(*index))
            .unwrap_or(turn)
    }

    /// Another one than those that were tried, if there is one; rather one that is up.
    pub(super) fn pick_other(&self, tried: &[usize]) -> Option<usize> {
        let turn = tried.last().map_or(0, |last| last + 1);
        let is_new = |index: &usize| {
            let health = &self.list[*index].health;
            !tried
                .iter()
                .any(|tried| Arc::ptr_eq(&self.list[*tried].health, health))
        };
        let others = || self.from(turn).filter(is_new);
        others()
            .find(|index| self.is_up(*index))
            .or_else(|| others().next())
    }

    /// All of them, beginning with one.
    fn from(&self, start: usize) -> impl Iterator<Item = usize> {
        let length = self.list.len();
        (0..length).map(move |step| (start + step) % length)
    }

    fn is_up(&self, index: usize) -> bool {
        let until = self.list[index]
            .health
            .down_until_millis
            .load(Ordering::Relaxed);
        until == 0 || until <= self.now_millis()
    }

    fn now_millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A target was reached.
    pub(super) fn succeeded(&self, index: usize) {
        let health = &self.list[index].health;
        if health.failures.load(Ordering::Relaxed) != 0 {
            health.failures.store(0, Ordering::Relaxed);
            health.down_until_millis.store(0, Ordering::Relaxed);
        }
    }

    /// A target could not be reached: it is left alone, longer each time.
    pub(super) fn failed(&self, index: usize) {
        let health = &self.list[index].health;
        let before = health.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let pause = self.health.first_pause.saturating_mul(1 << before);
        let pause = pause.min(self.health.longest_pause).as_millis();
        let until = self.now_millis() + u64::try_from(pause).unwrap_or(u64::MAX / 2);
        health
            .down_until_millis
            .store(until.max(1), Ordering::Relaxed);
    }
}

impl fmt::Debug for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authorities = self.list.iter().map(|target| target.authority.as_str());
        f.debug_list().entries(authorities).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(urls: &[&str]) -> Targets {
        let list = urls.iter().map(|url| Target::parse(url).unwrap()).collect();
        Targets::round_robin(list).unwrap()
    }

    fn turns(targets: &Targets, count: usize) -> Vec<usize> {
        (0..count).map(|_| targets.pick()).collect()
    }

    #[track_caller]
    fn check(target: &str, request: &str, rest: &str, sent: &str) {
        let target = Target::parse(target).unwrap();
        let request: Uri = request.parse().unwrap();
        let path_and_query = target.path_and_query(&request, rest, FinalSlash::Cut, target.query());
        let uri = target.uri(path_and_query.unwrap());
        assert_eq!(uri.to_string(), sent);
    }

    #[test]
    fn path_and_query_of_target_and_request_are_joined() {
        check("http://u", "/x?a=1", "/x", "http://u/x?a=1");
        check("http://u/", "/app/x?a=1", "/x", "http://u/x?a=1");
        check("http://u/v2/", "/app/x", "/x", "http://u/v2/x");
        check(
            "http://u/v2?k=1",
            "/app/x?a=1",
            "/x",
            "http://u/v2/x?k=1&a=1",
        );
        check("http://u/v2?k=1", "/app", "", "http://u/v2?k=1");
        check("ws://u:81", "/app", "", "http://u:81/");
        check("wss://u", "/%61", "/a", "https://u/a");
        check("h2c://u", "/", "/", "http://u/");
    }

    #[test]
    fn what_is_no_target_is_refused_by_name() {
        let kind = |url| Target::parse(url).map(|_| ()).unwrap_err();
        assert_eq!(kind("/x"), TargetError::NotAUrl("/x".into()));
        assert_eq!(kind("tcp://u"), TargetError::Scheme("tcp".into()));
        assert_eq!(kind("http://a:b@u/"), TargetError::Credentials);
        assert!(Targets::round_robin(Vec::new()).is_err());
    }

    #[tokio::test]
    async fn each_has_its_turn_and_repetition_is_weight() {
        let targets = targets(&["http://a", "http://b", "http://a"]);
        assert_eq!(turns(&targets, 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(targets.distinct(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_refuses_is_left_alone_longer_each_time() {
        let targets = targets(&["http://a", "http://b"]);
        targets.failed(0);
        assert_eq!(turns(&targets, 3), [1, 1, 1]);
        tokio::time::advance(Duration::from_millis(1000)).await;
        assert!(targets.is_up(0));
        targets.failed(0);
        tokio::time::advance(Duration::from_millis(1999)).await;
        assert!(!targets.is_up(0));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(targets.is_up(0));
        targets.succeeded(0);
        targets.failed(0);
        tokio::time::advance(Duration::from_millis(1000)).await;
        assert!(targets.is_up(0));
    }

    #[tokio::test(start_paused = true)]
    async fn if_all_are_down_they_are_tried_anyway() {
        let targets = targets(&["http://a", "http://b"]);
        targets.failed(0);
        targets.failed(1);
        assert_eq!(turns(&targets, 4), [0, 1, 0, 1]);
        assert_eq!(targets.pick_other(&[0]), Some(1));
        assert_eq!(targets.pick_other(&[0, 1]), None);
    }
}
