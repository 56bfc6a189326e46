//! The file: who may have it, what is in it after a clean end, and what happens when it is damaged.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::tz::TimeZone;
use tollgate_core::{
    Clock, ManualClock, Session,
    limits::{Algorithm, CalendarUnit, Limit, Period, Quota, Rate},
    store::{
        Change, Charge, Counter, Expect, LimitStore, ListQuery, SessionStore, Standing,
        StoreErrorKind, Verdict, conformance::block_on,
    },
};
use tollgate_embedded::{EmbeddedOptions, EmbeddedStore};

const ROLE: &str = "TOLLGATE_EMBEDDED_CHILD";
const HOUR: Duration = Duration::from_secs(3600);

fn open(path: &Path, clock: &ManualClock) -> EmbeddedStore {
    EmbeddedOptions::new(path)
        .clock(clock.clone())
        .open()
        .unwrap()
}

fn put(store: &EmbeddedStore, key: &str) {
    let put = store.put(key, Session::default(), Expect::Anything, None);
    block_on(put).unwrap();
}

fn take(store: &EmbeddedStore, charge: &Charge, clock: &ManualClock) -> bool {
    let verdict = block_on(store.take(std::slice::from_ref(charge), clock.now()));
    matches!(verdict.unwrap(), Verdict::Taken(_))
}

fn look(store: &EmbeddedStore, charge: &Charge, clock: &ManualClock) -> Standing {
    match block_on(store.look(std::slice::from_ref(charge), clock.now())).unwrap() {
        Verdict::Taken(taken) => taken.standings[0],
        Verdict::Refused(refused) => refused.standings[0],
    }
}

#[test]
fn a_second_process_is_locked_out() {
    if let Some(path) = env::var_os(ROLE) {
        let err = EmbeddedStore::open(path).unwrap_err();
        println!("{:?}: {err}", err.kind());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "a_second_process_is_locked_out", "--nocapture"])
        .env(ROLE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines();
    let said: String = said.map(|line| line.unwrap() + "\n").collect();
    assert!(child.wait().unwrap().success(), "{said}");
    assert!(said.contains("Unavailable"), "{said}");
    assert!(said.contains(&path.display().to_string()), "{said}");
    assert!(said.contains("in use"), "{said}");

    let err = EmbeddedStore::open(&path).unwrap_err();
    assert_eq!(err.kind(), StoreErrorKind::Unavailable, "nor twice in one");
    put(&store, "ann"); // Nobody is disturbed by it.
    drop(store);
    EmbeddedStore::open(&path).unwrap();
}

#[test]
fn a_clean_end_keeps_counts_to_the_unit() {
    let minute = Duration::from_secs(60);
    let of = |max, period| Limit::from(Quota::per(max, period));
    let limits: Vec<Limit> = vec![
        of(1000, Period::Every(HOUR)),
        of(1000, Period::Never),
        of(1000, Period::calendar(CalendarUnit::Month, TimeZone::UTC)),
        Rate::per(100, minute).into(),
        Rate::per(1000, minute).into(),
        Rate::per(1000, minute)
            .with_algorithm(Algorithm::FixedWindow)
            .into(),
        Rate::per(1000, minute)
            .with_algorithm(Algorithm::Bucket)
            .into(),
        Rate::per(1000, minute)
            .with_algorithm(Algorithm::Gcra)
            .into(),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let clock = ManualClock::at(1_700_000_000);
    let charges: Vec<Charge> = limits
        .into_iter()
        .map(|limit| Charge::new(Counter::new(format!("{limit:?}")), limit))
        .collect();
    // Counters keep the handle of their store.
    let anew = |charge: &Charge| {
        let name = std::str::from_utf8(charge.counter.name()).unwrap();
        Charge::new(Counter::new(name), charge.limit.clone())
    };
    let store = open(&path, &clock);
    for charge in charges.iter().map(anew) {
        for _ in 0..37 {
            assert!(take(&store, &charge, &clock));
        }
        store.give_back(std::slice::from_ref(&charge), clock.now());
    }
    clock.advance(Duration::from_secs(1));
    let before: Vec<Standing> = charges
        .iter()
        .map(|charge| look(&store, &anew(charge), &clock))
        .collect();
    store.close().unwrap();
    for turn in 0..2 {
        let store = open(&path, &clock); // The second time nothing was used in between.
        for (charge, before) in charges.iter().zip(&before) {
            let after = look(&store, &anew(charge), &clock);
            let limit = &charge.limit;
            assert_eq!(after.remaining, before.remaining, "{turn}: {limit:?}");
            if matches!(limit, Limit::Quota(_)) {
                assert_eq!(after.resets_in, before.resets_in, "{turn}: {limit:?}");
            } else {
                let longest = Some(minute + minute / 63); // Of a window in slots.
                assert!(before.resets_in <= after.resets_in, "{turn}: {limit:?}");
                assert!(after.resets_in <= longest, "{turn}: {limit:?}");
            }
        }
    }
    let store = open(&path, &clock);
    for (charge, before) in charges.iter().map(anew).zip(&before) {
        let mut passed = 0;
        while take(&store, &charge, &clock) {
            passed += 1;
        }
        assert_eq!(passed, before.remaining, "{:?}", charge.limit);
    }
}

#[test]
fn periods_end_while_the_store_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let clock = ManualClock::at(1_700_000_000);
    let charge = || Charge::new(Counter::new("ann"), Quota::per(10, Period::Every(HOUR)));
    let (one, store) = (charge(), open(&path, &clock));
    while take(&store, &one, &clock) {}
    drop(store);
    clock.advance(HOUR - Duration::from_secs(1));
    let (one, store) = (charge(), open(&path, &clock));
    assert!(!take(&store, &one, &clock), "a second is left");
    drop(store);
    clock.advance(Duration::from_secs(1));
    let (one, store) = (charge(), open(&path, &clock));
    assert_eq!(look(&store, &one, &clock).remaining, 10);
    assert!(take(&store, &one, &clock), "a new period");
}

