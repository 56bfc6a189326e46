//! What the outside is told of requests: the access log, metrics and traces.
//!
//! An [`Observer`] is made once, when the program starts. Each API is given an `ApiWatch`, which holds
//! its counters and what the log says of it, when it is composed. A `Watch` follows one request from
//! its head until the last byte of its answer was handed on, or the client has gone; it is what counts
//! and writes. Where nobody looks there is no watch, and a request costs nothing more.
//!
//! Neither tells of tokens or of what stands in a query: a token is told by its name in the store, or
//! by its last four characters where tokens are stored plainly, as Tyk does.

pub mod access_log;
mod caller;
pub mod meters;
pub mod prometheus;
pub(crate) mod request_id;
pub mod store;
#[cfg_attr(not(feature = "otlp"), path = "observe/untraced.rs")]
pub mod traces;
pub mod tracked;
mod watch;

use std::sync::Arc;

use tollgate::{KeyScheme, token_source::TokenSource};

use self::{
    access_log::{AccessLog, Subject},
    meters::{Meters, UpstreamMeters},
    request_id::RequestIds,
    traces::Tracer,
};
pub(crate) use self::{
    caller::{Caller, CallerGate},
    watch::{ApiWatch, Leads, Watch, span},
};
use crate::{config::Config, definition::Definition};

/// Who looks at requests. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    log: Option<AccessLog>,
    has_meters: bool,
    tracer: Option<Tracer>,
    request_ids: RequestIds,
}

impl Observer {
    /// Nobody, but for what else is said. Requests are named as the configuration has it.
    pub fn new(config: &Config) -> Self {
        Self {
            request_ids: RequestIds::new(&config.tollgate.request_id_header),
            ..Self::default()
        }
    }

    /// Writes a line for each request.
    #[must_use]
    pub fn with_log(mut self, log: AccessLog) -> Self {
        self.log = Some(log);
        self
    }

    /// Counts requests in the process's recorder of metrics, which has to be there by now.
    #[must_use]
    pub fn with_meters(mut self) -> Self {
        self.has_meters = true;
        self
    }

    /// Traces requests.
    #[must_use]
    pub fn with_tracer(mut self, tracer: Option<Tracer>) -> Self {
        self.tracer = tracer;
        self
    }

    /// What is told of requests to one API; no single one is told of where the definition does not want
    /// them to be tracked.
    pub(crate) fn api(
        &self,
        definition: &Definition,
        sources: Vec<Arc<dyn TokenSource>>,
        keys: &KeyScheme,
        leads: Leads,
    ) -> ApiWatch {
        let subject = || Subject::of(definition, sources, keys.clone());
        let is_tracked = !definition.do_not_track;
        let log = self.log.clone().filter(|_| is_tracked);
        let tracer = self.tracer.as_ref().filter(|_| is_tracked);
        ApiWatch {
            log: log.map(|log| (log, Arc::new(subject()))),
            meters: self
                .has_meters
                .then(|| Arc::new(Meters::of(definition.api_id.as_str()))),
            tracer: tracer.map(|tracer| tracer.api(definition)),
            request_ids: self.request_ids.clone(),
            is_untracked: !is_tracked,
            leads,
        }
    }

    /// What is told of requests that meet no API.
    pub(crate) fn no_api(&self) -> ApiWatch {
        ApiWatch {
            log: self.log.clone().map(|log| (log, Arc::default())),
            meters: self.has_meters.then(|| Arc::new(Meters::of(""))),
            tracer: self.tracer.as_ref().map(Tracer::no_api),
            request_ids: self.request_ids.clone(),
            is_untracked: false,
            leads: Leads::default(),
        }
    }

    /// What tells the log and traces who calls, if there are any.
    pub(crate) fn caller_gate(&self) -> Option<CallerGate> {
        (self.log.is_some() || self.tracer.is_some()).then_some(CallerGate)
    }

    /// Whether requests are counted.
    pub(crate) fn has_meters(&self) -> bool {
        self.has_meters
    }

    /// What is told of the upstream of one API.
    pub(crate) fn upstream(&self, definition: &Definition) -> Option<Arc<UpstreamMeters>> {
        let is_noted = self.log.is_some();
        let tracer = self.tracer.clone().filter(|_| !definition.do_not_track);
        (self.has_meters || is_noted || tracer.is_some()).then(|| {
            let api = self.has_meters.then_some(definition.api_id.as_str());
            Arc::new(UpstreamMeters::of(api, is_noted, tracer))
        })
    }
}
