//! One layer, without sessions and without a store: each tenant may ask three times in ten seconds.
//!
//! ```text
//! cargo run -p one-layer          # on 127.0.0.1:3000; an argument names another port, 0 a free one
//! curl -i http://127.0.0.1:3000/ -H 'x-tenant: a'
//! ```
//!
//! The closure says who is counted. Requests for which it finds nobody share one count, so who leaves
//! the header out gains nothing.

use std::time::Duration;

use axum::{Router, routing::get};
use tollgate::{Rate, limits::RateLimitLayer};

fn app() -> Router {
    let by_tenant = RateLimitLayer::by(
        |head| Some(head.headers.get("x-tenant")?.to_str().ok()?.into()),
        Rate::per(3, Duration::from_secs(10)),
    );
    Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(by_tenant)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "tells where it listens")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("3000")
        .parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app()).await?;
    Ok(())
}
