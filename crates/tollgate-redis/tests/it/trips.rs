//! How often the server is asked where limits are leased, as the client and the server count it, and whether what may
//! pass does.

use std::time::Duration;

use tollgate_core::limits::{Limit, Period, Quota, Rate};
use tollgate_redis::{LimitMode, RedisStore};

use crate::{
    oversell::{Use, alone, hardly_less, length, options, play_all},
    proxy::{Faults, Proxy},
    server::Server,
};

/// Plays a load: so few round trips a thousand requests make, counted here and there, and so much of what may pass
/// does.
async fn check(what: &str, limit: impl Into<Limit>, per_second: u64, at_most: f64) {
    let limit = limit.into();
    let what = format!("{what}, at most {at_most} round trips of 1000 requests");
    hardly_less(&what, async || {
        play(&what, &limit, per_second, at_most).await
    })
    .await;
}

async fn play(what: &str, limit: &Limit, per_second: u64, at_most: f64) -> Use {
    let server = Server::start();
    let proxy = Proxy::to(server.port(), Faults::far(Duration::from_millis(2)), true).await;
    let connect = |_| options(&proxy.url(), LimitMode::Auto).connect().unwrap();
    let stores: Vec<RedisStore> = (0..4).map(connect).collect();
    play_all(&stores, limit, per_second, Duration::from_secs(1)).await; // Warms up.
    let trips = || -> u64 { stores.iter().map(RedisStore::round_trips).sum() };
    let (before, calls) = (trips(), server.calls("evalsha"));
    let lasts = Duration::from_secs(4) * length();
    let log = play_all(&stores, limit, per_second, lasts).await;
    let (trips, calls) = (trips() - before, server.calls("evalsha") - calls);
    let of_thousand = |count: u64| count as f64 * 1000.0 / log.offered as f64;
    println!(
        "{what}, {per_second}/s over 4 nodes: of 1000 requests {:.1} round trips by the client, {:.1} by the server; \
         offered {}, admitted {}, {:?} late",
        of_thousand(trips),
        of_thousand(calls),
        log.offered,
        log.admitted.len(),
        log.late
    );
    // But for those under way at either end.
    let are_the_same = trips.abs_diff(calls) <= 16;
    let windows = match limit {
        Limit::Rate(rate) => lasts.as_secs_f64() / rate.window.as_secs_f64(),
        Limit::Quota(_) => 1.0,
    };
    let may_pass = (limit.max() as f64 * windows.max(1.0)).min(log.offered as f64);
    let is_full = 0.95 * may_pass <= log.admitted.len() as f64;
    Use::of(
        &log,
        is_full && are_the_same && of_thousand(trips) <= at_most,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_limits_cost_few_round_trips() {
    let _alone = alone().await;
    let second = Duration::from_secs(1);
    check("1000 in any second", Rate::per(1000, second), 900, 60.0).await;
    check("1000 in any second", Rate::per(1000, second), 2000, 60.0).await;
    let minute = Rate::per(100_000, 60 * second);
    check("100,000 in any minute", minute, 1600, 10.0).await;
    let quota = Quota::per(1_000_000, Period::Every(24 * 3600 * second));
    check("a million a day", quota, 1000, 10.0).await;
}
