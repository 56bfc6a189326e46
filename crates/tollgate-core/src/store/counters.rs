//! The table of counters that [`MemoryStore`](super::MemoryStore) keeps.
//!
//! A counter is known by a keyed 64-bit fingerprint of its name, and is kept in one of two ways. One
//! that was only named stands in its shard: 32 bytes, in a table that is 73 to 78 % full. One
//! that is held by a [`Counter`] has a lock of its own, which the holder reaches without the table; the
//! table knows it by name, so that a reload finds the same count.
//!
//! The table is bounded. Each insertion looks at a few other entries and drops what counts no more;
//! no thread does it. What somebody holds is never dropped. When the table is full of what counts, new
//! names share *overflow* counters, chosen by fingerprint. Those only count too much: every rate there
//! is kept as `Sliding`, the strictest, and a shared quota lasts as long as the longest of its periods.
//!
//! A batch locks what it needs in one order, whatever its own: shards, then held counters, then
//! overflow counters, each by place. One charge of a held counter needs its lock alone, and not even
//! that where it was refused just now and nothing happened since: see `Stamp`.

mod locked;
mod shard;
mod slot;
mod stamp;

use std::{
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

// A model must go the same way each time it is played.
#[cfg(tollgate_loom)]
use foldhash::quality::FixedState as RandomState;
#[cfg(not(tollgate_loom))]
use foldhash::quality::RandomState;
use smallvec::SmallVec;

pub(crate) use self::slot::Slot;
use self::{
    locked::{Held, Locked, Place},
    shard::{Kept, Line, Shard},
};
use super::{
    Batch, Charge, Counter, CounterRef, KeyedLimit, ReadyCharges, Standing, Verdict,
    tally::{self, Brief, Tallies, Tally},
};
use crate::{
    clock::Moment,
    limits::{Algorithm, Limit},
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, OnceLock, of_models},
};

const SHARDS: usize = of_models(1, 64);
const SWEPT: usize = 4; // Entries looked at with each insertion.
const OVERFLOW: usize = of_models(1, 4096); // Of each kind.

/// How many counters are kept where nothing else is asked for.
pub(crate) const DEFAULT_MAX: usize = 4_000_000;

/// The counters of one store.
pub(crate) struct Counters {
    id: u64, // No two tables of a process have the same.
    hasher: RandomState,
    shards: Box<[Line<Mutex<Shard>>]>,
    len: AtomicUsize,
    max: usize,
    overflow: OnceLock<Box<[Mutex<Tally>]>>, // Rates, then quotas.
    overflows: AtomicBool,                   // Whether it was ever in use.
}

/// The slots of charges that are made again and again, in their order.
pub(super) struct ReadySlots {
    table: u64,
    slots: SmallVec<[ReadySlot; 2]>,
}

/// One of them, and what is asked of it: a charge is larger, and lies elsewhere.
pub(super) struct ReadySlot {
    slot: Arc<Slot>,
    brief: Brief,
}

/// What to do with a name that the table does not know.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Make,
    Leave,
}

