//! Measures a store of so many keys: `cargo run --release -p tollgate-embedded --example keys -- 1000000`.
//!
//! It prints how long writing, opening and opening after a crash take, how large a key is in the file
//! and in memory, and how long a page of a listing, a look-up and a decision take. The file is made in
//! the folder for temporary files and removed.

#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    fs,
    path::Path,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use tollgate_core::{
    Session,
    clock::machine_time,
    limits::{Period, Quota, Rate},
    store::{
        Charge, Counter, Expect, LimitStore, ListQuery, MemoryStore, ReadyCharges, SessionStore,
        Verdict,
    },
};
use tollgate_embedded::{Chunks, EmbeddedOptions, EmbeddedStore};

type Done = Result<(), Box<dyn Error>>;

const PHASE: &str = "TOLLGATE_KEYS_PHASE";
const FILE: &str = "TOLLGATE_KEYS_FILE";

/// Each part has a process of its own, so that none has the memory of another.
const PHASES: [&str; 5] = ["write", "read", "memory", "crash", "mend"];

fn main() -> Done {
    let keys = std::env::args()
        .nth(1)
        .map_or(Ok(20_000), |keys| keys.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    if let (Ok(phase), Some(path)) = (std::env::var(PHASE), std::env::var_os(FILE)) {
        return runtime.block_on(run(&phase, Path::new(&path), keys));
    }
    let folder = tempfile::tempdir()?;
    println!("{keys} keys");
    for phase in PHASES {
        std::process::Command::new(std::env::current_exe()?)
            .arg(keys.to_string())
            .env(PHASE, phase)
            .env(FILE, folder.path().join("keys.redb"))
            .status()?;
    }
    Ok(())
}

fn key(number: usize) -> String {
    // Spread, as hashes are.
    let spread = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{spread:016x}{number:016x}")
}

fn session(number: usize) -> Result<Session, Box<dyn Error>> {
    let json = format!(
        r#"{{"rate": 100, "per": 1, "quota_max": 100000, "quota_renewal_rate": 86400,
            "org_id": "5e9d9544a1dcd60001d0ed20", "alias": "user-{number}",
            "apply_policies": ["gold"], "meta_data": {{"user": "u{number}", "plan": "gold"}}}}"#
    );
    Ok(json.parse()?)
}

async fn run(phase: &str, path: &Path, keys: usize) -> Done {
    // So that it is the decisions that are measured below, and not the disk.
    let chunks = Chunks::of_at_most(10_000_000);
    let start = Instant::now();
    let store = EmbeddedOptions::new(path).chunks(chunks).open()?;
    let opened = start.elapsed();
    match phase {
        "write" => {
            let start = Instant::now();
            write(&store, keys).await?;
            told("written, up to 1000 to a commit", start.elapsed());
            println!("{:>12} KiB resident then", resident());
            store.close()?;
            sized(path, keys, "a key in the file")?;
        }
        "read" => {
            told("opened", opened);
            println!("{:>12} KiB resident then", resident());
            pages(&store, keys).await?;
            look_ups(&store, keys).await?;
            decisions(&store).await?;
        }
        "memory" => {
            drop(store);
            memory(path, keys).await?;
        }
        "crash" => {
            write(&store, keys.min(5000)).await?;
            std::process::exit(1); // Without closing.
        }
        _ => {
            told("opened after a crash", opened);
            sized(path, keys, "a key in the file then")?;
            let start = Instant::now();
            let is_smaller = store.compact().await?;
            told("compacted", start.elapsed());
            sized(
                path,
                keys,
                &format!("a key in the file then ({is_smaller})"),
            )?;
            store.close()?;
            sized(path, keys, "a key in the file when it is closed")?;
        }
    }
    Ok(())
}

fn sized(path: &Path, keys: usize, what: &str) -> Done {
    let len = fs::metadata(path)?.len();
    println!(
        "{:>12} bytes {what}, {} MiB in all",
        len / keys as u64,
        len >> 20
    );
    Ok(())
}

async fn memory(path: &Path, keys: usize) -> Done {
    let some = keys.min(100_000);
    let store = EmbeddedOptions::new(path)
        .cached_sessions(2 * some)
        .open()?;
    store.get(&key(0)).await?;
    let before = resident();
    for number in 0..some {
        store.get(&key(number)).await?;
    }
    let grown = resident().saturating_sub(before) * 1024 / some as u64;
    println!("{grown:>12} bytes a session in memory");
    let charges: Vec<[Charge; 1]> = (0..some).map(|number| quota(&key(number))).collect();
    let (before, start) = (resident(), Instant::now());
    for some in charges.chunks(1000) {
        let takes = some.iter().map(|batch| store.take(batch, machine_time()));
        together(takes.collect()).await?;
    }
    told(
        &format!("first takes of {some} quotas, 1000 together"),
        start.elapsed(),
    );
    let grown = resident().saturating_sub(before) * 1024 / some as u64;
    println!("{grown:>12} bytes a stored counter in memory");
    let start = Instant::now();
    store.close()?;
    told("closed, and their marks settled", start.elapsed());
    Ok(())
}

