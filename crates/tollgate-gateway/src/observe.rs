//! What the outside is told of requests: the access log and metrics.
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
mod request_id;
mod watch;

use std::sync::Arc;

use tollgate::{KeyScheme, token_source::TokenSource};

use self::{
    access_log::{AccessLog, Subject},
    meters::{Meters, UpstreamMeters},
    request_id::RequestIds,
};
pub(crate) use self::{
    caller::CallerGate,
    watch::{ApiWatch, Watch, span},
};
use crate::{config::Config, definition::Definition};

/// Who looks at requests. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    log: Option<AccessLog>,
    has_meters: bool,
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

    /// What is told of requests to one API.
    pub(crate) fn api(
        &self,
        definition: &Definition,
        sources: Vec<Arc<dyn TokenSource>>,
        keys: &KeyScheme,
    ) -> ApiWatch {
        let subject = || Subject::of(definition, sources, keys.clone());
        ApiWatch {
            log: self.log.clone().map(|log| (log, Arc::new(subject()))),
            meters: self
                .has_meters
                .then(|| Arc::new(Meters::of(definition.api_id.as_str()))),
            request_ids: self.request_ids.clone(),
        }
    }

    /// What is told of requests that meet no API.
    pub(crate) fn no_api(&self) -> ApiWatch {
        ApiWatch {
            log: self.log.clone().map(|log| (log, Arc::default())),
            meters: self.has_meters.then(|| Arc::new(Meters::of(""))),
            request_ids: self.request_ids.clone(),
        }
    }

    /// What tells the log who calls, if there is one.
    pub(crate) fn caller_gate(&self) -> Option<CallerGate> {
        self.log.as_ref().map(|_| CallerGate)
    }

    /// What is told of the upstream of one API.
    pub(crate) fn upstream(&self, definition: &Definition) -> Option<Arc<UpstreamMeters>> {
        let is_noted = self.log.is_some();
        (self.has_meters || is_noted).then(|| {
            let api = self.has_meters.then_some(definition.api_id.as_str());
            Arc::new(UpstreamMeters::of(api, is_noted))
        })
    }
}
