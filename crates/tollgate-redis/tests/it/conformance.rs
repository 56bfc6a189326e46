//! The suite that every store passes.

use tollgate_core::{
    Moment,
    clock::{Clock, machine_time},
    store::conformance::{self, RealTime},
};
use tollgate_redis::{Naming, RedisOptions};

use crate::server::Server;

/// The machine's clock, with tokio's timer.
struct TokioTime;

impl Clock for TokioTime {
    fn now(&self) -> Moment {
        machine_time()
    }

    fn sleep_until(&self, at: Moment) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        let wait = at.ticks.saturating_sub(self.now().ticks);
        Box::pin(tokio::time::sleep(std::time::Duration::from_nanos(wait)))
    }
}

#[tokio::test]
async fn it_is_a_store_under_either_naming() {
    let server = Server::start();
    for naming in [Naming::Tagged, Naming::Tyk] {
        let options = RedisOptions::single(&server.url()).unwrap();
        let deadline = std::time::Duration::from_secs(5); // The machine may be busy.
        let store = options.naming(naming).deadline(deadline).connect().unwrap();
        conformance::sessions(&store, &RealTime(TokioTime)).await;
        conformance::limits(&store, &RealTime(TokioTime)).await;
    }
}
