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

/// When a request was sent, and when its answer came. It was decided in between.
type Decided = (Instant, Instant);

/// What came of requests.
#[derive(Debug, Default)]
struct Log {
    admitted: Vec<Decided>,
    refused: Vec<Decided>,
}

async fn play(nodes: Vec<RedisStore>, limit: Limit, offered: u64, tasks: usize) -> Log {
    let left = Arc::new(AtomicU64::new(offered));
    let log = Arc::new(Mutex::new(Log::default()));
    let mut playing = Vec::new();
    for store in nodes {
        let charge = Charge::new(Counter::new("rate:key:0::3:all:0:"), limit.clone());
        for _ in 0..tasks {
            let (store, charge) = (store.clone(), charge.clone());
            let (left, log) = (left.clone(), log.clone());
            playing.push(tokio::spawn(async move {
                let next = |left: u64| left.checked_sub(1);
                while left.fetch_update(Relaxed, Relaxed, next).is_ok() {
                    let sent = Instant::now();
                    let taken = store.take(std::slice::from_ref(&charge), machine_time());
                    let is_taken = matches!(taken.await.unwrap(), Verdict::Taken(_));
                    let (decided, mut log) = ((sent, Instant::now()), log.lock());
                    if is_taken {
                        log.admitted.push(decided);
                    } else {
                        log.refused.push(decided);
                    }
                }
            }));
        }
    }
    for task in playing {
        task.await.unwrap();
    }
    std::mem::take(&mut *log.lock())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_never_oversold() {
    for count in [1, 4, 16] {
        let server = Server::start();
        let limit = Quota::per(5_000, Period::Every(Duration::from_secs(3600)));
        let (offered, nodes) = (15_000, nodes(&server, count, Naming::Tagged));
        let admitted = play(nodes, limit.into(), offered, 32 / count)
            .await
            .admitted;
        println!(
            "{count} nodes: offered {offered}, admitted {}, limit 5000",
            admitted.len()
        );
        assert_eq!(admitted.len(), 5_000);
    }
}

impl Log {
    /// How many were admitted in a window that begins with one of them, at least.
    fn fullest(&self, window: Duration) -> usize {
        let surely_in_one = |(first, _): &Decided| {
            let end = *first + window;
            let inside = self
                .admitted
                .iter()
                .filter(|(sent, came)| first <= sent && *came < end);
            inside.count()
        };
        let windows = self.admitted.iter().map(surely_in_one);
        windows.max().unwrap_or_default()
    }

    /// How many were admitted in a window that ends with a refused one, at most: in the one that holds the fewest.
    /// A slow machine may offer too few requests for any to be refused.
    fn emptiest_at_a_refusal(&self, window: Duration) -> Option<usize> {
        let (mut sent, mut came): (Vec<_>, Vec<_>) = self.admitted.iter().copied().unzip();
        sent.sort_unstable();
        came.sort_unstable();
        let maybe_in_one = |refused: &Decided| {
            let begun = sent.partition_point(|sent| *sent <= refused.1);
            let gone = came.partition_point(|came| *came + window < refused.0);
            begun - gone
        };
        self.refused.iter().map(maybe_in_one).min()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_holds_more_than_the_rate_and_none_is_refused_before_it_does() {
    for (naming, requests) in [
        (Naming::Tagged, 100),
        (Naming::Tagged, 200),
        (Naming::Tyk, 200),
    ] {
        let server = Server::start();
        let window = Duration::from_millis(500);
        let limit = Rate::per(requests, window);
        let offered = 12_000;
        let log = play(nodes(&server, 4, naming), limit.into(), offered, 8).await;
        // Many are counted in 64 slots, of which 63 are the window.
        let (most, least) = (
            log.fullest(window),
            log.emptiest_at_a_refusal(window + window / 60),
        );
        println!(
            "{naming:?}: offered {offered}, admitted {}, in one window at most {most} of {requests}, at a refusal {least:?}",
            log.admitted.len(),
        );
        let requests = usize::try_from(requests).unwrap();
        assert!(most <= requests, "{most}");
        assert!(least.is_none_or(|least| requests <= least), "{least:?}");
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
