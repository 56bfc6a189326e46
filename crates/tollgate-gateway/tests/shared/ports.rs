//! Ports for programs that a test starts.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below those that the system gives to who asks for none, as test upstreams and every client do. Nodes of a Redis
/// cluster listen 10,000 above their ports too.
const LOWEST: u16 = 12_000;
const COUNT: u32 = 10_000;

/// A port that nobody listens on, and that this process gives to nobody else.
///
/// One that was taken again before its program listens would be answered by whoever was faster, and a test would
/// speak with another one's program.
///
/// # Errors
///
/// Fails when no port can be listened on.
pub(crate) fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = process::id().wrapping_mul(7919); // Another process begins elsewhere.
    for _ in 0..COUNT {
        let nth = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = LOWEST + u16::try_from(nth).expect("is below 10,000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(ErrorKind::AddrInUse.into())
}
