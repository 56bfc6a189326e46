//! A JSON object whose members keep their order and their spelling.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

/// The members of an object, in order.
pub(crate) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Reads an object.
    pub(crate) fn of(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The member's JSON.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let member = self.0.iter().find(|(member, _)| member == name);
        member.map(|(_, value)| value.get())
    }

    /// All of them, with their JSON.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.get()))
    }

    /// Sets a member, at its place or at the end.
    pub(crate) fn set(&mut self, name: &str, value: &impl Serialize) {
        let value = serde_json::value::to_raw_value(value).expect("a plain value is JSON");
        match self.0.iter_mut().find(|(member, _)| member == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name.into(), value)),
        }
    }

    /// Sets a member unless it is there.
    pub(crate) fn set_default(&mut self, name: &str, value: &impl Serialize) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("raw JSON is JSON")
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_stays_as_it_was_written() {
        let mut members = Members::of(r#"{"b": 9007199254740993, "a":"\u003c"}"#).unwrap();
        members.set("b2", &1);
        members.set("a", &"x");
        members.set_default("b", &0);
        assert_eq!(
            members.to_json(),
            r#"{"b":9007199254740993,"a":"x","b2":1}"#
        );
        assert_eq!(members.get("nosuch"), None);
    }
}
