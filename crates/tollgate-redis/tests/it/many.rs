//! Many nodes on one limit: never too much, and hardly too little.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tollgate_core::{
    clock::machine_time,
    limits::{Limit, Period, Quota, Rate},
    store::{Charge, Counter, LimitStore, Verdict},
};
use tollgate_redis::{LimitMode, Naming, RedisOptions, RedisStore};

use crate::server::Server;

fn nodes(server: &Server, count: usize, naming: Naming) -> Vec<RedisStore> {
    let connect = || {
        let options = RedisOptions::single(&server.url()).unwrap().naming(naming);
        // Denials are not remembered, so that each request is decided by the server.
        let options = options
            .denial_age(Duration::ZERO)
            .notices(false)
            .mode(LimitMode::Exact);
        options.deadline(Duration::from_secs(10)).connect().unwrap()
    };
    (0..count).map(|_| connect()).collect()
}

/// The admitted requests: when each was sent, and when its answer came. It was decided in between.
async fn play(
    nodes: Vec<RedisStore>,
    limit: Limit,
    offered: u64,
    tasks: usize,
) -> Vec<(Instant, Instant)> {
    let left = Arc::new(AtomicU64::new(offered));
    let admitted = Arc::new(Mutex::new(Vec::new()));
    let mut playing = Vec::new();
    for store in nodes {
        let charge = Charge::new(Counter::new("rate:key:0::3:all:0:"), limit.clone());
        for _ in 0..tasks {
            let (store, charge) = (store.clone(), charge.clone());
            let (left, admitted) = (left.clone(), admitted.clone());
            playing.push(tokio::spawn(async move {
                let next = |left: u64| left.checked_sub(1);
                while left.fetch_update(Relaxed, Relaxed, next).is_ok() {
                    let sent = Instant::now();
                    let taken = store.take(std::slice::from_ref(&charge), machine_time());
                    if let Verdict::Taken(_) = taken.await.unwrap() {
                        admitted.lock().push((sent, Instant::now()));
                    }
                }
            }));
        }
    }
    for task in playing {
        task.await.unwrap();
    }
    let mut admitted = std::mem::take(&mut *admitted.lock());
    admitted.sort_unstable();
    admitted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_never_oversold() {
    for count in [1, 4, 16] {
        let server = Server::start();
        let limit = Quota::per(5_000, Period::Every(Duration::from_secs(3600)));
        let (offered, nodes) = (15_000, nodes(&server, count, Naming::Tagged));
        let admitted = play(nodes, limit.into(), offered, 32 / count).await;
        println!(
            "{count} nodes: offered {offered}, admitted {}, limit 5000",
            admitted.len()
        );
        assert_eq!(admitted.len(), 5_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_holds_more_than_the_rate() {
    for (naming, requests) in [
        (Naming::Tagged, 100),
        (Naming::Tagged, 400),
        (Naming::Tyk, 400),
    ] {
        let server = Server::start();
        let window = Duration::from_millis(500);
        let limit = Rate::per(requests, window);
        let start = Instant::now();
        let offered = 12_000;
        let admitted = play(nodes(&server, 4, naming), limit.into(), offered, 8).await;
        let lasted = start.elapsed();
        let surely_in_one = |(first, _): &(Instant, Instant)| {
            let end = *first + window;
            let inside = admitted
                .iter()
                .filter(|(sent, came)| first <= sent && *came < end);
            inside.count()
        };
        let most = admitted.iter().map(surely_in_one).max();
        println!(
            "{naming:?}: offered {offered} in {lasted:?}, admitted {}, in one window at most {most:?} of {requests}",
            admitted.len(),
        );
        assert!(most <= usize::try_from(requests).ok(), "{most:?}");
        let whole = lasted.as_secs_f64() / window.as_secs_f64();
        let possible = requests as f64 * whole.floor();
        assert!(admitted.len() as f64 >= 0.95 * possible, "hardly less");
    }
}

#[tokio::test]
async fn all_limits_of_a_request_are_one_round_trip() {
    let server = Server::start();
    let store = nodes(&server, 1, Naming::Tyk).remove(0);
    let batch = [
        Charge::new(Counter::new("rate:key:0::1:k:0:"), Rate::per_second(1000)),
        Charge::new(
            Counter::new("quota:key:0::1:k:0:"),
            Quota::per(1000, Period::Every(Duration::from_secs(60))),
        ),
        Charge::new(
            Counter::new("quota:org:0::1:o:0:"),
            Quota::per(1000, Period::Never),
        ),
    ];
    store.take(&batch, machine_time()).await.unwrap(); // Loads the script.
    let (trips, calls) = (store.round_trips(), server.calls("evalsha"));
    for _ in 0..100 {
        store.take(&batch, machine_time()).await.unwrap();
    }
    assert_eq!(store.round_trips() - trips, 100, "by the client");
    assert_eq!(server.calls("evalsha") - calls, 100, "by the server");
}

#[tokio::test]
async fn refusals_are_remembered_and_cost_nothing() {
    let server = Server::start();
    let options = RedisOptions::single(&server.url()).unwrap();
    let store = options.deadline(Duration::from_secs(5)).connect().unwrap();
    let quota = Quota::per(1, Period::Every(Duration::from_secs(60)));
    let batch = [Charge::new(Counter::new("denied"), quota)];
    store.take(&batch, machine_time()).await.unwrap();
    store.take(&batch, machine_time()).await.unwrap();
    let (trips, start) = (store.round_trips(), Instant::now());
    let mut asked = 0;
    while start.elapsed() < Duration::from_millis(600) {
        let verdict = match store.try_take(&batch, machine_time()) {
            Some(verdict) => verdict,
            None => store.take(&batch, machine_time()).await.unwrap(),
        };
        assert!(matches!(verdict, Verdict::Refused(_)));
        asked += 1;
    }
    let trips = store.round_trips() - trips;
    assert!(
        trips <= 3 && 100 < asked,
        "{trips} trips for {asked} refusals"
    );
}
