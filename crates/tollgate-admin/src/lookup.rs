//! From what a caller names a key by to its record.

use std::sync::Arc;

use tollgate_core::{
    Loaded, OrgId, StoreError,
    store::{StorageKey, StoreErrorKind},
    token::{Candidates, Token},
};

use crate::{Inner, call::Query};

/// What a key is named by.
pub(crate) enum Named<'a> {
    /// Its name in the store: `hashed=…`.
    Stored(&'a str),
    /// Its token, or an id within an organisation.
    Presented(OrgId, &'a str),
    /// An id within an organisation, `username=true`, with the token that it has there; or else what
    /// [`Self::Presented`] is.
    Username(OrgId, Token, &'a str),
}

/// A key that was found.
pub(crate) struct Found {
    /// What it is called in answers: the token, or the name in the store where that was given.
    pub(crate) shown: String,
    pub(crate) loaded: Arc<Loaded>,
}

impl Inner {
    /// Reads what a request names a key by.
    pub(crate) fn named<'a>(&self, query: &Query, org: OrgId, id: &'a str) -> Named<'a> {
        if query.given("hashed").is_some() {
            return Named::Stored(id);
        }
        let is_username = query.get("username") == "true" && self.settings.actions_by_username;
        if is_username
            && !id.is_empty()
            && let Ok(token) = self.keys.generate(&org, Some(id))
        {
            return Named::Username(org, token, id);
        }
        Named::Presented(org, id)
    }

    /// The names under which the key may be stored, in order.
    pub(crate) fn candidates(&self, named: &Named<'_>) -> Candidates {
        match named {
            Named::Stored(name) if is_organisation(name) => Candidates::new(),
            Named::Stored(name) => std::iter::once(StorageKey::from(*name)).collect(),
            Named::Presented(org, text) => {
                let mut candidates = self.names.candidates(org, text);
                if !self.settings.actions_by_username {
                    let own = self.names.storage_key(text);
                    candidates.retain(|candidate| *candidate == own);
                }
                candidates
            }
            Named::Username(org, token, id) => {
                let mut candidates = self.names.candidates(org, token.expose());
                let others = self.names.candidates(org, id);
                candidates.extend(others);
                candidates
            }
        }
    }

    /// The key, if there is one. A record that can not be read is as if it were not there.
    pub(crate) async fn find(&self, named: &Named<'_>) -> Result<Option<Found>, StoreError> {
        let candidates = self.candidates(named);
        if candidates.is_empty() {
            return Ok(None);
        }
        let loaded = match self.store.get_first(candidates).await {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                crate::answer::log(&error, "a record can not be read");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let shown = self.shown(named, loaded.key());
        Ok(Some(Found { shown, loaded }))
    }

    /// What answers call the key that was found under this name.
    pub(crate) fn shown(&self, named: &Named<'_>, key: &StorageKey) -> String {
        let token = match named {
            Named::Presented(org, text) => self.names.found_token(org, text, key),
            Named::Username(org, token, id) => {
                let by_name = self.names.found_token(org, token.expose(), key);
                by_name.or_else(|| self.names.found_token(org, id, key))
            }
            Named::Stored(_) => None,
        };
        token.map_or_else(
            || key.as_str().to_owned(),
            |token| token.expose().to_owned(),
        )
    }

    /// The organisation that a request for reading speaks of: that of an API which is loaded, or else
    /// the one it names.
    pub(crate) fn org_of(&self, query: &Query) -> OrgId {
        let api = query.given("api_id").map(Into::into);
        let api = api.and_then(|api| self.control.apis().get(&api).cloned());
        api.map_or_else(|| query.get("org_id").into(), |api| api.org_id().clone())
    }
}

/// Whether this is the name of an organisation's record.
pub(crate) fn is_organisation(name: &str) -> bool {
    name.starts_with(StorageKey::organisation(&OrgId::default()).as_str())
}
