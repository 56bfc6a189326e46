//! A store of sessions in a folder of JSON files.
//!
//! The files are read once; a file's name, without `.json`, is the token. What is written later is
//! kept in memory alone: a token comes from outside, and makes no file name.
//!
//! Of [`SessionStore`], `get`, `put` and `delete` must be there. `try_get` answers at once, as
//! everything is in memory, so that requests wait for nothing.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tollgate::record::Session;
use tollgate_core::{
    Clock, Loaded, Moment, StoreError,
    store::{Expect, SessionStore, StoreErrorKind, Version},
};

pub(crate) struct FolderStore<C> {
    records: Mutex<Records>,
    clock: C, // Ends records that were put with a lifetime.
}

#[derive(Default)]
struct Records {
    by_key: HashMap<String, Record>,
    /// Counts the writes of all records: one that is deleted and put anew has no version twice.
    writes: u64,
}

struct Record {
    loaded: Arc<Loaded>,
    ends: Option<Moment>,
}

impl<C: Clock> FolderStore<C> {
    pub(crate) fn new(clock: C) -> Self {
        let records = Mutex::default();
        Self { records, clock }
    }

    /// Reads all `.json` files of a folder.
    ///
    /// # Errors
    ///
    /// Fails where a file can not be read, or is no session. An error names the file.
    pub(crate) fn read(folder: &Path, clock: C) -> io::Result<Self> {
        let store = Self::new(clock);
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(token) = name.and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            let problem = |err| io::Error::other(format!("{}: {err}", path.display()));
            let text = fs::read_to_string(&path)?;
            let session = text.parse().map_err(|err| problem(format!("{err}")))?;
            let written = store.write(token, session, Expect::Absent, None);
            written.map_err(|err| problem(err.to_string()))?;
        }
        Ok(store)
    }

    /// No method holds the lock across anything that panics or waits.
    fn records(&self) -> MutexGuard<'_, Records> {
        let records = self.records.lock();
        records.unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &str) -> Option<Arc<Loaded>> {
        let now = self.clock.now();
        let records = self.records();
        let record = records.by_key.get(key)?;
        record.lives(now).then(|| record.loaded.clone())
    }

    /// Compares and sets under one lock, so that of two writers who read the same record one fails.
    fn write(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let now = self.clock.now();
        let mut records = self.records();
        let there = records.by_key.get(key).filter(|record| record.lives(now));
        let holds = match (expect, there) {
            (Expect::Anything, _) | (Expect::Absent, None) => true,
            (Expect::Version(version), Some(record)) => record.loaded.version() == version,
            (Expect::Absent, Some(_)) | (Expect::Version(_), None) => false,
        };
        if !holds {
            let message = "the record is another than the writer expects";
            return Err(StoreError::new(StoreErrorKind::Conflict, message));
        }
        records.writes += 1;
        let version = Version(records.writes);
        let record = Record {
            loaded: Arc::new(Loaded::new(key, session, version)),
            ends: lifetime.map(|lifetime| now.after(lifetime)),
        };
        records.by_key.insert(key.to_owned(), record);
        Ok(version)
    }
}

impl Record {
    fn lives(&self, now: Moment) -> bool {
        self.ends.is_none_or(|ends| now < ends)
    }
}

impl<C: Clock> SessionStore for FolderStore<C> {
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        Some(self.find(key))
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        Ok(self.find(key))
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        self.write(key, session, expect, lifetime)
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let deleted = self.records().by_key.remove(key);
        Ok(deleted.is_some_and(|record| record.lives(now)))
    }
}

#[cfg(test)]
mod tests {
    use tollgate_core::{ManualClock, store::conformance};

    use super::*;

    #[tokio::test]
    async fn keeps_the_contract_of_session_stores() {
        let clock = ManualClock::at(1_700_000_000);
        let store = FolderStore::new(clock.clone());
        conformance::sessions(&store, &clock).await;
    }

    #[test]
    fn reads_its_folder() {
        let store = FolderStore::read(Path::new(crate::SESSIONS), ManualClock::default());
        let store = store.expect("is read");
        assert!(store.find("joes-key").is_some());
        assert!(store.find("joes-key.json").is_none());
    }
}
