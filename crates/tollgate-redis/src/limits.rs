//! Counters: all limits of a request are charged by one script, in one round trip.
//!
//! In a cluster the counters of different keys lie in different slots. Those of one slot are charged
//! together; several slots are asked at once, and where one refuses, the others get their units back. A
//! crash in between loses units, and grants none.

use std::{sync::LazyLock, time::Duration};

use redis::Script;
use smallvec::SmallVec;
use tollgate_core::{
    Moment,
    limits::Limit,
    store::{
        Charge, ChargeMode, CounterRef, LimitStore, ReadyCharges, Refused, Standing, Standings,
        StoreError, StoreErrorKind, Taken, Verdict,
    },
};

use crate::{
    RedisStore,
    ask::{self, Ask},
    held::{Held, untouched},
    keys,
    leased::AtOnce,
    options::OnStoreError,
};

static TAKE: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("scripts/take.lua")]));
static GIVE_BACK: LazyLock<Script> =
    LazyLock::new(|| script(&[include_str!("scripts/give_back.lua")]));

static REPORT: LazyLock<Script> = LazyLock::new(|| script(&[include_str!("scripts/report.lua")]));

/// A script of these parts, behind what all scripts share.
pub(crate) fn script(parts: &[&str]) -> Script {
    let shared = [include_str!("scripts/counters.lua")];
    let parts: Vec<&str> = shared.iter().chain(parts).copied().collect();
    Script::new(&parts.join("\n"))
}

/// How often a window is asked for again that ended on the way.
const TRIES: usize = 3;

/// Whether units are charged.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Mode {
    /// They are, until this tick.
    Take {
        until: u64,
    },
    Look,
}

/// Charges that can be asked for together: their places in the batch, and their words.
struct Group {
    places: Vec<usize>,
    asks: Vec<Ask>,
}

impl LimitStore for RedisStore {
    /// Answers at once what is held here, and what was refused a moment ago.
    fn try_take(&self, batch: &[Charge], now: Moment) -> Option<Verdict> {
        match self.take_leased(batch, now) {
            AtOnce::Told(verdict) => Some(verdict),
            AtOnce::Short(_) => None,
            AtOnce::Exact => self.denied(batch, now).map(Verdict::Refused),
        }
    }

    fn try_admit(&self, ready: &ReadyCharges, now: Moment) -> bool {
        self.admit_leased(ready.charges(), now)
    }

    async fn take(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        let until = self.link().until();
        // What this node holds may be all that is left: who is refused for it looks here once more.
        for is_last in [false, true] {
            match self.take_leased(batch, now) {
                AtOnce::Told(verdict) => return Ok(verdict),
                AtOnce::Exact => {}
                AtOnce::Short(leases) => {
                    self.wait_for(&leases, until).await;
                    if let AtOnce::Told(verdict) = self.take_leased(batch, now) {
                        return Ok(verdict);
                    }
                }
            }
            if let Some(refused) = self.denied(batch, now) {
                return Ok(Verdict::Refused(refused));
            }
            match self.take_rest(batch, now, until).await {
                Ok(Verdict::Refused(refused))
                    if !is_last && self.may_pass_here(batch, &refused) => {}
                Ok(verdict) => {
                    self.remember(batch, &verdict);
                    self.report();
                    return Ok(verdict);
                }
                Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                    return self.stand_in(batch, now, error);
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last round decides")
    }

    async fn look(&self, batch: &[Charge], now: Moment) -> Result<Verdict, StoreError> {
        let unused = self.unused(batch).await;
        let looked = self.decide(batch, now, Mode::Look).await?;
        Ok(self.with_unused(batch, &unused, looked))
    }

    fn give_back(&self, batch: &[Charge], taken_at: Moment) {
        for charge in batch {
            if let Some(held) = held(charge) {
                held.forgive();
            }
            if let Some((lease, _)) = self.lease_of(charge) {
                lease.forgive();
            }
        }
        if self.fallback().was_alone_at(taken_at) {
            return self.fallback().give_back(batch, taken_at);
        }
        let (store, batch) = (self.clone(), batch.to_vec());
        // Without a runtime there is nobody to send it: units are lost, and none is granted.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { store.send_back(&batch, taken_at).await });
        }
    }

    async fn reset(&self, counter: &str) -> Result<(), StoreError> {
        for name in keys::all_forms(counter.as_bytes(), self.naming()) {
            let is_tyks_rate = name.starts_with(b"rate-limit-");
            let mut delete = redis::cmd("DEL");
            delete.arg(&name).arg(keys::leases(&name));
            delete.arg([&*name, b"-allowance"].concat());
            if is_tyks_rate {
                delete.arg([&*name, b".BLOCKED"].concat());
            }
            let _: u64 = self.link().command(&delete).await?;
            if is_tyks_rate {
                self.reset_windows(&name).await?;
            }
            if let Some(lease) = self.leases().get(&name) {
                lease.reset();
            }
        }
        self.count_reset();
        Ok(())
    }
}

impl RedisStore {
    /// The refusal of a batch that has a charge which was refused a moment ago.
    fn denied(&self, batch: &[Charge], now: Moment) -> Option<Refused> {
        let mut refused: Option<(usize, Option<Duration>)> = None;
        let mut standings = SmallVec::new();
        for (index, charge) in batch.iter().enumerate() {
            let (standing, is_denied) = held(charge)
                .map(|held| held.standing(charge, now, self.resets()))
                .unwrap_or((untouched(charge), false));
            standings.push(standing);
            if is_denied && charge.mode == ChargeMode::Enforce {
                let own = (standing.retry_in != Duration::MAX).then_some(standing.retry_in);
                refused = match refused {
                    None => Some((index, own)),
                    Some((first, retry_in)) => {
                        Some((first, retry_in.zip(own).map(|(one, other)| one.max(other))))
                    }
                };
            }
        }
        let (index, retry_in) = refused?;
        Some(Refused {
            index,
            retry_in,
            standings,
        })
    }

