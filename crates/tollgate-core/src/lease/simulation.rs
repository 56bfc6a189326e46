//! A world in which leases go wrong: virtual time, drifting clocks, a bad network, crashes.
//!
//! [`run`] plays one [`Scenario`] and checks after each event what the [module docs](super) promise.
//! All that happens follows from the seed. Nothing here is needed to use leases; it is public (feature
//! `test-util`) so that an adapter can play the same worlds that the protocol was tested in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    num::NonZeroU64,
};

use super::{
    Ask, Epoch, Grant, HolderTerms, LeaseHolder, LeaseId, LeaseRecord, LeaseSpan, LeaseTake,
    LeaseTerms, NodeId,
};

const MILLI: u64 = 1_000_000;
const WAITING: usize = 1000; // At one node, for an answer.
const TRIES: u32 = 3; // Of one question.

/// One world.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// All that is random follows from it.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u64,
    /// How many units all have together.
    pub limit: u64,
    /// How the limit is counted.
    pub span: Span,
    /// The length of an epoch or window.
    pub period_nanos: u64,
    /// How long the world lasts.
    pub lasts_nanos: u64,
    /// How many requests arrive in a period, at all nodes together.
    pub offered: u64,
    /// How much more the first nodes are asked for than the last; zero for evenly.
    pub skew: u64,
    /// How long a lease may be used, and a chunk should last.
    pub ttl_nanos: u64,
    /// The shortest and the longest time that a message takes; one in a hundred takes twenty times
    /// the longest, where faults are.
    pub delay_nanos: (u64, u64),
    /// Of a thousand messages, how many are lost.
    pub loss: u64,
    /// Of a thousand messages, how many arrive twice.
    pub doubled: u64,
    /// Of a million requests, how many crash their node.
    pub crashes: u64,
    /// Of a million questions, at how many the store fails over.
    pub fail_overs: u64,
    /// How many of its last writes a store loses then.
    pub lost_writes: usize,
    /// How far clocks drift: each node's against the store's, and the store's against the world's, in
    /// millionths.
    pub drift: u64,
}

/// How the limit of a scenario is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Span {
    /// From the first question on.
    Every,
    /// By the store's calendar.
    Aligned,
    /// Any window; a unit may be used for so long.
    Sliding {
        /// In nanoseconds.
        dilation_nanos: u64,
    },
    /// Any window, with units that may be used for so long and a record that does not know it: wrong,
    /// to show what the dilation is for.
    Undilated {
        /// In nanoseconds.
        dilation_nanos: u64,
    },
}

impl Scenario {
    /// Four nodes with a thousand units a second, asked for twice as many, for ten seconds, on a
    /// network that takes half a millisecond and does nothing wrong.
    pub fn calm(seed: u64) -> Self {
        Self {
            seed,
            nodes: 4,
            limit: 1000,
            span: Span::Every,
            period_nanos: 1000 * MILLI,
            lasts_nanos: 10_000 * MILLI,
            offered: 2000,
            skew: 0,
            ttl_nanos: 250 * MILLI,
            delay_nanos: (MILLI / 4, MILLI / 2),
            loss: 0,
            doubled: 0,
            crashes: 0,
            fail_overs: 0,
            lost_writes: 0,
            drift: 500,
        }
    }

    /// The same with a network that loses, doubles and reorders.
    pub fn stormy(seed: u64) -> Self {
        Self {
            skew: 2,
            delay_nanos: (MILLI / 4, 10 * MILLI),
            loss: 50,
            doubled: 50,
            crashes: 100,
            ..Self::calm(seed)
        }
    }
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests that arrived.
    pub offered: u64,
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that were refused though an exact limit would have admitted them.
    pub false_refusals: u64,
    /// Requests that waited in vain for an answer, of those.
    pub gave_up: u64,
    /// Questions that the store answered.
    pub questions: u64,
    /// Units that crashed nodes held.
    pub crashed: u64,
    /// Units whose grants the store forgot.
    pub forgotten: u64,
    /// What each epoch admitted that began and ended; empty for windows.
    pub epochs: Vec<u64>,
    /// The most that any epoch or window admitted.
    pub most: u64,
    /// Events that were played.
    pub steps: u64,
}

