//! Settings of a [`RedisStore`].

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsMode};
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
    /// This node counts by itself, up to its part of the limit.
    Local {
        /// How many nodes share the limit.
        nodes: NonZeroU32,
    },
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
        tls: bool,
    },
}

/// A name and a password, either of which may be missing.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// Settings of a [`RedisStore`]; see [`connect`](Self::connect).
#[derive(Clone)]
#[must_use]
pub struct RedisOptions {
    pub(crate) topology: Topology,
    pub(crate) naming: Naming,
    pub(crate) deadline: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) denial_age: Duration,
    pub(crate) rates_on_error: OnStoreError,
    pub(crate) quotas_on_error: OnStoreError,
    pub(crate) node_secret: String,
    pub(crate) trusts_all_notices: bool,
    pub(crate) notices: bool,
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
            ConnectionAddr::Tcp(name, _) => (name.clone(), false),
            ConnectionAddr::TcpTls { host, .. } => (host.clone(), true),
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

    fn of(topology: Topology) -> Self {
        Self {
            topology,
            naming: Naming::default(),
            deadline: Duration::from_millis(20),
            connect_timeout: Duration::from_secs(1),
            denial_age: Duration::from_millis(250),
            rates_on_error: OnStoreError::default(),
            quotas_on_error: OnStoreError::default(),
            node_secret: String::new(),
            trusts_all_notices: false,
            notices: true,
            clock: None,
        }
    }

    /// How counters are named; [`Naming::Tagged`] where nothing is said.
    pub fn naming(mut self, naming: Naming) -> Self {
        self.naming = naming;
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
        if matches!(self.topology, Topology::Cluster(_)) && self.naming == Naming::Tyk {
            let message = "a cluster can not count under Tyk's names: use `Naming::Tagged`";
            return Err(StoreError::new(StoreErrorKind::Unsupported, message));
        }
        let link = Link::new(&self)?;
        Ok(RedisStore::new(self, link))
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
pub(crate) fn tls_mode(tls: bool) -> Option<TlsMode> {
    tls.then_some(TlsMode::Secure)
}
