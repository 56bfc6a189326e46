//! The head of a request that is only looked at: [`Seen`].

use http::{Extensions, HeaderMap, Method, Request, Uri, request::Parts};

/// What a decision looks at. A request that is let through at once need not be taken apart for it: its head
/// has 224 bytes, which would be moved twice.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) extensions: &'a Extensions,
    /// The head itself, for functions of the user; `None` where the request is still whole.
    pub(crate) head: Option<&'a Parts>,
}

impl<'a, B> From<&'a Request<B>> for Seen<'a> {
    #[inline]
    fn from(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
            head: None,
        }
    }
}

impl<'a> From<&'a Parts> for Seen<'a> {
    #[inline]
    fn from(head: &'a Parts) -> Self {
        Self {
            method: &head.method,
            uri: &head.uri,
            headers: &head.headers,
            extensions: &head.extensions,
            head: Some(head),
        }
    }
}