impl Report {
    /// What the average epoch admitted, in parts of the limit.
    pub fn use_of(&self, limit: u64) -> f64 {
        let all: u64 = self.epochs.iter().sum();
        all as f64 / (limit * self.epochs.len().max(1) as u64) as f64
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("step {step}: {what}")]
pub struct Broken {
    /// The event after which it was seen.
    pub step: u64,
    /// Which promise, and how.
    pub what: String,
}

/// Plays a scenario to its end.
///
/// Where the store forgets nothing the limit holds. Where it does, each epoch or window admits at most
/// the limit and what was forgotten.
///
/// # Errors
///
/// [`Broken`] at the first promise that is not kept.
pub fn run(scenario: &Scenario) -> Result<Report, Broken> {
    let mut world = World::new(scenario);
    while let Some(Reverse(next)) = world.events.pop() {
        if scenario.lasts_nanos <= next.at {
            break;
        }
        world.now = next.at;
        world.report.steps += 1;
        world.play(next.event);
        world.check();
        if let Some(what) = world.broken.take() {
            let step = world.report.steps;
            return Err(Broken { step, what });
        }
    }
    Ok(world.end())
}

/// A generator of numbers that only have to be the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll() % (high.saturating_sub(low) + 1)
    }

    fn happens(&mut self, times: u64, of: u64) -> bool {
        times > 0 && self.roll() % of < times
    }

    /// A drift of at most so many millionths either way.
    fn drift(&mut self, most: u64) -> i64 {
        self.between(0, 2 * most) as i64 - most as i64
    }
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Next {
    at: u64,
    turn: u64, // Of two at one time the one that was planned first.
    event: Event,
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Arrival,
    ToStore(usize), // The place of the message.
    ToNode {
        node: usize,
        answer: usize,
    }, // The place of the answer.
    NoAnswer {
        node: usize,
        lease: (u64, u64),
        tries: u32,
    },
}

struct Node {
    holder: LeaseHolder,
    waiting: VecDeque<u64>, // When they came.
    drift: i64,
    starts: u64, // What the clock showed at first.
    weight: u64,
}

/// What truly happened in an epoch.
#[derive(Default)]
struct Ledger {
    granted: u64,
    settled: u64,
    admitted: u64,
    ends: u64,
}

/// One of the last writes of the store, to be lost.
struct Write {
    before: LeaseRecord,
    granted: u64,
    settled: Vec<(Epoch, u64)>,
}

