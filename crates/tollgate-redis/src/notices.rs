//! Notices of change, on Tyk's channel and in Tyk's form: whoever caches sessions drops those that others
//! changed, and gateways reload together.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tollgate_core::store::{Change, ChangeSink};

use crate::{link::Link, options::RedisOptions};

/// The channel that all gateways listen on.
pub(crate) const CHANNEL: &str = "tyk.cluster.notifications";
const KEY_CHANGED: &str = "KeySpaceUpdateNotification";
const RELOAD: &str = "GroupReload";
/// What Tyk reloads on.
const RELOADS: [&str; 5] = [
    RELOAD,
    "ApiUpdated",
    "ApiRemoved",
    "ApiAdded",
    "PolicyChanged",
];
/// Tyk's number for SHA-256.
const SHA256: i64 = 5;

/// Is told that gateways reload.
pub type ReloadSink = Arc<dyn Fn() + Send + Sync>;

/// A notice as it is sent.
#[derive(Debug, Deserialize, Serialize)]
struct Notice {
    #[serde(default)]
    command: String,
    #[serde(default)]
    payload: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    algorithm: i64,
}

/// Hears notices, and signs them.
pub(crate) struct Notices {
    secret: String,
    trusts_all: bool,
    sinks: Mutex<Vec<ChangeSink>>,
    reloads: Mutex<Vec<ReloadSink>>,
}

impl Notices {
    pub(crate) fn new(options: &RedisOptions) -> Self {
        Self {
            secret: options.node_secret.clone(),
            trusts_all: options.trusts_all_notices,
            sinks: Mutex::default(),
            reloads: Mutex::default(),
        }
    }

    pub(crate) fn add_sink(&self, sink: ChangeSink) {
        self.sinks.lock().push(sink);
    }

    pub(crate) fn add_reload(&self, sink: ReloadSink) {
        self.reloads.lock().push(sink);
    }

    /// The notice that this record changed.
    pub(crate) fn of_key(&self, key: &str) -> redis::Cmd {
        self.publish(KEY_CHANGED, name_of(key))
    }

    /// The notice that these records changed.
    pub(crate) fn of_keys(&self, keys: &[String]) -> redis::Cmd {
        let names: Vec<_> = keys.iter().map(|key| name_of(key)).collect();
        self.publish(KEY_CHANGED, &names.join(","))
    }

    /// The notice that all reload.
    pub(crate) fn of_reload(&self) -> redis::Cmd {
        self.publish(RELOAD, "")
    }

    /// The notice that this node is there, for Tyk nodes that divide rates by their number.
    pub(crate) fn of_node(&self, node: &str) -> redis::Cmd {
        self.publish("NoticeGatewayDRLNotification", node)
    }

    fn publish(&self, command: &str, payload: &str) -> redis::Cmd {
        let notice = Notice {
            command: command.to_owned(),
            payload: payload.to_owned(),
            signature: self.signature(command, payload),
            algorithm: SHA256,
        };
        // A record of texts and a number can always be written.
        let text = serde_json::to_string(&notice).unwrap_or_default();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(CHANNEL).arg(text);
        publish
    }

    fn signature(&self, command: &str, payload: &str) -> String {
        let mut hash = Sha256::new();
        for part in [command, payload, &self.secret] {
            hash.update(part);
        }
        let hash = hash.finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn say(&self, change: Change<'_>) {
        for sink in &*self.sinks.lock() {
            sink(change);
        }
    }

    /// Acts on a notice, if it can be believed.
    fn hear(&self, text: &str) {
        let Ok(notice) = serde_json::from_str::<Notice>(text) else {
            return tracing::warn!("a notice of change can not be read");
        };
        let is_signed = notice.algorithm == SHA256
            && notice.signature == self.signature(&notice.command, &notice.payload);
        if !is_signed && !self.trusts_all {
            return tracing::warn!("a notice of change is not signed by this node's secret");
        }
        if notice.command == KEY_CHANGED {
            for name in notice.payload.split(',') {
                let name = name.split(':').next().unwrap_or_default();
                self.say(Change::Key(name));
                self.say(Change::Key(&format!("orgkey.{name}"))); // Tyk says the id alone.
            }
        } else if RELOADS.contains(&&*notice.command) {
            for sink in &*self.reloads.lock() {
                sink();
            }
        }
    }
}

/// What Tyk calls a record in notices: organisations by their id alone.
fn name_of(key: &str) -> &str {
    key.strip_prefix("orgkey.").unwrap_or(key)
}

/// Listens until the store is gone. What was missed meanwhile is told as lost.
pub(crate) async fn listen(link: Weak<Link>, notices: Weak<Notices>) {
    const PAUSES: [u64; 4] = [50, 250, 1000, 2000];
    let mut failures = 0;
    while let Some(link) = link.upgrade() {
        let listening = async {
            let mut listens = link.listen().await?;
            listens.subscribe(CHANNEL).await?;
            Ok::<_, redis::RedisError>(listens)
        };
        let listening = tokio::time::timeout(Duration::from_secs(5), listening).await;
        drop(link); // Nobody is kept alive by being listened for.
        if let Ok(Ok(mut listens)) = listening {
            failures = 0;
            let Some(told) = notices.upgrade() else {
                return;
            };
            told.say(Change::Lost);
            drop(told);
            let mut messages = listens.on_message();
            while let Some(message) = messages.next().await {
                let Some(notices) = notices.upgrade() else {
                    return;
                };
                if let Ok(text) = message.get_payload::<String>() {
                    notices.hear(&text);
                }
            }
            let Some(told) = notices.upgrade() else {
                return;
            };
            told.say(Change::Lost);
        }
        let pause = PAUSES[failures.min(PAUSES.len() - 1)];
        failures += 1;
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notices(secret: &str) -> Notices {
        let options = RedisOptions::single("redis://127.0.0.1/").expect("a URL");
        Notices::new(&options.node_secret(secret))
    }

    #[test]
    fn signatures_are_tyks() {
        let notices = notices("352d20ee67be67f6340b4c0605b044b7");
        assert_eq!(
            notices.signature(KEY_CHANGED, "5bd0ae9bf7a7b4a5"),
            "b0708accf16113ffdc22c7da85a3bfbbad71f5f6c4373a6192bc6d1c7dd31c7f"
        );
        assert_eq!(
            notices.signature(RELOAD, ""),
            "95984d24888960e2cb55c1358a67872b45946c1a0eeccee16d681baf2396fc02"
        );
    }

    #[test]
    fn only_signed_notices_are_believed() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notices = notices("secret");
        let sink = heard.clone();
        notices.add_sink(Arc::new(move |change| {
            if let Change::Key(key) = change {
                sink.lock().push(key.to_owned());
            }
        }));
        let sent = |secret: &str, payload: &str| {
            let other = super::tests::notices(secret);
            let notice = Notice {
                command: KEY_CHANGED.into(),
                payload: payload.into(),
                signature: other.signature(KEY_CHANGED, payload),
                algorithm: SHA256,
            };
            serde_json::to_string(&notice).expect("writes")
        };
        notices.hear(&sent("other", "bad"));
        notices.hear("{");
        notices.hear(&sent("secret", "one,two:x"));
        assert_eq!(*heard.lock(), ["one", "orgkey.one", "two", "orgkey.two"]);
    }
}
