//! One handle on any store.
//!
//! Layers, gateways and handlers hold a [`SharedStore`]: cheap to clone, without a type parameter,
//! whatever store is behind it. It is a store itself.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tollgate_core::{Moment, limits::Rate, store::{Charge, Counter, SharedStore, Verdict}};
//!
//! let store = SharedStore::memory();
//! let batch = [Charge::new(Counter::new("ann"), Rate::per_second(1))];
//! let verdict = store.try_take(&batch, Moment::default());
//! assert!(matches!(verdict, Some(Verdict::Taken(_))));
//!
//! let verdict = store.take(batch.into_iter().collect(), Moment::default()).await?;
//! assert!(matches!(verdict, Verdict::Refused(_)));
//! # Ok(())
//! # }
//! ```

use std::{fmt, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    Batch, ChangeSink, Charge, Expect, LimitStore, ListPage, ListQuery, Loaded, MemoryStore,
    ReadyCharges, SessionStore, Standing, StorageKey, StoreError, Verdict, Version,
};
use crate::{clock::Moment, future::BoxFuture, session::Session};

/// A handle on a store of sessions and one of counters. A clone is the same stores.
///
/// The methods are those of [`SessionStore`] and [`LimitStore`], with futures that own what they
/// need, so that they can be kept beside the handle. See the [module docs](self) for an example.
#[derive(Clone)]
pub struct SharedStore {
    sessions: Arc<dyn ErasedSessions>,
    limits: Arc<dyn ErasedLimits>,
}

type Found = Result<Option<Arc<Loaded>>, StoreError>;

/// [`SessionStore`] as an object.
trait ErasedSessions: Send + Sync {
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>>;
    fn get(self: Arc<Self>, key: StorageKey) -> BoxFuture<Found>;
    fn get_first(self: Arc<Self>, keys: SmallVec<[StorageKey; 2]>) -> BoxFuture<Found>;
    fn put(
        self: Arc<Self>,
        key: StorageKey,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<Result<Version, StoreError>>;
    fn delete(self: Arc<Self>, key: StorageKey) -> BoxFuture<Result<bool, StoreError>>;
    fn list(self: Arc<Self>, query: ListQuery) -> BoxFuture<Result<ListPage, StoreError>>;
    fn on_change(&self, sink: ChangeSink);
    fn epoch(&self) -> Option<u64>;
    fn compares_and_sets(&self) -> bool;
}

impl<S: SessionStore> ErasedSessions for S {
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        SessionStore::try_get(self, key)
    }

    fn get(self: Arc<Self>, key: StorageKey) -> BoxFuture<Found> {
        Box::pin(async move { SessionStore::get(&*self, key.as_str()).await })
    }

    fn get_first(self: Arc<Self>, keys: SmallVec<[StorageKey; 2]>) -> BoxFuture<Found> {
        Box::pin(async move { SessionStore::get_first(&*self, &keys).await })
    }

    fn put(
        self: Arc<Self>,
        key: StorageKey,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<Result<Version, StoreError>> {
        Box::pin(
            async move { SessionStore::put(&*self, key.as_str(), session, expect, lifetime).await },
        )
    }

    fn delete(self: Arc<Self>, key: StorageKey) -> BoxFuture<Result<bool, StoreError>> {
        Box::pin(async move { SessionStore::delete(&*self, key.as_str()).await })
    }

    fn list(self: Arc<Self>, query: ListQuery) -> BoxFuture<Result<ListPage, StoreError>> {
        Box::pin(async move { SessionStore::list(&*self, &query).await })
    }

    fn on_change(&self, sink: ChangeSink) {
        SessionStore::on_change(self, sink);
    }

    fn epoch(&self) -> Option<u64> {
        SessionStore::epoch(self)
    }

    fn compares_and_sets(&self) -> bool {
        SessionStore::compares_and_sets(self)
    }
}

/// [`LimitStore`] as an object.
trait ErasedLimits: Send + Sync {
    fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict>;
    fn try_take_ready(&self, ready: &ReadyCharges, now: Moment) -> Option<Verdict>;
    fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool;
    fn try_admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool;
    fn take(self: Arc<Self>, batch: Batch, now: Moment) -> BoxFuture<Result<Verdict, StoreError>>;
    fn look(self: Arc<Self>, batch: Batch, now: Moment) -> BoxFuture<Result<Verdict, StoreError>>;
    fn give_back(&self, batch: &[Charge], taken_at: Moment);
    fn reset(self: Arc<Self>, counter: Box<str>) -> BoxFuture<Result<(), StoreError>>;
}

impl<L: LimitStore> ErasedLimits for L {
    fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict> {
        LimitStore::try_take(self, batch, now)
    }

    fn try_take_ready(&self, ready: &ReadyCharges, now: Moment) -> Option<Verdict> {
        LimitStore::try_take_ready(self, ready, now)
    }

    fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool {
        LimitStore::try_admit(self, ready, now)
    }

    fn try_admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool {
        LimitStore::try_admit_told(self, ready, now, tell)
    }

    fn take(self: Arc<Self>, batch: Batch, now: Moment) -> BoxFuture<Result<Verdict, StoreError>> {
        Box::pin(async move { LimitStore::take(&*self, &batch, now).await })
    }

    fn look(self: Arc<Self>, batch: Batch, now: Moment) -> BoxFuture<Result<Verdict, StoreError>> {
        Box::pin(async move { LimitStore::look(&*self, &batch, now).await })
    }

    fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        LimitStore::give_back(self, batch, taken_at);
    }

