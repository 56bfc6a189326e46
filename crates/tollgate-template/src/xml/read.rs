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

use std::borrow::Cow;

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use serde_json::Value as Json;

use super::{ATTRIBUTE, TEXT, charset, is_char, is_name};
use crate::{
    InputError, MixedContent,
    error::Fault,
    read::grouped,
    value::{Entry, Heap, Value},
};

/// How deeply elements may be nested.
const DEEPEST: usize = 128;

/// How much a document may take as a tree of JSON, in bytes, about.
const MOST: usize = 128 << 20;

/// What a value and its name take there, besides their texts.
const MEMBER: usize = 64;

/// What a map takes there besides, however few its members are: they come in nodes of eleven.
const MAP: usize = 640;

/// Reads a document as a tree of JSON. One of nothing is `<_/>`.
pub(crate) fn read(bytes: &[u8], mixed: MixedContent) -> Result<Json, InputError> {
    let heap = Heap::within(MOST, MOST, 0);
    let members = members(&heap, bytes, mixed)?;
    let mut left = MOST;
    let members = members
        .into_iter()
        .map(|(name, value)| Some((text(name, &mut left)?, tree(&heap, value, &mut left)?)));
    let members = members.collect::<Option<serde_json::Map<_, _>>>();
    members.map(Json::Object).ok_or_else(InputError::too_large)
}

fn text(text: &[u8], left: &mut usize) -> Option<String> {
    *left = left.checked_sub(MEMBER + text.len())?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The tree of a value that was read; none where it takes too much.
fn tree<'r>(heap: &'r Heap<'r>, value: Value<'r>, left: &mut usize) -> Option<Json> {
    Some(match value {
        Value::Str(value) => text(value, left)?.into(),
        Value::List(list) => {
            let items = list.iter().map(|item| tree(heap, item, left));
            Json::Array(items.collect::<Option<_>>()?)
        }
        Value::Map(map) => {
            *left = left.checked_sub(MAP)?;
            let members = heap.entries(map);
            let members =
                members.map(|(name, value)| Some((text(name, left)?, tree(heap, value, left)?)));
            Json::Object(members.collect::<Option<_>>()?)
        }
        _ => Json::Null,
    })
}

