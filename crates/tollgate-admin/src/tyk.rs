//! `/tyk/…`: who may ask, which path is meant, who answers.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use tollgate_core::{Secret, access::clean_target};

use crate::{
    Inner, Reach,
    answer::{Answer, Refusal, not_found},
    apis,
    call::{Call, Query, read_body, segment},
    health,
    keys::{delete, list, policy, read, write},
    org, policies, reload,
};

/// The header that must say the secret.
pub(crate) const AUTHORIZATION: &str = "x-tyk-authorization";

/// What there is: methods, path, and what it does. The path decides whether a wrong method is 405 or a
/// path is unknown, and the OpenAPI document lists them.
pub(crate) const ROUTES: &[(&[&str], &str, &str)] = &[
    (&["GET"], "/reload", "Load definitions and policies anew"),
    (
        &["GET"],
        "/reload/group",
        "The same on every gateway that shares the store",
    ),
    (
        &["GET", "POST", "PUT", "DELETE"],
        "/keys",
        "List keys; make one",
    ),
    (&["POST"], "/keys/create", "Make a key with a random token"),
    (
        &["POST"],
        "/keys/preview",
        "Show a session with its policies, storing nothing",
    ),
    (
        &["POST"],
        "/keys/policy/{hash}",
        "Set the policies of a key",
    ),
    (
        &["POST"],
        "/keys/reset/{id}",
        "Start the counters of a key afresh",
    ),
    (
        &["GET", "POST", "PUT", "DELETE"],
        "/keys/{id}",
        "Show, make, replace or remove a key",
    ),
    (
        &["GET"],
        "/org/keys",
        "List organisations that have a record",
    ),
    (
        &["GET", "POST", "PUT", "DELETE"],
        "/org/keys/{org}",
        "The record of an organisation",
    ),
    (
        &["GET", "POST", "PUT", "DELETE"],
        "/policies",
        "List policies; write one",
    ),
    (
        &["GET", "POST", "PUT", "DELETE"],
        "/policies/{id}",
        "Show, write or remove a policy",
    ),
    (
        &["GET", "POST", "PUT", "DELETE"],
        "/apis",
        "List definitions; write one",
    ),
    (
        &["GET", "POST", "PUT", "DELETE"],
        "/apis/{id}",
        "Show, write or remove a definition",
    ),
    (&["GET"], "/apis/{id}/versions", "The versions of an API"),
    (
        &["DELETE"],
        "/cache/{api}",
        "Forget answers that were kept of an API",
    ),
    (&["GET"], "/health", "Tyk's old counts of an API"),
];

/// Parts of Tyk's control API that are not there: what their paths begin with, and what they are about.
const NOT_BUILT: &[(&[&str], &str)] = &[
    (&["certs"], "certificates"),
    (&["oauth"], "OAuth"),
    (&["apis", "oas"], "OpenAPI definitions"),
    (&["debug"], "tracing of definitions"),
    (&["schema"], "the schema of OpenAPI definitions"),
];

/// Every request below `/tyk/`.
pub(crate) async fn serve(State(admin): State<Arc<Inner>>, request: Request) -> Response {
    if !is_our_host(
        admin.settings.hostname.as_deref(),
        request.headers(),
        request.uri(),
    ) {
        return not_found();
    }
    if !is_authorised(&admin.settings.secret, request.headers()) {
        let message = "Attempted administrative access with invalid or missing key!";
        return Refusal::new(403, message).into_response();
    }
    if let Some(location) = moved(request.uri()) {
        return redirect(&location);
    }
    let call = match read_call(&admin, request).await {
        Ok(Some(call)) => call,
        Ok(None) => return not_found(),
        Err(refusal) => return refusal.into_response(),
    };
    answer(&admin, &call)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

/// Whether the request shows the secret, compared in a time that does not tell how much of it is
/// right. An empty secret is nobody's.
pub(crate) fn is_authorised(secret: &Secret, headers: &HeaderMap) -> bool {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(shown), None) = (shown.next(), shown.next()) else {
        return false;
    };
    let shown = shown.to_str().map(Secret::from);
    !secret.is_empty() && shown.is_ok_and(|shown| shown == *secret)
}

