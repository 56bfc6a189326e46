//! A session's free data, `meta_data`.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IntoDeserializer, value::MapDeserializer},
};

use crate::wire::{Json, Member};

/// A session's `meta_data`: names and any JSON values.
///
/// Tyk's documents say text values; its source keeps any JSON, and so do we, with every digit of a
/// number. `Debug` prints the names alone, as values may be about people.
#[derive(Clone, Default, PartialEq)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(inline, transparent)
)]
pub struct MetaData(BTreeMap<String, Json>);

impl MetaData {
    /// The value under `name`, which is one name: dots in it are part of it.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// Sets a value and returns the one before.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Json>) -> Option<Json> {
        self.0.insert(name.into(), value.into())
    }

    /// Removes a value and returns it.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        self.0.remove(name)
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all of `other`; on equal names `other`'s value stands.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(
            other
                .0
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
    }

    /// Reads the whole map into a type of yours.
    ///
    /// ```
    /// # use tollgate_core::Session;
    /// #[derive(serde::Deserialize)]
    /// struct UserInfo { user: String, level: u8 }
    ///
    /// let session: Session = r#"{"meta_data": {"user": "joe", "level": 3, "more": []}}"#.parse()?;
    /// let info: UserInfo = session.meta_data.read()?;
    /// assert_eq!((info.user.as_str(), info.level), ("joe", 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fails where a name is missing or a value has another shape.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        T::deserialize(MapDeserializer::new(
            self.0.iter().map(|(name, value)| (&**name, value)),
        ))
    }
}

impl<'de> IntoDeserializer<'de, serde_json::Error> for &'de Json {
    type Deserializer = &'de serde_json::value::RawValue;

    fn into_deserializer(self) -> Self::Deserializer {
        self.raw()
    }
}

impl<K: Into<String>, V: Into<Json>> FromIterator<(K, V)> for MetaData {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self(
            entries
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl fmt::Debug for MetaData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for MetaData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Self as Member>::read(deserializer)
    }
}

impl Serialize for MetaData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Member::write(self, serializer)
    }
}

impl Member for MetaData {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::read(deserializer).map(Self)
    }
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
    fn read_again<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        self.0.read_again(deserializer)
    }
}
