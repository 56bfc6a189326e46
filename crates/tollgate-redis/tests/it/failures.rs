//! A server that is away, slow, restarted or replaced.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use tollgate_core::{
    clock::machine_time,
    limits::{Period, Quota, Rate},
    store::{Charge, Counter, LimitStore, SessionStore, StoreErrorKind, Verdict},
};
use tollgate_redis::{LimitMode, OnStoreError, RedisOptions, RedisStore};

use crate::server::{Server, Watched};

fn options(server: &Server) -> RedisOptions {
    let options = RedisOptions::single(&server.url()).unwrap();
    options.mode(LimitMode::Exact) // So that each request asks the server.
}

fn quota(name: &str, max: u64) -> Charge {
    let quota = Quota::per(max, Period::Every(Duration::from_secs(600)));
    Charge::new(Counter::new(name), quota)
}

async fn passes(store: &RedisStore, charge: &Charge) -> Option<bool> {
    let taken = store.take(std::slice::from_ref(charge), machine_time());
    match taken.await {
        Ok(verdict) => Some(matches!(verdict, Verdict::Taken(_))),
        Err(error) => {
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
            None
        }
    }
}

/// Waits until it answers again.
async fn recovers(store: &RedisStore) {
    let start = Instant::now();
    while store.ping().await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "it recovers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Takes a unit of a server that answers, at last in time.
async fn takes(store: &RedisStore, charge: &Charge) {
    let start = Instant::now();
    while passes(store, charge).await != Some(true) {
        assert!(start.elapsed() < Duration::from_secs(20), "it recovers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_frozen_server_makes_nobody_wait_longer_than_the_deadline() {
    let server = Server::start();
    let deadline = Duration::from_millis(50);
    let store = options(&server).deadline(deadline).connect().unwrap();
    let charge = quota("frozen", 1000);
    takes(&store, &charge).await;
    server.freeze();
    let mut slow = 0;
    for _ in 0..50 {
        let start = Instant::now();
        assert_eq!(passes(&store, &charge).await, None);
        slow += u32::from(start.elapsed() >= deadline);
    }
    assert!(slow < 10, "after some failures nobody waits: {slow} did");
    assert!(store.get("a").await.is_err(), "nor is a key called unknown");
    server.thaw();
    takes(&store, &charge).await;
}

#[tokio::test]
async fn who_is_patient_waits_for_a_slow_server() {
    let server = Server::start();
    let deadline = Duration::from_millis(50);
    let store = options(&server).deadline(deadline).connect().unwrap();
    recovers(&store).await;
    server.freeze();
    let thawing = async {
        assert!(store.get("a").await.is_err(), "who is not, does not");
        server.thaw();
    };
    let patient = tollgate_redis::patiently(Duration::from_secs(20), store.get("a"));
    let (found, ()) = tokio::join!(patient, thawing);
    assert!(found.unwrap().is_none());
}

#[tokio::test]
async fn a_restarted_server_is_found_again_and_its_counts_are_right() {
    let mut server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let patient = options(&server).deadline(Duration::from_secs(2));
    let store = patient.connect().unwrap();
    let charge = quota("restart", 10);
    for _ in 0..4 {
        assert_eq!(passes(&store, &charge).await, Some(true));
    }
    server.kill();
    assert_eq!(passes(&store, &charge).await, None);
    server.restart();
    recovers(&store).await;
    let mut passed = 4;
    while passes(&store, &charge).await == Some(true) {
        passed += 1;
    }
    assert_eq!(passed, 10);
}

#[tokio::test]
async fn flushed_scripts_are_loaded_again() {
    let server = Server::start();
    let patient = options(&server).deadline(Duration::from_secs(5));
    let store = patient.connect().unwrap();
    let charge = quota("flush", 10);
    assert_eq!(passes(&store, &charge).await, Some(true));
    server.cli(&["SCRIPT", "FLUSH"]);
    assert_eq!(passes(&store, &charge).await, Some(true));
    assert_eq!(server.cli(&["GET", "tollgate:{flush}"]), "2");
}

#[tokio::test]
async fn each_kind_of_limit_has_its_rule_for_failures() {
    let mut server = Server::start();
    let nodes = NonZeroU32::new(2).unwrap();
    let store = options(&server)
        .rates_on_error(OnStoreError::Local { nodes })
        .quotas_on_error(OnStoreError::Admit)
        .connect()
        .unwrap();
    server.kill();
    let rate = Rate::per(10, Duration::from_secs(600));
    let rate = Charge::new(Counter::new("rate"), rate);
    let mut passed = 0;
    while passes(&store, &rate).await == Some(true) {
        passed += 1;
    }
    assert_eq!(passed, 5, "this node's half");
    let quota = quota("quota", 3);
    for _ in 0..9 {
        assert_eq!(passes(&store, &quota).await, Some(true));
    }
    let batch = [quota, rate];
    let verdict = store.take(&batch, machine_time()).await.unwrap();
    let Verdict::Refused(refused) = verdict else {
        panic!("the rate is used up here");
    };
    assert_eq!((refused.index, refused.standings.len()), (1, 2));
}

#[tokio::test]
async fn units_taken_alone_are_told_when_the_server_is_back() {
    let mut server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let nodes = NonZeroU32::new(2).unwrap();
    let store = options(&server)
        .deadline(Duration::from_secs(2))
        .quotas_on_error(OnStoreError::Local { nodes })
        .connect()
        .unwrap();
    let charge = quota("told", 10);
    assert_eq!(passes(&store, &charge).await, Some(true));
    server.kill();
    for _ in 0..3 {
        assert_eq!(passes(&store, &charge).await, Some(true));
    }
    server.restart();
    recovers(&store).await;
    assert_eq!(passes(&store, &charge).await, Some(true));
    let start = Instant::now();
    while server.cli(&["GET", "tollgate:{told}"]) != "5" {
        assert!(start.elapsed() < Duration::from_secs(10), "all are counted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn units_taken_alone_are_not_given_back_to_the_server() {
    let mut server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = options(&server)
        .deadline(Duration::from_secs(2))
        .quotas_on_error(OnStoreError::Admit)
        .connect()
        .unwrap();
    let charge = [quota("alone", 10)];
    store.take(&charge, machine_time()).await.unwrap();
    server.kill();
    let taken = store.take(&charge, machine_time()).await.unwrap();
    let Verdict::Taken(taken) = taken else {
        panic!("it is admitted");
    };
    server.restart();
    recovers(&store).await;
    store.give_back(&charge, taken.at);
    let looked = store.look(&charge, machine_time()).await.unwrap();
    let Verdict::Taken(looked) = looked else {
        panic!("nine are left");
    };
    assert_eq!(looked.standings[0].remaining, 9);
}

#[tokio::test]
async fn another_master_is_found() {
    let mut watched = Watched::start();
    let urls = watched.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let options = RedisOptions::sentinel(&urls, "redis://tests/0").unwrap();
    let options = options.mode(LimitMode::Exact);
    let store = options.deadline(Duration::from_secs(1)).connect().unwrap();
    let charge = quota("fail-over", 1000);
    assert_eq!(passes(&store, &charge).await, Some(true));
    crate::server::wait_for("the replica has it", || {
        watched.replica.cli(&["GET", "tollgate:{fail-over}"]) == "1"
    });
    watched.master.kill();
    let start = Instant::now();
    while passes(&store, &charge).await.is_none() {
        assert!(start.elapsed() < Duration::from_secs(30), "it goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let replica = &watched.replica;
    assert_eq!(replica.cli(&["GET", "tollgate:{fail-over}"]), "2");
    assert_ne!(replica.port(), watched.master.port());
}
