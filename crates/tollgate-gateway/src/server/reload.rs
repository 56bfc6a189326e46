//! Reads files anew: on a signal, when they change, and when other gateways say so.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::signal::unix::{SignalKind, signal};
use tollgate_gateway::{
    config::Config, gateway::Gateway, load::LoadOptions, problem::Report, reference::Environment,
};
use tollgate_redis::RedisStore;

use super::Setup;
use crate::watch::Changes;

/// What is read anew.
pub(super) struct Reloads {
    pub(super) gateway: Arc<Gateway>,
    pub(super) configuration: Configuration,
}

impl Reloads {
    /// Reloads on SIGHUP and when files have changed, and comes back on SIGTERM or SIGINT.
    pub(super) async fn until_told(&self, mut changes: Option<Changes>) -> anyhow::Result<()> {
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            let changed = async {
                match &mut changes {
                    Some(changes) => changes.next().await,
                    None => None,
                }
            };
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hang_up.recv() => self.reload().await?,
                Some(()) = changed => self.reload().await?,
            }
            if let Some(changes) = &changes {
                changes.look_again(); // Other files may be named now.
            }
        }
    }

    /// Reads certificates, definitions and policies anew.
    async fn reload(&self) -> anyhow::Result<()> {
        match self.gateway.sockets().read_certificates_anew() {
            Ok(true) => tracing::info!("certificates read anew"),
            Ok(false) => {}
            Err(err) => {
                let err = anyhow::Error::from(err);
                tracing::error!("the old certificates stay: {err:#}");
            }
        }
        let (gateway, configuration) = (self.gateway.clone(), self.configuration.clone());
        let work = move || {
            reload(&gateway);
            configuration.compare();
        };
        Ok(tokio::task::spawn_blocking(work).await?)
    }
}

/// The configuration that is in force, and where it came from.
#[derive(Clone)]
pub(super) struct Configuration {
    file: PathBuf,
    environment: Environment,
    options: LoadOptions,
    in_force: Arc<Config>,
}

impl Configuration {
    pub(super) fn of(setup: &Setup<'_>) -> Self {
        Self {
            file: setup.conf.to_owned(),
            environment: setup.environment.clone(),
            options: setup.options,
            in_force: setup.loaded.config.clone(),
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Tells what of the file is not in force, as only a start can put it in force.
    fn compare(&self) {
        let (config, report) = Config::load(&self.file, &self.environment, &self.options);
        let Some(config) = config else {
            log(&report);
            tracing::error!("the configuration can not be used as it is now: a start would fail");
            return;
        };
        let differ = differing(&self.in_force, &config);
        if !differ.is_empty() {
            let settings = differ.join(", ");
            tracing::warn!(
                settings,
                "changed in the configuration; a restart puts them in force"
            );
        }
    }
}

/// The settings in which two configurations differ.
fn differing(one: &Config, other: &Config) -> Vec<String> {
    let members = |config| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(members)) => members,
        _ => serde_json::Map::new(), // A configuration is an object.
    };
    let (one, other) = (members(one), members(other));
    let changed = one.into_iter();
    let changed = changed.filter(|(name, value)| other.get(name) != Some(value));
    changed.map(|(name, _)| name).collect()
}

/// Reloads when another gateway on the same Redis says so.
pub(super) fn with_others(gateway: &Arc<Gateway>, redis: &RedisStore) {
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

/// Logs what is wrong with the files.
fn log(report: &Report) {
    for problem in &report.problems {
        tracing::warn!(%problem, "reload");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_differ_are_named_and_their_values_are_not() {
        let config = |text: &str| serde_json::from_str::<Config>(text).expect("a configuration");
        let (one, other) = (
            config(r#"{"secret": "a", "listen_port": 1, "hash_keys": true}"#),
            config(r#"{"secret": "b", "listen_port": 2, "hash_keys": true}"#),
        );
        assert_eq!(differing(&one, &other), ["listen_port", "secret"]);
        assert!(differing(&one, &one).is_empty());
    }
}
