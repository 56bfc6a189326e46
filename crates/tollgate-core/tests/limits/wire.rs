//! The numbers of a record, and which limit of a record holds.

use super::*;

#[track_caller]
fn reads(requests: f64, per: f64, expected: Result<Option<(u64, f64)>, &str>) {
    let got = Rate::from_wire(requests, per, Algorithm::Sliding);
    let got = got.map(|rate| rate.map(|rate| (rate.requests.get(), rate.window.as_secs_f64())));
    let got = got.map_err(|err| err.field().to_owned());
    assert_eq!(got, expected.map_err(str::to_owned), "{requests} per {per}");
}

#[test]
fn rates_are_read_with_their_fractions() {
    reads(0.0, 0.0, Ok(None));
    reads(-1.0, 60.0, Ok(None));
    reads(-1.0, f64::NAN, Ok(None));
    reads(1.0, 60.0, Ok(Some((1, 60.0))));
    reads(2.9, 5.9, Ok(Some((2, 5.9))));
    reads(5.0, 0.5, Ok(Some((5, 0.5))));
    reads(0.5, 1.0, Ok(Some((1, 2.0))));
    reads(0.1, 1.0, Ok(Some((1, 10.0))));
    reads(1.0, 1e-30, Ok(Some((1, 1e-9))));
}

#[test]
fn numbers_that_are_none_are_errors() {
    reads(f64::NAN, 1.0, Err("rate"));
    reads(f64::INFINITY, 1.0, Err("rate"));
    reads(f64::NEG_INFINITY, 1.0, Err("rate"));
    reads(1.0, 0.0, Err("per"));
    reads(1.0, -1.0, Err("per"));
    reads(1.0, f64::NAN, Err("per"));
    reads(1.0, f64::INFINITY, Err("per"));
}

#[test]
fn the_largest_numbers_saturate_and_still_limit() {
    let largest = Duration::from_nanos(u64::MAX).as_secs_f64();
    reads(1e308, 1.0, Ok(Some((u64::MAX, 1.0))));
    reads(1.0, 1e308, Ok(Some((1, largest))));
    reads(1e-308, 1e308, Ok(Some((1, largest))));
    for algorithm in ALGORITHMS {
        let bed = Bed::new(rate(1.0, 1e308).with_algorithm(algorithm));
        assert!(bed.passes(after(0.0)));
        assert!(!bed.passes(after(1e9)), "{algorithm:?}");
        let bed = Bed::new(rate(1e308, 1e308).with_algorithm(algorithm));
        assert!(bed.passes(after(0.0)), "{algorithm:?}");
    }
}

#[test]
fn an_error_says_where_and_what() {
    let err = Rate::from_wire(1.0, -2.0, Algorithm::Sliding).unwrap_err();
    assert_eq!(
        err.to_string(),
        "per: expected a number above zero, found -2"
    );
    let session: Session = r#"{"access_rights": {"a": {"limit": {"rate": 1}}}}"#
        .parse()
        .unwrap();
    let err = ApiLimits::of(&session, &"a".into()).unwrap_err();
    assert_eq!(err.field(), "access_rights.a.limit.per");
}

#[test]
fn quotas_and_throttles_are_read() {
    let every = |seconds| Period::Every(Duration::from_secs(seconds));
    let read = |max, renewal| Quota::from_wire(max, renewal).map(|quota| quota.period);
    assert_eq!(read(0, 60), None);
    assert_eq!(read(-1, 60), None);
    assert_eq!(read(1, 60), Some(every(60)));
    assert_eq!(read(1, 0), Some(Period::Never));
    assert_eq!(read(1, -1), Some(Period::Never));
    assert_eq!(read(1, i64::MAX), Some(every(i64::MAX as u64)));

    let patience =
        |interval, retries| Throttle::from_wire(interval, retries).map(Throttle::patience);
    assert_eq!(patience(1.0, 3), Some(3 * SECOND));
    assert_eq!(patience(0.5, 3), Some(3 * SECOND / 2));
    assert_eq!(patience(1.0, 0), None);
    assert_eq!(patience(0.0, 3), None);
    assert_eq!(patience(-1.0, 3), None);
    assert_eq!(patience(f64::NAN, 3), None);
    assert_eq!(patience(f64::INFINITY, i64::MAX), Some(Throttle::LONGEST));
}

#[test]
fn algorithms_have_names() {
    for algorithm in ALGORITHMS {
        assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
    }
    assert_eq!(Algorithm::from_name("leaky"), None);
    assert!("leaky".parse::<Algorithm>().is_err());
}

