//! A case being played: its store, its clock, and its steps in order.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tollgate::{SharedStore, context::ClientAddr, meta_inject::InjectError, visit::Visit};
use tollgate_core::{ManualClock, OrgId, Session, clock::Clock, policy::PolicySet};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    Outcome,
    compare::{Answer, Expected},
    headers::{Changes, REQUEST, RESPONSE, Secrets},
    records::Records,
    stack::{self, NoStack, Shared},
    text,
};

const START: u64 = 1_700_000_000;

pub(crate) struct World<'a> {
    case: &'a Value,
    records: Records,
    shared: Shared,
    captured: BTreeMap<String, String>,
    /// What was changed that only a gateway knows how to answer for.
    lost: Option<&'static str>,
}

/// A request as it reached the upstream.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
}

impl<'a> World<'a> {
    pub(crate) fn new(case: &'a Value) -> Self {
        let clock = ManualClock::at(START);
        let records = Records::new(clock.clone());
        let config = &case["config"];
        let policies = match &case["policies"] {
            Value::Object(policies) => {
                let text = serde_json::to_vec(policies).expect("is JSON");
                PolicySet::from_record_file(&text).expect("is read").0
            }
            _ => PolicySet::default(),
        };
        let shared = Shared {
            store: SharedStore::new(records.clone(), records.sessions.clone()),
            clock,
            keys: stack::keys(config),
            policies,
            master_keys: config["allow_master_keys"] == true,
        };
        let mut world = Self {
            case,
            records,
            shared,
            captured: BTreeMap::new(),
            lost: None,
        };
        for (id, session) in case["keys"].as_object().into_iter().flatten() {
            world.create(Some(id), session, &Value::Null);
        }
        world
    }

