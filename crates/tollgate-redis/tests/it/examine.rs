//! What is found out about servers, and that nothing is written for it.

use tollgate_redis::{Examined, Naming, RedisOptions, Weight};

use crate::server::{Cluster, Server, Watched};

const KEEPS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "everysec"];

async fn examined(options: RedisOptions) -> Examined {
    // A machine that is busy with tests is slow, and that is not what is asked here.
    let options = options.deadline(std::time::Duration::from_secs(5));
    options.connect().unwrap().examine().await
}

async fn of(server: &Server) -> Examined {
    examined(RedisOptions::single(&server.url()).unwrap()).await
}

/// One finding of this weight has this in it.
#[track_caller]
fn has(examined: &Examined, weight: Weight, part: &str) {
    let mut findings = examined.findings.iter();
    let found = findings.find(|finding| finding.message.contains(part));
    let found = found.unwrap_or_else(|| panic!("{part}: {examined:?}"));
    assert_eq!(found.weight, weight, "{found:?}");
}

#[tokio::test]
async fn a_server_that_is_well_has_no_findings_and_nothing_is_written() {
    let server = Server::start_with(&KEEPS);
    for naming in [Naming::Tyk, Naming::Tagged] {
        let options = RedisOptions::single(&server.url()).unwrap();
        let examined = examined(options.naming(naming)).await;
        assert_eq!(examined.findings, [], "{naming:?}");
        let [found] = &*examined.servers else {
            panic!("one server");
        };
        assert_eq!((&*found.role, &*found.mode), ("master", "standalone"));
        assert!(found.version.contains('.') && found.clock_ahead_millis.abs() < 1000);
    }
    let persistence = server.cli(&["INFO", "persistence"]);
    assert!(
        persistence.contains("rdb_changes_since_last_save:0"),
        "{persistence}"
    );
    assert_eq!(server.cli(&["DBSIZE"]), "0");
    for command in ["set", "del", "incrby", "zadd", "publish", "script|load"] {
        assert_eq!(server.calls(command), 0, "{command}");
    }
}

#[tokio::test]
async fn what_a_user_may_not_do_is_named() {
    let server = Server::start_with(&KEEPS);
    let rules = [
        "ACL",
        "SETUSER",
        "narrow",
        "on",
        ">p",
        "~apikey-*",
        "~{apikey-*",
        "~tollgate:*",
        "~quota-*",
        "&tyk.cluster.notifications",
        "+@all",
        "-zadd",
        "-evalsha",
        "-script|load",
    ];
    server.cli(&rules);
    let url = server.url().replace("//", "//narrow:p@");
    let options = RedisOptions::single(&url).unwrap().naming(Naming::Tyk);
    let found = examined(options).await;
    let expected = [
        "EVALSHA",
        "SCRIPT",
        "ZADD",
        "names that begin with orgkey.",
        "names that begin with rate-limit-",
    ];
    assert_eq!(found.servers[0].missing, expected.map(String::from).into());
    has(
        &found,
        Weight::Error,
        "the user may not use EVALSHA, SCRIPT, ZADD",
    );
    assert!(!format!("{found:?}").contains(":p@"));

    server.cli(&[
        "ACL",
        "SETUSER",
        "narrow",
        "resetchannels",
        "allkeys",
        "+@all",
    ]);
    let found = examined(RedisOptions::single(&url).unwrap()).await;
    let expected = [
        "SUBSCRIBE",
        "names that begin with tyk.cluster.notifications",
    ];
    assert_eq!(found.servers[0].missing, expected.map(String::from).into());
}

#[tokio::test]
async fn what_makes_a_store_forget_is_told() {
    let arguments = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let server = Server::start_with(&arguments);
    let examined = of(&server).await;
    has(&examined, Weight::Error, "maxmemory-policy allkeys-lru");
    has(&examined, Weight::Warning, "keeps nothing on a disk");
}

#[tokio::test]
async fn who_can_not_be_asked_is_told_with_the_reason() {
    let mut server = Server::start();
    server.cli(&["CONFIG", "SET", "requirepass", "secret"]);
    has(&of(&server).await, Weight::Error, "NOAUTH");
    let wrong = server.url().replace("//", "//:wrong@");
    let examined = examined(RedisOptions::single(&wrong).unwrap()).await;
    has(&examined, Weight::Error, "can not be reached");
    server.kill();
    let away = of(&server).await;
    has(&away, Weight::Error, "refused");
    assert!(away.servers.is_empty());
}

#[tokio::test]
async fn a_server_that_is_something_else_is_told() {
    let watched = Watched::start();
    has(
        &of(&watched.replica).await,
        Weight::Error,
        "it is a replica",
    );
    let urls = watched.urls();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let through = RedisOptions::sentinel(&urls, "redis://tests/0").unwrap();
    let found = examined(through.wait_replicas(2)).await;
    assert_eq!(found.servers[0].replicas, 1);
    has(
        &found,
        Weight::Error,
        "1 replicas are connected, and 2 are waited for",
    );
    let sentinel = RedisOptions::single(urls[0]).unwrap();
    has(&examined(sentinel).await, Weight::Error, "it is a Sentinel");
    let unknown = RedisOptions::sentinel(&urls, "redis://unknown/0").unwrap();
    has(
        &examined(unknown).await,
        Weight::Error,
        "the master is not found",
    );

    let cluster = Cluster::start();
    let urls = cluster.urls();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let alone = RedisOptions::single(urls[0]).unwrap();
    has(&examined(alone).await, Weight::Error, "enable_cluster");
    let all = examined(RedisOptions::cluster(&urls).unwrap()).await;
    assert_eq!(all.servers.len(), 3);
    let errors = all
        .findings
        .iter()
        .filter(|finding| finding.weight == Weight::Error);
    assert_eq!(errors.count(), 0, "{:?}", all.findings);
}