#[test]
fn a_reset_is_not_undone_by_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let clock = ManualClock::at(1_700_000_000);
    let charge = || Charge::new(Counter::new("ann"), Quota::per(10, Period::Every(HOUR)));
    let (one, store) = (charge(), open(&path, &clock));
    while take(&store, &one, &clock) {}
    block_on(store.reset("ann")).unwrap();
    assert_eq!(look(&store, &one, &clock).remaining, 10);
    assert!(take(&store, &one, &clock));
    drop(store);
    let store = open(&path, &clock);
    assert_eq!(look(&store, &charge(), &clock).remaining, 9);
    drop(store);
    let store = open(&path, &clock);
    block_on(store.reset("ann")).unwrap(); // Of one that was not asked for since the start.
    assert_eq!(look(&store, &charge(), &clock).remaining, 10);
}

#[test]
fn threads_never_take_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_700_000_000);
    let store = open(&folder.path().join("store.redb"), &clock);
    let charge =
        |name: &str, max| Charge::new(Counter::new(name), Quota::per(max, Period::Every(HOUR)));
    let (one, other) = (charge("x", 700), charge("y", 900));
    let (there, back) = ([one.clone(), other.clone()], [other.clone(), one.clone()]);
    let passed = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for batch in [&there, &back, &there, &back] {
            let (store, clock, passed) = (&store, &clock, &passed);
            scope.spawn(move || {
                while let Verdict::Taken(_) = block_on(store.take(batch, clock.now())).unwrap() {
                    passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 700, "the tighter limit, to the unit");
    assert_eq!(look(&store, &other, &clock).remaining, 200);
}

#[test]
fn a_read_only_file_is_read_and_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    put(&store, "ann");
    store.close().unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();

    let clock = ManualClock::at(1_700_000_000);
    let store = open(&path, &clock);
    assert!(store.is_read_only());
    assert!(block_on(store.get("ann")).unwrap().is_some());
    assert_eq!(
        block_on(store.list(&ListQuery::default())).unwrap().keys,
        ["ann"]
    );
    let put = block_on(store.put("bob", Session::default(), Expect::Anything, None));
    let err = put.unwrap_err();
    assert_eq!(err.kind(), StoreErrorKind::Unavailable);
    assert!(err.to_string().contains("may not be written"), "{err}");
    let stored = [Charge::new(
        Counter::new("ann"),
        Quota::per(9, Period::Never),
    )];
    let err = block_on(store.take(&stored, clock.now())).unwrap_err();
    assert_eq!(err.kind(), StoreErrorKind::Unavailable);
    assert_eq!(
        block_on(store.reset("ann")).unwrap_err().kind(),
        StoreErrorKind::Unavailable
    );
    let short = Charge::new(Counter::new("short"), Rate::per_second(1));
    assert!(take(&store, &short, &clock), "what is not stored goes on");
    assert_eq!(look(&store, &stored[0], &clock).remaining, 9);
    store.close().unwrap();
}

#[test]
fn a_damaged_file_is_told_and_nothing_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    (0..500).for_each(|number| put(&store, &format!("key-{number:03}")));
    store.close().unwrap();
    let whole = fs::read(&path).unwrap();
    let mut kinds = Vec::new();
    let mut check = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        match EmbeddedOptions::new(&path).cached_sessions(1).open() {
            Err(err) => {
                assert!(err.to_string().contains("store.redb"), "{err}");
                kinds.push(err.kind());
            }
            // Where the damage is not seen at once, it is when the page is read, or it hits nothing.
            Ok(store) => {
                for number in 0..500 {
                    let got = block_on(store.get(&format!("key-{number:03}")));
                    kinds.extend(got.err().map(|err| err.kind()));
                }
                let _ = block_on(store.list(&ListQuery::default()));
                let put = store.put("new", Session::default(), Expect::Anything, None);
                let _ = block_on(put);
            }
        }
    };
    check(&whole[..whole.len() / 2]);
    check(&[&[0; 4096], &whole[4096..]].concat());
    for page in 0..(whole.len() / 4096).min(64) {
        let mut damaged = whole.clone();
        damaged[page * 4096..][..4096]
            .iter_mut()
            .for_each(|byte| *byte ^= 0x5A);
        check(&damaged);
    }
    assert!(kinds.contains(&StoreErrorKind::Corrupt), "{kinds:?}");
    fs::write(&path, &whole).unwrap();
    let store = EmbeddedStore::open(&path).unwrap();
    assert!(block_on(store.get("key-499")).unwrap().is_some());
}

