//! Reads bodies for one rendering: into its heap, with texts where they are.
//!
//! A tree of `serde_json` takes up to a hundred bytes for each of the body's, as every object has a node of its
//! own with room for eleven members. Here a value takes [`VALUE`] bytes and a member [`MEMBER`]. JSON of which that is
//! still too much is not read: it is checked, and stays a [text](crate::text).

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

use crate::{
    InputError,
    error::Fault,
    json::{has_surrogates, without_halves},
    text::{JsonText, Source},
    unicode::chars,
    value::{Entry, Heap, List, Map, Value},
};

/// What a value takes in a list.
const VALUE: usize = size_of::<Value<'static>>();

/// What a member takes in an object.
const MEMBER: usize = size_of::<Entry<'static>>();

/// What an object takes besides.
const OBJECT: usize = 16;

/// What is got while a value is read, for each byte that it takes then: a stack that grows, and a copy of it.
const READING: usize = 4;

/// What a value takes at most for each byte of its text: in a list of empty objects, with a text that is not in the
/// body as it is.
const HEAVIEST: usize = 15;

/// How much of what may be held is for the document: the rest is for what is written, which may well be as much as
/// the body, and for what the template makes.
fn room_for_document(heap: &Heap<'_>, body: usize) -> usize {
    /// There is always so much for the outermost members, so that they are found at once.
    const LEAST: usize = 16 << 10;
    let spare = heap.spare();
    let beside_output = spare.saturating_sub(likely_output(body)) / 2;
    beside_output.max(LEAST.min(spare / 4))
}

/// How long may be what is written of a body, where all of it is: the same, and some escapes.
pub(crate) fn likely_output(body: usize) -> usize {
    body + body / 32
}

/// How much is got at once for a body: about what one of short texts and numbers takes.
pub(crate) fn room(body: usize, most: usize) -> usize {
    const LARGEST: usize = 64 << 10;
    let spare = most.saturating_sub(likely_output(body));
    (body * 2).min(LARGEST).min(spare / 8)
}

/// The members of a body of JSON, as [`json`](crate::json) has them. They may take so many bytes.
pub(crate) fn json<'r>(
    heap: &'r Heap<'r>,
    body: &'r [u8],
    most: usize,
) -> Result<Vec<Entry<'r>>, InputError> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let reader = Reader {
        heap,
        most: most.min(room_for_document(heap, body.len())),
        is_full: Cell::new(false),
        items: RefCell::default(),
        members: RefCell::default(),
    };
    let text = match str::from_utf8(body) {
        Ok(text) => text,
        Err(_) => reader.kept(replaced_length(body), || replaced(body))?,
    };
    let read = match reader.read(text) {
        // As in Go halves of surrogate pairs are U+FFFD, which `serde_json` takes for errors.
        Err(Failure::Json(_)) if has_surrogates(text) => {
            reader.read(reader.kept(text.len(), || without_halves(text))?)
        }
        read => read,
    };
    read.map_err(|failure| match failure {
        Failure::Json(err) if !reader.is_full.get() => InputError::no_json(&err),
        _ => InputError::too_large(),
    })
}

/// The text of a body, with U+FFFD for each byte that is no UTF-8, in a buffer of just that size.
fn replaced(body: &[u8]) -> String {
    let mut text = String::with_capacity(replaced_length(body));
    text.extend(chars(body));
    text
}

fn replaced_length(body: &[u8]) -> usize {
    chars(body).map(char::len_utf8).sum()
}

/// Sorts the members from there on by name; of two with one name the last counts.
pub(crate) fn sorted(all: &mut Vec<Entry<'_>>, start: usize) {
    let own = &mut all[start..];
    if own.is_sorted_by(|(one, _), (next, _)| one < next) {
        return;
    }
    own.sort_by_key(|(key, _)| *key); // In their order where they are the same.
    let mut kept = start;
    for at in start..all.len() {
        let is_repeated = kept > start && all[kept - 1].0 == all[at].0;
        if is_repeated {
            kept -= 1;
        }
        all[kept] = all[at];
        kept += 1;
    }
    all.truncate(kept);
}

/// What values take at most that stand in this text, which need not be JSON.
fn weight(text: &[u8]) -> usize {
    let of = |byte: &u8| match byte {
        b',' | b'[' => VALUE,
        b'{' => VALUE + OBJECT,
        b':' => MEMBER - VALUE,
        _ => 0,
    };
    let taken: usize = text.iter().map(of).sum();
    let texts = match memchr::memchr(b'\\', text) {
        Some(_) => text.len(),
        None => 0,
    };
    taken + texts
}

