//! Paths. No file is looked at.

use super::{Answer, Function, Str, of, text_of};
use crate::{render::Render, value::Value};

pub(super) const ALL: &[Function] = &[
    of("base", &[Str], base),
    of("osBase", &[Str], base),
    of("dir", &[Str], dir),
    of("osDir", &[Str], dir),
    of("clean", &[Str], |render, given| {
        render.heap.str(clean(text_of(given[0])))
    }),
    of("osClean", &[Str], |render, given| {
        render.heap.str(clean(text_of(given[0])))
    }),
    of("ext", &[Str], ext),
    of("osExt", &[Str], ext),
    of("isAbs", &[Str], |_, given| {
        Ok(Value::Bool(text_of(given[0]).starts_with(b"/")))
    }),
    of("osIsAbs", &[Str], |_, given| {
        Ok(Value::Bool(text_of(given[0]).starts_with(b"/")))
    }),
];

fn without_final_slashes(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/');
    &path[..end.map_or(0, |at| at + 1)]
}

fn base<'r>(_: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let path = text_of(given[0]);
    if path.is_empty() {
        return Ok(Value::Str(b"."));
    }
    let path = without_final_slashes(path);
    let start = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    let base = &path[start..];
    Ok(Value::Str(if base.is_empty() { b"/" } else { base }))
}

fn dir<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let path = text_of(given[0]);
    let end = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |at| at + 1);
    render.heap.str(clean(&path[..end]))
}

fn ext<'r>(_: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let path = text_of(given[0]);
    let found = path.iter().rposition(|byte| matches!(byte, b'.' | b'/'));
    let ext = found
        .filter(|at| path[*at] == b'.')
        .map_or(&b""[..], |at| &path[at..]);
    Ok(Value::Str(ext))
}

/// `path.Clean`
fn clean(path: &[u8]) -> Vec<u8> {
    let is_rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(last) if *last != b".." => {
                    parts.pop();
                }
                _ if is_rooted => {}
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (is_rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".into(),
        (false, false) => joined,
    }
}
