//! What was observed, in the form of the records: without what is of one connection only, and with times as
//! offsets from now.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    case::{Case, Request},
    text::{self, Variables},
    upstream::Received,
    wire::{Answer, Headers},
};

/// Headers that are left out, unless the case asks to show them.
const VOLATILE: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-length",
    "date",
    "host",
    "keep-alive",
    "server",
    "traceparent",
    "transfer-encoding",
    "user-agent",
    "vary",
    "x-forwarded-for",
    "x-real-ip",
    "x-request-id",
];

/// Further from now than this, in seconds, a number is none that tells the time.
const NEAR: f64 = 400.0 * 86_400.0;

/// Seconds since 1970, as now.
#[derive(Clone, Copy)]
pub(crate) struct Now(f64);

impl Now {
    pub(crate) fn read() -> Self {
        Self(seconds(Timestamp::now()))
    }

    pub(crate) fn plus(self, seconds: i64) -> Value {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is a time of these years"
        )]
        let now = self.0 as i64;
        (now + seconds).into()
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// How observations of one case are written down.
pub(crate) struct Observer<'a> {
    pub(crate) case: &'a Case,
    pub(crate) variables: &'a Variables,
    pub(crate) now: Now,
}

impl Observer<'_> {
    /// What a client got for this request.
    pub(crate) fn answer(&self, request: &Request, answer: &Answer) -> Map<String, Value> {
        let body = text::from_bytes(&answer.body);
        let mut observed = Map::new();
        observed.insert("status".into(), answer.status.into());
        observed.insert(
            "headers".into(),
            self.headers(&answer.headers, &self.case.show_response, |value| {
                value.into()
            }),
        );
        match serde_json::from_str(&body) {
            Ok(json) => drop(observed.insert("json".into(), self.json(&json))),
            Err(_) => drop(observed.insert("body".into(), self.named(&body))),
        }
        if request.raw {
            observed.insert("body".into(), self.named(&body));
        }
        self.names(&answer.headers, &mut observed);
        observed
    }

    /// What the upstream received.
    pub(crate) fn received(&self, received: &Received, with_body: bool) -> Map<String, Value> {
        let mut observed = Map::new();
        observed.insert("method".into(), received.method.clone().into());
        observed.insert("path".into(), self.named(&received.path));
        observed.insert("query".into(), self.named(&received.query));
        observed.insert(
            "headers".into(),
            self.headers(&received.headers, &self.case.show, |value| {
                self.named(value)
            }),
        );
        self.names(&received.headers, &mut observed);
        let json = serde_json::from_str(&received.body)
            .ok()
            .filter(|json: &Value| !json.is_null());
        if json.is_none() || with_body {
            observed.insert("body".into(), self.named(&received.body));
        }
        if let Some(json) = json {
            observed.insert("json".into(), self.json(&json));
        }
        observed
    }

    /// By lower-case name, with sorted values.
    fn headers(
        &self,
        headers: &Headers,
        shown: &[String],
        written: impl Fn(&str) -> Value,
    ) -> Value {
        let mut kept = BTreeMap::<String, Vec<Value>>::new();
        for (name, value) in headers {
            let name = name.to_lowercase();
            if VOLATILE.contains(&name.as_str()) && !shown.contains(&name) {
                continue;
            }
            let tells_time = name.starts_with("x-ratelimit") || name == "x-epoch";
            let time = if tells_time { self.time(value) } else { None };
            let value = time.unwrap_or_else(|| written(value));
            kept.entry(name).or_default().push(value);
        }
        kept.values_mut()
            .for_each(|values| values.sort_by_key(Value::to_string));
        json!(kept)
    }

    /// As they were spelled, where the case asks for it.
    fn names(&self, headers: &Headers, observed: &mut Map<String, Value>) {
        if self.case.show.iter().any(|shown| shown == "$names") {
            let is_kept = |name: &&String| !VOLATILE.contains(&name.to_lowercase().as_str());
            let mut names: Vec<_> = headers
                .iter()
                .map(|(name, _)| name)
                .filter(is_kept)
                .collect();
            names.sort();
            observed.insert("names".into(), json!(names));
        }
    }

    pub(crate) fn json(&self, value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let members = members.iter();
                members
                    .map(|(name, value)| (name.clone(), self.json(value)))
                    .collect()
            }
            Value::Array(values) => values.iter().map(|value| self.json(value)).collect(),
            Value::Number(number) => self
                .time(&number.to_string())
                .unwrap_or_else(|| value.clone()),
            Value::String(text) if text.chars().count() >= 10 => {
                self.time(text).unwrap_or_else(|| self.named(text))
            }
            Value::String(text) => self.named(text),
            _ => value.clone(),
        }
    }

    /// With the values of variables as their names again.
    fn named(&self, text: &str) -> Value {
        self.variables.name_in(text).into()
    }

    /// The offset from now of a text that is a time near it.
    fn time(&self, text: &str) -> Option<Value> {
        let text = text.trim();
        if text.as_bytes().get(10) == Some(&b'T')
            && let Ok(time) = text.parse::<Timestamp>()
        {
            let offset = seconds(time) - self.now.0;
            return (offset.abs() < NEAR)
                .then(|| json!({"$now_plus": whole(offset), "as": "rfc3339"}));
        }
        let number: f64 = text.parse().ok()?;
        let offset = number - self.now.0;
        (offset.abs() < NEAR && number > 1_500_000_000.0)
            .then(|| json!({"$now_plus": whole(offset)}))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is less than `NEAR`")]
fn whole(offset: f64) -> i64 {
    offset.round() as i64
}
