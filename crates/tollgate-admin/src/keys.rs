//! `/tyk/keys…`.

pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod policy;
pub(crate) mod read;
pub(crate) mod write;

use tollgate_core::{
    ApiId, Session,
    access::{MasterKeys, Organisations},
    policy::{PolicyError, PolicyOptions, apply},
};

use crate::{Inner, answer::Refusal, api_set::ApiRecord, members::Members, settings::Settings};

/// Why a session can not become a key.
pub(crate) enum Unfit {
    Policies(PolicyError),
    NoRights,
}

impl Inner {
    /// The session with its policies, as it would be in force at every API that it may call.
    pub(crate) fn merged(&self, session: &Session) -> Result<Session, Unfit> {
        let policies = self.control.policies();
        let options = self.settings.policy_options();
        let merged =
            apply(session, &policies, &session.org_id, options).map_err(Unfit::Policies)?;
        let merged = merged.session;
        let strict = PolicyOptions {
            organisations: Organisations::Separate,
            ..options
        };
        let apis = self.control.apis();
        let granted = merged.access_rights.keys();
        let mut orgs: Vec<_> = granted
            .filter_map(|api| apis.get(api))
            .map(|api| api.org_id())
            .collect();
        orgs.sort_unstable();
        orgs.dedup();
        for org in orgs {
            apply(session, &policies, org, strict).map_err(Unfit::Policies)?;
        }
        let is_master = self.settings.master_keys == MasterKeys::Allowed;
        if merged.access_rights.is_empty() && !is_master {
            return Err(Unfit::NoRights);
        }
        Ok(merged)
    }

    /// Whether the metadata of a session, whose policies are applied, is as its APIs and policies want it.
    pub(crate) fn check_meta_data(&self, merged: &Session) -> Result<(), Refusal> {
        let faults = self.control.check_meta_data(merged);
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Refusal::new(400, faults.join("; "))),
        }
    }

    /// The APIs that are loaded, of those that a session may call.
    fn granted(&self, merged: &Session) -> Vec<std::sync::Arc<ApiRecord>> {
        let apis = self.control.apis();
        if merged.access_rights.is_empty() {
            return apis.iter().cloned().collect();
        }
        let granted = |id: &ApiId| apis.get(id).cloned();
        merged.access_rights.keys().filter_map(granted).collect()
    }
}

/// What became of the policies of a session that is shown.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Policies {
    /// They are in it.
    Applied,
    /// They make no session; it is shown as it is.
    Failed,
    /// They were not asked.
    Ignored,
}

/// A session as it is shown: without the password. Where Tyk applies policies, metadata without
/// anything in it becomes an object, and tags a list where they are all applied.
pub(crate) fn to_json(session: &Session, policies: Policies) -> String {
    let mut session = session.clone();
    session.basic_auth_data.password = Default::default();
    let json = session.to_json();
    let makes_list = policies == Policies::Applied && session.tags.is_empty();
    let makes_object = policies != Policies::Ignored && session.meta_data.is_empty();
    if !makes_list && !makes_object {
        return json;
    }
    let Ok(mut members) = Members::of(&json) else {
        return json;
    };
    if makes_list {
        members.set("tags", &[(); 0]);
    }
    if makes_object {
        members.set("meta_data", &serde_json::Map::new());
    }
    members.to_json()
}

/// Reads a session from JSON text; `null` is one with nothing in it.
pub(crate) fn read(json: &str) -> Option<Session> {
    if json == "null" {
        return Some(Session::default());
    }
    Session::from_json(json).ok()
}

/// Reads a session that was sent to Tyk's part of the API.
pub(crate) fn read_sent(json: &str, settings: &Settings) -> Option<Session> {
    let mut session = read(json)?;
    if settings.drop_unknown_members {
        session.forget_unknown();
        // Tyk's record has these from 5.13 on.
        session.post_expiry_action.clear();
        session.post_expiry_grace_period = 0;
    }
    Some(session)
}
