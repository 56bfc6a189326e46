//! Regular expressions.

use regex::bytes::{Captures, Match, Regex};

use super::{
    Answer, Function, Int, Str, int_of, lists::room_of, of, str_of, strings::no_texts, text_of,
};
use crate::{
    error::Fault,
    lex::first_char,
    render::Render,
    value::{Items, Value},
};

pub(super) const ALL: &[Function] = &[
    of("regexMatch", &[Str, Str], |render, given| {
        match is_match(render, given) {
            Err(fault) if !fault.is_limit() => Ok(Value::Bool(false)),
            matched => matched,
        }
    }),
    of("mustRegexMatch", &[Str, Str], is_match),
    of("regexFind", &[Str, Str], find),
    of("mustRegexFind", &[Str, Str], find),
    of("regexFindAll", &[Str, Str, Int], find_all),
    of("mustRegexFindAll", &[Str, Str, Int], find_all),
    of("regexReplaceAll", &[Str, Str, Str], |render, given| {
        replace(render, given, expand)
    }),
    of("mustRegexReplaceAll", &[Str, Str, Str], |render, given| {
        replace(render, given, expand)
    }),
    of(
        "regexReplaceAllLiteral",
        &[Str, Str, Str],
        |render, given| replace(render, given, literal),
    ),
    of(
        "mustRegexReplaceAllLiteral",
        &[Str, Str, Str],
        |render, given| replace(render, given, literal),
    ),
    of("regexSplit", &[Str, Str, Int], split),
    of("mustRegexSplit", &[Str, Str, Int], split),
    of("regexQuoteMeta", &[Str], |render, given| {
        let text = str_of(given[0]);
        let mut quoted = String::with_capacity(text.len());
        for char in text.chars() {
            if r"\.+*?()|[]{}^$".contains(char) {
                quoted.push('\\');
            }
            quoted.push(char);
        }
        render.heap.str(quoted)
    }),
];

/// The expression and the text, which is paid for as it is long: the engine is linear in it.
fn regex<'r>(
    render: &mut Render<'r>,
    given: &[Value<'r>],
) -> Result<(std::sync::Arc<Regex>, &'r [u8]), Fault> {
    let (pattern, text) = (text_of(given[0]), text_of(given[1]));
    render.step(1 + pattern.len() + text.len() / 8)?;
    Ok((render.regexes.find(pattern)?, text))
}

fn is_match<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let (regex, text) = regex(render, given)?;
    Ok(Value::Bool(matches(&regex, text).next().is_some()))
}

fn find<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let (regex, text) = regex(render, given)?;
    let found = matches(&regex, text).next();
    let found = found.map(|found| &text[found.range()]);
    Ok(Value::Str(found.unwrap_or_default()))
}

/// What is found, one after the other.
fn matches<'m>(regex: &'m Regex, text: &'m [u8]) -> impl Iterator<Item = Match<'m>> {
    let all = regex.find_iter(text);
    all.filter(|found| is_between_chars(text, found))
}

/// Whether what was found is something, or nothing between two characters: the engine finds nothing within them too,
/// and Go does not.
fn is_between_chars(text: &[u8], found: &Match<'_>) -> bool {
    let at = found.start();
    let starts = (1..4).filter_map(|back| Some((back, text.get(at.checked_sub(back)?..)?)));
    let mut starts = starts.filter_map(|(back, text)| Some((back, first_char(text)?.1)));
    !found.is_empty() || !starts.any(|(back, size)| size > back)
}

/// How many are wanted; below 0 all.
fn most(count: i64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn find_all<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let (regex, text) = regex(render, given)?;
    let mut found = Vec::new();
    for range in matches(&regex, text).take(most(int_of(given[2]))) {
        render.step(1)?;
        render.heap.room_for(room_of(found.len()))?;
        found.push(Value::Str(&text[range.range()]));
    }
    if found.is_empty() {
        return Ok(no_texts());
    }
    render.heap.list(&found, Items::Strings)
}

fn replace<'r>(
    render: &mut Render<'r>,
    given: &[Value<'r>],
    append: fn(&mut Vec<u8>, &[u8], &Captures<'_>),
) -> Answer<'r> {
    let (regex, text) = regex(render, given)?;
    let replacement = text_of(given[2]);
    let (mut out, mut end) = (Vec::new(), 0);
    for captures in regex.captures_iter(text) {
        render.step(1)?;
        let Some(found) = captures
            .get(0)
            .filter(|found| is_between_chars(text, found))
        else {
            continue;
        };
        out.extend_from_slice(&text[end..found.start()]);
        append(&mut out, replacement, &captures);
        end = found.end();
        if out.len() > render.heap.left() {
            return Err(render.heap.too_much());
        }
    }
    out.extend_from_slice(&text[end..]);
    render.heap.str(out)
}

fn literal(out: &mut Vec<u8>, replacement: &[u8], _: &Captures<'_>) {
    out.extend_from_slice(replacement);
}

/// `$1`, `${1}`, `$name`, `${name}` and `$$`, as Go's `Expand` has them.
fn expand(out: &mut Vec<u8>, replacement: &[u8], captures: &Captures<'_>) {
    let mut rest = replacement;
    while let Some(at) = memchr::memchr(b'$', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(b"$") {
            out.push(b'$');
            rest = after;
            continue;
        }
        let Some((name, after)) = reference(rest) else {
            out.push(b'$');
            continue;
        };
        let group = match name.parse::<usize>() {
            Ok(number) => captures.get(number),
            Err(_) => captures.name(name),
        };
        out.extend_from_slice(group.map_or(&[], |group| group.as_bytes()));
        rest = after;
    }
    out.extend_from_slice(rest);
}

/// The name of a group and what is behind it; none where it is no name.
fn reference(text: &[u8]) -> Option<(&str, &[u8])> {
    let is_braced = text.first() == Some(&b'{');
    let text = &text[usize::from(is_braced)..];
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let length = text.iter().take_while(|byte| is_of_name(byte)).count();
    let (name, rest) = text.split_at(length);
    if name.is_empty() {
        return None;
    }
    let rest = if is_braced {
        rest.strip_prefix(b"}")?
    } else {
        rest
    };
    Some((str::from_utf8(name).ok()?, rest))
}

/// `Regexp.Split`
fn split<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let (regex, text) = regex(render, given)?;
    let most = match int_of(given[2]) {
        0 => return Ok(no_texts()),
        count => most(count),
    };
    if !text_of(given[0]).is_empty() && text.is_empty() {
        return render.heap.strings([b""]);
    }
    let (mut parts, mut start, mut end) = (Vec::new(), 0, 0);
    for found in matches(&regex, text) {
        render.step(1)?;
        if parts.len() + 1 >= most {
            break;
        }
        render.heap.room_for(room_of(parts.len() + 1))?;
        end = found.start();
        if found.end() != 0 {
            parts.push(Value::Str(&text[start..end]));
        }
        start = found.end();
    }
    if end != text.len() {
        parts.push(Value::Str(&text[start..]));
    }
    render.heap.list(&parts, Items::Strings)
}
