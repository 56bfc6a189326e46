//! The file: opened, checked, read, written, opened again after a failure, and compacted.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use parking_lot::RwLock;
use redb::{
    Database, Error, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition, TableHandle, WriteTransaction,
};
use tollgate_core::store::StoreErrorKind;

use crate::{EmbeddedOptions, backend::Backend, error::Failure};

pub(crate) const SESSIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sessions");
pub(crate) const COUNTERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("counters");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("tollgate");

/// What this version writes, and the newest that it reads.
const FORMAT: u64 = 1;

/// A file is worth compacting when it is this many times as large as what is in it, and not small.
const WASTE: u64 = 4;
const SMALL: u64 = 64 << 20;

pub(crate) struct StoreFile {
    options: EmbeddedOptions,
    state: RwLock<State>,
}

enum State {
    Writable(Database),
    /// On a disk without room: what is there can be read.
    Full(Database, Failure),
    /// It was marked as one that may only be read.
    Readable(ReadOnlyDatabase),
    Away(Failure),
    Closed,
}

/// What the file says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meta {
    /// The version of the last write.
    pub(crate) version: u64,
    /// How many bytes of names and records there are.
    pub(crate) live: u64,
    /// Whether it was closed, so that its marks are what was admitted.
    pub(crate) clean: bool,
}

/// The tables, while something is written.
pub(crate) struct Tables<'t> {
    pub(crate) sessions: Table<'t, &'static str, &'static [u8]>,
    pub(crate) counters: Table<'t, &'static [u8], &'static [u8]>,
    meta: Table<'t, &'static str, u64>,
}

impl Tables<'_> {
    pub(crate) fn set_meta(&mut self, meta: Meta) -> Result<(), Error> {
        self.meta.insert("version", meta.version)?;
        self.meta.insert("live", meta.live)?;
        self.meta.insert("clean", u64::from(meta.clean))?;
        Ok(())
    }
}

impl Meta {
    fn read(table: &impl ReadableTable<&'static str, u64>) -> Result<Self, Error> {
        let number = |name| Ok::<_, Error>(table.get(name)?.map_or(0, |value| value.value()));
        Ok(Self {
            version: number("version")?,
            live: number("live")?,
            clean: number("clean")? == 1,
        })
    }
}

impl StoreFile {
    /// Opens the file, and says what it was found to be. From now on it is marked as one that was not
    /// closed.
    pub(crate) fn open(options: &EmbeddedOptions) -> Result<(Self, Meta), Failure> {
        let (state, meta) = open(options)?;
        let file = Self {
            options: options.clone(),
            state: RwLock::new(state),
        };
        Ok((file, meta))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.options.path
    }

    pub(crate) fn is_read_only(&self) -> bool {
        matches!(*self.state.read(), State::Readable(_))
    }

    /// Why nothing can be written now, though it may be later.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &*self.state.read() {
            State::Full(_, failure) | State::Away(failure) => Some(failure.clone()),
            _ => None,
        }
    }

    /// Fails where nothing will ever be written.
    pub(crate) fn may_write(&self) -> Result<(), Failure> {
        let state = self.state.read();
        match &*state {
            State::Writable(_) | State::Full(..) | State::Away(_) => Ok(()), // It may come back.
            State::Readable(_) | State::Closed => Err(self.refusal(&state)),
        }
    }

    /// Reads what was committed last.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let state = self.state.read();
        let result = self.caught(|| {
            let read = match &*state {
                State::Writable(database) | State::Full(database, _) => database.begin_read()?,
                State::Readable(database) => database.begin_read()?,
                State::Away(_) | State::Closed => return Ok(None),
            };
            work(&read).map(Some)
        })?;
        result.ok_or_else(|| self.refusal(&state))
    }

    /// Writes in one commit: when it comes back, all of it is as durable as was asked for, or none of it
    /// is told to be.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let state = self.state.read();
        let State::Writable(database) = &*state else {
            return Err(self.refusal(&state));
        };
        self.caught(|| {
            let write = begin(database)?;
            let done = work(&mut tables(&write)?)?;
            write.commit()?;
            Ok(done)
        })
    }

    /// Opens the file again: after a failure nothing else is possible with it.
    pub(crate) fn reopen(&self) -> Result<Meta, Failure> {
        let mut state = self.state.write();
        if matches!(&*state, State::Closed | State::Readable(_)) {
            return Err(self.refusal(&state));
        }
        let lost = Failure::new(StoreErrorKind::Unavailable, "opened again just now");
        let old = std::mem::replace(&mut *state, State::Away(lost));
        // What it does when it is dropped fails as the rest did.
        let _ = self.caught(|| {
            drop(old);
            Ok(())
        });
        match open(&self.options) {
            Ok((opened, meta)) => {
                *state = opened;
                match &*state {
                    State::Full(_, failure) => Err(failure.clone()),
                    _ => Ok(meta),
                }
            }
            Err(failure) => {
                *state = State::Away(failure.clone());
                Err(failure)
            }
        }
    }

    /// Makes the file smaller. Nothing is read or written meanwhile.
    pub(crate) fn compact(&self) -> Result<bool, Failure> {
        let mut state = self.state.write();
        if let State::Writable(database) = &mut *state {
            return self.caught(|| Ok(database.compact()?));
        }
        Err(self.refusal(&state))
    }

    /// Whether compacting would make the file much smaller.
    pub(crate) fn is_wasteful(&self, meta: Meta) -> bool {
        let len = fs::metadata(self.path()).map_or(0, |file| file.len());
        SMALL < len && meta.live.saturating_mul(WASTE) < len
    }

    pub(crate) fn close(&self) {
        let old = std::mem::replace(&mut *self.state.write(), State::Closed);
        let _ = self.caught(|| {
            drop(old);
            Ok(())
        });
    }

    fn refusal(&self, state: &State) -> Failure {
        let path = self.path().display();
        let unavailable = |what| Failure::new(StoreErrorKind::Unavailable, what);
        match state {
            State::Away(failure) | State::Full(_, failure) => failure.clone(),
            State::Closed => unavailable(format!("{path}: closed")),
            State::Readable(_) | State::Writable(_) => unavailable(format!(
                "{path}: may not be written; it was opened to be read"
            )),
        }
    }

    fn caught<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
        caught(self.path(), work)
    }
}

