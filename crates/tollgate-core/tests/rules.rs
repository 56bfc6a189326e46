//! The rules of access rights and policies as tables, and what holds for all of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;
use tollgate_core::{
    ApiId, Loaded, OrgId, PolicyId, Rejection, Session,
    access::{
        AccessRights, EndpointRules, Granted, MasterKeys, Organisations, PathOptions, PathRules,
        RequestPath, VersionRule, version_allowed,
    },
    pass::Plan,
    policy::{
        self, Partitions, Policy, PolicyError, PolicyLoadError, PolicyOptions, PolicySet, Unusable,
    },
    session::{AccessDefinition, AllowedUrl, ApiLimit, Endpoint},
    store::Version,
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn version(held: &[&str], requested: Option<&str>, fallback: bool, default: &str, allowed: bool) {
    let rule = VersionRule {
        not_versioned: false,
        default_version: default.into(),
        fallback_to_default: fallback,
        known: texts(&["v1", "v2"]),
    };
    let ours = version_allowed(&texts(held), requested, &rule);
    assert_eq!(ours, allowed, "{held:?} {requested:?} {rule:?}");
}

#[test]
fn a_version_is_held_by_its_name() {
    version(&["v1"], Some("v1"), false, "", true);
    version(&["v1"], Some("V1"), false, "", false);
    version(&["v1"], Some("v2"), false, "v1", false);
    version(&[], Some("v1"), false, "v1", false);
}

#[test]
fn the_default_version_is_that_of_a_request_without_one() {
    for requested in [None, Some("")] {
        version(&["v1"], requested, false, "v1", true);
        version(&["v2"], requested, false, "v1", false);
        version(&["v1"], requested, false, "", false);
        version(&[""], requested, false, "", true);
        version(&[""], requested, false, "v1", false);
    }
}

#[test]
fn the_default_version_stands_in_for_those_that_do_not_exist() {
    version(&["v1"], Some("v9"), true, "v1", true);
    version(&["v1"], Some("v9"), false, "v1", false);
    version(&["v1"], Some("v2"), true, "v1", false);
    version(&["v2"], Some("v9"), true, "v1", false);
    version(&["v2"], Some("v1"), true, "v1", false);
}

#[test]
fn versions_of_an_api_without_any_are_not_looked_at() {
    let rule = VersionRule {
        not_versioned: true,
        ..VersionRule::default()
    };
    assert!(version_allowed(&[], Some("v9"), &rule));
}

#[track_caller]
fn api(session: &str, master_keys: MasterKeys, organisations: Organisations, granted: bool) {
    let session: Session = session.parse().expect("is a session");
    let (rights, problems) = AccessRights::compile(&session, PathOptions::default());
    assert_eq!(problems, []);
    let (api, org) = (ApiId::from("a"), OrgId::from("o"));
    match rights.api(&api, &org, master_keys, organisations) {
        Ok(found) => {
            let is_entry = !session.access_rights.is_empty();
            assert_eq!(matches!(found, Granted::Entry(_)), is_entry);
            assert!(granted, "{session:?}");
        }
        Err(rejection) => {
            assert_eq!(rejection, Rejection::ApiNotGranted);
            assert!(!granted, "{session:?}");
        }
    }
}

#[test]
fn an_api_is_granted_by_its_key_in_the_map() {
    use MasterKeys::Refused;
    use Organisations::{Mixed, Separate};
    api(r#"{"access_rights": {"a": null}}"#, Refused, Separate, true);
    api(
        r#"{"access_rights": {"A": {"api_id": "a"}}}"#,
        Refused,
        Separate,
        false,
    );
    api(
        r#"{"org_id": "o", "access_rights": {"a": {}}}"#,
        Refused,
        Separate,
        true,
    );
    api(
        r#"{"org_id": "p", "access_rights": {"a": {}}}"#,
        Refused,
        Separate,
        false,
    );
    api(
        r#"{"org_id": "p", "access_rights": {"a": {}}}"#,
        Refused,
        Mixed,
        true,
    );
}

#[test]
fn a_master_key_passes_only_where_allowed() {
    use MasterKeys::{Allowed, Refused};
    use Organisations::Separate;
    for session in [
        "{}",
        r#"{"access_rights": null}"#,
        r#"{"access_rights": {}}"#,
    ] {
        api(session, Refused, Separate, false);
        api(session, Allowed, Separate, true);
    }
    api(r#"{"access_rights": {"b": {}}}"#, Allowed, Separate, false);
    api(r#"{"org_id": "p"}"#, Allowed, Separate, false);
}

fn urls(urls: &[(&str, &[&str])]) -> Vec<AllowedUrl> {
    let url = |(url, methods): &(&str, &[&str])| AllowedUrl {
        url: (*url).into(),
        methods: texts(methods),
        ..AllowedUrl::default()
    };
    urls.iter().map(url).collect()
}

#[track_caller]
fn path(options: PathOptions, rules: &[(&str, &[&str])], request: (&str, &str), allowed: bool) {
    let (compiled, _) = PathRules::compile(&urls(rules), options);
    let (method, target) = request;
    let path = RequestPath::of(target, Some("/app/")).expect("is plain");
    let ours = compiled.allows(method, &path);
    assert_eq!(ours, allowed, "{rules:?} {request:?}");
}

#[test]
fn paths_and_methods_are_an_allow_list() {
    let loose = PathOptions::default();
    path(loose, &[], ("GET", "/app/x"), true);
    path(loose, &[("/x", &["GET"])], ("GET", "/app/x"), true);
    path(loose, &[("/x", &["GET"])], ("GET", "/app/y/x-ray"), true);
    path(loose, &[("/x", &["GET"])], ("GET", "/app/y"), false);
    path(loose, &[("/x", &["GET"])], ("HEAD", "/app/x"), false);
    path(loose, &[("/x", &["get"])], ("GET", "/app/x"), false);
    path(loose, &[("/x", &["PURGE"])], ("PURGE", "/app/x"), true);
    path(loose, &[("/x", &["*", " GET"])], ("GET", "/app/x"), false);
    path(loose, &[("/x", &[])], ("GET", "/app/x"), false);
    path(
        loose,
        &[("/x$", &["POST"]), ("/x", &["GET"])],
        ("GET", "/app/x"),
        true,
    );
    path(loose, &[("(", &["GET"])], ("GET", "/app/("), false);
    path(
        loose,
        &[("(", &["GET"]), ("/x", &["GET"])],
        ("GET", "/app/x"),
        true,
    );
    path(loose, &[("^/x", &["GET"])], ("GET", "/app/x"), false);
    path(loose, &[("^/app/x", &["GET"])], ("GET", "/app/x"), true);
    path(loose, &[("/app", &["GET"])], ("GET", "/app/x"), true);
    path(loose, &[("/ap", &["GET"])], ("GET", "/app/x"), false);
}

#[test]
fn strict_paths_are_whole_with_or_without_listen_path() {
    let strict = PathOptions::strict();
    path(strict, &[("/x", &["GET"])], ("GET", "/app/x"), true);
    path(strict, &[("/x", &["GET"])], ("GET", "/app/x/y"), false);
    path(strict, &[("/x", &["GET"])], ("GET", "/app/y/x"), false);
    path(strict, &[("/app/x", &["GET"])], ("GET", "/app/x"), true);
    path(
        strict,
        &[("/users/1", &["GET"])],
        ("GET", "/app/users/10"),
        false,
    );
    path(strict, &[("", &["GET"])], ("GET", "/app/x"), false);
    path(strict, &[("", &["GET"])], ("GET", "/app"), false);
    path(strict, &[("/", &["GET"])], ("GET", "/app"), true);
}

#[test]
fn a_pattern_that_can_not_be_used_is_told_with_its_place() {
    let policy = br#"{"access_rights": {"orders": {
        "allowed_urls": [{"url": "/ok"}, {"url": "/("}], "endpoints": [{"path": "*"}]}}}"#;
    let policy = Policy::from_json(policy).expect("is a policy");
    let problems = policy.check(PathOptions::default());
    let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            r#"access_rights.orders.allowed_urls[1].url: pattern "/(": a parenthesis is not closed"#,
            r#"access_rights.orders.endpoints[0].path: pattern "*": a repetition with nothing to repeat"#,
        ]
    );
}

