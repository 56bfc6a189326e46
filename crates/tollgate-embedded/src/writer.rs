//! The thread that writes: what waits together is one commit, and is answered when that is durable.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use redb::{Error, ReadableTable};
use tollgate_core::{
    Loaded, Moment,
    store::{Change, Expect, StoreErrorKind, Version},
};

use crate::{
    counters::{Draw, Settled},
    error::Failure,
    file::{Meta, Tables},
    queue::{Job, Put, Reply},
    record::{Mark, NEVER, Record},
    reserve::{Claim, Drawn, nanos},
    sessions::Kept,
    store::Inner,
    sweep::Sweep,
};

/// How long a file is left alone that could not be opened again.
const REST: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    inner: Arc<Inner>,
    meta: Meta,
    sweep: Sweep,
    away: Option<(Failure, Moment)>, // Why the file can not be used, and when it was tried last.
}

/// What became of a job in the commit under way.
enum Staged {
    Put(Result<(Version, u64), Failure>),
    Deleted(bool),
    Drawn(Option<Drawn>),
    Reset,
    Begun(bool),
}

impl Writer {
    pub(crate) fn new(inner: Arc<Inner>, meta: Meta) -> Self {
        let now = inner.options.now();
        Self {
            away: inner.file.failure().map(|failure| (failure, now)),
            inner,
            meta,
            sweep: Sweep::default(),
        }
    }

