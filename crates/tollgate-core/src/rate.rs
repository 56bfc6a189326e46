//! How a rate is counted: the states of one counter, with the time passed in.
//!
//! | [`Algorithm`](crate::limits::Algorithm) | kept | admitted in any window at most |
//! |---|---|---|
//! | `Sliding`, up to 128 requests | the time of each request | R |
//! | `Sliding`, above | 64 slots of a 63rd of the window each | R, and R after a rest; under load 1.6 % less |
//! | `FixedWindow` | the count of the window | 2 R |
//! | `Bucket` | the count of the window | 2 R |
//! | `Gcra` | the time at which the burst is whole again | 2 R |
//!
//! Times are ticks of the monotonic clock, so nobody's clock setting grants anything; the wall clock
//! only tells where a fixed window starts. A tick earlier than one seen before (two threads read the
//! clock and come in the other order) counts as the later one.
//!
//! See [`limits`](crate::limits) and [`tally`](crate::store::tally) for examples.

use crate::clock::Moment;

/// The largest rate whose requests are kept one by one.
pub(crate) const EXACT: u64 = 128;

/// The time of each request of the window, oldest first.
///
/// One allocation, so that a counter's state stays three words: a ring of times, then the newest time
/// ever added, then where the ring starts, how many it holds, how long they count, and how many of
/// them had left the window when the last one was added.
#[derive(Clone, Debug)]
pub(crate) struct Ring(Box<[u64]>);

#[derive(Clone, Copy, Default)]
struct Meta {
    first: usize,
    len: usize,
    log2: u8,    // Of the longest window asked for.
    gone: usize, // A hint; never above `len`.
}

impl Ring {
    const EXTRA: usize = 2;

    pub(crate) fn new(requests: u64, window: u64) -> Self {
        let capacity = usize::try_from(requests.min(EXACT)).expect("at most 128");
        let mut ring = Self(vec![0; capacity + Self::EXTRA].into());
        ring.set_meta(Meta {
            log2: window_log2(window),
            ..Meta::default()
        });
        ring
    }

    fn capacity(&self) -> usize {
        self.0.len() - Self::EXTRA
    }

    fn newest(&self) -> u64 {
        self.0[self.capacity()]
    }

    fn meta(&self) -> Meta {
        let [first, len, log2, gone, ..] = self.0[self.capacity() + 1].to_le_bytes();
        Meta {
            first: first.into(),
            len: len.into(),
            log2,
            gone: gone.into(),
        }
    }

    fn set_meta(&mut self, meta: Meta) {
        // No place is above 128.
        let (first, len, gone) = (meta.first as u8, meta.len as u8, meta.gone as u8);
        let capacity = self.capacity();
        self.0[capacity + 1] = u64::from_le_bytes([first, len, meta.log2, gone, 0, 0, 0, 0]);
    }

    fn place(&self, first: usize, index: usize) -> usize {
        let place = first + index;
        if place < self.capacity() {
            place
        } else {
            place - self.capacity()
        }
    }

    fn time(&self, index: usize) -> u64 {
        self.0[self.place(self.meta().first, index)]
    }

    fn len(&self) -> usize {
        self.meta().len
    }

