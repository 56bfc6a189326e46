//! The functions that templates call: Go's own, sprig's, and the gateway's `jsonMarshal` and `xmlMarshal`.
//!
//! A function names what it takes, so that the renderer checks it as Go's reflection does: a literal `3`
//! may be an `int` or a float, a number of JSON is a float, and nothing is turned into a text by itself.

mod builtin;
#[cfg(feature = "costly")]
mod costly;
#[cfg(not(feature = "costly"))]
#[path = "funcs/not_costly.rs"]
mod costly;
mod crypto;
mod dates;
mod defaults;
mod lists;
mod maps;
mod methods;
mod numbers;
mod paths;
mod regex;
mod strings;
mod types;
mod url;
mod versions;

use std::{collections::HashMap, fmt, sync::LazyLock};

use smallvec::SmallVec;

use crate::{
    error::Fault,
    render::{Render, untyped},
    tree::Number,
    value::{Items, Map, MapKind, Value},
};

pub(crate) use self::methods::method;

/// What is given to a function.
pub(crate) type Given<'r> = SmallVec<[Value<'r>; 4]>;

/// The result of a function.
pub(crate) type Answer<'r> = Result<Value<'r>, Fault>;

/// Writes what a function comes to.
pub(crate) type Write = for<'r> fn(&mut Render<'r>, &[Value<'r>]) -> Result<(), Fault>;

/// A function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) parameters: &'static [Parameter],
    /// What may follow, any number of times.
    pub(crate) rest: Option<Parameter>,
    pub(crate) call: for<'r> fn(&mut Render<'r>, &[Value<'r>]) -> Answer<'r>,
    /// What writes its text where it goes, in place of a text that is then written.
    pub(crate) write: Option<Write>,
    /// `and` and `or` stop where a value is this.
    pub(crate) short_circuit: Option<bool>,
    /// Whether it takes long, or reaches out: then it is there only where that was asked for.
    pub(crate) is_costly: bool,
}

/// What a function takes in one place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Parameter {
    /// `interface{}`
    Any,
    /// `reflect.Value`: what is missing is told from what is `nil`.
    Reflected,
    Str,
    Int,
    Float,
    Bool,
    /// `map[string]interface{}`
    Map,
    /// `[]interface{}`
    List,
    Time,
    Version,
    Certificate,
}

use Parameter::{Any, Bool, Certificate, Float, Int, List, Reflected, Str, Time, Version};

const fn of(
    name: &'static str,
    parameters: &'static [Parameter],
    call: for<'r> fn(&mut Render<'r>, &[Value<'r>]) -> Answer<'r>,
) -> Function {
    Function {
        name,
        parameters,
        rest: None,
        call,
        write: None,
        short_circuit: None,
        is_costly: false,
    }
}

impl Function {
    const fn rest(mut self, rest: Parameter) -> Self {
        self.rest = Some(rest);
        self
    }

    const fn writes(mut self, write: Write) -> Self {
        self.write = Some(write);
        self
    }

    const fn costly(mut self) -> Self {
        self.is_costly = true;
        self
    }

    /// Whether it makes no copies of a long text that it is given, or counts them by itself.
    pub(crate) fn copies_nothing(&self) -> bool {
        let names = [
            "and",
            "coalesce",
            "contains",
            "default",
            "dict",
            "empty",
            "eq",
            "ge",
            "get",
            "gt",
            "has",
            "hasKey",
            "hasPrefix",
            "hasSuffix",
            "index",
            "jsonMarshal",
            "le",
            "len",
            "list",
            "lt",
            "ne",
            "not",
            "or",
            "set",
            "slice",
            "ternary",
            "trim",
            "trimPrefix",
            "trimSuffix",
            "trunc",
            "typeOf",
            "kindOf",
            "xmlMarshal",
        ];
        names.contains(&self.name)
    }

    #[cold]
    pub(crate) fn wrong_number(&self, wanted: &str, got: usize) -> Fault {
        let name = self.name;
        Fault::new(format!(
            "wrong number of args for {name}: want {wanted} got {got}"
        ))
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Parameter {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Any => "interface {}",
            Reflected => "reflect.Value",
            Str => "string",
            Int => "int",
            Float => "float64",
            Bool => "bool",
            Self::Map => "map[string]interface {}",
            List => "[]interface {}",
            Time => "time.Time",
            Version => "*semver.Version",
            Certificate => "sprig.certificate",
        }
    }

    /// Whether `nil` and what is missing can be given.
    pub(crate) fn may_be_nil(self) -> bool {
        matches!(self, Any | Reflected | Self::Map | List | Version)
    }

    pub(crate) fn takes(self, value: Value<'_>) -> bool {
        match (self, value) {
            (Any | Reflected, _)
            | (Str, Value::Str(_))
            | (Int, Value::Int(_))
            | (Float, Value::Float(_))
            | (Bool, Value::Bool(_))
            | (Time, Value::Time(_))
            | (Version, Value::Version(_))
            | (Certificate, Value::Certificate(_)) => true,
            (Self::Map, Value::Map(map)) => map.kind() == MapKind::Any,
            (List, Value::List(list)) => list.items() == Items::Any,
            _ => false,
        }
    }

    pub(crate) fn literal_bool<'r>(self, value: bool) -> Answer<'r> {
        match self {
            Bool | Any | Reflected => Ok(Value::Bool(value)),
            _ => Err(self.expected("a boolean")),
        }
    }

    pub(crate) fn literal_number<'r>(self, number: Number) -> Answer<'r> {
        let expected = || self.expected("a number");
        match self {
            Any | Reflected => untyped(number),
            Int => number.int.map(Value::Int).ok_or_else(expected),
            Float => number.float.map(Value::Float).ok_or_else(expected),
            _ => Err(expected()),
        }
    }

    pub(crate) fn literal_text<'r>(self, text: &'r [u8]) -> Answer<'r> {
        match self {
            Str | Any | Reflected => Ok(Value::Str(text)),
            _ => Err(self.expected("a string")),
        }
    }

    #[cold]
    fn expected(self, found: &str) -> Fault {
        let wanted = match self {
            Int => "integer",
            other => other.name(),
        };
        Fault::new(format!("expected {wanted}; found {found}"))
    }
}

