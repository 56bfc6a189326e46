//! Which API serves a request: by the port it came in at, by host, then by the longest listen path.

use std::collections::BTreeMap;

use http::{HeaderMap, Uri, header::HOST};
use regex::Regex;

use crate::definition::ListenPath;

/// Something to be found by host and path, as an API is.
#[derive(Debug)]
pub struct Routes<T> {
    routes: Vec<Route<T>>, // In the order in which they are tried.
    strict: bool,
}

/// Routes by port: those of the gateway's own, and of ports that APIs have for themselves. What is served on one
/// is found on no other.
#[derive(Debug)]
pub struct PortRoutes<T> {
    gateway: Routes<T>,
    own: BTreeMap<u16, Routes<T>>,
}

#[derive(Debug)]
struct Route<T> {
    host: Option<String>,
    path: ListenPath,
    /// What paths begin with, where its own has names, as `{id}` or `{id:[0-9]+}`.
    pattern: Option<Regex>,
    serves: T,
}

impl<T> Routes<T> {
    /// No routes. `strict`: `/app` serves `/app` and `/app/…`, and not `/apple`.
    pub fn new(strict: bool) -> Self {
        Self {
            routes: Vec::new(),
            strict,
        }
    }

    /// Adds a route. `host` is in small letters; none is any. A path whose names can not be told serves nothing.
    pub fn add(&mut self, host: Option<String>, path: ListenPath, serves: T) {
        let Ok(pattern) = pattern(&path) else { return };
        self.routes.push(Route {
            host,
            pattern,
            path,
            serves,
        });
        // Those of a host first, then the longest; what was added first comes first.
        self.routes.sort_by_key(|route| {
            (
                route.host.is_none(),
                usize::MAX - length(route.path.as_str()),
            )
        });
    }

    /// Whether it matters which host is asked for.
    pub fn have_hosts(&self) -> bool {
        self.routes
            .first()
            .is_some_and(|route| route.host.is_some())
    }

    /// What serves this path of this host.
    pub fn find(&self, host: Option<&str>, path: &str) -> Option<(&T, &ListenPath)> {
        let is_host = |route: &Route<T>| match (&route.host, host) {
            (None, _) => true,
            (Some(own), Some(host)) => own.eq_ignore_ascii_case(host),
            (Some(_), None) => false,
        };
        let found = self
            .routes
            .iter()
            .find(|route| is_host(route) && route.matches(path, self.strict))?;
        Some((&found.serves, &found.path))
    }

    /// All that is served.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.routes.iter().map(|route| &route.serves)
    }
}

impl<T> PortRoutes<T> {
    /// No routes, with these ports besides the gateway's. `strict` as in [`Routes::new`].
    pub fn new(strict: bool, own: impl IntoIterator<Item = u16>) -> Self {
        let own = own.into_iter().map(|port| (port, Routes::new(strict)));
        Self {
            gateway: Routes::new(strict),
            own: own.collect(),
        }
    }

    /// The routes of a port, if it is open; `None` is the gateway's.
    pub fn at(&self, port: Option<u16>) -> Option<&Routes<T>> {
        match port {
            None => Some(&self.gateway),
            Some(port) => self.own.get(&port),
        }
    }

    /// As [`at`](Self::at), to add to.
    pub fn at_mut(&mut self, port: Option<u16>) -> Option<&mut Routes<T>> {
        match port {
            None => Some(&mut self.gateway),
            Some(port) => self.own.get_mut(&port),
        }
    }
}

impl<T> Route<T> {
    /// Whether its listen path serves a path. `{name}` in it stands for one segment, `{name:…}` for what matches.
    fn matches(&self, path: &str, strict: bool) -> bool {
        let listen = self.path.as_str();
        let rest = match &self.pattern {
            Some(pattern) => pattern.find(path).map(|found| &path[found.end()..]),
            None => path.strip_prefix(listen),
        };
        let is_edge = |rest: &str| {
            !strict || listen.ends_with('/') || rest.is_empty() || rest.starts_with('/')
        };
        rest.is_some_and(is_edge)
    }
}

/// The host of a request, without its port.
pub fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = named.or_else(|| uri.authority().map(|authority| authority.as_str()))?;
    let host = host.rsplit('@').next().unwrap_or(host);
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => Some(&host[..colon]),
        _ => Some(host),
    }
}

/// How long a listen path counts: segments that stand for any do not.
fn length(path: &str) -> usize {
    let is_literal = |segment: &&str| !segment.starts_with('{');
    path.split('/')
        .filter(is_literal)
        .map(|segment| segment.len() + 1)
        .sum()
}

