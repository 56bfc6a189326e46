//! Limits: what a rate and a quota are, and which one holds for a request.
//!
//! A [`Rate`] is so many requests in a window, a [`Quota`] so many in a period. [`ApiLimits::of`]
//! tells which of a session's limits hold for one API:
//!
//! - the limit of the API's entry in `access_rights`, where any number in it is set: it replaces
//!   *all* of the session's own;
//! - the session's own otherwise;
//! - and of either, an endpoint's entry replaces the rate alone: [`ApiLimits::with_endpoint`].
//!
//! # Example
//!
//! ```
//! use tollgate_core::{Session, limits::ApiLimits};
//!
//! let session: Session = r#"{
//!     "rate": 100, "per": 60, "quota_max": 1000, "quota_renewal_rate": 3600,
//!     "access_rights": {"orders": {"limit": {"rate": 0.5, "per": 1}}, "users": {}}
//! }"#.parse()?;
//!
//! let users = ApiLimits::of(&session, &"users".into())?;
//! assert_eq!(users.rate.map(|rate| rate.requests.get()), Some(100));
//!
//! // One request every two seconds, and no quota: the entry replaces all.
//! let orders = ApiLimits::of(&session, &"orders".into())?;
//! assert_eq!(orders.rate.map(|rate| rate.window.as_secs()), Some(2));
//! assert_eq!(orders.quota, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Differences from Tyk
//!
//! - Fractions work: 0.5 per 1 s is one request every two seconds, and a window of 1.9 s lasts 1.9 s.
//! - A rate with a window that is no length of time is an error when the session is read, never "no
//!   limit" or "nothing passes".
//! - An entry that sets only `smoothing` keeps the session's numbers. An allowance is never above the rate, and what a
//!   client is told is the allowance.

use std::{
    fmt,
    num::{NonZeroU32, NonZeroU64},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use crate::{
    ids::ApiId,
    session::{ApiLimit, Session, Smoothing},
};

/// A limit of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    /// So many requests a window.
    Rate(Rate),
    /// So many requests a period.
    Quota(Quota),
}

impl Limit {
    /// How many requests.
    pub fn max(&self) -> u64 {
        match self {
            Self::Rate(rate) => rate.requests.get(),
            Self::Quota(quota) => quota.max.get(),
        }
    }
}

impl From<Rate> for Limit {
    fn from(rate: Rate) -> Self {
        Self::Rate(rate)
    }
}

impl From<Quota> for Limit {
    fn from(quota: Quota) -> Self {
        Self::Quota(quota)
    }
}

/// So many requests in any window of this length.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many requests.
    pub requests: NonZeroU64,
    /// The window's length. One of zero is kept as one of a nanosecond.
    pub window: Duration,
    /// How the window is kept.
    pub algorithm: Algorithm,
    /// How many of the requests are allowed, where that grows and shrinks with use. Only a sliding window
    /// does so.
    pub steps: Option<RateSteps>,
}

impl Rate {
    /// So many requests in a window of this length.
    ///
    /// # Panics
    ///
    /// Panics if either is zero. Numbers that come from a record go through
    /// [`from_wire`](Self::from_wire), which does not.
    #[track_caller]
    pub const fn per(requests: u64, window: Duration) -> Self {
        assert!(!window.is_zero(), "a window of no length");
        Self {
            requests: NonZeroU64::new(requests).expect("a rate of no requests"),
            window,
            algorithm: Algorithm::Sliding,
            steps: None,
        }
    }

    /// So many requests in any second.
    ///
    /// # Panics
    ///
    /// Panics if `requests` is zero.
    #[track_caller]
    pub const fn per_second(requests: u64) -> Self {
        Self::per(requests, Duration::from_secs(1))
    }

    /// So many requests in any minute.
    ///
    /// # Panics
    ///
    /// Panics if `requests` is zero.
    #[track_caller]
    pub const fn per_minute(requests: u64) -> Self {
        Self::per(requests, Duration::from_secs(60))
    }

    /// The same rate, kept in another way.
    #[must_use]
    pub const fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// The same rate, of which so many requests are allowed as its use calls for.
    #[must_use]
    pub const fn with_steps(mut self, steps: Option<RateSteps>) -> Self {
        self.steps = steps;
        self
    }

