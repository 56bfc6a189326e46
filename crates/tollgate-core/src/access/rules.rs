//! Which paths and methods an entry of `access_rights` opens.

use std::fmt;

use super::{PathOptions, PathPattern, PatternError, RequestPath};
use crate::session::AllowedUrl;

/// A rule that can not be used, for the log of whoever loads it.
///
/// Shows as `allowed_urls[1].url: pattern "(": a parenthesis is not closed`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RuleProblem {
    place: String,
    error: PatternError,
}

impl RuleProblem {
    pub(super) fn new(place: String, error: PatternError) -> Self {
        Self { place, error }
    }

    /// The JSON path of the pattern.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The pattern, cut short where it is very long.
    pub fn pattern(&self) -> &str {
        self.error.pattern()
    }

    /// Why it can not be used.
    pub fn reason(&self) -> &str {
        self.error.reason()
    }

    /// The same problem as seen from further out: `access_rights.orders` goes before the place.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self {
            place: format!("{outer}.{}", self.place),
            error: self.error,
        }
    }
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.error)
    }
}

impl std::error::Error for RuleProblem {}

/// The paths and methods that may be called: a compiled `allowed_urls`.
///
/// An empty list opens every path. Of a list, any item that matches opens; a pattern that does not
/// compile opens nothing, and the others still do.
///
/// ```
/// use tollgate_core::access::{PathOptions, PathRules, RequestPath};
/// use tollgate_core::session::AllowedUrl;
///
/// let url = AllowedUrl { url: "/users".into(), methods: vec!["GET".into()], ..Default::default() };
/// let (rules, problems) = PathRules::compile(&[url], PathOptions::strict());
/// assert!(problems.is_empty());
///
/// let path = RequestPath::of("/app/users", Some("/app/"))?;
/// assert!(rules.allows("GET", &path));
/// assert!(!rules.allows("POST", &path));
/// # Ok::<(), tollgate_core::Rejection>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct PathRules {
    rules: Option<Box<[PathRule]>>, // `None` opens every path.
    prefix: bool,
}

#[derive(Clone, Debug)]
struct PathRule {
    methods: Methods,
    pattern: PathPattern,
}

impl PathRules {
    /// Compiles the list, and tells which of its patterns can not be used.
    pub fn compile(urls: &[AllowedUrl], options: PathOptions) -> (Self, Vec<RuleProblem>) {
        let mut problems = Vec::new();
        let mut rules = Vec::with_capacity(urls.len());
        for (index, url) in urls.iter().enumerate() {
            match PathPattern::compile(&url.url, options) {
                Ok(pattern) => rules.push(PathRule {
                    methods: Methods::of(&url.methods),
                    pattern,
                }),
                Err(err) => {
                    let place = format!("allowed_urls[{index}].url");
                    problems.push(RuleProblem::new(place, err));
                }
            }
        }
        let rules = Self {
            rules: (!urls.is_empty()).then(|| rules.into()),
            prefix: options.prefix,
        };
        (rules, problems)
    }

    /// Whether this method of this path may be called. Methods are compared letter for letter.
    pub fn allows(&self, method: &str, path: &RequestPath<'_>) -> bool {
        let Some(rules) = &self.rules else {
            return true;
        };
        rules
            .iter()
            .any(|rule| rule.methods.contain(method) && self.matches(&rule.pattern, path))
    }

    /// Whether every path is open.
    pub fn allow_all(&self) -> bool {
        self.rules.is_none()
    }

    fn matches(&self, pattern: &PathPattern, path: &RequestPath<'_>) -> bool {
        if self.prefix {
            pattern.matches_request(path)
        } else {
            pattern.matches_behind(path.full(), path.listen())
        }
    }
}

/// A set of methods: the usual ones as bits, so that most rules hold no text.
#[derive(Clone, Debug, Default)]
struct Methods {
    usual: u16,
    others: Box<[Box<str>]>,
}

const USUAL: [&str; 9] = [
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE",
];

impl Methods {
    fn of(methods: &[String]) -> Self {
        let (mut usual, mut others) = (0, Vec::new());
        for method in methods {
            match usual_bit(method) {
                Some(bit) => usual |= bit,
                None => others.push(method.as_str().into()),
            }
        }
        Self {
            usual,
            others: others.into(),
        }
    }

    fn contain(&self, method: &str) -> bool {
        match usual_bit(method) {
            Some(bit) => self.usual & bit != 0,
            None => self.others.iter().any(|other| **other == *method),
        }
    }
}

fn usual_bit(method: &str) -> Option<u16> {
    let index = USUAL.iter().position(|usual| *usual == method)?;
    Some(1 << index)
}
