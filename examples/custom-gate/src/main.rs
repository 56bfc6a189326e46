//! A decision of your own, beside the ones of Tollgate.
//!
//! ```text
//! cargo run -p custom-gate        # on 127.0.0.1:3003; an argument names another port, 0 a free one
//! curl -si http://127.0.0.1:3003/export -H 'authorization: anns-key'    # 200: plan gold
//! curl -si http://127.0.0.1:3003/export -H 'authorization: bobs-key'    # 402: plan free
//! curl -si http://127.0.0.1:3003/ -H 'authorization: bobs-key'          # 200
//! curl -si -X POST http://127.0.0.1:3003/maintenance                    # from now on 503
//! ```
//!
//! Two gates: [`PlanGate`] needs the session, so it goes into the stack by `.gate(…)`, which puts it
//! behind the session and before the limits: what it refuses costs the key nothing. A
//! [`MaintenanceGate`] needs nothing, and stands alone before everything as a [`GateLayer`].

#![expect(clippy::print_stdout, reason = "tells where it listens")]

use std::{
    env,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{Router, routing};
use http::{StatusCode, request::Parts};
use tokio::{net::TcpListener, signal};
use tollgate::{
    MemoryStore, Rejection, Tollgate,
    gate::{Departure, Gate, Step},
    gated::GateLayer,
    visit::Visit,
};

/// Lets sessions of one plan into one path.
#[derive(Debug)]
struct PlanGate {
    path: &'static str,
    plan: &'static str,
}

impl Gate for PlanGate {
    fn name(&self) -> &'static str {
        "plan"
    }

    fn admit(&self, head: &mut Parts, visit: &mut Visit) -> Step {
        let plan = visit.session().and_then(|session| {
            let plan = session.meta_data.get("plan")?;
            plan.as_text()
        });
        if may_call(self, head.uri.path(), plan.as_deref()) {
            return Step::Pass;
        }
        Step::Refuse(Rejection::custom(
            "wrong_plan",
            StatusCode::PAYMENT_REQUIRED,
            format!("This needs the plan {}", self.plan),
        ))
    }
}

fn may_call(gate: &PlanGate, path: &str, plan: Option<&str>) -> bool {
    path != gate.path || plan == Some(gate.plan)
}

/// Lets nobody in while its switch is on.
#[derive(Clone, Debug, Default)]
struct MaintenanceGate {
    on: Arc<AtomicBool>,
}

impl Gate for MaintenanceGate {
    fn name(&self) -> &'static str {
        "maintenance"
    }

    fn admit(&self, _head: &mut Parts, _visit: &mut Visit) -> Step {
        if !self.on.load(Relaxed) {
            return Step::Pass;
        }
        Step::Refuse(Rejection::custom(
            "maintenance",
            StatusCode::SERVICE_UNAVAILABLE,
            "Back soon",
        ))
    }

    /// Runs for refused requests too.
    fn depart(&self, _visit: &Visit, response: &mut Departure<'_>) {
        if let Some(Rejection::Custom { code, .. }) = response.extensions.get()
            && code == "maintenance"
        {
            response.headers.insert("retry-after", 600.into());
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = env::args().nth(1).as_deref().unwrap_or("3003").parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app()?)
        .with_graceful_shutdown(async { signal::ctrl_c().await.expect("a handler of Ctrl-C") })
        .await?;
    Ok(())
}

fn app() -> Result<Router, Box<dyn Error>> {
    let store = MemoryStore::new();
    store.insert(
        "anns-key",
        r#"{"rate": 9, "per": 10, "meta_data": {"plan": "gold"}}"#.parse()?,
    )?;
    store.insert(
        "bobs-key",
        r#"{"rate": 9, "per": 10, "meta_data": {"plan": "free"}}"#.parse()?,
    )?;
    let gate = Tollgate::builder(store)
        .gate(PlanGate {
            path: "/export",
            plan: "gold",
        })
        .rate_limit()
        .build()?;
    let maintenance = MaintenanceGate::default();
    let switch = maintenance.on.clone();

    let start_maintenance = || async move { switch.store(true, Relaxed) };
    let app = Router::new()
        .route("/", routing::get(|| async { "hello\n" }))
        .route("/export", routing::get(|| async { "all there is\n" }))
        .layer(gate.layer())
        .layer(GateLayer::new(maintenance))
        // Behind no gate, for this example: a real one is not for everybody to reach.
        .route("/maintenance", routing::post(start_maintenance));
    Ok(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_opens_its_path_and_no_other_is_closed() {
        let gate = PlanGate {
            path: "/export",
            plan: "gold",
        };
        for (path, plan, may) in [
            ("/export", Some("gold"), true),
            ("/export", Some("free"), false),
            ("/export", None, false),
            ("/", None, true),
        ] {
            assert_eq!(may_call(&gate, path, plan), may, "{path} with {plan:?}");
        }
    }
}
