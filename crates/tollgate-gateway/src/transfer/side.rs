//! A store at one end of a transfer.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use tollgate_core::{
    Session, StoreError,
    store::{Expect, ListPage, ListQuery, Loaded, QuotaUse, SessionStore, StoreErrorKind, Version},
};
use tollgate_embedded::EmbeddedStore;
use tollgate_redis::{RedisOptions, RedisStore};

/// The longest record in bytes, as the control API takes them.
const LONGEST: u64 = 4 << 20;

/// A store of either kind.
pub(super) enum Side {
    Embedded(EmbeddedStore),
    Redis(Box<RedisStore>),
}

impl Side {
    /// A Redis that answers.
    pub(super) async fn redis(options: RedisOptions, what: &str) -> anyhow::Result<Self> {
        let store = options.connect().with_context(|| what.to_owned())?;
        let answers = store.ping().await;
        answers.with_context(|| format!("{what} does not answer"))?;
        Ok(Self::Redis(Box::new(store)))
    }

    /// The store in a file; made where that is allowed.
    pub(super) fn embedded(file: &Path, may_be_new: bool) -> anyhow::Result<Self> {
        if !may_be_new && !file.exists() {
            bail!("{}: there is no such store", file.display());
        }
        let store = EmbeddedStore::open(file).with_context(|| {
            let file = file.display();
            format!("{file}: can not be opened; a gateway that runs on it is to be stopped first")
        })?;
        Ok(Self::Embedded(store))
    }

    /// Writes what is to be written.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.close(),
            Self::Redis(_) => Ok(()),
        }
    }

    pub(super) async fn list(&self, query: &ListQuery) -> Result<ListPage, StoreError> {
        match self {
            Self::Embedded(store) => store.list(query).await,
            Self::Redis(store) => store.list(query).await,
        }
    }

    /// Names of whatever else lies in a database that others write, too.
    pub(super) async fn names(&self, cursor: Option<&str>) -> Result<ListPage, StoreError> {
        match self {
            Self::Embedded(_) => Ok(ListPage::default()),
            Self::Redis(store) => store.names(cursor).await,
        }
    }

    pub(super) async fn get(&self, name: &str) -> Result<Option<Arc<Loaded>>, StoreError> {
        match self {
            Self::Embedded(store) => store.get(name).await,
            Self::Redis(store) => {
                // Whatever others put under such a name is not read into memory first.
                let size = store.size(name).await?;
                if LONGEST < size {
                    let message = format!("a record of {size} bytes, and {LONGEST} are read");
                    return Err(StoreError::new(StoreErrorKind::Corrupt, message));
                }
                store.get(name).await
            }
        }
    }

    pub(super) async fn lifetime(&self, name: &str) -> Result<Option<Duration>, StoreError> {
        match self {
            Self::Embedded(store) => store.lifetime(name).await,
            Self::Redis(store) => store.lifetime(name).await,
        }
    }

    pub(super) async fn put(
        &self,
        name: &str,
        session: Session,
        expect: Expect,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        match self {
            Self::Embedded(store) => store.put(name, session, expect, lifetime).await,
            Self::Redis(store) => store.put(name, session, expect, lifetime).await,
        }
    }

    pub(super) async fn quota_use(&self, counter: &str) -> Result<Option<QuotaUse>, StoreError> {
        match self {
            Self::Embedded(store) => store.quota_use(counter).await,
            Self::Redis(store) => store.quota_use(counter).await,
        }
    }

    pub(super) async fn begin_quota(
        &self,
        counter: &str,
        with: QuotaUse,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.begin_quota(counter, with).await,
            Self::Redis(store) => store.begin_quota(counter, with).await,
        }
    }

    pub(super) async fn tell_changed(&self, names: &[String]) -> Result<(), StoreError> {
        match self {
            Self::Embedded(_) => Ok(()), // Nobody else has the file.
            Self::Redis(store) => store.tell_changed(names).await,
        }
    }
}
