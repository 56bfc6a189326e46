//! What a value is.

use super::{Any, Function, Str, deep_equal, of, text_of};
use crate::value::{Items, List, MapKind, Value};

pub(super) const ALL: &[Function] = &[
    of("typeOf", &[Any], |render, given| {
        render.heap.str(given[0].type_name())
    }),
    of("kindOf", &[Any], |render, given| {
        render.heap.str(given[0].kind_name())
    }),
    of("typeIs", &[Str, Any], |_, given| {
        let same = given[1].type_name().as_bytes() == text_of(given[0]);
        Ok(Value::Bool(same))
    }),
    of("typeIsLike", &[Str, Any], |_, given| {
        let name = given[1].type_name().as_bytes();
        let wanted = text_of(given[0]);
        let is_pointer = name.strip_prefix(b"*").is_some_and(|name| name == wanted);
        Ok(Value::Bool(name == wanted || is_pointer))
    }),
    of("kindIs", &[Str, Any], |_, given| {
        let same = given[1].kind_name().as_bytes() == text_of(given[0]);
        Ok(Value::Bool(same))
    }),
    of("deepEqual", &[Any, Any], |render, given| {
        deep_equal(render, given[0], given[1], 0).map(Value::Bool)
    }),
];

/// What a map has where it has nothing, by the type of what it holds.
pub(super) fn zero_of<'r>(kind: MapKind) -> Value<'r> {
    match kind {
        MapKind::Any => Value::Nil,
        MapKind::Strings => Value::Str(b""),
        MapKind::Form | MapKind::Headers => Value::List(List::Nil(Items::Strings)),
    }
}
