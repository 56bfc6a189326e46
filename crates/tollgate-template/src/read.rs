//! Reads JSON for one rendering: into its heap, with texts where they are.
//!
//! A tree of `serde_json` takes up to a hundred bytes for each of the body's, as every object has a node of its
//! own with room for eleven members. Here a value takes [`VALUE`] bytes and a member [`MEMBER`]; they are
//! counted, so a body has a bound on what it takes.

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
    json::{has_surrogates, without_halves},
    value::{Entry, Heap, Value},
};

/// What a value takes in a list.
const VALUE: usize = size_of::<Value<'static>>();

/// What a member takes in an object.
const MEMBER: usize = size_of::<Entry<'static>>();

/// What an object takes besides.
const OBJECT: usize = 16;

/// How much is got at once for a body: about what one of short texts and numbers takes.
pub(crate) fn room(body: &[u8]) -> usize {
    const LARGEST: usize = 64 << 10;
    (body.len() * 2).min(LARGEST)
}

/// The members of a body, as [`json`](crate::json) has them. They may take so many bytes.
pub(crate) fn members<'r>(
    heap: &'r Heap<'r>,
    body: &'r [u8],
    most: usize,
) -> Result<Vec<Entry<'r>>, InputError> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let reader = Reader {
        heap,
        left: Cell::new(most),
        is_full: Cell::new(false),
        items: RefCell::default(),
        members: RefCell::default(),
    };
    let text = match str::from_utf8(body) {
        Ok(text) => text,
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            reader.kept(&text).ok_or_else(too_large)?
        }
    };
    let read = match reader.read(text) {
        // As in Go halves of surrogate pairs are U+FFFD, which `serde_json` takes for errors.
        Err(_) if !reader.is_full.get() && has_surrogates(text) => {
            let whole = reader.kept(&without_halves(text));
            reader.read(whole.ok_or_else(too_large)?)
        }
        read => read,
    };
    read.map_err(|err| match reader.is_full.get() {
        true => too_large(),
        false => InputError::no_json(&err),
    })
}

fn too_large() -> InputError {
    InputError::new("it takes more memory to be read than it may")
}

/// What reads one body.
struct Reader<'r> {
    heap: &'r Heap<'r>,
    /// How many bytes its values may still take.
    left: Cell<usize>,
    is_full: Cell<bool>,
    /// The items and members of whatever is being read, those of the innermost last.
    items: RefCell<Vec<Value<'r>>>,
    members: RefCell<Vec<Entry<'r>>>,
}

impl<'r> Reader<'r> {
    fn charge(&self, bytes: usize) -> Option<()> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => self.left.set(left),
            None => {
                self.is_full.set(true);
                return None;
            }
        }
        Some(())
    }

    /// A text that is not in the body as it is.
    fn kept(&self, text: &str) -> Option<&'r str> {
        self.charge(text.len())?;
        Some(self.heap.text(text))
    }

    fn read(&self, text: &'r str) -> Result<Vec<Entry<'r>>, serde_json::Error> {
        // What a failed reading left.
        self.items.borrow_mut().clear();
        self.members.borrow_mut().clear();
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_any(Root(self))?;
        json.end()?;
        Ok(self.members.take())
    }

    /// Puts the items of a list on the stack.
    fn stack_items<A: SeqAccess<'r>>(&self, mut items: A) -> Result<Value<'r>, A::Error> {
        let start = self.items.borrow().len();
        while let Some(item) = items.next_element_seed(Node(self))? {
            self.charge(VALUE).ok_or_else(full)?;
            self.items.borrow_mut().push(item);
        }
        Ok(self.heap.items(&mut self.items.borrow_mut(), start))
    }

    /// Puts the members of an object on the stack, sorted; of two with one name the last counts. They begin
    /// where it says.
    fn stack_members<A: MapAccess<'r>>(&self, mut members: A) -> Result<usize, A::Error> {
        let start = self.members.borrow().len();
        while let Some(key) = members.next_key_seed(Text(self))? {
            let value = members.next_value_seed(Node(self))?;
            self.charge(MEMBER).ok_or_else(full)?;
            self.members.borrow_mut().push((key, value));
        }
        let mut all = self.members.borrow_mut();
        let own = &mut all[start..];
        if own.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Ok(start);
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
        Ok(start)
    }
}

fn full<E: serde::de::Error>() -> E {
    E::custom("it takes too much memory")
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
        self.0.charge(OBJECT).ok_or_else(full)?;
        let start = self.0.stack_members(members)?;
        let mut all = self.0.members.borrow_mut();
        let map = self.0.heap.members(&all[start..]);
        all.truncate(start);
        Ok(map)
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
        let kept = self.0.kept(text).ok_or_else(full)?;
        Ok(kept.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, Options, RenderError, Template, json};

    /// Both ways to read a body see the same.
    #[track_caller]
    fn check(body: &[u8]) {
        let template =
            Template::parse("t", "{{ printf \"%#v\" . }}{{ toJson . }}").expect("parses");
        let read = template.render_json(body, &[], &|_| String::new());
        let by_tree = json(body).map(|document| template.render(&document));
        let shown = String::from_utf8_lossy(body);
        match (read, by_tree) {
            (Ok(read), Ok(Ok(by_tree))) => assert_eq!(read, by_tree, "{shown}"),
            (Err(RenderError::Input(read)), Err(by_tree)) => assert_eq!(read, by_tree, "{shown}"),
            (read, by_tree) => panic!("{shown}: {read:?}, {by_tree:?}"),
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
        let read = |body: String| template.render_json(body.as_bytes(), &[], &|_| String::new());
        let list = |item: &str, times: usize| format!("[{}0]", format!("{item},").repeat(times));
        for item in ["0", "{}", "[]", "{\"\":0}", "\"\\n\""] {
            assert!(read(list(item, 500)).is_ok(), "{item}");
            let much = read(list(item, 50_000));
            assert!(
                matches!(much, Err(RenderError::Input(_))),
                "{item}: {much:?}"
            );
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