#[test]
fn many_sessions_are_listed_in_order_and_found() {
    const SESSIONS: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = EmbeddedOptions::new(&path)
        .cached_sessions(100)
        .open()
        .unwrap();
    std::thread::scope(|scope| {
        for part in 0..8 {
            let store = &store;
            scope.spawn(move || {
                // Polled together, so that they share commits.
                let keys = (part..SESSIONS)
                    .step_by(8)
                    .map(|number| format!("key-{number:05}"));
                let keys: Vec<String> = keys.collect();
                for some in keys.chunks(500) {
                    let puts = some.iter().map(|key| {
                        let put = store.put(key, Session::default(), Expect::Absent, None);
                        Box::pin(async move { put.await.unwrap() })
                    });
                    block_on(futures(puts.collect()));
                }
            });
        }
    });
    assert!(
        store.cached_sessions() <= 200,
        "{}",
        store.cached_sessions()
    );
    drop(store);
    let store = EmbeddedOptions::new(&path)
        .cached_sessions(100)
        .open()
        .unwrap();
    let mut query = ListQuery::default();
    let mut listed = Vec::new();
    loop {
        let page = block_on(store.list(&query)).unwrap();
        listed.extend(page.keys);
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    let all: Vec<String> = (0..SESSIONS)
        .map(|number| format!("key-{number:05}"))
        .collect();
    assert!(listed == all, "{} listed", listed.len());
    for key in &all {
        let found = block_on(store.get(key)).unwrap().unwrap();
        assert_eq!(found.key().as_str(), key);
    }
    assert!(
        store.cached_sessions() <= 200,
        "{}",
        store.cached_sessions()
    );
    assert!(block_on(store.compact()).is_ok());
    assert!(block_on(store.get(&all[7])).unwrap().is_some());
}

/// Polls all of them together.
async fn futures<F: Future + Unpin>(mut futures: Vec<F>) {
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| std::pin::Pin::new(future).poll(cx).is_pending());
        if futures.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[test]
fn lifetimes_go_on_over_a_restart_and_ended_records_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let clock = ManualClock::at(1_700_000_000);
    let store = open(&path, &clock);
    for number in 0..40 {
        let key = format!("short-{number}");
        let put = store.put(&key, Session::default(), Expect::Absent, Some(HOUR));
        block_on(put).unwrap();
    }
    drop(store);
    clock.advance(HOUR - Duration::from_secs(1));
    let store = open(&path, &clock);
    assert!(block_on(store.get("short-3")).unwrap().is_some());
    clock.advance(Duration::from_secs(1));
    assert!(block_on(store.get("short-3")).unwrap().is_none());
    assert!(matches!(store.try_get("short-3"), Some(None)));
    assert!(!block_on(store.delete("short-4")).unwrap(), "it had ended");
    let keys = || block_on(store.list(&ListQuery::default())).unwrap().keys;
    assert!(keys().is_empty(), "{:?}", keys());
    (0..15).for_each(|_| put(&store, "long"));
    assert_eq!(keys(), ["long"]);
}

#[test]
fn changes_are_told_once_they_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path().join("store.redb")).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (sink, asked) = (heard.clone(), store.clone());
    store.on_change(Arc::new(move |change| {
        if let Change::Key(key) = change {
            let is_there = asked.try_get(key).flatten().is_some();
            sink.lock().unwrap().push((key.to_owned(), is_there));
        }
    }));
    put(&store, "ann");
    assert!(block_on(store.delete("ann")).unwrap());
    let told = [("ann".to_owned(), true), ("ann".to_owned(), false)];
    assert_eq!(*heard.lock().unwrap(), told);
}
