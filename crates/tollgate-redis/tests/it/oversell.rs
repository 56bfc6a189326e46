//! Never more than the limit, and hardly less: many nodes, exact and leased, while messages and nodes get lost.
//!
//! Each admission is logged, and the log is checked afterwards: how many the fullest window or period holds. One that
//! the server was asked for was decided between the question and the answer, so it counts only where both lie inside.
//!
//! `scripts/soak` plays the long forms.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tollgate_core::{
    clock::machine_time,
    limits::{Algorithm, Limit, Period, Quota, Rate},
    store::{Charge, Counter, LimitStore, StoreErrorKind, Verdict},
};
use tollgate_redis::{LimitMode, Naming, RedisOptions, RedisStore};

use crate::{
    proxy::{Faults, Proxy},
    server::{Server, Watched, wait_for},
};

/// How many times as long as in the suite: `scripts/soak` offers 100,000 requests and more.
pub(crate) fn length() -> u32 {
    let is_long = std::env::var_os("TOLLGATE_SOAK").is_some();
    if is_long { 15 } else { 1 }
}

/// Only one load is played at a time, so that none makes another's requests late.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// One request that was admitted: between these times.
type Admission = (Instant, Instant);

/// What came of a load.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) offered: u64,
    pub(crate) failed: u64,
    pub(crate) slowest: Duration,
    pub(crate) admitted: Vec<Admission>,
    /// The longest between two looks at what is due, which are to be a millisecond apart: how late the machine made
    /// all that ran.
    pub(crate) late: Duration,
}

impl Log {
    fn add(&mut self, sent: Instant, verdict: Result<Verdict, StoreErrorKind>) {
        let came = Instant::now();
        self.offered += 1;
        self.slowest = self.slowest.max(came - sent);
        match verdict {
            Ok(Verdict::Taken(_)) => self.admitted.push((sent, came)),
            Ok(Verdict::Refused(_)) => {}
            Err(kind) => {
                assert_eq!(kind, StoreErrorKind::Unavailable);
                self.failed += 1;
            }
        }
    }

    /// Takes what is left, one by one.
    pub(crate) async fn use_up(&mut self, store: &RedisStore, limit: &Limit) {
        let charge = charge(limit);
        loop {
            let sent = Instant::now();
            let taken = store
                .take(std::slice::from_ref(&charge), machine_time())
                .await;
            let is_over = matches!(taken, Ok(Verdict::Refused(_)));
            if taken.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await; // Before it is asked once more.
            }
            self.add(sent, taken.map_err(|error| error.kind()));
            if is_over {
                return;
            }
        }
    }

    /// How many of them are surely in the fullest of windows that lie side by side since 1970.
    fn fullest_side_by_side(&self, window: Duration) -> usize {
        let (now, unix) = (Instant::now(), machine_time().unix_nanos);
        let window_of =
            |at: Instant| (unix - (now - at).as_nanos() as u64) / window.as_nanos() as u64;
        let mut windows = BTreeMap::new();
        for (sent, came) in &self.admitted {
            if window_of(*sent) == window_of(*came) {
                *windows.entry(window_of(*sent)).or_insert(0) += 1;
            }
        }
        windows.into_values().max().unwrap_or_default()
    }

    /// How many of them are surely in the fullest window of this length.
    pub(crate) fn fullest(&self, window: Duration) -> usize {
        let mut ends = BinaryHeap::new();
        // Windows that end just before a certain answer: all that was sent since, and answered.
        let mut came: Vec<_> = self.admitted.clone();
        came.sort_unstable_by_key(|(_, came)| *came);
        let mut most = 0;
        for (sent, came) in came {
            ends.push(Reverse(sent));
            let start = came.checked_sub(window);
            while start.is_some_and(|start| ends.peek().is_some_and(|first| first.0 <= start)) {
                ends.pop();
            }
            most = most.max(ends.len());
        }
        most
    }
}

/// A log that is written while it is played.
pub(crate) type SharedLog = Arc<Mutex<Log>>;