#[track_caller]
fn endpoint(options: PathOptions, request: (&str, &str), found: Option<&str>) {
    let json = r#"[
        {"path": "/(", "methods": [{"name": "GET", "limit": {"rate": 1, "per": 1}}]},
        {"path": "/slow", "methods": [{"name": "get", "limit": {"rate": 1, "per": 60}}]},
        {"path": "/s", "methods": [{"name": "POST", "limit": {"rate": 2, "per": 1}},
                                   {"name": "GET", "limit": {"rate": 3, "per": 1}}]},
        {"path": "/app/full", "methods": [{"name": "GET", "limit": {"rate": 4, "per": 1}}]}
    ]"#;
    let endpoints: Vec<Endpoint> = serde_json::from_str(json).expect("are endpoints");
    let (rules, problems) = EndpointRules::compile(&endpoints, options);
    assert_eq!(problems.len(), 1);
    let (method, target) = request;
    let path = RequestPath::of(target, Some("/app/")).expect("is plain");
    let ours = rules.find(method, &path).map(|limit| limit.name());
    assert_eq!(ours, found, "{request:?}");
}

#[test]
fn the_first_endpoint_that_matches_has_the_limit() {
    let (loose, strict) = (PathOptions::default(), PathOptions::strict());
    endpoint(loose, ("GET", "/app/slow"), Some("get:/slow"));
    endpoint(loose, ("post", "/app/slow"), Some("POST:/s"));
    endpoint(loose, ("GET", "/app/x/s"), Some("GET:/s"));
    endpoint(loose, ("PUT", "/app/slow"), None);
    endpoint(loose, ("GET", "/app/full"), None);
    endpoint(strict, ("GET", "/app/full"), Some("GET:/app/full"));
    endpoint(strict, ("GET", "/app/slower"), None);
}

