//! Which version of an API a request calls, and what that version says.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, StatusCode, request::Parts};
use regex::Regex;
use tollgate::{ApiId, Rejection, access::RequestPath};

use super::{
    headers::HeaderRules,
    lists::Lists,
    query::{set_target, write_anew},
    rates::RateEntries,
    rewrites::RewriteRule,
    sizes::Sizes,
    tracking::Tracking,
    transforms::TransformRules,
    upstream::UpstreamRules,
    version_headers::Expiry,
};

/// Where a request names its version.
#[derive(Clone, Debug)]
pub enum Location {
    /// Nowhere.
    None,
    /// In this header.
    Header(HeaderName),
    /// In this parameter of the query.
    Query(String),
    /// In the first segment behind the listen path, where that matches.
    Path(Option<Regex>),
}

/// What a version says.
#[derive(Debug, Default)]
pub struct VersionRules {
    /// Its name.
    pub name: String,
    /// The Unix second from which on it is gone.
    pub ends: Option<u64>,
    /// When it ends, as it is told.
    pub expires: Option<Expiry>,
    /// Open, closed and answered paths.
    pub lists: Lists,
    /// Sizes of bodies.
    pub sizes: Sizes,
    /// Headers.
    pub headers: HeaderRules,
    /// Rates of single paths.
    pub rates: RateEntries,
    /// How requests are tracked.
    pub tracking: Tracking,
    /// Bodies that are made into others.
    pub transforms: TransformRules,
    /// How the upstream is called.
    pub upstream: UpstreamRules,
}

/// The versions of an API.
#[derive(Debug)]
pub struct Versions {
    /// Where the version is named.
    pub location: Location,
    /// Whether the name is taken out of the request.
    pub strips: bool,
    /// Whether it is taken out of a path that ends with it, too.
    pub strips_final: bool,
    /// All of them.
    pub by_name: BTreeMap<String, Arc<VersionRules>>,
    /// The version of a request that names none.
    pub default: Default,
    /// Whether the default stands in for one that does not exist.
    pub falls_back: bool,
    /// Versions that are APIs of their own.
    pub apis: Option<VersionApis>,
}

/// Versions that are APIs of their own.
#[derive(Debug)]
pub struct VersionApis {
    /// What this API is called among them, besides `self`.
    pub name: String,
    /// The version of a request that names none; empty where there is none.
    pub default: String,
    /// The other APIs; none where one is not loaded.
    pub by_name: BTreeMap<String, Option<ApiId>>,
}

/// Where a request goes that calls a version.
#[derive(Clone, Debug)]
pub enum Choice {
    /// It stays with this API.
    Here(Chosen),
    /// The version is another API.
    Api(ApiId),
}

/// What a request calls that names no version.
#[derive(Clone, Debug)]
pub enum Default {
    /// There is only this one, and names are not read.
    Only(Arc<VersionRules>),
    /// This one.
    Named(String),
}

/// The version that a request calls, left in its extensions.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// What it says.
    pub rules: Arc<VersionRules>,
    /// The name that the request gave.
    pub named: Option<Arc<str>>,
}

impl VersionRules {
    /// The names of context variables that its texts have.
    pub fn context_names(&self) -> impl Iterator<Item = &str> {
        let rewrites = self.upstream.checks.rewrites();
        let of_rewrites = rewrites.flat_map(RewriteRule::context_names);
        self.headers.context_names().chain(of_rewrites)
    }
}

impl Versions {
    /// Whether any of them says how requests are tracked.
    pub fn have_tracking(&self) -> bool {
        let mut all = self.by_name.values();
        all.any(|rules| !rules.tracking.is_empty())
    }

    /// Whether any of them has something to check behind the gates.
    pub fn has_checks(&self) -> bool {
        let mut all = self.by_name.values();
        all.any(|rules| !rules.upstream.checks.is_empty() || !rules.transforms.is_empty())
    }

    /// Whether any of them makes bodies into others.
    pub fn have_transforms(&self) -> bool {
        let mut all = self.by_name.values();
        all.any(|rules| !rules.transforms.is_empty())
    }

    /// Whether a template of theirs has this word.
    pub fn templates_mention(&self, word: &str) -> bool {
        let mut all = self.by_name.values();
        all.any(|rules| rules.transforms.mention(word))
    }

    /// Whether any of them has other URLs for some paths.
    pub fn have_rewrites(&self) -> bool {
        self.rewrites().next().is_some()
    }

    /// Whether rewrites may send requests to APIs of this gateway.
    pub fn rewrite_to_apis(&self) -> bool {
        self.rewrites().any(RewriteRule::leads_to_apis)
    }

    /// Whether rewrites may send requests back to the same API.
    pub fn lead_back(&self) -> bool {
        self.rewrites().any(RewriteRule::leads_back)
    }

    fn rewrites(&self) -> impl Iterator<Item = &RewriteRule> {
        let all = self.by_name.values();
        all.flat_map(|rules| rules.upstream.checks.rewrites())
    }

