//! What the program tells of itself: its log, the access log, metrics, traces.

use std::{
    io::{self, BufWriter, Write},
    net::SocketAddr,
};

use anyhow::Context;
use tollgate::SharedStore;
use tollgate_core::store::{LimitStore, SessionStore};
use tollgate_gateway::{
    config::Config,
    observe::{
        Observer,
        access_log::{AccessLog, Form},
        meters,
        prometheus::Exporter,
        store::Measured,
        traces::Tracer,
    },
    serve::Stop,
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// How many lines may wait to be written; further ones are lost, and counted.
const WAITING_LINES: usize = 16 * 1024;

/// The outlets of the program. What waits in them is written when this is dropped.
pub(crate) struct Observation {
    observer: Observer,
    exporter: Option<Exporter>,
    tracer: Option<Tracer>,
    lost: Vec<ErrorCounter>,
    _writers: Vec<WorkerGuard>,
}

impl Observation {
    /// Opens what the configuration asks for. Nobody who writes into a log waits for it.
    pub(crate) fn begin(config: &Config) -> Self {
        let (stderr, guard) = writer(io::stderr());
        let (mut lost, mut writers) = (vec![stderr.error_counter()], vec![guard]);
        log_by(config, stderr.clone());
        let mut observer = Observer::new(config);
        if config.access_logs.enabled {
            let out = if config.tollgate.access_log_output == "stdout" {
                let (stdout, guard) = writer(io::stdout());
                lost.push(stdout.error_counter());
                writers.push(guard);
                stdout
            } else {
                stderr
            };
            let form = if is_json(config) {
                Form::Json
            } else {
                Form::Text
            };
            let write = move |line: &[u8]| {
                let _ = out.clone().write_all(line); // What is lost is counted by the writer.
            };
            let log = AccessLog::new(form, &config.access_logs.template, write);
            observer = observer.with_log(log);
        }
        let mut exporter = None;
        if !config.tollgate.metrics.disabled {
            match Exporter::install() {
                Ok(installed) => {
                    exporter = Some(installed);
                    observer = observer.with_meters();
                }
                Err(err) => tracing::warn!(%err, "no metrics"),
            }
        }
        // What it has to say goes into the log.
        let tracer = Tracer::begin(config);
        Self {
            observer: observer.with_tracer(tracer.clone()),
            exporter,
            tracer,
            lost,
            _writers: writers,
        }
    }

    /// Who looks at requests.
    pub(crate) fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// A handle on a store, which tells metrics how long its calls take.
    pub(crate) fn measured<S>(&self, store: S, name: &'static str) -> SharedStore
    where
        S: SessionStore + LimitStore + Clone,
    {
        if self.exporter.is_none() {
            return SharedStore::new(store.clone(), store);
        }
        let measured = Measured::new(store, name);
        SharedStore::new(measured.clone(), measured)
    }

    /// Who tells metrics, with what only the server knows.
    pub(crate) fn exporter(&self, stop: &Stop) -> Option<Exporter> {
        let (stop, lost) = (stop.clone(), self.lost.clone());
        let look = move || {
            let lost: usize = lost.iter().map(ErrorCounter::dropped_lines).sum();
            meters::looked(&stop.in_flight(), lost);
        };
        self.exporter
            .clone()
            .map(|exporter| exporter.with_look(look))
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if let Some(tracer) = &self.tracer {
            tracer.end();
        }
    }
}

/// Where metrics have an address of their own, and the path there.
pub(crate) fn own_address(config: &Config) -> anyhow::Result<Option<(SocketAddr, &str)>> {
    let metrics = &config.tollgate.metrics;
    if metrics.address.is_empty() {
        return Ok(None);
    }
    let address = metrics.address.parse();
    let address = address.with_context(|| format!("tollgate.metrics.address: {}", metrics.address));
    let path = match &*metrics.path {
        "" => "/metrics",
        path => path,
    };
    Ok(Some((address?, path)))
}

fn writer(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(BufWriter::new(out)) // Flushed when no line is left.
}

/// Writes the log as the configuration says.
fn log_by(config: &Config, out: NonBlocking) {
    let lines = fmt::layer().with_ansi(false).with_writer(out);
    let lines = if is_json(config) {
        lines.json().boxed()
    } else {
        lines.boxed()
    };
    let level = match config.log_level.as_str() {
        "" => LevelFilter::INFO, // Which the parser would take for errors alone.
        level => level.parse().unwrap_or(LevelFilter::INFO),
    };
    // A second call changes nothing: a test of the program may have set one.
    let log = tracing_subscriber::registry().with(lines.with_filter(filter(level)));
    let _ = log.try_init();
}

/// Ours by the level that was asked for. Libraries write whole requests where they tell much, so they
/// tell less.
fn filter(level: LevelFilter) -> Targets {
    let of_libraries = level.min(LevelFilter::INFO);
    Targets::new()
        .with_default(of_libraries)
        .with_target("tollgate", level) // And all that begins so.
}

fn is_json(config: &Config) -> bool {
    config.log_format == "json"
}
