//! The counters of a key: which there are, what they say, and starting them afresh.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tollgate_core::{
    ApiId, Loaded, Session, StoreError,
    limits::{Limit, Period},
    pass::{Entry, Kinds, Pass},
    store::{Batch, Charge, Expect, Standing, StorageKey, Verdict, Version},
};

use crate::Inner;

/// The session compiled for counting. It is not kept with the stored record, whose passes are those of
/// stacks that serve requests.
fn pass(admin: &Inner, key: &StorageKey, session: &Session) -> Option<Arc<Pass>> {
    let record = |session: &Session| Loaded::new(key.clone(), session.clone(), Version(0));
    let plan = admin.plan();
    plan.pass(&record(session)).ok().or_else(|| {
        // Policies that make no session leave the key's own limits to be told.
        let own = Session {
            apply_policies: Vec::new(),
            apply_policy_id: Default::default(),
            ..session.clone()
        };
        plan.pass(&record(&own)).ok()
    })
}

/// The session's own limits, and those of each of its APIs.
fn entries(pass: &Pass) -> impl Iterator<Item = (Option<&ApiId>, &Entry)> {
    let apis = pass.session().access_rights.keys();
    let of_apis = apis.filter_map(|api| {
        let at = pass.find(api).ok()?;
        Some((Some(api), pass.entry(at)))
    });
    std::iter::once((None, pass.root())).chain(of_apis)
}

/// All counters of a key, of every scope and endpoint, with what each limits.
fn counters(admin: &Inner, key: &StorageKey, session: &Session) -> BTreeMap<String, Limit> {
    let Some(pass) = pass(admin, key, session) else {
        return BTreeMap::new();
    };
    let charges = entries(&pass).flat_map(|(_, entry)| entry.all_charges());
    let named = charges.filter_map(|charge| Some((name(charge)?, charge.limit.clone())));
    named.collect()
}

fn name(charge: &Charge) -> Option<String> {
    String::from_utf8(charge.counter.name().to_vec()).ok()
}

/// Whether a limit is a rate that admits less than it did.
fn is_lowered(old: &Limit, new: &Limit) -> bool {
    match (old, new) {
        (Limit::Rate(old), Limit::Rate(new)) => {
            let before = old.requests.get() as f64 / old.window.as_secs_f64();
            let now = new.requests.get() as f64 / new.window.as_secs_f64();
            now < before
        }
        _ => false,
    }
}

impl Inner {
    /// Starts every counter of a key afresh.
    pub(crate) async fn reset_counters(
        &self,
        key: &StorageKey,
        session: &Session,
    ) -> Result<(), StoreError> {
        for name in counters(self, key, session).into_keys() {
            self.store.reset(&name).await?;
        }
        Ok(())
    }

