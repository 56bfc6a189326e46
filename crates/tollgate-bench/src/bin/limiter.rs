//! What a limit decision costs, beside governor: one hot counter, a million of them, what they take
//! of memory, and several threads on one.
//!
//! ```text
//! cargo run --release -p tollgate-bench --bin limiter [hot|million|memory|threads]
//! ```
//!
//! Our decisions get the time with the call, as the gateway reads it once a request; governor reads
//! its own clock, and has a row with a clock that stands.

use std::{
    io,
    num::NonZeroU32,
    process::Command,
    sync::{Arc, Barrier, Mutex},
    time::{Duration, Instant},
};

use governor::{
    RateLimiter,
    clock::{DefaultClock, FakeRelativeClock},
    state::keyed::DashMapStateStore,
};
use tollgate_bench::{Row, Variant, pin, resident, run};
use tollgate_core::{
    Moment,
    clock::machine_time,
    limits::{Algorithm, Limit, Period, Quota, Rate},
    store::{
        Charge, Counter, CounterName, KeyedLimit, LimitStore, MemoryStore, ReadyCharges, Verdict,
    },
};

const ROUNDS: usize = 41;
const CALLS: u32 = 20_000;
const KEYS: u64 = 1_000_000;
const PAIRS: u64 = 400_000; // Calls of one thread in a round.

/// A limit that is never reached by calls a tenth of a microsecond apart.
const WIDE: u64 = 1_000_000_000;

fn rate(requests: u64, algorithm: Algorithm) -> Limit {
    Rate::per_second(requests).with_algorithm(algorithm).into()
}

fn quota(max: u64) -> Limit {
    Quota::per(max, Period::Every(Duration::from_secs(3600))).into()
}

fn start() -> Moment {
    Moment {
        ticks: 1_000_000_000,
        unix_nanos: 1_700_000_000_000_000_000,
    }
}

fn step(now: &mut Moment, nanos: u64) {
    now.ticks += nanos;
    now.unix_nanos += nanos;
}

fn held(limits: impl IntoIterator<Item = Limit>) -> Vec<Charge> {
    let charge = |(place, limit)| Charge::new(Counter::new(format!("counter {place}")), limit);
    limits.into_iter().enumerate().map(charge).collect()
}

/// Charges held counters again and again, all admitted or all refused.
fn hot(name: &str, limits: impl IntoIterator<Item = Limit>, nanos: u64, used_up: bool) -> Variant {
    let (store, batch, mut now) = (MemoryStore::new(), held(limits), start());
    if used_up {
        while let Some(Verdict::Taken(_)) = store.try_take(&batch, now) {}
    }
    Variant::of_calls(name, move || {
        step(&mut now, nanos);
        let verdict = store.try_take(&batch, now);
        assert!(matches!(verdict, Some(Verdict::Refused(_))) == used_up);
        std::hint::black_box(&verdict);
    })
}

/// The same, without asking where the limits stand: what a stack does that tells nobody, and what
/// governor does.
fn admitted(name: &str, limits: impl IntoIterator<Item = Limit>, nanos: u64) -> Variant {
    let (store, mut now) = (MemoryStore::new(), start());
    let ready = ReadyCharges::new(held(limits));
    Variant::of_calls(name, move || {
        step(&mut now, nanos);
        assert!(store.try_admit(std::hint::black_box(&ready), now));
    })
}

fn governor_quota(used_up: bool) -> governor::Quota {
    if used_up {
        return governor::Quota::per_hour(NonZeroU32::MIN);
    }
    let quota = governor::Quota::with_period(Duration::from_nanos(1)).expect("above zero");
    quota.allow_burst(NonZeroU32::MAX)
}

fn governor_hot(used_up: bool) -> Variant {
    let name = ["governor keyed, u64", "governor keyed, u64: refused"][usize::from(used_up)];
    let limiter = RateLimiter::dashmap(governor_quota(used_up));
    _ = limiter.check_key(&7_u64);
    Variant::of_calls(name, move || {
        let verdict = limiter.check_key(&7_u64);
        assert!(verdict.is_err() == used_up);
        std::hint::black_box(&verdict);
    })
}

