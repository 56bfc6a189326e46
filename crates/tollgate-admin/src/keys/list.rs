//! Listing names of keys.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use tollgate_core::{
    ApiId,
    access::MasterKeys,
    store::{ListQuery, StoreErrorKind},
};

use crate::{
    Inner,
    answer::{Answer, Refusal, names},
    call::Call,
    glob,
    lookup::is_organisation,
};

/// `GET /tyk/keys`: hashes, or tokens where the store has those.
pub(crate) async fn list(admin: &Inner, call: &Call) -> Answer {
    let api = call.query.given("api_id");
    let mut filter = call.query.get("filter");
    if admin.is_hashing() {
        if !admin.settings.hashed_keys_listing {
            let message = "Hashed key listing is disabled in config (enable_hashed_keys_listing)";
            return Err(Refusal::new(404, message));
        }
        filter = "";
    } else if api.is_some() && filter.is_empty() {
        let message = "The 'filter' parameter (Org ID) is required when filtering by 'api_id' in \
                       legacy mode";
        return Err(Refusal::new(400, message));
    }
    let mut keys = all(admin, filter).await?;
    if !filter.is_empty() {
        keys.extend(all(admin, &json_tokens_of(filter)).await?);
        keys.sort_unstable();
        keys.dedup();
    }
    if let Some(api) = api {
        keys = granting(admin, keys, &api.into()).await?;
        keys.sort_unstable();
    }
    Ok(names(&keys))
}

/// What the JSON tokens of an organisation begin with: whole characters of base64 alone.
fn json_tokens_of(org: &str) -> String {
    let mut start = STANDARD_NO_PAD.encode(format!(r#"{{"org":"{org}""#));
    start.truncate(start.len().saturating_sub(2));
    start
}

/// All names that a filter lets through.
async fn all(admin: &Inner, filter: &str) -> Result<Vec<String>, Refusal> {
    let prefix = glob::literal_start(filter).to_owned();
    let mut query = ListQuery {
        prefix,
        ..ListQuery::default()
    };
    let mut keys = Vec::new();
    loop {
        let page = admin.store.list(query.clone()).await?;
        let wanted = |key: &String| !is_organisation(key) && glob::starts_as(key, filter);
        keys.extend(page.keys.into_iter().filter(wanted));
        if admin.settings.max_listed < keys.len() {
            let message = "Too many keys for one list: GET /tollgate/keys has pages";
            return Err(Refusal::new(413, message));
        }
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return Ok(keys),
        }
    }
}

/// Those of the keys that may call an API.
async fn granting(admin: &Inner, keys: Vec<String>, api: &ApiId) -> Result<Vec<String>, Refusal> {
    let is_master = admin.settings.master_keys == MasterKeys::Allowed;
    let mut granting = Vec::new();
    for key in keys {
        let loaded = match admin.store.get(&key).await {
            Err(error) if error.kind() == StoreErrorKind::Corrupt => None,
            loaded => loaded?,
        };
        let rights = loaded.map(|loaded| {
            let merged = admin.merged(loaded.session());
            merged.map_or_else(|_| Default::default(), |merged| merged.access_rights)
        });
        let grants = rights
            .is_some_and(|rights| rights.contains_key(api) || (is_master && rights.is_empty()));
        if grants {
            granting.push(key);
        }
    }
    Ok(granting)
}
