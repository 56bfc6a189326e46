//! Maps. Those of the document are never changed: where a template sets a key of one, a copy stands for
//! it in the rest of the rendering.

use std::collections::BTreeMap;

use super::{
    Answer, Any, Function, Parameter, Str, defaults::is_empty, map_of, of, string_value, text_of,
};
use crate::{
    error::Fault,
    funcs::lists::{present, room_of},
    render::Render,
    value::{Items, Map, MapKind, Value},
};

use Parameter::Map as Dict;

pub(super) const ALL: &[Function] = &[
    of("dict", &[], dict).rest(Any),
    of("get", &[Dict, Str], |render, given| {
        let found = map_of(given[0]).and_then(|map| render.heap.get(map, text_of(given[1])));
        Ok(found.unwrap_or(Value::Str(b"")))
    }),
    of("set", &[Dict, Str, Any], set),
    of("unset", &[Dict, Str], |render, given| {
        let Some(map) = map_of(given[0]) else {
            return own_map(render, BTreeMap::new());
        };
        let own = render.heap.own(map)?;
        own.entries.borrow_mut().remove(text_of(given[1]));
        Ok(given[0])
    }),
    of("hasKey", &[Dict, Str], |render, given| {
        let found = map_of(given[0]).and_then(|map| render.heap.get(map, text_of(given[1])));
        Ok(Value::Bool(found.is_some()))
    }),
    of("pluck", &[Str], pluck).rest(Dict),
    of("keys", &[], |render, given| {
        let maps = given.iter().filter_map(|value| map_of(*value));
        let mut keys: Vec<Value<'_>> = Vec::new();
        for map in maps {
            let entries = render.heap.entries(map);
            render.heap.room_for(room_of(keys.len() + entries.len()))?;
            keys.extend(entries.map(|(key, _)| Value::Str(key)));
        }
        render.step(keys.len())?;
        render.heap.list(&keys, Items::Strings)
    })
    .rest(Dict),
    of("values", &[Dict], |render, given| {
        let entries = map_of(given[0]).map(|map| render.heap.entries(map));
        let values = entries.unwrap_or_default();
        render.heap.room_for(room_of(values.len()))?;
        let values: Vec<_> = values.map(|(_, value)| value).collect();
        render.step(values.len())?;
        render.heap.list(&values, Items::Any)
    }),
    of("pick", &[Dict], |render, given| {
        let wanted: Vec<_> = given[1..].iter().map(|key| text_of(*key)).collect();
        some_of(render, given[0], |key| wanted.contains(&key))
    })
    .rest(Str),
    of("omit", &[Dict], |render, given| {
        let unwanted: Vec<_> = given[1..].iter().map(|key| text_of(*key)).collect();
        some_of(render, given[0], |key| !unwanted.contains(&key))
    })
    .rest(Str),
    of("merge", &[Dict], |render, given| {
        merge(render, given, Overwrites::Empty)
    })
    .rest(Dict),
    of("mustMerge", &[Dict], |render, given| {
        merge(render, given, Overwrites::Empty)
    })
    .rest(Dict),
    of("mergeOverwrite", &[Dict], |render, given| {
        merge(render, given, Overwrites::All)
    })
    .rest(Dict),
    of("mustMergeOverwrite", &[Dict], |render, given| {
        merge(render, given, Overwrites::All)
    })
    .rest(Dict),
    of("dig", &[], dig).rest(Any),
];

fn own_map<'r>(render: &Render<'r>, entries: BTreeMap<&'r [u8], Value<'r>>) -> Answer<'r> {
    Ok(Value::Map(Map::Own(
        render.heap.map(MapKind::Any, entries)?,
    )))
}

fn dict<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let mut entries = BTreeMap::new();
    for pair in given.chunks(2) {
        let key = match pair[0] {
            Value::Str(text) => text,
            other => {
                let text = string_value(render, other)?;
                render.heap.bytes(&text)?
            }
        };
        let value = pair.get(1).copied().unwrap_or(Value::Str(b""));
        entries.insert(key, present(value));
    }
    own_map(render, entries)
}