async fn write(store: &EmbeddedStore, keys: usize) -> Done {
    for start in (0..keys).step_by(4000) {
        let numbers = start..(start + 4000).min(keys);
        let mut records = Vec::new();
        for number in numbers {
            records.push((key(number), session(number)?));
        }
        let puts = records
            .iter()
            .map(|(key, session)| store.put(key, session.clone(), Expect::Anything, None));
        together(puts.collect()).await?;
    }
    Ok(())
}

/// Polls all of them together.
async fn together<T, E: Error + 'static>(
    futures: Vec<impl Future<Output = Result<T, E>>>,
) -> Result<(), Box<dyn Error>> {
    let mut futures: Vec<Pin<Box<_>>> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        let mut failed = None;
        futures.retain_mut(|future| match future.as_mut().poll(cx) {
            Poll::Ready(Err(err)) => {
                failed = Some(err);
                false
            }
            poll => poll.is_pending(),
        });
        match failed {
            Some(err) => Poll::Ready(Err(err.into())),
            None if futures.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

async fn pages(store: &EmbeddedStore, keys: usize) -> Done {
    let mut query = ListQuery {
        limit: Some(100),
        ..ListQuery::default()
    };
    let mut times = Vec::new();
    for page in 0..200 {
        // Anywhere in the list.
        let spread = key(page * keys / 200);
        query.cursor = Some(spread);
        let start = Instant::now();
        store.list(&query).await?;
        times.push(start.elapsed());
    }
    percentiles("a page of 100", &mut times);
    query.limit = None;
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        store.list(&query).await?;
        times.push(start.elapsed());
    }
    percentiles("a page of 1000", &mut times);
    Ok(())
}

async fn look_ups(store: &EmbeddedStore, keys: usize) -> Done {
    let mut times = Vec::new();
    for number in 0..5000 {
        let key = key(number * 7919 % keys);
        let start = Instant::now();
        store.get(&key).await?;
        times.push(start.elapsed());
    }
    percentiles("a look-up in the file", &mut times);
    let known = key(4999 * 7919 % keys);
    each("a look-up in memory", || store.try_get(&known).is_some());
    let mut times = Vec::new();
    for number in 0..200 {
        let start = Instant::now();
        let key = key(number % keys);
        let put = store.put(&key, session(number)?, Expect::Anything, None);
        put.await?;
        times.push(start.elapsed());
    }
    percentiles("a write alone", &mut times);
    Ok(())
}

fn quota(name: &str) -> [Charge; 1] {
    let quota = Quota::per(100_000, Period::Every(Duration::from_secs(86_400)));
    [Charge::new(Counter::new(name), quota)]
}

fn limits() -> [Charge; 2] {
    let quota = Quota::per(1_000_000_000, Period::Every(Duration::from_secs(86_400)));
    [
        Charge::new(Counter::new("rate"), Rate::per_second(1_000_000_000)),
        Charge::new(Counter::new("quota"), quota),
    ]
}

async fn decisions(store: &EmbeddedStore) -> Done {
    let charges = limits();
    let taken = store.take(&charges, machine_time()).await?;
    assert!(matches!(taken, Verdict::Taken(_)));
    let ready = ReadyCharges::new(charges);
    let mut waited = 0_u64;
    each("a rate and a quota", || {
        let is_admitted = store.try_admit(&ready, machine_time());
        waited += u64::from(!is_admitted);
        is_admitted
    });
    println!("{waited:>12} of these would have waited for the file");
    let charges = limits();
    let (memory, ready) = (MemoryStore::new(), ReadyCharges::new(charges));
    memory.try_take_ready(&ready, machine_time());
    each("the same in a store in memory", || {
        memory.try_admit(&ready, machine_time())
    });
    Ok(())
}

fn each(what: &str, mut work: impl FnMut() -> bool) {
    const TIMES: u32 = 1_000_000;
    let start = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(work());
    }
    println!("{:>9} ns {what}", (start.elapsed() / TIMES).as_nanos());
}

fn told(what: &str, time: Duration) {
    println!("{:>9} ms {what}", time.as_millis());
}

fn percentiles(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_micros();
    println!(
        "{:>9} µs {what}, half of them; {} µs 99 of 100",
        at(50),
        at(99)
    );
}

/// Of this process, in KiB; zero where the system does not tell.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
