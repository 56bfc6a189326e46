//! Sessions kept in a store of your own: here a folder of JSON files, read at start.
//!
//! ```text
//! cargo run -p custom-store       # on 127.0.0.1:3002; an argument names another port, 0 a free one
//! cargo run -p custom-store -- 3002 /etc/keys          # another folder
//! curl -si http://127.0.0.1:3002/ -H 'authorization: joes-key'     # 200
//! curl -si http://127.0.0.1:3002/ -H 'authorization: nobody'       # 403
//! ```
//!
//! [`folder_store`] is the store. It keeps no counters: those are left to [`MemoryStore`], and
//! [`SharedStore::new`] makes one handle of both.

#![expect(clippy::print_stdout, reason = "tells where it listens")]

mod folder_store;

use std::{env, error::Error, path::Path};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, signal};
use tollgate::{MemoryStore, SharedStore, Tollgate};
use tollgate_core::clock::MachineClock;

use crate::folder_store::FolderStore;

const SESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sessions");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).as_deref().unwrap_or("3002").parse()?;
    let folder = env::args().nth(2);
    let folder = Path::new(folder.as_deref().unwrap_or(SESSIONS));

    let sessions = FolderStore::read(folder, MachineClock)?;
    let store = SharedStore::new(sessions, MemoryStore::new());
    let gate = Tollgate::builder(store)
        .api("orders")
        .rate_limit()
        .build()?;
    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .layer(gate.layer());

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { signal::ctrl_c().await.expect("a handler of Ctrl-C") })
        .await?;
    Ok(())
}
