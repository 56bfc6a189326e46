//! Connections that go over to another protocol: two sockets, tied together.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Response, header::UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::error::ProxyErrorKind;
use crate::serve::{Peer, Tunnel};

/// An upgrade that the client asked for.
pub(super) struct PendingUpgrade {
    pub(super) client: OnUpgrade,
    pub(super) protocol: HeaderValue,
    pub(super) peer: Option<Peer>,
    pub(super) idle: Option<Duration>,
}

impl PendingUpgrade {
    /// Whether the upstream goes over to what was asked for.
    pub(super) fn agrees<T>(&self, response: &Response<T>) -> Result<(), ProxyErrorKind> {
        let theirs = response.headers().get(UPGRADE).map(HeaderValue::as_bytes);
        match theirs {
            Some(theirs) if theirs.eq_ignore_ascii_case(self.protocol.as_bytes()) => Ok(()),
            _ => Err(ProxyErrorKind::BadReply),
        }
    }

    /// Ties both sides together, as soon as both have gone over.
    pub(super) fn begin(self, upstream: OnUpgrade) {
        // Counted from here on, so that a server that stops does not miss it.
        let tunnel = self.peer.as_ref().and_then(Peer::open_tunnel);
        tokio::spawn(run(self.client, upstream, self.idle, tunnel));
    }
}

async fn run(
    client: OnUpgrade,
    upstream: OnUpgrade,
    idle: Option<Duration>,
    tunnel: Option<Tunnel>,
) {
    let both = async {
        let (client, upstream) = tokio::try_join!(client, upstream)?;
        let moved = Arc::new(AtomicBool::new(false));
        let mut client = Watched::new(TokioIo::new(client), &moved);
        let mut upstream = Watched::new(TokioIo::new(upstream), &moved);
        tokio::select! {
            // Errors are how such connections usually end.
            _ = copy_bidirectional(&mut client, &mut upstream) => {}
            () = stands_still(&moved, idle) => {}
        }
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        outcome = both => {
            if let Err(err) = outcome {
                tracing::debug!(%err, "an upgrade failed");
            }
        }
        () = cut(tunnel.as_ref()) => {}
    }
}

async fn cut(tunnel: Option<&Tunnel>) {
    match tunnel {
        Some(tunnel) => tunnel.cut().await,
        None => std::future::pending().await,
    }
}

/// Waits until nothing moved for a whole `idle`.
async fn stands_still(moved: &AtomicBool, idle: Option<Duration>) {
    let Some(idle) = idle else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(idle).await;
        if !moved.swap(false, Ordering::Relaxed) {
            return;
        }
    }
}

/// A stream that notes when something came.
struct Watched<S> {
    inner: S,
    moved: Arc<AtomicBool>,
}

impl<S> Watched<S> {
    fn new(inner: S, moved: &Arc<AtomicBool>) -> Self {
        let moved = moved.clone();
        Self { inner, moved }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.moved.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