/// Runs `work` on the file. A page that is damaged can make the database panic, which is a failure of
/// the file and not of ours.
fn caught<T>(path: &Path, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|err| Failure::of(path, err)),
        Err(_) => Err(Failure::of(
            path,
            Error::Corrupted("the database panicked".into()),
        )),
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, Error> {
    let mut write = database.begin_write()?;
    write.set_quick_repair(true);
    Ok(write)
}

fn tables(write: &WriteTransaction) -> Result<Tables<'_>, Error> {
    Ok(Tables {
        sessions: write.open_table(SESSIONS)?,
        counters: write.open_table(COUNTERS)?,
        meta: write.open_table(META)?,
    })
}

fn open(options: &EmbeddedOptions) -> Result<(State, Meta), Failure> {
    let path = &options.path;
    let mut builder = Database::builder();
    builder.set_cache_size(options.cached_bytes);
    let writable = |file| -> Result<Database, Error> {
        let backend = Backend::new(file, options.durability, options.faults.clone())?;
        Ok(builder.create_with_backend(backend)?)
    };
    let Some(file) = open_file(path).map_err(|err| Failure::of(path, err))? else {
        let checked = caught(path, || {
            let database = builder.open_read_only(path)?;
            let meta = check(&database)?;
            Ok(meta.map(|meta| (State::Readable(database), meta)))
        })?;
        return checked.map_err(|format| newer(path, format));
    };
    let again = file.try_clone().map_err(|err| Failure::of(path, err))?;
    let checked = caught(path, || {
        let database = writable(file)?;
        let meta = take_over(&database)?;
        Ok(meta.map(|meta| (State::Writable(database), meta)))
    });
    let checked = match checked {
        Err(failure) if failure.kind() == StoreErrorKind::Full => caught(path, || {
            let database = writable(again)?;
            let meta = check(&database)?;
            Ok(meta.map(|meta| (State::Full(database, failure), meta)))
        }),
        checked => checked,
    };
    checked?.map_err(|format| newer(path, format))
}

/// The file, to be written; `None` where it is there and may only be read.
fn open_file(path: &PathBuf) -> Result<Option<fs::File>, io::Error> {
    let may_write = fs::metadata(path).map_or(true, |file| !file.permissions().readonly());
    if !may_write {
        return Ok(None); // Also for who may write what is marked so.
    }
    let mut how = fs::OpenOptions::new();
    let file = how
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    match file {
        Ok(file) => Ok(Some(file)),
        Err(err) if is_refused(&err) && path.exists() => Ok(None),
        Err(err) => Err(err),
    }
}

fn is_refused(err: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    [PermissionDenied, ReadOnlyFilesystem].contains(&err.kind())
}

fn newer(path: &Path, format: u64) -> Failure {
    let path = path.display();
    let what = format!("{path}: of format {format}; this version reads up to {FORMAT}");
    Failure::new(StoreErrorKind::Unsupported, what)
}

/// The format that is too new, if it is.
type Checked<T> = Result<T, u64>;

fn format_of(meta: &impl ReadableTable<&'static str, u64>) -> Result<Checked<()>, Error> {
    match meta.get("format")?.map(|format| format.value()) {
        Some(format) if format <= FORMAT => Ok(Ok(())),
        Some(format) => Ok(Err(format)),
        None => Err(Error::Corrupted("no format is written in it".into())),
    }
}

/// Checks a file that was opened to be read.
fn check(database: &impl ReadableDatabase) -> Result<Checked<Meta>, Error> {
    let read = database.begin_read()?;
    let table = read.open_table(META)?;
    Ok(match format_of(&table)? {
        Ok(()) => Ok(Meta::read(&table)?),
        Err(format) => Err(format),
    })
}

/// Checks a file that was opened, or makes its tables, and marks it as one that was not closed.
fn take_over(database: &Database) -> Result<Checked<Meta>, Error> {
    let write = begin(database)?;
    let is_new = write.list_tables()?.next().is_none();
    let is_ours = write
        .list_tables()?
        .any(|table| table.name() == META.name());
    if !is_ours && !is_new {
        return Err(Error::Corrupted("the file of another program".into()));
    }
    let mut tables = tables(&write)?;
    if is_new {
        tables.meta.insert("format", FORMAT)?;
    }
    if let Err(format) = format_of(&tables.meta)? {
        return Ok(Err(format));
    }
    let mut meta = Meta::read(&tables.meta)?;
    if !is_new && !meta.clean {
        return Ok(Ok(meta)); // It says so already.
    }
    tables.set_meta(Meta {
        clean: false,
        ..meta
    })?;
    meta.clean |= is_new;
    drop(tables);
    write.commit()?;
    Ok(Ok(meta))
}

#[cfg(test)]
pub(crate) fn set_format(path: &Path, format: u64) -> Result<(), Error> {
    let database = Database::open(path)?;
    let write = database.begin_write()?;
    write.open_table(META)?.insert("format", format)?;
    Ok(write.commit()?)
}
