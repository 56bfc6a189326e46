//! Go's own functions, and what the gateway adds to them.

use super::{Answer, Any, Function, Reflected, Str, int_of, of, text_of};
use crate::{
    error::Fault,
    escape, format, json,
    render::Render,
    value::{Heap, Value},
    xml,
};

pub(super) const ALL: &[Function] = &[
    Function {
        short_circuit: Some(false),
        ..of("and", &[Reflected], decided).rest(Reflected)
    },
    Function {
        short_circuit: Some(true),
        ..of("or", &[Reflected], decided).rest(Reflected)
    },
    of("not", &[Reflected], |render, given| {
        Ok(Value::Bool(!render.heap.truth(given[0])))
    }),
    of("eq", &[Reflected], |render, given| {
        eq(render.heap, given).map(Value::Bool)
    })
    .rest(Reflected),
    of("ne", &[Reflected, Reflected], |render, given| {
        Ok(Value::Bool(!eq(render.heap, given)?))
    }),
    of("lt", &[Reflected, Reflected], |_, given| {
        less(given[0], given[1]).map(Value::Bool)
    }),
    of("le", &[Reflected, Reflected], |render, given| {
        less_or_equal(render.heap, given).map(Value::Bool)
    }),
    of("gt", &[Reflected, Reflected], |render, given| {
        Ok(Value::Bool(!less_or_equal(render.heap, given)?))
    }),
    of("ge", &[Reflected, Reflected], |_, given| {
        Ok(Value::Bool(!less(given[0], given[1])?))
    }),
    of("len", &[Reflected], len),
    of("index", &[Reflected], index).rest(Reflected),
    of("call", &[Reflected], |_, given| {
        let kind = given[0].type_name();
        Err(Fault::new(format!("non-function of type {kind}")))
    })
    .rest(Reflected),
    of("print", &[], |render, given| {
        let text = format::print(render.heap, given, render.printable())?;
        render.heap.str(text)
    })
    .rest(Any),
    of("println", &[], |render, given| {
        let text = format::println(render.heap, given, render.printable())?;
        render.heap.str(text)
    })
    .rest(Any),
    of("printf", &[Str], |render, given| {
        let text = format::printf(
            render.heap,
            text_of(given[0]),
            &given[1..],
            render.printable(),
        )?;
        render.heap.str(text)
    })
    .rest(Any),
    of("html", &[], |render, given| {
        escaped(render, given, escape::html)
    })
    .rest(Any),
    of("js", &[], |render, given| {
        escaped(render, given, escape::js)
    })
    .rest(Any),
    of("urlquery", &[], |render, given| {
        escaped(render, given, escape::query)
    })
    .rest(Any),
    of("jsonMarshal", &[Any], |render, given| {
        let text = json::encode(render.heap, given[0], json::Style::Html)?;
        render.step(text.len() / 16)?;
        render.heap.made(text)
    })
    .writes(|render, given| render.write_json(given[0], json::Style::Html)),
    of("xmlMarshal", &[Any], |render, given| {
        let text = xml::write::marshal(render.heap, given[0])?;
        render.step(text.len() / 16)?;
        render.heap.made(text)
    })
    .writes(|render, given| render.write_xml(given[0])),
];

/// The renderer does this by itself, as it must not evaluate all arguments.
fn decided<'r>(_: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    Ok(given.last().copied().unwrap_or(Value::Missing))
}

fn escaped<'r>(
    render: &mut Render<'r>,
    given: &[Value<'r>],
    escape: fn(&[u8]) -> Vec<u8>,
) -> Answer<'r> {
    if let [Value::Str(text)] = given {
        render.heap.charge(text.len())?;
        return render.heap.made(escape(text));
    }
    // What prints as `<no value>` is a text here, so no space comes before it.
    let printable = |value: &Value<'r>| match value {
        Value::Missing | Value::Nil => Value::Str(b"<no value>"),
        value => *value,
    };
    let given: Vec<_> = given.iter().map(printable).collect();
    let text = format::print(render.heap, &given, render.printable())?;
    render.heap.str(escape(&text))
}

/// What can be compared, by its kind.
#[derive(PartialEq)]
enum Basic<'r> {
    Bool(bool),
    Int(i64),
    Byte(u8),
    Float(f64),
    Complex(f64, f64),
    Str(&'r [u8]),
}

