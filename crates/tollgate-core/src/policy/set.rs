//! The policies of a gateway, as one snapshot.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use serde::{
    Deserializer,
    de::{MapAccess, Visitor},
};

use super::Policy;
use crate::{
    ids::{OrgId, PolicyId},
    wire::{self, Json, RecordError},
};

/// Policies by organisation and id, and by id alone. Never changes, and is cheap to clone.
///
/// ```
/// use tollgate_core::{OrgId, policy::PolicySet};
///
/// let record = br#"{"gold": {"org_id": "acme", "rate": 50, "per": 1}}"#;
/// let (policies, duplicates) = PolicySet::from_record_file(record)?;
/// assert!(duplicates.is_empty());
/// let gold = policies.get(&OrgId::from("acme"), &"gold".into()).expect("is there");
/// assert_eq!(gold.rate, 50.0);
/// # Ok::<(), tollgate_core::policy::PolicyLoadError>(())
/// ```
#[derive(Clone, Default)]
pub struct PolicySet(Arc<Index>);

#[derive(Clone, Default)]
struct Index {
    by_org: HashMap<OrgId, HashMap<PolicyId, Arc<Policy>>>,
    by_id: HashMap<PolicyId, Arc<Policy>>,
    unusable: Unusable,
}

/// Policies that were written and can not be read. A key that names one is refused, also where it has
/// others: what can not be read may be what limits it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unusable {
    /// Their ids, in any organisation: theirs may be what can not be read.
    pub ids: BTreeSet<PolicyId>,
    /// How many more there are, whose ids can not be read. Any id that is not there may be one.
    pub without_id: usize,
}

impl Unusable {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len() + self.without_id
    }
}

/// A policy of a file with its id, or why it can not be read.
pub type ReadPolicy = (PolicyId, Result<Policy, RecordError>);

/// A policy that another one of the same organisation and id replaced, the later in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Duplicate {
    /// The organisation.
    pub org: OrgId,
    /// The id.
    pub policy: PolicyId,
}

impl fmt::Display for Duplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { org, policy } = self;
        write!(
            f,
            "policy {policy:?} of organisation {org:?} is given more than once"
        )
    }
}

/// Policies could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyLoadError {
    /// The text is no JSON object of policies, or no list of them.
    #[error("policies can not be read")]
    File(#[source] RecordError),
    /// A policy has a member of the wrong type. Lines are counted from the policy's first.
    #[error("policy {policy:?} can not be read")]
    Policy {
        /// The id, or the place in the list.
        policy: String,
        /// The member, and what was expected.
        #[source]
        source: RecordError,
    },
    /// A policy of a list has neither an `id` nor an `_id`.
    #[error("policy {index} of the list has no id")]
    NoId {
        /// Its place in the list, from zero.
        index: usize,
    },
}

impl PolicySet {
    /// Reads a record file, `{"gold": {…}, "free": {…}}`, in which the key is the policy's id.
    ///
    /// # Errors
    ///
    /// Fails where a policy can not be read; none is then taken.
    pub fn from_record_file(json: &[u8]) -> Result<(Self, Vec<Duplicate>), PolicyLoadError> {
        let each = Self::each_of_record_file(json).map_err(PolicyLoadError::File)?;
        let policy = |(id, policy): ReadPolicy| {
            policy.map_err(|source| PolicyLoadError::Policy {
                policy: id.to_string(),
                source,
            })
        };
        let policies: Vec<_> = each.into_iter().map(policy).collect::<Result<_, _>>()?;
        Ok(Self::from_policies(policies))
    }

    /// Reads a record file policy by policy, in their order: one that can not be read is no hindrance
    /// to the others. Give the ids of such to [`with_unusable`](Self::with_unusable).
    ///
    /// # Errors
    ///
    /// Fails where the text is no JSON object.
    pub fn each_of_record_file(json: &[u8]) -> Result<Vec<ReadPolicy>, RecordError> {
        let Entries(entries) = wire::from_json(json)?;
        let policy = |(id, json): (String, Json)| {
            let id = PolicyId::from(id);
            let policy = read(&json).map(|policy| Policy {
                id: id.clone(),
                ..policy
            });
            (id, policy)
        };
        Ok(entries.into_iter().map(policy).collect())
    }

    /// Reads a list of policies, `[{"id": "gold", …}, …]`.
    ///
    /// # Errors
    ///
    /// Fails where a policy can not be read or has no id; none is then taken.
    pub fn from_list(json: &[u8]) -> Result<(Self, Vec<Duplicate>), PolicyLoadError> {
        let items: Vec<Json> = wire::from_json(json).map_err(PolicyLoadError::File)?;
        let mut policies = Vec::with_capacity(items.len());
        for (index, json) in items.iter().enumerate() {
            let policy = read(json).map_err(|source| PolicyLoadError::Policy {
                policy: format!("[{index}]"),
                source,
            })?;
            if policy.id.is_empty() {
                return Err(PolicyLoadError::NoId { index });
            }
            policies.push(policy);
        }
        Ok(Self::from_policies(policies))
    }

    /// Takes policies as they are; of two with one organisation and id the later stands.
    pub fn from_policies(policies: impl IntoIterator<Item = Policy>) -> (Self, Vec<Duplicate>) {
        let mut index = Index::default();
        let mut duplicates = Vec::new();
        for policy in policies {
            let policy = Arc::new(policy.with_object_id());
            let (org, id) = (policy.org_id.clone(), policy.id.clone());
            index.by_id.insert(id.clone(), Arc::clone(&policy));
            let of_org = index.by_org.entry(org.clone()).or_default();
            if of_org.insert(id.clone(), policy).is_some() {
                duplicates.push(Duplicate { org, policy: id });
            }
        }
        (Self(Arc::new(index)), duplicates)
    }

    /// The same policies, beside some that can not be read.
    #[must_use]
    pub fn with_unusable(mut self, unusable: Unusable) -> Self {
        Arc::make_mut(&mut self.0).unusable = unusable;
        self
    }

    /// The policies that can not be read.
    pub fn unusable(&self) -> &Unusable {
        &self.0.unusable
    }

    /// The policy of this organisation, or else the one of this id that came last.
    pub fn get(&self, org: &OrgId, id: &PolicyId) -> Option<&Policy> {
        let own = self.0.by_org.get(org).and_then(|of_org| of_org.get(id));
        own.or_else(|| self.0.by_id.get(id)).map(|policy| &**policy)
    }

    /// Every policy, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        let orgs = self.0.by_org.values();
        orgs.flat_map(HashMap::values).map(|policy| &**policy)
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.0.by_org.values().map(HashMap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.by_id.is_empty()
    }
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.by_id.keys()).finish()
    }
}

impl FromIterator<Policy> for PolicySet {
    fn from_iter<I: IntoIterator<Item = Policy>>(policies: I) -> Self {
        Self::from_policies(policies).0
    }
}

fn read(json: &Json) -> Result<Policy, RecordError> {
    Policy::from_json(json.as_str())
}

/// The members of an object in their order, one name as often as it stands there.
struct Entries(Vec<(String, Json)>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of policies by id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
