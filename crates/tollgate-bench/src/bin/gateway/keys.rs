//! Many keys in the embedded store, through the program: how long it takes to make and to start with them,
//! what they take on the disk and in memory, and how long pages of a listing take while requests go on.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    Failure,
    files::{Files, SECRET, session},
    free,
    load::{self, Call, Connection},
    process::{Cores, Process},
    upstream,
};

/// Connections that make keys: so many share a write to the disk.
const MAKING: usize = 256;
/// Connections of clients.
const CLIENTS: usize = 32;
/// Of so many keys it is seen what they take in memory.
const USED: usize = 100_000;
/// Requests a second while pages are listed.
const PER_SECOND: f64 = 1000.0;

/// A gateway that may be started again on what it left.
struct Stage {
    cores: Cores,
    program: PathBuf,
    files: Files,
    address: SocketAddr,
    data: PathBuf,
}

/// Makes so many keys, and prints what they cost.
#[expect(clippy::print_stdout, reason = "a bench prints")]
pub(crate) async fn run(
    cores: Cores,
    program: &Path,
    folder: &Path,
    count: usize,
) -> Result<(), Failure> {
    let (address, upstream) = (free()?, upstream::start().await?);
    let stage = Stage {
        cores,
        program: program.to_owned(),
        files: Files::write(folder, address, upstream)?,
        address,
        data: folder.join("tollgate.redb"),
    };
    let (process, _) = stage.start().await?;
    let began = Instant::now();
    let tokens = stage.make(count).await?;
    let took = began.elapsed().as_secs_f64();
    println!("{count} keys made in {took:.0} s by the control API, {MAKING} connections");
    told("resident then", process.resident()?, None);
    process.stop().await?;
    told("the file", fs::metadata(&stage.data)?.len(), Some(count));

    let (process, took) = stage.start().await?;
    println!("{:>12.0} ms from start to ready", took.as_secs_f64() * 1e3);
    let fresh = process.resident()?;
    told("resident then", fresh, None);
    pages(&stage, 0.0, &tokens).await?;
    let used = tokens.len().min(USED);
    let step = tokens.len() / used;
    let calls = tokens.iter().step_by(step).take(used);
    let calls: Vec<_> = calls.map(|token| stage.call(token)).collect();
    let before = process.resident()?;
    let began = Instant::now();
    each(&calls).await?;
    let took = began.elapsed().as_secs_f64() * 1e6 / calls.len() as f64;
    println!("{took:>12.1} µs a first request with each of {used} keys, {CLIENTS} connections");
    let grown = process.resident()?.saturating_sub(before);
    told("these keys in memory", grown, Some(used));
    pages(&stage, PER_SECOND, &tokens).await?;
    drop(process); // Killed.

    let (process, took) = stage.start().await?;
    println!(
        "{:>12.0} ms from start to ready after a kill",
        took.as_secs_f64() * 1e3
    );
    process.stop().await
}

#[expect(clippy::print_stdout, reason = "a bench prints")]
fn told(what: &str, bytes: u64, of: Option<usize>) {
    let megabytes = bytes as f64 / 1e6;
    match of {
        Some(count) => {
            let each = bytes as f64 / count as f64;
            println!("{each:>12.0} bytes a key: {what}, {megabytes:.0} MB");
        }
        None => println!("{megabytes:>12.0} MB {what}"),
    }
}

impl Stage {
    async fn start(&self) -> Result<(Process, Duration), Failure> {
        let began = Instant::now();
        let arguments = ["serve", "--conf", &self.files.conf];
        let process = self.cores.start(&self.program, &arguments)?;
        load::until_open(self.address).await?;
        load::once(self.address, "GET /ready", "", "").await?;
        Ok((process, began.elapsed()))
    }

    fn call(&self, token: &str) -> Call {
        Call::get(self.address, "/full/orders/7", token)
    }