/// Sorts the members from there on by name, and makes a list of those with one name; of those of which there is but
/// one the last counts.
pub(crate) fn grouped<'r>(
    heap: &'r Heap<'r>,
    all: &mut Vec<Entry<'r>>,
    start: usize,
    is_single: impl Fn(&[u8]) -> bool,
) -> Result<(), Fault> {
    let own = &mut all[start..];
    if own.is_sorted_by(|(one, _), (next, _)| one < next) {
        return Ok(());
    }
    heap.room_for(size_of_val(own))?;
    own.sort_by_key(|(key, _)| *key); // In their order where they are the same.
    let (mut kept, mut at) = (start, start);
    while let Some((key, first)) = all.get(at).copied() {
        let same = all[at..].iter().take_while(|(other, _)| *other == key);
        let end = at + same.count();
        let value = match end - at {
            1 => first,
            _ if is_single(key) => all[end - 1].1,
            _ => heap.collected(all[at..end].iter().map(|(_, value)| *value))?,
        };
        all[kept] = (key, value);
        kept += 1;
        at = end;
    }
    all.truncate(kept);
    Ok(())
}

/// Why a body can not be read.
enum Failure {
    Json(serde_json::Error),
    Full,
}

impl From<serde_json::Error> for Failure {
    fn from(err: serde_json::Error) -> Self {
        Self::Json(err)
    }
}

impl From<Fault> for Failure {
    fn from(_: Fault) -> Self {
        Self::Full
    }
}

/// What reads one body.
struct Reader<'r> {
    heap: &'r Heap<'r>,
    /// How many bytes its values may take, with what is got to read them.
    most: usize,
    is_full: Cell<bool>,
    /// The items and members of whatever is being read, those of the innermost last.
    items: RefCell<Vec<Value<'r>>>,
    members: RefCell<Vec<Entry<'r>>>,
}

impl<'r> Reader<'r> {
    /// A text that stands for the body, and takes so many bytes.
    fn kept(&self, length: usize, make: impl FnOnce() -> String) -> Result<&'r str, InputError> {
        let kept = self.heap.room_for(length);
        let kept = kept.and_then(|()| self.heap.kept_text(make().into_bytes()));
        let kept = kept.map_err(|_| InputError::too_large())?;
        Ok(str::from_utf8(kept).unwrap_or_default())
    }

    fn read(&self, text: &'r str) -> Result<Vec<Entry<'r>>, Failure> {
        // What a failed reading left.
        self.items.borrow_mut().clear();
        self.members.borrow_mut().clear();
        self.has_room_for_escapes(text)?;
        // Most bodies are short, and need not be weighed.
        let at_most = text.len().saturating_mul(READING * HEAVIEST);
        let is_read = at_most <= self.most
            || weight(text.as_bytes()).saturating_mul(READING) <= self.most
            || u32::try_from(text.len()).is_err();
        if !is_read {
            return self.open(text);
        }
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_any(Root(self))?;
        json.end()?;
        Ok(self.members.take())
    }

    /// The parser has a buffer for texts with escapes, which grows to the longest.
    fn has_room_for_escapes(&self, text: &str) -> Result<(), Fault> {
        const GROWING: usize = 3;
        let bytes = text.as_bytes();
        let mut longest = 0;
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'\\', &bytes[at..]) {
            if at == 0 && self.heap.room_for(GROWING * bytes.len()).is_ok() {
                return Ok(()); // Whatever it is.
            }
            let escape = at + found;
            let start = memchr::memrchr(b'"', &bytes[..escape]).unwrap_or(0);
            let mut end = escape;
            while let Some(found) = bytes
                .get(end..)
                .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
            {
                end += found;
                if bytes[end] == b'"' {
                    break;
                }
                end += 2;
            }
            longest = longest.max(end.min(bytes.len()) - start);
            at = end.min(bytes.len()).max(escape + 1);
        }
        self.heap.room_for(GROWING * longest)
    }

    /// Checks a body and leaves what is large of it as it is.
    fn open(&self, text: &'r str) -> Result<Vec<Entry<'r>>, Failure> {
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_any(Checked)?;
        json.end()?;
        let source = self.heap.placed(Source {
            text,
            heap: self.heap,
        })?;
        let Some(whole) = JsonText::whole(source) else {
            return Ok(Vec::new());
        };
        let mut room = self.most;
        match whole.first_byte() {
            b'{' => self.opened_members(whole, &mut room),
            b'[' => Ok(vec![(b"array", self.opened(whole, &mut room)?)]),
            _ => Ok(Vec::new()),
        }
    }

    fn opened_members(
        &self,
        object: JsonText<'r>,
        room: &mut usize,
    ) -> Result<Vec<Entry<'r>>, Failure> {
        let mut members = Vec::new();
        let mut parts = object.items();
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            self.heap.reserve(&mut members, 1)?;
            members.push((name.text(), self.opened(value, room)?));
        }
        sorted(&mut members, 0);
        self.heap.release(members.capacity() * MEMBER); // It is let go before anything is written.
        Ok(members)
    }

    /// A value, read where it fits; else a list stays a text, and of an object the members are looked at.
    fn opened(&self, part: JsonText<'r>, room: &mut usize) -> Result<Value<'r>, Failure> {
        let is_object = match part.first_byte() {
            b'{' => true,
            b'[' => false,
            _ => return Ok(part.value()),
        };
        let mut takes = |bytes: usize| match room.checked_sub(bytes.saturating_mul(READING)) {
            Some(left) => {
                *room = left;
                true
            }
            None => false,
        };
        if takes(weight(part.as_str().as_bytes())) {
            return Ok(
                serde_json::Deserializer::from_str(part.as_str()).deserialize_any(Node(self))?
            );
        }
        if is_object && takes(part.items().count() / 2 * MEMBER + OBJECT) {
            let members = self.opened_members(part, room)?;
            return Ok(self.heap.members(&members)?);
        }
        Ok(match is_object {
            true => Value::Map(Map::Text(part)),
            false => Value::List(List::Text(part)),
        })
    }

    /// Puts the items of a list on the stack.
    fn stack_items<A: SeqAccess<'r>>(&self, mut items: A) -> Result<Value<'r>, A::Error> {
        let start = self.items.borrow().len();
        while let Some(item) = items.next_element_seed(Node(self))? {
            self.items.borrow_mut().push(item);
        }
        let list = self.heap.items(&mut self.items.borrow_mut(), start);
        list.map_err(|_| self.full())
    }

    /// Puts the members of an object on the stack, sorted; of two with one name the last counts. They begin
    /// where it says.
    fn stack_members<A: MapAccess<'r>>(&self, mut members: A) -> Result<usize, A::Error> {
        let start = self.members.borrow().len();
        while let Some(key) = members.next_key_seed(Text(self))? {
            let value = members.next_value_seed(Node(self))?;
            self.members.borrow_mut().push((key, value));
        }
        sorted(&mut self.members.borrow_mut(), start);
        Ok(start)
    }

    #[cold]
    fn full<E: serde::de::Error>(&self) -> E {
        self.is_full.set(true);
        E::custom(crate::TOO_MUCH_MEMORY)
    }
}