    /// The version that this request calls.
    ///
    /// # Errors
    ///
    /// Fails where there is none, or it has ended at `now`.
    pub fn choose(&self, head: &mut Parts, listen: &str, now: u64) -> Result<Choice, Rejection> {
        let named = match (&self.default, &self.apis) {
            (Default::Only(rules), None) => return Ok(Choice::Here(Chosen::only(rules))),
            _ => self.named(head, listen)?,
        };
        if let Some(apis) = &self.apis
            && let Some(api) = apis.choose(named.as_deref(), self.falls_back)?
        {
            return Ok(Choice::Api(api));
        }
        let name = match &self.default {
            Default::Only(rules) => return Ok(Choice::Here(Chosen::only(rules))),
            Default::Named(name) => name,
        };
        let found = match named.as_deref() {
            None if name.is_empty() => return Err(refused("Version information not found")),
            None => self.by_name.get(name),
            Some(asked) => {
                let fallback = || self.by_name.get(name).filter(|_| self.falls_back);
                self.by_name.get(asked).or_else(fallback)
            }
        };
        let rules = found.ok_or_else(|| unknown(StatusCode::FORBIDDEN))?;
        if rules.ends.is_some_and(|end| end <= now) {
            return Err(refused(
                "Api Version has expired, please check documentation or contact administrator",
            ));
        }
        let (rules, named) = (rules.clone(), named.map(Into::into));
        Ok(Choice::Here(Chosen { rules, named }))
    }

    /// The name that the request gives; taken out of it where that is asked.
    fn named(&self, head: &mut Parts, listen: &str) -> Result<Option<String>, Rejection> {
        let named = match &self.location {
            Location::None => None,
            Location::Header(name) => {
                let value = head.headers.get(name);
                let named = value
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned);
                if self.strips {
                    head.headers.remove(name);
                }
                named
            }
            Location::Query(name) => self.in_query(head, name),
            Location::Path(pattern) => self.in_path(head, listen, pattern.as_ref())?,
        };
        Ok(named.filter(|named| !named.is_empty()))
    }

    fn in_query(&self, head: &mut Parts, name: &str) -> Option<String> {
        let query = head.uri.query()?;
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let named = pairs.find(|(key, _)| key == name)?.1.into_owned();
        if self.strips {
            write_anew(head, Some(name));
        }
        Some(named)
    }

    fn in_path(
        &self,
        head: &mut Parts,
        listen: &str,
        pattern: Option<&Regex>,
    ) -> Result<Option<String>, Rejection> {
        let path = head.uri.path();
        let rest = RequestPath::of(path, Some(listen))?.spelled_behind_listen_path()?;
        let before = &path[..path.len() - rest.len()];
        let segment = rest
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        if segment.is_empty() || pattern.is_some_and(|pattern| !pattern.is_match(segment)) {
            return Ok(None);
        }
        let named = segment.to_owned();
        let start = rest.find(segment).unwrap_or_default();
        let after = &rest[start + segment.len()..];
        if self.strips && (self.strips_final || !after.is_empty()) {
            let after = after.trim_start_matches('/');
            let query = head
                .uri
                .query()
                .map(|query| format!("?{query}"))
                .unwrap_or_default();
            let before = before.trim_end_matches('/');
            let target = format!("{before}/{after}{query}");
            set_target(head, &target);
        }
        Ok(Some(named))
    }
}

impl Chosen {
    fn only(rules: &Arc<VersionRules>) -> Self {
        let (rules, named) = (rules.clone(), None);
        Self { rules, named }
    }
}

impl VersionApis {
    /// The API that serves the version; `None` is the one that was asked.
    fn choose(&self, named: Option<&str>, falls_back: bool) -> Result<Option<ApiId>, Rejection> {
        let asked = named.unwrap_or(&self.default);
        if asked.is_empty() {
            return Err(refused("Version information not found"));
        }
        let is_own = |name: &str| name == "self" || name == self.name;
        if is_own(asked) {
            return Ok(None);
        }
        match self.by_name.get(asked) {
            Some(Some(api)) => return Ok(Some(api.clone())),
            _ if !falls_back => return Err(unknown(StatusCode::NOT_FOUND)),
            _ if is_own(&self.default) => return Ok(None),
            _ => {}
        }
        let default = self.by_name.get(&self.default).cloned().flatten();
        let broken = || {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Rejection::custom("no_default_version", status, "Internal Server Error")
        };
        default.map(Some).ok_or_else(broken)
    }
}

fn unknown(status: StatusCode) -> Rejection {
    let message = "This API version does not seem to exist";
    Rejection::custom("version_unknown", status, message)
}

