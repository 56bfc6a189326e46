//! What is left after kill -9: this program is started again as the process that is killed.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tollgate_core::{
    Moment, Session,
    clock::machine_time,
    limits::{Limit, Period, Quota, Rate},
    store::{
        Charge, Counter, Expect, LimitStore, ReadyCharges, SessionStore, Verdict,
        conformance::block_on,
    },
};
use tollgate_embedded::{Chunks, EmbeddedStore};

const ROLE: &str = "TOLLGATE_EMBEDDED_CHILD";
const KEYS: usize = 4;
const QUOTA: u64 = 3000;

fn quota() -> Limit {
    Quota::per(QUOTA, Period::Every(Duration::from_secs(24 * 3600))).into()
}

fn counter(key: usize) -> String {
    format!("quota-of-{key}")
}

/// Takes and puts until it is killed, and says so.
///
/// A unit is told when it is asked for and once more when it was admitted, so that the reader has a
/// bound on both sides.
fn work(path: &Path) -> ! {
    let store = EmbeddedStore::open(path).unwrap();
    let told = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for key in 0..KEYS {
            let store = &store;
            scope.spawn(move || {
                let charges = [Charge::new(Counter::new(counter(key)), quota())];
                let ready = ReadyCharges::new(charges);
                loop {
                    say(&format!("ask {key}"));
                    let is_admitted = store.try_admit(&ready, machine_time())
                        || matches!(take(store, ready.charges()), Verdict::Taken(_));
                    say(&format!(
                        "{} {key}",
                        if is_admitted { "took" } else { "left" }
                    ));
                    if !is_admitted {
                        return;
                    }
                }
            });
        }
        for _ in 0..2 {
            let (store, told) = (&store, &told);
            scope.spawn(move || {
                loop {
                    let number = told.fetch_add(1, Relaxed);
                    let key = format!("session-{}-{number}", std::process::id());
                    let put = store.put(&key, Session::default(), Expect::Absent, None);
                    block_on(put).unwrap();
                    say(&format!("put {key}"));
                }
            });
        }
    });
    unreachable!("it is killed")
}

/// One line, in one write: lines of threads do not mix, and what was said is with the reader.
fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

fn take(store: &EmbeddedStore, batch: &[Charge]) -> Verdict {
    block_on(store.take(batch, machine_time())).unwrap()
}

fn start(path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_process_loses_no_session_and_oversells_nothing",
            "--nocapture",
        ])
        .env(ROLE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a killed process said.
#[derive(Default)]
struct Said {
    asked: HashMap<usize, u64>,
    took: HashMap<usize, u64>,
    left: HashMap<usize, u64>,
    sessions: Vec<String>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let Some((what, of)) = line.split_once(' ') else {
            return;
        };
        let numbers = match what {
            "ask" => &mut self.asked,
            "took" => &mut self.took,
            "left" => &mut self.left,
            "put" => return self.sessions.push(of.into()),
            _ => return,
        };
        if let Ok(key) = of.parse() {
            *numbers.entry(key).or_default() += 1;
        }
    }

    fn total(&self) -> u64 {
        self.took.values().sum()
    }
}

/// Runs a process until it has taken so much, or says no more, and kills it.
fn run(path: &Path, said: &mut Said, until: u64) {
    let mut child = start(path);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (end, deadline) = (
        said.total() + until,
        Instant::now() + Duration::from_secs(60),
    );
    let all_left = |said: &Said| said.left.len() == KEYS;
    while said.total() < end && !all_left(said) {
        assert!(Instant::now() < deadline, "it goes on");
        said.hear(&lines.next().expect("it runs").unwrap());
    }
    child.kill().unwrap(); // With SIGKILL.
    for line in lines {
        // What it said before it was killed; the last line may be half a line.
        said.hear(&line.unwrap_or_default());
    }
    child.wait().unwrap();
}

#[test]
fn a_killed_process_loses_no_session_and_oversells_nothing() {
    if let Some(path) = env::var_os(ROLE) {
        work(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let chunk = Chunks::default().of(QUOTA);
    let mut sessions = Vec::new();
    let mut before = [0; KEYS];
    for crash in 0..12 {
        let mut said = Said::default();
        run(&path, &mut said, 600);
        let store = EmbeddedStore::open(&path).unwrap();
        for (key, before) in before.iter_mut().enumerate() {
            let of = |numbers: &HashMap<usize, u64>| numbers.get(&key).copied().unwrap_or(0);
            // The crash may have come between an admission and its line.
            let (took, asked) = (of(&said.took), of(&said.asked) - of(&said.left));
            let now = used(&store, key);
            let counted = now - *before;
            assert!(
                took <= counted,
                "{crash}, {key}: {took} taken, {counted} counted"
            );
            assert!(
                counted <= asked + chunk,
                "{crash}, {key}: {asked}, {counted} counted"
            );
            *before = now;
        }
        sessions.append(&mut said.sessions);
        for key in &sessions {
            assert!(
                block_on(store.get(key)).unwrap().is_some(),
                "{key} is there"
            );
        }
    }
    assert!(sessions.len() > 10, "sessions were put");
}

fn used(store: &EmbeddedStore, key: usize) -> u64 {
    let charge = [Charge::new(Counter::new(counter(key)), quota())];
    match block_on(store.look(&charge, machine_time())).unwrap() {
        Verdict::Taken(taken) => QUOTA - taken.standings[0].remaining,
        Verdict::Refused(_) => QUOTA,
    }
}

#[test]
fn after_a_crash_short_windows_begin_full() {
    if let Some(path) = env::var_os(ROLE) {
        let store = EmbeddedStore::open(path).unwrap();
        let short = [Charge::new(
            Counter::new("short"),
            Rate::per(2, Duration::from_secs(5)),
        )];
        assert!(matches!(take(&store, &short), Verdict::Taken(_)));
        say("took 0");
        std::thread::park();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "after_a_crash_short_windows_begin_full",
            "--nocapture",
        ])
        .env(ROLE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("took 0")));
    child.kill().unwrap();
    child.wait().unwrap();

    let store = EmbeddedStore::open(&path).unwrap();
    let start = machine_time();
    let taken = |name: &str, limit: Rate, at: Moment| {
        let batch = [Charge::new(Counter::new(name), limit)];
        match block_on(store.take(&batch, at)).unwrap() {
            Verdict::Taken(_) => true,
            Verdict::Refused(refused) => {
                assert!(refused.retry_in.unwrap() <= limit.window);
                false
            }
        }
    };
    for seconds in [1, 5, 9] {
        let limit = Rate::per(2, Duration::from_secs(seconds));
        for name in ["short", "never asked for"] {
            let name = format!("{name} {seconds}");
            let at = |by: Duration| start.after(by);
            assert!(!taken(&name, limit, at(Duration::ZERO)), "{seconds} s");
            assert!(taken(&name, limit, at(limit.window)), "a window later");
        }
    }
    assert!(taken("long", Rate::per(2, Duration::from_secs(10)), start));
    drop(store);
    let store = EmbeddedStore::open(&path).unwrap();
    let short = [Charge::new(
        Counter::new("short"),
        Rate::per(2, Duration::from_secs(5)),
    )];
    assert!(
        matches!(take(&store, &short), Verdict::Taken(_)),
        "after a clean end it begins empty"
    );
}
