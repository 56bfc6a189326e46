//! From the `storage` block to a store on Redis.

use std::{fs, num::NonZeroU32, time::Duration};

use tollgate::store::cached::CacheOptions;
use tollgate_core::store::{StoreError, StoreErrorKind};
use tollgate_redis::{Certificates, LimitMode, Naming, OnStoreError, RedisOptions, Servers, Tls};

use crate::{
    config::{Config, StorageOptions},
    problem::{JsonPath, Problem},
};

/// The port of a server that is named without one.
const PORT: u16 = 6379;

/// How long a session is kept in memory where nothing is said, as Tyk keeps them.
const CACHED: Duration = Duration::from_secs(10);

/// How long a session is served from memory while the server is away.
const STALE: Duration = Duration::from_secs(60);

/// How to connect; `None` where the configuration names no Redis.
///
/// # Errors
///
/// Fails where the block can not be followed.
pub fn redis(config: &Config) -> Option<Result<RedisOptions, StoreError>> {
    let storage = config.storage.as_ref()?;
    Some(options(config, storage))
}

fn options(config: &Config, storage: &StorageOptions) -> Result<RedisOptions, StoreError> {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let servers = Servers {
        addresses: addresses(storage),
        user: text(&storage.username),
        password: text(storage.password.expose()),
        database: storage.database,
        tls: match (storage.use_ssl, storage.ssl_insecure_skip_verify) {
            (false, _) => Tls::Off,
            (true, false) => Tls::On,
            (true, true) => Tls::Unverified,
        },
        is_cluster: storage.enable_cluster,
        master: text(&storage.master_name),
        sentinel_password: text(storage.sentinel_password.expose()),
        certificates: certificates(storage)
            .map_err(|(_, message)| StoreError::new(StoreErrorKind::Unsupported, message))?,
    };
    // The counters of one key lie in one slot only under names of our own.
    let store = &config.tollgate.store;
    let naming = if storage.enable_cluster || store.own_names {
        Naming::Tagged
    } else {
        Naming::Tyk
    };
    let options = RedisOptions::servers(&servers)?
        .naming(naming)
        .sentinels(config.enable_sentinel_rate_limiter && !config.enable_fixed_window_rate_limiter)
        .node_secret(config.node_secret.expose())
        .trust_all_notices(config.allow_insecure_configs)
        .rates_on_error(on_error(&store.rates_on_error, store.nodes))
        .quotas_on_error(on_error(&store.quotas_on_error, store.nodes))
        .mode(mode(&store.mode))
        .wait_replicas(store.wait_replicas);
    let options = if store.counts_with_tyk_nodes {
        options.heartbeat(Some(heartbeat(config.drl_notification_frequency)))
    } else {
        options
    };
    let options = match store.timeout.0 {
        Duration::ZERO => options,
        timeout => options.deadline(timeout),
    };
    Ok(match store.longest_lease.0 {
        Duration::ZERO => options,
        lease => options.longest_lease(lease),
    })
}

/// How often Tyk nodes are told of this one. They forget those that they have not heard of for four seconds.
fn heartbeat(drl_notification_frequency: i64) -> Duration {
    match u64::try_from(drl_notification_frequency) {
        Ok(seconds @ 1..4) => Duration::from_secs(seconds),
        _ => Duration::from_secs(2),
    }
}

/// What the files of certificates hold, or which member is wrong and why.
fn certificates(storage: &StorageOptions) -> Result<Option<Certificates>, (&'static str, String)> {
    let read = |member: &'static str, file: &str, holds: &str| {
        let text = fs::read(file).map_err(|err| (member, format!("{file}: {err}")))?;
        if !String::from_utf8_lossy(&text).contains(holds) {
            return Err((member, format!("{file}: expected PEM, with `{holds}`")));
        }
        Ok(text)
    };
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
    let StorageOptions {
        ca_file,
        cert_file,
        key_file,
        ..
    } = storage;
    let client = match (cert_file.as_str(), key_file.as_str()) {
        ("", "") => None,
        (_, "") => return Err(("key_file", "the key of `cert_file` is missing".into())),
        ("", _) => {
            return Err((
                "cert_file",
                "the certificate of `key_file` is missing".into(),
            ));
        }
        (certificate, key) => Some((
            read("cert_file", certificate, CERTIFICATE)?,
            read("key_file", key, "PRIVATE KEY-----")?,
        )),
    };
    let authorities = match ca_file.as_str() {
        "" => None,
        file => Some(read("ca_file", file, CERTIFICATE)?),
    };
    let has_any = authorities.is_some() || client.is_some();
    Ok((has_any && storage.use_ssl).then_some(Certificates {
        authorities,
        client,
    }))
}

/// How sessions are kept in memory; `None` for not at all.
pub fn cache(config: &Config) -> Option<CacheOptions> {
    let cache = &config.local_session_cache;
    let seconds = u64::try_from(cache.cached_session_timeout).unwrap_or_default();
    let age = match seconds {
        0 => CACHED,
        seconds => Duration::from_secs(seconds),
    };
    (!cache.disable_cached_session_state).then(|| CacheOptions::new().age(age).stale_age(STALE))
}

