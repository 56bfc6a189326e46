//! A case being played against a gateway: its keys, and its steps in order.

use std::{
    fmt::Display,
    mem, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::{
    case::{Case, Collect, Request, Step},
    compare::compare,
    gateway::{Gateway, SECRET},
    observe::{Now, Observer},
    text::{self, Variables},
    wire::{self, Answer},
};

/// How much longer than its sleeps a case may last before its times and windows say nothing: keys that are written
/// wait for the disk, and the disk for others.
const LATE: Duration = Duration::from_millis(500);

/// What came of a case.
pub(crate) struct Played {
    /// What differs, a line for each place.
    pub(crate) differences: Vec<String>,
    /// Whether it lasted so long that this may be why.
    pub(crate) is_late: bool,
}

/// Plays the case. With `trace`, tells what happens.
pub(crate) fn play(case: &Case, gateway: &Gateway, trace: bool) -> Played {
    let begun = Instant::now();
    let play = Play {
        case,
        gateway,
        variables: gateway.variables.clone(),
        trace,
    };
    let differences = play.run().unwrap_or_else(|err| vec![err]);
    let least = Duration::from_millis(case.sleeps_ms());
    Played {
        differences,
        is_late: least + LATE < begun.elapsed(),
    }
}

struct Play<'a> {
    case: &'a Case,
    gateway: &'a Gateway,
    variables: Variables,
    trace: bool,
}

