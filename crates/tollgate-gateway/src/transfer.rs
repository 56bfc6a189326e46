//! `tollgate import` and `tollgate export`: keys, organisations and running quotas between this gateway's store and
//! the Redis of a Tyk that may be running.
//!
//! One store is read a page at a time and the other written by compare-and-set, so both may be in use. What is newer
//! where it would be written stays. A run that was broken off is begun anew, or goes on where it says.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use futures_util::{StreamExt, stream};
use tollgate_core::{
    ErrorChain, Session, StoreError,
    pass::quota_counter,
    store::{Expect, ListQuery, Loaded, StoreErrorKind},
};
use tollgate_gateway::{
    config::Config,
    load::{self, DefaultSecret, LoadOptions, Store},
    problem::Severity,
    reference::Environment,
    storage,
};
use tollgate_redis::{Naming, RedisOptions};

use crate::{
    output::{self, Progress},
    start,
};

mod findings;
mod report;
mod side;

use self::{
    findings::Findings,
    report::{Became, Report},
    side::Side,
};

/// How many records are under way at a time.
const AT_ONCE: usize = 64;
/// How many names a page has.
const PAGE: usize = 1000;
/// How long a call may take: a gateway's deadline is for requests that wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a record is looked at again that others changed meanwhile.
const TRIES: u32 = 5;

/// What `import` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Import {
    /// The Redis of the Tyk, as `redis://host:6379/0`; several are a cluster. Where not given, TOLLGATE_REDIS, which
    /// other users of the machine do not see.
    #[arg(long, value_name = "URL")]
    from: Vec<String>,
    /// The Tyk's own configuration: its `storage` says where its Redis is.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    from_conf: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// What `export` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Export {
    /// The Redis of the Tyk, as `redis://host:6379/0`; several are a cluster. Where not given, TOLLGATE_REDIS, which
    /// other users of the machine do not see.
    #[arg(long, value_name = "URL")]
    to: Vec<String>,
    /// The Tyk's own configuration: its `storage` says where its Redis is, and its `node_secret` signs notices.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    to_conf: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 not done or not all of it, 2 not understood.";

/// What both take.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    files: crate::Files,
    /// The file of the embedded store; beside the configuration where not given.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Looks at everything, and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replaces also what is newer where it is written.
    #[arg(long)]
    overwrite: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Goes on where a run was broken off, as that said.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Takes what a Tyk's Redis has, and tells the exit code.
pub(crate) fn import(arguments: Import, environment: &Environment) -> anyhow::Result<i32> {
    let Import {
        from,
        from_conf,
        common,
    } = arguments;
    let tyks = tyks_redis("--from", from, from_conf.as_deref())?;
    common.run(environment, tyks, Direction::Here)
}

/// Puts what this gateway has into a Tyk's Redis, and tells the exit code.
pub(crate) fn export(arguments: Export, environment: &Environment) -> anyhow::Result<i32> {
    let Export {
        to,
        to_conf,
        common,
    } = arguments;
    let tyks = tyks_redis("--to", to, to_conf.as_deref())?;
    common.run(environment, tyks, Direction::There)
}

/// Which way records go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    /// Into this gateway's store.
    Here,
    /// Into the Tyk's Redis.
    There,
}

const OPTIONS: LoadOptions = LoadOptions {
    store: Store::FromConfig,
    default_secret: DefaultSecret::Allowed,
};

/// How the Tyk's Redis is reached.
fn tyks_redis(
    option: &str,
    urls: Vec<String>,
    conf: Option<&Path>,
) -> anyhow::Result<RedisOptions> {
    if let Some(conf) = conf {
        // Variables of this process are this gateway's.
        let (config, report) = Config::load(conf, &Environment::default(), &OPTIONS);
        let config = config.with_context(|| {
            let mut errors = report.of(Severity::Error).map(ToString::to_string);
            errors.next().unwrap_or_else(|| conf.display().to_string())
        })?;
        let redis = storage::redis(&config);
        let redis = redis.with_context(|| format!("{}: has no `storage`", conf.display()))?;
        return Ok(for_moving(redis?));
    }
    if urls.iter().any(|url| url.contains('@')) {
        let message = format!("the password in {option} can be read by every user of this machine");
        output::complain(&message)?;
    }
    let urls = if urls.is_empty() {
        let variable = std::env::var("TOLLGATE_REDIS").ok();
        variable.into_iter().filter(|url| !url.is_empty()).collect()
    } else {
        urls
    };
    let redis = match &*urls {
        [] => bail!("which Redis? {option}, {option}-conf or TOLLGATE_REDIS say where it is"),
        [url] => RedisOptions::single(url).map(|redis| redis.naming(Naming::Tyk)),
        nodes => RedisOptions::cluster(&nodes.iter().map(String::as_str).collect::<Vec<_>>()),
    };
    let redis = redis.with_context(|| option.to_owned())?;
    Ok(for_moving(redis))
}