/// The members of a document: its root.
pub(crate) fn members<'r>(
    heap: &'r Heap<'r>,
    bytes: &'r [u8],
    mixed: MixedContent,
) -> Result<Vec<Entry<'r>>, InputError> {
    let has_room = |bytes| heap.room_for(bytes).is_ok();
    let text = charset::to_utf8(bytes, has_room)?;
    let text = match text {
        Cow::Borrowed(text) => text,
        Cow::Owned(text) => {
            let kept = heap.kept_text(text.into_bytes());
            str::from_utf8(kept.map_err(|_| InputError::too_large())?).unwrap_or_default()
        }
    };
    let text = if text.is_empty() { "<_/>" } else { text };
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.check_comments = true;
    config.check_end_names = true;
    let mut document = Document {
        heap,
        source: text,
        reader,
        mixed,
        whole: None,
        text: Vec::new(),
        open: Vec::new(),
        members: Vec::new(),
    };
    let read = document.read();
    read.map(|root| vec![root]).map_err(|stop| {
        let Stop::Wrong(message) = stop else {
            return InputError::too_large();
        };
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

/// Why a document can not be read.
enum Stop {
    Wrong(String),
    Full,
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

impl From<&str> for Stop {
    fn from(message: &str) -> Self {
        Self::Wrong(message.into())
    }
}

impl From<Fault> for Stop {
    fn from(_: Fault) -> Self {
        Self::Full
    }
}

struct Document<'r> {
    heap: &'r Heap<'r>,
    source: &'r str,
    reader: Reader<&'r [u8]>,
    mixed: MixedContent,
    /// The text since the last markup, where it is one piece of the source.
    whole: Option<&'r str>,
    /// The same where it is not; entities are part of it.
    text: Vec<u8>,
    open: Vec<Element<'r>>,
    /// The attributes and elements of all that are open, those of the innermost last.
    members: Vec<Entry<'r>>,
}

/// An element that is not closed yet.
struct Element<'r> {
    name: &'r [u8],
    /// Where its members begin.
    start: usize,
    /// The text that came before any of them, or all of it.
    text: Option<Text<'r>>,
    /// What its name takes in the parser.
    held: usize,
}

enum Text<'r> {
    Kept(&'r [u8]),
    /// Several pieces.
    Joined(Vec<u8>),
}

impl<'r> Document<'r> {
    fn read(&mut self) -> Result<Entry<'r>, Stop> {
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
                    self.push(char.encode_utf8(&mut [0; 4]).as_bytes())?;
                }
                Event::CData(data) => {
                    self.end_text()?;
                    self.append_checked(&data)?;
                    self.end_text()?;
                }
                Event::Start(start) => {
                    self.end_text()?;
                    let element = self.opened(&start)?;
                    if self.open.len() >= DEEPEST {
                        return Err("elements are nested too deeply".into());
                    }
                    self.open.push(element);
                }
                Event::Empty(start) => {
                    self.end_text()?;
                    let element = self.opened(&start)?;
                    if let Some(root) = self.close(element)? {
                        return Ok(root);
                    }
                }
                Event::End(_) => {
                    self.end_text()?;
                    let element = self.open.pop().ok_or("an end without a start")?;
                    if let Some(root) = self.close(element)? {
                        return Ok(root);
                    }
                }
                Event::Decl(declaration) => {
                    if declared(&declaration, "version=").is_some_and(|version| version != "1.0") {
                        return Err("only version 1.0 is supported".into());
                    }
                    self.end_text()?;
                }
                Event::Comment(_) | Event::PI(_) | Event::DocType(_) => self.end_text()?,
                Event::Eof => return Err("the document ends before its root does".into()),
            }
        }
    }

    /// The same text in the source, where it is a part of it.
    fn within(&self, part: &str) -> Option<&'r str> {
        let start = (part.as_ptr().addr()).checked_sub(self.source.as_ptr().addr())?;
        self.source.get(start..start.checked_add(part.len())?)
    }

    fn kept(&self, part: &str) -> Result<&'r [u8], Fault> {
        match self.within(part) {
            Some(part) => Ok(part.as_bytes()),
            None => self.heap.kept(part.as_bytes()),
        }
    }

    /// An element that begins.
    fn opened(&mut self, start: &BytesStart<'_>) -> Result<Element<'r>, Stop> {
        /// The parser keeps the names of open elements in a buffer that grows.
        const BUFFERS: usize = 3;
        let name = start.name();
        let name = name.as_ref();
        let held = BUFFERS * name.len();
        self.heap.hold(held)?;
        let element = Element {
            name: self.kept(local(name)?)?,
            start: self.members.len(),
            text: None,
            held,
        };
        let mut attributes = start.attributes();
        for attribute in attributes.with_checks(false) {
            let attribute = attribute.map_err(|err| err.to_string())?;
            let name = local(attribute.key.as_ref())?;
            self.heap.room_for(2 * name.len())?;
            let key = [ATTRIBUTE, name].concat();
            let key = self.heap.kept(key.as_bytes())?;
            let value = self.unescaped(&attribute.value)?;
            self.member(key, Value::Str(value))?;
        }
        Ok(element)
    }

    fn member(&mut self, name: &'r [u8], value: Value<'r>) -> Result<(), Fault> {
        self.heap.reserve(&mut self.members, 1)?;
        self.members.push((name, value));
        Ok(())
    }

    /// Text as it stands in the document.
    fn append(&mut self, text: &str) -> Result<(), Stop> {
        if text.contains("]]>") {
            return Err("unescaped ]]> not in CDATA section".into());
        }
        self.append_checked(text)
    }

    fn append_checked(&mut self, text: &str) -> Result<(), Stop> {
        check_chars(text)?;
        if self.open.is_empty() {
            return Ok(()); // Before the root any text may stand.
        }
        let is_first = self.whole.is_none() && self.text.is_empty();
        if is_first
            && !text.contains('\r')
            && let Some(whole) = self.within(text)
        {
            self.whole = Some(whole);
            return Ok(());
        }
        for (at, line) in text.split('\r').enumerate() {
            // CR and CR LF are LF.
            if at > 0 && !line.starts_with('\n') {
                self.push(b"\n")?;
            }
            self.push(line.as_bytes())?;
        }
        Ok(())
    }

    /// Adds to the text since the last markup.
    fn push(&mut self, text: &[u8]) -> Result<(), Fault> {
        if let Some(whole) = self.whole.take() {
            self.push(whole.as_bytes())?;
        }
        self.heap.reserve(&mut self.text, text.len())?;
        self.text.extend_from_slice(text);
        Ok(())
    }

    /// Gives the text so far to the element that it stands in.
    fn end_text(&mut self) -> Result<(), Fault> {
        let whole = self.whole.take();
        let text = whole.map(|whole| trimmed(whole.as_bytes()));
        let is_empty = text.unwrap_or_else(|| trimmed(&self.text)).is_empty();
        let is_open = !self.open.is_empty();
        if !is_empty && is_open {
            self.give(text)?;
        }
        self.text.clear();
        Ok(())
    }

    /// The same for a text that is there, in the source or not.
    fn give(&mut self, text: Option<&'r [u8]>) -> Result<(), Fault> {
        let heap = self.heap;
        let kept = |made: &[u8]| match text {
            Some(text) => Ok(text),
            None => heap.kept(made),
        };
        let made = trimmed(&self.text);
        let Some(element) = self.open.last_mut() else {
            return Ok(());
        };
        let has_members = self.members.len() > element.start;
        match (self.mixed, &mut element.text) {
            (MixedContent::Tyk, _) if has_members => {
                let kept = kept(made)?;
                return self.member(TEXT.as_bytes(), Value::Str(kept));
            }
            (MixedContent::Tyk, own) | (MixedContent::Joined, own @ None) => {
                *own = Some(Text::Kept(kept(made)?));
            }
            (MixedContent::Joined, Some(own)) => {
                if let Text::Kept(first) = own {
                    let mut all = Vec::new();
                    heap.reserve(&mut all, first.len())?;
                    all.extend_from_slice(first);
                    *own = Text::Joined(all);
                }
                if let Text::Joined(all) = own {
                    let text = text.unwrap_or(made);
                    heap.reserve(all, text.len())?;
                    all.extend_from_slice(text);
                }
            }
        }
        Ok(())
    }

    /// Closes an element; returns the document where it was the root.
    fn close(&mut self, element: Element<'r>) -> Result<Option<Entry<'r>>, Stop> {
        let Element {
            name,
            start,
            text,
            held,
        } = element;
        self.heap.release(held);
        let text = match text {
            None => None,
            Some(Text::Kept(text)) => Some(text),
            Some(Text::Joined(text)) => {
                let kept = self.heap.kept(&text)?;
                self.heap.release(text.capacity());
                Some(kept)
            }
        };
        let has_members = self.members.len() > start;
        let value = match (text, self.mixed) {
            (Some(text), MixedContent::Joined) if has_members => {
                self.member(TEXT.as_bytes(), Value::Str(text))?;
                self.map(start)?
            }
            (Some(text), _) => Value::Str(text),
            (None, _) if has_members => self.map(start)?,
            (None, _) => Value::Str(b""),
        };
        self.members.truncate(start);
        if self.open.is_empty() {
            self.heap
                .release(self.members.capacity() * size_of::<Entry<'r>>());
            self.heap.release(self.text.capacity());
            return Ok(Some((name, value)));
        }
        self.member(name, value)?;
        Ok(None)
    }

    /// The map of the members from there on: of attributes and texts with one name the last counts.
    fn map(&mut self, start: usize) -> Result<Value<'r>, Fault> {
        let is_single =
            |name: &[u8]| name.starts_with(ATTRIBUTE.as_bytes()) || name == TEXT.as_bytes();
        grouped(self.heap, &mut self.members, start, is_single)?;
        self.heap.members(&self.members[start..])
    }

    /// The value of an attribute.
    fn unescaped(&self, value: &str) -> Result<&'r [u8], Stop> {
        if value.contains('<') {
            return Err("unescaped < inside quoted string".into());
        }
        check_chars(value)?;
        if !value.contains(['\r', '&']) {
            return Ok(self.kept(value)?);
        }
        self.heap.room_for(4 * value.len())?;
        let value = value.replace("\r\n", "\n").replace('\r', "\n");
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
        Ok(self.heap.kept(out.as_bytes())?)
    }
}