/// Whether `part` says nothing that `whole` does not say.
fn says(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            let said = |(name, value): (&String, &Value)| {
                let found = whole.get(name).unwrap_or(&Value::Null);
                says(found, value)
            };
            part.iter().all(said)
        }
        (Value::Array(whole), Value::Array(part)) => {
            let pairs = || whole.iter().zip(part);
            whole.len() == part.len() && pairs().all(|(whole, part)| says(whole, part))
        }
        (Value::Null, Value::Array(part)) => part.is_empty(),
        (whole, part) => whole == part,
    }
}

#[test]
fn policies_make_the_sessions_of_the_table() {
    let table: Value =
        serde_json::from_str(include_str!("fixtures/worked_results.json")).expect("is JSON");
    for row in table.as_array().expect("is a list") {
        let policies = serde_json::to_vec(&row["policies"]).expect("is JSON");
        let (policies, _) = PolicySet::from_record_file(&policies).expect("are policies");
        let session = Session::from_json(row["session"].to_string()).expect("is a session");
        let org = OrgId::from("o");
        let merged = policy::apply(&session, &policies, &org, PolicyOptions::default());
        let (expect, name) = (&row["expect"], &row["name"]);
        match merged {
            Ok(merged) => {
                let ours: Value = serde_json::from_str(&merged.session.to_json()).expect("is JSON");
                assert!(says(&ours, expect), "{name}: {expect} is not in {ours}");
                let apis = |value: &Value| value.as_object().map(serde_json::Map::len);
                let wanted = apis(&expect["access_rights"]);
                let found = apis(&ours["access_rights"]);
                assert!(wanted.is_none() || wanted <= found, "{name}: {ours}");
            }
            Err(err) => assert_eq!(Some(&*err.to_string()), expect["error"].as_str(), "{name}"),
        }
    }
}

fn set(record: &str) -> PolicySet {
    let (policies, duplicates) = PolicySet::from_record_file(record.as_bytes()).expect("is read");
    assert_eq!(duplicates, []);
    policies
}

#[test]
fn what_a_policy_says_is_told_by_api() {
    let policies = set(
        r#"{"acl": {"partitions": {"acl": true}, "access_rights": {"a": {}, "b": {}}},
            "rate": {"partitions": {"rate_limit": true}, "rate": 5, "per": 1, "access_rights": {"a": {}}},
            "all": {"partitions": {"complexity": true}, "max_query_depth": 3}}"#,
    );
    let session = r#"{"apply_policies": ["acl", "gone", "rate", "all"]}"#
        .parse()
        .expect("is a session");
    let merged = policy::apply(
        &session,
        &policies,
        &OrgId::default(),
        PolicyOptions::default(),
    );
    let origins = merged.expect("is merged").origins;
    let (a, b) = (&origins.apis["a"], &origins.apis["b"]);
    assert_eq!(origins.missing, [PolicyId::from("gone")]);
    assert_eq!(
        (&*a.rights, &*b.rights),
        (&["acl".into()][..], &["acl".into()][..])
    );
    assert_eq!(
        (&a.rate, &b.rate),
        (&Some("rate".into()), &Some("rate".into()))
    );
    assert_eq!((&a.quota, &a.complexity), (&None, &Some("all".into())));
}