/// Others are told a page at a time, and nobody waits for an answer but this.
fn for_moving(redis: RedisOptions) -> RedisOptions {
    redis.notices(false).deadline(PATIENCE)
}

impl Common {
    fn run(
        self,
        environment: &Environment,
        tyks: RedisOptions,
        direction: Direction,
    ) -> anyhow::Result<i32> {
        let options = LoadOptions {
            default_secret: DefaultSecret::Allowed,
            ..self.files.options()
        };
        let conf = &self.files.conf;
        let (files, problems) = load::load(conf, environment, &options);
        let Some(files) = files else {
            start::tell(&problems);
            bail!("the configuration can not be used");
        };
        let own = storage::redis(&files.config).filter(|_| options.store == Store::FromConfig);
        let own = own.transpose()?;
        let data = self.data.clone();
        let data = data.unwrap_or_else(|| crate::store_file(conf));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let tyks = Side::redis(tyks, "the Redis of the Tyk").await?;
            let own = match own {
                Some(redis) => Side::redis(for_moving(redis), "the Redis of `storage`").await?,
                None => Side::embedded(&data, direction == Direction::Here)?,
            };
            let (from, to) = match direction {
                Direction::Here => (&tyks, &own),
                Direction::There => (&own, &tyks),
            };
            let mut transfer = Transfer {
                from,
                to,
                is_dry: self.dry_run,
                overwrites: self.overwrite,
                report: Report::new(&self, &files),
                findings: (direction == Direction::Here).then(|| Findings::new(&files)),
                progress: Progress::new(),
            };
            transfer.run(self.cursor.as_deref()).await?;
            transfer.progress.clear()?;
            let code = transfer.report.tell(transfer.findings.as_ref())?;
            own.close()?;
            Ok(code)
        })
    }
}

/// What is moved one after the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Keys,
    Organisations,
    /// What else lies there is counted.
    Others,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Keys, Self::Organisations, Self::Others];

    fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Organisations => "organisations",
            Self::Others => "others",
        }
    }
}

/// What names of organisations begin with.
const ORGANISATION: &str = "orgkey.";

struct Transfer<'a> {
    from: &'a Side,
    to: &'a Side,
    is_dry: bool,
    overwrites: bool,
    report: Report,
    findings: Option<Findings>,
    progress: Progress,
}

