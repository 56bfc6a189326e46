//! `tollgate key import`: keys from lines of JSON, many at a time.
//!
//! A line that was imported can be imported again: it then replaces what it made. So a run that was
//! broken off is begun anew, or goes on at the line that it named.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use tokio::task::JoinSet;

use super::{
    connection::Connection,
    output::{self, Progress},
    path_of,
};

/// How many requests are under way at a time.
const AT_ONCE: usize = 64;
/// The longest line, in bytes: what the control API reads of a body.
const LONGEST: usize = 4 << 20;

/// What `import` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Lines as `export` writes them; `-` is the standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Looks at every line, and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Passes over the lines before this one.
    #[arg(long, value_name = "LINE", default_value_t = 1)]
    from_line: u64,
}

/// A line that was read.
#[derive(Deserialize)]
struct Exported<'a> {
    key: String,
    #[serde(borrow)]
    session: &'a RawValue,
}

/// As much of a session as decides whether it is sent.
#[derive(Deserialize)]
struct Ends {
    #[serde(default)]
    expires: Option<i64>,
}

/// What became of a line.
enum Outcome {
    Created,
    Updated,
    /// The key has ended; it is not made again.
    Ended,
    Failed {
        key: String,
        reason: String,
    },
}

#[derive(Default)]
struct Counts {
    created: u64,
    updated: u64,
    ended: u64,
    failed: u64,
}

pub(super) async fn run(
    connection: Connection,
    arguments: Arguments,
    json: bool,
) -> anyhow::Result<i32> {
    let told = || arguments.file.display().to_string();
    let input: Box<dyn Read> = if arguments.file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(&arguments.file).with_context(told)?)
    };
    let mut import = Import {
        connection,
        is_dry: arguments.dry_run,
        json,
        counts: Counts::default(),
        under_way: JoinSet::new(),
        open: BTreeSet::new(),
        progress: Progress::new(),
    };
    let mut lines = Lines::new(input);
    while let Some(line) = lines.next().with_context(told)? {
        if lines.number < arguments.from_line || line.trim_ascii().is_empty() {
            continue;
        }
        import.start(lines.number, line).await?;
    }
    while !import.under_way.is_empty() {
        import.finish_one().await?;
    }
    import.progress.clear()?;
    import.tell_counts()?;
    Ok(i32::from(import.counts.failed > 0))
}

/// Lines of bounded length.
struct Lines {
    input: BufReader<Box<dyn Read>>,
    number: u64,
}

impl Lines {
    fn new(input: Box<dyn Read>) -> Self {
        Self {
            input: BufReader::new(input),
            number: 0,
        }
    }

    fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.input).take(LONGEST as u64 + 1);
        bounded.read_until(b'\n', &mut line)?;
        self.number += 1;
        match line.len() {
            0 => Ok(None),
            length if LONGEST < length => {
                bail!("line {} is longer than {LONGEST} bytes", self.number)
            }
            _ => Ok(Some(line)),
        }
    }
}

struct Import {
    connection: Connection,
    is_dry: bool,
    json: bool,
    counts: Counts,
    under_way: JoinSet<(u64, anyhow::Result<Outcome>)>,
    open: BTreeSet<u64>, // Lines that are under way.
    progress: Progress,
}

impl Import {
    async fn start(&mut self, number: u64, line: Vec<u8>) -> anyhow::Result<()> {
        if AT_ONCE <= self.under_way.len() {
            self.finish_one().await?;
        }
        let (connection, is_dry) = (self.connection.clone(), self.is_dry);
        self.open.insert(number);
        self.under_way
            .spawn(async move { (number, import(&connection, &line, is_dry).await) });
        Ok(())
    }

    async fn finish_one(&mut self) -> anyhow::Result<()> {
        let Some(done) = self.under_way.join_next().await else {
            return Ok(());
        };
        let (number, outcome) = done?;
        let outcome = outcome.with_context(|| {
            // Later lines may be done already; they do no harm when they are done again.
            let first = self.open.first().copied().unwrap_or(number);
            format!("broken off; --from-line {first} goes on")
        })?;
        self.open.remove(&number);
        match outcome {
            Outcome::Created => self.counts.created += 1,
            Outcome::Updated => self.counts.updated += 1,
            Outcome::Ended => self.counts.ended += 1,
            Outcome::Failed { key, reason } => {
                self.counts.failed += 1;
                self.tell_failure(number, &key, &reason)?;
            }
        }
        let Counts {
            created,
            updated,
            ended,
            failed,
        } = self.counts;
        self.progress.tell(created + updated + ended + failed)?;
        Ok(())
    }

    fn tell_failure(&self, number: u64, key: &str, reason: &str) -> io::Result<()> {
        if self.json {
            let failure = json!({"line": number, "key": key, "reason": reason});
            return output::line(&failure.to_string());
        }
        self.progress.clear()?;
        output::complain(&format!("line {number}: {reason}"))
    }

    fn tell_counts(&self) -> io::Result<()> {
        let Counts {
            created,
            updated,
            ended,
            failed,
        } = self.counts;
        if self.json {
            let counts = json!({
                "created": created, "updated": updated, "ended": ended, "failed": failed,
                "dry_run": self.is_dry,
            });
            return output::line(&counts.to_string());
        }
        let ended = match ended {
            0 => String::new(),
            ended => format!(", passed over as ended: {ended}"),
        };
        let dry = if self.is_dry {
            "; nothing was written"
        } else {
            ""
        };
        output::line(&format!(
            "created: {created}, updated: {updated}, failed: {failed}{ended}{dry}"
        ))
    }
}

/// Imports one line. An error is one of all lines: the gateway does not answer, or lets nobody in.
async fn import(connection: &Connection, line: &[u8], is_dry: bool) -> anyhow::Result<Outcome> {
    let failed = |key: &str, reason: String| {
        let key = key.to_owned();
        Ok(Outcome::Failed { key, reason })
    };
    let Ok(Exported { key, session }) = serde_json::from_slice(line) else {
        return failed("", "expected {\"key\": …, \"session\": {…}}".to_owned());
    };
    if key.is_empty() {
        return failed("", "the key has no name".to_owned());
    }
    let ends = serde_json::from_str(session.get()).ok();
    let ends = ends.and_then(|ends: Ends| ends.expires).unwrap_or_default();
    if 0 < ends && ends < Timestamp::now().as_second() {
        return Ok(Outcome::Ended);
    }
    let dry = if is_dry { "&dry_run=true" } else { "" };
    let path = format!("{}?create=true{dry}", path_of(&key));
    let body = Bytes::copy_from_slice(session.get().as_bytes());
    let reply = connection.ask_text("PUT", &path, body).await?;
    match (reply.status, reply.done()) {
        (201, _) => Ok(Outcome::Created),
        (_, Ok(_)) => Ok(Outcome::Updated),
        (403 | 503, Err(reason)) => bail!(reason),
        (_, Err(reason)) => failed(&key, reason),
    }
}
