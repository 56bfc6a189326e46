//! A new token for a key, and what the two together may do.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{START, World};

async fn world() -> (World, String) {
    let world = World::new();
    world
        .gateway
        .put_api(&json!({"api_id": "orders", "org_id": "default"}));
    let session = json!({
        "org_id": "default", "alias": "ann", "quota_max": 5, "quota_renewal_rate": 3600,
        "access_rights": {"orders": {}},
    });
    let made = world
        .ask_json("POST", "/tyk/keys/ann", &session)
        .await
        .json();
    let key = made["key_hash"].as_str().unwrap().to_owned();
    (world, key)
}

async fn rotate(world: &World, key: &str, overlap: u64) -> Value {
    let path = format!("/tollgate/keys/{key}/rotate");
    let body = json!({ "overlap_seconds": overlap });
    let answer = world.ask_json("POST", &path, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.json()
}

async fn spend(world: &World, token: &str, times: usize) -> Option<usize> {
    world.spend("default", token, "orders", times).await
}

#[tokio::test]
async fn both_tokens_count_as_one_and_the_old_one_ends() {
    let (world, key) = world().await;
    assert_eq!(spend(&world, "ann", 2).await, Some(2));
    let rotated = rotate(&world, &key, 60).await;
    let token = rotated["token"].as_str().unwrap();
    assert_eq!(rotated["replaces"], key);
    assert_eq!(rotated["old_token_ends"], START + 60);

    assert_eq!(spend(&world, token, 1).await, Some(1));
    assert_eq!(spend(&world, "ann", 1).await, Some(1));
    assert_eq!(spend(&world, token, 9).await, Some(1));
    assert_eq!(spend(&world, "ann", 9).await, Some(0));

    world.clock.advance(Duration::from_secs(62));
    assert_eq!(spend(&world, "ann", 1).await, None);
    assert_eq!(spend(&world, token, 1).await, Some(0));
}

#[tokio::test]
async fn removing_one_of_two_does_not_start_the_counters_afresh() {
    for removes_old in [true, false] {
        let (world, key) = world().await;
        assert_eq!(spend(&world, "ann", 5).await, Some(5));
        let rotated = rotate(&world, &key, 60).await;
        let token = rotated["token"].as_str().unwrap();
        let (removed, other) = if removes_old {
            (&*key, token)
        } else {
            (rotated["key"].as_str().unwrap(), "ann")
        };
        let path = format!("/tyk/keys/{removed}?hashed=1");
        assert_eq!(world.ask("DELETE", &path, "").await.status, 200);
        assert_eq!(spend(&world, other, 1).await, Some(0));
    }
}

#[tokio::test]
async fn an_update_keeps_by_whose_counters_a_key_counts() {
    let (world, key) = world().await;
    assert_eq!(spend(&world, "ann", 5).await, Some(5));
    let rotated = rotate(&world, &key, 60).await;
    let token = rotated["token"].as_str().unwrap();
    let session = json!({
        "org_id": "default", "quota_max": 5, "quota_renewal_rate": 3600,
        "access_rights": {"orders": {}},
    });
    let path = format!("/tyk/keys/{token}?suppress_reset=1");
    assert_eq!(world.ask_json("PUT", &path, &session).await.status, 200);
    assert_eq!(spend(&world, token, 1).await, Some(0));
    // Nobody can count by another's counters who was not rotated from it.
    let mut session = session;
    session["tollgate_counters_of"] = key.into();
    world.ask_json("POST", "/tyk/keys/bob", &session).await;
    assert_eq!(spend(&world, "bob", 1).await, Some(1));
}

#[tokio::test]
async fn a_rotated_key_is_rotated_again_and_counts_on() {
    let (world, key) = world().await;
    let first = rotate(&world, &key, 0).await;
    assert_eq!(spend(&world, "ann", 1).await, None);
    assert_eq!(
        spend(&world, first["token"].as_str().unwrap(), 3).await,
        Some(3)
    );
    let second = rotate(&world, first["key"].as_str().unwrap(), 0).await;
    assert_eq!(
        spend(&world, second["token"].as_str().unwrap(), 9).await,
        Some(2)
    );
}

#[tokio::test]
async fn what_is_not_rotated() {
    let (world, key) = world().await;
    rotate(&world, &key, 60).await;
    let body = json!({"overlap_seconds": 60});
    let path = format!("/tollgate/keys/{key}/rotate");
    assert_eq!(world.ask_json("POST", &path, &body).await.status, 409);

    let user = json!({
        "org_id": "default", "basic_auth_data": {"password": "x"}, "access_rights": {"orders": {}},
    });
    let made = world.ask_json("POST", "/tyk/keys/user", &user).await.json();
    let path = format!(
        "/tollgate/keys/{}/rotate",
        made["key_hash"].as_str().unwrap()
    );
    assert_eq!(world.ask_json("POST", &path, &body).await.status, 409);
    assert_eq!(world.ask_json("POST", &path, &json!({})).await.status, 400);
    let path = "/tollgate/keys/nosuch/rotate";
    assert_eq!(world.ask_json("POST", path, &body).await.status, 404);
}
