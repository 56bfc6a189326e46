//! A gate of one's own beside ours: some paths are for some plans alone.
//!
//! ```text
//! cargo run -p custom-gate          # on 127.0.0.1:3000; an argument names another port, 0 a free one
//! curl -i http://127.0.0.1:3000/reports -H 'authorization: trial-key'    # 402
//! curl -i http://127.0.0.1:3000/reports -H 'authorization: gold-key'     # 200
//! ```
//!
//! The gate reads the session that ours found. What it refuses is answered, counted and explained like
//! any refusal, and costs nothing of the limits, which are asked after it.

use axum::{Router, routing::get};
use http::{StatusCode, request::Parts};
use tollgate::{
    MemoryStore, Rejection, Tollgate,
    gate::{Gate, Step},
    visit::Visit,
};

/// Lets only some plans see reports.
struct PlanGate;

impl Gate for PlanGate {
    fn name(&self) -> &'static str {
        "plan"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        let session = visit.session();
        let plan = session.and_then(|session| session.meta_data.get("plan")?.as_text());
        if may_see(head.uri.path(), plan.as_deref()) {
            return Step::Pass;
        }
        Step::Refuse(Rejection::custom(
            "plan_too_small",
            StatusCode::PAYMENT_REQUIRED,
            "not in your plan",
        ))
    }
}

/// The whole rule.
fn may_see(path: &str, plan: Option<&str>) -> bool {
    !path.starts_with("/reports") || plan == Some("gold")
}

fn app() -> Result<Router, Box<dyn std::error::Error>> {
    let store = MemoryStore::new();
    for plan in ["trial", "gold"] {
        let session = format!(r#"{{"rate": 2, "per": 60, "meta_data": {{"plan": "{plan}"}}}}"#);
        store.insert(&format!("{plan}-key"), session.parse()?)?;
    }
    let gate = Tollgate::builder(store)
        .gate(PlanGate)
        .rate_limit()
        .build()?;
    Ok(Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/reports", get(|| async { "reports" }))
        .layer(gate.layer()))
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
    axum::serve(listener, app()?).await?;
    Ok(())
}
