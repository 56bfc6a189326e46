//! What limits on a Redis 2 ms away cost: round trips, and time.
//!
//! ```text
//! cargo run --release -p tollgate-bench --bin redis [seconds] [times]
//! ```
//!
//! Starts a `redis-server` and a proxy before it that holds each message back for a millisecond. First, several nodes
//! are asked at fixed times, and round trips are counted by the client and by the server's own statistics. Then a
//! stack is asked without limits, with limits that are leased, and with limits that are asked for, in turn; a time is that
//! of one call of the service. Round trips of a bare connection are measured meanwhile, through the same proxy. With
//! `times`, these alone.

use std::{
    convert::Infallible,
    error::Error,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener as StdListener, TcpStream as StdStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use http::{Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tollgate::{MemoryStore, SharedStore, Tollgate};
use tollgate_core::{
    clock::machine_time,
    limits::{Limit, Period, Quota, Rate},
    store::{Charge, Counter, LimitStore, Verdict},
};
use tollgate_redis::{LimitMode, RedisOptions, RedisStore};
use tower::{Layer, ServiceExt, service_fn};

/// What this program may fail with: it is read by whoever started it.
type Failure = Box<dyn Error + Send + Sync>;

/// How long a message takes, one way.
const ONE_WAY: Duration = Duration::from_millis(1);

/// A `redis-server` of our own, ended with this.
struct Server {
    port: u16,
    program: Child,
}

impl Server {
    async fn start() -> Result<Self, Failure> {
        let port = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let program = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", ""])
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self { port, program };
        let begun = Instant::now();
        while server.ask("PING").await.is_err() {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err("redis-server does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(server)
    }

    /// What it answers to a command, as text.
    async fn ask(&self, command: &str) -> Result<String, Failure> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        stream
            .write_all(format!("{command}\r\nQUIT\r\n").as_bytes())
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// How many scripts were called.
    async fn scripts(&self) -> Result<u64, Failure> {
        let text = self.ask("INFO commandstats").await?;
        let calls = text.lines().find_map(|line| {
            let calls = line.strip_prefix("cmdstat_evalsha:calls=")?;
            calls.split(',').next()?.parse().ok()
        });
        Ok(calls.unwrap_or_default())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Listens, and hands everything on to the server a while later. The port.
///
/// On threads of its own: the runtime's timer counts in milliseconds, and the messages would take half as long again.
fn proxy(server: u16) -> Result<u16, Failure> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            if carry_both(client, server).is_err() {
                return;
            }
        }
    });
    Ok(port)
}

fn carry_both(client: StdStream, server: u16) -> io::Result<()> {
    let server = StdStream::connect((Ipv4Addr::LOCALHOST, server))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (to_client, to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || carry(client, to_server));
    thread::spawn(move || carry(server, to_client));
    Ok(())
}

fn carry(mut from: StdStream, mut to: StdStream) {
    let (sender, receiver) = std::sync::mpsc::channel::<(Vec<u8>, Instant)>();
    thread::spawn(move || {
        while let Ok((bytes, due)) = receiver.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write); // The other end may have gone.
    });
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if sender
            .send((bytes[..read].to_vec(), Instant::now() + ONE_WAY))
            .is_err()
        {
            return;
        }
    }
}

fn connect(port: u16, mode: LimitMode) -> Result<RedisStore, Failure> {
    let options = RedisOptions::single(&format!("redis://127.0.0.1:{port}/"))?;
    // Long enough that no answer is late on a busy machine.
    let options = options.deadline(Duration::from_secs(1)).notices(false);
    Ok(options.mode(mode).connect()?)
}

