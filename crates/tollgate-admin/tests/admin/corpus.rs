//! Plays what of `control_api` of the conformance corpus concerns the control API alone.
//!
//! The data lies in `tests/conformance` at the root of the workspace. A case marked `defect` or `newer`
//! has its right answer in `fixtures/corrections.json`, by the number of the step; where nothing is to
//! be corrected, `as_recorded` says why. Where we differ on purpose from any other case,
//! `in_process.toml` says so.
//!
//! A step that sends traffic through an API needs a gateway; so do certificates, OAuth clients and
//! commands that only Redis has. Such a case is pending, by its need. What else of it can be played is
//! compared: traffic that was let through is charged, and what hangs on a step that was not played is
//! left out.
//!
//! A stored session is compared as it is, or else as it is in force: we store nothing of a policy with
//! a key.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use axum::body::Body;
use http::Request;
use regex::Regex;
use serde_json::{Value, json};
use tollgate_admin::Control;
use tollgate_admin::PasswordHash;
use tollgate_core::{
    OrgId, Session,
    access::{MasterKeys, Organisations},
    clock::Clock,
    policy::{PolicyOptions, apply},
    token::{HashFunction, KeyScheme, TokenForm},
};

use crate::{
    gateway::Kept,
    world::{Answer, SECRET, World},
};

/// What came of one step.
enum Outcome {
    Equal,
    Differs(String),
    Needs(&'static str),
    /// Likewise, and what comes behind does not hang on it.
    Skipped(&'static str),
}

const TRAFFIC: &str = "traffic through an API";
const REDIS: &str = "a command of Redis";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance")
}

fn read_json(path: PathBuf) -> Value {
    let text = fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    serde_json::from_slice(&text).expect("is JSON")
}

fn differences() -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct File {
        differences: BTreeMap<String, String>,
    }
    let text = fs::read_to_string(root().join("in_process.toml")).expect("is there");
    toml::from_str::<File>(&text)
        .expect("is a table of reasons")
        .differences
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn is_on(value: &Value) -> bool {
    value.as_bool().unwrap_or(false)
}

#[derive(Default)]
struct Counts {
    passing: usize,
    corrected: usize,
    differing: usize,
    pending: BTreeMap<&'static str, usize>,
    steps: usize,
    played: usize,
}

#[tokio::test]
async fn the_control_api_answers_as_recorded() {
    let cases = read_json(root().join("cases/control_api.json"));
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let corrections = read_json(fixtures.join("corrections.json"));
    let differences = differences();
    let mut unused: BTreeSet<&String> = corrections.as_object().unwrap().keys().collect();
    let mut counts = Counts::default();
    let mut unexplained = Vec::new();
    for case in cases.as_array().expect("is a list") {
        let name = text(&case["name"]);
        unused.retain(|other| *other != name);
        let correction = &corrections[name];
        let outcomes = play(case, correction).await;
        let needs = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Needs(what) | Outcome::Skipped(what) => Some(*what),
            _ => None,
        });
        let all = outcomes.iter().enumerate();
        let differing: Vec<String> = all
            .filter_map(|(index, outcome)| match outcome {
                Outcome::Differs(how) => Some(format!("{name}, step {index}: {how}")),
                _ => None,
            })
            .collect();
        counts.steps += outcomes.len();
        let played = outcomes.iter();
        let is_played =
            |outcome: &&Outcome| matches!(outcome, Outcome::Equal | Outcome::Differs(_));
        counts.played += played.filter(is_played).count();
        let is_marked = case["defect"].is_string() || case["newer"].is_string();
        let knowingly = differences.contains_key(name);
        match (differing.is_empty(), needs) {
            (false, _) if knowingly => counts.differing += 1,
            (false, _) => unexplained.extend(differing),
            (true, Some(needs)) => *counts.pending.entry(needs).or_default() += 1,
            (true, None) if knowingly => unexplained.push(format!("{name}: no longer differs")),
            (true, None) if is_marked && correction.is_null() => {
                unexplained.push(format!("{name}: as recorded, and no correction says why"));
            }
            (true, None) if correction.is_null() => counts.passing += 1,
            (true, None) => counts.corrected += 1,
        }
    }
    report(&counts);
    assert!(unexplained.is_empty(), "\n{}", unexplained.join("\n"));
    assert!(unused.is_empty(), "corrections of no case: {unused:?}");
}

