//! Clients: as fast as answers come, or at fixed times.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

use crate::Failure;

/// A request, ready to be sent.
#[derive(Clone)]
pub(crate) struct Call {
    address: SocketAddr,
    bytes: Vec<u8>,
}

impl Call {
    /// A request without a body.
    pub(crate) fn get(address: SocketAddr, path: &str, token: &str) -> Self {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: bench/1.0\r\n\
             Accept: application/json\r\nAccept-Encoding: gzip\r\nAuthorization: {token}\r\n\r\n"
        );
        let bytes = text.into_bytes();
        Self { address, bytes }
    }

    /// Whom it is for.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let read = Vec::with_capacity(8192);
        Ok(Self { stream, read })
    }

    /// Sends a request and reads the answer, which must be a good one. Returns its body.
    pub(crate) async fn ask(&mut self, bytes: &[u8]) -> io::Result<&[u8]> {
        self.stream.write_all(bytes).await?;
        self.read.clear();
        loop {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(head) = is_whole(&self.read)? {
                return Ok(&self.read[head..]);
            }
        }
    }
}

/// How long the head of an answer is that is there to its last byte.
fn is_whole(bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(io::Error::other)?;
    let httparse::Status::Complete(head) = parsed else {
        return Ok(None);
    };
    if response.code != Some(200) {
        let text = String::from_utf8_lossy(bytes);
        return Err(io::Error::other(format!("a request failed: {text}")));
    }
    let mut fields = response.headers.iter();
    let length = fields.find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    let length: usize = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
    Ok((bytes.len() == head + length).then_some(head))
}

/// Sends one request after another on each connection, for so long. Returns how many, and how long it was.
pub(crate) async fn closed(
    calls: &[Call],
    connections: usize,
    time: Duration,
) -> Result<(u64, Duration), Failure> {
    let start = Instant::now();
    let spinning = tokio::spawn(spin());
    let requests = repeated(calls, connections, move || start.elapsed() < time).await?;
    spinning.abort();
    Ok((requests, start.elapsed()))
}

/// Sends one request after another on each connection, for as long as it is told to. Returns how many.
pub(crate) async fn repeated(
    calls: &[Call],
    connections: usize,
    goes_on: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<u64, Failure> {
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let (calls, goes_on) = (calls.to_vec(), goes_on.clone());
        clients.spawn(async move {
            let mut connection = Connection::open(calls[0].address).await?;
            let mut requests = 0;
            let mut at = number;
            while goes_on() {
                connection.ask(&calls[at % calls.len()].bytes).await?;
                requests += 1;
                at += connections;
            }
            Ok::<u64, io::Error>(requests)
        });
    }
    let mut requests = 0;
    while let Some(client) = clients.join_next().await {
        requests += client??;
    }
    Ok(requests)
}

/// Keeps this core awake: to wake one that sleeps costs a proxy more than to write to it, and the fewer
/// requests a proxy serves, the more often this core would sleep.
async fn spin() {
    loop {
        tokio::task::yield_now().await;
    }
}

/// Sends requests at fixed times, on whichever connection is free; one that finds none waits for it, and
/// that counts. Returns how long each took from when it was due, in microseconds.
pub(crate) async fn open(
    calls: &[Call],
    connections: usize,
    per_second: f64,
    time: Duration,
) -> Result<Vec<f64>, Failure> {
    let mut idle = VecDeque::new();
    let (back, mut finished) = mpsc::unbounded_channel::<(_, io::Result<Duration>)>();
    for _ in 0..connections {
        idle.push_back(Connection::open(calls[0].address).await?);
    }
    let all = (time.as_secs_f64() * per_second) as u64;
    let mut micros = Vec::with_capacity(all as usize);
    let (start, mut sent) = (Instant::now(), 0);
    while (micros.len() as u64) < all {
        while let Ok((connection, took)) = finished.try_recv() {
            micros.push(took?.as_secs_f64() * 1e6);
            idle.push_back(connection);
        }
        let due = start + Duration::from_secs_f64(sent as f64 / per_second);
        if sent < all
            && due <= Instant::now()
            && let Some(mut connection) = idle.pop_front()
        {
            let (back, call) = (back.clone(), calls[sent as usize % calls.len()].clone());
            tokio::spawn(async move {
                let answered = connection.ask(&call.bytes).await.map(|_| due.elapsed());
                let _ = back.send((connection, answered));
            });
            sent += 1;
        }
        // Spins: a timer of the system is not exact to the microsecond.
        tokio::task::yield_now().await;
    }
    Ok(micros)
}

/// Waits until somebody listens.
pub(crate) async fn until_open(address: SocketAddr) -> Result<(), Failure> {
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).await.is_err() {
        if end < Instant::now() {
            return Err(format!("nobody listens on {address}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Sends a request on a connection of its own, and returns the body of the answer. `target` is method and
/// path.
pub(crate) async fn once(
    address: SocketAddr,
    target: &str,
    fields: &str,
    body: &str,
) -> Result<Vec<u8>, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let head = format!(
        "{target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.ok_or("an answer without an end of its head")?;
    Ok(answer.split_off(end + 4))
}
