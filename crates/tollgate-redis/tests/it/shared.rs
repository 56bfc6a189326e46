//! Beside running Tyk nodes: the same names, texts and counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tollgate_core::{
    Session,
    clock::machine_time,
    limits::{Algorithm, Limit, Period, Quota, Rate},
    store::{
        Charge, Counter, Expect, LimitStore, SessionStore, SharedStore, StoreErrorKind, Verdict,
        cached::CacheOptions,
    },
};
use tollgate_redis::{Naming, RedisOptions, RedisStore};

use crate::server::Server;

const SECRET: &str = "352d20ee67be67f6340b4c0605b044b7";

fn connect(server: &Server) -> RedisStore {
    let options = RedisOptions::single(&server.url()).unwrap();
    let options = options.naming(Naming::Tyk).node_secret(SECRET);
    options.deadline(Duration::from_secs(5)).connect().unwrap()
}

fn quota(max: u64) -> Limit {
    Quota::per(max, Period::Every(Duration::from_secs(60))).into()
}

async fn left(store: &RedisStore, charge: &Charge) -> u64 {
    let taken = store.take(std::slice::from_ref(charge), machine_time());
    match taken.await.unwrap() {
        Verdict::Taken(taken) => taken.standings[0].remaining,
        Verdict::Refused(refused) => refused.standings[0].remaining,
    }
}

/// A name lives for so many seconds, of which a few may have passed.
#[track_caller]
fn lives_on(server: &Server, name: &str, seconds: i64) {
    let left: i64 = server.cli(&["TTL", name]).parse().unwrap();
    assert!((seconds - 10..=seconds).contains(&left), "{name}: {left}");
}

