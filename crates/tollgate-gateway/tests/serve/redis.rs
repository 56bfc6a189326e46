//! Keys and counters in the Redis that the configuration names.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Gateway, api, ports::free_port, upstream};

/// A Redis of the test's own, ended with this.
pub(super) struct Redis {
    pub(super) port: u16,
    program: Child,
}

impl Redis {
    pub(super) fn start() -> Self {
        let port = free_port().unwrap();
        let redis = Self {
            port,
            program: spawn(port),
        };
        redis.wait();
        redis
    }

    fn wait(&self) {
        let begun = Instant::now();
        while self.cli(&["PING"]) != "PONG" {
            assert!(begun.elapsed() < Duration::from_secs(20), "it answers");
            std::thread::sleep(Duration::from_millis(10)); // Between two looks at the condition.
        }
    }

    pub(super) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli is installed");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(super) fn end(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    fn begin_again(&mut self) {
        self.program = spawn(self.port);
        self.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn spawn(port: u16) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--save", ""])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// A Redis that speaks TLS alone, and wants to see a certificate; with the folder of all certificates.
fn with_tls() -> (Redis, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    let name = (rcgen::DnType::CommonName, "authority");
    params.distinguished_name.push(name.0, name.1); // Another than its certificates' own.
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let of_authority = params.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(params, authority);
    fs::write(folder.path().join("ca.pem"), of_authority.pem()).unwrap();
    for name in ["server", "client"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        let file = |kind: &str| folder.path().join(format!("{name}.{kind}"));
        fs::write(file("pem"), certificate.pem()).unwrap();
        fs::write(file("key"), key.serialize_pem()).unwrap();
    }
    let port = free_port().unwrap();
    let program = Command::new("redis-server")
        .args(["--port", "0", "--tls-port", &port.to_string(), "--save", ""])
        .args(["--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", "yes"])
        .args([
            "--tls-cert-file",
            "server.pem",
            "--tls-key-file",
            "server.key",
        ])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it listens");
        std::thread::sleep(Duration::from_millis(10)); // Between two looks at the condition.
    }
    (Redis { port, program }, folder)
}

/// A gateway on this Redis, with an API `a`. Calls may take long: the machine may be busy.
pub(super) fn start(name: &str, redis: &Redis) -> Gateway {
    start_with(name, redis, &json!({"timeout": "1s"}))
}

fn start_with(name: &str, redis: &Redis, store: &Value) -> Gateway {
    let target = format!("http://127.0.0.1:{}", upstream());
    let settings = json!({
        "storage": {"type": "redis", "host": "127.0.0.1", "port": redis.port},
        "tollgate": {"store": store},
        "enable_redis_rolling_limiter": true,
    });
    Gateway::with(name, &settings, &[api("a", "/a/", &target)])
}

pub(super) fn session(quota: u64) -> Value {
    json!({"org_id": "org1", "rate": 100, "per": 60, "quota_max": quota, "quota_renewal_rate": 3600,
        "access_rights": {"a": {"api_id": "a", "versions": ["Default"]}}})
}

#[test]
fn gateways_share_keys_and_quotas_and_tyk_may_count_along() {
    let redis = Redis::start();
    let (one, other) = (start("redis-one", &redis), start("redis-other", &redis));
    let key = one.make_key_of(&session(5));
    assert_eq!(one.ask("/a/x", &key).status, 200);
    assert_eq!(other.ask("/a/x", &key).status, 200);
    let quota = redis.cli(&["KEYS", "quota-*"]);
    assert_eq!(redis.cli(&["GET", &quota]), "2", "under Tyk's name");
    assert_eq!(redis.cli(&["INCR", &quota]), "3", "a request at a Tyk node");
    assert_eq!(one.ask("/a/x", &key).status, 200);
    assert_eq!(other.ask("/a/x", &key).status, 200);
    assert_eq!(one.ask("/a/x", &key).status, 403, "the quota is used up");
    assert!(
        redis
            .cli(&["KEYS", "rate-limit-*"])
            .starts_with("rate-limit-")
    );

    let hash = quota.trim_start_matches("quota-").to_owned();
    let deleted = one.admin("DELETE", &format!("/tyk/keys/{hash}?hashed=true"), "");
    assert_eq!(deleted.status, 200, "{}", deleted.body);
    let begun = Instant::now();
    while other.ask("/a/x", &key).status != 403 || redis.cli(&["EXISTS", &quota]) == "1" {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the other hears of it"
        );
        std::thread::sleep(Duration::from_millis(10)); // Between two looks at the condition.
    }
}

