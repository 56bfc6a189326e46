//! The `tollgate` program.

use clap::Parser;

/// An API gateway that takes Tyk's own files.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {}

fn main() -> anyhow::Result<()> {
    let Arguments {} = Arguments::parse();
    Ok(())
}
