//! What the program tells of requests: its access log and its metrics.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{Gateway, SECRET, api, ports::free_port, read_head, serving, upstream};

impl Gateway {
    /// Tells the program to stop, and reads all that it wrote.
    pub(super) fn log_of_all(&mut self) -> String {
        let id = self.program.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status();
        assert!(told.unwrap().success());
        assert!(self.program.wait().unwrap().success());
        self.log()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Waits until the log has a line with this in it.
    pub(super) fn wait_for_line(&self, part: &str) -> String {
        let start = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(part)) {
                return line.to_owned();
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{part}: {log}");
            std::thread::sleep(Duration::from_millis(20)); // Between two looks at the condition.
        }
    }

    pub(super) fn metrics(&self) -> String {
        let told = self.admin("GET", "/tollgate/metrics", "");
        assert_eq!(told.status, 200);
        assert!(
            told.head.contains("text/plain; version=0.0.4"),
            "{}",
            told.head
        );
        told.body
    }
}

/// The lines of an access log, as JSON.
fn entries(log: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter(|line| line.contains(r#""prefix":"access-log""#));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn start(name: &str, settings: &Value) -> Gateway {
    let target = format!("http://127.0.0.1:{}/v2", upstream());
    let mut refused = api("tokens", "/tokens/", &target);
    refused["enable_jwt"] = json!(true); // Not built.
    Gateway::with(
        name,
        settings,
        &[api("orders", "/orders/", &target), refused],
    )
}

fn json_log() -> Value {
    json!({"log_format": "json", "access_logs": {"enabled": true}})
}

#[test]
fn a_request_is_a_line_of_the_log() {
    let mut gateway = start("access-log", &json_log());
    let key = gateway.make_key();
    let headers = [
        ("authorization", &*key),
        ("x-request-id", "abc-1"),
        ("user-agent", "a \"test\""),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ];
    let answer = gateway.try_ask("POST", "/orders/7?card=unsaid", &headers, "hello");
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200);
    let log = gateway.log_of_all();
    let entries = entries(&log);
    let [entry] = &*entries else { panic!("{log}") };
    let expected = json!({
        "level": "info", "prefix": "access-log", "api_id": "orders", "api_name": "orders",
        "api_version": "Default", "org_id": "org1", "alias": "joe", "method": "POST",
        "path": "/orders/7", "protocol": "HTTP/1.1", "host": "localhost", "status": 200,
        "client_ip": "127.0.0.1", "request_id": "abc-1", "user_agent": "a \"test\"",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "bytes_in": 5, "bytes_out": answer.body.len(),
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&entry[name], value, "{name} in {entry}");
    }
    let upstream = entry["upstream_addr"].as_str().unwrap();
    assert!(
        upstream.starts_with("http://127.0.0.1:") && upstream.ends_with("/v2/7"),
        "{upstream}"
    );
    let time = |name: &str| entry[name].as_f64().unwrap();
    assert!(time("latency_total") >= time("upstream_latency"));
    let sum = time("latency_gateway") + time("upstream_latency");
    assert!((sum - time("latency_total")).abs() < 0.01, "{entry}");
    assert!(
        entry["api_key"]
            .as_str()
            .is_some_and(|name| !name.is_empty() && !key.contains(name))
    );
    assert!(!log.contains(&key) && !log.contains("unsaid"));
    assert_eq!(entry.get("cut_off"), None);
}

#[test]
fn the_log_says_who_refused_and_why() {
    let mut gateway = start("refusals-log", &json_log());
    let key = gateway.make_key_of(&json!({
        "org_id": "org1", "alias": "ann", "rate": 1, "per": 600, "quota_max": -1,
        "access_rights": {"orders": {"api_id": "orders", "versions": ["Default"]}}}));
    let asked = [
        ("/orders/1", &*key, 200),
        ("/orders/2", &*key, 429),
        ("/orders/3", "", 401),
        ("/orders/4", "nobody-has-this", 403),
        ("/orders/closed", &*key, 403),
        ("/tokens/", "", 503),
        ("/nowhere", "", 404),
        ("/orders//x", "", 301),
    ];
    for (path, token, status) in asked {
        assert_eq!(gateway.ask(path, token).status, status, "{path}");
    }
    let log = gateway.log_of_all();
    let told = entries(&log);
    let told = told.iter().map(|entry| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        (
            entry["status"].as_u64().unwrap(),
            text("refused_by"),
            text("reason"),
            text("alias"),
        )
    });
    let told: Vec<_> = told.collect();
    let told: Vec<_> = told
        .iter()
        .map(|(s, a, b, c)| (*s, &**a, &**b, &**c))
        .collect();
    assert_eq!(
        told,
        [
            (200, "", "", "ann"),
            (429, "limits", "key_rate_limited", "ann"),
            (401, "session", "credential_missing", ""),
            (403, "session", "key_unknown", ""),
            (403, "", "endpoint_forbidden", ""),
            (503, "", "api_not_loaded", ""),
            (404, "", "no_api", ""),
            (301, "", "moved", ""),
        ]
    );
    assert!(!log.contains("nobody-has-this") && !log.contains(&key));
}

