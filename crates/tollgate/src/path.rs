//! Which path rights look at.

use http::{Uri, request::Parts};
use tollgate_core::{Rejection, access::RequestPath};

/// The path of a request as its client wrote it, made canonical.
///
/// An axum `Router` that is nested in another sees its own part of the path; rights look at the whole,
/// and at the part as the path behind the listen path.
#[inline]
pub(crate) fn request_path<'a>(
    head: &'a Parts,
    listen_path: Option<&str>,
) -> Result<RequestPath<'a>, Rejection> {
    let original = original(head);
    let whole = original.path();
    if listen_path.is_some() || std::ptr::eq(original, &head.uri) {
        return RequestPath::of(whole, listen_path);
    }
    let nested_below = whole.strip_suffix(head.uri.path());
    RequestPath::of(whole, nested_below.filter(|prefix| !prefix.is_empty()))
}

#[cfg(feature = "axum")]
#[inline]
fn original(head: &Parts) -> &Uri {
    use axum::extract::OriginalUri;
    head.extensions
        .get::<OriginalUri>()
        .map_or(&head.uri, |OriginalUri(uri)| uri)
}

#[cfg(not(feature = "axum"))]
#[inline]
fn original(head: &Parts) -> &Uri {
    &head.uri
}
