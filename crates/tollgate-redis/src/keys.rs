//! The names of everything in Redis, and nothing else about it.
//!
//! Records of sessions have Tyk's names in both modes: `apikey-` and the token or its hash, `orgkey.` and
//! the organisation. Counters have Tyk's names where Tyk counts the same thing and [`Naming::Tyk`] is
//! asked for; all others begin with `tollgate:` and have a hash tag, so that the counters of one key lie
//! in one slot of a cluster.
//!
//! The engine's own names of counters come apart without loss: each part is preceded by its length.

use std::fmt::Write as _;

use tollgate_core::{
    limits::{Algorithm, Limit},
    token::HashFunction,
};

/// What names of sessions begin with.
pub(crate) const SESSION: &str = "apikey-";
const ORGANISATION: &str = "orgkey.";

/// What is written to see whether the server can be written to; its name is its value.
pub(crate) const PROBE: &str = "tyk-liveness-probe";

/// How counters are named.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Naming {
    /// As Tyk names them, so that running Tyk nodes count on the same numbers: a key's rate, kept
    /// request by request as Tyk's rolling limiter does, or by fixed windows, and its quota. The
    /// counters of one key lie in different slots, so this is for one server, not for a cluster.
    Tyk,
    /// With hash tags: for a cluster, and wherever no Tyk node counts. Rates over 128 requests are kept
    /// in 64 slots of the window.
    #[default]
    Tagged,
}

/// Whether a name is that of an organisation's record.
pub(crate) fn is_organisation(key: &str) -> bool {
    key.starts_with(ORGANISATION)
}

/// The name of a session's record.
pub(crate) fn record(key: &str) -> String {
    if is_organisation(key) {
        key.to_owned()
    } else {
        format!("{SESSION}{key}")
    }
}

/// The name of what counts the writes of a record: in the record's slot, and found by no scan for records.
pub(crate) fn writes(record: &str) -> String {
    format!("{{{record}}}:writes")
}

/// What a counter of the engine counts.
struct Parts<'a> {
    kind: &'a str,
    of: &'a str,
    scope: &'a str,
    key: &'a str,
    endpoint: &'a str,
}

impl<'a> Parts<'a> {
    /// Takes a name apart: `kind:of`, then three parts, each after its length.
    fn of(name: &'a str) -> Option<Self> {
        let (kind, rest) = name.split_once(':')?;
        let (of, mut rest) = rest.split_once(':')?;
        let mut part = || {
            let (length, behind) = rest.split_once(':')?;
            let length: usize = length.parse().ok()?;
            let part = behind.get(..length)?;
            rest = behind[length..].strip_prefix(':').unwrap_or_default();
            Some(part)
        };
        Some(Self {
            kind,
            of,
            scope: part()?,
            key: part()?,
            endpoint: part()?,
        })
    }
}

/// The name of a counter in Redis, without the start of a fixed window.
pub(crate) fn counter(name: &[u8], limit: &Limit, naming: Naming) -> Vec<u8> {
    let text = std::str::from_utf8(name).ok();
    if let Some(api) = text.and_then(of_api)
        && naming == Naming::Tyk
        && is_tyks_form(limit)
    {
        return api.into_bytes();
    }
    match text.and_then(Parts::of) {
        Some(parts) if naming == Naming::Tyk && is_tyks(&parts, limit) => tyks(&parts).into_bytes(),
        Some(parts) => tagged(&parts, limit).into_bytes(),
        None => own(name, limit),
    }
}

/// Tyk's name of an API's own rate, where it hashes no keys. The gateway then calls it `own:api:`, the length
/// of its organisation, that, and the API. What Tyk hashes some APIs have in common.
fn of_api(name: &str) -> Option<String> {
    let (length, rest) = name.strip_prefix("own:api:")?.split_once(':')?;
    let (org, api) = rest.split_at_checked(length.parse().ok()?)?;
    let api = api.strip_prefix(':')?;
    Some(format!("rate-limit-apilimiter-{org}{api}"))
}

