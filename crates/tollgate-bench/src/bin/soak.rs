//! What a million sessions take, and that it does not grow while keys come and go.
//!
//! ```text
//! cargo run --release -p tollgate-bench --bin soak [sessions] [seconds]
//! ```
//!
//! Fails if what is held at the end is more than after every session was replaced three times, by over two per
//! cent.

use std::time::{Duration, Instant};

use tollgate::clock::TokioClock;
use tollgate_bench::{resident, soak::Churn};

fn argument(at: usize, otherwise: usize) -> usize {
    std::env::args().nth(at).map_or(otherwise, |number| {
        number.parse().expect("soak [sessions] [seconds]")
    })
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn main() {
    let (sessions, seconds) = (argument(1, 1_000_000), argument(2, 600));
    let before = resident();
    let each = |bytes: u64| bytes.saturating_sub(before) / sessions as u64;
    let mut churn = Churn::new(sessions, TokioClock);
    println!(
        "{sessions} sessions stored: {} bytes each",
        each(resident())
    );
    churn.ask_all();
    println!("each asked once: {} bytes each", each(resident()));

    let start = Instant::now();
    let (share, mut replaced) = (sessions / 200, 0);
    let until = Duration::from_secs(seconds as u64);
    let mut warm = None;
    while start.elapsed() < until {
        churn.replace(share);
        replaced += share;
        // By then freed memory is in use again, and counters of keys that went are swept as others come.
        if warm.is_none() && 3 * sessions <= replaced {
            warm = Some(resident());
        }
        if replaced % sessions < share {
            let (bytes, counters) = (each(resident()), churn.counters());
            let time = start.elapsed().as_secs();
            println!("{time} s: {replaced} replaced, {bytes} bytes each, {counters} counters");
        }
    }
    let warm = warm.expect("time enough to replace every session three times");
    let end = resident();
    println!("after three rounds of the churn {warm} bytes, at the end {end}");
    assert!(end <= warm + warm / 50, "memory grew");
}
