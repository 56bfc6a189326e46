//! Texts.

use super::{
    Answer, Any, Function, Int, Str, int_of, lists::room_of, of, size, str_of, string_value,
    text_of,
};
use crate::{
    case::{Case, pascal_case, swap_case, title, uncapitalize, with_connector},
    error::Fault,
    lex::first_char,
    quote::quote,
    render::Render,
    unicode::{is_space, to_lower, to_upper},
    value::{Items, List, Map, MapKind, Value},
};

pub(super) const ALL: &[Function] = &[
    of("hello", &[], |_, _| Ok(Value::Str(b"Hello!"))),
    of("trim", &[Str], |_, given| {
        Ok(Value::Str(trimmed(text_of(given[0]), is_space)))
    }),
    of("upper", &[Str], |render, given| {
        mapped(render, given[0], to_upper)
    }),
    of("lower", &[Str], |render, given| {
        mapped(render, given[0], to_lower)
    }),
    of("title", &[Str], |render, given| {
        changed(render, given[0], title)
    }),
    of("untitle", &[Str], |render, given| {
        changed(render, given[0], uncapitalize)
    }),
    of("swapcase", &[Str], |render, given| {
        changed(render, given[0], swap_case)
    }),
    of("camelcase", &[Str], |render, given| {
        changed(render, given[0], pascal_case)
    }),
    of("snakecase", &[Str], |render, given| {
        changed(render, given[0], |text| with_connector(text, Case::Snake))
    }),
    of("kebabcase", &[Str], |render, given| {
        changed(render, given[0], |text| with_connector(text, Case::Kebab))
    }),
    of("nospace", &[Str], |render, given| {
        changed(render, given[0], |text| {
            text.chars().filter(|char| !is_space(*char)).collect()
        })
    }),
    of("initials", &[Str], |render, given| {
        changed(render, given[0], initials)
    }),
    of("abbrev", &[Int, Str], |render, given| {
        abbreviated(render, 0, int_of(given[0]), given[1])
    }),
    of("abbrevboth", &[Int, Int, Str], |render, given| {
        abbreviated(render, int_of(given[0]), int_of(given[1]), given[2])
    }),
    of("trunc", &[Int, Str], trunc),
    of("substr", &[Int, Int, Str], substr),
    of("repeat", &[Int, Str], repeat),
    of("replace", &[Str, Str, Str], |render, given| {
        let text = replaced(
            render,
            text_of(given[2]),
            text_of(given[0]),
            text_of(given[1]),
        )?;
        render.heap.str(text)
    }),
    of("contains", &[Str, Str], |_, given| {
        let found = memchr::memmem::find(text_of(given[1]), text_of(given[0]));
        Ok(Value::Bool(found.is_some()))
    }),
    of("hasPrefix", &[Str, Str], |_, given| {
        Ok(Value::Bool(
            text_of(given[1]).starts_with(text_of(given[0])),
        ))
    }),
    of("hasSuffix", &[Str, Str], |_, given| {
        Ok(Value::Bool(text_of(given[1]).ends_with(text_of(given[0]))))
    }),
    of("trimPrefix", &[Str, Str], |_, given| {
        let text = text_of(given[1]);
        Ok(Value::Str(
            text.strip_prefix(text_of(given[0])).unwrap_or(text),
        ))
    }),
    of("trimSuffix", &[Str, Str], |_, given| {
        let text = text_of(given[1]);
        Ok(Value::Str(
            text.strip_suffix(text_of(given[0])).unwrap_or(text),
        ))
    }),
    of("trimAll", &[Str, Str], trim_all),
    of("trimall", &[Str, Str], trim_all),
    of("quote", &[], |render, given| {
        quoted(render, given, |text| quote(text, false))
    })
    .rest(Any),
    of("squote", &[], |render, given| {
        quoted(render, given, |text| [b"'", text, b"'"].concat())
    })
    .rest(Any),
    of("cat", &[], cat).rest(Any),
    of("indent", &[Int, Str], |render, given| {
        let text = indented(render, given)?;
        render.heap.str(text)
    }),
    of("nindent", &[Int, Str], |render, given| {
        let text = indented(render, given)?;
        render.heap.str([b"\n", &text[..]].concat())
    }),
    of("plural", &[Str, Str, Int], |_, given| {
        Ok(if int_of(given[2]) == 1 {
            given[0]
        } else {
            given[1]
        })
    }),
    of("toString", &[Any], |render, given| {
        let text = string_value(render, given[0])?;
        render.heap.str(text)
    }),
    of("toStrings", &[Any], to_strings),
    of("join", &[Str, Any], join),
    of("sortAlpha", &[Any], sort_alpha),
    of("splitList", &[Str, Str], |render, given| {
        can_be_split(render, text_of(given[1]), text_of(given[0]))?;
        let parts = split(text_of(given[1]), text_of(given[0]), -1);
        render.step(parts.len())?;
        render.heap.strings(parts)
    }),
    of("split", &[Str, Str], |render, given| {
        split_map(render, text_of(given[1]), text_of(given[0]), -1)
    }),
    of("splitn", &[Str, Int, Str], |render, given| {
        split_map(
            render,
            text_of(given[2]),
            text_of(given[0]),
            int_of(given[1]),
        )
    }),
    of("wrap", &[Int, Str], |render, given| {
        wrapped(render, given[1], int_of(given[0]), b"\n", false)
    }),
    of("wrapWith", &[Int, Str, Str], |render, given| {
        wrapped(render, given[2], int_of(given[0]), text_of(given[1]), true)
    }),
];