impl Play<'_> {
    /// What differs.
    ///
    /// # Errors
    ///
    /// Fails, with the reason, where the case could not be played to its end.
    fn run(mut self) -> Result<Vec<String>, String> {
        let case = self.case;
        let upstream = &self.gateway.upstream;
        upstream.answer_with(self.variables.fill(&case.responses));
        for (token, session) in &case.keys {
            self.create_key(token, session)?;
        }
        let mut differences = Vec::new();
        for (index, step) in case.steps.iter().enumerate() {
            let place = format!("step {index}");
            if let Some(observed) = self.step(step).map_err(|err| format!("{place}: {err}"))? {
                compare(&step.expect, &observed, &place, &mut differences);
            }
        }
        Ok(differences)
    }

    fn create_key(&self, token: &str, session: &Value) -> Result<(), String> {
        let request = json!({
            "method": "POST",
            "path": format!("/tyk/keys/{token}"),
            "body": session,
        });
        let answer = self.send(&parsed(request)?, true)?;
        if answer.status == 200 {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&answer.body);
        Err(format!("key {token} is not made: {} {body}", answer.status))
    }

    /// What was observed, where something is compared.
    fn step(&mut self, step: &Step) -> Result<Option<Value>, String> {
        if let Some(milliseconds) = step.sleep_ms {
            thread::sleep(Duration::from_millis(milliseconds));
            return Ok(None);
        }
        if step.align_ms.is_some() {
            thread::sleep(until_next_second());
            return Ok(None);
        }
        self.tell("<", &json!([step.any_request(), step.collect, step.redis]));
        let observed = if let Some(request) = &step.request {
            self.request(request)?
        } else if let Some(request) = &step.admin {
            self.admin(request)?
        } else if let Some(collect) = &step.collect {
            self.collect(collect)?
        } else if let Some(command) = &step.redis {
            thread::sleep(Duration::from_millis(step.after_ms.unwrap_or(0)));
            self.redis(command)?
        } else {
            return Err("a step that the runner does not know".into());
        };
        let observed = Value::from(observed);
        self.tell("=", &step.expect);
        self.tell(">", &observed);
        for (name, place) in &step.capture {
            let value = lookup(&observed, place)
                .ok_or_else(|| format!("no {place} to capture in {observed}"))?;
            self.variables.set(name, value);
        }
        Ok(Some(observed))
    }

    /// A request to an API, and what the upstream received of it.
    fn request(&self, request: &Value) -> Result<Map<String, Value>, String> {
        let request: Request = parsed(self.variables.fill(request))?;
        let upstream = &self.gateway.upstream;
        let kept = self.case.hook_prefix.as_deref();
        upstream.take_except(kept);
        let (mut observed, is_repeated) = self.exchange(&request, false)?;
        let received = upstream.take_except(kept);
        let last = received
            .last()
            .map(|last| self.observer().received(last, request.raw_upstream));
        if is_repeated && last.is_some() {
            observed.insert("upstream_count".into(), received.len().into());
        }
        observed.insert("upstream".into(), json!(last));
        Ok(observed)
    }

    fn admin(&self, request: &Value) -> Result<Map<String, Value>, String> {
        let request = parsed(self.variables.fill(request))?;
        Ok(self.exchange(&request, true)?.0)
    }

    /// Sends a request as often as it says. What came last is observed, with each status.
    fn exchange(
        &self,
        request: &Request,
        is_admin: bool,
    ) -> Result<(Map<String, Value>, bool), String> {
        let mut statuses = Vec::new();
        let mut last = Answer::default();
        for _ in 0..request.repeat.unwrap_or(1) {
            last = self.send(request, is_admin)?;
            statuses.push(last.status);
        }
        let mut observed = self.observer().answer(request, &last);
        let is_repeated = statuses.len() > 1;
        if is_repeated {
            observed.insert("statuses".into(), json!(statuses));
        }
        Ok((observed, is_repeated))
    }

    fn send(&self, request: &Request, is_admin: bool) -> Result<Answer, String> {
        let mut headers = request.headers.clone().unwrap_or_default();
        let has = |headers: &[(String, String)], wanted: &str| {
            headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case(wanted))
        };
        if is_admin && !has(&headers, "x-tyk-authorization") {
            headers.insert(0, ("X-Tyk-Authorization".into(), SECRET.into()));
        }
        let body = match &request.body {
            Value::Null => None,
            Value::String(body) => Some(text::to_bytes(body)),
            body => {
                if !has(&headers, "content-type") {
                    headers.push(("Content-Type".into(), "application/json".into()));
                }
                Some(text::json(&with_times(body.clone(), Now::read())))
            }
        };
        let line = (request.method.as_str(), request.path.as_str());
        let answer = wire::call(
            self.gateway.port,
            line,
            &headers,
            body.as_deref(),
            request.chunked,
        );
        let failed = |err| format!("{} {}: {err}", request.method, request.path);
        let answer = answer.map_err(failed)?;
        if request.decode {
            return answer.decoded().map_err(failed);
        }
        Ok(answer)
    }

    /// A command to the gateway's Redis, and what it answers.
    fn redis(&self, command: &Value) -> Result<Map<String, Value>, String> {
        let redis = self.gateway.redis.as_ref().ok_or("there is no Redis")?;
        let reply = redis.call(&self.variables.fill(command))?;
        let reply = self.observer().json(&reply);
        Ok(Map::from_iter([("redis".to_owned(), reply)]))
    }

    /// What arrives below a path, until there is enough of it or its time is over.
    fn collect(&self, collect: &Value) -> Result<Map<String, Value>, String> {
        let collect: Collect = parsed(collect.clone())?;
        let wait = Duration::from_millis(collect.wait_ms.unwrap_or(1500));
        let wanted = collect.count.unwrap_or(usize::MAX);
        let deadline = Instant::now() + wait;
        let mut received = Vec::new();
        while Instant::now() < deadline && received.len() < wanted {
            received.extend(self.gateway.upstream.take_below(&collect.path_prefix));
            thread::sleep(Duration::from_millis(20));
        }
        let observer = self.observer();
        let received: Vec<_> = received
            .iter()
            .map(|received| observer.received(received, false))
            .collect();
        Ok(Map::from_iter([("received".to_owned(), json!(received))]))
    }

    fn observer(&self) -> Observer<'_> {
        Observer {
            case: self.case,
            variables: &self.variables,
            now: Now::read(),
        }
    }

    #[expect(clippy::print_stdout, reason = "the trace of one case is asked for")]
    fn tell(&self, what: &str, value: &dyn Display) {
        if self.trace {
            println!("  {what} {value}");
        }
    }
}

fn parsed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value)
        .map_err(|err| format!("the runner does not know this step: {err}"))
}

fn until_next_second() -> Duration {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into())
}

/// `{"$now_plus": n}` becomes a time.
fn with_times(mut value: Value, now: Now) -> Value {
    match &mut value {
        Value::Object(members) => {
            if let (1, Some(seconds)) = (
                members.len(),
                members.get("$now_plus").and_then(Value::as_i64),
            ) {
                return now.plus(seconds);
            }
            for member in members.values_mut() {
                *member = with_times(mem::take(member), now);
            }
        }
        Value::Array(values) => {
            for member in values {
                *member = with_times(mem::take(member), now);
            }
        }
        _ => {}
    }
    value
}

/// The text at a dotted place, as `json.key` or `headers.location.0`.
fn lookup(observed: &Value, place: &str) -> Option<String> {
    let found = observed.pointer(&format!("/{}", place.replace('.', "/")))?;
    Some(
        found
            .as_str()
            .map_or_else(|| found.to_string(), str::to_owned),
    )
}
