//! What the servers are and may do, found out without writing anything.
//!
//! Which commands are allowed is told by a transaction that is taken back: each is looked at when it is queued, and
//! none is run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::stream::{self, StreamExt};
use redis::{Client, Cmd, RedisError, RedisResult, aio::MultiplexedConnection};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use self::nodes::Node;
use crate::{
    Naming, RedisStore, keys,
    options::{RedisOptions, Topology},
};

mod judge;
mod nodes;

/// How long a server may take for one thing that is asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long all servers may take together.
const DEADLINE: Duration = Duration::from_secs(20);
/// How many servers are looked at at once: few, so that round trips are measured and not this machine.
const AT_ONCE: usize = 8;
/// How many round trips are measured.
const TRIPS: usize = 5;

/// What was found out about the servers of a store.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Examined {
    /// The servers that answered.
    pub servers: Vec<Server>,
    /// What is wrong with them for a store of limits, or may become so.
    pub findings: Vec<Finding>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// It works, and something may be lost or late.
    Warning,
    /// Requests fail, or a limit may be exceeded.
    Error,
}

/// Something that is wrong.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// The server, as host and port; empty for all.
    pub server: String,
    /// What is wrong.
    pub message: String,
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Server {
    /// Its host and port.
    pub address: String,
    /// `redis` or `valkey`.
    pub software: String,
    /// Its version.
    pub version: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
    /// `master` or `slave`, as it says.
    pub role: String,
    /// Replicas that are connected.
    pub replicas: u64,
    /// The memory that it may use, in bytes; 0 for all there is.
    pub maxmemory: u64,
    /// What it does when that is used up.
    pub maxmemory_policy: String,
    /// Whether it writes each change to a file.
    pub appendonly: bool,
    /// When it makes snapshots, as `save` says; `None` where it does not tell.
    pub save: Option<String>,
    /// How many names its database has.
    pub names: u64,
    /// How many listen for notices of change.
    pub listeners: u64,
    /// How far its clock is before this machine's, in milliseconds.
    pub clock_ahead_millis: i64,
    /// The middle one of several round trips, in microseconds.
    pub round_trip_micros: u64,
    /// What the user may not do, of what is needed: commands, and beginnings of names.
    pub missing: BTreeSet<String>,
    /// What a cluster calls it; empty elsewhere.
    #[serde(skip)]
    node: String,
    /// The lines of `INFO`, for what is rarely needed.
    #[serde(skip)]
    info: BTreeMap<String, String>,
}

impl RedisStore {
    /// Looks at the servers: whether they answer, what they are, and whether a store of limits does well on them. Of a
    /// cluster all masters and replicas are looked at that it tells of. Asks on connections of its own, writes nothing,
    /// and takes half a minute at most.
    pub async fn examine(&self) -> Examined {
        let mut examined = Examined::default();
        let (link, options) = (self.link(), self.options());
        let clients = match timeout(PATIENCE, link.clients()).await {
            Ok(Ok(clients)) => clients,
            Ok(Err(failed)) => {
                let message = format!("the master is not found: {}", told(&failed));
                examined.add(Weight::Error, "", message);
                Vec::new()
            }
            Err(_) => {
                examined.add(Weight::Error, "", "no Sentinel answers".to_owned());
                Vec::new()
            }
        };
        let until = Instant::now() + DEADLINE;
        if matches!(options.topology, Topology::Cluster(_)) {
            examined.look_at_cluster(clients, options, until).await;
        } else {
            let places = clients.into_iter().map(Place::named).collect();
            examined.look_at(places, options, until).await;
        }
        if let Topology::Sentinel { master, .. } = &options.topology {
            for sentinel in link.sentinels() {
                let address = sentinel.get_connection_info().addr().to_string();
                if let Err(reason) = quorum(sentinel, master).await {
                    examined.add(Weight::Warning, &address, reason);
                }
            }
        }
        examined
    }
}

