//! The `tollgate` program, started on files in Tyk's form and asked over sockets.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::ports::free_port;

#[path = "shared/ports.rs"]
mod ports;

mod serve {
    mod apis;
    mod as_tyk;
    mod attacks;
    mod checks;
    mod clients;
    mod cors;
    mod framing;
    mod keys;
    mod limits;
    mod meta_schemas;
    mod observe;
    mod open_limits;
    mod overrides;
    mod own_ports;
    mod redis;
    mod reloads;
    mod rewrites;
    mod secret_stores;
    mod store_file;
    mod targets;
    mod tls;
    mod tokens;
    #[cfg(feature = "otlp")]
    mod traces;
    mod transfer;
    mod transforms;
    mod versions;
    mod watch;
}

const SECRET: &str = "a secret of the test";

/// A folder of files, an upstream, and the program serving them.
struct Gateway {
    folder: PathBuf,
    port: u16,
    program: Child,
    /// How it is spoken to.
    tls: Option<Arc<rustls::ClientConfig>>,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// An upstream that answers with the head of what it got.
fn upstream() -> u16 {
    serving(|connection| {
        let head = read_head(connection);
        let body = head.as_bytes();
        let start = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = connection.write_all(start.as_bytes()); // The client may have gone.
        let _ = connection.write_all(body);
    })
}

/// Serves each connection so, on a thread of its own.
fn serving(serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, serve) = (connection.unwrap(), serve.clone());
            std::thread::spawn(move || serve(&mut connection));
        }
    });
    port
}

