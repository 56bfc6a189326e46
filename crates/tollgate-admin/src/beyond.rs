//! `/tollgate/…`: what Tyk has not.
//!
//! Keys are named by their name in the store, as listings tell it, so that no token stands in a path;
//! `POST /tollgate/find` tells the name of a token. Errors are `application/problem+json`
//! (RFC 9457).

mod explain;
mod keys;
mod list;
mod openapi;
mod problem;
mod rights;
mod rotate;
mod usage;

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use tollgate_core::Loaded;

use self::problem::Problem;
use crate::{
    Inner,
    call::{Query, read_body},
    lookup::Named,
    tyk::{is_authorised, is_our_host},
};

/// What a handler here ends with.
type Answer = Result<Response, Problem>;

type Handler =
    for<'a> fn(&'a Inner, &'a Asked) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// A request, read.
struct Asked {
    /// What stands for `{key}` in the path.
    key: String,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
}

/// Who may ask.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Who {
    /// Whoever shows the secret.
    Administrator,
    /// Whoever shows a token.
    Holder,
}

/// One thing that can be asked for. The OpenAPI document is made of these.
struct Route {
    method: &'static str,
    path: &'static str,
    who: Who,
    handler: Handler,
    summary: &'static str,
    /// Parameters of the query, with what they mean.
    query: &'static [(&'static str, &'static str)],
    /// The schema of the body, where there is one.
    body: Option<&'static str>,
    /// The status of success, and the schema of its body.
    answer: (u16, Option<&'static str>),
    /// Whether `If-Match` is looked at.
    conditional: bool,
}

const ROUTE: Route = Route {
    method: "GET",
    path: "",
    who: Who::Administrator,
    handler: |_, _| Box::pin(async { Err(problem::unknown_path()) }),
    summary: "",
    query: &[],
    body: None,
    answer: (200, None),
    conditional: false,
};

const ROUTES: &[Route] = &[
    Route {
        path: "/tollgate/openapi.json",
        handler: |_, _| Box::pin(openapi::show()),
        summary: "This document",
        answer: (200, Some("Document")),
        ..ROUTE
    },
    Route {
        path: "/tollgate/keys",
        handler: |admin, asked| Box::pin(list::list(admin, asked)),
        summary: "A page of the keys that all filters let through; the last page has no cursor",
        query: list::PARAMETERS,
        answer: (200, Some("KeyPage")),
        ..ROUTE
    },
    Route {
        method: "POST",
        path: "/tollgate/find",
        handler: |admin, asked| Box::pin(keys::find(admin, asked)),
        summary: "The name of the key that a token opens",
        body: Some("Find"),
        answer: (200, Some("Name")),
        ..ROUTE
    },
    Route {
        path: "/tollgate/keys/{key}",
        handler: |admin, asked| Box::pin(keys::show(admin, asked)),
        summary: "A key as it is stored, without what policies add",
        answer: (200, Some("Key")),
        ..ROUTE
    },
    Route {
        method: "PUT",
        path: "/tollgate/keys/{key}",
        handler: |admin, asked| Box::pin(keys::replace(admin, asked)),
        summary: "Replace a key's session; counters stay unless they are reset",
        query: &[
            ("reset_counters", "true starts the counters afresh"),
            (
                "create",
                "true makes the key where there is none of this name: 201",
            ),
            ("dry_run", "true writes nothing, and answers as if it had"),
        ],
        body: Some("Session"),
        answer: (200, Some("Key")),
        conditional: true,
        ..ROUTE
    },
    Route {
        method: "DELETE",
        path: "/tollgate/keys/{key}",
        handler: |admin, asked| Box::pin(keys::delete(admin, asked)),
        summary: "Remove a key and its counters",
        answer: (204, None),
        conditional: true,
        ..ROUTE
    },
    Route {
        path: "/tollgate/keys/{key}/rights",
        handler: |admin, asked| Box::pin(rights::show(admin, asked)),
        summary: "What a key may do with its policies applied, and which policy says so",
        answer: (200, Some("Rights")),
        ..ROUTE
    },
    Route {
        path: "/tollgate/keys/{key}/usage",
        handler: |admin, asked| Box::pin(usage::of_key(admin, asked)),
        summary: "Where the limits of a key stand",
        answer: (200, Some("Usage")),
        ..ROUTE
    },
    Route {
        method: "POST",
        path: "/tollgate/keys/{key}/rotate",
        handler: |admin, asked| Box::pin(rotate::rotate(admin, asked)),
        summary: "A new token for the same session; the old one ends after an overlap, and both count \
                  by the same counters",
        body: Some("Rotate"),
        answer: (201, Some("Rotated")),
        conditional: true,
        ..ROUTE
    },
    Route {
        path: "/tollgate/usage",
        who: Who::Holder,
        handler: |admin, asked| Box::pin(usage::of_holder(admin, asked)),
        summary: "Where the limits of one's own token stand; shown in Authorization",
        query: &[(
            "org_id",
            "the organisation, where an id is shown in place of a whole token",
        )],
        answer: (200, Some("Usage")),
        ..ROUTE
    },
    Route {
        method: "POST",
        path: "/tollgate/explain",
        handler: |admin, asked| Box::pin(explain::explain(admin, asked)),
        summary: "What every gate would say of a request, by which values, and where they come from",
        body: Some("Question"),
        answer: (200, Some("Explanation")),
        ..ROUTE
    },
];

pub(crate) fn router(admin: &Arc<Inner>) -> Router {
    Router::new()
        .route("/tollgate/{*rest}", any(serve))
        .with_state(admin.clone())
}

async fn serve(State(admin): State<Arc<Inner>>, request: Request) -> Response {
    answer(&admin, request)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn answer(admin: &Inner, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let meant: Vec<(&Route, String)> = ROUTES
        .iter()
        .filter_map(|route| Some((route, matches(route.path, path)?)))
        .collect();
    let is_holders = meant.iter().any(|(route, _)| route.who == Who::Holder);
    if !is_holders {
        check_administrator(admin, &head.headers, &head.uri)?;
    }
    if meant.is_empty() {
        return Err(problem::unknown_path());
    }
    let methods: Vec<&str> = meant.iter().map(|(route, _)| route.method).collect();
    let mut meant = meant.into_iter();
    let Some((route, key)) = meant.find(|(route, _)| route.method == head.method.as_str()) else {
        let allow = HeaderValue::from_str(&methods.join(", "));
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not asked so");
        return Err(match allow {
            Ok(allow) => problem.with_header(header::ALLOW, allow),
            Err(_) => problem,
        });
    };
    let query = Query::of(head.uri.query());
    if let Some((name, _)) = query.iter().find(|(name, _)| !is_known(route, name)) {
        return Err(Problem::bad_request(format!("unknown parameter {name:?}")));
    }
    let request = Request::from_parts(head, body);
    let headers = request.headers().clone();
    let body = read_body(request, admin.settings.max_body).await;
    let body = body.map_err(|status| Problem::new(status, "the body could not be read"))?;
    let asked = Asked {
        key,
        query,
        headers,
        body,
    };
    (route.handler)(admin, &asked).await
}

/// Whether the caller shows the secret.
fn check_administrator(admin: &Inner, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    if !is_our_host(admin.settings.hostname.as_deref(), headers, uri) {
        return Err(problem::unknown_path());
    }
    if !is_authorised(&admin.settings.secret, headers) {
        let detail = "the secret is missing or wrong";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(())
}

/// Lets nobody on who does not show the secret.
pub(crate) async fn guard(
    State(admin): State<Arc<Inner>>,
    request: Request,
    next: Next,
) -> Response {
    match check_administrator(&admin, request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// A misspelt filter must not be read as none. A name that ends in `.` begins others.
fn is_known(route: &Route, name: &str) -> bool {
    let mut known = route.query.iter();
    known.any(|(known, _)| *known == name || (known.ends_with('.') && name.starts_with(known)))
}

/// What stands for `{key}` in a path of this template; empty where nothing does.
fn matches(template: &str, path: &str) -> Option<String> {
    let parts: Vec<&str> = template.split('/').collect();
    let segments: Vec<&str> = path.split('/').collect();
    if parts.len() != segments.len() {
        return None;
    }
    let mut key = String::new();
    for (part, raw) in parts.into_iter().zip(segments) {
        let found = percent_decode_str(raw).decode_utf8().ok()?;
        if part == "{key}" && !found.is_empty() {
            key = found.into_owned(); // A token may hold a slash.
        } else if part != found {
            return None;
        }
    }
    Some(key)
}

impl Asked {
    /// The body as one of ours.
    fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // What serde says of a value may hold it; where it is does not.
            let place = (error.line(), error.column());
            let (line, column) = place;
            Problem::bad_request(format!(
                "the body is not as it should be at {line}:{column}"
            ))
        })
    }

    /// The key that the path names.
    async fn find(&self, admin: &Inner) -> Result<Arc<Loaded>, Problem> {
        let found = admin.find(&Named::Stored(&self.key)).await?;
        Ok(found.ok_or_else(unknown_key)?.loaded)
    }

    /// Whether the caller has seen the record as it is.
    fn check_match(&self, loaded: &Loaded) -> Result<(), Problem> {
        let mut given = self.headers.get_all(header::IF_MATCH).iter().peekable();
        if given.peek().is_none() {
            return Ok(());
        }
        let current = etag(loaded.version());
        let matches = given.filter_map(|value| value.to_str().ok()).any(|value| {
            let mut tags = value.split(',').map(str::trim);
            tags.any(|tag| tag == "*" || tag == current)
        });
        if matches {
            Ok(())
        } else {
            Err(problem::changed())
        }
    }

    fn is_conditional(&self) -> bool {
        self.headers.contains_key(header::IF_MATCH)
    }
}

fn unknown_key() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such key")
}

/// A parameter that is true or false; false where it is not given.
fn flag(asked: &Asked, name: &str) -> Result<bool, Problem> {
    match asked.query.get(name) {
        "true" => Ok(true),
        "" | "false" => Ok(false),
        _ => Err(Problem::bad_request(format!("{name} is true or false"))),
    }
}

fn etag(version: tollgate_core::store::Version) -> String {
    format!("\"{}\"", version.0)
}

/// A JSON body. What is told of keys is for nobody's cache.
fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn with_etag(mut response: Response, version: tollgate_core::store::Version) -> Response {
    if let Ok(etag) = HeaderValue::from_str(&etag(version)) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
