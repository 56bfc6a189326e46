//! How session objects are written.

use std::fmt::Write;

use proptest::{collection, option, prelude::*};
use serde_json::{Map, Value, json};
use tollgate_core::Session;

/// The session is written with this in its text.
#[track_caller]
fn check(json: &str, written: &str) {
    let session = Session::from_json(json).unwrap();
    let saved = session.to_json();
    assert!(saved.contains(written), "{json}: {saved}");
    assert_eq!(
        Session::from_json(&saved).unwrap(),
        session,
        "{json}: {saved}"
    );
}

#[test]
fn characters_of_html_are_escaped() {
    check(
        r#"{"alias":"<a>&\u2028\u2029é"}"#,
        r#""alias":"\u003ca\u003e\u0026\u2028\u2029é""#,
    );
    check(r#"{"meta_data":{"<":"&é"}}"#, r#"{"\u003c":"\u0026é"}"#);
    check(r#"{"other":["<>"]}"#, r#""other":["\u003c\u003e"]"#);
}

#[test]
fn whole_floats_have_no_fraction() {
    check(r#"{"rate":10.0}"#, r#""rate":10,"#);
    check(r#"{"rate":-1}"#, r#""rate":-1,"#);
    check(r#"{"rate":1e3}"#, r#""rate":1000,"#);
    check(r#"{"rate":0.5,"per":1.25}"#, r#""rate":0.5,"per":1.25,"#);
    check(
        r#"{"rate":9007199254740991}"#,
        r#""rate":9007199254740991,"#,
    );
    check(r#"{"rate":1e300}"#, r#""rate":1e+300,"#);
}

#[test]
fn empty_maps_and_lists_are_null() {
    check("{}", r#""access_rights":null"#);
    check("{}", r#""tags":null"#);
    check("{}", r#""meta_data":null"#);
    check(
        r#"{"tags":[],"meta_data":{}}"#,
        r#""meta_data":null,"tags":null"#,
    );
    check("{}", r#""monitor":{"trigger_limits":null}"#);
    check(r#"{"access_rights":{"a":{}}}"#, r#""allowed_urls":null"#);
}

#[test]
fn what_later_versions_added_is_left_out_when_unset() {
    let saved = Session::default().to_json();
    for member in [
        "post_expiry",
        "mtls_static",
        "endpoints",
        "json_rpc",
        "mcp_",
    ] {
        assert!(!saved.contains(member), "{member} in {saved}");
    }
    let rights =
        r#"{"access_rights":{"a":{"endpoints":[{"path":"/","methods":[{"name":"GET"}]}]}}}"#;
    check(rights, r#"{"name":"GET","limit":{}}"#);
}

#[test]
fn numbers_of_free_data_keep_their_digits() {
    for number in [
        "9007199254740993",
        "123456789012345678901234567890",
        "0.12345678901234567890123456789",
        "1.0",
        "1e400",
    ] {
        check(
            &format!(r#"{{"meta_data":{{"n":{number}}}}}"#),
            &format!(r#"{{"n":{number}}}"#),
        );
        check(
            &format!(r#"{{"other":[{number}]}}"#),
            &format!(r#""other":[{number}]"#),
        );
    }
}

#[test]
fn numbers_too_large_to_compare_are_not_equal() {
    let read = |number| Session::from_json(format!(r#"{{"meta_data":{{"n":{number}}}}}"#)).unwrap();
    assert_ne!(read("1e400"), read("1e401"));
    assert_eq!(read("1e400"), read("1e400"));
}

#[test]
fn unknown_members_are_kept_at_every_level() {
    for json in [
        r#"{"new":{"a":[1,null]}}"#,
        r#"{"New":1,"new":2}"#,
        r#"{"new":null}"#,
        r#"{"access_rights":{"a":{"new":1}}}"#,
        r#"{"access_rights":{"a":{"limit":{"new":1}}}}"#,
        r#"{"access_rights":{"a":{"limit":{"smoothing":{"enabled":true,"new":1}}}}}"#,
        r#"{"access_rights":{"a":{"allowed_urls":[{"url":"/","methods":["GET"],"new":1}]}}}"#,
        r#"{"access_rights":{"a":{"endpoints":[{"methods":[{"limit":{"new":1}}]}]}}}"#,
        r#"{"access_rights":{"a":{"mcp_access_rights":{"tools":{"new":1}}}}}"#,
        r#"{"basic_auth_data":{"new":1}}"#,
        r#"{"jwt_data":{"new":1}}"#,
        r#"{"monitor":{"new":1}}"#,
        r#"{"smoothing":{"new":1}}"#,
    ] {
        let given: Value = serde_json::from_str(json).unwrap();
        let session = Session::from_json(json).unwrap();
        let saved = serde_json::from_str(&session.to_json()).unwrap();
        assert_holds(&saved, &given, json);
        assert_eq!(Session::from_json(session.to_json()).unwrap(), session);
    }
}

#[track_caller]
fn assert_holds(saved: &Value, given: &Value, what: &str) {
    match given {
        Value::Object(members) => {
            for (member, value) in members {
                assert!(saved.get(member).is_some(), "{what}: {member} of {saved}");
                assert_holds(&saved[member], value, what);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                assert_holds(&saved[index], item, what);
            }
        }
        other => assert_eq!(saved, other, "{what}"),
    }
}

#[test]
fn a_session_prints_no_secret() {
    let session: Session = json!({
        "hmac_string": "hunter2",
        "jwt_data": {"secret": "hunter2"},
        "basic_auth_data": {"password": "hunter2", "hash_type": "sha256"},
        "oauth_keys": {"client": "hunter2"},
        "meta_data": {"token": "hunter2"},
    })
    .to_string()
    .parse()
    .unwrap();
    assert!(!format!("{session:?}").contains("hunter2"));
    assert!(!format!("{session:#?}").contains("hunter2"));
    assert_eq!(session.to_json().matches("hunter2").count(), 5);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object with some of these members, which have these kinds of values.
fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = members
        .into_iter()
        .map(|(name, value)| (name, option::of(value)))
        .unzip();
    values
        .prop_map(move |values| {
            let given = names.iter().copied().zip(values);
            let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(given.collect::<Map<_, _>>())
        })
        .boxed()
}

fn list(item: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    collection::vec(item, 0..3).prop_map(Value::from).boxed()
}

fn map(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    collection::hash_map("[a-zé<]{0,4}", value, 0..3)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
        .boxed()
}

fn any_session() -> BoxedStrategy<Value> {
    let text = || any::<String>().prop_map(Value::from).boxed();
    let int = || any::<i64>().prop_map(Value::from).boxed();
    let float = || any::<f64>().prop_map(Value::from).boxed();
    let flag = || any::<bool>().prop_map(Value::from).boxed();
    let smoothing = || {
        object(vec![
            ("enabled", flag()),
            ("trigger", float()),
            ("step", int()),
        ])
    };
    let limit = || {
        object(vec![
            ("rate", float()),
            ("quota_max", int()),
            ("smoothing", smoothing()),
        ])
    };
    let method = || object(vec![("name", text()), ("limit", limit())]);
    let endpoint = object(vec![("path", text()), ("methods", list(method()))]);
    let url = object(vec![("url", text()), ("methods", list(text()))]);
    let names = || object(vec![("allowed", list(text())), ("blocked", list(text()))]);
    let rights = object(vec![
        ("api_name", text()),
        ("versions", list(text())),
        ("allowed_urls", list(url)),
        ("limit", limit()),
        ("endpoints", list(endpoint)),
        ("json_rpc_methods", list(method())),
        ("mcp_access_rights", object(vec![("tools", names())])),
    ]);
    object(vec![
        ("allowance", float()),
        ("rate", float()),
        ("expires", int()),
        ("access_rights", map(rights)),
        ("org_id", text()),
        ("oauth_keys", map(text())),
        (
            "basic_auth_data",
            object(vec![("password", text()), ("hash_type", text())]),
        ),
        ("jwt_data", object(vec![("secret", text())])),
        ("is_inactive", flag()),
        ("apply_policies", list(text())),
        ("monitor", object(vec![("trigger_limits", list(float()))])),
        ("meta_data", map(any_json())),
        ("tags", list(text())),
        ("smoothing", smoothing()),
        ("post_expiry_grace_period", int()),
        ("something_new", any_json().boxed()),
    ])
}

proptest! {
    #[test]
    fn any_session_survives_a_save_and_a_load(given in any_session()) {
        let session = Session::from_json(given.to_string()).unwrap();
        let saved = session.to_json();
        let again = Session::from_json(&saved).unwrap();
        prop_assert_eq!(&again, &session);
        prop_assert_eq!(again.to_json(), saved);
    }

    #[test]
    fn reading_never_panics(mut text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = Session::from_json(&bytes);
        text.insert_str(0, r#"{"meta_data":"#);
        write!(text, "}}").unwrap();
        let _ = Session::from_json(&text);
    }
}
