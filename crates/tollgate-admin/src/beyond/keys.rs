//! One key: found, shown, replaced, removed.

use axum::{body::Body, response::Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tollgate_core::{Loaded, OrgId, Secret, Session, store::Version};

use super::{Answer, Asked, Problem, flag, json, unknown_key, with_etag};
use crate::{
    Inner,
    keys::{Policies, delete::remove, read, to_json, write, write::Counters},
    lookup::Named,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Find {
    token: Secret,
    #[serde(default)]
    org_id: OrgId,
}

#[derive(Serialize)]
struct Name<'a> {
    key: &'a str,
}

/// `POST /tollgate/find`.
pub(super) async fn find(admin: &Inner, asked: &Asked) -> Answer {
    let Find { token, org_id } = asked.read()?;
    let named = Named::Presented(org_id, token.expose());
    let found = admin.find(&named).await?;
    let found = found.ok_or_else(unknown_key)?;
    let key = found.loaded.key().as_str();
    Ok(json(StatusCode::OK, &Name { key }))
}

#[derive(Serialize)]
struct Key<'a> {
    key: &'a str,
    session: Box<RawValue>,
}

/// `GET /tollgate/keys/{key}`.
pub(super) async fn show(admin: &Inner, asked: &Asked) -> Answer {
    let loaded = asked.find(admin).await?;
    told(&loaded, loaded.version())
}

fn told(loaded: &Loaded, version: Version) -> Answer {
    let body = Key {
        key: loaded.key().as_str(),
        session: shown(loaded.session())?,
    };
    Ok(with_etag(json(StatusCode::OK, &body), version))
}

/// A session as it is stored, without its password.
pub(super) fn shown(session: &Session) -> Result<Box<RawValue>, Problem> {
    let session = to_json(session, Policies::Ignored);
    RawValue::from_string(session).map_err(|_| {
        let detail = "the key can not be shown";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })
}

/// `PUT /tollgate/keys/{key}`. Without `If-Match` the last writer stands.
pub(super) async fn replace(admin: &Inner, asked: &Asked) -> Answer {
    let session = sent(admin, asked)?;
    let counters = if flag(asked, "reset_counters")? {
        Counters::Reset
    } else {
        Counters::Keep
    };
    let (creates, is_dry) = (flag(asked, "create")?, flag(asked, "dry_run")?);
    for _ in 0..write::TRIES {
        let loaded = match admin.find(&Named::Stored(&asked.key)).await? {
            Some(found) => found.loaded,
            None if creates && !asked.is_conditional() => {
                match make(admin, asked, session.clone(), is_dry).await? {
                    Some(made) => return Ok(made),
                    None => continue, // Another made it meanwhile.
                }
            }
            None => return Err(unknown_key()),
        };
        asked.check_match(&loaded)?;
        if is_dry {
            return told(&loaded, loaded.version());
        }
        match write::replace(admin, &loaded, session.clone(), counters).await {
            Err(write::PutError::Faster) if !asked.is_conditional() => {}
            Err(error) => return Err(error.into()),
            Ok(version) => {
                let loaded = asked.find(admin).await?;
                return told(&loaded, version);
            }
        }
    }
    Err(Problem::new(
        StatusCode::CONFLICT,
        "other writers were faster",
    ))
}

/// Makes the key that the path names, which is not there.
async fn make(
    admin: &Inner,
    asked: &Asked,
    session: Session,
    is_dry: bool,
) -> Result<Option<Response>, Problem> {
    let restored = write::Restored::new(admin, &asked.key, session).await?;
    let session = shown(restored.session())?;
    let key = &asked.key;
    let response = json(StatusCode::CREATED, &Key { key, session });
    if is_dry {
        return Ok(Some(response));
    }
    match restored.put(admin).await {
        Ok(version) => Ok(Some(with_etag(response, version))),
        Err(write::PutError::Faster) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn sent(admin: &Inner, asked: &Asked) -> Result<Session, Problem> {
    let text = std::str::from_utf8(&asked.body).unwrap_or_default();
    let Some(session) = read(text) else {
        // Which member it is may be told; what it holds may be a secret.
        let place = Session::from_json(&asked.body).err();
        let place = place.map_or_else(|| ".".into(), |error| error.path().to_owned());
        return Err(Problem::bad_request(format!("no session: {place}")));
    };
    let now = admin.now().unix().0;
    if 0 < session.expires && session.expires.cast_unsigned() < now {
        return Err(Problem::bad_request("expires is in the past"));
    }
    let Ok(merged) = admin.merged(&session) else {
        let detail = "the session grants nothing, or its policies make no session";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
    };
    admin.check_meta_data(&merged)?;
    Ok(session)
}

/// `DELETE /tollgate/keys/{key}`. With `If-Match` the record is first written as one that nobody can
/// use, which fails where it has changed: a store removes without looking.
pub(super) async fn delete(admin: &Inner, asked: &Asked) -> Answer {
    let loaded = asked.find(admin).await?;
    if asked.is_conditional() {
        asked.check_match(&loaded)?;
        let closed = Session {
            is_inactive: true,
            ..(**loaded.session()).clone()
        };
        let put = admin.replace(&loaded, closed, None).await;
        put.map_err(|error| Problem::from(write::PutError::from(error)))?;
    }
    if !remove(admin, loaded.key()).await? {
        return Err(unknown_key());
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
