//! A gateway with its control API: its listeners, from the first to the last.

mod listening;
mod own_ports;
mod reload;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use tollgate::SharedStore;
use tollgate_admin::{Admin, Settings, WeakSecret};
use tollgate_gateway::{
    control::Controlled,
    gateway::{Front, Gateway},
    health::StoreHealth,
    load::{DefaultSecret, LoadOptions, Loaded},
    observe::prometheus::Exporter,
    reference::Environment,
    serve::{Listener, ServeOptions, Stop, serve},
    sockets::ApiPorts,
};
use tollgate_redis::RedisStore;

use self::{
    listening::serve_options,
    own_ports::OwnPorts,
    reload::{Configuration, Reloads},
};
use crate::{
    observation::{Observation, own_address},
    start::tell,
    watch::{self, Places},
};

/// A gateway with its control API, about to listen.
pub(crate) struct Server {
    gateway: Arc<Gateway>,
    configuration: Configuration,
    admin: Admin,
    stop: Stop,
    exporter: Option<Exporter>,
    health: StoreHealth,
}

/// What a server is made of: the files, and what they may refer to.
pub(crate) struct Setup<'a> {
    pub(crate) loaded: &'a Loaded,
    /// The file of the configuration.
    pub(crate) conf: &'a Path,
    pub(crate) environment: Environment,
    /// What the command line says.
    pub(crate) options: LoadOptions,
    pub(crate) api_ports: ApiPorts,
}

/// Where keys and counters are.
pub(crate) struct Backing {
    pub(crate) store: SharedStore,
    /// The Redis that it is in.
    pub(crate) redis: Option<RedisStore>,
    /// Other gateways on it that reload together, if there may be some.
    pub(crate) others: Option<RedisStore>,
}

impl Server {
    pub(crate) fn new(
        setup: Setup<'_>,
        backing: Backing,
        observation: &Observation,
    ) -> anyhow::Result<Self> {
        let observer = observation.observer();
        let configuration = Configuration::of(&setup);
        let (loaded, environment) = (setup.loaded, setup.environment);
        let (store, ports) = (backing.store, setup.api_ports);
        let (gateway, report) = Gateway::new(loaded, environment, store, observer, ports)?;
        tell(&report);
        if let Some(redis) = &backing.others {
            reload::with_others(&gateway, redis);
        }
        let stop = Stop::new();
        let health = StoreHealth::new(gateway.store().clone()).in_redis(backing.redis);
        let admin = admin(
            &gateway,
            &stop,
            &health,
            setup.options.default_secret,
            backing.others,
        )?;
        Ok(Self {
            gateway,
            configuration,
            admin,
            exporter: observation.exporter(&stop),
            health,
            stop,
        })
    }

    /// The control API.
    pub(crate) fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Serves until a signal comes; what is under way then may take so long. Files that change are read
    /// anew where that is asked for.
    pub(crate) async fn serve(self, within: Duration, watches: bool) -> anyhow::Result<()> {
        let config = self.gateway.config();
        let options = serve_options(config)?;
        // Before anybody is told that it is ready: what changes from then on is seen.
        let changes = if watches {
            let places = places(&self.gateway, self.configuration.file());
            Some(watch::begin(places).context("files can not be watched")?)
        } else {
            None
        };
        let (public, control) = self.fronts();
        let mut serving = Vec::new();
        let asking = self.health.clone();
        tokio::spawn(asking.keep_asking(config.liveness_interval()));
        if let Some(exporter) = &self.exporter {
            tokio::spawn(exporter.clone().keep_up());
            if let Some((address, path)) = own_address(config)? {
                let listener = Listener::bind(address).await;
                let listener = listener.with_context(|| format!("{address}"))?;
                let (routes, stop) = (exporter.router(path), self.stop.clone());
                let serve = serve(listener, routes, ServeOptions::default(), stop);
                serving.push(tokio::spawn(serve));
            }
        }
        let sockets = self.gateway.sockets();
        if let Some(control) = control {
            let listener = sockets.listen(config.control_api_port)?;
            let serve = serve(listener, control, options.clone(), self.stop.clone());
            serving.push(tokio::spawn(serve));
        }
        let listener = sockets.listen(config.port())?;
        tracing::info!(address = %listener.local_addr()?, "serving");
        let serve = serve(listener, public, options.clone(), self.stop.clone());
        serving.push(tokio::spawn(serve));
        let own_ports = OwnPorts {
            gateway: self.gateway.clone(),
            options,
            stop: self.stop.clone(),
            within,
        };
        serving.push(tokio::spawn(own_ports.serve()));
        let reloads = Reloads {
            gateway: self.gateway.clone(),
            configuration: self.configuration.clone(),
        };
        reloads.until_told(changes).await?;
        tracing::info!("stopping");
        let stopped = self.stop.wait(within).await;
        for task in serving {
            task.await?;
        }
        tracing::info!(?stopped, "stopped");
        Ok(())
    }

