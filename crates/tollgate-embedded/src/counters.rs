//! The counters: counted in memory, and covered by what was drawn from the file.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;
use tollgate_core::{
    Moment,
    limits::Limit,
    store::{
        Batch, Charge, ChargeMode, Counter, CounterRef, LimitStore, MemoryStore, ReadyCharges,
        Standing, StoreErrorKind, Verdict, memory::MemoryOptions,
    },
};

use crate::{
    EmbeddedOptions, at_once,
    error::Failure,
    record::Mark,
    registry::Registry,
    reserve::{Asker, Drawn, Hold, LONGEST_UNSTORED, Reserve, Span, nanos},
    restore,
};

pub(crate) struct Counters {
    id: u64, // No two stores of a process have the same.
    memory: MemoryStore,
    pub(crate) registry: Registry,
    options: EmbeddedOptions,
    recent: Option<Recent>,
}

/// A wish for more units of one counter.
pub(crate) struct Draw {
    pub(crate) reserve: Arc<Reserve>,
    charge: Charge,
    waiting: u64, // How many units a request waits for; zero for none.
    now: Moment,
}

/// What can be said at once.
pub(crate) enum Decision {
    Told(Verdict),
    /// These counters have not been looked up in the file.
    Unknown(Needs),
    /// More units have to be drawn first.
    Short(Draws),
    /// There is no room for another counter.
    Full,
}

pub(crate) type Draws = SmallVec<[Draw; 1]>;

/// A decision, and what should be drawn in the background after it.
pub(crate) type Decided = (Decision, Draws);

/// The stored counters of a batch.
pub(crate) type Needs = SmallVec<[Need; 2]>;

/// What a charge needs of a reserve.
#[derive(Clone)]
pub(crate) struct Need {
    pub(crate) reserve: Arc<Reserve>,
    pub(crate) charge: Charge,
    index: usize, // In the batch.
    span: Span,
}

/// The store's own handle on a counter.
struct Handle {
    store: u64,
    inner: Arc<Counter>, // What the counts in memory put their handle in.
    reserve: OnceLock<Arc<Reserve>>,
}

/// The same on charges that come again.
struct Ready {
    store: u64,
    inner: ReadyCharges,
    // In the order in which they are locked; `None` where there was no room, or one counter is there
    // twice.
    needs: Option<Needs>,
}