    pub(crate) async fn play(mut self, correction: &Value) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for (index, step) in self.case["steps"]
            .as_array()
            .expect("is a list")
            .iter()
            .enumerate()
        {
            let outcome = match (self.lost, &step["request"]) {
                (Some(lost), _) => Outcome::Needs(lost),
                (None, Value::Object(_)) => {
                    let correction = &correction[index.to_string()];
                    let expected = Expected::of(&self.filled(step), correction);
                    self.request(&step["request"], &expected).await
                }
                (None, _) => self.change(step, &correction[index.to_string()]).await,
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    /// A step that is no request: what it does is done, and the control API's own answer is left to a
    /// gateway.
    async fn change(&mut self, step: &Value, correction: &Value) -> Outcome {
        if let Some(sleep) = step["sleep_ms"].as_u64() {
            self.shared.clock.advance(Duration::from_millis(sleep));
            return Outcome::Needs("time that passes");
        }
        if let Value::Array(command) = &step["redis"] {
            let corrected = correction["redis"].as_u64();
            let wanted = corrected.or(step["expect"]["redis"].as_u64());
            return self
                .redis(&command.iter().map(text).collect::<Vec<_>>(), wanted)
                .await;
        }
        let admin = &step["admin"];
        let path = text(&admin["path"]).split('?').next().unwrap_or_default();
        let id = path.strip_prefix("/tyk/keys/");
        let succeeded = step["expect"]["status"] == 200;
        match (text(&admin["method"]), id) {
            ("GET", _) => {}
            _ if !succeeded => {}
            ("POST", Some("create")) => self.create(None, &admin["body"], &step["capture"]),
            ("POST" | "PUT", Some(id)) => self.create(Some(id), &admin["body"], &step["capture"]),
            ("DELETE", Some(id)) => {
                let org = OrgId::from(text(&self.case["apis"][0]["org_id"]));
                for name in self.shared.keys.candidates(&org, id) {
                    self.records.remove(name.as_str()).await;
                }
            }
            _ => self.lost = Some("the control API"),
        }
        Outcome::Needs("the control API")
    }

    async fn redis(&mut self, command: &[&str], wanted: Option<u64>) -> Outcome {
        let name = command.get(1).map(|name| self.with_captured(name));
        let name = name
            .as_deref()
            .and_then(|name| name.strip_prefix("apikey-"));
        match (command, name) {
            (["SET", _, text], Some(name)) => self.records.put_text(name, text),
            (["RPUSH", ..], Some(name)) => self.records.put_text(name, "a list of Redis"),
            (["DEL", _], Some(name)) => drop(self.records.remove(name).await),
            (["EXISTS", _], Some(name)) => {
                let there = u64::from(self.records.has(name));
                return match wanted {
                    Some(wanted) if wanted == there => Outcome::Equal,
                    wanted => Outcome::Differs(format!("{there} is stored, expected {wanted:?}")),
                };
            }
            _ => self.lost = Some("Redis"),
        }
        Outcome::Needs("Redis")
    }

    /// Stores a session as the control API does: under the token that is made of the id.
    fn create(&mut self, id: Option<&str>, session: &Value, capture: &Value) {
        let mut session = session.clone();
        if let Some(seconds) = session["expires"]["$now_plus"].as_u64() {
            session["expires"] = (self.shared.clock.now().unix().0 + seconds).into();
        }
        let Ok(session) = Session::from_json(session.to_string()) else {
            self.lost = Some("times filled in when the case is played");
            return;
        };
        let keys = &self.shared.keys;
        let id = id.map(|id| percent_decode_str(id).decode_utf8_lossy()); // It came in a path.
        let Ok(token) = keys.generate(&session.org_id, id.as_deref()) else {
            self.lost = Some("a token that we do not make");
            return;
        };
        let name = keys.storage_key(token.expose());
        for (variable, place) in capture.as_object().into_iter().flatten() {
            let value = match text(place) {
                "json.key" => token.expose(),
                _ => name.as_str(),
            };
            self.captured.insert(variable.clone(), value.to_owned());
        }
        self.records.put_session(name.as_str(), session);
    }

    fn with_captured(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (variable, value) in &self.captured {
            text = text.replace(&format!("${{{variable}}}"), value);
        }
        text
    }

    /// The step, with captured values in place of their names.
    fn filled(&self, step: &Value) -> Value {
        let filled = self.with_captured(&step.to_string());
        serde_json::from_str(&filled).expect("tokens and hashes need no escapes")
    }

    /// The API that serves the target: the longest listen path.
    fn served(&self, target: &str) -> Option<&'a Value> {
        let listen_path = |api: &&'a Value| text(&api["proxy"]["listen_path"]);
        let apis = self.case["apis"].as_array()?.iter();
        apis.filter(|api| target.starts_with(listen_path(api)))
            .max_by_key(|api| listen_path(api).len())
    }

    async fn request(&self, request: &Value, expected: &Expected) -> Outcome {
        let target = self.with_captured(text(&request["path"]));
        let Some(api) = self.served(&target) else {
            return Outcome::Needs("routing");
        };
        let versions = api["version_data"]["versions"].as_object();
        let version = versions
            .and_then(|all| all.values().next())
            .unwrap_or(&Value::Null);
        if let Some(needs) = self.needs(api, version, request) {
            return Outcome::Needs(needs);
        }
        let Some(asked) = self.parse(&target, request) else {
            return Outcome::Needs("a server that refuses what is no HTTP");
        };
        let (path, _) = target.split_once('?').unwrap_or((&target, ""));
        let behind = path[text(&api["proxy"]["listen_path"]).len()..].trim_start_matches('/');
        let behind = format!("/{behind}");
        let at = (text(&request["method"]), behind.as_str());
        let changes = (
            Changes::of(&REQUEST, api, version, at),
            Changes::of(&RESPONSE, api, version, at),
        );
        let stack = match stack::stack(&self.shared, api, &changes.0, &changes.1) {
            Ok(stack) => stack,
            Err(NoStack::Header(InjectError::Framing { .. })) => {
                return Outcome::Needs("headers of the connection");
            }
            Err(NoStack::Header(error)) => return expected.compare_refusal(&error.to_string()),
            Err(NoStack::Build(error)) => return expected.compare_refusal(&error.to_string()),
        };
        let repeat = request["repeat"].as_u64().unwrap_or(1);
        let mut answer = None;
        for _ in 0..repeat {
            answer = Some(
                self.send(stack.as_ref(), &changes, asked.clone(), &behind)
                    .await,
            );
        }
        expected.compare(&answer.expect("asked once at least"))
    }

    fn needs(&self, api: &Value, version: &Value, request: &Value) -> Option<&'static str> {
        let mut shown = self.case["show"].as_array().into_iter().flatten().map(text);
        let is_form = header_pairs(request).any(|(name, value)| {
            name.eq_ignore_ascii_case("content-type") && value.to_lowercase().contains("form")
        });
        let by_username = self.case["config"]["disable_key_actions_by_username"] == true;
        let needs = [
            (
                shown.any(|name| name != "$names" && name != "connection"),
                "a proxy's headers",
            ),
            (is_form, "form bodies"),
            (by_username, "a setting of the control API"),
        ];
        let needs = needs
            .into_iter()
            .find_map(|(needs, what)| needs.then_some(what));
        needs.or_else(|| stack::needs(api, version))
    }

