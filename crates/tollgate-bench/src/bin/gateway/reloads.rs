//! Reloads under load: every answer is a good one, and memory stays as it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{Failure, Stage, load};

const CONNECTIONS: usize = 8;

/// Reloads so often. Fails where a request or a reload does, or memory grows by over a tenth after the
/// first quarter of them: a record keeps up to 64 of its passes, and so those of as many plans that are no
/// longer in force, so memory is flat only once every key has met as many.
#[expect(clippy::print_stdout, reason = "a bench prints")]
pub(crate) async fn run(stage: &Stage, times: usize) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let calls = stage.calls("/full/orders/7");
    let goes_on = {
        let stop = stop.clone();
        move || !stop.load(Ordering::Relaxed)
    };
    let reloads = async {
        let start = Instant::now();
        let mut warm = None;
        for number in 1..=times {
            stage.files.change(number)?;
            stage.files.reload().await?;
            if number * 4 >= times && warm.is_none() {
                warm = Some(stage.tollgate.resident()?);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let warm = warm.unwrap_or_default();
        Ok::<_, Failure>((start.elapsed(), warm, stage.tollgate.resident()?))
    };
    let asked = load::repeated(&calls, CONNECTIONS, goes_on);
    let (asked, (took, warm, end)) = tokio::try_join!(asked, reloads)?;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{times} reloads in {:.0} s, {asked} requests meanwhile, none failed; resident {:.1} MB after a \
         quarter of them, {:.1} MB at the end",
        took.as_secs_f64(),
        megabytes(warm),
        megabytes(end),
    );
    if end > warm + warm / 10 {
        return Err("memory grew".into());
    }
    Ok(())
}
