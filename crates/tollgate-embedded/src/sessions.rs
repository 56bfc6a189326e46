//! Sessions: in memory those that are asked for, in the file all.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use redb::ReadTransaction;
use tollgate_core::{
    Loaded, Session,
    store::{Change, ChangeSink, ListPage, ListQuery, StoreErrorKind},
};

use crate::{
    error::Failure,
    file::{SESSIONS, StoreFile},
    record::{NEVER, Record},
};

const STRIPES: usize = 64;
const PAGE: usize = 1000;

pub(crate) struct Sessions {
    cache: Cache<Box<str>, Kept>,
    // What is read from the file is put into the cache under the lock under which what was written is:
    // so that nothing old comes after something new.
    stripes: Box<[Mutex<()>]>,
    hasher: RandomState,
    sinks: RwLock<Vec<ChangeSink>>,
}

/// A record in memory.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) ends: u64, // As in the file.
}

impl Kept {
    fn at(self, now: impl FnOnce() -> u64) -> Option<Arc<Loaded>> {
        let is_there = self.ends == NEVER || now() < self.ends;
        is_there.then_some(self.loaded)
    }
}

impl Sessions {
    pub(crate) fn new(cached: usize) -> Self {
        Self {
            cache: Cache::new(cached),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            sinks: RwLock::default(),
        }
    }

    fn stripe(&self, key: &str) -> &Mutex<()> {
        &self.stripes[self.hasher.hash_one(key) as usize % STRIPES]
    }

    /// The record if it is in memory.
    #[inline]
    pub(crate) fn cached(
        &self,
        key: &str,
        unix_nanos: impl FnOnce() -> u64,
    ) -> Option<Option<Arc<Loaded>>> {
        Some(self.cache.get(key)?.at(unix_nanos))
    }

    /// The record, from the file where it is not in memory.
    pub(crate) fn find(
        &self,
        file: &StoreFile,
        key: &str,
        unix_nanos: u64,
    ) -> Result<Option<Arc<Loaded>>, Failure> {
        if let Some(known) = self.cached(key, || unix_nanos) {
            return Ok(known);
        }
        let _locked = self.stripe(key).lock();
        let read = file.read(|read| {
            let table = read.open_table(SESSIONS)?;
            let record = table.get(key)?;
            Ok(record.map(|record| load(file, key, record.value())))
        })?;
        let Some(kept) = read.transpose()? else {
            return Ok(None);
        };
        self.cache.insert(key.into(), kept.clone());
        Ok(kept.at(|| unix_nanos))
    }

    /// The record was written.
    pub(crate) fn put(&self, key: &str, kept: Kept) {
        let _locked = self.stripe(key).lock();
        self.cache.insert(key.into(), kept);
    }

    /// The record was deleted, or nobody knows what became of it.
    pub(crate) fn drop(&self, key: &str) {
        let _locked = self.stripe(key).lock();
        self.cache.remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.cache.len()
    }

    pub(crate) fn listen(&self, sink: ChangeSink) {
        self.sinks.write().push(sink);
    }

    pub(crate) fn tell(&self, change: Change<'_>) {
        let sinks = self.sinks.read().clone(); // A sink may ask for the store, or add a sink.
        sinks.iter().for_each(|sink| sink(change));
    }
}

fn load(file: &StoreFile, key: &str, bytes: &[u8]) -> Result<Kept, Failure> {
    let corrupt = || {
        let what = format!(
            "{}: the record of a session can not be read",
            file.path().display()
        );
        Failure::new(StoreErrorKind::Corrupt, what)
    };
    let record = Record::read(bytes).ok_or_else(corrupt)?;
    let session: Session = record.json.parse().map_err(|_| corrupt())?;
    Ok(Kept {
        loaded: Arc::new(Loaded::new(key, session, record.version)),
        ends: record.ends,
    })
}

/// The next keys after the cursor, sorted: whatever is put or deleted meanwhile, a key that was there
/// all the time is listed once.
pub(crate) fn page(
    read: &ReadTransaction,
    query: &ListQuery,
    unix_nanos: u64,
) -> Result<ListPage, redb::Error> {
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let prefix = query.prefix.as_str();
    let from = match query.cursor.as_deref() {
        Some(cursor) if prefix <= cursor => Excluded(cursor),
        _ => Included(prefix),
    };
    let table = read.open_table(SESSIONS)?;
    let mut page = ListPage::default();
    for entry in table.range::<&str>((from, Unbounded))? {
        let (key, record) = entry?;
        if !key.value().starts_with(prefix) {
            break; // Keys with the prefix stand side by side.
        }
        if Record::read(record.value()).is_some_and(|record| record.has_ended(unix_nanos)) {
            continue;
        }
        if page.keys.len() == limit {
            page.next = page.keys.last().cloned();
            break;
        }
        page.keys.push(key.value().to_owned());
    }
    Ok(page)
}
