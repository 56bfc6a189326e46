//! An axum app behind one stack of gates: who may call what, how often, how much, and with which data.
//!
//! ```text
//! cargo run --release -p axum-app            # on 127.0.0.1:3000
//! cargo run --release -p axum-app -- 8080    # on another port; 0 takes a free one
//! ```
//!
//! It prints curl lines to try, and what each of them shows.

use axum::{Json, Router, http::HeaderMap, routing::get};
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate::{
    MemoryStore, Session, Tollgate,
    extract::{CurrentSession, Meta, QuotaStanding},
};

/// What this app keeps in a session's metadata.
#[derive(Deserialize)]
struct UserInfo {
    user: String,
    plan: String,
}

/// Handlers ask for what the gates found.
async fn orders(
    session: CurrentSession,
    Meta(info): Meta<UserInfo>,
    quota: QuotaStanding,
    headers: HeaderMap,
) -> Json<Value> {
    Json(json!({
        "alias": session.alias,
        "user": info.user,
        "plan": info.plan,
        "quota_left": quota.remaining,
        "x-user": headers.get("x-user").and_then(|value| value.to_str().ok()),
    }))
}

fn sessions() -> Result<MemoryStore, Box<dyn std::error::Error>> {
    let store = MemoryStore::new();
    store.insert("joes-key", include_str!("../sessions/joe.json").parse()?)?;
    store.insert("anns-key", include_str!("../sessions/ann.json").parse()?)?;
    // The session object of Tyk's documentation, as it is printed there. It ended in 2016 and names
    // policies of somebody else's gateway; without these it holds one API, which is not ours.
    let documented: Session = include_str!("../sessions/documented.json").parse()?;
    let documented = Session {
        expires: 0,
        apply_policies: Vec::new(),
        ..documented
    };
    store.insert("documented-key", documented)?;
    Ok(store)
}

fn app() -> Result<Router, Box<dyn std::error::Error>> {
    let gate = Tollgate::builder(sessions()?)
        .api("orders")
        .rate_limit()
        .quota()
        .inject("x-user", "$tyk_meta.user")?
        .build()?;
    Ok(Router::new()
        .route("/orders", get(orders))
        .layer(gate.router_layer()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args()
        .nth(1)
        .as_deref()
        .unwrap_or("3000")
        .parse()?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    show(&format!("http://{}", listener.local_addr()?));
    let end = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    axum::serve(listener, app()?)
        .with_graceful_shutdown(end)
        .await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is for people who run it")]
fn show(address: &str) {
    let times = |times: u8, key: &str| {
        format!(
            "for i in $(seq {times}); do curl -s -o /dev/null -w '%{{http_code}} ' -H 'Authorization: {key}' {address}/orders; done"
        )
    };
    println!("listening on {address}\n");
    println!(
        "# allowed, and the user's name from the metadata in a header: 200\ncurl -i -H 'Authorization: Bearer joes-key' {address}/orders\n"
    );
    println!("# no key: 401\ncurl -i {address}/orders\n");
    println!(
        "# a key for another API: 403\ncurl -i -H 'Authorization: documented-key' {address}/orders\n"
    );
    println!(
        "# a method that its rights do not name: 403\ncurl -i -X DELETE -H 'Authorization: joes-key' {address}/orders\n"
    );
    println!(
        "# the rate of 5 in 10 seconds: 429 from the sixth on\n{}\n",
        times(7, "joes-key")
    );
    println!(
        "# the quota of 3 in a minute: 403 from the fourth on\n{}",
        times(5, "anns-key")
    );
}
