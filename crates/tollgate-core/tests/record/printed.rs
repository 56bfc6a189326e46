//! Sessions that Tyk printed.

use serde_json::{Map, Value, json};
use tollgate_core::Session;

const DOCUMENTED: &str = include_str!("../fixtures/documented_session.json");
const PRINTED: &str = include_str!("../fixtures/printed_sessions.json");
const STORED: &str = include_str!("../fixtures/stored_sessions.json");

/// Loads and saves a session, and compares what was given member by member.
#[track_caller]
fn check(what: &str, given: &Value) -> Session {
    let session = Session::from_json(given.to_string()).unwrap();
    let saved: Map<String, Value> = serde_json::from_str(&session.to_json()).unwrap();
    for (member, value) in given.as_object().unwrap() {
        check_saved(&format!("{what}: {member}"), value, &saved[member]);
    }
    let again = Session::from_json(session.to_json()).unwrap();
    assert_eq!(again, session, "{what}: loaded, saved and loaded");
    session
}

/// Every member that was given is saved with the value given; objects may have gained members.
#[track_caller]
fn check_saved(place: &str, given: &Value, saved: &Value) {
    match (given, saved) {
        (Value::Object(given), Value::Object(saved)) => {
            for (member, value) in given {
                check_saved(&format!("{place}.{member}"), value, &saved[member]);
            }
        }
        (Value::Number(given), Value::Number(saved)) => {
            assert_eq!(given.as_f64(), saved.as_f64(), "{place}");
        }
        // After policies are applied, Tyk has empty lists and maps in place of unset ones.
        (given, Value::Null) if *given == json!([]) || *given == json!({}) => {}
        (given, saved) => assert_eq!(given, saved, "{place}"),
    }
}

#[test]
fn the_session_of_the_documents_survives() {
    check("documented", &serde_json::from_str(DOCUMENTED).unwrap());
}

#[test]
fn the_session_of_the_documents_has_the_values_printed() {
    let session: Session = DOCUMENTED.parse().unwrap();
    assert_eq!(session.last_check, 0);
    assert_eq!(session.allowance, 1000.0);
    assert_eq!(session.rate, 1000.0);
    assert_eq!(session.per, 1.0);
    assert_eq!(session.expires, 1_458_669_677);
    assert_eq!(session.quota_max, 1000);
    assert_eq!(session.quota_renews, 1_458_667_309);
    assert_eq!(session.quota_remaining, 1000);
    assert_eq!(session.quota_renewal_rate, 3600);
    assert_eq!(session.access_rights.len(), 1);
    let rights = &session.access_rights["e1d21f942ec746ed416ab97fe1bf07e8"];
    assert_eq!(rights.api_name, "Closed");
    assert_eq!(rights.api_id, "e1d21f942ec746ed416ab97fe1bf07e8");
    assert_eq!(rights.versions, ["Default"]);
    assert!(rights.allowed_urls.is_empty() && rights.limit.is_empty());
    assert_eq!(session.org_id.as_str(), "53ac07777cbb8c2d53000002");
    assert_eq!(session.oauth_client_id, "");
    assert!(session.basic_auth_data.password.is_empty());
    assert_eq!(session.basic_auth_data.hash_type, "");
    assert!(session.jwt_data.secret.is_empty());
    assert!(!session.hmac_enabled && !session.is_inactive);
    assert!(session.hmac_string.is_empty() && session.apply_policy_id.is_empty());
    let policies: Vec<_> = session.policies().iter().map(|id| id.as_str()).collect();
    let expected = [
        "59672779fa4387000129507d",
        "53222349fa4387004324324e",
        "543534s9fa4387004324324d",
    ];
    assert_eq!(policies, expected);
    assert_eq!(session.data_expires, 0);
    assert!(session.monitor.trigger_limits.is_empty());
    let test = session.meta_data.get("test").unwrap();
    assert_eq!(test.as_text().as_deref(), Some("test-data"));
    assert_eq!(session.tags, ["tag1", "tag2"]);
    assert_eq!(session.alias, "john@smith.com");
    assert!(session.unknown.is_empty());
}

#[test]
fn printed_sessions_survive_and_hold_nothing_unknown() {
    let printed: Vec<Value> = serde_json::from_str(PRINTED).unwrap();
    assert!(30 < printed.len());
    for line in &printed {
        let session = check(line["case"].as_str().unwrap(), &line["session"]);
        assert!(session.unknown.is_empty(), "{}", line["case"]);
    }
}

#[test]
fn a_saved_session_has_the_members_that_tyk_prints_and_in_their_order() {
    let printed: Vec<Value> = serde_json::from_str(PRINTED).unwrap();
    for line in &printed {
        let session = Session::from_json(line["session"].to_string()).unwrap();
        let saved: Map<String, Value> = serde_json::from_str(&session.to_json()).unwrap();
        let given = line["session"].as_object().unwrap();
        assert!(saved.keys().eq(given.keys()), "{}", line["case"]);
    }
}

#[test]
fn stored_texts_are_read_where_tyk_reads_them() {
    let stored: Vec<Value> = serde_json::from_str(STORED).unwrap();
    assert!(10 < stored.len());
    for line in &stored {
        let read = Session::from_json(line["text"].as_str().unwrap());
        assert_eq!(
            read.is_ok(),
            line["reads"] == true,
            "{}: {read:?}",
            line["case"]
        );
    }
}

#[test]
fn the_old_and_the_compact_form_are_one_session() {
    let compact: Session = r#"{"rate":100,"per":60,"org_id":"o"}"#.parse().unwrap();
    assert_eq!(Session::from_json(compact.to_json()).unwrap(), compact);
    let nulls: Map<String, Value> = serde_json::from_str::<Map<_, _>>(&compact.to_json())
        .unwrap()
        .into_iter()
        .map(|(member, value)| match member.as_str() {
            "rate" | "per" | "org_id" => (member, value),
            _ => (member, Value::Null),
        })
        .collect();
    let nulls = Session::from_json(Value::from(nulls).to_string()).unwrap();
    assert_eq!(nulls, compact);
}
