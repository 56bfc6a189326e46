//! Names of headers in the spelling that a definition has, on HTTP/1.1.
//!
//! A header has one name, however it is spelled: what is set replaces what a client sent. Only how the
//! name is written differs, where `ignore_canonical_mime_header_key` asks for it. hyper keeps spellings
//! in an extension that it alone can make, from a head that it reads; so it is given one to read, when
//! the definition is loaded, and what it made of it goes with each message.

use std::{convert::Infallible, sync::OnceLock};

use futures_util::FutureExt;
use http::{Extensions, Request, Response};
use http_body_util::Empty;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

/// How some names are spelled.
#[derive(Clone, Debug, Default)]
pub struct Spelling(Option<Extensions>);

impl Spelling {
    /// These spellings. Names that can not be a header's are left out.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut head = "GET / HTTP/1.1\r\n".to_owned();
        let mut has_names = false;
        for name in names.into_iter().filter(|name| is_name(name)) {
            head.extend([name, ": -\r\n"]);
            has_names = true;
        }
        head.push_str("\r\n");
        Self(has_names.then(|| read(&head)).flatten())
    }

    /// Has a message written so.
    pub fn put_into(&self, extensions: &mut Extensions) {
        if let Some(spelling) = &self.0 {
            extensions.extend(spelling.clone());
        }
    }
}

/// Names that frame the head itself are not read as any others are.
fn is_name(name: &str) -> bool {
    const FRAMES: [&str; 3] = ["content-length", "transfer-encoding", "upgrade"];
    let is_token = http::HeaderName::try_from(name).is_ok();
    is_token
        && !FRAMES
            .iter()
            .any(|frames| name.eq_ignore_ascii_case(frames))
}

/// What hyper keeps of a head. All of it is there, so that nothing is waited for.
fn read(head: &str) -> Option<Extensions> {
    let kept = OnceLock::new();
    let keep = service_fn(|request: Request<_>| {
        let _ = kept.set(request.extensions().clone());
        async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
    });
    let io = TokioIo::new(tokio::io::join(head.as_bytes(), tokio::io::sink()));
    let serving = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(10_000)
        .serve_connection(io, keep)
        .now_or_never();
    drop(serving);
    kept.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_keeps_the_spelling_that_it_reads() {
        let kept = |names: &[&str]| {
            let mut extensions = Extensions::new();
            Spelling::of(names.iter().copied()).put_into(&mut extensions);
            extensions.len()
        };
        assert_eq!(kept(&["x-rAw", "X-Canon"]), 1);
        assert_eq!(kept(&["x-rAw", "not a name", "Content-Length"]), 1);
        assert_eq!(kept(&["not a name"]), 0);
        assert_eq!(kept(&[]), 0);
    }
}
