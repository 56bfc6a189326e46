//! Every route, by table; what the corpus does not say.

use serde_json::{Value, json};
use tollgate_admin::{Control, Reach, Readiness, Reload};
use tollgate_core::{
    ApiId,
    token::{HashFunction, KeyScheme, TokenForm},
};

use crate::{
    gateway::Kept,
    world::{World, hashed},
};

fn session() -> Value {
    json!({"org_id": "default", "rate": 5, "per": 60, "access_rights": {"orders": {}}})
}

fn world() -> World {
    let world = World::new();
    world
        .gateway
        .put_api(&json!({"api_id": "orders", "org_id": "default", "name": "Orders"}));
    world
}

#[track_caller]
fn message(text: &str) -> String {
    let json: Value = serde_json::from_str(text).unwrap();
    json["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_route_is_answered_by_its_methods_alone() {
    let world = world();
    let document = world.ask("GET", "/tollgate/openapi.json", "").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert!(20 < paths.len());
    let is_path = |template: &str, path: &str| {
        let (parts, segments) = (template.split('/'), path.split('/'));
        let fits = |(part, segment): (&str, &str)| part.starts_with('{') || part == segment;
        parts.clone().count() == segments.clone().count() && parts.zip(segments).all(fits)
    };
    for template in paths.keys() {
        let path = template.replace('{', "a-").replace('}', "");
        for method in ["get", "post", "put", "delete", "patch"] {
            let answer = world.ask(&method.to_uppercase(), &path, "").await;
            // `GET /tyk/keys/create` asks for a key of that name.
            let mut meant = paths
                .iter()
                .filter(|(template, _)| is_path(template, &path));
            let is_there = meant.any(|(_, methods)| methods.get(method).is_some());
            let is_unknown = answer.status == 405 || answer.text.contains("404 page not found");
            assert_eq!(is_there, !is_unknown, "{method} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn paths_that_nobody_has() {
    let world = world();
    for path in [
        "/tyk/keys/a/b",
        "/tyk/keys/a%2Fb",
        "/tyk/nothing",
        "/tyk/apis/a/b/c",
    ] {
        let answer = world.ask("GET", path, "").await;
        assert_eq!(answer.text, "404 page not found\n", "{path}");
    }
    let answer = world.ask("GET", "/tollgate/nothing", "").await;
    assert_eq!(
        (answer.status, answer.json()["status"].as_u64()),
        (404, Some(404))
    );
}

#[tokio::test]
async fn creating_says_what_is_wrong() {
    let world = world();
    let cases = [
        (
            "/tyk/keys/create",
            json!({"org_id": "default"}),
            400,
            "Failed to create key, keys must have at least one Access Rights record set.",
        ),
        (
            "/tyk/keys/create",
            json!({"org_id": "default", "apply_policies": ["p1"]}),
            500,
            "Failed to create key - policy not found: \"p1\"",
        ),
        (
            "/tyk/keys/named",
            json!({"org_id": "default", "apply_policies": ["p1"]}),
            500,
            "Failed to create key, ensure security settings are correct.",
        ),
        (
            "/tyk/keys/default",
            session(),
            400,
            "Invalid key ID: the id is the name of the organisation",
        ),
    ];
    for (path, body, status, expected) in cases {
        let answer = world.ask_json("POST", path, &body).await;
        assert_eq!(
            (answer.status, &*message(&answer.text)),
            (status, expected),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_policy_of_another_organisation_makes_no_key() {
    let world = world();
    let policy = json!({"id": "theirs", "org_id": "other", "access_rights": {"orders": {}}});
    world.gateway.put_policy_file("theirs", &policy.to_string());
    let body = json!({"org_id": "default", "apply_policies": ["theirs"]});
    let answer = world.ask_json("POST", "/tyk/keys/create", &body).await;
    assert_eq!(answer.status, 500);
    let expected = "Failed to create key - attempting to apply policy from different organisation to \
                    key, skipping";
    assert_eq!(message(&answer.text), expected);
}

#[tokio::test]
async fn a_key_of_a_certificate_is_made_once() {
    let world = world();
    let mut body = session();
    body["certificate"] = "defaultabc".into();
    let made = world
        .ask_json("POST", "/tyk/keys/create", &body)
        .await
        .json();
    let token = TokenForm::Json(HashFunction::Murmur64);
    let token = tollgate_core::token::Token::generate(&"default".into(), Some("abc"), token);
    assert_eq!(made["key"], token.unwrap().expose());
    let again = world.ask_json("POST", "/tyk/keys/create", &body).await;
    assert_eq!(again.status, 500);
    assert!(
        message(&again.text)
            .starts_with("Failed to create key - Key with given certificate already found:")
    );
}

#[tokio::test]
async fn a_certificate_is_exchanged_for_a_known_one_alone() {
    let world = world();
    let mut body = session();
    body["certificate"] = "one".into();
    world.ask_json("POST", "/tyk/keys/bound", &body).await;
    let put = async |certificate: &str| {
        let mut body = session();
        body["certificate"] = certificate.into();
        world.ask_json("PUT", "/tyk/keys/bound", &body).await.status
    };
    assert_eq!(put("").await, 400);
    assert_eq!(put("two").await, 400);
    world.gateway.put_certificate("two");
    assert_eq!(put("two").await, 200);
}

#[tokio::test]
async fn an_hmac_secret_is_made_where_the_token_is() {
    let world = world();
    let mut body = session();
    body["hmac_enabled"] = true.into();
    body["hmac_string"] = "mine".into();
    let made = world
        .ask_json("POST", "/tyk/keys/create", &body)
        .await
        .json();
    let path = format!("/tyk/keys/{}?hashed=1", made["key_hash"].as_str().unwrap());
    let shown = world.ask("GET", &path, "").await.json();
    assert_eq!(shown["hmac_string"].as_str().unwrap().len(), 44);
}

#[tokio::test]
async fn passwords_are_hashed_and_not_shown() {
    let world = world();
    let mut body = session();
    body["basic_auth_data"] = json!({"password": "secret"});
    let made = world.ask_json("POST", "/tyk/keys/ann", &body).await.json();
    assert_eq!(made["key"], "");
    let shown = world
        .ask("GET", "/tyk/keys/ann?org_id=default&username=true", "")
        .await;
    let data = shown.json()["basic_auth_data"].clone();
    assert_eq!(data, json!({"password": "", "hash_type": "bcrypt"}));
}

#[tokio::test]
async fn ids_are_not_names_where_that_is_switched_off() {
    let world = World::with(hashed(), Kept::InFolder, |settings| {
        settings.actions_by_username = false;
    });
    let made = world
        .ask_json("POST", "/tyk/keys/ann", &session())
        .await
        .json();
    for path in [
        "/tyk/keys/ann?org_id=default",
        "/tyk/keys/ann?org_id=default&username=true",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let answer = world.ask_json(method, path, &session()).await;
            assert_eq!(answer.status, 404, "{method} {path}");
        }
    }
    let token = format!("/tyk/keys/{}", made["key"].as_str().unwrap());
    assert_eq!(world.ask("GET", &token, "").await.status, 200);
    let token = format!("{token}?username=true");
    assert_eq!(world.ask("GET", &token, "").await.status, 200);
    let hash = format!("/tyk/keys/{}?hashed=1", made["key_hash"].as_str().unwrap());
    assert_eq!(world.ask("DELETE", &hash, "").await.status, 200);
}

#[tokio::test]
async fn a_key_is_found_by_all_its_names_however_short() {
    let world = World::with(hashed(), Kept::InFolder, |settings| {
        settings.refuse_short_ids = false;
    });
    let made = world.ask_json("POST", "/tyk/keys/ab", &session()).await;
    let made = made.json();
    let token = made["key"].as_str().unwrap();
    let names = [
        "ab?org_id=default".to_owned(),
        "ab?org_id=default&username=true".to_owned(),
        token.to_owned(),
        format!("{token}?username=true"),
        format!("{token}?org_id=default&username=true"),
    ];
    for name in names {
        let path = format!("/tyk/keys/{name}");
        assert_eq!(world.ask("GET", &path, "").await.status, 200, "{path}");
        let updated = world.ask_json("PUT", &path, &session()).await.json();
        assert_eq!(updated["key"], token, "{path}");
        let deleted = world.ask("DELETE", &path, "").await.json();
        assert_eq!(deleted["key"], token, "{path}");
        world.ask_json("POST", "/tyk/keys/ab", &session()).await;
    }
    let wrong = "/tyk/keys/abc?org_id=default&username=true";
    assert_eq!(world.ask("GET", wrong, "").await.status, 404);
}

#[tokio::test]
async fn policies_are_shown_with_tyks_members_alone_where_others_are_not_kept() {
    const POLICY: &str = r#"{"id": "gold", "later": 1, "graphql_access_rights": {"later": 2},
        "access_rights": {"orders": {"later": 3}}}"#;
    for (drops, kept) in [(false, 3), (true, 1)] {
        let world = World::with(hashed(), Kept::InFolder, |settings| {
            settings.drop_unknown_members = drops;
        });
        let made = world.ask("POST", "/tyk/policies", POLICY).await;
        assert_eq!(made.status, 200, "{}", made.text);
        world.ask("GET", "/tyk/reload?block=true", "").await;
        for path in ["/tyk/policies", "/tyk/policies/gold"] {
            let shown = world.ask("GET", path, "").await.text;
            assert_eq!(shown.matches("later").count(), kept, "{path}: {shown}");
        }
    }
}

#[tokio::test]
async fn the_records_of_organisations_are_no_keys() {
    let world = World::with(KeyScheme::plain(), Kept::InFolder, |_| {});
    world.gateway.put_api(&json!({"api_id": "orders"}));
    let made = world
        .ask_json("POST", "/tyk/org/keys/acme", &json!({"rate": 1}))
        .await;
    assert_eq!(made.status, 200);
    for (method, path) in [
        ("GET", "/tyk/keys/orgkey.acme"),
        ("PUT", "/tyk/keys/orgkey.acme?hashed=1"),
        ("DELETE", "/tyk/keys/orgkey.acme?hashed=1"),
    ] {
        let body = json!({"access_rights": {"orders": {}}});
        let answer = world.ask_json(method, path, &body).await;
        assert!(400 <= answer.status, "{method} {path}: {}", answer.text);
    }
    let body = json!({"access_rights": {"orders": {}}});
    let answer = world.ask_json("POST", "/tyk/keys/orgkey.acme", &body).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    let listed = world.ask("GET", "/tyk/keys", "").await.json();
    assert_eq!(listed, json!({"keys": []}));
    assert_eq!(
        world
            .ask("GET", "/tollgate/keys/orgkey.acme", "")
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn without_apis_there_are_no_organisations_to_ask() {
    let world = World::with(hashed(), Kept::InFolder, |settings| {
        settings.default_org_store = false;
    });
    let cases = [
        ("GET", "/tyk/org/keys", 404, "ORG not found"),
        ("GET", "/tyk/org/keys/acme", 404, "Org not found"),
        (
            "POST",
            "/tyk/org/keys/acme",
            404,
            "No such organisation found in Active API list",
        ),
        ("DELETE", "/tyk/org/keys/acme", 404, "Org not found"),
    ];
    for (method, path, status, expected) in cases {
        let answer = world.ask(method, path, "{}").await;
        assert_eq!(
            (answer.status, &*message(&answer.text)),
            (status, expected),
            "{method}"
        );
    }
}

#[tokio::test]
async fn keys_that_may_call_an_api_are_listed() {
    let world = world();
    let other = json!({"org_id": "default", "access_rights": {"users": {}}});
    let hash = |answer: Value| answer["key_hash"].as_str().unwrap().to_owned();
    let one = hash(
        world
            .ask_json("POST", "/tyk/keys/one", &session())
            .await
            .json(),
    );
    let two = hash(world.ask_json("POST", "/tyk/keys/two", &other).await.json());
    let listed = world.ask("GET", "/tyk/keys?api_id=orders", "").await.json();
    assert_eq!(listed, json!({"keys": [one]}));
    let listed = world.ask("GET", "/tyk/keys", "").await.json();
    let mut all = [one, two];
    all.sort();
    assert_eq!(listed, json!({ "keys": all }));

    let plain = World::with(KeyScheme::plain(), Kept::InFolder, |_| {});
    let answer = plain.ask("GET", "/tyk/keys?api_id=x", "").await;
    let expected =
        "The 'filter' parameter (Org ID) is required when filtering by 'api_id' in legacy mode";
    assert_eq!((answer.status, &*message(&answer.text)), (400, expected));
}

#[tokio::test]
async fn a_list_without_pages_has_an_end() {
    let world = World::with(KeyScheme::plain(), Kept::InFolder, |settings| {
        settings.max_listed = 2
    });
    for (id, status) in [("one", 200), ("two", 200), ("three", 413)] {
        world
            .records
            .memory
            .insert(id, "{}".parse().unwrap())
            .unwrap();
        assert_eq!(
            world.ask("GET", "/tyk/keys", "").await.status,
            status,
            "{id}"
        );
    }
}

#[tokio::test]
async fn policies_that_can_not_be_written() {
    let cases = [
        (Kept::InRecordFile, "Unable to access policy storage."),
        (
            Kept::Elsewhere,
            "Due to enabled service policy source, please use the Dashboard API",
        ),
    ];
    for (kept, expected) in cases {
        let world = World::with(hashed(), kept, |_| {});
        let answer = world
            .ask("POST", "/tyk/policies", r#"{"id": "gold"}"#)
            .await;
        assert_eq!((answer.status, &*message(&answer.text)), (500, expected));
    }
    let world = world();
    let cases = [
        (
            "POST",
            "/tyk/policies",
            r#"{"_id": "invalid"}"#,
            400,
            "Request malformed",
        ),
        (
            "POST",
            "/tyk/policies",
            r#"{"rate": "1"}"#,
            400,
            "Request malformed",
        ),
        (
            "PUT",
            "/tyk/policies/a",
            r#"{"id": "b"}"#,
            400,
            "Request ID does not match that in policy! For Update operations these must match.",
        ),
        (
            "PUT",
            "/tyk/policies",
            "{}",
            400,
            "Must specify an apiID to update",
        ),
        (
            "DELETE",
            "/tyk/policies",
            "",
            400,
            "Must specify an apiID to delete",
        ),
        ("DELETE", "/tyk/policies/never", "", 500, "Delete failed"),
        ("DELETE", "/tyk/policies/..", "", 301, ""),
    ];
    for (method, path, body, status, expected) in cases {
        let answer = world.ask(method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        if status != 301 {
            assert_eq!(message(&answer.text), expected, "{method} {path}");
        }
    }
    let ids = ["../x", "a/../b", "/etc/x", "a\\b", ".hidden", "a\nb"];
    for id in ids {
        let body = json!({ "id": id });
        let answer = world.ask_json("POST", "/tyk/policies", &body).await;
        assert_eq!(answer.status, 400, "{id:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn apis_that_can_not_be_written() {
    let world = world();
    let cases = [
        (
            "POST",
            "/tyk/apis",
            r#"{"name": "wrong listen path"}"#,
            400,
            "Validation of API Definition failed. Reason: the listen path is wrong.",
        ),
        (
            "POST",
            "/tyk/apis",
            r#"{"api_id": "a b"}"#,
            400,
            "Invalid API ID",
        ),
        ("POST", "/tyk/apis", "[]", 400, "Request malformed"),
        (
            "PUT",
            "/tyk/apis",
            "{}",
            400,
            "Must specify an apiID to update",
        ),
        (
            "DELETE",
            "/tyk/apis",
            "",
            400,
            "Must specify an apiID to delete",
        ),
    ];
    for (method, path, body, status, expected) in cases {
        let answer = world.ask(method, path, body).await;
        assert_eq!(
            (answer.status, &*message(&answer.text)),
            (status, expected),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn a_definition_is_written_as_it_was_sent() {
    let world = world();
    let made = world.ask("POST", "/tyk/apis", "null").await;
    assert_eq!(made.status, 200, "{}", made.text);
    let text = r#"{"name":"n","b":9007199254740993,"a":1}"#;
    let made = world.ask("POST", "/tyk/apis", text).await.json();
    world.ask("GET", "/tyk/reload?block=true", "").await;
    let id = made["key"].as_str().unwrap();
    let expected = format!(r#"{{"name":"n","b":9007199254740993,"a":1,"api_id":"{id}"}}"#);
    let apis = world.gateway.apis();
    let kept = apis.get(&ApiId::from(id)).unwrap();
    assert_eq!(kept.json(), expected);
    let told = world
        .ask("GET", &format!("/tyk/apis/{id}"), "")
        .await
        .json();
    assert_eq!(told["b"], 9_007_199_254_740_993_u64);
    assert_eq!(told["use_keyless"], false, "what is not set is told");
}

#[tokio::test]
async fn reloads_are_asked_for_as_they_were_asked() {
    let world = world();
    for path in ["/tyk/reload", "/tyk/reload?block=true", "/tyk/reload/group"] {
        assert_eq!(
            world.ask("GET", path, "").await.text,
            "{\"status\":\"ok\",\"message\":\"\"}\n"
        );
    }
    let reload = |reach, wait| Reload { reach, wait };
    assert_eq!(
        world.gateway.reloads(),
        [
            reload(Reach::Single, false),
            reload(Reach::Single, true),
            reload(Reach::Group, false)
        ]
    );
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let world = world();
    let cases = [
        (Readiness::ShuttingDown, "Gateway is shutting down"),
        (
            Readiness::StoreUnavailable,
            "Redis connection not available",
        ),
        (
            Readiness::NotLoaded,
            "A successful API reload did not happen",
        ),
    ];
    for (readiness, expected) in cases {
        world.gateway.set_readiness(readiness);
        let answer = world.ask("GET", "/ready", "").await;
        assert_eq!((answer.status, &*message(&answer.text)), (503, expected));
    }
    world.gateway.set_readiness(Readiness::Ready);
    let answer = world.ask("GET", "/ready", "").await;
    assert_eq!(
        (answer.status, answer.json()["description"].clone()),
        (200, "Tyk GW Ready".into())
    );
    assert_eq!(world.ask("POST", "/ready", "").await.status, 405);
}

#[tokio::test]
async fn hello_is_200_and_says_how_things_are() {
    let world = world();
    let answer = world.ask("GET", "/hello", "").await;
    assert_eq!(
        (answer.status, answer.json()["status"].clone()),
        (200, "pass".into())
    );
    world.gateway.set_failures(&["redis"]);
    let answer = world.ask("GET", "/hello", "").await;
    assert_eq!(
        (answer.status, answer.json()["status"].clone()),
        (200, "fail".into())
    );
    let part = &answer.json()["details"]["redis"];
    assert_eq!(
        (&part["status"], &part["output"]),
        (&"fail".into(), &"no answer".into())
    );
}

#[tokio::test]
async fn who_listens_is_told_of_keys() {
    let world = world();
    world.ask_json("POST", "/tyk/keys/ann", &session()).await;
    world.ask_json("PUT", "/tyk/keys/ann", &session()).await;
    world
        .ask("DELETE", "/tyk/keys/ann?org_id=default", "")
        .await;
    world
        .ask("DELETE", "/tyk/keys/ann?org_id=default", "")
        .await;
    let events = world.gateway.take_events();
    assert_eq!(
        events,
        ["created of default", "updated of default", "deleted"]
    );
}

#[tokio::test]
async fn updates_at_once_are_all_whole() {
    let world = world();
    world.ask_json("POST", "/tyk/keys/ann", &session()).await;
    let put = async |alias: String| {
        let mut body = session();
        body["alias"] = alias.clone().into();
        body["tags"] = json!([alias]);
        world.ask_json("PUT", "/tyk/keys/ann", &body).await.status
    };
    let (a, b, c) = (put("a".into()), put("b".into()), put("c".into()));
    assert_eq!(tokio::join!(a, b, c), (200, 200, 200));
    let shown = world
        .ask("GET", "/tyk/keys/ann?org_id=default", "")
        .await
        .json();
    assert_eq!(shown["tags"][0], shown["alias"]);
}
