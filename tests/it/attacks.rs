//! Attacks, by number, against real stacks. `docs/attacks.md` lists what is covered, and by which test.
//!
//! Every attack is expected to be refused with the status that is stated, with no call of the service
//! and no charge, unless the test says otherwise.

mod credentials;
mod headers;
mod life;
mod limits;
mod paths;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::body::Body;
use http::{Method, Request, Response};
use tollgate::{
    ChargeWhen, KeyScheme, LimitHeaders, MemoryStore, Rate, Session, SharedStore, Tollgate,
    access::{PathOptions, VersionRule},
    clock::ManualClock,
    limits::RateLimitLayer,
    pass::Rules,
    policy::PolicySet,
    stack::Builder,
    store::{cached::CacheOptions, memory::MemoryOptions},
    token_source::{CookieSource, HeaderSource, QuerySource, TokenSource},
};
use tower::{Layer, Service, service_fn};

use crate::support::{Far, ask, ok, response, status, statuses, store};

/// A service that counts its calls.
fn counting() -> (
    impl Service<
        Request<Body>,
        Response = Response<Body>,
        Error = std::convert::Infallible,
        Future: Send,
    > + Clone
    + Send,
    Arc<AtomicUsize>,
) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let service = service_fn(move |_: Request<Body>| {
        counter.fetch_add(1, SeqCst);
        std::future::ready(Ok(Response::new(Body::empty())))
    });
    (service, calls)
}

/// Sends requests that must all be refused with this status, and one that must pass: nothing that was
/// refused has reached the service or has cost anything of the quota of one.
async fn check(
    build: impl FnOnce(Builder) -> Builder,
    session: &str,
    refused: u16,
    attacks: impl Into<Vec<Request<Body>>>,
) {
    let mut session: Session = session.parse().unwrap();
    (session.quota_max, session.quota_renewal_rate) = (1, 60);
    let store = MemoryStore::new();
    store.insert("joes-key", session).unwrap();
    let (service, calls) = counting();
    let service = build(Tollgate::builder(store).quota())
        .build()
        .unwrap()
        .layer()
        .layer(service);
    for attack in attacks.into() {
        let what = format!("{attack:?}");
        assert_eq!(status(&service, attack).await, refused, "{what}");
    }
    assert_eq!(calls.load(SeqCst), 0);
    assert_eq!(status(&service, ask("/open", "joes-key")).await, 200);
}

fn with_header(path: &str, name: &str, value: &[u8]) -> Request<Body> {
    let request = Request::get(path)
        .header("authorization", "joes-key")
        .header(name, value);
    request.body(Body::empty()).unwrap()
}
