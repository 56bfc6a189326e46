//! Who calls what, for the log: a gate that refuses nobody.

use std::sync::Arc;

use http::request::Parts;
use tollgate::{
    Session,
    gate::{Acts, Departure, Gate, Step},
    visit::Visit,
};

use crate::edge::versions::{Chosen, VersionRules};

/// Whose request it is, and which version it calls: in the extensions of its answer.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    pub(super) session: Option<Arc<Session>>,
    pub(super) version: Option<Arc<VersionRules>>,
}

/// Leaves the [`Caller`] with the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerGate;

impl Gate for CallerGate {
    fn name(&self) -> &'static str {
        "access log"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        if let Some(chosen) = head.extensions.get::<Chosen>() {
            visit.notes_mut().insert(chosen.rules.clone());
        }
        Step::Pass
    }

    fn acts(&self) -> Acts {
        Acts {
            forward: false,
            depart: true,
        }
    }

    fn depart(&self, visit: &Visit, response: &mut Departure<'_>) {
        response.extensions.insert(Caller {
            session: visit.session().cloned(),
            version: visit.notes().get().cloned(),
        });
    }
}
