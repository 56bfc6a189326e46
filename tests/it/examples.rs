//! The examples, started as a user starts them, and asked over real sockets.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Once,
    thread,
};

/// A running example, ended with the test.
struct Example {
    process: Child,
    address: String,
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const EXAMPLES: [&str; 7] = [
    "axum-app",
    "one-layer",
    "hyper-gateway",
    "custom-store",
    "custom-gate",
    "url-rewrite",
    "body-transform",
];

/// Builds the examples once, beside this test.
fn binary(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let packages = EXAMPLES.iter().flat_map(|example| ["-p", example]);
        let built = Command::new(env!("CARGO"))
            .arg("build")
            .arg("--quiet")
            .args(packages)
            .status();
        assert!(
            built.expect("cargo runs").success(),
            "the examples do not build"
        );
    });
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("debug")
        .join(name)
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary(name));
        let mut process = command
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let first = lines.next().expect("a line").expect("text");
        let address = first
            .strip_prefix("listening on http://")
            .expect("it says where it listens");
        let address = address.to_owned();
        thread::spawn(move || lines.for_each(drop)); // Printed on, so that it does not block.
        Self { process, address }
    }

    /// Sends a request and reads the whole answer: status, and the rest as text.
    fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
        self.send(method, path, headers, "")
    }

    /// The same, with a body.
    fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        (
            status.unwrap_or_else(|| panic!("no status in {answer:?}")),
            answer,
        )
    }

    fn statuses(&self, times: usize, path: &str, headers: &[&str]) -> Vec<u16> {
        (0..times)
            .map(|_| self.ask("GET", path, headers).0)
            .collect()
    }
}

/// What the example prints to try.
#[test]
fn axum_app() {
    let app = Example::start("axum-app", &["0"]);
    let (status, answer) = app.ask(
        "GET",
        "/orders",
        &["authorization: Bearer joes-key", "x-user: root"],
    );
    assert_eq!(status, 200);
    assert!(answer.contains(r#""x-user":"joe""#), "{answer}");
    assert!(answer.contains("x-ratelimit-remaining: 999"), "{answer}");
    let (status, answer) = app.ask("GET", "/orders", &[]);
    assert_eq!(status, 401);
    assert!(answer.contains("Authorization field missing"), "{answer}");
    assert_eq!(
        app.ask("GET", "/orders", &["authorization: documented-key"])
            .0,
        403
    );
    assert_eq!(
        app.ask("DELETE", "/orders", &["authorization: joes-key"]).0,
        403
    );
    assert_eq!(
        app.statuses(6, "/orders", &["authorization: joes-key"]),
        [200, 200, 200, 200, 429, 429]
    );
    assert_eq!(
        app.statuses(5, "/orders", &["authorization: anns-key"]),
        [200, 200, 200, 403, 403]
    );
}

#[test]
fn one_layer() {
    let app = Example::start("one-layer", &["0"]);
    assert_eq!(app.statuses(4, "/", &["x-tenant: a"]), [200, 200, 200, 429]);
    assert_eq!(app.statuses(1, "/", &["x-tenant: b"]), [200]);
}

#[test]
fn custom_gate() {
    let app = Example::start("custom-gate", &["0"]);
    assert_eq!(
        app.statuses(3, "/reports", &["authorization: trial-key"]),
        [402, 402, 402]
    );
    assert_eq!(
        app.statuses(3, "/", &["authorization: trial-key"]),
        [200, 200, 429]
    );
    assert_eq!(
        app.statuses(1, "/reports", &["authorization: gold-key"]),
        [200]
    );
}

#[test]
fn url_rewrite() {
    let app = Example::start("url-rewrite", &["0"]);
    let key = "authorization: joes-key";
    let check = |path: &str, headers: &[&str], status: u16, shown: &str| {
        let (got, answer) = app.ask("GET", path, headers);
        assert_eq!(got, status, "{answer}");
        assert!(answer.ends_with(shown), "{answer}");
    };
    check("/v1/orders?page=2", &[key], 200, "\r\n/eu/orders?page=2\n");
    check(
        "/v1/orders",
        &[key, "x-channel: beta"],
        200,
        "\r\n/beta/orders\n",
    );
    check("/eu/orders", &[key], 403, "");
    check(
        "/v1/$tyk_meta.region",
        &[key],
        200,
        "\r\n/eu/$tyk_meta.region\n",
    );
    check("/v1/orders", &[], 401, "");
}

#[test]
fn body_transform() {
    let app = Example::start("body-transform", &["0"]);
    let check = |key: &str, body: &str, status: u16, shown: &str| {
        let length = format!("content-length: {}", body.len());
        let (got, answer) = app.send("POST", "/orders/7", &[key, &length], body);
        assert_eq!(got, status, "{answer}");
        assert!(answer.ends_with(shown), "{answer}");
    };
    let key = "authorization: joes-key";
    let done = r#"{"order": "7", "sku": "book <7>", "by": "joe", "depot": "eu"}"#;
    let done = format!(
        "\r\n\r\n{}\n",
        done.replace('<', "\\u003c").replace('>', "\\u003e")
    );
    check(key, r#"{"sku": "book <7>", "n": 2}"#, 200, &done);
    // Nobody is another by saying so.
    check(
        key,
        r#"{"sku": "book <7>", "n": 2, "_tyk_meta": {"user": "root"}}"#,
        200,
        &done,
    );
    check(key, r#"{"sku": "#, 400, "");
    check("x-none: 1", r#"{"sku": "x", "n": 2}"#, 401, "");
}

#[test]
fn custom_store() {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sessions-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let app = Example::start("custom-store", &[folder.to_str().unwrap(), "0"]);
    let key = ["authorization: joes-key"];
    assert_eq!(app.statuses(1, "/", &key), [403]);
    let file = folder.join("joes-key.json");
    std::fs::write(&file, r#"{"rate": 2, "per": 60}"#).unwrap();
    assert_eq!(app.statuses(3, "/", &key), [200, 200, 429]);
    assert_eq!(app.statuses(1, "/", &["authorization: ../joes-key"]), [403]);
    // What is no session is the store's fault, as is a folder that is gone.
    std::fs::write(&file, r#"{"rate": "2"}"#).unwrap();
    assert_eq!(app.statuses(1, "/", &key), [503]);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(app.statuses(1, "/", &key), [503]);
}

#[test]
fn hyper_gateway() {
    // An upstream that answers with the head that it got.
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = upstream.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in upstream.incoming() {
            let mut stream = stream.unwrap();
            let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let body = head.join("\n");
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    let gateway = Example::start("hyper-gateway", &[&address, "0"]);
    let key = "authorization: joes-key";
    let (status, answer) = gateway.ask(
        "GET",
        "/orders/7?x=1",
        &[key, "x-user: root", "te: trailers"],
    );
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("GET /orders/7?x=1 HTTP/1.1"), "{answer}");
    assert!(answer.contains("x-user: joe"), "{answer}");
    for absent in ["root", "joes-key", "te: trailers"] {
        assert!(!answer.contains(absent), "{absent} went on: {answer}");
    }
    assert_eq!(gateway.statuses(1, "/users", &[key]), [403]);
    assert_eq!(gateway.statuses(2, "/orders", &[key]), [200, 429]);
}