impl Transfer<'_> {
    async fn run(&mut self, cursor: Option<&str>) -> anyhow::Result<()> {
        let (first, mut cursor) = match cursor {
            None => (Stage::Keys, None),
            Some(given) => {
                let place = given.split_once('.');
                let (stage, cursor) = place.context("--cursor: expected what a run said")?;
                let stage = Stage::ALL.into_iter().find(|known| known.name() == stage);
                let stage = stage.context("--cursor: expected what a run said")?;
                (
                    stage,
                    Some(cursor.to_owned()).filter(|text| !text.is_empty()),
                )
            }
        };
        let stages = Stage::ALL.into_iter();
        for stage in stages.skip_while(|stage| *stage != first) {
            loop {
                let next = self.page(stage, cursor.clone()).await.with_context(|| {
                    let cursor = cursor.as_deref().unwrap_or_default();
                    format!("broken off; --cursor {}.{cursor} goes on", stage.name())
                });
                cursor = next?;
                if cursor.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Moves a page, and tells where the next begins.
    async fn page(
        &mut self,
        stage: Stage,
        cursor: Option<String>,
    ) -> anyhow::Result<Option<String>> {
        if stage == Stage::Others {
            let page = self.from.names(cursor.as_deref()).await?;
            page.keys.iter().for_each(|name| self.report.other(name));
            return Ok(page.next);
        }
        let is_organisation = stage == Stage::Organisations;
        let query = ListQuery {
            prefix: if is_organisation { ORGANISATION } else { "" }.to_owned(),
            cursor,
            limit: Some(PAGE),
        };
        let page = self.from.list(&query).await?;
        let names = page.keys.into_iter();
        let names = names.filter(|name| name.starts_with(ORGANISATION) == is_organisation);
        let this = &*self;
        let moved = stream::iter(names).map(|name| async move {
            let moved = this.record(&name).await;
            (name, moved)
        });
        let moved: Vec<_> = moved.buffer_unordered(AT_ONCE).collect().await;
        let mut written = Vec::new();
        let mut broken = None;
        for (name, moved) in moved {
            match moved {
                Ok(moved) => {
                    if matches!(moved.became, Became::Made | Became::Updated) {
                        written.push(name.clone());
                    }
                    if let (Some(findings), Some(found)) = (&mut self.findings, &moved.found) {
                        findings.look(&name, found.session());
                    }
                    self.report.count(is_organisation, &name, &moved)?;
                }
                Err(error) => broken = Some(error),
            }
        }
        if !self.is_dry {
            self.to.tell_changed(&written).await?;
        }
        if let Some(error) = broken {
            return Err(error.into());
        }
        self.progress.tell(self.report.looked_at())?;
        Ok(page.next)
    }

    /// Moves one record, and what is used of its quotas. An error is one of all records: a store is away.
    async fn record(&self, name: &str) -> Result<Moved, StoreError> {
        let mut moved = Moved::default();
        let found = match self.from.get(name).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(moved), // It went meanwhile.
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                moved.became = Became::Failed(ErrorChain(&error).to_string());
                return Ok(moved);
            }
            Err(error) => return Err(error),
        };
        let lifetime = self.from.lifetime(name).await?;
        if lifetime == Some(Duration::ZERO) {
            return Ok(moved);
        }
        for _ in 0..TRIES {
            let (became, expect) = self.decide(name, &found).await?;
            moved.became = became;
            let Some(expect) = expect.filter(|_| !self.is_dry) else {
                break;
            };
            let session = Session::clone(found.session());
            match self.to.put(name, session, expect, lifetime).await {
                Ok(_) => break,
                Err(error) if error.kind() == StoreErrorKind::Conflict => {
                    let reason = "others change it again and again".to_owned();
                    moved.became = Became::Failed(reason);
                }
                Err(error) => return Err(error),
            }
        }
        if !matches!(moved.became, Became::Failed(_) | Became::Kept) {
            moved.quotas = self.quotas(name, found.session()).await?;
        }
        moved.found = Some(found);
        Ok(moved)
    }

    /// What becomes of a record, and what the write of it expects; `None` for none.
    async fn decide(
        &self,
        name: &str,
        found: &Loaded,
    ) -> Result<(Became, Option<Expect>), StoreError> {
        let there = match self.to.get(name).await {
            Ok(Some(there)) => there,
            Ok(None) => return Ok((Became::Made, Some(Expect::Absent))),
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                return Ok(if self.overwrites {
                    (Became::Updated, Some(Expect::Anything))
                } else {
                    let what = "a record that can not be read stands in its place";
                    (Became::Failed(what.to_owned()), None)
                });
            }
            Err(error) => return Err(error),
        };
        Ok(if lasting(there.session()) == lasting(found.session()) {
            (Became::Same, None)
        } else if self.overwrites || is_older(there.session(), found.session()) {
            let expect = Expect::Version(there.version());
            (Became::Updated, Some(expect))
        } else {
            (Became::Kept, None)
        })
    }

    /// Moves what is used of the quotas of a key, where no period runs yet; tells of how many.
    async fn quotas(&self, name: &str, session: &Session) -> Result<u64, StoreError> {
        let mut moved = 0;
        for scope in scopes(session) {
            let counter = quota_counter(name, scope);
            let Some(usage) = self.from.quota_use(&counter).await? else {
                continue;
            };
            // One that ought to end and has lost its end begins anew, as in Tyk.
            let is_broken = usage.left.is_none() && session.quota_renewal_rate > 0;
            if is_broken || usage.used == 0 {
                continue;
            }
            moved += u64::from(if self.is_dry {
                self.to.quota_use(&counter).await?.is_none()
            } else {
                self.to.begin_quota(&counter, usage).await?
            });
        }
        Ok(moved)
    }
}

/// What became of a record.
#[derive(Default)]
struct Moved {
    became: Became,
    found: Option<Arc<Loaded>>,
    quotas: u64,
}

/// The scopes that quotas of a session may be counted in: its own, and those of its APIs and policies.
fn scopes(session: &Session) -> BTreeSet<&str> {
    let rights = session.access_rights.iter();
    let of_apis = rights.flat_map(|(api, right)| [api.as_str(), right.allowance_scope.as_str()]);
    let of_policies = session.policies().iter().map(|policy| policy.as_str());
    [""].into_iter().chain(of_apis).chain(of_policies).collect()
}

/// The record without what running gateways write into it.
fn lasting(session: &Session) -> Session {
    let mut lasting = session.clone();
    (lasting.quota_remaining, lasting.quota_renews) = (0, 0);
    for right in lasting.access_rights.values_mut() {
        (right.limit.quota_remaining, right.limit.quota_renews) = (0, 0);
    }
    lasting
}

/// Whether a record was written by an administrator before another was.
fn is_older(this: &Session, other: &Session) -> bool {
    let seconds = |session: &Session| session.last_updated.parse::<i64>().unwrap_or_default();
    seconds(this) < seconds(other)
}