    /// The same for a session that takes the place of an old one: the counters of both. A rate that was
    /// lowered keeps its count, so that it acts at once, and does not first give all of it again.
    pub(crate) async fn restart_counters(
        &self,
        key: &StorageKey,
        old: Option<&Session>,
        new: &Session,
    ) -> Result<(), StoreError> {
        let old = old.map(|old| counters(self, key, old)).unwrap_or_default();
        let new = counters(self, key, new);
        let goes_on = |name: &String| match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) => is_lowered(old, new),
            _ => false,
        };
        let all: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for name in all.into_iter().filter(|name| !goes_on(name)) {
            self.store.reset(name).await?;
        }
        Ok(())
    }

    /// Starts the counters of an organisation afresh.
    pub(crate) async fn reset_organisation(&self, loaded: &Loaded) -> Result<(), StoreError> {
        let Some(pass) = self.organisation_pass(loaded) else {
            return Ok(());
        };
        for name in pass.root().all_charges().filter_map(name) {
            self.store.reset(&name).await?;
        }
        Ok(())
    }

    fn organisation_pass(&self, loaded: &Loaded) -> Option<Arc<Pass>> {
        let record = Loaded::new(
            loaded.key().clone(),
            loaded.session().clone(),
            loaded.version(),
        );
        self.plan().organisation_pass(&record).ok()
    }

    /// Whether the counters of a record that is to go are still another's: a key and the one it was
    /// rotated to share them until both are gone.
    pub(crate) async fn shares_counters(
        &self,
        key: &StorageKey,
        session: &Session,
    ) -> Result<bool, StoreError> {
        let others = [session.counters_of(), rotated_to(session)];
        for other in others.into_iter().flatten() {
            if other != key.as_str() && self.store.get(&other).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes into the numbers that are for information what the counters say: what is left, and when
    /// it renews. Where nothing was used the session's own number stays what it is, and that of an API
    /// is all there is, as Tyk tells it.
    pub(crate) async fn fill_in_quotas(
        &self,
        loaded: &Loaded,
        merged: &mut Session,
    ) -> Result<(), StoreError> {
        let Some(pass) = pass(self, loaded.key(), loaded.session()) else {
            return Ok(());
        };
        let mut seen = Vec::new();
        for (api, entry) in entries(&pass) {
            let Some(charge) = entry.charges(Kinds::Quota, None).first() else {
                continue;
            };
            seen.push((api, &charge.limit, self.standing(charge).await?));
        }
        for (api, limit, standing) in seen {
            let Some(api) = api else {
                self.fill_in_root(limit, &standing, merged);
                continue;
            };
            if let Some(right) = merged.access_rights.get_mut(api)
                && 0 < right.limit.quota_max
            {
                let remaining = i64::try_from(standing.remaining).unwrap_or(i64::MAX);
                right.limit.quota_remaining = remaining;
                let renews = self.renews(limit, &standing);
                right.limit.quota_renews = renews.unwrap_or(right.limit.quota_renews);
            }
        }
        Ok(())
    }

    /// The same for an organisation's record. Tyk writes the numbers into it with each request.
    pub(crate) async fn fill_in_organisation(
        &self,
        loaded: &Loaded,
        shown: &mut Session,
    ) -> Result<(), StoreError> {
        let Some(pass) = self.organisation_pass(loaded) else {
            return Ok(());
        };
        let Some(charge) = pass.root().charges(Kinds::Quota, None).first() else {
            return Ok(());
        };
        let standing = self.standing(charge).await?;
        self.fill_in_root(&charge.limit, &standing, shown);
        Ok(())
    }

    /// The session's own numbers, where something was used.
    fn fill_in_root(&self, limit: &Limit, standing: &Standing, shown: &mut Session) {
        if standing.remaining < standing.max {
            shown.quota_remaining = i64::try_from(standing.remaining).unwrap_or(i64::MAX);
            let renews = self.renews(limit, standing);
            shown.quota_renews = renews.unwrap_or(shown.quota_renews);
        }
    }

    /// When a quota renews that was used, as the record tells it. Tyk writes it with the second request of
    /// a period; until then it has the time of the first.
    fn renews(&self, limit: &Limit, standing: &Standing) -> Option<i64> {
        let used = standing.max.saturating_sub(standing.remaining);
        let left = standing.resets_in.filter(|_| 0 < used)?;
        let end = later(self.now().unix().0, left);
        let is_first = used == 1 && 1 < standing.max && !self.settings.exact_quota_reset;
        match limit {
            Limit::Quota(quota) if is_first => match quota.period {
                Period::Every(length) => Some(end - later(0, length)),
                _ => Some(end),
            },
            _ => Some(end),
        }
    }

    async fn standing(&self, charge: &Charge) -> Result<Standing, StoreError> {
        let batch: Batch = std::iter::once(charge.clone()).collect();
        let standings = match self.store.look(batch, self.now()).await? {
            Verdict::Taken(taken) => taken.standings,
            Verdict::Refused(refused) => refused.standings,
        };
        Ok(standings[0])
    }

    /// Where every limit of a key stands.
    pub(crate) async fn usage(&self, loaded: &Loaded) -> Result<Vec<Usage>, StoreError> {
        let Some(pass) = pass(self, loaded.key(), loaded.session()) else {
            return Ok(Vec::new());
        };
        let limits: Vec<_> = entries(&pass)
            .flat_map(|(api, entry)| {
                let is_root = api.is_none() && !pass.session().access_rights.is_empty();
                let charges = entry.charges(Kinds::Both, None).iter();
                let charges = charges.filter(move |_| !is_root); // Its APIs say what holds.
                charges.map(move |charge| (api.cloned(), entry.scope().to_owned(), charge.clone()))
            })
            .collect();
        let mut usages = Vec::with_capacity(limits.len());
        for (api, scope, charge) in limits {
            let standing = self.standing(&charge).await?;
            usages.push(Usage {
                api,
                scope,
                limit: charge.limit,
                standing,
            });
        }
        Ok(usages)
    }

    /// Writes a record that is to replace one that was read, and fails where another was faster. A
    /// store that can not tell writes over it.
    pub(crate) async fn replace(
        &self,
        loaded: &Loaded,
        session: Session,
        lifetime: Option<Duration>,
    ) -> Result<Version, StoreError> {
        let expect = if self.store.compares_and_sets() {
            Expect::Version(loaded.version())
        } else {
            Expect::Anything
        };
        self.store
            .put(loaded.key().as_str(), session, expect, lifetime)
            .await
    }
}

/// Where one limit of a key stands.
pub(crate) struct Usage {
    /// `None` where a key may call everything, and its own limits hold.
    pub(crate) api: Option<ApiId>,
    /// Which APIs count together; empty for all that name nothing else.
    pub(crate) scope: String,
    pub(crate) limit: Limit,
    pub(crate) standing: Standing,
}

/// The member in which a record says which one it was rotated to.
pub(crate) const ROTATED_TO: &str = "tollgate_rotated_to";

pub(crate) fn rotated_to(session: &Session) -> Option<String> {
    session.unknown.get(ROTATED_TO)?.as_text()
}

/// A replaced record keeps what it says of its counters.
pub(crate) fn keep_counters(session: &mut Session, stored: &Session) {
    for member in [Session::COUNTERS_OF, ROTATED_TO] {
        session.unknown.remove(member);
        if let Some(value) = stored.unknown.get(member) {
            session.unknown.insert(member.into(), value.clone());
        }
    }
}

/// Seconds since 1970, `time` later.
pub(crate) fn later(now: u64, time: Duration) -> i64 {
    let seconds = time.as_secs() + u64::from(0 < time.subsec_nanos());
    i64::try_from(now.saturating_add(seconds)).unwrap_or(i64::MAX)
}
