//! Which counters are stored and known: by name, bounded.

use std::{
    borrow::Borrow,
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tollgate_core::{Moment, store::CounterRef};

use crate::reserve::Reserve;

const SHARDS: usize = 64;
const SWEPT: usize = 4; // Counters looked at with each that is made.

pub(crate) struct Registry {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    len: AtomicUsize,
    max: usize,
}

/// Every reserve is in both.
#[derive(Default)]
struct Shard {
    named: HashSet<Named, RandomState>,
    queue: VecDeque<Arc<Reserve>>, // In which order they are looked at.
}

/// A reserve, known by the name that is in it.
struct Named(Arc<Reserve>);

impl Borrow<[u8]> for Named {
    fn borrow(&self) -> &[u8] {
        self.0.name()
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Named {}

impl Hash for Named {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state); // As the slice that it is found by.
    }
}

impl Shard {
    /// Looks at the next few, and forgets those that nobody holds and that are over; tells how many.
    fn sweep(&mut self, now: Moment) -> usize {
        let mut dropped = 0;
        for _ in 0..SWEPT.min(self.queue.len()) {
            let Some(reserve) = self.queue.pop_front() else {
                break;
            };
            // Nobody can come to hold it meanwhile: that needs this shard's lock.
            let is_over = Arc::strong_count(&reserve) == 2
                && reserve
                    .hold
                    .try_lock()
                    .is_some_and(|hold| hold.is_over(now));
            if is_over {
                self.named.remove(reserve.name());
                dropped += 1;
            } else {
                self.queue.push_back(reserve);
            }
        }
        dropped
    }
}

impl Registry {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            hasher: RandomState::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            max,
        }
    }

    fn shard(&self, name: &[u8]) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(name) as usize % SHARDS]
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<Arc<Reserve>> {
        let shard = self.shard(name).lock();
        shard.named.get(name).map(|named| named.0.clone())
    }

    /// The reserve of a counter, made where there is none; `None` where there is no room.
    pub(crate) fn reserve(&self, counter: &CounterRef, now: Moment) -> Option<Arc<Reserve>> {
        let name = counter.name();
        let mut shard = self.shard(name).lock();
        if let Some(named) = shard.named.get(name) {
            return Some(named.0.clone());
        }
        let dropped = shard.sweep(now);
        self.len.fetch_sub(dropped, Relaxed);
        let bounded = |len: usize| (len < self.max).then_some(len + 1);
        self.len.fetch_update(Relaxed, Relaxed, bounded).ok()?;
        let reserve = Arc::new(Reserve::new(counter.clone()));
        shard.named.insert(Named(reserve.clone()));
        shard.queue.push_back(reserve.clone());
        Some(reserve)
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// All reserves there are now.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Reserve>> + '_ {
        let of = |shard: &Mutex<Shard>| shard.lock().queue.iter().cloned().collect::<Vec<_>>();
        self.shards.iter().flat_map(of)
    }
}