    fn reset(self: Arc<Self>, counter: Box<str>) -> BoxFuture<Result<(), StoreError>> {
        Box::pin(async move { LimitStore::reset(&*self, &counter).await })
    }
}

impl SharedStore {
    /// A handle on these two stores; they may be one and the same.
    pub fn new(sessions: impl SessionStore, limits: impl LimitStore) -> Self {
        Self {
            sessions: Arc::new(sessions),
            limits: Arc::new(limits),
        }
    }

    /// A handle on a new [`MemoryStore`].
    pub fn memory() -> Self {
        MemoryStore::new().into()
    }

    /// The same counters, with other sessions.
    pub(crate) fn with_sessions(&self, sessions: impl SessionStore) -> Self {
        Self {
            sessions: Arc::new(sessions),
            limits: self.limits.clone(),
        }
    }

    /// See [`SessionStore::try_get`].
    pub fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        self.sessions.try_get(key)
    }

    /// See [`SessionStore::get`].
    pub fn get(&self, key: &str) -> BoxFuture<Result<Option<Arc<Loaded>>, StoreError>> {
        self.sessions.clone().get(key.into())
    }

    /// See [`SessionStore::get_first`].
    pub fn get_first(
        &self,
        keys: SmallVec<[StorageKey; 2]>,
    ) -> BoxFuture<Result<Option<Arc<Loaded>>, StoreError>> {
        self.sessions.clone().get_first(keys)
    }

    /// See [`SessionStore::put`].
    pub fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> BoxFuture<Result<Version, StoreError>> {
        let sessions = self.sessions.clone();
        sessions.put(key.into(), session, expect, lifetime)
    }

    /// See [`SessionStore::delete`].
    pub fn delete(&self, key: &str) -> BoxFuture<Result<bool, StoreError>> {
        self.sessions.clone().delete(key.into())
    }

    /// See [`SessionStore::list`].
    pub fn list(&self, query: ListQuery) -> BoxFuture<Result<ListPage, StoreError>> {
        self.sessions.clone().list(query)
    }

    /// See [`SessionStore::on_change`].
    pub fn on_change(&self, sink: ChangeSink) {
        self.sessions.on_change(sink);
    }

    /// See [`SessionStore::epoch`].
    #[inline]
    pub fn epoch(&self) -> Option<u64> {
        self.sessions.epoch()
    }

    /// See [`SessionStore::compares_and_sets`].
    pub fn compares_and_sets(&self) -> bool {
        self.sessions.compares_and_sets()
    }

    /// See [`LimitStore::try_take`].
    pub fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict> {
        self.limits.try_take(batch, now)
    }

    /// See [`LimitStore::try_take_ready`].
    pub fn try_take_ready(&self, ready: &ReadyCharges, now: Moment) -> Option<Verdict> {
        self.limits.try_take_ready(ready, now)
    }

    /// See [`LimitStore::try_admit`].
    pub fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool {
        self.limits.try_admit(ready, now)
    }

    /// See [`LimitStore::try_admit_told`].
    pub fn try_admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool {
        self.limits.try_admit_told(ready, now, tell)
    }

    /// See [`LimitStore::take`].
    pub fn take(&self, batch: Batch, now: Moment) -> BoxFuture<Result<Verdict, StoreError>> {
        self.limits.clone().take(batch, now)
    }

    /// See [`LimitStore::look`].
    pub fn look(&self, batch: Batch, now: Moment) -> BoxFuture<Result<Verdict, StoreError>> {
        self.limits.clone().look(batch, now)
    }

    /// See [`LimitStore::give_back`].
    pub fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        self.limits.give_back(batch, taken_at);
    }

    /// See [`LimitStore::reset`].
    pub fn reset(&self, counter: &str) -> BoxFuture<Result<(), StoreError>> {
        self.limits.clone().reset(counter.into())
    }
}

impl From<MemoryStore> for SharedStore {
    fn from(store: MemoryStore) -> Self {
        Self::new(store.clone(), store)
    }
}

impl fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStore").finish_non_exhaustive()
    }
}

impl SessionStore for SharedStore {
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        self.sessions.try_get(key)
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        self.get(key).await
    }

    async fn get_first(&self, keys: &[StorageKey]) -> Result<Option<Arc<Loaded>>, StoreError> {
        self.get_first(keys.iter().cloned().collect()).await
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        self.put(key, session, expect, lifetime).await
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.delete(key).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.list(query.clone()).await
    }

    fn epoch(&self) -> Option<u64> {
        self.sessions.epoch()
    }

    fn on_change(&self, sink: ChangeSink) {
        self.sessions.on_change(sink);
    }

    fn compares_and_sets(&self) -> bool {
        self.sessions.compares_and_sets()
    }
}

impl LimitStore for SharedStore {
    fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict> {
        self.limits.try_take(batch, now)
    }

    fn try_take_ready(&self, ready: &ReadyCharges, now: Moment) -> Option<Verdict> {
        self.limits.try_take_ready(ready, now)
    }

    fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool {
        self.limits.try_admit(ready, now)
    }

    fn try_admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool {
        self.limits.try_admit_told(ready, now, tell)
    }

    async fn take(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        self.take(batch.iter().cloned().collect(), now).await
    }

    async fn look(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        self.look(batch.iter().cloned().collect(), now).await
    }

    fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        self.limits.give_back(batch, taken_at);
    }

    async fn reset(&self, counter: &str) -> Result<(), StoreError> {
        self.reset(counter).await
    }
}
