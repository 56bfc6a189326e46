//! The `tollgate` program, started for the cases that share a configuration.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{
    case::Case, ports::free_port, redis::Redis, text::Variables, upstream::Upstream, wire,
};

pub(crate) const SECRET: &str = "conformance-secret";

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Where keys and counters are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Store {
    /// In the embedded store.
    Embedded,
    /// In a Redis.
    Redis,
}

/// A gateway with its upstream and its files.
pub(crate) struct Gateway {
    pub(crate) port: u16,
    pub(crate) upstream: Upstream,
    /// What the cases' texts may name.
    pub(crate) variables: Variables,
    folder: TempDir,
    config: Value,
    environment: BTreeMap<String, String>,
    process: Child,
    pub(crate) redis: Option<Redis>,
}

impl Gateway {
    /// Starts one for cases of one group, on a store of its own.
    ///
    /// # Errors
    ///
    /// Fails, with what the program logged, when the gateway does not serve its control API.
    pub(crate) fn start(cases: &[&Case], store: Store) -> Result<Self, String> {
        let upstream = Upstream::start().map_err(|err| format!("no upstream: {err}"))?;
        let folder = tempfile::tempdir().map_err(|err| format!("no folder: {err}"))?;
        let mut variables = Variables::default();
        let host = format!("127.0.0.1:{}", upstream.port);
        variables.set("UPSTREAM", format!("http://{host}"));
        variables.set("UPSTREAM_HOST", host);
        variables.set("FILES", folder.path().join("files").display().to_string());
        let redis = match store {
            Store::Embedded => None,
            Store::Redis => Some(Redis::start()?),
        };
        let mut config = base_config(folder.path());
        if let Some(redis) = &redis {
            merge(&mut config, &storage(redis));
        }
        merge(&mut config, &variables.fill(&cases[0].config));
        write_files(folder.path(), cases, &variables).map_err(|err| err.to_string())?;
        let environment = cases[0].env.clone();
        let (port, process) = launch(folder.path(), &mut config, &environment)?;
        let mut gateway = Self {
            port,
            upstream,
            variables,
            folder,
            config,
            environment,
            process,
            redis,
        };
        gateway.name_address();
        Ok(gateway)
    }

    /// Starts it anew, on the same files, when it is no longer there. Says whether it was not.
    pub(crate) fn revive(&mut self) -> Result<bool, String> {
        if let Ok(None) = self.process.try_wait() {
            return Ok(false);
        }
        let files = self.folder.path();
        (self.port, self.process) = launch(files, &mut self.config, &self.environment)?;
        self.name_address();
        Ok(true)
    }

    /// What the program logged.
    pub(crate) fn log(&self) -> String {
        read_log(self.folder.path())
    }

    fn name_address(&mut self) {
        let host = format!("127.0.0.1:{}", self.port);
        self.variables.set("GATEWAY", format!("http://{host}"));
        self.variables.set("GATEWAY_HOST", host);
        self.variables.set("SECRET", SECRET);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Nothing is asked of it any more, and how it stops has tests of its own.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What the cases' `config` is laid over. Without `storage`, keys and counters are in the embedded store.
fn base_config(folder: &Path) -> Value {
    json!({
        "listen_address": "127.0.0.1", "secret": SECRET, "node_secret": SECRET,
        "template_path": folder.join("templates"), "app_path": folder.join("apps"),
        "middleware_path": folder.join("middleware"), "use_db_app_configs": false,
        "enable_analytics": false, "allow_master_keys": false,
        "policies": { "policy_source": "file", "policy_record_name": folder.join("policies.json") },
        "hash_keys": true, "hash_key_function": "murmur64", "enable_hashed_keys_listing": true,
        "enable_redis_rolling_limiter": true, "enable_jsvm": true, "allow_insecure_configs": true,
        "close_connections": false, "local_session_cache": { "disable_cached_session_state": true },
        "health_check": { "enable_health_checks": false }, "suppress_redis_signal_reload": true,
    })
}

/// The Redis of a gateway. Calls may take long: the machine is busy with others.
fn storage(redis: &Redis) -> Value {
    json!({
        "storage": {"type": "redis", "host": "127.0.0.1", "port": redis.port, "database": 0},
        "tollgate": {"store": {"timeout": "10s", "mode": "exact"}}, // Cases read the counts.
    })
}

fn write_files(folder: &Path, cases: &[&Case], variables: &Variables) -> io::Result<()> {
    for name in ["apps", "middleware", "templates", "files"] {
        fs::create_dir(folder.join(name))?;
    }
    let mut policies = Map::new();
    for case in cases {
        for api in &case.apis {
            let name = api["api_id"].as_str().unwrap_or_default();
            let path = folder.join("apps").join(format!("{name}.json"));
            fs::write(path, variables.fill(api).to_string())?;
        }
        policies.extend(case.policies.clone());
        for (name, text) in &case.files {
            let path = folder.join("files").join(name);
            fs::create_dir_all(path.parent().expect("is below the folder"))?;
            fs::write(path, text)?;
        }
    }
    fs::write(
        folder.join("policies.json"),
        Value::from(policies).to_string(),
    )
}

/// On a free port; on another one where somebody else was faster.
fn launch(
    folder: &Path,
    config: &mut Value,
    environment: &BTreeMap<String, String>,
) -> Result<(u16, Child), String> {
    let mut tries = 0;
    loop {
        let port = free_port().map_err(|err| format!("no port: {err}"))?;
        config["listen_port"] = port.into();
        let mut child =
            spawn(folder, config, environment).map_err(|err| format!("not started: {err}"))?;
        match wait_until_served(&mut child, port) {
            Ok(()) => return Ok((port, child)),
            Err(why) => {
                drop(child.kill());
                drop(child.wait());
                let log = read_log(folder);
                tries += 1;
                if tries == 3 || !log.to_lowercase().contains("address already in use") {
                    let errors = log.lines().filter(|line| !line.starts_with("warning"));
                    return Err(format!("{why}: {}", errors.collect::<Vec<_>>().join("; ")));
                }
            }
        }
    }
}

fn spawn(
    folder: &Path,
    config: &Value,
    environment: &BTreeMap<String, String>,
) -> io::Result<Child> {
    let conf = folder.join("gateway.conf");
    fs::write(&conf, config.to_string())?;
    let log = File::create(log_path(folder))?;
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("--conf")
        .arg(conf)
        .current_dir(folder)
        .env_clear()
        .env("TYK_LOGLEVEL", "warn")
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// The gateway listens when all is loaded.
fn wait_until_served(child: &mut Child, port: u16) -> Result<(), String> {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the gateway ended, {status}"));
        }
        let hello = wire::call(port, ("GET", "/hello"), &[], None, false);
        if hello.is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("the gateway was not up after {START:?}"))
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("gateway.log")
}

fn read_log(folder: &Path) -> String {
    fs::read(log_path(folder)).map_or_else(
        |err| err.to_string(),
        |log| String::from_utf8_lossy(&log).into_owned(),
    )
}

/// Objects member by member, anything else whole.
fn merge(value: &mut Value, over: &Value) {
    let Value::Object(over) = over else {
        return;
    };
    for (name, over) in over {
        match &mut value[name] {
            member @ Value::Object(_) if over.is_object() => merge(member, over),
            member => *member = over.clone(),
        }
    }
}