    pub(crate) fn times(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.len()).map(|index| self.time(index))
    }

    /// Makes room for this rate. Room is never taken away while requests count: two callers with
    /// different limits may share the counter, and the larger must not forget for the smaller.
    pub(crate) fn fit(&mut self, requests: u64, window: u64) {
        let meta = self.meta();
        let log2 = meta.log2.max(window_log2(window));
        if requests.min(EXACT) <= self.capacity() as u64 {
            if log2 != meta.log2 {
                self.set_meta(Meta { log2, ..meta });
            }
            return;
        }
        let mut grown = Self::new(requests, window);
        for (place, time) in self.times().enumerate() {
            grown.0[place] = time;
        }
        let capacity = grown.capacity();
        grown.0[capacity] = self.newest();
        grown.set_meta(Meta {
            first: 0,
            log2,
            ..meta
        });
        *self = grown;
    }

    /// How many of the requests at or before `time` there are.
    fn up_to(&self, time: u64) -> usize {
        const NEAR: usize = 4;
        let Meta { len, gone, .. } = self.meta();
        let (mut low, mut high) = (0, len);
        // Mostly about as many as last time.
        for place in gone..len.min(gone + NEAR) {
            if time < self.time(place) {
                high = place;
                break;
            }
            low = place + 1;
        }
        if 0 < gone && low <= gone && self.time(gone - 1) <= time {
            low = gone;
        }
        while low < high {
            let middle = low.midpoint(high);
            if self.time(middle) <= time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(crate) fn used(&self, window: u64, now: u64) -> u64 {
        let gone = now.checked_sub(window).map_or(0, |edge| self.up_to(edge));
        (self.len() - gone) as u64
    }

    /// What counts by the longest window that was asked for.
    pub(crate) fn used_by_own(&self, now: u64) -> u64 {
        self.used(log2_window(self.meta().log2), now)
    }

    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.len() == 0 || self.newest().saturating_add(log2_window(self.meta().log2)) <= now
    }

    /// The tick from which on `cost` more fit; `cost` is not above the rate.
    pub(crate) fn earliest(&self, requests: u64, window: u64, now: u64, cost: u64) -> u64 {
        let may_stay = usize::try_from(requests - cost).unwrap_or(usize::MAX);
        let len = self.len();
        if len <= may_stay {
            return now;
        }
        let must_go = self.time(len - may_stay - 1);
        now.max(must_go.saturating_add(window))
    }

    /// Whether `cost` more fit at once, and no time before the newest is asked about.
    #[inline]
    pub(crate) fn is_ready_for(&self, requests: u64, window: u64, now: u64, cost: u64) -> bool {
        requests <= self.capacity() as u64
            && window_log2(window) <= self.meta().log2
            && self.newest() <= now
            && cost <= requests
            && self.earliest(requests, window, now, cost) <= now
    }

    /// Adds where it is ready. How many have left the window is told by whoever asks next.
    #[inline]
    pub(crate) fn add_ready(&mut self, now: u64, cost: u64) {
        let capacity = self.capacity();
        let mut meta = self.meta();
        for _ in 0..cost.min(capacity as u64) {
            if meta.len == capacity {
                meta.first = self.place(meta.first, 1); // The oldest, out of every window by now.
                meta.len -= 1;
                meta.gone = meta.gone.saturating_sub(1);
            }
            let place = self.place(meta.first, meta.len);
            self.0[place] = now;
            meta.len += 1;
        }
        self.0[capacity] = now;
        self.set_meta(meta);
    }

    pub(crate) fn resets_at(&self, window: u64, now: u64) -> u64 {
        match self.len() {
            0 => now,
            len => now.max(self.time(len - 1).saturating_add(window)),
        }
    }

    pub(crate) fn add(&mut self, window: u64, now: u64, cost: u64) {
        let now = now.max(self.newest());
        let gone = now.checked_sub(window).map_or(0, |edge| self.up_to(edge));
        self.set_meta(Meta {
            gone,
            ..self.meta()
        });
        self.add_ready(now, cost);
    }

    pub(crate) fn give_back(&mut self, window: u64, taken_at: u64, cost: u64) {
        if taken_at.saturating_add(window) <= self.newest() {
            return;
        }
        // One that came out of order was added at a later time than it knows.
        let from = taken_at
            .checked_sub(1)
            .map_or(0, |before| self.up_to(before));
        let Meta { first, len, .. } = self.meta();
        let given = usize::try_from(cost).unwrap_or(len).min(len - from);
        for index in from..len - given {
            let to = self.place(first, index);
            self.0[to] = self.time(index + given);
        }
        let mut meta = self.meta();
        meta.len -= given;
        meta.gone = meta.gone.min(meta.len);
        self.set_meta(meta);
    }
}

