//! Numbers of a record never allow more than they say, and never everything by mistake.

use std::time::Duration;

use tollgate_core::{
    ApiId, Moment, Session,
    limits::{Algorithm, ApiLimits, Limit, LimitSource, Period, Quota, Rate, Throttle},
    store::{
        Charge, CounterName, Verdict,
        tally::{self, Tally},
    },
};

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Sliding,
    Algorithm::FixedWindow,
    Algorithm::Bucket,
    Algorithm::Gcra,
];

/// Tallies count to seven bytes, and what is allowed beyond them is refused.
const COUNTED: u64 = (1 << 56) - 1;

/// The longest window, see `Rate::from_wire`.
const LONGEST: Duration = Duration::from_nanos(u64::MAX);

/// Checks the limits that a session has for an API; for none, those of its root.
pub fn check_limits(session: &Session, api: &ApiId) {
    let own = session.access_rights.get(api).map(|right| &right.limit);
    let (rate, per, quota) = match own.filter(|limit| !limit.is_empty()) {
        Some(limit) => (limit.rate, limit.per, limit.quota_max),
        None => (session.rate, session.per, session.quota_max),
    };
    check_rate(rate, per);
    let Ok(limits) = ApiLimits::of(session, api) else {
        return; // An error refuses the key, which is never too much.
    };
    let root = own.is_none_or(|limit| limit.is_empty());
    assert_eq!(limits.source == LimitSource::Root, root, "{limits:?}");
    assert_eq!(limits.rate.is_none(), rate <= 0.0, "{rate}: {limits:?}");
    assert_eq!(limits.quota.is_none(), quota <= 0, "{quota}: {limits:?}");
    assert!(limits.patience() <= Throttle::LONGEST, "{limits:?}");
    if let Some(quota) = limits.quota {
        check_quota(quota);
    }
}

/// A rate above zero is a limit or an error, whatever the numbers.
pub fn check_rate(rate: f64, per: f64) {
    let is_window = per.is_finite() && per > 0.0;
    for algorithm in ALGORITHMS {
        match Rate::from_wire(rate, per, algorithm) {
            Err(error) => {
                let is_wrong = !rate.is_finite() || (rate > 0.0 && !is_window);
                assert!(is_wrong, "{rate} per {per}: {error}");
            }
            Ok(None) => assert!(rate <= 0.0, "{rate} per {per}"),
            Ok(Some(read)) => {
                assert!(
                    rate.is_finite() && rate > 0.0 && is_window,
                    "{rate} per {per}"
                );
                assert!(
                    read.requests.get() as f64 <= rate.max(1.0),
                    "{rate}: {read:?}"
                );
                let wanted = if rate < 1.0 { per / rate } else { per };
                let wanted = Duration::try_from_secs_f64(wanted).unwrap_or(LONGEST);
                assert!(
                    read.window >= wanted.min(LONGEST),
                    "{rate} per {per}: {read:?}"
                );
                assert!(!read.window.is_zero(), "{rate} per {per}");
                check_holds(read.into());
            }
        }
    }
}

fn check_quota(quota: Quota) {
    assert_ne!(quota.period, Period::Every(Duration::ZERO));
    check_holds(quota.into());
}

/// Who has taken the whole limit gets no more at the same moment.
pub fn check_holds(limit: Limit) {
    let now = Moment {
        ticks: 5_000_000_000,
        unix_nanos: 1_700_000_000_000_000_000,
    };
    let mut charge = [Charge::new(
        CounterName::of(&[b"of the input"]),
        limit.clone(),
    )];
    let mut tallies = [Tally::new()];
    let one = charge[0].cost;
    charge[0].cost = limit
        .max()
        .min(COUNTED)
        .try_into()
        .expect("no limit is zero");
    let all = tally::take(&charge, &mut tallies, now);
    assert!(matches!(all, Verdict::Taken(_)), "{limit:?}: {all:?}");
    charge[0].cost = one;
    let more = tally::take(&charge, &mut tallies, now);
    assert!(matches!(more, Verdict::Refused(_)), "{limit:?}: {more:?}");
}
