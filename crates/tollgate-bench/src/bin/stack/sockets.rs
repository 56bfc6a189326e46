//! The same stacks over hyper, asked over real sockets.
//!
//! One thread serves, on a core of its own where there are two; this one holds the clients. What the serving thread
//! used of the processor, in user and system, is divided by the requests it answered.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::thread::gettid;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinSet, LocalSet},
};
use tollgate_bench::pin;
use tower::Service;

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 15;
const TIME: Duration = Duration::from_millis(500);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service behind a port.
pub(crate) struct Served {
    name: &'static str,
    address: SocketAddr,
}

/// The thread that serves.
pub(crate) struct Server {
    /// Its number, by which the system tells its time.
    thread: i32,
    pub(crate) served: Vec<Served>,
}

/// Starts what serves, on a thread of its own.
pub(crate) fn serve<F>(start: F) -> Server
where
    F: AsyncFnOnce() -> Vec<Served> + Send + 'static,
{
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        pin(1);
        let runtime = runtime();
        LocalSet::new().block_on(&runtime, async {
            let served = start().await;
            let thread = gettid().as_raw_nonzero().get();
            tell.send(Server { thread, served })
                .expect("somebody waits");
            std::future::pending::<()>().await;
        });
    });
    told.recv().expect("it serves")
}

/// Serves one more, on the thread that this is called on.
pub(crate) async fn listen<S, B>(name: &'static str, service: S) -> Served
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>> + Clone + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true); // Slower without, that is all.
            let service = service.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let mut service = service.clone(); // As tower's services are run on hyper.
                async move {
                    std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
                    service.call(request.map(Body::new)).await
                }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(serving);
        }
    });
    Served { name, address }
}

/// Prints the table.
#[expect(clippy::print_stdout, reason = "a bench prints")]
pub(crate) fn compare(server: &Server, token: &str) {
    pin(0);
    let runtime = runtime();
    let mut samples = vec![Vec::new(); server.served.len()];
    for round in 0..=ROUNDS {
        for (served, samples) in server.served.iter().zip(&mut samples) {
            let before = used(server.thread).expect("a time");
            let asked = runtime.block_on(ask(served.address, token));
            let used = used(server.thread).expect("a time") - before;
            if round > 0 {
                samples.push(used.as_secs_f64() * 1e6 / asked.expect("answers") as f64);
            }
        }
    }
    println!("\n## Over hyper, {CONNECTIONS} connections as fast as they go\n");
    println!("| variant | µs a request, median | a quarter of the rounds below, above | × bare |");
    println!("|---|---:|---:|---:|");
    for samples in &mut samples {
        samples.sort_unstable_by(f64::total_cmp);
    }
    let at = |samples: &[f64], share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
    let bare = at(&samples[0], 0.5);
    for (served, samples) in server.served.iter().zip(&samples) {
        let [low, median, high] = [0.25, 0.5, 0.75].map(|share| at(samples, share));
        let ratio = median / bare;
        println!(
            "| {} | {median:.2} | {low:.2}, {high:.2} | {ratio:.2} |",
            served.name
        );
    }
}

/// Asks on all connections for a while. Returns how many answers there were.
async fn ask(address: SocketAddr, token: &str) -> io::Result<u64> {
    let request =
        format!("GET /hello HTTP/1.1\r\nHost: {address}\r\nAuthorization: {token}\r\n\r\n");
    let end = Instant::now() + TIME;
    let mut clients = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let request = request.clone().into_bytes();
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (mut answers, mut read) = (0, Vec::with_capacity(4096));
            while Instant::now() < end {
                stream.write_all(&request).await?;
                read.clear();
                while !read.ends_with(b"\r\n\r\nhi") {
                    if stream.read_buf(&mut read).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                if !read.starts_with(b"HTTP/1.1 200") {
                    return Err(io::Error::other("a request was refused"));
                }
                answers += 1;
            }
            Ok(answers)
        });
    }
    let mut answers = 0;
    while let Some(client) = clients.join_next().await {
        answers += client.map_err(io::Error::other)??;
    }
    Ok(answers)
}

/// What a thread of this process used of the processor.
fn used(thread: i32) -> io::Result<Duration> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))?;
    let first = text.split(' ').next().and_then(|text| text.parse().ok());
    let nanos = first.ok_or_else(|| io::Error::other("schedstat has no time"))?;
    Ok(Duration::from_nanos(nanos))
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}
