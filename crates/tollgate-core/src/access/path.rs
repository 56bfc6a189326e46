//! The path of a request, read once and in one way.

use std::borrow::Cow;

use super::usual::is_usual;
use crate::rejection::Rejection;

/// The path of a request as rules see it: decoded, without query, with the listen path apart.
///
/// A path that others could read in another way than we do is refused, so what is checked is what
/// is served. Bytes that are no UTF-8 count as one character each, U+FFFD.
///
/// Servers disagree about an encoded slash (`%2F`): for some it is part of a segment, for others it parts
/// two. Here it parts two, and [`has_encoded_slash`](Self::has_encoded_slash) tells of it: rules that
/// decide who may pass refuse such a path.
///
/// ```
/// use tollgate_core::access::RequestPath;
///
/// let path = RequestPath::of("/app/caf%C3%A9?page=2", Some("/app/"))?;
/// assert_eq!(path.full(), "/app/café");
/// assert_eq!(path.behind_listen_path(), "/café");
/// assert!(RequestPath::of("/app/%2e%2e/admin", Some("/app/")).is_err());
/// # Ok::<(), tollgate_core::Rejection>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestPath<'a> {
    raw: &'a str,
    text: Cow<'a, str>,
    listen: usize, // Invariant: a character boundary in `text`, before a slash or at the end.
    usual: bool,
}

impl<'a> RequestPath<'a> {
    /// Reads the path of a request target; borrows it where nothing has to be decoded.
    ///
    /// `listen_path` is what the API is served below; `{name}` in it stands for one segment. It is
    /// taken off where the path lies below it, on the edge of a segment.
    ///
    /// # Errors
    ///
    /// [`Rejection::PathAmbiguous`] where the path does not start with `/`, or holds an empty segment
    /// before its end, a `.` or `..` segment, a backslash, a control character, a broken escape, a
    /// dot, slash, backslash or per cent sign that is encoded twice, or an overlong UTF-8 form.
    #[inline]
    pub fn of(target: &'a str, listen_path: Option<&str>) -> Result<Self, Rejection> {
        Self::read(target, listen_path, Strictness::AsClient)
    }

    /// The same of a path that a rewrite made, which nobody's rights were looked up by. Segments may be
    /// empty, where a value had nothing to put there; an encoded slash parts none, as it is one of a value.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of), but for what this allows.
    pub fn of_rewritten(target: &'a str, listen_path: Option<&str>) -> Result<Self, Rejection> {
        Self::read(target, listen_path, Strictness::Rewritten)
    }

    #[inline]
    fn read(
        target: &'a str,
        listen_path: Option<&str>,
        strictness: Strictness,
    ) -> Result<Self, Rejection> {
        let usual = is_usual(target.as_bytes());
        let (raw, text) = if usual {
            (target, Cow::Borrowed(target))
        } else {
            unusual(target, strictness).ok_or(Rejection::PathAmbiguous)?
        };
        let listen = listen_path.and_then(|listen_path| below(&text, listen_path));
        Ok(Self {
            raw,
            listen: listen.unwrap_or(0),
            text,
            usual,
        })
    }

    /// The whole path, decoded.
    #[inline]
    pub fn full(&self) -> &str {
        &self.text
    }

    /// The path behind the listen path, with its leading slash.
    pub fn behind_listen_path(&self) -> &str {
        match &self.text[self.listen..] {
            "" => "/",
            path => path,
        }
    }

    /// The path behind the listen path in the spelling of the request, with its leading slash; empty
    /// where the listen path has taken everything.
    ///
    /// # Errors
    ///
    /// [`Rejection::PathAmbiguous`] where the listen path ends at an encoded slash.
    pub fn spelled_behind_listen_path(&self) -> Result<&'a str, Rejection> {
        if self.listen == 0 {
            return Ok(self.raw);
        }
        if self.is_borrowed() {
            return Ok(&self.raw[self.listen..]);
        }
        if self.listen == self.text.len() {
            return Ok("");
        }
        // Both spellings have as many slashes, encoded ones counted.
        let behind = &self.text[self.listen..];
        let slashes = behind.bytes().filter(|byte| *byte == b'/').count();
        let is_slash = |at: &usize| is_slash(&self.raw.as_bytes()[*at..]);
        let start = (0..self.raw.len())
            .rev()
            .filter(is_slash)
            .nth(slashes - 1)
            .filter(|start| self.raw[*start..].starts_with('/'));
        start
            .map(|start| &self.raw[start..])
            .ok_or(Rejection::PathAmbiguous)
    }

    /// Whether a slash of the path was written as an escape.
    #[inline]
    pub fn has_encoded_slash(&self) -> bool {
        !self.is_borrowed() && self.raw.as_bytes().windows(3).any(is_encoded_slash)
    }

    /// Whether the path is the request's own text, so that nothing was allocated.
    #[inline]
    pub fn is_borrowed(&self) -> bool {
        matches!(self.text, Cow::Borrowed(_))
    }

    /// Whether it is made of letters, digits, `-`, `_`, `~` and slashes alone, with nothing behind it: everybody
    /// spells such a path in one way.
    #[inline]
    pub fn is_usual(&self) -> bool {
        self.usual
    }

    pub(super) fn listen(&self) -> usize {
        self.listen
    }
}

