//! The decision over a batch of charges: all of them are counted, or none is.
//!
//! [`decide`] is for every batch. The others say the same of batches that are usual, of one charge or two where
//! nobody waits, in fewer steps.

use std::time::Duration;

use smallvec::SmallVec;

use super::{MAX_BYSTANDERS, MAX_WAITING, State, Tally, form::Ask, until};
use crate::{
    clock::{Moment, nanos},
    limits::Limit,
    store::{Charge, ChargeMode, Refused, Standing, Standings, Taken, Verdict},
};

/// The tallies of a batch, by the charge's place in it.
pub(crate) trait Tallies {
    fn tally(&mut self, index: usize) -> &mut Tally;

    /// Whether two charges go to one tally.
    fn same(&self, one: usize, other: usize) -> bool;
}

/// The tallies by place; charges of one name go to the tally of the first.
struct ByPlace<'a> {
    batch: &'a [Charge],
    tallies: &'a mut [Tally],
}

impl Tallies for ByPlace<'_> {
    fn tally(&mut self, index: usize) -> &mut Tally {
        let first = (0..index).find(|first| self.same(*first, index));
        &mut self.tallies[first.unwrap_or(index)]
    }

    fn same(&self, one: usize, other: usize) -> bool {
        self.batch[one].counter.name() == self.batch[other].counter.name()
    }
}

/// Charges all of `batch` or nothing. `tallies` are in the batch's order; of several charges with one
/// name only the first one's tally is used.
///
/// # Panics
///
/// Panics if there is not one tally for each charge.
pub fn take(batch: &[Charge], tallies: &mut [Tally], now: Moment) -> Verdict {
    assert_eq!(batch.len(), tallies.len(), "one tally for each charge");
    decide(batch, &mut ByPlace { batch, tallies }, now)
}

/// What [`take`] would say, charging nothing: the standings are those of now. The tallies may change
/// form.
///
/// # Panics
///
/// Panics if there is not one tally for each charge.
pub fn look(batch: &[Charge], tallies: &mut [Tally], now: Moment) -> Verdict {
    assert_eq!(batch.len(), tallies.len(), "one tally for each charge");
    let tallies = &mut ByPlace { batch, tallies };
    examine(batch, tallies, now).verdict(batch, tallies)
}

/// What came of one charge, looked at alone.
pub(crate) enum Alone {
    /// It was counted.
    Taken(Standing),
    /// It was refused; the time until it passes.
    Refused(Option<Duration>, Standing),
    /// Somebody waits, or it would wait or be watched: [`decide`] has to.
    Unclear,
}

#[inline(always)]
pub(crate) fn charge_alone(charge: &Charge, tally: &mut Tally, now: Moment) -> Alone {
    tally.fit(&charge.limit, now);
    if matches!(tally.0, State::Queued(_)) {
        return Alone::Unclear;
    }
    let (ask, cost) = (Ask::new(&charge.limit, now), charge.cost.get());
    if tally.0.fits(&ask, cost) {
        return Alone::Taken(tally.0.count(&ask, cost));
    }
    if !refuses(charge) {
        return Alone::Unclear;
    }
    let earliest = tally.0.earliest(&ask, cost);
    let standing = tally.0.standing(&ask, true);
    Alone::Refused(earliest.map(|at| until(at, now)), standing)
}

/// What [`decide`] says to a batch of one charge, by a shorter way where nobody waits.
#[inline]
pub(crate) fn decide_one(batch: &[Charge; 1], tally: &mut Tally, now: Moment) -> Verdict {
    match charge_alone(&batch[0], tally, now) {
        Alone::Taken(standing) => taken(now, [standing]),
        Alone::Refused(retry_in, standing) => refused(0, retry_in, [standing]),
        Alone::Unclear => decide_apart(batch, [tally], now),
    }
}

/// [`decide`] for counters of which no two are one.
#[cold]
#[inline(never)]
pub(crate) fn decide_apart<const N: usize>(
    batch: &[Charge; N],
    tallies: [&mut Tally; N],
    now: Moment,
) -> Verdict {
    decide(batch, &mut Apart(tallies), now)
}