fn is_tyks_form(limit: &Limit) -> bool {
    match limit {
        Limit::Rate(rate) => {
            matches!(rate.algorithm, Algorithm::Sliding | Algorithm::FixedWindow)
        }
        Limit::Quota(_) => true,
    }
}

/// Whether Tyk counts the same in the same form. It does not count organisations and some endpoints apart
/// (its names for them collide), and keeps buckets in its own memory.
fn is_tyks(parts: &Parts<'_>, limit: &Limit) -> bool {
    let is_apart = parts.endpoint.is_empty() || tells_apart(parts.endpoint);
    parts.of != "org" && is_apart && is_tyks_form(limit)
}

/// Whether the hash that names an endpoint's counter tells it from all others: of the only API that the key
/// may call, and of whole blocks.
fn tells_apart(endpoint: &str) -> bool {
    !endpoint.starts_with('@') && endpoint.len().is_multiple_of(4)
}

fn tyks(parts: &Parts<'_>) -> String {
    if parts.kind == "quota" {
        return match parts.scope {
            "" => format!("quota-{}", parts.key),
            scope => format!("quota-{scope}-{}", parts.key),
        };
    }
    let mut name = String::from("rate-limit");
    let endpoint = match parts.endpoint {
        "" => String::new(),
        endpoint => HashFunction::Murmur32.hash(endpoint).as_str().to_owned(),
    };
    for part in [parts.scope, parts.key, &endpoint] {
        let part = part.trim_matches('-');
        if !part.is_empty() {
            name.push('-');
            name.push_str(part);
        }
    }
    name
}

fn tagged(parts: &Parts<'_>, limit: &Limit) -> String {
    let (key, form) = (tag(parts.key), form(limit));
    let Parts {
        kind,
        of,
        scope,
        endpoint,
        ..
    } = parts;
    let mut name = format!("tollgate:{{{of}:{key}}}{form}:{kind}");
    for part in [scope, endpoint] {
        let _ = write!(name, ":{}:{part}", part.len()); // Writing to a text can not fail.
    }
    name
}

/// A limit of one's own: the whole name is its tag.
fn own(name: &[u8], limit: &Limit) -> Vec<u8> {
    let mut own = b"tollgate:{".to_vec();
    for byte in name {
        match byte {
            b'%' | b'{' | b'}' => own.extend(format!("%{byte:02x}").into_bytes()),
            byte => own.push(*byte),
        }
    }
    own.push(b'}');
    own.extend_from_slice(form(limit).as_bytes());
    own
}

/// Text in a hash tag, which ends at the first brace.
fn tag(text: &str) -> String {
    text.replace('%', "%25")
        .replace('{', "%7b")
        .replace('}', "%7d")
}

/// Counters of different forms have different names, so that a changed algorithm never meets the state of
/// another.
fn form(limit: &Limit) -> &'static str {
    match limit {
        Limit::Quota(_) => "",
        Limit::Rate(rate) => match rate.algorithm {
            Algorithm::Sliding => ":sliding",
            Algorithm::FixedWindow => ":fixed",
            Algorithm::Bucket => ":bucket",
            Algorithm::Gcra => ":gcra",
        },
    }
}

/// The name of the record of what is leased of a counter: in the counter's slot, and none of Tyk's.
pub(crate) fn leases(counter: &[u8]) -> Vec<u8> {
    if counter.starts_with(b"tollgate:") {
        [counter, b":leases"].concat()
    } else {
        [b"tollgate:leases:", counter].concat()
    }
}

