//! Keys that come and go: what a store holds may not grow.
//!
//! `scripts/soak` runs it with a million sessions for ten minutes, `tests/allocations.rs` in small.

use std::convert::Infallible;

use futures_util::FutureExt;
use http::{Request, Response, StatusCode};
use tollgate::{
    LimitHeaders, MemoryStore, Tollgate, clock::Clock, policy::PolicySet, store::SessionStore,
};
use tower::{Layer, Service, service_fn};

/// A stack over a store whose keys are replaced by new ones, all of one policy.
pub struct Churn {
    store: MemoryStore,
    gate: Tollgate,
    oldest: usize,
    next: usize,
}

// Short periods: a counter outlives its key for as long as it counts.
const POLICY: &str = r#"{"gold": {"rate": 1e9, "per": 1, "quota_max": 1000000000, "quota_renewal_rate": 5,
    "access_rights": {"orders": {"allowed_urls": [{"url": "^/orders", "methods": ["GET"]}]}, "users": {}}}}"#;

fn token(number: usize) -> String {
    format!("53ac07777cbb8c2d53000002{number:032x}")
}

impl Churn {
    /// So many sessions, none of them asked for yet.
    ///
    /// # Panics
    ///
    /// Panics if something of ours is wrong, as everywhere here.
    pub fn new(sessions: usize, clock: impl Clock) -> Self {
        let store = MemoryStore::new();
        let (policies, _) = PolicySet::from_record_file(POLICY.as_bytes()).expect("policies");
        let gate = Tollgate::builder(store.clone())
            .policies(policies)
            .api("orders")
            .rate_limit()
            .quota()
            .headers(LimitHeaders::none())
            .without_context()
            .clock(clock)
            .build();
        let mut churn = Self {
            store,
            gate: gate.expect("a stack"),
            oldest: 0,
            next: 0,
        };
        (0..sessions).for_each(|_| churn.add());
        churn
    }

    fn add(&mut self) {
        let number = self.next;
        self.next += 1;
        let session = format!(
            r#"{{"alias": "user {number}", "apply_policies": ["gold"], "meta_data": {{"user": "u{number}"}}}}"#
        );
        let session = session.parse().expect("a session");
        self.store.insert(&token(number), session).expect("room");
    }

    /// Sends one request with each key.
    pub fn ask_all(&self) {
        (self.oldest..self.next).for_each(|number| self.ask(number));
    }

    fn ask(&self, number: usize) {
        let answer = |_: Request<()>| std::future::ready(Ok::<_, Infallible>(Response::new(())));
        let mut service = self.gate.layer().layer(service_fn(answer));
        let request = Request::get("/orders/7").header("authorization", token(number));
        let response = service.call(request.body(()).expect("a request"));
        let response = response.now_or_never().expect("memory answers at once");
        assert_eq!(response.expect("a response").status(), StatusCode::OK);
    }

    /// Puts so many new keys in place of the oldest, and uses each once.
    pub fn replace(&mut self, keys: usize) {
        for _ in 0..keys {
            let token = token(self.oldest);
            let deleted = SessionStore::delete(&self.store, &token);
            let was_there = deleted.now_or_never().expect("memory answers at once");
            assert!(was_there.expect("memory does not fail"));
            self.oldest += 1;
            self.add();
            self.ask(self.next - 1);
        }
    }

    /// How many counters the store knows; those of deleted keys go as their windows end.
    pub fn counters(&self) -> usize {
        self.store.counters()
    }
}
