//! The session of a request that a rewrite of its API sent back.

use http::request::Parts;
use tollgate::{
    Rejection,
    gate::{Acts, Gate, Step},
    visit::Visit,
};

/// Lets a request go on with the session that the gates of this API found before, and no request without
/// one.
#[derive(Clone, Copy, Debug)]
pub struct KeptSession;

impl Gate for KeptSession {
    fn name(&self) -> &'static str {
        "kept session"
    }

    fn acts(&self) -> Acts {
        Acts::NONE
    }

    fn admit(&self, _head: &mut Parts, visit: &mut Visit) -> Step {
        match visit.pass() {
            Some(_) => Step::Pass,
            None => Step::Refuse(Rejection::SessionMissing),
        }
    }
}
