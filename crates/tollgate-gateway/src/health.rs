//! Whether the store answers, and Redis can be written to: asked again and again, and told by `/hello`, `/ready` and
//! `tollgate_store_up`.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tollgate::{
    SharedStore,
    clock::{Clock, TokioClock},
};
use tollgate_core::StoreError;
use tollgate_redis::RedisStore;

/// A name that no key has.
const PROBE: &str = "tollgate-liveness-probe";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the store was when it was asked last. A clone is the same one.
#[derive(Clone, Debug)]
pub struct StoreHealth {
    store: SharedStore,
    redis: Option<RedisStore>,
    seen: Arc<Mutex<Seen>>,
}

/// What was seen of a store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// Why it is not to be used; for whoever asks, so nothing of where it is.
    pub failure: Option<&'static str>,
    /// When, in nanoseconds since the Unix epoch.
    pub unix_nanos: u64,
}

impl StoreHealth {
    /// A store that has not failed yet.
    pub fn new(store: SharedStore) -> Self {
        let seen = Seen {
            failure: None,
            unix_nanos: TokioClock.now().unix_nanos,
        };
        Self {
            store,
            redis: None,
            seen: Arc::new(Mutex::new(seen)),
        }
    }

    /// The same of a store that is in Redis.
    #[must_use]
    pub fn in_redis(mut self, redis: Option<RedisStore>) -> Self {
        self.redis = redis;
        self
    }

    /// How it was.
    pub fn seen(&self) -> Seen {
        *self.seen.lock()
    }

    /// Asks it, and tells the log where that has changed.
    pub async fn ask(&self) {
        let answer = tokio::time::timeout(PATIENCE, self.probe()).await;
        let failure = match &answer {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some("the store fails"),
            Err(_) => Some("the store does not answer in time"),
        };
        let unix_nanos = TokioClock.now().unix_nanos;
        let seen = Seen {
            failure,
            unix_nanos,
        };
        let before = std::mem::replace(&mut *self.seen.lock(), seen);
        crate::observe::meters::store_is_up(failure.is_none());
        match (before.failure, &answer) {
            (None, Ok(Err(error))) => tracing::error!(%error, "the store fails"),
            (None, Err(_)) => tracing::error!("the store does not answer in time"),
            (Some(_), Ok(Ok(()))) => tracing::info!("the store answers again"),
            _ => {}
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.store.get(PROBE).await?;
        match &self.redis {
            Some(redis) => redis.probe().await,
            None => Ok(()),
        }
    }

    /// Asks it that often, for as long as this is polled.
    pub async fn keep_asking(self, every: Duration) {
        let mut next = tokio::time::interval(every);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            self.ask().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use tollgate_core::{
        Loaded, Session, StoreError,
        store::{Expect, MemoryStore, SessionStore, StoreErrorKind, Version},
    };

    use super::*;

    const FAILS: u8 = 1;
    const HANGS: u8 = 2;

    #[derive(Clone, Default)]
    struct Odd(Arc<AtomicU8>);

    impl SessionStore for Odd {
        async fn get(&self, _key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
            match self.0.load(Ordering::Relaxed) {
                FAILS => Err(StoreError::new(StoreErrorKind::Unavailable, "at 10.0.0.7")),
                HANGS => std::future::pending().await,
                _ => Ok(None),
            }
        }
        async fn put(
            &self,
            _key: &str,
            _session: Session,
            _expect: Expect,
            _lifetime: Option<Duration>,
        ) -> Result<Version, StoreError> {
            Err(StoreError::new(StoreErrorKind::Unavailable, "not written"))
        }
        async fn delete(&self, _key: &str) -> Result<bool, StoreError> {
            Ok(false)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_does_is_seen() {
        let odd = Odd::default();
        let health = StoreHealth::new(SharedStore::new(odd.clone(), MemoryStore::new()));
        let seen = [
            (0, None),
            (FAILS, Some("the store fails")),
            (HANGS, Some("the store does not answer in time")),
            (0, None),
        ];
        for (state, failure) in seen {
            odd.0.store(state, Ordering::Relaxed);
            health.ask().await;
            assert_eq!(health.seen().failure, failure);
        }
    }
}
