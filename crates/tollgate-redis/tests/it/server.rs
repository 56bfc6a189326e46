//! Servers of a test's own.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::ports::free_port;

/// A `redis-server` on a free port, ended with this.
pub(crate) struct Server {
    port: u16,
    child: Child,
    folder: TempDir,
    arguments: Vec<String>,
}

/// Waits until something holds; panics with what it was after ten seconds.
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, arguments) = (
            free_port().unwrap(),
            arguments.iter().map(|text| (*text).to_owned()),
        );
        let arguments: Vec<String> = arguments.collect();
        let child = spawn(port, &folder, &arguments);
        let server = Self {
            port,
            child,
            folder,
            arguments,
        };
        server.wait();
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Waits until it answers.
    fn wait(&self) {
        wait_for("redis-server answers", || self.cli(&["PING"]) == "PONG");
    }

    /// What `redis-cli` prints.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli is installed");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// How often a command was called.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let stats = self.cli(&["INFO", "commandstats"]);
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse().ok())
            .unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it where it stands: connections stay, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([format!("-{signal}"), self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Starts it again on its port, with what it had written.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.arguments);
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, folder: &TempDir, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--save", ""])
        .args(["--dir", folder.path().to_str().unwrap()])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// Three masters that share all slots.
pub(crate) struct Cluster(Vec<Server>);

impl Cluster {
    const ARGUMENTS: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];

    pub(crate) fn start() -> Self {
        let nodes: Vec<_> = (0..3)
            .map(|_| Server::start_with(&Self::ARGUMENTS))
            .collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "0", "--cluster-yes"])
            .output()
            .expect("redis-cli is installed");
        assert!(made.status.success(), "{made:?}");
        for node in &nodes {
            wait_for("the cluster stands", || {
                node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            });
        }
        Self(nodes)
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.0.iter().map(Server::url).collect()
    }

    pub(crate) fn nodes(&mut self) -> &mut [Server] {
        &mut self.0
    }

    /// A replica of the first master, which all nodes know.
    pub(crate) fn add_replica(&self) -> Server {
        let replica = Server::start_with(&Self::ARGUMENTS);
        let address = |server: &Server| format!("127.0.0.1:{}", server.port);
        let master = self.0[0].cli(&["CLUSTER", "MYID"]);
        let made = Command::new("redis-cli")
            .args([
                "--cluster",
                "add-node",
                &address(&replica),
                &address(&self.0[0]),
            ])
            .args(["--cluster-slave", "--cluster-master-id", &master])
            .output()
            .expect("redis-cli is installed");
        assert!(made.status.success(), "{made:?}");
        for node in &self.0 {
            wait_for("the replica is known and in step", || {
                let nodes = node.cli(&["CLUSTER", "NODES"]);
                let mut lines = nodes
                    .lines()
                    .map(|line| line.contains(&address(&replica)) && line.contains("slave"));
                lines.any(|is_it| is_it)
                    && replica
                        .cli(&["INFO", "replication"])
                        .contains("master_link_status:up")
            });
        }
        replica
    }
}

/// A master, replicas of it, and three Sentinels that watch all under the name `tests`.
pub(crate) struct Watched {
    pub(crate) master: Server,
    pub(crate) replica: Server,
    others: Vec<Server>,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watched {
    pub(crate) fn start() -> Self {
        Self::start_with(1)
    }

    pub(crate) fn start_with(count: usize) -> Self {
        let master = Server::start();
        let port = master.port.to_string();
        let start = |_| {
            let replica = Server::start_with(&["--replicaof", "127.0.0.1", &port]);
            wait_for("the replica is in step", || {
                let state = replica.cli(&["INFO", "replication"]);
                state.contains("master_link_status:up")
            });
            replica
        };
        let mut replicas: Vec<_> = (0..count).map(start).collect();
        let sentinels: Vec<_> = (0..3).map(|_| Sentinel::start(master.port)).collect();
        let known = count.to_string();
        for sentinel in &sentinels {
            let port = sentinel.port.to_string();
            wait_for("the Sentinels know all", || {
                let output = Command::new("redis-cli")
                    .args(["-p", &port, "SENTINEL", "MASTER", "tests"])
                    .output()
                    .unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                let lines: Vec<_> = text.lines().collect();
                let value = |name: &str| {
                    let place = lines.iter().position(|line| *line == name)?;
                    lines.get(place + 1).copied()
                };
                value("num-other-sentinels") == Some("2") && value("num-slaves") == Some(&known)
            });
        }
        Self {
            master,
            replica: replicas.remove(0),
            others: replicas,
            sentinels,
        }
    }

    /// The replica that is master now.
    pub(crate) fn promoted(&self) -> Option<&Server> {
        let mut replicas = std::iter::once(&self.replica).chain(&self.others);
        replicas.find(|replica| replica.cli(&["ROLE"]).starts_with("master"))
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        let url = |sentinel: &Sentinel| format!("redis://127.0.0.1:{}/", sentinel.port);
        self.sentinels.iter().map(url).collect()
    }
}

impl Sentinel {
    fn start(master: u16) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port().unwrap());
        let path = folder.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\ndir {}\nsentinel monitor tests 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds tests 500\nsentinel failover-timeout tests 3000\n",
            folder.path().display(),
        );
        std::fs::write(&path, settings).unwrap();
        let child = Command::new("redis-server")
            .arg(&path)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        Self {
            port,
            child,
            _folder: folder,
        }
    }
}
