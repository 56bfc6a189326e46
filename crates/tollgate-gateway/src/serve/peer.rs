//! The other end of a connection.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::HeaderValue;

use super::stop::{Life, Tunnel};

/// The other end of the connection that a request came on; it is in the request's extensions.
///
/// It may be a proxy. Who the client is, says [`ClientAddr`](tollgate::context::ClientAddr).
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    addr: SocketAddr,
    local: SocketAddr,
    ip_text: HeaderValue,
    is_tls: bool,
    is_trusted: bool,
    life: Option<Arc<Life>>,
}

impl Peer {
    /// A peer that does not come from a server of ours.
    pub fn new(addr: SocketAddr, local: SocketAddr) -> Self {
        Self::on(addr, local, None, false, false)
    }

    pub(super) fn on(
        addr: SocketAddr,
        local: SocketAddr,
        life: Option<Arc<Life>>,
        is_tls: bool,
        is_trusted: bool,
    ) -> Self {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let ip_text = HeaderValue::try_from(addr.ip().to_string());
        Self(Arc::new(Inner {
            addr,
            local,
            ip_text: ip_text.expect("an address is ASCII"),
            is_tls,
            is_trusted,
            life,
        }))
    }

    /// Its address and port.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// Our own address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Whether it speaks TLS with us.
    pub fn is_tls(&self) -> bool {
        self.0.is_tls
    }

    /// Whether it is believed when it names a client.
    pub fn is_trusted(&self) -> bool {
        self.0.is_trusted
    }

    pub(crate) fn ip_text(&self) -> &HeaderValue {
        &self.0.ip_text
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.0.is_tls { "https" } else { "http" }
    }

    /// Counts a connection that goes over to another protocol.
    pub(crate) fn open_tunnel(&self) -> Option<Tunnel> {
        self.0.life.as_ref().map(Tunnel::open)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.0.addr).finish()
    }
}
