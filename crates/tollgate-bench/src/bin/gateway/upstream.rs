//! The upstream: answers every request with the same bytes, at as little cost as can be.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::Failure;

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Listens on a free port.
pub(crate) async fn start() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(address)
}

/// Answers requests without bodies until the client goes.
async fn serve(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true); // Slower without, that is all.
    let body = format!("{{\"orders\": \"{}\"}}", "x".repeat(1000));
    let response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Date: Fri, 27 Nov 2026 00:00:00 GMT\r\nCache-Control: no-store\r\n\r\n{body}",
        body.len()
    );
    let mut read = Vec::with_capacity(4096);
    while let Ok(1..) = stream.read_buf(&mut read).await {
        if read.ends_with(END_OF_HEAD) {
            read.clear();
            if stream.write_all(response.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
