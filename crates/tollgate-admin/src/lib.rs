//! The control API of a gateway, as an axum [`Router`] to mount anywhere.
//!
//! Below `/tyk/` it answers as Tyk's gateway does, letter for letter: keys, organisation keys,
//! policies, API definitions, reloads, health. Below `/tollgate/` is what Tyk has not: what a request
//! would be told and why, the rights in force, usage, rotation, listings with filters, writes that
//! fail where somebody else was faster; `/tollgate/openapi.json` describes all of it.
//!
//! Keys live in a [`SharedStore`]; whatever else is asked of the gateway is asked of a [`Control`].
//! A request that does not show the secret in `X-Tyk-Authorization` is answered 403, whatever it asks
//! for; the exceptions are `/hello`, `/ready` and `/tollgate/usage`, which wants a key's own token.
//!
//! # Example
//!
//! ```
//! # use std::sync::Arc;
//! # use tollgate_admin::{Admin, ApiSet, BuildError, Control, Settings};
//! # use tollgate_core::{policy::PolicySet, store::SharedStore, token::KeyScheme};
//! # fn mount(control: Arc<dyn Control>) -> Result<axum::Router, BuildError> {
//! let settings = Settings::new("a secret of your own");
//! let admin = Admin::new(SharedStore::memory(), KeyScheme::sha256(), control, settings)?;
//! let app = axum::Router::new().merge(admin.router());
//! # Ok(app)
//! # }
//! ```
//!
//! # Differences from Tyk
//!
//! - A default or empty secret is refused when the API is built, unless [`WeakSecret::Allow`] says
//!   otherwise; with an empty one nobody is let in.
//! - Nothing of a policy is stored with a key: a policy that is changed or taken away works at once.
//! - A write, a deletion and a key made again start all counters of the key afresh, rates included,
//!   whichever way they are kept; `suppress_reset=1` keeps them.
//! - Ids that would change what a token says, or that leave a folder, are refused.
//! - A key that would be born expired by name is refused, not made one that never expires.
//! - Passwords are always stored hashed.

mod answer;
mod api_set;
mod apis;
mod beyond;
mod call;
mod control;
mod counters;
mod glob;
mod health;
mod keys;
mod lifetime;
mod lookup;
mod members;
mod org;
mod password;
mod policies;
mod reload;
mod settings;
mod tyk;

use std::{fmt, sync::Arc};

use axum::{Router, middleware, routing::any};
use tollgate_core::{Moment, pass::Plan, store::SharedStore, token::KeyScheme};

pub use self::{
    api_set::{ApiRecord, ApiRecordError, ApiSet},
    control::{
        ApiHealth, Component, Control, ControlError, ControlErrorKind, Health, KeyEvent, Question,
        Reach, Readiness, Reload,
    },
    password::PasswordHash,
    settings::{BuildError, DEFAULT_SECRET, Settings, WeakSecret},
};

/// The control API. A clone is the same one.
///
/// See the [crate docs](crate) for an example.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

/// What every handler has.
struct Inner {
    store: SharedStore,
    keys: KeyScheme,
    /// As `keys`, for whatever length: who administers keys names those too that nobody can present by id.
    names: KeyScheme,
    control: Arc<dyn Control>,
    settings: Settings,
}

impl Admin {
    /// A control API over these keys and this gateway.
    ///
    /// # Errors
    ///
    /// Fails where the secret is empty or the one that everybody knows, unless the settings allow it.
    pub fn new(
        store: SharedStore,
        keys: KeyScheme,
        control: Arc<dyn Control>,
        settings: Settings,
    ) -> Result<Self, BuildError> {
        settings.check()?;
        Ok(Self(Arc::new(Inner {
            store,
            names: keys.clone().with_min_length(1),
            keys,
            control,
            settings,
        })))
    }

    /// All of it: `/tyk/…`, `/tollgate/…`, and what [`health_router`](Self::health_router) has.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/tyk/", any(tyk::serve))
            .route("/tyk/{*rest}", any(tyk::serve))
            .with_state(self.0.clone())
            .merge(beyond::router(&self.0))
            .merge(self.health_router())
    }

    /// Routes of yours, for who shows the secret alone, as those below `/tollgate/`.
    pub fn guard(&self, routes: Router) -> Router {
        let guard = middleware::from_fn_with_state(self.0.clone(), beyond::guard);
        routes.layer(guard)
    }

    /// `/hello` and `/ready` alone, for a listener that others reach too.
    pub fn health_router(&self) -> Router {
        let settings = &self.0.settings;
        let mut router = Router::new().route(&settings.hello_path, any(health::hello));
        if let Some(ready) = &settings.ready_path {
            router = router.route(ready, any(health::ready));
        }
        router.with_state(self.0.clone())
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn now(&self) -> Moment {
        self.settings.clock.now()
    }

    /// Whether the store has hashes for names.
    fn is_hashing(&self) -> bool {
        const ANY: &str = "a token of any kind";
        self.keys.storage_key(ANY).as_str() != ANY
    }

    /// A plan for showing and counting: policies as they are in force, of any organisation.
    fn plan(&self) -> Arc<Plan> {
        let rules = tollgate_core::pass::Rules {
            master_keys: self.settings.master_keys,
            organisations: tollgate_core::access::Organisations::Mixed,
            algorithm: self.settings.algorithm,
            allow_inline_policies: self.settings.allow_inline_policies,
            ..Default::default()
        };
        Arc::new(Plan::new(rules, self.control.policies()))
    }
}
