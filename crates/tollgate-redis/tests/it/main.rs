//! The store on real servers that each test starts on a free port.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![expect(clippy::print_stdout, reason = "loads tell what came of them")]

mod conformance;
mod examine;
mod failures;
mod many;
mod outage;
mod oversell;
#[path = "../../../tollgate-gateway/tests/shared/ports.rs"]
mod ports;
mod proxy;
mod server;
mod shared;
mod trips;

use std::{pin::Pin, time::Duration};

use tollgate_core::{
    Moment,
    clock::{Clock, machine_time},
};

/// The machine's clock, with tokio's timer.
struct TokioTime;

impl Clock for TokioTime {
    fn now(&self) -> Moment {
        machine_time()
    }

    fn sleep_until(&self, at: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let wait = at.ticks.saturating_sub(self.now().ticks);
        Box::pin(tokio::time::sleep(Duration::from_nanos(wait)))
    }
}
