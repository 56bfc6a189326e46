//! Path patterns, compiled once and shared.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Weak},
};

use memchr::memmem;
use parking_lot::Mutex;
use regex::bytes::{Regex, RegexBuilder};

use super::{
    RequestPath,
    translate::{translate, translate_expression},
};

const LONGEST_PATTERN: usize = 16 * 1024; // Bytes of text.
const LARGEST_PROGRAM: usize = 1 << 20; // Bytes compiled.
const LARGEST_CACHE: usize = 1 << 16; // Bytes that matching may use beside it, on each thread.
const DEEPEST_NESTING: u32 = 100;
const MOST_SHARED: usize = 4096; // Patterns; more are compiled but not shared.

/// How path patterns are read: Tyk's `http_server_options`, all off where nothing is said.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct PathOptions {
    /// A pattern that starts with `/` matches from the start of the path.
    pub prefix: bool,
    /// A pattern matches up to the end of the path.
    pub suffix: bool,
    /// Letters match in either case.
    pub ignore_case: bool,
}

impl PathOptions {
    /// Patterns match the whole path.
    pub fn strict() -> Self {
        Self {
            prefix: true,
            suffix: true,
            ignore_case: false,
        }
    }
}

/// A path pattern could not be compiled.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("pattern {pattern:?}: {reason}")]
pub struct PatternError {
    pattern: String,
    reason: String,
}

impl PatternError {
    fn new(pattern: &str, reason: impl Into<String>) -> Self {
        const SHOWN: usize = 200;
        let mut shown: String = pattern.chars().take(SHOWN).collect();
        if shown.len() < pattern.len() {
            shown.push('…');
        }
        Self {
            pattern: shown,
            reason: reason.into(),
        }
    }

    /// The pattern, cut short where it is very long.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Why it can not be used.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// A path pattern: a text to be found in a path, or a regular expression with templates.
///
/// Equal patterns that are in use at the same time share one program, whoever compiled them, so
/// many sessions with the same rules hold them once. Up to 4096 patterns are shared.
///
/// ```
/// use tollgate_core::access::{PathOptions, PathPattern};
///
/// let pattern = PathPattern::compile("/users/{id}", PathOptions::strict())?;
/// assert!(pattern.matches("/users/7"));
/// assert!(!pattern.matches("/users/7/posts"));
/// # Ok::<(), tollgate_core::access::PatternError>(())
/// ```
#[derive(Clone)]
pub struct PathPattern(Arc<Compiled>);

/// A text to be found in a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Literal<'a> {
    pub(super) text: &'a [u8],
    pub(super) from_start: bool,
    pub(super) to_end: bool,
}

struct Compiled {
    text: Box<str>,
    program: Program,
}

