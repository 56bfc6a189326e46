//! What is decided about a request before its session is looked for, and what is done to its headers.
//!
//! Each file holds one matter, compiled from a definition when that is loaded: [`versions`] chooses the
//! version, [`lists`] says which paths are open, closed, or answered here, [`addresses`] who may call,
//! [`sizes`] how large a body may be, [`cors`] which pages of other sites may read the answer; [`rates`] which
//! rate of the API counts, [`tracking`] how a request is told of, [`usage`] where a key's limits stand; [`headers`] with
//! their [`spelling`], [`limit_headers`],
//! [`version_headers`], [`public_urls`] and [`upstream`] are gates of the stack; `content_type` tells what an answer is; behind it, [`exchange`] asks
//! [`schema`], [`rewrites`] and [`breaker`].

pub mod addresses;
pub mod breaker;
pub(crate) mod content_type;
pub mod cors;
pub mod exchange;
pub mod forms;
pub mod headers;
pub mod kept_session;
pub mod limit_headers;
pub mod lists;
pub mod public_urls;
pub(crate) mod query;
pub mod rates;
pub mod rewrites;
pub mod schema;
pub mod sizes;
pub mod spelling;
pub mod token;
pub mod tracking;
pub mod transforms;
mod unique;
pub mod upstream;
pub mod usage;
pub mod version_headers;
pub mod versions;

use http::{Extensions, StatusCode};
use regex::Regex;
use tollgate::{
    Rejection,
    access::{PathOptions, PathPattern, PatternError, RequestPath},
};

use crate::{proxy::ProxyError, serve::RequestBodyError};

/// Which requests an entry of `extended_paths` is for.
#[derive(Clone, Debug)]
pub struct Where {
    pattern: PathPattern,
    method: String,
    skips: Option<SkippedVersion>,
}

/// With `strip_path`, patterns are also tried on the path behind its first segment, which may be a version.
#[derive(Clone, Debug, Default)]
pub struct SkippedVersion {
    /// What that segment matches; none is any.
    pub pattern: Option<Regex>,
}

impl SkippedVersion {
    /// The path behind its first segment.
    fn behind<'a>(&self, path: &'a str) -> Option<&'a str> {
        let (segment, _) = path.strip_prefix('/')?.split_once('/')?;
        let rest = &path[1 + segment.len()..];
        let is_version = |pattern: &Regex| pattern.is_match(segment);
        self.pattern.as_ref().is_none_or(is_version).then_some(rest)
    }
}

impl Where {
    /// An entry for this path and method; no method is any where the entry's list says so.
    ///
    /// # Errors
    ///
    /// Fails where the pattern can not be compiled.
    pub fn new(path: &str, method: &str, options: PathOptions) -> Result<Self, PatternError> {
        Ok(Self {
            pattern: PathPattern::compile(path, options)?,
            method: method.into(),
            skips: None,
        })
    }

    /// Tries the path behind a version, too.
    #[must_use]
    pub fn skipping(self, skips: Option<SkippedVersion>) -> Self {
        Self { skips, ..self }
    }

    /// Whether the path is the entry's, or the whole of it, listen path included.
    fn is_whole_path(&self, path: &RequestPath<'_>) -> bool {
        self.pattern.matches_request(path)
    }

    /// Whether path and method are the entry's. An entry without a method is for none.
    pub fn is_of(&self, method: &str, path: &RequestPath<'_>) -> bool {
        if self.method != method {
            return false;
        }
        let path = path.behind_listen_path();
        let skipped = || self.skips.as_ref().and_then(|skips| skips.behind(path));
        self.pattern.matches(path) || skipped().is_some_and(|path| self.pattern.matches(path))
    }
}

/// The first entry that is for this request.
pub fn first_of<'a, T>(
    entries: &'a [(Where, T)],
    method: &str,
    path: &RequestPath<'_>,
) -> Option<&'a T> {
    place_of(entries, method, path).map(|at| &entries[at].1)
}

/// Where the first entry is that is for this request.
pub fn place_of<T>(entries: &[(Where, T)], method: &str, path: &RequestPath<'_>) -> Option<usize> {
    entries
        .iter()
        .position(|(place, _)| place.is_of(method, path))
}

/// Why a body could not be read, as the proxy says it.
fn unread(error: &RequestBodyError) -> Rejection {
    let (code, status, message) = match error {
        RequestBodyError::TooLarge(_) => return sizes::too_large(),
        RequestBodyError::TimedOut(_) => (
            "request_body_timed_out",
            StatusCode::REQUEST_TIMEOUT,
            "Request Timeout",
        ),
        RequestBodyError::Client(_) => (
            "request_body",
            StatusCode::BAD_REQUEST,
            "There was a problem with reading Body of the Request.",
        ),
    };
    Rejection::custom(code, status, message)
}

/// Why the body of an upstream's answer could not be read.
pub(crate) fn broken_answer() -> Rejection {
    Rejection::custom(
        "upstream_body",
        StatusCode::INTERNAL_SERVER_ERROR,
        "There was a problem proxying the request",
    )
}

/// Whether an answer is the gateway's own, and not an upstream's.
pub(crate) fn is_own_answer(extensions: &Extensions) -> bool {
    extensions.get::<Rejection>().is_some() || extensions.get::<ProxyError>().is_some()
}
