//! A way to a server on which messages go wrong: they come late, twice, or not at all, and connections are cut.
//!
//! TCP loses nothing in the middle of a connection, so a lost message is one after which its connection is silent until
//! it is cut. A message that is lost on the way there may still arrive when the connection is gone, after others of a
//! newer one. One that comes twice is as if a client or a proxy had sent it again: the server acts on it twice, and one
//! of the answers is delivered.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep, sleep_until},
};
use tollgate_redis::LimitMode;

use crate::oversell::length;

/// What goes wrong, of ten thousand messages each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The longest that a message takes; half as long on average.
    pub(crate) delay: Duration,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) cut: u64,
}

impl Faults {
    /// Some of each. Where many messages are sent, not so many of them: a lost answer costs a chunk, so what may be lost
    /// to the limit is their number.
    pub(crate) fn storm(mode: LimitMode) -> Self {
        let some = match mode {
            LimitMode::Exact => 1,
            _ if length() > 1 => 10,
            _ => 100,
        };
        Self {
            delay: Duration::from_millis(4),
            lost: some,
            doubled: if mode == LimitMode::Exact { 100 } else { 500 },
            cut: some,
        }
    }

    /// A round trip of so long, and nothing wrong.
    pub(crate) fn far(round_trip: Duration) -> Self {
        Self {
            delay: round_trip / 2,
            ..Self::default()
        }
    }
}

pub(crate) struct Proxy {
    port: u16,
    faults: Arc<Mutex<Faults>>,
    serves: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

impl Proxy {
    /// A way to the server at this port, with delays that are always the longest where `is_even`.
    pub(crate) async fn to(server: u16, faults: Faults, is_even: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(faults));
        let faults = shared.clone();
        let serves = tokio::spawn(async move {
            let mut seed = u64::from(server);
            while let Ok((client, _)) = listener.accept().await {
                seed += 1;
                let dice = Dice(seed);
                let faults = faults.clone();
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                        connect(client, server, faults, dice, is_even).await;
                    }
                });
            }
        });
        Self {
            port,
            faults: shared,
            serves,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }
}

/// Numbers that only have to be the same each time (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn happens(&mut self, of_ten_thousand: u64) -> bool {
        self.roll() % 10_000 < of_ten_thousand
    }
}

/// What a connection knows of the answers to come: whether each is delivered.
type Answers = Arc<Mutex<VecDeque<bool>>>;

async fn connect(
    client: TcpStream,
    server: TcpStream,
    faults: Arc<Mutex<Faults>>,
    mut dice: Dice,
    is_even: bool,
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answers = Answers::default();
    let back = Way {
        faults: faults.clone(),
        dice: Dice(dice.roll()),
        answers: answers.clone(),
        is_even,
    };
    let there = Way {
        faults,
        dice,
        answers,
        is_even,
    };
    let back = tokio::spawn(back.answers(from_server, to_client));
    there.questions(from_client, to_server).await;
    back.abort(); // Both ends see it closed.
}

struct Way {
    faults: Arc<Mutex<Faults>>,
    dice: Dice,
    answers: Answers,
    is_even: bool,
}

impl Way {
    /// Carries questions until the connection ends, or is to be cut.
    async fn questions(mut self, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut frames = frames(from, self.arrival());
        while let Some((frame, arrives)) = frames.recv().await {
            let faults = *self.faults.lock();
            sleep_until(arrives).await;
            if self.dice.happens(faults.cut) {
                return;
            }
            if self.dice.happens(faults.lost) {
                let is_late = self.dice.happens(5000);
                sleep(Duration::from_millis(20)).await; // Silence.
                if is_late {
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(30)).await;
                        let _ = to.write_all(&frame).await;
                        sleep(Duration::from_millis(30)).await; // It is read before the end is seen.
                    });
                }
                return;
            }
            let is_doubled = self.dice.happens(faults.doubled);
            let copies = if is_doubled {
                let is_first = self.dice.happens(5000);
                self.answers.lock().extend([is_first, !is_first]);
                2
            } else {
                self.answers.lock().push_back(true);
                1
            };
            for _ in 0..copies {
                if to.write_all(&frame).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn answers(mut self, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut frames = frames(from, self.arrival());
        while let Some((frame, arrives)) = frames.recv().await {
            let faults = *self.faults.lock();
            sleep_until(arrives).await;
            let is_delivered = self.answers.lock().pop_front().unwrap_or(true);
            if self.dice.happens(faults.lost) {
                sleep(Duration::from_millis(20)).await;
                break;
            }
            if is_delivered && to.write_all(&frame).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }

    /// When a message arrives that is sent now.
    fn arrival(&mut self) -> impl FnMut() -> Instant + Send + use<> {
        let (faults, is_even) = (self.faults.clone(), self.is_even);
        let mut dice = Dice(self.dice.roll());
        move || {
            let longest = faults.lock().delay.as_micros() as u64;
            let micros = if is_even {
                longest
            } else {
                dice.roll() % (longest + 1)
            };
            Instant::now() + Duration::from_micros(micros)
        }
    }
}

/// Reads messages while others are on their way.
fn frames(
    from: OwnedReadHalf,
    mut arrival: impl FnMut() -> Instant + Send + 'static,
) -> UnboundedReceiver<(Vec<u8>, Instant)> {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        let mut frames = Frames::new(from);
        while let Some(frame) = frames.next().await {
            if sender.send((frame, arrival())).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Messages of Redis's protocol, each whole.
struct Frames {
    from: OwnedReadHalf,
    read: Vec<u8>,
}

impl Frames {
    fn new(from: OwnedReadHalf) -> Self {
        let read = Vec::new();
        Self { from, read }
    }

    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = end_of_frame(&self.read, 0) {
                let rest = self.read.split_off(end);
                return Some(std::mem::replace(&mut self.read, rest));
            }
            if self.from.read_buf(&mut self.read).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// Where the message ends that starts at `start`, if it is there.
fn end_of_frame(text: &[u8], start: usize) -> Option<usize> {
    let line = text.get(start..)?;
    let length = line.windows(2).position(|pair| pair == b"\r\n")?;
    let after = start + length + 2;
    let number = || {
        std::str::from_utf8(&line[1..length])
            .ok()?
            .parse::<i64>()
            .ok()
    };
    match line[0] {
        b'$' => match usize::try_from(number()?) {
            Ok(bytes) => {
                let end = after + bytes + 2;
                (end <= text.len()).then_some(end)
            }
            Err(_) => Some(after), // There is none.
        },
        b'*' => {
            let mut end = after;
            for _ in 0..number()? {
                end = end_of_frame(text, end)?;
            }
            Some(end)
        }
        _ => Some(after),
    }
}
