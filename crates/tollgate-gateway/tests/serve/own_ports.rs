//! APIs with ports of their own: served there and nowhere else, and with each reload where they ask for it.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::tls::{Authority, folder};
use crate::{Gateway, SECRET, api, ports::free_port, read_head, serving, upstream};

/// An API without keys; its upstream is told `/ID/…`.
fn open(id: &str, listen_path: &str, upstream: u16, port: u16) -> Value {
    let mut api = api(
        id,
        listen_path,
        &format!("http://127.0.0.1:{upstream}/{id}"),
    );
    api["use_keyless"] = json!(true);
    api["listen_port"] = json!(port);
    api
}

/// The API, over this protocol.
fn over(protocol: &str, mut api: Value) -> Value {
    api["protocol"] = json!(protocol);
    api
}

fn any_port() -> Value {
    json!({"disable_ports_whitelist": true})
}

/// An upstream that tells when it was asked, and answers when it is told to.
fn slow() -> (u16, Receiver<()>, Sender<()>) {
    let ((begun, has_begun), (end, ends)) = (channel(), channel());
    let ends = Mutex::new(ends);
    let port = serving(move |connection| {
        read_head(connection);
        begun.send(()).unwrap();
        let _ = ends.lock().unwrap().recv(); // The test may be over.
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow");
    });
    (port, has_begun, end)
}

fn connect(port: u16) -> TcpStream {
    let connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let limit = Some(Duration::from_secs(60));
    connection.set_read_timeout(limit).unwrap();
    connection
}

/// Asks on a connection that stays open. The status, and the body where its length is told.
fn ask_on(connection: &mut (impl Read + Write), host: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    answer_on(connection)
}

fn answer_on(connection: &mut impl Read) -> (u16, String) {
    let head = read_head(connection);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    connection.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn ask(port: u16, path: &str) -> (u16, String) {
    ask_on(&mut connect(port), "localhost", path)
}

fn status(port: u16, path: &str) -> u16 {
    ask(port, path).0
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5)); // Between two looks at the condition.
    }
}

fn log(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.folder.join("log")).unwrap()
}