    /// Reads Tyk's `rate` and `per`, in which a rate of zero and below means "no limit".
    ///
    /// A rate of 1 and above counts whole requests: 2.9 are 2. One below 1 is one request in
    /// `per / rate` seconds.
    ///
    /// # Errors
    ///
    /// Fails where a number is not one, or a rate above zero has no window above zero.
    pub fn from_wire(
        rate: f64,
        per: f64,
        algorithm: Algorithm,
    ) -> Result<Option<Self>, LimitError> {
        if !rate.is_finite() {
            return Err(LimitError::new("rate", "a finite number", rate));
        }
        if rate <= 0.0 {
            return Ok(None);
        }
        if !per.is_finite() || per <= 0.0 {
            return Err(LimitError::new("per", "a number above zero", per));
        }
        let window = if rate < 1.0 { per / rate } else { per };
        // `as` saturates, so 1e308 requests are as many as can be counted.
        let requests = NonZeroU64::new(rate as u64).unwrap_or(NonZeroU64::MIN);
        Ok(Some(Self {
            requests,
            window: seconds(window).max(Duration::from_nanos(1)),
            algorithm,
            steps: None,
        }))
    }

    /// The window in nanoseconds, above zero.
    pub(crate) fn window_nanos(&self) -> u64 {
        // As `nanos`, without its wide arithmetic: this is asked several times a request.
        let seconds = self.window.as_secs().saturating_mul(1_000_000_000);
        seconds
            .saturating_add(self.window.subsec_nanos().into())
            .max(1)
    }
}

/// So many seconds, or the longest time that is counted, about 584 years.
fn seconds(seconds: f64) -> Duration {
    const LONGEST: Duration = Duration::from_nanos(u64::MAX);
    Duration::try_from_secs_f64(seconds).map_or(LONGEST, |duration| duration.min(LONGEST))
}

/// How the allowance of a rate grows and shrinks with use: Tyk's smoothing.
///
/// It begins with a threshold. When it is nearly used up it grows by a step, up to the rate; when there is
/// more than a step to spare it shrinks by one, down to the threshold; and it stays for a while each time.
///
/// ```
/// use tollgate_core::{limits::RateSteps, session::Smoothing};
///
/// let smoothing = Smoothing {
///     enabled: true, threshold: 400, trigger: 0.5, step: 100, delay: 30, ..Smoothing::default()
/// };
/// let steps = RateSteps::from_wire(&smoothing).expect("it is valid");
/// assert_eq!(steps.next(600, 550, 1000), 700);
/// assert_eq!(steps.next(600, 500, 1000), 600);
/// assert_eq!(steps.next(600, 450, 1000), 500);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RateSteps {
    threshold: NonZeroU32,
    step: NonZeroU32,
    margin: u32, // Requests short of the allowance from which on it grows: whole ones.
    margin_down: u32, // Requests more than a step below it up to which it shrinks.
    delay_seconds: NonZeroU32,
}

impl RateSteps {
    /// Reads Tyk's `smoothing`; `None` where it is off, or a number in it is not above zero. What 32 bits do
    /// not hold counts as the largest that they do.
    pub fn from_wire(smoothing: &Smoothing) -> Option<Self> {
        let count = |number: i64| {
            let number = u32::try_from(number.max(0)).unwrap_or(u32::MAX);
            NonZeroU32::new(number)
        };
        if !smoothing.enabled || smoothing.trigger.is_nan() || smoothing.trigger <= 0.0 {
            return None;
        }
        let step = count(smoothing.step)?;
        let margin = smoothing.trigger * f64::from(step.get());
        Some(Self {
            threshold: count(smoothing.threshold)?,
            step,
            // `as` saturates.
            margin: margin.floor() as u32,
            margin_down: margin.ceil() as u32,
            delay_seconds: count(smoothing.delay)?,
        })
    }

    /// The allowance to begin with, of a rate of so many requests.
    pub fn first(&self, requests: u64) -> u64 {
        u64::from(self.threshold.get()).min(requests)
    }

    /// An allowance as it holds for a rate of so many requests, which may have changed: not below the
    /// threshold, and not above the rate.
    pub fn within(&self, allowance: u64, requests: u64) -> u64 {
        allowance.max(self.threshold.get().into()).min(requests)
    }

    /// The allowance that comes after this one, where `used` requests count before the one that asks.
    pub fn next(&self, allowance: u64, used: u64, requests: u64) -> u64 {
        let allowance = self.within(allowance, requests);
        let step = u64::from(self.step.get());
        let next = if allowance <= used.saturating_add(self.margin.into()) {
            allowance.saturating_add(step)
        } else if used + step + u64::from(self.margin_down) <= allowance {
            allowance.saturating_sub(step)
        } else {
            allowance
        };
        self.within(next, requests)
    }

    /// For how long an allowance stays, at least.
    pub fn delay(&self) -> Duration {
        Duration::from_secs(self.delay_seconds.get().into())
    }

    /// The threshold, the step, how many requests short of the allowance it grows, how many more than a step
    /// below it shrinks: for a store that counts elsewhere.
    pub fn numbers(&self) -> [u32; 4] {
        [
            self.threshold.get(),
            self.step.get(),
            self.margin,
            self.margin_down,
        ]
    }