fn addresses(storage: &StorageOptions) -> Vec<(String, u16)> {
    let split = |address: &String| match address.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.parse().unwrap_or(PORT)),
        None => (address.clone(), PORT),
    };
    let named = storage
        .hosts
        .iter()
        .map(|(host, port)| (host.clone(), port.parse().unwrap_or(PORT)));
    let addresses: Vec<_> = storage.addrs.iter().map(split).chain(named).collect();
    if !addresses.is_empty() {
        return addresses;
    }
    let host = match storage.host.as_str() {
        "" => "localhost",
        host => host,
    };
    let port = u16::try_from(storage.port).unwrap_or_default();
    vec![(host.to_owned(), if port == 0 { PORT } else { port })]
}

/// What the names of `tollgate.store.…_on_error` mean.
fn on_error(name: &str, nodes: u32) -> OnStoreError {
    match name {
        "admit" => OnStoreError::Admit,
        "local" => OnStoreError::Local {
            nodes: NonZeroU32::new(nodes).unwrap_or(NonZeroU32::MIN),
        },
        _ => OnStoreError::Refuse,
    }
}

/// What the names of `tollgate.store.mode` mean.
fn mode(name: &str) -> LimitMode {
    match name {
        "exact" => LimitMode::Exact,
        "leased" => LimitMode::Leased,
        _ => LimitMode::Auto,
    }
}

/// What of the settings about the store can not be followed.
pub(crate) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let store = &config.tollgate.store;
    let rules = [
        ("rates_on_error", &store.rates_on_error),
        ("quotas_on_error", &store.quotas_on_error),
    ];
    for (member, rule) in rules {
        if !["", "refuse", "admit", "local"].contains(&rule.as_str()) {
            let path = JsonPath::from("tollgate.store").key(member);
            let message = "expected `refuse`, `admit` or `local`";
            problems.push(Problem::error("", message).at(path));
        }
    }
    if !["", "exact", "leased", "auto"].contains(&store.mode.as_str()) {
        let message = "expected `exact`, `leased` or `auto`";
        problems.push(Problem::error("", message).at("tollgate.store.mode".into()));
    }
    let uses_local = rules.iter().any(|(_, rule)| *rule == "local");
    if uses_local && store.nodes == 0 {
        let message = "`local` needs to know how many nodes share the limits";
        problems.push(Problem::error("", message).at("tollgate.store.nodes".into()));
    }
    if let Some(Err((member, message))) = config.storage.as_ref().map(certificates) {
        let path = JsonPath::from("storage").key(member);
        problems.push(Problem::error("", message).at(path));
        return problems; // Told once.
    }
    let connects = redis(config).map(|options| options.and_then(|options| options.check()));
    if let Some(Err(error)) = connects {
        problems.push(Problem::error("", error.to_string()).at("storage".into()));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_heartbeat_comes_too_late() {
        for (setting, seconds) in [(0, 2), (1, 1), (3, 3), (4, 2), (-1, 2)] {
            assert_eq!(
                heartbeat(setting),
                Duration::from_secs(seconds),
                "{setting}"
            );
        }
    }

    #[test]
    fn certificates_are_told_by_the_member_that_is_wrong() {
        let check = |json: &str, expected: &str| {
            let storage: StorageOptions = serde_json::from_str(json).expect("reads");
            let member = certificates(&storage).err().map(|(member, _)| member);
            assert_eq!(member.unwrap_or_default(), expected, "{json}");
        };
        check("{}", "");
        check(r#"{"use_ssl": true}"#, "");
        check(r#"{"ca_file": "no-such-file"}"#, "ca_file");
        check(r#"{"ca_file": "Cargo.toml"}"#, "ca_file");
        check(r#"{"cert_file": "x"}"#, "key_file");
        check(r#"{"key_file": "x"}"#, "cert_file");
        check(
            r#"{"cert_file": "no-such-file", "key_file": "x"}"#,
            "cert_file",
        );
    }

    #[test]
    fn servers_are_named_in_tyks_three_ways() {
        let check = |json: &str, expected: &[(&str, u16)]| {
            let storage: StorageOptions = serde_json::from_str(json).expect("reads");
            let expected: Vec<_> = expected
                .iter()
                .map(|(host, port)| ((*host).to_owned(), *port))
                .collect();
            assert_eq!(addresses(&storage), expected, "{json}");
        };
        check(r#"{"host": "redis", "port": 7000}"#, &[("redis", 7000)]);
        check("{}", &[("localhost", 6379)]);
        check(
            r#"{"host": "no", "addrs": ["a:1", "b"]}"#,
            &[("a", 1), ("b", 6379)],
        );
        check(r#"{"hosts": {"a": "1"}}"#, &[("a", 1)]);
    }
}
