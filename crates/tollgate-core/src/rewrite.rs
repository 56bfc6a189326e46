//! Which URL a request goes to in place of its own: Tyk's `url_rewrites`.
//!
//! A [`Rewrite`] is compiled once. It looks for its pattern in path and query, as the client wrote them;
//! where it matches, the whole URL becomes the target's text, in which `$1` is what the pattern's first
//! group matched (`$0` all of it) and variables have their values. Triggers are looked at before, in
//! order: the first that fires puts its own target in place of the rewrite's.
//!
//! What the client sent is never expanded, decides about no host, and reaches no setting of a loop: all
//! that is read in the configured text alone. What a group matched goes on in the client's spelling, so
//! that an encoded slash stays one. Values are escaped for the place where they stand.
//!
//! ```
//! use http::HeaderMap;
//! use tollgate_core::{
//!     meta::MetaData,
//!     rewrite::{Destination, Facts, Rewrite, RewriteTrigger},
//!     variables::NoContext,
//! };
//!
//! let rewrite = Rewrite::new("^/v1/(.*)", "/v2/$1")?
//!     .when(RewriteTrigger::any("/$tyk_meta.tenant/$1").session_meta("tenant", ".+"))?;
//! let meta: MetaData = serde_json::from_str(r#"{"tenant": "a&b"}"#)?;
//! let url = |meta| {
//!     let headers = HeaderMap::new();
//!     let facts = Facts { url: "/v1/items?page=2", headers: &headers, meta, context: &NoContext, payload: b"" };
//!     match rewrite.apply(&facts).ok().flatten().map(|rewritten| rewritten.destination) {
//!         Some(Destination::Path(target)) => target.to_string(),
//!         other => format!("{other:?}"),
//!     }
//! };
//! assert_eq!(url(None), "/v2/items?page=2");
//! assert_eq!(url(Some(&meta)), "/a%26b/items?page=2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Differences from Tyk
//!
//! - `$10` is group ten, not group one and a zero; what a group matched is never looked at again.
//! - A URL that is not rewritten is not expanded.
//! - Where only the decoded URL matches, what the groups matched goes on as it was encoded.
//! - `all` wants every name of a trigger, and not as many values as there are names. Variables are those
//!   of the trigger that fired.
//! - A host comes from the configured text or from metadata.
//! - A pattern that can not be compiled, and a target that is no URL, are errors when they are read.

mod entry;
mod source;
mod target;
mod trigger;

use std::{fmt, sync::Arc};

use http::{HeaderMap, Method, StatusCode, Uri, uri::PathAndQuery};
use regex::bytes::Regex;

pub use self::entry::{RewriteMatch, RewriteOptions, RewriteTrigger, UrlRewriteEntry};
use self::{source::find, target::Target, trigger::Trigger};
pub use self::{
    target::{MOST_LOOPS, TargetKind},
    trigger::TriggerValues,
};
use crate::{
    access::{PatternError, compile_expression},
    meta::MetaData,
    rejection::Rejection,
    variables::{Context, SecretName, ValueStyle},
};

/// A rewrite, compiled.
#[derive(Clone)]
pub struct Rewrite {
    pattern: Regex,
    target: Target,
    triggers: Vec<Trigger>,
    style: ValueStyle,
    /// Variables of triggers that somebody else wants to know.
    wanted: Vec<Box<str>>,
}

/// Why an entry can not be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct RewriteError {
    place: String,
    fault: RewriteFault,
}

impl RewriteError {
    fn at(place: impl Into<String>, fault: impl Into<RewriteFault>) -> Self {
        Self {
            place: place.into(),
            fault: fault.into(),
        }
    }

    /// Where in the entry, as `triggers[0].rewrite_to`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What is wrong there.
    pub fn fault(&self) -> &RewriteFault {
        &self.fault
    }
}

