//! The stack's own gates in one look, for the request that is usual.
//!
//! Most requests have a token that is its own name in the store, a record in memory that met the plan
//! before, and a right to what they call; and where nobody asks where limits stand, they have room in
//! them. That is told here without a [`Visit`] and without asking gate by gate, by the functions that
//! the gates decide with. It only ever says yes: of any other request nothing is told and nothing was
//! changed, and the gates are asked.

use http::request::Parts;
use tollgate_core::{
    Moment,
    pass::{EntryAt, HeldPass},
};

use crate::{
    access_rights::AccessRightsGate, limits::LimitGate, session::SessionGate, visit::Visit,
};

/// The gates of a stack that begins with these two, and where limits come next, those.
#[derive(Clone)]
pub(crate) struct Express {
    session: SessionGate,
    access: AccessRightsGate,
    limits: Option<LimitGate>,
}

/// Who calls, and the entry of what is called: the session gate and the access gate have passed.
pub(crate) struct Known {
    pass: HeldPass,
    at: EntryAt,
}

impl Express {
    /// How many gates a request has passed that is [`Known`].
    pub(crate) const GATES: usize = 2;

    pub(crate) fn new(
        session: SessionGate,
        access: AccessRightsGate,
        limits: Option<LimitGate>,
    ) -> Self {
        Self {
            session,
            access,
            limits,
        }
    }

    /// What session gate and access gate would find, if they let the request pass.
    #[inline]
    pub(crate) fn look(&self, head: &Parts, now: Moment) -> Option<Known> {
        let pass = self.session.find_at_once(head, now)?;
        let at = self.access.find(head, pass.get())?;
        Some(Known { pass, at })
    }

    /// Charges the limits, if they have room and nobody needs to be told where they stand.
    #[inline]
    pub(crate) fn charge(&self, known: &Known, now: Moment) -> bool {
        let Some(limits) = &self.limits else {
            return false;
        };
        limits.charge_at_once(known.pass.get().entry(known.at), now)
    }
}

impl Known {
    /// Tells a visit what is known.
    pub(crate) fn tell(self, visit: &mut Visit) {
        visit.set_pass(self.pass);
        visit.set_called(self.at);
    }
}
