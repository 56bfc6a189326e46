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
        let mut next = Repeats::None;
        rest = match char {
            '\\' => escape(&mut out, after)?,
            '[' => class(&mut out, after)?,
            '(' if after.starts_with('?') => group(&mut out, after)?,
            '*' | '+' | '?' => {
                next = repeats.then(char == '?')?;
                out.push(char);
                after
            }
            '{' => match counted(after) {
                Some(length) => {
                    next = repeats.then(false)?;
                    is_count(&after[..length - 1]).then_some(())?;
                    out.push_str(&rest[..=length]);
                    &rest[length + 1..]
                }
                None => {
                    out.push_str("\\{");
                    after
                }
            },
            '}' => {
                out.push_str("\\}");
                after
            }
            char => {
                out.push(char);
                after
            }
        };
        repeats = next;
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

/// The length of `n}`, `n,}` or `n,m}`. Where it is none, the brace means itself.
fn counted(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (least, most) = text[..end].split_once(',').unwrap_or((&text[..end], ""));
    let is_number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        !text.is_empty() && digits && (text.len() == 1 || !text.starts_with('0'))
    };
    (is_number(least) && (most.is_empty() || is_number(most))).then_some(end + 1)
}

/// Whether `n`, `n,` or `n,m` can be counted to, as in Go.
fn is_count(text: &str) -> bool {
    const MOST: u32 = 1000;
    let mut numbers = text.split(',').filter(|text| !text.is_empty());
    numbers.all(|text| text.parse::<u32>().is_ok_and(|number| number <= MOST))
}

/// A group with a name or with flags, behind its parenthesis. Returns what is behind its head.
fn group<'p>(out: &mut String, text: &'p str) -> Option<&'p str> {
    out.push('(');
    let named = ["?P<", "?<"]
        .iter()
        .find_map(|head| text.strip_prefix(head));
    let head = match named {
        Some(named) => {
            let (name, _) = named.split_once('>')?;
            let is_of_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
            name.chars().all(is_of_name).then_some(())?;
            text.len() - named.len() + name.len() + 1
        }
        None => {
            let is_flag = |char: char| matches!(char, 'i' | 'm' | 's' | 'U' | '-');
            let flags = text[1..].find(|char| !is_flag(char))?;
            let end = text.as_bytes()[1 + flags];
            matches!(end, b':' | b')').then_some(())?;
            1 + flags
        }
    };
    out.push_str(&text[..head]);
    Some(&text[head..])
}

/// An escape, behind its backslash. Returns what is behind it.
fn escape<'p>(out: &mut String, text: &'p str) -> Option<&'p str> {
    if let Some(rest) = escaped_class(out, text) {
        return rest;
    }
    let char = text.chars().next()?;
    let rest = &text[char.len_utf8()..];
    match char {
        'b' => out.push_str("(?-u:\\b)"),
        'B' => out.push_str("(?-u:\\B)"),
        'A' | 'z' => {
            out.push('\\');
            out.push(char);
        }
        'Q' => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return Some(rest);
        }
        _ => {
            let (char, rest) = escaped_char(text)?;
            push_char(out, char);
            return Some(rest);
        }
    }
    Some(rest)
}

fn push_char(out: &mut String, char: char) {
    out.push_str(&format!("\\x{{{:x}}}", u32::from(char)));
}

/// A class that is an escape: `\d`, `\pL`, `\p{Greek}`. It may stand in a class. None where it is no class, none
/// within where it is a broken one.
#[expect(clippy::option_option, reason = "none, broken, or what is behind it")]
fn escaped_class<'p>(out: &mut String, text: &'p str) -> Option<Option<&'p str>> {
    let class = match text.chars().next()? {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => "[\\t\\n\\f\\r ]",
        'S' => "[^\\t\\n\\f\\r ]",
        'p' => return Some(unicode_class(out, &text[1..], false)),
        'P' => return Some(unicode_class(out, &text[1..], true)),
        _ => return None,
    };
    out.push_str(class);
    Some(Some(&text[1..]))
}

