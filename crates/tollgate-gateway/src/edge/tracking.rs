//! Which requests are tracked otherwise than the rest: `track_endpoints`, `do_not_track_endpoints`.

use std::sync::Arc;

use tollgate::access::RequestPath;

use super::{Where, first_of};
use crate::observe::tracked::{Endpoint, Tracked};

/// The entries of a version.
#[derive(Debug, Default)]
pub struct Tracking {
    /// Endpoints that are not tracked; they go before those that are.
    pub never: Vec<(Where, ())>,
    /// Endpoints that are told of by themselves.
    pub endpoints: Vec<(Where, Arc<Endpoint>)>,
}

impl Tracking {
    /// Whether nothing is said of any request.
    pub fn is_empty(&self) -> bool {
        self.never.is_empty() && self.endpoints.is_empty()
    }

    /// How this request is tracked.
    pub fn ask(&self, method: &str, path: &RequestPath<'_>) -> Option<Tracked> {
        if first_of(&self.never, method, path).is_some() {
            return Some(Tracked::Never);
        }
        let endpoint = first_of(&self.endpoints, method, path);
        endpoint.map(|endpoint| Tracked::As(endpoint.clone()))
    }
}

#[cfg(test)]
mod tests {
    use tollgate::access::PathOptions;

    use super::*;

    fn at<T>(path: &str, method: &str, value: T) -> (Where, T) {
        let place = Where::new(path, method, PathOptions::default());
        (place.expect("a pattern"), value)
    }

    #[track_caller]
    fn check(method: &str, path: &str, expected: Option<&str>) {
        let endpoint = |name| Arc::new(Endpoint::new(name, None));
        let tracking = Tracking {
            never: vec![at("/pets/secret", "GET", ())],
            endpoints: vec![at("/pets/{id}", "GET", endpoint("/pets/{id}"))],
        };
        let path = RequestPath::of(path, Some("/api/")).expect("a path");
        let found = tracking.ask(method, &path);
        let found = found.as_ref().map(|tracked| match tracked {
            Tracked::As(endpoint) => endpoint.name(),
            Tracked::Never => "never",
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_tracked_goes_before_what_is() {
        check("GET", "/api/pets/7", Some("/pets/{id}"));
        check("POST", "/api/pets/7", None);
        check("GET", "/api/pets/secret", Some("never"));
        check("GET", "/api/other", None);
    }
}
