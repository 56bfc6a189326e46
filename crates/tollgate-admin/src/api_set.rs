//! The APIs of a gateway, as far as the control API reads their definitions.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;
use tollgate_core::{ApiId, OrgId};

/// The APIs in force, in their order.
#[derive(Clone, Debug, Default)]
pub struct ApiSet {
    records: Vec<Arc<ApiRecord>>,
    by_id: HashMap<ApiId, usize>,
}

/// One API: its definition as JSON, and what the control API has read of it.
#[derive(Clone, Debug)]
pub struct ApiRecord {
    json: Box<str>,
    facts: Facts,
}

/// A definition can not be read. The message says where and what, for whoever sent it.
#[derive(Debug, thiserror::Error)]
#[error("the definition can not be read")]
pub struct ApiRecordError(#[source] serde_json::Error);

/// `null` for a member is as if it were not there.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    #[serde(deserialize_with = "or_default")]
    pub(crate) api_id: ApiId,
    #[serde(deserialize_with = "or_default")]
    pub(crate) org_id: OrgId,
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) internal: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) expiration: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) definition: Versions,
    #[serde(deserialize_with = "or_default")]
    pub(crate) session_lifetime: i64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) session_lifetime_respects_key_expiration: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) dont_set_quota_on_create: bool,
}

/// Other APIs that are versions of this one, and what this one is called among them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Versions {
    #[serde(deserialize_with = "or_default")]
    pub(crate) enabled: bool,
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) default: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) versions: std::collections::BTreeMap<String, ApiId>,
}

impl ApiRecord {
    /// Reads a definition.
    ///
    /// # Errors
    ///
    /// Fails where the text is no JSON object, or a member that is read has the wrong type.
    pub fn from_json(json: impl Into<Box<str>>) -> Result<Self, ApiRecordError> {
        let json = json.into();
        let facts = serde_json::from_str(&json).map_err(ApiRecordError)?;
        Ok(Self { json, facts })
    }

    /// The API's id.
    pub fn id(&self) -> &ApiId {
        &self.facts.api_id
    }

    /// Its organisation.
    pub fn org_id(&self) -> &OrgId {
        &self.facts.org_id
    }

    /// The definition, as it is shown.
    pub fn json(&self) -> &str {
        &self.json
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }
}

impl ApiSet {
    /// The API of this id.
    pub fn get(&self, id: &ApiId) -> Option<&Arc<ApiRecord>> {
        self.by_id.get(id).map(|at| &self.records[*at])
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ApiRecord>> {
        self.records.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The API that has this one among its versions.
    pub(crate) fn base_of(&self, id: &ApiId) -> Option<&Arc<ApiRecord>> {
        self.records.iter().find(|record| {
            let versions = &record.facts.definition;
            versions.enabled && versions.versions.values().any(|version| version == id)
        })
    }
}

/// Of two APIs with one id the later is found by it.
impl FromIterator<ApiRecord> for ApiSet {
    fn from_iter<I: IntoIterator<Item = ApiRecord>>(records: I) -> Self {
        let records: Vec<_> = records.into_iter().map(Arc::new).collect();
        let places = records.iter().enumerate();
        let by_id = places.map(|(at, record)| (record.id().clone(), at));
        Self {
            by_id: by_id.collect(),
            records,
        }
    }
}
