//! Settings of a [`RedisStore`].

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsMode};
use tollgate_core::{
    clock::Clock,
    store::{StoreError, StoreErrorKind},
};

use crate::{Naming, RedisStore, link::Link};

/// What happens to a request whose limits can not be asked.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnStoreError {
    /// It is refused, as the failure that it is: layers answer 503.
    #[default]
    Refuse,
    /// It passes, uncounted.
    Admit,
    /// This node counts by itself, up to its part of the limit, and tells the server when that is back.
    Local {
        /// How many nodes share the limit.
        nodes: NonZeroU32,
    },
}

/// Whether the server is asked for each request, or for many at once.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LimitMode {
    /// For each request: all limits in one round trip.
    Exact,
    /// Chunks of limits are held here, and requests take their units from them. Never above the limit either;
    /// what one node holds may be missed by another for a moment. Limits that can not be held so are asked for: of less
    /// than eight units for each node, in windows below 200 ms, by GCRA, with patience, or only watched.
    Leased,
    /// Leased where that pays: a limit that is large beside the number of nodes, in sliding windows of 32 units and more
    /// for each, and a counter from which this node takes four units and more while a lease lasts. Exact elsewhere.
    #[default]
    Auto,
}

/// How the servers stand.
#[derive(Clone)]
pub(crate) enum Topology {
    Single(ConnectionInfo),
    Cluster(Vec<ConnectionInfo>),
    Sentinel {
        sentinels: Vec<ConnectionAddr>,
        sentinel_login: Login,
        master: String,
        login: Login,
        database: i64,
        tls: Tls,
    },
}

/// A name and a password, either of which may be missing.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// Where the servers are and how to log in, for [`RedisOptions::servers`]. One server is the first address.
#[derive(Clone, Default)]
pub struct Servers {
    /// Hosts and ports: of the server, of nodes of the cluster, or of Sentinels.
    pub addresses: Vec<(String, u16)>,
    /// The user, where the server has users.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// The number of the database; a cluster has only 0.
    pub database: i64,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Whether the addresses are of a cluster.
    pub is_cluster: bool,
    /// The master's name, where the addresses are of Sentinels.
    pub master: Option<String>,
    /// The password of the Sentinels.
    pub sentinel_password: Option<String>,
    /// Certificates, where the connection is encrypted.
    pub certificates: Option<Certificates>,
}

/// Whom a TLS connection trusts, and what it shows. All is PEM. `Debug` prints nothing of it.
#[derive(Clone, Default)]
pub struct Certificates {
    /// The authorities that alone are believed; `None` for those of the system.
    pub authorities: Option<Vec<u8>>,
    /// The certificate that is shown to the server, and its key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates(…)")
    }
}

/// How a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tls {
    /// Not at all.
    #[default]
    Off,
    /// By TLS.
    On,
    /// By TLS, with whatever certificate the server has.
    Unverified,
}

impl Servers {
    fn nodes(&self) -> impl Iterator<Item = Result<ConnectionInfo, StoreError>> {
        self.addresses.iter().map(|(host, port)| {
            let (host, port) = (host.clone(), *port);
            let addr = match self.tls {
                Tls::Off => ConnectionAddr::Tcp(host, port),
                tls => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: tls == Tls::Unverified,
                    tls_params: None,
                },
            };
            let mut login = RedisConnectionInfo::default().set_db(self.database);
            if let Some(user) = &self.user {
                login = login.set_username(user);
            }
            if let Some(password) = &self.password {
                login = login.set_password(password);
            }
            let info = addr.into_connection_info();
            let info = info.map_err(|_| unreadable("the address can not be used"))?;
            Ok(info.set_redis_settings(login))
        })
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("addresses", &self.addresses)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`RedisStore`]; see [`connect`](Self::connect).
#[derive(Clone)]
#[must_use]
pub struct RedisOptions {
    pub(crate) topology: Topology,
    pub(crate) certificates: Option<Certificates>,
    pub(crate) naming: Naming,
    pub(crate) sentinels: bool,
    pub(crate) deadline: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) denial_age: Duration,
    pub(crate) rates_on_error: OnStoreError,
    pub(crate) quotas_on_error: OnStoreError,
    pub(crate) mode: LimitMode,
    pub(crate) longest_lease: Duration,
    pub(crate) wait_replicas: u32,
    pub(crate) node_secret: String,
    pub(crate) trusts_all_notices: bool,
    pub(crate) notices: bool,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

impl RedisOptions {
    /// One server, by URL: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS.
    ///
    /// # Errors
    ///
    /// Fails where the URL can not be read. The message has no part of it, since a password may be in it.
    pub fn single(url: &str) -> Result<Self, StoreError> {
        Ok(Self::of(Topology::Single(info(url)?)))
    }

