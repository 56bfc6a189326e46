//! The client's URL, and what a pattern's groups match in it.

use percent_encoding::percent_decode_str;
use regex::bytes::{CaptureLocations, Regex};

/// What groups matched, in the client's spelling.
pub(super) enum Groups<'a> {
    /// Nobody asks for them.
    Unread,
    /// In the URL as it was written.
    Written { url: &'a str, at: CaptureLocations },
    /// In the decoded URL; `spelled` tells for each of its bytes where its spelling begins.
    Decoded {
        url: &'a str,
        at: CaptureLocations,
        spelled: Vec<usize>,
    },
}

impl Groups<'_> {
    /// What a group matched; empty where there is no such group.
    pub(super) fn get(&self, group: usize) -> &str {
        let (url, at, spelled) = match self {
            Self::Unread => return "",
            Self::Written { url, at } => (url, at, None),
            Self::Decoded { url, at, spelled } => (url, at, Some(spelled)),
        };
        let Some((mut start, mut end)) = at.get(group) else {
            return "";
        };
        if let Some(spelled) = spelled {
            (start, end) = (spelled[start], spelled[end]);
        }
        url.get(start..end).unwrap_or_default() // An expression may match half a character.
    }
}

/// Looks for a pattern in a URL as it was written, or else as it is decoded.
pub(super) fn find<'a>(pattern: &Regex, url: &'a str, wants_groups: bool) -> Option<Groups<'a>> {
    let located = |text: &[u8]| {
        let mut at = pattern.capture_locations();
        pattern.captures_read(&mut at, text).map(|_| at)
    };
    if !wants_groups {
        let is_match = pattern.is_match(url.as_bytes()) || {
            let decoded = || decoded(url).map(|(text, _)| text);
            url.contains('%') && decoded().is_some_and(|text| pattern.is_match(text.as_bytes()))
        };
        return is_match.then_some(Groups::Unread);
    }
    if let Some(at) = located(url.as_bytes()) {
        return Some(Groups::Written { url, at });
    }
    let (text, spelled) = url.contains('%').then(|| decoded(url))??;
    let at = located(text.as_bytes())?;
    Some(Groups::Decoded { url, at, spelled })
}

/// The URL with its escapes decoded, and for each byte, and the end, where its spelling begins; `None`
/// where an escape is broken. A byte that is no part of a character is one character, as in Go.
fn decoded(url: &str) -> Option<(String, Vec<usize>)> {
    let mut bytes = Vec::with_capacity(url.len());
    let mut starts = Vec::with_capacity(url.len() + 1);
    let mut at = 0;
    while let Some(&byte) = url.as_bytes().get(at) {
        starts.push(at);
        if byte != b'%' {
            bytes.push(byte);
            at += 1;
            continue;
        }
        let escape = url.get(at..at + 3)?;
        if !escape.as_bytes()[1..].iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        bytes.extend(percent_decode_str(escape));
        at += 3;
    }
    let mut text = String::with_capacity(bytes.len());
    let mut spelled = Vec::with_capacity(bytes.len() + 1);
    let mut read = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        spelled.extend_from_slice(&starts[read..read + chunk.valid().len()]);
        read += chunk.valid().len();
        for _ in chunk.invalid() {
            text.push(char::REPLACEMENT_CHARACTER);
            spelled.extend([starts[read]; char::REPLACEMENT_CHARACTER.len_utf8()]);
            read += 1;
        }
    }
    spelled.push(url.len());
    Some((text, spelled))
}
