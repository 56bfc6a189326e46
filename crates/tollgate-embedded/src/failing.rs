//! What the store does on a disk that fails, and with files that it can not use.

use std::{io, path::Path, time::Duration};

use tollgate_core::{
    ManualClock, Session, StoreError,
    limits::{Period, Quota},
    store::{
        Charge, Counter, Expect, LimitStore, ListQuery, SessionStore, StoreErrorKind, Verdict,
        conformance::block_on,
    },
};

use crate::{Chunks, EmbeddedOptions, EmbeddedStore, backend::Faults, file};

struct Failing {
    _folder: tempfile::TempDir,
    options: EmbeddedOptions,
    faults: Faults,
    clock: ManualClock,
    store: EmbeddedStore,
}

impl Failing {
    fn new(cached_sessions: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(1_700_000_000);
        let mut options = EmbeddedOptions::new(folder.path().join("store.redb"))
            .cached_sessions(cached_sessions)
            .chunks(Chunks::of_at_most(5))
            .clock(clock.clone());
        let faults = Faults::default();
        options.faults = faults.clone();
        Self {
            _folder: folder,
            faults,
            clock,
            store: options.clone().open().unwrap(),
            options,
        }
    }

    fn put(&self, key: &str) -> Result<(), StoreError> {
        let session = Session {
            alias: "x".repeat(2000),
            ..Session::default()
        };
        let put = self.store.put(key, session, Expect::Anything, None);
        block_on(put).map(drop)
    }

    fn is_there(&self, key: &str) -> bool {
        block_on(self.store.get(key)).unwrap().is_some()
    }

    fn take(&self, name: &str) -> Result<bool, StoreError> {
        let quota = Quota::per(100, Period::Every(Duration::from_secs(3600)));
        let batch = [Charge::new(Counter::new(name), quota)];
        let now = tollgate_core::Clock::now(&self.clock);
        let verdict = block_on(self.store.take(&batch, now))?;
        Ok(matches!(verdict, Verdict::Taken(_)))
    }
}

/// Runs into the failure, and out of it again.
#[track_caller]
fn check(fault: io::ErrorKind, kind: StoreErrorKind) {
    let failing = Failing::new(1000);
    let key = |number: usize| format!("before-{number}");
    (0..50).for_each(|number| failing.put(&key(number)).unwrap());
    assert!(failing.take("ann").unwrap());

    failing.faults.set(Some(fault));
    // A disk that is full takes what still fits.
    let failure = (0..500).find_map(|number| failing.put(&format!("into-{number}")).err());
    let failure = failure.expect("a write fails");
    assert_eq!(failure.kind(), kind, "{failure}");
    assert!(failure.to_string().contains("store.redb"), "{failure}");
    assert!(std::error::Error::source(&failure).is_some());

    let at_once = failing.store.try_get(&key(49));
    assert!(matches!(at_once, Some(Some(_))), "in memory it is found");
    let mut passed = 0;
    let refused = loop {
        match failing.take("ann") {
            Ok(true) => passed += 1,
            Ok(false) => panic!("that would be a wrong answer"),
            Err(err) => break err,
        }
        if passed == 99 {
            break failure; // It had room for that.
        }
    };
    assert!(4 <= passed, "a chunk is used up: {passed}");
    assert_eq!(refused.kind(), kind, "{refused}");

    failing.faults.set(None);
    failing.clock.advance(Duration::from_secs(1)); // The file is not tried more often.
    failing.put("after").unwrap();
    assert!(failing.is_there("after"));
    (0..50).for_each(|number| assert!(failing.is_there(&key(number)), "{number}"));
    while failing.take("ann").unwrap() {
        passed += 1;
    }
    assert_eq!(
        passed, 99,
        "not more than the quota, and what failed was not lost"
    );
}

#[test]
fn a_full_disk_is_told_and_gone_past() {
    check(io::ErrorKind::StorageFull, StoreErrorKind::Full);
}

#[test]
fn a_disk_that_fails_is_told_and_gone_past() {
    check(io::ErrorKind::TimedOut, StoreErrorKind::Unavailable);
    check(
        io::ErrorKind::ReadOnlyFilesystem,
        StoreErrorKind::Unavailable,
    );
}

#[test]
fn on_a_full_disk_all_is_still_read() {
    let failing = Failing::new(10); // Most are in the file alone.
    (0..50).for_each(|number| failing.put(&format!("before-{number}")).unwrap());
    failing.faults.set(Some(io::ErrorKind::StorageFull));
    let failure = (0..500).find_map(|number| failing.put(&format!("into-{number}")).err());
    assert!(failure.is_some());
    (0..50).for_each(|number| assert!(failing.is_there(&format!("before-{number}")), "{number}"));
    let query = ListQuery {
        prefix: "before-".into(),
        ..ListQuery::default()
    };
    assert_eq!(block_on(failing.store.list(&query)).unwrap().keys.len(), 50);
}

#[test]
fn a_start_on_a_full_disk_reads_and_goes_on_when_there_is_room() {
    let mut failing = Failing::new(10);
    (0..50).for_each(|number| failing.put(&format!("before-{number}")).unwrap());
    failing.faults.set(Some(io::ErrorKind::StorageFull));
    while failing
        .put(&format!("into-{}", failing.store.counters()))
        .is_ok()
    {
        let _ = failing.take(&format!("{:?}", std::time::Instant::now()));
    }
    let _ = failing.store.close(); // It may fit.
    failing.store = failing.options.clone().open().unwrap();
    (0..50).for_each(|number| assert!(failing.is_there(&format!("before-{number}")), "{number}"));
    failing.faults.set(None);
    failing.clock.advance(Duration::from_secs(1));
    failing.put("after").unwrap();
}

#[track_caller]
fn check_unusable(path: &Path, kind: StoreErrorKind, says: &str) {
    let err = EmbeddedStore::open(path).unwrap_err();
    assert_eq!(err.kind(), kind, "{err}");
    let text = err.to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(text.contains(says), "{text}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    EmbeddedStore::open(&path).unwrap().close().unwrap();
    file::set_format(&path, 2).unwrap();
    check_unusable(&path, StoreErrorKind::Unsupported, "of format 2");
    file::set_format(&path, 1).unwrap();
    EmbeddedStore::open(&path).unwrap();
}

#[test]
fn the_file_of_another_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.redb");
    let table = redb::TableDefinition::<&str, u64>::new("other");
    let other = redb::Database::create(&path).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(table).unwrap().insert("a", 1).unwrap();
    write.commit().unwrap();
    drop(other);
    check_unusable(&path, StoreErrorKind::Corrupt, "not a file of this store");

    let path = folder.path().join("text");
    std::fs::write(&path, "what somebody wrote\n".repeat(1000)).unwrap();
    check_unusable(&path, StoreErrorKind::Corrupt, "not a file of this store");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("what somebody wrote"), "it is as it was");

    let path = folder.path().join("missing/store.redb");
    check_unusable(&path, StoreErrorKind::Unavailable, "folder does not exist");
}
