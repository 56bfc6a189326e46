//! The gate that reads an organisation's own record.
//!
//! An organisation is stored as a session, under
//! [`StorageKey::organisation`]. One that is inactive lets nobody in (`403`); its rate and quota are
//! charged with the key's, by the limit gate. One without a record has no limits. The store's failure
//! is answered as the session gate's.

use std::sync::Arc;

use http::request::Parts;
use smallvec::smallvec;
use tollgate_core::{
    Loaded, OrgId, Rejection,
    store::{SharedStore, StorageKey},
};

use crate::{
    gate::{Acts, Gate, Step},
    plan::CurrentPlan,
    session::{OnStoreError, SessionGate, store_failed},
    visit::Visit,
};

/// Reads the record of the organisation that the API, or else the session, belongs to.
#[derive(Clone, Debug)]
pub(crate) struct OrganisationGate {
    store: SharedStore,
    plan: Arc<CurrentPlan>,
    on_store_error: OnStoreError,
    /// Whether its limits are charged.
    is_charged: bool,
}

impl OrganisationGate {
    /// Asks the store of the session gate, and reads records by its rules.
    pub(crate) fn new(session: &SessionGate, is_charged: bool) -> Self {
        let (store, plan) = (session.store.clone(), session.plan.clone());
        Self {
            store,
            plan,
            on_store_error: session.on_store_error,
            is_charged,
        }
    }

    fn organisation(&self, visit: &Visit) -> Option<OrgId> {
        let fixed = Some(self.plan.organisation()).filter(|org| !org.is_empty());
        let org = fixed.or_else(|| visit.session().map(|session| &session.org_id));
        org.filter(|org| !org.is_empty()).cloned()
    }
}

impl Gate for OrganisationGate {
    fn name(&self) -> &'static str {
        "organisation"
    }

    fn acts(&self) -> Acts {
        Acts::NONE
    }

    fn admit(&self, _head: &mut Parts, visit: &mut Visit) -> Step {
        let Some(org) = self.organisation(visit) else {
            return Step::Pass;
        };
        let key = StorageKey::organisation(&org);
        if let Some(found) = self.store.try_get(key.as_str()) {
            return found
                .map_or(Ok(()), |loaded| {
                    accept(&self.plan, &loaded, self.is_charged, visit)
                })
                .into();
        }
        let (plan, then, is_charged) = (self.plan.clone(), self.on_store_error, self.is_charged);
        Step::wait(
            self.store.get_first(smallvec![key]),
            move |found, _head, visit| match found {
                Ok(Some(loaded)) => accept(&plan, &loaded, is_charged, visit).into(),
                Ok(None) => Step::Pass,
                Err(error) => store_failed(&error, "organisation", then, visit),
            },
        )
    }
}

fn accept(
    plan: &CurrentPlan,
    loaded: &Loaded,
    is_charged: bool,
    visit: &mut Visit,
) -> Result<(), Rejection> {
    let pass = plan.load().organisation_pass(loaded)?;
    if pass.session().is_inactive {
        return Err(Rejection::OrganisationInactive);
    }
    if is_charged {
        visit.set_organisation(pass);
    }
    Ok(())
}