fn basic(value: Value<'_>) -> Option<Basic<'_>> {
    match value {
        Value::Bool(value) => Some(Basic::Bool(value)),
        Value::Int(value) | Value::Int64(value) => Some(Basic::Int(value)),
        Value::Byte(value) => Some(Basic::Byte(value)),
        Value::Float(value) => Some(Basic::Float(value)),
        Value::Complex(real, imaginary) => Some(Basic::Complex(real, imaginary)),
        Value::Str(text) => Some(Basic::Str(text)),
        _ => None,
    }
}

#[cold]
fn incompatible(left: Value<'_>, right: Value<'_>) -> Fault {
    let (left, right) = (left.type_name(), right.type_name());
    Fault::new(format!(
        "incompatible types for comparison: {left} and {right}"
    ))
}

/// Whether the first equals any of the others.
fn eq<'r>(heap: &'r Heap<'r>, given: &[Value<'r>]) -> Result<bool, Fault> {
    let (left, others) = match given {
        [left, others @ ..] if !others.is_empty() => (*left, others),
        _ => return Err(Fault::new("missing argument for comparison")),
    };
    for right in others {
        if equal(heap, left, *right)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal<'r>(_: &'r Heap<'r>, left: Value<'r>, right: Value<'r>) -> Result<bool, Fault> {
    Ok(match (basic(left), basic(right)) {
        (Some(Basic::Int(left)), Some(Basic::Byte(right)))
        | (Some(Basic::Byte(right)), Some(Basic::Int(left))) => left == i64::from(right),
        (Some(one), Some(other)) => {
            if std::mem::discriminant(&one) != std::mem::discriminant(&other) {
                return Err(incompatible(left, right));
            }
            one == other
        }
        (None, None) => match (left, right) {
            (Value::Time(left), Value::Time(right)) => left == right,
            (Value::Version(left), Value::Version(right)) => std::ptr::eq(left, right),
            (left, right) if left.is_nil() || right.is_nil() => left.is_nil() && right.is_nil(),
            _ => return Err(Fault::new("non-comparable types")),
        },
        _ if left.is_nil() || right.is_nil() => false,
        _ => return Err(incompatible(left, right)),
    })
}

fn less(left: Value<'_>, right: Value<'_>) -> Result<bool, Fault> {
    let invalid = || Fault::new("invalid type for comparison");
    let (one, other) = (
        basic(left).ok_or_else(invalid)?,
        basic(right).ok_or_else(invalid)?,
    );
    Ok(match (one, other) {
        (Basic::Int(left), Basic::Int(right)) => left < right,
        (Basic::Byte(left), Basic::Byte(right)) => left < right,
        (Basic::Int(left), Basic::Byte(right)) => left < right.into(),
        (Basic::Byte(left), Basic::Int(right)) => i64::from(left) < right,
        (Basic::Float(left), Basic::Float(right)) => left < right,
        (Basic::Str(left), Basic::Str(right)) => left < right,
        (Basic::Bool(_), Basic::Bool(_)) | (Basic::Complex(..), Basic::Complex(..)) => {
            return Err(invalid());
        }
        _ => return Err(incompatible(left, right)),
    })
}

fn less_or_equal<'r>(heap: &'r Heap<'r>, given: &[Value<'r>]) -> Result<bool, Fault> {
    Ok(less(given[0], given[1])? || eq(heap, given)?)
}

fn len<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let length = match given[0] {
        Value::Str(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => render.heap.len(map),
        value => {
            let kind = value.type_name();
            return Err(Fault::new(format!("len of type {kind}")));
        }
    };
    Ok(Value::Int(length as i64))
}

fn index<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let mut value = given[0];
    if value.is_nil() {
        return Err(Fault::new("index of untyped nil"));
    }
    for at in &given[1..] {
        value = match value {
            Value::Missing | Value::Nil => return Err(Fault::new("index of nil pointer")),
            Value::List(list) => {
                let at = position(*at, list.len())?;
                list.get(at).unwrap_or(Value::Nil)
            }
            Value::Str(text) => Value::Byte(text[position(*at, text.len())?]),
            Value::Map(map) => match at {
                Value::Str(key) => {
                    let found = render.heap.get(map, key);
                    found.unwrap_or_else(|| super::types::zero_of(map.kind()))
                }
                at if at.is_nil() => {
                    return Err(Fault::new("value is nil; should be of type string"));
                }
                at => {
                    let kind = at.type_name();
                    return Err(Fault::new(format!(
                        "value has type {kind}; should be string"
                    )));
                }
            },
            value => {
                let kind = value.type_name();
                return Err(Fault::new(format!("can't index item of type {kind}")));
            }
        };
    }
    Ok(value)
}

fn position(at: Value<'_>, length: usize) -> Result<usize, Fault> {
    let number = match at {
        Value::Int(_) | Value::Int64(_) => int_of(at),
        Value::Byte(at) => at.into(),
        at if at.is_nil() => return Err(Fault::new("cannot index slice/array with nil")),
        at => {
            let kind = at.type_name();
            return Err(Fault::new(format!(
                "cannot index slice/array with type {kind}"
            )));
        }
    };
    let at = usize::try_from(number).ok().filter(|at| *at < length);
    at.ok_or_else(|| Fault::new(format!("index out of range: {number}")))
}