#[tokio::test]
async fn a_key_made_by_tyk_works_and_the_reverse() {
    let server = Server::start();
    let store = connect(&server);
    server.cli(&[
        "SET",
        "apikey-a5f3",
        r#"{"alias":"theirs","rate":1,"per":1}"#,
    ]);
    let read = store.get("a5f3").await.unwrap().unwrap();
    assert_eq!(read.session().alias, "theirs");

    let mut session = Session::clone(read.session());
    session.alias = "ours".into();
    let expect = Expect::Version(read.version());
    let lifetime = Some(Duration::from_secs(100));
    store
        .put("a5f3", session.clone(), expect, lifetime)
        .await
        .unwrap();
    assert_eq!(server.cli(&["GET", "apikey-a5f3"]), session.to_key_json());
    lives_on(&server, "apikey-a5f3", 100);

    let read = store.get("a5f3").await.unwrap().unwrap();
    server.cli(&["SET", "apikey-a5f3", r#"{"alias":"theirs again"}"#]);
    let put = store.put("a5f3", session, Expect::Version(read.version()), None);
    assert_eq!(put.await.unwrap_err().kind(), StoreErrorKind::Conflict);
    assert!(store.delete("a5f3").await.unwrap());
    assert_eq!(server.cli(&["EXISTS", "apikey-a5f3"]), "0");
}

#[tokio::test]
async fn a_quota_half_used_there_is_half_used_here() {
    let server = Server::start();
    let store = connect(&server);
    server.cli(&["SET", "quota-a5f3", "3", "EX", "50"]);
    let charge = Charge::new(Counter::new("quota:key:0::4:a5f3:0:"), quota(10));
    assert_eq!(left(&store, &charge).await, 6);
    assert_eq!(server.cli(&["GET", "quota-a5f3"]), "4");
    lives_on(&server, "quota-a5f3", 50); // The period stays.

    server.cli(&["INCR", "quota-a5f3"]); // A request at a Tyk node.
    assert_eq!(left(&store, &charge).await, 4);
}

#[tokio::test]
async fn rates_are_counted_in_tyks_log_and_windows() {
    let server = Server::start();
    let store = connect(&server);
    let rate = Rate::per(5, Duration::from_secs(60));
    let charge = Charge::new(Counter::new("rate:key:0::4:a5f3:0:"), rate);
    assert_eq!(left(&store, &charge).await, 4);
    let now = machine_time().unix_nanos.to_string();
    server.cli(&["ZADD", "rate-limit-a5f3", &now, &now]); // A request at a Tyk node.
    assert_eq!(left(&store, &charge).await, 2);
    let members = server.cli(&["ZRANGE", "rate-limit-a5f3", "0", "-1"]);
    let is_nanos = |member: &str| member.len() == 19 && member.parse::<u64>().is_ok();
    assert!(members.lines().all(is_nanos), "{members}");

    let rate = Rate::per(5, Duration::from_secs(3600)).with_algorithm(Algorithm::FixedWindow);
    let charge = Charge::new(Counter::new("rate:key:0::2:fx:0:"), rate);
    assert_eq!(left(&store, &charge).await, 4);
    let hour = 3_600_000_000_000;
    let start = machine_time().unix_nanos / hour * hour;
    let name = format!("rate-limit-fx/{start}");
    assert_eq!(server.cli(&["INCR", &name]), "2");
    assert_eq!(left(&store, &charge).await, 2);
    store.reset("rate:key:0::2:fx:0:").await.unwrap();
    assert_eq!(left(&store, &charge).await, 4);
}

#[tokio::test]
async fn a_quota_without_an_end_begins_anew() {
    let server = Server::start();
    let store = connect(&server);
    let charge = Charge::new(Counter::new("quota:key:0::4:a5f3:0:"), quota(5));
    server.cli(&["SET", "quota-a5f3", "5"]);
    assert_eq!(left(&store, &charge).await, 4);
    lives_on(&server, "quota-a5f3", 60);
}

#[tokio::test]
async fn a_sentinel_stands_as_long_as_the_log_refuses_and_is_followed() {
    let server = Server::start();
    let options = RedisOptions::single(&server.url()).unwrap();
    let options = options.naming(Naming::Tyk).sentinels(true);
    let options = options
        .deadline(Duration::from_secs(5))
        .denial_age(Duration::ZERO);
    let store = options.connect().unwrap();
    let rate = Rate::per(2, Duration::from_secs(60)).with_algorithm(Algorithm::Sliding);
    let charge = Charge::new(Counter::new("rate:key:0::4:a5f3:0:"), rate);
    let take = async || {
        let taken = store.take(std::slice::from_ref(&charge), machine_time());
        matches!(taken.await.unwrap(), Verdict::Taken(_))
    };
    const SENTINEL: &str = "rate-limit-a5f3.BLOCKED";
    assert!(take().await);
    assert_eq!(server.cli(&["EXISTS", SENTINEL]), "0");
    assert!(take().await);
    assert!(!take().await);
    let left: u64 = server.cli(&["PTTL", SENTINEL]).parse().unwrap();
    assert!((50_000..=60_001).contains(&left), "{left}");

    store.reset("rate:key:0::4:a5f3:0:").await.unwrap();
    assert_eq!(server.cli(&["EXISTS", SENTINEL]), "0");
    server.cli(&["SET", SENTINEL, "theirs"]);
    assert!(!take().await);
    server.cli(&["DEL", SENTINEL]);
    server.cli(&["RPUSH", SENTINEL, "of another kind"]);
    assert!(take().await);
}

#[tokio::test]
async fn a_changed_key_leaves_the_caches_of_others() {
    let server = Server::start();
    let (one, other) = (connect(&server), connect(&server));
    let cached = SharedStore::from(other).cached(CacheOptions::new());
    let put = async |alias: &str| {
        let session = Session {
            alias: alias.into(),
            ..Session::default()
        };
        one.put("a5f3", session, Expect::Anything, None)
            .await
            .unwrap();
    };
    put("before").await;
    let alias = async || {
        let read = cached.get("a5f3").await.unwrap();
        read.map(|read| read.session().alias.clone())
    };
    assert_eq!(alias().await.as_deref(), Some("before"));
    let start = std::time::Instant::now();
    while server.cli(&["PUBSUB", "NUMSUB", "tyk.cluster.notifications"])
        != "tyk.cluster.notifications\n2"
    {
        assert!(start.elapsed() < Duration::from_secs(10), "both listen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    put("after").await;
    let start = std::time::Instant::now();
    while alias().await.as_deref() != Some("after") {
        assert!(start.elapsed() < Duration::from_secs(5), "the notice comes");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn all_reload_together() {
    let server = Server::start();
    let (one, other) = (connect(&server), connect(&server));
    let reloads = Arc::new(AtomicU64::new(0));
    let counted = reloads.clone();
    other.on_reload(Arc::new(move || {
        counted.fetch_add(1, SeqCst);
    }));
    let start = std::time::Instant::now();
    while reloads.load(SeqCst) == 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "it is told");
        one.tell_to_reload().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn tyk_nodes_are_told_of_this_one_where_that_is_asked_for() {
    use std::io::BufRead;

    let server = Server::start();
    let mut hears = std::process::Command::new("redis-cli")
        .args(["-p", &server.port().to_string()])
        .args(["SUBSCRIBE", "tyk.cluster.notifications"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let options = RedisOptions::single(&server.url()).unwrap();
    let options = options.node_secret("theirs").notices(false);
    let every = std::time::Duration::from_millis(20);
    let store = options.heartbeat(Some(every)).connect().unwrap();
    let lines = std::io::BufReader::new(hears.stdout.take().unwrap()).lines();
    let told = tokio::task::spawn_blocking(|| {
        let told = lines
            .map(Result::unwrap)
            .filter(|line| line.starts_with('{'));
        told.take(2).collect::<Vec<_>>()
    });
    let told = told.await.unwrap();
    hears.kill().unwrap();
    hears.wait().unwrap();
    let notices = told.iter().map(|line| serde_json::from_str(line).unwrap());
    let notices: Vec<serde_json::Value> = notices.collect();
    assert_eq!(notices[0], notices[1], "one node all the time");
    assert_eq!(notices[0]["command"], "NoticeGatewayDRLNotification");
    let node: serde_json::Value =
        serde_json::from_str(notices[0]["payload"].as_str().unwrap()).unwrap();
    for member in ["HostName", "ID", "TagHash"] {
        assert!(node[member].is_string(), "{node}");
    }
    assert!(
        node["LoadPerSec"].is_i64() && node["Percentage"].is_number(),
        "{node}"
    );
    drop(store);
}