/// A category or script of Unicode, behind its `\p`.
fn unicode_class<'p>(out: &mut String, text: &'p str, is_negated: bool) -> Option<&'p str> {
    let (name, rest) = match text.strip_prefix('{') {
        Some(text) => text.split_once('}')?,
        None => text.split_at(text.chars().next()?.len_utf8()),
    };
    let (name, is_negated) = match name.strip_prefix('^') {
        Some(name) => (name, !is_negated),
        None => (name, is_negated),
    };
    // Of properties with values, which the `regex` crate knows too, Go knows nothing.
    let is_of_name = |char: char| char.is_ascii_alphanumeric() || "_- ".contains(char);
    name.chars().all(is_of_name).then_some(())?;
    out.push_str(if is_negated { "\\P{" } else { "\\p{" });
    out.push_str(name);
    out.push('}');
    Some(rest)
}

/// The character of an escape, and what is behind it.
fn escaped_char(text: &str) -> Option<(char, &str)> {
    let char = text.chars().next()?;
    let rest = &text[char.len_utf8()..];
    let char = match char {
        '0'..='7' => return octal(text),
        'x' => return hexadecimal(rest),
        'a' => '\x07',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        char if char.is_ascii() && !char.is_ascii_alphanumeric() => char,
        _ => return None,
    };
    Some((char, rest))
}

/// `\x41` or `\x{e9}`, behind its `x`.
fn hexadecimal(text: &str) -> Option<(char, &str)> {
    let (digits, rest) = match text.strip_prefix('{') {
        Some(text) => text.split_once('}')?,
        None => text.split_at_checked(2)?,
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = u32::from_str_radix(digits, 16).ok().filter(|_| is_number)?;
    Some((char::from_u32(value)?, rest))
}

/// `\123`, or `\0`; a single digit else would be a reference to a group, which neither has.
fn octal(text: &str) -> Option<(char, &str)> {
    let digits = text
        .bytes()
        .take(3)
        .take_while(|byte| matches!(byte, b'0'..=b'7'))
        .count();
    if digits < 2 && !text.starts_with('0') {
        return None;
    }
    let value = u32::from_str_radix(&text[..digits], 8).ok()?;
    Some((char::from_u32(value)?, &text[digits..]))
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
        if let Some(after) = rest.strip_prefix(']').filter(|_| !is_first) {
            out.push(']');
            return Some(after);
        }
        is_first = false;
        if let Some(named) = rest.strip_prefix("[:")
            && let Some((name, after)) = named.split_once(":]")
        {
            NAMED
                .contains(&name.trim_start_matches('^'))
                .then_some(())?;
            out.push_str(&rest[..rest.len() - after.len()]);
            rest = after;
            continue;
        }
        // Within a class the replacements are classes themselves, which may be nested.
        if let Some(escaped) = rest.strip_prefix('\\')
            && let Some(after) = escaped_class(out, escaped)
        {
            rest = after?;
            continue;
        }
        let (low, after) = class_char(rest)?;
        rest = after;
        push_char(out, low);
        if let Some(range) = rest
            .strip_prefix('-')
            .filter(|range| !range.starts_with(']'))
        {
            let (high, after) = class_char(range)?;
            out.push('-');
            push_char(out, high); // The `regex` crate refuses it where it is the lower one, as Go does.
            rest = after;
        }
    }
}

/// The names of classes within classes.
const NAMED: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// A character of a class, and what is behind it.
fn class_char(text: &str) -> Option<(char, &str)> {
    if let Some(escaped) = text.strip_prefix('\\') {
        return escaped_char(escaped);
    }
    let char = text.chars().next()?;
    Some((char, &text[char.len_utf8()..]))
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
        check(r"\x{e9}\p{Greek}\PL\p{^Lu}", "éλ1a", Some("éλ1a"));
        check(r"\p{Script=Greek}", "λ", None);
        check(r"[+--]+", "a,-+", Some(",-+"));
        check(r"[a--b]", "a", None);
        check(r"[[:word:]-]+", "-a", Some("-a"));
        check(r"[[:foo:]]", "f", None);
        check(r"a{02}", "a{02}", Some("a{02}"));
        check(r"a{1001}", "a", None);
        check(r"(?P<n>a)(?<m>b)(?i-s:C)", "abc", Some("abc"));
        check(r"(?x)a", "a", None);
        check(r"\C", "a", None);
    }
}