fn governor_hot_string() -> Variant {
    let limiter = RateLimiter::dashmap(governor_quota(false));
    let key = long_key(7);
    Variant::of_calls("governor keyed, String of 27", move || {
        std::hint::black_box(&limiter.check_key(&key));
    })
}

fn governor_hot_fake(used_up: bool) -> Variant {
    let name = [
        "governor keyed, u64, clock that stands",
        "governor keyed, u64, clock that stands: refused",
    ][usize::from(used_up)];
    let clock = FakeRelativeClock::default();
    let limiter = RateLimiter::dashmap_with_clock(governor_quota(used_up), clock);
    _ = limiter.check_key(&7_u64);
    Variant::of_calls(name, move || {
        let verdict = limiter.check_key(&7_u64);
        assert!(verdict.is_err() == used_up);
        std::hint::black_box(&verdict);
    })
}

fn governor_direct() -> Variant {
    let limiter = RateLimiter::direct(governor_quota(false));
    Variant::of_calls("governor direct", move || {
        std::hint::black_box(&limiter.check());
    })
}

fn hot_variants() -> Vec<Variant> {
    use Algorithm::{Bucket, FixedWindow, Gcra, Sliding};
    const MS: u64 = 1_000_000;
    let hour = |max, algorithm| {
        let window = Duration::from_secs(3600 * 24);
        Limit::from(Rate::per(max, window).with_algorithm(algorithm))
    };
    vec![
        governor_direct(),
        governor_hot_fake(false),
        governor_hot_string(),
        governor_hot(false),
        admitted("sliding, ring of 100", [rate(100, Sliding)], 10 * MS),
        admitted("sliding, slots, 1000", [rate(1000, Sliding)], 2 * MS),
        admitted("sliding, slots, 1e9", [rate(WIDE, Sliding)], 100),
        admitted("fixed window", [rate(WIDE, FixedWindow)], 100),
        admitted("bucket", [rate(WIDE, Bucket)], 100),
        admitted("gcra", [rate(WIDE, Gcra)], 100),
        admitted("quota", [quota(1 << 50)], 100),
        admitted(
            "batch: sliding 1e9 and quota",
            [rate(WIDE, Sliding), quota(1 << 50)],
            100,
        ),
        admitted(
            "batch: ring of 100 and quota",
            [rate(100, Sliding), quota(1 << 50)],
            10 * MS,
        ),
        hot(
            "sliding, ring of 100, and where it stands",
            [rate(100, Sliding)],
            10 * MS,
            false,
        ),
        hot(
            "sliding, slots, 1e9, and where it stands",
            [rate(WIDE, Sliding)],
            100,
            false,
        ),
        hot("gcra, and where it stands", [rate(WIDE, Gcra)], 100, false),
        hot("quota, and where it stands", [quota(1 << 50)], 100, false),
        hot(
            "batch: sliding 1e9 and quota, and where they stand",
            [rate(WIDE, Sliding), quota(1 << 50)],
            100,
            false,
        ),
        governor_hot_fake(true),
        governor_hot(true),
        hot("ring of 100: refused", [hour(100, Sliding)], 100, true),
        hot("slots, 1000: refused", [hour(1000, Sliding)], 100, true),
        hot("fixed window: refused", [hour(100, FixedWindow)], 100, true),
        hot("bucket: refused", [hour(100, Bucket)], 100, true),
        hot("gcra: refused", [hour(100, Gcra)], 100, true),
        hot("quota: refused", [quota(100)], 100, true),
        hot(
            "batch: ring of 100 and quota: refused",
            [hour(100, Sliding), quota(1 << 50)],
            100,
            true,
        ),
    ]
}

