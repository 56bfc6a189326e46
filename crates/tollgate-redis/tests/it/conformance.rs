//! The suite that every store passes.

use std::time::Duration;

use tollgate_core::store::conformance::{self, RealTime};
use tollgate_redis::{LimitMode, Naming, RedisOptions, RedisStore};

use crate::{
    TokioTime,
    server::{Cluster, Server, Watched},
};

async fn check(options: RedisOptions) {
    let patient = options.deadline(Duration::from_secs(5)); // The machine may be busy.
    let store: RedisStore = patient.connect().unwrap();
    conformance::sessions(&store, &RealTime(TokioTime)).await;
    conformance::limits(&store, &RealTime(TokioTime)).await;
}

#[tokio::test]
async fn it_is_a_store_under_either_naming() {
    let server = Server::start();
    for naming in [Naming::Tagged, Naming::Tyk] {
        check(RedisOptions::single(&server.url()).unwrap().naming(naming)).await;
    }
}

#[tokio::test]
async fn it_is_a_store_where_all_that_can_be_is_leased() {
    let server = Server::start();
    for naming in [Naming::Tagged, Naming::Tyk] {
        let options = RedisOptions::single(&server.url()).unwrap();
        check(options.naming(naming).mode(LimitMode::Leased)).await;
    }
}

#[tokio::test]
async fn it_is_a_store_on_a_cluster() {
    let cluster = Cluster::start();
    let urls = cluster.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    check(RedisOptions::cluster(&urls).unwrap()).await;
}

#[tokio::test]
async fn it_is_a_store_behind_sentinels() {
    let watched = Watched::start();
    let urls = watched.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    check(RedisOptions::sentinel(&urls, "redis://tests/0").unwrap()).await;
}
