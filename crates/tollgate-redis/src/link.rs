//! The connection: made in the background, multiplexed, with a deadline for each call and a breaker before
//! all of them.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo,
    Pipeline, RedisConnectionInfo, RedisError, RedisFuture, RedisResult, ScriptInvocation,
    ServerErrorKind, Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, PubSub},
    cluster::{ClusterClient, ClusterConfig},
    cluster_async::ClusterConnection,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
    io::tcp::TcpSettings,
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

tokio::task_local! {
    static PATIENCE: Duration;
}

/// Runs what makes calls, each of which may take this long where [`RedisOptions::deadline`] is shorter: for who
/// administers, and keeps no request waiting. What it spawns has the deadline again.
///
/// ```no_run
/// # use std::time::Duration;
/// # use tollgate_core::{store::SessionStore, StoreError};
/// # async fn read(store: &tollgate_redis::RedisStore) -> Result<(), StoreError> {
/// let record = tollgate_redis::patiently(Duration::from_secs(5), store.get("a5f3")).await?;
/// # Ok(())
/// # }
/// ```
pub async fn patiently<T>(patience: Duration, calls: impl Future<Output = T>) -> T {
    PATIENCE.scope(patience, calls).await
}

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
    /// Asked one at a time: who finds no connection makes one for all. And the Sentinels themselves.
    Sentinel(tokio::sync::Mutex<SentinelClient>, Vec<Client>),
}

/// The way to the servers.
pub(crate) struct Link {
    origin: Origin,
    config: ConnectionManagerConfig,
    wire: Mutex<Option<Wire>>,
    breaker: Mutex<Breaker>,
    deadline: Duration,
    connect_timeout: Duration,
    replicas: u32,
    clock: Option<Arc<dyn Clock>>,
    calls: AtomicU64,
}