    /// `None` for what a server refuses to read.
    fn parse(&self, target: &str, request: &Value) -> Option<Request<()>> {
        let method = Method::from_bytes(text(&request["method"]).as_bytes()).ok()?;
        let mut parsed = Request::builder()
            .method(method)
            .uri(target)
            .body(())
            .ok()?;
        let client = ClientAddr(IpAddr::V4(Ipv4Addr::LOCALHOST));
        parsed.extensions_mut().insert(client);
        let host = HeaderValue::from_static("${GATEWAY_HOST}");
        parsed.headers_mut().insert("host", host);
        for (name, value) in header_pairs(request) {
            let value = self.with_captured(value);
            let name = HeaderName::try_from(name).ok()?;
            parsed
                .headers_mut()
                .append(name, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?);
        }
        Some(parsed)
    }

    async fn send(
        &self,
        stack: Option<&tollgate::Tollgate>,
        (on_request, on_response): &(Changes, Changes),
        request: Request<()>,
        path: &str,
    ) -> Answer {
        let seen = Arc::new(Mutex::new(None));
        let secrets = Secrets {
            config: &self.case["config"]["secrets"],
            environment: &self.case["env"],
        };
        let upstream = service_fn(async |mut request: Request<()>| {
            let visit = request.extensions().get::<Arc<Visit>>().cloned();
            let session = visit.as_ref().and_then(|visit| visit.session());
            let meta = session.map(|session| &session.meta_data);
            if on_request
                .apply(request.headers_mut(), meta, &secrets)
                .is_err()
            {
                return Ok::<_, Infallible>(failed());
            }
            *seen.lock().expect("no panics") = Some(Seen {
                query: request.uri().query().unwrap_or_default().to_owned(),
                headers: request.headers().clone(),
            });
            let mut response = canned(&self.case["responses"][path]);
            if on_response
                .apply(response.headers_mut(), meta, &secrets)
                .is_err()
            {
                return Ok(failed());
            }
            Ok(response)
        });
        let (head, body) = match stack {
            Some(stack) => {
                let response = stack.layer().layer(upstream).oneshot(request).await;
                let (head, body) = response.expect("no error").into_parts();
                (head, body.collect().await.expect("no error").to_bytes())
            }
            None => {
                let (head, body) = upstream
                    .oneshot(request)
                    .await
                    .expect("no error")
                    .into_parts();
                (head, body.collect().await.expect("no error").to_bytes())
            }
        };
        let seen = seen.lock().expect("no panics").take();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
            seen,
        }
    }
}

fn header_pairs(request: &Value) -> impl Iterator<Item = (&str, &str)> {
    let pairs = request["headers"].as_array().into_iter().flatten();
    pairs.map(|pair| (text(&pair[0]), text(&pair[1])))
}

fn failed() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The upstream's answer, as the case has it.
fn canned(answer: &Value) -> Response<Full<Bytes>> {
    let body = answer["body"].as_str().unwrap_or(r#"{"ok":true}"#);
    let mut response = Response::new(Full::from(body.to_owned()));
    let status = answer["status"]
        .as_u64()
        .and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::OK);
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        let name = HeaderName::try_from(name.as_str()).expect("a header's name");
        let value = HeaderValue::try_from(text(value)).expect("a header's value");
        response.headers_mut().append(name, value);
    }
    response
}