#[expect(clippy::print_stdout, reason = "the counts are what one runs this for")]
fn report(counts: &Counts) {
    let Counts {
        passing,
        corrected,
        differing,
        pending,
        steps,
        played,
    } = counts;
    let built = passing + corrected + differing;
    let waiting: usize = pending.values().sum();
    println!(
        "control_api: {built} built: {passing} as recorded, {corrected} corrected, {differing} differ \
         knowingly; {waiting} pending; {played} of {steps} steps played"
    );
    for (what, cases) in pending {
        println!("control_api: {cases:>4} pending for {what}");
    }
}

/// A case being played.
struct Play<'a> {
    case: &'a Value,
    world: World,
    captured: BTreeMap<String, String>,
}

async fn play(case: &Value, correction: &Value) -> Vec<Outcome> {
    let mut play = Play {
        case,
        world: world(case),
        captured: BTreeMap::new(),
    };
    for (id, session) in case["keys"].as_object().into_iter().flatten() {
        let path = format!("/tyk/keys/{id}");
        let body = play.filled(session);
        let made = play.world.ask_json("POST", &path, &body).await;
        assert_eq!(made.status, 200, "{}: {}", case["name"], made.text);
    }
    let mut outcomes = Vec::new();
    let mut lost = None;
    for (index, step) in case["steps"]
        .as_array()
        .expect("is a list")
        .iter()
        .enumerate()
    {
        if let Some(lost) = lost {
            outcomes.push(Outcome::Needs(lost));
            continue;
        }
        let outcome = play.step(step, &correction[index.to_string()]).await;
        if let Outcome::Needs(what) = outcome {
            lost = Some(what);
        }
        outcomes.push(outcome);
    }
    outcomes
}

fn world(case: &Value) -> World {
    let config = &case["config"];
    let form = match &config["hash_key_function"] {
        Value::String(name) => TokenForm::from_name(name),
        _ => None,
    };
    let form = form.unwrap_or(TokenForm::Json(HashFunction::Murmur64));
    let keys = if config["hash_keys"] == false {
        KeyScheme::plain()
    } else {
        KeyScheme::hashed()
    };
    let has_folder = config["policies"]["policy_path"].is_string();
    let kept = if has_folder {
        Kept::InFolder
    } else {
        Kept::InRecordFile
    };
    let world = World::with(keys.with_form(form), kept, |settings| {
        settings.hashed_keys_listing = config["enable_hashed_keys_listing"] != false;
        if is_on(&config["allow_master_keys"]) {
            settings.master_keys = MasterKeys::Allowed;
        }
        settings.password_hash =
            PasswordHash::from_name(text(&config["basic_auth_hash_key_function"]));
        let forced = config["global_session_lifetime"].as_i64();
        settings.forced_lifetime =
            forced.filter(|_| is_on(&config["force_global_session_lifetime"]));
        settings.lifetime_respects_expiry =
            is_on(&config["session_lifetime_respects_key_expiration"]);
        settings.actions_by_username = !is_on(&config["disable_key_actions_by_username"]);
        settings.health_checks = is_on(&config["health_check"]["enable_health_checks"]);
        settings.hostname = config["control_api_hostname"].as_str().map(Into::into);
        if config["secret"] == "" {
            settings.secret = "".into();
            settings.weak_secret = tollgate_admin::WeakSecret::Allow;
        }
    });
    for api in case["apis"].as_array().into_iter().flatten() {
        world.gateway.put_api(api);
    }
    match &case["policies"] {
        Value::Null => {}
        policies => world.gateway.put_record_file(&policies.to_string()),
    }
    for (name, file) in case["files"].as_object().into_iter().flatten() {
        let name = name.trim_end_matches(".json");
        world.gateway.put_policy_file(name, text(file));
    }
    world
}

