//! Everything that a gateway is started with, as one snapshot: configuration, API definitions,
//! policies.
//!
//! ```
//! use std::path::Path;
//! use tollgate_gateway::{load::{self, LoadOptions}, reference::Environment};
//!
//! let options = LoadOptions::default();
//! let (loaded, report) = load::load(Path::new("no-such.conf"), &Environment::default(), &options);
//! assert!(loaded.is_none());
//! assert!(report.to_string().starts_with("error: no-such.conf: can not be read"));
//! ```

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use tollgate_core::{ApiId, policy::PolicySet};

use crate::{
    config::Config,
    definition::{Definition, ListenPath, Outline, outline},
    document::Document,
    overrides::Templates,
    ports::OwnPort,
    problem::{Problem, Report, Severity},
    reference::{Environment, SecretSources},
    secret_stores::SecretStores,
};

mod cross;
mod policies;
mod scripts;

/// Where keys and counters are kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Store {
    /// Where the configuration says; without a `storage` block, in the embedded store.
    #[default]
    FromConfig,
    /// In the embedded store, whatever the configuration says.
    Embedded,
}

/// Whether a secret may be used that everybody knows, or none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DefaultSecret {
    /// It stops the start.
    #[default]
    Refused,
    /// It may.
    Allowed,
}

/// What the command line says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LoadOptions {
    /// Where keys and counters are kept.
    pub store: Store,
    /// Whether a secret may be used that everybody knows.
    pub default_secret: DefaultSecret,
}

/// A snapshot. Never changes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<Config>,
    /// The APIs, in the order of their files.
    pub apis: Vec<Api>,
    /// The policies.
    pub policies: PolicySet,
    /// Templates of refusals.
    pub templates: Arc<Templates>,
    /// Vault and Consul, with what they answered.
    pub secret_stores: Arc<SecretStores>,
    /// Whether no API is served yet, as the file of policies is not there.
    pub lacks_policies: bool,
}

/// An API, whether it can be served or not.
#[derive(Clone, Debug)]
pub enum Api {
    /// It can be served.
    Served(Arc<ServedApi>),
    /// It says itself that it is not to be served.
    Inactive(Arc<ServedApi>),
    /// It can not be served: its listen path answers 503.
    Refused(RefusedApi),
}

/// An API that can be served.
#[derive(Clone, Debug)]
pub struct ServedApi {
    /// Its file.
    pub file: PathBuf,
    /// What it is.
    pub definition: Definition,
    /// Its listen path; `None` for an internal API without one.
    pub listen_path: Option<ListenPath>,
    /// Its host, in small letters; `None` for any.
    pub host: Option<String>,
    /// Its own port; `None` where it shares that of the gateway.
    pub own_port: Option<OwnPort>,
}

/// An API that can not be served.
#[derive(Clone, Debug)]
pub struct RefusedApi {
    /// Its file.
    pub file: PathBuf,
    /// Its id, as far as it could be read.
    pub id: ApiId,
    /// The listen path that answers 503; `None` where none could be read, or another API has it.
    pub listen_path: Option<ListenPath>,
    /// Its host, in small letters; `None` for any.
    pub host: Option<String>,
    /// Its own port; `None` where it shares that of the gateway.
    pub own_port: Option<u16>,
    /// Why.
    pub problems: Vec<Problem>,
}

impl ServedApi {
    /// The port that is opened for it; `None` where it has none, or no public path.
    pub fn listens_on(&self) -> Option<OwnPort> {
        let is_public = !self.definition.internal && self.listen_path.is_some();
        self.own_port.filter(|_| is_public)
    }
}

impl Api {
    /// Its file.
    pub fn file(&self) -> &Path {
        match self {
            Self::Served(api) | Self::Inactive(api) => &api.file,
            Self::Refused(api) => &api.file,
        }
    }

    /// Its id; empty where it has none.
    pub fn id(&self) -> &ApiId {
        match self {
            Self::Served(api) | Self::Inactive(api) => &api.definition.api_id,
            Self::Refused(api) => &api.id,
        }
    }

    /// What becomes of it, in a word.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Served(_) => "served",
            Self::Inactive(_) => "inactive",
            Self::Refused(_) => "refused",
        }
    }
}

impl Loaded {
    /// The APIs that are served.
    pub fn served(&self) -> impl Iterator<Item = &Arc<ServedApi>> {
        self.apis.iter().filter_map(|api| match api {
            Api::Served(api) => Some(api),
            _ => None,
        })
    }

    /// Files that the definitions of APIs and the configuration name, and that are read with them: PEM of
    /// certificates and keys for upstreams, and templates of refusals.
    pub fn named_files(&self) -> Vec<PathBuf> {
        let of_api = self.served().flat_map(|api| {
            let definition = &api.definition;
            let keys = &definition.pinned_public_keys;
            definition
                .upstream_certificates
                .values()
                .chain(keys.values())
        });
        let security = &self.config.security;
        let of_all = security.certificates.upstream.values();
        let of_all = of_all.chain(security.pinned_public_keys.values());
        let names = of_api.chain(of_all).flat_map(|names| names.split(','));
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let files: BTreeSet<_> = names.map(PathBuf::from).collect();
        let files = files.into_iter();
        let files = files.filter(|file| file.is_absolute() || file.exists());
        files.chain(self.templates.files()).collect()
    }

    /// The APIs that answer 503.
    pub fn refused(&self) -> impl Iterator<Item = &RefusedApi> {
        self.apis.iter().filter_map(|api| match api {
            Api::Refused(api) => Some(api),
            _ => None,
        })
    }
}