    pub(crate) fn delay_nanos(&self) -> u64 {
        u64::from(self.delay_seconds.get()) * 1_000_000_000
    }
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

impl Algorithm {
    /// The algorithm of this name, as [`name`](Self::name) gives it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sliding, Self::FixedWindow, Self::Bucket, Self::Gcra]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// The name in configurations: `sliding`, `fixed-window`, `bucket`, `gcra`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sliding => "sliding",
            Self::FixedWindow => "fixed-window",
            Self::Bucket => "bucket",
            Self::Gcra => "gcra",
        }
    }
}

impl FromStr for Algorithm {
    type Err = LimitError;

    fn from_str(name: &str) -> Result<Self, LimitError> {
        let expected = "one of sliding, fixed-window, bucket, gcra";
        Self::from_name(name).ok_or_else(|| LimitError::new("algorithm", expected, name))
    }
}

/// So many requests in a period.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// How many requests.
    pub max: NonZeroU64,
    /// When it starts anew.
    pub period: Period,
}

impl Quota {
    /// So many requests in a period.
    ///
    /// # Panics
    ///
    /// Panics if `max` is zero. Numbers that come from a record go through
    /// [`from_wire`](Self::from_wire), which does not.
    #[track_caller]
    pub fn per(max: u64, period: Period) -> Self {
        let max = NonZeroU64::new(max).expect("a quota of no requests");
        Self { max, period }
    }

    /// So many requests a day of this time zone, from midnight.
    ///
    /// # Panics
    ///
    /// Panics if `max` is zero.
    #[track_caller]
    pub fn daily(max: u64, zone: jiff::tz::TimeZone) -> Self {
        Self::per(max, Period::calendar(CalendarUnit::Day, zone))
    }

    /// So many requests a week of this time zone, from Monday's midnight.
    ///
    /// # Panics
    ///
    /// Panics if `max` is zero.
    #[track_caller]
    pub fn weekly(max: u64, zone: jiff::tz::TimeZone) -> Self {
        Self::per(max, Period::calendar(CalendarUnit::Week, zone))
    }

    /// So many requests a month of this time zone, from the first day's midnight.
    ///
    /// # Panics
    ///
    /// Panics if `max` is zero.
    #[track_caller]
    pub fn monthly(max: u64, zone: jiff::tz::TimeZone) -> Self {
        Self::per(max, Period::calendar(CalendarUnit::Month, zone))
    }

    /// Reads Tyk's `quota_max` and `quota_renewal_rate`: no quota where the first is zero or below,
    /// one that never renews where the second is.
    pub fn from_wire(quota_max: i64, renewal_seconds: i64) -> Option<Self> {
        let max = u64::try_from(quota_max).ok().and_then(NonZeroU64::new)?;
        let period = match u64::try_from(renewal_seconds) {
            Ok(seconds @ 1..) => Period::Every(Duration::from_secs(seconds)),
            _ => Period::Never,
        };
        Some(Self { max, period })
    }
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

impl Period {
    /// With the calendar of this time zone.
    pub fn calendar(unit: CalendarUnit, zone: jiff::tz::TimeZone) -> Self {
        Self::Calendar(Arc::new(Calendar { unit, zone }))
    }
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

/// How long a request over its rate waits for its turn, in place of being refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Throttle {
    interval: Duration, // Above zero.
    retries: u64,       // Above zero.
}

impl Throttle {
    /// No request waits longer than an hour, whatever its session says.
    pub const LONGEST: Duration = Duration::from_secs(3600);

    /// Reads Tyk's `throttle_interval` and `throttle_retry_limit`: no throttle where either is zero
    /// or below.
    pub fn from_wire(interval_seconds: f64, retries: i64) -> Option<Self> {
        let retries = u64::try_from(retries).ok().filter(|retries| *retries > 0)?;
        if interval_seconds.is_nan() || interval_seconds <= 0.0 {
            return None;
        }
        let interval = seconds(interval_seconds);
        (!interval.is_zero()).then_some(Self { interval, retries })
    }