fn set<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let Some(map) = map_of(given[0]) else {
        return Err(Fault::new("assignment to entry in nil map"));
    };
    let own = render.heap.own(map)?;
    render
        .heap
        .insert(own, text_of(given[1]), present(given[2]))?;
    Ok(given[0])
}

fn pluck<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let key = text_of(given[0]);
    let maps = given[1..].iter().filter_map(|value| map_of(*value));
    let found: Vec<_> = maps.filter_map(|map| render.heap.get(map, key)).collect();
    render.heap.list(&found, Items::Any)
}

fn some_of<'r>(
    render: &mut Render<'r>,
    value: Value<'r>,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Answer<'r> {
    let entries = map_of(value).map(|map| render.heap.entries(map));
    let entries = entries.unwrap_or_default();
    render.step(entries.len())?;
    render.heap.room_for(room_of(2 * entries.len()))?;
    let entries = entries.filter(|(key, _)| is_wanted(key));
    own_map(render, entries.collect())
}

/// Which values of the first map give way.
#[derive(Clone, Copy, PartialEq)]
enum Overwrites {
    Empty,
    All,
}

fn merge<'r>(render: &mut Render<'r>, given: &[Value<'r>], overwrites: Overwrites) -> Answer<'r> {
    let Some(target) = map_of(given[0]) else {
        // Into nothing: what the others have together, in a map of its own.
        let target = render.heap.map(MapKind::Any, BTreeMap::new())?;
        for source in given[1..].iter().filter_map(|value| map_of(*value)) {
            merge_into(render, Map::Own(target), source, overwrites, 0)?;
        }
        return Ok(Value::Map(Map::Own(target)));
    };
    for source in given[1..].iter().filter_map(|value| map_of(*value)) {
        merge_into(render, target, source, overwrites, 0)?;
    }
    Ok(given[0])
}

fn merge_into<'r>(
    render: &mut Render<'r>,
    target: Map<'r>,
    source: Map<'r>,
    overwrites: Overwrites,
    depth: usize,
) -> Result<(), Fault> {
    if depth > crate::print::DEEPEST_VALUE {
        return Err(crate::print::too_deep());
    }
    let own = render.heap.own(target)?;
    let entries = render.heap.entries(source);
    render.step(entries.len())?;
    for (key, value) in entries {
        let old = own.entries.borrow().get(key).copied();
        let gives_way = overwrites == Overwrites::All;
        match (old, value) {
            (_, Value::Missing | Value::Nil) if !gives_way => {}
            (Some(Value::Map(old)), Value::Map(new))
                if old.kind() == MapKind::Any && new.kind() == MapKind::Any =>
            {
                merge_into(render, old, new, overwrites, depth + 1)?;
            }
            (Some(old), _) if !gives_way && !is_empty(render, old) => {}
            (_, new) => render.heap.insert(own, key, new)?,
        }
    }
    Ok(())
}

fn dig<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let [keys @ .., default, map] = given else {
        return Err(Fault::new("dig needs at least three arguments"));
    };
    if keys.is_empty() {
        return Err(Fault::new("dig needs at least three arguments"));
    }
    let is_text = |value: &Value<'_>| matches!(value, Value::Str(_));
    let not_a = |value: Value<'_>, wanted: &str| {
        let kind = value.type_name();
        Fault::new(format!(
            "interface conversion: interface {{}} is {kind}, not {wanted}"
        ))
    };
    let mut value = *map;
    if let Some(key) = keys.iter().find(|key| !is_text(key)) {
        return Err(not_a(*key, "string"));
    }
    for key in keys {
        let map = map_of(value).filter(|map| map.kind() == MapKind::Any);
        let map = map.ok_or_else(|| not_a(value, "map[string]interface {}"))?;
        match render.heap.get(map, text_of(*key)) {
            Some(found) => value = found,
            None => return Ok(*default),
        }
    }
    Ok(value)
}
