//! Data to XML.
//!
//! A map with one key has that as its root, any other stands in `<doc>`. Keys are sorted; `-name` is an
//! attribute and `#text` the text. A list repeats its element. A key that is no name of XML is an error,
//! and so is a character that XML can not hold.

use super::{TEXT, is_char, is_name};
use crate::{
    error::Fault,
    out::Out,
    print::{DEEPEST_VALUE, too_deep},
    unicode::lossy,
    value::{Heap, List, Map, MapKind, Value},
};

/// `xmlMarshal`
pub(crate) fn marshal<'r>(heap: &'r Heap<'r>, value: Value<'r>) -> Result<Vec<u8>, Fault> {
    let mut out = Out::new(heap);
    write(heap, &mut out, value, heap.left())?;
    Ok(out.into_bytes())
}

/// Writes a value behind what is there, up to `most` bytes in all, about.
pub(crate) fn write<'r>(
    heap: &'r Heap<'r>,
    out: &mut Out<'r>,
    value: Value<'r>,
    most: usize,
) -> Result<(), Fault> {
    let start = out.len();
    let mut writer = Writer {
        heap,
        out,
        start,
        most,
    };
    match value {
        Value::Map(map) if map.kind() == MapKind::Any => writer.root(map)?,
        Value::Map(_) => return Err(Fault::new("xml: unsupported type")),
        value => writer.bare(value, 0)?,
    }
    writer.is_within()
}

struct Writer<'w, 'r> {
    heap: &'r Heap<'r>,
    out: &'w mut Out<'r>,
    /// How long the text was before.
    start: usize,
    most: usize,
}

