//! Values of JSON that stay the text that they are in the body.
//!
//! A list of small things takes several times its text when it is read. Where that is too much, it is not read: its
//! items are found in the text as they are asked for, and what is found is let go again. Whoever looks through a
//! text pays for it in steps. The text was checked before, so there is nothing to be told of it.

use std::borrow::Cow;

use crate::{
    error::Fault,
    read::sorted,
    value::{Entry, Heap, List, Map, Value},
};

/// A body that was checked, and where what has to be kept of it goes.
#[derive(Clone, Copy)]
pub(crate) struct Source<'r> {
    pub(crate) text: &'r str,
    pub(crate) heap: &'r Heap<'r>,
}

/// A value in it, without the space around.
#[derive(Clone, Copy)]
pub(crate) struct JsonText<'r> {
    source: &'r Source<'r>,
    /// Invariant: start < end <= the length of the text, which is below 4 GiB.
    start: u32,
    end: u32,
}

impl<'r> JsonText<'r> {
    /// The value that a text holds.
    pub(crate) fn whole(source: &'r Source<'r>) -> Option<Self> {
        let end = source.text.len();
        Parts { source, at: 0, end }.next()
    }

    pub(crate) fn as_str(self) -> &'r str {
        let Self { source, start, end } = self;
        source
            .text
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }

    pub(crate) fn first_byte(self) -> u8 {
        self.as_str().bytes().next().unwrap_or_default()
    }

    /// Where it is, which no other value has.
    pub(crate) fn address(self) -> *const () {
        self.as_str().as_ptr().cast()
    }

    /// Whether this list or object holds nothing.
    pub(crate) fn is_empty(self) -> bool {
        self.items().next().is_none()
    }

    /// The items of a list; the names and values of an object in turn.
    pub(crate) fn items(self) -> Parts<'r> {
        Parts {
            source: self.source,
            at: self.start as usize + 1,
            end: self.end as usize - 1,
        }
    }

    /// The value. A text with escapes is made anew.
    pub(crate) fn value(self) -> Value<'r> {
        match self.first_byte() {
            b'{' => Value::Map(Map::Text(self)),
            b'[' => Value::List(List::Text(self)),
            b'"' => Value::Str(self.text()),
            b't' => Value::Bool(true),
            b'f' => Value::Bool(false),
            b'n' => Value::Nil,
            _ => Value::Float(serde_json::from_str(self.as_str()).unwrap_or(f64::NAN)),
        }
    }

    /// The text of a string. Where there is no room for one with escapes, the rendering fails in the end.
    pub(crate) fn text(self) -> &'r [u8] {
        let kept = match self.unescaped() {
            Some(Cow::Borrowed(text)) => return text.as_bytes(),
            Some(Cow::Owned(text)) => self.source.heap.kept(text.as_bytes()).ok(),
            None => None,
        };
        kept.unwrap_or_else(|| {
            self.source.heap.overflow();
            b""
        })
    }

    fn unescaped(self) -> Option<Cow<'r, str>> {
        /// Two buffers that grow, and what is kept.
        const BUFFERS: usize = 6;
        let text = self.as_str();
        let inner = text.get(1..text.len() - 1)?;
        if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
            return Some(inner.into());
        }
        self.source.heap.room_for(BUFFERS * inner.len()).ok()?;
        serde_json::from_str::<String>(text).ok().map(Cow::Owned)
    }

    fn is(self, key: &[u8]) -> bool {
        let name = self.unescaped();
        if name.is_none() {
            self.source.heap.overflow();
        }
        name.is_some_and(|name| name.as_bytes() == key)
    }

    /// The member of an object by its name: of several the last.
    pub(crate) fn member(self, key: &[u8]) -> Option<Value<'r>> {
        let mut parts = self.items();
        let mut found = None;
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            if name.is(key) {
                found = Some(value);
            }
        }
        found.map(Self::value)
    }

    /// The members of an object, sorted by name. The list is counted by the heap.
    pub(crate) fn members(self) -> Result<Vec<Entry<'r>>, Fault> {
        let heap = self.source.heap;
        let mut all = Vec::new();
        let mut parts = self.items();
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            heap.reserve(&mut all, 1)?;
            all.push((name.text(), value.value()));
        }
        heap.room_for(size_of_val(all.as_slice()))?; // To sort them.
        sorted(&mut all, 0);
        Ok(all)
    }
}

/// Values that stand one after the other.
pub(crate) struct Parts<'r> {
    source: &'r Source<'r>,
    at: usize,
    end: usize,
}

impl<'r> Iterator for Parts<'r> {
    type Item = JsonText<'r>;

    fn next(&mut self) -> Option<JsonText<'r>> {
        let text = self.source.text.as_bytes().get(..self.end)?;
        let is_between = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',' | b':');
        let between = text
            .get(self.at..)?
            .iter()
            .take_while(|byte| is_between(byte));
        let start = self.at + between.count();
        if start >= self.end {
            return None;
        }
        let end = end_of(text, start);
        self.source.heap.scan(end - self.at);
        self.at = end;
        Some(JsonText {
            source: self.source,
            start: u32::try_from(start).ok()?,
            end: u32::try_from(end).ok()?,
        })
    }
}

/// Where the value ends that starts here.
fn end_of(text: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0_usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at),
            b'[' | b'{' => {
                depth += 1;
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ if depth > 0 => {
                at += 1;
                continue;
            }
            _ => {
                let is_end = |byte: &u8| {
                    !matches!(byte, b'+' | b'-' | b'.') && !byte.is_ascii_alphanumeric()
                };
                let length = text[at..].iter().position(is_end);
                return length.map_or(text.len(), |length| at + length.max(1));
            }
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn end_of_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(found) = text
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}