impl Play<'_> {
    async fn step(&mut self, step: &Value, correction: &Value) -> Outcome {
        if let Some(sleep) = step["sleep_ms"].as_u64() {
            self.world.clock.advance(Duration::from_millis(sleep));
            return Outcome::Equal;
        }
        if let Value::Array(command) = &step["redis"] {
            let command: Vec<String> = command.iter().map(|word| self.with(text(word))).collect();
            return self.redis(&command, step, correction);
        }
        if step["request"].is_object() {
            let path = text(&step["request"]["path"]);
            let is_ours = path == "/hello" || path.starts_with("/tyk/");
            if !is_ours {
                let mut expect = step["expect"].clone();
                correct(&mut expect, correction);
                return self.traffic(&step["request"], &expect).await;
            }
            return self
                .request(&step["request"], step, correction, false)
                .await;
        }
        let path = text(&step["admin"]["path"]);
        if path.starts_with("/tyk/certs") {
            return Outcome::Needs("certificates");
        }
        if path.starts_with("/tyk/oauth") {
            return Outcome::Needs("OAuth clients");
        }
        if step["expect"]["json"]["listen_port"].is_number() {
            return Outcome::Needs("a gateway's reading of definitions");
        }
        self.request(&step["admin"], step, correction, true).await
    }

    async fn request(
        &mut self,
        request: &Value,
        step: &Value,
        correction: &Value,
        with_secret: bool,
    ) -> Outcome {
        let uri = self.with(text(&request["path"])).replace(' ', "%20");
        let mut builder = Request::builder()
            .method(text(&request["method"]))
            .uri(ascii(&uri));
        let headers = request["headers"].as_array();
        for header in headers.into_iter().flatten() {
            builder = builder.header(text(&header[0]), text(&header[1]));
        }
        builder = builder.header("host", "gateway.example");
        if with_secret {
            builder = builder.header("x-tyk-authorization", SECRET);
        }
        let body = match &request["body"] {
            Value::Null => Vec::new(),
            Value::String(text) => self.with(text).into_bytes(),
            Value::Object(bytes) if bytes.contains_key("$base64") => {
                use base64::Engine;
                let text = text(&bytes["$base64"]);
                base64::engine::general_purpose::STANDARD
                    .decode(text)
                    .unwrap()
            }
            body => self.filled(body).to_string().into_bytes(),
        };
        let answer = self
            .world
            .send(builder.body(Body::from(body)).unwrap())
            .await;
        for (name, place) in step["capture"].as_object().into_iter().flatten() {
            let member = text(place).trim_start_matches("json.");
            let value = text(&answer.json()[member]).to_owned();
            self.captured.insert(name.clone(), value);
        }
        let mut expect = step["expect"].clone();
        correct(&mut expect, correction);
        self.compare(&answer, &expect)
    }

    /// Requests that a gateway has let through are charged.
    async fn traffic(&self, request: &Value, expect: &Value) -> Outcome {
        let statuses = match &expect["statuses"] {
            Value::Array(statuses) => statuses.clone(),
            _ => vec![expect["status"].clone()],
        };
        let passed = statuses.iter().filter(|status| **status == 200).count();
        let path = text(&request["path"]);
        let is_of = |api: &&Value| path.starts_with(text(&api["proxy"]["listen_path"]));
        let api = self.case["apis"]
            .as_array()
            .and_then(|apis| apis.iter().find(is_of));
        let headers = request["headers"].as_array();
        let is_token = |header: &&Value| header[0] == "Authorization";
        let token = headers.and_then(|headers| headers.iter().find(is_token));
        let (Some(api), Some(token)) = (api, token) else {
            return Outcome::Skipped(TRAFFIC);
        };
        let token = self.with(text(&token[1]));
        if passed == 0 || token.starts_with("Basic ") {
            return Outcome::Skipped(TRAFFIC);
        }
        let (org, api) = (text(&api["org_id"]), text(&api["api_id"]));
        let spent = self.world.spend(org, &token, api, passed).await;
        if spent != Some(passed) {
            return Outcome::Differs(format!("{spent:?} of {passed} requests are within limits"));
        }
        Outcome::Skipped(TRAFFIC)
    }

    fn compare(&self, answer: &Answer, expect: &Value) -> Outcome {
        if expect["status"] != answer.status {
            let (ours, theirs) = (answer.status, &expect["status"]);
            return Outcome::Differs(format!("status {ours}, not {theirs}: {}", answer.text));
        }
        for (name, values) in expect["headers"].as_object().into_iter().flatten() {
            let ours = answer
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            if ours != values[0].as_str() {
                return Outcome::Differs(format!("{name}: {ours:?}, not {values}"));
            }
        }
        if let Some(body) = expect["body"].as_str()
            && body != answer.text
            && !body.is_empty()
        {
            return Outcome::Differs(format!("body {:?}, not {body:?}", answer.text));
        }
        if expect.get("json").is_some() {
            return self.alike(&answer.json(), &expect["json"]);
        }
        Outcome::Equal
    }

    fn alike(&self, ours: &Value, theirs: &Value) -> Outcome {
        let mut differences = Vec::new();
        let now = self.world.clock.now().unix().0;
        alike(".", ours, &self.filled_texts(theirs), now, &mut differences);
        if differences.is_empty() {
            return Outcome::Equal;
        }
        Outcome::Differs(differences.join("; "))
    }

    /// Commands on a stored key; others need Redis.
    fn redis(&mut self, command: &[String], step: &Value, correction: &Value) -> Outcome {
        let words: Vec<&str> = command.iter().map(|word| &**word).collect();
        let key = words.get(1).copied().unwrap_or_default();
        let stored = key
            .strip_prefix("apikey-")
            .map_or_else(|| key.starts_with("orgkey.").then_some(key), Some);
        let reads = ["GET", "EXISTS", "EXPIRETIME", "TYPE", "ZCARD"];
        let Some(key) = stored else {
            return if reads.contains(&words[0]) {
                Outcome::Skipped(REDIS)
            } else {
                Outcome::Needs(REDIS)
            };
        };
        let records = &self.world.records;
        let ours = match words[..] {
            ["SET", _, text] => {
                records.put_text(key, text);
                return Outcome::Equal;
            }
            ["DEL", _] => return Outcome::Equal,
            ["EXISTS", _] => json!(u8::from(records.has(key))),
            ["EXPIRETIME", _] => {
                let now = self.world.clock.now().unix().0;
                let ends = records.lifetime(key).map(|time| now + time.as_secs());
                json!(ends.map_or(-1, u64::cast_signed))
            }
            ["GET", _] => self.stored(key),
            _ => return Outcome::Skipped(REDIS),
        };
        if let (Some(places), Value::Object(_)) = (step["capture"].as_object(), &ours) {
            for (name, place) in places {
                let path = text(place).replace("redis", "").replace('.', "/");
                let value = ours.pointer(&path).map(text).unwrap_or_default().to_owned();
                self.captured.insert(name.clone(), value);
            }
        }
        let mut expect = step["expect"].clone();
        correct(&mut expect, correction);
        let outcome = self.alike(&ours, &expect["redis"]);
        if matches!(outcome, Outcome::Differs(_)) && words[0] == "GET" {
            return self.alike(&self.merged(key), &expect["redis"]);
        }
        outcome
    }

    /// A stored session as it is.
    fn stored(&self, key: &str) -> Value {
        if let Some(text) = self.world.records.text(key) {
            return serde_json::from_str(&text).unwrap_or_default();
        }
        let stored = self.world.records.session(key);
        stored.map_or(Value::Null, |stored| with_lists(&stored, key))
    }

    /// A stored session as it is in force, which is what Tyk stores.
    fn merged(&self, key: &str) -> Value {
        let Some(stored) = self.world.records.session(key) else {
            return Value::Null;
        };
        let options = PolicyOptions {
            organisations: Organisations::Mixed,
            ..PolicyOptions::default()
        };
        let policies = self.world.gateway.policies();
        let merged = apply(&stored, &policies, &OrgId::default(), options);
        let session = merged.map_or(stored, |merged| merged.session);
        with_lists(&session, key)
    }

    fn with(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.captured {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        text
    }

    /// A body as it is sent: times made, names filled in.
    fn filled(&self, value: &Value) -> Value {
        let now = self.world.clock.now().unix().0.cast_signed();
        match value {
            Value::Object(members) => match members.get("$now_plus").and_then(Value::as_i64) {
                Some(seconds) => json!(now + seconds),
                None => {
                    let filled = members
                        .iter()
                        .map(|(name, v)| (name.clone(), self.filled(v)));
                    Value::Object(filled.collect())
                }
            },
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            Value::String(text) => Value::String(self.with(text)),
            other => other.clone(),
        }
    }

    fn filled_texts(&self, value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let filled = members.iter();
                let filled = filled.map(|(name, v)| (name.clone(), self.filled_texts(v)));
                Value::Object(filled.collect())
            }
            Value::Array(items) => items.iter().map(|item| self.filled_texts(item)).collect(),
            Value::String(text) => Value::String(self.with(text)),
            other => other.clone(),
        }
    }
}

