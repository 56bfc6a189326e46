//! Rules of `error_overrides`, compiled: how refusals are answered otherwise.
//!
//! The API's rules come before those of the configuration, an exact status before its class, and of the
//! rules there the first that matches counts. Calls by gRPC are answered as gRPC has it, whatever the rules.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use regex::Regex;
use tollgate::{
    Refusals, Rejection,
    refusal::{json_text, xml_text},
};

use super::{ErrorOverride, ErrorOverrides, Templates, field::Field};
use crate::problem::last_line;

/// Refusals in the form of `base`, but for what the rules say. The API's come first.
///
/// # Errors
///
/// Fails with a rule that can not be followed.
pub(crate) fn refusals(
    base: Refusals,
    templates: &Arc<Templates>,
    of_api: Option<&ErrorOverrides>,
    of_all: &ErrorOverrides,
) -> Result<Refusals, String> {
    let sets = compile(templates, of_api, of_all)?;
    if sets.is_empty() {
        return Ok(base);
    }
    let inner = base.clone();
    let render = move |rejection: &Rejection, head: &Parts| render(&inner, &sets, rejection, head);
    // The inner form has set these where they are wanted.
    Ok(Refusals::custom(render)
        .without_challenge()
        .without_retry_after())
}

/// The rules of both; the API's come first.
pub(super) fn compile(
    templates: &Arc<Templates>,
    of_api: Option<&ErrorOverrides>,
    of_all: &ErrorOverrides,
) -> Result<Arc<[Rules]>, String> {
    let sets = of_api.into_iter().chain([of_all]);
    let sets = sets.filter(|set| !set.is_empty());
    sets.map(|set| Rules::compile(set, templates)).collect()
}

fn render(base: &Refusals, sets: &[Rules], rejection: &Rejection, head: &Parts) -> Response<Bytes> {
    let response = base.render(rejection, head);
    if response.headers().contains_key("grpc-status") {
        return response;
    }
    match sets.iter().find_map(|rules| rules.find(rejection)) {
        Some(rule) => rule.answer(base, response, rejection, head),
        None => response,
    }
}

/// Rules by status, and by its first digit.
pub(super) struct Rules(BTreeMap<Statuses, Vec<Rule>>);

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Statuses {
    One(u16),
    /// `4xx` is 4.
    Class(u16),
}

impl Rules {
    fn compile(overrides: &ErrorOverrides, templates: &Arc<Templates>) -> Result<Self, String> {
        let compile = |(code, rules): (&String, &Vec<ErrorOverride>)| {
            let wrong = |message| format!("`{code}`: {message}");
            let statuses = statuses(code).ok_or_else(|| wrong("is no status".into()))?;
            let rules: Result<_, String> = rules
                .iter()
                .map(|rule| Rule::compile(rule, templates))
                .collect();
            Ok((statuses, rules.map_err(wrong)?))
        };
        let rules = overrides.iter().map(compile);
        Ok(Self(rules.collect::<Result<_, String>>()?))
    }

    fn find(&self, rejection: &Rejection) -> Option<&Rule> {
        let mut rules = self.of(rejection.status());
        rules.find(|rule| rule.matches(rejection))
    }

    /// Those of a status, in the order in which they are looked at.
    pub(super) fn of(&self, status: StatusCode) -> impl Iterator<Item = &Rule> {
        let status = status.as_u16();
        let keys = [Statuses::One(status), Statuses::Class(status / 100)];
        keys.into_iter()
            .filter_map(|key| self.0.get(&key))
            .flatten()
    }
}

fn statuses(code: &str) -> Option<Statuses> {
    let (class, rest) = code.split_at_checked(1)?;
    if rest.eq_ignore_ascii_case("xx") {
        return class.parse().ok().map(Statuses::Class);
    }
    code.parse().ok().map(Statuses::One)
}