/// A server that is to be looked at.
struct Place {
    client: Client,
    /// What the cluster tells of it, if one did.
    node: Option<Node>,
}

impl Place {
    fn named(client: Client) -> Self {
        Self { client, node: None }
    }

    fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }
}

impl Examined {
    fn add(&mut self, weight: Weight, server: &str, message: String) {
        self.findings.push(Finding {
            weight,
            server: server.to_owned(),
            message,
        });
    }

    /// Looks at all masters and replicas of a cluster, by the nodes that the settings name.
    async fn look_at_cluster(
        &mut self,
        named: Vec<Client>,
        options: &RedisOptions,
        until: Instant,
    ) {
        let (places, refused) = nodes::places(named, until).await;
        self.look_at(places, options, until).await;
        for (address, reason) in refused {
            // Of one that does not answer at all it is told already.
            if self.servers.iter().any(|server| server.address == address) {
                let message = format!("the cluster's other nodes are not known: {reason}");
                self.add(Weight::Error, &address, message);
            }
        }
    }

    /// Looks at these servers, some at once, each once however many names it has.
    async fn look_at(&mut self, places: Vec<Place>, options: &RedisOptions, until: Instant) {
        let looks = stream::iter(places).map(async |place| {
            let looked = timeout_at(until, look(&place.client, options)).await;
            let late = |_| Err(format!("not all could be asked within {DEADLINE:?}"));
            let looked = looked.unwrap_or_else(late);
            (place, looked)
        });
        let mut looks = std::pin::pin!(looks.buffered(AT_ONCE));
        let mut known = BTreeSet::new();
        while let Some((place, looked)) = looks.next().await {
            match looked {
                Ok(server) => {
                    if !server.node.is_empty() && !known.insert(server.node.clone()) {
                        continue;
                    }
                    self.findings.extend(judge::server(&server, options));
                    self.servers.push(server);
                }
                Err(reason) => {
                    let (weight, message) = judge::silent(place.node.as_ref(), reason);
                    self.add(weight, &place.address(), message);
                }
            }
        }
    }
}

/// Why something failed, for people: nothing of it is a secret, as nothing secret was asked.
fn told(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("it answers {code}: {detail}"),
        (Some(code), None) => format!("it answers {code}"),
        (None, _) => error.to_string(),
    }
}

/// A connection to one server, that nobody shares.
struct Asks(MultiplexedConnection);

impl Asks {
    async fn open(client: &Client) -> Result<Self, String> {
        let connects = timeout(PATIENCE, client.get_multiplexed_async_connection());
        match connects.await {
            Ok(Ok(connection)) => Ok(Self(connection)),
            Ok(Err(error)) => Err(format!("can not be reached: {}", told(&error))),
            Err(_) => Err(format!("can not be reached: no answer within {PATIENCE:?}")),
        }
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Refused> {
        match timeout(PATIENCE, command.query_async(&mut self.0)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Refused::By(error)),
            Err(_) => Err(Refused::Silent),
        }
    }
}

/// Why a question has no answer.
enum Refused {
    By(RedisError),
    Silent,
}

impl Refused {
    fn reason(&self) -> String {
        match self {
            Self::By(error) => told(error),
            Self::Silent => format!("no answer within {PATIENCE:?}"),
        }
    }

    fn is_not_permitted(&self) -> bool {
        matches!(self, Self::By(error) if error.code() == Some("NOPERM"))
    }
}

