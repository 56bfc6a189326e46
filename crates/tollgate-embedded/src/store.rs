//! The store: what its callers see, and what they wait for.

use std::{fmt, sync::Arc, thread::JoinHandle, time::Duration};

use futures_channel::oneshot;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tollgate_core::{
    Loaded, Moment, Session, StoreError,
    store::{
        ChangeSink, Charge, Expect, LimitStore, ListPage, ListQuery, ReadyCharges, SessionStore,
        SharedStore, Standing, StoreErrorKind, Verdict, Version,
    },
};

use crate::{
    EmbeddedOptions,
    counters::{self, Counters, Decision, Draw, Draws, Needs},
    error::Failure,
    file::{COUNTERS, StoreFile},
    queue::{Job, Put, Queue, Reply},
    record::{self, Mark},
    reserve::{Asker, Claim},
    sessions::{self, Sessions},
    writer::Writer,
};

/// A store in one file. A clone is the same store; when the last is dropped, the file is closed.
///
/// See the [crate's docs](crate) for an example.
#[derive(Clone)]
pub struct EmbeddedStore(Arc<Owner>);

struct Owner {
    inner: Arc<Inner>,
    writer: Mutex<Option<JoinHandle<Result<(), Failure>>>>,
}

/// What the callers and the writer share.
pub(crate) struct Inner {
    pub(crate) options: EmbeddedOptions,
    pub(crate) file: StoreFile,
    pub(crate) sessions: Sessions,
    pub(crate) counters: Counters,
    pub(crate) queue: Queue,
}

/// How often a request that finds its units taken by others asks for more.
const TRIES: usize = 64;

impl EmbeddedStore {
    /// The store in this file, with the settings of [`EmbeddedOptions::new`].
    ///
    /// # Errors
    ///
    /// As [`EmbeddedOptions::open`].
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, StoreError> {
        EmbeddedOptions::new(path).open()
    }

    pub(crate) fn open_with(options: EmbeddedOptions) -> Result<Self, StoreError> {
        let (file, meta) = StoreFile::open(&options)?;
        let writes = !file.is_read_only();
        if writes && file.is_wasteful(meta) {
            tracing::info!(path = %options.path.display(), "compacting the store");
            file.compact()?;
        }
        let begins_full_at = (!meta.clean).then(|| options.now());
        let inner = Arc::new(Inner {
            sessions: Sessions::new(options.cached_sessions),
            counters: Counters::new(&options, begins_full_at),
            queue: Queue::default(),
            file,
            options,
        });
        let writer = Writer::new(inner.clone(), meta);
        let writer = std::thread::Builder::new()
            .name("tollgate-store".into())
            .spawn(move || writer.run());
        let writer = writer.map_err(|err| {
            let what = "no thread to write the store";
            StoreError::new(StoreErrorKind::Unavailable, what).with_source(err)
        })?;
        Ok(Self(Arc::new(Owner {
            inner,
            writer: Mutex::new(Some(writer)),
        })))
    }

    /// Closes the file: what waits is written, and of every counter what was admitted, no more. After
    /// it, records in memory are still found, and whatever else is asked fails as
    /// [`Unavailable`](StoreErrorKind::Unavailable). Waits for the disk, so call it where a thread may.
    ///
    /// # Errors
    ///
    /// Fails where the file can not be written. The next start is then one after a crash.
    pub fn close(&self) -> Result<(), StoreError> {
        Ok(self.0.close()?)
    }

    /// Makes the file as small as it can be; tells whether it could. Nothing is read or written
    /// meanwhile, so requests may wait.
    ///
    /// # Errors
    ///
    /// Fails where the file can not be written.
    pub async fn compact(&self) -> Result<bool, StoreError> {
        self.0.inner.ask(Job::Compact).await
    }

    /// How many sessions are in memory.
    pub fn cached_sessions(&self) -> usize {
        self.0.inner.sessions.len()
    }

    /// How many stored counters are known, ended ones that were not yet dropped included.
    pub fn counters(&self) -> usize {
        self.0.inner.counters.registry.len()
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0.inner
    }

    /// Whether the file was opened to be read alone.
    pub fn is_read_only(&self) -> bool {
        self.0.inner.file.is_read_only()
    }
}

