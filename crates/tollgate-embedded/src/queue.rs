//! What waits to be written, and how many commits are shared.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_channel::oneshot;
use parking_lot::{Condvar, Mutex};
use tollgate_core::{
    Session,
    store::{Expect, StoreErrorKind, Version},
};

use crate::{counters::Draw, error::Failure, record::Mark, reserve::Claim};

/// Who waits for what came of a job.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// Something to be written.
pub(crate) enum Job {
    Put(Put, Reply<Version>),
    Delete(Box<str>, Reply<bool>),
    /// Nothing is claimed where nothing is left to be drawn.
    Draw(Draw, Option<Reply<Option<Claim>>>),
    Reset(Box<[u8]>, Reply<()>),
    /// A counter that begins as it stands elsewhere, unless there is one.
    Begin(Box<[u8]>, Mark, Reply<bool>),
    Compact(Reply<bool>),
}

/// A session to be written.
pub(crate) struct Put {
    pub(crate) key: Box<str>,
    pub(crate) session: Arc<Session>,
    pub(crate) json: String,
    pub(crate) expect: Expect,
    pub(crate) lifetime: Option<Duration>,
}

const MOST: usize = 100_000; // Jobs that wait.
const SHARED: usize = 1000; // Jobs of one commit.

#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl Queue {
    pub(crate) fn send(&self, job: Job) -> Result<(), Failure> {
        let refused = |what| Err(Failure::new(StoreErrorKind::Unavailable, what));
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return refused("the store is closed");
        }
        if MOST <= waiting.jobs.len() {
            return refused("too much waits to be written");
        }
        waiting.jobs.push_back(job);
        if waiting.jobs.len() == 1 {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for jobs; none where the queue is closed and empty.
    pub(crate) fn next(&self) -> Vec<Job> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() && !waiting.is_closed {
            self.changed.wait(&mut waiting);
        }
        let shared = waiting.jobs.len().min(SHARED);
        waiting.jobs.drain(..shared).collect()
    }

    /// Takes no more jobs; those that wait are still done.
    pub(crate) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Lets go of who waits, when nobody is there to do anything any more.
    pub(crate) fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_closed = true;
        let jobs = std::mem::take(&mut waiting.jobs);
        drop(waiting);
        drop(jobs);
    }
}
