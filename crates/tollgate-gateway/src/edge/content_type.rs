//! What an answer is that does not say so: as Tyk's server, by its first bytes.
//!
//! The algorithm is that of <https://mimesniff.spec.whatwg.org>, with the types that Go knows. An answer that forbids
//! such guesses with `X-Content-Type-Options: nosniff` stays as it is, as does one with a `Content-Encoding`.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body::{Body, Frame, SizeHint};

use crate::answer::{AnswerBody, AnswerError};

/// How many bytes are looked at.
const MOST: usize = 512;

/// Whether an answer has a body and does not say what it is.
#[inline]
pub(crate) fn is_missing(response: &Response<AnswerBody>) -> bool {
    !response.headers().contains_key(CONTENT_TYPE) && may_be_guessed(response)
}

#[cold]
fn may_be_guessed(response: &Response<AnswerBody>) -> bool {
    let status = response.status();
    let is_without_body = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let has = |headers: &HeaderMap, name| headers.get(name).is_some_and(|value| !value.is_empty());
    !is_without_body
        && !response.body().is_end_stream()
        && !has(response.headers(), CONTENT_ENCODING)
        && !has(response.headers(), X_CONTENT_TYPE_OPTIONS)
}

/// The answer with a type, once the first piece of its body is there.
pub(crate) async fn guessed(response: Response<AnswerBody>) -> Response<AnswerBody> {
    let (mut head, mut body) = response.into_parts();
    let first = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    let data = match &first {
        Some(Ok(frame)) => frame.data_ref().filter(|data| !data.is_empty()),
        _ => None,
    };
    if let Some(data) = data {
        let kind = HeaderValue::from_static(of(data));
        head.headers.insert(CONTENT_TYPE, kind);
    }
    Response::from_parts(head, AnswerBody::other(Begun { first, rest: body }))
}

/// A body of which the first piece was taken.
struct Begun {
    first: Option<Result<Frame<Bytes>, AnswerError>>,
    rest: AnswerBody,
}

impl Body for Begun {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok());
        let first = first.and_then(Frame::data_ref).map_or(0, Bytes::len);
        let first = u64::try_from(first).unwrap_or(u64::MAX);
        let mut hint = self.rest.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint.set_lower(hint.lower().saturating_add(first));
        hint
    }
}

/// What begins so.
pub(crate) fn of(data: &[u8]) -> &'static str {
    let data = &data[..data.len().min(MOST)];
    let space = |byte: &&u8| matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' ');
    let text = &data[data.iter().take_while(space).count()..];
    if TAGS.iter().any(|tag| is_tag(text, tag)) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    let known = SIGNATURES.iter().find(|signature| signature.fits(data));
    if let Some(known) = known {
        return known.kind;
    }
    if is_mp4(data) {
        return "video/mp4";
    }
    let is_binary = |byte: &u8| matches!(byte, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if text.iter().any(is_binary) {
        "application/octet-stream"
    } else {
        "text/plain; charset=utf-8"
    }
}

/// What pages of HTML begin with.
const TAGS: [&[u8]; 17] = [
    b"<!DOCTYPE HTML",
    b"<HTML",
    b"<HEAD",
    b"<SCRIPT",
    b"<IFRAME",
    b"<H1",
    b"<DIV",
    b"<FONT",
    b"<TABLE",
    b"<A",
    b"<STYLE",
    b"<TITLE",
    b"<B",
    b"<BODY",
    b"<BR",
    b"<P",
    b"<!--",
];

fn is_tag(text: &[u8], tag: &[u8]) -> bool {
    let (Some(begin), Some(end)) = (text.get(..tag.len()), text.get(tag.len())) else {
        return false;
    };
    begin.eq_ignore_ascii_case(tag) && matches!(end, b' ' | b'>')
}

/// What something begins with, and what stands behind a few bytes that may be any.
struct Signature {
    begin: &'static [u8],
    behind: Option<(usize, &'static [u8])>,
    kind: &'static str,
}

impl Signature {
    const fn of(begin: &'static [u8], kind: &'static str) -> Self {
        let behind = None;
        Self {
            begin,
            behind,
            kind,
        }
    }

    const fn with(self, at: usize, text: &'static [u8]) -> Self {
        Self {
            behind: Some((at, text)),
            ..self
        }
    }