    fn remember(&self, batch: &[Charge], verdict: &Verdict) {
        let (now, resets) = (self.moment(), self.resets());
        let standings = match verdict {
            Verdict::Taken(taken) => &taken.standings,
            Verdict::Refused(refused) => &refused.standings,
        };
        for (charge, standing) in batch.iter().zip(standings) {
            if let Some(held) = held(charge) {
                held.saw(charge, *standing, (now, resets), self.denial_age());
            }
        }
    }

    pub(crate) async fn decide(
        &self,
        batch: &[Charge],
        now: Moment,
        mode: Mode,
    ) -> Result<Verdict, StoreError> {
        if batch.is_empty() {
            return Ok(taken(SmallVec::new(), Duration::ZERO, now));
        }
        let groups = self.groups(batch, now);
        if let [all] = &groups[..] {
            return self.ask(batch, all, now, mode).await;
        }
        let asked = groups.iter().map(|group| self.ask(batch, group, now, mode));
        let answers = futures_util::future::join_all(asked).await;
        let refuses = answers
            .iter()
            .any(|answer| !matches!(answer, Ok(Verdict::Taken(_))));
        if refuses && mode != Mode::Look {
            for (group, answer) in groups.iter().zip(&answers) {
                if let Ok(Verdict::Taken(taken)) = answer {
                    let given: Vec<Charge> = counted(batch, group, taken);
                    self.send_back(&given, taken.at).await;
                }
            }
        }
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(joined(batch.len(), &groups, answers, now))
    }

    /// The charges, as they can be asked for together.
    fn groups(&self, batch: &[Charge], now: Moment) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (place, charge) in batch.iter().enumerate() {
            let ask = self.ask_of(charge, now);
            let fits = |group: &&mut Group| !self.is_cluster() || group.asks[0].tag() == ask.tag();
            match groups.iter_mut().find(fits) {
                Some(group) => {
                    group.places.push(place);
                    group.asks.push(ask);
                }
                None => groups.push(Group {
                    places: vec![place],
                    asks: vec![ask],
                }),
            }
        }
        groups
    }

