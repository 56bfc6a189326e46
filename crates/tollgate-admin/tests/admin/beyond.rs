//! `/tollgate/…`.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::{
    gateway::Kept,
    world::{Answer, SECRET, START, World, hashed},
};

fn session(alias: &str) -> Value {
    json!({
        "org_id": "default", "alias": alias, "rate": 5, "per": 60, "quota_max": 10,
        "quota_renewal_rate": 3600, "access_rights": {"orders": {"versions": ["v1"]}},
    })
}

fn world() -> World {
    let world = World::new();
    world
        .gateway
        .put_api(&json!({"api_id": "orders", "org_id": "default"}));
    let gold = json!({
        "id": "gold", "org_id": "default", "rate": 50, "per": 1,
        "access_rights": {"orders": {"allowed_urls": [{"url": "/a", "methods": ["GET"]}]}},
    });
    world.gateway.put_policy_file("gold", &gold.to_string());
    world
}

async fn create(world: &World, id: &str, session: &Value) -> String {
    let made = world
        .ask_json("POST", &format!("/tyk/keys/{id}"), session)
        .await;
    assert_eq!(made.status, 200, "{}", made.text);
    made.json()["key_hash"].as_str().unwrap().to_owned()
}

async fn write(world: &World, method: &str, path: &str, tag: Option<&str>, body: &Value) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("x-tyk-authorization", SECRET);
    if let Some(tag) = tag {
        request = request.header("if-match", tag);
    }
    world
        .send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