    /// A cluster, by the URLs of some of its nodes. Counters need [`Naming::Tagged`], the default.
    ///
    /// # Errors
    ///
    /// Fails where a URL can not be read, or there is none.
    pub fn cluster(urls: &[&str]) -> Result<Self, StoreError> {
        let nodes: Vec<_> = urls.iter().map(|url| info(url)).collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            return Err(unreadable("a cluster needs the URL of a node"));
        }
        Ok(Self::of(Topology::Cluster(nodes)))
    }

    /// The master that Sentinels name, by the URLs of the Sentinels, whose user and password are for
    /// them alone. `master` is a URL too, with the master's name for its host:
    /// `redis://:password@mymaster/0`.
    ///
    /// # Errors
    ///
    /// Fails where a URL can not be read, or there is no Sentinel.
    pub fn sentinel(urls: &[&str], master: &str) -> Result<Self, StoreError> {
        let sentinels: Vec<_> = urls.iter().map(|url| info(url)).collect::<Result<_, _>>()?;
        let login = |info: &ConnectionInfo| Login {
            user: info.redis_settings().username().map(str::to_owned),
            password: info.redis_settings().password().map(str::to_owned),
        };
        let Some(first) = sentinels.first() else {
            return Err(unreadable("Sentinels are found by the URL of one at least"));
        };
        let info = info(master)?;
        let (name, tls) = match info.addr() {
            ConnectionAddr::Tcp(name, _) => (name.clone(), Tls::Off),
            ConnectionAddr::TcpTls { host, insecure, .. } => {
                let tls = if *insecure { Tls::Unverified } else { Tls::On };
                (host.clone(), tls)
            }
            _ => return Err(unreadable("the master's name stands where a host does")),
        };
        Ok(Self::of(Topology::Sentinel {
            sentinel_login: login(first),
            sentinels: sentinels.iter().map(|info| info.addr().clone()).collect(),
            master: name,
            login: login(&info),
            database: info.redis_settings().db(),
            tls,
        }))
    }

    /// Servers told part by part, as a file of settings does.
    ///
    /// # Errors
    ///
    /// Fails where there is no address, or the parts contradict each other.
    pub fn servers(servers: &Servers) -> Result<Self, StoreError> {
        let nodes: Vec<_> = servers.nodes().collect::<Result<_, _>>()?;
        let Some(first) = nodes.first() else {
            return Err(unreadable("a store needs the address of a server"));
        };
        let login = |password: &Option<String>, user: &Option<String>| Login {
            user: user.clone(),
            password: password.clone(),
        };
        let certificates = servers.certificates.clone();
        let options = Self::of(match (&servers.master, servers.is_cluster) {
            (Some(_), true) => {
                return Err(unreadable("Sentinels watch no cluster: one of both"));
            }
            (Some(master), false) => Topology::Sentinel {
                sentinels: nodes.iter().map(|info| info.addr().clone()).collect(),
                sentinel_login: login(&servers.sentinel_password, &None),
                master: master.clone(),
                login: login(&servers.password, &servers.user),
                database: servers.database,
                tls: servers.tls,
            },
            (None, true) => Topology::Cluster(nodes),
            (None, false) => Topology::Single(first.clone()),
        });
        Ok(options.certificates(certificates))
    }

    fn of(topology: Topology) -> Self {
        Self {
            topology,
            certificates: None,
            naming: Naming::default(),
            sentinels: false,
            deadline: Duration::from_millis(20),
            connect_timeout: Duration::from_secs(1),
            denial_age: Duration::from_millis(250),
            rates_on_error: OnStoreError::default(),
            quotas_on_error: OnStoreError::default(),
            mode: LimitMode::default(),
            longest_lease: Duration::from_secs(1),
            wait_replicas: 0,
            node_secret: String::new(),
            trusts_all_notices: false,
            notices: true,
            heartbeat: None,
            clock: None,
        }
    }

    /// Whom encrypted connections trust, and what they show; `None` for the system's authorities, and nothing.
    pub fn certificates(mut self, certificates: Option<Certificates>) -> Self {
        self.certificates = certificates;
        self
    }

    /// How counters are named; [`Naming::Tagged`] where nothing is said.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
        self
    }

    /// Puts Tyk's sentinel (`….BLOCKED`) beside the log of a rate that is used up, for as long as the log
    /// refuses, and lets nothing pass while one stands, as Tyk nodes with `enable_sentinel_rate_limiter` do.
    /// With [`Naming::Tyk`] alone.
    pub fn sentinels(mut self, sentinels: bool) -> Self {
        self.sentinels = sentinels;
        self
    }

    /// How long a call may take, 20 ms where nothing is said. A call that takes longer has failed; what it
    /// would have charged may be charged.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long a connection may take to stand, a second where nothing is said. Requests do not wait for it
    /// longer than for an answer.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a refusal is remembered here, so that a caller who goes on costs no round trips; 250 ms
    /// where nothing is said, and never longer than the refusal holds. Units that others give back and
    /// counters that are reset elsewhere are seen so much later. Zero asks for each request.
    pub fn denial_age(mut self, age: Duration) -> Self {
        self.denial_age = age;
        self
    }

    /// What happens where a rate can not be asked for.
    pub fn rates_on_error(mut self, on_error: OnStoreError) -> Self {
        self.rates_on_error = on_error;
        self
    }

    /// What happens where a quota can not be asked for.
    pub fn quotas_on_error(mut self, on_error: OnStoreError) -> Self {
        self.quotas_on_error = on_error;
        self
    }

    /// Whether the server is asked for each request, [`LimitMode::Auto`] where nothing is said. Nodes may differ in
    /// this.
    pub fn mode(mut self, mode: LimitMode) -> Self {
        self.mode = mode;
        self
    }

    /// How long units that are leased may be used at most, a second where nothing is said. It is less in short
    /// windows and periods: a quarter of a period, a hundredth of a sliding window, and of those below 15 seconds
    /// three of twenty parts or 150 ms. While the server is away, leases serve for as long.
    pub fn longest_lease(mut self, lease: Duration) -> Self {
        self.longest_lease = lease;
        self
    }

    /// How many replicas must have what is charged before it counts as charged, none where nothing is said. A
    /// fail-over to one of them then forgets nothing that was admitted. Not in a cluster.
    pub fn wait_replicas(mut self, replicas: u32) -> Self {
        self.wait_replicas = replicas;
        self
    }

    /// The secret that signs notices of change, Tyk's `node_secret`. Notices that are signed otherwise are
    /// not believed.
    pub fn node_secret(mut self, secret: impl Into<String>) -> Self {
        self.node_secret = secret.into();
        self
    }

    /// Believes all notices of change, whoever signed them, as Tyk does with `allow_insecure_configs`.
    pub fn trust_all_notices(mut self, trusts: bool) -> Self {
        self.trusts_all_notices = trusts;
        self
    }

    /// Whether notices of change are listened for and sent; they are where nothing is said.
    pub fn notices(mut self, notices: bool) -> Self {
        self.notices = notices;
        self
    }

    /// How often Tyk nodes are told of this one, as they tell each other: those that keep rates in their own memory (its
    /// default, "DRL") then count it among the nodes that a rate is divided by. They forget who was silent for four
    /// seconds. Never, where nothing is said.
    pub fn heartbeat(mut self, every: Option<Duration>) -> Self {
        self.heartbeat = every;
        self
    }

    /// Reads the time here. The limits' own time is the server's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// A store of these settings. It connects in the background and anew when a connection is lost, so this
    /// succeeds while the server is away; [`RedisStore::ping`] tells whether it is there.
    ///
    /// # Errors
    ///
    /// Fails where the settings can not be followed.
    pub fn connect(self) -> Result<RedisStore, StoreError> {
        self.check()?;
        let link = Link::new(&self)?;
        Ok(RedisStore::new(self, link))
    }

    /// Whether the settings can be followed together. Nothing is connected.
    ///
    /// # Errors
    ///
    /// Fails where they can not.
    pub fn check(&self) -> Result<(), StoreError> {
        let is_cluster = matches!(self.topology, Topology::Cluster(_));
        if is_cluster && self.naming == Naming::Tyk {
            return Err(unreadable(
                "a cluster can not count under Tyk's names: use `Naming::Tagged`",
            ));
        }
        if is_cluster && self.wait_replicas > 0 {
            return Err(unreadable(
                "replicas can not be waited for in a cluster: set `min-replicas-to-write` on its servers",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Addresses may have passwords in them.
        f.debug_struct("RedisOptions")
            .field("naming", &self.naming)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

fn info(url: &str) -> Result<ConnectionInfo, StoreError> {
    // The cause would name the URL, and a password with it.
    url.into_connection_info()
        .map_err(|_| unreadable("expected a URL like redis://user:password@host:6379/0"))
}

fn unreadable(message: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unsupported, message)
}

/// How TLS is asked of a master that Sentinels name.
pub(crate) fn tls_mode(tls: Tls) -> Option<TlsMode> {
    match tls {
        Tls::Off => None,
        Tls::On => Some(TlsMode::Secure),
        Tls::Unverified => Some(TlsMode::Insecure),
    }
}