impl Counters {
    pub(crate) fn new(max: usize) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self {
            id: IDS.fetch_add(1, Relaxed),
            hasher: RandomState::default(),
            shards: (0..SHARDS).map(|_| Line::default()).collect(),
            len: AtomicUsize::new(0),
            max,
            overflow: OnceLock::new(),
            overflows: AtomicBool::new(false),
        }
    }

    /// How many counters are kept, dead ones that were not yet dropped included.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    fn print(&self, name: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name);
        hasher.finish()
    }

    fn shard_of(print: u64) -> usize {
        print as usize % SHARDS // The low bits: a shard places its entries by the high ones.
    }

    fn shard(&self, print: u64) -> MutexGuard<'_, Shard> {
        self.shards[Self::shard_of(print)].0.lock()
    }

    /// The slot of a counter, made where there is none.
    fn hold(&self, name: &str, now: Moment) -> Arc<Slot> {
        let print = self.print(name.as_bytes());
        let slot = |tally| Arc::new(Slot::new(self.id, print, tally));
        let mut shard = self.shard(print);
        let Some(at) = shard.find(print) else {
            let dropped = shard.sweep(SWEPT, now, |_| false);
            self.len.fetch_sub(dropped, Relaxed);
            self.len.fetch_add(1, Relaxed); // Beyond the bound too: holders are bounded elsewhere.
            let slot = slot(Tally::new());
            shard.insert(print, Kept::Held(slot.clone()));
            return slot;
        };
        let kept = &mut shard.entries[at].kept;
        match kept {
            Kept::Held(slot) => slot.clone(),
            Kept::Bare(tally) => {
                let slot = slot(std::mem::take(tally));
                *kept = Kept::Held(slot.clone());
                slot
            }
            Kept::Free => unreachable!("a free entry is not found"),
        }
    }

    /// The slot that the charge holds, if it holds one of this table's.
    fn held<'a>(&self, charge: &'a Charge, now: Moment) -> Option<&'a Slot> {
        let CounterRef::Held(counter) = &charge.counter else {
            return None;
        };
        let slot = Counter::handle(counter, |name| self.hold(name, now));
        (slot.table == self.id).then_some(slot)
    }

    /// Locks all that the batch needs, in one order, and calls `work`.
    fn with<R>(
        &self,
        batch: &[Charge],
        now: Moment,
        missing: Missing,
        work: impl FnOnce(&mut Locked<'_>) -> R,
    ) -> R {
        let mut found: SmallVec<[(usize, Arc<Slot>); 4]> = SmallVec::new(); // Outlives the locks.
        let held: SmallVec<[Option<&Slot>; 4]> =
            batch.iter().map(|charge| self.held(charge, now)).collect();
        let mut locked = Locked {
            shards: SmallVec::new(),
            slots: SmallVec::new(),
            overflow: SmallVec::new(),
            places: SmallVec::from_elem(Place::Nowhere, batch.len()),
        };
        let named: SmallVec<[(usize, u64); 4]> = (0..batch.len())
            .filter(|index| held[*index].is_none())
            .map(|index| (index, self.print(batch[index].counter.name())))
            .collect();
        self.lock_shards(&named, &mut locked);
        found.extend(self.find(&named, &mut locked, now, missing));
        let slots: SmallVec<[&Slot; 4]> = (0..batch.len())
            .filter_map(|index| {
                let by_name = || found.iter().find(|(other, _)| *other == index);
                held[index].or_else(|| by_name().map(|(_, slot)| &**slot))
            })
            .collect();
        lock_slots(&slots, &mut locked, now);
        let mut in_turn = slots.iter();
        for index in 0..batch.len() {
            if held[index].is_some() || found.iter().any(|(other, _)| *other == index) {
                let slot = in_turn.next().expect("one for each");
                locked.places[index] = slot_place(&locked, slot);
                self.seed(&batch[index].limit, slot, locked.tally(index), now);
            }
        }
        self.lock_overflow(batch, &named, &mut locked);
        work(&mut locked)
    }

    fn lock_shards<'a>(&'a self, named: &[(usize, u64)], locked: &mut Locked<'a>) {
        let mut shards: SmallVec<[usize; 4]> = named
            .iter()
            .map(|(_, print)| Self::shard_of(*print))
            .collect();
        shards.sort_unstable();
        shards.dedup();
        locked.shards = shards
            .into_iter()
            .map(|shard| (shard, self.shards[shard].0.lock()))
            .collect();
    }

    /// Places the bare entries, and tells which names somebody holds.
    fn find(
        &self,
        named: &[(usize, u64)],
        locked: &mut Locked<'_>,
        now: Moment,
        missing: Missing,
    ) -> SmallVec<[(usize, Arc<Slot>); 4]> {
        let mut found = SmallVec::new();
        // Entries move when another is made. So all are made before any is placed.
        if missing == Missing::Make {
            let spare = |print: u64| named.iter().any(|(_, other)| *other == print);
            for &(_, print) in named {
                let (_, shard) = locked.shard(print);
                if shard.find(print).is_none() {
                    self.make(shard, print, now, spare);
                }
            }
        }
        for &(index, print) in named {
            let (guard, shard) = locked.shard(print);
            let Some(entry) = shard.find(print) else {
                continue;
            };
            match &shard.entries[entry].kept {
                Kept::Held(slot) => found.push((index, slot.clone())),
                _ => {
                    let entry = u32::try_from(entry).expect("bounded by the table");
                    locked.places[index] = Place::Entry { guard, entry };
                }
            }
        }
        found
    }

    /// Makes a bare entry, unless there is no room, or the overflow counts for this name.
    fn make(&self, shard: &mut Shard, print: u64, now: Moment, spare: impl Fn(u64) -> bool) {
        let dropped = shard.sweep(SWEPT, now, &spare);
        self.len.fetch_sub(dropped, Relaxed);
        if self.overflows.load(Relaxed) && self.overflow_counts(print, now) {
            return;
        }
        let bounded = |len: usize| (len < self.max).then_some(len + 1);
        let mut room = self.len.fetch_update(Relaxed, Relaxed, bounded);
        if room.is_err() {
            let dropped = shard.sweep(8 * SWEPT, now, &spare);
            self.len.fetch_sub(dropped, Relaxed);
            room = self.len.fetch_update(Relaxed, Relaxed, bounded);
        }
        if room.is_err() {
            self.overflows.store(true, Relaxed);
            return;
        }
        shard.insert(print, Kept::Bare(Tally::new()));
    }

    fn overflow(&self) -> &[Mutex<Tally>] {
        self.overflow
            .get_or_init(|| (0..2 * OVERFLOW).map(|_| Mutex::default()).collect())
    }

    fn overflow_place(print: u64, limit: &Limit) -> usize {
        let place = print as usize % OVERFLOW;
        match limit {
            Limit::Rate(_) => place,
            Limit::Quota(_) => OVERFLOW + place,
        }
    }

    /// Whether anything that may be this name's still counts in the overflow.
    fn overflow_counts(&self, print: u64, now: Moment) -> bool {
        let place = print as usize % OVERFLOW;
        [place, OVERFLOW + place]
            .into_iter()
            .any(|place| !self.overflow()[place].lock().is_over(now))
    }

    fn lock_overflow<'a>(
        &'a self,
        batch: &[Charge],
        named: &[(usize, u64)],
        locked: &mut Locked<'a>,
    ) {
        if !self.overflows.load(Relaxed) {
            return;
        }
        let missing = named
            .iter()
            .filter(|(index, _)| locked.places[*index] == Place::Nowhere)
            .map(|&(index, print)| (index, Self::overflow_place(print, &batch[index].limit)));
        let missing: SmallVec<[(usize, usize); 4]> = missing.collect();
        let mut places: SmallVec<[usize; 4]> = missing.iter().map(|(_, place)| *place).collect();
        places.sort_unstable();
        places.dedup();
        locked.overflow = places
            .into_iter()
            .map(|place| (place, self.overflow()[place].lock()))
            .collect();
        for (index, place) in missing {
            let guard = locked
                .overflow
                .iter()
                .position(|(other, _)| *other == place);
            let guard = u8::try_from(guard.expect("locked just now")).expect("a batch is small");
            locked.places[index] = Place::Overflow { guard };
        }
    }

    /// Lets a held counter that has counted nothing begin with what the overflow counted for it.
    fn seed(&self, limit: &Limit, slot: &Slot, tally: &mut Tally, now: Moment) {
        if !self.overflows.load(Relaxed) || !tally.is_over(now) {
            return;
        }
        let shared = self.overflow()[Self::overflow_place(slot.print, limit)].lock();
        if !shared.is_over(now) {
            *tally = shared.clone();
        }
    }

    // The verdict is large. It is returned from where it is made, never through an `Option` in
    // between, so that it is written once.
    #[inline]
    pub(crate) fn take(&self, batch: &[Charge], now: Moment) -> Verdict {
        assert!(batch.len() <= usize::from(u8::MAX), "a batch is small");
        // Whether the overflow counts is asked when the slots are known: who counted there for one of
        // these names did so before the slot was made, and the shard's lock shows it.
        match batch {
            [charge] => match self.held(charge, now) {
                Some(_) if self.overflows.load(Relaxed) => self.take_any(batch, now),
                Some(slot) => slot.take(batch_of(batch), now),
                None => self.take_named(batch_of(batch), now),
            },
            [first, second] => match (self.held(first, now), self.held(second, now)) {
                (Some(one), Some(two))
                    if !std::ptr::eq(one, two) && !self.overflows.load(Relaxed) =>
                {
                    take_two(batch_of(batch), [one, two], now)
                }
                _ => self.take_any(batch, now),
            },
            _ => self.take_held(batch, now),
        }
    }

    /// Takes from the counters of charges that were looked up before.
    pub(crate) fn take_ready(&self, ready: &ReadyCharges, now: Moment) -> Verdict {
        let batch = ready.charges();
        match self.slots_of(ready, now) {
            [one] => one.slot.take(batch_of(batch), now),
            [one, two] => take_two_ready(batch_of(batch), [one, two], now),
            _ => self.take(batch, now),
        }
    }

    /// The same, if all of it fits now and nobody waits; where it does not, nothing is charged.
    #[inline]
    pub(crate) fn admit_ready(&self, ready: &ReadyCharges, now: Moment) -> bool {
        match self.slots_of(ready, now) {
            // One that was refused just now most likely is again: the verdict tells, without a lock.
            [one] if one.slot.is_stamped() => false,
            [one] => {
                let mut tally = one.slot.lock(now);
                if tally.is_ready_for(&one.brief, now) {
                    tally.add_ready(&one.brief, now);
                    return true;
                }
                tally::admit(batch_of(ready.charges()), [&mut tally], now)
            }
            [one, two] if one.slot.is_stamped() || two.slot.is_stamped() => false,
            [one, two] => {
                let (mut first, mut second) = lock_two(&one.slot, &two.slot, now);
                if first.is_ready_for(&one.brief, now) && second.is_ready_for(&two.brief, now) {
                    first.add_ready(&one.brief, now);
                    second.add_ready(&two.brief, now);
                    return true;
                }
                tally::admit(batch_of(ready.charges()), [&mut first, &mut second], now)
            }
            _ => false,
        }
    }

    /// The same where the counters are in use, and tells where they stand then.
    pub(crate) fn admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool {
        let batch = ready.charges();
        match self.slots_of(ready, now) {
            [one] => {
                let mut tally = one.slot.lock(now);
                if !tally.is_ready_for(&one.brief, now) {
                    return false;
                }
                let standing = tally.add_told(&one.brief, &batch[0].limit, now);
                drop(tally);
                tell(&standing);
            }
            [one, two] if one.slot.is_stamped() || two.slot.is_stamped() => return false,
            [one, two] => {
                let (mut first, mut second) = lock_two(&one.slot, &two.slot, now);
                if !first.is_ready_for(&one.brief, now) || !second.is_ready_for(&two.brief, now) {
                    return false;
                }
                let stands = first.add_told(&one.brief, &batch[0].limit, now);
                let other_stands = second.add_told(&two.brief, &batch[1].limit, now);
                drop((first, second));
                tell(&stands);
                tell(&other_stands);
            }
            _ => return false,
        }
        true
    }

    /// The slots of charges, where they can be used.
    #[inline]
    fn slots_of<'a>(&self, ready: &'a ReadyCharges, now: Moment) -> &'a [ReadySlot] {
        let found = ready.slots.get_or_init(|| self.ready(ready.charges(), now));
        // As in `take`: whether the overflow counts is asked when the slots are known.
        if found.table != self.id || self.overflows.load(Relaxed) {
            return &[];
        }
        &found.slots
    }

    /// The slots of a batch that come again; none where it has more than two, or one twice.
    fn ready(&self, batch: &[Charge], now: Moment) -> ReadySlots {
        let slot = |charge: &Charge| match &charge.counter {
            CounterRef::Held(counter) => Some(ReadySlot {
                slot: self.hold(counter.name(), now),
                brief: Brief::of(charge),
            }),
            CounterRef::Named(_) => None,
        };
        let slots: Option<SmallVec<[ReadySlot; 2]>> = batch.iter().map(slot).collect();
        let apart = |slots: &SmallVec<[ReadySlot; 2]>| match &**slots {
            [_] => true,
            [one, two] => !Arc::ptr_eq(&one.slot, &two.slot),
            _ => false,
        };
        ReadySlots {
            table: self.id,
            slots: slots.filter(apart).unwrap_or_default(),
        }
    }

    /// Takes from held counters, or from whatever there is.
    fn take_held(&self, batch: &[Charge], now: Moment) -> Verdict {
        let mut order: SmallVec<[(usize, &Slot); 4]> = SmallVec::new();
        for (index, charge) in batch.iter().enumerate() {
            let Some(slot) = self.held(charge, now) else {
                return self.take_any(batch, now);
            };
            order.push((index, slot));
        }
        if self.overflows.load(Relaxed) {
            return self.take_any(batch, now);
        }
        tally::decide(batch, &mut Held::lock(order, now), now)
    }

    /// Takes from the one counter of the batch where the table knows it and nobody holds it.
    fn take_named(&self, batch: &[Charge; 1], now: Moment) -> Verdict {
        let print = self.print(batch[0].counter.name());
        let mut shard = self.shard(print);
        if let Some(at) = shard.find(print) {
            if let Kept::Bare(tally) = &mut shard.entries[at].kept {
                return tally::decide_one(batch, tally, now);
            }
        }
        drop(shard);
        self.take_any(batch, now)
    }

    /// Charges the counter of this name, if it has room; tells whether it did.
    #[inline]
    pub(crate) fn admit_named(&self, name: &[u8], limit: &KeyedLimit, now: Moment) -> bool {
        let print = self.print(name);
        let mut shard = self.shard(print);
        if let Some(at) = shard.find(print) {
            if let Kept::Bare(tally) = &mut shard.entries[at].kept {
                if tally.is_ready_for(&limit.brief, now) {
                    tally.add_ready(&limit.brief, now);
                    return true;
                }
                return admit_bare(limit, tally, now);
            }
        }
        drop(shard);
        self.admit_any(name, limit, now)
    }

    /// The same wherever the counter is, and where there is none.
    #[cold]
    #[inline(never)]
    fn admit_any(&self, name: &[u8], limit: &KeyedLimit, now: Moment) -> bool {
        let verdict = self.take_any(&[limit.charge_of(name)], now);
        matches!(verdict, Verdict::Taken(_))
    }

    /// Takes from counters wherever they are.
    fn take_any(&self, batch: &[Charge], now: Moment) -> Verdict {
        self.with(batch, now, Missing::Make, |locked| {
            if locked.overflow.is_empty() {
                return tally::decide(batch, locked, now);
            }
            let batch = strict(batch, &locked.places);
            let verdict = tally::decide(&batch, locked, now);
            for (index, charge) in batch.iter().enumerate() {
                if let (Limit::Quota(quota), Place::Overflow { .. }) =
                    (&charge.limit, locked.places[index])
                {
                    locked.tally(index).extend(quota, now);
                }
            }
            verdict
        })
    }

    pub(crate) fn look(&self, batch: &[Charge], now: Moment) -> Verdict {
        let mut tallies: SmallVec<[Tally; 4]> = self.with(batch, now, Missing::Leave, |locked| {
            (0..batch.len())
                .map(|index| match locked.places[index] {
                    Place::Nowhere => Tally::new(),
                    _ => locked.tally(index).clone(),
                })
                .collect()
        });
        tally::look(batch, &mut tallies, now)
    }

    pub(crate) fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        self.with(batch, taken_at, Missing::Leave, |locked| {
            for (index, charge) in batch.iter().enumerate() {
                if locked.places[index] != Place::Nowhere {
                    locked.tally(index).give_back(charge, taken_at);
                }
            }
        });
    }

    /// How much counts under this name; zero for one that the table does not know.
    pub(crate) fn used(&self, name: &[u8], now: Moment) -> u64 {
        let print = self.print(name);
        let shard = self.shard(print);
        match shard.find(print).map(|at| &shard.entries[at].kept) {
            Some(Kept::Bare(tally)) => tally.used(now),
            Some(Kept::Held(slot)) => slot.tally.lock().used(now),
            Some(Kept::Free) | None => 0,
        }
    }

    pub(crate) fn reset(&self, name: &[u8]) {
        let print = self.print(name);
        let mut shard = self.shard(print);
        let Some(at) = shard.find(print) else {
            return;
        };
        match &shard.entries[at].kept {
            Kept::Held(slot) => *slot.lock(Moment::default()) = Tally::new(),
            _ => {
                shard.remove(at);
                self.len.fetch_sub(1, Relaxed);
            }
        }
    }
}

