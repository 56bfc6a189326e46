//! Listing keys by what they are.

use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use tollgate_core::{
    PolicyId, Session,
    store::{ListQuery, StoreErrorKind},
};

use super::{Answer, Asked, Problem, flag, json, keys::shown};
use crate::{Inner, lookup::is_organisation};

pub(super) const PARAMETERS: &[(&str, &str)] = &[
    ("org_id", "keys of this organisation"),
    (
        "alias",
        "keys of this alias; one that ends in * is what aliases begin with",
    ),
    ("policy", "keys that name this policy"),
    (
        "meta.",
        "meta.NAME: keys whose metadata has this value under that name",
    ),
    (
        "expires_before",
        "keys that end before this time: Unix seconds, or RFC 3339",
    ),
    (
        "expires_after",
        "keys that end after this time; those that never end are left out",
    ),
    ("prefix", "what the key's name begins with"),
    (
        "limit",
        "how many at most, up to 500; a page may hold fewer",
    ),
    ("cursor", "where the last page ended"),
    (
        "sessions",
        "true tells each key's whole session as well, as it is stored",
    ),
];

const MOST: usize = 500;
const USUAL: usize = 100;
/// How many records one request looks at: a filter that lets nothing through ends, with a cursor.
const LOOKED_AT: usize = 10_000;

#[derive(Serialize)]
struct Page {
    keys: Vec<Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Item {
    key: String,
    alias: String,
    org_id: String,
    policies: Vec<PolicyId>,
    expires: Option<u64>,
    is_inactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Box<RawValue>>,
}

/// `GET /tollgate/keys`.
pub(super) async fn list(admin: &Inner, asked: &Asked) -> Answer {
    let filter = Filter::of(asked)?;
    let limit = match asked.query.given("limit") {
        None => USUAL,
        Some(limit) => match limit.parse() {
            Ok(limit) if (1..=MOST).contains(&limit) => limit,
            _ => return Err(Problem::bad_request("limit is from 1 to 500")),
        },
    };
    let with_sessions = flag(asked, "sessions")?;
    let mut query = ListQuery {
        prefix: asked.query.get("prefix").into(),
        cursor: asked.query.given("cursor").map(Into::into),
        limit: Some(limit),
    };
    let mut keys = Vec::new();
    let mut looked_at = 0;
    // Pages of the store are taken whole, so that their cursors are ours.
    loop {
        let page = admin.store.list(query.clone()).await?;
        looked_at += page.keys.len();
        for key in page.keys {
            keys.extend(item(admin, &filter, key, with_sessions).await?);
        }
        query.cursor = page.next;
        if query.cursor.is_none() || !keys.is_empty() || LOOKED_AT <= looked_at {
            let cursor = query.cursor;
            return Ok(json(StatusCode::OK, &Page { keys, cursor }));
        }
    }
}

async fn item(
    admin: &Inner,
    filter: &Filter<'_>,
    key: String,
    with_session: bool,
) -> Result<Option<Item>, Problem> {
    if is_organisation(&key) {
        return Ok(None);
    }
    let loaded = match admin.store.get(&key).await {
        Err(error) if error.kind() == StoreErrorKind::Corrupt => None,
        loaded => loaded?,
    };
    let Some(loaded) = loaded.filter(|loaded| filter.admits(loaded.session())) else {
        return Ok(None);
    };
    let session = loaded.session();
    Ok(Some(Item {
        key,
        alias: session.alias.clone(),
        org_id: session.org_id.to_string(),
        policies: session.policies().to_vec(),
        expires: session.expiry().map(|at| at.0),
        is_inactive: session.is_inactive,
        session: with_session.then(|| shown(session)).transpose()?,
    }))
}

/// What a key must be; all of it.
struct Filter<'a> {
    org: Option<&'a str>,
    alias: Option<&'a str>,
    policy: Option<&'a str>,
    meta: Vec<(&'a str, &'a str)>,
    before: Option<u64>,
    after: Option<u64>,
}

impl<'a> Filter<'a> {
    fn of(asked: &'a Asked) -> Result<Self, Problem> {
        let query = &asked.query;
        let meta = query
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("meta.")?, value)));
        Ok(Self {
            org: query.given("org_id"),
            alias: query.given("alias"),
            policy: query.given("policy"),
            meta: meta.collect(),
            before: query.given("expires_before").map(time).transpose()?,
            after: query.given("expires_after").map(time).transpose()?,
        })
    }

    fn admits(&self, session: &Session) -> bool {
        let is = |wanted: Option<&str>, own: &str| wanted.is_none_or(|wanted| wanted == own);
        let alias = self
            .alias
            .is_none_or(|wanted| match wanted.strip_suffix('*') {
                Some(start) => session.alias.starts_with(start),
                None => session.alias == wanted,
            });
        let mut policies = session.policies().iter();
        let policy = self
            .policy
            .is_none_or(|id| policies.any(|own| own.as_str() == id));
        let meta = self.meta.iter().all(|(name, wanted)| {
            let value = session.meta_data.get(name);
            value.is_some_and(|value| match value.as_text() {
                Some(text) => text == *wanted,
                None => value.as_str() == *wanted,
            })
        });
        let ends = session.expiry().map(|at| at.0);
        let before = self
            .before
            .is_none_or(|time| ends.is_some_and(|end| end < time));
        let after = self
            .after
            .is_none_or(|time| ends.is_some_and(|end| time < end));
        is(self.org, session.org_id.as_str()) && alias && policy && meta && before && after
    }
}

fn time(text: &str) -> Result<u64, Problem> {
    let seconds = text.parse().ok();
    let written = || {
        let time = text.parse::<jiff::Timestamp>().ok()?;
        u64::try_from(time.as_second()).ok()
    };
    let time = seconds.or_else(written);
    time.ok_or(Problem::bad_request("a time is Unix seconds, or RFC 3339"))
}
