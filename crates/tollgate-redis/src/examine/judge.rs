//! What of a server is wrong for a store of limits: a decision about plain values.

use std::time::Duration;

use super::{Finding, Server, Weight, nodes::Node};
use crate::options::{RedisOptions, Topology};

/// What this server's answers say, from bad to less bad.
pub(super) fn server(server: &Server, options: &RedisOptions) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_spare = is_spare(server, options);
    let mut push = |weight, message: String| {
        found.push(Finding {
            // Nobody asks it until it takes its master's place.
            weight: if is_spare { Weight::Warning } else { weight },
            server: server.address.clone(),
            message,
        });
    };
    use Weight::{Error, Warning};
    for (weight, message) in [state(server), role(server, options), memory(server)].concat() {
        push(weight, message);
    }
    if !server.missing.is_empty() {
        let missing: Vec<_> = server.missing.iter().map(String::as_str).collect();
        push(
            Error,
            format!("the user may not use {}", missing.join(", ")),
        );
    }
    if let Some(message) = version(server) {
        push(Warning, message);
    }
    if let Some(message) = persistence(server) {
        push(Warning, message);
    }
    let ahead = Duration::from_millis(server.clock_ahead_millis.unsigned_abs());
    if APART < ahead {
        let way = if server.clock_ahead_millis > 0 {
            "ahead of"
        } else {
            "behind"
        };
        let message = format!(
            "its clock is {ahead:?} {way} this machine's: keys end by one, periods by the other"
        );
        push(Warning, message);
    }
    let trip = Duration::from_micros(server.round_trip_micros);
    if options.deadline / 2 < trip {
        let message = format!(
            "a round trip takes {trip:?}, and a call has failed after {:?}",
            options.deadline
        );
        push(
            if options.deadline < trip {
                Error
            } else {
                Warning
            },
            message,
        );
    }
    found
}

/// What it means that nobody could look at a server, and what of it is to be said.
pub(super) fn silent(node: Option<&Node>, reason: String) -> (Weight, String) {
    let Some(node) = node else {
        return (Weight::Error, reason);
    };
    let weight = if node.is_replica {
        Weight::Warning
    } else {
        Weight::Error
    };
    (
        weight,
        format!("{reason} (to the cluster it is {})", node.role()),
    )
}

/// Whether it is a replica of a cluster, as belongs there.
fn is_spare(server: &Server, options: &RedisOptions) -> bool {
    let is_cluster = matches!(options.topology, Topology::Cluster(_));
    is_cluster && server.mode == "cluster" && server.role == "slave"
}

/// From so far on clocks are apart.
const APART: Duration = Duration::from_secs(1);

type Told = Vec<(Weight, String)>;

/// Whether it works at all.
fn state(server: &Server) -> Told {
    let is = |name: &str, value: &str| server.info.get(name).is_some_and(|told| told == value);
    let cases = [
        (is("loading", "1"), "it is still reading its file"),
        (
            is("aof_enabled", "1") && is("aof_last_write_status", "err"),
            "it can not write its file, and refuses to be written",
        ),
        (
            is("rdb_last_bgsave_status", "err"),
            "its last snapshot failed: it may refuse to be written (`stop-writes-on-bgsave-error`)",
        ),
        (
            is("cluster_state", "fail"),
            "the cluster does not serve: slots have no master",
        ),
        (
            is("master_link_status", "down"),
            "it does not hear its master: what came since is lost where it takes its place",
        ),
    ];
    let cases = cases.into_iter().filter(|(is_so, _)| *is_so);
    cases
        .map(|(_, message)| (Weight::Error, message.to_owned()))
        .collect()
}

/// Whether it is what the settings take it for.
fn role(server: &Server, options: &RedisOptions) -> Told {
    let mut told = Vec::new();
    let mut push = |weight, message: &str| told.push((weight, message.to_owned()));
    let wants_cluster = matches!(options.topology, Topology::Cluster(_));
    match (server.mode.as_str(), wants_cluster) {
        ("sentinel", _) => push(
            Weight::Error,
            "it is a Sentinel: name its master (`master_name`)",
        ),
        ("cluster", false) => push(
            Weight::Error,
            "it is a node of a cluster: say so (`enable_cluster`)",
        ),
        ("standalone", true) => push(Weight::Error, "it is no node of a cluster"),
        _ => {}
    }
    if server.role == "slave" && !wants_cluster {
        push(Weight::Error, "it is a replica, and can not be written");
    }
    let wanted = u64::from(options.wait_replicas);
    if server.replicas < wanted && !is_spare(server, options) {
        let message = format!(
            "{} replicas are connected, and {wanted} are waited for: every charge fails",
            server.replicas
        );
        push(Weight::Error, &message);
    }
    let is_watched = matches!(options.topology, Topology::Sentinel { .. });
    if is_watched && server.role == "master" && server.replicas == 0 {
        push(
            Weight::Warning,
            "it has no replica that could take its place",
        );
    }
    told
}

/// Whether it forgets counters when its memory is full.
fn memory(server: &Server) -> Told {
    let policy = server.maxmemory_policy.as_str();
    if server.maxmemory == 0 || policy.is_empty() || policy == "noeviction" {
        return Vec::new();
    }
    let message = format!(
        "it drops names when {} bytes are full (`maxmemory-policy {policy}`): a counter that goes lets its limit be exceeded, \
         and a key that goes is unknown; set `noeviction`",
        server.maxmemory
    );
    vec![(Weight::Error, message)]
}

