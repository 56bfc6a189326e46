//! What session data in headers, URLs and bodies costs a request.
//!
//! ```text
//! cargo run --release -p tollgate-bench --bin transform
//! ```

mod bodies;
mod headers;
mod rewrite;
mod templates;

use std::convert::Infallible;

use axum::body::Body;
use http::{Request, Response};

const ROUNDS: usize = 61;
const CALLS: u32 = 2000;

const KEY: &str = "53ac07777cbb8c2d5300000200000000000000000000000000000001";

/// A store with one key, whose metadata is in headers and URLs.
fn store() -> tollgate::MemoryStore {
    let store = tollgate::MemoryStore::new();
    let session =
        r#"{"access_rights": {"orders": {}}, "meta_data": {"user": "joe", "plan": "gold"}}"#;
    let inserted = store.insert(KEY, session.parse().expect("a session"));
    inserted.expect("room");
    store
}

fn request() -> Request<Body> {
    Request::get("/v1/items/7?page=2")
        .header("authorization", KEY)
        .body(Body::empty())
        .expect("a request")
}

async fn answer(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::default())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    headers::print().await;
    rewrite::print().await;
    templates::print().await;
    bodies::print().await;
}