/// When another answer is given, and which.
pub(super) struct Rule {
    flag: Option<String>,
    field: Option<Field>,
    pattern: Option<Regex>,
    status: Option<StatusCode>,
    body: Text,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The body of an answer.
enum Text {
    AsWas,
    Literal(Bytes),
    Template {
        parts: Vec<Part>,
        message: String,
    },
    File {
        templates: Arc<Templates>,
        name: String,
        message: String,
    },
    /// In the usual form.
    Message(String),
}

impl Rule {
    fn compile(rule: &ErrorOverride, templates: &Arc<Templates>) -> Result<Self, String> {
        let (matcher, response) = (&rule.matcher, &rule.response);
        let pattern = (!matcher.message_pattern.is_empty())
            .then(|| Regex::new(&matcher.message_pattern))
            .transpose()
            .map_err(|err| last_line(&err))?;
        let body = match response.body.as_str() {
            "" if !response.template.is_empty() => {
                let name = response.template.clone();
                if !templates.has(&name) {
                    return Err(format!("there is no template `{name}` in `template_path`"));
                }
                Text::File {
                    templates: templates.clone(),
                    name,
                    message: response.message.clone(),
                }
            }
            "" if response.message.is_empty() => Text::AsWas,
            "" => Text::Message(response.message.clone()),
            body if body.contains("{{.") => Text::Template {
                parts: parts(body)?,
                message: response.message.clone(),
            },
            body => Text::Literal(body.to_owned().into()),
        };
        let header = |(name, value): (&String, &String)| {
            let wrong = || format!("the header `{name}` can not be sent");
            let value = HeaderValue::try_from(value).map_err(|_| wrong())?;
            Ok((HeaderName::try_from(name).map_err(|_| wrong())?, value))
        };
        let headers = response.headers.iter().map(header);
        Ok(Self {
            flag: Some(matcher.flag.clone()).filter(|flag| !flag.is_empty()),
            field: Field::parse(&matcher.body_field, &matcher.body_value)?,
            pattern,
            status: response
                .status()
                .and_then(|status| StatusCode::from_u16(status).ok()),
            body,
            headers: headers.collect::<Result<_, String>>()?,
        })
    }

    fn matches(&self, rejection: &Rejection) -> bool {
        let is_flag = |flag: &String| flag_of(rejection) == flag || rejection.code() == flag;
        let is_message = |pattern: &Regex| pattern.is_match(rejection.message());
        match (&self.flag, &self.pattern) {
            (None, None) => self.field.is_none(), // A refusal has no field.
            (flag, pattern) => {
                flag.as_ref().is_some_and(is_flag) || pattern.as_ref().is_some_and(is_message)
            }
        }
    }

    /// Whether it may be about an upstream's answer with this status. Flags are about refusals, but for that of
    /// upstreams' own failures.
    pub(super) fn is_of_upstreams(&self, status: StatusCode) -> bool {
        match self.flag.as_deref() {
            None => true,
            Some("URS") => status.is_server_error(),
            Some(_) => false,
        }
    }

    /// Whether it can only be told by the body of an upstream's answer.
    pub(super) fn looks_at_body(&self) -> bool {
        self.flag.is_none() && (self.field.is_some() || self.pattern.is_some())
    }

    /// Whether the body of an upstream's answer is meant.
    pub(super) fn is_of_body(&self, body: &[u8]) -> bool {
        let is_field = |field: &Field| field.is_in(body);
        let is_pattern = |pattern: &Regex| pattern.is_match(&String::from_utf8_lossy(body));
        !self.looks_at_body()
            || self.field.as_ref().is_some_and(is_field)
            || self.pattern.as_ref().is_some_and(is_pattern)
    }

    /// Whether it has a body of its own.
    pub(super) fn replaces_body(&self) -> bool {
        !matches!(self.body, Text::AsWas)
    }

