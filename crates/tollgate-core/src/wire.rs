//! How Tyk's JSON is read and written.
//!
//! Tyk's records are what Go's `encoding/json` makes of its structs, and old ones are still in use,
//! so three habits of that library are part of the format (spec: *Session object*, decoding rules):
//!
//! - names are compared without regard to case, and of two members with one name the later counts;
//! - `null` for a member means that it was not given;
//! - empty lists and maps are written as `null`.
//!
//! One habit is not kept: members that Tyk does not know are kept and written back.
//!
//! [`record!`] declares a struct that reads and writes so.

use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::DeserializeOwned,
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::value::RawValue;

/// A record could not be read.
///
/// Names the place of the offending value, and what was expected there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{path}: {message} (line {line}, column {column})")]
pub struct RecordError {
    path: String,
    message: String,
    line: usize,
    column: usize,
}

impl RecordError {
    /// The JSON path of the value, as `access_rights.orders.versions[0]`; `.` for the whole text.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What was found and what was expected, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column of the text, both from 1; zeros where the text did not come as text.
    pub fn position(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

/// Reads a record; text after the object is an error.
pub(crate) fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, RecordError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|err| {
        let path = err.path().to_string();
        record_error(path, err.inner())
    })?;
    deserializer
        .end()
        .map_err(|err| record_error(".".into(), &err))?;
    Ok(value)
}

fn record_error(path: String, err: &serde_json::Error) -> RecordError {
    let text = err.to_string();
    let place = format!(" at line {} column {}", err.line(), err.column());
    let message = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    RecordError {
        path,
        message,
        line: err.line(),
        column: err.column(),
    }
}

/// Writes a record as Go does: `<`, `>`, `&` and the two Unicode line ends as `\u…`.
pub(crate) fn to_json<T: Serialize>(record: &T) -> String {
    let mut out = Vec::with_capacity(1024);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, GoFormatter);
    record
        .serialize(&mut serializer)
        .expect("a record has text keys and finite depth");
    String::from_utf8(out).expect("JSON is UTF-8")
}

struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        let mut rest = fragment;
        while let Some(at) = rest.find(special) {
            let (plain, tail) = rest.split_at(at);
            let c = tail.chars().next().expect("found just now");
            write!(writer, "{plain}\\u{:04x}", u32::from(c))?;
            rest = &tail[c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Any JSON value, kept as it was written: a number keeps all its digits.
#[derive(Clone)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The value's JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The text, if the value is one.
    pub fn as_text(&self) -> Option<String> {
        serde_json::from_str(self.as_str()).ok()
    }

    /// Reads the value into a type of yours.
    ///
    /// # Errors
    ///
    /// Fails if the value has another shape.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, serde_json::Error> {
        T::deserialize(&*self.0)
    }

    pub(crate) fn raw(&self) -> &RawValue {
        &self.0
    }
}

impl Default for Json {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        let value = |json: &Self| serde_json::from_str::<serde_json::Value>(json.as_str()).ok();
        self.as_str() == other.as_str() || value(self) == value(other)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self(serde_json::value::to_raw_value(text).expect("text is JSON"))
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(serde_json::value::to_raw_value(&value).expect("a JSON value is JSON"))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Members that Tyk's record does not have, kept for the next write.
pub type Unknown = BTreeMap<String, Json>;

/// A value that can stand in a record.
pub(crate) trait Member: Sized {
    /// Reads a value that is not `null`.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    /// Whether a record that leaves out what is not set leaves this out.
    fn is_unset(&self) -> bool;
    /// Takes the value of a second member of the same name.
    fn take_later(&mut self, later: Self) {
        *self = later;
    }
}

/// Carries [`Member`] into serde, which knows only its own traits.
pub(crate) struct Read<T>(pub(crate) T);

impl<'de, T: Member> Deserialize<'de> for Read<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Self)
    }
}

/// See [`Read`].
pub(crate) struct Written<'a, T>(pub(crate) &'a T);

impl<T: Member> Serialize for Written<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

/// Members that serde reads and writes as Go does.
macro_rules! plain_members {
    ($($ty:ty),*) => {$(
        impl $crate::wire::Member for $ty {
            fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde::Deserialize::deserialize(deserializer)
            }
            fn write<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, serializer)
            }
            fn is_unset(&self) -> bool {
                *self == Self::default()
            }
        }
    )*};
}
pub(crate) use plain_members;
plain_members!(bool, i64, String);

impl Member for Json {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
    fn is_unset(&self) -> bool {
        self.as_str() == "null"
    }
}

impl Member for f64 {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const WHOLE: f64 = 9_007_199_254_740_992.0; // 2^53: below it a whole number is exact.
        if self.fract() == 0.0 && self.abs() < WHOLE {
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
            serializer.serialize_i64(*self as i64)
        } else {
            serializer.serialize_f64(*self)
        }
    }
    fn is_unset(&self) -> bool {
        *self == 0.0
    }
}

impl<T: Member + Default> Member for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<Option<Read<T>>>::deserialize(deserializer)?;
        Ok(items
            .into_iter()
            .map(|item| item.map_or_else(T::default, |Read(item)| item))
            .collect())
    }
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_empty() {
            return serializer.serialize_none();
        }
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for item in self {
            list.serialize_element(&Written(item))?;
        }
        list.end()
    }
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Member for BTreeMap<K, V>
where
    K: Ord + Serialize + DeserializeOwned,
    V: Member + Default,
{
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<K, Option<Read<V>>>::deserialize(deserializer)?;
        let value = |read: Option<Read<V>>| read.map_or_else(V::default, |Read(value)| value);
        Ok(entries
            .into_iter()
            .map(|(key, read)| (key, value(read)))
            .collect())
    }
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_empty() {
            return serializer.serialize_none();
        }
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self {
            map.serialize_entry(key, &Written(value))?;
        }
        map.end()
    }
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
    fn take_later(&mut self, later: Self) {
        self.extend(later);
    }
}

impl<T: Member> Member for Option<T> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::read(deserializer).map(Some)
    }
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.write(serializer),
            None => serializer.serialize_none(),
        }
    }
    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

/// Declares a record of Tyk's JSON: a struct whose fields carry their wire name and whether a write
/// leaves them out when they are not set (`omit`) or not (`keep`).
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident: $ty:ty = $wire:literal $rule:ident, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
            /// Members that Tyk's record does not have. They survive a load and a save.
            pub unknown: $crate::wire::Unknown,
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut record = $name::default();
                        while let Some(member) = map.next_key::<String>()? {
                            $(
                                if member.eq_ignore_ascii_case($wire) {
                                    if let Some(read) = map.next_value::<Option<$crate::wire::Read<$ty>>>()? {
                                        $crate::wire::Member::take_later(&mut record.$field, read.0);
                                    }
                                    continue;
                                }
                            )*
                            record.unknown.insert(member, map.next_value()?);
                        }
                        Ok(record)
                    }
                }
                deserializer.deserialize_map(Visitor)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                $(
                    if $crate::wire::record!(@writes $rule, &self.$field) {
                        map.serialize_entry($wire, &$crate::wire::Written(&self.$field))?;
                    }
                )*
                for (member, value) in &self.unknown {
                    map.serialize_entry(member, value)?;
                }
                map.end()
            }
        }

        $crate::wire::plain_members!($name);
    };
    (@writes keep, $field:expr) => { true };
    (@writes omit, $field:expr) => { !$crate::wire::Member::is_unset($field) };
}
pub(crate) use record;
