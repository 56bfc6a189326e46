//! `tollgate key`: makes, shows and moves keys, by the control API.
//!
//! Of a running gateway, or, with `--offline`, of one that lives as long as the command, over the
//! store's file: both know the same rules.

use std::io::{self, Write};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tollgate_gateway::reference::Environment;

use crate::output;

mod connection;
mod create;
mod export;
mod import;
mod list;
mod show;
mod time;

use self::connection::{Connection, Reach};

/// What `key` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done, 1 not done or not all of it, 2 not understood.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes a key and prints its token, this once.
    Create(create::Arguments),
    /// Shows a key: what it is, what it may do, how much of its limits is used.
    Show(Named),
    /// Lists keys, those that all filters let through.
    List(list::Arguments),
    /// Makes a new token for a key, and prints it; the old one ends after an overlap.
    Rotate(Rotate),
    /// Removes keys, at once.
    Revoke(Revoke),
    /// Makes keys again that were exported, or replaces them; their tokens stay what they were.
    Import(import::Arguments),
    /// Writes keys as lines of JSON, with whatever secrets they hold.
    Export(export::Arguments),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The key: its name as `list` tells it, or its token; `-` reads it from the standard input.
    #[arg(value_name = "KEY")]
    key: String,
    /// The organisation, where the key is named by an id.
    #[arg(long, default_value = "")]
    org: String,
}

#[derive(Debug, clap::Args)]
struct Rotate {
    #[command(flatten)]
    named: Named,
    /// How long the old token still passes, as `1h`; 0 ends it at once.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time::seconds)]
    overlap: u64,
    /// Prints the token alone.
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, clap::Args)]
struct Revoke {
    /// The keys, by name or by token.
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
    /// The organisation, where keys are named by an id.
    #[arg(long, default_value = "")]
    org: String,
}

/// Does what is asked, and tells the exit code.
pub(crate) fn run(arguments: Arguments, environment: Environment) -> anyhow::Result<i32> {
    let Arguments {
        reach,
        json,
        command,
    } = arguments;
    let makes_keys = matches!(command, Command::Create(_) | Command::Import(_));
    reach.connected(environment, makes_keys, |connection| async move {
        match command {
            Command::Create(arguments) => create::run(&connection, arguments, json).await,
            Command::Show(named) => show::run(&connection, &named, json).await,
            Command::List(arguments) => list::run(&connection, &arguments, json).await,
            Command::Rotate(arguments) => rotate(&connection, &arguments, json).await,
            Command::Revoke(arguments) => revoke(&connection, &arguments, json).await,
            Command::Import(arguments) => import::run(connection, arguments, json).await,
            Command::Export(arguments) => export::run(&connection, &arguments).await,
        }
    })
}

impl Named {
    /// The key's name in the store.
    async fn find(&self, connection: &Connection) -> anyhow::Result<String> {
        if self.key != "-" {
            return name_of(connection, &self.key, &self.org).await;
        }
        let token = io::read_to_string(io::stdin().lock()).context("the standard input")?;
        name_of(connection, token.trim(), &self.org).await
    }
}

/// The name in the store of what may be a token. What is no token is taken for a name.
async fn name_of(connection: &Connection, given: &str, org: &str) -> anyhow::Result<String> {
    let question = json!({"token": given, "org_id": org});
    let reply = connection
        .ask("POST", "/tollgate/find", Some(&question))
        .await?;
    if reply.status == 404 {
        return Ok(given.to_owned());
    }
    let found = reply.json()?;
    let name = found.get("key").and_then(Value::as_str);
    name.map(str::to_owned).context("the answer names no key")
}

/// The path of a key.
fn path_of(name: &str) -> String {
    const PLAIN: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    let name = percent_encoding::utf8_percent_encode(name, PLAIN);
    format!("/tollgate/keys/{name}")
}

async fn rotate(connection: &Connection, arguments: &Rotate, json: bool) -> anyhow::Result<i32> {
    let name = arguments.named.find(connection).await?;
    let path = format!("{}/rotate", path_of(&name));
    let Ok(overlap) = u32::try_from(arguments.overlap) else {
        bail!("--overlap: longer than {} seconds", u32::MAX);
    };
    let body = json!({"overlap_seconds": overlap});
    let rotated = connection.ask("POST", &path, Some(&body)).await?.json()?;
    if json {
        output::json(&rotated)?;
    } else if arguments.quiet {
        output::line(output::text(&rotated, "token"))?;
    } else {
        let ends = rotated.get("old_token_ends").and_then(Value::as_u64);
        output::members(&[
            ("token", output::text(&rotated, "token").to_owned()),
            ("key", output::text(&rotated, "key").to_owned()),
            ("replaces", output::text(&rotated, "replaces").to_owned()),
            ("which ends", time::written(ends)),
        ])?;
    }
    Ok(0)
}

/// Tokens are not repeated: a key that is not there is told by its place.
async fn revoke(connection: &Connection, arguments: &Revoke, json: bool) -> anyhow::Result<i32> {
    let (mut revoked, mut failed) = (Vec::new(), Vec::new());
    for (place, given) in arguments.keys.iter().enumerate() {
        let name = name_of(connection, given, &arguments.org).await?;
        let reply = connection.ask("DELETE", &path_of(&name), None).await?;
        match reply.done() {
            Ok(_) => revoked.push(name),
            Err(reason) => failed.push((place + 1, reason)),
        }
    }
    if json {
        let failed = failed.iter();
        let failed = failed.map(|(place, reason)| json!({"place": place, "reason": reason}));
        let failed: Vec<_> = failed.collect();
        output::json(&json!({"revoked": revoked, "failed": failed}))?;
    } else {
        let mut out = io::stdout().lock();
        for name in &revoked {
            writeln!(out, "revoked {name}")?;
        }
        for (place, reason) in &failed {
            output::complain(&format!(
                "key {place} of {}: {reason}",
                arguments.keys.len()
            ))?;
        }
    }
    Ok(i32::from(!failed.is_empty()))
}
