//! XML to data.
//!
//! | XML | data |
//! |---|---|
//! | `<a>x</a>` | `{"a": "x"}`; white space at the ends of a text goes |
//! | `<a/>` | `{"a": ""}` |
//! | `<a id="1"/>` | `{"a": {"-id": "1"}}` |
//! | `<a id="1">x</a>` | `{"a": {"-id": "1", "#text": "x"}}` |
//! | `<a><b>1</b><c/><b>2</b></a>` | `{"a": {"b": ["1", "2"], "c": ""}}` |
//! | `<p:a xmlns:p="u"/>` | `{"a": {"-p": "u"}}`: prefixes go |
//!
//! All values are texts. Entities of the document's own are refused, and no other document is fetched.

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde_json::{Map, Value as Json};

use super::{ATTRIBUTE, TEXT, charset, is_char, is_name};
use crate::{InputError, MixedContent};

/// How deeply elements may be nested.
const DEEPEST: usize = 128;

/// How much a document may take once it is read, in bytes, about.
const MOST: usize = 128 << 20;

/// What a value and its name take, besides their texts.
const MEMBER: usize = 64;

/// What a map takes besides, however few its members are: they come in nodes of eleven.
const MAP: usize = 640;

/// Reads a document. One of nothing is `<_/>`.
pub(crate) fn read(bytes: &[u8], mixed: MixedContent) -> Result<Json, InputError> {
    let text =
        charset::to_utf8(bytes).ok_or(InputError::new("the document is in no known encoding"))?;
    let text = if text.is_empty() { "<_/>".into() } else { text };
    let mut reader = Reader::from_str(&text);
    let config = reader.config_mut();
    config.check_comments = true;
    config.check_end_names = true;
    let mut document = Document {
        reader,
        mixed,
        text: String::new(),
        open: Vec::new(),
        left: MOST,
    };
    let read = document.read();
    read.map_err(|message| {
        let at = usize::try_from(document.reader.error_position()).unwrap_or(usize::MAX);
        let at = if at == 0 {
            usize::try_from(document.reader.buffer_position()).unwrap_or(0)
        } else {
            at
        };
        let (line, _) = crate::error::place(text.as_bytes(), at);
        InputError::new(format!("XML syntax error on line {line}: {message}"))
    })
}

struct Document<'x> {
    reader: Reader<&'x [u8]>,
    mixed: MixedContent,
    /// The text since the last markup; entities are part of it.
    text: String,
    open: Vec<Element>,
    /// How many bytes values may still take.
    left: usize,
}

/// An element that is not closed yet.
struct Element {
    name: String,
    /// Attributes and elements.
    members: Map<String, Json>,
    /// The text that came before any of them.
    value: Option<String>,
}

