//! How long a store keeps a record, which is not how long the key may be used.

use std::time::Duration;

use tollgate_core::Session;

use crate::{api_set::Facts, settings::Settings};

/// How long the record of a key is kept; `None` for ever. The longest that any of its APIs asks for
/// counts; of a key that may call everything, any API that is loaded.
pub(crate) fn of<'a>(
    merged: &Session,
    apis: impl Iterator<Item = &'a Facts>,
    settings: &Settings,
    now: u64,
) -> Option<Duration> {
    let seconds = apis.map(|api| of_one(merged, api, settings, now));
    let all: Vec<i64> = seconds.collect();
    if all.contains(&-1) {
        return None;
    }
    let longest = all.into_iter().max().unwrap_or(0);
    let seconds = u64::try_from(longest).ok().filter(|seconds| *seconds > 0);
    seconds.map(Duration::from_secs)
}

fn of_one(session: &Session, api: &Facts, settings: &Settings, now: u64) -> i64 {
    let until_expiry = session
        .expires
        .saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
    if let Some(forced) = settings.forced_lifetime {
        return forced;
    }
    let grace = session.post_expiry_grace_period;
    let never_ends = session.expires <= 0;
    match &*session.post_expiry_action {
        "delete" if never_ends => return 0,
        "delete" => return until_expiry.max(1),
        "retain" if grace != 0 && never_ends => return 0,
        "retain" if grace == -1 => return -1,
        "retain" if grace != 0 => return until_expiry.saturating_add(grace).max(1),
        _ => {}
    }
    let positive = |seconds: i64| Some(seconds).filter(|seconds| *seconds > 0);
    let own = positive(session.session_lifetime).or(positive(api.session_lifetime));
    let Some(own) = own else {
        return 0;
    };
    let respects =
        settings.lifetime_respects_expiry || api.session_lifetime_respects_key_expiration;
    if !respects {
        return own;
    }
    if session.expires <= 0 {
        return session.expires;
    }
    own.max(until_expiry)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    struct Case<'a> {
        session: &'a str,
        apis: &'a [(i64, bool)],
        forced: Option<i64>,
        seconds: Option<u64>,
    }

    #[track_caller]
    fn check(case: &Case<'_>) {
        let text = case
            .session
            .replace("NOW+", "170000")
            .replace("PAST", "1699999950");
        let session: Session = text.parse().unwrap();
        let apis: Vec<_> = case
            .apis
            .iter()
            .map(|(session_lifetime, respects)| Facts {
                session_lifetime: *session_lifetime,
                session_lifetime_respects_key_expiration: *respects,
                ..Facts::default()
            })
            .collect();
        let settings = Settings {
            forced_lifetime: case.forced,
            ..Settings::new("x")
        };
        let found = of(&session, apis.iter(), &settings, NOW);
        let expected = case.seconds.map(Duration::from_secs);
        assert_eq!(found, expected, "{} at {:?}", case.session, case.apis);
    }

    #[track_caller]
    fn check_all(session: &str, apis: &[(i64, bool)], seconds: Option<u64>) {
        check(&Case {
            session,
            apis,
            forced: None,
            seconds,
        });
        check(&Case {
            session,
            apis,
            forced: Some(42),
            seconds: (!apis.is_empty()).then_some(42),
        });
    }

    #[test]
    fn the_longest_of_all_apis_counts() {
        check_all("{}", &[], None);
        check_all("{}", &[(0, false)], None);
        check_all("{}", &[(0, false), (1000, false)], Some(1000));
        check_all("{}", &[(1000, false), (999, false)], Some(1000));
        check_all(r#"{"session_lifetime": 200}"#, &[(500, false)], Some(200));
        check_all(r#"{"session_lifetime": -5}"#, &[(500, false)], Some(500));
    }

    #[test]
    fn an_expiry_that_is_respected_may_be_longer() {
        check_all(r#"{"expires": NOW+0300}"#, &[(60, false)], Some(60));
        check_all(r#"{"expires": NOW+0300}"#, &[(60, true)], Some(300));
        check_all(r#"{"expires": NOW+0300}"#, &[(600, true)], Some(600));
        check_all(r#"{"expires": 0}"#, &[(60, true)], None);
        check_all(r#"{"expires": -1}"#, &[(60, true)], None);
        check_all(r#"{"expires": -1}"#, &[(60, true), (70, false)], None);
    }

    #[test]
    fn what_is_to_happen_after_expiry_goes_before_lifetimes() {
        let at = |action: &str, grace: i64, expires: &str| {
            format!(
                r#"{{"post_expiry_action": "{action}", "post_expiry_grace_period": {grace},
                    "expires": {expires}}}"#
            )
        };
        let api = &[(60, false)];
        check_all(&at("delete", 0, "NOW+0300"), api, Some(300));
        check_all(&at("retain", 600, "NOW+0300"), api, Some(900));
        check_all(&at("retain", -1, "NOW+0300"), api, None);
        check_all(&at("retain", 0, "NOW+0300"), api, Some(60));
        check_all(&at("delete", 0, "PAST"), api, Some(1));
        check_all(&at("delete", 0, "0"), api, None);
        check_all(&at("retain", 600, "-1"), api, None);
        check_all(&at("other", 600, "NOW+0300"), api, Some(60));
    }
}