/// Charges a counter that is not ready for it, if it has room; tells whether it did.
#[cold]
#[inline(never)]
fn admit_bare(limit: &KeyedLimit, tally: &mut Tally, now: Moment) -> bool {
    let verdict = tally::decide_one(std::array::from_ref(&limit.charge), tally, now);
    matches!(verdict, Verdict::Taken(_))
}

/// The batch as one whose length is known.
fn batch_of<const N: usize>(batch: &[Charge]) -> &[Charge; N] {
    batch.try_into().expect("matched before")
}

/// Takes from two held counters.
fn take_two(batch: &[Charge; 2], slots: [&Slot; 2], now: Moment) -> Verdict {
    if let Some((index, standings)) = deny_two(batch, slots, now) {
        return tally::refused(index, Some(standings[index].retry_in), standings);
    }
    let (mut first, mut second) = lock_two(slots[0], slots[1], now);
    decide_two(batch, slots, [&mut first, &mut second], now)
}

/// The same, in fewer steps where both are ready for the charge.
fn take_two_ready(batch: &[Charge; 2], [one, two]: [&ReadySlot; 2], now: Moment) -> Verdict {
    let slots = [&*one.slot, &*two.slot];
    if let Some((index, standings)) = deny_two(batch, slots, now) {
        return tally::refused(index, Some(standings[index].retry_in), standings);
    }
    let (mut first, mut second) = lock_two(slots[0], slots[1], now);
    if !first.is_ready_for(&one.brief, now) || !second.is_ready_for(&two.brief, now) {
        return decide_two(batch, slots, [&mut first, &mut second], now);
    }
    let standings = [
        first.add_told(&one.brief, &batch[0].limit, now),
        second.add_told(&two.brief, &batch[1].limit, now),
    ];
    tally::taken(now, standings)
}