/// Which functions a template may call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Functions {
    pub(crate) with_costly: bool,
}

static ALL: LazyLock<HashMap<&'static str, &'static Function>> = LazyLock::new(|| {
    let tables = [
        builtin::ALL,
        crypto::ALL,
        dates::ALL,
        defaults::ALL,
        lists::ALL,
        maps::ALL,
        numbers::ALL,
        paths::ALL,
        regex::ALL,
        strings::ALL,
        types::ALL,
        url::ALL,
        versions::ALL,
    ];
    let functions = tables.into_iter().flatten();
    functions
        .map(|function| (function.name, function))
        .collect()
});

impl Functions {
    pub(crate) fn find(self, name: &str) -> Result<&'static Function, String> {
        match ALL.get(name) {
            Some(function) if function.is_costly && !self.with_costly => Err(format!(
                "function {name:?} costs much or reaches out, and is not switched on"
            )),
            Some(function) => Ok(function),
            None => Err(format!("function {name:?} not defined")),
        }
    }
}

/// The text of a value that the renderer checked to be one.
fn text_of<'r>(value: Value<'r>) -> &'r [u8] {
    match value {
        Value::Str(text) => text,
        _ => b"",
    }
}

/// The same as text; bytes that are no UTF-8 are replaced.
fn str_of<'r>(value: Value<'r>) -> std::borrow::Cow<'r, str> {
    crate::unicode::lossy(text_of(value))
}

fn int_of(value: Value<'_>) -> i64 {
    match value {
        Value::Int(value) | Value::Int64(value) => value,
        _ => 0,
    }
}

/// A map, where one was given and not `nil`.
fn map_of(value: Value<'_>) -> Option<Map<'_>> {
    match value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// A count or an offset that a template gives.
fn size(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

#[cold]
fn nil_pointer() -> Fault {
    Fault::new("invalid memory address or nil pointer dereference")
}

/// `fmt.Sprint` of one value, as sprig's `strval` has it.
fn string_value<'r>(render: &Render<'r>, value: Value<'r>) -> Result<Vec<u8>, Fault> {
    match value {
        Value::Str(text) => Ok(text.into()),
        value => crate::print::text(render.heap, value),
    }
}

/// `reflect.DeepEqual`
pub(crate) fn deep_equal<'r>(
    render: &mut Render<'r>,
    left: Value<'r>,
    right: Value<'r>,
    depth: usize,
) -> Result<bool, Fault> {
    if depth > crate::print::DEEPEST_VALUE {
        return Err(crate::print::too_deep());
    }
    render.step(1)?;
    Ok(match (left, right) {
        (Value::Missing | Value::Nil, Value::Missing | Value::Nil) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Int(left), Value::Int(right)) | (Value::Int64(left), Value::Int64(right)) => {
            left == right
        }
        (Value::Byte(left), Value::Byte(right)) => left == right,
        (Value::Float(left), Value::Float(right)) => left == right,
        (Value::Complex(a, b), Value::Complex(c, d)) => a == c && b == d,
        (Value::Str(left), Value::Str(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            if left.items() != right.items()
                || left.is_nil() != right.is_nil()
                || left.len() != right.len()
            {
                return Ok(false);
            }
            for (left, right) in left.iter().zip(right.iter()) {
                if !deep_equal(render, left, right, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(left), Value::Map(right)) => {
            if left.kind() != right.kind() || render.heap.len(left) != render.heap.len(right) {
                return Ok(false);
            }
            for (key, value) in render.heap.entries(left) {
                let Some(other) = render.heap.get(right, key) else {
                    return Ok(false);
                };
                if !deep_equal(render, value, other, depth + 1)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Time(left), Value::Time(right)) => left == right,
        (Value::Version(left), Value::Version(right)) => left == right,
        _ => false,
    })
}
