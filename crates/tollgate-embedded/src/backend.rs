//! How the file is written: redb's own way, with a choice of when it is on the disk.

use std::{fs::File, io, ops::Bound};

use redb::{BackendError, StorageBackend, backends::FileBackend};

use crate::Durability;

/// A file that is brought to the disk with each commit, or left to the system.
#[derive(Debug)]
pub(crate) struct Backend {
    file: FileBackend,
    durability: Durability,
    faults: Faults,
}

impl Backend {
    pub(crate) fn new(
        file: File,
        durability: Durability,
        faults: Faults,
    ) -> Result<Self, redb::DatabaseError> {
        Ok(Self {
            file: FileBackend::new(file)?,
            durability,
            faults,
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.check_growth(self.file.len()?, len)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.faults.check()?;
        match self.durability {
            Durability::Synced => self.file.sync_data(),
            Durability::Written => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

/// Failures of a disk, made by tests. In every other build there are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    kind: std::sync::Arc<parking_lot::Mutex<Option<io::ErrorKind>>>,
}

impl Faults {
    #[cfg(test)]
    pub(crate) fn set(&self, kind: Option<io::ErrorKind>) {
        *self.kind.lock() = kind;
    }

    #[cfg(test)]
    fn check(&self) -> io::Result<()> {
        match *self.kind.lock() {
            // A full disk still takes what replaces something.
            Some(io::ErrorKind::StorageFull) | None => Ok(()),
            Some(kind) => Err(kind.into()),
        }
    }

    #[cfg(test)]
    fn check_growth(&self, was: u64, len: u64) -> io::Result<()> {
        match *self.kind.lock() {
            Some(kind) if was < len => Err(kind.into()),
            _ => Ok(()),
        }
    }

    #[cfg(not(test))]
    fn check(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    fn check_growth(&self, _was: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}
