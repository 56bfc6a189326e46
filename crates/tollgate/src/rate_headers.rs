//! Headers that tell a client where its limits stand.
//!
//! They come from the state that decided, also on refusals. Two sets:
//!
//! - `X-RateLimit-Limit`, `-Remaining` and `-Reset` (Unix seconds), as Tyk sends them; one limit;
//! - `RateLimit-Policy` and `RateLimit` (IETF draft *RateLimit header fields for HTTP*); all limits.
//!
//! ```
//! use tollgate::{LimitHeaders, Tollgate, MemoryStore};
//!
//! let gate = Tollgate::builder(MemoryStore::new())
//!     .rate_limit()
//!     .headers(LimitHeaders::rate().with_ietf())
//!     .build()?;
//! # Ok::<(), tollgate::stack::BuildError>(())
//! ```

use std::{cell::RefCell, fmt::Write as _};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    refusal::whole_seconds,
    visit::{LimitKind, LimitStanding, Visit},
};

const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Which headers are sent. The default is [`LimitHeaders::quota_or_rate`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LimitHeaders {
    x: X,
    ietf: bool,
}

/// Which limit the `X-RateLimit-…` headers speak of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum X {
    #[default]
    QuotaOrRate,
    Quota,
    Rate,
    None,
}

impl LimitHeaders {
    /// `X-RateLimit-…` of the quota, or of the rate where the request has no quota.
    pub fn quota_or_rate() -> Self {
        Self::default()
    }

    /// `X-RateLimit-…` of the quota, as Tyk's `quotas`.
    pub fn quota() -> Self {
        Self {
            x: X::Quota,
            ietf: false,
        }
    }

    /// `X-RateLimit-…` of the rate, as Tyk's `rate_limits`.
    pub fn rate() -> Self {
        Self {
            x: X::Rate,
            ietf: false,
        }
    }

    /// No headers.
    pub fn none() -> Self {
        Self {
            x: X::None,
            ietf: false,
        }
    }

    /// `RateLimit-Policy` and `RateLimit` too.
    #[must_use]
    pub fn with_ietf(mut self) -> Self {
        self.ietf = true;
        self
    }

    pub(crate) fn write(self, visit: &Visit, headers: &mut HeaderMap) {
        if let Some(limit) = self.x_limit(visit.limits()) {
            headers.insert(X_LIMIT, number_again(limit.standing.max));
            headers.insert(X_REMAINING, number(limit.standing.remaining));
            headers.insert(X_RESET, number_again(limit.reset_at(visit.now())));
        }
        if self.ietf && !visit.limits().is_empty() {
            insert(headers, POLICY, visit.limits(), policy);
            insert(headers, LIMIT, visit.limits(), limit);
        }
    }

    fn x_limit(self, limits: &[LimitStanding]) -> Option<&LimitStanding> {
        let quota = || {
            limits
                .iter()
                .find(|limit| matches!(limit.kind, LimitKind::Quota))
        };
        let rate = || {
            limits
                .iter()
                .find(|limit| matches!(limit.kind, LimitKind::Rate))
        };
        match self.x {
            X::QuotaOrRate => quota().or_else(rate),
            X::Quota => quota(),
            X::Rate => rate(),
            X::None => None,
        }
    }
}

/// A number in one allocation of its length; `HeaderValue::from` makes two.
pub(crate) fn number(number: u64) -> HeaderValue {
    let mut digits = itoa::Buffer::new();
    let value = HeaderValue::from_bytes(digits.format(number).as_bytes());
    value.expect("digits are a header's value")
}

/// A number that most likely was written before: many requests have the same limit, and those of one key
/// the same second in which its quota renews.
#[inline]
fn number_again(number: u64) -> HeaderValue {
    let written = WRITTEN.try_with(|all| {
        let place = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PLACES.ilog2());
        all.try_borrow_mut().ok()?[place as usize % PLACES].again(number)
    });
    written
        .ok()
        .flatten()
        .unwrap_or_else(|| self::number(number))
}

const PLACES: usize = 64;

thread_local! {
    static WRITTEN: RefCell<[Written; PLACES]> = const {
        RefCell::new([const { Written { number: 0, value: None } }; PLACES])
    };
}

/// A number that was asked for by this thread. Two that have one place take turns.
struct Written {
    number: u64,
    value: Option<HeaderValue>, // Made when it is asked for twice in a row.
}

impl Written {
    #[inline]
    fn again(&mut self, number: u64) -> Option<HeaderValue> {
        if self.number != number {
            *self = Self {
                number,
                value: None,
            };
            return None;
        }
        Some(
            self.value
                .get_or_insert_with(|| self::number(number))
                .clone(),
        )
    }
}

fn insert(
    headers: &mut HeaderMap,
    name: HeaderName,
    limits: &[LimitStanding],
    write: fn(&LimitStanding, &mut String),
) {
    let mut list = String::with_capacity(32 * limits.len());
    for limit in limits {
        if !list.is_empty() {
            list.push_str(", ");
        }
        write(limit, &mut list);
    }
    if let Ok(value) = HeaderValue::try_from(list) {
        headers.insert(name, value);
    }
}

/// The largest integer of a structured field (RFC 9651 §3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

fn policy(limit: &LimitStanding, out: &mut String) {
    let _ = write!(
        out,
        "\"{}\";q={}",
        limit.name(),
        limit.standing.max.min(LARGEST)
    );
    if let Some(window) = limit.seconds {
        let _ = write!(out, ";w={}", window.get().min(LARGEST)); // Writing to a string can not fail.
    }
}

fn limit(limit: &LimitStanding, out: &mut String) {
    let _ = write!(
        out,
        "\"{}\";r={}",
        limit.name(),
        limit.standing.remaining.min(LARGEST)
    );
    let wait = match limit.standing.remaining {
        0 => Some(limit.standing.retry_in).filter(|_| limit.standing.resets_in.is_some()),
        _ => limit.standing.resets_in,
    };
    if let Some(wait) = wait {
        let _ = write!(out, ";t={}", whole_seconds(wait).min(LARGEST));
    }
}