impl Link {
    pub(crate) fn new(options: &RedisOptions) -> Result<Self, StoreError> {
        let mut config = ConnectionManagerConfig::new()
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_secs(2))
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(None); // The deadline is kept here.
        if matches!(options.topology, Topology::Sentinel { .. }) {
            config = config.set_number_of_retries(0); // The Sentinels may name another.
        }
        Ok(Self {
            origin: origin(options).map_err(settings)?,
            config,
            wire: Mutex::default(),
            breaker: Mutex::default(),
            deadline: options.deadline,
            connect_timeout: options.connect_timeout,
            replicas: options.wait_replicas,
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

    /// The tick by which a call that is made now has failed.
    pub(crate) fn until(&self) -> u64 {
        let deadline = u64::try_from(self.patience().as_nanos()).unwrap_or(u64::MAX);
        self.ticks().saturating_add(deadline)
    }

    /// How long a call of this task may take.
    fn patience(&self) -> Duration {
        let patience = PATIENCE.try_with(|patience| self.deadline.max(*patience));
        patience.unwrap_or(self.deadline)
    }

    /// Runs a command.
    pub(crate) async fn command<T: FromRedisValue>(
        self: &Arc<Self>,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        self.run(self.until(), async {
            let mut wire = self.wire().await?;
            command.query_async(&mut wire).await
        })
        .await
    }

    /// Runs a script.
    pub(crate) async fn script<T: FromRedisValue>(
        self: &Arc<Self>,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        self.run(self.until(), async {
            let mut wire = self.wire().await?;
            script.invoke_async(&mut wire).await
        })
        .await
    }

    /// Runs a script that charges, within what is left of a deadline. Where replicas are to be waited for, it has
    /// failed unless they have it.
    pub(crate) async fn charge<T: FromRedisValue>(
        self: &Arc<Self>,
        script: &ScriptInvocation<'_>,
        until: u64,
    ) -> Result<T, StoreError> {
        if self.replicas == 0 {
            return self
                .run(until, async {
                    let mut wire = self.wire().await?;
                    script.invoke_async(&mut wire).await
                })
                .await;
        }
        let patience = self.deadline.as_millis().max(1);
        let mut pipeline = redis::pipe();
        pipeline.invoke_script(script);
        pipeline
            .cmd("WAIT")
            .arg(self.replicas)
            .arg(patience.to_string());
        let (answer, replicas): (T, u32) = self
            .run(until, async {
                let mut wire = self.wire().await?;
                match pipeline.query_async(&mut wire).await {
                    Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                        script.load_async(&mut wire).await?;
                        pipeline.query_async(&mut wire).await
                    }
                    answer => answer,
                }
            })
            .await?;
        if replicas < self.replicas {
            let message = format!(
                "{replicas} replicas have it in time, and not {}",
                self.replicas
            );
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        Ok(answer)
    }

    /// Runs several commands, in one round trip.
    pub(crate) async fn pipeline<T: FromRedisValue>(
        self: &Arc<Self>,
        pipeline: &Pipeline,
    ) -> Result<T, StoreError> {
        self.run(self.until(), async {
            let mut wire = self.wire().await?;
            pipeline.query_async(&mut wire).await
        })
        .await
    }

    /// The addresses of a cluster's masters; `None` where there is one server alone.
    pub(crate) async fn masters(
        self: &Arc<Self>,
    ) -> Result<Option<Vec<(String, u16)>>, StoreError> {
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
        self: &Arc<Self>,
        (host, port): &(String, u16),
        command: &Cmd,
    ) -> Result<T, StoreError> {
        self.run(self.until(), async {
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
        let mut failed = lost();
        // Notices go to all nodes of a cluster, so any will do.
        for node in self.clients().await? {
            match node.get_async_pubsub().await {
                Ok(listens) => return Ok(listens),
                Err(err) => failed = err,
            }
        }
        Err(failed)
    }

    /// The ways to servers: the one, those nodes that are known from the settings, or the master of now.
    pub(crate) async fn clients(&self) -> RedisResult<Vec<Client>> {
        Ok(match &self.origin {
            Origin::Server(client) => vec![client.clone()],
            Origin::Cluster(_, nodes) => nodes.clone(),
            Origin::Sentinel(client, _) => vec![client.lock().await.async_get_client().await?],
        })
    }

    /// The ways to the Sentinels; none where there are none.
    pub(crate) fn sentinels(&self) -> &[Client] {
        match &self.origin {
            Origin::Sentinel(_, sentinels) => sentinels,
            _ => &[],
        }
    }

    /// Makes a call that has failed at the tick `until`, unless the breaker is open.
    async fn run<T>(
        self: &Arc<Self>,
        until: u64,
        call: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
        let within = Duration::from_nanos(until.saturating_sub(self.ticks()));
        if within.is_zero() {
            let message = format!("no answer within {:?}", self.patience());
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        let says = self.breaker.lock().ask(self.ticks(), self.deadline);
        if let Says::Wait(wait) = says {
            let message = format!("the server is left alone for {wait:?} after failures");
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        self.calls.fetch_add(1, Relaxed);
        match tokio::time::timeout(within, call).await {
            Ok(Ok(answer)) => {
                self.answered();
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => {
                self.unavailable();
                let message = format!("no answer within {:?}", self.patience());
                Err(StoreError::new(StoreErrorKind::Unavailable, message))
            }
        }
    }

    fn answered(&self) {
        if self.breaker.lock().answered() {
            tracing::info!("the store answers again");
        }
    }

    fn failed(self: &Arc<Self>, error: RedisError) -> StoreError {
        let kind = kind(&error);
        if kind == StoreErrorKind::Unavailable {
            // Another server may be the master now.
            if matches!(self.origin, Origin::Sentinel(..)) {
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

    fn unavailable(self: &Arc<Self>) {
        let opened = self
            .breaker
            .lock()
            .failed(self.ticks(), self.deadline, jitter());
        if opened {
            tracing::warn!("the store does not answer: it is left alone for a while");
            tokio::spawn(revive(Arc::downgrade(self)));
        }
    }

    /// Whether the server answers, in time, on a connection of its own; that is the connection then. On one whose other
    /// end went away without a word no answer ever comes.
    async fn is_back(&self) -> bool {
        let connect = async {
            match &self.origin {
                Origin::Server(client) => self.manage(client.clone()),
                Origin::Sentinel(sentinel, _) => {
                    self.manage(sentinel.lock().await.async_get_client().await?)
                }
                Origin::Cluster(client, _) => {
                    client.get_async_connection().await.map(Wire::Cluster)
                }
            }
        };
        let wire = async {
            let mut wire = connect.await?;
            redis::cmd("PING").exec_async(&mut wire).await?; // Connects.
            Ok::<_, RedisError>(wire)
        };
        let Ok(Ok(mut wire)) = tokio::time::timeout(self.connect_timeout, wire).await else {
            return false;
        };
        let ping = redis::cmd("PING");
        let ping = tokio::time::timeout(self.deadline, ping.exec_async(&mut wire)).await;
        let is_back = matches!(ping, Ok(Ok(())));
        if is_back {
            *self.wire.lock() = Some(wire);
        }
        is_back
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
            Origin::Sentinel(sentinel, _) => {
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

/// Tries until the server is back. Calls do not wait for that meanwhile.
async fn revive(link: Weak<Link>) {
    while let Some(link) = link.upgrade() {
        let rest = link
            .breaker
            .lock()
            .open_until()
            .saturating_sub(link.ticks());
        tokio::time::sleep(Duration::from_nanos(rest)).await;
        if link.is_back().await {
            return link.answered();
        }
        let mut breaker = link.breaker.lock();
        if breaker.open_until() == 0 {
            return; // A request found it back.
        }
        breaker.open(link.ticks(), jitter());
    }
}

/// From 0 to 1.
fn jitter() -> f64 {
    let byte = getrandom::u32().map_or(0, |random| random as u8); // Without it, all try at once.
    f64::from(byte) / 255.0
}

fn origin(options: &RedisOptions) -> RedisResult<Origin> {
    let certificates = certificates(options)?;
    let client = |info: &ConnectionInfo| client(info, certificates.as_ref());
    Ok(match &options.topology {
        Topology::Single(info) => Origin::Server(client(info)?),
        Topology::Cluster(nodes) => {
            let builder =
                ClusterClient::builder(nodes.clone()).connection_timeout(options.connect_timeout);
            #[cfg(feature = "tls")]
            let builder = match &certificates {
                Some(certificates) => builder.certs(certificates.clone()),
                None => builder,
            };
            let nodes = nodes.iter().map(client).collect::<RedisResult<_>>()?;
            Origin::Cluster(builder.build()?, nodes)
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
                .set_client_to_redis_db(*database)
                .set_client_to_redis_tcp_settings(at_once());
            if let Some(mode) = tls_mode(*tls) {
                builder = builder.set_client_to_redis_tls_mode(mode);
            }
            #[cfg(feature = "tls")]
            if let Some(certificates) = &certificates {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates.clone());
            }
            let mut sentinel = RedisConnectionInfo::default();
            if let Some(user) = &login.user {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = &login.password {
                builder = builder.set_client_to_redis_password(password);
            }
            if let Some(user) = &sentinel_login.user {
                builder = builder.set_client_to_sentinel_username(user);
                sentinel = sentinel.set_username(user);
            }
            if let Some(password) = &sentinel_login.password {
                builder = builder.set_client_to_sentinel_password(password);
                sentinel = sentinel.set_password(password);
            }
            let alone = sentinels.iter().map(|address| {
                let info = address.clone().into_connection_info()?;
                client(&info.set_redis_settings(sentinel.clone()))
            });
            let alone = alone.collect::<RedisResult<_>>()?;
            Origin::Sentinel(tokio::sync::Mutex::new(builder.build()?), alone)
        }
    })
}

#[cfg(feature = "tls")]
type Pems = redis::TlsCertificates;
#[cfg(not(feature = "tls"))]
type Pems = std::convert::Infallible;

/// The certificates as the client takes them.
#[cfg(feature = "tls")]
fn certificates(options: &RedisOptions) -> RedisResult<Option<Pems>> {
    let certificates = options.certificates.clone();
    Ok(certificates.map(|certificates| Pems {
        root_cert: certificates.authorities,
        client_tls: certificates
            .client
            .map(|(client_cert, client_key)| redis::ClientTlsConfig {
                client_cert,
                client_key,
            }),
    }))
}

#[cfg(not(feature = "tls"))]
fn certificates(options: &RedisOptions) -> RedisResult<Option<Pems>> {
    match options.certificates {
        None => Ok(None),
        Some(_) => Err(RedisError::from((
            ErrorKind::InvalidClientConfig,
            "certificates need the feature `tls`",
        ))),
    }
}

fn client(info: &ConnectionInfo, certificates: Option<&Pems>) -> RedisResult<Client> {
    let info = info.clone().set_tcp_settings(at_once());
    match certificates {
        #[cfg(feature = "tls")]
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        _ => Client::open(info),
    }
}

/// The way to another node of the cluster that this one is of.
pub(crate) fn beside(client: &Client, host: &str, port: u16) -> RedisResult<Client> {
    let info = client.get_connection_info();
    let mut addr = info.addr().clone();
    if let ConnectionAddr::Tcp(its_host, its_port)
    | ConnectionAddr::TcpTls {
        host: its_host,
        port: its_port,
        ..
    } = &mut addr
    {
        host.clone_into(its_host);
        *its_port = port;
    }
    Client::open(info.clone().set_addr(addr))
}

/// What is sent goes at once. Otherwise a call waits until the calls before it are acknowledged, which is a round trip
/// more while others are on their way.
fn at_once() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
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