impl From<EmbeddedStore> for SharedStore {
    fn from(store: EmbeddedStore) -> Self {
        Self::new(store.clone(), store)
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("path", &self.0.inner.file.path())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Owner {
    fn close(&self) -> Result<(), Failure> {
        let Some(writer) = self.writer.lock().take() else {
            return Ok(());
        };
        self.inner.queue.close();
        let lost = || Failure::new(StoreErrorKind::Unavailable, "the store's thread panicked");
        writer.join().map_err(|_| lost())?
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(failure) = self.close() {
            tracing::error!(error = %failure, "the store was not closed");
        }
    }
}

impl Inner {
    /// Has something written, and waits until it is.
    pub(crate) async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let (reply, done) = oneshot::channel();
        self.file.may_write()?;
        self.queue.send(job(reply))?;
        await_reply(done).await
    }

    pub(crate) fn unix_nanos(&self) -> u64 {
        self.options.now().unix_nanos
    }

    fn renew(&self, draws: impl IntoIterator<Item = Draw>) {
        for draw in draws {
            let reserve = draw.reserve.clone();
            if self.queue.send(Job::Draw(draw, None)).is_err() {
                reserve.hold.lock().calm(); // Who finds too little waits for its own.
            }
        }
    }

    fn restore(&self, needs: &Needs, now: Moment) -> Result<(), Failure> {
        for need in needs {
            self.counters.restore(need, now, |name| {
                self.file.read(|read| {
                    let mark = read.open_table(COUNTERS)?.get(name)?;
                    Ok(mark.and_then(|mark| Mark::read(mark.value())))
                })
            })?;
        }
        Ok(())
    }

    #[inline]
    fn admitted(&self, (is_admitted, renewed): (bool, Draws)) -> bool {
        if !renewed.is_empty() {
            self.renew(renewed);
        }
        is_admitted
    }

    fn try_decide(&self, decided: counters::Decided) -> Option<Verdict> {
        let (decision, renewed) = decided;
        self.renew(renewed);
        match decision {
            Decision::Told(verdict) => Some(verdict),
            _ => None,
        }
    }

    async fn take(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        let (mut tries, mut claims) = (0, SmallVec::<[Claim; 2]>::new());
        while tries < TRIES {
            let asker = if claims.is_empty() {
                Asker::New
            } else {
                Asker::Waited
            };
            let (decision, renewed) = self.counters.decide(batch, asker, now);
            claims.clear();
            self.renew(renewed);
            match decision {
                Decision::Told(verdict) => return Ok(verdict),
                Decision::Full => return Err(counters::no_room().into()),
                Decision::Unknown(needs) => self.restore(&needs, now)?,
                Decision::Short(draws) => {
                    claims = self.draw(draws).await?;
                    tries += 1;
                }
            }
        }
        let what = "others were faster, again and again";
        Err(StoreError::new(StoreErrorKind::Unavailable, what))
    }

    /// Draws units and waits for them, all in one commit.
    async fn draw(&self, draws: Draws) -> Result<SmallVec<[Claim; 2]>, StoreError> {
        self.file.may_write()?;
        let mut asked = SmallVec::<[_; 2]>::new();
        for draw in draws {
            let (reply, done) = oneshot::channel();
            self.queue.send(Job::Draw(draw, Some(reply)))?;
            asked.push(done);
        }
        let mut claims = SmallVec::new();
        for done in asked {
            claims.extend(await_reply(done).await?);
        }
        Ok(claims)
    }
}

async fn await_reply<T>(done: oneshot::Receiver<Result<T, Failure>>) -> Result<T, StoreError> {
    match done.await {
        Ok(done) => Ok(done?),
        Err(_) => {
            let what = "the store was closed meanwhile";
            Err(StoreError::new(StoreErrorKind::Unavailable, what))
        }
    }
}

impl SessionStore for EmbeddedStore {
    fn try_get(&self, key: &str) -> Option<Option<Arc<Loaded>>> {
        let inner = &self.0.inner;
        inner.sessions.cached(key, || inner.unix_nanos())
    }

    async fn get(&self, key: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        let inner = &self.0.inner;
        Ok(inner.sessions.find(&inner.file, key, inner.unix_nanos())?)
    }

    async fn put(
        &self,
        key: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let put = Put {
            key: key.into(),
            json: record::slim(&session),
            session: Arc::new(session),
            expect,
            lifetime,
        };
        self.0.inner.ask(|reply| Job::Put(put, reply)).await
    }

    async fn delete(&self, key: &str) -> Result<bool, StoreError> {
        let job = |reply| Job::Delete(key.into(), reply);
        self.0.inner.ask(job).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        let inner = &self.0.inner;
        let now = inner.unix_nanos();
        let page = inner.file.read(|read| sessions::page(read, query, now));
        Ok(page?)
    }

    fn on_change(&self, sink: ChangeSink) {
        self.0.inner.sessions.listen(sink);
    }
}

impl LimitStore for EmbeddedStore {
    fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict> {
        let inner = &self.0.inner;
        inner.try_decide(inner.counters.decide(batch, Asker::New, now))
    }

    fn try_take_ready(&self, ready: &ReadyCharges, now: Moment) -> Option<Verdict> {
        let inner = &self.0.inner;
        inner.try_decide(inner.counters.decide_ready(ready, now))
    }

    #[inline]
    fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool {
        let inner = &self.0.inner;
        inner.admitted(inner.counters.admit(ready, now))
    }

    #[inline]
    fn try_admit_told(
        &self,
        ready: &ReadyCharges,
        now: Moment,
        tell: &mut dyn FnMut(&Standing),
    ) -> bool {
        let inner = &self.0.inner;
        inner.admitted(inner.counters.admit_told(ready, now, tell))
    }

    async fn take(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        self.0.inner.take(batch, now).await
    }

    async fn look(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        let inner = &self.0.inner;
        let needs = inner.counters.needs(batch, now);
        inner.restore(&needs.ok_or_else(counters::no_room)?, now)?;
        Ok(inner.counters.look(batch, now))
    }

    fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        let inner = &self.0.inner;
        inner
            .counters
            .give_back(batch, taken_at, inner.options.now());
    }

    async fn reset(&self, counter: &str) -> Result<(), StoreError> {
        let job = |reply| Job::Reset(counter.as_bytes().into(), reply);
        self.0.inner.ask(job).await
    }
}