/// Who wrote a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Strictness {
    AsClient,
    Rewritten,
}

fn is_slash(text: &[u8]) -> bool {
    text.first() == Some(&b'/') || text.get(..3).is_some_and(is_encoded_slash)
}

fn is_encoded_slash(escape: &[u8]) -> bool {
    matches!(escape, [b'%', b'2', b'F' | b'f'])
}

/// A target that needs a closer look: its path as it was sent, and as it is read. `None` where it can be
/// read in two ways.
#[cold]
fn unusual(target: &str, strictness: Strictness) -> Option<(&str, Cow<'_, str>)> {
    let raw = &target[..target.find(['?', '#']).unwrap_or(target.len())];
    let text = decoded(raw)?;
    let is_plain = match strictness {
        Strictness::AsClient => is_plain(text.as_bytes()),
        Strictness::Rewritten => is_plain_rewritten(raw, &text),
    };
    is_plain.then_some((raw, text))
}

/// The path with its escapes decoded once; `None` where an escape is broken or hides something.
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return None;
        };
        bytes.push(hex(*high)? << 4 | hex(*low)?);
        rest = tail;
    }
    if hides_escapes(&bytes) || is_overlong(&bytes) {
        return None;
    }
    Some(Cow::Owned(one_character_each(bytes)))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|n| u8::try_from(n).ok())
}

/// Whether a second decoding would find a dot, a slash, a backslash or one more escape.
fn hides_escapes(path: &[u8]) -> bool {
    path.windows(3).any(|escape| {
        let digits = [
            escape[1].to_ascii_lowercase(),
            escape[2].to_ascii_lowercase(),
        ];
        escape[0] == b'%' && matches!(&digits, b"2e" | b"2f" | b"5c" | b"25")
    })
}

/// Whether a character is written in more bytes than it needs, which careless decoders accept.
fn is_overlong(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, 0xC0 | 0xC1))
        || path
            .windows(2)
            .any(|pair| matches!(pair, [0xE0, 0x80..=0x9F] | [0xF0, 0x80..=0x8F]))
}

/// As Go reads text: every byte that is no part of a character is a character, U+FFFD.
fn one_character_each(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|err| {
        let mut text = String::new();
        for chunk in err.as_bytes().utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
        }
        text
    })
}

fn is_plain(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else {
        return false;
    };
    if has_odd_bytes(rest) {
        return false;
    }
    let mut segments = rest.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if is_dots(segment) || (segment.is_empty() && !is_last) {
            return false;
        }
    }
    true
}

fn is_plain_rewritten(path: &str, text: &str) -> bool {
    let is_dots = |segment| decoded(segment).is_none_or(|text| is_dots(text.as_bytes()));
    path.starts_with('/') && !has_odd_bytes(text.as_bytes()) && !path.split('/').any(is_dots)
}

/// Control characters and backslashes.
fn has_odd_bytes(path: &[u8]) -> bool {
    let is_odd = |byte: &u8| byte.is_ascii_control() || *byte == b'\\';
    path.iter().any(is_odd)
}

/// `.` and `..`, also with path parameters behind them, which some servers drop first.
fn is_dots(segment: &[u8]) -> bool {
    let name = segment
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    matches!(name, b"." | b"..")
}

/// How much of `path` the listen path takes, if the path lies below it.
fn below(path: &str, listen_path: &str) -> Option<usize> {
    let listen_path = listen_path.trim_end_matches('/');
    let length = if listen_path.contains('{') {
        below_template(path, listen_path)?
    } else {
        path.starts_with(listen_path).then_some(listen_path.len())?
    };
    let rest = &path[length..];
    (rest.is_empty() || rest.starts_with('/')).then_some(length)
}

