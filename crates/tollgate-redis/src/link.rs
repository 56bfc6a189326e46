//! The connection: made in the background, multiplexed, with a deadline for each call and a breaker before
//! all of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult,
    ScriptInvocation, ServerErrorKind, Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, PubSub},
    cluster::{ClusterClient, ClusterConfig},
    cluster_async::ClusterConnection,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tollgate_core::{
    clock::{Clock, machine_time},
    store::{StoreError, StoreErrorKind},
};

use crate::{
    breaker::{Breaker, Says},
    options::{RedisOptions, Topology, tls_mode},
};

/// A connection that many calls share.
#[derive(Clone)]
enum Wire {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(wire) => wire.req_packed_command(cmd),
            Self::Cluster(wire) => wire.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(wire) => wire.req_packed_commands(pipeline, offset, count),
            Self::Cluster(wire) => wire.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(wire) => wire.get_db(),
            Self::Cluster(wire) => wire.get_db(),
        }
    }
}

/// Where connections come from.
enum Origin {
    Server(Client),
    /// The cluster, and those nodes that are known from the settings.
    Cluster(ClusterClient, Vec<Client>),
    /// Asked one at a time: who finds no connection makes one for all.
    Sentinel(tokio::sync::Mutex<SentinelClient>),
}

/// The way to the servers.
pub(crate) struct Link {
    origin: Origin,
    config: ConnectionManagerConfig,
    wire: Mutex<Option<Wire>>,
    breaker: Mutex<Breaker>,
    deadline: Duration,
    clock: Option<Arc<dyn Clock>>,
    calls: AtomicU64,
}

