//! The nodes of a cluster, as one of them tells.

use std::{collections::BTreeMap, pin::pin};

use futures_util::stream::{self, StreamExt};
use redis::{Client, ConnectionAddr, FromRedisValue, Value};
use tokio::time::{Instant, timeout_at};

use super::{AT_ONCE, Asks, Place, Refused};
use crate::link::beside;

/// A node that a cluster tells of.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_replica: bool,
    /// What the cluster says of its health where it is not `online`, as `fail`; empty elsewhere, and where it does not say.
    pub(super) trouble: String,
}

impl Node {
    fn is_at(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    /// What it is to the cluster, for people.
    pub(super) fn role(&self) -> String {
        let role = if self.is_replica {
            "a replica"
        } else {
            "a master"
        };
        match &*self.trouble {
            "" => role.to_owned(),
            trouble => format!("{role}, health `{trouble}`"),
        }
    }
}

/// The members of an answer by name: pairs, in either version of the protocol.
type Members = BTreeMap<String, Value>;

/// The nodes that the settings name, and all others that the first of them to answer tells of. Where none does: whom
/// it was asked of, and why not.
pub(super) async fn places(
    named: Vec<Client>,
    until: Instant,
) -> (Vec<Place>, Vec<(String, String)>) {
    let asked = stream::iter(named.clone()).map(async |client| {
        let told = timeout_at(until, told_by(&client)).await;
        (
            client,
            told.unwrap_or_else(|_| Err("no answer in time".to_owned())),
        )
    });
    let mut asked = pin!(asked.buffer_unordered(AT_ONCE));
    let mut places: Vec<_> = named.into_iter().map(Place::named).collect();
    let mut refused = Vec::new();
    while let Some((client, told)) = asked.next().await {
        match told {
            Ok(nodes) => {
                nodes
                    .into_iter()
                    .for_each(|node| add(&mut places, &client, node));
                return (places, Vec::new());
            }
            Err(reason) => refused.push((Place::named(client).address(), reason)),
        }
    }
    (places, refused)
}

/// Adds a node that this one told of, or what was told to the one that is named so.
fn add(places: &mut Vec<Place>, teller: &Client, node: Node) {
    let Ok(client) = beside(teller, &node.host, node.port) else {
        return; // The settings were taken for the teller, which has the same.
    };
    let place = Place {
        client,
        node: Some(node),
    };
    let address = place.address();
    match places.iter_mut().find(|named| named.address() == address) {
        Some(named) => named.node = place.node,
        None => places.push(place),
    }
}

/// All that a node knows of: masters, those without slots too, and replicas. Servers before 7.0 tell of no replica that
/// has failed.
async fn told_by(client: &Client) -> Result<Vec<Node>, String> {
    let asked = Asked::of(client);
    let mut asks = Asks::open(client).await?;
    let mut command = redis::cmd("CLUSTER");
    match asks.ask(command.arg("SHARDS")).await {
        Ok(shards) => return Ok(asked.shards(shards)),
        Err(Refused::Silent) => return Err(Refused::Silent.reason()),
        Err(Refused::By(_)) => {} // It is older, or the user may not.
    }
    let mut command = redis::cmd("CLUSTER");
    let slots = asks.ask(command.arg("SLOTS")).await;
    slots
        .map(|ranges| asked.slots(ranges))
        .map_err(|refused| refused.reason())
}

/// Who is asked, and how.
struct Asked {
    /// That of nodes which do not know their own.
    host: String,
    has_tls: bool,
}

impl Asked {
    fn of(client: &Client) -> Self {
        let (host, has_tls) = match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) => (host.clone(), false),
            ConnectionAddr::TcpTls { host, .. } => (host.clone(), true),
            _ => (String::new(), false),
        };
        Self { host, has_tls }
    }

    /// What `CLUSTER SHARDS` answered.
    fn shards(&self, shards: Vec<Members>) -> Vec<Node> {
        let nodes = shards.into_iter().filter_map(|mut shard| {
            let nodes = shard.remove("nodes")?;
            Vec::<Members>::from_redis_value(nodes).ok()
        });
        let nodes = nodes.flatten().filter_map(|node| self.of_shard(&node));
        nodes.collect()
    }

    fn of_shard(&self, node: &Members) -> Option<Node> {
        let text = |name: &str| String::from_redis_value(node.get(name)?.clone()).ok();
        let number = |name: &str| u16::from_redis_value(node.get(name)?.clone()).ok();
        let port = match self.has_tls {
            true => number("tls-port").or_else(|| number("port")),
            false => number("port").or_else(|| number("tls-port")),
        };
        let health = text("health").unwrap_or_default();
        Some(Node {
            host: self.host_or(text("endpoint")),
            port: port?,
            is_replica: text("role").as_deref() == Some("replica"),
            trouble: Some(health)
                .filter(|health| health != "online")
                .unwrap_or_default(),
        })
    }

    /// What `CLUSTER SLOTS` answered: of each range the first slot, the last, the master, and its replicas.
    fn slots(&self, ranges: Vec<Vec<Value>>) -> Vec<Node> {
        let mut nodes = Vec::new();
        for range in ranges {
            for (place, node) in range.into_iter().skip(2).enumerate() {
                let node = self.of_range(node, place > 0);
                let is_known = |node: &Node| nodes.iter().any(|known: &Node| known.is_at(node));
                let node = node.filter(|node| !is_known(node));
                nodes.extend(node);
            }
        }
        nodes
    }

    fn of_range(&self, node: Value, is_replica: bool) -> Option<Node> {
        let mut members = Vec::<Value>::from_redis_value(node).ok()?.into_iter();
        let host = String::from_redis_value(members.next()?).ok();
        Some(Node {
            host: self.host_or(host),
            port: u16::from_redis_value(members.next()?).ok()?,
            is_replica,
            trouble: String::new(),
        })
    }

    fn host_or(&self, told: Option<String>) -> String {
        let told = told.filter(|host| !host.is_empty() && host != "?");
        told.unwrap_or_else(|| self.host.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn pairs(pairs: &[(&str, Value)]) -> Vec<(Value, Value)> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (text(name), value.clone()))
            .collect()
    }

    fn asked(has_tls: bool) -> Asked {
        Asked {
            host: "asked".into(),
            has_tls,
        }
    }

    fn node(host: &str, port: u16, is_replica: bool, trouble: &str) -> Node {
        Node {
            host: host.into(),
            port,
            is_replica,
            trouble: trouble.into(),
        }
    }

    #[test]
    fn shards_tell_of_every_node_in_both_versions_of_the_protocol() {
        let master = pairs(&[
            ("port", Value::Int(7000)),
            ("tls-port", Value::Int(8000)),
            ("endpoint", text("a")),
            ("role", text("master")),
            ("health", text("online")),
        ]);
        let replica = pairs(&[
            ("tls-port", Value::Int(8001)),
            ("endpoint", text("?")),
            ("role", text("replica")),
            ("health", text("fail")),
        ]);
        let flat = |pairs: Vec<(Value, Value)>| {
            let values = pairs.into_iter().flat_map(|(name, value)| [name, value]);
            Value::Array(values.collect())
        };
        let shard = |nodes: Vec<Value>| {
            pairs(&[
                ("slots", Value::Array(Vec::new())),
                ("nodes", Value::Array(nodes)),
            ])
        };
        let old = flat(shard(vec![flat(master.clone()), flat(replica.clone())]));
        let new = Value::Map(shard(vec![Value::Map(master), Value::Map(replica)]));
        for answer in [old, new] {
            let shards = Vec::from_redis_value(Value::Array(vec![answer])).expect("shards");
            let told = |has_tls, shards| asked(has_tls).shards(shards);
            let replica = node("asked", 8001, true, "fail");
            let expected = [node("a", 7000, false, ""), replica.clone()];
            assert_eq!(told(false, Vec::clone(&shards)), expected);
            assert_eq!(told(true, shards), [node("a", 8000, false, ""), replica]);
        }
    }

    #[test]
    fn slots_tell_of_each_node_once() {
        let of = |host, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range =
            |first, nodes: &[Value]| [&[Value::Int(first), Value::Int(first + 9)], nodes].concat();
        let (a, b) = (of(text("a"), 7000), of(Value::Nil, 7001));
        let ranges = vec![
            range(0, &[a.clone(), b.clone()]),
            range(10, std::slice::from_ref(&b)),
            range(20, &[a, b, Value::Int(1)]),
        ];
        let expected = [node("a", 7000, false, ""), node("asked", 7001, true, "")];
        assert_eq!(asked(false).slots(ranges), expected);
    }
}
