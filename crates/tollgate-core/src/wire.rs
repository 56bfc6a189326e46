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
//! `record!` declares a struct that reads and writes so.
//!
//! ```
//! use tollgate_core::Session;
//!
//! let error = r#"{"alias": "joe", "rate": "ten"}"#.parse::<Session>().unwrap_err();
//! assert_eq!(error.path(), "rate");
//! ```

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, DeserializeSeed, Visitor},
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

/// Reads a record; text after the object is an error, and broken UTF-8 and escapes of half a character are
/// read as U+FFFD.
pub(crate) fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, RecordError> {
    let json = String::from_utf8_lossy(json);
    read(&json).or_else(|error| match without_halves(&json) {
        Some(json) => read(&json),
        None => Err(error),
    })
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, RecordError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|err| {
        let path = err.path().to_string();
        record_error(path, err.inner())
    })?;
    deserializer
        .end()
        .map_err(|err| record_error(".".into(), &err))?;
    Ok(value)
}

/// The text with U+FFFD for each escape of a surrogate that is half of no pair, as Go reads it; `None` where
/// there is none.
fn without_halves(json: &str) -> Option<String> {
    let mut whole = String::new();
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        let length = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(true), Some(false)) => 12,
            (Some(_), _) => 0,
            (None, _) => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        whole.push_str(before);
        if length == 0 {
            whole.push_str("\\ufffd");
            rest = &escape[6..];
        } else {
            whole.push_str(&escape[..length]);
            rest = &escape[length..];
        }
    }
    whole.push_str(rest);
    (whole != json).then_some(whole)
}

/// Whether a text starts with the escape of a surrogate, and with that of a first half.
fn surrogate(text: &str) -> Option<bool> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    match unit {
        0xd800..0xdc00 => Some(true),
        0xdc00..0xe000 => Some(false),
        _ => None,
    }
}

fn record_error(path: String, err: &serde_json::Error) -> RecordError {
    let text = err.to_string();
    let place = format!(" at line {} column {}", err.line(), err.column());
    let message = text.strip_suffix(&place).unwrap_or(&text);
    RecordError {
        path,
        message: without_text(message),
        line: err.line(),
        column: err.column(),
    }
}

/// The message without a text that stands where none belongs: it may be a secret.
fn without_text(message: &str) -> String {
    const TEXT: &str = "invalid type: string ";
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with(TEXT) => {
            format!("invalid type: a text, expected {expected}")
        }
        _ => message.to_owned(),
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

/// A record's JSON with these values for some of its members, which are there.
pub(crate) fn with_members(json: String, members: &[(&str, &str)]) -> String {
    if members.is_empty() {
        return json;
    }
    let Ok(Raw(mut all)) = serde_json::from_str(&json) else {
        return json;
    };
    for (name, value) in &mut all {
        let other = members.iter().find(|(wanted, _)| *wanted == name);
        if let Some((_, other)) = other {
            *value = RawValue::from_string((*other).to_owned()).expect("is JSON");
        }
    }
    to_json(&Raw(all))
}

/// The members of an object in their order, each as it was written.
struct Raw(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Raw {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        write_escaped(writer, fragment)
    }

    // Of a value's own JSON only texts can hold these characters, so it needs no other care.
    fn write_raw_fragment<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> std::io::Result<()> {
        write_escaped(writer, fragment)
    }
}

fn write_escaped<W: ?Sized + std::io::Write>(writer: &mut W, text: &str) -> std::io::Result<()> {
    let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    let mut rest = text;
    while let Some(at) = rest.find(special) {
        let (plain, tail) = rest.split_at(at);
        let c = tail.chars().next().expect("found just now");
        write!(writer, "{plain}\\u{:04x}", u32::from(c))?;
        rest = &tail[c.len_utf8()..];
    }
    writer.write_all(rest.as_bytes())
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

    /// The same, if it stands there as it is, with nothing escaped: most texts do.
    pub(crate) fn plain_text(&self) -> Option<&str> {
        let text = self.as_str().strip_prefix('"')?.strip_suffix('"')?;
        (!text.contains('\\')).then_some(text)
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

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Json {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        true.into()
    }
}

/// Compares what is said, not how it is spaced. A value that is too deep or too large a number to be
/// looked into equals itself alone.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        let value = |json: &Self| serde_json::from_str::<serde_json::Value>(json.as_str());
        let same_value = || matches!((value(self), value(other)), (Ok(a), Ok(b)) if a == b);
        self.as_str() == other.as_str() || same_value()
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
    /// Reads the value of a further member of the same name: objects keep what it does not name.
    fn read_again<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        *self = Self::read(deserializer)?;
        Ok(())
    }
    /// Drops what Tyk's record does not have, at every level.
    fn forget_unknown(&mut self) {}
}

/// Reads a member into its place in a record; `null` leaves the place as it is.
pub(crate) struct Place<'a, T>(pub(crate) &'a mut T);

impl<'de, T: Member> DeserializeSeed<'de> for Place<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T: Member> Visitor<'de> for Place<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or null")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.read_again(deserializer)
    }
}

/// Reads the members of an object into a record.
pub(crate) struct Members<'a, T>(pub(crate) &'a mut T);

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
    fn forget_unknown(&mut self) {
        self.iter_mut().for_each(T::forget_unknown);
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
    fn read_again<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        self.extend(Self::read(deserializer)?);
        Ok(())
    }
    fn forget_unknown(&mut self) {
        self.values_mut().for_each(V::forget_unknown);
    }
}

impl<T: Member + Default> Member for Option<T> {
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
    fn read_again<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        self.get_or_insert_default().read_again(deserializer)
    }
    fn forget_unknown(&mut self) {
        self.iter_mut().for_each(T::forget_unknown);
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
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[cfg_attr(feature = "schema", schemars(rename = $wire))]
                pub $field: $ty,
            )*
            /// Members that Tyk's record does not have. They survive a load and a save.
            #[cfg_attr(feature = "schema", schemars(skip))]
            pub unknown: $crate::wire::Unknown,
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::wire::Member::read(deserializer)
            }
        }

        impl<'de> serde::de::Visitor<'de> for $crate::wire::Members<'_, $name> {
            type Value = ();

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
                let record = self.0;
                while let Some(member) = map.next_key::<String>()? {
                    $(
                        if member.eq_ignore_ascii_case($wire) {
                            map.next_value_seed($crate::wire::Place(&mut record.$field))?;
                            continue;
                        }
                    )*
                    record.unknown.insert(member, map.next_value()?);
                }
                Ok(())
            }
        }

        impl $crate::wire::Member for $name {
            fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut record = Self::default();
                $crate::wire::Member::read_again(&mut record, deserializer)?;
                Ok(record)
            }
            fn write<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(self, serializer)
            }
            fn is_unset(&self) -> bool {
                *self == Self::default()
            }
            fn read_again<'de, D: serde::Deserializer<'de>>(
                &mut self,
                deserializer: D,
            ) -> Result<(), D::Error> {
                deserializer.deserialize_map($crate::wire::Members(self))
            }
            fn forget_unknown(&mut self) {
                self.unknown.clear();
                $( $crate::wire::Member::forget_unknown(&mut self.$field); )*
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

    };
    (@writes keep, $field:expr) => { true };
    (@writes omit, $field:expr) => { !$crate::wire::Member::is_unset($field) };
}
pub(crate) use record;