/// A load at fixed times: so many requests of one node a second.
pub(crate) async fn play(
    store: RedisStore,
    charge: Charge,
    per_second: u64,
    lasts: Duration,
    log: SharedLog,
) {
    let (start, batch) = (Instant::now(), Arc::new([charge]));
    let (mut sent, mut waiting, mut looked) = (0, Vec::new(), start);
    while start.elapsed() < lasts {
        let between = looked.elapsed();
        looked += between;
        let due = (start.elapsed().as_secs_f64() * per_second as f64) as u64;
        while sent < due {
            sent += 1;
            let at = Instant::now();
            if let Some(verdict) = store.try_take(&*batch, machine_time()) {
                log.lock().add(at, Ok(verdict));
                continue;
            }
            let (store, batch, log) = (store.clone(), batch.clone(), log.clone());
            waiting.push(tokio::spawn(async move {
                let taken = store.take(&*batch, machine_time()).await;
                log.lock().add(at, taken.map_err(|error| error.kind()));
            }));
        }
        waiting.retain(|task| !task.is_finished());
        {
            let mut log = log.lock();
            log.late = log.late.max(between);
        }
        tokio::time::sleep(Duration::from_millis(1)).await; // The pace, not a condition.
    }
    for task in waiting {
        task.await.unwrap();
    }
}

/// The counter that all count on; its name in Redis is `tollgate:{key:all}…`.
pub(crate) fn charge(limit: &Limit) -> Charge {
    let kind = match limit {
        Limit::Rate(_) => "rate",
        Limit::Quota(_) => "quota",
    };
    Charge::new(
        Counter::new(format!("{kind}:key:0::3:all:0:")),
        limit.clone(),
    )
}

/// The same on several nodes.
pub(crate) async fn play_all(
    stores: &[RedisStore],
    limit: &Limit,
    per_second: u64,
    lasts: Duration,
) -> Log {
    let log = SharedLog::default();
    let share = per_second / stores.len() as u64;
    let play = |store: &RedisStore| play(store.clone(), charge(limit), share, lasts, log.clone());
    let playing: Vec<_> = stores
        .iter()
        .map(|store| tokio::spawn(play(store)))
        .collect();
    for node in playing {
        node.await.unwrap();
    }
    finished(&log)
}

fn finished(log: &SharedLog) -> Log {
    let mut log = std::mem::take(&mut *log.lock());
    log.admitted.sort_unstable();
    log
}

pub(crate) fn options(url: &str, mode: LimitMode) -> RedisOptions {
    let options = RedisOptions::single(url).unwrap();
    let options = options.mode(mode).notices(false);
    options.deadline(Duration::from_secs(1)) // The machine may be busy.
}

fn nodes(url: &str, count: usize, mode: LimitMode, naming: Naming) -> Vec<RedisStore> {
    let connect = |_| options(url, mode).naming(naming).connect().unwrap();
    (0..count).map(connect).collect()
}

/// Whether a load was let pass as far as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Use {
    /// Hardly less was admitted.
    Full,
    /// Too little was, on a machine that had the time for it.
    Short,
    /// Too little was, of a machine that was busy with other things: requests waited for it, so that more of them were
    /// under way when a connection was lost, or were not even sent. It says nothing of the store.
    Late,
}

impl Use {
    pub(crate) fn of(log: &Log, is_full: bool) -> Self {
        const IN_TIME: Duration = Duration::from_millis(20);
        match is_full {
            true => Self::Full,
            false if log.late <= IN_TIME => Self::Short,
            false => Self::Late,
        }
    }
}

/// Plays until hardly less than the limit was admitted. There are three tries, and some more where the machine is busy;
/// one that always is can not tell.
pub(crate) async fn hardly_less(what: &str, mut play: impl AsyncFnMut() -> Use) {
    let (mut short, mut late) = (0, 0);
    while short < 3 && late < 5 {
        match play().await {
            Use::Full => return,
            Use::Short => short += 1,
            Use::Late => late += 1,
        }
    }
    assert!(
        short < 3,
        "{what}: too little was admitted, or at too many round trips"
    );
    println!("{what}: the machine is too busy to tell whether hardly less is admitted");
}

/// Never more than the limit, and hardly less.
#[track_caller]
fn check_quota(what: &str, log: &Log, limit: u64) -> Use {
    let (offered, admitted) = (log.offered, log.admitted.len() as u64);
    println!(
        "{what}: offered {offered}, admitted {admitted}, limit {limit}, without an answer {}, {:?} late",
        log.failed, log.late
    );
    assert!(admitted <= limit, "{admitted} of {limit}");
    Use::of(log, 3 * limit <= offered && 95 * limit <= 100 * admitted)
}

