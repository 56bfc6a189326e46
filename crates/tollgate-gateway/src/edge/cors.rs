//! Which pages of other sites may call: the `CORS` section, by the rules of the Fetch standard.
//!
//! A preflight, an `OPTIONS` with `Access-Control-Request-Method`, is answered here with 204 and goes no
//! further, unless `options_passthrough` sends every `OPTIONS` to the upstream, past all gates. Any other
//! request goes on, and whatever the answer is has the headers that let a page read it. What is not
//! allowed is not refused: without these headers the browser keeps the answer from the page.
//!
//! The decisions are those of Go's `rs/cors`, which Tyk uses, and not those of tower-http's `CorsLayer`:
//! that one takes every `OPTIONS` for a preflight and does not know patterns of origins.
//!
//! # Differences from Tyk
//!
//! Where every origin is allowed, `Access-Control-Allow-Credentials` is not sent: browsers refuse both
//! together. An upstream's own word on origins and credentials is dropped also where the origin is not
//! allowed, so that an upstream opens nothing that was closed here.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        ORIGIN, VARY,
    },
};

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// The section, compiled.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// Which origins may call.
    pub origins: Origins,
    /// By which methods, as they are written.
    pub methods: Vec<String>,
    /// With which headers; none is any.
    pub headers: Option<Vec<HeaderName>>,
    /// Which headers of answers a page may read.
    pub exposed: Option<HeaderValue>,
    /// Whether cookies and credentials may be sent. Not looked at where any origin may call.
    pub credentials: bool,
    /// How long a browser remembers the answer to a preflight, in seconds.
    pub max_age: Option<HeaderValue>,
    /// Whether every `OPTIONS` goes to the upstream.
    pub passes_options: bool,
    /// Whether decisions are logged.
    pub debug: bool,
}

/// Origins that may call.
#[derive(Clone, Debug, Default)]
pub enum Origins {
    /// All.
    #[default]
    Any,
    /// Those that one of these is for.
    Some(Vec<OriginPattern>),
}

/// An origin in small letters, or what stands around the `*` in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OriginPattern {
    start: String,
    /// None is an origin as it is.
    end: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// It goes the way of all requests.
    On,
    /// It is answered here.
    Answered,
    /// It goes to the upstream, past everything.
    Past,
}

/// What was decided about a request, for the headers of its answer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What becomes of the request.
    pub way: Way,
    is_preflight: bool,
    granted: Option<Granted>,
    rules: Arc<Cors>,
}

#[derive(Clone, Debug)]
struct Granted {
    origin: HeaderValue,
    /// Of a preflight.
    method: Option<HeaderValue>,
    headers: Option<HeaderValue>,
}

impl Origins {
    /// Those that are written so. None, or one that is `*`, are all.
    pub fn new(origins: &[String]) -> Self {
        if origins.is_empty() || origins.iter().any(|origin| origin == "*") {
            return Self::Any;
        }
        Self::Some(
            origins
                .iter()
                .map(|text| OriginPattern::new(text))
                .collect(),
        )
    }

    fn hold(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Some(patterns) => origin.to_str().is_ok_and(|origin| {
                let origin = origin.to_ascii_lowercase();
                patterns.iter().any(|pattern| pattern.matches(&origin))
            }),
        }
    }
}

impl OriginPattern {
    fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.split_once('*') {
            Some((start, end)) => Self {
                start: start.to_owned(),
                end: Some(end.to_owned()),
            },
            None => Self {
                start: text,
                end: None,
            },
        }
    }

    fn matches(&self, origin: &str) -> bool {
        match &self.end {
            None => origin == self.start,
            Some(end) => origin
                .strip_prefix(self.start.as_str())
                .is_some_and(|rest| rest.ends_with(end.as_str())),
        }
    }
}

