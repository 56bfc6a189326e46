//! Middleware that counts: [`RateLimitLayer`] and [`QuotaLayer`].
//!
//! Both are the same gate, [`LimitGate`], which charges all limits of a request in one step, wholly
//! or not at all: the session's rate and quota for the API that is called, the organisation's, the
//! API's own, and any of yours. A request is rejected
//!
//! - with `429` if a rate is used up;
//! - with `403` if a quota is used up, as Tyk does;
//! - with `503` if the store gives no answer, unless told otherwise.
//!
//! Refused requests are not charged. Where the session says so, a request over its rate waits for its
//! turn in place of being refused (*throttling*).
//!
//! Two layers stacked by hand charge one after the other: what the inner one refuses has cost the
//! outer one's unit. [`Tollgate::builder`](crate::Tollgate::builder) makes one gate of all.
//!
//! # Example
//!
//! Ten requests a second for each value of a header:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use http::{Request, Response};
//! use tollgate::{Rate, limits::RateLimitLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//! # async fn handle(_: Request<()>) -> Result<Response<axum::body::Body>, std::convert::Infallible> {
//! #     Ok(Response::default())
//! # }
//!
//! let service = RateLimitLayer::by(
//!     |head| Some(head.headers.get("x-tenant")?.to_str().ok()?.into()),
//!     Rate::per_second(1),
//! )
//! .layer(service_fn(handle));
//!
//! let ask = |tenant: &str| Request::get("/").header("x-tenant", tenant).body(());
//! assert_eq!(service.clone().oneshot(ask("a")?).await?.status(), 200);
//! assert_eq!(service.clone().oneshot(ask("b")?).await?.status(), 200);
//! let refused = service.oneshot(ask("a")?).await?;
//! assert_eq!(refused.status(), 429);
//! assert_eq!(refused.headers()["retry-after"], "1");
//! # Ok(())
//! # }
//! ```
//!
//! The session's own quota, charged only where the service succeeds:
//!
//! ```
//! use tollgate::{ChargeWhen, MemoryStore, limits::QuotaLayer, session::SessionLayer};
//! use tower::ServiceBuilder;
//!
//! let store = MemoryStore::new();
//! let stack = ServiceBuilder::new()
//!     .layer(SessionLayer::new(store.clone()))
//!     .layer(QuotaLayer::per_session(store).charge(ChargeWhen::Success));
//! ```

mod gate;

use std::{borrow::Cow, fmt, sync::Arc};

use http::request::Parts;
use tollgate_core::{
    limits::{Limit, Quota, Rate, Throttle},
    rejection::LimitOwner,
    store::{Charge, ChargeMode, Counter, CounterName, CounterRef, SharedStore},
};

pub use gate::LimitGate;

use crate::{
    rate_headers::LimitHeaders,
    session::OnStoreError,
    settlement::ChargeWhen,
    single::{Single, single_gate_layer},
};

/// Layer that lets so many requests through a window.
///
/// See the [module docs](crate::limits) for examples.
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitLayer(Single<LimitGate>);

single_gate_layer!(RateLimitLayer);

impl RateLimitLayer {
    /// The rate of each request's session: needs a [`SessionLayer`](crate::session::SessionLayer) in
    /// front.
    pub fn per_session(store: impl Into<SharedStore>) -> Self {
        Self(Single::new(
            LimitGate::new(store.into()).with(|rules| rules.session_rate = true),
        ))
    }

    /// One rate for all requests together.
    pub fn global(rate: Rate) -> Self {
        Self(Single::new(LimitGate::of_own(OwnLimit::global(
            "rate",
            LimitOwner::Own,
            Limit::Rate(rate),
        ))))
    }

    /// One rate for each key that `key` finds in a request. Requests without a key share one count: who
    /// leaves the key out gains nothing.
    pub fn by<K>(key: K, rate: Rate) -> Self
    where
        K: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        Self(Single::new(LimitGate::of_own(OwnLimit::by(
            "rate",
            Limit::Rate(rate),
            key,
        ))))
    }
}

/// Layer that lets so many requests through a period.
///
/// See the [module docs](crate::limits) for examples.
#[derive(Clone, Debug)]
#[must_use]
pub struct QuotaLayer(Single<LimitGate>);

single_gate_layer!(QuotaLayer);

impl QuotaLayer {
    /// The quota of each request's session: needs a [`SessionLayer`](crate::session::SessionLayer) in
    /// front.
    pub fn per_session(store: impl Into<SharedStore>) -> Self {
        Self(Single::new(
            LimitGate::new(store.into()).with(|rules| rules.session_quota = true),
        ))
    }

