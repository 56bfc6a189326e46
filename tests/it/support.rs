//! What the stories share: requests, services, and stores that wait or fail.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use tollgate::{
    MemoryStore, Session, SharedStore,
    store::{
        Charge, Expect, LimitStore, Loaded, SessionStore, StoreError, StoreErrorKind, Verdict,
        Version,
    },
};
use tollgate_core::Moment;
use tower::{Service, ServiceExt, service_fn};

/// A request with this token.
pub(crate) fn ask(path: &str, token: &str) -> Request<Body> {
    let request = Request::get(path).header("authorization", token);
    request.body(Body::empty()).expect("a request")
}

/// A service that answers 200.
pub(crate) fn ok()
-> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send {
    service_fn(async |_: Request<Body>| Ok(Response::new(Body::from("ok"))))
}

/// The status of one request.
pub(crate) async fn status<S, B>(service: &S, request: Request<Body>) -> StatusCode
where
    S: Service<Request<Body>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
{
    response(service, request).await.status()
}

/// The response to one request.
pub(crate) async fn response<S, B>(service: &S, request: Request<Body>) -> Response<B>
where
    S: Service<Request<Body>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
{
    service.clone().oneshot(request).await.expect("no error")
}

/// The statuses of several requests, one after the other.
pub(crate) async fn statuses<S, B>(
    service: &S,
    requests: impl IntoIterator<Item = Request<Body>>,
) -> Vec<u16>
where
    S: Service<Request<Body>, Response = Response<B>, Error: std::fmt::Debug> + Clone,
{
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(status(service, request).await.as_u16());
    }
    statuses
}

/// A memory store with these sessions.
pub(crate) fn store(sessions: &[(&str, &str)]) -> MemoryStore {
    let store = MemoryStore::new();
    for (key, session) in sessions {
        store
            .insert(key, session.parse().expect("a session"))
            .expect("room");
    }
    store
}

/// A store that answers nothing at once, as a remote one, counts its calls, and fails when told to.
#[derive(Clone)]
pub(crate) struct Far {
    pub(crate) memory: MemoryStore,
    fails: Arc<AtomicBool>,
    spoilt: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Far {
    pub(crate) fn new(memory: MemoryStore) -> Self {
        Self {
            memory,
            fails: Arc::default(),
            spoilt: Arc::default(),
            calls: Arc::default(),
        }
    }

    /// Calls since the last time this was asked.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.swap(0, SeqCst)
    }

    pub(crate) fn shared(&self) -> SharedStore {
        SharedStore::new(self.clone(), self.clone())
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, SeqCst);
    }

    /// Makes its records unreadable.
    pub(crate) fn spoil(&self, spoilt: bool) {
        self.spoilt.store(spoilt, SeqCst);
    }

    async fn answer(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, SeqCst);
        tokio::task::yield_now().await;
        if self.fails.load(SeqCst) {
            let cause = std::io::Error::other("connection refused by 192.0.2.7:6379");
            return Err(
                StoreError::new(StoreErrorKind::Unavailable, "no answer").with_source(cause)
            );
        }
        Ok(())
    }
}

impl SessionStore for Far {
    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        self.answer().await?;
        if self.spoilt.load(SeqCst) {
            let message = "the record is no session";
            return Err(StoreError::new(StoreErrorKind::Corrupt, message));
        }
        self.memory.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        self.answer().await?;
        self.memory.put(key, session, expect, lifetime).await
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.answer().await?;
        self.memory.delete(key).await
    }
}

impl LimitStore for Far {
    async fn take(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        self.answer().await?;
        self.memory.take(batch, now).await
    }

    async fn look(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        self.answer().await?;
        self.memory.look(batch, now).await
    }

    fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        self.memory.give_back(batch, taken_at);
    }

    async fn reset(&self, counter: &str) -> Result<(), StoreError> {
        self.answer().await?;
        self.memory.reset(counter).await
    }
}
