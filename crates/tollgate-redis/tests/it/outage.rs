//! A server that is slow, hangs or is away while requests come: nobody waits longer than the deadline, and all is well
//! afterwards without a restart.
//!
//! `scripts/soak` plays outages of half a minute.

use std::{num::NonZeroU32, time::Duration};

use tollgate_core::limits::{Limit, Period, Quota};
use tollgate_redis::{LimitMode, OnStoreError, RedisOptions, RedisStore};

use crate::{
    oversell::{Log, Use, alone, counted, hardly_less, length, play_all},
    proxy::{Faults, Proxy},
    server::Server,
};

/// How late an answer may be on a machine that is in time.
const LATE: Duration = Duration::from_millis(400);

/// The deadline that is the default, or one that a machine which is busy with tests can keep.
fn deadline() -> Duration {
    Duration::from_millis(if length() > 1 { 20 } else { 100 })
}

fn options(url: &str, mode: LimitMode) -> RedisOptions {
    let options = RedisOptions::single(url).unwrap();
    options.mode(mode).notices(false).deadline(deadline())
}

fn quota(limit: u64) -> Limit {
    Quota::per(limit, Period::Every(Duration::from_secs(3600))).into()
}

async fn answers(store: &RedisStore) {
    let begun = std::time::Instant::now();
    while store.ping().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it answers");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[track_caller]
fn check_waits(what: &str, log: &Log) {
    println!(
        "{what}: offered {}, admitted {}, without an answer {}, the slowest took {:?}, {:?} late",
        log.offered,
        log.admitted.len(),
        log.failed,
        log.slowest,
        log.late
    );
    // The timer and the task that waits for it are both as late as the machine makes them.
    assert!(
        log.slowest < deadline() + LATE + 2 * log.late,
        "{:?}",
        log.slowest
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_slow_server_makes_nobody_wait_longer_than_the_deadline() {
    let _alone = alone().await;
    let server = Server::start();
    let proxy = Proxy::to(server.port(), Faults::default(), true).await;
    for mode in [LimitMode::Exact, LimitMode::Leased] {
        proxy.set(Faults::default());
        let store = [options(&proxy.url(), mode).connect().unwrap()];
        answers(&store[0]).await;
        let lasts = Duration::from_secs(1) * length();
        let in_time = async || {
            let what = format!("{mode:?}, in time");
            hardly_less(&what, async || {
                let quick = play_all(&store, &quota(1_000_000), 500, lasts).await;
                check_waits(&what, &quick);
                Use::of(
                    &quick,
                    quick.offered * 9 <= quick.admitted.len() as u64 * 10,
                )
            })
            .await;
        };
        in_time().await;
        proxy.set(Faults::far(Duration::from_secs(2)));
        let slow = play_all(&store, &quota(1_000_000), 500, lasts).await;
        check_waits(&format!("{mode:?}, two seconds late"), &slow);
        assert!(0 < slow.failed, "what was held is used up");
        proxy.set(Faults::default());
        answers(&store[0]).await;
        in_time().await;
    }
}

/// Ends or stops the server for a while under load, and says what came of it.
async fn away(mode: LimitMode, on_error: OnStoreError, freezes: bool) {
    let mut server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let connect = |_| {
        options(&server.url(), mode)
            .quotas_on_error(on_error)
            .connect()
            .unwrap()
    };
    let stores: Vec<RedisStore> = (0..2).map(connect).collect();
    for store in &stores {
        answers(store).await;
    }
    let limit = 4000 * u64::from(length());
    let (pause, per_second) = (Duration::from_secs(2), 800);
    let pause = if length() > 1 {
        Duration::from_secs(30)
    } else {
        pause
    };
    let lasts = pause + Duration::from_secs(5) * length();
    let playing = {
        let (stores, quota) = (stores.clone(), quota(limit));
        tokio::spawn(async move { play_all(&stores, &quota, per_second * 2, lasts).await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await; // Of load, before it goes wrong.
    if freezes {
        server.freeze();
    } else {
        server.kill();
    }
    tokio::time::sleep(pause).await; // The outage.
    if freezes {
        server.thaw();
    } else {
        server.restart();
    }
    let mut log = playing.await.unwrap();
    log.use_up(&stores[0], &quota(limit)).await;
    let how = if freezes { "hanging" } else { "away" };
    check_waits(
        &format!("{how} for {pause:?}, {mode:?}, {on_error:?}"),
        &log,
    );
    let (admitted, counted) = (log.admitted.len() as u64, counted(&server));
    match on_error {
        OnStoreError::Refuse => {
            assert!(admitted <= limit, "{admitted} of {limit}");
            // Units that nobody got are those of calls whose answer was lost.
            assert!(limit <= admitted + log.failed, "{admitted} of {limit}");
            assert!(0 < log.failed, "it was away");
        }
        // Each of two may have half of the limit besides.
        _ => {
            assert!(admitted <= 2 * limit, "{admitted} of {limit}");
            assert_eq!(log.failed, 0, "each was decided");
        }
    }
    assert_eq!(counted, limit, "all is used up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_under_load_makes_nobody_wait_and_leaves_counts_right() {
    let _alone = alone().await;
    for mode in [LimitMode::Exact, LimitMode::Leased] {
        away(mode, OnStoreError::Refuse, false).await;
        away(mode, OnStoreError::Refuse, true).await;
        let nodes = NonZeroU32::new(2).unwrap();
        away(mode, OnStoreError::Local { nodes }, false).await;
    }
}