/// The exponent of the smallest power of two that is not below `window`.
fn window_log2(window: u64) -> u8 {
    (64 - window.max(1).saturating_sub(1).leading_zeros()) as u8
}

fn log2_window(log2: u8) -> u64 {
    1u64.checked_shl(u32::from(log2)).unwrap_or(u64::MAX)
}

/// A number of requests in a slot.
pub(crate) trait Cell: Copy + Default + Into<u64> {
    /// `count`, which the caller keeps in range.
    fn of(count: u64) -> Self;
}

impl Cell for u32 {
    fn of(count: u64) -> Self {
        Self::try_from(count).unwrap_or(Self::MAX)
    }
}

impl Cell for u64 {
    fn of(count: u64) -> Self {
        count
    }
}

const SLOTS: u64 = 64;

/// How many requests there were in each of the last 64 slots of time.
///
/// A slot lasts a 63rd of the window, so no window touches more than 64 of them, and their sum is
/// never below what any window holds.
#[derive(Clone, Debug)]
pub(crate) struct Slots<C> {
    body: Box<SlotBody<C>>,
    head: u64, // The number of the newest slot.
}

#[derive(Clone, Debug)]
struct SlotBody<C> {
    counts: [C; SLOTS as usize],
    width: u64, // Above zero.
    asked: u64, // When a window of this width was last asked for.
    sum: u64,   // Of all counts.
}

impl<C: Cell> Slots<C> {
    pub(crate) fn new(window: u64, now: u64) -> Self {
        let width = slot_width(window);
        Self {
            body: Box::new(SlotBody {
                counts: [C::default(); SLOTS as usize],
                width,
                asked: now,
                sum: 0,
            }),
            head: now / width + SLOTS,
        }
    }

    /// The number of the slot that holds `time`; never below 64, so that there are slots before.
    fn number(&self, time: u64) -> u64 {
        time / self.body.width + SLOTS
    }

    /// The same, or the newest slot where that is later.
    fn last(&self, now: u64) -> u64 {
        let (start, width) = (self.start(self.head), self.body.width);
        match now.checked_sub(start) {
            None => self.head,
            Some(into) if into < width => self.head,
            Some(into) if into - width < width => self.head + 1,
            Some(_) => self.number(now),
        }
    }

    fn start(&self, number: u64) -> u64 {
        number.saturating_sub(SLOTS).saturating_mul(self.body.width)
    }

    fn count(&self, number: u64) -> u64 {
        self.body.counts[(number % SLOTS) as usize].into()
    }

    /// How many slots before the newest a window reaches into.
    fn reach(&self, window: u64) -> u64 {
        if self.body.width.saturating_mul(SLOTS - 2) < window {
            return SLOTS - 1;
        }
        window.div_ceil(self.body.width)
    }

    /// Whether the slots are as wide as this window asks.
    pub(crate) fn is_for(&self, window: u64) -> bool {
        slot_width(window) == self.body.width
    }

    /// Makes the slots fit this window. They grow at once, which forgets nothing, and shrink when
    /// nobody has asked for the longer window for as long as it lasts.
    pub(crate) fn fit(&mut self, window: u64, now: u64) {
        let (width, body) = (slot_width(window), &self.body);
        if width == body.width {
            return self.was_asked(now);
        }
        let longest = body.width.saturating_mul(SLOTS - 1);
        if body.width < width || body.asked.saturating_add(longest) <= now {
            *self = self.rebuilt(window, now);
        }
    }

    /// A window of their own width was asked for.
    pub(crate) fn was_asked(&mut self, now: u64) {
        self.body.asked = self.body.asked.max(now);
    }

    /// The same counts in slots for this window, none of them earlier than it was.
    pub(crate) fn rebuilt<D: Cell>(&self, window: u64, now: u64) -> Slots<D> {
        let now = now.max(self.start(self.head));
        let mut slots = Slots::new(window, self.start(self.head + 1 - SLOTS));
        for number in self.head + 1 - SLOTS..=self.head {
            let count = self.count(number);
            if count > 0 {
                slots.add(now.min(self.start(number + 1).saturating_sub(1)), count);
            }
        }
        slots.body.asked = now;
        slots
    }

