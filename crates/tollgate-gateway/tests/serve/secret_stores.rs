//! Secrets in Vault and Consul: asked when files are read, and what then goes to upstreams.

use std::{
    collections::BTreeMap,
    io::Write,
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::{Gateway, api, read_head, serving, upstream};

const TOKEN: &str = "the token of vault";

/// A server that answers as Vault and Consul do.
struct Stores {
    port: u16,
    held: Arc<Held>,
}

#[derive(Default)]
struct Held {
    /// Status and body by path.
    has: Mutex<BTreeMap<String, (u16, String)>>,
    /// The heads of what was asked.
    asked: Mutex<Vec<String>>,
}

impl Held {
    fn answer(&self, head: &str) -> (u16, String) {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let vault = format!("x-vault-token: {TOKEN}\r\n");
        let consul = "authorization: Basic dGVzdDpwdw==\r\n";
        let head = head.to_lowercase();
        let may = head.contains(&vault) || head.contains(&consul.to_lowercase());
        let found = self.has.lock().unwrap().get(path).cloned();
        match found {
            Some(_) if !may => (403, String::new()),
            found => found.unwrap_or((404, json!({"errors": []}).to_string())),
        }
    }
}

impl Stores {
    fn start() -> Self {
        let held = Arc::new(Held::default());
        let own = held.clone();
        let port = serving(move |connection| {
            let head = read_head(connection);
            let (status, body) = own.answer(&head);
            own.asked.lock().unwrap().push(head);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            let _ = connection.write_all(answer.as_bytes()); // The client may have gone.
        });
        Self { port, held }
    }

    fn put(&self, path: &str, status: u16, body: impl ToString) {
        let answer = (status, body.to_string());
        self.held
            .has
            .lock()
            .unwrap()
            .insert(path.to_owned(), answer);
    }

    /// A secret of an engine with versions.
    fn put_secret(&self, path: &str, fields: Value) {
        let answer = json!({"data": {"data": fields, "metadata": {"version": 1}}});
        self.put(path, 200, answer);
    }

    fn settings(&self) -> Value {
        let address = format!("127.0.0.1:{}", self.port);
        json!({
            "kv": {
                "vault": {"address": format!("http://{address}"), "token": TOKEN, "max_retries": 1},
                "consul": {
                    "address": address, "datacenter": "dc-1",
                    "http_auth": {"username": "test", "password": "pw"}}},
            "secrets": {"of_conf": "vault://secret/gateway.conf"}})
    }

    fn times_asked(&self, path: &str) -> usize {
        let asked = self.held.asked.lock().unwrap();
        let target = format!("GET {path} ");
        asked
            .iter()
            .filter(|head| head.starts_with(&target))
            .count()
    }
}

/// An API whose texts name secrets.
fn orders(headers: Value) -> Value {
    let mut orders = api("orders", "/orders/", "vault://target");
    orders["use_keyless"] = json!(true);
    orders["version_data"]["versions"]["Default"]["global_headers"] = headers;
    orders
}

fn filled() -> Stores {
    let stores = Stores::start();
    let target = format!("http://127.0.0.1:{}/v2", upstream());
    stores.put_secret("/v1/secret/data/tyk-apis", json!({"target": target}));
    stores.put_secret("/v1/secret/data/gateway", json!({"conf": "c-1"}));
    stores.put_secret("/v1/kv-v2/data/a/b", json!({"KEY": "v-1", "number": 7}));
    stores.put("/v1/kv/db/pw?raw&dc=dc-1", 200, "k-1");
    stores.put("/v1/kv/tyk-apis/name?raw&dc=dc-1", 200, "n-1");
    stores
}

#[test]
fn secrets_of_vault_and_consul_reach_the_upstream_and_are_asked_for_once() {
    let stores = filled();
    let definition = orders(json!({
        "X-Vault": "is $secret_vault.kv-v2/a/b.KEY, $secret_vault.kv-v2/a/b.number",
        "X-Consul": "$secret_consul.db/pw;",
        "X-Name": "consul://name",
        "X-Field": "$kv{vault:kv-v2/a/b#KEY}/$kv{consul:db/pw}",
        "X-Conf": "$secret_conf.of_conf",
        "X-None": "[$secret_vault.kv-v2/a/b.none$secret_consul.none]",
    }));
    let gateway = Gateway::with("secret-stores", &stores.settings(), &[definition]);
    let seen = |wanted: &[&str]| {
        let answer = gateway.ask("/orders/7", "");
        let log = gateway.log();
        assert_eq!(answer.status, 200, "{log}");
        let head = answer.body.to_lowercase();
        assert!(head.starts_with("get /v2/7 "), "{head}");
        for line in wanted {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
    };
    let of_conf = "x-conf: c-1";
    seen(&["x-vault: is v-1, 7", "x-consul: k-1;", "x-name: n-1"]);
    seen(&["x-field: v-1/k-1", "x-none: []", of_conf]);
    for path in ["/v1/kv-v2/data/a/b", "/v1/kv/db/pw?raw&dc=dc-1"] {
        assert_eq!(stores.times_asked(path), 1, "{path}");
    }

    // What changes there counts from the next reload.
    stores.put_secret("/v1/kv-v2/data/a/b", json!({"KEY": "v-2", "number": true}));
    seen(&["x-vault: is v-1, 7"]);
    gateway.reload();
    seen(&["x-vault: is v-2, true", "x-field: v-2/k-1", of_conf]);

    // A store that does not answer is no store without secrets: what is in force stays.
    stores.put("/v1/kv-v2/data/a/b", 503, "");
    gateway.reload(); // It answers as Tyk's does, and tells the log.
    seen(&["x-vault: is v-2, true"]);
    gateway.wait_for_line("Vault answers with an error of its own");
    let log = gateway.log();
    for secret in [TOKEN, "v-1", "v-2", "k-1", "c-1", "dGVzdDpwdw"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn check_tells_of_secrets_that_are_not_there_and_of_stores_that_do_not_answer() {
    let stores = filled();
    let gateway = Gateway::with(
        "secret-stores-check",
        &stores.settings(),
        &[orders(json!({}))],
    );
    let check = |headers: Value, code: i32, told: &str| {
        gateway.write_api(&orders(headers));
        let checked = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["check", "--store", "embedded", "--strict", "--conf"])
            .arg(gateway.folder.join("tyk.conf"))
            .output()
            .unwrap();
        let text = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
        assert_eq!(checked.status.code(), Some(code), "{text}");
        assert!(text.contains(told), "{told}: {text}");
    };
    let field = "Vault has no field \"none\" of \"kv-v2/a/b\"";
    check(json!({"x-a": "$secret_vault.kv-v2/a/b.KEY"}), 0, "1 served");
    let nothing = format!("{field}, so it stands for nothing");
    check(json!({"x-a": "$secret_vault.kv-v2/a/b.none"}), 1, &nothing);
    check(
        json!({"x-a": "kv://vault/kv-v2/a/b#none"}),
        2,
        "has no member \"none\"",
    );
    check(
        json!({"x-a": "consul://none"}),
        2,
        "Consul has no \"tyk-apis/none\"",
    );
    let points = "expected `PATH.FIELD`, so it stands for nothing";
    check(json!({"x-a": "$secret_vault.plain"}), 1, points);
    stores.put("/v1/kv-v2/data/a/b", 200, "no json, a secret");
    let odd = "Vault answers with something else than a secret";
    check(json!({"x-a": "$secret_vault.kv-v2/a/b.KEY"}), 2, odd);
    stores.put("/v1/secret/data/gateway", 403, "");
    let denied = "secrets.of_conf: Vault does not let this token read the secret";
    check(json!({}), 2, denied);
}