/// What paths begin with that a listen path with names serves; `None` where it has none.
pub(crate) fn pattern(listen: &ListenPath) -> Result<Option<Regex>, regex::Error> {
    let mut pattern = "^".to_owned();
    let mut rest = listen.as_str();
    if !rest.contains('{') {
        return Ok(None);
    }
    while let Some((literal, behind)) = rest.split_once('{') {
        pattern.push_str(&regex::escape(literal));
        let end = closing_brace(behind).unwrap_or(behind.len());
        let (name, behind) = behind.split_at(end);
        let constraint = name.split_once(':').map(|(_, constraint)| constraint);
        pattern.push_str(&format!("(?:{})", constraint.unwrap_or("[^/]+")));
        rest = behind.strip_prefix('}').unwrap_or_default();
    }
    pattern.push_str(&regex::escape(rest));
    Regex::new(&pattern).map(Some)
}

/// Where the brace is that closes the one before `text`.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.bytes().position(|byte| {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return true,
            b'}' => depth -= 1,
            _ => {}
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(strict: bool, paths: &[(&str, &str)]) -> Routes<String> {
        let mut routes = Routes::new(strict);
        for (host, path) in paths {
            let host_name = (!host.is_empty()).then(|| (*host).to_owned());
            let clean = ListenPath::clean(path).expect("a path");
            routes.add(host_name, clean, format!("{host}{path}"));
        }
        routes
    }

    #[track_caller]
    fn check(routes: &Routes<String>, host: &str, path: &str, serves: Option<&str>) {
        let found = routes
            .find(Some(host), path)
            .map(|(serves, _)| serves.as_str());
        assert_eq!(found, serves, "{host} {path}");
    }

    #[test]
    fn the_longest_listen_path_serves() {
        let routes = routes(false, &[("", "/a/"), ("", "/a/b/"), ("", "/c")]);
        check(&routes, "h", "/a/x", Some("/a/"));
        check(&routes, "h", "/a/b/x", Some("/a/b/"));
        check(&routes, "h", "/a", None);
        check(&routes, "h", "/cat", Some("/c"));
    }

    #[test]
    fn strict_routes_end_with_a_segment_and_let_shorter_ones_serve() {
        let routes = routes(true, &[("", "/app"), ("", "/")]);
        check(&routes, "h", "/app", Some("/app"));
        check(&routes, "h", "/app/x", Some("/app"));
        check(&routes, "h", "/apple", Some("/"));
    }

    #[test]
    fn a_host_goes_before_a_path() {
        let routes = routes(false, &[("", "/a/b/"), ("x.example", "/a/")]);
        check(&routes, "X.Example", "/a/b/c", Some("x.example/a/"));
        check(&routes, "y.example", "/a/b/c", Some("/a/b/"));
    }

    #[test]
    fn a_port_has_routes_of_its_own() {
        let mut routes = PortRoutes::new(false, [9000]);
        for (port, serves) in [(None, "gateway"), (Some(9000), "own"), (Some(1), "none")] {
            let path = ListenPath::clean("/a/").expect("a path");
            if let Some(routes) = routes.at_mut(port) {
                routes.add(None, path, serves);
            }
        }
        let found = |port| Some(*routes.at(port)?.find(None, "/a/x")?.0);
        assert_eq!(found(None), Some("gateway"));
        assert_eq!(found(Some(9000)), Some("own"));
        assert_eq!(found(Some(1)), None);
    }

    #[test]
    fn a_segment_may_be_any() {
        let routes = routes(false, &[("", "/org/{id}/"), ("", "/org/")]);
        check(&routes, "h", "/org/7/x", Some("/org/{id}/"));
        check(&routes, "h", "/org/7", Some("/org/"));
        check(&routes, "h", "/org//x", Some("/org/"));
    }

    #[test]
    fn a_segment_may_have_to_match() {
        let paths = [("", "/n/{n:[0-9]{2}}/"), ("", "/b/{n:[}/"), ("", "/")];
        let routes = routes(false, &paths);
        check(&routes, "h", "/n/12/x", Some("/n/{n:[0-9]{2}}/"));
        check(&routes, "h", "/n/1/x", Some("/"));
        check(&routes, "h", "/n/ab/x", Some("/"));
        check(&routes, "h", "/b/[/x", Some("/"));
    }

    #[test]
    fn a_port_is_no_part_of_a_host() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, text.parse().expect("a value"));
            host(&headers, &Uri::default()).map(str::to_owned)
        };
        assert_eq!(of("a.example:80").as_deref(), Some("a.example"));
        assert_eq!(of("[::1]:80").as_deref(), Some("[::1]"));
        assert_eq!(of("[::1]").as_deref(), Some("[::1]"));
    }
}
