//! Leases: how many machines share one limit without asking for each request.
//!
//! One place, the *record*, counts what it has handed out; a *holder* on each node draws a chunk of
//! the limit from it and admits requests from that chunk. [`LeaseRecord`] and [`LeaseHolder`] are the
//! two halves as plain state: they do no I/O, read no clock and roll no dice, so a server's script, a
//! record on a disk and a mutex in one process can carry the same protocol.
//!
//! ```
//! use std::num::NonZeroU64;
//! use tollgate_core::lease::{
//!     HolderTerms, LeaseHolder, LeaseRecord, LeaseSpan, LeaseTake, LeaseTerms, NodeId,
//! };
//!
//! const SECOND: u64 = 1_000_000_000;
//! let limit = NonZeroU64::new(1000).expect("above zero");
//! let mut record = LeaseRecord::new();
//! let mut holder = LeaseHolder::new(NodeId(1));
//! let here = HolderTerms {
//!     limit,
//!     horizon_nanos: SECOND,
//!     period_nanos: 60 * SECOND,
//!     grain_nanos: 0,
//! };
//!
//! // Nothing is held yet: the node asks, at a time of its own clock.
//! let LeaseTake::NeedMore { want } = holder.take(&here, 5 * SECOND, 1) else { unreachable!() };
//! let ask = holder.ask(5 * SECOND, want).expect("nothing is on its way");
//!
//! // The store answers, at a time of its own.
//! let there = LeaseTerms {
//!     limit,
//!     span: LeaseSpan::Epoch { ends_nanos: 160 * SECOND },
//!     ttl_nanos: SECOND,
//! };
//! let grant = record.acquire(&there, &ask, 100 * SECOND);
//!
//! assert!(holder.granted(&here, &grant, 5 * SECOND + 1_000_000));
//! assert!(matches!(holder.take(&here, 5 * SECOND + 2_000_000, 1), LeaseTake::Taken { .. }));
//! ```
//!
//! # Times
//!
//! All are nanoseconds. Those a record is given are the store's, those a holder is given are the
//! node's own monotonic clock; the two are never compared. What crosses between them are lengths of
//! time alone: how long an epoch still lasts, how long a lease may be used.
//!
//! # Why the limit is never exceeded
//!
//! Write G for all units granted in an epoch and S for all that came back to the record.
//!
//! 1. *The record never hands out too much.* Each call is one step of the store. It grants at most
//!    what the limit leaves, so after every step `used = G − S`, at or below the limit.
//! 2. *Each admitted request has a unit of its own.* A holder admits by taking units off a chunk that
//!    a grant gave it, and takes an answer only for the lease it waits for, once. Units it sends back
//!    leave the chunk before the message is made, and the record honours one settlement a lease. So
//!    what was admitted is at or below `G − S`.
//! 3. *No unit outlives its epoch.* A chunk is void from `sent + (length − drift)` on, where `sent` was
//!    read before the question left and `length` is what the record said was left. The record answered
//!    no earlier than `sent`. A clock that is [`DRIFT`] slower than the store's needs at most `length`
//!    of the store's time for the shortened length. So the chunk is void before the epoch ends.
//!
//! Lost answers, doubled, late and reordered messages only lose units: they are granted and nobody
//! uses them. A crash loses what the node held. Both are under-use, bounded by the size of a chunk.
//!
//! *Sliding windows* have no epochs. There a unit granted at `g` may be used until `g + δ`, and the
//! record looks at windows of `P + δ`. All that is admitted in a window of `P` that starts at `x` was
//! granted in the window of `P + δ` that starts at `x − δ`, in which the record grants no more than the
//! limit. What it costs is throughput: the limit each `P + δ`.
//!
//! A node says with [`Settle`] how long ago the units of a chunk were used, a few at a time. A record that counts each
//! unit by a moment of its own may then count them from there on: each unit counts at or after its use all the time, at
//! first at `g + δ`, then at a moment that no use of as many units came after, and that is all that is needed. The
//! store on Redis does so; the one here does not.
//!
//! # What is not promised
//!
//! - A store that loses its last writes (an asynchronous fail-over) has forgotten grants. Each holder
//!   tells with every question how much it was granted in the epoch, and the record takes the larger
//!   number, so the count is whole again once each live node has asked. Until then at most as much as
//!   was forgotten is granted twice.
//! - A *step* of the store's wall clock ends an epoch early: each epoch keeps its limit, and two
//!   overlap for as long as a lease lasts.
//! - A node that goes on alone while the store is away ([`LeaseHolder::take_alone`]) has its share of
//!   the limit besides what was granted.

pub mod holder;
pub mod record;
#[cfg(feature = "test-util")]
pub mod simulation;

use std::num::NonZeroU64;

use smallvec::SmallVec;

pub use holder::{HolderTerms, LeaseHolder, LeaseTake, Spent};
pub use record::LeaseRecord;

/// How far a node's clock and the store's may drift apart: one part in so many, 500 in a million.
pub const DRIFT: u64 = 2000;

/// A chunk is at most one part in so many of what each holder could have: what all hold unused is at
/// most half of what is left.
pub const CHUNKS: u64 = 2;

