//! Lists.

use super::{
    Answer, Any, Function, Int, deep_equal, defaults::is_empty, int_of, nil_pointer, of, size,
};
use crate::{
    error::Fault,
    render::Render,
    value::{Items, List, Value},
};

pub(super) const ALL: &[Function] = &[
    of("list", &[], list).rest(Any),
    of("tuple", &[], list).rest(Any),
    of("append", &[Any, Any], push),
    of("push", &[Any, Any], push),
    of("mustAppend", &[Any, Any], push),
    of("mustPush", &[Any, Any], push),
    of("prepend", &[Any, Any], prepend),
    of("mustPrepend", &[Any, Any], prepend),
    of("first", &[Any], first),
    of("mustFirst", &[Any], first),
    of("last", &[Any], last),
    of("mustLast", &[Any], last),
    of("rest", &[Any], rest),
    of("mustRest", &[Any], rest),
    of("initial", &[Any], initial),
    of("mustInitial", &[Any], initial),
    of("reverse", &[Any], reverse),
    of("mustReverse", &[Any], reverse),
    of("compact", &[Any], compact),
    of("mustCompact", &[Any], compact),
    of("uniq", &[Any], uniq),
    of("mustUniq", &[Any], uniq),
    of("without", &[Any], without).rest(Any),
    of("mustWithout", &[Any], without).rest(Any),
    of("has", &[Any, Any], has),
    of("mustHas", &[Any, Any], has),
    of("slice", &[Any], slice).rest(Any),
    of("mustSlice", &[Any], slice).rest(Any),
    of("concat", &[], concat).rest(Any),
    of("chunk", &[Int, Any], chunk),
    of("mustChunk", &[Int, Any], chunk),
];

/// The list that was given, and pays for walking it.
fn list_of<'r>(render: &mut Render<'r>, value: Value<'r>, what: &str) -> Result<List<'r>, Fault> {
    match crate::render::list_of(value) {
        Some(list) => {
            render.step(list.len() / 4)?;
            Ok(list)
        }
        None if value.is_nil() => Err(nil_pointer()),
        None => {
            let kind = value.kind_name();
            Err(Fault::new(format!("Cannot {what} on type {kind}")))
        }
    }
}

/// The list that was given, where its items can be put into another.
fn copied<'r>(render: &mut Render<'r>, value: Value<'r>, what: &str) -> Result<List<'r>, Fault> {
    let list = list_of(render, value, what)?;
    render.heap.room_for(room_of(list.len()))?;
    Ok(list)
}

/// What a list of so many items takes while it is made: a buffer that grows, and the list itself.
pub(super) fn room_of(items: usize) -> usize {
    items
        .saturating_add(1)
        .saturating_mul(4 * size_of::<Value<'_>>())
}

fn any<'r>(render: &Render<'r>, items: &[Value<'r>]) -> Answer<'r> {
    render.heap.list(items, Items::Any)
}

/// `nil` of a list.
fn nothing<'r>() -> Value<'r> {
    Value::List(List::Nil(Items::Any))
}

fn list<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let items: Vec<_> = given.iter().map(|item| present(*item)).collect();
    any(render, &items)
}

/// In a list what is missing is `nil`.
pub(super) fn present(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Missing => Value::Nil,
        value => value,
    }
}

fn push<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[0], "push")?;
    let items: Vec<_> = list.iter().chain([present(given[1])]).collect();
    any(render, &items)
}

fn prepend<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[0], "prepend")?;
    let items: Vec<_> = [present(given[1])].into_iter().chain(list.iter()).collect();
    any(render, &items)
}

fn first<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = list_of(render, given[0], "find first")?;
    Ok(list.get(0).unwrap_or(Value::Nil))
}

fn last<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = list_of(render, given[0], "find last")?;
    let last = list.len().checked_sub(1).and_then(|at| list.get(at));
    Ok(last.unwrap_or(Value::Nil))
}

fn rest<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[0], "find rest")?;
    if list.is_empty() {
        return Ok(nothing());
    }
    let items: Vec<_> = list.iter().skip(1).collect();
    any(render, &items)
}

fn initial<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[0], "find initial")?;
    let Some(length) = list.len().checked_sub(1) else {
        return Ok(nothing());
    };
    let items: Vec<_> = list.iter().take(length).collect();
    any(render, &items)
}

fn reverse<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[0], "find reverse")?;
    let mut items: Vec<_> = list.iter().collect();
    items.reverse();
    any(render, &items)
}

fn compact<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[0], "compact")?;
    let items: Vec<_> = list
        .iter()
        .filter(|item| !is_empty(render, *item))
        .collect();
    any(render, &items)
}

fn is_in<'r>(
    render: &mut Render<'r>,
    items: &[Value<'r>],
    wanted: Value<'r>,
) -> Result<bool, Fault> {
    for item in items {
        if deep_equal(render, *item, wanted, 0)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uniq<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[0], "find uniq")?;
    let mut items = Vec::new();
    for item in list.iter() {
        if !is_in(render, &items, item)? {
            items.push(item);
        }
    }
    any(render, &items)
}

fn without<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[0], "find without")?;
    let mut items = Vec::new();
    for item in list.iter() {
        if !is_in(render, &given[1..], item)? {
            items.push(item);
        }
    }
    any(render, &items)
}

fn has<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    if given[1].is_nil() {
        return Ok(Value::Bool(false));
    }
    let list = list_of(render, given[1], "find has")?;
    for item in list.iter() {
        if deep_equal(render, given[0], item, 0)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn slice<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = match crate::render::list_of(given[0]) {
        Some(list) => list,
        None if given[0].is_nil() => return Err(nil_pointer()),
        None => {
            let kind = given[0].kind_name();
            let message = format!("list should be type of slice or array but {kind}");
            return Err(Fault::new(message));
        }
    };
    if list.is_empty() {
        return Ok(Value::Nil);
    }
    let bound = |at: usize, default: usize| match given.get(at) {
        Some(value) => usize::try_from(super::numbers::to_int(*value)).ok(),
        None => Some(default),
    };
    let out_of_bounds = || Fault::new("slice index out of bounds");
    let start = bound(1, 0).ok_or_else(out_of_bounds)?;
    let end = bound(2, list.len()).ok_or_else(out_of_bounds)?;
    if start > end || end > list.len() {
        return Err(out_of_bounds());
    }
    let part = match list {
        List::Json(items) => List::Json(&items[start..end]),
        List::Own(items, kind) => List::Own(&items[start..end], kind),
        List::Text(_) => {
            render.step(end / 4)?;
            render.heap.room_for(room_of(end - start))?;
            let items: Vec<_> = list.iter().take(end).skip(start).collect();
            return any(render, &items);
        }
        List::Nil(kind) => List::Nil(kind),
    };
    Ok(Value::List(part))
}

fn concat<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let mut items: Vec<Value<'r>> = Vec::new();
    for value in given {
        let list = list_of(render, *value, "concat")?;
        render.heap.room_for(room_of(items.len() + list.len()))?;
        items.extend(list.iter());
    }
    if items.is_empty() {
        return Ok(nothing());
    }
    any(render, &items)
}

fn chunk<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let list = copied(render, given[1], "chunk")?;
    render.heap.room_for(2 * room_of(list.len()))?;
    let length = int_of(given[0]);
    if length <= 0 {
        return Err(Fault::new("chunks need a size"));
    }
    let items: Vec<_> = list.iter().collect();
    let chunks = items
        .chunks(size(length).max(1))
        .map(|chunk| any(render, chunk));
    let chunks = chunks.collect::<Result<Vec<_>, _>>()?;
    render.heap.list(&chunks, Items::Lists)
}