/// A text changed as a whole; bytes that are no UTF-8 become U+FFFD.
fn changed<'r>(
    render: &mut Render<'r>,
    value: Value<'r>,
    change: impl FnOnce(&str) -> String,
) -> Answer<'r> {
    let text = str_of(value);
    render.step(text.len() / 16)?;
    render.heap.str(change(&text))
}

fn mapped<'r>(render: &mut Render<'r>, value: Value<'r>, map: fn(char) -> char) -> Answer<'r> {
    changed(render, value, |text| text.chars().map(map).collect())
}

fn trimmed(text: &[u8], is_cut: impl Fn(char) -> bool) -> &[u8] {
    let mut start = 0;
    while let Some((char, size)) = first_char(&text[start..]) {
        if !is_cut(char) {
            break;
        }
        start += size;
    }
    let mut end = text.len();
    while end > start {
        let mut from = end - 1;
        while from > start && end - from < 4 && text[from] & 0xc0 == 0x80 {
            from -= 1;
        }
        let (char, size) = first_char(&text[from..end]).unwrap_or(('\u{fffd}', 1));
        let (char, from) = if from + size == end {
            (char, from)
        } else {
            ('\u{fffd}', end - 1)
        };
        if !is_cut(char) {
            break;
        }
        end = from;
    }
    &text[start..end]
}

fn trim_all<'r>(_: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let set = str_of(given[0]);
    Ok(Value::Str(trimmed(text_of(given[1]), |char| {
        set.contains(char)
    })))
}

/// The first character of each word. (Go takes its first byte.)
fn initials(text: &str) -> String {
    text.split(is_space)
        .filter_map(|word| word.chars().next())
        .collect()
}

/// `goutils.AbbreviateFull`, which counts bytes; but no character is cut in two here.
fn abbreviated<'r>(render: &mut Render<'r>, left: i64, right: i64, value: Value<'r>) -> Answer<'r> {
    let text = text_of(value);
    if right < 4 || (left > 0 && right < 7) || text.len() <= size(right) {
        return Ok(value);
    }
    let (width, length) = (size(right), text.len());
    let back = |at: usize| {
        let is_start = |at: &usize| text.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
        (0..=at).rev().find(is_start).unwrap_or(0)
    };
    let mut offset = size(left).min(length);
    if length - offset < width - 3 {
        offset = length - (width - 3);
    }
    if offset <= 4 {
        return render.heap.str([&text[..back(width - 3)], b"..."].concat());
    }
    let offset = back(offset);
    if offset + width - 3 < length {
        let kept = &text[offset..];
        let kept = &kept[..back(offset + width - 6) - offset];
        return render.heap.str([b"...", kept, b"..."].concat());
    }
    render
        .heap
        .str([b"...", &text[back(length - (width - 3))..]].concat())
}