#[tokio::test]
async fn the_document_describes_itself_whole() {
    let world = world();
    let document = world.ask("GET", "/tollgate/openapi.json", "").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    let references = text.split("\"$ref\":\"#").skip(1);
    let references: BTreeSet<&str> = references
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(10 < references.len());
    for reference in references {
        assert!(
            document.pointer(reference).is_some(),
            "{reference} is not there"
        );
    }
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            assert!(
                operation["responses"]["default"].is_object(),
                "{method} {path}"
            );
            let named = operation["parameters"].as_array().unwrap();
            let in_path = named.iter().filter(|parameter| parameter["in"] == "path");
            assert_eq!(
                in_path.count(),
                path.matches('{').count(),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_token_is_found_without_standing_in_a_path() {
    let world = world();
    let key = create(&world, "ann", &session("ann")).await;
    let find = async |body: Value| world.ask_json("POST", "/tollgate/find", &body).await;
    let found = find(json!({"token": "ann", "org_id": "default"})).await;
    assert_eq!(found.json(), json!({ "key": key }));
    assert_eq!(
        find(json!({"token": "bob", "org_id": "default"}))
            .await
            .status,
        404
    );
    assert_eq!(find(json!({"tokn": "ann"})).await.status, 400);
}

#[tokio::test]
async fn a_write_fails_where_another_was_faster() {
    let world = world();
    let key = create(&world, "ann", &session("ann")).await;
    let path = format!("/tollgate/keys/{key}");
    let shown = world.ask("GET", &path, "").await;
    let tag = shown.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(shown.json()["session"]["alias"], "ann");

    let written = write(&world, "PUT", &path, Some(&tag), &session("two")).await;
    assert_eq!(written.status, 200, "{}", written.text);
    assert_eq!(written.json()["session"]["alias"], "two");
    let new = written.headers["etag"].to_str().unwrap().to_owned();
    assert_ne!(new, tag);

    for method in ["PUT", "DELETE"] {
        let late = write(&world, method, &path, Some(&tag), &session("late")).await;
        assert_eq!(late.status, 412, "{method}: {}", late.text);
        assert_eq!(late.headers["content-type"], "application/problem+json");
    }
    let rotate = format!("{path}/rotate");
    let late = write(
        &world,
        "POST",
        &rotate,
        Some(&tag),
        &json!({"overlap_seconds": 1}),
    )
    .await;
    assert_eq!(late.status, 412);
    assert_eq!(
        write(&world, "PUT", &path, Some("W/\"1\""), &session("x"))
            .await
            .status,
        412
    );
    assert_eq!(
        write(&world, "PUT", &path, Some("*"), &session("any"))
            .await
            .status,
        200
    );
    assert_eq!(
        write(&world, "PUT", &path, None, &session("last"))
            .await
            .status,
        200
    );
    assert_eq!(
        write(&world, "DELETE", &path, Some("*"), &json!({}))
            .await
            .status,
        204
    );
    assert_eq!(
        write(&world, "DELETE", &path, None, &json!({}))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_session_that_is_none_is_refused_by_member() {
    let world = world();
    let key = create(&world, "ann", &session("ann")).await;
    let path = format!("/tollgate/keys/{key}");
    let cases = [
        (json!({"rate": "hunter2"}), 400, "no session: rate"),
        (json!([]), 400, "no session: ."),
        (
            json!({"expires": START - 1, "access_rights": {"orders": {}}}),
            400,
            "expires is in the past",
        ),
        (
            json!({}),
            422,
            "the session grants nothing, or its policies make no session",
        ),
    ];
    for (body, status, detail) in cases {
        let answer = write(&world, "PUT", &path, None, &body).await;
        assert_eq!(
            (answer.status, answer.json()["detail"].as_str()),
            (status, Some(detail))
        );
    }
}

#[tokio::test]
async fn a_replaced_session_keeps_its_counters_unless_told() {
    let world = world();
    let key = create(&world, "ann", &session("ann")).await;
    assert_eq!(world.spend("default", "ann", "orders", 9).await, Some(5));
    let path = format!("/tollgate/keys/{key}");
    write(&world, "PUT", &path, None, &session("ann")).await;
    assert_eq!(world.spend("default", "ann", "orders", 9).await, Some(0));
    let path = format!("{path}?reset_counters=true");
    write(&world, "PUT", &path, None, &session("ann")).await;
    assert_eq!(world.spend("default", "ann", "orders", 9).await, Some(5));
}

async fn aliases(world: &World, query: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/tollgate/keys?{query}&cursor={cursor}");
        let page = world.ask("GET", &path, "").await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        let page = page.json();
        for item in page["keys"].as_array().unwrap() {
            let alias = item["alias"].as_str().unwrap().to_owned();
            assert!(found.insert(alias.clone()), "{alias} is listed twice");
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return found,
        }
    }
}

#[tokio::test]
async fn keys_are_listed_by_what_they_are() {
    let world = world();
    let mut ann = session("ann");
    ann["meta_data"] = json!({"team": "red", "level": 3});
    ann["expires"] = (START + 100).into();
    let mut anton = session("anton");
    anton["apply_policies"] = json!(["gold"]);
    anton["expires"] = (START + 200).into();
    for (id, session) in [("ann", &ann), ("anton", &anton), ("bob", &session("bob"))] {
        create(&world, id, session).await;
    }
    world.ask("POST", "/tyk/org/keys/acme", "{}").await;
    let later = format!("expires_after={}", START + 150);
    let sooner = format!("expires_before={}", START + 150);
    let both = format!("{later}&alias=bob");
    let cases: [(&str, &[&str]); 13] = [
        ("", &["ann", "anton", "bob"]),
        ("limit=1", &["ann", "anton", "bob"]),
        ("alias=ann", &["ann"]),
        ("alias=an*", &["ann", "anton"]),
        ("policy=gold", &["anton"]),
        ("policy=tin", &[]),
        ("meta.team=red", &["ann"]),
        ("meta.level=3&alias=ann", &["ann"]),
        ("meta.level=4", &[]),
        (&later, &["anton"]),
        (&sooner, &["ann"]),
        (&both, &[]),
        ("org_id=other", &[]),
    ];
    for (query, expected) in cases {
        let expected = expected.iter().map(|alias| (*alias).to_owned()).collect();
        assert_eq!(aliases(&world, query).await, expected, "{query}");
    }
    for query in ["limit=0", "limit=501", "alais=ann", "expires_before=soon"] {
        let answer = world
            .ask("GET", &format!("/tollgate/keys?{query}"), "")
            .await;
        assert_eq!(answer.status, 400, "{query}");
    }
}

#[tokio::test]
async fn rights_say_who_gives_them() {
    let world = world();
    let mut session = session("ann");
    session["apply_policies"] = json!(["gold", "nosuch"]);
    let key = create(&world, "ann", &session).await;
    let rights = world
        .ask("GET", &format!("/tollgate/keys/{key}/rights"), "")
        .await
        .json();
    assert_eq!(rights["missing_policies"], json!(["nosuch"]));
    let orders = &rights["apis"]["orders"];
    assert_eq!(orders["granted_by"], json!(["policy gold"]));
    assert_eq!(
        orders["allowed_urls"],
        json!([{"url": "/a", "methods": ["GET"]}])
    );
    let rate = json!({"kind": "rate", "max": 50, "per_seconds": 1.0, "source": "policy gold"});
    assert_eq!(orders["rate"], rate);
}

async fn holder(world: &World, authorization: Option<&str>, query: &str) -> Answer {
    let mut request = Request::get(format!("/tollgate/usage{query}"));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    world.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn usage_is_not_told_by_an_id_that_is_too_short_to_be_presented() {
    let world = World::with(hashed(), Kept::InFolder, |settings| {
        settings.refuse_short_ids = false;
    });
    let made = world
        .ask_json("POST", "/tyk/keys/ab", &session("ab"))
        .await
        .json();
    let token = made["key"].as_str();
    let by_id = holder(&world, Some("ab"), "?org_id=default").await;
    let by_token = holder(&world, token, "?org_id=default").await;
    assert_eq!((by_id.status, by_token.status), (401, 200));
}

#[tokio::test]
async fn usage_is_told_to_the_administrator_and_the_holder() {
    let world = world();
    let made = world
        .ask_json("POST", "/tyk/keys/ann", &session("ann"))
        .await
        .json();
    let (token, key) = (
        made["key"].as_str().unwrap(),
        made["key_hash"].as_str().unwrap(),
    );
    assert_eq!(world.spend("default", "ann", "orders", 4).await, Some(4));
    let usage = world
        .ask("GET", &format!("/tollgate/keys/{key}/usage"), "")
        .await
        .json();
    let limits = usage["limits"].as_array().unwrap();
    let quota = json!({
        "kind": "quota", "max": 10, "used": 4, "remaining": 6, "api_id": "orders", "scope": "",
        "resets": START + 3600,
    });
    assert_eq!(limits[1], quota);
    assert_eq!(
        (&limits[0]["kind"], &limits[0]["used"]),
        (&"rate".into(), &4.into())
    );

    for (shown, query) in [
        (format!("Bearer {token}"), ""),
        ("ann".into(), "?org_id=default"),
    ] {
        let answer = holder(&world, Some(&shown), query).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, usage.clone()),
            "{query}"
        );
    }
    for shown in [None, Some("Bearer nobody"), Some(key), Some("ann")] {
        let answer = holder(&world, shown, "").await;
        assert_eq!(answer.status, 401, "{shown:?}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn who_may_not_use_a_key_is_not_told_its_usage() {
    let world = world();
    let mut inactive = session("ann");
    inactive["is_inactive"] = true.into();
    create(&world, "ann", &inactive).await;
    let answer = holder(&world, Some("ann"), "?org_id=default").await;
    assert_eq!(answer.status, 403);
    let mut user = session("user");
    user["basic_auth_data"] = json!({"password": "x"});
    create(&world, "user", &user).await;
    assert_eq!(
        holder(&world, Some("user"), "?org_id=default").await.status,
        401
    );
}

#[tokio::test]
async fn explanations_are_the_gateways() {
    let world = world();
    let body = json!({"token": "ann", "method": "POST", "path": "/orders/1"});
    let told = world
        .ask_json("POST", "/tollgate/explain", &body)
        .await
        .json();
    let facts = json!([{"name": "path", "value": "/orders/1", "source": "POST"}]);
    assert_eq!(told["answers"][0]["facts"], facts);
    for body in [
        json!({}),
        json!({"path": "x"}),
        json!({"path": "/", "method": "a b"}),
    ] {
        assert_eq!(
            world
                .ask_json("POST", "/tollgate/explain", &body)
                .await
                .status,
            400
        );
    }
}

#[tokio::test]
async fn a_key_is_made_again_under_its_name() {
    let (old, new) = (world(), world());
    let key = create(&old, "ann", &session("ann")).await;
    let page = old.ask("GET", "/tollgate/keys?sessions=true", "").await;
    let exported = page.json()["keys"][0]["session"].clone();
    assert_eq!(exported["alias"], "ann");
    assert_eq!(
        page.json()["keys"][0]["session"],
        old.ask("GET", &format!("/tollgate/keys/{key}"), "")
            .await
            .json()["session"]
    );

    let put = async |query: &str| {
        let path = format!("/tollgate/keys/{key}{query}");
        write(&new, "PUT", &path, None, &exported).await
    };
    assert_eq!(put("").await.status, 404);
    assert_eq!(put("?create=yes").await.status, 400);
    assert_eq!(put("?create=true&dry_run=true").await.status, 201);
    assert_eq!(put("").await.status, 404, "a dry run writes nothing");
    let made = put("?create=true").await;
    assert_eq!((made.status, &made.json()["session"]), (201, &exported));
    assert_eq!(put("?create=true").await.status, 200);
    let find = json!({"token": "ann", "org_id": "default"});
    let found = new.ask_json("POST", "/tollgate/find", &find).await;
    assert_eq!(found.json(), json!({ "key": key }));
}

#[tokio::test]
async fn a_key_is_not_made_where_it_would_be_another() {
    let world = world();
    let made = async |name: &str, session: &Value| {
        let path = format!("/tollgate/keys/{name}?create=true");
        write(&world, "PUT", &path, None, session).await.status
    };
    let mut unknown_policy = session("ann");
    unknown_policy["apply_policies"] = json!(["none"]);
    assert_eq!(made("some-hash", &unknown_policy).await, 422);
    let mut without_password = session("ann");
    without_password["basic_auth_data"] = json!({"password": "", "hash_type": "bcrypt"});
    assert_eq!(made("some-hash", &without_password).await, 422);
    let mut ended = session("ann");
    ended["expires"] = json!(START - 1);
    assert_eq!(made("some-hash", &ended).await, 400);
    assert_eq!(made("orgkey.default", &session("ann")).await, 400);
    let page = world.ask("GET", "/tollgate/keys", "").await;
    assert_eq!(page.json()["keys"], json!([]));
}