enum Program {
    Never,
    Always,
    Equal(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<memmem::Finder<'static>>),
    /// A text with anything behind it. Where the text is tells most often what the search would.
    Begun(Box<memmem::Finder<'static>>, Regex),
    Search(Regex),
}

type Shared = HashMap<(PathOptions, Box<str>), Weak<Compiled>>;
static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

impl PathPattern {
    /// Compiles a pattern, or takes the program of an equal one that is in use.
    ///
    /// # Errors
    ///
    /// Fails where the text is no regular expression, or too large: 16 KiB of text, 1 MiB compiled.
    pub fn compile(text: &str, options: PathOptions) -> Result<Self, PatternError> {
        if text.len() > LONGEST_PATTERN {
            return Err(PatternError::new(text, "longer than 16 KiB"));
        }
        let key = (options, Box::from(text));
        if let Some(compiled) = SHARED.lock().get(&key).and_then(Weak::upgrade) {
            return Ok(Self(compiled));
        }
        let program = Program::of(text, options)?;
        let compiled = Arc::new(Compiled {
            text: text.into(),
            program,
        });
        Ok(Self(share(key, compiled)))
    }

    /// What matches the path that is spelled like this text, and no other.
    pub(super) fn as_spelled(text: &str) -> Self {
        let core = text
            .strip_prefix('^')
            .and_then(|core| core.strip_suffix('$'));
        Self(Arc::new(Compiled {
            text: text.into(),
            program: Program::Equal(core.unwrap_or(text).into()),
        }))
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether the pattern matches this path.
    pub fn matches(&self, path: &str) -> bool {
        let bytes = path.as_bytes();
        match &self.0.program {
            Program::Never => false,
            Program::Always => true,
            Program::Equal(text) => path == &**text,
            Program::Prefix(text) => path.starts_with(&**text),
            Program::Suffix(text) => path.ends_with(&**text),
            Program::Contains(finder) | Program::Begun(finder, _) => finder.find(bytes).is_some(),
            Program::Search(regex) => regex.is_match(bytes),
        }
    }

    /// Whether the pattern matches the path of a request, behind its listen path or as a whole. On
    /// the whole path a match inside the listen path does not count.
    pub fn matches_request(&self, path: &RequestPath<'_>) -> bool {
        self.matches(path.behind_listen_path()) || self.matches_behind(path.full(), path.listen())
    }

    /// Whether the pattern matches the path, and not merely some text inside its first `listen`
    /// bytes, the listen path: such a match would open the whole API.
    pub(super) fn matches_behind(&self, path: &str, listen: usize) -> bool {
        if listen == 0 {
            return self.matches(path);
        }
        let bytes = path.as_bytes();
        match &self.0.program {
            Program::Prefix(text) => {
                path.starts_with(&**text) && reaches_behind(0, text.len(), listen)
            }
            Program::Suffix(text) => {
                path.ends_with(&**text)
                    && reaches_behind(path.len() - text.len(), path.len(), listen)
            }
            Program::Contains(finder) => contains_behind(finder, bytes, listen),
            Program::Begun(finder, regex) => {
                finder.find(&bytes[listen..]).is_some() || search_behind(regex, bytes, listen)
            }
            Program::Search(regex) => {
                regex.is_match_at(bytes, listen) || search_behind(regex, bytes, listen)
            }
            Program::Never | Program::Always | Program::Equal(_) => self.matches(path),
        }
    }

    /// The text that the pattern looks for, where it is one; of one that matches everything or nothing
    /// there is none.
    pub(super) fn literal(&self) -> Option<Literal<'_>> {
        let (text, from_start, to_end) = match &self.0.program {
            Program::Equal(text) => (text.as_bytes(), true, true),
            Program::Prefix(text) => (text.as_bytes(), true, false),
            Program::Suffix(text) => (text.as_bytes(), false, true),
            Program::Contains(finder) => (finder.needle(), false, false),
            Program::Never | Program::Always | Program::Begun(..) | Program::Search(_) => {
                return None;
            }
        };
        Some(Literal {
            text,
            from_start,
            to_end,
        })
    }

    /// Whether the other pattern is held in the same memory.
    pub fn shares_program_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Program {
    fn of(text: &str, options: PathOptions) -> Result<Self, PatternError> {
        let core = text.strip_prefix('^').unwrap_or(text);
        let core = core.strip_suffix('$').unwrap_or(core);
        if options.prefix && core.is_empty() {
            return Ok(Self::Never); // Tyk's rule: an empty rule is no rule.
        }
        let from_start = text.starts_with('^') || (options.prefix && text.starts_with('/'));
        let to_end = text.ends_with('$') || options.suffix;
        if is_literal(core) && !options.ignore_case {
            return Ok(Self::literal(core, from_start, to_end));
        }
        let regex = Self::search(text, options)?;
        Ok(match begun(text, options) {
            Some(begun) => Self::Begun(Box::new(memmem::Finder::new(begun).into_owned()), regex),
            None => Self::Search(regex),
        })
    }

    fn literal(text: &str, from_start: bool, to_end: bool) -> Self {
        match (from_start, to_end) {
            (true, true) => Self::Equal(text.into()),
            (true, false) if text.is_empty() || text == "/" => Self::Always,
            (false, _) if text.is_empty() => Self::Always,
            (true, false) => Self::Prefix(text.into()),
            (false, true) => Self::Suffix(text.into()),
            (false, false) => Self::Contains(Box::new(memmem::Finder::new(text).into_owned())),
        }
    }

    fn search(text: &str, options: PathOptions) -> Result<Regex, PatternError> {
        let translated = translate(text).map_err(|reason| PatternError::new(text, reason))?;
        let anchored = anchor(text, translated, options);
        bounded(&anchored)
            .case_insensitive(options.ignore_case)
            .build()
            .map_err(|err| PatternError::new(text, reason(&err)))
    }
}

/// Compiles an expression that is no path pattern, of rewrites: its groups capture.
///
/// # Errors
///
/// As [`PathPattern::compile`].
pub(crate) fn compile_expression(text: &str) -> Result<Regex, PatternError> {
    if text.len() > LONGEST_PATTERN {
        return Err(PatternError::new(text, "longer than 16 KiB"));
    }
    let translated = translate_expression(text).map_err(|why| PatternError::new(text, why))?;
    let compiled = bounded(&translated).build();
    compiled.map_err(|err| PatternError::new(text, reason(&err)))
}

fn bounded(expression: &str) -> RegexBuilder {
    let mut builder = RegexBuilder::new(expression);
    builder
        .size_limit(LARGEST_PROGRAM)
        .dfa_size_limit(LARGEST_CACHE)
        .nest_limit(DEEPEST_NESTING);
    builder
}

/// Adds the anchors of the options around the whole pattern, so that they bind to every alternative.
fn anchor(text: &str, translated: String, options: PathOptions) -> String {
    let from_start = options.prefix && text.starts_with('/');
    // An escaped `$` at the end counts as an anchor for Tyk, one of the pattern's own is repeated.
    let to_end = options.suffix && !text.ends_with(r"\$") && (from_start || !text.ends_with('$'));
    let start = if from_start { "^" } else { "" };
    let end = if to_end { "$" } else { "" };
    if from_start || to_end {
        format!("{start}(?:{translated}){end}")
    } else {
        translated
    }
}

/// The text of a pattern as `/users/(.*)`, which is found wherever the text is.
fn begun(text: &str, options: PathOptions) -> Option<&str> {
    let begun = text
        .strip_suffix("(.*)")
        .or_else(|| text.strip_suffix(".*"))?;
    let is_anchored = options.suffix || (options.prefix && text.starts_with('/'));
    let is_found = !is_anchored && !options.ignore_case && is_literal(begun);
    Some(begun).filter(|begun| is_found && !begun.is_empty())
}

fn is_literal(text: &str) -> bool {
    !text.contains([
        '\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$',
    ])
}

fn reason(err: &regex::Error) -> String {
    match err {
        regex::Error::CompiledTooBig(_) => "larger than 1 MiB when compiled".into(),
        err => {
            let text = err.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    }
}

fn share(key: (PathOptions, Box<str>), compiled: Arc<Compiled>) -> Arc<Compiled> {
    let mut shared = SHARED.lock();
    if let Some(other) = shared.get(&key).and_then(Weak::upgrade) {
        return other; // Somebody else compiled it meanwhile.
    }
    if shared.len() >= MOST_SHARED {
        shared.retain(|_, pattern| pattern.strong_count() > 0);
    }
    if shared.len() < MOST_SHARED {
        shared.insert(key, Arc::downgrade(&compiled));
    }
    compiled
}

/// Whether a match says something of the path behind the listen path, or names the whole of it.
fn reaches_behind(start: usize, end: usize, listen: usize) -> bool {
    listen <= start || listen + 1 < end || (start == 0 && listen <= end)
}

fn contains_behind(finder: &memmem::Finder<'_>, path: &[u8], listen: usize) -> bool {
    let length = finder.needle().len();
    if listen <= length && path.starts_with(finder.needle()) {
        return true;
    }
    // The first start of a match that ends behind the slash after the listen path.
    let from = listen.min((listen + 2).saturating_sub(length));
    path.get(from..)
        .is_some_and(|rest| finder.find(rest).is_some())
}

fn search_behind(regex: &Regex, path: &[u8], listen: usize) -> bool {
    let mut at = 0;
    while let Some(found) = regex
        .find_at(path, at)
        .filter(|found| found.start() < listen)
    {
        if reaches_behind(found.start(), found.end(), listen) {
            return true;
        }
        at = found.start() + 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: PathOptions = PathOptions {
        prefix: true,
        suffix: false,
        ignore_case: false,
    };
    const SUFFIX: PathOptions = PathOptions {
        prefix: false,
        suffix: true,
        ignore_case: false,
    };

    #[track_caller]
    fn check(options: PathOptions, pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern = PathPattern::compile(pattern, options).expect("compiles");
        for path in yes {
            assert!(pattern.matches(path), "{pattern:?} matches {path}");
        }
        for path in no {
            assert!(!pattern.matches(path), "{pattern:?} does not match {path}");
        }
    }

    #[test]
    fn without_options_a_pattern_is_found_anywhere() {
        let loose = PathOptions::default();
        check(loose, "/users", &["/users", "/v1/users-old"], &["/user"]);
        check(loose, "^/users$", &["/users"], &["/users/", "/x/users"]);
        check(loose, "", &["/", "/x"], &[]);
        check(loose, "^/", &["/", "/x"], &[]);
        check(loose, "/v1.0$", &["/v1.0", "/v1x0"], &["/v1.0/"]);
        check(loose, "^/a|b$", &["/a/x", "/x/b"], &["/b/x"]);
        check(loose, "/a$", &["/a"], &["/a\n", "/a\nb"]);
        check(loose, "/b.c", &["/b\u{fffd}c"], &["/b\nc"]);
        check(loose, r"/\w$", &["/a"], &["/é"]);
    }

    #[test]
    fn options_anchor_every_alternative() {
        check(PREFIX, "/a|/b", &["/a", "/bx"], &["/x/b"]);
        check(SUFFIX, "/a|/b", &["/x/a", "/b"], &["/ax", "/bx"]);
        check(
            PathOptions::strict(),
            "/a|/b",
            &["/a", "/b"],
            &["/ax", "/x/b"],
        );
        check(
            PathOptions::strict(),
            "/a|/b$",
            &["/a", "/b"],
            &["/ax", "/x/b"],
        );
        check(
            PathOptions::strict(),
            "users",
            &["/users", "/my-users"],
            &["/users/5"],
        );
        check(PathOptions::strict(), "/", &["/"], &["/x"]);
        check(PathOptions::strict(), "", &[], &["", "/", "/x"]);
        check(PathOptions::strict(), "^$", &[], &["", "/"]);
        check(
            PREFIX,
            "/users/{id}",
            &["/users/4", "/users/4/x"],
            &["/users/"],
        );
    }

    #[test]
    fn case_is_ignored_where_asked() {
        let ignoring = PathOptions {
            ignore_case: true,
            ..PathOptions::strict()
        };
        check(ignoring, "/Cap", &["/cap", "/CAP"], &["/caps"]);
    }

    #[test]
    fn a_match_inside_the_listen_path_opens_nothing() {
        let behind = |pattern: &str, path: &str| {
            let pattern = PathPattern::compile(pattern, PathOptions::default()).expect("compiles");
            pattern.matches_behind(path, "/orders".len())
        };
        for pattern in [
            "ord",
            "/order",
            "ers/",
            "^/ord",
            "^/o[a-z]",
            "[a-z]rd",
            "^/orders?",
        ] {
            assert_eq!(
                behind(pattern, "/orders/x"),
                pattern == "^/orders?",
                "{pattern}"
            );
        }
        for pattern in [
            "/orders", "^/orders", "/x", "ers/x", "x$", "^/o.*x", "/", ".", "^/",
        ] {
            assert!(behind(pattern, "/orders/x"), "{pattern}");
        }
    }

    #[test]
    fn equal_patterns_share_one_program() {
        let first = PathPattern::compile("/shared/{id}", PREFIX).expect("compiles");
        let second = PathPattern::compile("/shared/{id}", PREFIX).expect("compiles");
        let other = PathPattern::compile("/shared/{id}", SUFFIX).expect("compiles");
        assert!(Arc::ptr_eq(&first.0, &second.0));
        assert!(first.shares_program_with(&second));
        assert!(!first.shares_program_with(&other));
    }

    #[test]
    fn what_nobody_uses_is_not_kept() {
        for at in 0..3 * MOST_SHARED {
            let text = format!("/forgotten/{at}");
            PathPattern::compile(&text, PREFIX).expect("compiles");
            assert!(SHARED.lock().len() <= MOST_SHARED);
        }
    }

    #[test]
    fn large_patterns_are_refused() {
        let reason = |text: &str| {
            let err = PathPattern::compile(text, PREFIX).expect_err("too large");
            err.reason().to_owned()
        };
        assert_eq!(reason(&"a".repeat(10 << 20)), "longer than 16 KiB");
        assert_eq!(
            reason("/(.{1000}){1000}"),
            "larger than 1 MiB when compiled"
        );
        assert!(reason(&"(".repeat(1000)).contains("not closed"));
        assert!(reason(&format!("{}{}", "(".repeat(500), ")".repeat(500))).contains("nest"));
    }

    #[test]
    fn repetitions_in_repetitions_stay_linear() {
        let pattern = PathPattern::compile("^/(a*)*b$", PREFIX).expect("compiles");
        assert!(!pattern.matches(&format!("/{}", "a".repeat(50_000))));
    }

    proptest! {
        #[test]
        fn a_text_with_anything_behind_it_says_what_a_search_says(
            pattern in r"(/?(a|b|ab)){1,3}/?([(]\.\*[)]|\.\*)",
            path in "(/(a|b|ab|ba|c)){1,4}/?",
            listen in 0..8_usize,
        ) {
            let options = PathOptions::default();
            let begun = PathPattern::compile(&pattern, options).expect("compiles");
            prop_assert!(matches!(begun.0.program, Program::Begun(..)));
            let program = Program::Search(Program::search(&pattern, options).expect("compiles"));
            let search = PathPattern(Arc::new(Compiled { text: pattern.into(), program }));
            prop_assert_eq!(begun.matches(&path), search.matches(&path));
            let listen = listen.min(path.len());
            let behind = |pattern: &PathPattern| pattern.matches_behind(&path, listen);
            prop_assert_eq!(behind(&begun), behind(&search));
        }

        #[test]
        fn compiling_never_panics(text in ".{0,40}", prefix: bool, suffix: bool, ignore_case: bool) {
            let options = PathOptions { prefix, suffix, ignore_case };
            if let Ok(pattern) = PathPattern::compile(&text, options) {
                pattern.matches_behind("/a/b", 2);
            }
        }

        #[test]
        fn compiling_odd_syntax_never_panics(text in r"[a/{}\[\]()*+?|.^$\\QEdwpx:,0-9<>P!=&~-]{0,24}") {
            for options in [PathOptions::default(), PathOptions::strict()] {
                if let Ok(pattern) = PathPattern::compile(&text, options) {
                    pattern.matches_behind("/a/b{0}", 2);
                }
            }
        }

        #[test]
        fn a_literal_agrees_with_its_search(
            core in "[/a-b]{1,4}", start in "\\^?", end in "\\$?", prefix: bool, suffix: bool,
            path in "/[/a-b]{0,8}", listen in 0..4_usize,
        ) {
            let options = PathOptions { prefix, suffix, ignore_case: false };
            let text = format!("{start}{core}{end}");
            let literal = PathPattern::compile(&text, options).expect("compiles");
            let program = Program::Search(Program::search(&text, options).expect("compiles"));
            let search = PathPattern(Arc::new(Compiled { text: "".into(), program }));
            prop_assert_eq!(literal.matches(&path), search.matches(&path));
            // `^/` alone is every path by decision, see `Program::literal`.
            let (text, listen) = (text.as_str(), listen.min(path.len()));
            if text != "^/" && !(prefix && text == "/") {
                prop_assert_eq!(
                    literal.matches_behind(&path, listen), search.matches_behind(&path, listen)
                );
            }
        }
    }
}
