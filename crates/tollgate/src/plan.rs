//! The plan in force, which policies can replace while requests are served.

use arc_swap::{ArcSwap, Guard};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tollgate_core::{OrgId, pass::Plan, policy::PolicySet};

/// A plan that can be replaced by one with other policies.
///
/// A record that met the plan before needs no more than its id, which is read without counting
/// anybody up or down.
#[derive(Debug)]
pub(crate) struct CurrentPlan {
    id: AtomicU64,
    plan: ArcSwap<Plan>,
    organisation: OrgId, // Of the rules, which stay.
    writing: Mutex<()>,  // Plan and id change together.
}

impl CurrentPlan {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            id: AtomicU64::new(plan.id()),
            organisation: plan.rules().organisation.clone(),
            plan: ArcSwap::from_pointee(plan),
            writing: Mutex::default(),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id.load(Ordering::Acquire)
    }

    pub(crate) fn load(&self) -> Guard<Arc<Plan>> {
        self.plan.load()
    }

    /// The organisation of the rules; empty for none.
    pub(crate) fn organisation(&self) -> &OrgId {
        &self.organisation
    }

    /// Puts other policies in force. The id follows the plan: who reads the new one finds it.
    pub(crate) fn replace_policies(&self, policies: PolicySet) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.load().with_policies(policies);
        let id = plan.id();
        let old = self.plan.swap(Arc::new(plan));
        self.id.store(id, Ordering::Release);
        old.retire();
    }
}

impl Drop for CurrentPlan {
    fn drop(&mut self) {
        self.plan.load().retire();
    }
}