    /// The control API, with metrics where they have no address of their own.
    fn control(&self) -> Router {
        let routes = self.admin.router();
        let has_own_address = !self.gateway.config().tollgate.metrics.address.is_empty();
        match self.exporter.as_ref().filter(|_| !has_own_address) {
            Some(exporter) => {
                let metrics = exporter.router("/tollgate/metrics");
                routes.merge(self.admin.guard(metrics))
            }
            None => routes,
        }
    }

    /// What the public listener serves, and what that of the control API does if it has its own.
    fn fronts(&self) -> (Front, Option<Front>) {
        let config = self.gateway.config();
        let health = [config.health_check_path(), config.readiness_check_path()];
        let control = ["/tyk/".to_owned(), "/tollgate/".to_owned()];
        let all = health.clone().into_iter().chain(control);
        let front = Front::new(self.gateway.clone());
        let routes = self.control();
        if config.control_api_port == 0 {
            return (front.with_admin(routes, all), None);
        }
        let own = front.clone().with_admin(routes, all);
        (
            front.with_admin(self.admin.health_router(), health),
            Some(own),
        )
    }
}

fn admin(
    gateway: &Arc<Gateway>,
    stop: &Stop,
    health: &StoreHealth,
    weak: DefaultSecret,
    shared: Option<RedisStore>,
) -> anyhow::Result<Admin> {
    let config = gateway.config();
    let stop = stop.clone();
    let is_stopping = move || stop.has_begun();
    let control = Controlled::new(gateway.clone(), is_stopping, health.clone());
    let control = Arc::new(match shared {
        Some(redis) => control.with_others(move || tell_others(&redis)),
        None => control,
    });
    let settings = Settings {
        weak_secret: match weak {
            DefaultSecret::Allowed => WeakSecret::Allow,
            DefaultSecret::Refused => WeakSecret::Refuse,
        },
        hostname: Some(config.control_api_hostname.clone()).filter(|host| !host.is_empty()),
        hashed_keys_listing: config.enable_hashed_keys_listing,
        master_keys: config.master_keys(),
        actions_by_username: !config.disable_key_actions_by_username,
        forced_lifetime: config
            .force_global_session_lifetime
            .then_some(config.global_session_lifetime),
        lifetime_respects_expiry: config.session_lifetime_respects_key_expiration,
        default_org_store: !config.suppress_default_org_store,
        health_checks: config.health_check.enable_health_checks,
        hello_path: config.health_check_path(),
        ready_path: Some(config.readiness_check_path()),
        exact_quota_reset: config.tollgate.exact_quota_reset,
        refuse_short_ids: config.tollgate.refuse_short_ids,
        drop_unknown_members: !config.tollgate.keep_unknown_members,
        ignore_per_api_signatures: !config.tollgate.per_api_signatures,
        ..Settings::new(config.secret.clone())
    };
    let (store, keys) = (gateway.store().clone(), gateway.keys().clone());
    Ok(Admin::new(store, keys, control, settings)?)
}

/// Has all gateways on this Redis reload, without waiting for it.
fn tell_others(redis: &RedisStore) {
    let redis = redis.clone();
    tokio::spawn(async move {
        if let Err(error) = redis.tell_to_reload().await {
            tracing::warn!(%error, "others were not told to reload");
        }
    });
}

/// What a reload reads, as it is at the time.
fn places(gateway: &Arc<Gateway>, conf: &Path) -> impl Fn() -> Places + Send + Sync + 'static {
    let (gateway, conf) = (gateway.clone(), conf.to_owned());
    move || {
        let named = gateway.snapshot().named_files().to_vec();
        Places::of(gateway.config(), [conf.clone()].into_iter().chain(named))
    }
}
