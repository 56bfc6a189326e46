//! `tollgate serve`: reads the files, opens the store, and serves until it is told to stop.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::Router;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::Receiver,
};
use tollgate::SharedStore;
use tollgate_admin::{Admin, Settings, WeakSecret};
use tollgate_embedded::EmbeddedStore;
use tollgate_gateway::{
    config::Config,
    control::Controlled,
    gateway::{Front, Gateway},
    health::StoreHealth,
    load::{self, DefaultSecret, Loaded, Store},
    observe::prometheus::Exporter,
    problem::Report,
    reference::Environment,
    serve::{
        CertificateFiles, ForwardedDepth, Listener, ServeOptions, ServerTls, Stop, TrustedProxies,
        serve,
    },
    storage,
    tls::TlsRules,
};
use tollgate_redis::{RedisOptions, RedisStore};

use crate::{
    Files,
    observation::{Observation, own_address},
    watch,
};

/// What `serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    pub(crate) files: Files,
    /// The file of the embedded store; beside the configuration where not given.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Reads API definitions and policies anew when their files change, as on SIGHUP.
    #[arg(long)]
    watch: bool,
    /// How long requests that are under way may take when it is told to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    stop_within: u64,
}

/// Serves until a signal comes.
pub(crate) fn run(arguments: &ServeArguments, environment: Environment) -> anyhow::Result<i32> {
    let options = arguments.files.options();
    let (loaded, report) = load::load(&arguments.files.conf, &environment, &options);
    tell(&report);
    let Some(loaded) = loaded else {
        bail!("the configuration can not be used");
    };
    let data = arguments.data.clone();
    let data = data.unwrap_or_else(|| arguments.files.conf.with_file_name("tollgate.redb"));
    let within = Duration::from_secs(arguments.stop_within);
    let watches = arguments.watch || loaded.config.tollgate.watch_files;
    let secret = options.default_secret;
    let serve = |server: Server| server.serve(within, watches);
    match storage::redis(&loaded.config).filter(|_| options.store == Store::FromConfig) {
        Some(redis) => with_redis(&loaded, environment, redis?, secret, serve)?,
        None => with_server(&loaded, environment, &data, secret, serve)?,
    }
    Ok(0)
}

