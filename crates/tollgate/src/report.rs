//! What the outside is told of decisions: `tracing` events and `metrics` counters, by reason, never
//! with anything of the request in them.

use tollgate_core::{ErrorChain, Rejection, StoreError};

/// Counts and logs a refusal.
pub(crate) fn refused(rejection: &Rejection, gate: &'static str) {
    let reason = rejection.code();
    metrics::counter!("tollgate_rejections_total", "reason" => rejection.to_code()).increment(1);
    let status = rejection.status().as_u16();
    if let Rejection::Misconfigured(why) = rejection {
        tracing::error!(target: "tollgate", reason, status, gate, why, "request refused");
    } else {
        tracing::debug!(target: "tollgate", reason, status, gate, "request refused");
    }
}

/// Counts and logs what a gate in observe mode would have refused.
pub(crate) fn would_reject(rejection: &Rejection) {
    let reason = rejection.code();
    metrics::counter!("tollgate_would_reject_total", "reason" => rejection.to_code()).increment(1);
    tracing::debug!(target: "tollgate", reason, "request would be refused");
}

/// Counts and logs a failure of the store, with all that caused it.
pub(crate) fn store_failed(error: &StoreError, gate: &'static str, then: &'static str) {
    metrics::counter!("tollgate_store_failures_total", "gate" => gate).increment(1);
    let error = ErrorChain(error);
    tracing::error!(target: "tollgate", gate, then, %error, "the store failed");
}
