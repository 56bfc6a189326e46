//! What it takes to move keys to another store, or from one: how long records stay, how much of quotas is used, and
//! what else lies in the database.

use std::time::Duration;

use tollgate_core::{
    limits::{Limit, Period, Quota},
    store::{ListPage, QuotaUse, StoreError},
};

use crate::{
    RedisStore, keys,
    sessions::{LONGEST_MILLIS, SCANNED},
};

impl RedisStore {
    /// How long a record stays; `None` for ever.
    ///
    /// # Errors
    ///
    /// Fails where the server gives no answer.
    pub async fn lifetime(&self, key: &str) -> Result<Option<Duration>, StoreError> {
        let mut command = redis::cmd("PTTL");
        command.arg(keys::record(key));
        let millis: i64 = self.link().command(&command).await?;
        Ok(length(millis))
    }

    /// How many bytes a record has, read or not.
    ///
    /// # Errors
    ///
    /// Fails where the server gives no answer, or what lies there is no text.
    pub async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let mut command = redis::cmd("STRLEN");
        command.arg(keys::record(key));
        self.link().command(&command).await
    }

    /// How much of a quota is used, by the name of its counter; `None` where no period runs.
    ///
    /// # Errors
    ///
    /// Fails where the server gives no answer, or what it has is no count.
    pub async fn quota_use(&self, counter: &str) -> Result<Option<QuotaUse>, StoreError> {
        let name = self.name_of_quota(counter);
        let mut both = redis::pipe();
        both.get(&name).pttl(&name);
        let (used, millis): (Option<u64>, i64) = self.link().pipeline(&both).await?;
        let left = length(millis);
        Ok(used.map(|used| QuotaUse { used, left }))
    }

    /// Begins a quota's period as it stands elsewhere, unless one runs; tells whether it did.
    ///
    /// # Errors
    ///
    /// Fails where the server gives no answer.
    pub async fn begin_quota(&self, counter: &str, with: QuotaUse) -> Result<bool, StoreError> {
        let mut set = redis::cmd("SET");
        set.arg(self.name_of_quota(counter))
            .arg(with.used)
            .arg("NX");
        if let Some(left) = with.left {
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            set.arg("PX").arg(millis.clamp(1, LONGEST_MILLIS));
        }
        let done: Option<String> = self.link().command(&set).await?;
        Ok(done.is_some())
    }

    /// Tells all gateways, Tyk's too, that these records changed, in one notice: whoever writes many with
    /// [`notices`](crate::RedisOptions::notices) off says so by this.
    ///
    /// # Errors
    ///
    /// Fails where the server gives no answer.
    pub async fn tell_changed(&self, keys: &[String]) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let _: i64 = self.link().command(&self.notices().of_keys(keys)).await?;
        Ok(())
    }

    /// The names of all that lies in the database, Tyk's and others', a page at a time.
    ///
    /// # Errors
    ///
    /// Fails where the server gives no answer, or the cursor is not of this store.
    pub async fn names(&self, cursor: Option<&str>) -> Result<ListPage, StoreError> {
        self.walk("*", SCANNED, cursor, |name| Some(name)).await
    }

    fn name_of_quota(&self, counter: &str) -> Vec<u8> {
        let any = Limit::Quota(Quota::per(1, Period::Never));
        keys::counter(counter.as_bytes(), &any, self.naming())
    }
}

/// What `PTTL` says: negative for what has no end, or is not there.
fn length(millis: i64) -> Option<Duration> {
    const GONE: i64 = -2;
    match u64::try_from(millis) {
        Ok(millis) => Some(Duration::from_millis(millis)),
        Err(_) if millis == GONE => Some(Duration::ZERO),
        Err(_) => None,
    }
}
