//! What a charge asks of the scripts: the name of its counter, and the words that `take.lua` and
//! `give_back.lua` read.

use std::time::Duration;

use redis::ScriptInvocation;
use tollgate_core::{
    Moment,
    limits::{Algorithm, Limit, Period, Rate},
    store::{Charge, ChargeMode},
};

use crate::{Naming, keys};

/// The largest number that the scripts' arithmetic holds exactly.
pub(crate) const LARGEST: u64 = (1 << 53) - 1;
/// The longest span, about 95 years: an end stays below [`LARGEST`].
const LONGEST: u64 = 3_000_000_000_000_000;
/// Microseconds from the first day of the year 1, from which windows are counted, to 1970.
const YEAR_1: u64 = 62_135_596_800_000_000;

/// A charge in the scripts' words. Times are microseconds.
pub(crate) struct Ask {
    pub(crate) name: Vec<u8>,
    form: &'static str,
    max: u64,
    span: u64,
    cost: u64,
    is_watched: bool,
    patience: u64,
    phase: u64,
    /// Of an allowance that grows and shrinks with use; empty for none.
    steps: String,
}

impl Ask {
    /// What `charge` asks. `base` is the counter's name in Redis, `server` the server's time.
    pub(crate) fn of(
        charge: &Charge,
        base: &[u8],
        naming: Naming,
        now: Moment,
        server: u64,
    ) -> Self {
        let mut ask = Self {
            name: base.to_vec(),
            form: "quota",
            max: charge.limit.max().min(LARGEST),
            span: 0,
            cost: charge.cost.get().min(LARGEST),
            is_watched: charge.mode == ChargeMode::Observe,
            patience: micros(charge.patience),
            phase: 0,
            steps: String::new(),
        };
        match &charge.limit {
            Limit::Rate(rate) => ask.count_rate(rate, naming, server),
            Limit::Quota(quota) => match &quota.period {
                Period::Never => {}
                Period::Every(period) => ask.span = micros(*period).max(1),
                Period::Calendar(calendar) => {
                    ask.form = "until";
                    ask.span = calendar.end_of_period(now.unix_nanos) / 1000;
                }
            },
        }
        ask
    }

    fn count_rate(&mut self, rate: &Rate, naming: Naming, server: u64) {
        let is_tyks = naming == Naming::Tyk && !self.name.starts_with(b"tollgate:");
        self.span = micros(rate.window).max(1);
        if let Some(steps) = rate.steps {
            let [threshold, step, margin, less] = steps.numbers();
            let delay = micros(steps.delay());
            self.steps = format!("{threshold},{step},{margin},{less},{delay}");
        }
        match rate.algorithm {
            Algorithm::Sliding if is_tyks => self.form = "log",
            Algorithm::Sliding => self.form = "sliding",
            Algorithm::Bucket => {}
            Algorithm::Gcra => self.form = "gcra",
            Algorithm::FixedWindow => {
                self.form = "window";
                self.phase = YEAR_1 % self.span;
                if is_tyks {
                    let start = server - (server + self.phase) % self.span;
                    self.form = "fixed";
                    self.name.extend(format!("/{start}000").into_bytes()); // In nanoseconds.
                    self.span += start;
                }
            }
        }
    }

    /// With Tyk's sentinel beside a log that is kept as Tyk keeps it. It would keep an allowance from growing.
    pub(crate) fn guarded(mut self) -> Self {
        if self.form == "log" && self.steps.is_empty() {
            self.form = "guarded";
        }
        self
    }

    /// The part of the name that says in which slot of a cluster the counter is.
    pub(crate) fn tag(&self) -> &[u8] {
        let start = self.name.iter().position(|byte| *byte == b'{');
        let tag = start.and_then(|start| {
            let rest = &self.name[start + 1..];
            let end = rest.iter().position(|byte| *byte == b'}')?;
            (end != 0).then(|| &rest[..end])
        });
        tag.unwrap_or(&self.name)
    }

    /// As `take.lua` reads it.
    pub(crate) fn write_take(&self, script: &mut ScriptInvocation<'_>) {
        script.key(&*self.name);
        script.arg(self.form).arg(self.max).arg(self.span);
        script.arg(self.cost).arg(u8::from(self.is_watched));
        script.arg(self.patience).arg(self.phase);
        script.arg(&*self.steps);
    }

    /// As `give_back.lua` reads it.
    pub(crate) fn write_give_back(&self, script: &mut ScriptInvocation<'_>, taken: u64) {
        self.write_counter(script);
        script.arg(self.cost).arg(taken);
    }

    /// The counter and its limit, without what the request wants of it.
    pub(crate) fn write_counter(&self, script: &mut ScriptInvocation<'_>) {
        script.key(&*self.name);
        script.arg(self.form).arg(self.max);
        script.arg(self.span).arg(self.phase);
    }
}

/// The name of the counter of a charge, without the start of a window.
pub(crate) fn base_name(charge: &Charge, naming: Naming) -> Vec<u8> {
    keys::counter(charge.counter.name(), &charge.limit, naming)
}

/// Whole microseconds, rounded up: a window is never shorter than it was asked for.
fn micros(duration: Duration) -> u64 {
    let micros = duration.as_nanos().div_ceil(1000);
    u64::try_from(micros).map_or(LONGEST, |micros| micros.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use tollgate_core::store::Counter;

    use super::*;

    #[test]
    fn fixed_windows_have_tyks_names() {
        let rate = Rate::per(3, Duration::from_secs(7)).with_algorithm(Algorithm::FixedWindow);
        let charge = Charge::new(Counter::new("rate:key:0::4:a5f3:0:"), rate);
        let base = base_name(&charge, Naming::Tyk);
        let server = 1_700_000_000_000_000;
        let ask = Ask::of(&charge, &base, Naming::Tyk, Moment::default(), server);
        // Windows of seven seconds from the year 1 on.
        let start = (62_135_596_800 + 1_700_000_000) / 7 * 7 - 62_135_596_800_u64;
        let expected = format!("rate-limit-a5f3/{start}000000000");
        assert_eq!(String::from_utf8(ask.name).ok(), Some(expected));
        assert_eq!(ask.span, (start + 7) * 1_000_000);
    }

    #[test]
    fn counters_of_one_key_have_one_tag() {
        let rate = Charge::new(Counter::new("rate:key:0::4:a5f3:0:"), Rate::per_second(3));
        let base = base_name(&rate, Naming::Tagged);
        let ask = Ask::of(&rate, &base, Naming::Tagged, Moment::default(), 0);
        assert_eq!(ask.tag(), b"key:a5f3");
    }
}