fn refused(message: &'static str) -> Rejection {
    Rejection::custom("version_refused", StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn versions(location: Location, default: &str, falls_back: bool) -> Versions {
        let version = |name: &str| {
            let rules = VersionRules {
                name: name.into(),
                ends: (name == "old").then_some(1000),
                ..VersionRules::default()
            };
            (name.to_owned(), Arc::new(rules))
        };
        Versions {
            location,
            strips: true,
            strips_final: false,
            by_name: ["v1", "v2", "old"].map(version).into(),
            default: Default::Named(default.into()),
            falls_back,
            apis: None,
        }
    }

    /// The version and the target afterwards, or the message.
    #[track_caller]
    fn check(
        versions: &Versions,
        target: &str,
        header: &str,
        expected: Result<(&str, &str), &str>,
    ) {
        let request = Request::get(target).header("x-version", header).body(());
        let (mut head, ()) = request.expect("a request").into_parts();
        let chosen = versions.choose(&mut head, "/api/", 1000);
        let target = head
            .uri
            .path_and_query()
            .map(http::uri::PathAndQuery::as_str);
        let got = chosen
            .map(|choice| {
                let name = match choice {
                    Choice::Here(chosen) => chosen.rules.name.clone(),
                    Choice::Api(id) => format!("api {id}"),
                };
                (name, target.unwrap_or_default().to_owned())
            })
            .map_err(|refused| refused.message().to_owned());
        let expected = expected
            .map(|(name, target)| (name.to_owned(), target.to_owned()))
            .map_err(str::to_owned);
        assert_eq!(got, expected, "{target:?}");
    }

    #[test]
    fn a_header_names_the_version() {
        let by_header = versions(
            Location::Header(HeaderName::from_static("x-version")),
            "",
            false,
        );
        check(&by_header, "/api/x", "v2", Ok(("v2", "/api/x")));
        check(
            &by_header,
            "/api/x",
            "",
            Err("Version information not found"),
        );
        check(
            &by_header,
            "/api/x",
            "v3",
            Err("This API version does not seem to exist"),
        );
        let gone = "Api Version has expired, please check documentation or contact administrator";
        check(&by_header, "/api/x", "old", Err(gone));
        let name = HeaderName::from_static("x-version");
        check(
            &versions(Location::Header(name), "v1", true),
            "/api/x",
            "v3",
            Ok(("v1", "/api/x")),
        );
    }

    #[test]
    fn the_query_names_the_version() {
        let by_query = versions(Location::Query("v".into()), "v1", false);
        check(
            &by_query,
            "/api/x?b=%2F&v=v2&a=1%20+&b",
            "",
            Ok(("v2", "/api/x?a=1++&b=%2F&b=")),
        );
        check(&by_query, "/api/x?v=v2", "", Ok(("v2", "/api/x")));
        check(&by_query, "/api/x?a=1", "", Ok(("v1", "/api/x?a=1")));
    }

    #[test]
    fn the_path_names_the_version() {
        let pattern = Regex::new(r"^v\d+$").expect("compiles");
        let by_path = versions(Location::Path(Some(pattern)), "v1", false);
        check(&by_path, "/api/v2/x?a=1", "", Ok(("v2", "/api/x?a=1")));
        check(&by_path, "/api/v2", "", Ok(("v2", "/api/v2")));
        check(&by_path, "/api/v2/", "", Ok(("v2", "/api/")));
        check(&by_path, "/api/v2/a%20b", "", Ok(("v2", "/api/a%20b")));
        check(&by_path, "/api/x", "", Ok(("v1", "/api/x")));
        check(
            &by_path,
            "/api/v9/x",
            "",
            Err("This API version does not seem to exist"),
        );
        let whole = Versions {
            strips_final: true,
            ..by_path
        };
        check(&whole, "/api/v2", "", Ok(("v2", "/api/")));
    }

    /// A base called `base`, with one version of its own, `two`, and one whose API is not loaded.
    fn base(default: &str, falls_back: bool) -> Versions {
        Versions {
            default: Default::Only(Arc::default()),
            apis: Some(VersionApis {
                name: "base".into(),
                default: default.into(),
                by_name: [
                    ("two".to_owned(), Some("two-id".into())),
                    ("lost".to_owned(), None),
                ]
                .into(),
            }),
            ..versions(Location::Query("v".into()), "", falls_back)
        }
    }

    #[test]
    fn a_version_may_be_an_api() {
        let unknown = Err("This API version does not seem to exist");
        let by_self = base("self", false);
        check(
            &by_self,
            "/api/x?v=two&q=1",
            "",
            Ok(("api two-id", "/api/x?q=1")),
        );
        for own in ["/api/x", "/api/x?v=self", "/api/x?v=base", "/api/x?v="] {
            check(&by_self, own, "", Ok(("", "/api/x")));
        }
        check(&by_self, "/api/x?v=nope", "", unknown);
        check(&by_self, "/api/x?v=lost", "", unknown);
        let none = Err("Version information not found");
        check(&base("", true), "/api/x", "", none);
        check(
            &base("two", false),
            "/api/x",
            "",
            Ok(("api two-id", "/api/x")),
        );
    }

    #[test]
    fn the_default_stands_in_for_an_api_that_is_not_there() {
        let to_self = base("base", true);
        check(&to_self, "/api/x?v=nope", "", Ok(("", "/api/x")));
        check(&to_self, "/api/x?v=lost", "", Ok(("", "/api/x")));
        let to_api = base("two", true);
        check(&to_api, "/api/x?v=nope", "", Ok(("api two-id", "/api/x")));
        for broken in ["lost", "nowhere"] {
            let target = "/api/x?v=nope";
            check(
                &base(broken, true),
                target,
                "",
                Err("Internal Server Error"),
            );
        }
    }
}
