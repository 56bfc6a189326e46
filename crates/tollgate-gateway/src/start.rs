//! `tollgate serve`: reads the files, opens the store, and serves until it is told to stop.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use tollgate_embedded::EmbeddedStore;
use tollgate_gateway::{
    load::{self, Store},
    problem::Report,
    reference::Environment,
    sockets::ApiPorts,
    storage,
};
use tollgate_redis::RedisOptions;

use crate::{
    Files, check,
    observation::Observation,
    server::{Backing, Server, Setup},
    store_file,
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
    let data = data.unwrap_or_else(|| store_file(&arguments.files.conf));
    let within = Duration::from_secs(arguments.stop_within);
    let watches = arguments.watch || loaded.config.tollgate.watch_files;
    let setup = Setup {
        loaded: &loaded,
        conf: &arguments.files.conf,
        environment,
        options,
        api_ports: ApiPorts::Opened,
    };
    let serve = |server: Server| server.serve(within, watches);
    match storage::redis(&loaded.config).filter(|_| options.store == Store::FromConfig) {
        Some(redis) => with_redis(setup, redis?, serve)?,
        None => with_server(setup, &data, serve)?,
    }
    Ok(0)
}

/// Does the work with a server over Redis.
fn with_redis<F>(
    setup: Setup<'_>,
    redis: RedisOptions,
    work: impl FnOnce(Server) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let config = &setup.loaded.config;
    let observation = Observation::begin(config);
    let runtime = runtime()?;
    runtime.block_on(async {
        let redis = redis.connect()?;
        match redis.ping().await {
            Ok(()) => {
                // The start does not wait for what is told besides.
                let redis = redis.clone();
                tokio::spawn(async move { check::tell_of(&redis.examine().await) });
            }
            Err(error) => tracing::warn!(%error, "Redis does not answer yet"),
        }
        let store = observation.measured(redis.clone(), "redis");
        let store = match storage::cache(config) {
            Some(options) => store.cached(options),
            None => store,
        };
        let others = (!config.suppress_redis_signal_reload).then(|| redis.clone());
        let backing = Backing {
            store,
            redis: Some(redis.clone()),
            others,
        };
        let server = Server::new(setup, backing, &observation)?;
        let served = work(server).await;
        redis.close().await; // What is leased and was not used is the others'.
        served
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

/// Opens the store, does the work with a server over it, and closes the store whatever came of it.
pub(crate) fn with_server<F, T>(
    setup: Setup<'_>,
    data: &Path,
    work: impl FnOnce(Server) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let config = &setup.loaded.config;
    let observation = Observation::begin(config);
    let file = EmbeddedStore::open(data).with_context(|| format!("{}", data.display()))?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let store = observation.measured(file.clone(), "embedded");
        let alone = Backing {
            store,
            redis: None,
            others: None,
        };
        work(Server::new(setup, alone, &observation)?).await
    });
    drop(runtime);
    file.close()?;
    served
}

/// Tells what is wrong with the files.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
pub(crate) fn tell(report: &Report) {
    if !report.problems.is_empty() {
        eprint!("{report}");
    }
}
