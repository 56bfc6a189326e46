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
//! would share. With a caller goes the call that was opened to it last, which is opened again as it is.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::HeaderMap;
use tollgate_core::{
    Loaded, Moment,
    pass::{Entry, EntryAt, HeldPass, Pass},
    token::is_visible,
};

use crate::{
    access_rights::{AccessRightsGate, Opened},
    limits::LimitGate,
    meta_inject::MetaInjectGate,
    seen::Seen,
    session::SessionGate,
    visit::Visit,
};

/// The gates of a stack that begins with these two, and where limits come next, those.
#[derive(Clone)]
pub(crate) struct Express {
    id: u64, // No two of a process share one; a clone is the same.
    session: SessionGate,
    access: AccessRightsGate,
    limits: Option<LimitGate>,
    needs_head: bool, // What decides takes all of the head.
    rest: Option<Rest>,
}

/// The gates behind those two, where they are the stack's own to the last and charge for good.
#[derive(Clone)]
pub(crate) struct Rest {
    pub(crate) inject: MetaInjectGate,
    pub(crate) limits: LimitGate,
}

/// What came of one look.
pub(crate) enum Look {
    /// All gates have passed.
    Through,
    /// The same, and this is to go on with the request.
    Met(Arc<Visit>),
    /// Session gate and access gate have passed.
    Known(Known),
    /// It takes the head itself to tell.
    Closer,
    /// The gates are to be asked.
    Unknown,
}

