//! The socket of a client, watched: framing, slow heads, readers that do not read.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};
use tokio_rustls::server::TlsStream;

use super::{framing::Framing, no_head::NoHead};
use crate::small_writes;

/// A client's connection, with or without TLS.
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }
}

/// A socket that is watched.
pub(super) struct Watched {
    socket: Socket,
    framing: Option<Framing>, // None on HTTP/2, and once the connection went over to another protocol.
    switched: Arc<AtomicBool>,
    spoilt: Spoilt,
    no_head: NoHead,
    head: Limit,
    write: Limit,
}

/// Whether what follows is not to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Spoilt {
    No,
    Begun,
    Ended,
}

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A time limit for something that is waited for.
struct Limit {
    after: Duration,
    timer: Option<Pin<Box<Sleep>>>, // Made at the first wait.
    is_running: bool,
}

impl Limit {
    fn new(after: Duration) -> Self {
        Self {
            after,
            timer: None,
            is_running: false,
        }
    }

    fn stop(&mut self) {
        self.is_running = false;
    }

    /// Goes on waiting, from the first time on that it was asked.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.is_running {
            let end = Instant::now() + self.after;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(end),
                none => *none = Some(Box::pin(tokio::time::sleep_until(end))),
            }
            self.is_running = true;
        }
        let Some(timer) = &mut self.timer else {
            return Poll::Pending;
        };
        let late = timer.as_mut().poll(cx);
        late.map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl Watched {
    pub(super) fn new(
        socket: Socket,
        framing: Option<Framing>,
        switched: Arc<AtomicBool>,
        head_timeout: Duration,
        write_timeout: Duration,
    ) -> Self {
        Self {
            socket,
            framing,
            switched,
            spoilt: Spoilt::No,
            no_head: NoHead::default(),
            head: Limit::new(head_timeout),
            write: Limit::new(write_timeout),
        }
    }

    /// Looks at what was read from `before` on.
    fn look(&mut self, before: usize, buf: &mut ReadBuf<'_>) {
        let Some(framing) = &mut self.framing else {
            return;
        };
        if framing.may_upgrade() && self.switched.load(Ordering::Acquire) {
            self.framing = None; // These bytes are another protocol's.
            return;
        }
        let Err(bad) = framing.see(&buf.filled()[before..]) else {
            return;
        };
        // hyper answers 400 to a NUL wherever one may stand in a head or chunk size, and closes the
        // connection; nothing behind it is read.
        let end = before + bad.from;
        buf.filled_mut()[end] = 0;
        buf.set_filled(end + 1);
        self.spoilt = Spoilt::Begun;
    }

    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write.stop();
            return written;
        }
        self.write.poll(cx).map(Err)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.spoilt != Spoilt::No {
            // A head that came in pieces is looked at again only when it ends.
            if this.spoilt == Spoilt::Begun && buf.remaining() >= END_OF_HEAD.len() {
                buf.put_slice(END_OF_HEAD);
                this.spoilt = Spoilt::Ended;
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = match &mut this.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        };
        if let Poll::Ready(Ok(())) = read {
            this.look(before, buf);
        }
        let is_in_head = this.framing.as_ref().is_some_and(Framing::is_in_head);
        if !is_in_head {
            this.head.stop();
        } else if read.is_pending() {
            return this.head.poll(cx).map(Err);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = if NoHead::is_answer(buf) {
            let socket = &mut this.socket;
            this.no_head
                .poll_write(cx, |cx, bytes| socket.poll_write(cx, bytes))
        } else {
            this.socket.poll_write(cx, buf)
        };
        this.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [buf] = bufs {
            return self.poll_write(cx, buf);
        }
        let written = match &mut self.socket {
            Socket::Tcp(socket) => {
                let mut socket = Pin::new(socket);
                small_writes::as_one(bufs, |bytes| socket.as_mut().poll_write(cx, bytes))
                    .unwrap_or_else(|| socket.poll_write_vectored(cx, bufs))
            }
            Socket::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        };
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Tcp(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_flush(cx),
        };
        self.written(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        };
        self.written(cx, shut)
    }
}