fn trunc<'r>(_: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let (length, text) = (int_of(given[0]), text_of(given[1]));
    let kept = match usize::try_from(length) {
        Ok(length) => text.get(..length),
        Err(_) => {
            let tail = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
            text.len().checked_sub(tail).map(|start| &text[start..])
        }
    };
    Ok(Value::Str(kept.unwrap_or(text)))
}

fn substr<'r>(_: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let (start, end, text) = (int_of(given[0]), int_of(given[1]), text_of(given[2]));
    let part = if start < 0 {
        usize::try_from(end).ok().and_then(|end| text.get(..end))
    } else if end < 0 || size(end) > text.len() {
        text.get(size(start)..)
    } else {
        text.get(size(start)..size(end))
    };
    part.map(Value::Str)
        .ok_or_else(|| Fault::new("slice bounds out of range"))
}

fn repeat<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let text = text_of(given[1]);
    let Ok(count) = usize::try_from(int_of(given[0])) else {
        return Err(Fault::new("negative Repeat count"));
    };
    let length = text.len().saturating_mul(count);
    fits(render, length)?;
    render.step(length / 16)?;
    render.heap.str(text.repeat(count))
}

/// `strings.ReplaceAll`: an empty text to replace is found before each character, and at the end.
fn replaced(
    render: &mut Render<'_>,
    text: &[u8],
    old: &[u8],
    new: &[u8],
) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    let mut rest = text;
    if old.is_empty() {
        out.extend_from_slice(new);
        while let Some((_, size)) = first_char(rest) {
            render.step(1)?;
            fits(render, out.len() + new.len())?;
            out.extend_from_slice(&rest[..size]);
            out.extend_from_slice(new);
            rest = &rest[size..];
        }
        return Ok(out);
    }
    while let Some(at) = memchr::memmem::find(rest, old) {
        render.step(1)?;
        fits(render, out.len() + at + new.len())?;
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    out.extend_from_slice(rest);
    Ok(out)
}

fn fits(render: &Render<'_>, length: usize) -> Result<(), Fault> {
    if length <= render.heap.left() {
        return Ok(());
    }
    Err(render.heap.too_much())
}

fn quoted<'r>(
    render: &mut Render<'r>,
    given: &[Value<'r>],
    quote: fn(&[u8]) -> Vec<u8>,
) -> Answer<'r> {
    let mut texts = Vec::new();
    for value in given.iter().filter(|value| !value.is_nil()) {
        texts.push(quote(&string_value(render, *value)?));
    }
    render.heap.str(texts.join(&b' '))
}

fn cat<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let mut texts = Vec::new();
    for value in given.iter().filter(|value| !value.is_nil()) {
        texts.push(crate::print::text(render.heap, *value)?);
    }
    render.heap.str(texts.join(&b' '))
}

fn indented<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Result<Vec<u8>, Fault> {
    let Ok(spaces) = usize::try_from(int_of(given[0])) else {
        return Err(Fault::new("negative Repeat count"));
    };
    fits(render, spaces)?;
    let pad = b" ".repeat(spaces);
    let line = [b"\n", &pad[..]].concat();
    let text = replaced(render, text_of(given[1]), b"\n", &line)?;
    Ok([pad, text].concat())
}

/// The texts of a list, without what is `nil`; one text of what is no list.
fn texts<'r>(render: &mut Render<'r>, value: Value<'r>) -> Result<Vec<&'r [u8]>, Fault> {
    let one = |render: &Render<'r>, value| match value {
        Value::Str(text) => Ok(text),
        value => {
            let text = crate::print::text(render.heap, value)?;
            render.heap.bytes(&text)
        }
    };
    match value {
        Value::List(list) => {
            let length = list.len();
            render.step(length)?;
            render.heap.room_for(room_of(length))?;
            let items = list.iter().filter(|item| !item.is_nil());
            items.map(|item| one(render, item)).collect()
        }
        value if value.is_nil() => Ok(Vec::new()),
        value => Ok(vec![one(render, value)?]),
    }
}