fn long_key(index: u64) -> String {
    format!("user-{index:022}") // 27 bytes.
}

/// The next number of a fixed random sequence.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % KEYS
}

/// Charges a counter that is named for the call.
fn charge(store: &MemoryStore, name: &[u8], limit: &Limit, now: Moment) {
    let charge = Charge::new(CounterName::of(&[name]), limit.clone());
    let verdict = store.try_take(&[charge], now);
    debug_assert!(matches!(verdict, Some(Verdict::Taken(_))));
    std::hint::black_box(&verdict);
}

/// Asks a million names at random for yes or no, as governor does.
fn million(name: &str, limit: Limit, keys: &Arc<Vec<String>>) -> Variant {
    let (store, limit) = (MemoryStore::new(), KeyedLimit::new(limit));
    at_random(name, keys, move |name, now| {
        assert!(store.admit(name, &limit, now));
    })
}

/// The same, and where the limit stands.
fn million_told(name: &str, limit: Limit) -> Variant {
    let (store, name) = (MemoryStore::new(), format!("{name}, and where it stands"));
    at_random(&name, &Arc::default(), move |name, now| {
        charge(&store, name, &limit, now);
    })
}

/// Calls with names at random, after each was called once. Without keys they are numbers of eight bytes.
fn at_random(
    name: &str,
    keys: &Arc<Vec<String>>,
    mut call: impl FnMut(&[u8], Moment) + 'static,
) -> Variant {
    let (keys, mut now, mut state) = (keys.clone(), start(), 1);
    let mut call = move |index: u64, now| match keys.get(index as usize) {
        Some(key) => call(key.as_bytes(), now),
        None => call(&index.to_le_bytes(), now),
    };
    (0..KEYS).for_each(|index| call(index, now));
    Variant::of_calls(name, move || {
        step(&mut now, 100);
        call(random(&mut state), now);
    })
}

fn governor_million_long(keys: &Arc<Vec<String>>) -> Variant {
    let (limiter, mut state) = (RateLimiter::dashmap(governor_quota(false)), 1);
    let keys = keys.clone();
    keys.iter().for_each(|key| _ = limiter.check_key(key));
    Variant::of_calls("governor keyed, String of 27", move || {
        std::hint::black_box(&limiter.check_key(&keys[random(&mut state) as usize]));
    })
}

fn governor_million() -> Variant {
    let (limiter, mut state) = (RateLimiter::dashmap(governor_quota(false)), 1);
    (0..KEYS).for_each(|key| _ = limiter.check_key(&key));
    Variant::of_calls("governor keyed, u64", move || {
        std::hint::black_box(&limiter.check_key(&random(&mut state)));
    })
}

/// As much room as an entry of the table takes, behind a lock, at a random place: one wait for memory and no
/// look-up. Where places are known beforehand the processor waits for several at once.
fn floor(name: &str, next: fn(u64, u64) -> u64) -> Variant {
    let places = (0..KEYS).map(|_| Mutex::new([1_u64; 3]));
    let (places, mut state) = (places.collect::<Vec<_>>(), 1);
    Variant::of_calls(name, move || {
        let place = &places[random(&mut state) as usize];
        let mut place = place.lock().expect("one thread");
        place[0] = std::hint::black_box(place[0] + 1);
        state = next(state, place[1]);
    })
}

fn million_variants() -> Vec<Variant> {
    let (short, long) = (
        &Arc::default(),
        &Arc::new((0..KEYS).map(long_key).collect()),
    );
    let gcra = || rate(WIDE, Algorithm::Gcra);
    let fixed = rate(WIDE, Algorithm::FixedWindow);
    vec![
        governor_million(),
        million("gcra, 8 bytes", gcra(), short),
        million("fixed window, 8 bytes", fixed, short),
        million("quota, 8 bytes", quota(1 << 50), short),
        million_told("gcra, 8 bytes", gcra()),
        governor_million_long(long),
        million("gcra, 27 bytes", gcra(), long),
        floor("32 bytes behind a lock, places known", |state, _| state),
        floor("32 bytes behind a lock, one by one", |state, one| {
            state ^ one ^ 1
        }),
    ]
}

