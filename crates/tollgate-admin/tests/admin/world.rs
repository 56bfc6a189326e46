//! A control API over a store in memory, and requests to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body};
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::Value;
use tollgate_admin::Control;
use tollgate_admin::{Admin, Settings};
use tollgate_core::{
    Clock, Loaded, ManualClock, Session, StoreError,
    access::Organisations,
    pass::{Kinds, Plan, Rules},
    store::{
        ChangeSink, Expect, ListPage, ListQuery, MemoryStore, SessionStore, SharedStore,
        StoreErrorKind, Verdict, Version,
    },
    token::{HashFunction, KeyScheme, TokenForm},
};
use tower::ServiceExt;

use crate::gateway::{Gateway, Kept};

pub(crate) const SECRET: &str = "not the default one";
pub(crate) const START: u64 = 1_700_000_000;

/// A store that remembers how long each record was to be kept, and that may hold what can not be read.
#[derive(Clone)]
pub(crate) struct Records {
    pub(crate) memory: MemoryStore,
    lifetimes: Arc<Mutex<BTreeMap<String, Option<Duration>>>>,
    broken: Arc<Mutex<Vec<String>>>,
    texts: Arc<Mutex<BTreeMap<String, String>>>, // As they were put, until they are written anew.
}

impl Records {
    fn new(clock: &ManualClock) -> Self {
        Self {
            memory: MemoryStore::with_clock(clock.clone()),
            lifetimes: Arc::default(),
            broken: Arc::default(),
            texts: Arc::default(),
        }
    }

    pub(crate) fn lifetime(&self, key: &str) -> Option<Duration> {
        self.lifetimes.lock().unwrap().get(key).copied().flatten()
    }

    pub(crate) fn put_text(&self, key: &str, text: &str) {
        self.texts.lock().unwrap().insert(key.into(), text.into());
        match text.parse() {
            Ok(session) => drop(self.memory.insert(key, session).unwrap()),
            Err(_) => self.broken.lock().unwrap().push(key.into()),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.texts.lock().unwrap().get(key).cloned()
    }

    fn is_broken(&self, key: &str) -> bool {
        self.broken.lock().unwrap().iter().any(|name| name == key)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.is_broken(key) || self.session(key).is_some()
    }

    pub(crate) fn session(&self, key: &str) -> Option<Session> {
        let loaded = self.memory.try_get(key).flatten()?;
        Some((**loaded.session()).clone())
    }
}

impl SessionStore for Records {
    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        if self.is_broken(key) {
            return Err(StoreError::new(StoreErrorKind::Corrupt, "no session"));
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
        let version = self.memory.put(key, session, expect, lifetime).await?;
        let mut lifetimes = self.lifetimes.lock().unwrap();
        lifetimes.insert(key.into(), lifetime);
        self.texts.lock().unwrap().remove(key);
        Ok(version)
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let was_broken = self.is_broken(key);
        self.broken.lock().unwrap().retain(|name| name != key);
        Ok(was_broken | self.memory.delete(key).await?)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        self.memory.list(query).await
    }

    fn on_change(&self, sink: ChangeSink) {
        self.memory.on_change(sink);
    }
}

pub(crate) struct World {
    pub(crate) keys: KeyScheme,
    pub(crate) records: Records,
    pub(crate) store: SharedStore,
    pub(crate) clock: ManualClock,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) router: Router,
}

/// An answer, read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

pub(crate) fn hashed() -> KeyScheme {
    KeyScheme::hashed().with_form(TokenForm::Json(HashFunction::Murmur64))
}

impl World {
    /// Tyk's example configuration: hashed keys that can be listed.
    pub(crate) fn new() -> Self {
        Self::with(hashed(), Kept::InFolder, |settings| {
            settings.hashed_keys_listing = true;
        })
    }

    pub(crate) fn with(keys: KeyScheme, kept: Kept, set: impl FnOnce(&mut Settings)) -> Self {
        let clock = ManualClock::at(START);
        let records = Records::new(&clock);
        let store = SharedStore::new(records.clone(), records.memory.clone());
        let gateway = Arc::new(Gateway::new(kept));
        let mut settings = Settings {
            clock: Arc::new(clock.clone()),
            ..Settings::new(SECRET)
        };
        set(&mut settings);
        let admin = Admin::new(store.clone(), keys.clone(), gateway.clone(), settings).unwrap();
        Self {
            keys,
            router: admin.router(),
            records,
            store,
            clock,
            gateway,
        }
    }

    /// Charges what so many requests of a token to an API would be charged, as long as they fit; says
    /// how many did; `None` where the token opens nothing there.
    pub(crate) async fn spend(
        &self,
        org: &str,
        token: &str,
        api: &str,
        times: usize,
    ) -> Option<usize> {
        let candidates = self.keys.candidates(&org.into(), token);
        let loaded = self.store.get_first(candidates).await.unwrap()?;
        let rules = Rules {
            organisations: Organisations::Mixed,
            ..Rules::default()
        };
        let plan = Arc::new(Plan::new(rules, self.gateway.policies()));
        let key = loaded.key().clone();
        let record = Loaded::new(key, loaded.session().clone(), loaded.version());
        let pass = plan.pass(&record).ok()?;
        let entry = pass.entry(pass.find(&api.into()).ok()?);
        let mut spent = 0;
        for _ in 0..times {
            let charges = entry.charges(Kinds::Both, None).iter().cloned().collect();
            let verdict = self.store.take(charges, self.clock.now()).await.unwrap();
            spent += usize::from(matches!(verdict, Verdict::Taken(_)));
        }
        Some(spent)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: StatusCode::as_u16(&head.status),
            headers: head.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// A request with the secret.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("x-tyk-authorization", SECRET);
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn ask_json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask(method, path, body.to_string()).await
    }
}