fn read_head(connection: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(connection.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

impl Gateway {
    /// Starts the program with one API, `orders`, of two lines of policy.
    fn start(name: &str) -> Self {
        let target = format!("http://127.0.0.1:{}/v2", upstream());
        let mut tokens = api("tokens", "/tokens/", &target);
        tokens["enable_jwt"] = json!(true); // Not built.
        let apis = [api("orders", "/orders/", &target), tokens];
        Self::with(name, &json!({}), &apis)
    }

    /// Starts the program with these settings besides its own, and these APIs.
    fn with(name: &str, settings: &Value, apis: &[Value]) -> Self {
        Self::over(name, settings, apis, None)
    }

    /// The same, where the settings say that it speaks TLS.
    fn over(
        name: &str,
        settings: &Value,
        apis: &[Value],
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Self {
        let folder = std::env::temp_dir().join(format!("tollgate-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder); // Of an earlier run.
        fs::create_dir_all(folder.join("apps")).unwrap();
        let port = free_port().unwrap();
        let mut conf = json!({
            "listen_address": "127.0.0.1", "listen_port": port, "secret": SECRET, "hash_keys": true,
            "app_path": folder.join("apps"),
            "policies": {"policy_source": "file", "policy_record_name": folder.join("policies.json")},
            "http_server_options": {"enable_strict_routes": true},
        });
        for (name, value) in settings.as_object().unwrap() {
            conf[name] = value.clone();
        }
        fs::write(folder.join("tyk.conf"), conf.to_string()).unwrap();
        let policies = json!({"gold": {
            "org_id": "org1", "active": true, "rate": 1000, "per": 60, "quota_max": 8,
            "quota_renewal_rate": 3600, "meta_data": {"plan": "gold"},
            "access_rights": {"orders": {"api_id": "orders", "versions": ["Default"]}}}});
        fs::write(folder.join("policies.json"), policies.to_string()).unwrap();
        for api in apis {
            write_api(&folder, api);
        }
        let gateway = Self {
            program: launch(&folder),
            folder,
            port,
            tls,
        };
        gateway.wait_until_ready();
        gateway
    }

    fn write_api(&self, definition: &Value) {
        write_api(&self.folder, definition);
    }

    fn reload(&self) {
        let reloaded = self.admin("GET", "/tyk/reload/?block=true", "");
        assert_eq!(reloaded.status, 200, "{}", reloaded.body);
    }

    fn wait_until_ready(&self) {
        let start = Instant::now();
        while !matches!(self.try_ask("GET", "/ready", &[], ""), Some(answer) if answer.status == 200)
        {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the program does not answer"
            );
            std::thread::sleep(Duration::from_millis(20)); // Between two looks at the condition.
        }
    }

    fn connect(&self) -> Option<Box<dyn Wire>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let Some(tls) = self.tls.clone() else {
            return Some(Box::new(tcp));
        };
        let session = rustls::ClientConnection::new(tls, "localhost".try_into().ok()?).ok()?;
        Some(Box::new(rustls::StreamOwned::new(session, tcp)))
    }

    fn try_ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<Answer> {
        let mut connection = self.connect()?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        if headers.iter().all(|(name, _)| *name != "host") {
            request.push_str("host: localhost\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
        connection.write_all(request.as_bytes()).ok()?;
        let head = read_head(&mut connection);
        let mut body = String::new();
        connection.read_to_string(&mut body).ok()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer {
            status,
            head: head.to_lowercase(),
            body,
        })
    }

    /// The status of a request to another host.
    fn ask_as(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        connection
            .write_all(format!("{request}\r\n").as_bytes())
            .unwrap();
        let head = read_head(&mut connection);
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn ask(&self, path: &str, token: &str) -> Answer {
        let headers = [("authorization", token)];
        let headers = if token.is_empty() { &[][..] } else { &headers };
        self.try_ask("GET", path, headers, "").expect("an answer")
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_ask(method, path, &[("x-tyk-authorization", SECRET)], body)
            .expect("an answer")
    }

    fn make_key(&self) -> String {
        self.make_key_of(&json!({"org_id": "org1", "apply_policies": ["gold"], "alias": "joe"}))
    }

    /// A key that may call these APIs.
    fn make_key_for(&self, apis: &[&str]) -> String {
        let rights: serde_json::Map<_, _> = apis
            .iter()
            .map(|id| {
                (
                    (*id).to_owned(),
                    json!({"api_id": id, "versions": ["Default"]}),
                )
            })
            .collect();
        self.make_key_of(&json!({
            "org_id": "org1", "rate": 1000, "per": 1, "quota_max": -1, "access_rights": rights}))
    }

    fn make_key_of(&self, session: &Value) -> String {
        let made = self.admin("POST", "/tyk/keys", &session.to_string());
        assert_eq!(made.status, 200, "{}", made.body);
        let made: Value = serde_json::from_str(&made.body).unwrap();
        made["key"].as_str().unwrap().to_owned()
    }

    /// Ends the program without a warning, and starts it again.
    fn crash(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
        self.program = launch(&self.folder);
        self.wait_until_ready();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.program.kill(); // It may have ended.
        let _ = self.program.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn write_api(folder: &std::path::Path, definition: &Value) {
    let id = definition["api_id"].as_str().unwrap();
    let file = folder.join("apps").join(format!("{id}.json"));
    fs::write(file, definition.to_string()).unwrap();
}

/// Starts the program. What it writes goes into the folder's `log`.
fn launch(folder: &std::path::Path) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let conf = folder.join("tyk.conf");
    let text = fs::read_to_string(&conf).unwrap();
    let has_redis = text.contains(r#""storage""#);
    let store: &[&str] = if has_redis {
        &[]
    } else {
        &["--store", "embedded"]
    };
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("--conf")
        .arg(conf)
        .args(store)
        .stderr(log)
        .spawn()
        .unwrap()
}

fn api(id: &str, listen_path: &str, target: &str) -> Value {
    json!({
        "name": id, "api_id": id, "org_id": "org1", "active": true, "use_standard_auth": true,
        "enable_context_vars": true,
        "version_data": {"not_versioned": true, "versions": {"Default": {
            "name": "Default", "use_extended_paths": true,
            "global_headers": {"X-Plan": "$tyk_meta.plan", "X-Path": "$tyk_context.path"},
            "global_headers_remove": ["x-secret"],
            "global_response_headers": {"X-Served-By": "tollgate"},
            "extended_paths": {
                "ignored": [{"path": "/health", "method": "GET"}],
                "black_list": [{"path": "/closed", "method": "GET"}],
                "mock_response": [{"path": "/tea", "method": "GET", "code": 418, "body": "short and stout"}],
            }}}},
        "proxy": {"listen_path": listen_path, "target_url": target, "strip_listen_path": true},
    })
}

#[test]
fn a_key_passes_with_its_data_until_its_quota_is_used_up() {
    let gateway = Gateway::start("quota");
    let key = gateway.make_key();
    let first = gateway.ask("/orders/7?a=1", &key);
    assert_eq!(first.status, 200);
    let seen = first.body.to_lowercase();
    assert!(seen.starts_with("get /v2/7?a=1 http/1.1"), "{seen}");
    assert!(
        seen.contains("x-plan: gold") && seen.contains("x-path: /orders/7"),
        "{seen}"
    );
    assert!(
        first.head.contains("x-served-by: tollgate"),
        "{}",
        first.head
    );
    assert!(
        first.head.contains("x-ratelimit-remaining: 7"),
        "{}",
        first.head
    );

    assert_eq!(gateway.ask("/orders/7", "").status, 401);
    assert_eq!(gateway.ask("/orders/7", "nobody").status, 403);
    assert_eq!(gateway.ask("/orders/closed", &key).status, 403);
    assert_eq!(gateway.ask("/orders/health", "").status, 200);
    assert_eq!(gateway.ask("/orders/tea", "").body, "short and stout");
    assert_eq!(gateway.ask("/none", &key).status, 404);
    assert_eq!(gateway.ask("/tokens/x", &key).status, 503);
    assert_eq!(gateway.ask("/orders/../orders/7", &key).status, 301);

    let statuses: Vec<_> = (0..8)
        .map(|_| gateway.ask("/orders/7", &key).status)
        .collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 403]);
}

#[test]
fn a_crash_loses_no_key_and_sells_no_quota_twice() {
    let mut gateway = Gateway::start("crash");
    let key = gateway.make_key();
    let mut admitted = 0;
    for _ in 0..2 {
        admitted += (0..3)
            .filter(|_| gateway.ask("/orders/7", &key).status == 200)
            .count();
        gateway.crash();
    }
    assert!(
        gateway.ask("/orders/7", "").status == 401,
        "the API is served again"
    );
    let shown = gateway.admin("GET", &format!("/tyk/keys/{key}"), "");
    assert_eq!(shown.status, 200, "{}", shown.body);
    admitted += (0..20)
        .filter(|_| gateway.ask("/orders/7", &key).status == 200)
        .count();
    assert!(admitted <= 8, "{admitted} of 8 were admitted");
}

#[test]
fn a_reload_takes_what_is_new_and_keeps_what_was_served() {
    let gateway = Gateway::start("reload");
    let key = gateway.make_key();
    let file = gateway.folder.join("apps/orders.json");
    let good: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(gateway.ask("/moved/7", &key).status, 404);
    let mut moved = good.clone();
    moved["proxy"]["listen_path"] = json!("/moved/");
    gateway.write_api(&moved);
    gateway.reload();
    assert!(gateway.ask("/moved/7", &key).body.starts_with("GET /v2/7 "));
    let by_id = gateway.ask("/orders/7", &key).body;
    assert!(by_id.starts_with("GET /v2/orders/7 "), "{by_id}");

    fs::write(&file, "{").unwrap();
    gateway.admin("GET", "/tyk/reload/?block=true", "");
    assert_eq!(
        gateway.ask("/moved/7", &key).status,
        200,
        "the last good one stays"
    );
}

#[test]
fn a_broken_policy_takes_its_own_keys_along_and_no_other() {
    let mut gateway = Gateway::start("policies");
    let key = gateway.make_key();
    let file = gateway.folder.join("policies.json");
    let good: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let reload = |policies: Value| {
        fs::write(&file, policies.to_string()).unwrap();
        let answer = gateway.admin("GET", "/tyk/reload/?block=true", "");
        (gateway.ask("/orders/7", &key).status, answer.body)
    };
    let with = |id: &str| {
        let mut policies = good.clone();
        policies[id]["quota_max"] = json!("100");
        policies
    };
    assert_eq!(reload(with("new")).0, 200);
    let (status, told) = reload(with("gold"));
    assert_eq!(status, 200, "the last good one stays: {told}");
    gateway.crash();
    assert_eq!(gateway.ask("/orders/7", &key).status, 403);
    fs::write(&file, good.to_string()).unwrap();
    gateway.admin("GET", "/tyk/reload/?block=true", "");
    assert_eq!(gateway.ask("/orders/7", &key).status, 200);
}

#[test]
fn it_does_not_start_on_a_store_that_it_can_not_reach_as_told() {
    let folder = std::env::temp_dir().join(format!("tollgate-ca-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let conf = json!({"secret": SECRET, "storage": {"type": "redis", "ca_file": "/ca.pem"}});
    fs::write(folder.join("tyk.conf"), conf.to_string()).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("serve")
        .arg("--conf")
        .arg(folder.join("tyk.conf"))
        .output()
        .unwrap();
    let told = String::from_utf8(program.stderr).unwrap();
    assert!(!program.status.success());
    assert!(told.contains("storage.ca_file: /ca.pem: "), "{told}");
    fs::remove_dir_all(folder).unwrap();
}