fn version(server: &Server) -> Option<String> {
    const OLDEST: (u32, u32) = (6, 0);
    let mut parts = server.version.split('.').map(|part| part.parse().ok());
    let version = (parts.next()??, parts.next()??);
    let message = || {
        format!(
            "{} {} is older than what is tried, 6.0",
            server.software, server.version
        )
    };
    (version < OLDEST).then(message)
}

fn persistence(server: &Server) -> Option<String> {
    if server.appendonly || server.info.is_empty() {
        return None;
    }
    Some(match server.save.as_deref() {
        Some("") => "it keeps nothing on a disk: keys and counters are gone when it ends".to_owned(),
        _ => "it keeps snapshots alone (`appendonly no`): what came after the last is gone when it ends, and may be used again"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Server {
        let mut server = Server {
            address: "r:6379".to_owned(),
            ..Server::default()
        };
        server.read_info(
            "redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\nconnected_slaves:0\r\nmaxmemory:0\r\n\
             maxmemory_policy:noeviction\r\naof_enabled:1\r\naof_last_write_status:ok\r\n"
                .to_owned(),
        );
        server
    }

    #[track_caller]
    fn check(changed: impl FnOnce(&mut Server), expected: &[(Weight, &str)]) {
        let options = RedisOptions::single("redis://r:6379/0").expect("a URL");
        check_with(&options, changed, expected);
    }

    #[track_caller]
    fn check_with(
        options: &RedisOptions,
        changed: impl FnOnce(&mut Server),
        expected: &[(Weight, &str)],
    ) {
        let mut asked = healthy();
        changed(&mut asked);
        let found = server(&asked, options);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, (weight, part)) in found.iter().zip(expected) {
            assert_eq!(found.weight, *weight, "{found:?}");
            assert!(found.message.contains(part), "{found:?}");
        }
    }

    #[test]
    fn each_trouble_is_told() {
        use Weight::{Error, Warning};
        check(|_| {}, &[]);
        check(|server| server.maxmemory_policy = "allkeys-lru".into(), &[]);
        let evicts = |server: &mut Server| {
            server.maxmemory = 1000;
            server.maxmemory_policy = "volatile-ttl".into();
        };
        check(evicts, &[(Error, "volatile-ttl")]);
        check(
            |server| server.role = "slave".into(),
            &[(Error, "a replica")],
        );
        check(
            |server| server.mode = "cluster".into(),
            &[(Error, "enable_cluster")],
        );
        check(
            |server| server.mode = "sentinel".into(),
            &[(Error, "master_name")],
        );
        check(
            |server| server.version = "5.0.7".into(),
            &[(Warning, "older")],
        );
        check(
            |server| server.clock_ahead_millis = -1500,
            &[(Warning, "1.5s behind")],
        );
        check(|server| server.clock_ahead_millis = 1000, &[]);
        check(
            |server| server.round_trip_micros = 12_000,
            &[(Warning, "12ms")],
        );
        check(
            |server| server.round_trip_micros = 25_000,
            &[(Error, "25ms")],
        );
        check(
            |server| server.missing = ["ZADD".to_owned()].into(),
            &[(Error, "ZADD")],
        );
        check(
            |server| server.appendonly = false,
            &[(Warning, "snapshots alone")],
        );
        let no_disk = |server: &mut Server| {
            server.appendonly = false;
            server.save = Some(String::new());
        };
        check(no_disk, &[(Warning, "nothing on a disk")]);
        let can_not_write = |server: &mut Server| {
            server
                .info
                .insert("aof_last_write_status".into(), "err".into());
        };
        check(can_not_write, &[(Error, "can not write its file")]);
    }

    #[test]
    fn what_is_wrong_with_a_replica_of_a_cluster_is_less_bad() {
        let options = RedisOptions::cluster(&["redis://r:6379"]).expect("a URL");
        let options = options.wait_replicas(1);
        let replica = |server: &mut Server| {
            server.mode = "cluster".into();
            server.role = "slave".into();
        };
        check_with(&options, replica, &[]);
        let narrow = |server: &mut Server| {
            replica(server);
            server.missing = ["ZADD".to_owned()].into();
            let link = ("master_link_status".to_owned(), "down".to_owned());
            server.info.extend([link]);
        };
        let expected = [(Weight::Warning, "its master"), (Weight::Warning, "ZADD")];
        check_with(&options, narrow, &expected);
        let master = |server: &mut Server| server.mode = "cluster".into();
        check_with(&options, master, &[(Weight::Error, "0 replicas")]);
    }

    #[test]
    fn a_node_that_can_not_be_asked_is_told_with_what_it_is() {
        let node = |is_replica, trouble: &str| Node {
            is_replica,
            trouble: trouble.into(),
            ..Node::default()
        };
        let check = |node: Option<Node>, weight, message: &str| {
            let told = silent(node.as_ref(), "silent".into());
            assert_eq!(told, (weight, message.to_owned()));
        };
        check(None, Weight::Error, "silent");
        let told = "silent (to the cluster it is a master)";
        check(Some(node(false, "")), Weight::Error, told);
        let told = "silent (to the cluster it is a replica, health `fail`)";
        check(Some(node(true, "fail")), Weight::Warning, told);
    }

    #[test]
    fn what_is_waited_for_must_be_there() {
        let options = RedisOptions::single("redis://r:6379/0").expect("a URL");
        let options = options.wait_replicas(2);
        check_with(&options, |server| server.replicas = 2, &[]);
        check_with(
            &options,
            |server| server.replicas = 1,
            &[(Weight::Error, "1 replicas are connected")],
        );
    }
}
