//! Which of two limits is the larger, when several policies speak of one API.

use std::cmp::Ordering;

use crate::{
    policy::Policy,
    session::{ApiLimit, Endpoint, McpPrimitive, NamedLimit, RateLimit, Session, Smoothing},
};

/// A rate as records hold it: below zero without limit, with a zero not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RatePart {
    pub(super) rate: f64,
    pub(super) per: f64,
    pub(super) smoothing: Option<Smoothing>,
}

impl RatePart {
    pub(super) fn of_policy(policy: &Policy) -> Self {
        Self {
            rate: policy.rate,
            per: policy.per,
            smoothing: policy.smoothing.clone(),
        }
    }

    pub(super) fn of_limit(limit: &ApiLimit) -> Self {
        Self {
            rate: limit.rate,
            per: limit.per,
            smoothing: limit.smoothing.clone(),
        }
    }

    pub(super) fn of_session(session: &Session) -> Self {
        Self {
            rate: session.rate,
            per: session.per,
            smoothing: session.smoothing.clone(),
        }
    }

    fn of_endpoint(limit: &RateLimit) -> Self {
        Self {
            rate: limit.rate,
            per: limit.per,
            smoothing: limit.smoothing.clone(),
        }
    }

    pub(super) fn put_into(self, limit: &mut ApiLimit) {
        limit.rate = self.rate;
        limit.per = self.per;
        limit.smoothing = self.smoothing;
    }

    pub(super) fn put_into_session(self, session: &mut Session) {
        session.rate = self.rate;
        session.per = self.per;
        session.smoothing = self.smoothing;
    }

    fn is_set(&self) -> bool {
        self.rate != 0.0 && self.per != 0.0
    }

    /// Seconds for one request; zero is no limit.
    fn seconds_each(&self) -> f64 {
        if self.rate <= 0.0 || self.per <= 0.0 {
            0.0
        } else {
            self.per / self.rate
        }
    }

    /// Whether this rate is set and lets more pass than the other.
    pub(super) fn beats(&self, other: &Self) -> bool {
        self.is_set() && (!other.is_set() || self.seconds_each() < other.seconds_each())
    }
}

/// A quota and its period, which are only compared and moved together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct QuotaPart {
    pub(super) max: i64,
    pub(super) renewal: i64,
}

impl QuotaPart {
    pub(super) fn of_policy(policy: &Policy) -> Self {
        Self {
            max: policy.quota_max,
            renewal: policy.quota_renewal_rate,
        }
    }

    pub(super) fn of_limit(limit: &ApiLimit) -> Self {
        Self {
            max: limit.quota_max,
            renewal: limit.quota_renewal_rate,
        }
    }

    pub(super) fn of_session(session: &Session) -> Self {
        Self {
            max: session.quota_max,
            renewal: session.quota_renewal_rate,
        }
    }

    pub(super) fn put_into(self, limit: &mut ApiLimit) {
        limit.quota_max = self.max;
        limit.quota_renewal_rate = self.renewal;
    }

    pub(super) fn put_into_session(self, session: &mut Session) {
        session.quota_max = self.max;
        session.quota_renewal_rate = self.renewal;
    }

    /// Whether this quota lets more pass in the long run than the other. Zero and below: any number.
    pub(super) fn beats(self, other: Self) -> bool {
        let (more, less) = match (self.max <= 0, other.max <= 0) {
            (true, other_unlimited) => return !other_unlimited,
            (false, true) => return false,
            // Requests by second, multiplied out: max / renewal against max / renewal.
            (false, false) => (self.long_run(other), other.long_run(self)),
        };
        match more.cmp(&less) {
            Ordering::Equal => other.max < self.max,
            order => order == Ordering::Greater,
        }
    }

    fn long_run(self, other: Self) -> i128 {
        if self.renewal <= 0 {
            0 // It never renews, so in the long run nothing passes.
        } else {
            i128::from(self.max) * i128::from(other.renewal.max(1))
        }
    }

    /// A policy's own quota for one API: its root's, or its entry's where that number is the larger.
    /// In one policy a zero is a number that was not given.
    pub(super) fn of_entry(policy: &Policy, limit: &ApiLimit) -> Self {
        let (root, entry) = (Self::of_policy(policy), Self::of_limit(limit));
        let number = |quota: Self| if quota.max < 0 { i64::MAX } else { quota.max };
        if number(root) < number(entry) {
            entry
        } else {
            root
        }
    }
}