/// What a declaration says of itself, in quotes behind a name.
fn declared<'d>(declaration: &'d str, name: &str) -> Option<&'d str> {
    let mut parts = declaration.split(name).skip(1);
    parts.find_map(|value| {
        let quote = value
            .chars()
            .next()
            .filter(|char| matches!(char, '"' | '\''))?;
        value[1..].split(quote).next()
    })
}

fn check_chars(text: &str) -> Result<(), String> {
    match text.chars().find(|char| !is_char(*char)) {
        Some(char) => Err(format!("illegal character code U+{:04X}", u32::from(char))),
        None => Ok(()),
    }
}

/// A text without white space at its ends.
fn trimmed(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b'\t' | b'\r' | b'\n' | 8 | b' ');
    let start = text.iter().position(|byte| !is_space(byte));
    let end = text.iter().rposition(|byte| !is_space(byte));
    match (start, end) {
        (Some(start), Some(end)) => &text[start..=end],
        _ => b"",
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
    // As in Go, half a pair of UTF-16 is a character that is not known.
    let char = code.and_then(|code| match code {
        0xd800..0xe000 => Some(char::REPLACEMENT_CHARACTER),
        code => char::from_u32(code).filter(|char| is_char(*char)),
    });
    char.ok_or_else(|| "invalid character entity".into())
}

/// The local part of a name; none where it is no name.
fn local(name: &str) -> Result<&str, String> {
    if !is_name(name) {
        return Err("invalid XML name".into());
    }
    match name.split_once(':') {
        // As in Go: a name with an empty half, or with two colons, is one name or an error.
        Some((prefix, local)) if !prefix.is_empty() && !local.is_empty() => {
            if local.contains(':') {
                return Err("expected element name after <".into());
            }
            Ok(local)
        }
        _ => Ok(name),
    }
}
