//! What a session may call: APIs, their versions, their paths.
//!
//! Rights are compiled once, where a session is loaded, and read by plain functions:
//!
//! - [`AccessRights`]: the entries of a session, by API;
//! - [`ApiRights`]: one entry: its versions, its paths, its rate limits by endpoint;
//! - [`PathRules`] and [`PathPattern`]: which paths, on a [`RequestPath`] that is read once;
//! - [`version_allowed`] and [`organisation_allowed`]: two rules that need no more than their words.
//!
//! Matching allocates nothing, once a thread has met the pattern.
//!
//! Each of them has its own example; [`PathRules`] is a good start.
//!
//! # Differences from Tyk
//!
//! - Braces after an atom repeat it (`\d{3}`), and `{id:[0-9]+}` keeps its constraint.
//! - The anchors that [`PathOptions`] add hold for every alternative of a pattern.
//! - A pattern that merely occurs in the listen path opens nothing. It has to say something of the
//!   path behind, or start with the whole listen path.
//! - A key without `access_rights` passes only where [`MasterKeys::Allowed`] is said.
//! - A key of one organisation does not open an API of another, unless [`Organisations::Mixed`].
//! - The default version stands in only for a version that does not exist.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use crate::{
    ids::{ApiId, OrgId},
    rejection::Rejection,
    session::{AccessDefinition, Rights, Session},
};

mod clean;
mod endpoints;
mod literals;
mod path;
mod pattern;
mod rules;
mod translate;
mod usual;

pub use clean::{clean_path, clean_target};
pub use endpoints::{EndpointLimit, EndpointRules};
pub use path::RequestPath;
pub(crate) use pattern::compile_expression;
pub use pattern::{PathOptions, PathPattern, PatternError};
pub use rules::{PathRules, RuleProblem};

/// What a session without any `access_rights` may call.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum MasterKeys {
    /// Nothing.
    #[default]
    Refused,
    /// Every API: Tyk's `allow_master_keys`.
    Allowed,
}

/// Whether organisations are kept apart.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Organisations {
    /// What names an organisation is good for that one alone.
    #[default]
    Separate,
    /// Organisations are not compared.
    Mixed,
}

/// Whether a session of one organisation may call an API of another; a session that names none may
/// call any.
pub fn organisation_allowed(session: &OrgId, api: &OrgId, organisations: Organisations) -> bool {
    organisations == Organisations::Mixed || session.is_empty() || session == api
}

/// The versions of an API.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VersionRule {
    /// The API has no versions: those of a session are not looked at.
    pub not_versioned: bool,
    /// The version of a request that names none; empty for none.
    pub default_version: String,
    /// Whether the default version stands in for one that does not exist.
    pub fallback_to_default: bool,
    /// The versions that exist.
    pub known: Vec<String>,
}

/// Whether a session that holds `versions` may call the version that the request names.
pub fn version_allowed(versions: &[String], requested: Option<&str>, rule: &VersionRule) -> bool {
    if rule.not_versioned {
        return true;
    }
    let holds = |version: &str| versions.iter().any(|held| held == version);
    let default = rule.default_version.as_str();
    match requested.filter(|version| !version.is_empty()) {
        None => holds(default),
        Some(version) if holds(version) => true,
        Some(version) => {
            let exists = rule.known.iter().any(|known| known == version);
            rule.fallback_to_default && version != default && !exists && holds(default)
        }
    }
}

/// One entry of `access_rights`, compiled.
#[derive(Clone, Debug, Default)]
pub struct ApiRights {
    versions: Box<[String]>,
    paths: PathRules,
    endpoints: EndpointRules,
}

impl ApiRights {
    /// Compiles an entry, and tells which of its patterns can not be used.
    pub fn compile(entry: &AccessDefinition, options: PathOptions) -> (Self, Vec<RuleProblem>) {
        let (paths, mut problems) = PathRules::compile(&entry.allowed_urls, options);
        let (endpoints, more) = EndpointRules::compile(&entry.endpoints, options);
        problems.extend(more);
        let rights = Self {
            versions: entry.versions.as_slice().into(),
            paths,
            endpoints,
        };
        (rights, problems)
    }

    /// Whether the version that the request names may be called, see [`version_allowed`].
    pub fn allows_version(&self, requested: Option<&str>, rule: &VersionRule) -> bool {
        version_allowed(&self.versions, requested, rule)
    }

    /// The paths that may be called.
    pub fn paths(&self) -> &PathRules {
        &self.paths
    }

