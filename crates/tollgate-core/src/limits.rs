//! Limits: what a rate and a quota are, and which one holds for a request.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

/// A limit of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    /// So many requests a window.
    Rate(Rate),
    /// So many requests a period.
    Quota(Quota),
}

/// So many requests in any window of this length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many requests.
    pub requests: NonZeroU64,
    /// The window's length, above zero.
    pub window: Duration,
    /// How the window is kept.
    pub algorithm: Algorithm,
}

/// How a rate's window is kept.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// The window ends now, always: never more than the rate in *any* window.
    #[default]
    Sliding,
    /// Windows lie side by side from the year 1 on, as Tyk's do. Up to twice the rate across an edge.
    FixedWindow,
    /// A window starts with the first request after the last one ended. Up to twice the rate.
    Bucket,
    /// Requests are spread evenly, and a burst of the whole rate is allowed after a rest (generic
    /// cell rate algorithm). Up to twice the rate in a window.
    Gcra,
}

/// So many requests in a period.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// How many requests.
    pub max: NonZeroU64,
    /// When it starts anew.
    pub period: Period,
}

/// When a quota starts anew.
#[derive(Clone, Debug, PartialEq)]
pub enum Period {
    /// Never: a quota for the life of its counter.
    Never,
    /// So long after the first request of the period.
    Every(Duration),
    /// With the calendar.
    Calendar(Arc<Calendar>),
}

/// Periods of the calendar of one time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    /// What a period is.
    pub unit: CalendarUnit,
    /// Where the day starts; summer time is followed.
    pub zone: jiff::tz::TimeZone,
}

/// A period of the calendar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CalendarUnit {
    /// From midnight.
    Day,
    /// From Monday's midnight.
    Week,
    /// From the first day's midnight.
    Month,
    /// From the first of January's midnight.
    Year,
}