    /// Headers of its own.
    pub(super) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    pub(super) fn answer(
        &self,
        base: &Refusals,
        mut response: Response<Bytes>,
        rejection: &Rejection,
        head: &Parts,
    ) -> Response<Bytes> {
        let status = self.status.unwrap_or(rejection.status());
        match &self.body {
            Text::AsWas => {}
            Text::Literal(body) => *response.body_mut() = body.clone(),
            Text::Message(message) => {
                let said = Rejection::custom("overridden", status, message.clone());
                *response.body_mut() = base.render(&said, head).into_body();
            }
            Text::Template { parts, message } => {
                let kind = response.headers().get(CONTENT_TYPE);
                let is_xml = kind.is_some_and(|kind| kind.as_bytes().ends_with(b"xml"));
                let message = said(message, rejection);
                *response.body_mut() = fill(parts, message, status, is_xml).into();
            }
            Text::File {
                templates,
                name,
                message,
            } => {
                let message = said(message, rejection);
                templates.fill(name, &mut response, message, status.as_u16());
            }
        }
        *response.status_mut() = status;
        for (name, value) in &self.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response
    }
}

/// Tyk's short name of a reason; empty where it has none.
fn flag_of(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::CredentialMissing => "AMF",
        Rejection::CredentialMalformed => "IHD",
        Rejection::KeyUnknown => "AKI",
        Rejection::KeyExpired => "TKE",
        Rejection::KeyInactive => "TKI",
        Rejection::ApiNotGranted | Rejection::PathNotGranted => "EAD",
        Rejection::RateLimited { .. } => "RLT",
        Rejection::QuotaExceeded { .. } => "QEX",
        rejection => match rejection.code() {
            "body_too_large" | "request_too_large" => "BTL",
            "body_refused" => "BIV",
            "breaker_open" => "CBO",
            "timed_out" => "URT",
            "connection_refused" => "UCF",
            "reset" => "URR",
            "lookup_failed" => "DNS",
            "tls" => "TLE",
            _ => "",
        },
    }
}

/// The message of a rule, or else that of the refusal.
fn said<'a>(message: &'a str, rejection: &'a Rejection) -> &'a str {
    match message {
        "" => rejection.message(),
        message => message,
    }
}

enum Part {
    Text(String),
    Message,
    Status,
}

/// A template: text, `{{.Message}}` and `{{.StatusCode}}`.
pub(super) fn check_template(body: &str) -> Result<(), String> {
    if body.contains("{{.") {
        parts(body).map(drop)
    } else {
        Ok(())
    }
}

fn parts(body: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = body;
    while let Some((text, behind)) = rest.split_once("{{") {
        let end = behind.split_once("}}");
        let (action, behind) = end.ok_or("an action of the template is not closed")?;
        parts.push(Part::Text(text.to_owned()));
        parts.push(match action.trim() {
            ".Message" => Part::Message,
            ".StatusCode" => Part::Status,
            other => return Err(format!("the template's `{{{{{other}}}}}` is not built")),
        });
        rest = behind;
    }
    parts.push(Part::Text(rest.to_owned()));
    Ok(parts)
}