/// Tyk stores an empty list and an empty object with a key, and nothing with an organisation.
fn with_lists(session: &Session, key: &str) -> Value {
    let mut json: Value = serde_json::from_str(&session.to_json()).unwrap();
    if key.starts_with("orgkey.") {
        return json;
    }
    if json["tags"].is_null() {
        json["tags"] = json!([]);
    }
    if json["meta_data"].is_null() {
        json["meta_data"] = json!({});
    }
    json
}

/// Letters outside ASCII are escaped in a path.
fn ascii(path: &str) -> String {
    let escape = |byte: u8| match byte {
        b'"' => "%22".to_owned(),
        byte if byte.is_ascii() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    path.bytes().map(escape).collect()
}

/// Lays a correction over what was recorded: members replace members.
fn correct(expect: &mut Value, correction: &Value) {
    for (name, value) in correction.as_object().into_iter().flatten() {
        expect[name] = value.clone();
    }
    if correction.get("status").is_some() && correction.get("body").is_none() {
        expect["body"] = Value::Null;
    }
}

const SLACK: i64 = 3;

fn alike(place: &str, ours: &Value, theirs: &Value, now: u64, differences: &mut Vec<String>) {
    let mut differs = || differences.push(format!("{place}: {ours}, not {theirs}"));
    match theirs {
        Value::Object(rule) if rule.contains_key("$any") => {}
        Value::Object(rule) if rule.contains_key("$regex") => {
            let whole = format!("^(?:{})$", text(&rule["$regex"]));
            if !Regex::new(&whole).unwrap().is_match(text(ours)) {
                differs();
            }
        }
        Value::Object(rule) if rule.contains_key("$now_plus") => {
            let wanted = now.cast_signed() + rule["$now_plus"].as_i64().unwrap_or_default();
            let is_near = seconds(ours).is_some_and(|at| (at - wanted).abs() <= SLACK);
            if !is_near {
                differs();
            }
        }
        Value::Object(members) => {
            let Value::Object(own) = ours else {
                return differs();
            };
            let names: BTreeSet<&String> = members.keys().chain(own.keys()).collect();
            for name in names {
                let place = format!("{place}{name}.");
                let (ours, theirs) = (own.get(name), members.get(name));
                match (ours, theirs) {
                    (Some(ours), Some(theirs)) => alike(&place, ours, theirs, now, differences),
                    (ours, theirs) => {
                        differences.push(format!("{place}: {ours:?}, not {theirs:?}"));
                    }
                }
            }
        }
        Value::Array(items) => {
            let Some(own) = ours.as_array().filter(|own| own.len() == items.len()) else {
                return differs();
            };
            for (index, (ours, theirs)) in own.iter().zip(items).enumerate() {
                alike(
                    &format!("{place}[{index}]."),
                    ours,
                    theirs,
                    now,
                    differences,
                );
            }
        }
        Value::Number(number) if number.as_f64() == ours.as_f64() && ours.is_number() => {}
        theirs if ours == theirs => {}
        _ => differs(),
    }
}

/// A time as a number, as digits, or as RFC 3339.
fn seconds(value: &Value) -> Option<i64> {
    let text = value.as_str();
    let digits = || text.and_then(|text| text.parse().ok());
    let written = || {
        let time = text?.parse::<jiff::Timestamp>().ok()?;
        Some(time.as_second())
    };
    value.as_i64().or_else(digits).or_else(written)
}