/// One life of one holder. No two processes have the same, nor one before and after a restart.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(pub u64);

/// Names one lease, so that a question asked twice is answered once.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseId {
    /// Who asked.
    pub node: NodeId,
    /// Counts the questions of this node.
    pub serial: u64,
}

/// A period of a record: the store's nanosecond at which it began. A later one is larger, also when
/// the store has forgotten the one before.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch(pub u64);

/// What a record counts by. It comes with the question, so it may change and the count stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseTerms {
    /// How many units.
    pub limit: NonZeroU64,
    /// In what time.
    pub span: LeaseSpan,
    /// How long a lease may be used at most, in nanoseconds. Units of a node that went silent come
    /// back no sooner.
    pub ttl_nanos: u64,
}

/// The time in which a limit holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseSpan {
    /// A period of a quota, or a fixed window.
    Epoch {
        /// The store's nanosecond at which an epoch that begins now would end: now and a length, the
        /// calendar's edge, or `u64::MAX` for never. An epoch that runs keeps the end it began with.
        ends_nanos: u64,
    },
    /// Any window of this length.
    Sliding {
        /// The window.
        window_nanos: u64,
        /// How long a unit may be used after it was granted. The record counts windows that are longer
        /// by as much; with a dilation of zero nothing can be used.
        dilation_nanos: u64,
    },
}

/// A lease of which no unit will be used any more: those that nobody has used, and when the others were.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settle {
    /// The lease.
    pub lease: LeaseId,
    /// The epoch it was granted in.
    pub epoch: Epoch,
    /// How many nobody has used.
    pub unused: u64,
    /// When the others were used, the oldest first; empty where the holder was not told to say so
    /// ([`HolderTerms::grain_nanos`]).
    pub used: SmallVec<[Used; 4]>,
}

/// Units of a lease that were used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Used {
    /// How many.
    pub units: u64,
    /// How long ago the last of them was used at least, in nanoseconds of the store, when the message was made. A record
    /// of a sliding window may count them as used so long before the message came.
    pub idle_nanos: u64,
}

/// A few settlements.
pub type Settles = SmallVec<[Settle; 4]>;

/// A question for more units.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// Names the lease. Asked again, it is answered as it was.
    pub lease: LeaseId,
    /// How many units; fewer may come.
    pub want: u64,
    /// How many are of use: the record gives a node more than its part where a request costs that much.
    pub least: u64,
    /// The epoch of the last grant that the node has seen.
    pub epoch: Epoch,
    /// All that the node was granted in that epoch, to mend a record that forgot some of it.
    pub granted: u64,
    /// What the node admitted alone while the store was away.
    pub alone: u64,
    /// Units of earlier leases that come back.
    pub settles: Settles,
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Which lease.
    pub lease: LeaseId,
    /// The epoch whose units these are.
    pub epoch: Epoch,
    /// How many; zero where nothing is left.
    pub granted: u64,
    /// How long until no unit of this grant may be used, whatever its lease says, in nanoseconds.
    pub ends_in_nanos: u64,
    /// How long the lease may be used, in nanoseconds.
    pub ttl_nanos: u64,
    /// How much is handed out, this grant included.
    pub used: u64,
    /// How many nodes hold leases, this one included.
    pub holders: u64,
    /// When there may be more, in nanoseconds: zero where there is, `u64::MAX` for never.
    pub retry_in_nanos: u64,
}

impl Grant {
    /// How long after the question was sent the units are void, by the clock that sent it.
    pub fn lifetime_nanos(&self) -> u64 {
        let length = self.ends_in_nanos.min(self.ttl_nanos);
        // One more for a clock that rounds down.
        length.saturating_sub(length.div_ceil(DRIFT) + 1)
    }
}

/// How a limit that many nodes share is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseMode {
    /// The store is asked for each request.
    Exact,
    /// Units are leased.
    Leased,
}

impl LeaseMode {
    /// Periods below this, 200 ms, are kept exactly: a lease would outlast too much of them.
    pub const SHORTEST_NANOS: u64 = 200_000_000;

    /// Which mode suits. `holders` are the nodes that use the limit, `node_per_second` what this one
    /// is asked for.
    ///
    /// Exact where a chunk would be hardly more than a unit, where the period is short, and where this
    /// node would let a lease lie. A node may change its mind at any time: asking for one unit and
    /// using it at once *is* the exact mode, on the same record.
    pub fn choose(limit: u64, period_nanos: u64, holders: u64, node_per_second: f64) -> Self {
        let few = limit < 4 * CHUNKS * holders.max(1);
        if few || period_nanos < Self::SHORTEST_NANOS || node_per_second < 1.0 {
            Self::Exact
        } else {
            Self::Leased
        }
    }
}

/// How many units a node asks for: what it needs for one horizon, and no more than its part of what
/// is left.
pub fn chunk(demand: u64, remaining: u64, holders: u64) -> u64 {
    let part = remaining / CHUNKS.saturating_mul(holders.max(1));
    demand.min(part).max(1)
}
