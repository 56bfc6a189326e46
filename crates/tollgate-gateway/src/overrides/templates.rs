//! Templates of refusals: the files `error*.json` and `error*.xml` of `template_path`.
//!
//! As in Tyk, a refusal takes `error_401.json` for its status, else `error.json`; where the request's content
//! type is XML, the same with `.xml`, else `error.json` again. A template knows `.Message`, which is escaped
//! for what it stands in, between quotes in JSON, and `.StatusCode`. What it can not do is answered in the
//! usual form. Rules of `error_overrides` may name any of them, with its ending or without.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE, request::Parts};
use serde_json::json;
use tollgate::{
    Refusals, Rejection,
    refusal::{json_text, xml_text},
};
use tollgate_template::{Limits, Options, Template};

use crate::{load::check_place, problem::Problem};

/// The longest template, and the longest answer that one writes, in bytes.
const LONGEST: usize = 256 * 1024;

/// The templates of a folder, by the names of their files.
#[derive(Default)]
pub struct Templates(BTreeMap<String, Source>);

struct Source {
    file: PathBuf,
    template: Template,
}

impl Templates {
    /// Reads a folder; an empty path is none. The problems tell of files that are not used.
    pub fn read(folder: &Path) -> (Self, Vec<Problem>) {
        let (mut templates, mut problems) = (Self::default(), Vec::new());
        if folder.as_os_str().is_empty() {
            return (templates, problems);
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(err) => {
                let message = format!("can not be read, so refusals have their usual form: {err}");
                problems.push(Problem::warning(folder, message));
                return (templates, problems);
            }
        };
        for file in entries.flatten().map(|entry| entry.path()) {
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            let is_ours = name.ends_with(".json") || name.ends_with(".xml");
            if !name.starts_with("error") || !is_ours {
                continue;
            }
            match parse(name, &file) {
                Ok(template) => {
                    let source = Source {
                        file: file.clone(),
                        template,
                    };
                    templates.0.insert(name.to_owned(), source);
                }
                Err(message) => {
                    problems.push(Problem::warning(&file, format!("not used: {message}")));
                }
            }
        }
        (templates, problems)
    }

    /// Where they were read from.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.0.values().map(|source| source.file.clone())
    }

    /// Refusals in the form of these, or of `base` where there is none.
    pub(crate) fn over(self: &Arc<Self>, base: Refusals) -> Refusals {
        if self.0.is_empty() {
            return base;
        }
        let templates = self.clone();
        let inner = base.clone();
        let render =
            move |rejection: &Rejection, head: &Parts| templates.render(&inner, rejection, head);
        // The inner form has set these where they are wanted.
        Refusals::custom(render)
            .without_challenge()
            .without_retry_after()
    }

    fn render(&self, base: &Refusals, rejection: &Rejection, head: &Parts) -> Response<Bytes> {
        let mut response = base.render(rejection, head);
        if response.headers().contains_key("grpc-status") {
            return response;
        }
        let is_xml = is_xml(&response);
        let status = rejection.status().as_u16();
        let of_xml = is_xml.then(|| self.find(status, "xml")).flatten();
        let found = of_xml.or_else(|| match is_xml {
            true => self.0.get("error.json"),
            false => self.find(status, "json"),
        });
        let Some(source) = found else {
            return response;
        };
        source.fill(&mut response, rejection.message(), status);
        response
    }

    /// Whether a rule may name this one.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named(name, "json")
            .or_else(|| self.named(name, "xml"))
            .is_some()
    }

    /// Fills an answer by the template of this name, where the answer's content type is XML by that with
    /// `.xml`, if there is one.
    pub(super) fn fill(
        &self,
        name: &str,
        response: &mut Response<Bytes>,
        message: &str,
        status: u16,
    ) {
        let endings = match is_xml(response) {
            true => ["xml", "json"],
            false => ["json", "xml"],
        };
        let mut found = endings.iter().filter_map(|ending| self.named(name, ending));
        if let Some(source) = found.next() {
            source.fill(response, message, status);
        }
    }

    fn named(&self, name: &str, ending: &str) -> Option<&Source> {
        let whole = self.0.get(name);
        whole.or_else(|| self.0.get(&format!("{name}.{ending}")))
    }

    fn find(&self, status: u16, ending: &str) -> Option<&Source> {
        let of_status = self.0.get(&format!("error_{status}.{ending}"));
        of_status.or_else(|| self.0.get(&format!("error.{ending}")))
    }
}

