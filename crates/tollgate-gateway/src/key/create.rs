//! `tollgate key create`: a session from arguments or a file, and the key that it becomes.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{connection::Connection, output, time};

/// What `create` takes. What is given here replaces what the file says.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A policy; its rights and limits become the key's. Several add up.
    #[arg(long, value_name = "ID")]
    policy: Vec<String>,
    /// An API that the key may call, or one version of it. Several add up.
    #[arg(long, value_name = "ID[:VERSION]")]
    api: Vec<String>,
    /// The organisation; where not given, that of the policies and APIs.
    #[arg(long)]
    org: Option<String>,
    /// A name for people.
    #[arg(long)]
    alias: Option<String>,
    /// How many requests in how long, as `100/1m`. A policy's own rate goes before it.
    #[arg(long, value_name = "N/TIME", value_parser = time::many_in)]
    rate: Option<(u64, u64)>,
    /// How many requests in each period, as `10000/30d`. A policy's own quota goes before it.
    #[arg(long, value_name = "N/TIME", value_parser = time::many_in)]
    quota: Option<(u64, u64)>,
    /// When the key ends: `30d`, `2027-01-31`, a time as RFC 3339, or `never`.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Data of the key, as `user=ann`, for headers, rewrites and filters of lists.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    meta: Vec<(String, String)>,
    /// A tag, for analytics and routing.
    #[arg(long)]
    tag: Vec<String>,
    /// A session object as JSON; `-` is the standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Prints the token alone.
    #[arg(short, long)]
    quiet: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(
    connection: &Connection,
    arguments: Arguments,
    json: bool,
) -> anyhow::Result<i32> {
    let quiet = arguments.quiet;
    let mut session = match &arguments.file {
        Some(file) => read(file)?,
        None => Map::new(),
    };
    let guesses_org = arguments.org.is_none() && !session.contains_key("org_id");
    let (policies, apis) = (arguments.policy.clone(), arguments.api.clone());
    fill(&mut session, arguments, Timestamp::now()).map_err(anyhow::Error::msg)?;
    if guesses_org && let Some(org) = common_org(connection, &policies, &apis).await? {
        session.insert("org_id".to_owned(), org.into());
    }
    let session = Value::Object(session);
    let made = connection
        .ask("POST", "/tyk/keys/create", Some(&session))
        .await?;
    let made = made.json()?;
    let token = output::text(&made, "key");
    let name = match output::text(&made, "key_hash") {
        "" => token, // Tokens are stored as they are.
        hash => hash,
    };
    if json {
        output::json(&json!({"token": token, "key": name}))?;
    } else if quiet {
        output::line(token)?;
    } else {
        output::members(&[("token", token.to_owned()), ("key", name.to_owned())])?;
    }
    Ok(0)
}

fn read(file: &Path) -> anyhow::Result<Map<String, Value>> {
    let text = if file == Path::new("-") {
        io::read_to_string(io::stdin().lock())
    } else {
        fs::read_to_string(file)
    };
    let told = || file.display().to_string();
    let text = text.with_context(told)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(session)) => Ok(session),
        Ok(_) => bail!("{}: expected a session, which is an object", told()),
        // What serde says of a value may hold it; where it is does not.
        Err(err) => bail!("{}:{}:{}: no JSON", told(), err.line(), err.column()),
    }
}

