//! A new token for a key.
//!
//! The new record says by whose counters it counts: those of the old one, under the old one's name. So
//! the two tokens together are allowed what the one was, nothing is moved, and no request falls between
//! two counts. A record that was rotated is removed without starting its counters afresh while the
//! other is there.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tollgate_core::{
    Loaded, Session,
    store::{Expect, StorageKey, Version},
};

use super::{Answer, Asked, Problem, json, with_etag};
use crate::{
    Inner, KeyEvent,
    counters::{ROTATED_TO, rotated_to},
    keys::write::{PutError, lifetime_of, new_token},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotate {
    /// How long the old token may still be used.
    overlap_seconds: u32,
}

#[derive(Serialize)]
struct Rotated<'a> {
    key: &'a str,
    token: &'a str,
    replaces: &'a str,
    old_token_ends: u64,
}

/// `POST /tollgate/keys/{key}/rotate`.
pub(super) async fn rotate(admin: &Inner, asked: &Asked) -> Answer {
    let Rotate { overlap_seconds } = asked.read()?;
    let overlap = Duration::from_secs(overlap_seconds.into());
    let loaded = asked.find(admin).await?;
    asked.check_match(&loaded)?;
    check(admin, &loaded).await?;

    let stored = loaded.session();
    let (token, key) = new_token(admin, &stored.org_id)?;
    let now = admin.now().unix().0;
    let ends = now.saturating_add(overlap.as_secs());
    let version = put_new(admin, &loaded, &key).await?;
    if let Err(error) = end_old(admin, &loaded, &key, overlap).await {
        admin.store.delete(key.as_str()).await?; // Nobody was told the token.
        return Err(error);
    }
    let (org, name) = (&stored.org_id, key.as_str());
    admin.control.key_changed(KeyEvent::Created { org, name });
    let body = Rotated {
        key: key.as_str(),
        token: token.expose(),
        replaces: loaded.key().as_str(),
        old_token_ends: stored.expiry().map_or(ends, |expiry| expiry.0.min(ends)),
    };
    Ok(with_etag(json(StatusCode::CREATED, &body), version))
}

/// Tokens that are made of something else can not be made anew.
async fn check(admin: &Inner, loaded: &Loaded) -> Result<(), Problem> {
    let conflict = |detail: &'static str| Err(Problem::new(StatusCode::CONFLICT, detail));
    let session = loaded.session();
    if !session.basic_auth_data.password.is_empty() {
        return conflict("the key is a user's name, with a password");
    }
    if !session.certificate.is_empty() {
        return conflict("the key is that of a certificate");
    }
    if let Some(next) = rotated_to(session)
        && admin.store.get(&next).await?.is_some()
    {
        return conflict("the key was rotated already");
    }
    Ok(())
}

async fn put_new(admin: &Inner, old: &Loaded, key: &StorageKey) -> Result<Version, Problem> {
    let mut session = (**old.session()).clone();
    let counters = session.counters_of();
    let counters = counters.unwrap_or_else(|| old.key().as_str().to_owned());
    session.unknown.remove(ROTATED_TO);
    let member = Session::COUNTERS_OF.to_owned();
    session.unknown.insert(member, (&*counters).into());
    let merged = admin.merged(&session);
    let merged = merged.unwrap_or_else(|_| session.clone());
    let lifetime = lifetime_of(admin, &session, &merged, admin.now().unix().0);
    let expect = if admin.store.compares_and_sets() {
        Expect::Absent
    } else {
        Expect::Anything
    };
    Ok(admin
        .store
        .put(key.as_str(), session, expect, lifetime)
        .await?)
}

/// The old record ends with the overlap, in what it says and in the store.
async fn end_old(
    admin: &Inner,
    old: &Loaded,
    new: &StorageKey,
    overlap: Duration,
) -> Result<(), Problem> {
    let mut session = (**old.session()).clone();
    let ends = admin.now().unix().0.saturating_add(overlap.as_secs());
    let ends = session.expiry().map_or(ends, |expiry| expiry.0.min(ends));
    session.expires = ends.cast_signed();
    session.is_inactive |= overlap.is_zero();
    session
        .unknown
        .insert(ROTATED_TO.to_owned(), new.as_str().into());
    let org = session.org_id.clone();
    let kept = overlap + Duration::from_secs(1); // A key ends when its last second is over.
    let put = admin.replace(old, session, Some(kept)).await;
    put.map_err(|error| Problem::from(PutError::from(error)))?;
    let name = old.key().as_str();
    if overlap.is_zero() {
        admin.store.delete(name).await?;
        admin.control.key_changed(KeyEvent::Deleted { name });
    } else {
        let org = &org;
        admin.control.key_changed(KeyEvent::Updated { org, name });
    }
    Ok(())
}