/// Whether the API is to be answered under the host that was asked.
pub(crate) fn is_our_host(ours: Option<&str>, headers: &HeaderMap, uri: &Uri) -> bool {
    let Some(ours) = ours.filter(|ours| !ours.is_empty()) else {
        return true;
    };
    let header = headers.get(header::HOST);
    let header = header.and_then(|host| host.to_str().ok());
    let host = uri
        .authority()
        .map(|authority| authority.as_str())
        .or(header);
    let name = host.and_then(|host| host.parse::<http::uri::Authority>().ok());
    name.is_some_and(|name| name.host().eq_ignore_ascii_case(ours))
}

/// Where a path that is not in its plain form is: without empty segments and dots.
fn moved(uri: &Uri) -> Option<String> {
    if percent_decode_str(uri.path()).eq(*b"/tyk/") {
        return Some("/".into());
    }
    clean_target(uri)
}

fn redirect(location: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// The request, read; `None` for a path that can not be one of ours.
async fn read_call(admin: &Inner, request: Request) -> Result<Option<Call>, Refusal> {
    let path = request.uri().path();
    let path = path.strip_prefix("/tyk/").unwrap_or_default();
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Option<Vec<_>> = path.split('/').map(segment).collect();
    let Some(segments) = segments else {
        return Ok(None);
    };
    let method = request.method().clone();
    let query = Query::of(request.uri().query());
    let body = read_body(request, admin.settings.max_body).await;
    let body = body.map_err(|status| match status {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(413, "Request body is too large"),
        status => Refusal::new(status.as_u16(), "Request body could not be read"),
    })?;
    Ok(Some(Call {
        method,
        segments,
        query,
        body,
    }))
}

async fn answer(admin: &Inner, call: &Call) -> Answer {
    let path: Vec<&str> = call.segments.iter().map(|segment| &**segment).collect();
    if let Some(refusal) = not_built(&path) {
        return Err(refusal);
    }
    match (call.method.as_str(), &*path) {
        ("GET", ["reload"]) => reload::reload(admin, call, Reach::Single).await,
        ("GET", ["reload", "group"]) => reload::reload(admin, call, Reach::Group).await,
        ("GET", ["health"]) => health::of_api(admin, call),
        ("DELETE", ["cache", api]) => apis::invalidate_cache(admin, api).await,
        (_, ["keys", ..]) => answer_keys(admin, call, &path[1..]).await,
        (_, ["org", "keys", ..]) => answer_org(admin, call, &path[2..]).await,
        (_, ["policies", ..]) => answer_policies(admin, call, &path[1..]).await,
        (_, ["apis", ..]) => answer_apis(admin, call, &path[1..]).await,
        _ => unknown(&path),
    }
}

/// What is refused by name.
fn not_built(path: &[&str]) -> Option<Refusal> {
    let found = NOT_BUILT.iter().find(|(begin, _)| path.starts_with(begin));
    found.map(|(_, what)| Refusal::new(501, format!("Not built: {what}")))
}

async fn answer_keys(admin: &Inner, call: &Call, path: &[&str]) -> Answer {
    match (call.method.as_str(), path) {
        ("POST", ["create"]) => write::create(admin, call).await,
        ("POST", ["preview"]) => read::preview(admin, call),
        ("POST", ["policy", hash]) => policy::set(admin, call, hash).await,
        ("POST", ["reset", id]) => delete::reset(admin, call, id).await,
        ("GET", []) => list::list(admin, call).await,
        ("GET", [id]) => read::show(admin, call, id).await,
        ("POST", []) => write::create_named(admin, call, "").await,
        ("POST", [id]) => write::create_named(admin, call, id).await,
        ("PUT", []) => write::update(admin, call, "").await,
        ("PUT", [id]) => write::update(admin, call, id).await,
        ("DELETE", []) => delete::delete(admin, call, "").await,
        ("DELETE", [id]) => delete::delete(admin, call, id).await,
        _ => unknown(&["keys"].iter().chain(path).copied().collect::<Vec<_>>()),
    }
}

async fn answer_org(admin: &Inner, call: &Call, path: &[&str]) -> Answer {
    match (call.method.as_str(), path) {
        ("GET", []) => org::list(admin, call).await,
        ("GET", [id]) => org::show(admin, id).await,
        ("POST", [id]) => org::write(admin, call, id, "added").await,
        ("PUT", [id]) => org::write(admin, call, id, "modified").await,
        ("DELETE", [id]) => org::delete(admin, id).await,
        _ => unknown(
            &["org", "keys"]
                .iter()
                .chain(path)
                .copied()
                .collect::<Vec<_>>(),
        ),
    }
}

async fn answer_policies(admin: &Inner, call: &Call, path: &[&str]) -> Answer {
    match (call.method.as_str(), path) {
        ("GET", []) => policies::list(admin),
        ("GET", [id]) => policies::show(admin, id),
        ("POST", [] | [_]) => policies::write(admin, call, None).await,
        ("PUT", [id]) => policies::write(admin, call, Some(id)).await,
        ("DELETE", [id]) => policies::delete(admin, id).await,
        ("PUT", []) => Err(Refusal::new(400, "Must specify an apiID to update")),
        ("DELETE", []) => Err(Refusal::new(400, "Must specify an apiID to delete")),
        _ => unknown(&["policies"].iter().chain(path).copied().collect::<Vec<_>>()),
    }
}

async fn answer_apis(admin: &Inner, call: &Call, path: &[&str]) -> Answer {
    match (call.method.as_str(), path) {
        ("GET", []) => apis::list(admin),
        ("GET", [id]) => apis::show(admin, id),
        ("GET", [id, "versions"]) => apis::versions(admin, call, id),
        ("POST", [] | [_]) => apis::create(admin, call).await,
        ("PUT", [id]) => apis::update(admin, call, id).await,
        ("DELETE", [id]) => apis::delete(admin, id).await,
        ("PUT", []) => Err(Refusal::new(400, "Must specify an apiID to update")),
        ("DELETE", []) => Err(Refusal::new(400, "Must specify an apiID to delete")),
        _ => unknown(&["apis"].iter().chain(path).copied().collect::<Vec<_>>()),
    }
}

/// A known path, asked in a way that it has not; or no path at all.
fn unknown(path: &[&str]) -> Answer {
    let is_path = |template: &str| {
        let parts: Vec<&str> = template.split('/').skip(1).collect();
        let fits = |(part, segment): (&&str, &&str)| part.starts_with('{') || part == segment;
        parts.len() == path.len() && parts.iter().zip(path).all(fits)
    };
    if ROUTES.iter().any(|(_, template, _)| is_path(template)) {
        return Err(Refusal::new(405, "Method not supported"));
    }
    Ok(not_found())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, location: Option<&str>) {
        let uri: Uri = path.parse().unwrap();
        assert_eq!(moved(&uri).as_deref(), location, "{path}");
    }

    #[test]
    fn what_is_not_built_is_said_by_name() {
        let built = |path: &[&str]| not_built(path).is_none();
        assert!(!built(&["certs"]) && !built(&["certs", "abc"]));
        assert!(!built(&["oauth", "clients", "create"]) && !built(&["apis", "oas"]));
        assert!(built(&["apis", "oasis"]) && built(&["apis"]) && built(&["nothing"]));
    }

    #[test]
    fn a_path_that_is_not_plain_is_elsewhere() {
        check("/tyk/keys", None);
        check("/tyk/keys/", None);
        check("/tyk/keys/a%20b", None);
        check("/tyk/keys//", Some("/tyk/keys/"));
        check("/tyk//keys?a=b", Some("/tyk/keys?a=b"));
        check("/tyk/policies/..%2Fescaped", Some("/tyk/escaped"));
        check(
            "/tyk/keys/../a b".replace(' ', "%20").as_str(),
            Some("/tyk/a%20b"),
        );
        check("/tyk/", Some("/"));
    }

    #[test]
    fn only_the_whole_secret_lets_in() {
        let check = |secret: &str, shown: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for shown in shown {
                headers.append(AUTHORIZATION, shown.parse().unwrap());
            }
            let found = is_authorised(&secret.into(), &headers);
            assert_eq!(found, expected, "{shown:?} for {secret:?}");
        };
        check("abc", &["abc"], true);
        check("abc", &["abd"], false);
        check("abc", &["ab"], false);
        check("abc", &["abcd"], false);
        check("abc", &[""], false);
        check("abc", &[], false);
        check("abc", &["abc", "abc"], false);
        check("", &[""], false);
        check("", &[], false);
    }

    #[test]
    fn another_host_is_not_answered() {
        let check = |ours: Option<&str>, host: &str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            let uri = Uri::from_static("/tyk/keys");
            assert_eq!(is_our_host(ours, &headers, &uri), expected, "{host}");
        };
        check(None, "any", true);
        check(Some(""), "any", true);
        check(Some("admin.example"), "Admin.Example:8080", true);
        check(Some("admin.example"), "example", false);
    }
}
