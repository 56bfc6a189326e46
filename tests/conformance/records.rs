//! The store of a case: sessions as they are stored, broken ones too.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use tollgate_core::{
    Loaded, ManualClock, Session, StoreError,
    store::{Expect, MemoryStore, SessionStore, StoreErrorKind, Version},
};

/// A memory store in which a record may be something that is no session.
#[derive(Clone)]
pub(crate) struct Records {
    pub(crate) sessions: MemoryStore,
    broken: Arc<Mutex<BTreeSet<String>>>,
}

impl Records {
    pub(crate) fn new(clock: ManualClock) -> Self {
        Self {
            sessions: MemoryStore::with_clock(clock),
            broken: Arc::default(),
        }
    }

    /// Stores a text as another program may have written it.
    pub(crate) fn put_text(&self, name: &str, text: &str) {
        match Session::from_json(text) {
            Ok(session) => self.put_session(name, session),
            Err(_) if text == "null" => {} // Says itself that there is nothing.
            Err(_) => drop(self.broken().insert(name.to_owned())),
        }
    }

    pub(crate) fn put_session(&self, name: &str, session: Session) {
        self.broken().remove(name);
        self.sessions.insert(name, session).expect("there is room");
    }

    pub(crate) async fn remove(&self, name: &str) -> bool {
        let removed = self.sessions.delete(name).await.expect("is in memory");
        self.broken().remove(name) || removed
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.broken().contains(name) || matches!(self.sessions.try_get(name), Some(Some(_)))
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.broken.lock().expect("no test panics with it")
    }
}

impl SessionStore for Records {
    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        if self.broken().contains(key) {
            let message = "the record is no session";
            return Err(StoreError::new(StoreErrorKind::Corrupt, message));
        }
        self.sessions.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        self.sessions.put(key, session, expect, lifetime).await
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.sessions.delete(key).await
    }
}