    /// The rate limits by endpoint.
    pub fn endpoints(&self) -> &EndpointRules {
        &self.endpoints
    }

    /// Whether the request may pass, by version first, then by path.
    ///
    /// # Errors
    ///
    /// [`Rejection::ApiNotGranted`], or as [`PathRules::check`].
    pub fn check(
        &self,
        version: Option<&str>,
        rule: &VersionRule,
        method: &str,
        path: &RequestPath<'_>,
    ) -> Result<(), Rejection> {
        if !self.allows_version(version, rule) {
            return Err(Rejection::ApiNotGranted);
        }
        self.paths.check(method, path)
    }
}

/// The `access_rights` of a session, compiled.
#[derive(Clone, Debug, Default)]
pub struct AccessRights {
    org: OrgId,
    apis: BTreeMap<ApiId, ApiRights>,
}

/// What a session holds of an API.
#[derive(Clone, Copy, Debug)]
pub enum Granted<'a> {
    /// An entry.
    Entry(&'a ApiRights),
    /// No entries at all: it is a master key, and those are allowed. Every path is open.
    Everything,
}

impl AccessRights {
    /// Compiles the rights of a session, and tells which of its patterns can not be used.
    ///
    /// A problem's place is as in `access_rights.orders.allowed_urls[1].url`.
    pub fn compile(session: &Session, options: PathOptions) -> (Self, Vec<RuleProblem>) {
        let (apis, problems) = compile_entries(&session.access_rights, options);
        let org = session.org_id.clone();
        (Self { org, apis }, problems)
    }

    /// What the session holds of an API.
    ///
    /// # Errors
    ///
    /// [`Rejection::ApiNotGranted`] where the API is of another organisation, or there is no entry
    /// for it.
    pub fn api(
        &self,
        api: &ApiId,
        org: &OrgId,
        master_keys: MasterKeys,
        organisations: Organisations,
    ) -> Result<Granted<'_>, Rejection> {
        if !organisation_allowed(&self.org, org, organisations) {
            return Err(Rejection::ApiNotGranted);
        }
        if self.apis.is_empty() && master_keys == MasterKeys::Allowed {
            return Ok(Granted::Everything);
        }
        let entry = self.apis.get(api).ok_or(Rejection::ApiNotGranted)?;
        Ok(Granted::Entry(entry))
    }
}

/// The rights of a session, each compiled where it is first asked: a key may hold many APIs and call
/// one. Sessions with the same rights share one of these.
#[derive(Debug)]
pub(crate) struct CompiledRights {
    rights: Rights,
    apis: Box<[(ApiId, OnceLock<Arc<ApiRights>>)]>, // Sorted by API.
}

impl CompiledRights {
    pub(crate) fn of(rights: &Rights) -> Self {
        let apis = rights.keys().map(|api| (api.clone(), OnceLock::new()));
        Self {
            rights: rights.clone(),
            apis: apis.collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.apis.len()
    }

    /// Where the entry of an API is. `guess` is a place that is looked at first.
    #[inline]
    pub(crate) fn find(&self, api: &ApiId, guess: usize) -> Option<usize> {
        if self.apis.get(guess).is_some_and(|(other, _)| other == api) {
            return Some(guess);
        }
        self.apis.binary_search_by(|(other, _)| other.cmp(api)).ok()
    }

    pub(crate) fn api(&self, at: usize) -> (&ApiId, &AccessDefinition) {
        let api = &self.apis[at].0;
        (api, &self.rights[api])
    }

    /// The entry, compiled; patterns that can not be used are told to `report`, once.
    pub(crate) fn get(
        &self,
        at: usize,
        options: PathOptions,
        report: impl FnOnce(&[RuleProblem]),
    ) -> &Arc<ApiRights> {
        self.apis[at].1.get_or_init(|| {
            let (rights, problems) = ApiRights::compile(self.api(at).1, options);
            report(&problems);
            Arc::new(rights)
        })
    }
}

/// Compiles entries by API; the problems say which API.
pub(crate) fn compile_entries(
    entries: &BTreeMap<ApiId, AccessDefinition>,
    options: PathOptions,
) -> (BTreeMap<ApiId, ApiRights>, Vec<RuleProblem>) {
    let mut problems = Vec::new();
    let mut apis = BTreeMap::new();
    for (api, entry) in entries {
        let (rights, found) = ApiRights::compile(entry, options);
        let outer = format!("access_rights.{api}");
        problems.extend(found.into_iter().map(|problem| problem.within(&outer)));
        apis.insert(api.clone(), rights);
    }
    (apis, problems)
}
