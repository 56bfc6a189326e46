//! What the control API asks of a gateway.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tollgate_core::{
    ApiId, OrgId, PolicyId, Secret, Session, future::BoxFuture, policy::PolicySet,
};

use crate::api_set::ApiSet;

/// A gateway, as far as the control API needs one.
///
/// What is in force is told at once, from the snapshot that serves requests. What touches a disk or
/// takes its time is a future. Nothing that is written takes effect before the next reload.
pub trait Control: Send + Sync + 'static {
    /// The policies in force.
    fn policies(&self) -> PolicySet;

    /// The APIs in force.
    fn apis(&self) -> Arc<ApiSet>;

    /// Loads definitions and policies anew.
    fn reload(&self, reload: Reload) -> BoxFuture<Result<(), ControlError>>;

    /// Writes a definition as it was sent, in place of whatever has this id. The id is safe as the name
    /// of a file.
    fn write_api(&self, id: ApiId, json: String) -> BoxFuture<Result<(), ControlError>>;

    /// Removes a definition.
    fn remove_api(&self, id: ApiId) -> BoxFuture<Result<(), ControlError>>;

    /// Writes a policy, indented, in place of whatever has this id. The id is no path, but may hold
    /// blanks and letters of any script.
    fn write_policy(&self, id: PolicyId, json: String) -> BoxFuture<Result<(), ControlError>>;

    /// Removes a policy.
    fn remove_policy(&self, id: PolicyId) -> BoxFuture<Result<(), ControlError>>;

    /// How the gateway's parts are.
    fn health(&self) -> Health;

    /// Whether it should be sent requests.
    fn readiness(&self) -> Readiness;

    /// What every gate would say of a request: an object with `answers`, each with `gate`, `decision`
    /// and `facts`.
    fn explain(&self, question: Question) -> BoxFuture<Result<serde_json::Value, ControlError>>;

    /// The counts of `/tyk/health` for one API that is loaded.
    fn api_health(&self, api: &ApiId) -> ApiHealth {
        let _ = api;
        ApiHealth::default()
    }

    /// Forgets answers that were kept of an API. Nothing to do where none are kept.
    fn invalidate_cache(&self, api: ApiId) -> BoxFuture<Result<(), ControlError>> {
        let _ = api;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether a client certificate of this id is known.
    fn has_certificate(&self, id: &str) -> bool {
        let _ = id;
        false
    }

    /// What is wrong with the metadata of a key that is about to be written, a line for each place; its
    /// policies are applied. Nothing where it may be anything.
    fn check_meta_data(&self, session: &Session) -> Vec<String> {
        let _ = session;
        Vec::new()
    }

    /// Told after a key was written or removed.
    fn key_changed(&self, event: KeyEvent<'_>) {
        let _ = event;
    }
}

/// What is to be loaded anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reload {
    /// Who.
    pub reach: Reach,
    /// Whether the future ends with the reload (`block=true`) or when it is under way.
    pub wait: bool,
}

/// Who loads anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// This process.
    Single,
    /// Every process that shares the store.
    Group,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyEvent<'a> {
    /// It was made.
    Created {
        /// Its organisation.
        org: &'a OrgId,
        /// The name in the store.
        name: &'a str,
    },
    /// It was changed.
    Updated {
        /// Its organisation.
        org: &'a OrgId,
        /// The name in the store.
        name: &'a str,
    },
    /// It was removed.
    Deleted {
        /// The name in the store.
        name: &'a str,
    },
}

/// How the gateway's parts are, by name (`redis`, `store`, …); none before they were first asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health(pub BTreeMap<String, Component>);

/// How one part is.
#[derive(Clone, Debug, PartialEq)]
pub struct Component {
    /// What kind of part: `datastore`, `system`.
    pub kind: String,
    /// What is wrong with it; `None` where nothing is.
    pub failure: Option<String>,
    /// When it was asked, as RFC 3339.
    pub time: String,
}

/// Whether a gateway should be sent requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// It is on its way out.
    ShuttingDown,
    /// The store does not answer.
    StoreUnavailable,
    /// Nothing was loaded yet.
    NotLoaded,
}

/// The counts of Tyk's old health endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ApiHealth {
    /// Requests that waited for their turn. The wire's spelling is Tyk's.
    #[serde(rename = "throttle_reqests_per_second")]
    pub throttled: f64,
    /// Requests refused by a quota.
    #[serde(rename = "quota_violations_per_second")]
    pub quota_violations: f64,
    /// Requests refused for their key.
    #[serde(rename = "key_failures_per_second")]
    pub key_failures: f64,
    /// Milliseconds.
    #[serde(rename = "average_upstream_latency")]
    pub upstream_latency: f64,
    /// All requests.
    #[serde(rename = "average_requests_per_second")]
    pub requests: f64,
}

/// A request that somebody wonders about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The token that the client would present; empty for none.
    #[serde(default)]
    pub token: Secret,
    /// The method.
    #[serde(default = "Question::get")]
    pub method: String,
    /// Path and query, as the gateway would get them.
    pub path: String,
    /// The host, with its port where APIs have that for themselves; empty for any.
    #[serde(default)]
    pub host: String,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

impl Question {
    fn get() -> String {
        "GET".into()
    }
}

/// The gateway did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    kind: ControlErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Why it did not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ControlErrorKind {
    /// What was sent is wrong. The message is told to who sent it.
    Invalid,
    /// There is none of that id.
    NotFound,
    /// No folder is configured to write to.
    NoFolder,
    /// They are kept elsewhere: a dashboard's, not files.
    NotFiles,
    /// It was tried and failed.
    Failed,
    /// This gateway can not do it.
    Unsupported,
}

impl ControlError {
    /// An error of this kind. The message of [`ControlErrorKind::Invalid`] is for the caller, any other
    /// for the log.
    pub fn new(kind: ControlErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same, with what caused it.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Why it did not.
    pub fn kind(&self) -> ControlErrorKind {
        self.kind
    }
}