fn fill(parts: &[Part], message: &str, status: StatusCode, is_xml: bool) -> String {
    let message = if is_xml {
        xml_text(message)
    } else {
        json_text(message)
    };
    let part = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Message => message.clone(),
        Part::Status => status.as_str().to_owned(),
    };
    parts.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::{Value, json};

    use super::*;

    fn overrides(rules: &Value) -> ErrorOverrides {
        serde_json::from_value(rules.clone()).expect("rules")
    }

    #[track_caller]
    fn check(of_api: Value, of_all: Value, expected: (u16, &str)) {
        let base = Refusals::tyk().without_challenge();
        let refusals = refusals(
            base,
            &Arc::default(),
            Some(&overrides(&of_api)),
            &overrides(&of_all),
        );
        let (head, ()) = Request::new(()).into_parts();
        let response = refusals
            .expect("rules")
            .render(&Rejection::CredentialMissing, &head);
        let body = std::str::from_utf8(response.body()).expect("text");
        assert_eq!(
            (response.status().as_u16(), body),
            expected,
            "{of_api} {of_all}"
        );
        assert!(response.extensions().get::<Rejection>().is_some());
    }

    const USUAL: (u16, &str) = (401, "{\n    \"error\": \"Authorization field missing\"\n}");

    #[test]
    fn the_first_rule_that_matches_counts() {
        let answer = |status: u16, body: &str| json!({"status_code": status, "body": body});
        let by = |matcher: Value, response: Value| json!({"match": matcher, "response": response});
        let none = || json!({});
        check(none(), none(), USUAL);
        check(
            json!({"403": [{"response": answer(418, "no")}]}),
            none(),
            USUAL,
        );
        check(
            json!({"401": [{"response": answer(418, "no")}]}),
            none(),
            (418, "no"),
        );
        check(
            json!({"4xx": [{"response": {"code": 418, "body": "no"}}]}),
            none(),
            (418, "no"),
        );
        check(
            json!({"401": [by(json!({"flag": "AKI"}), answer(418, "no"))]}),
            none(),
            USUAL,
        );
        check(
            json!({"401": [
                by(json!({"flag": "AKI", "message_pattern": "field"}), answer(0, "one")),
                by(json!({"flag": "AMF"}), answer(0, "two"))]}),
            none(),
            (401, "one"),
        );
        check(
            json!({"4xx": [{"response": answer(0, "class")}], "401": [{"response": answer(0, "one")}]}),
            json!({"401": [{"response": answer(0, "all")}]}),
            (401, "one"),
        );
        check(
            json!({"401": [by(json!({"flag": "QEX"}), answer(0, "api"))]}),
            json!({"401": [{"response": answer(0, "all")}]}),
            (401, "all"),
        );
    }

    #[test]
    fn texts_are_literal_or_filled_or_in_the_usual_form() {
        let rule = |response: Value| json!({"401": [{"response": response}]});
        check(
            rule(json!({"message": "go \"away\""})),
            json!({}),
            (401, "{\n    \"error\": \"go \\\"away\\\"\"\n}"),
        );
        check(
            rule(json!({"body": "{{ no }}"})),
            json!({}),
            (401, "{{ no }}"),
        );
        check(
            rule(
                json!({"body": "{\"m\": \"{{.Message}}\", \"s\": {{.StatusCode}}}", "message": "a\"b", "code": 402}),
            ),
            json!({}),
            (402, "{\"m\": \"a\\\"b\", \"s\": 402}"),
        );
        check(rule(json!({"status_code": 402})), json!({}), (402, USUAL.1));
    }

    #[test]
    fn what_can_not_be_followed_is_told() {
        for rules in [
            json!({"4x": [{}]}),
            json!({"401": [{"match": {"message_pattern": "("}}]}),
            json!({"401": [{"response": {"body": "{{.Message | upper}}"}}]}),
            json!({"401": [{"response": {"body": "{{.Message"}}]}),
            json!({"401": [{"response": {"headers": {"a b": "c"}}}]}),
            json!({"401": [{"response": {"template": "error_own"}}]}),
        ] {
            let compiled = refusals(Refusals::tyk(), &Arc::default(), None, &overrides(&rules));
            assert!(compiled.is_err(), "{rules}");
        }
    }

    #[test]
    fn a_template_is_named_with_its_ending_or_without() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            (
                "error_own.json",
                r#"{"own": "{{.Message}}", "s": {{.StatusCode}}}"#,
            ),
            ("error_own.xml", "<own>{{.Message}}</own>"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let (templates, problems) = Templates::read(folder.path());
        assert!(problems.is_empty(), "{problems:?}");
        let templates = Arc::new(templates);
        let ask = |response: Value, kind: &'static str| {
            let rules = overrides(&json!({"401": [{"response": response}]}));
            let base = Refusals::tyk().without_challenge();
            let refusals = refusals(base, &templates, None, &rules).expect("rules");
            let mut request = Request::new(());
            let kind = HeaderValue::from_static(kind);
            request.headers_mut().insert(CONTENT_TYPE, kind);
            let (head, ()) = request.into_parts();
            let response = refusals.render(&Rejection::CredentialMissing, &head);
            let kind = response.headers()[CONTENT_TYPE]
                .to_str()
                .unwrap()
                .to_owned();
            let body = String::from_utf8(response.body().to_vec()).unwrap();
            (response.status().as_u16(), kind, body)
        };
        let told = |status, kind: &str, body: &str| (status, kind.to_owned(), body.to_owned());
        let own = json!({"template": "error_own", "message": "a\"<b", "status_code": 418});
        assert_eq!(
            ask(own.clone(), "application/json"),
            told(
                418,
                "application/json",
                r#"{"own": "a\"\u003Cb", "s": 418}"#
            )
        );
        assert_eq!(
            ask(own, "application/xml"),
            told(418, "application/xml", "<own>a&#34;&lt;b</own>")
        );
        assert_eq!(
            ask(json!({"template": "error_own.xml"}), "application/json"),
            told(
                401,
                "application/xml",
                "<own>Authorization field missing</own>"
            )
        );
        assert_eq!(
            ask(
                json!({"template": "error_own", "body": "first"}),
                "text/plain"
            )
            .2,
            "first"
        );
    }
}
