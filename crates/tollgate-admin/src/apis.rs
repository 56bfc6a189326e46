//! `/tyk/apis…`: definitions as they are in force, written for the next reload.

mod written_out;

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use tollgate_core::{
    ApiId, OrgId,
    token::{Token, TokenForm},
};

use self::written_out::written_out;
use crate::{
    ApiRecord, ControlError, ControlErrorKind, Inner,
    answer::{self, Answer, Refusal, done, json, modified},
    call::{Call, Tail, json_text},
    members::Members,
};

/// `GET /tyk/apis`.
pub(crate) fn list(admin: &Inner) -> Answer {
    let apis = admin.control.apis();
    let all: Vec<String> = apis.iter().map(|api| written_out(api.json())).collect();
    Ok(json(StatusCode::OK, format!("[{}]", all.join(","))))
}

/// `GET /tyk/apis/{id}`.
pub(crate) fn show(admin: &Inner, id: &str) -> Answer {
    let api = find(admin, id)?;
    let mut response = json(StatusCode::OK, written_out(api.json()));
    if let Some(base) = admin.control.apis().base_of(api.id())
        && let Ok(base) = HeaderValue::from_str(base.id().as_str())
    {
        let name = HeaderName::from_static("x-tyk-base-api-id");
        response.headers_mut().insert(name, base);
    }
    Ok(response)
}

/// `POST /tyk/apis`: an id is made where there is none.
pub(crate) async fn create(admin: &Inner, call: &Call) -> Answer {
    let (record, mut members) = read(call)?;
    let mut id = record.id().clone();
    if id.is_empty() {
        id = new_id()?;
        members.set("api_id", &id);
    }
    write(admin, &id, &members).await?;
    Ok(modified(id.as_str(), "added", None))
}

/// `PUT /tyk/apis/{id}`.
pub(crate) async fn update(admin: &Inner, call: &Call, id: &str) -> Answer {
    find(admin, id)?;
    let (record, members) = read(call)?;
    if record.id().as_str() != id {
        let message = "Request APIID does not match that in Definition! For Update operations these \
                       must match.";
        return Err(Refusal::new(400, message));
    }
    write(admin, record.id(), &members).await?;
    Ok(modified(id, "modified", None))
}

/// `DELETE /tyk/apis/{id}`.
pub(crate) async fn delete(admin: &Inner, id: &str) -> Answer {
    let api = find(admin, id)?;
    check_id(api.id())?;
    let removed = admin.control.remove_api(api.id().clone()).await;
    removed.map_err(|error| refused(&error, "Delete failed"))?;
    Ok(modified(id, "deleted", None))
}

/// `GET /tyk/apis/{id}/versions`: the API itself, then those that are versions of it.
pub(crate) fn versions(admin: &Inner, call: &Call, id: &str) -> Answer {
    let base = find(admin, id)?;
    let apis = admin.control.apis();
    let versions = &base.facts().definition;
    let children = versions.versions.iter();
    let children = children.filter(|_| versions.enabled);
    let children = children.filter_map(|(name, id)| Some((name, apis.get(id)?)));
    let own = if versions.enabled {
        &*versions.name
    } else {
        ""
    };
    let is_default = |name: &str| versions.default == name;
    let mut all = vec![Version {
        is_default_version: !versions.enabled || (!own.is_empty() && is_default(own)),
        ..Version::of(&base, own)
    }];
    all.extend(children.map(|(name, api)| Version {
        is_default_version: is_default(name),
        ..Version::of(api, name)
    }));
    let search = call.query.get("searchText").to_lowercase();
    let access = call.query.get("accessType");
    all.retain(|version| {
        let is_meant = version.version_name.to_lowercase().contains(&search);
        let is_accessible = match access {
            "internal" => version.internal,
            "external" => !version.internal,
            _ => true,
        };
        is_meant && is_accessible
    });
    let body = Versions {
        status: "success",
        apis: (!all.is_empty()).then_some(all),
    };
    let body = serde_json::to_string(&body).unwrap_or_default();
    Ok(json(StatusCode::OK, body))
}

/// `DELETE /tyk/cache/{id}`. Ids that nobody has are as good as any.
pub(crate) async fn invalidate_cache(admin: &Inner, id: &str) -> Answer {
    let invalidated = admin.control.invalidate_cache(id.into()).await;
    invalidated.map_err(|error| {
        answer::log(&error, "a cache was not emptied");
        Refusal::new(500, "Cache invalidation failed")
    })?;
    Ok(done("cache invalidated"))
}

#[derive(Serialize)]
struct Versions<'a> {
    status: &'static str,
    apis: Option<Vec<Version<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version<'a> {
    id: &'a str,
    name: &'a str,
    version_name: &'a str,
    internal: bool,
    expiration_date: &'a str,
    is_default_version: bool,
}

impl<'a> Version<'a> {
    fn of(api: &'a ApiRecord, version_name: &'a str) -> Self {
        let facts = api.facts();
        Self {
            id: facts.api_id.as_str(),
            name: &facts.name,
            version_name,
            internal: facts.internal,
            expiration_date: &facts.expiration,
            is_default_version: false,
        }
    }
}

fn find(admin: &Inner, id: &str) -> Result<Arc<ApiRecord>, Refusal> {
    let apis = admin.control.apis();
    let api = apis.get(&id.into()).cloned();
    api.ok_or(Refusal::new(404, "API not found"))
}

fn read(call: &Call) -> Result<(ApiRecord, Members), Refusal> {
    let malformed = || Refusal::new(400, "Request malformed");
    let text = match json_text(&call.body, Tail::Ignored).ok_or_else(malformed)? {
        null if null == "null" => "{}".to_owned(),
        text => text,
    };
    let members = Members::of(&text).map_err(|_| malformed())?;
    let record = ApiRecord::from_json(text).map_err(|_| malformed())?;
    Ok((record, members))
}

async fn write(admin: &Inner, id: &ApiId, members: &Members) -> Result<(), Refusal> {
    check_id(id)?;
    let written = admin.control.write_api(id.clone(), members.to_json());
    let written = written.await;
    written.map_err(|error| refused(&error, "Failed to create file!"))
}

/// An id becomes the name of a file.
fn check_id(id: &ApiId) -> Result<(), Refusal> {
    let id = id.as_str();
    let is_safe = |c: u8| c.is_ascii_alphanumeric() || b"._-~".contains(&c);
    if id.starts_with('.') || !id.bytes().all(is_safe) || 200 < id.len() {
        return Err(Refusal::new(400, "Invalid API ID"));
    }
    Ok(())
}

fn new_id() -> Result<ApiId, Refusal> {
    let random = Token::generate(&OrgId::default(), None, TokenForm::Joined);
    let random = random.map_err(|error| {
        answer::log(&error, "an id could not be made");
        Refusal::new(500, "Failed to create file!")
    })?;
    Ok(random.expose().into())
}

fn refused(error: &ControlError, otherwise: &'static str) -> Refusal {
    match error.kind() {
        ControlErrorKind::Invalid => Refusal::new(
            400,
            format!("Validation of API Definition failed. Reason: {error}."),
        ),
        ControlErrorKind::NotFiles => Refusal::new(
            500,
            "Due to enabled use_db_app_configs, please use the Dashboard API",
        ),
        _ => {
            answer::log(error, "a definition was not written");
            Refusal::new(500, otherwise)
        }
    }
}