    /// The sum of the slots that a window which ends in slot `last` reaches into.
    fn sum(&self, last: u64, window: u64) -> u64 {
        let (reach, first) = (self.reach(window), self.head + 1 - SLOTS);
        let oldest = last - reach;
        if self.head < oldest {
            return 0;
        }
        if oldest <= first + SLOTS / 2 {
            let gone = (first..oldest).map(|number| self.count(number));
            return self.body.sum - gone.sum::<u64>();
        }
        (oldest..=self.head).map(|number| self.count(number)).sum()
    }

    pub(crate) fn used(&self, window: u64, now: u64) -> u64 {
        self.sum(self.last(now), window)
    }

    pub(crate) fn used_by_own(&self, now: u64) -> u64 {
        self.used(self.body.width.saturating_mul(SLOTS - 1), now)
    }

    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.body.sum == 0 || self.head + SLOTS <= self.number(now)
    }

    /// The tick from which on `cost` more fit; `cost` is not above the rate.
    pub(crate) fn earliest(&self, requests: u64, window: u64, now: u64, cost: u64) -> u64 {
        let last = self.last(now);
        let mut sum = self.sum(last, window);
        if sum <= requests - cost {
            return now;
        }
        let reach = self.reach(window);
        for number in (last - reach).max(self.head + 1 - SLOTS)..=self.head {
            sum -= self.count(number);
            if sum <= requests - cost {
                return now.max(self.start(number + reach + 1));
            }
        }
        now // Not reached: without any slot the sum is zero.
    }

    pub(crate) fn resets_at(&self, window: u64, now: u64) -> u64 {
        let last = self.last(now);
        let reach = self.reach(window);
        let oldest = (last - reach).max(self.head + 1 - SLOTS);
        let newest = (oldest..=self.head)
            .rev()
            .find(|number| self.count(*number) > 0);
        newest.map_or(now, |number| now.max(self.start(number + reach + 1)))
    }

    /// What counts at most in a window of slots of this [width](usual_width) that ends now, where they are as
    /// wide and none is newer: what has left the window since the newest slot is counted too.
    #[inline]
    pub(crate) fn at_most(&self, width: u64, now: u64) -> Option<u64> {
        let is_for = width == self.body.width && self.start(self.head) <= now;
        is_for.then_some(self.body.sum)
    }

    /// Adds what fits, as [`at_most`](Self::at_most) told.
    #[inline]
    pub(crate) fn add_ready(&mut self, now: u64, cost: u64) {
        self.was_asked(now);
        if self.body.width <= now.wrapping_sub(self.start(self.head)) {
            return self.add_to_later(now, cost);
        }
        let body = &mut *self.body;
        let count = &mut body.counts[(self.head % SLOTS) as usize];
        *count = C::of((*count).into() + cost); // Not above the rate.
        body.sum += cost;
    }

    #[cold]
    fn add_to_later(&mut self, now: u64, cost: u64) {
        self.add(now, cost);
    }

    /// What counts right after something was added to the newest slot, and when that counts no more.
    pub(crate) fn after_adding(&self) -> (u64, Option<u64>) {
        (self.body.sum, Some(self.start(self.head + SLOTS)))
    }

    pub(crate) fn add(&mut self, now: u64, cost: u64) {
        let number = self.last(now);
        if self.head + SLOTS <= number {
            self.body.counts = [C::default(); SLOTS as usize];
            self.body.sum = 0;
            self.head = number;
        } else if self.head < number {
            for passed in self.head + 1..=number {
                let count = &mut self.body.counts[(passed % SLOTS) as usize];
                self.body.sum -= (*count).into();
                *count = C::default();
            }
            self.head = number;
        }
        let count = self.count(self.head);
        self.body.counts[(self.head % SLOTS) as usize] = C::of(count.saturating_add(cost));
        self.body.sum += self.count(self.head) - count;
    }

    pub(crate) fn give_back(&mut self, taken_at: u64, cost: u64) {
        // One that came out of order was added to the slot that was then the newest: to this one or
        // a later one. Later ones only hold it when this one holds nothing of it.
        let number = self.number(taken_at);
        if number + SLOTS <= self.head {
            return;
        }
        let mut left = cost;
        for number in number..=self.head {
            let count = self.count(number);
            let gone = count.min(left);
            self.body.counts[(number % SLOTS) as usize] = C::of(count - gone);
            self.body.sum -= gone;
            left -= gone;
            if left == 0 {
                return;
            }
        }
    }
}

