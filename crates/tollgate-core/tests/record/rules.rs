//! What a session says about its policies and its end.

use tollgate_core::{Rejection, Session, clock::UnixSeconds};

const NOW: u64 = 1_700_000_000;

#[track_caller]
fn check_policies(json: &str, policies: &[&str]) {
    let session = Session::from_json(json).unwrap();
    let found: Vec<_> = session.policies().iter().map(|id| id.as_str()).collect();
    assert_eq!(found, policies, "{json}");
}

#[track_caller]
fn check(expires: i64, expiry: Option<u64>, lifecycle: Result<(), Rejection>) {
    let mut session = Session {
        expires,
        ..Session::default()
    };
    assert_eq!(session.expiry(), expiry.map(UnixSeconds), "{expires}");
    assert_eq!(session.lifecycle(UnixSeconds(NOW)), lifecycle, "{expires}");
    session.is_inactive = true;
    let inactive = Err(Rejection::KeyInactive);
    assert_eq!(session.lifecycle(UnixSeconds(NOW)), inactive, "{expires}");
}

#[test]
fn a_list_of_policies_goes_before_the_single_one() {
    check_policies("{}", &[]);
    check_policies(r#"{"apply_policy_id":"a"}"#, &["a"]);
    check_policies(r#"{"apply_policy_id":"a","apply_policies":[]}"#, &["a"]);
    check_policies(
        r#"{"apply_policy_id":"a","apply_policies":["b","c"]}"#,
        &["b", "c"],
    );
    check_policies(r#"{"apply_policies":["c","b","c"]}"#, &["c", "b", "c"]);
}

#[test]
fn zero_and_below_is_never() {
    check(0, None, Ok(()));
    check(-1, None, Ok(()));
    check(i64::MIN, None, Ok(()));
}

#[test]
fn a_session_ends_after_its_last_second() {
    check(1, Some(1), Err(Rejection::KeyExpired));
    check(1_699_999_999, Some(NOW - 1), Err(Rejection::KeyExpired));
    check(1_700_000_000, Some(NOW), Ok(()));
    check(1_700_000_001, Some(NOW + 1), Ok(()));
    check(i64::MAX, Some(i64::MAX.unsigned_abs()), Ok(()));
}