/// Reads everything. There is no snapshot where the configuration or the policies can not be used; where
/// the file of policies is not there, it is one without APIs. A definition that can not be used is
/// [`Api::Refused`], and an error in the report.
pub fn load(
    file: &Path,
    environment: &Environment,
    options: &LoadOptions,
) -> (Option<Loaded>, Report) {
    let (config, mut report) = Config::load(file, environment, options);
    let Some(config) = config else {
        return (None, report);
    };
    let config = Arc::new(config);
    let (loaded, more) = load_with(config.clone(), environment);
    report.extend(more.problems);
    let record_file = Path::new(&config.policies.policy_record_name);
    let lacks_policies =
        loaded.is_none() && config.policies.policy_path.is_empty() && !record_file.exists();
    if lacks_policies {
        let message = "no API is served until a reload finds it";
        report.push(Problem::warning(record_file, message));
    }
    let without = || Loaded {
        config,
        apis: Vec::new(),
        policies: PolicySet::default(),
        templates: Arc::default(),
        secret_stores: Arc::default(),
        lacks_policies: true,
    };
    (loaded.or_else(|| lacks_policies.then(without)), report)
}

/// Reads what the configuration names: definitions and policies. As [`load`], but there is no snapshot
/// without the file of policies.
pub fn load_with(config: Arc<Config>, environment: &Environment) -> (Option<Loaded>, Report) {
    let mut report = Report::default();
    let secret_stores = Arc::new(SecretStores::new(&config.kv));
    let sources = SecretSources {
        config: &config,
        environment,
        stores: &secret_stores,
    };
    let mut apis = apis(sources, &mut report);
    report.extend(cross::separate(&mut apis));
    report.extend(cross::check_ways(&apis));
    let ids = apis.iter().map(Api::id).collect();
    let (templates, problems) = Templates::read(Path::new(&config.template_path));
    let templates = Arc::new(templates);
    report.extend(problems);
    let Some(policies) = policies::load(&config, &ids, &mut report) else {
        return (None, report);
    };
    (
        Some(Loaded {
            config,
            apis,
            policies,
            templates,
            secret_stores,
            lacks_policies: false,
        }),
        report,
    )
}

/// The definitions of `app_path`, by file name.
fn apis(sources: SecretSources<'_>, report: &mut Report) -> Vec<Api> {
    let config = sources.config;
    if config.app_path.is_empty() {
        return Vec::new();
    }
    let files = match json_files(Path::new(&config.app_path)) {
        Ok(files) => files,
        Err(problem) => {
            report.push(problem);
            return Vec::new();
        }
    };
    let is_companion = |file: &PathBuf| {
        let name = file
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let base = name
            .strip_suffix("-oas")
            .or_else(|| name.strip_suffix("-mcp"));
        base.is_some_and(|base| files.contains(&file.with_file_name(format!("{base}.json"))))
    };
    let own = files.iter().filter(|file| !is_companion(file));
    own.map(|file| api(file, sources, report)).collect()
}

fn api(file: &Path, sources: SecretSources<'_>, report: &mut Report) -> Api {
    let config = sources.config;
    let document = match check_place(file).and_then(|()| Document::read(file)) {
        Ok(document) => document,
        Err(problem) => {
            report.push(problem.clone());
            return refused(file, Outline::default(), config, vec![problem]);
        }
    };
    let outline = outline(&document.tree);
    let (definition, mut found) = Definition::from_document(document, sources);
    if let Some(definition) = &definition {
        found.extend(scripts::check(file, definition, config));
    }
    let errors: Vec<_> = found.of(Severity::Error).cloned().collect();
    report.extend(found.problems);
    let Some(definition) = definition.filter(|_| errors.is_empty()) else {
        return refused(file, outline, config, errors);
    };
    let api = Arc::new(ServedApi {
        file: file.to_owned(),
        listen_path: ListenPath::clean(&definition.proxy.listen_path),
        host: definition.host(config),
        own_port: definition.own_port(config),
        definition,
    });
    if api.definition.is_active(config) {
        Api::Served(api)
    } else {
        Api::Inactive(api)
    }
}

fn refused(file: &Path, outline: Outline, config: &Config, problems: Vec<Problem>) -> Api {
    let own_port = outline.listen_port.map(|port| config.own_port(port));
    let has_place = matches!(own_port, Some(Ok(_)));
    Api::Refused(RefusedApi {
        file: file.to_owned(),
        id: outline.api_id.into(),
        // Where it is not known whose port it would be served on, it is told on none.
        listen_path: ListenPath::clean(&outline.listen_path).filter(|_| has_place),
        host: config.host_of(&outline.domain),
        own_port: own_port.and_then(Result::ok).flatten(),
        problems,
    })
}

/// A link may not lead out of its folder: who can put one there shall not choose what is read.
pub(crate) fn check_place(file: &Path) -> Result<(), Problem> {
    if !file.is_symlink() {
        return Ok(());
    }
    let folder = file.parent().map(Path::canonicalize);
    let (Some(Ok(folder)), Ok(target)) = (folder, file.canonicalize()) else {
        return Err(Problem::error(file, "a link that leads nowhere"));
    };
    if target.starts_with(folder) {
        return Ok(());
    }
    let help = "put the file itself there, or name its folder in the configuration";
    Err(Problem::error(file, "a link that leads out of its folder").help(help))
}

/// The files of a folder that end in `.json`, by name.
fn json_files(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let unreadable =
        |err: std::io::Error| Problem::error(folder, format!("can not be read: {err}"));
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "json") && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
