//! The upstream of a gateway: keeps what it received, and answers as the case has it.

use std::{
    io::{self, BufReader, Write},
    mem,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use crate::{
    text,
    wire::{self, Framing, Headers},
};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Headers,
    pub(crate) body: String,
}

/// Listens until it is dropped.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    /// By path.
    responses: Mutex<Value>,
    is_closed: AtomicBool,
}

impl Upstream {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::<Shared>::default();
        let of_listener = Arc::clone(&shared);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if of_listener.is_closed.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&of_listener);
                // It ends where the gateway closes, which tells of nothing that went wrong.
                thread::spawn(move || drop(shared.serve(&connection)));
            }
        });
        Ok(Self { port, shared })
    }

    pub(crate) fn answer_with(&self, responses: Value) {
        *self.shared.responses.lock().expect("no panics") = responses;
    }

    /// What was received, except below `kept`, which stays.
    pub(crate) fn take_except(&self, kept: Option<&str>) -> Vec<Received> {
        self.shared
            .take(|received| kept.is_none_or(|kept| !received.path.starts_with(kept)))
    }

    pub(crate) fn take_below(&self, prefix: &str) -> Vec<Received> {
        self.shared
            .take(|received| received.path.starts_with(prefix))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))); // The listener looks.
    }
}

impl Shared {
    fn received(&self) -> MutexGuard<'_, Vec<Received>> {
        self.received.lock().expect("no panics")
    }

    fn take(&self, is_wanted: impl Fn(&Received) -> bool) -> Vec<Received> {
        let mut received = self.received();
        let (taken, left) = mem::take(&mut *received).into_iter().partition(is_wanted);
        *received = left;
        taken
    }

    fn serve(&self, mut connection: &TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection);
        loop {
            let line = wire::read_line(&mut reader)?;
            let mut words = line.split(' ');
            let (method, target) = (
                words.next().unwrap_or_default(),
                words.next().unwrap_or_default(),
            );
            let headers = wire::read_headers(&mut reader)?;
            let has = |name: &str, wanted: &str| {
                let is_it = |(other, value): &(String, String)| {
                    other.eq_ignore_ascii_case(name) && value.eq_ignore_ascii_case(wanted)
                };
                headers.iter().any(is_it)
            };
            if has("expect", "100-continue") {
                connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let is_last = has("connection", "close");
            let body = wire::read_body(&mut reader, &headers, Framing::Request)?;
            let (path, query) = path_and_query(target);
            let canned = self.responses.lock().expect("no panics")[&path].clone();
            self.received().push(Received {
                method: method.to_owned(),
                path,
                query,
                headers,
                body: text::from_bytes(&body),
            });
            if let Some(delay) = canned["delay_ms"].as_u64() {
                thread::sleep(Duration::from_millis(delay));
            }
            connection.write_all(&response(&canned, method)?)?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// As the upstream split them with which the corpus was recorded: slashes at the start are one, and a
/// fragment goes.
fn path_and_query(target: &str) -> (String, String) {
    let slashes = target.len() - target.trim_start_matches('/').len();
    let target = &target[slashes.saturating_sub(1)..];
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    (path.to_owned(), query.to_owned())
}

fn response(canned: &Value, method: &str) -> io::Result<Vec<u8>> {
    let mut body = match canned["body"].as_str() {
        Some(body) => text::to_bytes(body),
        None if canned.is_object() => Vec::new(),
        None => br#"{"ok":true}"#.to_vec(),
    };
    let is_compressed = canned["gzip"] == true;
    if is_compressed {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&body)?;
        body = encoder.finish()?;
    }
    let mut message = format!(
        "HTTP/1.1 {} Canned\r\n",
        canned["status"].as_u64().unwrap_or(200)
    )
    .into_bytes();
    match canned["headers"].as_object() {
        Some(headers) => {
            for (name, value) in headers {
                message.extend(wire::latin1(&format!(
                    "{name}: {}\r\n",
                    value.as_str().unwrap_or_default()
                ))?);
            }
        }
        None => message.extend(b"Content-Type: application/json\r\nX-Upstream: echo\r\n"),
    }
    if is_compressed {
        message.extend(b"Content-Encoding: gzip\r\n");
    }
    let is_head = method == "HEAD";
    if canned["chunked"] == true {
        message.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        if !is_head {
            message.extend(format!("{:x}\r\n", body.len()).bytes());
            message.extend(body);
            message.extend(b"\r\n0\r\n\r\n");
        }
    } else {
        message.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        if !is_head {
            message.extend(body);
        }
    }
    Ok(message)
}
