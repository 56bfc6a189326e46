//! How a version calls its upstream: time limits, another method, what is checked before.

use std::{sync::Arc, time::Duration};

use http::{Method, request::Parts};
use tollgate::{
    access::RequestPath,
    gate::{Acts, Gate, Step},
    visit::Visit,
};

use super::{
    Where, breaker::Breaker, exchange::Checks, first_of, schema::Schema, versions::Chosen,
};
use crate::proxy::ProxyHints;

/// How a version calls its upstream.
#[derive(Debug, Default)]
pub struct UpstreamRules {
    /// How long an exchange may take.
    pub timeout: Option<Duration>,
    /// The same for single paths; comes first.
    pub timeout_by_path: Vec<(Where, Duration)>,
    /// Other methods.
    pub method_by_path: Vec<(Where, Method)>,
    /// What is checked behind the gates.
    pub checks: CheckRules,
}

/// What is checked behind the gates, by path.
#[derive(Debug, Default)]
pub struct CheckRules {
    /// Schemas of bodies.
    pub schemas: Vec<(Where, Arc<Schema>)>,
    /// Circuit breakers.
    pub breakers: Vec<(Where, Arc<Breaker>)>,
}

impl CheckRules {
    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.schemas.is_empty() && self.breakers.is_empty()
    }

    fn find(&self, method: &str, path: &RequestPath<'_>) -> Option<Checks> {
        let schema = first_of(&self.schemas, method, path).cloned();
        let breaker = first_of(&self.breakers, method, path).cloned();
        (schema.is_some() || breaker.is_some()).then_some(Checks { schema, breaker })
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

/// Tells the proxy what the version says that was [`Chosen`], once the request may pass.
#[derive(Clone, Debug)]
pub struct UpstreamGate {
    /// What the API is served below.
    pub listen: Arc<str>,
}

impl Gate for UpstreamGate {
    fn name(&self) -> &'static str {
        "upstream"
    }

    fn admit(&self, _head: &mut Parts, _visit: &mut Visit) -> Step {
        Step::Pass
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: true,
            depart: false,
        }
    }

    fn forward(&self, head: &mut Parts, _visit: &Visit) {
        let chosen = head.extensions.get::<Chosen>();
        let Some(chosen) = chosen.filter(|chosen| !chosen.rules.upstream.is_empty()) else {
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
            let checks = rules.checks.find(head.method.as_str(), &path);
            (own.or(rules.timeout), method, checks)
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
