//! `$tyk_meta.x` and `$tyk_context.x` in configured texts.
//!
//! A text is parsed once. It is filled in one pass, and what is put in is never looked at again: a
//! client that sends `$tyk_meta.secret` reads back those words. (Tyk replaces one namespace after
//! the other in the growing text, and so expands what clients send; spec: *Metadata and variable
//! replacement*.)
//!
//! A name is as long as it can be, of letters, digits, `_`, `-` and `.`; a dot is part of the name.
//! What has no value is empty.
//!
//! ```
//! use tollgate_core::{Session, variables::{NoContext, Text, ValueStyle}};
//!
//! let session: Session = r#"{"meta_data": {"user": "$tyk_meta.role", "role": "admin"}}"#.parse()?;
//! let text = Text::parse("u=$tyk_meta.user;none=$tyk_meta.missing;")?;
//! let filled = text.fill(Some(&session.meta_data), &NoContext, ValueStyle::Plain);
//! assert_eq!(filled, "u=$tyk_meta.role;none=;");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{borrow::Cow, fmt::Write as _};

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::{meta::MetaData, rejection::Rejection, wire::Json};

/// A text with variables, parsed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text {
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Literal(Box<str>),
    Meta(Box<str>),
    Context(Box<str>),
}

/// The room that a filled text is given at once, in bytes.
const USUAL_LENGTH: usize = 64;

/// How values that are not texts are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ValueStyle {
    /// Booleans as `true` and `false`, objects as JSON.
    #[default]
    Plain,
    /// As Tyk does: booleans, `null` and objects are empty.
    Tyk,
}

/// What becomes of a value that no header may hold: one with CR, LF, NUL or another control character.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UnsafeValues {
    /// The request is refused.
    #[default]
    Refuse,
    /// CR and LF become a space each, other control characters go.
    Clean,
}

/// Makes a header's value of a text; spaces and tabs around it go.
///
/// # Errors
///
/// [`Rejection::HeaderValueRefused`].
pub fn header_value(
    mut text: String,
    unsafe_values: UnsafeValues,
) -> Result<HeaderValue, Rejection> {
    let trimmed = |text: &str| HeaderValue::from_bytes(text.trim_matches([' ', '\t']).as_bytes());
    // It fails for just those that are unsafe: others are looked at once.
    match (trimmed(&text), unsafe_values) {
        (Ok(value), _) => Ok(value),
        (Err(_), UnsafeValues::Refuse) => Err(Rejection::HeaderValueRefused),
        (Err(_), UnsafeValues::Clean) => {
            text = text.replace(['\r', '\n'], " ");
            text.retain(|c| !c.is_ascii_control() || c == '\t');
            trimmed(&text).map_err(|_| Rejection::HeaderValueRefused)
        }
    }
}

/// Gives context variables their values.
pub trait Context {
    /// Writes the value of `name` to `out`; a name without a value writes nothing.
    fn write(&self, name: &str, out: &mut String);

    /// The value of `name`, where it is one text and no list or number: what a rewrite's trigger may look
    /// at. Without a word of its own it is what is written, where that is anything.
    fn text(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        self.write(name, &mut text);
        (!text.is_empty()).then_some(text)
    }
}

/// No context variable has a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoContext;

impl Context for NoContext {
    fn write(&self, _name: &str, _out: &mut String) {}
}

/// A text names a secret, and no secrets were given.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{reference}` names a secret, and there are none here")]
pub struct SecretMissing {
    reference: String,
}

/// A reference to a secret, as `$secret_env.NAME`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SecretName<'a> {
    /// Where the secret is: `conf`, `env`, `vault`, `consul` or `file`.
    pub place: &'a str,
    /// What it is called there.
    pub name: &'a str,
}

impl Text {
    /// Parses a text that names no secrets.
    ///
    /// # Errors
    ///
    /// Fails if the text holds a reference as `$secret_env.NAME`; see [`Text::with_secrets`].
    pub fn parse(text: &str) -> Result<Self, SecretMissing> {
        let mut missing = None;
        let parsed = Self::with_secrets(text, |secret| {
            missing.get_or_insert(format!("$secret_{}.{}", secret.place, secret.name));
            None
        });
        missing.map_or(Ok(parsed), |reference| Err(SecretMissing { reference }))
    }

    /// Parses a text; secrets are looked up now, once, and become part of it. A secret that is
    /// unknown is empty.
    pub fn with_secrets(
        text: &str,
        mut secret: impl FnMut(SecretName<'_>) -> Option<String>,
    ) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some((variable, length)) = Variable::at_start_of(rest) else {
                literal.push('$');
                rest = &rest[1..];
                continue;
            };
            rest = &rest[length..];
            match variable {
                Variable::Secret(name) => literal.push_str(&secret(name).unwrap_or_default()),
                Variable::Meta(name) => close(&mut parts, &mut literal, Part::Meta(name.into())),
                Variable::Context(name) => {
                    close(&mut parts, &mut literal, Part::Context(name.into()))
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Self {
            parts: parts.into(),
        }
    }

    /// The text, if it has no variables.
    pub fn as_literal(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The context variables that the text names.
    pub fn context_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Context(name) => Some(&**name),
            _ => None,
        })
    }

