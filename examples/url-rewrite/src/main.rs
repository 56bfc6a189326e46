//! An axum app whose routes are chosen by session data, a header, and the body.
//!
//! ```text
//! cargo run -p url-rewrite        # on 127.0.0.1:3000; an argument names another port, 0 a free one
//! curl http://127.0.0.1:3000/v1/orders -H 'authorization: joes-key'
//! curl http://127.0.0.1:3000/v1/orders -H 'authorization: joes-key' -H 'x-channel: beta'
//! curl http://127.0.0.1:3000/v1/orders -H 'authorization: joes-key' -d '{"sku": "book-7"}'
//! curl http://127.0.0.1:3000/eu/orders -H 'authorization: joes-key'    # 403: not what the key may call
//! ```
//!
//! The key may call what is below `/v1/`, and nothing else: rights look at the path that the client
//! called, the router at what became of it.

use axum::{Router, http::Uri, routing::any};
use tollgate::{
    MemoryStore, Tollgate, access::PathOptions, buffer::BufferBodyLayer, pass::Rules,
    rewrite::RewriteTrigger, url_rewrite::UrlRewriteLayer,
};
use tower::Layer;

type Failure = Box<dyn std::error::Error>;

fn gate() -> Result<Tollgate, Failure> {
    let store = MemoryStore::new();
    let session = r#"{
        "access_rights": {"orders": {"allowed_urls": [{"url": "/v1/.*", "methods": ["GET", "POST"]}]}},
        "meta_data": {"region": "eu"}
    }"#;
    store.insert("joes-key", session.parse()?)?;
    let sku = RewriteTrigger::all("/stock/$tyk_context.trigger-1-payload-0-0");
    let rewrite = UrlRewriteLayer::new("^/v1/(.*)", "/$tyk_meta.region/$1")?
        .when(RewriteTrigger::any("/beta/$1").header("x-channel", "^beta$"))?
        .when(sku.payload(r#""sku": *"([a-z]+)-"#))?;
    let rules = Rules {
        paths: PathOptions::strict(),
        ..Rules::default()
    };
    Ok(Tollgate::builder(store)
        .rules(rules)
        .api("orders")
        .rewrite(rewrite)
        .build()?)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "tells where it listens")]
async fn main() -> Result<(), Failure> {
    let port: u16 = std::env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("3000")
        .parse()?;
    let shows = |uri: Uri| async move { format!("{uri}\n") };
    let router = Router::new()
        .route("/eu/{*rest}", any(shows))
        .route("/beta/{*rest}", any(shows))
        .route("/stock/{kind}", any(shows));
    // Around the router, which then sees the new URL; and the body is read before.
    let gated = gate()?.layer().layer(router);
    let whole = BufferBodyLayer::new(64 * 1024).layer(gated);
    let app = Router::new().fallback_service(whole);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