impl Cors {
    /// Decides about a request, by its own head.
    pub fn ask(self: &Arc<Self>, method: &Method, headers: &HeaderMap) -> Asked {
        let is_options = method == Method::OPTIONS;
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD);
        let wanted = wanted.filter(|wanted| is_options && !wanted.is_empty());
        let way = match wanted {
            _ if is_options && self.passes_options => Way::Past,
            Some(_) => Way::Answered,
            None => Way::On,
        };
        let granted = match wanted {
            Some(wanted) => self.preflight(wanted, headers),
            None => self.actual(method, headers),
        };
        if self.debug {
            let (origin, granted) = (headers.get(ORIGIN), granted.is_some());
            tracing::info!(?origin, %method, ?way, granted, "CORS");
        }
        Asked {
            way,
            is_preflight: wanted.is_some(),
            granted,
            rules: self.clone(),
        }
    }

    fn preflight(&self, wanted: &HeaderValue, headers: &HeaderMap) -> Option<Granted> {
        let origin = self.origin(headers)?;
        if !self.allows_method(wanted.to_str().ok()?) {
            return None;
        }
        let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if !asked.is_none_or(|asked| self.allows_headers(asked)) {
            return None;
        }
        Some(Granted {
            origin,
            method: Some(wanted.clone()),
            headers: asked.filter(|asked| !asked.is_empty()).cloned(),
        })
    }

    fn actual(&self, method: &Method, headers: &HeaderMap) -> Option<Granted> {
        let origin = self.origin(headers)?;
        self.allows_method(method.as_str()).then_some(Granted {
            origin,
            method: None,
            headers: None,
        })
    }

    /// What is answered to the origin of a request; none where there is none, or it may not call.
    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN).filter(|origin| !origin.is_empty())?;
        match &self.origins {
            Origins::Any => Some(ANY),
            some => some.hold(origin).then(|| origin.clone()),
        }
    }

    fn allows_method(&self, method: &str) -> bool {
        method == Method::OPTIONS.as_str() || self.methods.iter().any(|allowed| allowed == method)
    }

    fn allows_headers(&self, asked: &HeaderValue) -> bool {
        let Some(allowed) = &self.headers else {
            return true;
        };
        let Ok(asked) = asked.to_str() else {
            return false;
        };
        let mut names = asked.split(',').map(str::trim);
        names.all(|name| {
            name.is_empty()
                || allowed
                    .iter()
                    .any(|allowed| name.eq_ignore_ascii_case(allowed.as_str()))
        })
    }

    fn sends_credentials(&self) -> bool {
        self.credentials && !matches!(self.origins, Origins::Any)
    }
}

