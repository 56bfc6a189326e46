//! The `tollgate` program.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process,
};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tollgate_gateway::{
    load::{DefaultSecret, LoadOptions, Store},
    reference::Environment,
    schema,
};

mod check;
mod key;
mod observation;
mod output;
mod quickstart;
mod server;
mod start;
mod transfer;
mod watch;

/// A request allocates some twenty times: docs/design/gateway.md tells what this spares.
#[cfg(all(feature = "jemalloc", target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An API gateway that takes Tyk's own files.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves what the files say, until SIGTERM or SIGINT; SIGHUP reads them anew.
    Serve(start::ServeArguments),
    /// Starts a gateway to try, with an upstream of its own and a key, and prints curl lines.
    Quickstart(quickstart::Arguments),
    /// Looks at configuration, API definitions and policies, and tells what is wrong with them.
    Check(check::Arguments),
    /// Makes, shows, lists, rotates, revokes, exports and imports keys.
    Key(Box<key::Arguments>),
    /// Takes keys, organisations and running quotas from the Redis of a Tyk into this gateway's store.
    Import(Box<transfer::Import>),
    /// Puts this gateway's keys, organisations and running quotas into the Redis of a Tyk.
    Export(Box<transfer::Export>),
    /// Prints the JSON schema of a kind of file, for editors.
    Schema {
        /// Which kind.
        #[arg(value_parser = schema::ALL.map(|(name, _)| name))]
        kind: String,
    },
    /// Prints what a shell needs to complete commands; `source <(tollgate completions bash)`.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What every command that reads the files takes.
#[derive(Debug, Args)]
struct Files {
    /// The configuration: Tyk's `tyk.conf`, or the same as `.toml` or `.yaml`.
    #[arg(long, value_name = "FILE")]
    conf: PathBuf,
    /// Keeps keys and counters here, whatever the configuration says. `check --store`, without a name, looks at
    /// the store.
    #[arg(long, value_name = "STORE", num_args = 0..=1, default_missing_value = "configured")]
    store: Option<StoreName>,
    /// Takes a secret that everybody knows, or none.
    #[arg(long)]
    allow_default_secret: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum StoreName {
    /// A file of this machine.
    Embedded,
    /// What the configuration says.
    Configured,
}

/// The file of the embedded store where no other is named: beside the configuration.
fn store_file(conf: &Path) -> PathBuf {
    conf.with_file_name("tollgate.redb")
}

impl Files {
    fn options(&self) -> LoadOptions {
        LoadOptions {
            store: match self.store {
                Some(StoreName::Embedded) => Store::Embedded,
                Some(StoreName::Configured) | None => Store::FromConfig,
            },
            default_secret: if self.allow_default_secret {
                DefaultSecret::Allowed
            } else {
                DefaultSecret::Refused
            },
        }
    }
}

fn main() {
    let code = run().unwrap_or_else(|err| {
        failed(&err);
        1
    });
    process::exit(code)
}

/// Tells why nothing was done, on one line.
fn failed(err: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "error: {err:#}"); // There is nobody else to tell.
}

fn run() -> anyhow::Result<i32> {
    let environment = Environment::of_process();
    Ok(match CommandLine::parse_from(arguments()).command {
        Command::Check(arguments) => check::run(&arguments, &environment)?,
        Command::Serve(arguments) => start::run(&arguments, environment)?,
        Command::Quickstart(arguments) => quickstart::run(&arguments)?,
        Command::Key(arguments) => key::run(*arguments, environment)?,
        Command::Import(arguments) => transfer::import(*arguments, &environment)?,
        Command::Export(arguments) => transfer::export(*arguments, &environment)?,
        Command::Schema { kind } => print_schema(&kind)?,
        Command::Completions { shell } => {
            let command = &mut CommandLine::command();
            clap_complete::generate(shell, command, "tollgate", &mut std::io::stdout());
            0
        }
    })
}

fn print_schema(kind: &str) -> anyhow::Result<i32> {
    let found = schema::ALL.iter().find(|(name, _)| *name == kind);
    if let Some((_, schema)) = found {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &schema())?;
        writeln!(out)?;
    }
    Ok(0)
}

/// What the program was called with. `--conf` without a command serves, as Tyk's program does.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    let first = arguments.get(1).and_then(|first| first.to_str());
    if first.is_some_and(|first| first.starts_with("--conf")) {
        arguments.insert(1, "serve".into());
    }
    arguments
}