struct World<'a> {
    scenario: &'a Scenario,
    dice: Dice,
    now: u64,
    turn: u64,
    events: BinaryHeap<Reverse<Next>>,
    asks: Vec<(usize, Ask)>,
    answers: Vec<Grant>,
    nodes: Vec<Node>,
    lives: u64,
    drift: i64,
    record: LeaseRecord,
    writes: VecDeque<Write>,
    ledgers: BTreeMap<Epoch, Ledger>,
    window: VecDeque<u64>, // When the last were admitted, by the store's clock.
    report: Report,
    broken: Option<String>,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut dice = Dice(scenario.seed);
        let drift = dice.drift(scenario.drift);
        let nodes = (0..scenario.nodes).map(|place| Node {
            holder: LeaseHolder::new(NodeId(place)),
            waiting: VecDeque::new(),
            drift: dice.drift(scenario.drift),
            starts: dice.between(0, 1 << 40),
            weight: 1000 / (1 + scenario.skew * place),
        });
        let nodes = nodes.collect();
        let mut world = Self {
            scenario,
            dice,
            now: 0,
            turn: 0,
            events: BinaryHeap::new(),
            asks: Vec::new(),
            answers: Vec::new(),
            nodes,
            lives: scenario.nodes,
            drift,
            record: LeaseRecord::new(),
            writes: VecDeque::new(),
            ledgers: BTreeMap::new(),
            window: VecDeque::new(),
            report: Report::default(),
            broken: None,
        };
        world.plan(1, Event::Arrival);
        world
    }

    fn plan(&mut self, after: u64, event: Event) {
        self.turn += 1;
        self.events.push(Reverse(Next {
            at: self.now + after,
            turn: self.turn,
            event,
        }));
    }

    /// What the store's clock shows; it was set up long ago.
    fn store_now(&self) -> u64 {
        drifted(self.now, self.drift) + (1 << 50)
    }

    fn node_now(&self, node: usize) -> u64 {
        let node = &self.nodes[node];
        drifted(drifted(self.now, self.drift), node.drift) + node.starts
    }

    fn here(&self) -> HolderTerms {
        HolderTerms {
            limit: self.limit(),
            horizon_nanos: self.scenario.ttl_nanos,
            period_nanos: self.scenario.period_nanos,
            grain_nanos: if self.is_sliding() {
                self.scenario.ttl_nanos / 32
            } else {
                0
            },
        }
    }

    fn limit(&self) -> NonZeroU64 {
        NonZeroU64::new(self.scenario.limit).unwrap_or(NonZeroU64::MIN)
    }

    fn there(&self) -> LeaseTerms {
        let (now, period) = (self.store_now(), self.scenario.period_nanos);
        let sliding = |dilation_nanos| LeaseSpan::Sliding {
            window_nanos: period,
            dilation_nanos,
        };
        let span = match self.scenario.span {
            Span::Every => LeaseSpan::Epoch {
                ends_nanos: now + period,
            },
            Span::Aligned => LeaseSpan::Epoch {
                ends_nanos: (now / period + 1) * period,
            },
            Span::Sliding { dilation_nanos } => sliding(dilation_nanos),
            Span::Undilated { .. } => sliding(0),
        };
        LeaseTerms {
            limit: self.limit(),
            span,
            ttl_nanos: self.scenario.ttl_nanos,
        }
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrive(),
            Event::ToStore(place) => self.answer(place),
            Event::ToNode { node, answer } => self.hear(node, answer),
            Event::NoAnswer { node, lease, tries } => self.miss(node, lease, tries),
        }
    }

    fn arrive(&mut self) {
        let mean = self.scenario.period_nanos / self.scenario.offered.max(1);
        let gap = self.dice.between(0, 2 * mean);
        self.plan(gap, Event::Arrival);
        self.report.offered += 1;
        let node = self.pick();
        if self.dice.happens(self.scenario.crashes, 1_000_000) {
            self.crash(node);
        }
        let (now, here) = (self.node_now(node), self.here());
        let take = self.nodes[node].holder.take(&here, now, 1);
        if !self.settle_request(node, take) {
            if self.nodes[node].waiting.len() < WAITING {
                let came = self.now;
                self.nodes[node].waiting.push_back(came);
            } else {
                self.refuse();
            }
        }
    }

    fn pick(&mut self) -> usize {
        let all: u64 = self.nodes.iter().map(|node| node.weight).sum();
        let mut at = self.dice.between(0, all - 1);
        for (place, node) in self.nodes.iter().enumerate() {
            if at < node.weight {
                return place;
            }
            at -= node.weight;
        }
        0
    }

    /// Does what the holder says; `false` where the request has to wait.
    fn settle_request(&mut self, node: usize, take: LeaseTake) -> bool {
        match take {
            LeaseTake::Taken { refill, .. } => {
                self.admit(node);
                if let Some(want) = refill {
                    self.ask(node, want);
                }
                true
            }
            LeaseTake::Refused { .. } => {
                self.refuse();
                true
            }
            LeaseTake::NeedMore { want } => {
                self.ask(node, want);
                false
            }
        }
    }

    fn ask(&mut self, node: usize, want: u64) {
        let now = self.node_now(node);
        if let Some(ask) = self.nodes[node].holder.ask(now, want) {
            self.send_ask(node, ask, 1);
        }
    }

    fn patience(&self) -> u64 {
        4 * self.scenario.delay_nanos.1
    }

    fn send_ask(&mut self, node: usize, ask: Ask, tries: u32) {
        let lease = (ask.lease.node.0, ask.lease.serial);
        let patience = self.patience();
        self.plan(patience, Event::NoAnswer { node, lease, tries });
        self.asks.push((node, ask));
        let place = self.asks.len() - 1;
        for delay in self.copies() {
            self.plan(delay, Event::ToStore(place));
        }
    }

    /// How long each copy of a message takes that arrives.
    fn copies(&mut self) -> Vec<u64> {
        let (shortest, longest) = self.scenario.delay_nanos;
        let is_bad = self.scenario.loss + self.scenario.doubled > 0;
        if self.dice.happens(self.scenario.loss, 1000) {
            return Vec::new();
        }
        let copies = 1 + u64::from(self.dice.happens(self.scenario.doubled, 1000));
        let delay = |_| {
            let is_late = is_bad && self.dice.happens(1, 100);
            let delay = self.dice.between(shortest, longest);
            if is_late { delay + 20 * longest } else { delay }
        };
        (0..copies).map(delay).collect()
    }

    fn answer(&mut self, place: usize) {
        if self.dice.happens(self.scenario.fail_overs, 1_000_000) {
            self.fail_over();
        }
        let (node, ask) = self.asks[place].clone();
        let (now, there) = (self.store_now(), self.there());
        let before = (self.scenario.fail_overs > 0).then(|| self.record.clone());
        let mut settled = Vec::new();
        for settle in &ask.settles {
            let epoch = self.record.epoch();
            let back = self.record.settle(settle, now);
            self.ledgers.entry(epoch).or_default().settled += back;
            settled.push((epoch, back));
        }
        let known = self.record.answer(ask.lease).copied();
        let mut grant = self.record.acquire(&there, &ask, now);
        self.report.questions += 1;
        // One that was known may have been forgotten meanwhile and granted anew.
        let is_new = known != Some(grant);
        let granted = if is_new { grant.granted } else { 0 };
        let ledger = self.ledgers.entry(grant.epoch).or_default();
        ledger.granted += granted;
        ledger.ends = self.record.ends_nanos();
        if let Some(before) = before {
            self.writes.push_back(Write {
                before,
                granted,
                settled,
            });
            if self.scenario.lost_writes < self.writes.len() {
                self.writes.pop_front();
            }
        }
        if let Span::Undilated { dilation_nanos } = self.scenario.span {
            grant.ends_in_nanos = dilation_nanos;
        }
        self.answers.push(grant);
        let answer = self.answers.len() - 1;
        for delay in self.copies() {
            self.plan(delay, Event::ToNode { node, answer });
        }
    }

    fn fail_over(&mut self) {
        for write in &self.writes {
            self.report.forgotten += write.granted;
            // What came back is handed out again by the record, and may come back once more.
            for (epoch, back) in &write.settled {
                self.ledgers.entry(*epoch).or_default().settled -= back;
            }
        }
        if let Some(write) = self.writes.pop_front() {
            self.record = write.before;
        }
        self.writes.clear();
    }

    fn hear(&mut self, node: usize, answer: usize) {
        let (now, here) = (self.node_now(node), self.here());
        let grant = self.answers[answer];
        if self.nodes[node].holder.granted(&here, &grant, now) {
            self.serve_waiting(node);
        }
    }

    fn serve_waiting(&mut self, node: usize) {
        let (now, here) = (self.node_now(node), self.here());
        while !self.nodes[node].waiting.is_empty() {
            let take = self.nodes[node].holder.retake(&here, now, 1);
            if !self.settle_request(node, take) {
                return;
            }
            self.nodes[node].waiting.pop_front();
        }
    }

    fn miss(&mut self, node: usize, (life, serial): (u64, u64), tries: u32) {
        let lease = LeaseId {
            node: NodeId(life),
            serial,
        };
        let holder = &mut self.nodes[node].holder;
        let Some(ask) = holder.ask_again().filter(|ask| ask.lease == lease) else {
            return;
        };
        if tries < TRIES {
            return self.send_ask(node, ask, tries + 1);
        }
        holder.abandon();
        for _ in 0..std::mem::take(&mut self.nodes[node].waiting).len() {
            self.report.gave_up += 1;
            self.refuse();
        }
    }

    fn crash(&mut self, node: usize) {
        let now = self.node_now(node);
        self.report.crashed += self.nodes[node].holder.tokens(now);
        for _ in 0..std::mem::take(&mut self.nodes[node].waiting).len() {
            self.report.gave_up += 1;
            self.refuse();
        }
        self.nodes[node].holder = LeaseHolder::new(NodeId(self.lives));
        self.lives += 1;
    }

    fn admit(&mut self, node: usize) {
        self.report.admitted += 1;
        let now = self.store_now();
        if self.is_sliding() {
            self.trim(now);
            self.window.push_back(now);
            let most = self.window.len() as u64;
            self.report.most = self.report.most.max(most);
            self.expect(most <= self.at_most(), || {
                format!("a window holds {most} admissions")
            });
        }
        let epoch = self.nodes[node].holder.epoch();
        let ledger = self.ledgers.entry(epoch).or_default();
        ledger.admitted += 1;
        let (admitted, ends) = (ledger.admitted, ledger.ends);
        let stands = ledger.granted - ledger.settled;
        self.expect(admitted <= stands, || {
            format!("{admitted} admitted of {stands} granted in {epoch:?}")
        });
        self.expect(now < ends, || {
            format!("a unit of {epoch:?} used at {now}, after {ends}")
        });
        if !self.is_sliding() {
            self.report.most = self.report.most.max(admitted);
            self.expect(admitted <= self.at_most(), || {
                format!("{admitted} admitted in {epoch:?}")
            });
        }
    }

    /// Forgets admissions that no window which ends now holds.
    fn trim(&mut self, now: u64) {
        let from = now.saturating_sub(self.scenario.period_nanos);
        while self.window.front().is_some_and(|at| *at <= from) {
            self.window.pop_front();
        }
    }

    fn is_sliding(&self) -> bool {
        matches!(
            self.scenario.span,
            Span::Sliding { .. } | Span::Undilated { .. }
        )
    }

    fn at_most(&self) -> u64 {
        self.scenario.limit + self.report.forgotten
    }

    /// Counts a refusal that an exact limit would not have made.
    fn refuse(&mut self) {
        let now = self.store_now();
        let admitted = if self.is_sliding() {
            self.trim(now);
            self.window.len() as u64
        } else if now < self.record.ends_nanos() {
            let ledger = self.ledgers.get(&self.record.epoch());
            ledger.map_or(0, |ledger| ledger.admitted)
        } else {
            0
        };
        if admitted < self.scenario.limit {
            self.report.false_refusals += 1;
        }
    }

    /// The record's own promise, after each event.
    fn check(&mut self) {
        let now = self.store_now();
        if self.is_sliding() {
            return; // Windows are checked where requests are admitted.
        }
        let used = self.record.used(now);
        self.expect(used <= self.at_most(), || format!("{used} used"));
        if self.report.forgotten == 0 && now < self.record.ends_nanos() {
            let ledger = self.ledgers.get(&self.record.epoch());
            let stands = ledger.map_or(0, |ledger| ledger.granted - ledger.settled);
            self.expect(used == stands, || format!("{used} used, {stands} granted"));
        }
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.get_or_insert_with(what);
        }
    }

    fn end(mut self) -> Report {
        let now = self.store_now();
        if !self.is_sliding() {
            // The calendar's first epoch began before the world did.
            let cut = usize::from(self.scenario.span == Span::Aligned);
            let ledgers = self.ledgers.values().filter(|ledger| ledger.granted > 0);
            let over = ledgers.skip(cut).filter(|ledger| ledger.ends <= now);
            self.report.epochs = over.map(|ledger| ledger.admitted).collect();
        }
        self.report
    }
}

/// What a clock shows after so long that runs fast by so many millionths.
fn drifted(nanos: u64, millionths: i64) -> u64 {
    let off = i128::from(nanos) * i128::from(millionths) / 1_000_000;
    u64::try_from(i128::from(nanos) + off).unwrap_or(0)
}
