//! One layer, without sessions and without a store: a rate limit over an axum router.
//!
//! ```text
//! cargo run -p one-layer          # on 127.0.0.1:3001; an argument names another port, 0 a free one
//! curl -si http://127.0.0.1:3001/ -H 'x-tenant: a'     # 200, and 429 for the fourth in ten seconds
//! curl -si http://127.0.0.1:3001/ -H 'x-tenant: b'     # 200: another count
//! ```
//!
//! The closure says who is counted. Requests for which it says nothing share one count, so who leaves
//! the header out gains nothing.

#![expect(clippy::print_stdout, reason = "tells where it listens")]

use std::{env, error::Error, time::Duration};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, signal};
use tollgate::{LimitHeaders, Rate, limits::RateLimitLayer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).as_deref().unwrap_or("3001").parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app())
        .with_graceful_shutdown(async { signal::ctrl_c().await.expect("a handler of Ctrl-C") })
        .await?;
    Ok(())
}

fn app() -> Router {
    let three_in_ten_seconds = Rate::per(3, Duration::from_secs(10));
    let by_tenant = RateLimitLayer::by(
        |head| Some(head.headers.get("x-tenant")?.to_str().ok()?.into()),
        three_in_ten_seconds,
    )
    .with_headers(LimitHeaders::rate());
    Router::new()
        .route("/", get(|| async { "hello\n" }))
        .layer(by_tenant)
}
