//! Which rate limit an endpoint of an API has.

use super::{PathOptions, PathPattern, RequestPath, RuleProblem};
use crate::session::{Endpoint, Smoothing};

/// The rate limits by path and method: a compiled `endpoints`.
#[derive(Clone, Debug, Default)]
pub struct EndpointRules {
    rules: Box<[EndpointRule]>,
    prefix: bool,
}

#[derive(Clone, Debug)]
struct EndpointRule {
    pattern: PathPattern,
    methods: Box<[(Box<str>, EndpointLimit)]>,
}

/// The rate limit of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointLimit {
    name: Box<str>,
    rate: f64,
    per: f64,
    smoothing: Option<Smoothing>,
}

impl EndpointLimit {
    /// `METHOD:path`, both as configured: the name of the endpoint's counter.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Requests allowed in [`per`](Self::per) seconds. Zero and below: no limit.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// The rate's window, in seconds.
    pub fn per(&self) -> f64 {
        self.per
    }

    /// How the limit grows and shrinks with use.
    pub fn smoothing(&self) -> Option<&Smoothing> {
        self.smoothing.as_ref()
    }
}

impl EndpointRules {
    /// Compiles the list, and tells which of its patterns can not be used; those limit nothing.
    pub fn compile(endpoints: &[Endpoint], options: PathOptions) -> (Self, Vec<RuleProblem>) {
        let mut problems = Vec::new();
        let mut rules = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in endpoints.iter().enumerate() {
            match PathPattern::compile(&endpoint.path, options) {
                Ok(pattern) => rules.push(EndpointRule::new(pattern, endpoint)),
                Err(err) => {
                    let place = format!("endpoints[{index}].path");
                    problems.push(RuleProblem::new(place, err));
                }
            }
        }
        let rules = Self {
            rules: rules.into(),
            prefix: options.prefix,
        };
        (rules, problems)
    }

    /// The limit of the first endpoint that matches; methods match in any case.
    pub fn find(&self, method: &str, path: &RequestPath<'_>) -> Option<&EndpointLimit> {
        self.rules.iter().find_map(|rule| {
            let limit = rule.limit(method)?;
            self.matches(&rule.pattern, path).then_some(limit)
        })
    }

    fn matches(&self, pattern: &PathPattern, path: &RequestPath<'_>) -> bool {
        if self.prefix {
            pattern.matches_request(path)
        } else {
            pattern.matches(path.behind_listen_path())
        }
    }
}

impl EndpointRule {
    fn new(pattern: PathPattern, endpoint: &Endpoint) -> Self {
        let methods = endpoint.methods.iter().map(|method| {
            let limit = EndpointLimit {
                name: format!("{}:{}", method.name, endpoint.path).into(),
                rate: method.limit.rate,
                per: method.limit.per,
                smoothing: method.limit.smoothing.clone(),
            };
            (method.name.as_str().into(), limit)
        });
        Self {
            pattern,
            methods: methods.collect(),
        }
    }

    fn limit(&self, method: &str) -> Option<&EndpointLimit> {
        let named = |(name, _): &&(Box<str>, EndpointLimit)| name.eq_ignore_ascii_case(method);
        self.methods.iter().find(named).map(|(_, limit)| limit)
    }
}