/// The same for two charges with a tally each.
pub(crate) fn decide_two(batch: &[Charge; 2], tallies: [&mut Tally; 2], now: Moment) -> Verdict {
    let ([first, second], [one, two]) = (batch, tallies);
    one.fit(&first.limit, now);
    two.fit(&second.limit, now);
    if matches!(one.0, State::Queued(_)) || matches!(two.0, State::Queued(_)) {
        return decide_apart(batch, [one, two], now);
    }
    let asks = [first, second].map(|charge| Ask::new(&charge.limit, now));
    let costs = [first, second].map(|charge| charge.cost.get());
    let exceeded = [
        !one.0.fits(&asks[0], costs[0]),
        !two.0.fits(&asks[1], costs[1]),
    ];
    if exceeded == [false; 2] {
        let first = one.0.count(&asks[0], costs[0]);
        let second = two.0.count(&asks[1], costs[1]);
        return taken(now, [first, second]);
    }
    if (exceeded[0] && !refuses(first)) || (exceeded[1] && !refuses(second)) {
        return decide_apart(batch, [one, two], now);
    }
    let earliest = [
        one.0.earliest(&asks[0], costs[0]),
        two.0.earliest(&asks[1], costs[1]),
    ];
    let retry_at = match earliest {
        [Some(first), Some(second)] => Some(first.max(second)),
        _ => None,
    };
    let standings = [
        one.0.standing(&asks[0], exceeded[0]),
        two.0.standing(&asks[1], exceeded[1]),
    ];
    let retry_in = retry_at.map(|at| until(at, now));
    refused(usize::from(!exceeded[0]), retry_in, standings)
}

/// Charges counters of which no two are one, if all have room and nobody waits at them; tells whether it
/// did.
#[cold]
pub(crate) fn admit<const N: usize>(
    batch: &[Charge; N],
    mut tallies: [&mut Tally; N],
    now: Moment,
) -> bool {
    let charges = || {
        batch
            .iter()
            .map(|charge| (Ask::new(&charge.limit, now), charge.cost.get()))
    };
    let mut asked = tallies.iter_mut().zip(charges());
    let has_room = asked.all(|(tally, (ask, cost))| tally.has_room(&ask, cost));
    if has_room {
        for (tally, (ask, cost)) in tallies.iter_mut().zip(charges()) {
            tally.0.add(&ask, cost);
        }
    }
    has_room
}

/// Whether it neither waits nor only watches.
pub(crate) fn refuses(charge: &Charge) -> bool {
    charge.mode == ChargeMode::Enforce
        && (charge.patience.is_zero() || matches!(charge.limit, Limit::Quota(_)))
}

// A verdict is some hundred bytes, most of them room for standings that are not there. So it is made
// without any where it is returned, and then gets those it has: nothing large is ever moved.
#[inline(always)]
pub(crate) fn taken<const N: usize>(now: Moment, standings: [Standing; N]) -> Verdict {
    let mut verdict = Verdict::Taken(Taken {
        standings: Standings::new(),
        wait: Duration::ZERO,
        at: now,
    });
    if let Verdict::Taken(taken) = &mut verdict {
        for standing in standings {
            taken.standings.push(standing);
        }
    }
    verdict
}

#[inline(always)]
pub(crate) fn refused<const N: usize>(
    index: usize,
    retry_in: Option<Duration>,
    standings: [Standing; N],
) -> Verdict {
    let mut verdict = Verdict::Refused(Refused {
        index,
        retry_in,
        standings: Standings::new(),
    });
    if let Verdict::Refused(refused) = &mut verdict {
        for standing in standings {
            refused.standings.push(standing);
        }
    }
    verdict
}

/// A tally for each charge.
struct Apart<'a, const N: usize>([&'a mut Tally; N]);

impl<const N: usize> Tallies for Apart<'_, N> {
    fn tally(&mut self, index: usize) -> &mut Tally {
        self.0[index]
    }

    fn same(&self, one: usize, other: usize) -> bool {
        one == other
    }
}

