//! JSON as Go reads and writes it.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::{
    error::Fault,
    float,
    out::Out,
    print::{DEEPEST_VALUE, too_deep},
    unicode::lossy,
    value::{Heap, Items, Map, MapKind, Value},
};

/// How JSON is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    /// On one line, with `<`, `>` and `&` escaped.
    Html,
    /// On one line.
    Raw,
    /// On many lines, with `<`, `>` and `&` escaped.
    Pretty,
}

/// Reads JSON. As in Go, bytes that are no UTF-8 and halves of surrogate pairs are U+FFFD, and of two
/// members with one name the last counts.
pub(crate) fn decode(text: &[u8]) -> Result<Json, serde_json::Error> {
    let text = lossy(text);
    let decoded = serde_json::from_str(&text);
    match decoded {
        Err(_) if has_surrogates(&text) => serde_json::from_str(&without_halves(&text)),
        decoded => decoded,
    }
}

pub(crate) fn has_surrogates(text: &str) -> bool {
    text.contains("\\ud") || text.contains("\\uD")
}

/// The text with U+FFFD for each escape that is half of a pair.
pub(crate) fn without_halves(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let unit = |text: &str| {
            let digits = text.strip_prefix("\\u")?.get(..4)?;
            u16::from_str_radix(digits, 16).ok()
        };
        let length = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out.push_str(rest);
    out
}

/// The value of a document that does not live as long as the rendering.
pub(crate) fn to_value<'r>(heap: &'r Heap<'r>, json: &Json) -> Result<Value<'r>, Fault> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => heap.str(text)?,
        Json::Array(items) => {
            let items = items.iter().map(|item| to_value(heap, item));
            heap.list(&items.collect::<Result<Vec<_>, _>>()?, Items::Any)?
        }
        Json::Object(members) => {
            let mut entries = BTreeMap::new();
            for (name, value) in members {
                entries.insert(heap.bytes(name.as_bytes())?, to_value(heap, value)?);
            }
            Value::Map(Map::Own(heap.map(MapKind::Any, entries)?))
        }
    })
}

/// The JSON of a value.
pub(crate) fn encode<'r>(
    heap: &'r Heap<'r>,
    value: Value<'r>,
    style: Style,
) -> Result<Vec<u8>, Fault> {
    let mut out = Out::new(heap);
    write(heap, &mut out, value, style, heap.left())?;
    Ok(out.into_bytes())
}

/// Writes a value behind what is there, up to `most` bytes in all.
pub(crate) fn write<'r>(
    heap: &'r Heap<'r>,
    out: &mut Out<'r>,
    value: Value<'r>,
    style: Style,
    most: usize,
) -> Result<(), Fault> {
    let mut writer = Writer {
        heap,
        out,
        style,
        most,
    };
    writer.value(value, 0)?;
    if out.len() > most {
        return Err(heap.too_much());
    }
    out.is_whole()
}

struct Writer<'w, 'r> {
    heap: &'r Heap<'r>,
    out: &'w mut Out<'r>,
    style: Style,
    most: usize,
}

impl<'r> Writer<'_, 'r> {
    fn value(&mut self, value: Value<'r>, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST_VALUE {
            return Err(too_deep());
        }
        if self.out.len() > self.most {
            return Err(self.heap.too_much());
        }
        self.out.is_whole()?;
        match value {
            Value::Missing | Value::Nil => self.out.extend_from_slice(b"null"),
            Value::Bool(flag) => {
                self.out
                    .extend_from_slice(if flag { b"true" } else { b"false" });
            }
            Value::Int(number) | Value::Int64(number) => {
                self.out
                    .extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            Value::Byte(number) => {
                self.out
                    .extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            Value::Float(number) if number.is_finite() => {
                self.out.short(|out| float::json(out, number));
            }
            Value::Float(_) | Value::Complex(..) => {
                return Err(Fault::new("json: unsupported value"));
            }
            Value::Str(text) => self.text(text),
            Value::List(list) if list.is_nil() => self.out.extend_from_slice(b"null"),
            Value::List(list) => {
                self.out.push(b'[');
                let mut length = 0;
                for item in list.iter() {
                    self.separate(length, depth + 1);
                    self.value(item, depth + 1)?;
                    length += 1;
                }
                self.close(b']', length, depth);
            }
            Value::Map(map) => {
                let entries = self.heap.entries(map);
                let length = entries.len();
                self.out.push(b'{');
                for (at, (key, value)) in entries.enumerate() {
                    self.separate(at, depth + 1);
                    self.member(key, value, depth + 1)?;
                }
                self.close(b'}', length, depth);
            }
            Value::Time(time) => self.text(time.rfc3339().as_bytes()),
            Value::Version(version) => self.text(version.to_string().as_bytes()),
            Value::Certificate(certificate) => {
                self.out.push(b'{');
                for (at, name) in [&b"Cert"[..], b"Key"].into_iter().enumerate() {
                    self.separate(at, depth + 1);
                    let text = certificate.field(name).unwrap_or_default();
                    self.member(name, Value::Str(text), depth + 1)?;
                }
                self.close(b'}', 2, depth);
            }
        }
        Ok(())
    }

    fn member(&mut self, name: &[u8], value: Value<'r>, depth: usize) -> Result<(), Fault> {
        self.text(name);
        self.out.push(b':');
        if self.style == Style::Pretty {
            self.out.push(b' ');
        }
        self.value(value, depth)
    }

    fn separate(&mut self, at: usize, depth: usize) {
        if at > 0 {
            self.out.push(b',');
        }
        self.line(depth);
    }

    fn close(&mut self, with: u8, length: usize, depth: usize) {
        if length > 0 {
            self.line(depth);
        }
        self.out.push(with);
    }

    fn line(&mut self, depth: usize) {
        if self.style == Style::Pretty {
            self.out.push(b'\n');
            self.out.spaces(2 * depth);
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for chunk in text.utf8_chunks() {
            self.valid(chunk.valid());
            for _ in chunk.invalid() {
                self.out.extend_from_slice(b"\\ufffd");
            }
        }
        self.out.push(b'"');
    }

    fn valid(&mut self, text: &str) {
        let escapes_html = self.style != Style::Raw;
        let mut start = 0;
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                8 => b"\\b",
                12 => b"\\f",
                b'<' if escapes_html => b"\\u003c",
                b'>' if escapes_html => b"\\u003e",
                b'&' if escapes_html => b"\\u0026",
                0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => b"\\u2028",
                0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => b"\\u2029",
                0..=0x1f => {
                    self.out.extend_from_slice(&bytes[start..at]);
                    self.out
                        .extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    start = at + 1;
                    continue;
                }
                _ => continue,
            };
            self.out.extend_from_slice(&bytes[start..at]);
            self.out.extend_from_slice(escape);
            start = at + if *byte == 0xe2 { 3 } else { 1 };
        }
        self.out.extend_from_slice(&bytes[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_pairs_are_replaced() {
        for (text, value) in [
            (r#""\ud83d\ude42""#, "🙂"),
            (r#""a\ud83db""#, "a\u{fffd}b"),
            (r#""\ude42\\ud83d""#, "\u{fffd}\\ud83d"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
        ] {
            assert_eq!(decode(text.as_bytes()).expect(text), value);
        }
        assert!(decode(br#""\ud83""#).is_err());
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused() {
        let deep = "[".repeat(100_000);
        assert!(decode(deep.as_bytes()).is_err());
    }
}