    fn fits(&self, data: &[u8]) -> bool {
        let fits =
            |(at, text): (usize, &[u8])| data.get(at..).is_some_and(|rest| rest.starts_with(text));
        data.starts_with(self.begin) && self.behind.is_none_or(fits)
    }
}

const SIGNATURES: [Signature; 31] = [
    Signature::of(b"%PDF-", "application/pdf"),
    Signature::of(b"%!PS-Adobe-", "application/postscript"),
    Signature::of(b"\xfe\xff", "text/plain; charset=utf-16be"),
    Signature::of(b"\xff\xfe", "text/plain; charset=utf-16le"),
    Signature::of(b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
    Signature::of(b"\0\0\x01\0", "image/x-icon"),
    Signature::of(b"\0\0\x02\0", "image/x-icon"),
    Signature::of(b"BM", "image/bmp"),
    Signature::of(b"GIF87a", "image/gif"),
    Signature::of(b"GIF89a", "image/gif"),
    Signature::of(b"RIFF", "image/webp").with(8, b"WEBPVP"),
    Signature::of(b"\x89PNG\r\n\x1a\n", "image/png"),
    Signature::of(b"\xff\xd8\xff", "image/jpeg"),
    Signature::of(b"FORM", "audio/aiff").with(8, b"AIFF"),
    Signature::of(b"ID3", "audio/mpeg"),
    Signature::of(b"OggS\0", "application/ogg"),
    Signature::of(b"MThd\0\0\0\x06", "audio/midi"),
    Signature::of(b"RIFF", "video/avi").with(8, b"AVI "),
    Signature::of(b"RIFF", "audio/wave").with(8, b"WAVE"),
    Signature::of(b"\x1a\x45\xdf\xa3", "video/webm"),
    Signature::of(b"", "application/vnd.ms-fontobject").with(34, b"LP"),
    Signature::of(b"\0\x01\0\0", "font/ttf"),
    Signature::of(b"OTTO", "font/otf"),
    Signature::of(b"ttcf", "font/collection"),
    Signature::of(b"wOFF", "font/woff"),
    Signature::of(b"wOF2", "font/woff2"),
    Signature::of(b"\x1f\x8b\x08", "application/x-gzip"),
    Signature::of(b"PK\x03\x04", "application/zip"),
    Signature::of(b"Rar!\x1a\x07\0", "application/x-rar-compressed"),
    Signature::of(b"Rar!\x1a\x07\x01\0", "application/x-rar-compressed"),
    Signature::of(b"\0asm", "application/wasm"),
];

/// Whether it is a box of MP4 in which one of the brands says so.
fn is_mp4(data: &[u8]) -> bool {
    let Some((size, rest)) = data.split_first_chunk() else {
        return false;
    };
    let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
    if data.len() < 12 || data.len() < size || size % 4 != 0 || !rest.starts_with(b"ftyp") {
        return false;
    }
    // Behind the major brand is its version.
    let brands = (8..size).step_by(4).filter(|at| *at != 12);
    brands.into_iter().any(|at| data[at..].starts_with(b"mp4"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_that_go_finds() {
        for (data, kind) in [
            (&b"{\"a\":1}"[..], "text/plain; charset=utf-8"),
            (b" \n<html>", "text/html; charset=utf-8"),
            (b"<!doctype html>", "text/html; charset=utf-8"),
            (b"<html", "text/plain; charset=utf-8"),
            (b"<abc>", "text/plain; charset=utf-8"),
            (b"  <?xml version=\"1.0\"?><a/>", "text/xml; charset=utf-8"),
            (b"a\0b", "application/octet-stream"),
            (b"\x89PNG\r\n\x1a\n....", "image/png"),
            (b"RIFF....WEBPVP8", "image/webp"),
            (b"RIFF....WAVE", "audio/wave"),
            (b"\0\0\0\x14ftypisom\0\0\0\0mp42", "video/mp4"),
            (b"\0\0\0\x10ftypisom\0\0\0\0", "application/octet-stream"),
            (b"\x1f\x8b\x08\0", "application/x-gzip"),
            (b"\xff\xfea\0", "text/plain; charset=utf-16le"),
        ] {
            assert_eq!(of(data), kind, "{}", String::from_utf8_lossy(data));
        }
    }
}