fn below_template(path: &str, listen_path: &str) -> Option<usize> {
    let mut length = 0;
    for wanted in listen_path.split('/').skip(1) {
        let rest = path[length..].strip_prefix('/')?;
        let segment = rest.split('/').next().unwrap_or_default();
        let is_template = wanted.starts_with('{') && wanted.ends_with('}') && !segment.is_empty();
        if !is_template && wanted != segment {
            return None;
        }
        length += 1 + segment.len();
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(target: &str, listen_path: &str, full: &str, behind: &str) {
        let path = RequestPath::of(target, Some(listen_path)).expect("is plain");
        assert_eq!(
            (path.full(), path.behind_listen_path()),
            (full, behind),
            "{target}"
        );
    }

    #[test]
    fn the_listen_path_goes_on_the_edge_of_a_segment() {
        check("/app/x", "/app/", "/app/x", "/x");
        check("/app/x", "/app", "/app/x", "/x");
        check("/app", "/app/", "/app", "/");
        check("/app/", "/app", "/app/", "/");
        check("/apple/x", "/app", "/apple/x", "/apple/x");
        check("/app/app/x", "/app/", "/app/app/x", "/app/x");
        check("/x", "/", "/x", "/x");
        check("/org/7/x", "/org/{id}/", "/org/7/x", "/x");
        check("/org/7", "/org/{id}/", "/org/7", "/");
        check("/org", "/org/{id}/", "/org", "/org");
    }

    #[test]
    fn a_path_is_decoded_once_and_ends_before_the_query() {
        check("/a%20b?c=1", "/", "/a b", "/a b");
        check("/a%3Fb%23c#d", "/", "/a?b#c", "/a?b#c");
        check("/%61dmin/", "/", "/admin/", "/admin/");
        check("/%2573ecret", "/", "/%73ecret", "/%73ecret");
        check("/100%25", "/", "/100%", "/100%");
        check("/a;x=1", "/", "/a;x=1", "/a;x=1");
        check("/...", "/", "/...", "/...");
        check(
            "/%FF%FE%C3%B6",
            "/",
            "/\u{fffd}\u{fffd}ö",
            "/\u{fffd}\u{fffd}ö",
        );
    }

    #[track_caller]
    fn check_spelling(target: &str, listen_path: &str, behind: Option<&str>) {
        let path = RequestPath::of(target, Some(listen_path)).expect("is plain");
        assert_eq!(path.spelled_behind_listen_path().ok(), behind, "{target}");
    }

    #[test]
    fn the_spelling_is_kept_behind_the_listen_path() {
        check_spelling("/app/x", "/app/", Some("/x"));
        check_spelling("/app", "/app/", Some(""));
        check_spelling("/app/", "/app/", Some("/"));
        check_spelling("/apple/x", "/app", Some("/apple/x"));
        check_spelling("/%61pp/x%20y/?a=/b", "/app/", Some("/x%20y/"));
        check_spelling("/caf%C3%A9/%FFx", "/café/", Some("/%FFx"));
        check_spelling("/caf%C3%A9", "/café/", Some(""));
        check_spelling("/t/7/x/y", "/t/{id}/", Some("/x/y"));
        check_spelling("/app/a%2Fb/c", "/app/", Some("/a%2Fb/c"));
        check_spelling("/app%2fa/b", "/app/", None);
        check_spelling("/x", "/", Some("/x"));
    }

    #[test]
    fn an_encoded_slash_is_told_of() {
        for (target, encoded) in [("/a%2fb", true), ("/a%2Fb", true), ("/a%20b/2F", false)] {
            let path = RequestPath::of(target, None).expect("is plain");
            assert_eq!(path.has_encoded_slash(), encoded, "{target}");
        }
        let path = RequestPath::of("/a%2Fb", None).expect("is plain");
        assert_eq!(path.full(), "/a/b");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for target in [
            "",
            "*",
            "host:80",
            "http://host/x",
            "//x",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/%2e",
            "/a/%2E%2e/b",
            "/.%2e/b",
            "/a/..%2fb",
            "/%2Fa",
            "/a%5cb",
            "/a\\b",
            "/a%00b",
            "/a%0Ab",
            "/a\u{7f}",
            "/a%7f",
            "/%",
            "/%2",
            "/%zz",
            "/%u002f",
            "/%252e",
            "/%252F",
            "/%255c",
            "/%2525",
            "/%c0%af",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/..;/x",
            "/a/.;x=1",
        ] {
            let refused = RequestPath::of(target, None);
            assert_eq!(refused, Err(Rejection::PathAmbiguous), "{target}");
        }
    }

    #[test]
    fn a_rewritten_path_may_have_empty_segments_and_encoded_slashes() {
        let path = RequestPath::of_rewritten("/app//x%20", Some("/app/")).expect("is plain");
        assert_eq!(path.spelled_behind_listen_path().ok(), Some("//x%20"));
        assert!(RequestPath::of_rewritten("/a%2F..%2Fb", None).is_ok());
        for target in [
            "x",
            "/a/../b",
            "/a/%2e%2e",
            "/a%5cb",
            "/%252e",
            "/%zz",
            "/a%0Ab",
        ] {
            assert!(RequestPath::of_rewritten(target, None).is_err(), "{target}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(target in ".{0,40}", listen_path in ".{0,10}") {
            let _ = RequestPath::of(&target, Some(&listen_path));
        }

        #[test]
        fn escapes_never_panic(target in "/[a%02EeFf./;é-]{0,30}", listen_path in "/[a{}/é]{0,6}") {
            if let Ok(path) = RequestPath::of(&target, Some(&listen_path)) {
                prop_assert!(path.behind_listen_path().starts_with('/'));
                let _ = path.spelled_behind_listen_path();
                prop_assert!(path.full().split('/').all(|segment| segment != ".."));
            }
        }

        #[test]
        fn a_clean_path_is_borrowed(target in "(/[a-z0-9_~=-]{1,8}){1,5}/?") {
            let path = RequestPath::of(&target, Some("/a")).expect("is plain");
            prop_assert!(path.is_borrowed());
            prop_assert_eq!(path.full(), &target);
        }
    }
}
