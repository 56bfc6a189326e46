//! The end of a server, in phases; and what is under way.
//!
//! 1. [`Stop::begin`]: listeners close, connections of HTTP/2 are told, those of HTTP/1.1 are closed
//!    when they are idle or with their next response.
//! 2. [`Stop::wait`] waits until all are gone, at most for as long as it is told.
//! 3. What is left then is cut.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
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
    /// Those that end with this one.
    branches: Mutex<Vec<Weak<Life>>>,
    counts: Arc<Counts>,
}

/// What is under way, with all branches together.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    tunnels: AtomicUsize,
    gone: Notify,
}

impl Stop {
    /// Nothing is stopped yet.
    pub fn new() -> Self {
        Self {
            life: Arc::new(Life::new(Phase::Running, Arc::default())),
        }
    }

    /// Ends with this one, or before it where it is told itself. What is under way is counted for both.
    #[must_use]
    pub fn branch(&self) -> Self {
        let mut branches = self.life.branches.lock();
        branches.retain(|branch| branch.strong_count() > 0);
        // Under the lock: whoever reaches a later phase finds the branch in the list.
        let life = Life::new(*self.life.phase.borrow(), self.life.counts.clone());
        let life = Arc::new(life);
        branches.push(Arc::downgrade(&life));
        Self { life }
    }

    /// Takes no further connections, and lets those that are open end.
    pub fn begin(&self) {
        self.life.reach(Phase::Draining);
    }

    /// Whether [`begin`](Self::begin) was called.
    pub fn has_begun(&self) -> bool {
        *self.life.phase.borrow() != Phase::Running
    }

    /// Waits until [`begin`](Self::begin) is called.
    pub async fn begun(&self) {
        reached(&mut self.life.phase(), Phase::Draining).await;
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
            connections: self.life.counts.connections.load(Ordering::Relaxed),
            requests: self.life.counts.requests.load(Ordering::Relaxed),
            tunnels: self.life.counts.tunnels.load(Ordering::Relaxed),
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
    fn new(phase: Phase, counts: Arc<Counts>) -> Self {
        Self {
            phase: watch::Sender::new(phase),
            branches: Mutex::default(),
            counts,
        }
    }

    fn reach(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = *current < phase;
            if later {
                *current = phase;
            }
            later
        });
        for branch in self.branches.lock().iter().filter_map(Weak::upgrade) {
            branch.reach(phase);
        }
    }

    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    async fn all_gone(&self) {
        loop {
            let gone = self.counts.gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable(); // Before the look, so that no last one is missed.
            let (connections, tunnels) = (&self.counts.connections, &self.counts.tunnels);
            let left = connections.load(Ordering::Acquire) + tunnels.load(Ordering::Acquire);
            if left == 0 {
                return;
            }
            gone.await;
        }
    }

    fn left(&self, counter: &AtomicUsize) {
        if counter.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.counts.gone.notify_waiters();
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
        life.counts.connections.fetch_add(1, Ordering::AcqRel);
        Self(life.clone())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.left(&self.0.counts.connections);
    }
}

/// A request that is counted.
#[derive(Debug)]
pub(super) struct CountedRequest(Arc<Life>);

impl CountedRequest {
    pub(super) fn open(life: &Arc<Life>) -> Self {
        life.counts.requests.fetch_add(1, Ordering::Relaxed);
        Self(life.clone())
    }
}

impl Drop for CountedRequest {
    fn drop(&mut self) {
        self.0.counts.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that went over to another protocol, and is counted.
#[derive(Debug)]
pub(crate) struct Tunnel(Arc<Life>);

impl Tunnel {
    pub(super) fn open(life: &Arc<Life>) -> Self {
        life.counts.tunnels.fetch_add(1, Ordering::AcqRel);
        Self(life.clone())
    }

    /// Waits until all is cut.
    pub(crate) async fn cut(&self) {
        reached(&mut self.0.phase(), Phase::Cut).await;
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.left(&self.0.counts.tunnels);
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

    #[tokio::test(start_paused = true)]
    async fn a_branch_ends_alone_or_with_the_whole() {
        let stop = Stop::new();
        let (one, other) = (stop.branch(), stop.branch());
        let tunnel = Tunnel::open(one.life());
        assert_eq!(stop.in_flight().tunnels, 1, "the whole counts it");
        let task = tokio::spawn(async move { tunnel.cut().await });
        one.begin();
        assert!(one.has_begun() && !other.has_begun() && !stop.has_begun());
        one.cut();
        task.await.unwrap();
        assert_eq!(stop.wait(Duration::from_secs(9)).await, Stopped::Clean);
        other.begun().await;
        assert!(stop.branch().has_begun(), "nothing begins after the end");
    }
}
