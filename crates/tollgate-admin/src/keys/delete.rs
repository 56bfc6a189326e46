//! Removing a key, with its counters; and starting counters afresh alone.

use tollgate_core::store::{StorageKey, StoreErrorKind};

use crate::{
    Inner, KeyEvent,
    answer::{Answer, Refusal, json, modified},
    call::Call,
};

const EVERYWHERE: &str = "-1";

/// `DELETE /tyk/keys/{id}`. A record need not be readable to be removed.
pub(crate) async fn delete(admin: &Inner, call: &Call, id: &str) -> Answer {
    let named = admin.named(&call.query, call.query.get("org_id").into(), id);
    for key in admin.candidates(&named) {
        if remove(admin, &key).await? {
            if call.query.get("api_id") == EVERYWHERE {
                return Ok(json(http::StatusCode::OK, "null".into()));
            }
            return Ok(modified(&admin.shown(&named, &key), "deleted", None));
        }
    }
    Err(Refusal::new(404, "There is no such key found"))
}

/// Removes a record and, where nobody else counts by them, its counters. Says whether there was one.
pub(crate) async fn remove(admin: &Inner, key: &StorageKey) -> Result<bool, Refusal> {
    let stored = match admin.store.get(key.as_str()).await {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => None,
        stored => stored?,
    };
    if !admin.store.delete(key.as_str()).await? {
        return Ok(false);
    }
    if let Some(stored) = stored {
        let session = stored.session();
        if !admin.shares_counters(key, session).await? {
            admin.reset_counters(key, session).await?;
        }
    }
    admin
        .control
        .key_changed(KeyEvent::Deleted { name: key.as_str() });
    Ok(true)
}

/// `POST /tyk/keys/reset/{id}`, which Tyk's documents speak of and its gateway has not.
pub(crate) async fn reset(admin: &Inner, call: &Call, id: &str) -> Answer {
    let org = admin.org_of(&call.query);
    let found = admin.find(&admin.named(&call.query, org, id)).await?;
    let found = found.ok_or(Refusal::new(404, "Key not found"))?;
    let loaded = &found.loaded;
    admin.reset_counters(loaded.key(), loaded.session()).await?;
    Ok(modified(&found.shown, "updated", None))
}
