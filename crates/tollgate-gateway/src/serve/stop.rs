//! The end of a server, in phases; and what is under way.
//!
//! 1. [`Stop::begin`]: listeners close, connections of HTTP/2 are told, those of HTTP/1.1 are closed
//!    when they are idle or with their next response.
//! 2. [`Stop::wait`] waits until all are gone, at most for as long as it is told.
//! 3. What is left then is cut.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, watch};

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Phase {
    Running,
    Draining,
    Cut,
}

/// Stops servers, and tells what they do. Clones stop the same ones.
#[derive(Clone, Debug)]
pub struct Stop {
    life: Arc<Life>,
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InFlight {
    /// Connections, idle ones too.
    pub connections: usize,
    /// Requests whose response has not been sent whole.
    pub requests: usize,
    /// Connections that went over to another protocol.
    pub tunnels: usize,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stopped {
    /// All that was under way came to its end.
    Clean,
    /// The deadline came first, and this was cut.
    Cut(InFlight),
}

#[derive(Debug)]
pub(super) struct Life {
    phase: watch::Sender<Phase>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    tunnels: AtomicUsize,
    gone: Notify,
}

impl Stop {
    /// Nothing is stopped yet.
    pub fn new() -> Self {
        Self {
            life: Arc::new(Life {
                phase: watch::Sender::new(Phase::Running),
                connections: AtomicUsize::new(0),
                requests: AtomicUsize::new(0),
                tunnels: AtomicUsize::new(0),
                gone: Notify::new(),
            }),
        }
    }

    /// Takes no further connections, and lets those that are open end.
    pub fn begin(&self) {
        self.life.reach(Phase::Draining);
    }

    /// Whether [`begin`](Self::begin) was called.
    pub fn has_begun(&self) -> bool {
        *self.life.phase.borrow() != Phase::Running
    }

    /// Cuts all that is under way.
    pub fn cut(&self) {
        self.life.reach(Phase::Cut);
    }

    /// Begins to stop, waits until nothing is under way, and cuts what is left after `deadline`.
    pub async fn wait(&self, deadline: Duration) -> Stopped {
        self.begin();
        if tokio::time::timeout(deadline, self.life.all_gone())
            .await
            .is_ok()
        {
            return Stopped::Clean;
        }
        let left = self.in_flight();
        self.cut();
        self.life.all_gone().await; // Every task looks for the cut wherever it waits.
        Stopped::Cut(left)
    }

    /// What is under way.
    pub fn in_flight(&self) -> InFlight {
        InFlight {
            connections: self.life.connections.load(Ordering::Relaxed),
            requests: self.life.requests.load(Ordering::Relaxed),
            tunnels: self.life.tunnels.load(Ordering::Relaxed),
        }
    }

    pub(super) fn life(&self) -> &Arc<Life> {
        &self.life
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Life {
    fn reach(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = *current < phase;
            if later {
                *current = phase;
            }
            later
        });
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable(); // Before the look, so that no last one is missed.
            let left =
                self.connections.load(Ordering::Acquire) + self.tunnels.load(Ordering::Acquire);
            if left == 0 {
                return;
            }
            gone.await;
        }
    }

    fn left(&self, counter: &AtomicUsize) {
        if counter.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.gone.notify_waiters();
        }
    }
}

/// Waits for a phase, or a later one.
pub(super) async fn reached(phases: &mut watch::Receiver<Phase>, phase: Phase) {
    // The sender lives as long as whoever holds the receiver's server.
    let _ = phases.wait_for(|current| *current >= phase).await;
}

/// A connection that is counted.
#[derive(Debug)]
pub(super) struct CountedConnection(Arc<Life>);

impl CountedConnection {
    pub(super) fn open(life: &Arc<Life>) -> Self {
        life.connections.fetch_add(1, Ordering::AcqRel);
        Self(life.clone())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.left(&self.0.connections);
    }
}

/// A request that is counted.
#[derive(Debug)]
pub(super) struct CountedRequest(Arc<Life>);

impl CountedRequest {
    pub(super) fn open(life: &Arc<Life>) -> Self {
        life.requests.fetch_add(1, Ordering::Relaxed);
        Self(life.clone())
    }
}

impl Drop for CountedRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that went over to another protocol, and is counted.
#[derive(Debug)]
pub(crate) struct Tunnel(Arc<Life>);

impl Tunnel {
    pub(super) fn open(life: &Arc<Life>) -> Self {
        life.tunnels.fetch_add(1, Ordering::AcqRel);
        Self(life.clone())
    }

    /// Waits until all is cut.
    pub(crate) async fn cut(&self) {
        reached(&mut self.0.phase(), Phase::Cut).await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.left(&self.0.tunnels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_under_way_is_a_clean_end() {
        let stop = Stop::new();
        assert_eq!(stop.wait(Duration::ZERO).await, Stopped::Clean);
        assert!(stop.has_begun());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_one_that_leaves_ends_the_wait() {
        let stop = Stop::new();
        let connection = CountedConnection::open(stop.life());
        let tunnel = Tunnel::open(stop.life());
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.wait(Duration::from_secs(9)).await }
        });
        tokio::task::yield_now().await;
        drop(connection);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(tunnel);
        assert_eq!(waiting.await.unwrap(), Stopped::Clean);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_at_the_deadline_is_cut() {
        let stop = Stop::new();
        let tunnel = Tunnel::open(stop.life());
        let task = tokio::spawn(async move { tunnel.cut().await });
        let stopped = stop.wait(Duration::from_secs(9)).await;
        assert!(matches!(stopped, Stopped::Cut(InFlight { tunnels: 1, .. })));
        task.await.unwrap();
    }
}
