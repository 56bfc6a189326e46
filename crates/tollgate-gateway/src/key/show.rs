//! `tollgate key show`: a key, what it may do by its policies, and where its limits stand.

use serde_json::{Value, json};

use super::{
    Named,
    connection::Connection,
    list::{state, texts},
    output, path_of, time,
};

pub(super) async fn run(connection: &Connection, named: &Named, json: bool) -> anyhow::Result<i32> {
    let name = named.find(connection).await?;
    let path = path_of(&name);
    let mut key = connection.ask("GET", &path, None).await?.json()?;
    let rights = connection
        .ask("GET", &format!("{path}/rights"), None)
        .await?;
    let rights = match rights.done() {
        Ok(_) => rights.json()?,
        Err(reason) => json!({ "refused": reason }),
    };
    let usage = connection
        .ask("GET", &format!("{path}/usage"), None)
        .await?;
    let mut usage = usage.json()?;
    if json {
        key["rights"] = rights;
        key["limits"] = usage["limits"].take();
        output::json(&key)?;
        return Ok(0);
    }
    let empty = Vec::new();
    summary(&name, &key["session"])?;
    if let Some(reason) = rights.get("refused").and_then(Value::as_str) {
        output::line(&format!("\nIt is refused: {reason}"))?;
    }
    let apis = rights.get("apis").and_then(Value::as_object);
    let apis: Vec<_> = apis
        .into_iter()
        .flatten()
        .map(|(id, right)| api(id, right))
        .collect();
    if !apis.is_empty() {
        output::line("")?;
        output::table(["API", "VERSIONS", "PATHS", "GRANTED BY"], &apis)?;
    }
    let limits = usage["limits"].as_array().unwrap_or(&empty);
    let limits: Vec<_> = limits.iter().map(limit).collect();
    if !limits.is_empty() {
        output::line("")?;
        output::table(
            ["LIMIT", "API", "ALLOWED", "USED", "LEFT", "RESETS"],
            &limits,
        )?;
    }
    Ok(0)
}

fn summary(name: &str, session: &Value) -> std::io::Result<()> {
    let text = |name: &str| output::text(session, name).to_owned();
    let policies = match texts(session, "apply_policies") {
        none if none.is_empty() => text("apply_policy_id"),
        several => several,
    };
    let meta = session.get("meta_data").and_then(Value::as_object);
    let meta = meta
        .into_iter()
        .flatten()
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        });
    let all = [
        ("key", name.to_owned()),
        ("alias", text("alias")),
        ("org", text("org_id")),
        ("policies", policies),
        ("made", text("date_created")),
        (
            "expires",
            time::written(session.get("expires").and_then(Value::as_u64)),
        ),
        ("state", state(session).to_owned()),
        ("tags", texts(session, "tags")),
        ("meta", meta.collect::<Vec<_>>().join(", ")),
    ];
    let known: Vec<_> = all
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    output::members(&known)
}

fn api(id: &str, right: &Value) -> [String; 4] {
    let paths = right.get("allowed_urls").and_then(Value::as_array);
    let paths = match paths.map_or(0, Vec::len) {
        0 => "all".to_owned(),
        some => format!("{some} patterns"),
    };
    let versions = texts(right, "versions");
    [id.to_owned(), versions, paths, texts(right, "granted_by")]
}

fn limit(limit: &Value) -> [String; 6] {
    let number = |name: &str| limit.get(name).and_then(Value::as_u64);
    let shown = |name: &str| {
        number(name)
            .map(|number| number.to_string())
            .unwrap_or_default()
    };
    let allowed = match limit.get("per_seconds").and_then(Value::as_f64) {
        Some(seconds) => format!("{} in {}", shown("max"), time::length(seconds)),
        None => shown("max"),
    };
    let resets = number("resets").map(|resets| time::written(Some(resets)));
    [
        output::text(limit, "kind").to_owned(),
        output::text(limit, "api_id").to_owned(),
        allowed,
        shown("used"),
        shown("remaining"),
        resets.unwrap_or_default(),
    ]
}
