//! What was recorded, corrected where it is wrong, and what we did.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::{Outcome, text, world::Seen};

/// What came back, and what reached the upstream.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) seen: Option<Seen>,
}

/// What should have: a step's `expect`, with the correction laid over it.
pub(crate) struct Expected {
    expect: Value,
    refused_at_load: bool,
    is_head: bool,
}

/// Headers of one connection, of the proxy and of limits: not what these cases are about.
const LEFT_OUT: [&str; 21] = [
    "accept-encoding",
    "connection",
    "content-length",
    "content-type",
    "date",
    "host",
    "keep-alive",
    "location",
    "retry-after",
    "te",
    "transfer-encoding",
    "user-agent",
    "vary",
    "www-authenticate",
    "x-forwarded-for",
    "x-generator",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-real-ip",
    "x-upstream",
];

type Headers = BTreeMap<String, Vec<String>>;

impl Expected {
    pub(crate) fn of(step: &Value, correction: &Value) -> Self {
        let mut expect = step["expect"].clone();
        merge_patch(&mut expect, correction);
        if !correction["json"].is_null() {
            expect["json"] = correction["json"].clone(); // A body is another, not changed in places.
        }
        if let Some(status) = correction["status"].as_u64()
            && status >= 400
        {
            expect["upstream"] = Value::Null; // Who is refused does not get there.
        }
        Self {
            expect,
            refused_at_load: correction["refused_at_load"] == true,
            is_head: step["request"]["method"] == "HEAD",
        }
    }

    /// For a definition that was not loaded.
    pub(crate) fn compare_refusal(&self, error: &str) -> Outcome {
        if self.refused_at_load {
            Outcome::Equal
        } else {
            Outcome::Differs(format!("the definition is refused: {error}"))
        }
    }

    pub(crate) fn compare(&self, answer: &Answer) -> Outcome {
        if self.refused_at_load {
            return Outcome::Differs("the definition was not refused".into());
        }
        let mut differences = Vec::new();
        let mut check = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                differences.push(format!("{what}: ours {ours}, expected {theirs}"));
            }
        };
        let status = answer.status.as_u16();
        check(
            "status",
            status.to_string(),
            self.expect["status"].to_string(),
        );
        if !self.is_head {
            let (ours, theirs) = self.bodies(answer);
            check("body", ours, theirs);
        }
        let theirs = recorded(&self.expect["headers"]);
        check(
            "response",
            format!("{:?}", received(&answer.headers)),
            format!("{theirs:?}"),
        );
        match (&answer.seen, &self.expect["upstream"]) {
            (Some(seen), Value::Object(upstream)) => {
                check(
                    "query",
                    seen.query.clone(),
                    text(&upstream["query"]).to_owned(),
                );
                let theirs = recorded(&upstream["headers"]);
                check(
                    "upstream",
                    format!("{:?}", received(&seen.headers)),
                    format!("{theirs:?}"),
                );
            }
            (seen, upstream) => {
                check(
                    "called",
                    seen.is_some().to_string(),
                    (!upstream.is_null()).to_string(),
                );
            }
        }
        if differences.is_empty() {
            Outcome::Equal
        } else {
            Outcome::Differs(differences.join("; "))
        }
    }

    /// What Go's server writes for a message of the proxy's own is not compared.
    fn bodies(&self, answer: &Answer) -> (String, String) {
        let theirs = &self.expect["json"];
        if theirs.is_null() {
            let ours = String::from_utf8_lossy(&answer.body);
            return (
                ours.trim().to_owned(),
                text(&self.expect["body"]).trim().to_owned(),
            );
        }
        let ours: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        (ours.to_string(), theirs.to_string())
    }
}

/// Headers as recorded: each byte of a value is one character.
fn received(headers: &HeaderMap) -> Headers {
    let mut received = Headers::new();
    for (name, value) in headers {
        if !LEFT_OUT.contains(&name.as_str()) {
            let value = value
                .as_bytes()
                .iter()
                .map(|byte| char::from(*byte))
                .collect();
            received.entry(name.to_string()).or_default().push(value);
        }
    }
    received.values_mut().for_each(|values| values.sort());
    received
}

fn recorded(headers: &Value) -> Headers {
    let headers = headers.as_object().into_iter().flatten();
    let headers = headers.filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    let values = |values: &Value| {
        let mut values: Vec<_> = values.as_array().into_iter().flatten().map(shown).collect();
        values.sort();
        values
    };
    headers
        .map(|(name, all)| (name.clone(), values(all)))
        .collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(value) => value.clone(),
        value => value.to_string(),
    }
}

/// RFC 7396.
fn merge_patch(value: &mut Value, patch: &Value) {
    match (value, patch) {
        (_, Value::Null) => {}
        (Value::Object(members), Value::Object(changes)) => {
            for (name, change) in changes {
                if change.is_null() {
                    members.remove(name);
                } else {
                    merge_patch(members.entry(name.clone()).or_insert(Value::Null), change);
                }
            }
        }
        (value, patch) => *value = patch.clone(),
    }
}