impl Link {
    pub(crate) fn new(options: &RedisOptions) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_secs(2))
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(None); // The deadline is kept here.
        Ok(Self {
            origin: origin(options).map_err(settings)?,
            config,
            wire: Mutex::default(),
            breaker: Mutex::default(),
            deadline: options.deadline,
            clock: options.clock.clone(),
            calls: AtomicU64::new(0),
        })
    }

    /// How many round trips were made.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// The monotonic clock's tick.
    fn ticks(&self) -> u64 {
        let clock = self.clock.as_ref();
        clock.map_or_else(machine_time, |clock| clock.now()).ticks
    }

    /// Runs a command.
    pub(crate) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.run(async {
            let mut wire = self.wire().await?;
            command.query_async(&mut wire).await
        })
        .await
    }

    /// Runs a script.
    pub(crate) async fn script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.run(async {
            let mut wire = self.wire().await?;
            script.invoke_async(&mut wire).await
        })
        .await
    }

    /// Runs several commands, in one round trip.
    pub(crate) async fn pipeline<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        self.run(async {
            let mut wire = self.wire().await?;
            pipeline.query_async(&mut wire).await
        })
        .await
    }

    /// The addresses of a cluster's masters; `None` where there is one server alone.
    pub(crate) async fn masters(&self) -> Result<Option<Vec<(String, u16)>>, StoreError> {
        if !matches!(self.origin, Origin::Cluster(..)) {
            return Ok(None);
        }
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        // Of each range: the first slot, the last, the master, and its replicas.
        let ranges: Vec<Vec<Value>> = self.command(&command).await?;
        let mut masters: Vec<_> = ranges.into_iter().filter_map(master).collect();
        masters.sort_unstable();
        masters.dedup();
        Ok(Some(masters))
    }

    /// Runs a command on one node of a cluster.
    pub(crate) async fn command_at<T: FromRedisValue>(
        &self,
        (host, port): &(String, u16),
        command: &Cmd,
    ) -> Result<T, StoreError> {
        self.run(async {
            match self.wire().await? {
                Wire::Cluster(mut wire) => {
                    let node = SingleNodeRoutingInfo::ByAddress {
                        host: host.clone(),
                        port: *port,
                    };
                    let routing = RoutingInfo::SingleNode(node);
                    let answer = wire.route_command(command.clone(), routing).await?;
                    Ok(T::from_redis_value(answer)?)
                }
                mut wire => command.query_async(&mut wire).await,
            }
        })
        .await
    }

    /// A connection of its own that listens.
    pub(crate) async fn listen(&self) -> RedisResult<PubSub> {
        let nodes = match &self.origin {
            Origin::Server(client) => vec![client.clone()],
            Origin::Sentinel(client) => vec![client.lock().await.async_get_client().await?],
            // Notices go to all nodes, so any will do.
            Origin::Cluster(_, nodes) => nodes.clone(),
        };
        let mut failed = lost();
        for node in nodes {
            match node.get_async_pubsub().await {
                Ok(listens) => return Ok(listens),
                Err(err) => failed = err,
            }
        }
        Err(failed)
    }

    /// Makes a call within the deadline, unless the breaker is open.
    async fn run<T>(&self, call: impl Future<Output = RedisResult<T>>) -> Result<T, StoreError> {
        let says = self.breaker.lock().ask(self.ticks(), self.deadline);
        if let Says::Wait(wait) = says {
            let message = format!("the server is left alone for {wait:?} after failures");
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        self.calls.fetch_add(1, Relaxed);
        match tokio::time::timeout(self.deadline, call).await {
            Ok(Ok(answer)) => {
                self.answered();
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => {
                self.unavailable();
                let message = format!("no answer within {:?}", self.deadline);
                Err(StoreError::new(StoreErrorKind::Unavailable, message))
            }
        }
    }

    fn answered(&self) {
        if self.breaker.lock().answered() {
            tracing::info!("the store answers again");
        }
    }

    fn failed(&self, error: RedisError) -> StoreError {
        let kind = kind(&error);
        if kind == StoreErrorKind::Unavailable {
            // Another server may be the master now.
            if matches!(self.origin, Origin::Sentinel(_)) {
                *self.wire.lock() = None;
            }
            self.unavailable();
        } else {
            self.answered();
        }
        // What the server says may name keys.
        let message = match error.code() {
            Some(code) => format!("the server answered {code}"),
            None => format!("no answer: {}", error.category()),
        };
        StoreError::new(kind, message)
    }

    fn unavailable(&self) {
        let mut byte = [0];
        let _ = getrandom::fill(&mut byte); // Without it, all try at once.
        let jitter = f64::from(byte[0]) / 255.0;
        if self
            .breaker
            .lock()
            .failed(self.ticks(), self.deadline, jitter)
        {
            tracing::warn!("the store does not answer: it is left alone for a while");
        }
    }

    async fn wire(&self) -> RedisResult<Wire> {
        if let Some(wire) = &*self.wire.lock() {
            return Ok(wire.clone());
        }
        let wire = match &self.origin {
            Origin::Server(client) => self.manage(client.clone())?,
            Origin::Cluster(client, _) => {
                Wire::Cluster(client.get_pending_async_connection_with_config(ClusterConfig::new()))
            }
            Origin::Sentinel(sentinel) => {
                let mut sentinel = sentinel.lock().await;
                if let Some(wire) = &*self.wire.lock() {
                    return Ok(wire.clone()); // Made meanwhile.
                }
                let client = sentinel.async_get_client().await?;
                self.manage(client)?
            }
        };
        Ok(self.wire.lock().get_or_insert(wire).clone())
    }

    fn manage(&self, client: Client) -> RedisResult<Wire> {
        let manager = ConnectionManager::new_lazy_with_config(client, self.config.clone())?;
        Ok(Wire::Server(manager))
    }
}

fn origin(options: &RedisOptions) -> RedisResult<Origin> {
    Ok(match &options.topology {
        Topology::Single(info) => Origin::Server(Client::open(info.clone())?),
        Topology::Cluster(nodes) => {
            let client = ClusterClient::builder(nodes.clone())
                .connection_timeout(options.connect_timeout)
                .build()?;
            let nodes = nodes.iter().map(|node| Client::open(node.clone()));
            Origin::Cluster(client, nodes.collect::<RedisResult<_>>()?)
        }
        Topology::Sentinel {
            sentinels,
            sentinel_login,
            master,
            login,
            database,
            tls,
        } => {
            let kind = SentinelServerType::Master;
            let mut builder = SentinelClientBuilder::new(sentinels.clone(), master, kind)?
                .set_client_to_redis_db(*database);
            if let Some(mode) = tls_mode(*tls) {
                builder = builder.set_client_to_redis_tls_mode(mode);
            }
            if let Some(user) = &login.user {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = &login.password {
                builder = builder.set_client_to_redis_password(password);
            }
            if let Some(user) = &sentinel_login.user {
                builder = builder.set_client_to_sentinel_username(user);
            }
            if let Some(password) = &sentinel_login.password {
                builder = builder.set_client_to_sentinel_password(password);
            }
            Origin::Sentinel(tokio::sync::Mutex::new(builder.build()?))
        }
    })
}

/// The address in a range of `CLUSTER SLOTS`.
fn master(range: Vec<Value>) -> Option<(String, u16)> {
    let Value::Array(node) = range.into_iter().nth(2)? else {
        return None;
    };
    let mut node = node.into_iter();
    let host = String::from_redis_value(node.next()?).ok()?;
    Some((host, u16::from_redis_value(node.next()?).ok()?))
}

/// What kind of failure an error is.
fn kind(error: &RedisError) -> StoreErrorKind {
    match (error.kind(), error.code()) {
        (_, Some("OOM")) => StoreErrorKind::Full,
        (ErrorKind::Server(ServerErrorKind::ResponseError), _)
        | (ErrorKind::Extension, Some("WRONGTYPE")) => StoreErrorKind::Corrupt,
        (ErrorKind::UnexpectedReturnType | ErrorKind::Parse, _) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    }
}

fn settings(error: RedisError) -> StoreError {
    let message = format!(
        "the store's settings can not be followed: {}",
        error.category()
    );
    StoreError::new(StoreErrorKind::Unsupported, message)
}

fn lost() -> RedisError {
    RedisError::from((ErrorKind::ClusterConnectionNotFound, "no node answers"))
}