impl Counters {
    /// After an unclean end, `begins_full_at` is the moment of the start.
    pub(crate) fn new(options: &EmbeddedOptions, begins_full_at: Option<Moment>) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self {
            id: IDS.fetch_add(1, Relaxed),
            memory: MemoryOptions::new()
                .max_counters(options.max_counters)
                .build(),
            registry: Registry::new(options.max_counters),
            options: options.clone(),
            recent: begins_full_at.map(|start| Recent::new(start, options.max_counters)),
        }
    }

    /// Charges what fits now, if that can be told: the usual case.
    #[inline]
    pub(crate) fn admit(&self, ready: &ReadyCharges, now: Moment) -> (bool, Draws) {
        self.admit_by(ready, now, |inner| self.memory.try_admit(inner, now))
    }

    /// The same, and tells where the limits stand then.
    #[inline]
    pub(crate) fn admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> (bool, Draws) {
        let admit = |inner: &ReadyCharges| self.memory.try_admit_told(inner, now, tell);
        self.admit_by(ready, now, admit)
    }

    #[inline]
    fn admit_by(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        admit: impl FnOnce(&ReadyCharges) -> bool,
    ) -> (bool, Draws) {
        let ready = ready.handle(|batch| Arc::new(self.ready(batch, now)));
        let is_recent = self.recent.as_ref().is_some_and(|recent| recent.runs(now));
        let (Some(needs), false) = (ready.needs_in(self.id), is_recent) else {
            return (false, SmallVec::new());
        };
        let mut holds: SmallVec<[MutexGuard<'_, Hold>; 2]> = SmallVec::new();
        for need in needs {
            let hold = need.reserve.hold.lock();
            if !hold.has(need.charge.cost.get(), need.span, Asker::New, now) {
                return (false, SmallVec::new()); // The verdict tells.
            }
            holds.push(hold);
        }
        if !admit(&ready.inner) {
            return (false, SmallVec::new());
        }
        let mut renewed = SmallVec::new();
        for (need, hold) in needs.iter().zip(&mut holds) {
            if hold.spend(need.charge.cost.get(), now) {
                renewed.push(need.draw(0, now));
            }
        }
        (true, renewed)
    }

    fn ready(&self, batch: &[Charge], now: Moment) -> Ready {
        let inner: Vec<Charge> = batch.iter().map(|charge| self.inner(charge)).collect();
        let needs = self.needs(batch, now).and_then(|mut needs| {
            needs.sort_unstable_by_key(|need| Arc::as_ptr(&need.reserve));
            let same = |pair: &[Need]| Arc::ptr_eq(&pair[0].reserve, &pair[1].reserve);
            (!needs.windows(2).any(same)).then_some(needs)
        });
        Ready {
            store: self.id,
            inner: ReadyCharges::new(inner),
            needs,
        }
    }

    /// What can be said to `ready` at once.
    pub(crate) fn decide_ready(&self, ready: &ReadyCharges, now: Moment) -> Decided {
        let handle = ready.handle(|batch| Arc::new(self.ready(batch, now)));
        let Some(needs) = handle.needs_in(self.id) else {
            return self.decide(ready.charges(), Asker::New, now);
        };
        let inner = handle.inner.charges();
        let take = || self.memory.try_take_ready(&handle.inner, now);
        self.decide_with(needs, inner, Asker::New, now, take)
    }

    /// What can be said to `batch` at once.
    pub(crate) fn decide(&self, batch: &[Charge], asker: Asker, now: Moment) -> Decided {
        let inner = self.inner_of(batch);
        let Some(needs) = self.needs(batch, now) else {
            return (Decision::Full, SmallVec::new());
        };
        let take = || self.memory.try_take(&inner, now);
        self.decide_with(&needs, &inner, asker, now, take)
    }

    fn decide_with(
        &self,
        needs: &Needs,
        inner: &[Charge],
        asker: Asker,
        now: Moment,
        take: impl Fn() -> Option<Verdict>,
    ) -> Decided {
        let mut renewed = SmallVec::new();
        let recent = self.recent.as_ref();
        if recent.is_some_and(|recent| !recent.fill(&self.memory, inner, now)) {
            return (Decision::Full, renewed);
        }
        let mut locked = Locked::new(needs);
        if !locked.holds.iter().all(|hold| hold.is_restored) {
            return (Decision::Unknown(needs.clone()), renewed);
        }
        if locked.is_short(needs, asker, now, |_| true) {
            let looked = self.look_inner(inner, now);
            let Verdict::Taken(taken) = looked else {
                return (Decision::Told(looked), renewed);
            };
            // Who is only watched and over the limit takes nothing.
            let takes = |need: &Need| !taken.standings[need.index].exceeded;
            if locked.is_short(needs, asker, now, takes) {
                let takers = needs.iter().filter(|need| takes(need));
                let draws = takers.map(|need| need.draw(need.charge.cost.get(), now));
                return (Decision::Short(draws.collect()), renewed);
            }
        }
        let Some(verdict) = take() else {
            unreachable!("counts in memory are told at once")
        };
        if let Verdict::Taken(taken) = &verdict {
            for (place, need) in needs.iter().enumerate() {
                let takes = !taken.standings[need.index].exceeded;
                if takes && locked.hold(place).spend(need.charge.cost.get(), now) {
                    renewed.push(need.draw(0, now));
                }
            }
        }
        (Decision::Told(verdict), renewed)
    }

    /// What a take would say. The counters are known.
    pub(crate) fn look(&self, batch: &[Charge], now: Moment) -> Verdict {
        let inner = self.inner_of(batch);
        if let Some(recent) = &self.recent {
            recent.fill(&self.memory, &inner, now);
        }
        self.look_inner(&inner, now)
    }

    fn look_inner(&self, inner: &[Charge], now: Moment) -> Verdict {
        match at_once(self.memory.look(inner, now)) {
            Some(Ok(verdict)) => verdict,
            _ => unreachable!("counts in memory are told at once"),
        }
    }

    pub(crate) fn give_back(&self, batch: &[Charge], taken_at: Moment, now: Moment) {
        for charge in batch {
            let inner = self.inner(charge);
            let reserve = Span::is_stored(&charge.limit)
                .then(|| self.registry.get(charge.counter.name()))
                .flatten();
            let Some(reserve) = reserve else {
                self.memory.give_back(&[inner], taken_at);
                continue;
            };
            let mut hold = reserve.hold.lock();
            // How much came back is told by the count: nothing, where the period has ended.
            let used = || self.memory.used(reserve.name(), taken_at);
            let before = used();
            self.memory.give_back(&[inner], taken_at);
            hold.put_back(before.saturating_sub(used()), now);
        }
    }

    /// Stored charges of the batch, with their reserves; `None` where there is no room for one.
    pub(crate) fn needs(&self, batch: &[Charge], now: Moment) -> Option<Needs> {
        let stored = |(_, charge): &(usize, &Charge)| Span::is_stored(&charge.limit);
        let needs = batch.iter().enumerate().filter(stored);
        needs
            .map(|(index, charge)| {
                Some(Need {
                    reserve: self.reserve(&charge.counter, now)?,
                    charge: self.inner(charge),
                    index,
                    span: Span::of(charge),
                })
            })
            .collect()
    }

    fn reserve(&self, counter: &CounterRef, now: Moment) -> Option<Arc<Reserve>> {
        let CounterRef::Held(counter) = counter else {
            return self.registry.reserve(counter, now);
        };
        let Some(handle) = self.handle(counter) else {
            let own = CounterRef::Held(Counter::new(counter.name()));
            return self.registry.reserve(&own, now);
        };
        if let Some(reserve) = handle.reserve.get() {
            return Some(reserve.clone());
        }
        let inner = CounterRef::Held(handle.inner.clone());
        let reserve = self.registry.reserve(&inner, now)?;
        Some(handle.reserve.get_or_init(|| reserve).clone())
    }

    /// The handle on a counter; `None` where it holds that of another store.
    fn handle<'a>(&self, counter: &'a Arc<Counter>) -> Option<&'a Handle> {
        let handle = Counter::handle(counter, |name| {
            Arc::new(Handle {
                store: self.id,
                inner: Counter::new(name),
                reserve: OnceLock::new(),
            })
        });
        (handle.store == self.id).then_some(handle)
    }

    /// The charge as the counts in memory take it: with a counter that can hold their handle.
    fn inner(&self, charge: &Charge) -> Charge {
        let mut charge = charge.clone();
        if let CounterRef::Held(counter) = &charge.counter {
            let handle = self.handle(counter);
            let inner =
                handle.map_or_else(|| Counter::new(counter.name()), |own| own.inner.clone());
            charge.counter = CounterRef::Held(inner);
        }
        charge
    }

    fn inner_of(&self, batch: &[Charge]) -> Batch {
        batch.iter().map(|charge| self.inner(charge)).collect()
    }

    /// Lets a counter begin with what the file says, unless it did before.
    pub(crate) fn restore(
        &self,
        need: &Need,
        now: Moment,
        read: impl FnOnce(&[u8]) -> Result<Option<Mark>, Failure>,
    ) -> Result<(), Failure> {
        let mut hold = need.reserve.hold.lock();
        if hold.is_restored {
            return Ok(());
        }
        let mark = read(need.reserve.name())?;
        let counter = &need.reserve.counter;
        let limit = &need.charge.limit;
        let charge = mark.and_then(|mark| restore::charge(counter, &mark, limit, now));
        if let Some(charge) = charge {
            self.memory.try_take(&[charge], now);
        }
        hold.mark = mark;
        hold.is_restored = true;
        Ok(())
    }

    /// What to write for a draw.
    pub(crate) fn draw(&self, draw: &Draw) -> Option<(Mark, Drawn)> {
        let mut hold = draw.reserve.hold.lock();
        let standing = self.standing(&draw.charge, draw.now);
        let used = self.memory.used(draw.reserve.name(), draw.now);
        let chunk = self.options.chunks.of(draw.charge.limit.max());
        let drawn = hold.draw(&draw.charge, chunk, draw.waiting, used, &standing, draw.now);
        if drawn.is_none() {
            hold.calm();
        }
        drawn
    }

    fn standing(&self, charge: &Charge, now: Moment) -> Standing {
        let mut charge = charge.clone();
        charge.mode = ChargeMode::Enforce;
        match self.look_inner(&[charge], now) {
            Verdict::Taken(taken) => taken.standings[0],
            Verdict::Refused(refused) => refused.standings[0],
        }
    }

    pub(crate) fn forget(&self, name: &[u8]) {
        self.memory.forget(name);
    }

    /// The mark that says what was admitted, no more; `None` where nothing counts. What was drawn is
    /// void from now on.
    pub(crate) fn settle(&self, reserve: &Reserve, now: Moment) -> Settled {
        let mut hold = reserve.hold.lock();
        hold.void();
        let (Some(was), Some(limit)) = (hold.mark, &hold.limit) else {
            return Settled::AsItIs; // Nothing was drawn since the start.
        };
        let units = self.memory.used(reserve.name(), now);
        if units == 0 {
            return Settled::Nothing;
        }
        let charge = Charge::new(reserve.counter.clone(), limit.clone());
        let resets_in = self.standing(&charge, now).resets_in;
        let end = |left| now.unix_nanos.saturating_add(nanos(left));
        let mark = Mark {
            units,
            until: resets_in.map_or(was.until, end),
            written: now.unix_nanos,
        };
        Settled::Mark(mark)
    }
}

