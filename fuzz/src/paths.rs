//! Paths and patterns. The first line says options (`p`refix, `s`uffix, `i`gnore case), the second is a
//! pattern, the third a listen path, and all behind it a request target.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tollgate_core::{
    Rejection,
    access::{EndpointRules, PathOptions, PathPattern, PathRules, RequestPath},
    session::{AllowedUrl, Endpoint, EndpointMethod, RateLimit},
};

const LOOSE: PathOptions = PathOptions {
    prefix: false,
    suffix: false,
    ignore_case: false,
};

/// Checks a pattern on a path.
pub fn check(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
    let mut lines = input.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (options, pattern, listen, target) = (line(), line(), line(), line());
    let options = PathOptions {
        prefix: options.contains('p'),
        suffix: options.contains('s'),
        ignore_case: options.contains('i'),
    };
    let path = RequestPath::of(target, Some(listen));
    match &path {
        Ok(path) => check_path(target, listen, path),
        Err(error) => assert_eq!(*error, Rejection::PathAmbiguous),
    }
    let usual = RequestPath::of("/api/users/7", Some("/api/")).expect("a usual path");
    let path = path.unwrap_or(usual);
    // Equal patterns in use are shared, so that this one is compiled once for all that follows.
    let _in_use = PathPattern::compile(pattern, options);
    check_pattern(pattern, options, &path);
    check_rules(pattern, options, &path);
    check_own_pattern(&path);
}

/// A path that is accepted can be read in one way.
fn check_path(target: &str, listen: &str, path: &RequestPath<'_>) {
    let full = path.full();
    check_segments(full);
    // A slash that comes out of an escape is told of.
    let end = target.find(['?', '#']).unwrap_or(target.len());
    let written = &target[..end];
    let encoded = written.to_ascii_lowercase().matches("%2f").count();
    assert_eq!(
        full.matches('/').count(),
        written.matches('/').count() + encoded,
        "{target:?}"
    );
    assert_eq!(path.has_encoded_slash(), encoded != 0, "{target:?}");
    assert!(
        !full.contains(|c: char| c.is_ascii_control() || c == '\\'),
        "{full:?}"
    );
    check_behind(listen, full, path.behind_listen_path());
    assert!(!path.is_borrowed() || target.starts_with(full), "{full:?}");

    // What is written of it is read as the same; a second decoding finds nothing new.
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');
    let written = utf8_percent_encode(full, KEPT).to_string();
    let again = RequestPath::of(&written, None).expect("is accepted again");
    assert_eq!(again.full(), full);
    let decoded: Vec<u8> = percent_decode_str(full).collect();
    for special in [b'/', b'\\', b'.'] {
        let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == special).count();
        assert_eq!(count(&decoded), count(full.as_bytes()), "{full:?}");
    }
}

fn check_segments(full: &str) {
    let rest = full.strip_prefix('/').expect("starts with a slash");
    let segments: Vec<&str> = rest.split('/').collect();
    let (last, others) = segments.split_last().expect("splits into something");
    assert!(others.iter().all(|segment| !segment.is_empty()), "{full:?}");
    for segment in others.iter().chain([last]) {
        let name = segment.split(';').next().unwrap_or_default();
        assert!(name != "." && name != "..", "{full:?}");
    }
}

/// The listen path goes on the edge of a segment, or not at all.
fn check_behind(listen: &str, full: &str, behind: &str) {
    assert!(behind.starts_with('/'), "{behind:?}");
    assert!(full.ends_with(behind) || behind == "/", "{full:?}");
    let base = listen.trim_end_matches('/');
    if !base.contains('{') {
        let is_edge = |rest: &&str| rest.is_empty() || rest.starts_with('/');
        let rest = full.strip_prefix(base).filter(is_edge).unwrap_or(full);
        assert_eq!(behind, if rest.is_empty() { "/" } else { rest });
    }
}

/// Whoever compiles a pattern gets the same; anchors only narrow it; it says what the `regex` crate
/// says where both speak one language.
fn check_pattern(text: &str, options: PathOptions, path: &RequestPath<'_>) {
    let Ok(pattern) = PathPattern::compile(text, options) else {
        return;
    };
    let again = PathPattern::compile(text, options).expect("compiles as before");
    assert!(pattern.shares_program_with(&again));
    assert_eq!(pattern.as_str(), text);
    let full = path.full();
    let whole = RequestPath::of(full, None);
    if let Ok(whole) = whole.as_ref().map_err(|_| ()) {
        assert_eq!(
            pattern.matches_request(whole),
            pattern.matches(whole.full())
        );
    }
    if options.ignore_case {
        return;
    }
    let loose = PathPattern::compile(text, LOOSE).expect("compiles without anchors");
    let narrowed = !pattern.matches(full) || loose.matches(full);
    assert!(narrowed, "{text:?} as {options:?} on {full:?}");
    if let Some(words) = in_common_words(text) {
        check_agrees(&loose, &words, full);
        // All anchors go around a pattern that starts with a slash, whatever is in it.
        if text.starts_with('/') {
            let strict = PathPattern::compile(text, PathOptions::strict());
            let strict = strict.expect("compiles with anchors");
            check_agrees(&strict, &format!("^(?:{words})$"), full);
        }
    }
}

