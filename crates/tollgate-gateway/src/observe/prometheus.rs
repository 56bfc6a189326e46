//! Metrics in Prometheus's text form.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::meters;

/// How often samples of histograms are put into their buckets. Until then they are kept one by one.
const UPKEEP: Duration = Duration::from_secs(1);

/// The process's recorder of metrics, as Prometheus reads it. A clone is the same one.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    process: metrics_process::Collector,
    look: Arc<dyn Fn() + Send + Sync>,
}

/// The process has a recorder of metrics already.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this process records metrics elsewhere already")]
pub struct AlreadyRecording;

impl Exporter {
    /// Makes itself the recorder of this process.
    ///
    /// # Errors
    ///
    /// Where there is one.
    pub fn install() -> Result<Self, AlreadyRecording> {
        let builder = PrometheusBuilder::new().set_buckets(meters::SECONDS);
        let recorder = builder.map_err(|_| AlreadyRecording)?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| AlreadyRecording)?;
        meters::describe();
        let process = metrics_process::Collector::default();
        process.describe();
        Ok(Self {
            handle,
            process,
            look: Arc::new(|| {}),
        })
    }

    /// Does this before each time metrics are told, for what is read only then.
    #[must_use]
    pub fn with_look(mut self, look: impl Fn() + Send + Sync + 'static) -> Self {
        self.look = Arc::new(look);
        self
    }

    /// All metrics, as they are now.
    pub fn render(&self) -> String {
        (self.look)();
        self.process.collect();
        self.handle.render()
    }

    /// Tells them below this path.
    pub fn router(&self, path: &str) -> Router {
        let exporter = self.clone();
        let tell = async move || {
            let text = tokio::task::spawn_blocking(move || exporter.render()).await;
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text.unwrap_or_default())
        };
        Router::new().route(path, get(tell))
    }

    /// Keeps the memory of histograms bounded. Goes on for as long as it is polled.
    pub async fn keep_up(self) {
        let mut next = tokio::time::interval(UPKEEP);
        loop {
            next.tick().await;
            self.handle.run_upkeep();
        }
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exporter")
    }
}
