//! Endpoints that a definition wants to be told of by themselves, or not at all: `track_endpoints` and
//! `do_not_track_endpoints`.

use std::{sync::Arc, time::Duration};

use http::{Extensions, StatusCode};

use super::{meters::EndpointMeters, traces};

/// How a request is tracked, where its definition says so: in its extensions, and in those of its answer.
#[derive(Clone, Debug)]
pub enum Tracked {
    /// As one to this endpoint.
    As(Arc<Endpoint>),
    /// Not at all: no line of the access log, no span.
    Never,
}

impl Tracked {
    /// Leaves it with a request.
    pub(crate) fn leave(self, extensions: &mut Extensions) {
        if matches!(self, Self::Never) {
            traces::untrack(extensions);
        }
        extensions.insert(self);
    }
}

/// An endpoint that is told of by itself, under the pattern of the definition.
#[derive(Debug)]
pub struct Endpoint {
    name: Arc<str>,
    meters: Option<EndpointMeters>,
}

impl Endpoint {
    pub(crate) fn new(name: &str, meters: Option<EndpointMeters>) -> Self {
        Self {
            name: name.into(),
            meters,
        }
    }

    /// The pattern.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn answered(&self, status: StatusCode) {
        if let Some(meters) = &self.meters {
            meters.answered(status);
        }
    }

    pub(super) fn ended(&self, after: Duration) {
        if let Some(meters) = &self.meters {
            meters.ended(after);
        }
    }
}
