//! URLs of the upstream in headers of its answers, as `Location`, that become the gateway's own.
//!
//! Only URLs with the target's scheme and host are changed; relative ones and those of others stay. Tyk
//! exchanges the texts wherever they occur.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri, request::Parts};
use tollgate::{
    access::RequestPath,
    gate::{Departure, Gate, Step},
    visit::Visit,
};

use super::is_own_answer;

/// What stands at either end of a URL in a text.
const AROUND: &[char] = &[' ', '<', '>', '"', '\'', '(', ')', ',', ';', '='];

/// Changes URLs in headers of answers.
#[derive(Clone, Debug)]
pub struct PublicUrlGate {
    /// In which headers, the first of each name, and how, in order.
    pub headers: Arc<[(HeaderName, PublicUrls)]>,
    /// What the API is served below, where requests are matched.
    pub listen: Arc<str>,
}

/// Which URLs become which.
#[derive(Clone, Debug)]
pub struct PublicUrls {
    target: String,    // Scheme and host, in lower case, as `http://10.0.0.1:80`.
    base: String,      // The target's path; may be empty.
    public: String,    // What the scheme and host become.
    below: String,     // The listen path as it is written.
    is_stripped: bool, // Whether requests lose it.
}

impl PublicUrls {
    /// URLs of `target` become ones of `public`; its path becomes `listen_path`, or a slash where
    /// requests keep that.
    ///
    /// # Errors
    ///
    /// Fails, with what is wrong, where one of them is no absolute URL.
    pub fn new(
        target: &str,
        public: &str,
        listen_path: &str,
        is_stripped: bool,
    ) -> Result<Self, String> {
        let (target, base) = origin(target)?;
        let (public, _) = origin(public)?;
        Ok(Self {
            target: target.to_ascii_lowercase(),
            base,
            public,
            below: listen_path.to_owned(),
            is_stripped,
        })
    }

    /// The text with its URLs changed, for an answer to a request of this path below the listen path;
    /// `None` where there are none.
    fn change(&self, text: &str, asked: &str) -> Option<String> {
        let lower = text.to_ascii_lowercase();
        let mut changed = String::new();
        let mut done = 0;
        for (at, _) in lower.match_indices(&self.target) {
            let end = at + self.target.len();
            let is_begin = text[..at]
                .chars()
                .next_back()
                .is_none_or(|before| AROUND.contains(&before));
            if !is_begin || !text[end..].chars().next().is_none_or(ends_part) {
                continue;
            }
            changed.push_str(&text[done..at]);
            changed.push_str(&self.public);
            done = end;
            let (cut, path) = self.path(&text[end..], asked);
            changed.push_str(path);
            done += cut;
        }
        (done > 0).then(|| changed + &text[done..])
    }

    /// How much of a URL behind its host goes, and what takes its place. As Tyk joins them, which may
    /// leave two slashes.
    fn path<'a>(&'a self, path: &str, asked: &str) -> (usize, &'a str) {
        let begin = match self.base.as_str() {
            "" if asked == "/" || !self.is_stripped => return (0, ""),
            "" => asked,
            base => base,
        };
        let Some(behind) = path.strip_prefix(begin) else {
            return (0, "");
        };
        if !begin.ends_with('/') && !behind.chars().next().is_none_or(ends_part) {
            return (0, "");
        }
        (
            self.base.len(),
            if self.is_stripped { &self.below } else { "/" },
        )
    }
}

/// Whether a host or segment ends before this.
fn ends_part(next: char) -> bool {
    AROUND.contains(&next) || matches!(next, '/' | '?' | '#')
}

/// Scheme and host, and the path, which is empty where there is none.
fn origin(url: &str) -> Result<(String, String), String> {
    let wrong = || format!("`{url}`: expected an absolute URL, as `https://public.example`");
    let parsed: Uri = url.parse().map_err(|_| wrong())?;
    let (scheme, authority) = parsed
        .scheme_str()
        .zip(parsed.authority())
        .ok_or_else(wrong)?;
    let origin = format!("{scheme}://{authority}");
    let behind = &url[origin.len()..];
    let path = behind.split(['?', '#']).next().unwrap_or_default();
    Ok((origin, path.to_owned()))
}