/// What is asked of a look.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) now: Moment,
    /// Whether anybody may read what gates find.
    pub(crate) is_watched: bool,
    /// Whether the visit goes on with the request or to its response, and no gate sees the request again.
    pub(crate) goes_on: bool,
    pub(crate) can_wait: bool,
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
        rest: Option<Rest>,
    ) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            needs_head: access.needs_head(),
            session,
            access,
            limits,
            rest,
        }
    }

    /// Asks the gates behind, who calls being known to the visit. Fails with how many gates have passed
    /// where the next is to be asked as usual.
    #[inline]
    pub(crate) fn pass_rest(
        &self,
        headers: &mut HeaderMap,
        visit: &mut Visit,
    ) -> Result<(), usize> {
        let Some(Rest { inject, limits }) = &self.rest else {
            return Err(Self::GATES);
        };
        let pass = visit.pass();
        if !pass.is_some_and(|pass| inject.set_ready(headers, pass)) {
            return Err(Self::GATES); // It sets them all, also those that are set.
        }
        let passed = Self::GATES + usize::from(!inject.is_empty());
        limits.admits_at_once(visit).then_some(()).ok_or(passed)
    }

    /// Sets the headers of a request that was [met](Look::Met).
    #[inline]
    pub(crate) fn set_ready(&self, headers: &mut HeaderMap, visit: &Visit) {
        if let (Some(rest), Some(pass)) = (&self.rest, visit.pass()) {
            rest.inject.set_ready(headers, pass); // All are ready, as was seen before.
        }
    }

    /// Lets a request through, or tells who calls. Limits are charged where nobody has to be told of them,
    /// or the visit of the caller's last request can be used again.
    #[inline]
    pub(crate) fn look(&self, seen: Seen<'_>, asked: Asked) -> Look {
        if self.needs_head && seen.head.is_none() {
            return Look::Closer;
        }
        let look = CALLERS.try_with(|callers| {
            // A gate of somebody's that asks a stack itself finds them borrowed.
            let Ok(mut callers) = callers.try_borrow_mut() else {
                return Look::Unknown;
            };
            self.look_with(&mut callers, seen, asked)
        });
        look.unwrap_or(Look::Unknown) // The thread is ending.
    }

    #[inline]
    fn look_with(&self, callers: &mut Callers, seen: Seen<'_>, asked: Asked) -> Look {
        let plan = self.session.plan_id();
        let presented = self.session.only_header(seen.headers);
        let epoch = presented.and_then(|_| self.session.epoch()); // Before the record is read.
        let (Some(presented), Some(epoch)) = (presented, epoch) else {
            return self.look_up(presented, None, seen, asked);
        };
        let caller = callers.at(presented);
        let again = caller.kept.as_mut().filter(|kept| {
            kept.loaded.key().as_bytes() == presented
                && kept.express == self.id
                && kept.plan == plan
                && kept.epoch == epoch
        });
        let Some(kept) = again else {
            let caller = callers.at(presented); // The borrow of before would last as long as `kept`.
            return self.look_up(Some(presented), Some((caller, epoch)), seen, asked);
        };
        let entry = kept.pass.entry(kept.at);
        let opened = &mut kept.opened;
        if !self.session.may(&kept.pass, asked.now) || !self.access.opens_again(seen, entry, opened)
        {
            return Look::Unknown;
        }
        if !asked.is_watched && self.charge(entry, asked.now) {
            return Look::Through;
        }
        if asked.goes_on
            && let Some(visit) = self.visit_again(kept, asked)
        {
            return Look::Met(visit);
        }
        Look::Known(Known {
            pass: kept.pass.clone().into(),
            at: kept.at,
        })
    }

    /// Charges the limits and tells where they stand to the visit of the last request, or to a new one where
    /// somebody still has that: memory, a reference to the pass, and what else is the same each time are spared.
    #[inline]
    fn visit_again(&self, kept: &mut Kept, asked: Asked) -> Option<Arc<Visit>> {
        let rest = self.rest.as_ref().filter(|_| kept.is_ready)?;
        let entry = kept.pass.entry(kept.at);
        let shared = kept.visit.get_or_insert_default();
        let visit = match Arc::get_mut(shared) {
            Some(visit) => visit,
            None => {
                *shared = Arc::default();
                Arc::get_mut(shared)?
            }
        };
        if !visit.has_pass() {
            visit.set_pass(kept.pass.clone());
            visit.set_called(kept.at);
        }
        visit.begin(asked.now, asked.can_wait, asked.is_watched);
        let admits = rest.limits.admits_again(entry, visit);
        admits.then(|| shared.clone())
    }

    /// The same for one who is not remembered. Who asks twice in a row is, from now on.
    fn look_up(
        &self,
        presented: Option<&[u8]>,
        caller: Option<(&mut Caller, u64)>,
        seen: Seen<'_>,
        asked: Asked,
    ) -> Look {
        let plan = self.session.plan_id();
        let loaded = match (self.session.find_presented(presented), seen.head) {
            (Some(found), _) => found,
            (None, Some(head)) => self.session.find_at_once(head),
            (None, None) => return Look::Closer,
        };
        let Some(loaded) = loaded else {
            return Look::Unknown;
        };
        let caller = caller
            .and_then(|(caller, epoch)| caller.asked_last(&loaded).then_some((caller, epoch)));
        let kept = caller.map(|caller| (caller, loaded.clone()));
        let Some(held) = self.session.pass_of(loaded, plan) else {
            return Look::Unknown;
        };
        let pass = held.get();
        let Some((at, entry)) = self.access.place(pass) else {
            return Look::Unknown;
        };
        if let Some(((caller, epoch), loaded)) = kept {
            caller.keep(Box::new(Kept {
                express: self.id,
                epoch,
                plan,
                loaded,
                pass: pass.clone(),
                at,
                opened: Opened::none(),
                is_ready: self
                    .rest
                    .as_ref()
                    .is_some_and(|rest| rest.inject.is_ready(pass)),
                visit: None,
            }));
        }
        if !self.session.may(pass, asked.now) || !self.access.opens(seen, entry) {
            Look::Unknown
        } else if !asked.is_watched && self.charge(entry, asked.now) {
            Look::Through
        } else {
            Look::Known(Known { pass: held, at })
        }
    }

    /// Charges the limits, if they have room.
    #[inline]
    fn charge(&self, entry: &Entry, now: Moment) -> bool {
        let limits = self.limits.as_ref();
        limits.is_some_and(|limits| limits.charge_at_once(entry, now))
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
    kept: Option<Box<Kept>>,
}

struct Kept {
    express: u64,
    epoch: u64, // Read before the record was.
    plan: u64,
    loaded: Arc<Loaded>,
    pass: Arc<Pass>,
    at: EntryAt,
    opened: Opened,
    is_ready: bool,            // The values of all headers were made with the pass.
    visit: Option<Arc<Visit>>, // That of the last request.
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
    /// Whether it is the record of the request before too; the next one is told of this.
    #[inline]
    fn asked_last(&mut self, loaded: &Arc<Loaded>) -> bool {
        let place = Arc::as_ptr(loaded).addr();
        place == std::mem::replace(&mut self.place, place)
    }

    /// Keeps the record, where what is presented is all of its name: of more than one word the token may be
    /// a part.
    #[cold]
    fn keep(&mut self, kept: Box<Kept>) {
        self.kept = is_visible(kept.loaded.key().as_bytes()).then_some(kept);
    }
}
