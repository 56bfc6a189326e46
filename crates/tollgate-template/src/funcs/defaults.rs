//! Defaults, and JSON.

use super::{Answer, Any, Bool, Function, Str, lists::room_of, of, text_of};
use crate::{
    error::Fault,
    json::{self, Style},
    render::Render,
    value::{Items, List, Value},
};

pub(super) const ALL: &[Function] = &[
    of("default", &[Any], |render, given| {
        let value = given.get(1).copied().unwrap_or(Value::Nil);
        Ok(if is_empty(render, value) {
            given[0]
        } else {
            value
        })
    })
    .rest(Any),
    of("empty", &[Any], |render, given| {
        Ok(Value::Bool(is_empty(render, given[0])))
    }),
    of("coalesce", &[], |render, given| {
        let found = given.iter().find(|value| !is_empty(render, **value));
        Ok(found.copied().unwrap_or(Value::Nil))
    })
    .rest(Any),
    of("all", &[], |render, given| {
        Ok(Value::Bool(
            !given.iter().any(|value| is_empty(render, *value)),
        ))
    })
    .rest(Any),
    of("any", &[], |render, given| {
        Ok(Value::Bool(
            given.iter().any(|value| !is_empty(render, *value)),
        ))
    })
    .rest(Any),
    of("ternary", &[Any, Any, Bool], |_, given| {
        let holds = matches!(given[2], Value::Bool(true));
        Ok(if holds { given[0] } else { given[1] })
    }),
    of("fromJson", &[Str], |render, given| {
        Ok(from_json(render, given).unwrap_or(Value::Nil))
    }),
    of("mustFromJson", &[Str], from_json),
    of("toJson", &[Any], |render, given| {
        or_nothing(to_json(render, given, Style::Html))
    }),
    of("mustToJson", &[Any], |render, given| {
        to_json(render, given, Style::Html)
    }),
    of("toPrettyJson", &[Any], |render, given| {
        or_nothing(to_json(render, given, Style::Pretty))
    }),
    of("mustToPrettyJson", &[Any], |render, given| {
        to_json(render, given, Style::Pretty)
    }),
    of("toRawJson", &[Any], |render, given| {
        to_json(render, given, Style::Raw)
    }),
    of("mustToRawJson", &[Any], |render, given| {
        to_json(render, given, Style::Raw)
    }),
    of("deepCopy", &[Any], deep_copy),
    of("mustDeepCopy", &[Any], deep_copy),
    of("fail", &[Str], |_, _| {
        // What it says may be of the document, so it is not told.
        Err(Fault::new("the template gave up"))
    }),
];

/// Whether sprig takes a value for empty.
pub(super) fn is_empty<'r>(render: &Render<'r>, value: Value<'r>) -> bool {
    !render.heap.truth(value)
}

fn from_json<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let text = text_of(given[0]);
    render.step(text.len() / 16)?;
    render.heap.charge(text.len())?;
    let value = json::decode(text).map_err(|_| Fault::new("the text is no JSON"))?;
    json::to_value(render.heap, &value)
}

fn to_json<'r>(render: &mut Render<'r>, given: &[Value<'r>], style: Style) -> Answer<'r> {
    let text = json::encode(render.heap, given[0], style)?;
    render.step(text.len() / 16)?;
    render.heap.made(text)
}

/// What can not be written is nothing, but what is too much stays an error.
fn or_nothing<'r>(written: Answer<'r>) -> Answer<'r> {
    match written {
        Err(fault) if !fault.is_limit() => Ok(Value::Str(b"")),
        written => written,
    }
}

fn deep_copy<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    if given[0].is_nil() {
        return Err(super::nil_pointer());
    }
    copied(render, given[0], 0)
}

fn copied<'r>(render: &mut Render<'r>, value: Value<'r>, depth: usize) -> Answer<'r> {
    if depth > crate::print::DEEPEST_VALUE {
        return Err(crate::print::too_deep());
    }
    render.step(1)?;
    match value {
        Value::List(List::Nil(_)) => Ok(value),
        Value::List(list) if list.items() == Items::Any || list.items() == Items::Lists => {
            let room = room_of(list.len());
            render.heap.hold(room)?;
            let items = list.iter().map(|item| copied(render, item, depth + 1));
            let items = items.collect::<Result<Vec<_>, _>>()?;
            render.heap.release(room);
            render.heap.room_for(room)?;
            render.heap.list(&items, list.items())
        }
        Value::Map(map) => {
            let entries = render.heap.entries(map);
            let room = 2 * room_of(entries.len());
            render.heap.hold(room)?;
            let entries = entries.map(|(key, value)| Ok((key, copied(render, value, depth + 1)?)));
            let entries = entries.collect::<Result<_, Fault>>()?;
            render.heap.release(room);
            let own = render.heap.map(map.kind(), entries)?;
            Ok(Value::Map(crate::value::Map::Own(own)))
        }
        value => Ok(value),
    }
}
