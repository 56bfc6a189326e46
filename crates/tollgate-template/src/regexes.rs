//! Regular expressions of Go, on the `regex` crate.
//!
//! Both are of one family, and differ in little: Go's `\d`, `\w`, `\s` and `\b` know ASCII alone, `\Q…\E`
//! quotes, and within brackets fewer characters have a meaning. An expression is rewritten for that.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use regex::bytes::{Regex, RegexBuilder};

use crate::error::Fault;

/// How many compiled expressions are kept.
const KEPT: usize = 64;

/// How large a compiled expression may be, in bytes.
const LARGEST: usize = 1 << 20;

/// The expressions of a template that were compiled so far.
#[derive(Debug, Default)]
pub(crate) struct Regexes(RwLock<HashMap<Box<[u8]>, Arc<Regex>>>);

impl Regexes {
    /// Compiles an expression, or finds it.
    pub(crate) fn find(&self, pattern: &[u8]) -> Result<Arc<Regex>, Fault> {
        if let Ok(known) = self.0.read()
            && let Some(regex) = known.get(pattern)
        {
            return Ok(regex.clone());
        }
        let regex = Arc::new(compile(pattern).ok_or_else(|| Fault::new("error parsing regexp"))?);
        if let Ok(mut known) = self.0.write()
            && known.len() < KEPT
        {
            known.insert(pattern.into(), regex.clone());
        }
        Ok(regex)
    }
}

fn compile(pattern: &[u8]) -> Option<Regex> {
    let pattern = rewritten(str::from_utf8(pattern).ok()?)?;
    let mut builder = RegexBuilder::new(&pattern);
    builder.size_limit(LARGEST).dfa_size_limit(LARGEST);
    builder.build().ok()
}

/// The expression as the `regex` crate has to read it; none where Go refuses it.
fn rewritten(pattern: &str) -> Option<String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut repeats = Repeats::None;
    while let Some(char) = rest.chars().next() {
        let after = &rest[char.len_utf8()..];
        repeats = match char {
            '\\' => {
                rest = escape(&mut out, after)?;
                Repeats::None
            }
            '[' => {
                rest = class(&mut out, after)?;
                Repeats::None
            }
            '*' | '+' | '?' => {
                let next = repeats.then(char == '?')?;
                out.push(char);
                rest = after;
                next
            }
            '{' => match counted(after) {
                Some(length) => {
                    let next = repeats.then(false)?;
                    out.push_str(&rest[..=length]);
                    rest = &rest[length + 1..];
                    next
                }
                None => {
                    out.push_str("\\{");
                    rest = after;
                    Repeats::None
                }
            },
            '}' => {
                out.push_str("\\}");
                rest = after;
                Repeats::None
            }
            char => {
                out.push(char);
                rest = after;
                Repeats::None
            }
        };
    }
    Some(out)
}

/// Whether a repetition was the last thing: Go takes no second one behind it.
#[derive(Clone, Copy, PartialEq)]
enum Repeats {
    None,
    Greedy,
    Lazy,
}

impl Repeats {
    fn then(self, is_question_mark: bool) -> Option<Self> {
        match self {
            Self::None => Some(Self::Greedy),
            Self::Greedy if is_question_mark => Some(Self::Lazy),
            Self::Greedy | Self::Lazy => None,
        }
    }
}

/// The length of `n}`, `n,}` or `n,m}`, with the brace; at most 1000 times, as in Go.
fn counted(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (least, most) = text[..end].split_once(',').unwrap_or((&text[..end], ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(least) && (most.is_empty() || is_number(most))).then_some(end + 1)
}

/// An escape, behind its backslash. Returns what is behind it.
fn escape<'p>(out: &mut String, text: &'p str) -> Option<&'p str> {
    let char = text.chars().next()?;
    let rest = &text[char.len_utf8()..];
    match char {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str("[\\t\\n\\f\\r ]"),
        'S' => out.push_str("[^\\t\\n\\f\\r ]"),
        'b' => out.push_str("(?-u:\\b)"),
        'B' => out.push_str("(?-u:\\B)"),
        'C' => out.push_str("(?s-u:.)"),
        'Q' => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return Some(rest);
        }
        '0'..='7' => return octal(out, text),
        char if char.is_ascii_punctuation() => {
            out.push('\\');
            out.push(char);
        }
        'A' | 'a' | 'f' | 'n' | 'p' | 'P' | 'r' | 't' | 'v' | 'x' | 'z' => {
            out.push('\\');
            out.push(char);
        }
        _ => return None,
    }
    Some(rest)
}

/// `\123`, or `\0`; a single digit else would be a reference to a group, which neither has.
fn octal<'p>(out: &mut String, text: &'p str) -> Option<&'p str> {
    let digits = text
        .bytes()
        .take(3)
        .take_while(|byte| matches!(byte, b'0'..=b'7'))
        .count();
    if digits < 2 && !text.starts_with('0') {
        return None;
    }
    let value = u32::from_str_radix(&text[..digits], 8).ok()?;
    out.push_str(&format!("\\x{{{value:x}}}"));
    Some(&text[digits..])
}

/// A class, behind its bracket. Returns what is behind it.
fn class<'p>(out: &mut String, text: &'p str) -> Option<&'p str> {
    out.push('[');
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    let mut is_first = true;
    loop {
        let char = rest.chars().next()?;
        let after = &rest[char.len_utf8()..];
        match char {
            ']' if !is_first => {
                out.push(']');
                return Some(after);
            }
            '[' if after.starts_with(':') => {
                let end = after.find(":]")?;
                out.push('[');
                out.push_str(&after[..end + 2]);
                rest = &after[end + 2..];
            }
            '\\' => {
                // Within a class the replacements are classes themselves, which may be nested.
                rest = match after.chars().next()? {
                    'b' | 'B' | 'C' | 'Q' | 'A' | 'z' => return None,
                    _ => escape(out, after)?,
                };
            }
            '[' | ']' | '&' | '~' => {
                out.push('\\');
                out.push(char);
                rest = after;
            }
            '-' => {
                // `--` is an operator of the `regex` crate.
                out.push_str(if rest.starts_with("--") { "\\-" } else { "-" });
                rest = after;
            }
            char => {
                out.push(char);
                rest = after;
            }
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: Option<&str>) {
        let regex = compile(pattern.as_bytes());
        let found = regex.map(|regex| {
            let found = regex.find(text.as_bytes());
            found.map_or("", |found| {
                str::from_utf8(found.as_bytes()).unwrap_or("broken")
            })
        });
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn expressions_are_read_as_go_reads_them() {
        check(r"\w+", "éa1_", Some("a1_"));
        check(r"\Qa.b\E+", "a.bb", Some("a.bb"));
        check(r"a{,2}", "a{,2}", Some("a{,2}"));
        check(r"[a&&b[]+", "&[b", Some("&[b"));
        check(r"[[:alpha:]\d]+", "-a1", Some("a1"));
        check(r"\bé?a\b", "éa", Some("a"));
        check(r"(a)\1", "aa", None);
        check(r"a**", "a", None);
        check(r"a+?", "aa", Some("a"));
        check(r"(?=a)", "a", None);
        check(r"\x41\101", "AA", Some("AA"));
    }
}
