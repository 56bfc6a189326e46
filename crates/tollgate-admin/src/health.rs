//! `/hello`, `/ready`, and Tyk's old `/tyk/health`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::{
    Component, Inner, Readiness,
    answer::{Answer, Refusal, json},
    call::Call,
};

#[derive(Serialize)]
struct Hello<'a> {
    status: &'static str,
    version: &'a str,
    description: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    details: BTreeMap<&'a str, Detail<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    component_type: &'a str,
    time: &'a str,
}

impl<'a> From<&'a Component> for Detail<'a> {
    fn from(component: &'a Component) -> Self {
        Self {
            status: if component.failure.is_some() {
                "fail"
            } else {
                "pass"
            },
            output: component.failure.as_deref(),
            component_type: &component.kind,
            time: &component.time,
        }
    }
}

/// `GET /hello`: 200 in any case, for whoever asks; the body says how things are.
pub(crate) async fn hello(State(admin): State<Arc<Inner>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    let health = admin.control.health().0;
    let failed = health.values().filter(|part| part.failure.is_some());
    let status = match failed.count() {
        0 => "pass",
        all if all == health.len() => "fail",
        _ => "warn",
    };
    tell(&admin, status, "Tyk GW", &health)
}

/// `GET /ready`: whether requests should be sent here.
pub(crate) async fn ready(State(admin): State<Arc<Inner>>, request: Request) -> Response {
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    let not_ready = |message: &'static str| Refusal::new(503, message).into_response();
    match admin.control.readiness() {
        Readiness::ShuttingDown => not_ready("Gateway is shutting down"),
        Readiness::StoreUnavailable => not_ready("Redis connection not available"),
        Readiness::NotLoaded => not_ready("A successful API reload did not happen"),
        Readiness::Ready => tell(&admin, "pass", "Tyk GW Ready", &admin.control.health().0),
    }
}

fn tell(
    admin: &Inner,
    status: &'static str,
    description: &'static str,
    parts: &BTreeMap<String, Component>,
) -> Response {
    let details = parts.iter();
    let hello = Hello {
        status,
        version: &admin.settings.version,
        description,
        details: details.map(|(name, part)| (&**name, part.into())).collect(),
    };
    let body = serde_json::to_string(&hello).unwrap_or_default();
    json(StatusCode::OK, body)
}

fn method_not_allowed() -> Response {
    Refusal::new(405, "Method Not Allowed").into_response()
}

/// `GET /tyk/health?api_id=…`.
pub(crate) fn of_api(admin: &Inner, call: &Call) -> Answer {
    if !admin.settings.health_checks {
        let message = "Health checks are not enabled for this node";
        return Err(Refusal::new(400, message));
    }
    let api = call.query.given("api_id");
    let api = api.ok_or(Refusal::new(400, "missing api_id parameter"))?;
    let apis = admin.control.apis();
    let api = apis.get(&api.into());
    let api = api.ok_or(Refusal::new(404, "API ID not found"))?;
    let health = admin.control.api_health(api.id());
    let body = serde_json::to_string(&health).unwrap_or_default();
    Ok(json(StatusCode::OK, body))
}