/// What is wrong in an entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteFault {
    /// An expression can not be compiled.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The text can not become a URL.
    #[error("{0:?} can not become a URL")]
    NotAUrl(String),
    /// It begins like a scheme, as `a:b/c`.
    #[error("{0:?} begins like a scheme; a path begins with a slash")]
    OnlyAScheme(String),
    /// What the client sends would decide about the host, or about the API.
    #[error("the host of {0:?} would come from the request")]
    HostFromRequest(String),
    /// The name of an API is not all text.
    #[error("the name of the API in {0:?} is no plain text")]
    NameNotText(String),
    /// A setting of a loop is not all text.
    #[error("`{0}` of a loop has to be plain text")]
    SettingNotText(&'static str),
    /// A method of a loop that is none.
    #[error("{0:?} is no method")]
    Method(String),
    /// A limit of loops that is too large.
    #[error("`loop_limit` is at most {MOST_LOOPS}")]
    TooManyLoops,
    /// No header has this name.
    #[error("{0:?} can not be a header's name")]
    HeaderName(String),
    /// A secret is named where there are none.
    #[error("names a secret, and there are none here")]
    Secret,
}

/// Why a request can not go where it should.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RewriteFailed {
    /// What the client sent makes no URL in that place, or one that can be read in two ways.
    #[error("what the request brings makes no URL")]
    ByRequest,
    /// The target is none, or metadata makes no URL in that place.
    #[error("the target makes no URL")]
    ByTarget,
}

impl RewriteFailed {
    /// How the request is refused: with 400 for what it brought, with 500 for the target.
    pub fn rejection(self) -> Rejection {
        match self {
            Self::ByRequest => Rejection::PathAmbiguous,
            Self::ByTarget => Rejection::custom(
                "rewrite_failed",
                StatusCode::INTERNAL_SERVER_ERROR,
                "There was a problem proxying the request",
            ),
        }
    }
}

/// What a rewrite looks at.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// Path and query as the client wrote them.
    pub url: &'a str,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The session's metadata; `None` without a session.
    pub meta: Option<&'a MetaData>,
    /// What `$tyk_context.x` stands for.
    pub context: &'a dyn Context,
    /// The whole body; see [`Rewrite::reads_payload`].
    pub payload: &'a [u8],
}

/// Where a request goes that was rewritten.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewritten {
    /// Whose target it is: 0 is the rewrite's own, 1 that of its first trigger.
    pub target: usize,
    /// The new URL.
    pub destination: Destination,
    /// The variables of the trigger that fired, as far as anybody wants them.
    pub variables: TriggerValues,
}

/// A new URL.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Destination {
    /// Another path and query, on the same host.
    Path(PathAndQuery),
    /// Another host.
    Url(Uri),
    /// An API of the same gateway.
    Internal(Internal),
}

/// A `tyk://` target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Internal {
    /// Which API, as it was written; `self` is the same.
    pub api: Arc<str>,
    /// Path and query there.
    pub path: PathAndQuery,
    /// How it is called.
    pub settings: Arc<LoopSettings>,
}

/// What a `tyk://` target says beside its path, in parameters that are not sent on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LoopSettings {
    /// `method`: another method.
    pub method: Option<Method>,
    /// `loop_limit`: how often a request may go on so.
    pub limit: Option<u8>,
    /// `check_limits`: the key is looked at again, and its limits are charged again.
    pub check_limits: bool,
}

impl Rewrite {
    /// A rewrite without triggers.
    ///
    /// # Errors
    ///
    /// Fails where the pattern can not be compiled, or the target is no URL.
    pub fn new(pattern: &str, target: &str) -> Result<Self, RewriteError> {
        Self::first(pattern, target, &mut no_secrets)
    }

    /// Adds a trigger behind the others.
    ///
    /// # Errors
    ///
    /// Fails where a pattern can not be compiled, or the target is no URL.
    pub fn when(self, trigger: RewriteTrigger) -> Result<Self, RewriteError> {
        self.and(&trigger, &mut no_secrets)
    }

