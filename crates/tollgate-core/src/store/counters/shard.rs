//! A part of the table: open addressing, sorted by fingerprint.

use std::sync::Arc;

use super::{super::tally::Tally, slot::Slot};
use crate::clock::Moment;

/// What has a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Line<T>(pub(super) T);

/// A part of the table: entries in the order of their fingerprints, with gaps between.
///
/// An entry stands at the place that its fingerprint has of the whole range, or as soon after it as
/// those before leave room. So it is found in the cache line that is looked at first, or the next, and
/// whoever is not there is missed as soon.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) entries: Vec<Entry>, // `places` and a few more, so that none has to go on at the start.
    pub(super) places: usize,
    pub(super) len: usize,
    pub(super) hand: usize,
}

#[repr(align(32))] // So that none lies in two lines of the cache.
pub(super) struct Entry {
    pub(super) print: u64,
    pub(super) kept: Kept,
}

pub(super) enum Kept {
    Free,
    Bare(Tally),
    Held(Arc<Slot>),
}

const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    pub(super) const FREE: Self = Self {
        print: 0,
        kept: Kept::Free,
    };

    pub(super) fn is_free(&self) -> bool {
        matches!(self.kept, Kept::Free)
    }
}

const NEAR: usize = 4; // In one, two or three lines of the cache.

impl Shard {
    pub(super) const SPARE: usize = 32; // Places after the last that a fingerprint has.

    fn home(&self, print: u64) -> usize {
        // Below `places`, and the larger the larger the fingerprint is.
        ((u128::from(print) * self.places as u128) >> 64) as usize
    }

    /// Where it is, or would have to be.
    pub(super) fn seek(&self, print: u64) -> Result<usize, usize> {
        let mut at = self.home(print);
        while let Some(entry) = self.entries.get(at) {
            if entry.is_free() || print < entry.print {
                break;
            }
            if print == entry.print {
                return Ok(at);
            }
            at += 1;
        }
        Err(at)
    }

    /// Where it is. The first few entries are compared without a branch for each: how far an entry stands from its
    /// place is chance, and a processor that guessed wrong would begin with nothing else until the entry has come.
    #[inline]
    pub(super) fn find(&self, print: u64) -> Option<usize> {
        let home = self.home(print);
        let near = self
            .entries
            .get(home..)
            .and_then(<[Entry]>::first_chunk::<NEAR>);
        let found = near.map_or(0, |near| {
            let is_it = |(place, entry): (usize, &Entry)| u32::from(entry.print == print) << place;
            near.iter()
                .enumerate()
                .map(is_it)
                .fold(0, |found, it| found | it)
        });
        if found == 0 || print == Entry::FREE.print {
            return self.seek(print).ok();
        }
        Some(home + found.trailing_zeros() as usize)
    }

    /// Puts an entry that is not there; those after it move on.
    pub(super) fn insert(&mut self, print: u64, kept: Kept) {
        if 7 * self.places <= 9 * self.len {
            self.grow();
        }
        loop {
            let at = match self.seek(print) {
                Ok(at) | Err(at) => at,
            };
            let gap = self.entries[at..].iter().position(Entry::is_free);
            let Some(gap) = gap else {
                self.grow(); // The spare places are full.
                continue;
            };
            self.entries[at..=at + gap].rotate_right(1);
            self.entries[at] = Entry { print, kept };
            self.len += 1;
            return;
        }
    }

    /// A sixteenth more places: so that the emptiest table is not much larger than the fullest.
    #[cold]
    pub(super) fn grow(&mut self) {
        self.places += (self.places / 16).max(8);
        let places = self.places + Self::SPARE.min(self.places);
        let old = std::mem::replace(&mut self.entries, Vec::with_capacity(places));
        for entry in old {
            if !entry.is_free() {
                let home = self.home(entry.print);
                while self.entries.len() < home {
                    self.entries.push(Entry::FREE);
                }
                self.entries.push(entry);
            }
        }
        while self.entries.len() < places {
            self.entries.push(Entry::FREE);
        }
    }

    /// Takes an entry away; those that stand too late because of it move back.
    pub(super) fn remove(&mut self, at: usize) {
        let is_late = |(place, entry): (usize, &Entry)| {
            !entry.is_free() && self.home(entry.print) < at + 1 + place
        };
        let after = self.entries[at + 1..].iter().enumerate();
        let late = after.take_while(|next| is_late(*next)).count();
        self.entries[at] = Entry::FREE;
        self.entries[at..=at + late].rotate_left(1);
        self.len -= 1;
    }

    /// Looks at the next entries and drops what counts no more; tells how many that was.
    pub(super) fn sweep(
        &mut self,
        entries: usize,
        now: Moment,
        spare: impl Fn(u64) -> bool,
    ) -> usize {
        let mut dropped = 0;
        for _ in 0..entries.min(self.entries.len()) {
            if self.entries.len() <= self.hand {
                self.hand = 0;
            }
            let Entry { print, kept } = &self.entries[self.hand];
            let is_over = match kept {
                Kept::Free => false,
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
            if is_over && !spare(*print) {
                self.remove(self.hand); // The next one may stand here now.
                dropped += 1;
            } else {
                self.hand += 1;
            }
        }
        dropped
    }
}