    /// Fills the text.
    pub fn fill(
        &self,
        meta: Option<&MetaData>,
        context: &(impl Context + ?Sized),
        style: ValueStyle,
    ) -> String {
        let mut out = String::with_capacity(USUAL_LENGTH);
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Meta(name) => {
                    if let Some(value) = meta.and_then(|meta| meta.get(name)) {
                        write_value(value, style, &mut out);
                    }
                }
                Part::Context(name) => context.write(name, &mut out),
            }
        }
        out
    }

    /// Fills the text; values are escaped as in a query, and the text between them is not.
    pub fn fill_escaped(
        &self,
        meta: Option<&MetaData>,
        context: &(impl Context + ?Sized),
        style: ValueStyle,
    ) -> String {
        let mut out = String::new();
        let mut value = String::new();
        for part in &self.parts {
            value.clear();
            match part {
                Part::Literal(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Meta(name) => {
                    if let Some(json) = meta.and_then(|meta| meta.get(name)) {
                        write_value(json, style, &mut value);
                    }
                }
                Part::Context(name) => context.write(name, &mut value),
            }
            write_query_escaped(&value, &mut out);
        }
        out
    }
}

fn close(parts: &mut Vec<Part>, literal: &mut String, variable: Part) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal).into()));
    }
    parts.push(variable);
}

/// A variable that a text names.
pub(crate) enum Variable<'a> {
    Meta(&'a str),
    Context(&'a str),
    Secret(SecretName<'a>),
}

impl<'a> Variable<'a> {
    /// The variable that `text` starts with, and its length.
    pub(crate) fn at_start_of(text: &'a str) -> Option<(Self, usize)> {
        let (space, rest) = text.split_once('.')?;
        let slash = matches!(space, "$secret_vault" | "$secret_consul" | "$secret_file");
        let of_name = |c: char| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') || (slash && c == '/')
        };
        let end = rest.find(|c| !of_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() {
            return None;
        }
        let variable = match space {
            "$tyk_meta" => Self::Meta(name),
            "$tyk_context" => Self::Context(name),
            "$secret_conf" | "$secret_env" | "$secret_vault" | "$secret_consul"
            | "$secret_file" => Self::Secret(SecretName {
                place: &space["$secret_".len()..],
                name,
            }),
            _ => return None,
        };
        Some((variable, space.len() + 1 + end))
    }
}

/// Writes a metadata value as text: numbers in full, without an exponent; the items of a list one by
/// one, escaped as in a query, empty ones left out, joined by commas.
pub fn write_value(value: &Json, style: ValueStyle, out: &mut String) {
    match value.as_str().as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => write_number(value.as_str(), out),
        Some(b'"') => match value.plain_text() {
            Some(text) => out.push_str(text),
            None => out.push_str(&value.as_text().unwrap_or_default()),
        },
        _ => {
            let value = value.read::<Value>().unwrap_or_default(); // Too deep to read: empty.
            write_parsed(&value, style, out);
        }
    }
}

fn write_parsed(value: &Value, style: ValueStyle, out: &mut String) {
    match (value, style) {
        (Value::String(text), _) => out.push_str(text),
        (Value::Number(number), _) => write_number(&number.to_string(), out),
        (Value::Array(items), _) => write_list(items, style, out),
        (Value::Bool(flag), ValueStyle::Plain) => {
            let _ = write!(out, "{flag}"); // Writing to a string can not fail.
        }
        (Value::Object(_), ValueStyle::Plain) => {
            let _ = write!(out, "{value}");
        }
        (Value::Bool(_) | Value::Object(_) | Value::Null, _) => {}
    }
}

fn write_list(items: &[Value], style: ValueStyle, out: &mut String) {
    let mut first = true;
    for item in items {
        let mut text = String::new();
        write_parsed(item, style, &mut text);
        if text.is_empty() {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        write_query_escaped(&text, out);
    }
}

fn write_number(number: &str, out: &mut String) {
    let whole = number.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    match number.parse::<f64>() {
        Ok(value) if !whole => {
            let _ = write!(out, "{value}");
        }
        _ => out.push_str(number), // All digits as they were written.
    }
}

/// A pair of a query or form, decoded; `None` where it is empty, or holds a broken escape or a `;`.
pub fn form_pair(pair: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    if pair.is_empty() || pair.contains(';') {
        return None;
    }
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Some((form_text(name)?, form_text(value)?))
}

fn form_text(text: &str) -> Option<Cow<'_, str>> {
    let hex = |bytes: &[u8]| bytes.len() >= 2 && bytes[..2].iter().all(u8::is_ascii_hexdigit);
    if text
        .match_indices('%')
        .any(|(at, _)| !hex(&text.as_bytes()[at + 1..]))
    {
        return None;
    }
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Some(Cow::Owned(
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned(),
        ));
    }
    Some(percent_decode_str(text).decode_utf8_lossy())
}

