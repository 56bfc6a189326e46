//! Runs the examples as a reader would, and compares what they answer with what they promise.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
    thread,
    time::Duration,
};

/// No answer takes that long: only a test that would hang meets it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the examples' programs, built once.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let test = std::env::current_exe().expect("a path"); // TARGET/PROFILE/deps/it-…
        let profile = test.ancestors().nth(2).expect("a profile's folder");
        let target = profile.parent().expect("a target folder");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--target-dir"]).arg(target);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        for package in [
            "axum-app",
            "one-layer",
            "hyper-gateway",
            "custom-store",
            "custom-gate",
        ] {
            build.args(["--package", package]);
        }
        assert!(build.status().expect("cargo runs").success());
        profile.to_owned()
    })
}

/// A running example. It is ended when dropped.
struct Example {
    process: Child,
    printed: BufReader<ChildStdout>,
    address: String,
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(programs().join(name))
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut printed = BufReader::new(process.stdout.take().expect("is piped"));
        let mut line = String::new();
        printed.read_line(&mut line).expect("prints");
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.expect("tells where it listens").to_owned();
        Self {
            process,
            printed,
            address,
        }
    }

    fn get(&self, path: &str, headers: &[&str]) -> Answer {
        ask(&self.address, "GET", path, headers, "")
    }

    /// Ends as by Ctrl-C, and says whether that went well.
    fn interrupt(mut self) -> bool {
        let kill = Command::new("kill")
            .args(["-INT", &self.process.id().to_string()])
            .status();
        assert!(kill.expect("kill runs").success());
        self.process.wait().expect("ends").success()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill(); // It may have ended.
        let _ = self.process.wait();
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find_map(|(other, value)| (other == name).then_some(&**value))
    }
}

/// One request on a connection of its own, written as it stands.
fn ask(address: &str, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("is set");
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n");
    for header in headers {
        request += &format!("{header}\r\n");
    }
    request += &format!(
        "connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("is written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        status: status.expect("a status").parse().expect("a number"),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

/// What a line for `curl` asks: the path, the headers, and how often.
fn read_curl<'a>(line: &'a str, address: &str) -> (&'a str, Vec<&'a str>, usize) {
    let loops = line.strip_prefix("for i in ").map(|rest| {
        let (times, _) = rest.split_once(';').expect("a list");
        times.split(' ').count()
    });
    let (_, url) = line.split_once("http://").expect("a URL");
    let url = url.strip_prefix(address).expect("the printed address");
    let path = url.split([' ', ';']).next().expect("a path");
    let headers = url.split('\'').skip(1).step_by(2).collect();
    (path, headers, loops.unwrap_or(1))
}

/// Compares answers with a text as `200 429; retry-after; x-plan: gold; says "…"`.
#[track_caller]
fn check_answers(promised: &str, answers: &[Answer]) {
    let mut parts = promised.split("; ");
    let statuses = parts.next().expect("statuses");
    let got: Vec<_> = answers
        .iter()
        .map(|answer| answer.status.to_string())
        .collect();
    assert_eq!(got.join(" "), statuses, "{answers:?}");
    let last = answers.last().expect("an answer");
    for part in parts {
        if let Some(text) = part.strip_prefix("says ") {
            let text = text.trim_matches('"');
            assert!(last.body.contains(text), "{text}: {last:?}");
        } else if let Some((name, value)) = part.split_once(": ") {
            assert_eq!(last.header(name), Some(value), "{name}: {last:?}");
        } else {
            assert!(last.header(part).is_some(), "{part}: {last:?}");
        }
    }
}

#[test]
fn axum_app_answers_what_it_prints() {
    let mut example = Example::start("axum-app", &["0"]);
    let mut promises = 0;
    let mut promised = String::new();
    let mut line = String::new();
    while !line.starts_with("# ready") {
        line.clear();
        let read = example.printed.read_line(&mut line).expect("prints");
        assert!(read > 0, "printed {promises} requests, then ended");
        if let Some(answer) = line.trim_end().strip_prefix("# answer: ") {
            promised = answer.to_owned();
        } else if line.contains("curl ") {
            let (path, headers, times) = read_curl(line.trim_end(), &example.address);
            let answers: Vec<_> = (0..times).map(|_| example.get(path, &headers)).collect();
            check_answers(&promised, &answers);
            promises += 1;
        }
    }
    assert!(
        promises >= 6,
        "allowed, wrong API, rate, quota, header, no token"
    );
    assert!(example.interrupt(), "Ctrl-C ends it in order");
}

#[test]
fn axum_app_takes_its_port_from_the_environment() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = free.local_addr().expect("an address").port().to_string();
    let output = Command::new(programs().join("axum-app"))
        .env("PORT", taken)
        .output();
    let said = String::from_utf8(output.expect("runs").stderr).expect("is text");
    assert!(said.contains("AddrInUse"), "the port is in use: {said}");
}