impl Document<'_> {
    fn read(&mut self) -> Result<Json, String> {
        loop {
            let event = self.reader.read_event().map_err(|err| err.to_string())?;
            match event {
                Event::Text(text) => {
                    self.append(&text)?;
                }
                Event::GeneralRef(reference) => {
                    let char = entity(&reference)?;
                    if self.open.is_empty() {
                        continue;
                    }
                    self.text.push(char);
                }
                Event::CData(data) => {
                    self.end_text();
                    self.append_checked(&data)?;
                    self.end_text();
                }
                Event::Start(start) => {
                    self.end_text();
                    let element = self.opened(&start)?;
                    if self.open.len() >= DEEPEST {
                        return Err("elements are nested too deeply".into());
                    }
                    self.open.push(element);
                }
                Event::Empty(start) => {
                    self.end_text();
                    let element = self.opened(&start)?;
                    if let Some(root) = self.close(element) {
                        return Ok(root);
                    }
                }
                Event::End(_) => {
                    self.end_text();
                    let element = self.open.pop().ok_or("an end without a start")?;
                    if let Some(root) = self.close(element) {
                        return Ok(root);
                    }
                }
                Event::Decl(declaration) => {
                    let version = declaration.version().map_err(|err| err.to_string())?;
                    if version != "1.0" {
                        return Err("only version 1.0 is supported".into());
                    }
                    self.end_text();
                }
                Event::Comment(_) | Event::PI(_) | Event::DocType(_) => self.end_text(),
                Event::Eof => return Err("the document ends before its root does".into()),
            }
        }
    }

    /// Text as it stands in the document.
    /// An element that begins. Its parent has a member by it.
    fn opened(&mut self, start: &BytesStart<'_>) -> Result<Element, String> {
        let element = opened(start)?;
        let is_first = |element: &Element| element.members.is_empty();
        let maps =
            usize::from(self.open.last().is_some_and(is_first)) + usize::from(!is_first(&element));
        let members = 1 + element.members.len();
        let taken = maps * MAP + members * MEMBER + start.len();
        let left = self.left.checked_sub(taken);
        self.left = left.ok_or("it takes more memory to be read than it may")?;
        Ok(element)
    }

    fn append(&mut self, text: &str) -> Result<(), String> {
        if self.open.is_empty() {
            return Ok(()); // Before the root anything may stand.
        }
        if text.contains("]]>") {
            return Err("unescaped ]]> not in CDATA section".into());
        }
        self.append_checked(text)
    }

    fn append_checked(&mut self, text: &str) -> Result<(), String> {
        if self.open.is_empty() {
            return Ok(());
        }
        let text = with_line_feeds(text);
        if let Some(char) = text.chars().find(|char| !is_char(*char)) {
            return Err(format!("illegal character code U+{:04X}", u32::from(char)));
        }
        self.text.push_str(&text);
        Ok(())
    }

    /// Gives the text so far to the element that it stands in.
    fn end_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        let trimmed = text.trim_matches(['\t', '\r', '\n', '\x08', ' ']);
        let Some(element) = self.open.last_mut().filter(|_| !trimmed.is_empty()) else {
            return;
        };
        match self.mixed {
            MixedContent::Tyk if element.members.is_empty() => {
                element.value = Some(trimmed.into());
            }
            MixedContent::Tyk => {
                element.members.insert(TEXT.into(), trimmed.into());
            }
            MixedContent::Joined => element.value.get_or_insert_default().push_str(trimmed),
        }
    }

    /// Closes an element; returns the document where it was the root.
    fn close(&mut self, element: Element) -> Option<Json> {
        let Element {
            name,
            mut members,
            value,
        } = element;
        let value = match (value, self.mixed) {
            (Some(text), MixedContent::Joined) if !members.is_empty() => {
                members.insert(TEXT.into(), text.into());
                members.into()
            }
            (Some(text), _) => Json::String(text),
            (None, _) if members.is_empty() => Json::String(String::new()),
            (None, _) => members.into(),
        };
        let Some(parent) = self.open.last_mut() else {
            return Some(Json::Object([(name, value)].into_iter().collect()));
        };
        match parent.members.get_mut(&name) {
            None => {
                parent.members.insert(name, value);
            }
            Some(Json::Array(all)) => all.push(value),
            Some(first) => {
                let first_value = first.take();
                *first = Json::Array(vec![first_value, value]);
            }
        }
        None
    }
}

/// CR and CR LF are LF.
fn with_line_feeds(text: &str) -> String {
    if text.contains('\r') {
        text.replace("\r\n", "\n").replace('\r', "\n")
    } else {
        text.to_owned()
    }
}

/// The character of `&name;`.
fn entity(name: &str) -> Result<char, String> {
    match name {
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "amp" => return Ok('&'),
        "quot" => return Ok('"'),
        "apos" => return Ok('\''),
        _ => {}
    }
    let code = name
        .strip_prefix('#')
        .and_then(|number| match number.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        });
    let char = code.and_then(char::from_u32).filter(|char| is_char(*char));
    char.ok_or_else(|| "invalid character entity".into())
}

/// The local part of a name; none where it is no name.
fn local(name: &str) -> Result<String, String> {
    if !is_name(name) {
        return Err("invalid XML name".into());
    }
    match name.split_once(':') {
        // As in Go: a name with an empty half, or with two colons, is one name or an error.
        Some((prefix, local)) if !prefix.is_empty() && !local.is_empty() => {
            if local.contains(':') {
                return Err("expected element name after <".into());
            }
            Ok(local.into())
        }
        _ => Ok(name.into()),
    }
}

fn opened(start: &BytesStart<'_>) -> Result<Element, String> {
    let name = start.name();
    let mut element = Element {
        name: local(name.as_ref())?,
        members: Map::new(),
        value: None,
    };
    let mut attributes = start.attributes();
    for attribute in attributes.with_checks(false) {
        let attribute = attribute.map_err(|err| err.to_string())?;
        let name = local(attribute.key.as_ref())?;
        let key = format!("{ATTRIBUTE}{name}");
        element
            .members
            .insert(key, unescaped(&attribute.value)?.into());
    }
    Ok(element)
}

/// The value of an attribute.
fn unescaped(value: &str) -> Result<String, String> {
    if value.contains('<') {
        return Err("unescaped < inside quoted string".into());
    }
    let value = with_line_feeds(value);
    if let Some(char) = value.chars().find(|char| !is_char(*char)) {
        return Err(format!("illegal character code U+{:04X}", u32::from(char)));
    }
    let mut out = String::with_capacity(value.len());
    let mut rest = &*value;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (name, behind) = rest[at + 1..]
            .split_once(';')
            .ok_or("invalid character entity")?;
        out.push(entity(name)?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}
