//! How session objects are read.

use tollgate_core::Session;

/// The JSON is refused, at this place, with a message that holds this.
#[track_caller]
fn check_refused(json: &str, path: &str, message: &str) {
    let refused = Session::from_json(json).expect_err(json);
    assert_eq!(refused.path(), path, "{json}: {refused}");
    assert!(refused.message().contains(message), "{json}: {refused}");
    let (line, column) = refused.position();
    assert!(0 < line, "{json}: {refused}");
    assert!(column <= json.len() + 1, "{json}: {refused}");
}

/// Both texts are read as the same session.
#[track_caller]
fn check_same(json: &str, other: &str) {
    let session = Session::from_json(json).unwrap();
    assert_eq!(
        session,
        Session::from_json(other).unwrap(),
        "{json} and {other}"
    );
}

#[test]
fn names_are_compared_without_case() {
    check_same(r#"{"Rate":1,"ORG_ID":"o"}"#, r#"{"rate":1,"org_id":"o"}"#);
    check_same(
        r#"{"Access_Rights":{"A":{"Versions":["v"],"LIMIT":{"Quota_Max":1}}}}"#,
        r#"{"access_rights":{"A":{"versions":["v"],"limit":{"quota_max":1}}}}"#,
    );
}

#[test]
fn the_later_of_two_members_counts() {
    check_same(r#"{"rate":1,"RATE":2}"#, r#"{"rate":2}"#);
    check_same(r#"{"RATE":2,"rate":1}"#, r#"{"rate":1}"#);
    check_same(r#"{"tags":["a","b"],"tags":["c"]}"#, r#"{"tags":["c"]}"#);
    check_same(r#"{"rate":1,"rate":0}"#, "{}");
    check_same(r#"{"other":1,"other":2}"#, r#"{"other":2}"#);
}

#[test]
fn maps_and_objects_given_twice_merge() {
    check_same(
        r#"{"meta_data":{"a":1,"b":1},"meta_data":{"b":2}}"#,
        r#"{"meta_data":{"a":1,"b":2}}"#,
    );
    check_same(
        r#"{"access_rights":{"a":{"api_id":"a"},"b":{}},"access_rights":{"a":{"api_name":"A"}}}"#,
        r#"{"access_rights":{"a":{"api_name":"A"},"b":{}}}"#,
    );
    check_same(
        r#"{"basic_auth_data":{"password":"p","x":1},"basic_auth_data":{"hash_type":"h"}}"#,
        r#"{"basic_auth_data":{"password":"p","hash_type":"h","x":1}}"#,
    );
    check_same(
        r#"{"smoothing":{"enabled":true,"step":1},"smoothing":{"step":0,"delay":2}}"#,
        r#"{"smoothing":{"enabled":true,"delay":2}}"#,
    );
}

#[test]
fn null_is_not_given() {
    check_same(
        r#"{"rate":null,"org_id":null,"monitor":null,"tags":null}"#,
        "{}",
    );
    check_same(r#"{"rate":1,"rate":null}"#, r#"{"rate":1}"#);
    check_same(
        r#"{"smoothing":null,"date_created":null,"hmac_string":null}"#,
        "{}",
    );
    check_same(
        r#"{"access_rights":{"a":null}}"#,
        r#"{"access_rights":{"a":{}}}"#,
    );
    check_same(
        r#"{"access_rights":{"a":{"limit":null,"allowed_urls":null,"endpoints":null}}}"#,
        r#"{"access_rights":{"a":{}}}"#,
    );
    check_same(r#"{"tags":[null]}"#, r#"{"tags":[""]}"#);
}

#[test]
fn a_null_among_free_data_is_kept() {
    let session: Session = r#"{"meta_data":{"a":null}}"#.parse().unwrap();
    assert_eq!(session.meta_data.get("a").unwrap().as_str(), "null");
}

#[test]
fn a_wrong_type_is_told_with_its_place() {
    for (json, path, message) in [
        (r#"{"rate":"10"}"#, "rate", "expected f64"),
        (
            r#"{"quota_max":10.5}"#,
            "quota_max",
            "floating point `10.5`",
        ),
        (r#"{"quota_max":5.0}"#, "quota_max", "floating point"),
        (r#"{"expires":1.5e9}"#, "expires", "floating point"),
        (r#"{"expires":1e9}"#, "expires", "floating point"),
        (
            r#"{"expires":9223372036854775808}"#,
            "expires",
            "9223372036854775808",
        ),
        (
            r#"{"expires":-9223372036854775809}"#,
            "expires",
            "expected i64",
        ),
        (r#"{"tags":"x"}"#, "tags", "expected a sequence"),
        (r#"{"tags":["a",1]}"#, "tags[1]", "integer `1`"),
        (r#"{"date_created":""}"#, "date_created", "RFC 3339"),
        (
            r#"{"date_created":"yesterday"}"#,
            "date_created",
            "yesterday",
        ),
        (
            r#"{"date_created":"2020-01-01"}"#,
            "date_created",
            "RFC 3339",
        ),
        (
            r#"{"is_inactive":"true"}"#,
            "is_inactive",
            "expected a boolean",
        ),
        (r#"{"is_inactive":0}"#, "is_inactive", "expected a boolean"),
        (r#"{"org_id":1}"#, "org_id", "expected a string"),
        (
            r#"{"apply_policies":[7]}"#,
            "apply_policies[0]",
            "integer `7`",
        ),
        (r#"{"meta_data":[]}"#, "meta_data", "expected a map"),
        (r#"{"monitor":[]}"#, "monitor", "expected an object"),
        (
            r#"{"monitor":{"trigger_limits":["80"]}}"#,
            "monitor.trigger_limits[0]",
            "expected f64",
        ),
        (r#"{"access_rights":[]}"#, "access_rights", "expected a map"),
        (
            r#"{"access_rights":{"a":{"versions":[{}]}}}"#,
            "access_rights.a.versions[0]",
            "map",
        ),
        (
            r#"{"access_rights":{"a":{"limit":{"per":true}}}}"#,
            "access_rights.a.limit.per",
            "true",
        ),
        (
            r#"{"smoothing":{"step":1.5}}"#,
            "smoothing.step",
            "expected i64",
        ),
        (r#"{"RATE":[]}"#, "RATE", "sequence"),
    ] {
        check_refused(json, path, message);
    }
}

#[test]
fn what_is_not_one_object_is_refused() {
    for (json, message) in [
        ("", "EOF"),
        ("null", "null"),
        ("[]", "expected an object"),
        ("\u{feff}{}", "expected value"),
        ("{}x", "trailing characters"),
        ("{} {}", "trailing characters"),
        (r#""text""#, "expected an object"),
    ] {
        check_refused(json, ".", message);
    }
    assert!(Session::from_json(r#"{"rate":1"#).is_err());
    assert!(Session::from_json(" {} \n").is_ok());
}

#[test]
fn an_error_prints_no_secret() {
    for json in [
        r#"{"hmac_string":4242}"#,
        r#"{"hmac_string":[4242]}"#,
        r#"{"jwt_data":{"secret":4242}}"#,
        r#"{"jwt_data":"4242"}"#,
        r#"{"basic_auth_data":"4242, expected nothing"}"#,
        r#"{"basic_auth_data":{"password":4242}}"#,
        r#"{"oauth_keys":{"client":4242}}"#,
        r#"{"oauth_keys":"4242"}"#,
    ] {
        let refused = Session::from_json(json).expect_err(json).to_string();
        assert!(!refused.contains("4242"), "{refused}");
        assert!(refused.contains("expected"), "{refused}");
    }
}

#[test]
fn the_largest_and_smallest_integers_are_read() {
    for expires in [i64::MAX, i64::MIN, 0, -1] {
        let session: Session = format!(r#"{{"expires":{expires}}}"#).parse().unwrap();
        assert_eq!(session.expires, expires);
        assert!(
            session
                .to_json()
                .contains(&format!(r#""expires":{expires},"#))
        );
    }
}

#[test]
fn broken_utf8_is_read_as_the_replacement_character() {
    let session = Session::from_json(b"{\"alias\":\"a\xffb\"}").unwrap();
    assert_eq!(session.alias, "a\u{fffd}b");
    assert!(Session::from_json(b"\xff{}").is_err());
}

#[test]
fn half_a_character_is_read_as_the_replacement_character() {
    for (escapes, read) in [
        (r"a\ud800b", "a\u{fffd}b"),
        (
            r"\udc00\ud800\uD83D\uDE00\ud800",
            "\u{fffd}\u{fffd}😀\u{fffd}",
        ),
        (r"\\ud800\ud800", "\\ud800\u{fffd}"),
        (
            r"\ud800\u0041\ud800\n\ud800é",
            "\u{fffd}A\u{fffd}\n\u{fffd}é",
        ),
    ] {
        let json = format!(r#"{{"alias":"{escapes}","tags":["{escapes}"]}}"#);
        let session = Session::from_json(&json).expect(&json);
        assert_eq!((&*session.alias, &*session.tags[0]), (read, read), "{json}");
    }
    for broken in [r"\ud80", r"\ud800\", r"\ud800\x"] {
        let json = format!(r#"{{"alias":"{broken}"}}"#);
        assert!(Session::from_json(&json).is_err(), "{json}");
    }
}
