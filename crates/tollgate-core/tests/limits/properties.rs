//! What holds of every limit, whatever comes.

use super::*;

/// The most units in any half-open window, by two pointers over a log in order.
fn most(log: &[(u64, u64)], window: u64) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (time, units) in log {
        sum += units;
        while log[first].0 + window <= *time {
            sum -= log[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

fn any_rate() -> impl Strategy<Value = Rate> {
    let requests = prop_oneof![1..6u64, 1..129u64, 120..140u64, 129..3000u64];
    let window = prop_oneof![1..100u64, 1000..1_000_000u64, Just(NANOS), Just(60 * NANOS)];
    let algorithm = proptest::sample::select(ALGORITHMS.to_vec());
    (requests, window, algorithm).prop_map(|(requests, window, algorithm)| {
        Rate::per(requests, Duration::from_nanos(window)).with_algorithm(algorithm)
    })
}

/// Steps as parts of a window, with what each request costs.
fn arrivals() -> impl Strategy<Value = Vec<(f64, u64)>> {
    let step = prop_oneof![
        4 => Just(0.0),
        4 => 0.0..0.1f64,
        2 => 0.0..1.2f64,
        1 => Just(1.0),
        1 => Just(0.5)
    ];
    let cost = prop_oneof![3 => Just(1u64), 1 => 1..5u64, 1 => 1..200u64];
    proptest::collection::vec((step, cost), 1..300)
}

fn bound(rate: &Rate) -> u64 {
    match rate.algorithm {
        Algorithm::Sliding => rate.requests.get(),
        _ => 2 * rate.requests.get(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_window_holds_more_than_its_bound(
        rate in any_rate(), patience in prop_oneof![2 => Just(0.0), 1 => 0.0..3.0f64],
        arrivals in arrivals(),
    ) {
        let window = rate.window.as_nanos() as u64;
        let mut bed = Bed::new(rate);
        bed.charge[0].patience = rate.window.mul_f64(patience);
        let (mut now, mut log) = (after(0.0), Vec::new());
        for (step, cost) in arrivals {
            now = now.after(Duration::from_nanos((step * window as f64) as u64));
            bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
            match bed.verdict(now) {
                Verdict::Taken(taken) => {
                    prop_assert!(taken.wait <= bed.charge[0].patience);
                    prop_assert!(taken.standings[0].remaining < rate.requests.get());
                    log.push((taken.at.ticks, cost));
                }
                Verdict::Refused(refused) => {
                    let never = rate.requests.get() < cost;
                    prop_assert_eq!(refused.retry_in.is_none(), never);
                }
            }
        }
        log.sort_unstable();
        prop_assert!(most(&log, window) <= bound(&rate));
    }

    /// What `retry_in` says is true to the nanosecond: then it passes, just before it does not.
    #[test]
    fn retry_in_is_when_it_passes(rate in any_rate(), arrivals in arrivals()) {
        let window = rate.window.as_nanos() as u64;
        let mut bed = Bed::new(rate);
        let mut now = after(0.0);
        for (step, cost) in arrivals {
            now = now.after(Duration::from_nanos((step * window as f64) as u64));
            bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
            if let Verdict::Refused(Refused { retry_in: Some(retry_in), .. }) = bed.verdict(now) {
                prop_assert!(retry_in > Duration::ZERO);
                let just_before = now.after(retry_in - Duration::from_nanos(1));
                prop_assert!(!bed.passes(just_before), "{:?} too late", rate.algorithm);
                now = now.after(retry_in);
                prop_assert!(bed.passes(now), "{:?} too early", rate.algorithm);
            }
        }
    }

    #[test]
    fn a_period_holds_no_more_than_its_quota(
        max in 1..20u64, arrivals in arrivals(), patience in any::<bool>(),
    ) {
        let bed = Bed::new(Quota::per(max, Period::Every(SECOND)));
        let mut bed = bed;
        bed.charge[0].patience = if patience { SECOND } else { Duration::ZERO };
        let mut now = after(0.0);
        let (mut start, mut used) = (0, 0);
        for (step, cost) in arrivals {
            now = now.after(SECOND.mul_f64(step));
            bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
            if used == 0 || start + NANOS <= now.ticks {
                (start, used) = (now.ticks, 0);
            }
            let passes = used + cost <= max;
            prop_assert_eq!(bed.passes(now), passes);
            used += if passes { cost } else { 0 };
        }
    }

    /// The limit changes under way; no window of the longest length holds more than the largest.
    #[test]
    fn changed_limits_are_not_exceeded(
        changes in proptest::collection::vec((1..300u64, arrivals()), 1..6),
    ) {
        let mut bed = Bed::new(Rate::per_second(1));
        let (mut now, mut log) = (after(0.0), Vec::new());
        for (requests, arrivals) in changes {
            bed.limit(Rate::per_second(requests));
            for (step, cost) in arrivals {
                now = now.after(SECOND.mul_f64(step));
                bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
                if bed.passes(now) {
                    log.push((now.ticks, cost));
                    let edge = now.ticks - NANOS;
                    let in_window = log.iter().filter(|(time, _)| edge < *time);
                    let sum: u64 = in_window.map(|(_, cost)| cost).sum();
                    prop_assert!(sum <= requests, "{} of {}", sum, requests);
                }
            }
        }
    }

    /// Kinds of windows and algorithms change under way: nothing panics, and a sliding window that
    /// takes over never admits more than its rate from then on.
    #[test]
    fn any_limit_follows_any_other(
        rates in proptest::collection::vec((any_rate(), arrivals()), 1..8),
    ) {
        let mut bed = Bed::new(Rate::per_second(1));
        let mut now = after(0.0);
        for (rate, arrivals) in rates {
            bed.limit(rate);
            let window = rate.window.as_nanos() as u64;
            let mut log = Vec::new();
            for (step, cost) in arrivals.into_iter().take(50) {
                now = now.after(Duration::from_nanos((step * window as f64) as u64));
                bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
                if bed.passes(now) {
                    log.push((now.ticks, cost));
                }
            }
            prop_assert!(most(&log, window) <= bound(&rate));
        }
    }

    /// Takes and gives back in any order, with clocks that jump: what is taken and not given back
    /// stays below the limit in every window, by the latest time that was read.
    #[test]
    fn jumps_and_give_backs_grant_nothing(
        rate in any_rate(),
        steps in proptest::collection::vec((-1.0..1.5f64, 1..4u64, any::<prop::sample::Index>(), 0..3u8), 1..200),
    ) {
        prop_assume!(rate.algorithm == Algorithm::Sliding);
        let window = rate.window.as_nanos() as u64;
        let mut bed = Bed::new(rate);
        let start = after(1000.0 * rate.window.as_secs_f64());
        let (mut now, mut latest) = (start, 0);
        let mut log: Vec<(u64, u64, Moment)> = Vec::new();
        for (step, cost, index, what) in steps {
            let by = Duration::from_nanos((step.abs() * window as f64 / 4.0) as u64);
            now = if step < 0.0 {
                Moment { ticks: now.ticks - by.as_nanos() as u64, ..now }
            } else {
                now.after(by)
            };
            bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
            if what == 0 && !log.is_empty() {
                let (_, cost, at) = log.remove(index.index(log.len()));
                bed.charge[0].cost = NonZeroU64::new(cost).unwrap();
                bed.store.give_back(&bed.charge, at);
                continue;
            }
            if let Verdict::Taken(taken) = bed.verdict(now) {
                latest = now.ticks.max(latest);
                log.push((latest, cost, taken.at));
            }
            let times: Vec<_> = log.iter().map(|(time, cost, _)| (*time, *cost)).collect();
            prop_assert!(most(&times, window) <= rate.requests.get());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Under load the slots admit at least 63 of 64 parts of the rate.
    #[test]
    fn slots_lose_little(requests in 129..2000u64, window in 100_000..10 * NANOS, steps in 100..400u64) {
        let bed = Bed::new(Rate::per(requests, Duration::from_nanos(window)));
        let mut now = after(0.0);
        let mut passed = 0;
        for _ in 0..steps * 20 {
            while bed.passes(now) {
                passed += 1;
            }
            now = now.after(Duration::from_nanos(window / steps + 1));
        }
        // Twenty windows' time; the one under way, and the step that is polled at, are not lost.
        let ideal = requests * 20;
        let least = ideal - ideal.div_ceil(64) - requests - ideal / steps;
        prop_assert!(least <= passed && passed <= ideal + requests, "{} of {}", passed, ideal);
    }

    /// Batches of any counters in any order from several threads: none is above its limit, and all
    /// that were admitted are counted whole.
    #[test]
    fn batches_are_whole_from_any_thread(
        maxima in proptest::collection::vec(1..200u64, 4),
        orders in proptest::collection::vec(proptest::sample::subsequence(vec![0, 1, 2, 3], 1..=4).prop_shuffle(), 1..=8),
    ) {
        let store = MemoryStore::new();
        let now = after(0.0);
        let counters: Vec<_> = (0..4).map(|number| Counter::new(format!("c{number}"))).collect();
        let limit = |number: usize| -> Limit {
            if number % 2 == 0 {
                Rate::per_second(maxima[number]).into()
            } else {
                Quota::per(maxima[number], Period::Every(SECOND)).into()
            }
        };
        let admitted: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = orders.iter().map(|order| {
                let (store, counters, limit) = (&store, &counters, &limit);
                scope.spawn(move || {
                    let charge = |number: &usize| Charge::new(counters[*number].clone(), limit(*number));
                    let batch: Vec<_> = order.iter().map(charge).collect();
                    let takes = (0..100).map(|_| store.try_take(&batch, now));
                    takes.filter(|verdict| matches!(verdict, Some(Verdict::Taken(_)))).count() as u64
                })
            }).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (number, max) in maxima.iter().enumerate() {
            let of = orders.iter().zip(&admitted).filter(|(order, _)| order.contains(&number));
            let expected: u64 = of.map(|(_, admitted)| admitted).sum();
            prop_assert!(expected <= *max);
            prop_assert_eq!(store.used(format!("c{number}"), now), expected);
        }
    }
}