/// Escapes as Go's `url.QueryEscape`: a space is `+`, all but letters, digits and `-_.~` is `%XX`.
pub fn write_query_escaped(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte))
            }
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, meta: &str, filled: &str) {
        let meta: MetaData = serde_json::from_str(meta).unwrap();
        let text = Text::parse(text).unwrap();
        assert_eq!(text.fill(Some(&meta), &NoContext, ValueStyle::Tyk), filled);
    }

    #[test]
    fn attack_42_a_name_is_as_long_as_it_can_be() {
        let meta = r#"{"a": "1", "ab": "2", "a.": "3", "na": "4"}"#;
        check("$tyk_meta.a $tyk_meta.ab", meta, "1 2");
        check("$tyk_meta.a.", meta, "3");
        check("/v/$tyk_meta.a/b", meta, "/v/1/b");
        check("$tyk_meta.naïve", meta, "4ïve");
        check("$$tyk_meta.a", meta, "$1");
    }

    #[test]
    fn what_is_no_variable_stays() {
        check(
            "$tyk_meta. ${tyk_meta.a} $tyk_metaXa $other.a $",
            "{}",
            "$tyk_meta. ${tyk_meta.a} $tyk_metaXa $other.a $",
        );
        check("$tyk_meta.ключ", "{}", "$tyk_meta.ключ");
    }

    /// Attack 41.
    #[test]
    fn attack_41_a_value_is_never_expanded_again() {
        let meta = r#"{"a": "$tyk_meta.b$tyk_context.path", "b": "secret"}"#;
        check("$tyk_meta.a", meta, "$tyk_meta.b$tyk_context.path");
    }

    #[test]
    fn values_are_written_as_tyk_does() {
        let meta = r#"{"n": 12.220, "e": 1e6, "i": 9007199254740993, "l": ["a", "b c", "", null, 1],
            "t": true, "o": {"a": 1}, "z": null}"#;
        check(
            "$tyk_meta.n|$tyk_meta.e|$tyk_meta.i",
            meta,
            "12.22|1000000|9007199254740993",
        );
        check("$tyk_meta.l", meta, "a,b+c,1");
        check("[$tyk_meta.t$tyk_meta.o$tyk_meta.z]", meta, "[]");
    }

    #[test]
    fn plain_style_writes_booleans_and_objects() {
        let meta: MetaData =
            serde_json::from_str(r#"{"t": true, "o": {"a": 1}, "z": null}"#).unwrap();
        let text = Text::parse("$tyk_meta.t $tyk_meta.o $tyk_meta.z").unwrap();
        assert_eq!(
            text.fill(Some(&meta), &NoContext, ValueStyle::Plain),
            r#"true {"a":1} "#
        );
    }

    #[test]
    fn secrets_become_part_of_the_text() {
        let text = Text::with_secrets("<$secret_env.TOK>$secret_conf.gone", |secret| {
            (secret
                == SecretName {
                    place: "env",
                    name: "TOK",
                })
            .then(|| "$tyk_meta.a".to_owned())
        });
        assert_eq!(text.as_literal(), Some("<$tyk_meta.a>"));
        assert!(Text::parse("$secret_env.TOK").is_err());
    }

    /// Attack 37.
    #[test]
    fn attack_37_a_value_never_splits_a_header() {
        let value = |text: &str, rule| header_value(text.to_owned(), rule);
        for text in ["a\rb", "a\nb", "a\0b", "a\x7fb"] {
            assert_eq!(
                value(text, UnsafeValues::Refuse),
                Err(Rejection::HeaderValueRefused),
                "{text:?}"
            );
        }
        assert_eq!(
            value("a\r\nX: b\0", UnsafeValues::Clean).unwrap(),
            "a  X: b"
        );
        assert_eq!(value(" \ta\tb ", UnsafeValues::Refuse).unwrap(), "a\tb");
        let wide = value("\u{a0}a", UnsafeValues::Refuse).unwrap();
        assert_eq!(wide.as_bytes(), "\u{a0}a".as_bytes());
        assert_eq!(
            value("é", UnsafeValues::Refuse).unwrap().as_bytes(),
            "é".as_bytes()
        );
    }

    #[test]
    fn names_of_the_context_are_told() {
        let text = Text::parse("$tyk_context.path-$tyk_meta.a-$tyk_context.remote_addr").unwrap();
        assert_eq!(
            text.context_names().collect::<Vec<_>>(),
            ["path-", "remote_addr"]
        );
    }
}
