//! Records of sessions: Tyk's text under Tyk's names, and a count of writes beside each.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use redis::Script;
use tollgate_core::{
    session::Session,
    store::{
        ChangeSink, Expect, ListPage, ListQuery, Loaded, SessionStore, StorageKey, StoreError,
        StoreErrorKind, Version,
    },
};

use crate::{RedisStore, keys};

static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/put.lua")));

/// How many names are looked at in one call of a listing.
pub(crate) const SCANNED: usize = 1000;

/// A record and its count of writes, as they stand in Redis. Not every text there is UTF-8.
type Stored = (Option<Vec<u8>>, Option<u64>);

impl SessionStore for RedisStore {
    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        let record = keys::record(key);
        let mut command = redis::cmd("MGET");
        command.arg(&record).arg(keys::writes(&record));
        let stored: Stored = self.link().command(&command).await?;
        loaded(key, stored)
    }

    async fn get_first(&self, keys: &[StorageKey]) -> Result<Option<Arc<Loaded>>, StoreError> {
        if let [key] = keys {
            return self.get(key.as_str()).await;
        }
        if self.is_cluster() {
            // The names lie in different slots; all are asked at once.
            let all = keys.iter().map(|key| self.get(key.as_str()));
            let found = futures_util::future::join_all(all).await;
            for found in found {
                if let Some(found) = found? {
                    return Ok(Some(found));
                }
            }
            return Ok(None);
        }
        let mut command = redis::cmd("MGET");
        for key in keys {
            let record = keys::record(key.as_str());
            command.arg(&record).arg(keys::writes(&record));
        }
        let stored: Vec<Option<Vec<u8>>> = self.link().command(&command).await?;
        for (key, pair) in keys.iter().zip(stored.chunks_exact(2)) {
            let writes = pair[1].as_deref().and_then(number);
            if let Some(found) = loaded(key.as_str(), (pair[0].clone(), writes))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        // Tyk's control API writes records of keys and of organisations in two ways.
        let text = if keys::is_organisation(key) {
            session.to_json()
        } else {
            session.to_key_json()
        };
        let record = keys::record(key);
        let expected = match expect {
            Expect::Anything => "any".to_owned(),
            Expect::Absent => "absent".to_owned(),
            Expect::Version(version) => expected(version),
        };
        let lifetime = lifetime.map_or(0, |lifetime| {
            u64::try_from(lifetime.as_nanos().div_ceil(1_000_000))
                .unwrap_or(u64::MAX)
                .clamp(1, LONGEST_MILLIS)
        });
        let mut put = PUT.prepare_invoke();
        put.key(&record).key(keys::writes(&record));
        put.arg(&text).arg(lifetime).arg(expected);
        let writes: Option<u64> = self.link().script(&put).await?;
        let Some(writes) = writes else {
            let message = "the record is not as the writer expected";
            return Err(StoreError::new(StoreErrorKind::Conflict, message));
        };
        self.tell(key);
        Ok(version(writes, &text))
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let record = keys::record(key);
        // The count of writes stays until the clock is past it: a record made anew is another one.
        let mut both = redis::pipe();
        both.del(&record);
        both.pexpire(keys::writes(&record), FORGOTTEN_MILLIS)
            .ignore();
        let (deleted,): (u64,) = self.link().pipeline(&both).await?;
        self.tell(key);
        Ok(deleted != 0)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        let limit = query.limit.unwrap_or(SCANNED).max(1);
        let pattern = pattern(&query.prefix);
        self.walk(&pattern, limit, query.cursor.as_deref(), name_of)
            .await
    }

    fn on_change(&self, sink: ChangeSink) {
        self.notices().add_sink(sink);
    }
}

impl RedisStore {
    /// A page of names that fit a pattern, as far as `told` tells something of each. What is no text is left out.
    pub(crate) async fn walk(
        &self,
        pattern: &str,
        limit: usize,
        cursor: Option<&str>,
        told: fn(&str) -> Option<&str>,
    ) -> Result<ListPage, StoreError> {
        let masters = self.link().masters().await?;
        let mut place = Place::read(cursor)?;
        let mut keys = Vec::new();
        loop {
            let scan = scan(place.cursor, pattern);
            let node = masters.as_ref().map(|masters| masters.get(place.node));
            let (next, found): (u64, Vec<Vec<u8>>) = match node {
                Some(None) => return Ok(ListPage { keys, next: None }), // Past the last node.
                Some(Some(node)) => self.link().command_at(node, &scan).await?,
                None => self.link().command(&scan).await?,
            };
            let texts = found.iter().filter_map(|name| str::from_utf8(name).ok());
            let mut names: Vec<_> = texts.filter_map(told).collect();
            names.sort_unstable();
            names.dedup();
            names.retain(|name| place.after.as_deref().is_none_or(|after| after < *name));
            let room = limit - keys.len();
            if room < names.len() {
                keys.extend(names[..room].iter().map(|name| (*name).to_owned()));
                place.after = keys.last().cloned();
                let next = Some(place.write());
                return Ok(ListPage { keys, next });
            }
            keys.extend(names.iter().map(|name| (*name).to_owned()));
            place.after = None;
            place.cursor = next;
            if next == 0 {
                if masters.is_none() {
                    return Ok(ListPage { keys, next: None });
                }
                place.node += 1;
            }
            if keys.len() == limit {
                let next = Some(place.write());
                return Ok(ListPage { keys, next });
            }
        }
    }
}

