//! Data to XML.
//!
//! A map with one key has that as its root, any other stands in `<doc>`. Keys are sorted; `-name` is an
//! attribute and `#text` the text. A list repeats its element. A key that is no name of XML is an error,
//! and so is a character that XML can not hold.

use super::{TEXT, is_char, is_name};
use crate::{
    error::Fault,
    print::{DEEPEST_VALUE, too_deep},
    value::{Heap, List, Map, MapKind, Value},
};

/// `xmlMarshal`
pub(crate) fn marshal<'r>(heap: &'r Heap<'r>, value: Value<'r>) -> Result<Vec<u8>, Fault> {
    let mut writer = Writer {
        heap,
        out: String::new(),
        most: heap.left(),
    };
    match value {
        Value::Map(map) if map.kind() == MapKind::Any => writer.root(map)?,
        Value::Map(_) => return Err(Fault::new("xml: unsupported type")),
        value => writer.bare(value, 0)?,
    }
    Ok(writer.out.into_bytes())
}

struct Writer<'r> {
    heap: &'r Heap<'r>,
    out: String,
    most: usize,
}

impl<'r> Writer<'r> {
    fn root(&mut self, map: Map<'r>) -> Result<(), Fault> {
        let entries = self.heap.entries(map);
        match *entries {
            [(key, value)] if !needs_root(value) => self.element(key, value, 0),
            _ => self.element(b"doc", Value::Map(map), 0),
        }
    }

    fn element(&mut self, key: &[u8], value: Value<'r>, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST_VALUE {
            return Err(too_deep());
        }
        let name = name(key)?;
        if self.out.len() > self.most {
            return Err(Fault::limit("the template makes more than it may hold"));
        }
        match value {
            Value::List(list) if list.len() > 0 => {
                for item in list.iter() {
                    self.element(key, item, depth + 1)?;
                }
                Ok(())
            }
            Value::Missing | Value::Nil | Value::List(_) => {
                self.out.push_str(&format!("<{name}/>"));
                Ok(())
            }
            Value::Map(map) => self.members(name, map, depth),
            value => {
                let text = self.text(value)?;
                self.close(name, &text);
                Ok(())
            }
        }
    }

    /// An element with its text, whose start tag is not there yet.
    fn close(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            self.out.push_str(&format!("<{name}/>"));
        } else {
            self.out.push_str(&format!("<{name}>{text}</{name}>"));
        }
    }

    fn members(&mut self, name_of: &str, map: Map<'r>, depth: usize) -> Result<(), Fault> {
        let entries = self.heap.entries(map);
        let is_attribute = |key: &[u8]| key.len() > 1 && key.starts_with(b"-");
        self.out.push_str(&format!("<{name_of}"));
        let mut others = Vec::new();
        for (key, value) in entries {
            if !is_attribute(key) {
                others.push((key, value));
                continue;
            }
            if matches!(value, Value::List(_) | Value::Map(_)) || value.is_nil() {
                return Err(Fault::new("an attribute is a text, a number or a boolean"));
            }
            let value = self.text(value)?;
            let key = name(&key[1..])?;
            self.out.push_str(&format!(" {key}=\"{value}\""));
        }
        if others.is_empty() {
            self.out.push_str("/>");
            return Ok(());
        }
        if let [(key, value)] = *others
            && key == TEXT.as_bytes()
        {
            let text = self.text(value)?;
            self.out.push_str(&format!(">{text}</{name_of}>"));
            return Ok(());
        }
        if others.iter().any(|(key, _)| *key == TEXT.as_bytes()) {
            return Err(Fault::new("text can not stand beside elements"));
        }
        self.out.push('>');
        for (key, value) in others {
            self.element(key, value, depth + 1)?;
        }
        self.out.push_str(&format!("</{name_of}>"));
        Ok(())
    }

    /// The text of a value, escaped.
    fn text(&self, value: Value<'r>) -> Result<String, Fault> {
        let text = match value {
            Value::Str(text) => text.to_vec(),
            value => crate::print::text(self.heap, value)?,
        };
        let text = String::from_utf8_lossy(&text);
        let mut out = String::with_capacity(text.len());
        for char in text.chars() {
            match char {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                '\'' => out.push_str("&apos;"),
                char if is_char(char) => out.push(char),
                _ => return Err(Fault::new("the text has a character that XML can not hold")),
            }
        }
        Ok(out)
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
            Value::Str(text) => String::from_utf8_lossy(text).into_owned(),
            value => {
                let text = crate::print::text(self.heap, value)?;
                String::from_utf8_lossy(&text).into_owned()
            }
        };
        self.bare_element(name, &text)
    }

    fn bare_element(&mut self, name: &str, text: &str) -> Result<(), Fault> {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(&format!("<{name}>"));
        for char in text.chars() {
            match char {
                '"' => self.out.push_str("&#34;"),
                '\'' => self.out.push_str("&#39;"),
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '\t' => self.out.push_str("&#x9;"),
                '\n' => self.out.push_str("&#xA;"),
                '\r' => self.out.push_str("&#xD;"),
                char if is_char(char) => self.out.push(char),
                _ => self.out.push('\u{fffd}'),
            }
        }
        self.out.push_str(&format!("</{name}>"));
        Ok(())
    }

    fn bare_list(&mut self, list: List<'r>, depth: usize) -> Result<(), Fault> {
        if self.out.len() > self.most {
            return Err(Fault::limit("the template makes more than it may hold"));
        }
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
