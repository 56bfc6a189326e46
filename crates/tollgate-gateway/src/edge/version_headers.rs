//! What an answer tells of the version that was called: when it ends, in `x-tyk-api-expires`, and which one
//! it was where the request named none, in the header of the configuration's `version_header`.

use http::{HeaderName, HeaderValue, request::Parts};
use tollgate::{
    gate::{Acts, Departure, Gate, Step},
    visit::Visit,
};

use super::versions::Chosen;

const EXPIRES: HeaderName = HeaderName::from_static("x-tyk-api-expires");

/// When something ends, as it is told.
#[derive(Clone, Debug)]
pub struct Expiry {
    /// The time, in words.
    pub value: HeaderValue,
    /// The Unix second from which on it is not told; none where it always is.
    pub until: Option<u64>,
}

/// Tells of the version that was [`Chosen`].
#[derive(Clone, Debug)]
pub struct VersionHeadersGate {
    /// The header of the default version, and its name.
    pub default: Option<(HeaderName, HeaderValue)>,
}

/// Headers of the answer.
#[derive(Clone)]
struct Told(Vec<(HeaderName, HeaderValue)>);

impl VersionHeadersGate {
    fn told(&self, chosen: &Chosen, now: u64) -> Vec<(HeaderName, HeaderValue)> {
        let expires = chosen.rules.expires.as_ref();
        let expires = expires.filter(|expires| expires.until.is_none_or(|until| now < until));
        let expires = expires.map(|expires| (EXPIRES, expires.value.clone()));
        let default = self.default.clone().filter(|_| chosen.named.is_none());
        expires.into_iter().chain(default).collect()
    }
}

impl Gate for VersionHeadersGate {
    fn name(&self) -> &'static str {
        "version headers"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        if let Some(chosen) = head.extensions.get::<Chosen>() {
            let told = self.told(chosen, visit.now().unix().0);
            if !told.is_empty() {
                visit.notes_mut().insert(Told(told));
            }
        }
        Step::Pass
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: false,
            depart: true,
        }
    }

    fn depart(&self, visit: &Visit, response: &mut Departure<'_>) {
        let told = visit.notes().get::<Told>();
        for (name, value) in told.into_iter().flat_map(|told| told.0.iter().cloned()) {
            response.headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::edge::versions::VersionRules;

    #[track_caller]
    fn check(until: Option<u64>, named: Option<&str>, expected: &[(&str, &str)]) {
        let gate = VersionHeadersGate {
            default: Some((
                HeaderName::from_static("x-served"),
                HeaderValue::from_static("v1"),
            )),
        };
        let rules = VersionRules {
            expires: Some(Expiry {
                value: HeaderValue::from_static("then"),
                until,
            }),
            ..VersionRules::default()
        };
        let chosen = Chosen {
            rules: Arc::new(rules),
            named: named.map(Into::into),
        };
        let told = gate.told(&chosen, 1000);
        let told: Vec<_> = told
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
            .collect();
        assert_eq!(told, expected, "{until:?} {named:?}");
    }

    #[test]
    fn an_end_is_told_until_it_is_there_and_the_default_where_none_was_named() {
        let (expires, default) = (("x-tyk-api-expires", "then"), ("x-served", "v1"));
        check(None, None, &[expires, default]);
        check(Some(1001), Some("v1"), &[expires]);
        check(Some(1000), Some("v2"), &[]);
    }
}
