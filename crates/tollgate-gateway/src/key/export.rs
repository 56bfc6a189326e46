//! `tollgate key export`: keys as lines of JSON, page by page.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::json;

use super::{
    connection::Connection,
    list::{Filters, Pages},
    output::{self, Progress},
};

/// What `export` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filters: Filters,
    /// Where it is written, once all of it is there; the standard output where not given. Only its
    /// owner may read the file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run(connection: &Connection, arguments: &Arguments) -> anyhow::Result<i32> {
    let mut pages = Pages::new(connection, &arguments.filters, None, true);
    let Some(file) = &arguments.output else {
        write_all(&mut pages, BufWriter::new(io::stdout())).await?;
        return Ok(0);
    };
    let told = || file.display().to_string();
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let out = private(&part).with_context(told)?;
    let written = write_all(&mut pages, BufWriter::new(out)).await;
    let moved = written.and_then(|count| {
        fs::rename(&part, file).with_context(told)?;
        Ok(count)
    });
    let count = moved.inspect_err(|_| drop(fs::remove_file(&part)))?;
    output::complain(&format!("keys in {}: {count}", file.display()))?;
    Ok(0)
}

/// A new file that others can not read.
fn private(path: &Path) -> io::Result<File> {
    let _ = fs::remove_file(path); // Of a run that was ended.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

async fn write_all(pages: &mut Pages<'_>, mut out: impl Write) -> anyhow::Result<u64> {
    let mut progress = Progress::new();
    let mut count = 0;
    while let Some(page) = pages.next(usize::MAX).await? {
        for mut key in page {
            let line = json!({"key": key["key"].take(), "session": key["session"].take()});
            serde_json::to_writer(&mut out, &line)?;
            out.write_all(b"\n")?;
            count += 1;
        }
        progress.tell(count)?;
    }
    out.flush()?;
    progress.clear()?;
    Ok(count)
}