    /// Asks for the charges of a group, in one call.
    async fn ask(
        &self,
        batch: &[Charge],
        group: &Group,
        now: Moment,
        mode: Mode,
    ) -> Result<Verdict, StoreError> {
        for tried in 0..TRIES {
            let mut script = TAKE.prepare_invoke();
            script.arg(match mode {
                Mode::Take { .. } => "take",
                Mode::Look => "look",
            });
            for (place, ask) in group.places.iter().zip(&group.asks) {
                if tried == 0 {
                    ask.write_take(&mut script);
                } else {
                    // By the server's clock as it is known now.
                    self.ask_of(&batch[*place], now).write_take(&mut script);
                }
            }
            let answer: Vec<i64> = match mode {
                Mode::Take { until } => self.link().charge(&script, until).await?,
                Mode::Look => self.link().script(&script).await?,
            };
            let places = group.places.iter();
            let limits: SmallVec<[&Limit; 4]> = places.map(|place| &batch[*place].limit).collect();
            let heard = Heard::read(&answer, &limits).ok_or_else(unreadable)?;
            let received = self.moment();
            self.server_clock().set(heard.now, received);
            if let Some(told) = heard.told {
                let at = self.server_clock().moment(heard.now, received);
                return Ok(told.verdict(at));
            }
        }
        let message = "the server's clock went past each window that was asked for";
        Err(StoreError::new(StoreErrorKind::Unavailable, message))
    }

    pub(crate) fn ask_of(&self, charge: &Charge, now: Moment) -> Ask {
        let server = self.server_clock().micros(now);
        let make = || ask::base_name(charge, self.naming());
        let ask = match held(charge) {
            Some(held) => {
                let name = held.name(charge, make);
                Ask::of(charge, &name, self.naming(), now, server)
            }
            None => Ask::of(charge, &make(), self.naming(), now, server),
        };
        if self.has_sentinels() {
            ask.guarded()
        } else {
            ask
        }
    }

    async fn send_back(&self, batch: &[Charge], taken_at: Moment) {
        for group in self.groups(batch, taken_at) {
            let taken = self.server_clock().micros(taken_at);
            let mut script = GIVE_BACK.prepare_invoke();
            for ask in &group.asks {
                ask.write_give_back(&mut script, taken);
            }
            let sent: Result<i64, _> = self.link().script(&script).await;
            if let Err(error) = sent {
                tracing::debug!(%error, "units were not given back");
            }
        }
    }

    /// Tells the server, which answers, what was admitted while it did not.
    pub(crate) fn report(&self) {
        let untold = self.fallback().untold();
        if untold.is_empty() {
            return;
        }
        let store = self.clone();
        tokio::spawn(async move {
            for untold in untold {
                let now = store.moment();
                if !untold.counts(now) || untold.units == 0 {
                    continue;
                }
                let mut script = REPORT.prepare_invoke();
                store.ask_of(&untold.charge, now).write_counter(&mut script);
                script.arg(untold.units);
                let told: Result<i64, _> = store.link().script(&script).await;
                if let Err(error) = told {
                    tracing::debug!(%error, "what was admitted alone is told later");
                    store.fallback().note(&untold.charge, untold.units, now);
                }
            }
        });
    }

    /// What happens where the server gives no answer.
    fn stand_in(
        &self,
        batch: &[Charge],
        now: Moment,
        error: StoreError,
    ) -> Result<Verdict, StoreError> {
        let rule = |charge: &Charge| self.on_error(&charge.limit);
        if batch
            .iter()
            .any(|charge| rule(charge) == OnStoreError::Refuse)
        {
            return Err(error);
        }
        Ok(self.fallback().take(batch, rule, now))
    }