#[test]
fn a_text_line_has_the_members_of_the_template_and_stays_one_line() {
    let settings = json!({
        "hash_keys": false,
        "access_logs": {"enabled": true, "template": ["status", "api_key", "path", "user_agent"]}});
    let mut gateway = start("text-log", &settings);
    let key = gateway.make_key();
    let headers = [("authorization", &*key), ("user-agent", "a\" status=200")];
    gateway.try_ask("GET", "/orders/%0Astatus=200", &headers, "");
    let log = gateway.log_of_all();
    let line = log
        .lines()
        .find(|line| line.contains("prefix=access-log"))
        .unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.starts_with("time=2"), "{line}");
    let last = &key[key.len() - 4..];
    let expected = format!(
        "level=info prefix=access-log status=400 api_key=****{last} path={} user_agent={}",
        r#""/orders/%0Astatus=200""#, r#""a\" status=200""#,
    );
    assert_eq!(rest, expected);
    assert!(!log.contains(&key));
}

/// An upstream that sends half of what it promised, and waits until its client is gone.
fn half_an_answer() -> u16 {
    serving(|connection| {
        read_head(connection);
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!";
        let _ = connection.write_all(half);
        read_head(connection);
    })
}

#[test]
fn an_answer_that_breaks_off_is_told_when_it_does() {
    let target = format!("http://127.0.0.1:{}/", half_an_answer());
    let gateway = Gateway::with(
        "cut-off",
        &json_log(),
        &[api("orders", "/orders/", &target)],
    );
    let key = gateway.make_key();
    let mut client = TcpStream::connect(("127.0.0.1", gateway.port)).unwrap();
    let request = format!("GET /orders/x HTTP/1.1\r\nhost: h\r\nauthorization: {key}\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    read_head(&mut client);
    assert!(!gateway.log().contains("access-log"));
    drop(client);
    let entry: Value = serde_json::from_str(&gateway.wait_for_line("access-log")).unwrap();
    assert_eq!(
        (&entry["cut_off"], &entry["status"]),
        (&json!(true), &json!(200)),
        "{entry}"
    );
    assert_eq!(entry["bytes_out"], 5);
}

#[test]
fn a_name_is_handed_on_where_a_header_is_named() {
    let gateway = start(
        "request-id",
        &json!({"tollgate": {"request_id_header": "X-Correlation"}}),
    );
    let key = gateway.make_key();
    let answer = gateway.ask("/orders/1", &key);
    let told = |text: &str| {
        let line = text.to_lowercase();
        let mut lines = line
            .lines()
            .filter_map(|line| line.strip_prefix("x-correlation: "));
        lines.next().map(str::to_owned).unwrap()
    };
    assert_eq!(told(&answer.head), told(&answer.body));
    assert_eq!(told(&answer.head).len(), 32);
    let refused = gateway.try_ask("GET", "/orders/1", &[("x-correlation", "mine")], "");
    assert_eq!(told(&refused.unwrap().head), "mine");
}

#[test]
fn metrics_count_by_api_status_and_decision() {
    let gateway = start("metrics", &json!({}));
    let key = gateway.make_key();
    for (path, token) in [
        ("/orders/1", &*key),
        ("/orders/2", "nobody"),
        ("/nowhere", ""),
    ] {
        gateway.ask(path, token);
    }
    gateway.reload();
    let metrics = gateway.metrics();
    for line in [
        r#"tollgate_requests_total{api="orders",status="2xx",decision="served"} 1"#,
        r#"tollgate_requests_total{api="orders",status="4xx",decision="key_unknown"} 1"#,
        r#"tollgate_requests_total{api="",status="4xx",decision="no_api"} 1"#,
        r#"tollgate_rejections_total{reason="key_unknown"} 1"#,
        r#"tollgate_upstream_duration_seconds_count{api="orders"} 1"#,
        r#"tollgate_upstream_duration_seconds_bucket{api="orders",le="0.00005"} 0"#,
        r#"tollgate_config_reloads_total{result="success"} 2"#,
        "tollgate_config_last_reload_success 1",
        r#"tollgate_apis{state="served"} 1"#,
        r#"tollgate_apis{state="refused"} 1"#,
        "# TYPE tollgate_request_duration_seconds histogram",
        "process_resident_memory_bytes ",
        "tollgate_store_up 1",
        r#"tollgate_store_op_duration_seconds_count{store="embedded",op="put"} 1"#,
        r#"tollgate_store_op_duration_seconds_bucket{store="embedded",op="put",le="0.00005"} 0"#,
        "tollgate_connections ",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    for secret in [&*key, SECRET, "/orders/", "joe", "nobody"] {
        assert!(!metrics.contains(secret), "{secret} in {metrics}");
    }
    fs::write(gateway.folder.join("policies.json"), "{").unwrap();
    gateway.admin("GET", "/tyk/reload/?block=true", "");
    let metrics = gateway.metrics();
    assert!(
        metrics.contains("tollgate_config_last_reload_success 0"),
        "{metrics}"
    );
    assert!(metrics.contains(r#"tollgate_config_reloads_total{result="failure"} 1"#));
}

#[test]
fn metrics_are_for_who_shows_the_secret_or_at_an_address_of_their_own() {
    let gateway = start("metrics-secret", &json!({}));
    assert_eq!(gateway.ask("/tollgate/metrics", "").status, 403);
    let port = free_port().unwrap();
    let own =
        json!({"tollgate": {"metrics": {"address": format!("127.0.0.1:{port}"), "path": "/m"}}});
    let mut gateway = start("metrics-own", &own);
    assert_eq!(gateway.admin("GET", "/tollgate/metrics", "").status, 404);
    let public = std::mem::replace(&mut gateway.port, port);
    let answer = gateway.ask("/m", "");
    assert!(
        answer.status == 200 && answer.body.contains("tollgate_build_info"),
        "{}",
        answer.body
    );
    assert_eq!(gateway.ask("/orders/1", "").status, 404);
    gateway.port = public;
    let off = start(
        "metrics-off",
        &json!({"tollgate": {"metrics": {"disabled": true}}}),
    );
    assert_eq!(off.admin("GET", "/tollgate/metrics", "").status, 404);
}

#[test]
fn what_is_handed_on_is_told_of_the_api_that_answered() {
    let mut first = api("first", "/first/", "tyk://second");
    first["use_keyless"] = json!(true);
    let target = format!("http://127.0.0.1:{}", upstream());
    let mut second = api("second", "/second/", &target);
    second["internal"] = json!(true);
    let mut silent = api("silent", "/silent/", "tyk://second");
    silent["use_keyless"] = json!(true);
    silent["do_not_track"] = json!(true);
    let mut gateway = Gateway::with("handed-on", &json_log(), &[first, second, silent]);
    let key = gateway.make_key_of(&json!({
        "org_id": "org1", "alias": "ann", "rate": 1000, "per": 1, "quota_max": -1,
        "access_rights": {"second": {"api_id": "second", "versions": ["Default"]}}}));
    assert_eq!(gateway.ask("/first/7", &key).status, 200);
    assert_eq!(gateway.ask("/first/7", "nobody").status, 403);
    assert_eq!(gateway.ask("/silent/7", &key).status, 200);
    let metrics = gateway.metrics();
    for line in [
        r#"tollgate_requests_total{api="first",status="2xx",decision="handed_on"} 1"#,
        r#"tollgate_requests_total{api="first",status="4xx",decision="handed_on"} 1"#,
        r#"tollgate_requests_total{api="second",status="2xx",decision="served"} 2"#,
        r#"tollgate_requests_total{api="second",status="4xx",decision="key_unknown"} 1"#,
        r#"tollgate_request_duration_seconds_count{api="first"} 2"#,
        r#"tollgate_request_duration_seconds_count{api="second"} 3"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let log = gateway.log_of_all();
    let told: Vec<_> = entries(&log)
        .into_iter()
        .map(|entry| {
            let names = [
                "path",
                "api_id",
                "came_by",
                "alias",
                "reason",
                "refused_by",
                "api_name",
            ];
            names.map(|name| entry[name].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    assert_eq!(
        told,
        [
            ["/first/7", "second", "first", "ann", "", "", "second"],
            [
                "/first/7",
                "second",
                "first",
                "",
                "key_unknown",
                "session",
                "second"
            ],
        ]
    );
    assert!(!log.contains(&key));
}

#[test]
fn endpoints_are_told_of_as_the_definition_says() {
    let mut orders = api(
        "orders",
        "/orders/",
        &format!("http://127.0.0.1:{}", upstream()),
    );
    let paths = &mut orders["version_data"]["versions"]["Default"]["extended_paths"];
    paths["track_endpoints"] = json!([{"path": "/pets/{id}", "method": "GET"}]);
    paths["do_not_track_endpoints"] = json!([
        {"path": "/pets/secret", "method": "GET"}, {"path": "/never", "method": "GET"}]);
    let mut gateway = Gateway::with("tracked", &json_log(), &[orders]);
    let key = gateway.make_key();
    for (path, token, status) in [
        ("/orders/pets/7", &*key, 200),
        ("/orders/pets/8", "", 401),
        ("/orders/pets/secret", &key, 200),
        ("/orders/never", "", 401),
        ("/orders/other", &key, 200),
    ] {
        assert_eq!(gateway.ask(path, token).status, status, "{path}");
    }
    let metrics = gateway.metrics();
    for line in [
        r#"tollgate_endpoint_requests_total{api="orders",endpoint="/pets/{id}",method="GET",status="2xx"} 1"#,
        r#"tollgate_endpoint_requests_total{api="orders",endpoint="/pets/{id}",method="GET",status="4xx"} 1"#,
        r#"tollgate_endpoint_request_duration_seconds_count{api="orders",endpoint="/pets/{id}",method="GET"} 2"#,
        r#"tollgate_requests_total{api="orders",status="2xx",decision="served"} 3"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let log = gateway.log_of_all();
    let told: Vec<_> = entries(&log)
        .into_iter()
        .map(|entry| {
            ["path", "endpoint"].map(|name| entry[name].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    assert_eq!(
        told,
        [
            ["/orders/pets/7", "/pets/{id}"],
            ["/orders/pets/8", "/pets/{id}"],
            ["/orders/other", ""],
        ]
    );
}

/// Everything that a client or an operator would not want to read elsewhere.
fn secrets(keys: &[String]) -> Vec<String> {
    let sent = [
        SECRET,
        "guessed-token-4f1",
        "guessed-secret-9a2",
        "cookie-secret-b83",
        "header-secret-c74",
        "query-secret-d65",
        "injected-secret-e56",
        "body-secret-f47",
    ];
    sent.iter()
        .map(|text| (*text).to_owned())
        .chain(keys.iter().cloned())
        .collect()
}

#[test]
fn attack_74_no_secret_is_in_logs_metrics_or_answers() {
    let closed = free_port().unwrap();
    let target = format!("http://127.0.0.1:{}/v2", upstream());
    let mut orders = api("orders", "/orders/", &target);
    orders["version_data"]["versions"]["Default"]["global_headers"] =
        json!({"X-Upstream-Key": "injected-secret-e56"});
    let down = api("down", "/down/", &format!("http://127.0.0.1:{closed}/"));
    let mut broken = api("broken", "/broken/", &target);
    broken["hmac_string"] = json!("header-secret-c74");
    let settings = json!({
        "log_level": "trace", "log_format": "json", "access_logs": {"enabled": true}, "enable_key_logging": true});
    let mut gateway = Gateway::with("no-secrets", &settings, &[orders, down, broken]);
    let rights = |api: &str, rate: i64, more: Value| {
        let mut session = json!({
            "org_id": "org1", "rate": rate, "per": 600, "quota_max": 2, "quota_renewal_rate": 600,
            "access_rights": {api: {"api_id": api, "versions": ["Default"]}}});
        for (name, value) in more.as_object().unwrap() {
            session[name] = value.clone();
        }
        session
    };
    let keys = [
        gateway.make_key_of(&rights("orders", 1, json!({}))),
        gateway.make_key_of(&rights("orders", 1000, json!({}))),
        gateway.make_key_of(&rights("down", 1000, json!({}))),
        gateway.make_key_of(&rights("orders", 1000, json!({"is_inactive": true}))),
        gateway.make_key_of(&rights("orders", 1000, json!({"expires": 1}))),
    ];
    let mut told = String::new();
    let mut statuses = std::collections::BTreeSet::new();
    for key in keys
        .iter()
        .map(String::as_str)
        .chain(["", "guessed-token-4f1"])
    {
        for path in [
            "/orders/a?key=query-secret-d65",
            "/orders/b",
            "/orders/c",
            "/down/d",
            "/orders/closed",
            "/broken/",
            "/no",
        ] {
            let headers = [
                ("authorization", key),
                ("cookie", "key=cookie-secret-b83"),
                ("x-api-key", "header-secret-c74"),
                ("x-secret", "header-secret-c74"),
            ];
            let given = if key.is_empty() {
                &headers[2..]
            } else {
                &headers[..]
            };
            let answer = gateway
                .try_ask("POST", path, given, "body-secret-f47")
                .unwrap();
            statuses.insert(answer.status);
            if answer.status != 200 {
                told.push_str(&answer.head);
                told.push_str(&answer.body);
            } // The upstream answers with what it got.
        }
    }
    for (secret, path) in [
        ("guessed-secret-9a2", "/tyk/keys"),
        (SECRET, "/tyk/keys/none"),
        (SECRET, "/tyk/reload/?block=true"),
    ] {
        let answer = gateway
            .try_ask("GET", path, &[("x-tyk-authorization", secret)], "")
            .unwrap();
        told.push_str(&answer.body);
    }
    let garbled = gateway.admin("POST", "/tyk/keys", r#"{"alias": body-secret-f47}"#);
    told.push_str(&garbled.body);
    told.push_str(&gateway.metrics());
    let log = gateway.log_of_all();
    assert!(
        log.contains("request refused") && log.contains("no answer of an upstream"),
        "{log}"
    );
    for status in [200, 401, 403, 404, 429, 500] {
        assert!(statuses.contains(&status), "{status} in {statuses:?}");
    }
    for secret in secrets(&keys) {
        for (name, text) in [("log", &log), ("answers", &told)] {
            let at = text.find(&secret);
            let around = at.map(|at| &text[at.saturating_sub(200)..(at + 60).min(text.len())]);
            assert_eq!(around, None, "{secret} in the {name}");
        }
    }
}

#[test]
fn lines_of_a_request_tell_which_one_it_was() {
    let settings = json!({"log_level": "debug", "log_format": "json"});
    let mut gateway = start("span", &settings);
    let headers = [("x-request-id", "find-me"), ("authorization", "nobody")];
    gateway.try_ask("GET", "/orders/1", &headers, "");
    let log = gateway.log_of_all();
    let line = log
        .lines()
        .find(|line| line.contains("request refused"))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["span"]["request_id"], "find-me", "{line}");
    assert_eq!(line["span"]["api"], "orders");
    assert_eq!(line["fields"]["gate"], "session");
}
