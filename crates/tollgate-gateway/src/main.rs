//! The `tollgate` program.

use std::{path::PathBuf, process};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tollgate_gateway::{
    load::{DefaultSecret, LoadOptions, Store},
    reference::Environment,
};

mod check;

/// An API gateway that takes Tyk's own files.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Looks at configuration, API definitions and policies, and tells what is wrong with them.
    Check(check::Arguments),
}

/// What every command that reads the files takes.
#[derive(Debug, Args)]
struct Files {
    /// The configuration: Tyk's `tyk.conf`, or the same as `.toml` or `.yaml`.
    #[arg(long, value_name = "FILE")]
    conf: PathBuf,
    /// Keeps keys and counters here, whatever the configuration says.
    #[arg(long, value_name = "STORE")]
    store: Option<StoreName>,
    /// Takes a secret that everybody knows, or none.
    #[arg(long)]
    allow_default_secret: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StoreName {
    /// A file of this machine.
    Embedded,
}

impl Files {
    fn options(&self) -> LoadOptions {
        LoadOptions {
            store: match self.store {
                Some(StoreName::Embedded) => Store::Embedded,
                None => Store::FromConfig,
            },
            default_secret: if self.allow_default_secret {
                DefaultSecret::Allowed
            } else {
                DefaultSecret::Refused
            },
        }
    }
}

fn main() -> anyhow::Result<()> {
    let environment = Environment::of_process();
    let code = match Arguments::parse().command {
        Command::Check(arguments) => check::run(&arguments, &environment)?,
    };
    process::exit(code)
}
