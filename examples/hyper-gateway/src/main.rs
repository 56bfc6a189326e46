//! A small gateway: hyper in front, hyper's client behind, a Tollgate stack between.
//!
//! ```text
//! cargo run -p hyper-gateway -- http://127.0.0.1:8080          # the upstream; listens on 127.0.0.1:3004
//! cargo run -p hyper-gateway -- http://127.0.0.1:8080 0        # on a free port
//! curl -si http://127.0.0.1:3004/any/path -H 'authorization: joes-key'
//! ```
//!
//! Bodies are streamed in both directions and held nowhere. The upstream sees who calls in `x-user`, and
//! not the key. Headers that belong to one connection stay on it ([`hop_by_hop`]). An upstream that does
//! not answer is `502`; Ctrl-C ends the gateway once the connections have ended.

#![expect(clippy::print_stdout, reason = "tells where it listens")]

mod forward;
mod hop_by_hop;

use std::{env, error::Error};

use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use tokio::{net::TcpListener, pin, select, signal};
use tollgate::{MemoryStore, Tollgate};
use tower::ServiceBuilder;

use crate::forward::Forward;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstream = env::args()
        .nth(1)
        .ok_or("usage: hyper-gateway UPSTREAM [PORT]")?;
    let port: u16 = env::args().nth(2).as_deref().unwrap_or("3004").parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;

    let store = MemoryStore::new();
    store.insert(
        "joes-key",
        r#"{"rate": 5, "per": 10, "meta_data": {"user": "joe"}}"#.parse()?,
    )?;
    let gate = Tollgate::builder(store)
        .remove_credential()
        .rate_limit()
        .inject("x-user", "$tyk_meta.user")?
        .build()?;
    // Made once: all connections share its state.
    let service = ServiceBuilder::new()
        .layer(gate.layer())
        .service(Forward::to(&upstream)?);

    println!("listening on http://{}", listener.local_addr()?);
    let connections = GracefulShutdown::new();
    let ctrl_c = signal::ctrl_c();
    pin!(ctrl_c);
    loop {
        let (stream, _) = select! {
            accepted = listener.accept() => accepted?,
            _ = &mut ctrl_c => break,
        };
        let service = TowerToHyperService::new(service.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            let _ = connection.await; // A client that went away is nobody's fault.
        });
    }
    connections.shutdown().await;
    Ok(())
}