// Which limit holds.

#[track_caller]
fn holds(json: &str, expected: (Option<u64>, Option<u64>, LimitSource)) {
    let session: Session = json.parse().unwrap();
    let limits = ApiLimits::of(&session, &"a".into()).unwrap();
    let rate = limits.rate.map(|rate| rate.requests.get());
    let quota = limits.quota.map(|quota| quota.max.get());
    assert_eq!((rate, quota, limits.source), expected, "{json}");
}

#[test]
fn an_entrys_limit_replaces_all_of_the_sessions() {
    use LimitSource::{Api, Root};
    let of = |limit: &str| {
        format!(
            r#"{{"rate": 1, "per": 60, "quota_max": 10, "quota_renewal_rate": 60,
                "access_rights": {{"a": {{"limit": {limit}}}}}}}"#
        )
    };
    holds(&of("{}"), (Some(1), Some(10), Root));
    holds(&of("null"), (Some(1), Some(10), Root));
    holds(
        &of(r#"{"quota_max": 100, "quota_renewal_rate": 60}"#),
        (None, Some(100), Api),
    );
    holds(&of(r#"{"rate": 5, "per": 1}"#), (Some(5), None, Api));
    holds(&of(r#"{"rate": -1}"#), (None, None, Api));
    holds(&of(r#"{"max_query_depth": 3}"#), (None, None, Api));
    holds(r#"{"rate": 2, "per": 1}"#, (Some(2), None, Root));
    holds(
        r#"{"rate": 2, "per": 1, "access_rights": {"b": {}}}"#,
        (Some(2), None, Root),
    );
}

#[test]
fn an_entry_with_smoothing_alone_keeps_the_sessions_numbers() {
    let smoothing = r#"{"enabled": true, "threshold": 5, "trigger": 0.5, "step": 5, "delay": 1}"#;
    let of = |smoothing: &str| {
        let json = format!(
            r#"{{"rate": 20, "per": 60,
                "access_rights": {{"a": {{"limit": {{"smoothing": {smoothing}}}}}}}}}"#
        );
        ApiLimits::of(&json.parse().unwrap(), &"a".into()).unwrap()
    };
    let limits = of(smoothing);
    assert_eq!(limits.rate, Some(rate(20.0, 60.0)));
    assert_eq!(limits.source, LimitSource::Root);
    assert_eq!(
        limits.smoothing.map(|smoothing| smoothing.threshold),
        Some(5)
    );
    assert_eq!(
        of(r#"{"enabled": true, "threshold": 5}"#).smoothing,
        None,
        "not valid"
    );
}

#[test]
fn an_entry_without_smoothing_has_the_sessions() {
    let json = r#"{"rate": 20, "per": 60, "smoothing":
        {"enabled": true, "threshold": 5, "trigger": 0.5, "step": 5, "delay": 1},
        "access_rights": {"a": {"limit": {"rate": 9, "per": 60}}}}"#;
    let limits = ApiLimits::of(&json.parse().unwrap(), &"a".into()).unwrap();
    let steps = |limits: ApiLimits| limits.smoothed().rate.and_then(|rate| rate.steps);
    assert_eq!(steps(limits.clone()).map(|steps| steps.first(9)), Some(5));
    let fixed = limits.with_algorithm(Algorithm::FixedWindow);
    assert_eq!(steps(fixed), None, "only a window that slides");
}

#[test]
fn an_endpoint_replaces_the_rate_alone() {
    let json = r#"{"rate": 1, "per": 60, "quota_max": 10, "throttle_interval": 1,
        "throttle_retry_limit": 2, "access_rights": {"a": {"allowance_scope": "s"}}}"#;
    let limits = ApiLimits::of(&json.parse().unwrap(), &"a".into()).unwrap();
    let limits = limits.with_algorithm(Algorithm::Gcra);
    assert_eq!(limits.scope.as_deref(), Some("s"));
    assert_eq!(limits.patience(), 2 * SECOND);

    let endpoint = limits.clone().with_endpoint(5.0, 1.0).unwrap();
    let expected = Rate::per_second(5).with_algorithm(Algorithm::Gcra);
    assert_eq!(endpoint.rate, Some(expected));
    assert_eq!(endpoint.rate_source, LimitSource::Endpoint);
    assert_eq!(
        (endpoint.quota, endpoint.source),
        (limits.quota.clone(), LimitSource::Root)
    );

    let free = limits.clone().with_endpoint(-1.0, 0.0).unwrap();
    assert_eq!(free.rate, None);
    assert!(limits.with_endpoint(1.0, 0.0).is_err());
}