    /// Tyk's fixed windows are counters of their own, which only their common start tells.
    async fn reset_windows(&self, name: &[u8]) -> Result<(), StoreError> {
        let mut pattern = Vec::new();
        for byte in name {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^') {
                pattern.push(b'\\');
            }
            pattern.push(*byte);
        }
        pattern.extend_from_slice(b"/*");
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern);
            scan.arg("COUNT").arg(1000);
            let (next, found): (u64, Vec<Vec<u8>>) = self.link().command(&scan).await?;
            if !found.is_empty() {
                let mut delete = redis::cmd("DEL");
                delete.arg(&found);
                let _: u64 = self.link().command(&delete).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

/// What a counter keeps here, where it is held.
pub(crate) fn held(charge: &Charge) -> Option<&Held> {
    match &charge.counter {
        CounterRef::Held(counter) => Some(counter.handle(|_| std::sync::Arc::new(Held::new()))),
        CounterRef::Named(_) => None,
    }
}

fn taken(standings: Standings, wait: Duration, now: Moment) -> Verdict {
    Verdict::Taken(Taken {
        standings,
        wait,
        at: now.after(wait),
    })
}

/// The charges of a group that were counted.
fn counted(batch: &[Charge], group: &Group, taken: &Taken) -> Vec<Charge> {
    let counted = group.places.iter().zip(&taken.standings);
    counted
        .filter(|(_, standing)| !standing.exceeded)
        .map(|(place, _)| batch[*place].clone())
        .collect()
}

/// One verdict of several groups.
fn joined(charges: usize, groups: &[Group], answers: Vec<Verdict>, now: Moment) -> Verdict {
    let mut standings: SmallVec<[Option<Standing>; 4]> = SmallVec::from_elem(None, charges);
    let mut refused: Option<(usize, Option<Duration>)> = None;
    let mut wait = Duration::ZERO;
    for (group, answer) in groups.iter().zip(answers) {
        let of_group = match answer {
            Verdict::Taken(taken) => {
                wait = wait.max(taken.wait);
                taken.standings
            }
            Verdict::Refused(answer) => {
                let index = group.places[answer.index];
                refused = Some(match refused {
                    None => (index, answer.retry_in),
                    Some((first, retry_in)) => {
                        let both = retry_in.zip(answer.retry_in);
                        (first.min(index), both.map(|(one, other)| one.max(other)))
                    }
                });
                answer.standings
            }
        };
        for (place, standing) in group.places.iter().zip(of_group) {
            standings[*place] = Some(standing);
        }
    }
    let standings = standings.into_iter().flatten().collect();
    match refused {
        None => taken(standings, wait, now),
        Some((index, retry_in)) => Verdict::Refused(Refused {
            index,
            retry_in,
            standings,
        }),
    }
}

pub(crate) fn unreadable() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "the script's answer can not be read",
    )
}

/// An answer of `take.lua`.
struct Heard {
    /// The server's time.
    now: u64,
    /// `None` where the window that was asked for is over.
    told: Option<Told>,
}

struct Told {
    /// From 1; zero for none.
    refused: usize,
    wait: Duration,
    retry_in: Option<Duration>,
    standings: Standings,
}

impl Heard {
    fn read(answer: &[i64], limits: &[&Limit]) -> Option<Self> {
        if let [-1, now] = answer {
            let now = u64::try_from(*now).ok()?;
            return Some(Self { now, told: None });
        }
        let (head, rest) = answer.split_at_checked(4)?;
        let standings = limits.iter().zip(rest.chunks_exact(5));
        let standings: Standings = standings
            .map(|(limit, told)| standing(limit, told))
            .collect();
        (standings.len() == limits.len()).then_some(())?;
        let told = Told {
            refused: usize::try_from(head[0]).ok()?,
            wait: span(head[1])?,
            retry_in: span(head[2]),
            standings,
        };
        Some(Self {
            now: u64::try_from(head[3]).ok()?,
            told: Some(told),
        })
    }
}

impl Told {
    fn verdict(self, at: Moment) -> Verdict {
        match self.refused.checked_sub(1) {
            None => taken(self.standings, self.wait, at),
            Some(index) => Verdict::Refused(Refused {
                index,
                retry_in: self.retry_in,
                standings: self.standings,
            }),
        }
    }
}

fn standing(limit: &Limit, told: &[i64]) -> Standing {
    let max = match limit {
        Limit::Rate(rate) if rate.steps.is_some() => u64::try_from(told[4]).unwrap_or_default(),
        limit => limit.max(), // The script's numbers are not as large.
    };
    let used = u64::try_from(told[0]).unwrap_or_default();
    Standing {
        max,
        remaining: max.saturating_sub(used),
        resets_in: span(told[1]),
        retry_in: span(told[2]).unwrap_or(Duration::MAX),
        exceeded: told[3] != 0,
    }
}

/// Microseconds; below zero for never.
fn span(micros: i64) -> Option<Duration> {
    u64::try_from(micros).ok().map(Duration::from_micros)
}