impl<'r> Writer<'_, 'r> {
    fn is_within(&self) -> Result<(), Fault> {
        if self.out.len() > self.most {
            return Err(self.heap.too_much());
        }
        self.out.is_whole()
    }

    fn push(&mut self, texts: &[&str]) {
        for text in texts {
            self.out.extend_from_slice(text.as_bytes());
        }
    }

    fn root(&mut self, map: Map<'r>) -> Result<(), Fault> {
        let entries = self.heap.entries(map);
        match *entries.as_slice() {
            [(key, value)] if !needs_root(value) => self.element(key, value, 0),
            _ => self.element(b"doc", Value::Map(map), 0),
        }
    }

    fn element(&mut self, key: &[u8], value: Value<'r>, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST_VALUE {
            return Err(too_deep());
        }
        let name = name(key)?;
        self.is_within()?;
        match value {
            Value::List(list) if !list.is_empty() => {
                for item in list.iter() {
                    self.element(key, item, depth + 1)?;
                }
                Ok(())
            }
            Value::Missing | Value::Nil | Value::List(_) => {
                self.push(&["<", name, "/>"]);
                Ok(())
            }
            Value::Map(map) => self.members(name, map, depth),
            Value::Str(b"") => {
                self.push(&["<", name, "/>"]);
                Ok(())
            }
            value => {
                self.push(&["<", name, ">"]);
                self.text(value)?;
                self.push(&["</", name, ">"]);
                Ok(())
            }
        }
    }

    fn members(&mut self, name_of: &str, map: Map<'r>, depth: usize) -> Result<(), Fault> {
        let entries = self.heap.entries(map);
        let entries = entries.as_slice();
        let is_attribute = |key: &[u8]| key.len() > 1 && key.starts_with(b"-");
        self.push(&["<", name_of]);
        for (key, value) in entries.iter().filter(|(key, _)| is_attribute(key)) {
            if matches!(value, Value::List(_) | Value::Map(_)) || value.is_nil() {
                return Err(Fault::new("an attribute is a text, a number or a boolean"));
            }
            self.push(&[" ", name(&key[1..])?, "=\""]);
            self.text(*value)?;
            self.push(&["\""]);
        }
        let mut others = entries.iter().filter(|(key, _)| !is_attribute(key));
        let is_text = |(key, _): &&(&[u8], Value<'r>)| *key == TEXT.as_bytes();
        match (others.clone().find(is_text), others.clone().count()) {
            (_, 0) => {
                self.push(&["/>"]);
                return Ok(());
            }
            (Some((_, value)), 1) => {
                self.push(&[">"]);
                self.text(*value)?;
            }
            (Some(_), _) => return Err(Fault::new("text can not stand beside elements")),
            (None, _) => {
                self.push(&[">"]);
                others.try_for_each(|(key, value)| self.element(key, *value, depth + 1))?;
            }
        }
        self.push(&["</", name_of, ">"]);
        Ok(())
    }

    /// Writes the text of a value, escaped.
    fn text(&mut self, value: Value<'r>) -> Result<(), Fault> {
        let made;
        let text = match value {
            Value::Str(text) => text,
            value => {
                made = crate::print::text(self.heap, value)?;
                &made
            }
        };
        let escape = |char| match char {
            '&' => Some("&amp;"),
            '<' => Some("&lt;"),
            '>' => Some("&gt;"),
            '"' => Some("&quot;"),
            '\'' => Some("&apos;"),
            _ => None,
        };
        for chunk in text.utf8_chunks() {
            let valid = chunk.valid();
            let mut written = 0;
            for (at, char) in valid.char_indices() {
                if let Some(escaped) = escape(char) {
                    self.push(&[&valid[written..at], escaped]);
                    written = at + 1; // What is escaped is a byte.
                } else if !is_char(char) {
                    let message = "the text has a character that XML can not hold";
                    return Err(Fault::new(message));
                }
            }
            self.push(&[&valid[written..]]);
            if !chunk.invalid().is_empty() {
                self.push(&["\u{fffd}"]);
            }
        }
        Ok(())
    }

    /// A value that is no map: an element with the name of its type.
    fn bare(&mut self, value: Value<'r>, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST_VALUE {
            return Err(too_deep());
        }
        let name = match value {
            Value::Missing | Value::Nil => return Ok(()),
            Value::List(list) => return self.bare_list(list, depth),
            Value::Map(_) | Value::Certificate(_) | Value::Complex(..) => {
                let kind = value.type_name();
                return Err(Fault::new(format!("xml: unsupported type: {kind}")));
            }
            Value::Time(time) => {
                let text = time.rfc3339();
                return self.bare_element("Time", &text);
            }
            Value::Version(version) => {
                let text = version.to_string();
                return self.bare_element("Version", &text);
            }
            value => value.type_name(),
        };
        let text = match value {
            Value::Float(value) => crate::float::format(value, 'g', None),
            Value::Str(text) => {
                self.heap.room_for(text.len().saturating_mul(3))?;
                lossy(text).into_owned()
            }
            value => {
                let text = crate::print::text(self.heap, value)?;
                lossy(&text).into_owned()
            }
        };
        self.bare_element(name, &text)
    }

    fn bare_element(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        if self.out.len() > self.start {
            self.push(&["\n"]);
        }
        self.push(&["<", name, ">"]);
        for char in text.chars() {
            let mut bytes = [0; 4];
            let text = match char {
                '"' => "&#34;",
                '\'' => "&#39;",
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '\t' => "&#x9;",
                '\n' => "&#xA;",
                '\r' => "&#xD;",
                char if is_char(char) => char.encode_utf8(&mut bytes),
                _ => "\u{fffd}",
            };
            self.push(&[text]);
        }
        self.push(&["</", name, ">"]);
        Ok(())
    }

    fn bare_list(&mut self, list: List<'r>, depth: usize) -> Result<(), Fault> {
        self.is_within()?;
        for item in list.iter() {
            self.bare(item, depth + 1)?;
        }
        Ok(())
    }
}

/// Whether a list can not stand at the root: one of maps alone becomes several roots, as Tyk has it.
fn needs_root(value: Value<'_>) -> bool {
    match value {
        Value::List(list) => list.iter().any(|item| !matches!(item, Value::Map(_))),
        _ => false,
    }
}

fn name(key: &[u8]) -> Result<&str, Fault> {
    let name = str::from_utf8(key).ok().filter(|name| is_name(name));
    name.ok_or_else(|| Fault::new("a key is no name of XML"))
}