/// What a server says of itself.
async fn look(client: &Client, options: &RedisOptions) -> Result<Server, String> {
    let mut asks = Asks::open(client).await?;
    let mut server = Server {
        address: client.get_connection_info().addr().to_string(),
        ..Server::default()
    };
    let mut trips = Vec::new();
    for _ in 0..TRIPS {
        let sent = std::time::Instant::now();
        let ping: Result<String, _> = asks.ask(&redis::cmd("PING")).await;
        ping.map_err(|refused| refused.reason())?;
        trips.push(sent.elapsed());
    }
    trips.sort_unstable();
    let trip = trips[TRIPS / 2];
    server.round_trip_micros = u64::try_from(trip.as_micros()).unwrap_or(u64::MAX);
    match asks.ask(&redis::cmd("INFO")).await {
        Ok(text) => server.read_info(text),
        Err(refused) => drop(
            server
                .missing
                .insert(format!("INFO ({})", refused.reason())),
        ),
    }
    if let Ok((seconds, micros)) = asks.ask::<(i64, i64)>(&redis::cmd("TIME")).await {
        let here = tollgate_core::clock::machine_time().unix_nanos / 1_000_000;
        let there =
            seconds * 1000 + micros / 1000 + i64::try_from(trip.as_millis()).unwrap_or(0) / 2;
        server.clock_ahead_millis = there - i64::try_from(here).unwrap_or(there);
    }
    server.names = asks.ask(&redis::cmd("DBSIZE")).await.unwrap_or_default();
    if matches!(options.topology, Topology::Cluster(_)) {
        let mut id = redis::cmd("CLUSTER");
        server.node = asks.ask(id.arg("MYID")).await.unwrap_or_default();
    }
    let mut save = redis::cmd("CONFIG");
    save.arg("GET").arg("save");
    let save: Result<BTreeMap<String, String>, _> = asks.ask(&save).await;
    server.save = save.ok().and_then(|mut save| save.remove("save"));
    let mut listeners = redis::cmd("PUBSUB");
    listeners.arg("NUMSUB").arg(crate::notices::CHANNEL);
    let listeners: Result<(String, u64), _> = asks.ask(&listeners).await;
    server.listeners = listeners.map_or(0, |(_, count)| count);
    let missing = missing(&mut asks, options).await?;
    server.missing.extend(missing);
    if options.notices && !may_listen(client).await {
        server.missing.insert("SUBSCRIBE".to_owned());
    }
    Ok(server)
}

impl Server {
    fn read_info(&mut self, text: String) {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        self.info = pairs
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let text = |name| self.info.get(name).cloned();
        let number = |name| {
            text(name)
                .and_then(|text: String| text.parse().ok())
                .unwrap_or_default()
        };
        let valkey = text("valkey_version");
        self.software = if valkey.is_some() { "valkey" } else { "redis" }.to_owned();
        self.version = valkey.or_else(|| text("redis_version")).unwrap_or_default();
        self.mode = text("redis_mode")
            .or_else(|| text("server_mode"))
            .unwrap_or_default();
        self.role = text("role").unwrap_or_default();
        self.replicas = number("connected_slaves");
        self.maxmemory = number("maxmemory");
        self.maxmemory_policy = text("maxmemory_policy").unwrap_or_default();
        self.appendonly = number("aof_enabled") == 1;
    }
}

/// What the user may not do of what is needed.
async fn missing(asks: &mut Asks, options: &RedisOptions) -> Result<BTreeSet<String>, String> {
    let mut missing = BTreeSet::new();
    match asks.ask::<()>(&redis::cmd("MULTI")).await {
        Ok(()) => {}
        Err(Refused::Silent) => return Err(Refused::Silent.reason()),
        Err(Refused::By(_)) => return Ok(missing), // It can not be told.
    }
    for needed in needed(options) {
        match asks.ask::<redis::Value>(&needed.command).await {
            Err(refused) if refused.is_not_permitted() => {
                let reason = refused.reason();
                let is_named = reason.contains(" key") || reason.contains(" channel");
                missing.insert(if is_named { needed.names } else { needed.name });
            }
            Err(Refused::Silent) => return Err(Refused::Silent.reason()),
            // Another node has the name, the server is a replica, is loading: told elsewhere.
            Ok(_) | Err(Refused::By(_)) => {}
        }
    }
    let _: Result<(), _> = asks.ask(&redis::cmd("DISCARD")).await;
    Ok(missing)
}