/// The body itself: its members stay on the stack.
struct Root<'s, 'r>(&'s Reader<'r>);

/// A value.
struct Node<'s, 'r>(&'s Reader<'r>);

/// The key of a member.
struct Text<'s, 'r>(&'s Reader<'r>);

impl<'r> Visitor<'r> for Root<'_, 'r> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_map<A: MapAccess<'r>>(self, members: A) -> Result<(), A::Error> {
        self.0.stack_members(members).map(|_| ())
    }

    fn visit_seq<A: SeqAccess<'r>>(self, items: A) -> Result<(), A::Error> {
        let list = self.0.stack_items(items)?;
        self.0.members.borrow_mut().push((b"array", list));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

impl<'r> DeserializeSeed<'r> for Node<'_, 'r> {
    type Value = Value<'r>;

    fn deserialize<D: Deserializer<'r>>(self, from: D) -> Result<Value<'r>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'r> Visitor<'r> for Node<'_, 'r> {
    type Value = Value<'r>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value<'r>, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'r>, E> {
        Ok(Value::Bool(value))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of JSON are floats, as in Go"
    )]
    fn visit_i64<E>(self, value: i64) -> Result<Value<'r>, E> {
        Ok(Value::Float(value as f64))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers of JSON are floats, as in Go"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Value<'r>, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'r>, E> {
        Ok(Value::Float(value))
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'r str) -> Result<Value<'r>, E> {
        Text(self.0).visit_borrowed_str(text).map(Value::Str)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value<'r>, E> {
        Text(self.0).visit_str(text).map(Value::Str)
    }

    fn visit_seq<A: SeqAccess<'r>>(self, items: A) -> Result<Value<'r>, A::Error> {
        self.0.stack_items(items)
    }

    fn visit_map<A: MapAccess<'r>>(self, members: A) -> Result<Value<'r>, A::Error> {
        let start = self.0.stack_members(members)?;
        let mut all = self.0.members.borrow_mut();
        let map = self.0.heap.members(&all[start..]);
        all.truncate(start);
        map.map_err(|_| self.0.full())
    }
}

impl<'r> DeserializeSeed<'r> for Text<'_, 'r> {
    type Value = &'r [u8];

    fn deserialize<D: Deserializer<'r>>(self, from: D) -> Result<&'r [u8], D::Error> {
        from.deserialize_str(self)
    }
}

