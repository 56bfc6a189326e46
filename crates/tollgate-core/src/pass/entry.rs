//! What a session holds of one API, compiled.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use crate::{
    access::{ApiRights, RequestPath, VersionRule},
    ids::ApiId,
    limits::{Algorithm, ApiLimits, Limit, LimitError},
    rejection::{LimitOwner, Rejection},
    session::{AccessDefinition, Endpoint, EndpointMethod, Session},
    store::{Charge, Counter, CounterName, ReadyCharges, StorageKey},
    variables::{NoContext, Text, ValueStyle},
};

/// What a session holds of one API, compiled: rights, and charges ready to be made.
#[derive(Debug)]
#[repr(C)] // What each request looks at comes last.
pub struct Entry {
    limits: ApiLimits,
    scope: Box<str>,
    counter_text: Option<Text>,
    charges: ChargeSet,
    endpoints: EndpointCharges,
    rights: Option<Arc<ApiRights>>, // None: every path of every version.
    is_same: bool,                  // Whether every request makes the same charges.
}

/// Charges by endpoint, under the endpoint's name.
type EndpointCharges = Box<[(Box<str>, ChargeSet)]>;

/// Which limits are charged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kinds {
    /// Rates alone.
    Rate,
    /// Quotas alone.
    Quota,
    /// Both.
    Both,
}

/// Charges, the rates before the quotas.
#[derive(Debug)]
#[repr(C)]
struct ChargeSet {
    rates: usize,
    ready: ReadyCharges,
}

impl ChargeSet {
    fn of(&self, kinds: Kinds) -> &[Charge] {
        let charges = self.ready.charges();
        match kinds {
            Kinds::Rate => &charges[..self.rates],
            Kinds::Quota => &charges[self.rates..],
            Kinds::Both => charges,
        }
    }
}

impl Entry {
    pub(super) fn with_rights(self, rights: Arc<ApiRights>) -> Self {
        Self {
            rights: Some(rights),
            ..self
        }
    }

    /// Whether the version that the request names may be called.
    ///
    /// # Errors
    ///
    /// [`Rejection::ApiNotGranted`].
    pub fn version_allowed(
        &self,
        version: Option<&str>,
        rule: &VersionRule,
    ) -> Result<(), Rejection> {
        let allowed = self
            .rights
            .as_ref()
            .is_none_or(|rights| rights.allows_version(version, rule));
        if allowed {
            Ok(())
        } else {
            Err(Rejection::ApiNotGranted)
        }
    }

    /// Whether the path may be called with this method.
    ///
    /// # Errors
    ///
    /// As [`PathRules::check`](crate::access::PathRules::check); [`Rejection::PathAmbiguous`] also where
    /// some paths have rates of their own.
    #[inline]
    pub fn path_allowed(&self, method: &str, path: &RequestPath<'_>) -> Result<(), Rejection> {
        if self.has_endpoints() && path.has_encoded_slash() {
            return Err(Rejection::PathAmbiguous);
        }
        let rights = self.rights.as_ref();
        rights.map_or(Ok(()), |rights| rights.paths().check(method, path))
    }

    /// The limits that hold.
    pub fn limits(&self) -> &ApiLimits {
        &self.limits
    }

    /// The name of the counters that this entry shares with others; empty: the session's own.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The counter of a limit under a name that a request gives (`rate_limit_pattern`), which is that of every
    /// session whose own pattern gives it.
    pub fn counter_of_pattern(&self, limit: &Limit, name: &str) -> CounterName {
        let kind = match limit {
            Limit::Rate(_) => "rate",
            Limit::Quota(_) => "quota",
        };
        CounterName::whole(counter_name(kind, PATTERN, [&self.scope, name, ""]).as_bytes())
    }

    /// Whether some paths have rates of their own, so that [`charges`](Self::charges) needs the path.
    pub fn has_endpoints(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// The charges of a request, with the store's handle on them, where all are made and every request
    /// makes the same.
    #[inline]
    pub fn ready_charges(&self, kinds: Kinds) -> Option<&ReadyCharges> {
        (kinds == Kinds::Both && self.is_same).then_some(&self.charges.ready)
    }

    /// The charges of a request.
    pub fn charges(&self, kinds: Kinds, call: Option<(&str, &RequestPath<'_>)>) -> &[Charge] {
        let rules = self.rights.as_deref().map(ApiRights::endpoints);
        let found = rules
            .zip(call)
            .and_then(|(rules, (method, path))| rules.find(method, path));
        let own = found.and_then(|limit| {
            self.endpoints
                .iter()
                .find(|(name, _)| **name == *limit.name())
        });
        own.map_or(&self.charges, |(_, charges)| charges).of(kinds)
    }

    /// Every charge that any request may make, those of endpoints included.
    pub fn all_charges(&self) -> impl Iterator<Item = &Charge> {
        let endpoints = self.endpoints.iter().map(|(_, charges)| charges);
        let sets = std::iter::once(&self.charges).chain(endpoints);
        sets.flat_map(|charges| charges.of(Kinds::Both))
    }

    /// The text that names the counters in place of the token, where it speaks of the request
    /// (`meta_data.rate_limit_pattern`).
    pub fn counter_text(&self) -> Option<&Text> {
        self.counter_text.as_ref()
    }
}

/// What an [`Entry`] is compiled from.
pub(super) struct Source<'a> {
    pub(super) owner: LimitOwner,
    /// The API's entry; `None` for the session's own limits.
    pub(super) right: Option<(&'a ApiId, &'a AccessDefinition)>,
    pub(super) algorithm: Algorithm,
    pub(super) smooths: bool,
}

impl Source<'_> {
    pub(super) fn compile(&self, session: &Session, key: &StorageKey) -> Result<Entry, LimitError> {
        let no_api = ApiId::default();
        let api = self.right.map_or(&no_api, |(api, _)| api);
        let limits = self.kept(ApiLimits::of(session, api)?);
        let pattern = counter_pattern(session).filter(|_| self.owner == LimitOwner::Key);
        let filled = |text: &Text| text.fill(Some(&session.meta_data), &NoContext, ValueStyle::Tyk);
        let by_request = |text: &Text| text.context_names().next().is_some();
        let (counter_text, pattern) = match pattern {
            Some(text) if by_request(&text) => (Some(text), None),
            pattern => (None, pattern.map(|text| filled(&text))),
        };
        let shared = session.counters_of();
        let shared = shared.filter(|_| self.owner == LimitOwner::Key);
        let who = Who {
            owner: self.owner,
            key: shared.as_deref().unwrap_or(key.as_str()),
            pattern: pattern.filter(|name| !name.is_empty()),
            scope: limits.scope.clone().unwrap_or_default(),
            has_one_api: session.access_rights.len() == 1,
        };
        let endpoints = self.right.map(|right| self.endpoints(right, &limits, &who));
        let endpoints = endpoints.transpose()?.unwrap_or_default();
        Ok(Entry {
            rights: None,
            charges: who.charges(&limits, None),
            is_same: endpoints.is_empty() && counter_text.is_none(),
            endpoints,
            counter_text,
            scope: who.scope,
            limits,
        })
    }

