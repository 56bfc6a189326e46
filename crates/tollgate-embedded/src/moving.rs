//! What it takes to move keys to another store, or from one: how long records stay, and how much of quotas is used.

use std::time::Duration;

use tollgate_core::{
    StoreError,
    store::{QuotaUse, StoreErrorKind},
};

use crate::{
    EmbeddedStore,
    error::Failure,
    file::{COUNTERS, SESSIONS},
    queue::Job,
    record::{Mark, NEVER, Record},
    reserve::nanos,
};

impl EmbeddedStore {
    /// How long a record stays; `None` for ever.
    ///
    /// # Errors
    ///
    /// Fails where the file can not be read.
    pub async fn lifetime(&self, key: &str) -> Result<Option<Duration>, StoreError> {
        let inner = self.inner();
        let ends = inner.file.read(|read| {
            let record = read.open_table(SESSIONS)?.get(key)?;
            Ok(record.map_or(Some(0), |record| {
                Record::read(record.value()).map(|record| record.ends)
            }))
        })?;
        let what = "the record of a session can not be read";
        let ends = ends.ok_or_else(|| Failure::new(StoreErrorKind::Corrupt, what))?;
        let left = ends.saturating_sub(inner.unix_nanos());
        Ok((ends != NEVER).then(|| Duration::from_nanos(left)))
    }

    /// How much of a quota is used as far as the file says, by the name of its counter: what was admitted while the
    /// store is not in use, and up to a chunk more otherwise. `None` where no period runs.
    ///
    /// # Errors
    ///
    /// Fails where the file can not be read.
    pub async fn quota_use(&self, counter: &str) -> Result<Option<QuotaUse>, StoreError> {
        let inner = self.inner();
        let mark = inner.file.read(|read| {
            let mark = read.open_table(COUNTERS)?.get(counter.as_bytes())?;
            Ok(mark.and_then(|mark| Mark::read(mark.value())))
        })?;
        let now = inner.unix_nanos();
        let mark = mark.filter(|mark| !mark.is_over(now));
        Ok(mark.map(|mark| QuotaUse {
            used: mark.units,
            left: mark.left(now).map(Duration::from_nanos),
        }))
    }

    /// Begins a quota's period as it stands elsewhere, unless one runs; tells whether it did.
    ///
    /// # Errors
    ///
    /// Fails where the file can not be written.
    pub async fn begin_quota(&self, counter: &str, with: QuotaUse) -> Result<bool, StoreError> {
        let inner = self.inner();
        let now = inner.unix_nanos();
        let mark = Mark {
            units: with.used,
            until: with
                .left
                .map_or(NEVER, |left| now.saturating_add(nanos(left)).min(NEVER - 1)),
            written: now,
        };
        let job = |reply| Job::Begin(counter.as_bytes().into(), mark, reply);
        inner.ask(job).await
    }
}