/// The path of a request below the listen path, for its answer.
#[derive(Clone)]
struct Asked(String);

impl Gate for PublicUrlGate {
    fn name(&self) -> &'static str {
        "public URLs"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        let asked = RequestPath::of(head.uri.path(), Some(&self.listen));
        let asked = asked.map(|path| Asked(path.behind_listen_path().to_owned()));
        asked
            .map(|asked| drop(visit.notes_mut().insert(asked)))
            .into()
    }

    fn depart(&self, visit: &Visit, response: &mut Departure<'_>) {
        let is_ours = is_own_answer(response.extensions);
        let Some(Asked(path)) = visit.notes().get::<Asked>().filter(|_| !is_ours) else {
            return;
        };
        for (name, urls) in &*self.headers {
            let value = response.headers.get(name);
            let text = value.and_then(|value| value.to_str().ok());
            let changed = text.and_then(|text| urls.change(text, path));
            // What was a value is one with another host and path.
            if let Some(Ok(value)) = changed.map(HeaderValue::try_from) {
                response.headers.insert(name.clone(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check((target, is_stripped): (&str, bool), asked: &str, text: &str, changed: Option<&str>) {
        let urls = PublicUrls::new(target, "https://public.example", "/app/", is_stripped);
        let urls = urls.expect("are absolute");
        assert_eq!(
            urls.change(text, asked).as_deref(),
            changed,
            "{target} {text}"
        );
    }

    #[test]
    fn urls_of_the_target_become_public() {
        let up = ("http://up:80", true);
        check(
            up,
            "/x",
            "http://up:80/next?a=1",
            Some("https://public.example/next?a=1"),
        );
        check(up, "/x", "http://UP:80", Some("https://public.example"));
        check(
            up,
            "/x",
            "http://up:80/x/next",
            Some("https://public.example/app//x/next"),
        );
        check(
            up,
            "/x",
            "http://up:80/xylo",
            Some("https://public.example/xylo"),
        );
        check(
            up,
            "/",
            "http://up:80/next",
            Some("https://public.example/next"),
        );
        let links = "<http://up:80/a>; rel=next, <http://up:80/b>; rel=last";
        let public = "<https://public.example/a>; rel=next, <https://public.example/b>; rel=last";
        check(up, "/x", links, Some(public));
    }

    #[test]
    fn the_path_of_the_target_becomes_the_listen_path() {
        let up = ("http://up/base", true);
        check(
            up,
            "/x",
            "http://up/base/next",
            Some("https://public.example/app//next"),
        );
        check(
            up,
            "/x",
            "http://up/based",
            Some("https://public.example/based"),
        );
        let kept = ("http://up/base", false);
        check(
            kept,
            "/x",
            "http://up/base/next",
            Some("https://public.example//next"),
        );
        check(
            ("http://up/", true),
            "/x",
            "http://up/next",
            Some("https://public.example/app/next"),
        );
        check(
            ("http://up", false),
            "/x",
            "http://up/x",
            Some("https://public.example/x"),
        );
    }

    #[test]
    fn urls_of_others_stay() {
        let up = ("http://up", true);
        check(up, "/x", "/x/next", None);
        check(up, "/x", "http://elsewhere.test/a", None);
        check(up, "/x", "https://up/a", None);
        check(up, "/x", "http://up.test/a", None);
        check(up, "/x", "http://up:81/a", None);
        check(up, "/x", "http://up@elsewhere.test/a", None);
        check(up, "/x", "xhttp://up/a", None);
    }

    #[test]
    fn what_is_no_absolute_url_is_refused() {
        for public in ["", "public.example", "/public"] {
            assert!(
                PublicUrls::new("http://up", public, "/", true).is_err(),
                "{public}"
            );
        }
    }
}
