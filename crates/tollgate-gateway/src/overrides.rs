//! Other answers for refusals and for errors of upstreams: `error_overrides` in the configuration and in a
//! definition, and the templates of `template_path`.

mod answers;
mod field;
mod rules;
mod templates;

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::{
    problem::{JsonPath, Problem, last_line},
    record::record,
};

pub use self::templates::Templates;
pub(crate) use self::{
    answers::{AnswerOverrides, Asked},
    rules::refusals,
};

/// Rules by status: `401`, or `4xx`. An exact status comes before a class.
pub type ErrorOverrides = BTreeMap<String, Vec<ErrorOverride>>;

record! {
    /// Another answer for errors of one status.
    pub struct ErrorOverride {
        /// Which of them. Nothing said: all.
        #[serde(rename = "match")]
        pub matcher: ErrorMatch,
        /// The answer.
        pub response: ErrorResponse,
    }

    /// Which errors are answered otherwise.
    pub struct ErrorMatch {
        /// The code of the reason, as `AMF`; `URS` is a failure that an upstream answered with.
        pub flag: String,
        /// A pattern for the message, or for what an upstream answered.
        pub message_pattern: String,
        /// A place in the JSON that an upstream answered, as `error.code`.
        pub body_field: String,
        /// What stands there.
        pub body_value: String,
    }

    /// The answer in its place.
    pub struct ErrorResponse {
        /// The status. Zero: as it was.
        pub status_code: i64,
        /// Another name of `status_code`.
        pub code: i64,
        /// The body, or a template of it.
        pub body: String,
        /// The message, for templates.
        pub message: String,
        /// The file of a template.
        pub template: String,
        /// Headers.
        pub headers: BTreeMap<String, String>,
    }
}

impl ErrorResponse {
    /// The status, under either name; `None` keeps it as it was.
    pub fn status(&self) -> Option<u16> {
        let code = if self.status_code == 0 {
            self.code
        } else {
            self.status_code
        };
        u16::try_from(code).ok().filter(|code| *code != 0)
    }
}

/// Rules that can not be followed. `path` is where they stand.
pub(crate) fn check(overrides: &ErrorOverrides, path: &JsonPath) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (code, rules) in overrides {
        check_rules(code, rules, &path.key(code), &mut problems);
    }
    problems
}

fn check_rules(code: &str, rules: &[ErrorOverride], path: &JsonPath, problems: &mut Vec<Problem>) {
    let is_code = code.len() == 3
        && code.starts_with(|c: char| ('4'..='5').contains(&c))
        && (code[1..].eq_ignore_ascii_case("xx") || code.bytes().all(|c| c.is_ascii_digit()));
    if !is_code {
        let message = "expected a status as `401`, or `4xx` or `5xx`";
        problems.push(Problem::error("", message).at(path.clone()));
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        if let Err(err) = regex::Regex::new(&rule.matcher.message_pattern) {
            let at = path.key("match").key("message_pattern");
            problems
                .push(Problem::error("", format!("can not be used: {}", last_line(&err))).at(at));
        }
        let matcher = &rule.matcher;
        if let Err(message) = field::Field::parse(&matcher.body_field, &matcher.body_value) {
            let at = path.key("match").key("body_field");
            problems.push(Problem::error("", message).at(at));
        }
        if let Err(message) = rules::check_template(&rule.response.body) {
            let at = path.key("response").key("body");
            problems.push(Problem::error("", message).at(at));
        }
        for (name, value) in &rule.response.headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                let at = path.key("response").key("headers").key(name);
                problems.push(Problem::error("", "this header can not be sent").at(at));
            }
        }
        let ErrorResponse {
            status_code, code, ..
        } = rule.response;
        for (name, code) in [("status_code", status_code), ("code", code)] {
            if code != 0 && !(200..=599).contains(&code) {
                let at = path.key("response").key(name);
                problems.push(Problem::error("", "expected a status from 200 to 599").at(at));
            }
        }
    }
}
