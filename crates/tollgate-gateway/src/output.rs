//! What is printed: tables for people, JSON for programs, progress where somebody looks.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use serde_json::Value;

/// A member that is a text; empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// One JSON value, indented.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// One line.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// One line beside the answer.
pub(crate) fn complain(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{text}")
}

/// Names and values, one pair a line.
pub(crate) fn members(members: &[(&str, String)]) -> io::Result<()> {
    let widest = members.iter().map(|(name, _)| name.len()).max();
    let mut out = io::stdout().lock();
    for (name, value) in members {
        writeln!(
            out,
            "{name:width$}  {value}",
            width = widest.unwrap_or_default()
        )?;
    }
    Ok(())
}

/// Rows under a heading, in columns as wide as they need to be.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let mut widths = head.map(|name| name.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = io::stdout().lock();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("{cell:width$}"));
        let line: Vec<String> = cells.collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

/// How far long work has come, on a terminal.
pub(crate) struct Progress {
    is_shown: bool,
    told: Instant,
}

impl Progress {
    const PAUSE: Duration = Duration::from_millis(100);

    pub(crate) fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            told: Instant::now(),
        }
    }

    /// Tells how many are done, unless it was told just now.
    pub(crate) fn tell(&mut self, done: u64) -> io::Result<()> {
        if !self.is_shown || self.told.elapsed() < Self::PAUSE {
            return Ok(());
        }
        self.told = Instant::now();
        let mut err = io::stderr().lock();
        write!(err, "\r{done} keys")?;
        err.flush()
    }

    /// Clears the line, for others to write.
    pub(crate) fn clear(&self) -> io::Result<()> {
        if self.is_shown {
            write!(io::stderr().lock(), "\r\x1b[K")?;
        }
        Ok(())
    }
}
