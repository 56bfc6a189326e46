//! `tollgate check`: looks at the files, and where it is asked to at the store, and tells what is wrong.

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

use crate::{Files, StoreName};

mod store;

use self::store::Looked;
pub(crate) use self::store::tell_of;

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
    let conf = &arguments.files.conf;
    let (loaded, mut report) = load::load(conf, environment, &options);
    let asks = arguments.files.store == Some(StoreName::Configured);
    let looked = match loaded.as_ref().filter(|_| asks) {
        Some(loaded) => {
            let (looked, problems) = store::look(&loaded.config, conf)?;
            report.extend(problems);
            Some(looked)
        }
        None => None,
    };
    let mut out = io::stdout().lock();
    if arguments.json {
        let answer = Answer::new(loaded.as_ref(), looked.as_ref(), &report);
        serde_json::to_writer_pretty(&mut out, &answer)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
        for line in looked.iter().flat_map(Looked::lines) {
            writeln!(out, "{line}")?;
        }
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
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'a Looked>,
}

#[derive(Serialize)]
struct ApiAnswer<'a> {
    api_id: &'a str,
    file: &'a Path,
    state: &'a str,
}

impl<'a> Answer<'a> {
    fn new(loaded: Option<&'a Loaded>, store: Option<&'a Looked>, report: &'a Report) -> Self {
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
            store,
        }
    }
}
