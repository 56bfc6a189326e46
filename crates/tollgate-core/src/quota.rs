//! How a quota is counted: the state of one counter, with the time passed in.
//!
//! A period starts with its first request. One of a fixed length ends by the monotonic clock, so
//! that nobody's clock setting shortens it; one of the calendar ends when the wall clock says so. A
//! changed maximum acts at once, a changed period from the next one on.
//!
//! See [`limits`](crate::limits) and [`tally`](crate::store::tally) for examples.

use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};

use crate::{
    clock::{Moment, nanos},
    limits::{Calendar, CalendarUnit, Period, Quota},
};

/// When a period ends, and by which clock, in one word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ends(u64);

impl Ends {
    const WALL: u64 = 1 << 63; // Nanoseconds since 1970 reach this bit in the year 2262.
    const NEVER: Self = Self(Self::WALL - 1);

    /// When a period that starts now ends.
    fn of(period: &Period, now: Moment) -> Self {
        match period {
            Period::Never => Self::NEVER,
            Period::Every(length) => {
                let end = now.ticks.saturating_add(nanos(*length).max(1));
                Self(end.min(Self::NEVER.0))
            }
            Period::Calendar(calendar) => Self(calendar.end_of_period(now.unix_nanos) | Self::WALL),
        }
    }

    fn is_past(self, now: Moment) -> bool {
        if self.0 & Self::WALL != 0 {
            self.0 & !Self::WALL <= now.unix_nanos
        } else {
            self != Self::NEVER && self.0 <= now.ticks
        }
    }

    /// The tick at which it is past; `None` for never.
    pub(crate) fn tick(self, now: Moment) -> Option<u64> {
        if self == Self::NEVER {
            return None;
        }
        if self.0 & Self::WALL == 0 {
            return Some(self.0.max(now.ticks));
        }
        let left = (self.0 & !Self::WALL).saturating_sub(now.unix_nanos);
        Some(now.ticks.saturating_add(left))
    }
}

/// One period and what was used in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuotaState {
    pub(crate) used: u64,
    /// The tick of the first request: what was taken before belongs to an earlier period.
    pub(crate) start: u64,
    pub(crate) ends: Ends,
}

impl QuotaState {
    pub(crate) fn new(quota: &Quota, now: Moment) -> Self {
        Self {
            used: 0,
            start: now.ticks,
            ends: Ends::of(&quota.period, now),
        }
    }

    pub(crate) fn used(&self, now: Moment) -> u64 {
        if self.ends.is_past(now) { 0 } else { self.used }
    }

    /// The tick from which on `cost` more fit; `None` for never. `cost` is not above the maximum.
    pub(crate) fn earliest(&self, max: u64, now: Moment, cost: u64) -> Option<u64> {
        if self.used(now).saturating_add(cost) <= max {
            return Some(now.ticks);
        }
        self.ends.tick(now)
    }

    /// The tick at which what is counted now counts no more; `None` for never.
    pub(crate) fn resets_at(&self, now: Moment) -> Option<u64> {
        if self.used(now) == 0 {
            return Some(now.ticks);
        }
        self.ends.tick(now)
    }

    pub(crate) fn add(&mut self, quota: &Quota, now: Moment, cost: u64) {
        // A period that nobody has used has not started.
        if self.used(now) == 0 {
            *self = Self::new(quota, now);
        }
        self.used = self.used.saturating_add(cost);
    }

    pub(crate) fn give_back(&mut self, taken_at: Moment, cost: u64) {
        if self.start <= taken_at.ticks && !self.ends.is_past(taken_at) {
            self.used = self.used.saturating_sub(cost);
        }
    }

    /// Makes the period end no earlier than one of this quota that starts now: for a counter that
    /// many quotas share.
    pub(crate) fn extend(&mut self, quota: &Quota, now: Moment) {
        let own = Ends::of(&quota.period, now).tick(now);
        self.ends = match (self.ends.tick(now), own) {
            (Some(end), Some(own)) => Ends(end.max(own).min(Ends::NEVER.0)),
            _ => Ends::NEVER,
        };
    }
}

impl Calendar {
    /// The nanosecond since 1970 at which the period of `unix_nanos` ends.
    ///
    /// A midnight that summer time skips is the first moment after it; one that comes twice is the
    /// earlier. Past the end of what is counted, in the year 2262, periods never end.
    pub fn end_of_period(&self, unix_nanos: u64) -> u64 {
        const LAST: u64 = Ends::WALL - 1;
        let end = || {
            let now = Timestamp::from_nanosecond(i128::from(unix_nanos)).ok()?;
            let today = now.to_zoned_datetime(self.zone.clone()).date();
            let end = midnight(next_start(self.unit, today)?, &self.zone)?;
            u64::try_from(end.as_nanosecond()).ok()
        };
        end()
            .filter(|end| unix_nanos < *end)
            .map_or(LAST, |end| end.min(LAST))
    }
}

fn midnight(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    Some(date.to_zoned_datetime(zone.clone()).ok()?.timestamp())
}

/// The first day of the next period.
fn next_start(unit: CalendarUnit, today: Date) -> Option<Date> {
    match unit {
        CalendarUnit::Day => today.tomorrow(),
        CalendarUnit::Week => {
            let days_left = 7 - today.weekday().to_monday_zero_offset();
            today.checked_add(Span::new().days(days_left))
        }
        CalendarUnit::Month => today.last_of_month().tomorrow(),
        CalendarUnit::Year => today.last_of_year().tomorrow(),
    }
    .ok()
}