/// The larger of two depths, of which −1 is any.
pub(super) fn deeper(one: i64, other: i64) -> i64 {
    if one == -1 || other == -1 {
        -1
    } else {
        one.max(other)
    }
}

/// Takes the endpoints of a further policy: of one path and method the higher rate stands, of equal
/// rates the one with more requests. Sorted by path, then method, as Tyk does.
pub(super) fn merge_endpoints(endpoints: &mut Vec<Endpoint>, more: &[Endpoint]) {
    if endpoints.is_empty() {
        endpoints.extend_from_slice(more);
        return;
    }
    if more.is_empty() {
        return;
    }
    for endpoint in more {
        let same_path = |own: &&mut Endpoint| own.path == endpoint.path;
        let Some(own) = endpoints.iter_mut().find(same_path) else {
            endpoints.push(endpoint.clone());
            continue;
        };
        for method in &endpoint.methods {
            match own
                .methods
                .iter_mut()
                .find(|known| known.name == method.name)
            {
                Some(known) => raise(&mut known.limit, &method.limit),
                None => own.methods.push(method.clone()),
            }
        }
    }
    for endpoint in endpoints.iter_mut() {
        endpoint
            .methods
            .sort_by(|one, other| one.name.cmp(&other.name));
    }
    endpoints.sort_by(|one, other| one.path.cmp(&other.path));
}

fn raise(limit: &mut RateLimit, other: &RateLimit) {
    let (own, new) = (RatePart::of_endpoint(limit), RatePart::of_endpoint(other));
    let order = new.seconds_each().total_cmp(&own.seconds_each());
    if order.then(own.rate.total_cmp(&new.rate)) == Ordering::Less {
        *limit = other.clone();
    }
}

pub(super) fn merge_named(limits: &mut Vec<NamedLimit>, more: &[NamedLimit]) {
    for limit in more {
        match limits.iter_mut().find(|known| known.name == limit.name) {
            Some(known) => raise(&mut known.limit, &limit.limit),
            None => limits.push(limit.clone()),
        }
    }
}

pub(super) fn merge_primitives(limits: &mut Vec<McpPrimitive>, more: &[McpPrimitive]) {
    for limit in more {
        let same = |known: &&mut McpPrimitive| known.kind == limit.kind && known.name == limit.name;
        match limits.iter_mut().find(same) {
            Some(known) => raise(&mut known.limit, &limit.limit),
            None => limits.push(limit.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn rate((rate, per): (f64, f64), than: (f64, f64), beats: bool) {
        let part = |(rate, per)| RatePart {
            rate,
            per,
            smoothing: None,
        };
        assert_eq!(
            part((rate, per)).beats(&part(than)),
            beats,
            "{rate}/{per} {than:?}"
        );
    }

    #[test]
    fn more_requests_a_second_win_and_equals_do_not() {
        rate((10.0, 1.0), (8.0, 1.0), true);
        rate((8.0, 1.0), (10.0, 1.0), false);
        rate((20.0, 1.0), (200.0, 10.0), false);
        rate((-1.0, 1.0), (1000.0, 1.0), true);
        rate((1000.0, 1.0), (-1.0, 1.0), false);
        rate((-1.0, 0.0), (1.0, 1.0), false);
        rate((0.0, 1.0), (0.0, 0.0), false);
        rate((1.0, 1.0), (0.0, 9.0), true);
    }

    #[track_caller]
    fn quota((max, renewal): (i64, i64), than: (i64, i64), beats: bool) {
        let part = |(max, renewal)| QuotaPart { max, renewal };
        assert_eq!(
            part((max, renewal)).beats(part(than)),
            beats,
            "{max}/{renewal} {than:?}"
        );
    }

    #[test]
    fn a_quota_is_as_large_as_what_passes_in_the_long_run() {
        quota((100, 60), (100, 3600), true);
        quota((1000, 3600), (100, 86400), true);
        quota((100, 86400), (1000, 3600), false);
        quota((240, 86400), (10, 3600), true);
        quota((10, 3600), (240, 86400), false);
        quota((3, 0), (2, 0), true);
        quota((1000, 0), (1, 60), false);
        quota((0, 60), (1000, 60), true);
        quota((-1, 60), (1000, 60), true);
        quota((-1, 60), (0, 60), false);
        quota((0, 60), (-1, 60), false);
        quota((5, 60), (5, 60), false);
        quota((i64::MAX, 1), (i64::MAX, 2), true);
    }
}
