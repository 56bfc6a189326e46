//! Which path rights look at.

use http::Uri;
use tollgate_core::{Rejection, access::RequestPath};

use crate::seen::Seen;

/// The path of a request as its client wrote it, made canonical.
///
/// An axum `Router` that is nested in another sees its own part of the path; rights look at the whole,
/// and at the part as the path behind the listen path.
#[inline]
pub(crate) fn request_path<'a>(
    seen: impl Into<Seen<'a>>,
    listen_path: Option<&str>,
) -> Result<RequestPath<'a>, Rejection> {
    let seen = seen.into();
    let original = original(seen);
    let whole = original.path();
    if listen_path.is_some() || std::ptr::eq(original, seen.uri) {
        return RequestPath::of(whole, listen_path);
    }
    let own = seen.uri.path();
    if whole.len() == own.len() {
        return RequestPath::of(whole, None); // Not nested.
    }
    let nested_below = whole.strip_suffix(own);
    RequestPath::of(whole, nested_below.filter(|prefix| !prefix.is_empty()))
}

/// What [`request_path`] goes by, where that is one path as it was sent. With the same one, and the same listen
/// path, it says the same.
#[inline]
pub(crate) fn only_path(seen: Seen<'_>, has_listen_path: bool) -> Option<&str> {
    let original = original(seen);
    let whole = original.path();
    let is_only =
        has_listen_path || std::ptr::eq(original, seen.uri) || whole.len() == seen.uri.path().len();
    is_only.then_some(whole)
}

#[cfg(feature = "axum")]
#[inline]
fn original(seen: Seen<'_>) -> &Uri {
    use axum::extract::OriginalUri;
    if seen.extensions.is_empty() {
        return seen.uri;
    }
    seen.extensions
        .get::<OriginalUri>()
        .map_or(seen.uri, |OriginalUri(uri)| uri)
}

#[cfg(not(feature = "axum"))]
#[inline]
fn original(seen: Seen<'_>) -> &Uri {
    seen.uri
}