#[test]
fn one_layer_counts_each_tenant_alone() {
    let example = Example::start("one-layer", &["0"]);
    let status = |tenant: &str| example.get("/", &[&format!("x-tenant: {tenant}")]).status;
    assert_eq!(
        [status("a"), status("a"), status("a"), status("a")],
        [200, 200, 200, 429]
    );
    assert_eq!(status("b"), 200);
    let refused = example.get("/", &["x-tenant: a"]);
    check_answers("429; retry-after; x-ratelimit-limit: 3", &[refused]);
    assert!(example.interrupt());
}

#[test]
fn custom_store_finds_the_sessions_of_its_folder() {
    let example = Example::start("custom-store", &["0"]);
    let status = |token: &str| {
        example
            .get("/", &[&format!("authorization: {token}")])
            .status
    };
    assert_eq!(
        [status("joes-key"), status("joes-key"), status("joes-key")],
        [200, 200, 429]
    );
    assert_eq!(status("../sessions/joes-key"), 403);
    assert!(example.interrupt());
}

#[test]
fn custom_gate_refuses_in_its_own_words() {
    let example = Example::start("custom-gate", &["0"]);
    let get = |path: &str, token: &str| example.get(path, &[&format!("authorization: {token}")]);
    check_answers("200; says \"all there is\"", &[get("/export", "anns-key")]);
    check_answers(
        "402; says \"This needs the plan gold\"",
        &[get("/export", "bobs-key")],
    );
    // What the gate refused was not charged: nine of nine are left.
    let nine: Vec<_> = (0..10).map(|_| get("/", "bobs-key")).collect();
    check_answers("200 200 200 200 200 200 200 200 200 429", &nine);
    let switched = ask(&example.address, "POST", "/maintenance", &[], "");
    check_answers("200", &[switched]);
    check_answers(
        "503; retry-after: 600; says \"Back soon\"",
        &[get("/", "anns-key")],
    );
    assert!(example.interrupt());
}

/// An upstream that tells what it received, with a header for its connection alone.
fn echo_upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).expect("is read") == 0 {
                    break; // A connection that was opened in vain.
                }
                let line = head.lines().last().unwrap_or_default().to_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.parse().expect("a number");
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("is read");
            let body = String::from_utf8_lossy(&body).to_uppercase();
            let echo = format!("{head}{body}");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close, x-link\r\nx-link: 1\r\nx-end: 1\r\ncontent-length: {}\r\n\r\n{echo}",
                echo.len()
            );
            let _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn hyper_gateway_forwards_what_may_pass() {
    let upstream = format!("http://{}", echo_upstream());
    let gateway = Example::start("hyper-gateway", &[&upstream, "0"]);
    let headers = [
        "authorization: joes-key",
        "x-user: root",
        "keep-alive: timeout=9",
        "te: trailers",
        "x-kept: 1",
    ];
    let answer = ask(&gateway.address, "POST", "/a%20b?c=d", &headers, "ping");
    check_answers("200; x-end: 1; says \"PING\"", &[answer]);

    let answer = gateway.get("/a%20b?c=d", &headers);
    assert_eq!(answer.header("x-link"), None, "{answer:?}");
    let seen = answer.body.to_lowercase();
    assert!(seen.starts_with("get /a%20b?c=d http/1.1\r\n"), "{seen}");
    for header in [
        "x-user: joe",
        "x-kept: 1",
        &format!("host: {}", &upstream[7..]),
    ] {
        assert!(seen.contains(&format!("{header}\r\n")), "{header}: {seen}");
    }
    for name in ["authorization", "keep-alive", "te", "connection"] {
        assert!(!seen.contains(&format!("\n{name}:")), "{name}: {seen}");
    }
    assert_eq!(gateway.get("/", &[]).status, 401);
    assert!(gateway.interrupt());
}

#[test]
fn hyper_gateway_says_502_for_an_upstream_that_is_away() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let upstream = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    let gateway = Example::start("hyper-gateway", &[&upstream, "0"]);
    check_answers("502", &[gateway.get("/", &["authorization: joes-key"])]);
}