    /// Writes until the store is closed; then settles what was drawn.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let inner = self.inner.clone();
        let _abandoned = Abandoned(&inner);
        loop {
            let jobs = inner.queue.next();
            if jobs.is_empty() {
                return self.settle();
            }
            let mut shared = Vec::with_capacity(jobs.len());
            let mut compactions = Vec::new();
            for job in jobs {
                match job {
                    Job::Compact(reply) => compactions.push(reply),
                    job => shared.push(job),
                }
            }
            if !shared.is_empty() {
                self.commit(shared);
            }
            for reply in compactions {
                self.compact(reply);
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if let Err(failure) = self.come_back() {
            jobs.into_iter()
                .for_each(|job| self.fail(job, None, &failure));
            return;
        }
        let now = self.inner.options.now();
        let mut staged = Vec::with_capacity(jobs.len());
        let mut meta = self.meta;
        meta.clean = false;
        let written = self.inner.file.write(|tables| {
            for job in &jobs {
                staged.push(stage(&self.inner, job, tables, &mut meta, now)?);
            }
            self.sweep.go_on(tables, &mut meta, now)?;
            tables.set_meta(meta)
        });
        let mut staged = staged.into_iter();
        match written {
            Ok(()) => {
                self.meta = meta;
                for (job, staged) in jobs.into_iter().zip(staged) {
                    self.finish(job, staged);
                }
            }
            Err(failure) => {
                tracing::error!(error = %failure, "the store could not write");
                self.reopen(&failure);
                for job in jobs {
                    self.fail(job, staged.next(), &failure);
                }
            }
        }
    }

    /// Opens the file again if that is due.
    fn come_back(&mut self) -> Result<(), Failure> {
        let Some((failure, tried_at)) = self.away.clone() else {
            return Ok(());
        };
        let now = self.inner.options.now();
        if now.ticks < tried_at.after(REST).ticks {
            return Err(failure);
        }
        self.reopen(&failure);
        match &self.away {
            Some((failure, _)) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// After a failure the file is opened again: what was committed is there, and can be read.
    fn reopen(&mut self, failure: &Failure) {
        let now = self.inner.options.now();
        match self.inner.file.reopen() {
            Ok(meta) => {
                self.meta.live = meta.live;
                self.meta.version = self.meta.version.max(meta.version);
                self.away = None;
            }
            Err(again) => {
                tracing::error!(error = %again, "the store could not be opened again");
                // What went wrong first says more than what follows from it.
                let worst = [failure, &again];
                let full = worst.iter().find(|err| err.kind() == StoreErrorKind::Full);
                let told = full.map_or(&again, |full| *full).clone();
                self.away = Some((told, now));
            }
        }
    }

    fn finish(&self, job: Job, staged: Staged) {
        match (job, staged) {
            (Job::Put(put, reply), Staged::Put(done)) => {
                let done = done.map(|(version, ends)| {
                    let loaded = Arc::new(Loaded::new(&*put.key, put.session, version));
                    self.inner.sessions.put(&put.key, Kept { loaded, ends });
                    self.tell(&put.key);
                    version
                });
                answer(reply, done);
            }
            (Job::Delete(key, reply), Staged::Deleted(was_there)) => {
                self.inner.sessions.drop(&key);
                self.tell(&key);
                answer(reply, Ok(was_there));
            }
            (Job::Draw(draw, reply), Staged::Drawn(drawn)) => {
                let claim = drawn.map(|drawn| Claim::grant(&draw.reserve, &drawn));
                if let Some(reply) = reply {
                    answer(reply, Ok(claim));
                }
            }
            (Job::Reset(name, reply), Staged::Reset) => {
                if let Some(reserve) = self.inner.counters.registry.get(&name) {
                    let mut hold = reserve.hold.lock();
                    hold.is_restored = true;
                    self.inner.counters.forget(&name);
                } else {
                    self.inner.counters.forget(&name);
                }
                answer(reply, Ok(()));
            }
            (Job::Begin(_, _, reply), Staged::Begun(did)) => answer(reply, Ok(did)),
            _ => unreachable!("each job is staged as what it is"),
        }
    }

    fn fail(&self, job: Job, staged: Option<Staged>, failure: &Failure) {
        match job {
            Job::Put(put, reply) => {
                self.inner.sessions.drop(&put.key); // It may have been written all the same.
                answer(reply, Err(failure.clone()));
            }
            Job::Delete(key, reply) => {
                self.inner.sessions.drop(&key);
                answer(reply, Err(failure.clone()));
            }
            Job::Draw(draw, reply) => {
                let mut hold = draw.reserve.hold.lock();
                match staged {
                    Some(Staged::Drawn(Some(drawn))) => hold.lose(&drawn),
                    _ => hold.calm(),
                }
                drop(hold);
                reply
                    .into_iter()
                    .for_each(|reply| answer(reply, Err(failure.clone())));
            }
            Job::Reset(_, reply) => answer(reply, Err(failure.clone())),
            Job::Begin(_, _, reply) | Job::Compact(reply) => answer(reply, Err(failure.clone())),
        }
    }

    fn tell(&self, key: &str) {
        let told = || self.inner.sessions.tell(Change::Key(key));
        if catch_unwind(AssertUnwindSafe(told)).is_err() {
            tracing::error!("who was told of a change panicked");
        }
    }

    fn compact(&mut self, reply: Reply<bool>) {
        let done = self.come_back().and_then(|()| {
            let done = self.inner.file.compact();
            if let Err(failure) = &done {
                self.reopen(failure);
            }
            done
        });
        answer(reply, done);
    }

    /// Writes of every counter what was admitted, no more, and that the file was closed.
    fn settle(&mut self) -> Result<(), Failure> {
        if self.inner.file.is_read_only() {
            self.inner.file.close(); // Nothing was drawn.
            return Ok(());
        }
        self.come_back()?;
        let (now, inner) = (self.inner.options.now(), &self.inner);
        let mut meta = self.meta;
        meta.clean = true;
        let settled = inner.file.write(|tables| {
            for reserve in inner.counters.registry.all() {
                match inner.counters.settle(&reserve, now) {
                    Settled::AsItIs => {}
                    Settled::Nothing => drop(tables.counters.remove(reserve.name())?),
                    Settled::Mark(mark) => put_mark(tables, reserve.name(), &mark)?,
                }
            }
            tables.set_meta(meta)
        });
        inner.file.close();
        settled
    }
}

/// Lets go of who waits when the thread ends, however it does.
struct Abandoned<'a>(&'a Inner);

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.0.queue.abandon();
    }
}

fn answer<T>(reply: Reply<T>, done: Result<T, Failure>) {
    let _ = reply.send(done); // Who asked may have gone.
}

