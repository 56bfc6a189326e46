//! Reads files anew: on a signal, when they change, and when other gateways say so.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc::Receiver,
};
use tollgate_gateway::{gateway::Gateway, problem::Report};
use tollgate_redis::RedisStore;

use super::listening::Tls;

/// Reloads on SIGHUP and when files have changed, and comes back on SIGTERM or SIGINT.
pub(super) async fn until_told(
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
