//! `tollgate check`: looks at the files and tells what is wrong.

use std::{
    io::{self, Write},
    path::Path,
};

use serde::Serialize;
use tollgate_gateway::{
    load::{self, Api, Loaded},
    problem::{Problem, Report, Severity},
    reference::Environment,
};

use crate::Files;

/// What `check` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    files: Files,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Ends with 1 where there are warnings.
    #[arg(long)]
    strict: bool,
}

/// Looks at the files and prints what was found: 0 is fine, 1 warnings with `--strict`, 2 errors.
pub(crate) fn run(arguments: &Arguments, environment: &Environment) -> io::Result<i32> {
    let options = arguments.files.options();
    let (loaded, report) = load::load(&arguments.files.conf, environment, &options);
    let mut out = io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &Answer::new(loaded.as_ref(), &report))?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
        writeln!(out, "{}", summary(loaded.as_ref(), &report))?;
    }
    out.flush()?;
    Ok(
        match (
            report.has_errors(),
            report.has_warnings() && arguments.strict,
        ) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        },
    )
}

fn summary(loaded: Option<&Loaded>, report: &Report) -> String {
    let errors = report.of(Severity::Error).count();
    let warnings = report.of(Severity::Warning).count();
    let found = format!("errors: {errors}, warnings: {warnings}");
    match loaded {
        Some(loaded) => {
            let count = |state: &str| {
                loaded
                    .apis
                    .iter()
                    .filter(|api| api.state() == state)
                    .count()
            };
            let refused = match loaded.policies.unusable().len() {
                0 => String::new(),
                count => format!(", {count} refused"),
            };
            format!(
                "{found}; APIs: {} served, {} refused, {} inactive; policies: {}{}",
                count("served"),
                count("refused"),
                count("inactive"),
                loaded.policies.len(),
                refused,
            )
        }
        None => format!("{found}; nothing can be served"),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    errors: usize,
    warnings: usize,
    problems: &'a [Problem],
    /// Null where nothing can be served, as are the numbers of policies.
    apis: Option<Vec<ApiAnswer<'a>>>,
    policies: Option<usize>,
    policies_refused: Option<usize>,
}

#[derive(Serialize)]
struct ApiAnswer<'a> {
    api_id: &'a str,
    file: &'a Path,
    state: &'a str,
}

impl<'a> Answer<'a> {
    fn new(loaded: Option<&'a Loaded>, report: &'a Report) -> Self {
        let api = |api: &'a Api| ApiAnswer {
            api_id: api.id().as_str(),
            file: api.file(),
            state: api.state(),
        };
        Self {
            errors: report.of(Severity::Error).count(),
            warnings: report.of(Severity::Warning).count(),
            problems: &report.problems,
            apis: loaded.map(|loaded| loaded.apis.iter().map(api).collect()),
            policies: loaded.map(|loaded| loaded.policies.len()),
            policies_refused: loaded.map(|loaded| loaded.policies.unusable().len()),
        }
    }
}