fn stage(
    inner: &Inner,
    job: &Job,
    tables: &mut Tables<'_>,
    meta: &mut Meta,
    now: Moment,
) -> Result<Staged, Error> {
    Ok(match job {
        Job::Put(put, _) => Staged::Put(stage_put(put, tables, meta, now)?),
        Job::Delete(key, _) => Staged::Deleted(stage_delete(key, tables, meta, now)?),
        Job::Draw(draw, _) => Staged::Drawn(stage_draw(inner, draw, tables)?),
        Job::Reset(name, _) => {
            if let Some(reserve) = inner.counters.registry.get(name) {
                let mut hold = reserve.hold.lock();
                hold.void();
                hold.mark = None;
            }
            tables.counters.remove(&**name)?;
            Staged::Reset
        }
        Job::Begin(name, mark, _) => {
            let there = tables.counters.get(&**name)?;
            let there = there.and_then(|there| Mark::read(there.value()));
            let counts = there.is_some_and(|there| !there.is_over(now.unix_nanos));
            let is_known = inner.counters.registry.get(name).is_some();
            if !counts && !is_known {
                put_mark(tables, name, mark)?;
            }
            Staged::Begun(!counts && !is_known)
        }
        Job::Compact(_) => unreachable!("done apart"),
    })
}

fn stage_put(
    put: &Put,
    tables: &mut Tables<'_>,
    meta: &mut Meta,
    now: Moment,
) -> Result<Result<(Version, u64), Failure>, Error> {
    let (there, old) = match tables.sessions.get(&*put.key)? {
        Some(bytes) => {
            let record = Record::read(bytes.value());
            let live = record.filter(|record| !record.has_ended(now.unix_nanos));
            let version = live.map(|record| record.version);
            (version, size(&put.key, bytes.value()))
        }
        None => (None, 0),
    };
    match (put.expect, there) {
        (Expect::Anything, _) | (Expect::Absent, None) => {}
        (Expect::Version(expected), Some(version)) if expected == version => {}
        _ => return Ok(Err(conflict())),
    }
    // Over all records, so that one put anew has no version of the old one's.
    meta.version += 1;
    let record = Record {
        version: Version(meta.version),
        ends: put.lifetime.map_or(NEVER, |lifetime| {
            now.unix_nanos
                .saturating_add(nanos(lifetime))
                .min(NEVER - 1)
        }),
        json: &put.json,
    };
    let bytes = record.write();
    meta.live = meta.live.saturating_sub(old) + size(&put.key, &bytes);
    tables.sessions.insert(&*put.key, &*bytes)?;
    Ok(Ok((record.version, record.ends)))
}

fn stage_delete(
    key: &str,
    tables: &mut Tables<'_>,
    meta: &mut Meta,
    now: Moment,
) -> Result<bool, Error> {
    let Some(bytes) = tables.sessions.remove(key)? else {
        return Ok(false);
    };
    meta.live = meta.live.saturating_sub(size(key, bytes.value()));
    let record = Record::read(bytes.value());
    Ok(record.is_some_and(|record| !record.has_ended(now.unix_nanos)))
}

fn stage_draw(inner: &Inner, draw: &Draw, tables: &mut Tables<'_>) -> Result<Option<Drawn>, Error> {
    let Some((mark, drawn)) = inner.counters.draw(draw) else {
        return Ok(None);
    };
    put_mark(tables, draw.reserve.name(), &mark)?;
    Ok(Some(drawn))
}

fn put_mark(tables: &mut Tables<'_>, name: &[u8], mark: &Mark) -> Result<(), Error> {
    tables.counters.insert(name, &mark.write()[..])?;
    Ok(())
}

/// What a record counts for in [`Meta::live`].
pub(crate) fn size(key: &str, record: &[u8]) -> u64 {
    (key.len() + record.len()) as u64
}

fn conflict() -> Failure {
    let message = "the record is not as the writer expected";
    Failure::new(StoreErrorKind::Conflict, message)
}
