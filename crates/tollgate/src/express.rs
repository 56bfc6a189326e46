//! The stack's own gates in one look, for the request that is usual.
//!
//! Most requests have a token that is its own name in the store, a record in memory that met the plan
//! before, and a right to what they call; and where nobody asks where limits stand, they have room in
//! them. That is told here without asking gate by gate, by the functions that the gates decide with. It
//! only ever says yes: of any other request nothing is told and nothing was changed, and the gates are
//! asked.
//!
//! Each thread remembers a few callers who asked again and again, and finds them without the store as
//! long as no record has changed. So a hot key needs no lock and counts no reference, which all threads
//! would share.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::request::Parts;
use tollgate_core::{
    Loaded, Moment,
    pass::{EntryAt, HeldPass, Pass},
    token::is_visible,
};

use crate::{
    access_rights::AccessRightsGate, limits::LimitGate, session::SessionGate, visit::Visit,
};

/// The gates of a stack that begins with these two, and where limits come next, those.
#[derive(Clone)]
pub(crate) struct Express {
    id: u64, // No two of a process share one; a clone is the same.
    session: SessionGate,
    access: AccessRightsGate,
    limits: Option<LimitGate>,
}

/// What came of one look.
pub(crate) enum Look {
    /// All gates have passed.
    Through,
    /// Session gate and access gate have passed.
    Known(Known),
    /// The gates are to be asked.
    Unknown,
}

/// Who calls, and the entry of what is called.
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
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            session,
            access,
            limits,
        }
    }

    /// Lets a request through, or tells who calls. Limits are charged where nobody has to be told of them.
    #[inline]
    pub(crate) fn look(&self, head: &Parts, now: Moment, is_watched: bool) -> Look {
        let look = CALLERS.try_with(|callers| {
            // A gate of somebody's that asks a stack itself finds them borrowed.
            let Ok(mut callers) = callers.try_borrow_mut() else {
                return Look::Unknown;
            };
            self.look_with(&mut callers, head, now, is_watched)
        });
        look.unwrap_or(Look::Unknown) // The thread is ending.
    }

    #[inline]
    fn look_with(
        &self,
        callers: &mut Callers,
        head: &Parts,
        now: Moment,
        is_watched: bool,
    ) -> Look {
        let presented = self.session.only_header(head);
        let plan = self.session.plan_id();
        let mut caller = presented.map(|presented| callers.at(presented));
        let again = caller.as_ref().and_then(|caller| {
            let kept = caller.kept.as_ref()?;
            let is_same = kept.loaded.key().as_bytes() == presented?;
            let is_ours = kept.express == self.id && kept.plan == plan;
            let holds = is_same && is_ours && self.session.epoch() == Some(kept.epoch);
            holds.then_some(&kept.pass)
        });
        if let Some(pass) = again {
            return match self
                .session
                .may(pass, now)
                .then(|| self.access.find(head, pass))
            {
                Some(Some(at)) if !is_watched && self.charge(pass, at, now) => Look::Through,
                Some(Some(at)) => Look::Known(Known {
                    pass: pass.clone().into(),
                    at,
                }),
                _ => Look::Unknown,
            };
        }
        let epoch = caller.as_ref().and_then(|_| self.session.epoch()); // Before the record is read.
        let Some(loaded) = self.session.find_at_once(head) else {
            return Look::Unknown;
        };
        let caller = caller.take_if(|caller| caller.asks_again(&loaded));
        let kept = caller.map(|caller| (caller, loaded.clone()));
        let Some(pass) = self.session.pass_of(loaded, plan) else {
            return Look::Unknown;
        };
        if let Some((caller, loaded)) = kept {
            caller.keep(epoch.map(|epoch| Kept {
                express: self.id,
                epoch,
                plan,
                loaded,
                pass: pass.get().clone(),
            }));
        }
        if !self.session.may(pass.get(), now) {
            return Look::Unknown;
        }
        match self.access.find(head, pass.get()) {
            Some(at) if !is_watched && self.charge(pass.get(), at, now) => Look::Through,
            Some(at) => Look::Known(Known { pass, at }),
            None => Look::Unknown,
        }
    }

    /// Charges the limits, if they have room.
    #[inline]
    fn charge(&self, pass: &Pass, at: EntryAt, now: Moment) -> bool {
        let limits = self.limits.as_ref();
        limits.is_some_and(|limits| limits.charge_at_once(pass.entry(at), now))
    }
}

impl Known {
    /// Tells a visit what is known.
    pub(crate) fn tell(self, visit: &mut Visit) {
        visit.set_pass(self.pass);
        visit.set_called(self.at);
    }
}

thread_local! {
    static CALLERS: RefCell<Callers> = const { RefCell::new(Callers::NONE) };
}

/// Callers of this thread, by what they present. Two that have one place take turns.
struct Callers([Caller; Callers::PLACES]);

/// One who asked.
struct Caller {
    /// Where the record was of who asked last: only who asks twice in a row is kept.
    place: usize,
    kept: Option<Kept>,
}

struct Kept {
    express: u64,
    epoch: u64, // Read before the record was.
    plan: u64,
    loaded: Arc<Loaded>,
    pass: Arc<Pass>,
}

impl Callers {
    const PLACES: usize = 64;
    const NONE: Self = Self(
        [const {
            Caller {
                place: 0,
                kept: None,
            }
        }; Self::PLACES],
    );

    /// The place for who presents this. The end of a token is what tells it from others.
    #[inline]
    fn at(&mut self, presented: &[u8]) -> &mut Caller {
        let end = presented
            .last_chunk()
            .map_or(0, |end| u64::from_le_bytes(*end));
        let place = end.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - Self::PLACES.ilog2());
        &mut self.0[place as usize % Self::PLACES]
    }
}

impl Caller {
    /// Whether it is the record of the request before too.
    #[inline]
    fn asks_again(&mut self, loaded: &Arc<Loaded>) -> bool {
        let place = Arc::as_ptr(loaded).addr();
        place == std::mem::replace(&mut self.place, place)
    }

    /// Keeps the record, where what is presented is all of its name: of more than one word the token may be
    /// a part.
    #[cold]
    fn keep(&mut self, kept: Option<Kept>) {
        self.kept = kept.filter(|kept| is_visible(kept.loaded.key().as_bytes()));
    }
}
