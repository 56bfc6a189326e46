//! Which paths and methods an entry of `access_rights` opens.

use std::fmt;

use super::{PathOptions, PathPattern, PatternError, RequestPath, literals::Literals};
use crate::{rejection::Rejection, session::AllowedUrl};

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
/// An empty list opens every path. Of a list, any item that matches opens. A pattern that does not
/// compile opens nothing, or with [`PathOptions::prefix`] the one path that is spelled like it, as in Tyk;
/// the others still open what they do.
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
    rules: Option<Rules>, // `None` opens every path.
    prefix: bool,
}

/// Rules that are found together, and those that are tried one by one.
#[derive(Clone, Debug)]
struct Rules {
    literals: Literals,
    others: Box<[PathRule]>,
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
            let compiled = PathPattern::compile(&url.url, options).or_else(|err| {
                let place = format!("allowed_urls[{index}].url");
                problems.push(RuleProblem::new(place, err));
                options
                    .prefix
                    .then(|| PathPattern::as_spelled(&url.url))
                    .ok_or(())
            });
            if let Ok(pattern) = compiled {
                rules.push(PathRule {
                    methods: Methods::of(&url.methods),
                    pattern,
                });
            }
        }
        let rules = Self {
            rules: (!urls.is_empty()).then(|| Rules::of(rules)),
            prefix: options.prefix,
        };
        (rules, problems)
    }

    /// Whether this method of this path may be called.
    ///
    /// # Errors
    ///
    /// [`Rejection::PathNotGranted`]; [`Rejection::PathAmbiguous`] where there are rules and the path has
    /// a slash that is encoded: which rule it means can not be told.
    #[inline]
    pub fn check(&self, method: &str, path: &RequestPath<'_>) -> Result<(), Rejection> {
        if self.allow_all() {
            Ok(())
        } else if path.has_encoded_slash() {
            Err(Rejection::PathAmbiguous)
        } else if self.allows(method, path) {
            Ok(())
        } else {
            Err(Rejection::PathNotGranted)
        }
    }

    /// Whether this method of this path may be called. Methods are compared letter for letter, and the
    /// path is taken as it was decoded; see [`check`](Self::check).
    #[inline]
    pub fn allows(&self, method: &str, path: &RequestPath<'_>) -> bool {
        let Some(rules) = &self.rules else {
            return true;
        };
        let method = Method::of(method);
        let is_open =
            |rule: &PathRule| rule.methods.contain(method) && self.matches(&rule.pattern, path);
        rules.literals.allow(method, path, self.prefix) || rules.others.iter().any(is_open)
    }

    /// Whether every path is open.
    #[inline]
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

impl Rules {
    fn of(rules: Vec<PathRule>) -> Self {
        let is_literal = |rule: &PathRule| {
            let literal = rule.pattern.literal();
            literal.is_some_and(|literal| literal.text.starts_with(b"/"))
        };
        let (literals, others): (Vec<_>, Vec<_>) = rules.into_iter().partition(is_literal);
        let literals = literals.iter().filter_map(|rule| {
            let literal = rule.pattern.literal()?;
            Some((literal, rule.methods.clone()))
        });
        Self {
            literals: Literals::of(literals.collect()),
            others: others.into(),
        }
    }
}

/// A set of methods: the usual ones as bits, so that most rules hold no text.
#[derive(Clone, Debug, Default)]
pub(super) struct Methods {
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
            match Method::of(method) {
                Method::Usual(bit) => usual |= bit,
                Method::Other(method) => others.push(method.into()),
            }
        }
        Self {
            usual,
            others: others.into(),
        }
    }

    #[inline]
    pub(super) fn contain(&self, method: Method<'_>) -> bool {
        match method {
            Method::Usual(bit) => self.usual & bit != 0,
            Method::Other(method) => self.others.iter().any(|other| **other == *method),
        }
    }
}

/// A method, recognised once for all rules.
#[derive(Clone, Copy)]
pub(super) enum Method<'a> {
    /// The bit of one of the usual ones.
    Usual(u16),
    Other(&'a str),
}

impl<'a> Method<'a> {
    fn of(method: &'a str) -> Self {
        match USUAL.iter().position(|usual| *usual == method) {
            Some(at) => Self::Usual(1 << at),
            None => Self::Other(method),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule() -> impl Strategy<Value = AllowedUrl> {
        let url = r"\^?(/?(a|b|ab|[{]x[}])){0,3}/?\$?";
        let methods = prop::sample::subsequence(vec!["GET", "POST"], 0..=2);
        (url, methods).prop_map(|(url, methods)| AllowedUrl {
            url,
            methods: methods.into_iter().map(str::to_owned).collect(),
            ..AllowedUrl::default()
        })
    }

    proptest! {
        #[test]
        fn rules_together_say_what_each_says(
            urls in prop::collection::vec(rule(), 1..12),
            path in "(/(a|b|ab|ba|c)){1,4}/?",
            listen in prop::option::of("(/(a|b|ab|ba)){1,2}/?"),
            (prefix, suffix) in any::<(bool, bool)>(),
        ) {
            let options = PathOptions { prefix, suffix, ignore_case: false };
            let path = RequestPath::of(&path, listen.as_deref()).expect("a plain path");
            let (rules, problems) = PathRules::compile(&urls, options);
            prop_assert!(problems.is_empty());
            let alone = |url: &AllowedUrl| {
                let pattern = PathPattern::compile(&url.url, options).expect("compiles");
                url.methods.iter().any(|method| method == "GET") && rules.matches(&pattern, &path)
            };
            prop_assert_eq!(rules.allows("GET", &path), urls.iter().any(alone));
        }
    }
}
