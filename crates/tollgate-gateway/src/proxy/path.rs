//! Which path goes to the upstream: the one that was checked.
//!
//! A plain path goes on byte for byte. Where a path holds escapes, those of letters, digits, `-`, `.`,
//! `_` and `~` are undone, as they were when rights were checked; all others stay as they are. A path
//! that can be read in two ways is refused, whether or not rights looked at it.

use std::{borrow::Cow, fmt::Write as _};

use tollgate_core::{Rejection, access::RequestPath};

/// The path behind the listen path, in the spelling that is sent; empty where nothing is left.
pub(crate) fn outbound<'a>(
    raw: &'a str,
    listen_path: Option<&str>,
) -> Result<Cow<'a, str>, Rejection> {
    let path = RequestPath::of(raw, listen_path)?;
    let text = normalised(raw);
    let (full, behind) = (path.full(), path.behind_listen_path());
    if full.len() == behind.len() {
        return Ok(text);
    }
    if !full.ends_with(behind) {
        return Ok(Cow::Borrowed("")); // The listen path alone, without a slash behind it.
    }
    // No slash comes out of an escape, so both spellings have as many.
    let slashes = behind.bytes().filter(|byte| *byte == b'/').count();
    let start = text.rmatch_indices('/').nth(slashes.saturating_sub(1));
    let start = start.map_or(0, |(start, _)| start);
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[start..]),
        Cow::Owned(text) => Cow::Owned(text[start..].to_owned()),
    })
}

fn normalised(raw: &str) -> Cow<'_, str> {
    if !raw.bytes().any(|byte| byte == b'%' || !byte.is_ascii()) {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let escape = tail.first_chunk::<2>().copied().and_then(unescaped);
            match escape {
                Some(plain) if is_unreserved(plain) => {
                    text.push(char::from(plain));
                    rest = &tail[2..];
                }
                _ => text.push('%'),
            }
        } else if byte.is_ascii() {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}"); // A String takes everything.
        }
    }
    Cow::Owned(text)
}

fn unescaped(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? << 4 | low?).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a target's own final slash is sent where nothing is left behind the listen path.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FinalSlash {
    /// It is cut.
    #[default]
    Cut,
    /// It stays (`disable_strip_slash`).
    Kept,
}

/// Joins the path of a target and the rest of the request's path.
pub(super) fn join(base: &str, rest: &str, slash: FinalSlash, out: &mut String) {
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    if rest.is_empty() {
        out.push_str(match slash {
            FinalSlash::Cut => base.strip_suffix('/').unwrap_or(base),
            FinalSlash::Kept => base,
        });
    } else {
        out.push_str(base.strip_suffix('/').unwrap_or(base));
        out.push('/');
        out.push_str(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, listen_path: Option<&str>, sent: &str) {
        assert_eq!(outbound(raw, listen_path).as_deref(), Ok(sent), "{raw}");
    }

    #[test]
    fn a_plain_path_goes_on_as_it_is() {
        for raw in ["/", "/a/b", "/a/b/", "/a;x=1", "/a.b/c!$&'()*+,=:@"] {
            check(raw, None, raw);
            assert!(matches!(outbound(raw, None), Ok(Cow::Borrowed(_))), "{raw}");
        }
    }

    #[test]
    fn escapes_are_undone_once_and_only_where_they_say_nothing() {
        check("/%61dmin", None, "/admin");
        check("/%7Ex%2Dy", None, "/~x-y");
        check("/a%20b", None, "/a%20b");
        check("/caf%c3%a9", None, "/caf%c3%a9");
        check("/a%3Bb;c", None, "/a%3Bb;c");
        check("/a%3Fb", None, "/a%3Fb");
        check("/%2573x", None, "/%2573x");
        check("/%FF", None, "/%FF");
        check("/é", None, "/%C3%A9");
    }

    #[test]
    fn the_listen_path_is_cut_on_the_edge_of_a_segment() {
        check("/app/x", Some("/app/"), "/x");
        check("/app", Some("/app/"), "");
        check("/app/", Some("/app/"), "/");
        check("/apple/x", Some("/app"), "/apple/x");
        check("/app/app/x", Some("/app/"), "/app/x");
        check("/%61pp/x%20y/", Some("/app/"), "/x%20y/");
        check("/caf%C3%A9/x", Some("/café/"), "/x");
        check("/caf%C3%A9", Some("/café/"), "");
        check("/t/7/x/y", Some("/t/{id}/"), "/x/y");
        check("/x", Some("/"), "/x");
    }

    #[test]
    fn attack_22_23_25_what_can_be_read_in_two_ways_is_not_sent() {
        for raw in [
            "//admin",
            "/./admin",
            "/a/../admin",
            "/%2e%2e/x",
            "/a%2Fb",
            "/a%5Cb",
            "/%252f",
            "/%c0%af",
            "/%00",
            "/%u002f",
            "*",
            "/..;/x",
        ] {
            assert!(outbound(raw, Some("/a/")).is_err(), "{raw}");
        }
    }

    #[track_caller]
    fn check_join(base: &str, rest: &str, cut: &str, kept: &str) {
        for (slash, expected) in [(FinalSlash::Cut, cut), (FinalSlash::Kept, kept)] {
            let mut out = String::new();
            join(base, rest, slash, &mut out);
            assert_eq!(out, expected, "{base:?} and {rest:?}, {slash:?}");
        }
    }

    #[test]
    fn paths_are_joined_by_one_slash() {
        check_join("", "", "", "");
        check_join("/", "", "", "/");
        check_join("/foo", "/bar", "/foo/bar", "/foo/bar");
        check_join("/foo/", "/bar", "/foo/bar", "/foo/bar");
        check_join("/foo", "", "/foo", "/foo");
        check_join("/foo/", "/", "/foo", "/foo/");
        check_join("/foo", "bar/", "/foo/bar/", "/foo/bar/");
    }
}
