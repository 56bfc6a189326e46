//! The sockets of a gateway, as its configuration says: which address, which certificates.
//!
//! A port that APIs have for themselves is listened on once, for as long as anything holds its socket.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Handle,
};

use crate::{
    config::{Config, HttpServerOptions},
    ports::{OwnPort, Protocol},
    serve::{CertificateFiles, Listener, ServerTls, TlsError},
    tls::{TlsRules, TlsRulesError},
};

/// How many connections the system holds that were not taken yet; as tokio has it.
const BACKLOG: u32 = 1024;

/// Whether the ports that APIs have for themselves are opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApiPorts {
    /// As snapshots ask for them.
    Opened,
    /// They are not: nothing is served, or nothing on them.
    LeftAlone,
}

/// What opens sockets.
pub struct Sockets {
    config: Arc<Config>,
    api_ports: ApiPorts,
    /// Read when a listener first needs it.
    tls: Mutex<Option<Tls>>,
    own: Mutex<BTreeMap<u16, Weak<TcpListener>>>,
}

/// A listener of APIs that have a port of their own.
#[derive(Clone, Debug)]
pub struct OpenPort {
    /// What takes connections.
    pub listener: Listener,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// TLS for clients, and where its certificates come from.
struct Tls {
    server: ServerTls,
    files: Vec<CertificateFiles>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// `listen_address` is no address.
    #[error("listen_address: {0}")]
    Address(String),
    /// The address can not be had.
    #[error("can not listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// TLS can not be spoken as the configuration wants it.
    #[error(transparent)]
    Rules(#[from] TlsRulesError),
    /// Certificates can not be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Sockets {
    /// Opens none yet.
    pub fn new(config: Arc<Config>, api_ports: ApiPorts) -> Self {
        Self {
            config,
            api_ports,
            tls: Mutex::default(),
            own: Mutex::default(),
        }
    }

    /// A listener of the gateway itself, over TLS where the configuration says so.
    ///
    /// # Errors
    ///
    /// Where the port can not be had, or certificates can not be used.
    pub fn listen(&self, port: u16) -> Result<Listener, SocketError> {
        let tls = self.tls_where(self.config.http_server_options.use_ssl)?;
        Ok(listener(Arc::new(self.bind(port)?), tls))
    }

    /// Whether APIs get listeners.
    pub(crate) fn are_for_apis(&self) -> bool {
        self.api_ports == ApiPorts::Opened
    }

    /// A listener of APIs; on the socket that there is, if the port is listened on already.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn own(&self, own: OwnPort) -> Result<OpenPort, SocketError> {
        let OwnPort { port, protocol } = own;
        let tls = self.tls_where(protocol == Protocol::Https)?;
        let listener = listener(self.socket(port)?, tls);
        Ok(OpenPort { listener, protocol })
    }

    fn socket(&self, port: u16) -> Result<Arc<TcpListener>, SocketError> {
        let mut own = self.own.lock();
        own.retain(|_, socket| socket.strong_count() > 0);
        if let Some(socket) = own.get(&port).and_then(Weak::upgrade) {
            return Ok(socket);
        }
        let socket = Arc::new(self.bind(port)?);
        own.insert(port, Arc::downgrade(&socket));
        Ok(socket)
    }

    fn bind(&self, port: u16) -> Result<TcpListener, SocketError> {
        let text = &self.config.listen_address;
        let ip = self.config.listen_ip();
        let ip = ip.ok_or_else(|| SocketError::Address(text.clone()))?;
        let address = SocketAddr::new(ip, port);
        bind(address).map_err(|source| SocketError::Bind { address, source })
    }

    fn tls_where(&self, is_spoken: bool) -> Result<Option<ServerTls>, SocketError> {
        is_spoken.then(|| self.tls()).transpose()
    }

    fn tls(&self) -> Result<ServerTls, SocketError> {
        let mut tls = self.tls.lock();
        if let Some(tls) = &*tls {
            return Ok(tls.server.clone());
        }
        let read = Tls::of(&self.config.http_server_options)?;
        let server = read.server.clone();
        *tls = Some(read);
        Ok(server)
    }

    /// Reads certificates anew, and tells whether any are served.
    ///
    /// # Errors
    ///
    /// Where one can not be used; those that were served stay then.
    pub fn read_certificates_anew(&self) -> Result<bool, TlsError> {
        match &*self.tls.lock() {
            Some(tls) => tls.server.replace(&tls.files).map(|()| true),
            None => Ok(false),
        }
    }
}

impl Tls {
    /// What the configuration says.
    fn of(http: &HttpServerOptions) -> Result<Self, SocketError> {
        let by_host = http.certificates.iter().map(|file| CertificateFiles {
            host: Some(file.domain_name.clone()).filter(|host| !host.is_empty()),
            certificates: file.cert_file.clone().into(),
            key: file.key_file.clone().into(),
        });
        let whole = http.ssl_certificates.iter().map(|file| CertificateFiles {
            host: None,
            certificates: file.into(),
            key: file.into(),
        });
        let files: Vec<_> = by_host.chain(whole).collect();
        let rules = TlsRules::new(http.min_version, http.max_version, &http.ssl_ciphers)?;
        let server = ServerTls::from_files(&files, &rules)?;
        let server = match http.enable_http2 {
            Some(true) => server,
            Some(false) | None => server.without_http2(), // As in Tyk.
        };
        Ok(Self { server, files })
    }
}

fn listener(socket: Arc<TcpListener>, tls: Option<ServerTls>) -> Listener {
    let listener = Listener::from(socket);
    match tls {
        Some(tls) => listener.with_tls(tls),
        None => listener,
    }
}

/// Listens on an address at once, as [`TcpListener::bind`] does after a wait.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    Handle::try_current().map_err(io::Error::other)?; // Tokio panics without a runtime.
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?; // Connections that have just ended keep nobody from a restart.
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> Sockets {
        let config = r#"{"listen_address": "127.0.0.1"}"#;
        let config: Config = serde_json::from_str(config).expect("a configuration");
        Sockets::new(Arc::new(config), ApiPorts::Opened)
    }

    fn own(port: u16, protocol: Protocol) -> OwnPort {
        OwnPort { port, protocol }
    }

    #[tokio::test]
    async fn a_port_is_listened_on_once_and_closed_with_the_last_that_holds_it() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its address").port();
        let sockets = sockets();
        let taken = sockets.own(own(port, Protocol::Http)).map(drop);
        let told = taken.expect_err("somebody has it").to_string();
        assert_eq!(told, format!("can not listen on 127.0.0.1:{port}"));
        drop(free);
        let first = sockets.own(own(port, Protocol::Http)).expect("it is free");
        let second = sockets.own(own(port, Protocol::H2c)).expect("it is ours");
        drop(first);
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
        drop(second);
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    }

    #[test]
    fn without_a_runtime_there_is_no_socket() {
        assert!(sockets().own(own(1, Protocol::Http)).is_err());
    }

    #[tokio::test]
    async fn a_protocol_without_certificates_opens_nothing() {
        let opened = sockets().own(own(0, Protocol::Https)).map(drop);
        let told = opened.expect_err("there is no certificate");
        assert_eq!(told.to_string(), "no certificate was given");
    }
}