/// How long the count of writes of a deleted record is kept.
const FORGOTTEN_MILLIS: i64 = 10_000;

/// About 270 years: the longest lifetime that Redis takes from any moment.
pub(crate) const LONGEST_MILLIS: u64 = 1 << 43;

/// The name of a session or organisation, of a name in Redis.
fn name_of(record: &str) -> Option<&str> {
    if record.starts_with("orgkey.") {
        return Some(record);
    }
    let name = record.strip_prefix(keys::SESSION)?;
    // Tyk once kept counters under such names.
    let is_counter = name.starts_with("quota-") || name.starts_with("rate-limit-");
    (!is_counter).then_some(name)
}

/// A record read under a name of the engine.
fn loaded(key: &str, (text, writes): Stored) -> Result<Option<Arc<Loaded>>, StoreError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let session = Session::from_json(&text).map_err(|err| {
        let message = "a record can not be read";
        StoreError::new(StoreErrorKind::Corrupt, message).with_source(err)
    })?;
    let version = version(writes.unwrap_or_default(), &text);
    Ok(Some(Arc::new(Loaded::new(key, session, version))))
}

fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// Milliseconds from 1970 to 2020: counts of writes are times at least, and fit into 40 bits so.
const YEAR_2020: u64 = 1_577_836_800_000;
const TEXT_BITS: u32 = 24;

/// The count of writes, then the start of the text's SHA-1: Tyk writes texts and does not count.
fn version(writes: u64, text: impl AsRef<[u8]>) -> Version {
    let hash = sha1_smol::Sha1::from(text).digest().bytes();
    let start = u64::from(u32::from_be_bytes([0, hash[0], hash[1], hash[2]]));
    Version(writes.saturating_sub(YEAR_2020) << TEXT_BITS | start)
}

/// A version as the script writes it.
fn expected(Version(version): Version) -> String {
    let writes = match version >> TEXT_BITS {
        0 => 0,
        writes => writes + YEAR_2020,
    };
    format!("{writes}-{:06x}", version & ((1 << TEXT_BITS) - 1))
}

/// Where a listing goes on: the node of a cluster, the server's cursor, and the last name of a page that
/// had no room for all that the cursor gave.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    node: usize,
    cursor: u64,
    after: Option<String>,
}

impl Place {
    fn read(text: Option<&str>) -> Result<Self, StoreError> {
        let Some(text) = text else {
            return Ok(Self::default());
        };
        let read = || {
            let mut parts = text.splitn(3, '.');
            Some(Self {
                node: parts.next()?.parse().ok()?,
                cursor: parts.next()?.parse().ok()?,
                after: parts.next().map(str::to_owned),
            })
        };
        read().ok_or_else(|| {
            StoreError::new(StoreErrorKind::Unsupported, "a cursor of another store")
        })
    }

    fn write(&self) -> String {
        let Self {
            node,
            cursor,
            after,
        } = self;
        match after {
            Some(after) => format!("{node}.{cursor}.{after}"),
            None => format!("{node}.{cursor}"),
        }
    }
}

fn scan(cursor: u64, pattern: &str) -> redis::Cmd {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(pattern);
    scan.arg("COUNT").arg(SCANNED);
    scan
}

/// The pattern of names that begin with this.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::new();
    for character in keys::record(prefix).chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_go_there_and_back() {
        let now = YEAR_2020 + 200_000_000_000;
        let made = version(now, "text");
        assert_eq!(expected(made), format!("{now}-372ea0"));
        assert!(made < version(now + 1, "text"), "later ones are larger");
        assert_eq!(expected(version(0, "text")), "0-372ea0");
    }

    #[test]
    fn places_go_there_and_back() {
        for (node, cursor, after) in [(0, 0, None), (2, 17, Some("a.b".to_owned()))] {
            let place = Place {
                node,
                cursor,
                after,
            };
            assert_eq!(Place::read(Some(&place.write())).ok(), Some(place));
        }
        assert!(Place::read(Some("x")).is_err());
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(pattern("a*[b"), "apikey-a\\*\\[b*");
    }
}