/// What to write of a counter when the store is closed.
pub(crate) enum Settled {
    AsItIs,
    Nothing,
    Mark(Mark),
}

impl Ready {
    /// What is needed of this store's reserves; `None` where they are another's.
    fn needs_in(&self, store: u64) -> Option<&Needs> {
        self.needs.as_ref().filter(|_| self.store == store)
    }
}

impl Need {
    fn draw(&self, waiting: u64, now: Moment) -> Draw {
        Draw {
            reserve: self.reserve.clone(),
            charge: self.charge.clone(),
            waiting,
            now,
        }
    }
}

/// The holds that a batch needs, locked in the order of their places in memory.
struct Locked<'a> {
    holds: SmallVec<[MutexGuard<'a, Hold>; 2]>,
    places: SmallVec<[usize; 2]>, // Which hold, for each need.
}

impl<'a> Locked<'a> {
    fn new(needs: &'a Needs) -> Self {
        let mut order: SmallVec<[usize; 2]> = (0..needs.len()).collect();
        let address = |need: usize| Arc::as_ptr(&needs[need].reserve);
        order.sort_unstable_by_key(|need| address(*need));
        let mut locked = Locked {
            holds: SmallVec::new(),
            places: SmallVec::from_elem(0, needs.len()),
        };
        let mut last = None;
        for need in order {
            if last.is_none_or(|last| address(last) != address(need)) {
                locked.holds.push(needs[need].reserve.hold.lock());
            }
            locked.places[need] = locked.holds.len() - 1;
            last = Some(need);
        }
        locked
    }

