//! What writes do to counters.

use std::sync::Arc;

use serde_json::{Value, json};
use tollgate_core::{
    Clock,
    pass::{Kinds, Plan},
    store::Verdict,
};

use crate::world::{START, World};

const KEY: &str = "/tyk/keys/ann?org_id=default";

fn session() -> Value {
    json!({
        "org_id": "default", "rate": 3, "per": 60, "quota_max": 5, "quota_renewal_rate": 3600,
        "access_rights": {
            "orders": {},
            "users": {"limit": {"rate": 2, "per": 60, "quota_max": 2, "quota_renewal_rate": 60}},
        },
    })
}

async fn world() -> World {
    let world = World::new();
    for api in ["orders", "users"] {
        world
            .gateway
            .put_api(&json!({"api_id": api, "org_id": "default"}));
    }
    create(&world).await;
    world
}

async fn create(world: &World) {
    let made = world.ask_json("POST", "/tyk/keys/ann", &session()).await;
    assert_eq!(made.status, 200, "{}", made.text);
}

async fn spend(world: &World, api: &str, times: usize) -> usize {
    let spent = world.spend("default", "ann", api, times).await;
    spent.expect("the key is there")
}

/// Uses up rates and quotas of every scope.
async fn use_up(world: &World) {
    assert_eq!(spend(world, "orders", 9).await, 3);
    assert_eq!(spend(world, "users", 9).await, 2);
}

#[tokio::test]
async fn reading_tells_what_is_left_and_uses_nothing() {
    let world = world().await;
    spend(&world, "orders", 2).await;
    spend(&world, "users", 1).await;
    for _ in 0..2 {
        let shown = world.ask("GET", KEY, "").await.json();
        assert_eq!(shown["quota_remaining"], 3);
        assert_eq!(
            shown["access_rights"]["users"]["limit"]["quota_remaining"],
            1
        );
    }
}

#[tokio::test]
async fn an_update_starts_all_counters_afresh() {
    let world = world().await;
    use_up(&world).await;
    assert_eq!(world.ask_json("PUT", KEY, &session()).await.status, 200);
    use_up(&world).await;
}

#[tokio::test]
async fn a_rate_that_is_lowered_acts_at_once() {
    let world = world().await;
    assert_eq!(spend(&world, "orders", 2).await, 2);
    let mut lower = session();
    lower["rate"] = json!(2);
    assert_eq!(world.ask_json("PUT", KEY, &lower).await.status, 200);
    assert_eq!(spend(&world, "orders", 1).await, 0);
    world.ask_json("PUT", KEY, &lower).await; // The same again is no lower one.
    assert_eq!(spend(&world, "orders", 9).await, 2);
    world.ask_json("PUT", KEY, &session()).await;
    use_up(&world).await;
}

#[tokio::test]
async fn suppress_reset_keeps_them() {
    let world = world().await;
    use_up(&world).await;
    let path = format!("{KEY}&suppress_reset=1");
    assert_eq!(world.ask_json("PUT", &path, &session()).await.status, 200);
    assert_eq!(spend(&world, "orders", 1).await, 0);
    assert_eq!(spend(&world, "users", 1).await, 0);
    let path = format!("{KEY}&suppress_reset=true");
    assert_eq!(world.ask_json("PUT", &path, &session()).await.status, 200);
    use_up(&world).await;
}

#[tokio::test]
async fn a_scope_that_an_update_takes_away_is_fresh_when_it_comes_back() {
    let world = world().await;
    use_up(&world).await;
    let mut without = session();
    without["access_rights"]["users"] = json!({});
    world.ask_json("PUT", KEY, &without).await;
    let path = format!("{KEY}&suppress_reset=1");
    world.ask_json("PUT", &path, &session()).await;
    assert_eq!(spend(&world, "users", 9).await, 2);
}

#[tokio::test]
async fn a_key_made_again_starts_afresh() {
    let world = world().await;
    use_up(&world).await;
    assert_eq!(world.ask("DELETE", KEY, "").await.status, 200);
    create(&world).await;
    use_up(&world).await;
    create(&world).await; // Over what is there.
    use_up(&world).await;
}

#[tokio::test]
async fn counters_are_reset_alone() {
    let world = world().await;
    use_up(&world).await;
    let answer = world
        .ask("POST", "/tyk/keys/reset/ann?org_id=default", "")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    use_up(&world).await;
    assert_eq!(
        world.ask("POST", "/tyk/keys/reset/nosuch", "").await.status,
        404
    );
}

#[tokio::test]
async fn an_api_may_keep_counters_unless_another_does_not() {
    let world = world().await;
    use_up(&world).await;
    let keep = |api: &str| json!({"api_id": api, "dont_set_quota_on_create": true});
    world.gateway.put_api(&keep("orders"));
    world.ask_json("PUT", KEY, &session()).await;
    use_up(&world).await;
    world.gateway.put_api(&keep("users"));
    world.ask_json("PUT", KEY, &session()).await;
    assert_eq!(spend(&world, "orders", 1).await, 0);
}

#[tokio::test]
async fn endpoints_have_counters_that_go_too() {
    let world = world().await;
    let mut body = session();
    body["access_rights"]["orders"] = json!({"endpoints": [
        {"path": "/x", "methods": [{"name": "GET", "limit": {"rate": 1, "per": 60}}]},
    ]});
    world.ask_json("PUT", KEY, &body).await;
    let before = world.records.memory.counters();
    assert_eq!(world.ask_json("PUT", KEY, &body).await.status, 200);
    assert!(world.records.memory.counters() <= before);
}

#[tokio::test]
async fn the_counters_of_an_organisation_go_with_its_record() {
    const PATH: &str = "/tyk/org/keys/acme";
    let world = world().await;
    let org = json!({"quota_max": 2, "quota_renewal_rate": 60});
    let spend = async || {
        let loaded = world.store.get("orgkey.acme").await.unwrap().unwrap();
        let pass = Arc::new(Plan::default())
            .organisation_pass(&loaded)
            .unwrap();
        let charges = pass.root().charges(Kinds::Both, None);
        let mut spent = 0;
        for _ in 0..9 {
            let batch = charges.iter().cloned().collect();
            let verdict = world.store.take(batch, world.clock.now()).await.unwrap();
            spent += usize::from(matches!(verdict, Verdict::Taken(_)));
        }
        spent
    };
    let told = async || {
        let shown = world.ask("GET", PATH, "").await.json();
        (
            shown["quota_remaining"].clone(),
            shown["quota_renews"].clone(),
        )
    };
    world.ask_json("POST", PATH, &org).await;
    assert_eq!(told().await, (json!(0), json!(0)), "as it was sent");
    assert_eq!(spend().await, 2);
    assert_eq!(told().await, (json!(0), json!(START + 60)));
    world
        .ask_json(
            "PUT",
            PATH,
            &json!({"quota_max": 5, "quota_renewal_rate": 60}),
        )
        .await;
    assert_eq!(told().await, (json!(3), json!(START + 60)));
    world.ask_json("PUT", PATH, &org).await;
    assert_eq!(spend().await, 0);
    world
        .ask_json("PUT", &format!("{PATH}?reset_quota=1"), &org)
        .await;
    assert_eq!(spend().await, 2);
    world.ask("DELETE", PATH, "").await;
    world.ask_json("POST", PATH, &org).await;
    assert_eq!(spend().await, 2);
}