/// Looks at all charges, then adds to all, or to none.
pub(crate) fn decide(batch: &[Charge], tallies: &mut impl Tallies, now: Moment) -> Verdict {
    let look = examine(batch, tallies, now);
    let admitted = if look.refused.is_none() { batch } else { &[] };
    for (index, charge) in admitted.iter().enumerate() {
        if look.exceeded[index] {
            continue; // Only watched.
        }
        let tally = tallies.tally(index);
        if now.ticks < look.turn {
            tally.0.queue(&charge.limit, look.turn, charge.cost.get());
        } else {
            if 1 < batch.len() {
                tally.fit(&charge.limit, now); // Another charge of the batch may have changed it.
            }
            let ask = Ask::new(&charge.limit, now);
            tally.0.add(&ask, charge.cost.get());
        }
    }
    look.verdict(batch, tallies)
}

fn examine(batch: &[Charge], tallies: &mut impl Tallies, now: Moment) -> Look {
    let mut look = Look::new(now);
    for (index, charge) in batch.iter().enumerate() {
        let before = (0..index).filter(|before| tallies.same(*before, index));
        let before = before.map(|before| batch[before].cost.get());
        let cost = before.fold(charge.cost.get(), u64::saturating_add);
        let tally = tallies.tally(index);
        tally.fit(&charge.limit, now);
        look.at(index, charge, tally, cost);
    }
    if look.refused.is_none() && now.ticks < look.turn {
        look.refused =
            (0..batch.len()).find(|index| MAX_BYSTANDERS <= tallies.tally(*index).waiting().0);
    }
    look
}

/// What was seen of a batch so far.
struct Look {
    now: Moment,
    turn: u64, // When all who are patient have their turn.
    refused: Option<usize>,
    retry_at: Option<u64>,
    exceeded: SmallVec<[bool; 4]>,
}

impl Look {
    fn new(now: Moment) -> Self {
        Self {
            now,
            turn: now.ticks,
            refused: None,
            retry_at: Some(now.ticks),
            exceeded: SmallVec::new(),
        }
    }

    fn at(&mut self, index: usize, charge: &Charge, tally: &Tally, cost: u64) {
        let now = self.now.ticks;
        let earliest = tally.0.earliest(&Ask::new(&charge.limit, self.now), cost);
        let fits = earliest.is_some_and(|at| at <= now);
        if fits || charge.mode == ChargeMode::Observe {
            self.exceeded.push(!fits);
            return;
        }
        let patient = matches!(charge.limit, Limit::Rate(_))
            && tally.waiting().1.saturating_add(cost) <= MAX_WAITING;
        match earliest {
            Some(at) if patient && at - now <= nanos(charge.patience) => {
                self.turn = self.turn.max(at);
                self.exceeded.push(false);
            }
            _ => {
                self.refused.get_or_insert(index);
                self.retry_at = self
                    .retry_at
                    .and_then(|retry_at| Some(retry_at.max(earliest?)));
                self.exceeded.push(true);
            }
        }
    }
}

impl Look {
    fn verdict(&self, batch: &[Charge], tallies: &mut impl Tallies) -> Verdict {
        let now = self.now;
        let standings = standings(batch, tallies, now, &self.exceeded);
        if let Some(index) = self.refused {
            let retry_at = self.retry_at.map(|at| at.max(self.turn) - now.ticks);
            return Verdict::Refused(Refused {
                index,
                retry_in: retry_at.map(Duration::from_nanos),
                standings,
            });
        }
        let wait = Duration::from_nanos(self.turn - now.ticks);
        Verdict::Taken(Taken {
            standings,
            wait,
            at: now.after(wait),
        })
    }
}

fn standings(
    batch: &[Charge],
    tallies: &mut impl Tallies,
    now: Moment,
    exceeded: &[bool],
) -> Standings {
    let charges = batch.iter().zip(exceeded).enumerate();
    charges
        .map(|(index, (charge, exceeded))| {
            let tally = tallies.tally(index);
            let ask = Ask::new(&charge.limit, now);
            tally.0.standing(&ask, *exceeded)
        })
        .collect()
}
