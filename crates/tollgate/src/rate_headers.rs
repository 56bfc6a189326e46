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

    /// Whether they say no more than a [`Told`] does.
    pub(crate) fn are_told(self) -> bool {
        !self.ietf && self.x != X::None
    }

    /// What `X-RateLimit-…` say; `None` where the request has no such limit.
    #[inline]
    pub(crate) fn told(self, visit: &Visit) -> Option<Told> {
        let limit = self.x_limit(visit.limits())?;
        Some(Told {
            max: limit.standing.max,
            remaining: limit.standing.remaining,
            reset_at: limit.reset_at(visit.now()),
        })
    }

    pub(crate) fn write(self, visit: &Visit, headers: &mut HeaderMap) {
        if let Some(told) = self.told(visit) {
            told.write(headers);
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

/// What `X-RateLimit-…` say of one limit.
#[derive(Clone, Copy)]
pub(crate) struct Told {
    max: u64,
    remaining: u64,
    reset_at: u64,
}

impl Told {
    /// Sets the headers.
    #[inline]
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        let is_written = WRITTEN.try_with(|all| {
            let mut all = all.try_borrow_mut().ok()?;
            Some(all[self.place()].again(self, headers))
        });
        if !matches!(is_written, Ok(Some(true))) {
            self.put(number(self.max), number(self.reset_at), headers);
        }
    }

    #[inline]
    fn put(self, max: HeaderValue, reset_at: HeaderValue, headers: &mut HeaderMap) {
        let remaining = number(self.remaining); // Meanwhile the copies of the others are done.
        headers.insert(X_LIMIT, max);
        headers.insert(X_REMAINING, remaining);
        headers.insert(X_RESET, reset_at);
    }

    #[inline]
    fn place(self) -> usize {
        let mixed = (self.max ^ self.reset_at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> (u64::BITS - PLACES.ilog2())) as usize % PLACES
    }
}

/// A number in one allocation of its length; `HeaderValue::from` makes two.
pub(crate) fn number(number: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).expect("digits are a header's value")
}

const PLACES: usize = 64;

thread_local! {
    static WRITTEN: RefCell<[Written; PLACES]> = const {
        RefCell::new([const { Written { max: 0, reset_at: 0, headers: None } }; PLACES])
    };
}

/// What this thread told last: many requests have the same limit, and those of one key the same second in
/// which its quota renews. Two that have one place take turns.
struct Written {
    max: u64,
    reset_at: u64,
    /// The three headers with both values, made when they are asked for twice in a row. A copy of them need
    /// not hash their names.
    headers: Option<Box<HeaderMap>>,
}

impl Written {
    /// Sets the headers, if both values were told before.
    #[inline]
    fn again(&mut self, told: Told, headers: &mut HeaderMap) -> bool {
        if (self.max, self.reset_at) != (told.max, told.reset_at) {
            *self = Self {
                max: told.max,
                reset_at: told.reset_at,
                headers: None,
            };
            return false;
        }
        let written = self.headers.get_or_insert_with(|| Self::headers_of(told));
        if headers.capacity() == 0 {
            let none = std::mem::replace(headers, HeaderMap::clone(written));
            std::mem::forget(none); // It has nothing to let go of, and need not look.
            if let Some(remaining) = headers.values_mut().nth(1) {
                *remaining = number(told.remaining);
            }
            return true;
        }
        let mut values = written.values();
        if let (Some(max), Some(reset_at)) = (values.next(), values.nth(1)) {
            told.put(max.clone(), reset_at.clone(), headers);
        }
        true
    }

    #[cold]
    fn headers_of(told: Told) -> Box<HeaderMap> {
        let mut headers = HeaderMap::new();
        told.put(number(told.max), number(told.reset_at), &mut headers);
        // The one that is new each time is copied without counting references.
        headers.insert(X_REMAINING, HeaderValue::from_static("0"));
        Box::new(headers)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(told: (u64, u64, u64), before: &[(&'static str, &'static str)], expected: &[&str]) {
        let (max, remaining, reset_at) = told;
        let mut headers = HeaderMap::new();
        for (name, value) in before {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let told = Told {
            max,
            remaining,
            reset_at,
        };
        told.write(&mut headers);
        let all = headers.iter();
        let all: Vec<_> = all
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("no text")))
            .collect();
        assert_eq!(all, expected);
        headers.insert("x-more", HeaderValue::from_static("1"));
        for (name, number) in [
            (X_LIMIT, max),
            (X_REMAINING, remaining),
            (X_RESET, reset_at),
        ] {
            assert_eq!(headers[name], number.to_string()); // Found by name: their hashes are right.
        }
    }

    #[test]
    fn a_limit_is_told_again_as_it_was_the_first_time() {
        for remaining in [9, 8, 7, 0] {
            let left = format!("x-ratelimit-remaining: {remaining}");
            let [limit, reset] = ["x-ratelimit-limit: 10", "x-ratelimit-reset: 1700000000"];
            let told = (10, remaining, 1_700_000_000);
            check(told, &[], &[limit, &left, reset]);
            let own = [("content-type", "text/plain"), ("vary", "a"), ("vary", "b")];
            let behind = [
                "content-type: text/plain",
                "vary: a",
                "vary: b",
                limit,
                &left,
                reset,
            ];
            check(told, &own, &behind);
            // What the service says of our limits is not sent.
            let lies = [
                ("x-ratelimit-limit", "1"),
                ("x-ratelimit-remaining", "2"),
                ("x-ratelimit-remaining", "3"),
            ];
            check(told, &lies, &[limit, &left, reset]);
        }
    }

    #[test]
    fn limits_with_one_place_are_not_mixed_up() {
        let numbers = (0..200_u64).chain([0, 0, u64::MAX, u64::MAX, u64::MAX]);
        for number in numbers.flat_map(|number| [number, number, number]) {
            let all = ["limit", "remaining", "reset"];
            let all = all.map(|what| format!("x-ratelimit-{what}: {number}"));
            check(
                (number, number, number),
                &[],
                &all.each_ref().map(String::as_str),
            );
        }
    }
}
