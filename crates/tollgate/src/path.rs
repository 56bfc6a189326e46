//! Which path rights look at.

use http::{Uri, request::Parts};
use tollgate_core::{Rejection, access::RequestPath};

/// The path of a request as its client wrote it, made canonical.
///
/// An axum `Router` that is nested in another sees its own part of the path; rights look at the whole,
/// and at the part as the path behind the listen path.
pub(crate) fn request_path<'a>(
    head: &'a Parts,
    listen_path: Option<&str>,
) -> Result<RequestPath<'a>, Rejection> {
    let whole = original(head).path();
    let here = head.uri.path();
    let nested_below = whole.strip_suffix(here).filter(|prefix| !prefix.is_empty());
    RequestPath::of(whole, listen_path.or(nested_below))
}

#[cfg(feature = "axum")]
fn original(head: &Parts) -> &Uri {
    use axum::extract::OriginalUri;
    head.extensions
        .get::<OriginalUri>()
        .map_or(&head.uri, |OriginalUri(uri)| uri)
}

#[cfg(not(feature = "axum"))]
fn original(head: &Parts) -> &Uri {
    &head.uri
}
