//! Paths without empty segments, `.` and `..`.

use http::Uri;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::usual::is_usual;

/// What is written as an escape in a path.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// A decoded path without empty segments, `.` and `..`. It begins with a slash, and ends with one where
/// it did.
///
/// ```
/// use tollgate_core::access::clean_path;
///
/// assert_eq!(clean_path("/a//b/../c/"), "/a/c/");
/// assert_eq!(clean_path("../x"), "/x");
/// ```
pub fn clean_path(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if path.ends_with('/') && clean.len() > 1 {
        clean.push('/');
    }
    clean
}

/// Where a request is sent whose path is not clean, also in escapes: the path that it leads to, with its
/// query. `None` for a clean path, and for one that no redirection makes plain.
///
/// ```
/// use tollgate_core::access::clean_target;
///
/// let target = "/a/%2e%2e//b?c=1".parse()?;
/// assert_eq!(clean_target(&target).as_deref(), Some("/b?c=1"));
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
pub fn clean_target(target: &Uri) -> Option<String> {
    let path = target.path();
    if is_usual(path.as_bytes()) || is_plainly_clean(path.as_bytes()) {
        return None;
    }
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    if decoded.contains('\\') || decoded.chars().any(char::is_control) {
        return None;
    }
    let clean = clean_path(&decoded);
    if clean == decoded {
        return None;
    }
    let mut location = utf8_percent_encode(&clean, ESCAPED).to_string();
    if let Some(query) = target.query() {
        location.push('?');
        location.push_str(query);
    }
    Some(location)
}

/// Whether there is nothing to clean, at one look.
fn is_plainly_clean(path: &[u8]) -> bool {
    let mut before = 0;
    for byte in path {
        if *byte == b'%' || (before == b'/' && matches!(byte, b'/' | b'.')) {
            return false;
        }
        before = *byte;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_dots_leads_elsewhere() {
        for (target, expected) in [
            ("/a/b", None),
            ("/a/%20b", None),
            ("/a//%20b", Some("/a/%20b")),
            ("/a/.b", None),
            ("/a//b?x=1", Some("/a/b?x=1")),
            ("/a/./b/../c/", Some("/a/c/")),
            ("/a/%2e%2e/secret", Some("/secret")),
            ("/a/..%2fsecret", Some("/secret")),
            ("/a%2F%2fb", Some("/a/b")),
            ("/../x", Some("/x")),
            ("/a//%0Ab", None),
            ("/a//%5Cb", None),
            ("//", Some("/")),
        ] {
            let target_uri: Uri = target.parse().expect("a target");
            assert_eq!(clean_target(&target_uri).as_deref(), expected, "{target}");
        }
    }
}
