//! `/tyk/org/keys…`: the records of organisations.

use http::StatusCode;
use tollgate_core::{
    Loaded, OrgId, Session,
    store::{Expect, ListQuery, StorageKey, StoreErrorKind, Version},
    token::MAX_TOKEN_LENGTH,
};

use crate::{
    Inner,
    answer::{self, Answer, Refusal, json, modified, names},
    call::{Call, Tail, json_text},
    glob,
    keys::{Policies, read_sent, to_json},
};

/// `GET /tyk/org/keys`.
pub(crate) async fn list(admin: &Inner, call: &Call) -> Answer {
    if admin.control.apis().is_empty() {
        return Err(Refusal::new(404, "ORG not found"));
    }
    let start = StorageKey::organisation(&OrgId::default());
    let filter = call.query.get("filter");
    let mut query = ListQuery {
        prefix: format!("{}{}", start.as_str(), glob::literal_start(filter)),
        ..ListQuery::default()
    };
    let mut keys = Vec::new();
    loop {
        let page = admin.store.list(query.clone()).await?;
        let orgs = page.keys.iter();
        let orgs = orgs.filter_map(|key| key.strip_prefix(start.as_str()));
        let wanted = orgs.filter(|org| glob::starts_as(org, filter));
        keys.extend(wanted.map(str::to_owned));
        match page.next {
            Some(next) if keys.len() < admin.settings.max_listed => query.cursor = Some(next),
            _ => return Ok(names(&keys)),
        }
    }
}

/// `GET /tyk/org/keys/{org}`.
pub(crate) async fn show(admin: &Inner, org: &str) -> Answer {
    if admin.control.apis().is_empty() {
        return Err(Refusal::new(404, "Org not found"));
    }
    let loaded = find(admin, org).await?;
    let loaded = loaded.ok_or(Refusal::new(404, "Org not found"))?;
    let mut session = Session::clone(loaded.session());
    admin.fill_in_organisation(&loaded, &mut session).await?;
    Ok(json(StatusCode::OK, to_json(&session, Policies::Ignored)))
}

/// `POST` and `PUT /tyk/org/keys/{org}`, which differ in the word alone.
pub(crate) async fn write(admin: &Inner, call: &Call, org: &str, action: &'static str) -> Answer {
    let session =
        json_text(&call.body, Tail::Ignored).and_then(|json| read_sent(&json, &admin.settings));
    let mut session = session.ok_or(Refusal::new(400, "Request malformed"))?;
    if MAX_TOKEN_LENGTH < org.len() {
        return Err(Refusal::new(400, "Request malformed"));
    }
    if admin.control.apis().is_empty() && !admin.settings.default_org_store {
        let message = "No such organisation found in Active API list";
        return Err(Refusal::new(404, message));
    }
    let now = admin.now().unix().0;
    session.last_updated = now.to_string();
    let resets = call.query.get("reset_quota") == "1";
    if resets {
        let period = session.quota_renewal_rate;
        session.quota_renews = now.cast_signed().saturating_add(period);
    }
    let key = StorageKey::organisation(&org.into());
    let put = admin
        .store
        .put(key.as_str(), session.clone(), Expect::Anything, None);
    put.await.map_err(|error| {
        answer::log(&error, "an organisation's record was not written");
        Refusal::new(500, "Error writing to key store")
    })?;
    if resets {
        let loaded = Loaded::new(key, session, Version(0));
        admin.reset_organisation(&loaded).await?;
    }
    Ok(modified(org, action, None))
}

/// `DELETE /tyk/org/keys/{org}`. Its counters go with it, so that a new record starts at zero.
pub(crate) async fn delete(admin: &Inner, org: &str) -> Answer {
    if admin.control.apis().is_empty() {
        return Err(Refusal::new(404, "Org not found"));
    }
    let loaded = find(admin, org).await?;
    let key = StorageKey::organisation(&org.into());
    if !admin.store.delete(key.as_str()).await? {
        return Err(Refusal::new(400, "Failed to remove the key"));
    }
    if let Some(loaded) = loaded {
        admin.reset_organisation(&loaded).await?;
    }
    Ok(modified(org, "deleted", None))
}

async fn find(admin: &Inner, org: &str) -> Result<Option<std::sync::Arc<Loaded>>, Refusal> {
    let key = StorageKey::organisation(&org.into());
    match admin.store.get(key.as_str()).await {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(None),
        found => Ok(found?),
    }
}
