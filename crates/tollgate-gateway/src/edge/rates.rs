//! The API's own rates: `global_rate_limit`, and `rate_limit` entries of single paths, which stand in its
//! place.

use std::sync::Arc;

use http::request::Parts;
use tollgate::{access::RequestPath, limits::OwnLimit};

use super::{Where, first_of, versions::Chosen};

/// What an entry says of its requests.
#[derive(Clone, Debug)]
pub enum EntryRate {
    /// The rate of the whole API counts.
    OfApi,
    /// None does.
    Free,
    /// This one counts.
    Own(Arc<OwnLimit>),
}

/// The rates of an API.
#[derive(Clone, Debug)]
pub struct Rates {
    /// What the API is served below.
    pub listen: Arc<str>,
    /// The rate of all requests that no entry is for.
    pub of_api: Option<Arc<OwnLimit>>,
}

/// The entries of a version: the first that is for a request decides.
pub type RateEntries = Vec<(Where, EntryRate)>;

impl Rates {
    /// The rate that a request counts against.
    pub fn choose(&self, head: &Parts) -> Option<Arc<OwnLimit>> {
        match self.entry(head).unwrap_or(EntryRate::OfApi) {
            EntryRate::OfApi => self.of_api.clone(),
            EntryRate::Free => None,
            EntryRate::Own(limit) => Some(limit),
        }
    }

    fn entry(&self, head: &Parts) -> Option<EntryRate> {
        let entries = &head.extensions.get::<Chosen>()?.rules.rates;
        if entries.is_empty() {
            return None;
        }
        // A path that can be read in two ways was refused before.
        let path = RequestPath::of(head.uri.path(), Some(&self.listen)).ok()?;
        first_of(entries, head.method.as_str(), &path).cloned()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tollgate::{Limit, Rate, access::PathOptions, rejection::LimitOwner};

    use super::*;
    use crate::edge::versions::VersionRules;

    fn limit(name: &str) -> Arc<OwnLimit> {
        let limit = Limit::Rate(Rate::per_minute(1));
        Arc::new(OwnLimit::global(name, LimitOwner::Api, limit))
    }

    #[track_caller]
    fn check(method: &str, path: &str, expected: Option<&Arc<OwnLimit>>) {
        let (rates, chosen) = rates();
        let request = Request::builder().method(method).uri(path).body(());
        let (mut head, ()) = request.expect("a request").into_parts();
        head.extensions.insert(chosen);
        let found = rates.choose(&head).map(|limit| format!("{limit:?}"));
        assert_eq!(
            found,
            expected.map(|limit| format!("{limit:?}")),
            "{method} {path}"
        );
    }

    fn rates() -> (Rates, Chosen) {
        let entry = |path: &str, rate| {
            let place = Where::new(path, "GET", PathOptions::default());
            (place.expect("compiles"), rate)
        };
        let rules = VersionRules {
            rates: vec![
                entry("/own", EntryRate::Own(limit("own"))),
                entry("/free", EntryRate::Free),
                entry("/api", EntryRate::OfApi),
                entry("/api", EntryRate::Free),
            ],
            ..VersionRules::default()
        };
        let chosen = Chosen {
            rules: Arc::new(rules),
            named: None,
        };
        let rates = Rates {
            listen: "/a/".into(),
            of_api: Some(limit("all")),
        };
        (rates, chosen)
    }

    #[test]
    fn the_first_entry_stands_in_place_of_the_api_s_rate() {
        check("GET", "/a/own", Some(&limit("own")));
        check("POST", "/a/own", Some(&limit("all")));
        check("GET", "/a/free", None);
        check("GET", "/a/api", Some(&limit("all")));
        check("GET", "/a/other", Some(&limit("all")));
    }
}