    /// Compiles an entry of Tyk's. Secrets that its targets name are looked up now, once; `None` is one
    /// that is unknown, and empty. Path and method of the entry are the caller's matter.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new) and [`when`](Self::when).
    pub fn of_entry(
        entry: &UrlRewriteEntry,
        mut secret: impl FnMut(SecretName<'_>) -> Option<String>,
    ) -> Result<Self, RewriteError> {
        Self::compiled(entry, &mut |name| Ok(secret(name).unwrap_or_default()))
    }

    fn compiled(entry: &UrlRewriteEntry, secrets: Secrets<'_>) -> Result<Self, RewriteError> {
        let first = Self::first(&entry.match_pattern, &entry.rewrite_to, secrets)?;
        let mut triggers = entry.triggers.iter();
        triggers.try_fold(first, |all, trigger| all.and(trigger, secrets))
    }

    fn first(pattern: &str, target: &str, secrets: Secrets<'_>) -> Result<Self, RewriteError> {
        let pattern = compile_expression(pattern);
        let target = Target::parse(target, secrets);
        Ok(Self {
            pattern: pattern.map_err(|err| RewriteError::at("match_pattern", err))?,
            target: target.map_err(|fault| RewriteError::at("rewrite_to", fault))?,
            triggers: Vec::new(),
            style: ValueStyle::Plain,
            wanted: Vec::new(),
        })
    }

    fn and(mut self, trigger: &RewriteTrigger, secrets: Secrets<'_>) -> Result<Self, RewriteError> {
        let number = self.triggers.len();
        let compiled = Trigger::compile(trigger, number, &self.wanted, secrets);
        self.triggers.push(compiled.map_err(|err| RewriteError {
            place: format!("triggers[{number}].{}", err.place),
            ..err
        })?);
        Ok(self)
    }

    /// Writes values as Tyk does: `true` and objects as nothing, and escaped as in a query everywhere.
    #[must_use]
    pub fn with_tyk_values(mut self) -> Self {
        self.style = ValueStyle::Tyk;
        self
    }

    /// Tells these variables of triggers too, besides those that the targets name: somebody wants them
    /// for headers of the answer.
    #[must_use]
    pub fn telling<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.wanted.extend(names.into_iter().map(Box::from));
        for trigger in &mut self.triggers {
            trigger.tell(&self.wanted);
        }
        self
    }

    /// Whether a variable of a trigger is told.
    pub fn tells(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Whether a trigger looks at the body, which then has to be given whole.
    pub fn reads_payload(&self) -> bool {
        self.triggers.iter().any(Trigger::reads_payload)
    }

    /// The context variables that targets and triggers name.
    pub fn context_names(&self) -> impl Iterator<Item = &str> {
        let targets = self.targets().flat_map(Target::context_names);
        let looked_at = self.triggers.iter().flat_map(Trigger::context_names);
        targets.chain(looked_at)
    }

    /// What is known of the targets beforehand, in the order of [`Rewritten::target`].
    pub fn target_kinds(&self) -> impl Iterator<Item = TargetKind<'_>> {
        self.targets().map(Target::kind)
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        let of_triggers = self.triggers.iter().map(|trigger| &trigger.target);
        std::iter::once(&self.target).chain(of_triggers)
    }

    /// Where a request goes; `None` where it is not rewritten.
    ///
    /// # Errors
    ///
    /// Fails where what comes out is no URL.
    pub fn apply(&self, facts: &Facts<'_>) -> Result<Option<Rewritten>, RewriteFailed> {
        let mut triggers = self.triggers.iter().enumerate();
        let fired = triggers.find_map(|(at, trigger)| Some((at, trigger.fires(facts)?)));
        let (at, target, variables) = match fired {
            Some((at, variables)) => (at + 1, &self.triggers[at].target, variables),
            None => (0, &self.target, TriggerValues::default()),
        };
        let Some(groups) = find(&self.pattern, facts.url, target.has_groups()) else {
            return Ok(None);
        };
        let destination = target.fill(&groups, facts, &variables, self.style)?;
        Ok(Some(Rewritten {
            target: at,
            destination,
            variables,
        }))
    }
}

/// An entry that names no secrets.
impl TryFrom<&UrlRewriteEntry> for Rewrite {
    type Error = RewriteError;

    fn try_from(entry: &UrlRewriteEntry) -> Result<Self, RewriteError> {
        Self::compiled(entry, &mut no_secrets)
    }
}

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rewrite")
            .field("pattern", &self.pattern.as_str())
            .field("triggers", &self.triggers.len())
            .finish_non_exhaustive()
    }
}

/// Gives secrets their values.
type Secrets<'a> = &'a mut dyn FnMut(SecretName<'_>) -> Result<String, RewriteFault>;

fn no_secrets(_: SecretName<'_>) -> Result<String, RewriteFault> {
    Err(RewriteFault::Secret)
}
