//! Paths that are open to all, closed, or answered by the gateway: `ignored`, `white_list`,
//! `black_list`, `internal` and `mock_response` of a version.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tollgate::{
    Rejection,
    access::{PathOptions, PatternError, RequestPath},
};

use super::Where;

/// An answer of the gateway itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum From {
    /// A client, or another API.
    Client,
    /// A rewrite, for which internal paths are there.
    Rewrite,
}

/// What the lists say of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Listed {
    /// It goes on.
    Open,
    /// It goes on without a key.
    Ignored,
    /// It is answered here.
    Answered(Arc<Reply>),
}

/// What an entry says.
#[derive(Clone, Debug)]
pub enum Says {
    /// No key is needed.
    Ignored,
    /// It may be called, and what is on no such list may not.
    Allowed,
    /// It may not be called.
    Blocked,
    /// Rewrites alone may lead there.
    Internal,
    /// It is answered here.
    Reply(Arc<Reply>),
}

/// What an entry does with one method.
#[derive(Clone, Debug)]
pub enum Action {
    /// What its list says.
    AsListed,
    /// The answer here.
    Reply(Arc<Reply>),
    /// Anything else.
    Forbidden,
}

/// The lists of one version, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    entries: Vec<Entry>,
    only_allowed: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    place: Where,
    by_method: BTreeMap<String, Action>,
    says: Says,
}

impl Lists {
    /// Adds an entry behind the others.
    ///
    /// # Errors
    ///
    /// Fails where the pattern can not be compiled.
    pub fn add(
        &mut self,
        (path, method): (&str, &str),
        options: PathOptions,
        by_method: BTreeMap<String, Action>,
        says: Says,
    ) -> Result<(), PatternError> {
        self.only_allowed |= matches!(says, Says::Allowed);
        self.entries.push(Entry {
            place: Where::new(path, method, options)?,
            by_method,
            says,
        });
        Ok(())
    }

    /// What they say of a request.
    ///
    /// # Errors
    ///
    /// Fails where the path may not be called, or where it has an encoded slash: which entry it means can
    /// not be told.
    pub fn ask(
        &self,
        method: &str,
        path: &RequestPath<'_>,
        from: From,
    ) -> Result<Listed, Rejection> {
        if path.has_encoded_slash() && !self.entries.is_empty() {
            return Err(Rejection::PathAmbiguous);
        }
        let is_internal =
            |entry: &Entry| matches!(entry.says, Says::Internal) && entry.is_of(method, path);
        let is_internal = self.entries.iter().any(is_internal);
        if is_internal && from == From::Client {
            return Err(forbidden());
        }
        let said = self
            .entries
            .iter()
            .find_map(|entry| entry.ask(method, path));
        match said {
            Some(said) => said,
            None if self.only_allowed && !is_internal => Err(forbidden()),
            None => Ok(Listed::Open),
        }
    }
}

impl Entry {
    fn is_of(&self, method: &str, path: &RequestPath<'_>) -> bool {
        self.place.method == method && self.place.is_whole_path(path)
    }

    /// `None` where it says nothing of the request.
    fn ask(&self, method: &str, path: &RequestPath<'_>) -> Option<Result<Listed, Rejection>> {
        if matches!(self.says, Says::Internal) || !self.place.is_whole_path(path) {
            return None;
        }
        if !self.by_method.is_empty() {
            return match self.by_method.get(method)? {
                Action::AsListed => self.listed(),
                Action::Reply(reply) => Some(Ok(Listed::Answered(reply.clone()))),
                Action::Forbidden => Some(Err(forbidden())),
            };
        }
        let needs_method = matches!(self.says, Says::Reply(_));
        let is_any = self.place.method.is_empty() && !needs_method;
        (is_any || self.place.method == method).then(|| self.listed())?
    }

    fn listed(&self) -> Option<Result<Listed, Rejection>> {
        match &self.says {
            Says::Ignored => Some(Ok(Listed::Ignored)),
            Says::Allowed => Some(Ok(Listed::Open)),
            Says::Blocked => Some(Err(forbidden())),
            Says::Reply(reply) => Some(Ok(Listed::Answered(reply.clone()))),
            Says::Internal => None,
        }
    }
}

fn forbidden() -> Rejection {
    Rejection::custom(
        "endpoint_forbidden",
        StatusCode::FORBIDDEN,
        "Requested endpoint is forbidden",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(entries: &[(&str, &str, Says)]) -> Lists {
        let mut lists = Lists::default();
        for (path, method, says) in entries {
            lists
                .add(
                    (path, method),
                    PathOptions::default(),
                    BTreeMap::new(),
                    says.clone(),
                )
                .expect("compiles");
        }
        lists
    }

    #[track_caller]
    fn check(lists: &Lists, method: &str, path: &str, expected: Option<Listed>) {
        let path = RequestPath::of(path, Some("/api/")).expect("a path");
        let said = lists.ask(method, &path, From::Client).ok();
        assert_eq!(said, expected, "{method} {path:?}");
    }

    #[test]
    fn a_white_list_closes_what_is_not_on_it() {
        let lists = lists(&[("/open", "GET", Says::Allowed)]);
        check(&lists, "GET", "/api/open", Some(Listed::Open));
        check(&lists, "POST", "/api/open", None);
        check(&lists, "GET", "/api/other", None);
    }

    #[test]
    fn a_black_list_closes_what_is_on_it() {
        let lists = lists(&[("/shut", "", Says::Blocked)]);
        check(&lists, "GET", "/api/shut", None);
        check(&lists, "GET", "/api/other", Some(Listed::Open));
    }

    #[test]
    fn an_ignored_path_goes_before_a_blocked_one() {
        let lists = lists(&[("/x", "", Says::Ignored), ("/x", "", Says::Blocked)]);
        check(&lists, "GET", "/api/x", Some(Listed::Ignored));
    }

    #[test]
    fn text_of_the_listen_path_opens_nothing() {
        let lists = lists(&[("/api", "", Says::Ignored), ("pi", "", Says::Ignored)]);
        check(&lists, "GET", "/api/x", Some(Listed::Ignored)); // The whole listen path was meant.
        let lists = super::tests::lists(&[("pi", "", Says::Ignored)]);
        check(&lists, "GET", "/api/x", Some(Listed::Open));
    }

    #[test]
    fn internal_paths_are_closed() {
        let lists = lists(&[("/in", "GET", Says::Internal)]);
        check(&lists, "GET", "/api/in", None);
        check(&lists, "POST", "/api/in", Some(Listed::Open));
    }

    #[test]
    fn a_rewrite_leads_to_internal_paths_and_to_no_blocked_ones() {
        let lists = lists(&[
            ("/open", "GET", Says::Allowed),
            ("/both", "GET", Says::Blocked),
            ("/in", "GET", Says::Internal),
            ("/both", "GET", Says::Internal),
        ]);
        let ask = |method: &str, path: &str| {
            let path = RequestPath::of(path, Some("/api/")).expect("a path");
            lists.ask(method, &path, From::Rewrite).ok()
        };
        assert_eq!(ask("GET", "/in"), Some(Listed::Open));
        assert_eq!(ask("POST", "/in"), None);
        assert_eq!(ask("GET", "/both"), None);
        assert_eq!(ask("GET", "/else"), None);
    }
}
