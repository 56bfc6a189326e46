//! What went wrong with the file, in words for the log.

use std::{error::Error, fmt::Display, io, path::Path, sync::Arc};

use tollgate_core::{StoreError, store::StoreErrorKind};

/// A failure that many are told of: whoever shares a commit shares what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: StoreErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// What this error of the file's means.
    pub(crate) fn of(path: &Path, err: impl Into<redb::Error>) -> Self {
        let err = err.into();
        let (kind, what) = told(&err);
        Self {
            kind,
            message: format!("{}: {what}", path.display()),
            source: Some(Arc::new(err)),
        }
    }

    pub(crate) fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        let err = Self::new(failure.kind, failure.message);
        match failure.source {
            Some(source) => err.with_source(source),
            None => err,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

fn told(err: &redb::Error) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Corrupt, Unavailable, Unsupported};
    match err {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => (
            Unavailable,
            "in use, by another process or another store of this one; a file has one at a time",
        ),
        redb::Error::UpgradeRequired(_) => (
            Unsupported,
            "written in a form that this version can not read",
        ),
        redb::Error::RepairAborted => (
            Unavailable,
            "was not closed, and can only be mended where it can be written",
        ),
        redb::Error::Corrupted(_)
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableDoesNotExist(_) => (Corrupt, "damaged, or not a file of this store"),
        redb::Error::Io(err) => told_io(err),
        redb::Error::PreviousIo => (Unavailable, "could not be read or written before"),
        redb::Error::DatabaseClosed => (Unavailable, "closed"),
        _ => (Unavailable, "can not be used"),
    }
}

fn told_io(err: &io::Error) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Corrupt, Full, Unavailable};
    match err.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            (Full, "no room left to write")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Unavailable, "may not be written")
        }
        io::ErrorKind::NotFound => (Unavailable, "its folder does not exist"),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            (Corrupt, "damaged, or not a file of this store")
        }
        _ => (Unavailable, "could not be read or written"),
    }
}
