//! An axum app behind Tollgate.
//!
//! ```text
//! cargo run --release -p axum-app            # on 127.0.0.1:3000
//! cargo run --release -p axum-app -- 8080    # on another port; 0 takes a free one
//! PORT=8080 cargo run --release -p axum-app
//! ```
//!
//! It serves two APIs, each behind a stack of its own. Both stacks ask one store, and a key is let
//! into the APIs that its session names:
//!
//! - `/orders` is the API `orders`;
//! - `/closed` is the API of the session object that Tyk's documentation prints.
//!
//! At start it prints requests to try with `curl`: what each shows, and what it is answered. A test
//! sends the same requests and compares (`tests/it/examples.rs`). Ctrl-C ends it, after the requests
//! that are under way.

#![expect(
    clippy::print_stdout,
    reason = "what it prints is how the example is used"
)]

mod guide;

use std::{env, error::Error};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::get,
};
use serde::Deserialize;
use tokio::{net::TcpListener, signal};
use tollgate::{
    MemoryStore, SharedStore, Tollgate,
    extract::{CurrentSession, Meta, QuotaStanding},
};

/// Tokens, and the sessions behind them.
const SESSIONS: [(&str, &str); 4] = [
    ("joes-key", include_str!("../sessions/joe.json")),
    ("anns-key", include_str!("../sessions/ann.json")),
    ("sues-key", include_str!("../sessions/sue.json")),
    // The session object as Tyk's documentation prints it, but for two members: `expires` was a day
    // in 2016 and is 0, for never; `apply_policies` named three policies that are not loaded here, with
    // which a key makes no session, and is empty.
    ("johns-key", include_str!("../sessions/documented.json")),
];

/// The API that the documented session object holds.
const CLOSED: &str = "e1d21f942ec746ed416ab97fe1bf07e8";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = env::args().nth(1).or_else(|| env::var("PORT").ok());
    let port: u16 = port.as_deref().unwrap_or("3000").parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    let app = app(store()?.into())?;
    println!("listening on http://{address}\n\n{}", guide::guide(address));
    println!("# ready; Ctrl-C ends the app");
    axum::serve(listener, app)
        .with_graceful_shutdown(async { signal::ctrl_c().await.expect("a handler of Ctrl-C") })
        .await?;
    println!("ended");
    Ok(())
}

fn store() -> Result<MemoryStore, Box<dyn Error>> {
    let store = MemoryStore::new();
    for (token, session) in SESSIONS {
        store.insert(token, session.parse()?)?;
    }
    Ok(store)
}

fn app(store: SharedStore) -> Result<Router, Box<dyn Error>> {
    let orders = Tollgate::builder(store.clone())
        .api("orders")
        .rate_limit()
        .quota()
        .inject("x-user", "$tyk_meta.user")?
        .inject_response("x-plan", "$tyk_meta.plan")?
        .build()?;
    let closed = Tollgate::builder(store)
        .api(CLOSED)
        .rate_limit()
        .quota()
        .inject_response("x-test", "$tyk_meta.test")?
        .build()?;

    let orders = Router::new()
        .route("/orders", get(list))
        .route("/orders/account", get(account))
        .layer(orders.layer());
    let closed = Router::new()
        .route("/closed", get(whose))
        .layer(closed.layer());
    Ok(orders.merge(closed))
}

/// What this app keeps in the metadata of its sessions.
#[derive(Deserialize)]
struct Customer {
    user: String,
    plan: String,
}

/// Knows nothing of sessions: the stack told it in a header who asks, whatever the client wrote there.
async fn list(headers: HeaderMap) -> Result<String, StatusCode> {
    let user = headers.get("x-user").and_then(|user| user.to_str().ok());
    let user = user.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(format!("orders of {user}\n"))
}

/// Asks for all that the stack knows. Not every session has a quota.
async fn account(
    session: CurrentSession,
    Meta(customer): Meta<Customer>,
    quota: Option<QuotaStanding>,
) -> String {
    let (alias, Customer { user, plan }) = (&session.alias, customer);
    let left = match quota {
        Some(quota) => format!("{} of {} left", quota.remaining, quota.max),
        None => "no quota".to_owned(),
    };
    format!("{user} ({alias}), plan {plan}, {left}\n")
}

/// Every session that is let in here has a quota, or else this is our fault and answered with 500.
async fn whose(session: CurrentSession, quota: QuotaStanding) -> String {
    format!("{}, {} left\n", session.alias, quota.remaining)
}
