//! What came of a transfer, told to people and programs.

use std::{collections::BTreeMap, io};

use serde::Serialize;
use serde_json::json;
use tollgate_core::token::HashFunction;
use tollgate_gateway::load::Loaded;

use super::{Common, Findings, Moved};
use crate::output;

/// How many failures are told one by one.
const MOST: usize = 1000;

/// What became of a record.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Became {
    Made,
    Updated,
    /// It is there, and as it was to be.
    Same,
    /// What is there is newer.
    Kept,
    /// It went while it was looked for.
    #[default]
    Gone,
    Failed(String),
}

/// How many records became what.
#[derive(Default, Serialize)]
struct Tally {
    made: u64,
    updated: u64,
    same: u64,
    kept: u64,
    failed: u64,
}

impl Tally {
    fn all(&self) -> u64 {
        self.made + self.updated + self.same + self.kept + self.failed
    }
}

#[derive(Serialize)]
struct Failure {
    name: String,
    reason: String,
}

pub(super) struct Report {
    is_dry: bool,
    json: bool,
    hashes: bool,
    keys: Tally,
    organisations: Tally,
    quotas: u64,
    quotas_there: u64,
    others: BTreeMap<&'static str, u64>,
    failures: Vec<Failure>,
}

impl Report {
    pub(super) fn new(arguments: &Common, files: &Loaded) -> Self {
        Self {
            is_dry: arguments.dry_run,
            json: arguments.json,
            hashes: files.config.hash_keys,
            keys: Tally::default(),
            organisations: Tally::default(),
            quotas: 0,
            quotas_there: 0,
            others: BTreeMap::new(),
            failures: Vec::new(),
        }
    }

    pub(super) fn looked_at(&self) -> u64 {
        self.keys.all() + self.organisations.all()
    }

    pub(super) fn count(
        &mut self,
        is_organisation: bool,
        name: &str,
        moved: &Moved,
    ) -> io::Result<()> {
        let tally = if is_organisation {
            &mut self.organisations
        } else {
            &mut self.keys
        };
        self.quotas += moved.quotas;
        match &moved.became {
            Became::Made => tally.made += 1,
            Became::Updated => tally.updated += 1,
            Became::Same => tally.same += 1,
            Became::Kept => tally.kept += 1,
            Became::Gone => {}
            Became::Failed(reason) => {
                tally.failed += 1;
                // A name that is not hashed is a token.
                let name = if self.hashes || is_organisation {
                    name.to_owned()
                } else {
                    let hash = HashFunction::Murmur64.hash(name);
                    format!("the key of hash {}", hash.as_str())
                };
                let reason = reason.clone();
                if !self.json && self.failures.len() < MOST {
                    output::complain(&format!("{name}: {reason}"))?;
                }
                if self.failures.len() < MOST {
                    self.failures.push(Failure { name, reason });
                }
            }
        }
        Ok(())
    }

    /// Counts what else lies beside the records, by what it is.
    pub(super) fn other(&mut self, name: &str) {
        self.quotas_there += u64::from(name.starts_with("quota-"));
        if let Some(kind) = kind(name) {
            *self.others.entry(kind).or_default() += 1;
        }
    }

    /// Prints what came of it, and tells the exit code.
    pub(super) fn tell(&self, findings: Option<&Findings>) -> io::Result<i32> {
        let failed = self.keys.failed + self.organisations.failed;
        if self.json {
            output::json(&json!({
                "dry_run": self.is_dry,
                "keys": self.keys,
                "organisations": self.organisations,
                "quotas": {"moved": self.quotas, "there": self.quotas_there},
                "findings": findings,
                "left": self.others,
                "failures": self.failures,
                "failures_left_out": failed.saturating_sub(self.failures.len() as u64),
            }))?;
        } else {
            self.tell_lines(findings)?;
        }
        Ok(i32::from(failed > 0))
    }

    fn tell_lines(&self, findings: Option<&Findings>) -> io::Result<()> {
        for (what, tally) in [("keys", &self.keys), ("organisations", &self.organisations)] {
            let Tally {
                made,
                updated,
                same,
                kept,
                failed,
            } = tally;
            output::line(&format!(
                "{what}: {made} made, {updated} updated, {same} there already, {kept} newer there, {failed} failed"
            ))?;
        }
        let there = match self.quotas_there {
            0 => String::new(), // Not looked for.
            there => format!(", of {there} there"),
        };
        output::line(&format!("running quotas: {} moved{there}", self.quotas))?;
        for line in findings.into_iter().flat_map(Findings::lines) {
            output::line(&line)?;
        }
        for (kind, count) in &self.others {
            output::line(&format!("left where they are: {count} of {kind}"))?;
        }
        if self.is_dry {
            output::line("nothing was written")?;
        }
        Ok(())
    }
}

/// What a name in Tyk's Redis is of that is not moved; `None` for what is, or passes by itself.
fn kind(name: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 7] = [
        ("oauth-data.", "OAuth clients and tokens"),
        ("cert-", "certificates"),
        ("coprocess-data:", "the storage of plugins"),
        ("jsvm-store:", "the storage of plugins"),
        ("rpc:", "backups of a hub's definitions and policies"),
        ("analytics-", "analytics that wait for a pump"),
        ("tollgate:{org:", "counters of organisations"),
    ];
    let of_key = |(begins, kind): &(&str, &'static str)| name.starts_with(begins).then_some(*kind);
    KINDS.iter().find_map(of_key)
}