/// What is found out about a cluster of which the settings name these nodes.
async fn of_cluster(urls: &[String]) -> Examined {
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    examined(RedisOptions::cluster(&urls).unwrap()).await
}

/// Role and address of the servers.
fn places(examined: &Examined) -> Vec<(&str, &str)> {
    let servers = examined.servers.iter();
    let mut places: Vec<_> = servers
        .map(|server| (&*server.role, &*server.address))
        .collect();
    places.sort_unstable();
    places
}

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

#[tokio::test]
async fn all_nodes_of_a_cluster_are_looked_at_whichever_is_named() {
    let mut cluster = Cluster::start();
    let mut replica = cluster.add_replica();
    let masters: Vec<_> = cluster.nodes().iter().map(address).collect();
    let at_replica = address(&replica);
    let mut expected: Vec<_> = masters.iter().map(|master| ("master", &**master)).collect();
    expected.push(("slave", &at_replica));
    expected.sort_unstable();
    let urls = cluster.urls();
    let found = of_cluster(&urls[..1]).await;
    assert_eq!(places(&found), expected, "{found:?}");
    let found = of_cluster(&[replica.url()]).await;
    assert_eq!(places(&found), expected, "{found:?}");
    let errors = found.findings.iter();
    let errors = errors.filter(|finding| finding.weight == Weight::Error);
    assert_eq!(errors.count(), 0, "{:?}", found.findings);
    // By another name it is the same node.
    let other = urls[1].replace("127.0.0.1", "localhost");
    let found = of_cluster(&[other, urls[0].clone()]).await;
    assert_eq!(found.servers.len(), 4, "{found:?}");
    for node in cluster.nodes() {
        for command in ["set", "del", "incrby", "zadd", "publish", "script|load"] {
            assert_eq!(node.calls(command), 0, "{command}");
        }
    }

    replica.kill();
    let found = of_cluster(&urls[1..2]).await;
    let told = found.findings.iter();
    let mut told = told.filter(|finding| finding.server == at_replica);
    let told = told.next().unwrap();
    assert_eq!(told.weight, Weight::Warning, "{told:?}");
    let parts = ["can not be reached", "to the cluster it is a replica"];
    assert!(
        parts.iter().all(|part| told.message.contains(part)),
        "{told:?}"
    );
    assert_eq!(found.servers.len(), 3);
    assert!(!format!("{found:?}").contains("redis://"));
}

#[tokio::test]
async fn a_master_that_can_not_be_asked_is_told_by_those_that_can_within_the_deadline() {
    let mut cluster = Cluster::start();
    let urls = cluster.urls();
    let nodes = cluster.nodes();
    let (killed, frozen) = (address(&nodes[1]), address(&nodes[2]));
    nodes[1].kill();
    nodes[2].freeze();
    let begun = std::time::Instant::now();
    let found = of_cluster(&urls[..2]).await;
    let took = begun.elapsed();
    nodes[2].thaw();
    assert!(took < std::time::Duration::from_secs(30), "{took:?}");
    assert_eq!(found.servers.len(), 1, "{found:?}");
    for (address, reason) in [(killed, "refused"), (frozen, "can not be reached")] {
        let findings = found.findings.iter();
        let mut findings = findings.filter(|finding| finding.server == address);
        let told = findings.next().unwrap();
        assert_eq!(told.weight, Weight::Error, "{told:?}");
        let role = "to the cluster it is a master";
        assert!(
            told.message.contains(reason) && told.message.contains(role),
            "{told:?}"
        );
        assert!(findings.next().is_none(), "{found:?}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_the_nodes_is_told() {
    let mut cluster = Cluster::start();
    let url = cluster.urls()[0].replace("//", "//narrow:p@");
    let mut narrow = |rule: &str| {
        let user = "on >p allkeys allchannels +@all".split(' ').chain([rule]);
        let command: Vec<_> = ["ACL", "SETUSER", "narrow"]
            .into_iter()
            .chain(user)
            .collect();
        for node in cluster.nodes() {
            assert_eq!(node.cli(&command), "OK");
        }
    };
    narrow("-cluster|shards"); // As with servers that are older.
    let found = of_cluster(std::slice::from_ref(&url)).await;
    assert_eq!(found.servers.len(), 3, "{found:?}");
    narrow("-cluster");
    let found = of_cluster(&[url]).await;
    has(
        &found,
        Weight::Error,
        "the cluster's other nodes are not known: it answers NOPERM",
    );
    assert_eq!(found.servers.len(), 1, "{found:?}");
    assert!(!format!("{found:?}").contains(":p@"));
}
