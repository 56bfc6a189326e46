//! Texts with variables. The first line is a text, the second a `meta_data` object, and all behind it
//! the value of every context variable.

use http::HeaderValue;
use serde_json::Value;
use tollgate_core::{
    Rejection,
    meta::MetaData,
    variables::{
        Context, NoContext, Text, UnsafeValues, ValueStyle, header_value, write_query_escaped,
        write_value,
    },
};

/// Stands before a name that takes the place of its value; no JSON text holds it as it is.
const MARK: char = '\u{1}';

/// Checks a text, metadata and a value from a request.
pub fn check(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
    let mut lines = input.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (text, meta, value) = (line(), line(), line());
    let meta: MetaData = serde_json::from_str(meta).unwrap_or_default();
    check_secrets(text);
    check_escapes(value);
    check_values(&meta);
    let parsed = Text::with_secrets(text, |_| None);
    check_literal(text, &parsed);
    for style in [ValueStyle::Plain, ValueStyle::Tyk] {
        let filled = parsed.fill(Some(&meta), &Everywhere(value), style);
        check_one_pass(&parsed, &meta, value, style);
        check_header(&filled);
    }
    check_header(value);
}

/// Gives every context variable one value.
struct Everywhere<'a>(&'a str);

impl Context for Everywhere<'_> {
    fn write(&self, _name: &str, out: &mut String) {
        out.push_str(self.0);
    }
}

/// A text is refused where it names a secret, and a secret becomes a part of it, not a variable.
fn check_secrets(text: &str) {
    let mut count = 0;
    let without = Text::with_secrets(text, |secret| {
        count += 1;
        assert!(!secret.place.is_empty() && !secret.name.is_empty());
        None
    });
    assert_eq!(Text::parse(text).is_err(), count > 0, "{text:?}");
    let with = Text::with_secrets(text, |_| Some("$tyk_context.secret$tyk_meta.secret".into()));
    assert!(with.context_names().eq(without.context_names()), "{text:?}");
}

/// A text without a dollar stays as it is, and a literal is filled with nothing.
fn check_literal(text: &str, parsed: &Text) {
    if !text.contains('$') {
        assert_eq!(parsed.as_literal(), Some(text));
    }
    if let Some(literal) = parsed.as_literal() {
        let filled = parsed.fill(None, &Everywhere("x"), ValueStyle::Plain);
        assert_eq!(filled, literal);
    }
    for name in parsed.context_names() {
        let of_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        assert!(!name.is_empty() && name.chars().all(of_name), "{name:?}");
    }
}

/// What is put in is never looked at again: the text filled with marks, and the marks then replaced
/// by the values, is the text filled with the values.
fn check_one_pass(text: &Text, meta: &MetaData, value: &str, style: ValueStyle) {
    let marked: MetaData = meta
        .iter()
        .map(|(name, _)| (name, Value::from(format!("{MARK}{name}{MARK}"))))
        .collect();
    let bare = text.fill(None, &NoContext, style);
    if bare.contains(MARK)
        || value.contains(MARK)
        || meta.iter().any(|(name, _)| name.contains(MARK))
    {
        return;
    }
    let filled = text.fill(Some(meta), &Everywhere(value), style);
    let context = format!("{MARK}{MARK}");
    let marked = text.fill(Some(&marked), &Everywhere(&context), style);
    let mut expected = String::new();
    for (at, part) in marked.split(MARK).enumerate() {
        match (at % 2, part) {
            (0, literal) => expected.push_str(literal),
            (_, "") => expected.push_str(value),
            (_, name) => write_value(meta.get(name).expect("is there"), style, &mut expected),
        }
    }
    assert_eq!(filled, expected);
}

/// No value splits a header, and cleaning always makes one.
fn check_header(text: &str) {
    let is_unsafe = |c: char| c.is_ascii_control() && c != '\t';
    let refused = header_value(text.to_owned(), UnsafeValues::Refuse);
    match &refused {
        Ok(value) => assert_eq!(value.as_bytes(), text.trim().as_bytes()),
        Err(error) => assert_eq!(*error, Rejection::HeaderValueRefused),
    }
    assert_eq!(refused.is_err(), text.contains(is_unsafe), "{text:?}");
    let cleaned = header_value(text.to_owned(), UnsafeValues::Clean).expect("is cleaned");
    for value in refused.into_iter().chain([cleaned]) {
        check_bytes(&value);
    }
}

fn check_bytes(value: &HeaderValue) {
    let is_unsafe = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    assert!(!value.as_bytes().iter().any(is_unsafe), "{value:?}");
    let text = std::str::from_utf8(value.as_bytes()).expect("is still text");
    assert_eq!(text.trim(), text);
}

/// What is escaped has no character that means something in a query, and is read as it was.
fn check_escapes(text: &str) {
    let mut escaped = String::new();
    write_query_escaped(text, &mut escaped);
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_.~+%".contains(c);
    assert!(escaped.chars().all(is_safe), "{escaped:?}");
    let spaced = escaped.replace('+', " ");
    let read: Vec<u8> = percent_encoding::percent_decode_str(&spaced).collect();
    assert_eq!(read, text.as_bytes());
}

/// A text is written as it is, and a number as one of the same value without an exponent.
fn check_values(meta: &MetaData) {
    for (_, value) in meta.iter() {
        let mut out = String::new();
        write_value(value, ValueStyle::Plain, &mut out);
        if let Some(text) = value.as_text() {
            assert_eq!(out, text);
        }
        let number = value.read::<f64>().ok().filter(|number| number.is_finite());
        if let Some(number) = number {
            assert_eq!(out.parse::<f64>().ok(), Some(number), "{value:?}");
            assert!(!out.contains(['e', 'E']), "{value:?}");
        }
    }
}
