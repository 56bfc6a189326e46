//! Listeners of APIs that have ports for themselves: they come and go with the snapshots that ask for them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tollgate_gateway::{
    gateway::{Front, Gateway, OpenPorts},
    ports::Protocol,
    serve::{ServeOptions, Stop, serve},
    sockets::OpenPort,
};

/// Serves what a gateway has opened for its APIs.
pub(super) struct OwnPorts {
    pub(super) gateway: Arc<Gateway>,
    pub(super) options: ServeOptions,
    /// Ends them all.
    pub(super) stop: Stop,
    /// How long requests may take on a listener that goes away.
    pub(super) within: Duration,
}

/// A listener that is served.
struct Serving {
    protocol: Protocol,
    stop: Stop,
    task: JoinHandle<()>,
}

impl OwnPorts {
    /// Serves until it is stopped.
    pub(super) async fn serve(self) {
        let mut wanted = self.gateway.own_ports();
        let mut serving = BTreeMap::new();
        loop {
            let now = wanted.borrow_and_update().clone();
            self.follow(&now, &mut serving);
            tokio::select! {
                () = self.stop.begun() => break,
                changed = wanted.changed() => if changed.is_err() { break },
            }
        }
        self.gateway.close_own_ports(); // Each closes with the task that serves it.
        for (port, listener) in serving {
            if let Err(error) = listener.task.await {
                tracing::error!(port, %error, "a listener failed");
            }
        }
    }

    /// Closes what is not wanted, opens what is, and leaves the others as they are.
    fn follow(&self, wanted: &OpenPorts, serving: &mut BTreeMap<u16, Serving>) {
        serving.retain(|port, listener| {
            let stays = wanted.get(port).map(|open| open.protocol) == Some(listener.protocol);
            if !stays {
                tracing::info!(port, "the port of APIs closes");
                self.close(&listener.stop);
            }
            stays
        });
        for (port, open) in wanted {
            let open = || self.open(*port, open);
            serving.entry(*port).or_insert_with(open);
        }
    }

    fn open(&self, port: u16, open: &OpenPort) -> Serving {
        let OpenPort { listener, protocol } = open.clone();
        tracing::info!(
            port,
            protocol = protocol.name(),
            "the port of APIs is served"
        );
        let mut options = self.options.clone();
        options.http2_in_clear |= protocol == Protocol::H2c;
        let front = Front::at_port(self.gateway.clone(), port);
        let stop = self.stop.branch();
        let task = tokio::spawn(serve(listener, front, options, stop.clone()));
        Serving {
            protocol,
            stop,
            task,
        }
    }

    /// Takes no further connections; what is under way ends as it does when all ends.
    fn close(&self, stop: &Stop) {
        stop.begin();
        let (stop, within) = (stop.clone(), self.within);
        tokio::spawn(async move {
            tokio::time::sleep(within).await;
            stop.cut();
        });
    }
}
