//! Plays the conformance corpus against the `tollgate` program, over sockets: once with the embedded store, and
//! once on a real Redis, where steps that look into it are played too.
//!
//! Cases of one configuration share a gateway and an upstream; several play side by side. One that differs and lasted
//! so long that this may be why is played once more, alone. For each file this prints how many cases are
//!
//! - built: all that they need is there (`needs.rs`), and they say of no defect of the reference;
//! - passing: answered as recorded;
//! - differing: answered otherwise, on purpose, with the reason in `tests/conformance/differences.toml`;
//! - pending: something that they need is not built.
//!
//! Marked cases, of which the record is not what is right (`defect`) or not the only right answer
//! (`newer`), are counted apart. Any other difference fails the run, and so does a reason for a case that
//! passes.
//!
//! `CORPUS=TEXT` plays the cases with TEXT in their names alone, those too that do not count, and tells
//! what went over the wire:
//!
//! ```text
//! CORPUS=st-short cargo test -p tollgate-gateway --test corpus redis -- --nocapture
//! ```

mod case;
mod compare;
mod gateway;
mod ledger;
mod needs;
mod observe;
mod play;
#[path = "../shared/ports.rs"]
mod ports;
mod redis;
mod text;
mod upstream;
mod wire;

use std::{
    collections::BTreeMap,
    env, mem,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    case::{AREAS, Case},
    gateway::{Gateway, Store},
    ledger::{Ledger, Verdict},
    needs::Need,
    play::Played,
};

/// How many gateways there are at a time: more than cores, as cases sleep.
const SIDE_BY_SIDE: usize = 6;

/// How many cases share a gateway, and how long they may sleep in all.
const BATCH: usize = 60;
const BATCH_SLEEPS_MS: u64 = 4000;

/// One store at a time has the machine.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn the_corpus_is_answered_as_recorded() {
    play_on(Store::Embedded);
}

#[test]
fn the_corpus_is_answered_as_recorded_on_redis() {
    play_on(Store::Redis);
}

fn play_on(store: Store) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let cases: Vec<_> = AREAS.iter().flat_map(|area| case::read(area)).collect();
    if let Ok(wanted) = env::var("CORPUS") {
        return play_traced(&cases, &wanted, store);
    }
    let mut ledger = Ledger::read(store);
    let played: Vec<_> = cases
        .iter()
        .filter(|case| unbuilt(case, store).next().is_none())
        .collect();
    let mut verdicts = play_all(&batches(&played), store);
    for case in &cases {
        let verdict = match unbuilt(case, store).next() {
            Some(_) => Verdict::Pending(unbuilt(case, store).collect()),
            None => verdicts
                .remove(case.name.as_str())
                .expect("each batch is played"),
        };
        ledger.count(case, verdict);
    }
    ledger.report();
    ledger.judge();
}

#[test]
fn every_difference_is_told() {
    let page = case::folder().join("../../docs/compatibility.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let untold: Vec<_> = ledger::reasons(Store::Redis)
        .into_keys()
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert!(untold.is_empty(), "docs/compatibility.md lacks {untold:?}");
}

fn unbuilt(case: &Case, store: Store) -> impl Iterator<Item = Need> {
    let needs = needs::of(case).into_iter();
    needs.filter(move |need| !need.is_built(store))
}

/// Cases that can share a gateway, not too many together.
fn batches<'a>(cases: &[&'a Case]) -> Vec<Vec<&'a Case>> {
    let mut groups = BTreeMap::<String, Vec<&Case>>::new();
    for case in cases {
        groups.entry(case.group()).or_default().push(case);
    }
    let mut batches = Vec::new();
    for group in groups.into_values() {
        let mut batch = Vec::new();
        let mut sleeps = 0;
        for case in group {
            if batch.len() == BATCH || sleeps >= BATCH_SLEEPS_MS {
                batches.push(mem::take(&mut batch));
                sleeps = 0;
            }
            sleeps += case.sleeps_ms();
            batch.push(case);
        }
        batches.push(batch);
    }
    // What lasts longest begins first.
    batches.sort_by_key(|batch| {
        let sleeps: u64 = batch.iter().map(|case| case.sleeps_ms()).sum();
        std::cmp::Reverse(sleeps + 20 * batch.len() as u64)
    });
    batches
}

fn play_all<'a>(batches: &[Vec<&'a Case>], store: Store) -> BTreeMap<&'a str, Verdict> {
    let next = AtomicUsize::new(0);
    let (verdicts, late) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for (case, played) in play_batch(batch, store, false) {
                        if played.is_late && !played.differences.is_empty() {
                            late.lock().expect("no panics").push(case);
                        } else {
                            let verdict = Verdict::of(played);
                            let mut verdicts = verdicts.lock().expect("no panics");
                            verdicts.insert(case.name.as_str(), verdict);
                        }
                    }
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().expect("no panics");
    for case in late.into_inner().expect("no panics") {
        verdicts.insert(&case.name, Verdict::of(play_alone(case, store)));
    }
    verdicts
}

/// Plays a case that was late, on a gateway of its own, until it is in time. Where it never is, what differs last
/// counts.
fn play_alone(case: &Case, store: Store) -> Played {
    let play = || play_batch(&[case], store, false).remove(0).1;
    let mut played = play();
    for _ in 0..2 {
        if !played.is_late || played.differences.is_empty() {
            break;
        }
        played = play();
    }
    played
}

fn play_batch<'a>(batch: &[&'a Case], store: Store, trace: bool) -> Vec<(&'a Case, Played)> {
    let mut gateway = match Gateway::start(batch, store) {
        Ok(gateway) => gateway,
        Err(why) => {
            let failed = |case: &&'a Case| {
                let played = Played {
                    differences: vec![why.clone()],
                    is_late: false,
                };
                (*case, played)
            };
            return batch.iter().map(failed).collect();
        }
    };
    let mut all = Vec::new();
    for case in batch {
        let mut played = play::play(case, &gateway, trace);
        let ended = match gateway.revive() {
            Ok(false) => None,
            Ok(true) => Some("the gateway ended".into()),
            Err(why) => Some(format!("the gateway ended, and does not start: {why}")),
        };
        if let Some(ended) = ended {
            played.differences.push(ended);
            played.is_late = false; // That is not why.
        }
        all.push((*case, played));
    }
    if trace {
        tell_log(&gateway);
    }
    all
}

#[expect(clippy::print_stdout, reason = "the trace of cases is asked for")]
fn play_traced(cases: &[Case], wanted: &str, store: Store) {
    let cases: Vec<_> = cases
        .iter()
        .filter(|case| case.name.contains(wanted))
        .collect();
    assert!(!cases.is_empty(), "no case has {wanted:?} in its name");
    let mut differing = 0;
    for case in cases {
        println!("\n{} ({}): {}", case.name, case.area, case.why);
        for mark in [&case.defect, &case.newer].into_iter().flatten() {
            println!("  marked: {mark}");
        }
        println!("  needs: {:?}", needs::of(case));
        for (_, played) in play_batch(&[case], store, true) {
            if !played.differences.is_empty() {
                differing += 1;
                println!("  differs:\n    {}", played.differences.join("\n    "));
            }
        }
    }
    assert_eq!(differing, 0, "cases differ");
}

#[expect(clippy::print_stdout, reason = "the trace of cases is asked for")]
fn tell_log(gateway: &Gateway) {
    println!("  log:\n{}", gateway.log());
}