    /// The limits with their rate kept as the rules say.
    fn kept(&self, limits: ApiLimits) -> ApiLimits {
        let limits = limits.with_algorithm(self.algorithm);
        if self.smooths {
            limits.smoothed()
        } else {
            limits
        }
    }

    fn endpoints(
        &self,
        (api, right): (&ApiId, &AccessDefinition),
        limits: &ApiLimits,
        who: &Who<'_>,
    ) -> Result<EndpointCharges, LimitError> {
        let all = right.endpoints.iter().flat_map(|endpoint| {
            let methods = endpoint.methods.iter();
            methods.map(move |method| (endpoint, method))
        });
        let compile = |(endpoint, method): (&Endpoint, &EndpointMethod)| {
            let name: Box<str> = format!("{}:{}", method.name, endpoint.path).into();
            let limits = ApiLimits {
                smoothing: method.limit.smoothing.clone(), // Its own alone, or none.
                ..limits.clone()
            };
            let limits = self.kept(limits.with_endpoint(method.limit.rate, method.limit.per)?);
            // As in Tyk where that says enough; no method begins with `@`.
            let charges = if who.has_one_api && who.pattern.is_none() {
                who.charges(&limits, Some(&name))
            } else {
                who.charges(&limits, Some(&format!("@{api}:{name}")))
            };
            Ok((name, charges))
        };
        all.map(compile).collect()
    }
}

/// The text that names counters in place of the token, where the session has one
/// (`meta_data.rate_limit_pattern`; only a text is one).
fn counter_pattern(session: &Session) -> Option<Text> {
    let pattern = session.meta_data.get("rate_limit_pattern")?.as_text()?;
    Some(Text::with_secrets(&pattern, |_| None))
}

/// Whose counters they are.
struct Who<'a> {
    owner: LimitOwner,
    key: &'a str,
    pattern: Option<String>,
    scope: Box<str>,
    has_one_api: bool,
}

impl Who<'_> {
    fn charges(&self, limits: &ApiLimits, endpoint: Option<&str>) -> ChargeSet {
        let rate = limits.rate.map(|rate| {
            let patience = match self.owner {
                LimitOwner::Key => limits.patience(),
                _ => Duration::ZERO, // An organisation's requests do not wait.
            };
            self.charge("rate", endpoint, Limit::Rate(rate), patience)
        });
        let quota = limits
            .quota
            .clone()
            .map(|quota| self.charge("quota", None, Limit::Quota(quota), Duration::ZERO));
        let rates = usize::from(rate.is_some());
        let charges: Box<[Charge]> = rate.into_iter().chain(quota).collect();
        ChargeSet {
            ready: ReadyCharges::new(charges),
            rates,
        }
    }

    fn charge(
        &self,
        kind: &str,
        endpoint: Option<&str>,
        limit: Limit,
        patience: Duration,
    ) -> Charge {
        let counter = Counter::new(self.counter_name(kind, endpoint));
        Charge {
            patience,
            owner: self.owner,
            ..Charge::new(counter, limit)
        }
    }

    fn counter_name(&self, kind: &str, endpoint: Option<&str>) -> String {
        let of = match (self.owner, &self.pattern) {
            (LimitOwner::Organisation, _) => "org",
            (_, Some(_)) => PATTERN,
            (_, None) => "key",
        };
        let key = self.pattern.as_deref().unwrap_or(self.key);
        counter_name(kind, of, [&self.scope, key, endpoint.unwrap_or_default()])
    }
}

const PATTERN: &str = "pattern";

/// The name of the counter of a key's quota in a scope; no scope is the key's own.
pub fn quota_counter(key: &str, scope: &str) -> String {
    counter_name("quota", "key", [scope, key, ""])
}

/// Each part is preceded by its length, so that no two lists of parts make one name.
fn counter_name(kind: &str, of: &str, parts: [&str; 3]) -> String {
    let mut name = format!("{kind}:{of}");
    for part in parts {
        let _ = write!(name, ":{}:{part}", part.len()); // Writing to a text can not fail.
    }
    name
}