/// Does the work with a server over Redis.
fn with_redis<F>(
    loaded: &Loaded,
    environment: Environment,
    redis: RedisOptions,
    secret: DefaultSecret,
    work: impl FnOnce(Server) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let observation = Observation::begin(&loaded.config);
    let runtime = runtime()?;
    runtime.block_on(async {
        let redis = redis.connect()?;
        if let Err(error) = redis.ping().await {
            tracing::warn!(%error, "Redis does not answer yet");
        }
        let store = SharedStore::from(redis.clone());
        let store = match storage::cache(&loaded.config) {
            Some(options) => store.cached(options),
            None => store,
        };
        let others = (!loaded.config.suppress_redis_signal_reload).then(|| redis.clone());
        let server = Server::new(loaded, environment, store, secret, &observation, others)?;
        work(server).await
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

/// Opens the store, does the work with a server over it, and closes the store whatever came of it.
pub(crate) fn with_server<F, T>(
    loaded: &Loaded,
    environment: Environment,
    data: &Path,
    secret: DefaultSecret,
    work: impl FnOnce(Server) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let observation = Observation::begin(&loaded.config);
    let store = EmbeddedStore::open(data).with_context(|| format!("{}", data.display()))?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let shared = store.clone().into();
        let server = Server::new(loaded, environment, shared, secret, &observation, None)?;
        work(server).await
    });
    drop(runtime);
    store.close()?;
    served
}

/// A gateway with its control API, about to listen.
pub(crate) struct Server {
    gateway: Arc<Gateway>,
    admin: Admin,
    stop: Stop,
    exporter: Option<Exporter>,
    health: StoreHealth,
}

impl Server {
    fn new(
        loaded: &Loaded,
        environment: Environment,
        store: SharedStore,
        secret: DefaultSecret,
        observation: &Observation,
        shared: Option<RedisStore>,
    ) -> anyhow::Result<Self> {
        let observer = observation.observer();
        let (gateway, report) = Gateway::new(loaded, environment, store, observer)?;
        tell(&report);
        if let Some(redis) = &shared {
            reload_with_others(&gateway, redis);
        }
        let stop = Stop::new();
        let health = StoreHealth::new(gateway.store().clone());
        let admin = admin(&gateway, &stop, &health, secret, shared)?;
        Ok(Self {
            gateway,
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
        let tls = Tls::of(config)?;
        // Before anybody is told that it is ready: what changes from then on is seen.
        let changes = if watches {
            Some(watch::begin(config).context("files can not be watched")?)
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
        if let Some(control) = control {
            let listener = listen(config, config.control_api_port, tls.as_ref()).await?;
            let serve = serve(listener, control, options.clone(), self.stop.clone());
            serving.push(tokio::spawn(serve));
        }
        let listener = listen(config, config.port(), tls.as_ref()).await?;
        tracing::info!(address = %listener.local_addr()?, "serving");
        let serve = serve(listener, public, options, self.stop.clone());
        serving.push(tokio::spawn(serve));
        until_told(&self.gateway, tls.as_ref(), changes).await?;
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

/// Reloads on SIGHUP and when files have changed, and comes back on SIGTERM or SIGINT.
async fn until_told(
    gateway: &Arc<Gateway>,
    tls: Option<&Tls>,
    mut changes: Option<Receiver<()>>,
) -> anyhow::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        let changed = async {
            match &mut changes {
                Some(changes) => changes.recv().await,
                None => None,
            }
        };
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => reload_all(gateway, tls).await?,
            Some(()) = changed => reload_all(gateway, tls).await?,
        }
    }
}

/// Reads certificates, definitions and policies anew.
async fn reload_all(gateway: &Arc<Gateway>, tls: Option<&Tls>) -> anyhow::Result<()> {
    if let Some(tls) = tls {
        tls.reload();
    }
    let gateway = gateway.clone();
    Ok(tokio::task::spawn_blocking(move || reload(&gateway)).await?)
}

/// Reloads when another gateway on the same Redis says so.
fn reload_with_others(gateway: &Arc<Gateway>, redis: &RedisStore) {
    let (gateway, runtime) = (gateway.clone(), tokio::runtime::Handle::current());
    redis.on_reload(Arc::new(move || {
        let gateway = gateway.clone();
        runtime.spawn_blocking(move || reload(&gateway));
    }));
}

/// Reads definitions and policies anew, and tells what came of it.
fn reload(gateway: &Gateway) {
    match gateway.reload() {
        Ok(report) => {
            log(&report);
            tracing::info!("reloaded");
        }
        Err(report) => {
            log(&report);
            tracing::error!("not reloaded: the old snapshot stays");
        }
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

fn serve_options(config: &Config) -> anyhow::Result<ServeOptions> {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let or_default = |given: Duration, default| if given.is_zero() { default } else { given };
    let defaults = ServeOptions::default();
    let http = &config.http_server_options;
    let depth = usize::try_from(http.xff_depth).unwrap_or_default();
    let proxies = trusted_proxies(config)?;
    let proxies = match depth {
        0 => proxies,
        depth => proxies.with_depth(ForwardedDepth::FromRight(depth)),
    };
    Ok(ServeOptions {
        proxies,
        body_idle_timeout: or_default(seconds(http.read_timeout), defaults.body_idle_timeout),
        most_body: match u64::try_from(http.max_request_body_size) {
            Ok(most) if most > 0 => most,
            _ => defaults.most_body,
        },
        write_timeout: or_default(seconds(http.write_timeout), defaults.write_timeout),
        ..defaults
    })
}

/// Whom the configuration believes when it names a client: this machine, where it says nothing.
fn trusted_proxies(config: &Config) -> anyhow::Result<TrustedProxies> {
    let Some(proxies) = &config.tollgate.trusted_proxies else {
        return Ok(TrustedProxies::loopback());
    };
    let network = |text: &String| {
        let address = text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        address
            .or_else(|_| text.parse())
            .with_context(|| format!("tollgate.trusted_proxies: {text}"))
    };
    let networks: Vec<_> = proxies.iter().map(network).collect::<anyhow::Result<_>>()?;
    Ok(TrustedProxies::new(networks))
}

async fn listen(config: &Config, port: u16, tls: Option<&Tls>) -> anyhow::Result<Listener> {
    let address = config.listen_ip();
    let address = address.with_context(|| format!("listen_address: {}", config.listen_address))?;
    let address = SocketAddr::new(address, port);
    let listener = Listener::bind(address)
        .await
        .with_context(|| format!("{address}"))?;
    Ok(match tls {
        Some(tls) => listener.with_tls(tls.server.clone()),
        None => listener,
    })
}

/// TLS for clients, and where its certificates come from.
struct Tls {
    server: ServerTls,
    files: Vec<CertificateFiles>,
}

impl Tls {
    /// What the configuration says; none where clients speak without.
    fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let http = &config.http_server_options;
        if !http.use_ssl {
            return Ok(None);
        }
        let by_host = http.certificates.iter().map(|file| CertificateFiles {
            host: Some(file.domain_name.clone()).filter(|host| !host.is_empty()),
            certificates: file.cert_file.clone().into(),
            key: file.key_file.clone().into(),
        });
        let whole = http.ssl_certificates.iter().map(|file| CertificateFiles {
            host: None,
            certificates: file.into(),
            key: file.into(),
        });
        let files: Vec<_> = by_host.chain(whole).collect();
        let rules = TlsRules::new(http.min_version, http.max_version, &http.ssl_ciphers)?;
        let server = ServerTls::from_files(&files, &rules)?;
        Ok(Some(Self { server, files }))
    }

    /// Reads the certificates anew; those that were served stay where they can not be.
    fn reload(&self) {
        match self.server.replace(&self.files) {
            Ok(()) => tracing::info!("certificates read anew"),
            Err(err) => {
                let err = anyhow::Error::from(err);
                tracing::error!("the old certificates stay: {err:#}");
            }
        }
    }
}

/// Logs what is wrong with the files.
fn log(report: &Report) {
    for problem in &report.problems {
        tracing::warn!(%problem, "reload");
    }
}

/// Tells what is wrong with the files.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(crate) fn tell(report: &Report) {
    if !report.problems.is_empty() {
        eprint!("{report}");
    }
}