/// The width of the slots of a window that reaches into all of them, as all do but the shortest; zero for
/// those.
pub(crate) fn usual_width(window: u64) -> u64 {
    let width = slot_width(window);
    if width.saturating_mul(SLOTS - 2) < window {
        width
    } else {
        0
    }
}

fn slot_width(window: u64) -> u64 {
    window.div_ceil(SLOTS - 1).max(1)
}

/// The count of one window of a fixed length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FixedWindow {
    pub(crate) used: u64,
    pub(crate) ends: u64,
    pub(crate) window: u64,
}

impl FixedWindow {
    pub(crate) fn new(window: u64, now: Moment) -> Self {
        Self {
            used: 0,
            ends: next_edge(window, now),
            window,
        }
    }

    /// Makes the window one of this length, and keeps what was counted within it.
    pub(crate) fn fit(&mut self, window: u64, now: Moment) {
        if window == self.window {
            return;
        }
        let fresh = Self::new(window, now);
        let starts = fresh.ends.saturating_sub(window);
        let used = if starts < self.ends { self.used } else { 0 };
        *self = Self { used, ..fresh };
    }

    pub(crate) fn used(&self, now: u64) -> u64 {
        if now < self.ends { self.used } else { 0 }
    }

    /// For one window more the end is remembered, see [`add`](Self::add).
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.ends.saturating_add(self.window) <= now
    }

    pub(crate) fn earliest(&self, requests: u64, now: u64, cost: u64) -> u64 {
        if self.used(now).saturating_add(cost) <= requests {
            now
        } else {
            self.ends
        }
    }

    pub(crate) fn resets_at(&self, now: u64) -> u64 {
        if self.used(now) == 0 { now } else { self.ends }
    }

    pub(crate) fn add(&mut self, now: Moment, cost: u64) {
        if self.ends <= now.ticks {
            let (ended, window) = (self.ends, self.window);
            *self = Self::new(window, now);
            // The next window ends a window after the last one, unless the wall clock was set in
            // between. Then it may not end sooner, or setting the clock would grant requests. A wall
            // clock that merely runs a little fast is followed.
            let shortest = ended.saturating_add(window - window / 64);
            if now.ticks < ended.saturating_add(window) && self.ends < shortest {
                self.ends = self.ends.saturating_add(window);
            }
        }
        self.used = self.used.saturating_add(cost);
    }

    pub(crate) fn give_back(&mut self, taken_at: u64, cost: u64) {
        if self.ends.saturating_sub(self.window) <= taken_at && taken_at < self.ends {
            self.used = self.used.saturating_sub(cost);
        }
    }
}

/// The tick at which the window of the wall clock's time ends. Windows are counted from the year 1.
fn next_edge(window: u64, now: Moment) -> u64 {
    const YEAR_1: u128 = 62_135_596_800 * 1_000_000_000; // Before 1970.
    let into = (u128::from(now.unix_nanos) + YEAR_1) % u128::from(window);
    let left = window - u64::try_from(into).expect("below the window");
    now.ticks.saturating_add(left)
}

/// The count of a window that starts with its first request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) used: u64,
    pub(crate) start: u64,
    pub(crate) ends: u64,
}

