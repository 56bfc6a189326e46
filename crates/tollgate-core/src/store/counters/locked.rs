//! The counters of a batch, locked: those of shards, held ones, and overflow counters.

use smallvec::SmallVec;

use super::{
    super::tally::{Tallies, Tally},
    Counters,
    shard::{Kept, Shard},
    slot::Slot,
};
use crate::{clock::Moment, sync::MutexGuard};

/// Where the tally of a charge is.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    Entry { guard: u8, entry: u32 }, // None is added while this is of use.
    Slot { guard: u8 },
    Overflow { guard: u8 },
    Nowhere,
}

/// All that a batch needs, locked.
pub(super) struct Locked<'a> {
    pub(super) shards: SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>,
    pub(super) slots: SmallVec<[(*const Slot, MutexGuard<'a, Tally>); 4]>,
    pub(super) overflow: SmallVec<[(usize, MutexGuard<'a, Tally>); 4]>,
    pub(super) places: SmallVec<[Place; 4]>,
}

impl Locked<'_> {
    /// The shard of this fingerprint, and its place among those that are locked.
    pub(super) fn shard(&mut self, print: u64) -> (u8, &mut Shard) {
        let number = Counters::shard_of(print);
        let guard = self.shards.iter().position(|(other, _)| *other == number);
        let guard = guard.expect("locked before");
        let place = u8::try_from(guard).expect("a batch is small");
        (place, &mut self.shards[guard].1)
    }
}

impl Tallies for Locked<'_> {
    fn tally(&mut self, index: usize) -> &mut Tally {
        match self.places[index] {
            Place::Entry { guard, entry } => {
                match &mut self.shards[usize::from(guard)].1.entries[entry as usize].kept {
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

/// The tallies of a batch whose counters are all held.
pub(super) struct Held<'a> {
    pub(super) tallies: SmallVec<[MutexGuard<'a, Tally>; 4]>,
    pub(super) guards: SmallVec<[usize; 4]>, // Where in `tallies`, by place in the batch.
}

impl<'a> Held<'a> {
    /// Locks each slot once, in the order of their places in memory.
    pub(super) fn lock(mut order: SmallVec<[(usize, &'a Slot); 4]>, now: Moment) -> Self {
        order.sort_unstable_by_key(|(_, slot)| std::ptr::from_ref(*slot));
        let mut held = Held {
            tallies: SmallVec::new(),
            guards: SmallVec::from_elem(0, order.len()),
        };
        let mut last: Option<&Slot> = None;
        for (index, slot) in order {
            if !last.is_some_and(|last| std::ptr::eq(last, slot)) {
                held.tallies.push(slot.lock(now));
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
