//! Session objects: any JSON.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, value::RawValue};
use tollgate_core::{
    ApiId, Loaded, Session,
    access::{MasterKeys, PathOptions, RequestPath},
    pass::{Kinds, Pass, Plan, Rules},
    policy::PolicySet,
    store::Version,
};

use super::numbers::{check_holds, check_limits};

/// Members that a session without them does not write.
const OMITTED: [&str; 3] = [
    "mtls_static_certificate_bindings",
    "post_expiry_action",
    "post_expiry_grace_period",
];

/// Checks a session object.
pub fn check(data: &[u8]) {
    let Ok(session) = Session::from_json(data) else {
        return;
    };
    let json = String::from_utf8_lossy(data);
    check_survives(&session, &json);
    check_unknown(&session, &json);
    for api in session.access_rights.keys() {
        check_limits(&session, api);
    }
    check_limits(&session, &ApiId::default());
    check_compiles(session);
}

/// What was read, written and read again is the same.
pub fn check_survives(session: &Session, json: &str) {
    let written = session.to_json();
    let again = Session::from_json(&written).expect("what is written can be read");
    assert_eq!(again.to_json(), written);
    // A value that is too deep or too large to be looked into equals itself alone, and a write may
    // escape a character in it.
    if is_comparable(json) {
        assert!(again == *session, "{session:?} is read as {again:?}");
    }
}

/// Whether every value can be compared.
pub fn is_comparable(json: &str) -> bool {
    serde_json::from_str::<Value>(json).is_ok()
}

/// No member that Tyk does not know is lost.
fn check_unknown(session: &Session, json: &str) {
    let given: BTreeMap<String, &RawValue> = serde_json::from_str(json).expect("was read");
    let written = Session::default().to_json();
    let known: BTreeMap<String, &RawValue> = serde_json::from_str(&written).expect("is JSON");
    let is_known = |name: &str| {
        let mut known = known.keys().map(|known| &**known).chain(OMITTED);
        known.any(|known| known.eq_ignore_ascii_case(name))
    };
    for (name, value) in given.into_iter().filter(|(name, _)| !is_known(name)) {
        let kept = session.unknown.get(&name).map(|value| value.as_str());
        assert_eq!(kept, Some(value.get()), "{name}");
    }
}

/// A session can be compiled for use, and every limit of it holds; also with policies of its own.
fn check_compiles(session: Session) {
    let session = Arc::new(session);
    for allow_inline_policies in [false, true] {
        let rules = Rules {
            paths: PathOptions::strict(),
            master_keys: MasterKeys::Allowed,
            allow_inline_policies,
            ..Rules::default()
        };
        let plan = Arc::new(Plan::new(rules, PolicySet::default()));
        let loaded = Loaded::new("name", session.clone(), Version(1));
        if let Ok(pass) = plan.pass(&loaded) {
            check_pass(&pass);
        }
    }
}

fn check_pass(pass: &Pass) {
    let path = RequestPath::of("/api/a/1", Some("/api/")).expect("a usual path");
    for api in pass.session().access_rights.keys() {
        let Ok(at) = pass.find(api) else {
            continue; // Its numbers are no limits, and it is refused.
        };
        let entry = pass.entry(at);
        let allowed = entry.path_allowed("GET", &path);
        assert_eq!(entry.path_allowed("GET", &path), allowed);
        for charge in entry.charges(Kinds::Both, Some(("GET", &path))) {
            check_holds(charge.limit.clone());
        }
        check_limits(pass.session(), api);
    }
    let written = pass.session().to_json();
    check_survives(pass.session(), &written);
}