fn to_strings<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let texts = texts(render, given[0])?;
    let texts: Vec<_> = texts.into_iter().map(Value::Str).collect();
    render.heap.list(&texts, Items::Strings)
}

fn join<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let texts = texts(render, given[1])?;
    let separator = text_of(given[0]);
    let length = texts.iter().map(|text| text.len() + separator.len()).sum();
    fits(render, length)?;
    render.heap.str(texts.join(separator))
}

fn sort_alpha<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let mut texts = match given[0] {
        value if value.is_nil() => vec![&b"<nil>"[..]],
        value => texts(render, value)?,
    };
    render.step(texts.len())?;
    texts.sort_unstable();
    let texts: Vec<_> = texts.into_iter().map(Value::Str).collect();
    render.heap.list(&texts, Items::Strings)
}

/// Whether there is room for the parts of a text, in the lists and maps that are made of them.
fn can_be_split(render: &Render<'_>, text: &[u8], separator: &[u8]) -> Result<(), Fault> {
    const PART: usize = 256;
    let parts = match separator {
        [] => text.len(),
        _ => memchr::memmem::find_iter(text, separator).count() + 1,
    };
    render.heap.room_for(parts.saturating_mul(PART))
}

/// `strings.SplitN`; without a separator it is between all characters.
pub(super) fn split<'t>(text: &'t [u8], separator: &[u8], most: i64) -> Vec<&'t [u8]> {
    let most = match most {
        0 => return Vec::new(),
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let mut parts = Vec::new();
    let mut rest = text;
    if separator.is_empty() {
        while let Some((_, size)) = first_char(rest) {
            if parts.len() + 1 == most {
                break;
            }
            parts.push(&rest[..size]);
            rest = &rest[size..];
        }
        if !rest.is_empty() {
            parts.push(rest);
        }
        return parts;
    }
    while parts.len() + 1 < most
        && let Some(at) = memchr::memmem::find(rest, separator)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + separator.len()..];
    }
    parts.push(rest);
    parts
}

fn split_map<'r>(
    render: &mut Render<'r>,
    text: &'r [u8],
    separator: &[u8],
    most: i64,
) -> Answer<'r> {
    can_be_split(render, text, separator)?;
    let parts = split(text, separator, most);
    render.step(parts.len())?;
    let mut entries = std::collections::BTreeMap::new();
    for (at, part) in parts.into_iter().enumerate() {
        let key = render.heap.bytes(format!("_{at}").as_bytes())?;
        entries.insert(key, Value::Str(part));
    }
    Ok(Value::Map(Map::Own(
        render.heap.map(MapKind::Strings, entries)?,
    )))
}

/// `goutils.WrapCustom`
fn wrapped<'r>(
    render: &mut Render<'r>,
    value: Value<'r>,
    width: i64,
    line: &[u8],
    cuts_words: bool,
) -> Answer<'r> {
    let text = text_of(value);
    let line = if line.is_empty() { b"\n" } else { line };
    let width = size(width.max(1));
    let mut out = Vec::new();
    let mut at = 0;
    while text.len() - at > width {
        render.step(1)?;
        fits(render, out.len() + line.len())?;
        if text[at] == b' ' {
            at += 1;
            continue;
        }
        let rest = &text[at..];
        let space = rest[..=width].iter().rposition(|byte| *byte == b' ');
        let (kept, next) = match space {
            Some(space) => (space, space + 1),
            None if cuts_words => (width, width),
            None => match rest[width..].iter().position(|byte| *byte == b' ') {
                Some(space) => (width + space, width + space + 1),
                None => break,
            },
        };
        out.extend_from_slice(&rest[..kept]);
        out.extend_from_slice(line);
        at += next;
    }
    out.extend_from_slice(&text[at..]);
    render.heap.str(out)
}

/// `nil` of texts: what a search that found nothing gives.
pub(super) fn no_texts<'r>() -> Value<'r> {
    Value::List(List::Nil(Items::Strings))
}
