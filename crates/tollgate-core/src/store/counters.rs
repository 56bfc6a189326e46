//! The table of counters that [`MemoryStore`](super::MemoryStore) keeps.
//!
//! A counter is known by a keyed 64-bit fingerprint of its name, and is kept in one of two ways. One
//! that was only named stands in its shard's slab: 32 bytes, and 5 more in the shard's index. One that
//! is held by a [`Counter`] has a lock of its own, which the holder reaches without the table; the
//! table knows it by name, so that a reload finds the same count.
//!
//! The table is bounded. Each insertion looks at a few other entries and drops what counts no more;
//! no thread does it. What somebody holds is never dropped. When the table is full of what counts, new
//! names share *overflow* counters, chosen by fingerprint. Those only count too much: every rate there
//! is kept as `Sliding`, the strictest, and a shared quota lasts as long as the longest of its periods.
//!
//! A batch locks what it needs in one order, whatever its own: shards, then held counters, then
//! overflow counters, each by place.

use std::{
    hash::{BuildHasher, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{
    Batch, Charge, Counter, CounterRef, Verdict,
    tally::{self, Tallies, Tally},
};
use crate::{
    clock::Moment,
    limits::{Algorithm, Limit},
    sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, OnceLock, of_models},
};

const SHARDS: usize = of_models(1, 128);
const CHUNK: usize = of_models(4, 64);
const SWEPT: usize = 4; // Entries looked at with each insertion.
const OVERFLOW: usize = of_models(1, 4096); // Of each kind.

/// How many counters are kept where nothing else is asked for.
pub(crate) const DEFAULT_MAX: usize = 4_000_000;

/// The counters of one store.
pub(crate) struct Counters {
    id: u64, // No two tables of a process have the same.
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    len: AtomicUsize,
    max: usize,
    overflow: OnceLock<Box<[Mutex<Tally>]>>, // Rates, then quotas.
    overflows: AtomicBool,                   // Whether it was ever in use.
}

/// A counter that somebody holds.
pub(crate) struct Slot {
    table: u64,
    print: u64,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Shard {
    index: HashTable<u32>,
    chunks: Vec<Box<[Entry]>>, // Each of `CHUNK`; growing moves none of them.
    free: Option<u32>,
    hand: u32,
}

struct Entry {
    print: u64,
    kept: Kept,
}

enum Kept {
    Free(Option<u32>), // The next free entry.
    Bare(Tally),
    Held(Arc<Slot>),
}

const _: () = assert!(size_of::<Entry>() == 32);

/// Where the tally of a charge is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Entry { guard: u8, entry: u32 },
    Slot { guard: u8 },
    Overflow { guard: u8 },
    Nowhere,
}

impl Shard {
    fn entry(&self, at: u32) -> &Entry {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    fn entry_mut(&mut self, at: u32) -> &mut Entry {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }

    fn find(&self, print: u64) -> Option<u32> {
        let found = self.index.find(print, |at| self.entry(*at).print == print);
        found.copied()
    }

    fn insert(&mut self, print: u64, kept: Kept) -> u32 {
        let at = self.free.unwrap_or_else(|| self.grow());
        if let Kept::Free(next) = self.entry(at).kept {
            self.free = next;
        }
        *self.entry_mut(at) = Entry { print, kept };
        let chunks = &self.chunks;
        let print_of = |at: &u32| chunks[*at as usize / CHUNK][*at as usize % CHUNK].print;
        self.index.insert_unique(print, at, print_of);
        at
    }

    /// Adds a chunk of free entries; tells the first.
    fn grow(&mut self) -> u32 {
        let start = u32::try_from(self.chunks.len() * CHUNK).expect("bounded by the table");
        let entry = |place: usize| {
            let next = (place + 1 < CHUNK).then_some(start + place as u32 + 1);
            let kept = Kept::Free(next);
            Entry { print: 0, kept }
        };
        self.chunks.push((0..CHUNK).map(entry).collect());
        start
    }

    fn remove(&mut self, at: u32) {
        let print = self.entry(at).print;
        if let Ok(found) = self.index.find_entry(print, |other| *other == at) {
            found.remove();
        }
        let kept = Kept::Free(self.free.replace(at));
        *self.entry_mut(at) = Entry { print: 0, kept };
    }

    /// Looks at the next entries and drops what counts no more; tells how many that was.
    fn sweep(&mut self, entries: usize, now: Moment, spare: impl Fn(u32) -> bool) -> usize {
        let all = self.chunks.len() * CHUNK;
        let mut dropped = 0;
        for _ in 0..entries.min(all) {
            self.hand = if (self.hand as usize) + 1 < all {
                self.hand + 1
            } else {
                0
            };
            let is_over = match &self.entry(self.hand).kept {
                Kept::Free(_) => false,
                Kept::Bare(tally) => tally.is_over(now),
                // Nobody can come to hold it meanwhile: that needs this shard's lock.
                Kept::Held(slot) => {
                    Arc::strong_count(slot) == 1
                        && slot
                            .tally
                            .try_lock()
                            .is_some_and(|tally| tally.is_over(now))
                }
            };
            if is_over && !spare(self.hand) {
                self.remove(self.hand);
                dropped += 1;
            }
        }
        dropped
    }
}

/// All that a batch needs, locked.
struct Locked<'a> {
    shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>,
    slots: SmallVec<[(*const Slot, MutexGuard<'a, Tally>); 4]>,
    overflow: SmallVec<[(usize, MutexGuard<'a, Tally>); 4]>,
    places: SmallVec<[Place; 4]>,
}

impl Tallies for Locked<'_> {
    fn tally(&mut self, index: usize) -> &mut Tally {
        match self.places[index] {
            Place::Entry { guard, entry } => {
                match &mut self.shards[usize::from(guard)].1.entry_mut(entry).kept {
                    Kept::Bare(tally) => tally,
                    _ => unreachable!("locked since it was found"),
                }
            }
            Place::Slot { guard } => &mut self.slots[usize::from(guard)].1,
            Place::Overflow { guard } => &mut self.overflow[usize::from(guard)].1,
            Place::Nowhere => unreachable!("made where it is missing"),
        }
    }

    fn same(&self, one: usize, other: usize) -> bool {
        self.places[one] == self.places[other]
    }
}

/// The one tally of a batch of one.
struct One<'a>(&'a mut Tally);

impl Tallies for One<'_> {
    fn tally(&mut self, _index: usize) -> &mut Tally {
        self.0
    }

    fn same(&self, _one: usize, _other: usize) -> bool {
        true
    }
}

/// The tallies of a batch whose counters are all held.
struct Held<'a> {
    tallies: SmallVec<[MutexGuard<'a, Tally>; 4]>,
    guards: SmallVec<[usize; 4]>, // Where in `tallies`, by place in the batch.
}

impl<'a> Held<'a> {
    /// Locks each slot once, in the order of their places in memory.
    fn lock(mut order: SmallVec<[(usize, &'a Slot); 4]>) -> Self {
        order.sort_unstable_by_key(|(_, slot)| std::ptr::from_ref(*slot));
        let mut held = Held {
            tallies: SmallVec::new(),
            guards: SmallVec::from_elem(0, order.len()),
        };
        let mut last: Option<&Slot> = None;
        for (index, slot) in order {
            if !last.is_some_and(|last| std::ptr::eq(last, slot)) {
                held.tallies.push(slot.tally.lock());
                last = Some(slot);
            }
            held.guards[index] = held.tallies.len() - 1;
        }
        held
    }
}

impl Tallies for Held<'_> {
    fn tally(&mut self, index: usize) -> &mut Tally {
        &mut self.tallies[self.guards[index]]
    }

    fn same(&self, one: usize, other: usize) -> bool {
        self.guards[one] == self.guards[other]
    }
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
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
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
        (print >> 32) as usize % SHARDS // Other bits than the index looks at.
    }

    /// The slot of a counter, made where there is none.
    fn hold(&self, name: &str, now: Moment) -> Arc<Slot> {
        let print = self.print(name.as_bytes());
        let slot = |tally| {
            Arc::new(Slot {
                table: self.id,
                print,
                tally: Mutex::new(tally),
            })
        };
        let mut shard = self.shards[Self::shard_of(print)].lock();
        let Some(at) = shard.find(print) else {
            let dropped = shard.sweep(SWEPT, now, |_| false);
            self.len.fetch_sub(dropped, Relaxed);
            self.len.fetch_add(1, Relaxed); // Beyond the bound too: holders are bounded elsewhere.
            let slot = slot(Tally::new());
            shard.insert(print, Kept::Held(slot.clone()));
            return slot;
        };
        let kept = &mut shard.entry_mut(at).kept;
        match kept {
            Kept::Held(slot) => slot.clone(),
            Kept::Bare(tally) => {
                let slot = slot(std::mem::take(tally));
                *kept = Kept::Held(slot.clone());
                slot
            }
            Kept::Free(_) => unreachable!("the index knows no free entries"),
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
        lock_slots(&slots, &mut locked);
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
            .map(|shard| (shard, self.shards[shard].lock()))
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
        for &(index, print) in named {
            let number = Self::shard_of(print);
            let guard = locked.shards.iter().position(|(other, _)| *other == number);
            let guard = guard.expect("locked before");
            let (places, shard) = (&locked.places, &mut locked.shards[guard].1);
            let guard = u8::try_from(guard).expect("at most 128");
            let entry = match shard.find(print) {
                Some(entry) => entry,
                None if missing == Missing::Leave => continue,
                None => {
                    let spare = |entry| places.contains(&Place::Entry { guard, entry });
                    match self.make(shard, print, now, spare) {
                        Some(entry) => entry,
                        None => continue,
                    }
                }
            };
            match &shard.entry(entry).kept {
                Kept::Held(slot) => found.push((index, slot.clone())),
                _ => locked.places[index] = Place::Entry { guard, entry },
            }
        }
        found
    }

    /// Makes a bare entry; `None` where there is no room, or the overflow counts for this name.
    fn make(
        &self,
        shard: &mut Shard,
        print: u64,
        now: Moment,
        spare: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let dropped = shard.sweep(SWEPT, now, &spare);
        self.len.fetch_sub(dropped, Relaxed);
        if self.overflows.load(Relaxed) && self.overflow_counts(print, now) {
            return None;
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
            return None;
        }
        Some(shard.insert(print, Kept::Bare(Tally::new())))
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
        if let [charge] = batch {
            return match self.held(charge, now) {
                Some(_) if self.overflows.load(Relaxed) => self.take_any(batch, now),
                Some(slot) => tally::decide(batch, &mut One(&mut slot.tally.lock()), now),
                None => self.take_named(batch, now),
            };
        }
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
        tally::decide(batch, &mut Held::lock(order), now)
    }

    /// Takes from the one counter of the batch where the table knows it and nobody holds it.
    fn take_named(&self, batch: &[Charge], now: Moment) -> Verdict {
        let print = self.print(batch[0].counter.name());
        let mut shard = self.shards[Self::shard_of(print)].lock();
        if let Some(at) = shard.find(print) {
            if let Kept::Bare(tally) = &mut shard.entry_mut(at).kept {
                return tally::decide(batch, &mut One(tally), now);
            }
        }
        drop(shard);
        self.take_any(batch, now)
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
        let shard = self.shards[Self::shard_of(print)].lock();
        match shard.find(print).map(|at| &shard.entry(at).kept) {
            Some(Kept::Bare(tally)) => tally.used(now),
            Some(Kept::Held(slot)) => slot.tally.lock().used(now),
            Some(Kept::Free(_)) | None => 0,
        }
    }

    pub(crate) fn reset(&self, name: &[u8]) {
        let print = self.print(name);
        let mut shard = self.shards[Self::shard_of(print)].lock();
        let Some(at) = shard.find(print) else {
            return;
        };
        match &shard.entry(at).kept {
            Kept::Held(slot) => *slot.tally.lock() = Tally::new(),
            _ => {
                shard.remove(at);
                self.len.fetch_sub(1, Relaxed);
            }
        }
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

fn lock_slots<'a>(slots: &[&'a Slot], locked: &mut Locked<'a>) {
    let mut order: SmallVec<[&'a Slot; 4]> = SmallVec::from_slice(slots);
    order.sort_unstable_by_key(|slot| std::ptr::from_ref(*slot));
    order.dedup_by_key(|slot| std::ptr::from_ref(*slot));
    locked.slots = order
        .into_iter()
        .map(|slot| (std::ptr::from_ref(slot), slot.tally.lock()))
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