    /// How long a request waits at most: all tries together.
    pub fn patience(self) -> Duration {
        let retries = u32::try_from(self.retries).unwrap_or(u32::MAX);
        self.interval.saturating_mul(retries).min(Self::LONGEST)
    }
}

/// The limits of a session that hold for one API.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiLimits {
    /// The rate; `None` for any.
    pub rate: Option<Rate>,
    /// How long a request over the rate waits; `None` for not at all.
    pub throttle: Option<Throttle>,
    /// The quota; `None` for none.
    pub quota: Option<Quota>,
    /// How deep a GraphQL query may be; `None` for any depth.
    pub max_query_depth: Option<NonZeroU64>,
    /// How the rate grows and shrinks with use; only where it is valid.
    pub smoothing: Option<Smoothing>,
    /// Where the rate comes from.
    pub rate_source: LimitSource,
    /// Where all else comes from.
    pub source: LimitSource,
    /// The counters that the API shares with others; `None` for the session's own.
    pub scope: Option<Box<str>>,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LimitSource {
    /// The session's own fields.
    Root,
    /// The entry of the API in `access_rights`.
    Api,
    /// The endpoint's entry in `endpoints`.
    Endpoint,
}

impl ApiLimits {
    /// The limits of `session`, its policies applied, for this API.
    ///
    /// Whether the session may call the API at all is not asked here: for an API that it does not
    /// hold its own limits are told.
    ///
    /// # Errors
    ///
    /// Fails where a number is no limit; the error names its path in the session.
    pub fn of(session: &Session, api: &ApiId) -> Result<Self, LimitError> {
        let right = session.access_rights.get(api);
        let own = right.map(|right| &right.limit);
        let mut limits = match own.filter(|limit| !limit.is_empty()) {
            Some(limit) => Self::read(limit, LimitSource::Api)
                .map_err(|err| err.within(&format!("access_rights.{api}.limit")))?,
            None => Self::read(&root(session, own), LimitSource::Root)?,
        };
        let of_session = || session.smoothing.clone().filter(is_valid);
        limits.smoothing = limits.smoothing.or_else(of_session);
        limits.scope = right
            .map(|right| right.allowance_scope.as_str())
            .filter(|scope| !scope.is_empty())
            .map(Into::into);
        Ok(limits)
    }

    fn read(limit: &ApiLimit, source: LimitSource) -> Result<Self, LimitError> {
        Ok(Self {
            rate: Rate::from_wire(limit.rate, limit.per, Algorithm::default())?,
            throttle: Throttle::from_wire(limit.throttle_interval, limit.throttle_retry_limit),
            quota: Quota::from_wire(limit.quota_max, limit.quota_renewal_rate),
            max_query_depth: u64::try_from(limit.max_query_depth)
                .ok()
                .and_then(NonZeroU64::new),
            smoothing: limit.smoothing.clone().filter(is_valid),
            rate_source: source,
            source,
            scope: None,
        })
    }

    /// The same limits with the rate of an endpoint's entry in place of theirs. An entry with a rate
    /// of zero or below frees its endpoint of any.
    ///
    /// # Errors
    ///
    /// Fails where the numbers are no rate.
    pub fn with_endpoint(mut self, rate: f64, per: f64) -> Result<Self, LimitError> {
        let algorithm = self
            .rate
            .map_or(Algorithm::default(), |rate| rate.algorithm);
        self.rate = Rate::from_wire(rate, per, algorithm)?;
        self.rate_source = LimitSource::Endpoint;
        Ok(self)
    }

    /// The same limits with the rate kept in another way.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.rate = self.rate.map(|rate| rate.with_algorithm(algorithm));
        self
    }

    /// The same limits with an allowance of the rate that grows and shrinks with use, where their
    /// [`smoothing`](Self::smoothing) asks for it and the window slides.
    #[must_use]
    pub fn smoothed(mut self) -> Self {
        let steps = self.smoothing.as_ref().and_then(RateSteps::from_wire);
        self.rate = self.rate.map(|rate| match rate.algorithm {
            Algorithm::Sliding => rate.with_steps(steps),
            _ => rate,
        });
        self
    }

    /// How long a request over the rate waits; zero for not at all.
    pub fn patience(&self) -> Duration {
        self.throttle.map_or(Duration::ZERO, Throttle::patience)
    }
}

/// The session's own limits, with the valid smoothing of an entry that sets nothing else.
fn root(session: &Session, own: Option<&ApiLimit>) -> ApiLimit {
    ApiLimit {
        rate: session.rate,
        per: session.per,
        throttle_interval: session.throttle_interval,
        throttle_retry_limit: session.throttle_retry_limit,
        max_query_depth: session.max_query_depth,
        quota_max: session.quota_max,
        quota_renewal_rate: session.quota_renewal_rate,
        smoothing: own.and_then(|limit| limit.smoothing.clone()),
        ..ApiLimit::default()
    }
}

fn is_valid(smoothing: &Smoothing) -> bool {
    RateSteps::from_wire(smoothing).is_some()
}

/// A number is no limit.
///
/// Names the field, what was expected there, and what was found.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct LimitError {
    field: String,
    expected: &'static str,
    found: String,
}

impl LimitError {
    fn new(field: &str, expected: &'static str, found: impl fmt::Display) -> Self {
        Self {
            field: field.to_owned(),
            expected,
            found: found.to_string(),
        }
    }

    fn within(mut self, path: &str) -> Self {
        self.field = format!("{path}.{}", self.field);
        self
    }

    /// The field's path, as `access_rights.orders.limit.per`.
    pub fn field(&self) -> &str {
        &self.field
    }
}