impl Bucket {
    pub(crate) fn new(window: u64, now: u64) -> Self {
        Self {
            used: 0,
            start: now,
            ends: now.saturating_add(window),
        }
    }

    pub(crate) fn fit(&mut self, window: u64) {
        self.ends = self.start.saturating_add(window);
    }

    pub(crate) fn used(&self, now: u64) -> u64 {
        if now < self.ends { self.used } else { 0 }
    }

    pub(crate) fn earliest(&self, requests: u64, now: u64, cost: u64) -> u64 {
        if self.used(now).saturating_add(cost) <= requests {
            now
        } else {
            self.ends
        }
    }

    pub(crate) fn resets_at(&self, now: u64) -> u64 {
        if self.used(now) == 0 { now } else { self.ends }
    }

    pub(crate) fn add(&mut self, window: u64, now: u64, cost: u64) {
        if self.used(now) == 0 {
            *self = Self::new(window, now);
        }
        self.used = self.used.saturating_add(cost);
    }

    pub(crate) fn give_back(&mut self, taken_at: u64, cost: u64) {
        if self.start <= taken_at && taken_at < self.ends {
            self.used = self.used.saturating_sub(cost);
        }
    }
}

/// The generic cell rate algorithm: one time, at which the whole burst is there again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gcra {
    pub(crate) interval: u64,
    pub(crate) whole_at: u64,
    /// Since when the burst has not been whole: what was taken before is made up for.
    pub(crate) since: u64,
}

impl Gcra {
    pub(crate) fn new(requests: u64, window: u64) -> Self {
        Self {
            interval: Self::interval_of(requests, window),
            whole_at: 0,
            since: 0,
        }
    }

    /// What one request takes of the window.
    pub(crate) fn interval_of(requests: u64, window: u64) -> u64 {
        window.div_ceil(requests).max(1)
    }

    /// Changes the rate, and keeps how many requests are counted.
    pub(crate) fn fit(&mut self, requests: u64, window: u64, now: u64) {
        if self.is_for(requests, window) {
            return;
        }
        let interval = Self::new(requests, window).interval;
        let level = u128::from(self.whole_at.saturating_sub(now));
        let level = (level * u128::from(interval)).div_ceil(u128::from(self.interval));
        let level = u64::try_from(level).unwrap_or(u64::MAX);
        if level > 0 {
            self.whole_at = now.saturating_add(level);
        }
        self.interval = interval;
    }

    /// Whether the interval is the one of this rate: told by products, as a division takes longer
    /// than all the rest of a decision.
    pub(crate) fn is_for(&self, requests: u64, window: u64) -> bool {
        let product = |interval: u64| u128::from(interval) * u128::from(requests);
        let window = u128::from(window);
        product(self.interval - 1) < window && window <= product(self.interval)
    }

    pub(crate) fn used(&self, now: u64) -> u64 {
        match self.whole_at.saturating_sub(now) {
            0 => 0,
            level if level <= self.interval => 1,
            level => level.div_ceil(self.interval),
        }
    }

    pub(crate) fn earliest(&self, requests: u64, now: u64, cost: u64) -> u64 {
        let room = self.interval.saturating_mul(requests - cost);
        now.max(self.whole_at.saturating_sub(room))
    }

    pub(crate) fn resets_at(&self, now: u64) -> u64 {
        now.max(self.whole_at)
    }

    pub(crate) fn add(&mut self, now: u64, cost: u64) {
        if self.whole_at <= now {
            (self.whole_at, self.since) = (now, now);
        }
        let cost = self.interval.saturating_mul(cost);
        self.whole_at = self.whole_at.saturating_add(cost);
    }

    pub(crate) fn give_back(&mut self, taken_at: u64, cost: u64) {
        if self.since <= taken_at && taken_at < self.whole_at {
            let cost = self.interval.saturating_mul(cost);
            self.whole_at = self.whole_at.saturating_sub(cost).max(self.since);
        }
    }
}