/// All names under which a counter may stand, for forgetting it. Fixed windows besides begin with the
/// name and a `/`.
pub(crate) fn all_forms(name: &[u8], naming: Naming) -> Vec<Vec<u8>> {
    use std::time::Duration;
    use tollgate_core::limits::{Period, Quota, Rate};

    let rate = Rate::per_second(1);
    let rates = [
        Algorithm::Sliding,
        Algorithm::FixedWindow,
        Algorithm::Bucket,
        Algorithm::Gcra,
    ];
    let rates = rates.map(|algorithm| Limit::Rate(rate.with_algorithm(algorithm)));
    let quota = Limit::Quota(Quota::per(1, Period::Every(Duration::from_secs(1))));
    let mut names: Vec<_> = rates
        .iter()
        .chain([&quota])
        .map(|limit| counter(name, limit, naming))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tollgate_core::limits::{Period, Quota, Rate};

    use super::*;

    fn named(name: &str, limit: impl Into<Limit>, naming: Naming) -> String {
        String::from_utf8(counter(name.as_bytes(), &limit.into(), naming)).expect("text")
    }

    #[test]
    fn records_have_tyks_names() {
        assert_eq!(record("a5f3"), "apikey-a5f3");
        assert_eq!(record("orgkey.acme"), "orgkey.acme");
        assert_eq!(writes("apikey-a5f3"), "{apikey-a5f3}:writes");
    }

    #[test]
    fn counters_have_tyks_names_where_tyk_counts_the_same() {
        let quota = Quota::per(1, Period::Every(Duration::from_secs(60)));
        let rate = Rate::per_second(1);
        let named = |name: &str, limit: Limit| named(name, limit, Naming::Tyk);
        let cases = [
            ("quota:key:0::4:a5f3:0:", quota.clone().into(), "quota-a5f3"),
            (
                "quota:key:3:api:4:a5f3:0:",
                quota.clone().into(),
                "quota-api-a5f3",
            ),
            ("rate:key:0::4:a5f3:0:", rate.into(), "rate-limit-a5f3"),
            (
                "rate:key:3:api:4:a5f3:0:",
                rate.into(),
                "rate-limit-api-a5f3",
            ),
            (
                "rate:pattern:0::5:a|b-c:0:",
                rate.into(),
                "rate-limit-a|b-c",
            ),
        ];
        for (name, limit, expected) in cases {
            assert_eq!(named(name, limit), expected);
        }
        let of_endpoint = named("rate:key:0::4:a5f3:8:GET:/abx:", rate.into());
        assert_eq!(of_endpoint, "rate-limit-a5f3-fa68059a");
        for collides in [":6:GET:/x", ":6:GET:/y", ":11:@a:GET:/abx"] {
            let name = format!("rate:key:0::4:a5f3{collides}:");
            let name = super::counter(name.as_bytes(), &rate.into(), Naming::Tyk);
            let name = String::from_utf8(name).expect("text");
            assert!(name.starts_with("tollgate:{key:a5f3}"), "{name}");
            assert!(name.ends_with(collides), "{name}");
        }
        let of_api = named("own:api:4:acme:orders", rate.into());
        assert_eq!(of_api, "rate-limit-apilimiter-acmeorders");
    }

    #[test]
    fn a_tag_keeps_the_counters_of_a_key_together() {
        let quota = Quota::per(1, Period::Every(Duration::from_secs(60)));
        let quota = named("quota:key:0::4:a}f3:0:", quota, Naming::Tagged);
        assert_eq!(quota, "tollgate:{key:a%7df3}:quota:0::0:");
        let rate = named("rate:key:0::4:a}f3:0:", Rate::per_second(1), Naming::Tagged);
        assert_eq!(rate, "tollgate:{key:a%7df3}:sliding:rate:0::0:");
        let own = named("own:{x}", Rate::per_second(1), Naming::Tyk);
        assert_eq!(own, "tollgate:{own:%7bx%7d}:sliding");
    }

    #[test]
    fn organisations_never_share_a_name() {
        let quota = Quota::per(1, Period::Every(Duration::from_secs(60)));
        let one = named("quota:org:0::4:acme:0:", quota.clone(), Naming::Tyk);
        let key = named("quota:key:0::4:acme:0:", quota, Naming::Tyk);
        assert_ne!(one, key);
    }
}
