//! How a version calls its upstream: time limits, another method, what is checked before.

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode, request::Parts};
use tollgate::{
    Rejection,
    access::RequestPath,
    gate::{Acts, Gate, Step},
    visit::Visit,
};

use super::{
    Where,
    breaker::Breaker,
    exchange::Checks,
    first_of,
    rewrites::RewriteRule,
    schema::Schema,
    transforms::Transforms,
    versions::{Chosen, VersionRules},
};
use crate::proxy::ProxyHints;

/// How a version calls its upstream.
#[derive(Debug, Default)]
pub struct UpstreamRules {
    /// How long an exchange may take.
    pub timeout: Option<Duration>,
    /// The same for single paths; comes first.
    pub timeout_by_path: Vec<(Where, Duration)>,
    /// Other methods; none where it is one that no request may become.
    pub method_by_path: Vec<(Where, Option<Method>)>,
    /// What is checked behind the gates.
    pub checks: CheckRules,
}

/// What is checked behind the gates, by path.
#[derive(Debug, Default)]
pub struct CheckRules {
    /// Schemas of bodies.
    pub schemas: Vec<(Where, Arc<Schema>)>,
    /// Other URLs.
    pub rewrites: Vec<(Where, Arc<RewriteRule>)>,
    /// Circuit breakers.
    pub breakers: Vec<(Where, Arc<Breaker>)>,
}

impl CheckRules {
    /// All rewrites.
    pub fn rewrites(&self) -> impl Iterator<Item = &RewriteRule> {
        self.rewrites.iter().map(|(_, rule)| &**rule)
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.schemas.is_empty() && self.rewrites.is_empty() && self.breakers.is_empty()
    }

    fn find(&self, method: &str, path: &RequestPath<'_>) -> Option<Checks> {
        let schema = first_of(&self.schemas, method, path).cloned();
        let rewrite = first_of(&self.rewrites, method, path).cloned();
        let breaker = first_of(&self.breakers, method, path).cloned();
        let is_any = schema.is_some() || rewrite.is_some() || breaker.is_some();
        is_any.then_some(Checks {
            schema,
            transforms: None,
            rewrite,
            breaker,
        })
    }
}

impl UpstreamRules {
    fn is_empty(&self) -> bool {
        // Every member is named: one that is forgotten here would be passed over in silence.
        let Self {
            timeout,
            timeout_by_path,
            method_by_path,
            checks,
        } = self;
        let by_path = timeout_by_path.is_empty() && method_by_path.is_empty();
        by_path && timeout.is_none() && checks.is_empty()
    }
}

/// Tells the proxy what the version says that was [`Chosen`], once the request may pass. It does so as the
/// last gate.
#[derive(Clone, Debug)]
pub struct UpstreamGate {
    /// What the API is served below.
    pub listen: Arc<str>,
    /// Whether it is asked behind the gates, too, which version was chosen.
    pub leaves_version: bool,
}

impl UpstreamGate {
    /// Whether the request would get a method that none may become.
    fn refuses_method(&self, head: &Parts) -> bool {
        let chosen = head.extensions.get::<Chosen>();
        let methods = chosen.map_or(&[][..], |chosen| &chosen.rules.upstream.method_by_path);
        if methods.is_empty() {
            return false;
        }
        let path = RequestPath::of(head.uri.path(), Some(&self.listen));
        let found = |path| first_of(methods, head.method.as_str(), &path);
        path.is_ok_and(|path| matches!(found(path), Some(None)))
    }

    /// Leaves what the version says to the proxy, and to what checks exchanges.
    fn tell(&self, head: &mut Parts) {
        let chosen = head.extensions.get::<Chosen>();
        let is_empty =
            |rules: &VersionRules| rules.upstream.is_empty() && rules.transforms.is_empty();
        let Some(chosen) = chosen.filter(|chosen| !is_empty(&chosen.rules)) else {
            return;
        };
        let chosen = chosen.clone();
        let rules = &chosen.rules.upstream;
        let (timeout, method, checks) = {
            let Ok(path) = RequestPath::of(head.uri.path(), Some(&self.listen)) else {
                return; // Refused before.
            };
            let method = head.method.as_str();
            let own = first_of(&rules.timeout_by_path, method, &path).copied();
            let method = first_of(&rules.method_by_path, method, &path).cloned();
            let method = method.flatten();
            let checks = rules.checks.find(head.method.as_str(), &path);
            (own.or(rules.timeout), method, checks)
        };
        let transforms = head.extensions.remove::<Arc<Transforms>>();
        let checks = match (checks, transforms) {
            (Some(checks), transforms) => Some(Checks {
                transforms,
                ..checks
            }),
            (None, Some(transforms)) => Some(Checks::only(transforms)),
            (None, None) => None,
        };
        if let Some(checks) = checks {
            head.extensions.insert(checks);
        }
        if timeout.is_some() {
            head.extensions
                .get_or_insert_default::<ProxyHints>()
                .timeout = timeout;
        }
        if let Some(method) = method {
            head.method = method;
        }
    }
}

impl Gate for UpstreamGate {
    fn name(&self) -> &'static str {
        "upstream"
    }

    fn admit(&self, head: &mut Parts, _visit: &mut Visit) -> Step {
        match self.refuses_method(head) {
            true => Step::Refuse(Rejection::custom(
                "method_refused",
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
            )),
            false => Step::Pass,
        }
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: true,
            depart: false,
        }
    }

    fn forward(&self, head: &mut Parts, _visit: &Visit) {
        self.tell(head);
        if !self.leaves_version {
            // Nobody asks any more, and a fourth value would make the extensions grow.
            head.extensions.remove::<Chosen>();
        }
    }
}