#[test]
fn a_redis_that_speaks_tls_sees_a_certificate_and_shows_one() {
    let (redis, folder) = with_tls();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let storage = |members: Value| {
        let mut storage =
            json!({"type": "redis", "host": "127.0.0.1", "port": redis.port, "use_ssl": true});
        storage
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        json!({"storage": storage, "tollgate": {"store": {"timeout": "2s"}}})
    };
    let all = json!({"ca_file": file("ca.pem"), "cert_file": file("client.pem"), "key_file": file("client.key")});
    let target = format!("http://127.0.0.1:{}", upstream());
    let gateway = Gateway::with(
        "redis-tls",
        &storage(all.clone()),
        &[api("a", "/a/", &target)],
    );
    let key = gateway.make_key_of(&session(5));
    assert_eq!(gateway.ask("/a/x", &key).status, 200);

    let check = |name: &str, members: Value| {
        let conf = folder.path().join(format!("{name}.conf"));
        let mut settings = storage(members);
        settings["secret"] = json!("only for this test");
        settings["app_path"] = json!(gateway.folder.join("apps"));
        settings["policies"] = json!({"policy_source": "file",
            "policy_record_name": gateway.folder.join("policies.json")});
        fs::write(&conf, settings.to_string()).unwrap();
        let checked = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["check", "--store", "--json", "--conf"])
            .arg(&conf)
            .env_clear()
            .output()
            .unwrap();
        let told: Value = serde_json::from_slice(&checked.stdout).unwrap();
        (told, checked.status.code().unwrap())
    };
    let (told, _) = check("all", all.clone());
    assert_eq!(told["store"]["servers"][0]["role"], "master", "{told}");
    let mut nobody = all.clone();
    nobody.as_object_mut().unwrap().remove("ca_file");
    let mut unseen = all.clone();
    unseen["cert_file"] = json!("");
    unseen["key_file"] = json!("");
    for (name, members) in [("nobody", nobody), ("unseen", unseen)] {
        let (told, code) = check(name, members);
        assert_eq!(
            (&told["store"]["servers"], code),
            (&json!([]), 2),
            "{name}: {told}"
        );
    }
    let mut missing = all;
    missing["ca_file"] = json!(file("no-such.pem"));
    let (told, code) = check("missing", missing);
    assert_eq!(
        (&told["problems"][0]["path"], code),
        (&json!("storage.ca_file"), 2),
        "{told}"
    );
}

#[test]
fn a_store_is_looked_at_where_that_is_asked_for() {
    let redis = Redis::start();
    let gateway = start("redis-check", &redis);
    let check = |arguments: &[&str]| {
        let checked = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["check", "--conf"])
            .arg(gateway.folder.join("tyk.conf"))
            .args(arguments)
            .env_clear()
            .output()
            .unwrap();
        let told = String::from_utf8(checked.stdout).unwrap();
        (told, checked.status.code().unwrap())
    };
    let (told, code) = check(&["--store"]);
    assert!(
        told.contains("127.0.0.1") && told.contains("master with 0 replicas"),
        "{told}"
    );
    assert!(
        told.contains("warning: ") && told.contains("keeps nothing on a disk"),
        "{told}"
    );
    assert_eq!(code, 0);
    assert_eq!(check(&["--store", "--strict"]).1, 1);
    let (told, _) = check(&["--store", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["store"]["kind"], "redis");
    assert_eq!(
        told["store"]["servers"][0]["listeners"], 1,
        "the gateway listens"
    );
    let (told, code) = check(&[]);
    assert!(
        !told.contains("redis-server") && !told.contains("store: "),
        "{told}"
    );
    assert_eq!(code, 0);
    redis.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    let (told, code) = check(&["--store"]);
    assert!(told.contains("allkeys-lfu"), "{told}");
    assert_eq!(code, 2);
    let log = fs::read_to_string(gateway.folder.join("log")).unwrap();
    assert!(
        log.contains("keeps nothing on a disk"),
        "told at the start: {log}"
    );
}

#[test]
fn a_redis_that_is_away_is_503_and_comes_back() {
    let mut redis = Redis::start();
    let gateway = start("redis-away", &redis);
    let key = gateway.make_key_of(&session(50));
    assert_eq!(gateway.ask("/a/x", &key).status, 200);
    redis.end();
    for _ in 0..10 {
        assert_eq!(gateway.ask("/a/x", &key).status, 503);
        assert_eq!(gateway.ask("/a/x", "no-such-key").status, 503);
    }
    redis.begin_again();
    let begun = Instant::now();
    while gateway.ask("/a/x", &key).status == 503 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it recovers");
        std::thread::sleep(Duration::from_millis(50)); // Between two looks at the condition.
    }
}

#[test]
fn a_group_reloads_together() {
    let redis = Redis::start();
    let (one, other) = (
        start("redis-group-1", &redis),
        start("redis-group-2", &redis),
    );
    let target = format!("http://127.0.0.1:{}", upstream());
    other.write_api(&api("b", "/b/", &target));
    assert_eq!(other.ask("/b/x", "").status, 404, "not before a reload");
    let begun = Instant::now();
    while other.ask("/b/x", "").status == 404 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the other reloads"
        );
        let reloaded = one.admin("GET", "/tyk/reload/group", "");
        assert_eq!(reloaded.status, 200, "{}", reloaded.body);
        std::thread::sleep(Duration::from_millis(50)); // Between two looks at the condition.
    }
}

#[test]
fn a_gateway_that_is_killed_costs_a_chunk_and_sells_nothing_twice() {
    const LIMIT: u64 = 800;
    let redis = Redis::start();
    // Chunks of 50 ms, so that few units go down with it.
    let store = json!({"timeout": "1s", "mode": "leased", "longest_lease": "50ms"});
    let one = start_with("redis-stays", &redis, &store);
    let mut other = start_with("redis-killed", &redis, &store);
    let mut session = session(LIMIT);
    session["rate"] = json!(1_000_000);
    let key = one.make_key_of(&session);
    let (mut offered, mut admitted) = (0, 0);
    let mut ask = |gateway: &Gateway| {
        offered += 1;
        let status = gateway.ask("/a/x", &key).status;
        assert!(status == 200 || status == 403, "{status}");
        admitted += u64::from(status == 200);
        (offered, admitted)
    };
    while ask(&other).1 < LIMIT / 3 {
        ask(&one);
    }
    other.program.kill().unwrap(); // As `kill -9`.
    other.program.wait().unwrap();
    while ask(&one).0 < 3 * LIMIT {}
    println!("offered {offered}, admitted {admitted}, limit {LIMIT}");
    assert!(admitted <= LIMIT, "{admitted}");
    assert!(95 * LIMIT <= 100 * admitted, "{admitted}");
}
