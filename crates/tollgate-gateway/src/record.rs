//! What the structs of Tyk's files have in common.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// Declares a struct of a file: every member may be missing.
macro_rules! record {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$field_meta:meta])* pub $field:ident: $ty:ty, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
        #[serde(default)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }
    )*};
}
pub(crate) use record;

/// A part of a file that is kept as it is, since nothing here reads it yet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Unread(pub Value);

impl JsonSchema for Unread {
    fn schema_name() -> Cow<'static, str> {
        "Unread".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::from(true)
    }
}

/// A length of time as Go writes it, `1m30s` or a number of nanoseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GoDuration(pub Duration);

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "examples": ["1m30s", 500_000_000]})
    }
}

impl std::str::FromStr for GoDuration {
    type Err = ();

    /// Reads `1h2m3.5s`; an empty text is no time.
    fn from_str(text: &str) -> Result<Self, ()> {
        const UNITS: [(&str, f64); 7] = [
            ("ns", 1e-9),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
        ];
        let mut seconds = 0.0;
        let mut rest = text.trim();
        if rest == "0" {
            return Ok(Self::default());
        }
        while !rest.is_empty() {
            let is_digit = |c: char| c.is_ascii_digit() || c == '.';
            let number_end = rest.find(|c| !is_digit(c)).ok_or(())?;
            let number: f64 = rest[..number_end].parse().map_err(|_| ())?;
            rest = &rest[number_end..];
            let unit_end = rest.find(is_digit).unwrap_or(rest.len());
            let (_, unit) = UNITS
                .iter()
                .find(|(name, _)| *name == &rest[..unit_end])
                .ok_or(())?;
            seconds += number * unit;
            rest = &rest[unit_end..];
        }
        Duration::try_from_secs_f64(seconds)
            .map(Self)
            .map_err(|_| ())
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNanoseconds;

        impl de::Visitor<'_> for TextOrNanoseconds {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time as `1m30s`, or a number of nanoseconds")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
                let wrong = |()| E::invalid_value(de::Unexpected::Str(text), &self);
                text.parse().map_err(wrong)
            }
            fn visit_u64<E>(self, nanoseconds: u64) -> Result<GoDuration, E> {
                Ok(GoDuration(Duration::from_nanos(nanoseconds)))
            }
            fn visit_i64<E: de::Error>(self, nanoseconds: i64) -> Result<GoDuration, E> {
                let wrong = |_| E::invalid_value(de::Unexpected::Signed(nanoseconds), &self);
                let nanoseconds = u64::try_from(nanoseconds).map_err(wrong)?;
                self.visit_u64(nanoseconds)
            }
        }

        deserializer.deserialize_any(TextOrNanoseconds)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanoseconds = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        serializer.serialize_u64(nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, milliseconds: Option<u64>) {
        let read = serde_json::from_str::<GoDuration>(json).ok();
        assert_eq!(
            read,
            milliseconds.map(Duration::from_millis).map(GoDuration),
            "{json}"
        );
    }

    #[test]
    fn a_length_of_time_is_read_as_go_reads_it() {
        check(r#""1s500ms""#, Some(1500));
        check(r#""1.5h""#, Some(5_400_000));
        check(r#""2m""#, Some(120_000));
        check(r#""""#, Some(0));
        check("500000000", Some(500));
        check("0", Some(0));
        for wrong in [r#""5""#, r#""x""#, r#""5 apples""#, "-1", "1.5", "true"] {
            check(wrong, None);
        }
    }
}