/// Calls `send` at fixed times, and waits for all that it started.
async fn at_fixed_times<F>(
    per_second: f64,
    lasts: Duration,
    mut send: impl FnMut() -> Option<F>,
) -> u64
where
    F: Future<Output = ()> + Send + 'static,
{
    let (start, mut sent, mut waiting) = (Instant::now(), 0, JoinSet::new());
    while start.elapsed() < lasts {
        let due = (start.elapsed().as_secs_f64() * per_second) as u64;
        while sent < due {
            sent += 1;
            if let Some(started) = send() {
                waiting.spawn(started);
            }
        }
        while waiting.try_join_next().is_some() {}
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while waiting.join_next().await.is_some() {}
    sent
}

/// One load of the first table.
struct Load {
    name: &'static str,
    limit: Limit,
    nodes: usize,
    per_second: f64,
}

fn loads() -> Vec<Load> {
    let second = Duration::from_secs(1);
    let load = |name, limit, nodes, per_second| Load {
        name,
        limit,
        nodes,
        per_second,
    };
    let rate = |requests, window| Limit::from(Rate::per(requests, window));
    let quota = Quota::per(1_000_000, Period::Every(24 * 3600 * second));
    vec![
        load("1000 in any second", rate(1000, second), 4, 900.0),
        load("1000 in any second", rate(1000, second), 4, 2000.0),
        load(
            "100,000 in any minute",
            rate(100_000, 60 * second),
            4,
            1600.0,
        ),
        load(
            "100,000 in any minute",
            rate(100_000, 60 * second),
            8,
            3300.0,
        ),
        load("a million a day", quota.into(), 4, 1000.0),
    ]
}

/// Round trips of a thousand requests, by the client and the server, and the part of them that was admitted.
async fn trips(load: &Load, mode: LimitMode, lasts: Duration) -> Result<(f64, f64, f64), Failure> {
    let server = Server::start().await?;
    let port = proxy(server.port)?;
    let stores: Vec<_> = (0..load.nodes)
        .map(|_| connect(port, mode))
        .collect::<Result<_, _>>()?;
    let play = async |lasts| {
        let mut playing = JoinSet::new();
        for store in stores.clone() {
            let batch = Arc::new([Charge::new(
                Counter::new("rate:key:0::3:all:0:"),
                load.limit.clone(),
            )]);
            let per_second = load.per_second / load.nodes as f64;
            playing.spawn(async move {
                let admitted = Arc::new(std::sync::atomic::AtomicU64::new(0));
                let count = |admitted: &std::sync::atomic::AtomicU64, verdict: &Verdict| {
                    let is_taken = matches!(verdict, Verdict::Taken(_));
                    admitted.fetch_add(is_taken.into(), std::sync::atomic::Ordering::Relaxed);
                };
                let sent = at_fixed_times(per_second, lasts, || {
                    if let Some(verdict) = store.try_take(&*batch, machine_time()) {
                        count(&admitted, &verdict);
                        return None;
                    }
                    let (store, batch, admitted) = (store.clone(), batch.clone(), admitted.clone());
                    Some(async move {
                        if let Ok(verdict) = store.take(&*batch, machine_time()).await {
                            count(&admitted, &verdict);
                        }
                    })
                })
                .await;
                (sent, admitted.load(std::sync::atomic::Ordering::Relaxed))
            });
        }
        let counts = playing.join_all().await;
        counts
            .iter()
            .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    };
    play(Duration::from_secs(2)).await; // Warms up.
    let round_trips = || stores.iter().map(RedisStore::round_trips).sum::<u64>();
    let (before, scripts) = (round_trips(), server.scripts().await?);
    let (sent, admitted) = play(lasts).await;
    let of_thousand = |count: u64| count as f64 * 1000.0 / sent as f64;
    let by_client = of_thousand(round_trips() - before);
    let by_server = of_thousand(server.scripts().await? - scripts);
    Ok((by_client, by_server, admitted as f64 / sent as f64))
}

/// The limits of the second table.
const SESSION: &str = r#"{"rate": 100000, "per": 60, "quota_max": 100000000, "quota_renewal_rate": 86400,
    "access_rights": {"orders": {}}}"#;

