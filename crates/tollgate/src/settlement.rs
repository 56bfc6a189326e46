//! Charges that may be given back.
//!
//! A request is charged before it is served. A [`Receipt`] holds the charges until the service is
//! called: a request cancelled before that gives them back. A [`Settlement`] holds them until the
//! response is known, where the layer was told to charge by it; a request cancelled meanwhile stays
//! charged.

use std::{fmt, sync::Arc};

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use tollgate_core::{
    Moment,
    store::{Batch, SharedStore},
};

use crate::gate::Departure;

/// When a request is charged to its quotas. Rates count what is let in, whatever comes of it.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ChargeWhen {
    /// When it is let in, and for good.
    #[default]
    Request,
    /// When it is let in; given back if the response is an error: status 400 and above, or a gRPC
    /// status other than 0.
    Success,
    /// When it is let in; then the response says how many of the units it keeps.
    Response(UnitsKept),
}

/// Says how many of the units taken a response keeps; more than were taken counts as all.
pub type UnitsKept = Arc<dyn Fn(&Departure<'_>) -> u64 + Send + Sync>;

impl fmt::Debug for ChargeWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "Request",
            Self::Success => "Success",
            Self::Response(_) => "Response(…)",
        })
    }
}

/// Charges of a request that the service does not know of yet. Dropped, it gives them back.
pub(crate) struct Receipt {
    charges: Option<(SharedStore, Batch, Moment)>,
}

impl Receipt {
    pub(crate) fn new(store: SharedStore, charges: Batch, at: Moment) -> Self {
        Self {
            charges: Some((store, charges, at)),
        }
    }

    /// The request goes on: the charges stay.
    pub(crate) fn keep(mut self) {
        self.charges = None;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some((store, charges, at)) = self.charges.take() {
            store.give_back(&charges, at);
        }
    }
}

/// Charges that wait for the response.
pub(crate) struct Settlement {
    store: SharedStore,
    charges: Batch,
    at: Moment,
    when: ChargeWhen,
}

impl Settlement {
    pub(crate) fn new(store: SharedStore, charges: Batch, at: Moment, when: ChargeWhen) -> Self {
        Self {
            store,
            charges,
            at,
            when,
        }
    }

    /// Settles by the head of the response. Comes back where only the end of the body can tell.
    pub(crate) fn at_the_head(self: Box<Self>, response: &Departure<'_>) -> Option<Box<Self>> {
        match &self.when {
            ChargeWhen::Request => None,
            ChargeWhen::Response(kept) => {
                let kept = kept(response);
                self.keep(kept);
                None
            }
            ChargeWhen::Success if response.status >= StatusCode::BAD_REQUEST => {
                self.keep(0);
                None
            }
            ChargeWhen::Success => match grpc_succeeded(response.headers) {
                Some(true) => None,
                Some(false) => {
                    self.keep(0);
                    None
                }
                None => is_grpc(response.headers).then_some(self),
            },
        }
    }

    /// Settles by the trailers of a gRPC response; without any it failed.
    pub(crate) fn at_the_end(self, trailers: Option<&HeaderMap>) {
        if trailers.and_then(grpc_succeeded) != Some(true) {
            self.keep(0);
        }
    }

    fn keep(&self, units: u64) {
        let mut back = self.charges.clone();
        back.retain(|charge| {
            let rest = charge.cost.get().saturating_sub(units);
            std::num::NonZeroU64::new(rest)
                .map(|rest| charge.cost = rest)
                .is_some()
        });
        self.store.give_back(&back, self.at);
    }
}

/// Whether headers are those of a gRPC message.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let rest = media_type.and_then(|media_type| media_type.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn grpc_succeeded(headers: &HeaderMap) -> Option<bool> {
    headers.get("grpc-status").map(|status| status == "0")
}