impl Source {
    /// Makes the body that of the template; where it fails, it stays.
    fn fill(&self, response: &mut Response<Bytes>, message: &str, status: u16) {
        let writes_xml = self.file.extension().is_some_and(|ending| ending == "xml");
        let message = if writes_xml {
            xml_text(message)
        } else {
            json_text(message)
        };
        let data = json!({"Message": message, "StatusCode": status});
        match self.template.render(&data) {
            Ok(body) => {
                *response.body_mut() = body.into();
                if is_xml(response) != writes_xml {
                    let kind = if writes_xml {
                        "application/xml"
                    } else {
                        "application/json"
                    };
                    let kind = HeaderValue::from_static(kind);
                    response.headers_mut().insert(CONTENT_TYPE, kind);
                }
            }
            Err(error) => {
                tracing::warn!(%error, file = %self.file.display(), "a refusal in its usual form");
            }
        }
    }
}

fn is_xml(response: &Response<Bytes>) -> bool {
    let kind = response.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().ends_with(b"xml"))
}

fn parse(name: &str, file: &Path) -> Result<Template, String> {
    check_place(file).map_err(|problem| problem.message)?;
    let text = fs::read(file).map_err(|err| err.to_string())?;
    if text.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    let limits = Limits {
        output: LONGEST,
        memory: 4 * LONGEST,
        steps: 10_000,
        ..Limits::default()
    };
    let parsed = Options::new().with_limits(limits).parse(name, text);
    parsed.map_err(|err| err.to_string())
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], kind: Option<&str>, expected: (&str, &str)) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let (templates, problems) = Templates::read(folder.path());
        assert!(problems.is_empty(), "{problems:?}");
        let refusals = Arc::new(templates).over(Refusals::tyk().without_challenge());
        let mut request = Request::new(());
        if let Some(kind) = kind {
            let kind = HeaderValue::try_from(kind).unwrap();
            request.headers_mut().insert(CONTENT_TYPE, kind);
        }
        let (head, ()) = request.into_parts();
        let rejection = Rejection::custom("x", http::StatusCode::FORBIDDEN, "it's \"no\" & <no>");
        let response = refusals.render(&rejection, &head);
        let body = std::str::from_utf8(response.body()).unwrap();
        let kind = response.headers()[CONTENT_TYPE].to_str().unwrap();
        assert_eq!((kind, body), expected);
        assert_eq!(response.status(), 403);
        assert!(response.extensions().get::<Rejection>().is_some());
    }

    #[test]
    fn the_template_of_the_status_comes_before_that_of_all() {
        const ALL: (&str, &str) = ("error.json", r#"{"all": "{{.Message}}"}"#);
        const OWN: (&str, &str) = ("error_403.json", "{{.StatusCode}}: {{.Message}}");
        const XML: (&str, &str) = ("error.xml", "<e>{{.Message}}</e>");
        let json = |text: &'static str| ("application/json", text);
        check(
            &[ALL],
            None,
            json(r#"{"all": "it's \"no\" \u0026 \u003Cno\u003E"}"#),
        );
        check(
            &[ALL, OWN],
            None,
            json(r#"403: it's \"no\" \u0026 \u003Cno\u003E"#),
        );
        check(
            &[ALL, OWN],
            Some("text/xml"),
            json(r#"{"all": "it's \"no\" \u0026 \u003Cno\u003E"}"#),
        );
        let escaped = "<e>it&#39;s &#34;no&#34; &amp; &lt;no&gt;</e>";
        check(&[ALL, OWN, XML], Some("text/xml"), ("text/xml", escaped));
        check(
            &[XML],
            None,
            json("{\n    \"error\": \"it's \\\"no\\\" \\u0026 \\u003Cno\\u003E\"\n}"),
        );
    }

    #[test]
    fn what_can_not_be_used_is_told_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("error.json"), "{{.Message").unwrap();
        fs::write(folder.path().join("other.json"), "{{").unwrap();
        let (templates, problems) = Templates::read(folder.path());
        assert_eq!(templates.files().count(), 0);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let (_, problems) = Templates::read(&folder.path().join("none"));
        assert!(
            problems[0].message.contains("can not be read"),
            "{problems:?}"
        );
    }
}
