//! What the `tollgate` program costs a request, beside a bare proxy on hyper.
//!
//! ```text
//! cargo run --release -p tollgate-bench --bin gateway [rounds] [seconds] [connections] [variant]
//! ```
//!
//! Starts all it needs. On one core: this program, which is both the clients and the upstream. On
//! another: the proxies, [`bare_proxy`](../bare_proxy) and `tollgate` with its own files and an embedded
//! store. In each round every variant is loaded in turn, and a proxy's processor time is divided by the
//! requests it served; ratios are within a round, and the table has the medians.
//! Then the same with requests at fixed times, whether answers came or not (an open loop), once at half of
//! what the last variant can do, and once each at half of its own: a latency counts from when the request was
//! due. Machines stand still for
//! milliseconds now and then, whatever runs on them; so a latency is that of the median window of 25 ms, and the
//! whole rounds' stands beside it.
//!
//! `gateway reloads [times]` has the gateway read its files anew so often, changed each time, while clients
//! ask: no request may fail, and memory may not grow. `scripts/soak` runs it.
//!
//! `gateway keys [count]` makes so many keys in the embedded store, and prints what they cost.
//!
//! With a text as `variant`, only the bare proxy and those with it in their names are run.

mod files;
mod keys;
mod load;
mod process;
mod reloads;
mod upstream;

use std::{
    error::Error,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use self::{
    files::Files,
    load::Call,
    process::{Cores, Process},
};

/// What this program may fail with: it is read by whoever started it.
type Failure = Box<dyn Error>;

/// One row of the tables: who is asked what.
struct Variant<'a> {
    name: &'static str,
    process: &'a Process,
    calls: Vec<Call>,
}

/// What came out of one round.
#[derive(Clone, Copy)]
struct Sample {
    micros: f64,
    per_second: f64,
}

/// How long it is whose latencies are taken together.
const WINDOW: Duration = Duration::from_millis(25);

const USAGE: &str = "gateway [rounds] [seconds] [connections] [variant], gateway reloads [times], gateway keys [count]";

fn argument(at: usize, otherwise: usize) -> Result<usize, Failure> {
    let given = std::env::args().nth(at);
    given.map_or(Ok(otherwise), |number| {
        let parsed = number.parse().ok().filter(|number| *number > 0);
        parsed.ok_or_else(|| USAGE.into())
    })
}

fn main() -> Result<(), Failure> {
    let command = std::env::args().nth(1);
    let cores = Cores::of_machine()?;
    let programs = process::programs()?;
    cores.pin_own()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .event_interval(16) // Sockets are looked at often, also while the open loop spins.
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        if command.as_deref() == Some("keys") {
            let count = argument(2, 1_000_000)?;
            return keys::run(cores, &programs.0, folder.path(), count).await;
        }
        let stage = Stage::set(cores, &programs, folder.path()).await?;
        if command.as_deref() == Some("reloads") {
            return reloads::run(&stage, argument(2, 10_000)?).await;
        }
        compare(&stage).await
    })
}

/// All that runs: the upstream in this process, the proxies, and keys for the gateway.
struct Stage {
    bare: Process,
    bare_address: SocketAddr,
    tollgate: Process,
    address: SocketAddr,
    files: Files,
    tokens: Vec<String>,
}

impl Stage {
    async fn set(
        cores: Cores,
        (tollgate, bare): &(PathBuf, PathBuf),
        folder: &Path,
    ) -> Result<Self, Failure> {
        let upstream = upstream::start().await?;
        let (bare_address, address) = (free()?, free()?);
        let files = Files::write(folder, address, upstream)?;
        let bare = cores.start(bare, &[&bare_address.to_string(), &upstream.to_string()])?;
        let tollgate = cores.start(tollgate, &["serve", "--conf", &files.conf])?;
        for address in [bare_address, address] {
            load::until_open(address).await?;
        }
        Ok(Self {
            tokens: files.make_keys().await?,
            bare,
            bare_address,
            tollgate,
            address,
            files,
        })
    }

    /// Requests to an API of the gateway, with each of the keys.
    fn calls(&self, path: &str) -> Vec<Call> {
        let call = |token: &String| Call::get(self.address, path, token);
        self.tokens.iter().map(call).collect()
    }
}

/// Prints the tables.
#[expect(clippy::print_stdout, reason = "a bench prints")]
async fn compare(stage: &Stage) -> Result<(), Failure> {
    let (rounds, seconds, connections) = (argument(1, 9)?, argument(2, 2)?, argument(3, 32)?);
    let tollgate = |name, calls| Variant {
        name,
        process: &stage.tollgate,
        calls,
    };
    let open = vec![Call::get(stage.address, "/keyless/orders/7?page=2", "none")];
    let bare = Variant {
        name: "bare proxy",
        process: &stage.bare,
        calls: vec![Call::get(stage.bare_address, "/orders/7?page=2", "none")],
    };
    let mut variants = vec![
        tollgate("tollgate, keyless", open),
        tollgate(
            "tollgate, token and rights",
            stage.calls("/token/orders/7?page=2"),
        ),
        tollgate("tollgate, full set", stage.calls("/full/orders/7?page=2")),
    ];
    if let Some(named) = std::env::args().nth(4) {
        variants.retain(|variant| variant.name.contains(&*named));
    }
    variants.insert(0, bare);
    let seconds = Duration::from_secs(seconds as u64);
    let halves = costs(&variants, rounds, seconds, connections).await?;
    let halves: Vec<_> = halves.into_iter().map(|served| served / 2.0).collect();
    let last = halves.last().copied().unwrap_or_default();
    println!("\n## Latency, {last:.0} requests a second\n");
    let same = vec![last; variants.len()];
    latencies(&variants, rounds, seconds, connections, &same).await?;
    println!("\n## Latency, each at half of what it served\n");
    latencies(&variants, rounds, seconds, connections, &halves).await
}

