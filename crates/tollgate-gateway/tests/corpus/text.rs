//! Texts of the corpus: bytes that are no UTF-8, and the variables in them.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::Value;

/// Stands for the byte 0 where a text is not UTF-8: in a plane that no case uses.
const ESCAPE: u32 = 0x0010_F000;

/// A text of these bytes, each that is no part of UTF-8 as one character of its own.
pub(crate) fn from_bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let escaped = |byte: &u8| char::from_u32(ESCAPE + u32::from(*byte)).expect("is assigned");
        text.extend(chunk.invalid().iter().map(escaped));
    }
    text
}

/// JSON with spaces, as the client wrote it with which the corpus was recorded.
pub(crate) fn json(value: &Value) -> Vec<u8> {
    struct Spaced;

    impl serde_json::ser::Formatter for Spaced {
        fn begin_array_value<W: Write + ?Sized>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> io::Result<()> {
            if first { Ok(()) } else { out.write_all(b", ") }
        }

        fn begin_object_key<W: Write + ?Sized>(
            &mut self,
            out: &mut W,
            first: bool,
        ) -> io::Result<()> {
            if first { Ok(()) } else { out.write_all(b", ") }
        }

        fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
            out.write_all(b": ")
        }
    }

    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Spaced);
    value.serialize(&mut serializer).expect("JSON is JSON");
    text
}

/// The bytes that [`from_bytes`] was given.
pub(crate) fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match u32::from(character).checked_sub(ESCAPE).map(u8::try_from) {
            Some(Ok(byte)) => bytes.push(byte),
            _ => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    bytes
}

/// `{"$base64": …}` in a record becomes the text it stands for.
pub(crate) fn unfold(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let (1, Some(Value::String(bytes))) = (members.len(), members.get("$base64")) {
                let bytes = STANDARD.decode(bytes).expect("a case has base64");
                *value = from_bytes(&bytes).into();
            } else {
                members.values_mut().for_each(unfold);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(unfold),
        _ => {}
    }
}

/// What `${NAME}` stands for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The value with each `${NAME}` filled in, in names of members too.
    pub(crate) fn fill(&self, value: &Value) -> Value {
        each_text(value, &|text| self.fill_text(text))
    }

    pub(crate) fn fill_text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.0 {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        while let Some((before, rest)) = text.split_once("${b64:") {
            let Some((inner, after)) = rest.split_once('}') else {
                break;
            };
            text = format!("{before}{}{after}", STANDARD.encode(inner));
        }
        text
    }

    /// The text with each value that is a variable's as `${NAME}` again, longest first.
    pub(crate) fn name_in(&self, text: &str) -> String {
        let mut values: Vec<_> = self.0.iter().collect();
        values.retain(|(_, value)| !value.is_empty());
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        let mut text = text.to_owned();
        for (name, value) in values {
            text = text.replace(value.as_str(), &format!("${{{name}}}"));
        }
        text
    }
}

fn each_text(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => change(text).into(),
        Value::Array(values) => values
            .iter()
            .map(|value| each_text(value, change))
            .collect(),
        Value::Object(members) => {
            let members = members.iter();
            members
                .map(|(name, value)| (change(name), each_text(value, change)))
                .collect()
        }
        _ => value.clone(),
    }
}