/// What `tollgate check` says of the gateway's files.
fn check(folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["check", "--store", "embedded", "--conf"])
        .arg(folder.join("tyk.conf"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_api_is_served_on_its_own_port_and_on_no_other() {
    let (up, port) = (upstream(), free_port().unwrap());
    let mut broken = open("broken", "/broken/", up, port);
    broken["enable_jwt"] = json!(true); // Not built.
    let mut inside = open("inside", "/inside/", up, 0);
    inside["proxy"]["target_url"] = json!("tyk://own");
    let apis = [
        open("shared", "/same/", up, 0),
        open("own", "/same/", up, port),
        open("second", "/second/", up, port),
        broken,
        inside,
    ];
    let settings = json!({"ports_whitelist": {"http": {"ports": [port]}}});
    let gateway = Gateway::with("own-port", &settings, &apis);
    let at_own = ask(port, "/same/x");
    assert!(at_own.1.starts_with("GET /own/x "), "{at_own:?}");
    assert_eq!(at_own.0, 200);
    let shared = gateway.ask("/same/x", "");
    assert!(shared.body.starts_with("GET /shared/x "), "{}", shared.body);
    assert_eq!(status(port, "/second/x"), 200);
    assert_eq!(gateway.ask("/second/x", "").status, 404);
    assert_eq!(status(port, "/broken/x"), 503);
    assert_eq!(gateway.ask("/broken/x", "").status, 404);
    assert_eq!(status(port, "/inside/x"), 404);
    let through = gateway.ask("/inside/x", "");
    assert_eq!(through.status, 200, "an internal target finds it");
    assert!(through.body.starts_with("GET /own/"), "{}", through.body);
    // Neither a header nor the target of the request names another port.
    let mut connection = connect(gateway.port);
    let host = format!("localhost:{port}");
    assert_eq!(ask_on(&mut connection, &host, "/second/x").0, 404);
    let whole = format!("http://{host}/second/x");
    assert_eq!(ask_on(&mut connection, &host, &whole).0, 404);
}

#[test]
fn the_gateway_itself_answers_on_no_port_of_an_api() {
    let (up, port) = (upstream(), free_port().unwrap());
    let gateway = Gateway::with("own-admin", &any_port(), &[open("own", "/own/", up, port)]);
    for path in [
        "/hello",
        "/ready",
        "/tyk/apis",
        "/tyk/reload/",
        "/tollgate/metrics",
    ] {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nx-tyk-authorization: {SECRET}\r\n\r\n"
        );
        let mut connection = connect(port);
        connection.write_all(request.as_bytes()).unwrap();
        assert_eq!(answer_on(&mut connection).0, 404, "{path}");
    }
    assert_eq!(gateway.admin("GET", "/tyk/apis", "").status, 200);
    let explained = |host: &str| {
        let question = json!({"path": "/own/x", "host": host}).to_string();
        gateway.admin("POST", "/tollgate/explain", &question).status
    };
    assert_eq!(explained(&format!("localhost:{port}")), 200);
    assert_eq!(explained("localhost"), 404);
}

#[test]
fn a_host_counts_on_a_port_of_an_api_too() {
    let (up, port) = (upstream(), free_port().unwrap());
    let mut one = open("one", "/same/", up, port);
    one["domain"] = json!("one.example");
    let mut settings = any_port();
    settings["enable_custom_domains"] = json!(true);
    let _gateway = Gateway::with("own-host", &settings, &[one]);
    let at = |host: &str| ask_on(&mut connect(port), host, "/same/x").0;
    assert_eq!(at("one.example"), 200);
    assert_eq!(at(&format!("ONE.example:{port}")), 200);
    assert_eq!(at("two.example"), 404);
}

#[test]
fn listeners_come_and_go_with_reloads_and_what_is_under_way_ends() {
    let (up, stays, goes) = (upstream(), free_port().unwrap(), free_port().unwrap());
    let (slow, has_begun, end) = slow();
    let gateway = Gateway::with(
        "own-reload",
        &any_port(),
        &[open("kept", "/kept/", up, stays)],
    );
    let mut kept = connect(stays);
    assert_eq!(ask_on(&mut kept, "localhost", "/kept/1").0, 200);
    assert!(TcpStream::connect(("127.0.0.1", goes)).is_err());

    gateway.write_api(&open("moved", "/moved/", slow, goes));
    gateway.reload();
    let (mut idle, mut under_way) = (connect(goes), connect(goes));
    assert_eq!(ask_on(&mut idle, "localhost", "/none").0, 404);
    let request = "GET /moved/x HTTP/1.1\r\nhost: localhost\r\n\r\n";
    under_way.write_all(request.as_bytes()).unwrap();
    has_begun.recv().unwrap();

    gateway.write_api(&open("moved", "/moved/", up, stays));
    gateway.reload();
    assert_eq!(
        status(stays, "/moved/x"),
        200,
        "it is served where it moved"
    );
    wait_until("the port is still open", || {
        TcpStream::connect(("127.0.0.1", goes)).is_err()
    });
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection ends");
    end.send(()).unwrap();
    assert_eq!(answer_on(&mut under_way), (200, "slow".into()));
    assert_eq!(
        under_way.read(&mut [0]).unwrap(),
        0,
        "it ends with its answer"
    );
    let same = ask_on(&mut kept, "localhost", "/kept/2").0;
    assert_eq!(same, 200, "a listener that stays keeps its connections");

    // What comes back listens again, also when it has only just gone.
    for port in [goes, 0, goes] {
        gateway.write_api(&open("moved", "/moved/", up, port));
        gateway.reload();
    }
    assert_eq!(status(goes, "/moved/x"), 200);
}

#[test]
fn a_port_that_can_not_be_had_refuses_its_api_alone() {
    let up = upstream();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let apis = [
        open("other", "/other/", up, 0),
        open("own", "/own/", up, port),
    ];
    let gateway = Gateway::with("own-taken", &any_port(), &apis);
    assert_eq!(gateway.ask("/other/x", "").status, 200);
    assert_eq!(gateway.ask("/own/x", "").status, 404);
    let told = log(&gateway);
    let file = gateway.folder.join("apps/own.json");
    let reason = format!(
        "error: {}: listen_port: port {port} can not be opened: can not listen on 127.0.0.1:{port}: ",
        file.display()
    );
    assert!(told.contains(&reason), "{told}");

    drop(taken);
    gateway.reload();
    assert_eq!(status(port, "/own/x"), 200, "a reload has it");

    // An API that was served keeps what it has where it can not have another.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = taken.local_addr().unwrap().port();
    gateway.write_api(&open("own", "/elsewhere/", up, other));
    gateway.write_api(&open("other", "/changed/", up, 0));
    gateway.reload();
    assert_eq!(status(port, "/own/x"), 200, "what was in force stays");
    assert_eq!(gateway.ask("/other/x", "").status, 200);
    assert_eq!(gateway.ask("/changed/x", "").status, 404);
}

#[test]
fn a_reload_that_fails_leaves_no_port_open() {
    let (up, port) = (upstream(), free_port().unwrap());
    let gateway = Gateway::with(
        "own-failed",
        &any_port(),
        &[open("other", "/other/", up, 0)],
    );
    gateway.write_api(&open("own", "/own/", up, port));
    let mut broken = open("other", "/other/", up, 0);
    broken["enable_jwt"] = json!(true);
    gateway.write_api(&broken);
    gateway.reload();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn only_ports_of_the_list_are_opened_and_check_says_so_and_opens_none() {
    let (up, allowed, other) = (upstream(), free_port().unwrap(), free_port().unwrap());
    let apis = [
        open("a", "/a/", up, allowed),
        open("b", "/b/", up, other),
        over("h2c", open("c", "/c/", up, allowed)),
    ];
    let lists = json!({"http": {"ranges": [{"from": allowed, "to": allowed}]}, "h2c": {"ports": [allowed]}});
    let gateway = Gateway::with("own-list", &json!({"ports_whitelist": lists}), &apis);
    assert_eq!(status(allowed, "/a/x"), 200);
    assert_eq!(status(allowed, "/c/x"), 503, "one port speaks one protocol");
    assert!(TcpStream::connect(("127.0.0.1", other)).is_err());
    assert_eq!(gateway.ask("/b/x", "").status, 404);
    // The gateway has the port, so that whoever bound it would fail.
    let told = check(&gateway.folder);
    let not_in =
        format!("listen_port: port {other} is not in `ports_whitelist.http` of the configuration");
    assert!(told.contains(&not_in), "{told}");
    let spoken = format!("protocol: port {allowed} can not speak `h2c`, as it speaks `http` for ");
    assert!(told.contains(&spoken), "{told}");
    assert!(told.contains("APIs: 1 served, 2 refused"), "{told}");
}

#[test]
fn a_port_speaks_tls_beside_a_gateway_that_does_not() {
    let folder = folder("own-certificates");
    let (file, authority) = (folder.join("own.pem"), Authority::new());
    authority.sign(&file, "localhost");
    let (up, port) = (upstream(), free_port().unwrap());
    let mut settings = any_port();
    settings["http_server_options"] = json!({"ssl_certificates": [file]});
    let gateway = Gateway::with("own-tls", &settings, &[open("other", "/other/", up, 0)]);
    assert_eq!(gateway.ask("/other/x", "").status, 200);
    // Certificates are first needed by what a reload finds.
    fs::write(&file, "no certificate").unwrap();
    gateway.write_api(&over("https", open("own", "/own/", up, port)));
    gateway.reload();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    authority.sign(&file, "localhost");
    gateway.reload();
    let session =
        rustls::ClientConnection::new(authority.client(), "localhost".try_into().unwrap());
    let mut tls = rustls::StreamOwned::new(session.unwrap(), connect(port));
    assert_eq!(ask_on(&mut tls, "localhost", "/own/x").0, 200);
    // In clear nothing is answered there, and the port may change its mind.
    let mut clear = connect(port);
    clear
        .write_all(b"GET /own/x HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    let mut told = Vec::new();
    let _ = clear.read_to_end(&mut told); // Or the connection is reset.
    assert!(!told.starts_with(b"HTTP/"), "{told:?}");
    gateway.write_api(&open("own", "/own/", up, port));
    gateway.reload();
    wait_until("it still speaks TLS", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut connection| {
            let request = b"GET /own/x HTTP/1.1\r\nhost: localhost\r\n\r\n";
            let sent = connection.write_all(request);
            let mut start = [0; 12];
            sent.is_ok() && connection.read_exact(&mut start).is_ok() && &start == b"HTTP/1.1 200"
        })
    });
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_stop_ends_the_ports_of_apis_too() {
    let port = free_port().unwrap();
    let (slow, has_begun, end) = slow();
    let mut gateway = Gateway::with("own-stop", &any_port(), &[open("own", "/own/", slow, port)]);
    let mut under_way = connect(port);
    let request = b"GET /own/x HTTP/1.1\r\nhost: localhost\r\n\r\n";
    under_way.write_all(request).unwrap();
    has_begun.recv().unwrap();
    let id = gateway.program.id().to_string();
    let told = Command::new("kill").args(["-TERM", &id]).status();
    assert!(told.unwrap().success());
    wait_until("the port is still open", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    end.send(()).unwrap();
    assert_eq!(answer_on(&mut under_way), (200, "slow".into()));
    assert!(gateway.program.wait().unwrap().success());
}

#[test]
fn a_command_on_the_store_leaves_the_ports_alone() {
    let (up, port) = (upstream(), free_port().unwrap());
    let mut gateway = Gateway::with("own-key", &any_port(), &[open("own", "/own/", up, port)]);
    gateway.program.kill().unwrap();
    gateway.program.wait().unwrap();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["key", "create", "--api", "own", "--conf"])
        .arg(gateway.folder.join("tyk.conf"))
        .arg("--store-file")
        .arg(gateway.folder.join("tollgate.redb"))
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(!told.contains("opened"), "{told}");
}