/// The same for a rate.
#[track_caller]
fn check_rate(what: &str, log: &Log, rate: &Rate, lasts: Duration) -> Use {
    let most = match rate.algorithm {
        Algorithm::Sliding => log.fullest(rate.window),
        _ => log.fullest_side_by_side(rate.window),
    };
    let (most, limit) = (most as u64, rate.requests.get());
    let windows = lasts.as_secs_f64() / rate.window.as_secs_f64();
    let (offered, admitted) = (log.offered, log.admitted.len());
    println!(
        "{what}: offered {offered}, admitted {admitted} in {windows:.1} windows, in the fullest {most}, limit {limit}, \
         without an answer {}, {:?} late",
        log.failed, log.late
    );
    assert!(most <= limit, "{most} of {limit} in one window");
    let is_enough = 3.0 * limit as f64 * windows <= offered as f64 * 1.05;
    let possible = limit as f64 * windows.floor();
    Use::of(log, is_enough && 0.95 * possible <= admitted as f64)
}

const COUNTS: [usize; 3] = [1, 4, 16];
const MODES: [LimitMode; 2] = [LimitMode::Exact, LimitMode::Leased];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_kept_by_many_nodes_on_a_bad_network() {
    let _alone = alone().await;
    let server = Server::start();
    for (count, mode) in COUNTS
        .iter()
        .flat_map(|count| MODES.map(|mode| (*count, mode)))
    {
        let proxy = Proxy::to(server.port(), Faults::storm(mode), false).await;
        let limit = 2200 * u64::from(length());
        let quota: Limit = Quota::per(limit, Period::Every(Duration::from_secs(3600))).into();
        let what = format!("{count} nodes, {mode:?}");
        hardly_less(&what, async || {
            server.cli(&["FLUSHALL"]);
            let stores = nodes(&proxy.url(), count, mode, Naming::Tagged);
            let lasts = Duration::from_secs(3) * length();
            let log = play_all(&stores, &quota, 2400, lasts).await;
            check_quota(&what, &log, limit)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sliding_window_is_kept_by_many_nodes_on_a_bad_network() {
    let _alone = alone().await;
    let server = Server::start();
    for (count, mode) in COUNTS
        .iter()
        .flat_map(|count| MODES.map(|mode| (*count, mode)))
    {
        // Tyk's log is slow and needs no more than one look.
        let namings = [Naming::Tagged, Naming::Tyk];
        for naming in &namings[..if count == 4 { 2 } else { 1 }] {
            let rate = Rate::per(600, Duration::from_secs(1));
            keeps(&server, rate, (count, mode, *naming)).await;
        }
    }
}

/// Plays a rate over many nodes on a bad network.
async fn keeps(server: &Server, rate: Rate, (count, mode, naming): (usize, LimitMode, Naming)) {
    let proxy = Proxy::to(server.port(), Faults::storm(mode), false).await;
    let what = format!("{count} nodes, {mode:?}, {naming:?}");
    hardly_less(&what, async || {
        server.cli(&["FLUSHALL"]);
        let lasts = Duration::from_millis(2500) * length();
        let stores = nodes(&proxy.url(), count, mode, naming);
        let log = play_all(&stores, &rate.into(), 2000, lasts).await;
        check_rate(&what, &log, &rate, lasts)
    })
    .await;
}

/// A request that is asked for must not let a name end before what is leased does.
#[tokio::test]
async fn a_counter_stays_until_what_is_leased_counts_no_more() {
    let server = Server::start();
    let url = server.url();
    let rate: Limit = Rate::per(1000, Duration::from_secs(1)).into();
    let [leases, asks] =
        [LimitMode::Leased, LimitMode::Exact].map(|mode| options(&url, mode).connect().unwrap());
    for store in [&leases, &asks] {
        let taken = store.take(&[charge(&rate)], machine_time()).await;
        assert!(matches!(taken, Ok(Verdict::Taken(_))));
    }
    let begun = Instant::now();
    let name = "tollgate:{key:all}:sliding:rate:0::0:";
    let left: u64 = server.cli(&["PTTL", name]).parse().unwrap();
    let left = Duration::from_millis(left) + begun.elapsed();
    // A window, a slot, and the 150 ms of a lease; and what has passed since.
    assert!(Duration::from_millis(1110) < left, "{left:?}");
}

/// Units of a lease count as used when they were, once their node has told it: never before, and hardly later.
#[tokio::test]
async fn leased_units_count_when_they_were_used() {
    let server = Server::start();
    let store = options(&server.url(), LimitMode::Leased).connect().unwrap();
    let rate: Limit = Rate::per(1000, Duration::from_secs(1)).into();
    let micros = || machine_time().unix_nanos / 1000;
    let (begun, mut used) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_millis(400) {
        let sent = micros();
        let taken = store.take(&[charge(&rate)], machine_time()).await;
        assert!(matches!(taken, Ok(Verdict::Taken(_))));
        used.push((sent, micros()));
        tokio::time::sleep(Duration::from_millis(2)).await; // The pace, not a condition.
    }
    store.close().await;
    let stored = server.cli(&["HGETALL", "tollgate:{key:all}:sliding:rate:0::0:"]);
    let words: Vec<&str> = stored.split_whitespace().collect();
    let mut counted = BTreeMap::<u64, usize>::new(); // By slots.
    let mut width = 0;
    for pair in words.chunks(2) {
        match pair {
            ["width", text] => width = text.parse().unwrap(),
            [slot, count] => _ = counted.insert(slot.parse().unwrap(), count.parse().unwrap()),
            _ => panic!("{stored}"),
        }
    }
    let until = |slot: u64| -> usize { counted.range(..=slot).map(|(_, count)| count).sum() };
    let (first, last) = (used[0].0 / width, micros() / width);
    for slot in first..=last {
        let sent = used.iter().filter(|(sent, _)| sent / width <= slot).count();
        let came = used.iter().filter(|(_, came)| came / width <= slot).count();
        assert!(
            until(slot) <= sent,
            "{} count and {sent} were used",
            until(slot)
        );
        // A lease lasts for nine slots and more.
        assert!(came <= until(slot + 6), "{came} and {}", until(slot + 6));
    }
    assert_eq!(until(u64::MAX), used.len(), "the others came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_side_by_side_are_kept_by_many_nodes_on_a_bad_network() {
    let _alone = alone().await;
    let server = Server::start();
    for (count, mode) in COUNTS
        .iter()
        .flat_map(|count| MODES.map(|mode| (*count, mode)))
    {
        let rate = Rate::per(600, Duration::from_secs(1));
        let rate = rate.with_algorithm(Algorithm::FixedWindow);
        keeps(&server, rate, (count, mode, Naming::Tagged)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_flushed_and_a_server_started_again_change_no_limit() {
    let _alone = alone().await;
    for mode in MODES {
        let what = format!("flushed and started again, {mode:?}");
        hardly_less(&what, async || {
            let limit = 3000 * u64::from(length());
            check_quota(&what, &play_over_a_restart(mode, limit).await, limit)
        })
        .await;
    }
}

async fn play_over_a_restart(mode: LimitMode, limit: u64) -> Log {
    let mut server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let quota: Limit = Quota::per(limit, Period::Every(Duration::from_secs(3600))).into();
    let lasts = Duration::from_secs(5) * length();
    let stores = nodes(&server.url(), 4, mode, Naming::Tagged);
    let playing = tokio::spawn(async move { play_all(&stores, &quota, 2200, lasts).await });
    let some = async |part: u64| {
        while counted(&server) < limit * part / 10 && !playing.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    some(2).await;
    server.cli(&["SCRIPT", "FLUSH"]);
    some(4).await;
    server.kill();
    server.restart();
    playing.await.unwrap()
}

/// What the server says of the quota.
pub(crate) fn counted(server: &Server) -> u64 {
    let counted = server.cli(&["GET", "tollgate:{key:all}:quota:0::0:"]);
    counted.parse().unwrap_or_default()
}

/// A node whose chunks last for 50 ms, so that few units go down with it.
fn short_leases(url: &str) -> RedisStore {
    let options = options(url, LimitMode::Leased);
    options
        .longest_lease(Duration::from_millis(50))
        .connect()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_crash_cost_a_chunk_and_never_sell_one_twice() {
    let _alone = alone().await;
    hardly_less("nodes that crash", async || {
        let limit = 4000 * u64::from(length());
        let (log, crashes) = play_with_crashes(limit).await;
        check_quota(&format!("{crashes} crashes"), &log, limit)
    })
    .await;
}

/// What came of a load on nodes of which one crashes now and then, and how many did.
async fn play_with_crashes(limit: u64) -> (Log, u32) {
    let server = Server::start();
    let quota: Limit = Quota::per(limit, Period::Every(Duration::from_secs(3600))).into();
    let (log, url) = (SharedLog::default(), server.url());
    let lasts = Duration::from_secs(5) * length();
    let steady = (0..3).map(|_| short_leases(&url));
    let play_on = |store: RedisStore| play(store, charge(&quota), 800, lasts, log.clone());
    let playing: Vec<_> = steady
        .into_iter()
        .map(|store| tokio::spawn(play_on(store)))
        .collect();
    let mut crashes = 0_u32;
    while playing.iter().any(|node| !node.is_finished()) && counted(&server) < limit * 8 / 10 {
        // A node with a runtime of its own, which stops as it is.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (url, charge, lost) = (url.clone(), charge(&quota), log.clone());
        runtime.spawn(async move {
            let store = short_leases(&url);
            play(store, charge, 400, Duration::from_secs(60), lost).await;
        });
        tokio::time::sleep(Duration::from_millis(400)).await; // The life of a node.
        runtime.shutdown_background();
        crashes += 1;
    }
    for node in playing {
        node.await.unwrap();
    }
    assert!(2 < crashes, "{crashes}");
    (finished(&log), crashes)
}

/// Plays a quota over a fail-over to a replica that was held up, and says how many units it had not heard of.
async fn fail_over(mode: LimitMode, wait_replicas: u32) -> Use {
    // Where replicas are waited for, there has to be one after the fail-over too.
    let mut watched = Watched::start_with(1 + wait_replicas as usize);
    let urls = watched.urls();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let connect = |_| {
        let options = RedisOptions::sentinel(&urls, "redis://tests/0").unwrap();
        let options = options
            .mode(mode)
            .notices(false)
            .wait_replicas(wait_replicas);
        options.deadline(Duration::from_secs(1)).connect().unwrap()
    };
    let stores: Vec<_> = (0..4).map(connect).collect();
    let limit = 3000 * u64::from(length());
    let quota: Limit = Quota::per(limit, Period::Every(Duration::from_secs(3600))).into();
    let lasts = Duration::from_secs(12) * length();
    let playing = tokio::spawn(async move { play_all(&stores, &quota, 1000, lasts).await });
    while counted(&watched.master) < limit / 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    watched.replica.freeze();
    watched.master.cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    tokio::time::sleep(Duration::from_millis(200)).await; // What it will not hear of.
    watched.master.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let known = counted(&watched.master);
    watched.master.kill();
    watched.replica.thaw();
    wait_for("one of them is master", || watched.promoted().is_some());
    let forgotten = known.saturating_sub(watched.promoted().map_or(0, counted));
    let log = playing.await.unwrap();
    let admitted = log.admitted.len() as u64;
    println!(
        "fail-over, {mode:?}, waiting for {wait_replicas} replicas: offered {}, admitted {admitted}, limit {limit}, \
         forgotten {forgotten}, without an answer {}, {:?} late",
        log.offered, log.failed, log.late
    );
    // Where replicas are waited for, what they do not have was not admitted either.
    let lost = if wait_replicas == 0 { forgotten } else { 0 };
    assert!(admitted <= limit + lost, "{admitted} of {limit} and {lost}");
    Use::of(
        &log,
        3 * limit <= log.offered && 95 * limit <= 100 * admitted,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_fail_over_sells_twice_only_what_it_forgot() {
    let _alone = alone().await;
    for mode in MODES {
        hardly_less("a fail-over", async || fail_over(mode, 0).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_57_a_fail_over_to_a_replica_that_was_waited_for_sells_nothing_twice() {
    let _alone = alone().await;
    for mode in MODES {
        hardly_less("a fail-over", async || fail_over(mode, 1).await).await;
    }
}