    fn hold(&mut self, need: usize) -> &mut Hold {
        &mut self.holds[self.places[need]]
    }

    /// Whether one of those that take has too little.
    fn is_short(
        &mut self,
        needs: &Needs,
        asker: Asker,
        now: Moment,
        takes: impl Fn(&Need) -> bool,
    ) -> bool {
        (0..needs.len()).filter(|at| takes(&needs[*at])).any(|at| {
            let place = self.places[at];
            let of_same = (0..needs.len()).filter(|other| self.places[*other] == place);
            let units = of_same
                .filter(|other| takes(&needs[*other]))
                .map(|other| needs[other].charge.cost.get())
                .fold(0, u64::saturating_add);
            !self.hold(at).has(units, needs[at].span, asker, now)
        })
    }
}

/// Windows that are not stored, after an unclean end: what was admitted in them just before is not
/// known, so each begins full, as if all of it had been taken at the start.
struct Recent {
    start: Moment,
    filled: Mutex<HashMap<Box<[u8]>, u64, foldhash::fast::RandomState>>,
    max: usize,
}

impl Recent {
    fn new(start: Moment, max: usize) -> Self {
        Self {
            start,
            filled: Mutex::default(),
            max,
        }
    }

    fn runs(&self, now: Moment) -> bool {
        now.ticks < self.start.ticks.saturating_add(LONGEST_UNSTORED)
    }

    /// Fills the counters of a batch; `false` where there is no room to note it.
    fn fill(&self, memory: &MemoryStore, inner: &[Charge], now: Moment) -> bool {
        if !self.runs(now) {
            return true;
        }
        let short = inner
            .iter()
            .filter(|charge| !Span::is_stored(&charge.limit));
        for charge in short {
            let mut filled = self.filled.lock();
            let max = charge.limit.max();
            let was = filled.get(charge.counter.name()).copied().unwrap_or(0);
            if max <= was {
                continue;
            }
            if self.max <= filled.len() {
                return false;
            }
            filled.insert(charge.counter.name().into(), max);
            memory.try_take(&[full(charge, max - was)], self.start);
        }
        true
    }
}

fn full(charge: &Charge, units: u64) -> Charge {
    let limit = match &charge.limit {
        Limit::Rate(rate) => rate.with_steps(None).into(),
        quota @ Limit::Quota(_) => quota.clone(),
    };
    let mut full = Charge::new(charge.counter.clone(), limit);
    full.cost = units.try_into().unwrap_or(full.cost);
    full
}

/// Why a counter was refused for want of room.
pub(crate) fn no_room() -> Failure {
    let what = "no room for another stored counter";
    Failure::new(StoreErrorKind::Full, what)
}
