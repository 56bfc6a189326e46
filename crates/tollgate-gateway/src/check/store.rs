//! What `check --store` finds out about the store. Nothing is written.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use serde::Serialize;
use tollgate_gateway::{config::Config, problem::Problem, storage};
use tollgate_redis::{Examined, RedisOptions, Server, Weight};

/// What was looked at.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Looked {
    /// The servers that answered.
    Redis { servers: Vec<Server> },
    /// The file of the embedded store.
    Embedded {
        file: PathBuf,
        /// In bytes; null where there is none yet.
        size: Option<u64>,
        is_in_use: bool,
    },
}

/// Looks at the store of this configuration.
pub(super) fn look(config: &Config, conf: &Path) -> io::Result<(Looked, Vec<Problem>)> {
    let Some(redis) = storage::redis(config) else {
        return Ok(look_at_file(crate::store_file(conf), conf));
    };
    let examined = match redis.and_then(RedisOptions::connect) {
        Ok(store) => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(store.examine())
        }
        Err(_) => Examined::default(), // Told with the configuration.
    };
    let problems = examined.findings.iter().map(|finding| {
        let message = match finding.server.as_str() {
            "" => finding.message.clone(),
            server => format!("{server}: {}", finding.message),
        };
        let problem = match finding.weight {
            Weight::Error => Problem::error(conf, message),
            Weight::Warning => Problem::warning(conf, message),
        };
        problem.at("storage".into())
    });
    let problems = problems.collect();
    let servers = examined.servers;
    Ok((Looked::Redis { servers }, problems))
}

fn look_at_file(file: PathBuf, conf: &Path) -> (Looked, Vec<Problem>) {
    let opened = OpenOptions::new().read(true).write(true).open(&file);
    let mut problems = Vec::new();
    let opened = match opened {
        Ok(opened) => Some(opened),
        Err(err) if err.kind() == ErrorKind::NotFound => None, // It will be made.
        Err(err) => {
            let message = format!("the store's file {}: {err}", file.display());
            problems.push(Problem::error(conf, message));
            None
        }
    };
    let size = opened.as_ref().and_then(|file| file.metadata().ok());
    let looked = Looked::Embedded {
        size: size.map(|meta| meta.len()),
        is_in_use: opened.as_ref().is_some_and(is_locked),
        file,
    };
    (looked, problems)
}

/// Whether a gateway has it. Asked for reading alone, and let go at once.
fn is_locked(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            let _ = file.unlock(); // It is let go with the file at the latest.
            false
        }
        Err(err) => matches!(err, TryLockError::WouldBlock),
    }
}

impl Looked {
    /// What it is, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Redis { servers } => servers.iter().map(line).collect(),
            Self::Embedded {
                file,
                size,
                is_in_use,
            } => {
                let state = match (size, is_in_use) {
                    (None, _) => "not there yet".to_owned(),
                    (Some(size), false) => format!("{size} bytes"),
                    (Some(size), true) => format!("{size} bytes, in use by a gateway"),
                };
                vec![format!("store: {}: {state}", file.display())]
            }
        }
    }
}

fn line(server: &Server) -> String {
    let Server {
        address,
        software,
        version,
        mode,
        role,
        replicas,
        names,
        listeners,
        clock_ahead_millis,
        round_trip_micros,
        ..
    } = server;
    let trip = *round_trip_micros as f64 / 1000.0;
    format!(
        "store: {software} {version} at {address}: {mode}, {role} with {replicas} replicas; {names} names; {listeners} \
         listen for notices; a round trip takes {trip:.1} ms; its clock is {clock_ahead_millis} ms ahead"
    )
}

/// Tells the log what is wrong with the servers, at the start.
pub(crate) fn tell_of(examined: &Examined) {
    for finding in &examined.findings {
        let (server, message) = (&finding.server, &finding.message);
        match finding.weight {
            Weight::Error => tracing::error!(%server, "the store: {message}"),
            Weight::Warning => tracing::warn!(%server, "the store: {message}"),
        }
    }
}