const CASES: [&str; 9] = [
    "gcra",
    "fixed window",
    "bucket",
    "quota",
    "slots, 1000",
    "ring of 10, full",
    "ring of 100, full",
    "governor, u64",
    "governor, String of 27",
];

/// Fills a million counters of one kind and tells by how many bytes the process has grown.
fn grown(case: &str) -> u64 {
    let fill = |limit: Limit, times: u64| {
        let store = MemoryStore::new();
        for key in (0..KEYS).flat_map(|key| (0..times).map(move |_| key)) {
            charge(&store, &key.to_le_bytes(), &limit, start());
        }
        std::mem::forget(store);
    };
    let before = resident();
    match case {
        "gcra" => fill(rate(100, Algorithm::Gcra), 1),
        "fixed window" => fill(rate(100, Algorithm::FixedWindow), 1),
        "bucket" => fill(rate(100, Algorithm::Bucket), 1),
        "quota" => fill(quota(100), 1),
        "slots, 1000" => fill(rate(1000, Algorithm::Sliding), 1),
        "ring of 10, full" => fill(rate(10, Algorithm::Sliding), 10),
        "ring of 100, full" => fill(rate(100, Algorithm::Sliding), 100),
        "governor, u64" => {
            let limiter = RateLimiter::dashmap(governor_quota(true));
            (0..KEYS).for_each(|key| _ = limiter.check_key(&key));
            std::mem::forget(limiter);
        }
        _ => {
            let limiter = RateLimiter::dashmap(governor_quota(true));
            (0..KEYS).for_each(|key| _ = limiter.check_key(&long_key(key)));
            std::mem::forget(limiter);
        }
    }
    resident().saturating_sub(before)
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn memory() -> io::Result<()> {
    println!("\n## Memory, a million keys\n\n| kind | B a key |\n|---|---:|");
    for case in CASES {
        let itself = std::env::current_exe()?;
        let told = Command::new(itself).args(["grown", case]).output()?;
        let bytes: f64 = String::from_utf8_lossy(&told.stdout)
            .trim()
            .parse()
            .map_err(io::Error::other)?;
        println!("| {case} | {:.1} |", bytes / KEYS as f64);
    }
    Ok(())
}

type Work = Box<dyn Fn(u64) + Send + Sync>;

/// Threads of a gateway read one clock, so these do: with times of their own, whoever waits for the other would ask
/// about the past ever more.
fn hot_threads(limits: impl IntoIterator<Item = Limit>) -> Work {
    let (store, ready) = (MemoryStore::new(), ReadyCharges::new(held(limits)));
    Box::new(move |calls| {
        for _ in 0..calls {
            std::hint::black_box(store.try_admit(&ready, machine_time()));
        }
    })
}

fn named_threads() -> Work {
    let store = MemoryStore::new();
    let limit = rate(WIDE, Algorithm::Gcra);
    Box::new(move |calls| {
        for _ in 0..calls {
            charge(&store, b"12345678", &limit, machine_time());
        }
    })
}

fn governor_threads(used_up: bool) -> Work {
    let limiter: RateLimiter<u64, DashMapStateStore<u64>, DefaultClock> =
        RateLimiter::dashmap(governor_quota(used_up));
    Box::new(move |calls| {
        for _ in 0..calls {
            std::hint::black_box(&limiter.check_key(&7));
        }
    })
}

/// Calls a second of all threads together, in millions.
fn throughput(work: &Work, threads: u64) -> f64 {
    let barrier = Barrier::new(threads as usize);
    let ends = std::thread::scope(|scope| {
        let barrier = &barrier;
        let thread = |number| {
            scope.spawn(move || {
                pin(number as usize);
                barrier.wait();
                let start = Instant::now();
                work(PAIRS);
                (start, Instant::now())
            })
        };
        let threads: Vec<_> = (0..threads).map(thread).collect();
        let ends = threads.into_iter().map(|thread| thread.join());
        ends.collect::<Result<Vec<_>, _>>().expect("no panic")
    });
    let start = ends.iter().map(|(start, _)| *start).min();
    let end = ends.iter().map(|(_, end)| *end).max();
    let took = end.zip(start).map(|(end, start)| end - start);
    (threads * PAIRS) as f64 / took.unwrap_or_default().as_secs_f64() / 1e6
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn threads() {
    use Algorithm::{FixedWindow, Gcra, Sliding};
    // A hundred calls take longer than this window; in a longer one, what comes behind them is refused.
    let micro = |max| Limit::from(Rate::per(max, Duration::from_micros(1)));
    let day = |max| Limit::from(Rate::per(max, Duration::from_secs(3600 * 24)));
    let works: [(&str, Work); 9] = [
        ("governor keyed, u64", governor_threads(false)),
        ("gcra", hot_threads([rate(WIDE, Gcra)])),
        ("ring of 100", hot_threads([micro(100)])),
        ("slots, 1e9", hot_threads([rate(WIDE, Sliding)])),
        ("fixed window", hot_threads([rate(WIDE, FixedWindow)])),
        ("gcra, named", named_threads()),
        (
            "batch: slots 1e9 and quota",
            hot_threads([rate(WIDE, Sliding), quota(1 << 50)]),
        ),
        ("governor keyed, u64: refused", governor_threads(true)),
        ("ring of 100: refused", hot_threads([day(100)])),
    ];
    let all = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let mut counts = vec![1, 2, all];
    counts.dedup();
    let mut samples = vec![vec![Vec::new(); counts.len()]; works.len()];
    for _ in 0..9 {
        for ((_, work), samples) in works.iter().zip(&mut samples) {
            for (count, samples) in counts.iter().zip(samples) {
                samples.push(throughput(work, *count));
            }
        }
    }
    println!("\n## One hot counter, several threads: million calls a second of all together\n");
    println!("| kind | threads | M/s | × one thread |\n|---|---:|---:|---:|");
    for ((name, _), samples) in works.iter().zip(samples) {
        let medians = samples.into_iter().map(|mut samples| {
            samples.sort_by(f64::total_cmp);
            samples[samples.len() / 2]
        });
        let medians: Vec<f64> = medians.collect();
        for (count, median) in counts.iter().zip(&medians) {
            let factor = median / medians[0];
            println!("| {name} | {count} | {median:.1} | {factor:.2} |");
        }
    }
}

/// Prints times and their ratio to the last row of governor's above.
#[expect(clippy::print_stdout, reason = "a bench prints")]
fn print(title: &str, rows: &[Row]) {
    println!("\n## {title}\n");
    println!("| variant | median ns | fastest ns | × peer |\n|---|---:|---:|---:|");
    let mut peer = rows[0].median;
    for row in rows {
        if row.name.starts_with("governor") {
            peer = row.median;
        }
        let ratio = row.median / peer;
        println!(
            "| {} | {:.1} | {:.1} | {ratio:.2} |",
            row.name, row.median, row.fastest
        );
    }
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "a bench prints")]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, case] = &arguments[..]
        && first == "grown"
    {
        println!("{}", grown(case));
        return Ok(());
    }
    let wanted = |table: &str| arguments.is_empty() || arguments.iter().any(|one| one == table);
    if wanted("hot") {
        let rows = run(hot_variants(), ROUNDS, CALLS).await;
        print("One hot counter, the time given", &rows);
    }
    if wanted("million") {
        let rows = run(million_variants(), ROUNDS, CALLS).await;
        print("A million bare counters, at random", &rows);
    }
    if wanted("memory") {
        memory()?;
    }
    if wanted("threads") {
        threads();
    }
    Ok(())
}