/// Decides with both counters locked, and stamps the one that refuses.
fn decide_two(
    batch: &[Charge; 2],
    slots: [&Slot; 2],
    tallies: [&mut Tally; 2],
    now: Moment,
) -> Verdict {
    let [first, second] = tallies;
    let verdict = tally::decide_two(batch, [&mut *first, &mut *second], now);
    if let Verdict::Refused(refused) = &verdict {
        let index = refused.index;
        let tally: &Tally = if index == 0 { first } else { second };
        let standing = &refused.standings[index];
        let retry_in = Some(standing.retry_in).filter(|wait| *wait != Duration::MAX);
        slots[index].remember(&batch[index], tally, retry_in, standing, now.ticks);
    }
    verdict
}

/// Which of two is refused again where the other has room, and where both stand. The lock of the other is
/// taken, as its count may have changed; stamps stay, as nothing is changed here.
#[inline(always)]
fn deny_two(
    batch: &[Charge; 2],
    [one, two]: [&Slot; 2],
    now: Moment,
) -> Option<(usize, [Standing; 2])> {
    if !one.is_stamped() && !two.is_stamped() {
        return None;
    }
    let room = |slot: &Slot, charge: &Charge| slot.tally.lock().room_for(charge, now);
    if let Some(denied) = one.denies(&batch[0], now) {
        return Some((0, [denied, room(two, &batch[1])?]));
    }
    let denied = two.denies(&batch[1], now)?;
    Some((1, [room(one, &batch[0])?, denied]))
}