/// A port that nobody has.
fn free() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Prints processor time and memory; returns how many requests a second each variant served.
#[expect(clippy::print_stdout, reason = "a bench prints")]
async fn costs(
    variants: &[Variant<'_>],
    rounds: usize,
    time: Duration,
    connections: usize,
) -> Result<Vec<f64>, Failure> {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); variants.len()];
    for variant in variants {
        load::closed(&variant.calls, connections, time / 2).await?; // Warms caches and pools.
    }
    for _ in 0..rounds {
        for (variant, samples) in variants.iter().zip(&mut samples) {
            let before = variant.process.processor_time()?;
            let (requests, took) = load::closed(&variant.calls, connections, time).await?;
            let used = variant.process.processor_time()? - before;
            samples.push(Sample {
                micros: used.as_secs_f64() * 1e6 / requests as f64,
                per_second: requests as f64 / took.as_secs_f64(),
            });
        }
    }
    println!("\n## Processor time, {connections} connections, as fast as they go\n");
    println!("| variant | µs a request | × bare | requests a second | resident MB |");
    println!("|---|---:|---:|---:|---:|");
    for (variant, own) in variants.iter().zip(&samples) {
        let ratios = own.iter().zip(&samples[0]);
        println!(
            "| {} | {:.1} | {:.2} | {:.0} | {:.1} |",
            variant.name,
            median(own.iter().map(|sample| sample.micros)),
            median(ratios.map(|(own, bare)| own.micros / bare.micros)),
            median(own.iter().map(|sample| sample.per_second)),
            variant.process.resident()? as f64 / 1e6,
        );
    }
    let served = |own: &Vec<Sample>| median(own.iter().map(|sample| sample.per_second));
    Ok(samples.iter().map(served).collect())
}

/// How long answers took.
#[derive(Default)]
struct Latencies {
    /// Half, and 99 of 100, of the requests of each window.
    windows: Vec<[f64; 2]>,
    /// 99 of 100, of each round.
    rounds: Vec<f64>,
    /// Processor time of a request, by round.
    costs: Vec<f64>,
}

impl Latencies {
    fn add(&mut self, mut micros: Vec<f64>, of_window: usize, used: Duration) {
        let cost = used.as_secs_f64() * 1e6 / micros.len() as f64;
        self.costs.push(cost);
        for window in micros.chunks_exact_mut(of_window) {
            self.windows
                .push([0.5, 0.99].map(|part| share(window, part)));
        }
        self.rounds.push(share(&mut micros, 0.99));
    }

    fn of_windows(&self, column: usize) -> f64 {
        median(self.windows.iter().map(|window| window[column]))
    }
}

/// Prints how long answers take at so many requests a second of each variant.
#[expect(clippy::print_stdout, reason = "a bench prints")]
async fn latencies(
    variants: &[Variant<'_>],
    rounds: usize,
    time: Duration,
    connections: usize,
    rates: &[f64],
) -> Result<(), Failure> {
    let mut all: Vec<Latencies> = variants.iter().map(|_| Latencies::default()).collect();
    for _ in 0..rounds {
        for ((variant, latencies), per_second) in variants.iter().zip(&mut all).zip(rates) {
            let before = variant.process.processor_time()?;
            let micros = load::open(&variant.calls, connections, *per_second, time).await?;
            let of_window = (per_second * WINDOW.as_secs_f64()) as usize;
            let used = variant.process.processor_time()? - before;
            latencies.add(micros, of_window.max(1), used);
        }
    }
    println!(
        "| variant | median µs | p99 µs | × bare | p99 of rounds µs | × bare | processor µs | × bare |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    let bare = all[0].of_windows(1);
    let of_rounds = |own: &Latencies| median(own.rounds.iter().copied());
    for (variant, own) in variants.iter().zip(&all) {
        let costs = own.costs.iter().zip(&all[0].costs);
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.0} | {:.2} | {:.1} | {:.2} |",
            variant.name,
            own.of_windows(0),
            own.of_windows(1),
            own.of_windows(1) / bare,
            of_rounds(own),
            of_rounds(own) / of_rounds(&all[0]),
            median(own.costs.iter().copied()),
            median(costs.map(|(own, bare)| own / bare)),
        );
    }
    Ok(())
}

/// The value that this part of the others is not above.
fn share(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part) as usize]
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
