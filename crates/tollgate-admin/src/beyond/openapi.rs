//! The OpenAPI document: made of the tables of routes, with the schemas below.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Answer, ROUTES, Route, Who, json as answer};
use crate::tyk;

/// `GET /tollgate/openapi.json`.
pub(super) async fn show() -> Answer {
    Ok(answer(StatusCode::OK, &document()))
}

/// The whole document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    for (methods, path, summary) in tyk::ROUTES {
        let names = path_names(path);
        let place = paths
            .entry(format!("/tyk{path}"))
            .or_insert_with(|| json!({}));
        for method in *methods {
            place[method.to_lowercase()] = tyk_operation(&names, summary);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate control API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Below /tyk what Tyk's gateway answers, below /tollgate more.",
        },
        "security": [{"secret": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "secret": {"type": "apiKey", "in": "header", "name": "X-Tyk-Authorization"},
                "token": {"type": "http", "scheme": "bearer"},
            },
            "schemas": schemas(),
        },
    })
}

/// The names in braces.
fn path_names(path: &str) -> Vec<&str> {
    let parts = path.split('/');
    let names = parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.collect()
}

fn path_parameters(names: &[&str]) -> Vec<Value> {
    let parameter = |name: &&str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    names.iter().map(parameter).collect()
}

fn operation(route: &Route) -> Value {
    let mut parameters = path_parameters(&path_names(route.path));
    for (name, meaning) in route.query {
        let schema = json!({"type": "string"});
        parameters.push(match name.strip_suffix('.') {
            None => json!({"name": name, "in": "query", "description": meaning, "schema": schema}),
            Some(name) => json!({
                "name": name, "in": "query", "description": meaning, "style": "form", "explode": true,
                "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            }),
        });
    }
    if route.conditional {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "schema": {"type": "string"},
            "description": "the ETag that was read; 412 where the key has changed since",
        }));
    }
    let (status, schema) = route.answer;
    let mut success = json!({"description": "Done"});
    if let Some(schema) = schema {
        success["content"] = json!({"application/json": {"schema": reference(schema)}});
    }
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters,
        "responses": {
            status.to_string(): success,
            "default": {
                "description": "Not done",
                "content": {"application/problem+json": {"schema": reference("Problem")}},
            },
        },
    });
    if let Some(schema) = route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": reference(schema)}},
        });
    }
    if route.who == Who::Holder {
        operation["security"] = json!([{"token": []}]);
    }
    operation
}

fn tyk_operation(names: &[&str], summary: &str) -> Value {
    json!({
        "summary": summary,
        "parameters": path_parameters(names),
        "responses": {
            "200": {"description": "Done; as Tyk's documents have it"},
            "default": {
                "description": "Not done",
                "content": {"application/json": {"schema": reference("Status")}},
            },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": text});
    let number = json!({"type": "integer"});
    let flag = json!({"type": "boolean"});
    let time = json!({"type": ["integer", "null"], "description": "Unix seconds"});
    let item = json!({
        "key": text, "alias": text, "org_id": text, "policies": texts, "expires": time,
        "is_inactive": flag,
    });
    let limit = json!({
        "kind": {"enum": ["rate", "quota"]}, "max": number, "per_seconds": {"type": "number"},
        "api_id": {"type": ["string", "null"]}, "scope": text, "used": number, "remaining": number,
        "resets": time,
    });
    let fact = json!({"name": text, "value": text, "source": text});
    let decision = json!({
        "is": {"enum": ["passed", "refused", "observed", "not_asked"]},
        "code": text, "status": number, "message": text,
    });
    let gate = json!({
        "gate": text,
        "decision": object(&["is"], decision),
        "facts": {"type": "array", "items": object(&["name", "value", "source"], fact)},
    });
    let all = |schema: Value| json!({"type": "array", "items": schema});
    json!({
        "Document": {"type": "object"},
        "Session": {"type": "object", "description": "Tyk's session object"},
        "Problem": object(
            &["title", "status", "detail"],
            json!({"type": text, "title": text, "status": number, "detail": text}),
        ),
        "Status": object(&["status", "message"], json!({"status": text, "message": text})),
        "Find": object(&["token"], json!({"token": text, "org_id": text})),
        "Name": object(&["key"], json!({"key": text})),
        "Key": object(
            &["key", "session"],
            json!({"key": text, "session": reference("Session")}),
        ),
        "KeyPage": object(
            &["keys"],
            json!({"keys": all(object(&["key"], item)), "cursor": text}),
        ),
        "Rights": object(&["key", "apis"], json!({
            "key": text, "alias": text, "org_id": text, "policies": texts,
            "missing_policies": texts, "is_inactive": flag, "is_master": flag, "expires": time,
            "apis": {"type": "object", "additionalProperties": {"type": "object"}},
        })),
        "Usage": object(&["limits"], json!({"limits": all(object(&["kind", "max"], limit))})),
        "Rotate": object(&["overlap_seconds"], json!({"overlap_seconds": number})),
        "Rotated": object(
            &["key", "token", "replaces", "old_token_ends"],
            json!({"key": text, "token": text, "replaces": text, "old_token_ends": number}),
        ),
        "Question": object(&["path"], json!({
            "token": text, "method": text, "path": text, "host": text,
            "headers": {"type": "object", "additionalProperties": text},
        })),
        "Explanation": object(&["answers"], json!({"answers": all(object(&["gate"], gate))})),
    })
}