/// Locks two counters that are not one, in the order of all batches.
#[inline]
fn lock_two<'a>(
    one: &'a Slot,
    two: &'a Slot,
    now: Moment,
) -> (MutexGuard<'a, Tally>, MutexGuard<'a, Tally>) {
    // Both are looked at before one is locked: where neither is in the cache, they come together.
    assert!(one.table == two.table, "of one table");
    if std::ptr::from_ref(one) < std::ptr::from_ref(two) {
        let first = one.lock(now);
        (first, two.lock(now))
    } else {
        let second = two.lock(now);
        (one.lock(now), second)
    }
}

/// The same charges, with those that go to the overflow kept in the strictest way.
fn strict(batch: &[Charge], places: &[Place]) -> Batch {
    let mut batch: Batch = batch.iter().cloned().collect();
    for (charge, place) in batch.iter_mut().zip(places) {
        if let (Limit::Rate(rate), Place::Overflow { .. }) = (&mut charge.limit, place) {
            rate.algorithm = Algorithm::Sliding;
        }
    }
    batch
}

fn lock_slots<'a>(slots: &[&'a Slot], locked: &mut Locked<'a>, now: Moment) {
    let mut order: SmallVec<[&'a Slot; 4]> = SmallVec::from_slice(slots);
    order.sort_unstable_by_key(|slot| std::ptr::from_ref(*slot));
    order.dedup_by_key(|slot| std::ptr::from_ref(*slot));
    locked.slots = order
        .into_iter()
        .map(|slot| (std::ptr::from_ref(slot), slot.lock(now)))
        .collect();
}

fn slot_place(locked: &Locked<'_>, slot: &Slot) -> Place {
    let guard = locked
        .slots
        .iter()
        .position(|(other, _)| std::ptr::eq(*other, slot));
    let guard = u8::try_from(guard.expect("locked before")).expect("a batch is small");
    Place::Slot { guard }
}