    /// Makes keys, and returns their tokens.
    async fn make(&self, count: usize) -> Result<Vec<String>, Failure> {
        let mut making = JoinSet::new();
        let address = self.address;
        for first in 0..MAKING.min(count) {
            making.spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut tokens = Vec::new();
                for number in (first..count).step_by(MAKING) {
                    let body = session(number).to_string();
                    let length = body.len();
                    let request = format!(
                        "POST /tyk/keys HTTP/1.1\r\nHost: {address}\r\n{}\
                         Content-Length: {length}\r\n\r\n{body}",
                        secret()
                    );
                    let made = connection.ask(request.as_bytes()).await?;
                    let made: Value = serde_json::from_slice(made)?;
                    let key = made.get("key").and_then(Value::as_str);
                    tokens.push(key.unwrap_or_default().to_owned());
                }
                Ok::<_, std::io::Error>(tokens)
            });
        }
        let mut tokens = Vec::with_capacity(count);
        while let Some(made) = making.join_next().await {
            tokens.extend(made??);
        }
        Ok(tokens)
    }
}

fn secret() -> String {
    format!("X-Tyk-Authorization: {SECRET}\r\n")
}

/// Sends each of the calls once.
async fn each(calls: &[Call]) -> Result<(), Failure> {
    let mut clients = JoinSet::new();
    for part in calls.chunks(calls.len().div_ceil(CLIENTS)) {
        let part = part.to_vec();
        clients.spawn(async move {
            let mut connection = Connection::open(part[0].address()).await?;
            for call in &part {
                connection.ask(call.bytes()).await?;
            }
            Ok::<_, std::io::Error>(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(())
}

/// Prints how long pages of the listing take, while so many requests a second go on.
#[expect(clippy::print_stdout, reason = "a bench prints")]
async fn pages(stage: &Stage, per_second: f64, tokens: &[String]) -> Result<(), Failure> {
    const PAGES: usize = 200;
    println!("with {per_second:.0} requests a second of clients:");
    let calls: Vec<_> = tokens
        .iter()
        .step_by(97)
        .map(|token| stage.call(token))
        .collect();
    let time = Duration::from_secs(5);
    if per_second > 0.0 {
        let alone = load::open(&calls, CLIENTS, per_second, time).await?;
        let (half, most) = percentiles(alone);
        let (half, most) = (half / 1e3, most / 1e3);
        println!("{half:>12.2} ms a request while nothing is listed; {most:.2} ms 99 of 100");
    }
    let listings = [
        ("a page of 100", "limit=100"),
        ("a page of 500", "limit=500"),
        (
            "a page of 100 with their records",
            "limit=100&sessions=true",
        ),
        (
            "a page of 100 of one alias in a thousand",
            "limit=100&alias=user%20777*",
        ),
    ];
    for (what, query) in listings {
        let listing = async {
            let mut times = Vec::with_capacity(PAGES);
            let mut cursor = String::new();
            let mut connection = Connection::open(stage.address).await?;
            for _ in 0..PAGES {
                let request = format!(
                    "GET /tollgate/keys?{query}{cursor} HTTP/1.1\r\nHost: {}\r\n{}\r\n",
                    stage.address,
                    secret()
                );
                let began = Instant::now();
                let page = connection.ask(request.as_bytes()).await?;
                times.push(began.elapsed().as_secs_f64() * 1e3);
                let page: Value = serde_json::from_slice(page)?;
                cursor = match page.get("cursor").and_then(Value::as_str) {
                    Some(next) => format!("&cursor={next}"),
                    None => String::new(),
                };
            }
            Ok::<_, Failure>(times)
        };
        if per_second == 0.0 {
            let (half, most) = percentiles(listing.await?);
            println!("{half:>12.2} ms {what}, half of them; {most:.2} ms 99 of 100");
            continue;
        }
        let asking = load::open(&calls, CLIENTS, per_second, time);
        let (times, micros) = tokio::join!(listing, asking);
        let (half, most) = percentiles(times?);
        let (_, slowest) = percentiles(micros?);
        println!(
            "{half:>12.2} ms {what}, half of them; {most:.2} ms 99 of 100; requests {:.2} ms 99 of 100",
            slowest / 1e3
        );
    }
    Ok(())
}

/// What half of the values do not exceed, and 99 of 100.
fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99))
}
