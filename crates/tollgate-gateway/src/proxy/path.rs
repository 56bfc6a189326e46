//! Which path goes to the upstream: the one that was checked.
//!
//! It is spelled as Tyk, that is Go, spells it. In a path without escapes, what is neither a letter, a
//! digit nor one of `-._~$&+,/:;=@` becomes an escape. A path with escapes keeps the client's spelling,
//! in which `!'()*[]` may stand too. A path that can be read in two ways is refused, whether or not rights
//! looked at it.

use std::{borrow::Cow, fmt::Write as _};

use tollgate_core::{Rejection, access::RequestPath};

/// Which spelling of a path is sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PathSpelling {
    /// Go's.
    #[default]
    Go,
    /// The client's, as far as a path may be spelled so (`skip_target_path_escaping`).
    Kept,
}

/// Who wrote a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PathAuthor {
    /// The client: rights have looked at it.
    Client,
    /// A rewrite.
    Rewrite,
}

/// The path behind the listen path, in the spelling that is sent; empty where nothing is left.
pub(super) fn outbound<'a>(
    raw: &'a str,
    listen_path: Option<&str>,
    spelling: PathSpelling,
    author: PathAuthor,
) -> Result<Cow<'a, str>, Rejection> {
    let path = match author {
        PathAuthor::Client => RequestPath::of(raw, listen_path)?,
        PathAuthor::Rewrite => RequestPath::of_rewritten(raw, listen_path)?,
    };
    let rest = path.spelled_behind_listen_path()?;
    if path.is_usual() {
        return Ok(Cow::Borrowed(rest));
    }
    let keeps = spelling == PathSpelling::Kept || raw.contains('%');
    Ok(escaped(rest, if keeps { stays_kept } else { stays }))
}

/// The path, with escapes for what does not stay.
fn escaped(path: &str, stays: fn(u8) -> bool) -> Cow<'_, str> {
    if path.bytes().all(stays) {
        return Cow::Borrowed(path);
    }
    let mut text = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        if stays(byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}"); // A String takes everything.
        }
    }
    Cow::Owned(text)
}

/// What Go writes as it is where it spells a path itself.
fn stays(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~$&+,/:;=@".contains(&byte)
}

/// What Go lets stand in a spelling that it keeps; `%` begins an escape, as was checked.
fn stays_kept(byte: u8) -> bool {
    stays(byte) || b"%!'()*[]".contains(&byte)
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
        let path = outbound(raw, listen_path, PathSpelling::Go, PathAuthor::Client);
        assert_eq!(path.as_deref(), Ok(sent), "{raw}");
    }

    #[test]
    fn a_plain_path_goes_on_as_it_is() {
        for raw in ["/", "/a/b", "/a/b/", "/a;x=1", "/a.b/c~$&+,=:@-_"] {
            check(raw, None, raw);
            let sent = outbound(raw, None, PathSpelling::Go, PathAuthor::Client);
            assert!(matches!(sent, Ok(Cow::Borrowed(_))), "{raw}");
        }
    }

    #[test]
    fn a_path_without_escapes_is_spelled_as_go_does() {
        check("/a!'()*[]", None, "/a%21%27%28%29%2A%5B%5D");
        check("/{a}|\"<>^`", None, "/%7Ba%7D%7C%22%3C%3E%5E%60");
        check("/é", None, "/%C3%A9");
    }

    #[test]
    fn a_path_with_escapes_keeps_its_spelling() {
        for raw in [
            "/%61dmin",
            "/%7Ex%2Dy",
            "/a%20b",
            "/caf%c3%a9",
            "/a%3Bb;c",
            "/a%3Fb",
            "/%2573x",
            "/%FF",
            "/a%2Fb",
            "/%20!'()*[]",
        ] {
            check(raw, None, raw);
        }
        check("/%20{é}", None, "/%20%7B%C3%A9%7D");
        let kept = outbound("/a!(b)", None, PathSpelling::Kept, PathAuthor::Client);
        assert_eq!(kept.as_deref(), Ok("/a!(b)"));
    }

    #[test]
    fn the_listen_path_is_cut_on_the_edge_of_a_segment() {
        check("/app/x", Some("/app/"), "/x");
        check("/app", Some("/app/"), "");
        check("/apple/x", Some("/app"), "/apple/x");
        check("/%61pp/x%20y/", Some("/app/"), "/x%20y/");
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
            "/a/..%2fx",
            "/a%2Fb",
            "/b/a%5Cb",
            "/%252f",
            "/%c0%af",
            "/%00",
            "/%u002f",
            "*",
            "/..;/x",
        ] {
            assert!(
                outbound(raw, Some("/a/"), PathSpelling::Go, PathAuthor::Client).is_err(),
                "{raw}"
            );
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
