//! How variants are timed: in one process, in turn, by medians.
//!
//! Machines are shared and noisy, so a time alone says little. All variants of a table run in turn,
//! one short batch each, many times over; the table has the median of each and its ratio to the first
//! variant and to a peer. `docs/performance.md` says what came out.

pub mod soak;

use std::{fs, pin::Pin, time::Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One variant: its name, and how to run a batch of so many calls.
pub struct Variant {
    name: String,
    run: Box<Run>,
}

type Run = dyn FnMut(u32) -> Pin<Box<dyn Future<Output = ()>>>;

impl Variant {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A variant that runs asynchronously.
    pub fn new<F, Fut>(name: &str, mut run: F) -> Self
    where
        F: FnMut(u32) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        Self {
            name: name.into(),
            run: Box::new(move |calls| Box::pin(run(calls))),
        }
    }

    /// A variant that runs a closure so many times.
    pub fn of_calls(name: &str, mut call: impl FnMut() + 'static) -> Self {
        let name = name.into();
        let run = move |calls| -> Pin<Box<dyn Future<Output = ()>>> {
            for _ in 0..calls {
                call();
            }
            Box::pin(std::future::ready(()))
        };
        Self {
            name,
            run: Box::new(run),
        }
    }
}

/// What came out for one variant, in nanoseconds a call.
#[derive(Clone, Debug)]
pub struct Row {
    /// The variant's name.
    pub name: String,
    /// The median over all rounds.
    pub median: f64,
    /// The fastest round.
    pub fastest: f64,
}

/// Runs variants in turn, so many rounds of so many calls.
pub async fn run(mut variants: Vec<Variant>, rounds: usize, calls: u32) -> Vec<Row> {
    let mut samples = vec![Vec::with_capacity(rounds); variants.len()];
    for variant in &mut variants {
        (variant.run)(calls).await; // Warms caches, and builds what is built once.
    }
    for _ in 0..rounds {
        for (variant, samples) in variants.iter_mut().zip(&mut samples) {
            let start = Instant::now();
            (variant.run)(calls).await;
            samples.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
        }
    }
    let row = |(variant, mut samples): (Variant, Vec<f64>)| {
        samples.sort_by(f64::total_cmp);
        Some(Row {
            name: variant.name,
            median: *samples.get(samples.len() / 2)?,
            fastest: *samples.first()?,
        })
    };
    variants.into_iter().zip(samples).filter_map(row).collect()
}

/// Prints a table. What a layer costs is its time less that of the first row, the bare service; the
/// last column sets that beside the cost of `peer`.
#[expect(clippy::print_stdout, reason = "a bench prints")]
pub fn print(title: &str, rows: &[Row], peer: usize) {
    println!("\n## {title}\n");
    println!("| variant | median ns | fastest ns | cost ns | × peer's cost |");
    println!("|---|---:|---:|---:|---:|");
    let base = rows[0].median;
    let peer_cost = rows[peer].median - base;
    for row in rows {
        let cost = row.median - base;
        let ratio = if peer == 0 {
            row.median / base
        } else {
            cost / peer_cost
        };
        println!(
            "| {} | {:.0} | {:.0} | {cost:.0} | {ratio:.2} |",
            row.name, row.median, row.fastest
        );
    }
}

/// What is resident of this process, in bytes; zero where the system does not tell.
pub fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    resident_in(&status).unwrap_or_default()
}

/// What is resident of a process, in bytes, by its `/proc/…/status`.
pub fn resident_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Keeps this thread on one core, where there are so many.
pub fn pin(index: usize) {
    let Ok(all) = sched_getaffinity(None) else {
        return;
    };
    let core = (0..CpuSet::MAX_CPU)
        .filter(|core| all.is_set(*core))
        .nth(index);
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(core);
        let _ = sched_setaffinity(None, &set); // It is less even without, that is all.
    }
}