/// Puts what was given into the session.
fn fill(
    session: &mut Map<String, Value>,
    arguments: Arguments,
    now: Timestamp,
) -> Result<(), String> {
    let mut set = |name: &str, value: Value| drop(session.insert(name.to_owned(), value));
    if !arguments.policy.is_empty() {
        set("apply_policies", arguments.policy.into());
    }
    if !arguments.api.is_empty() {
        set("access_rights", rights(&arguments.api));
    }
    if let Some(org) = arguments.org {
        set("org_id", org.into());
    }
    if let Some(alias) = arguments.alias {
        set("alias", alias.into());
    }
    if let Some((rate, per)) = arguments.rate {
        set("rate", rate.into());
        set("per", per.into());
    }
    if let Some((most, period)) = arguments.quota {
        set("quota_max", most.into());
        set("quota_renewal_rate", period.into());
    }
    if let Some(expires) = arguments.expires {
        let time = time::later(&expires, now);
        let time = time.map_err(|err| format!("--expires {expires}: {err}"))?;
        set("expires", time.into());
    }
    if !arguments.tag.is_empty() {
        set("tags", arguments.tag.into());
    }
    if !arguments.meta.is_empty() {
        let old = session.remove("meta_data").unwrap_or_default();
        let mut meta = match old {
            Value::Object(meta) => meta,
            _ => Map::new(),
        };
        let pairs = arguments.meta.into_iter();
        meta.extend(pairs.map(|(name, value)| (name, value.into())));
        session.insert("meta_data".to_owned(), meta.into());
    }
    Ok(())
}

/// Rights of APIs, each `id` or `id:version`; without a version that of an API with one.
fn rights(apis: &[String]) -> Value {
    let mut rights = Map::new();
    for api in apis {
        let (id, version) = api.split_once(':').unwrap_or((api, "Default"));
        let right = rights
            .entry(id)
            .or_insert_with(|| json!({"api_id": id, "versions": []}));
        if let Some(versions) = right["versions"].as_array_mut() {
            versions.push(version.into());
        }
    }
    rights.into()
}

/// The organisation that all policies and APIs have, where they have one.
async fn common_org(
    connection: &Connection,
    policies: &[String],
    apis: &[String],
) -> anyhow::Result<Option<String>> {
    let id = |api: &String| api.split(':').next().unwrap_or_default().to_owned();
    let policies = policies.iter().map(|id| ("policies", id.clone()));
    let all = policies.chain(apis.iter().map(|api| ("apis", id(api))));
    let mut found = BTreeSet::new();
    for (kind, id) in all {
        let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let path = format!("/tyk/{kind}/{}", id.replace('+', "%20"));
        // One that is not there is told when the key is made.
        if let Ok(told) = connection.ask("GET", &path, None).await?.json() {
            found.insert(output::text(&told, "org_id").to_owned());
        }
    }
    Ok(found
        .pop_first()
        .filter(|org| found.is_empty() && !org.is_empty()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[track_caller]
    fn check(given: &str, line: &[&str], expected: Value) {
        let line = Line::parse_from([&["create"], line].concat());
        let mut session = serde_json::from_str(given).unwrap();
        fill(
            &mut session,
            line.arguments,
            Timestamp::from_second(1000).unwrap(),
        )
        .unwrap();
        assert_eq!(Value::Object(session), expected);
    }

    #[test]
    fn arguments_are_put_over_what_a_file_says() {
        check("{}", &[], json!({}));
        check(
            r#"{"alias": "old", "meta_data": {"a": 1, "b": 2}, "hmac_enabled": true}"#,
            &[
                "--alias", "new", "--meta", "b=x=y", "--meta", "c=", "--tag", "t",
            ],
            json!({"alias": "new", "meta_data": {"a": 1, "b": "x=y", "c": ""}, "hmac_enabled": true,
                "tags": ["t"]}),
        );
        check(
            "{}",
            &[
                "--api", "a", "--api", "b:v1", "--api", "b:v2", "--rate", "10/s", "--quota", "5/1d",
            ],
            json!({"rate": 10, "per": 1, "quota_max": 5, "quota_renewal_rate": 86_400,
                "access_rights": {
                    "a": {"api_id": "a", "versions": ["Default"]},
                    "b": {"api_id": "b", "versions": ["v1", "v2"]}}}),
        );
        check(
            "{}",
            &["--policy", "gold", "--expires", "1h", "--org", "acme"],
            json!({"apply_policies": ["gold"], "expires": 4600, "org_id": "acme"}),
        );
    }
}