fn check_agrees(pattern: &PathPattern, words: &str, path: &str) {
    let regex = regex::bytes::Regex::new(words).expect("compiles as it stands");
    let matches = regex.is_match(path.as_bytes());
    assert_eq!(pattern.matches(path), matches, "{pattern:?} on {path:?}");
}

/// The pattern in the words of the `regex` crate, where nothing but templates is of Tyk alone.
fn in_common_words(text: &str) -> Option<String> {
    let is_common = |text: &str| {
        let is_common = |c: char| c.is_ascii_alphanumeric() || "/_-.^$|()+*?".contains(c);
        text.chars().all(is_common) && !text.contains("/*") && !text.contains("(?")
    };
    let mut words = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, behind) = behind.split_once('}')?;
        if !is_common(before) || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return None;
        }
        words.push_str(before);
        words.push_str("(?:[^/]+)");
        rest = behind;
    }
    words.push_str(rest);
    is_common(rest).then_some(words)
}

/// A list of one rule allows its own methods alone, and what it allows its pattern matches.
fn check_rules(text: &str, options: PathOptions, path: &RequestPath<'_>) {
    let url = AllowedUrl {
        url: text.to_owned(),
        methods: vec!["GET".to_owned(), "PURGE".to_owned()],
        ..AllowedUrl::default()
    };
    let (rules, problems) = PathRules::compile(&[url], options);
    assert!(!rules.allow_all());
    assert_eq!(rules.allows("GET", path), rules.allows("PURGE", path));
    assert!(!rules.allows("get", path) && !rules.allows("POST", path));
    let pattern = PathPattern::compile(text, options);
    assert_eq!(problems.len(), usize::from(pattern.is_err()));
    if rules.allows("GET", path) {
        let pattern = pattern.expect("what does not compile opens nothing");
        let found = pattern.matches(path.full()) || pattern.matches(path.behind_listen_path());
        assert!(found, "{text:?} as {options:?} on {path:?}");
    }
    check_endpoints(text, options, path);
}

/// An endpoint is found by its method in any case, under its own name.
fn check_endpoints(text: &str, options: PathOptions, path: &RequestPath<'_>) {
    let limit = RateLimit {
        rate: 1.0,
        per: 1.0,
        ..RateLimit::default()
    };
    let method = EndpointMethod {
        name: "get".to_owned(),
        limit,
        ..EndpointMethod::default()
    };
    let endpoint = Endpoint {
        path: text.to_owned(),
        methods: vec![method],
        ..Endpoint::default()
    };
    let (rules, _) = EndpointRules::compile(&[endpoint], options);
    let found = rules.find("GET", path);
    assert_eq!(rules.find("get", path), found);
    assert!(rules.find("POST", path).is_none());
    if let Some(found) = found {
        assert_eq!(found.name(), format!("get:{text}"));
    }
}

/// A path quoted as a pattern matches itself alone; with a template for each segment it matches, and
/// no template takes a slash.
fn check_own_pattern(path: &RequestPath<'_>) {
    let full = path.full();
    let quoted = format!(r"^\Q{full}\E$");
    let Ok(pattern) = PathPattern::compile(&quoted, PathOptions::strict()) else {
        let reason =
            PathPattern::compile(&quoted, PathOptions::strict()).map_err(|err| err.to_string());
        assert!(full.len() > 4000, "{reason:?}"); // Too large is the one reason.
        return;
    };
    assert!(pattern.matches(full), "{quoted}");
    for other in [
        format!("{full}x"),
        format!("/x{full}"),
        full[1..].to_owned(),
    ] {
        assert!(!pattern.matches(&other), "{quoted} on {other}");
    }
    let trimmed = full.trim_end_matches('/');
    let depth = trimmed.matches('/').count();
    // Each template compiles into a program of all that UTF-8 can be, which takes its time.
    if 0 < depth && depth <= 3 {
        let template = PathPattern::compile(&"/{part}".repeat(depth), PathOptions::strict());
        let template = template.expect("templates compile");
        assert!(template.matches(trimmed), "{trimmed:?}");
        assert!(!template.matches(&format!("{trimmed}/x")), "{trimmed:?}");
    }
}