    /// One quota for each key that `key` finds in a request. Requests without a key share one.
    pub fn by<K>(key: K, quota: Quota) -> Self
    where
        K: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        Self(Single::new(LimitGate::of_own(OwnLimit::by(
            "quota",
            Limit::Quota(quota),
            key,
        ))))
    }

    /// When a request is charged. The default is when it is let in.
    pub fn charge(self, when: ChargeWhen) -> Self {
        Self(
            self.0
                .change(|gate| gate.change(|rules| rules.charge = when)),
        )
    }
}

/// Gives both layers the settings that they share.
macro_rules! limit_settings {
    ($layer:ident) => {
        impl $layer {
            /// Keeps the counters here. The default is a memory store of this layer's own.
            pub fn with_store(self, store: impl Into<SharedStore>) -> Self {
                let store = store.into();
                Self(
                    self.0
                        .change(|gate| gate.change(|rules| rules.store = store)),
                )
            }

            /// Names the counters of limits of yours. Layers with one name and one store share their counts;
            /// a name that stays keeps them across a restart of the stack.
            pub fn named(self, name: &str) -> Self {
                Self(self.0.change(|gate| {
                    gate.change(|rules| rules.own.iter_mut().for_each(|own| own.rename(name)));
                }))
            }

            /// Which headers tell where the limits stand.
            pub fn with_headers(self, headers: LimitHeaders) -> Self {
                Self(
                    self.0
                        .change(|gate| gate.change(|rules| rules.headers = headers)),
                )
            }

            /// The part of the path that is not the API's own, as `/shop/`: patterns of endpoints may
            /// leave it out.
            pub fn with_listen_path(self, listen_path: impl Into<Box<str>>) -> Self {
                let path = listen_path.into().into();
                Self(
                    self.0
                        .change(|gate| gate.change(|rules| rules.listen_path = Some(path))),
                )
            }

            /// What to do when the store gives no answer.
            pub fn on_store_error(self, then: OnStoreError) -> Self {
                Self(
                    self.0
                        .change(|gate| gate.change(|rules| rules.on_store_error = then)),
                )
            }

            /// Refuses nothing: counts admitted requests under counters of their own, and what would have
            /// been refused as `would_reject`.
            pub fn observe(self) -> Self {
                Self(
                    self.0
                        .change(|gate| gate.change(|rules| rules.mode = ChargeMode::Observe)),
                )
            }

            /// Lets requests over a rate of yours wait for their turn, within this patience.
            pub fn with_throttle(self, throttle: Throttle) -> Self {
                Self(self.0.change(|gate| {
                    gate.change(|rules| {
                        rules
                            .own
                            .iter_mut()
                            .for_each(|own| own.throttle = Some(throttle))
                    });
                }))
            }
        }
    };
}

limit_settings!(RateLimitLayer);
limit_settings!(QuotaLayer);

/// A limit that does not come with the session: yours, or the API's.
#[derive(Clone)]
pub struct OwnLimit {
    name: Box<str>,
    owner: LimitOwner,
    limit: Limit,
    throttle: Option<Throttle>,
    key: OwnKey,
}

#[derive(Clone)]
enum OwnKey {
    Global(Arc<Counter>),
    By(Arc<KeyOf>),
}

type KeyOf = dyn for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync;

/// Chooses the limit of a request; `None` charges nothing.
pub(crate) type ChooseLimit = dyn Fn(&Parts) -> Option<Arc<OwnLimit>> + Send + Sync;

impl OwnLimit {
    /// One limit for all requests together.
    pub fn global(name: &str, owner: LimitOwner, limit: Limit) -> Self {
        let key = OwnKey::Global(Counter::new(format!("own:{name}")));
        Self {
            name: name.into(),
            owner,
            limit,
            throttle: None,
            key,
        }
    }

    /// One limit for each key that `key` finds in a request; requests without a key share one count.
    pub fn by<K>(name: &str, limit: Limit, key: K) -> Self
    where
        K: for<'a> Fn(&'a Parts) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    {
        let key = OwnKey::By(Arc::new(key));
        Self {
            name: name.into(),
            owner: LimitOwner::Own,
            limit,
            throttle: None,
            key,
        }
    }

    fn rename(&mut self, name: &str) {
        self.name = name.into();
        if let OwnKey::Global(counter) = &mut self.key {
            *counter = Counter::new(format!("own:{name}"));
        }
    }

    fn charge(&self, head: &Parts) -> Charge {
        let counter = match &self.key {
            OwnKey::Global(counter) => CounterRef::Held(counter.clone()),
            OwnKey::By(key) => {
                let key = key(head).unwrap_or_default();
                CounterRef::Named(CounterName::of(&[
                    b"own",
                    self.name.as_bytes(),
                    key.as_bytes(),
                ]))
            }
        };
        let patience = self.throttle.map(Throttle::patience).unwrap_or_default();
        Charge {
            patience,
            owner: self.owner,
            ..Charge::new(counter, self.limit.clone())
        }
    }
}

impl fmt::Debug for OwnLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnLimit")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