/// A command that is needed, with a name that it is needed for.
struct Needed {
    command: Cmd,
    name: String,
    names: String,
}

/// What the store does in time: commands, and names that they are used on.
fn needed(options: &RedisOptions) -> Vec<Needed> {
    const NOBODY: &str = "tollgate-check";
    let mut all = Vec::new();
    let mut need = |text: &str, begins: &str, key: &str| {
        let mut parts = text.split(' ');
        let name = parts.next().unwrap_or_default();
        let mut command = redis::cmd(name);
        for part in parts {
            command.arg(if part == "KEY" { key } else { part });
        }
        all.push(Needed {
            command,
            name: name.to_owned(),
            names: format!("names that begin with {begins}"),
        });
    };
    for text in [
        "SCAN 0",
        "EVALSHA 0 0",
        "SCRIPT LOAD return",
        "TIME",
        "DBSIZE",
    ] {
        need(text, "", "");
    }
    let channel = crate::notices::CHANNEL;
    need("PUBLISH KEY x", channel, channel);
    if options.wait_replicas > 0 {
        need("WAIT 0 1", "", "");
    }
    let records = [
        (keys::SESSION, keys::record(NOBODY)),
        ("orgkey.", keys::record(&format!("orgkey.{NOBODY}"))),
        ("{apikey-", keys::writes(&keys::record(NOBODY))),
    ];
    for (begins, name) in &records {
        for text in [
            "MGET KEY",
            "GET KEY",
            "SET KEY x",
            "DEL KEY",
            "PEXPIRE KEY 1",
            "PTTL KEY",
        ] {
            need(text, begins, name);
        }
    }
    let of_tyk = [
        ("quota-", "quota-tollgate-check"),
        ("rate-limit-", "rate-limit-tollgate-check"),
    ];
    let of_tyk: &[_] = if options.naming == Naming::Tyk {
        &of_tyk
    } else {
        &[]
    };
    for (begins, name) in of_tyk
        .iter()
        .chain(&[("tollgate:", "tollgate:{tollgate-check}")])
    {
        for text in COUNTING {
            need(text, begins, name);
        }
    }
    all
}

/// What scripts do with counters.
const COUNTING: [&str; 21] = [
    "GET KEY",
    "SET KEY x",
    "DEL KEY",
    "TYPE KEY",
    "INCRBY KEY 1",
    "DECRBY KEY 1",
    "PTTL KEY",
    "PEXPIRE KEY 1",
    "PEXPIREAT KEY 1",
    "ZADD KEY 1 x",
    "ZCOUNT KEY 0 0",
    "ZRANGE KEY 0 0",
    "ZRANGEBYSCORE KEY 0 0",
    "ZREVRANGEBYSCORE KEY 0 0",
    "ZREM KEY x",
    "ZREMRANGEBYSCORE KEY 0 0",
    "HGETALL KEY",
    "HMGET KEY x",
    "HSET KEY x x",
    "HDEL KEY x",
    "HINCRBY KEY x 1",
];

/// Whether notices of change can be listened for.
async fn may_listen(client: &Client) -> bool {
    let listens = async {
        let mut listens = client.get_async_pubsub().await?;
        listens.subscribe(crate::notices::CHANNEL).await
    };
    let listens: Result<RedisResult<()>, _> = timeout(PATIENCE, listens).await;
    matches!(listens, Ok(Ok(())))
}

/// Whether a Sentinel would find another master.
async fn quorum(sentinel: &Client, master: &str) -> Result<(), String> {
    let mut asks = Asks::open(sentinel).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("CKQUORUM").arg(master);
    let answer: Result<String, _> = asks.ask(&command).await;
    match answer {
        Ok(_) => Ok(()),
        Err(refused) => Err(format!(
            "no other master could be made: {}",
            refused.reason()
        )),
    }
}