/// Times of calls of a stack, sorted, in microseconds. `limits` are kept there; without them there are none.
async fn times(
    limits: Option<RedisStore>,
    per_second: f64,
    lasts: Duration,
) -> Result<Vec<f64>, Failure> {
    let sessions = MemoryStore::new();
    sessions.insert("token", SESSION.parse()?)?;
    let gate = match limits {
        Some(limits) => Tollgate::builder(SharedStore::new(sessions, limits))
            .api("orders")
            .rate_limit()
            .quota(),
        None => Tollgate::builder(sessions).api("orders"),
    };
    let layer = gate.build()?.layer();
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let play = async |lasts| {
        at_fixed_times(per_second, lasts, || {
            let handler =
                |_: Request<()>| std::future::ready(Ok::<_, Infallible>(Response::new(())));
            let service = layer.layer(service_fn(handler));
            let (times, request) = (
                times.clone(),
                Request::get("/orders")
                    .header("authorization", "token")
                    .body(()),
            );
            Some(async move {
                let (Ok(request), begun) = (request, Instant::now()) else {
                    return;
                };
                let Ok(response) = service.oneshot(request).await;
                let micros = begun.elapsed().as_secs_f64() * 1e6;
                if response.status().is_success() {
                    times.lock().expect("nobody panics").push(micros);
                }
            })
        })
        .await
    };
    play(Duration::from_secs(2)).await;
    times.lock().expect("nobody panics").clear();
    play(lasts).await;
    let mut times = std::mem::take(&mut *times.lock().expect("nobody panics"));
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// How long a round trip takes that nothing of ours has a part in, one after the other meanwhile: sorted, in
/// microseconds.
async fn pings(port: u16, lasts: Duration) -> Result<Vec<f64>, Failure> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < lasts {
        let (begun, mut answer) = (Instant::now(), [0; 7]);
        stream.write_all(b"PING\r\n").await?;
        stream.read_exact(&mut answer).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn part(times: &[f64], of_hundred: usize) -> f64 {
    times
        .get(times.len() * of_hundred / 100)
        .copied()
        .unwrap_or(f64::NAN)
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
#[tokio::main]
async fn main() -> Result<(), Failure> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(10), |text| text.parse())?;
    let lasts = Duration::from_secs(seconds);
    println!(
        "| limit | nodes | requests a second | mode | round trips of 1000, by the client | by the server | admitted |"
    );
    println!("|---|---:|---:|---|---:|---:|---:|");
    let only_times = std::env::args().nth(2).is_some();
    for load in loads().iter().filter(|_| !only_times) {
        for mode in [LimitMode::Exact, LimitMode::Auto] {
            let (client, server, admitted) = trips(load, mode, lasts).await?;
            let Load {
                name,
                nodes,
                per_second,
                ..
            } = load;
            println!(
                "| {name} | {nodes} | {per_second} | {mode:?} | {client:.1} | {server:.1} | {admitted:.3} |"
            );
        }
    }
    let server = Server::start().await?;
    let port = proxy(server.port)?;
    println!(
        "\n| a rate and a quota, 500 requests a second | p50 µs | p99 µs | a round trip meanwhile, p50 µs | p99 µs |"
    );
    println!("|---|---:|---:|---:|---:|");
    let stacks = [
        ("no limits", None),
        ("leased", Some(LimitMode::Auto)),
        ("exact", Some(LimitMode::Exact)),
    ];
    for (name, mode) in stacks {
        let limits = mode.map(|mode| connect(port, mode)).transpose()?;
        // The first two seconds are not counted there.
        let pings = tokio::spawn(pings(port, lasts + Duration::from_secs(2)));
        let times = times(limits, 500.0, lasts).await?;
        let pings = pings.await??;
        println!(
            "| {name} | {:.1} | {:.1} | {:.0} | {:.0} |",
            part(&times, 50),
            part(&times, 99),
            part(&pings, 50),
            part(&pings, 99),
        );
    }
    Ok(())
}