#[test]
fn inline_policies_count_only_where_allowed() {
    let policies = set(r#"{"p": {"access_rights": {"a": {}}}}"#);
    let apis = |inline: &str, allow_inline_policies| {
        let session =
            format!(r#"{{"apply_policies": ["p"], "meta_data": {{"policies": {inline}}}}}"#);
        let session: Session = session.parse().expect("is a session");
        let options = PolicyOptions {
            allow_inline_policies,
            ..PolicyOptions::default()
        };
        let merged = policy::apply(&session, &policies, &OrgId::default(), options)?;
        Ok::<_, PolicyError>(
            merged
                .session
                .access_rights
                .keys()
                .cloned()
                .collect::<Vec<_>>(),
        )
    };
    let inline = r#"[{"id": "q", "access_rights": {"b": {}}}]"#;
    assert_eq!(apis(inline, false), Ok(vec!["a".into()]));
    assert_eq!(apis(inline, true), Ok(vec!["b".into()]));
    assert_eq!(apis(r#""gold""#, true), Ok(vec!["a".into()]));
    assert_eq!(apis("[]", true), Err(PolicyError::NoValidPolicies));
    assert!(matches!(
        apis("[1]", true),
        Err(PolicyError::InlineUnreadable(_))
    ));
}

#[test]
fn without_policies_entries_with_limits_count_apart() {
    let session =
        r#"{"access_rights": {"a": {"limit": {"rate": 1}}, "b": {}}, "tags": ["x", "x"]}"#;
    let session = session.parse().expect("is a session");
    let merged = policy::apply(
        &session,
        &PolicySet::default(),
        &"o".into(),
        PolicyOptions::default(),
    );
    let session = merged.expect("is merged").session;
    assert_eq!(session.access_rights["a"].allowance_scope, "a");
    assert_eq!(session.access_rights["b"].allowance_scope, "");
    assert_eq!(session.tags, ["x"]);
}

#[test]
fn the_last_policy_that_says_so_ends_a_new_key() {
    let policies = set(r#"{"a": {"key_expires_in": 60}, "b": {"key_expires_in": 3600}, "c": {}}"#);
    let seconds = |session: &str| {
        let session = session.parse().expect("is a session");
        let lifetime = policy::key_expires_in(&session, &policies, &OrgId::default());
        lifetime.map(|lifetime| lifetime.as_secs())
    };
    assert_eq!(seconds(r#"{"apply_policies": ["b", "a", "c"]}"#), Some(60));
    assert_eq!(seconds(r#"{"apply_policies": ["a", "b"]}"#), Some(3600));
    assert_eq!(seconds(r#"{"apply_policies": ["c", "gone"]}"#), None);
    assert_eq!(seconds("{}"), None);
}

#[test]
fn a_policy_is_found_in_its_organisation_first() {
    let list = br#"[{"id": "p", "org_id": "o", "name": "ours"}, {"id": "p", "org_id": "q"},
                    {"_id": "5f00", "name": "by object"}, {"id": "p", "org_id": "o", "name": "later"}]"#;
    let (policies, duplicates) = PolicySet::from_list(list).expect("is read");
    let name = |org: &str, id: &str| Some(policies.get(&org.into(), &id.into())?.name.clone());
    assert_eq!(name("o", "p").as_deref(), Some("later"));
    assert_eq!(name("q", "p").as_deref(), Some(""));
    assert_eq!(name("r", "p").as_deref(), Some("later"));
    assert_eq!(name("o", "5f00").as_deref(), Some("by object"));
    assert_eq!(name("o", "gone"), None);
    assert_eq!(policies.len(), 3);
    let [duplicate] = &*duplicates else {
        panic!("one duplicate: {duplicates:?}")
    };
    assert_eq!(
        (duplicate.org.as_str(), duplicate.policy.as_str()),
        ("o", "p")
    );
}

#[test]
fn a_key_of_a_policy_that_can_not_be_read_is_refused() {
    let record = br#"{"wide": {"access_rights": {"a": {}}}, "narrow": {"rate": "1"}}"#;
    let each = PolicySet::each_of_record_file(record).expect("is an object");
    let (read, broken): (Vec<_>, Vec<_>) = each.into_iter().partition(|(_, read)| read.is_ok());
    let set: PolicySet = read.into_iter().filter_map(|(_, read)| read.ok()).collect();
    let apply = |unusable: &Unusable, ids: &str| {
        let session: Session = format!(r#"{{"apply_policies": {ids}}}"#)
            .parse()
            .expect("is one");
        let set = set.clone().with_unusable(unusable.clone());
        let applied = policy::apply(&session, &set, &OrgId::default(), PolicyOptions::default());
        applied.map(|merged| merged.session.access_rights.len())
    };
    let refused = |policy: &str| {
        let policy = policy.into();
        Err(PolicyError::Unusable { policy })
    };
    let named = Unusable {
        ids: broken.into_iter().map(|(id, _)| id).collect(),
        without_id: 0,
    };
    assert_eq!(apply(&named, r#"["wide"]"#), Ok(1));
    assert_eq!(apply(&named, r#"["wide", "narrow"]"#), refused("narrow"));
    assert_eq!(apply(&named, r#"["narrow"]"#), refused("narrow"));
    assert_eq!(apply(&named, r#"["wide", "gone"]"#), Ok(1));
    let nameless = Unusable {
        without_id: 1,
        ..Unusable::default()
    };
    assert_eq!(apply(&nameless, r#"["wide"]"#), Ok(1));
    assert_eq!(apply(&nameless, r#"["wide", "gone"]"#), refused("gone"));
}

#[test]
fn a_policy_that_can_not_be_read_is_named() {
    let record = br#"{"gold": {"access_rights": {"a": {"limit": {"quota_max": "100"}}}}}"#;
    let err = PolicySet::from_record_file(record).expect_err("a text is no number");
    let PolicyLoadError::Policy { policy, source } = err else {
        panic!("{err}")
    };
    assert_eq!(policy, "gold");
    assert_eq!(source.path(), "access_rights.a.limit.quota_max");

    assert!(matches!(
        PolicySet::from_record_file(b"[]"),
        Err(PolicyLoadError::File(_))
    ));
    let nameless = PolicySet::from_list(br#"[{"id": "p"}, {"_id": "no hex"}]"#);
    assert!(matches!(nameless, Err(PolicyLoadError::NoId { index: 1 })));
    let (policies, _) = PolicySet::from_record_file(br#"{"p": {"id": "q"}, "p": {"rate": 1}}"#)
        .map(|(policies, duplicates)| (policies, assert_eq!(duplicates.len(), 1)))
        .expect("is read");
    assert_eq!(
        policies
            .get(&OrgId::default(), &"p".into())
            .map(|policy| policy.rate),
        Some(1.0)
    );
    assert_eq!(policies.get(&OrgId::default(), &"q".into()), None);
}

prop_compose! {
    fn limit()(
        rate in prop_oneof![Just(0.0), Just(-1.0), 0.0..100.0, any::<f64>()],
        per in prop_oneof![Just(0.0), 0.0..100.0, any::<f64>()],
        quota_max in prop_oneof![Just(0), Just(-1), any::<i64>()],
        quota_renewal_rate in prop_oneof![Just(0), Just(60), any::<i64>()],
        max_query_depth in -2..3_i64,
    ) -> ApiLimit {
        ApiLimit { rate, per, quota_max, quota_renewal_rate, max_query_depth, ..ApiLimit::default() }
    }
}

fn rights() -> impl Strategy<Value = BTreeMap<ApiId, AccessDefinition>> {
    let entry = (
        limit(),
        proptest::collection::vec("v[12]", 0..3),
        proptest::collection::vec("/[ab]", 0..3),
    );
    let entry = entry.prop_map(|(limit, versions, paths)| AccessDefinition {
        limit,
        versions,
        allowed_urls: paths
            .into_iter()
            .map(|url| AllowedUrl {
                url,
                methods: texts(&["GET"]),
                ..AllowedUrl::default()
            })
            .collect(),
        ..AccessDefinition::default()
    });
    proptest::collection::btree_map("[abc]".prop_map(ApiId::from), entry, 0..3)
}

prop_compose! {
    fn partitions()(flags in proptest::collection::vec(proptest::bool::weighted(0.25), 5)) -> Partitions {
        Partitions {
            quota: flags[0], rate_limit: flags[1], complexity: flags[2], acl: flags[3], per_api: flags[4],
            ..Partitions::default()
        }
    }
}

prop_compose! {
    fn some_policy()(
        id in "[pqr]", org in "[oo]|x", access_rights in rights(), partitions in partitions(),
        limit in limit(), is_inactive in proptest::bool::weighted(0.2),
    ) -> Policy {
        Policy {
            id: id.into(), org_id: org.into(), access_rights, partitions, is_inactive,
            rate: limit.rate, per: limit.per, quota_max: limit.quota_max,
            quota_renewal_rate: limit.quota_renewal_rate, max_query_depth: limit.max_query_depth,
            ..Policy::default()
        }
    }
}

prop_compose! {
    fn some_session()(
        ids in proptest::collection::vec("[pqrs]", 0..4), access_rights in rights(),
        is_inactive in proptest::bool::weighted(0.2), limit in limit(),
    ) -> Session {
        Session {
            apply_policies: ids.into_iter().map(PolicyId::from).collect(), access_rights: access_rights.into(), is_inactive,
            rate: limit.rate, quota_max: limit.quota_max, ..Session::default()
        }
    }
}

proptest! {
    #[test]
    fn policies_grant_no_more_than_they_say(
        session in some_session(), policies in proptest::collection::vec(some_policy(), 0..4),
    ) {
        let policies: PolicySet = policies.into_iter().collect();
        let org = OrgId::from("o");
        let merge = || policy::apply(&session, &policies, &org, PolicyOptions::default());
        let merged = merge();
        prop_assert_eq!(format!("{merged:?}"), format!("{:?}", merge()));
        let Ok(merged) = merged else {
            return Ok(());
        };
        let found = || session.apply_policies.iter().filter_map(|id| policies.get(&org, id));
        prop_assert!(found().all(|policy| policy.org_id == org));
        let inactive = session.is_inactive || found().any(|policy| policy.is_inactive);
        prop_assert_eq!(merged.session.is_inactive, inactive);
        if !session.apply_policies.is_empty() {
            let grants = |policy: &&Policy| {
                let Partitions { quota, rate_limit, complexity, acl, .. } = policy.partitions;
                acl || !(quota || rate_limit || complexity)
            };
            let granted: BTreeSet<_> =
                found().filter(grants).flat_map(|policy| policy.access_rights.keys()).collect();
            let held: BTreeSet<_> = merged.session.access_rights.keys().collect();
            prop_assert_eq!(held, granted);
        }
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(text in ".{0,60}") {
        let _ = PolicySet::from_record_file(text.as_bytes());
        let _ = PolicySet::from_list(text.as_bytes());
    }
}

#[test]
fn a_session_that_says_so_counts_by_the_counters_of_another() {
    let names = |key: &str, session: &str| {
        let plan = std::sync::Arc::new(Plan::default());
        let loaded = Loaded::new(key, session.parse::<Session>().unwrap(), Version(1));
        let pass = plan.pass(&loaded).unwrap();
        let at = pass.find(&"orders".into()).unwrap();
        let charges = pass.entry(at).all_charges();
        let names = charges.map(|charge| charge.counter.name().to_vec());
        names.collect::<Vec<_>>()
    };
    let rights = r#""rate": 1, "per": 1, "quota_max": 5, "access_rights": {"orders": {"endpoints": [
        {"path": "/x", "methods": [{"name": "GET", "limit": {"rate": 1, "per": 1}}]}]}}"#;
    let old = names("old", &format!("{{{rights}}}"));
    let new = names(
        "new",
        &format!(r#"{{"tollgate_counters_of": "old", {rights}}}"#),
    );
    assert_eq!(old, new);
    assert_eq!(
        old.len(),
        4,
        "two of the entry, and of the endpoint its rate and the quota"
    );
    assert_ne!(old, names("new", &format!("{{{rights}}}")));
    let empty = names(
        "new",
        &format!(r#"{{"tollgate_counters_of": "", {rights}}}"#),
    );
    assert_eq!(empty, names("new", &format!("{{{rights}}}")));
}