impl Asked {
    /// Writes the headers of the answer, whoever made it.
    pub fn write(self, headers: &mut HeaderMap) {
        let by_upstream = self.way == Way::Past && self.granted.is_none();
        if !by_upstream {
            headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
            headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        }
        headers.append(VARY, ORIGIN.into());
        if self.is_preflight {
            headers.append(VARY, ACCESS_CONTROL_REQUEST_METHOD.into());
            headers.append(VARY, ACCESS_CONTROL_REQUEST_HEADERS.into());
        }
        let Some(granted) = self.granted else {
            return;
        };
        let rules = &*self.rules;
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, granted.origin);
        if rules.sends_credentials() {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
        let of_preflight =
            |value: &Option<HeaderValue>| value.clone().filter(|_| self.is_preflight);
        let exposed = rules.exposed.clone().filter(|_| !self.is_preflight);
        let values = [
            (ACCESS_CONTROL_ALLOW_METHODS, granted.method),
            (ACCESS_CONTROL_ALLOW_HEADERS, granted.headers),
            (ACCESS_CONTROL_MAX_AGE, of_preflight(&rules.max_age)),
            (ACCESS_CONTROL_EXPOSE_HEADERS, exposed),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(origins: &[&str]) -> Cors {
        let origins: Vec<_> = origins.iter().map(|text| (*text).to_owned()).collect();
        Cors {
            origins: Origins::new(&origins),
            methods: vec!["GET".into(), "PUT".into()],
            headers: Some(vec![HeaderName::from_static("x-a")]),
            exposed: Some(HeaderValue::from_static("X-Left")),
            credentials: true,
            max_age: Some(HeaderValue::from_static("60")),
            ..Cors::default()
        }
    }

    /// What is decided, and the headers that are written.
    #[track_caller]
    fn check(rules: &Cors, request: &str, way: Way, expected: &[&str]) {
        let mut words = request.split(' ');
        let method: Method = words.next().unwrap_or_default().parse().expect("a method");
        let mut headers = HeaderMap::new();
        for word in words {
            let (name, value) = word.split_once('=').expect("a header");
            let name = match name {
                "origin" => ORIGIN,
                "method" => ACCESS_CONTROL_REQUEST_METHOD,
                _ => ACCESS_CONTROL_REQUEST_HEADERS,
            };
            headers.insert(name, value.parse().expect("a value"));
        }
        let asked = Arc::new(rules.clone()).ask(&method, &headers);
        assert_eq!(asked.way, way, "{request}");
        let mut answer = HeaderMap::new();
        answer.insert(
            ACCESS_CONTROL_ALLOW_ORIGIN,
            "http://of.upstream".parse().expect("a value"),
        );
        asked.write(&mut answer);
        answer.remove(VARY);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            let name = name.as_str().trim_start_matches("access-control-");
            format!("{name}={}", value.to_str().expect("text"))
        };
        let mut found: Vec<_> = answer.iter().map(text).collect();
        found.sort();
        assert_eq!(found, expected, "{request}");
    }

    #[test]
    fn a_preflight_is_answered_with_what_it_asked_for() {
        let some = rules(&["http://a.test", "https://*.b.test"]);
        let granted = |origin: &str| {
            [
                "allow-credentials=true".to_owned(),
                "allow-methods=PUT".to_owned(),
                format!("allow-origin={origin}"),
                "max-age=60".to_owned(),
            ]
        };
        for origin in ["http://a.test", "https://www.b.test", "HTTPS://X.B.TEST"] {
            let expected = granted(origin);
            let expected: Vec<_> = expected.iter().map(String::as_str).collect();
            let request = format!("OPTIONS origin={origin} method=PUT");
            check(&some, &request, Way::Answered, &expected);
        }
        for request in [
            "OPTIONS origin=http://c.test method=PUT",
            "OPTIONS origin=https://b.test.evil method=PUT",
            "OPTIONS origin=https://.b.tes method=PUT",
            "OPTIONS origin=http://a.test method=DELETE",
            "OPTIONS origin=http://a.test method=put",
            "OPTIONS origin=http://a.test method=PUT headers=x-a,x-b",
            "OPTIONS method=PUT",
        ] {
            check(&some, request, Way::Answered, &[]);
        }
    }

    #[test]
    fn asked_headers_are_granted_as_they_were_asked_for() {
        let some = rules(&["http://a.test"]);
        let expected = [
            "allow-credentials=true",
            "allow-headers=X-A",
            "allow-methods=GET",
            "allow-origin=http://a.test",
            "max-age=60",
        ];
        let request = "OPTIONS origin=http://a.test method=GET headers=X-A";
        check(&some, request, Way::Answered, &expected);
    }

    #[test]
    fn an_answer_may_be_read_by_pages_that_may_call() {
        let some = rules(&["http://a.test"]);
        let expected = [
            "allow-credentials=true",
            "allow-origin=http://a.test",
            "expose-headers=X-Left",
        ];
        check(&some, "GET origin=http://a.test", Way::On, &expected);
        check(&some, "OPTIONS origin=http://a.test", Way::On, &expected);
        check(&some, "GET origin=http://b.test", Way::On, &[]);
        check(&some, "DELETE origin=http://a.test", Way::On, &[]);
        check(&some, "GET", Way::On, &[]);
    }

    #[test]
    fn every_origin_is_never_allowed_with_credentials() {
        for any in [rules(&[]), rules(&["http://a.test", "*"])] {
            let expected = ["allow-origin=*", "expose-headers=X-Left"];
            check(&any, "GET origin=http://evil.test", Way::On, &expected);
        }
    }

    #[test]
    fn options_pass_where_that_is_asked() {
        let passing = Cors {
            passes_options: true,
            ..rules(&["http://a.test"])
        };
        let of_upstream = ["allow-origin=http://of.upstream"];
        check(
            &passing,
            "OPTIONS origin=http://b.test",
            Way::Past,
            &of_upstream,
        );
        check(&passing, "GET origin=http://b.test", Way::On, &[]);
    }
}
