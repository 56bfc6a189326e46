//! The store: what its parts share.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tollgate_core::{
    Moment,
    clock::machine_time,
    limits::Limit,
    store::{SharedStore, StoreError},
};

use crate::{
    Naming, ReloadSink,
    clock::ServerClock,
    fallback::Fallback,
    heartbeat, keys,
    leases::Leases,
    link::Link,
    notices::{self, Notices},
    options::{LimitMode, OnStoreError, RedisOptions, Topology},
};

/// A store on Redis or Valkey. A clone is the same store.
///
/// See the [crate docs](crate) for an example.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    options: RedisOptions,
    link: Arc<Link>,
    notices: Arc<Notices>,
    server_clock: ServerClock,
    fallback: Fallback,
    leases: Leases,
    resets: AtomicU64,
}

impl RedisStore {
    pub(crate) fn new(options: RedisOptions, link: Link) -> Self {
        let link = Arc::new(link);
        let notices = Arc::new(Notices::new(&options));
        if let (Some(every), Ok(runtime)) =
            (options.heartbeat, tokio::runtime::Handle::try_current())
        {
            let beats = heartbeat::beat(Arc::downgrade(&link), Arc::downgrade(&notices), every);
            runtime.spawn(beats);
        }
        if options.notices {
            // Outside a runtime nobody listens, and caches keep to their ages.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let listens = notices::listen(Arc::downgrade(&link), Arc::downgrade(&notices));
                runtime.spawn(listens);
            }
        }
        Self(Arc::new(Inner {
            options,
            link,
            notices,
            server_clock: ServerClock::default(),
            fallback: Fallback::new(),
            leases: Leases::new(),
            resets: AtomicU64::new(0),
        }))
    }

    /// Asks the server whether it is there.
    ///
    /// # Errors
    ///
    /// Fails where it gives no answer within the deadline.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let _: String = self.link().command(&redis::cmd("PING")).await?;
        Ok(())
    }

    /// Asks the server whether it can be written to, as Tyk does: by a key of that name, which ends by itself.
    ///
    /// # Errors
    ///
    /// Fails where it gives no answer within the deadline, or takes no writes.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let mut set = redis::cmd("SET");
        set.arg(keys::PROBE).arg(keys::PROBE).arg("EX").arg(10);
        let _: String = self.link().command(&set).await?;
        Ok(())
    }

    /// How many round trips requests have made so far; what listens for notices is not counted.
    pub fn round_trips(&self) -> u64 {
        self.link().calls()
    }

    /// Gives all units back that are leased and not used. From then on each request is asked for. What can not be
    /// given back within the deadline of a call is lost to the period.
    ///
    /// Without it, at the end of the process, they are lost.
    pub async fn close(&self) {
        self.settle_all().await;
    }

    /// Tells `sink` whenever a gateway, Tyk's or ours, says that all reload.
    pub fn on_reload(&self, sink: ReloadSink) {
        self.notices().add_reload(sink);
    }

    /// Tells all gateways, Tyk's too, to reload.
    ///
    /// # Errors
    ///
    /// Fails where the server gives no answer.
    pub async fn tell_to_reload(&self) -> Result<(), StoreError> {
        let _: i64 = self.link().command(&self.notices().of_reload()).await?;
        Ok(())
    }

    pub(crate) fn options(&self) -> &RedisOptions {
        &self.0.options
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.0.link
    }

    pub(crate) fn notices(&self) -> &Notices {
        &self.0.notices
    }

    pub(crate) fn server_clock(&self) -> &ServerClock {
        &self.0.server_clock
    }

    pub(crate) fn fallback(&self) -> &Fallback {
        &self.0.fallback
    }

    /// Whether logs of rates have Tyk's sentinel.
    pub(crate) fn has_sentinels(&self) -> bool {
        self.0.options.sentinels
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.0.leases
    }

    /// How limits are kept; exactly from the time on when the store was closed.
    pub(crate) fn mode(&self) -> LimitMode {
        if self.0.leases.is_closed() {
            LimitMode::Exact
        } else {
            self.0.options.mode
        }
    }

    pub(crate) fn longest_lease(&self) -> Duration {
        self.0.options.longest_lease
    }

    pub(crate) fn naming(&self) -> Naming {
        self.0.options.naming
    }

    pub(crate) fn denial_age(&self) -> Duration {
        self.0.options.denial_age
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.options.topology, Topology::Cluster(_))
    }

    pub(crate) fn on_error(&self, limit: &Limit) -> OnStoreError {
        match limit {
            Limit::Rate(_) => self.0.options.rates_on_error,
            Limit::Quota(_) => self.0.options.quotas_on_error,
        }
    }

    pub(crate) fn moment(&self) -> Moment {
        let clock = self.0.options.clock.as_ref();
        clock.map_or_else(machine_time, |clock| clock.now())
    }

    /// Tells others that a record changed, without waiting: it is written already.
    pub(crate) fn tell(&self, key: &str) {
        if !self.0.options.notices {
            return;
        }
        let (store, notice) = (self.clone(), self.notices().of_key(key));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let told: Result<i64, _> = store.link().command(&notice).await;
                if let Err(error) = told {
                    tracing::warn!(%error, "others were not told of a changed record");
                }
            });
        }
    }

    /// How many counters were reset here: what was refused before one was may pass now.
    pub(crate) fn resets(&self) -> u64 {
        self.0.resets.load(Relaxed)
    }

    pub(crate) fn count_reset(&self) {
        self.0.resets.fetch_add(1, Relaxed);
    }
}

impl From<RedisStore> for SharedStore {
    fn from(store: RedisStore) -> Self {
        Self::new(store.clone(), store)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}