impl<'r> Visitor<'r> for Text<'_, 'r> {
    type Value = &'r [u8];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'r str) -> Result<&'r [u8], E> {
        Ok(text.as_bytes())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<&'r [u8], E> {
        self.0.heap.kept(text.as_bytes()).map_err(|_| self.0.full())
    }
}

/// A value of which nothing is kept. It is looked at as one that is kept: `IgnoredAny` would let through numbers that are
/// too large, halves of surrogates, and any depth.
struct Checked;

impl<'r> DeserializeSeed<'r> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'r>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'r> Visitor<'r> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_map<A: MapAccess<'r>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_key_seed(Checked)?.is_some() {
            members.next_value_seed(Checked)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'r>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Checked)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Options, RenderError, Template, json};

    /// Both ways to read a body see the same.
    /// And so does one that is not read, but looked through.
    #[track_caller]
    fn check(body: &[u8]) {
        const TEXT: &str = "{{ printf \"%#v\" . }}{{ toJson . }}{{ .array }}{{ range $k, $v := . }}{{ $k }}{{ $v }}
            {{- if kindIs \"map\" $v }}{{ len $v }}{{ $v.d }}{{ $v.k39 }}{{ end }}
            {{- if kindIs \"slice\" $v }}{{ len $v }}{{ last $v }}{{ end }}{{ end }}";
        for document in [0, 1000, usize::MAX] {
            let limits = Limits {
                document,
                ..Limits::default()
            };
            let template = Options::new().with_limits(limits).parse("t", TEXT);
            let template = template.expect("parses");
            let read = template.render_json(body, &[], &|_| String::new());
            let by_tree = json(body).map(|document| template.render(&document));
            let shown = String::from_utf8_lossy(body);
            match (read, by_tree) {
                (Ok(read), Ok(Ok(by_tree))) => {
                    let [read, by_tree] =
                        [read, by_tree].map(|text| String::from_utf8_lossy(&text).into_owned());
                    assert_eq!(read, by_tree, "{shown}");
                }
                (Err(RenderError::Input(read)), Err(by_tree)) => {
                    assert_eq!(read, by_tree, "{shown}")
                }
                (read, by_tree) => panic!("{shown}: {read:?}, {by_tree:?}"),
            }
        }
    }

    #[test]
    fn bodies_are_read_as_documents_are() {
        let bodies: [&[u8]; 17] = [
            b"",
            b"{}",
            b" [1, 2.5, null, true, \"x\", {}, []] ",
            b"7",
            b"\"text\"",
            b"null",
            br#"{"b": 1, "a": {"d": [], "c": {"e": null}}}"#,
            br#"{"a": 1, "b": 2, "a": 3, "a": 4}"#,
            br#"{"k\n\u0041": "\u00e9\"\\\/", "z": "\ud83d\ude42"}"#,
            br#"{"half": "\ud83d", "other": ["\ude42x"]}"#,
            b"{\"no utf-8\": \"\xff\xfe\"}",
            b"{\"a\": 18446744073709551615, \"b\": -9007199254740993, \"c\": 1e300}",
            b"{\"a\": 1} x",
            b"{\"a\": [1, 2}",
            b"{\"a\" 1}",
            b"[1e999]",
            b"\xff",
        ];
        bodies.into_iter().for_each(check);
        let many = (0..40).rev().map(|n| format!("\"k{n}\": {n}"));
        let many: Vec<String> = many.collect();
        check(format!("{{{}}}", many.join(",")).as_bytes());
        check("[".repeat(127).as_bytes());
        check("[".repeat(100_000).as_bytes());
        check(format!("{}{}", "[".repeat(120), "]".repeat(120)).as_bytes());
    }

    #[test]
    fn attack_44_a_body_has_a_bound_on_what_it_takes() {
        let limits = Limits {
            document: 100_000,
            ..Limits::default()
        };
        let template = Options::new()
            .with_limits(limits)
            .parse("t", "{{ len .array }}");
        let template = template.expect("parses");
        // Where it would take more than that it is looked through.
        for item in ["0", "{}", "[]", "{\"\":0}", "\"\\n\""] {
            for times in [500, 50_000] {
                let body = format!("[{}0]", format!("{item},").repeat(times));
                let read = template.render_json(body.as_bytes(), &[], &|_| String::new());
                let count = (times + 1).to_string();
                assert_eq!(read.expect(item), count.as_bytes(), "{item}");
            }
        }
    }

    #[test]
    fn a_map_that_is_changed_is_changed_alone() {
        let template = Template::parse("t", "{{ set .a \"x\" 1 }}{{ .a }}{{ .b }}{{ .c.d }}");
        let read = template.expect("parses").render_json(
            br#"{"a": {}, "b": {}, "c": {"d": {}}}"#,
            &[],
            &|_| String::new(),
        );
        assert_eq!(read.expect("renders"), b"map[x:1]map[x:1]map[]map[]");
    }
}
