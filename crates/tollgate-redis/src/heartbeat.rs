//! Tells Tyk nodes that this one is there, in their own form: those that keep rates in their own memory divide them by
//! the number of nodes that they hear of.

use std::{fs, sync::Weak, time::Duration};

use serde::Serialize;

use crate::{link::Link, notices::Notices};

/// A node, as Tyk's tell of themselves.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    host_name: String,
    #[serde(rename = "ID")]
    id: String,
    /// Tyk reads neither: parts are equal.
    load_per_sec: i64,
    percentage: f64,
    /// The segments of a node that serves only some APIs; this one serves all.
    tag_hash: &'static str,
}

impl Node {
    fn of_this_process() -> Self {
        let random = || getrandom::u64().unwrap_or_else(|_| std::process::id().into());
        let host_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            host_name: host_name.trim().to_owned(),
            id: format!("tollgate-{:016x}{:016x}", random(), random()),
            load_per_sec: 0,
            percentage: 0.0,
            tag_hash: "",
        }
    }
}

/// Tells until the store is gone. What can not be told is told the next time.
pub(crate) async fn beat(link: Weak<Link>, notices: Weak<Notices>, every: Duration) {
    // A record of texts and numbers can always be written.
    let node = serde_json::to_string(&Node::of_this_process()).unwrap_or_default();
    while let (Some(link), Some(notices)) = (link.upgrade(), notices.upgrade()) {
        let told: Result<i64, _> = link.command(&notices.of_node(&node)).await;
        if let Err(error) = told {
            tracing::debug!(%error, "Tyk nodes were not told of this one");
        }
        drop((link, notices)); // Nobody is kept alive by being told of.
        tokio::time::sleep(every).await;
    }
}
