//! Numbers.

use super::{Answer, Any, Float, Function, Int, Str, int_of, of, size, str_of};
use crate::{
    decimal::Decimal,
    error::Fault,
    literal::{parse_float, parse_int},
    render::Render,
    value::{Items, Value},
};

pub(super) const ALL: &[Function] = &[
    of("int", &[Any], |_, given| Ok(Value::Int(to_int(given[0])))),
    of("int64", &[Any], |_, given| {
        Ok(Value::Int64(to_int(given[0])))
    }),
    of("float64", &[Any], |_, given| {
        Ok(Value::Float(to_float(given[0])))
    }),
    of("atoi", &[Str], |_, given| {
        Ok(Value::Int(parse_int(&str_of(given[0]), 10).unwrap_or(0)))
    }),
    of("toDecimal", &[Any], |render, given| {
        let text = crate::format::print(render.heap, given, render.printable())?;
        let number = str::from_utf8(&text)
            .ok()
            .and_then(|text| parse_int(text, 8));
        Ok(Value::Int64(number.unwrap_or(0)))
    }),
    of("add", &[], |_, given| {
        let numbers = given.iter().map(|value| to_int(*value));
        Ok(Value::Int64(numbers.fold(0, i64::wrapping_add)))
    })
    .rest(Any),
    of("add1", &[Any], |_, given| {
        Ok(Value::Int64(to_int(given[0]).wrapping_add(1)))
    }),
    of("sub", &[Any, Any], |_, given| {
        Ok(Value::Int64(
            to_int(given[0]).wrapping_sub(to_int(given[1])),
        ))
    }),
    of("mul", &[Any], |_, given| {
        let numbers = given.iter().map(|value| to_int(*value));
        Ok(Value::Int64(numbers.fold(1, i64::wrapping_mul)))
    })
    .rest(Any),
    of("div", &[Any, Any], |_, given| {
        let (left, right) = (to_int(given[0]), nonzero(to_int(given[1]))?);
        Ok(Value::Int64(left.wrapping_div(right)))
    }),
    of("mod", &[Any, Any], |_, given| {
        let (left, right) = (to_int(given[0]), nonzero(to_int(given[1]))?);
        Ok(Value::Int64(left.wrapping_rem(right)))
    }),
    of("max", &[Any], |_, given| Ok(largest(given))).rest(Any),
    of("biggest", &[Any], |_, given| Ok(largest(given))).rest(Any),
    of("min", &[Any], |_, given| {
        let numbers = given.iter().map(|value| to_int(*value));
        Ok(Value::Int64(numbers.min().unwrap_or(0)))
    })
    .rest(Any),
    of("maxf", &[Any], |_, given| Ok(extreme(given, f64::max))).rest(Any),
    of("minf", &[Any], |_, given| Ok(extreme(given, f64::min))).rest(Any),
    of("addf", &[], |render, given| {
        let zero = [Value::Float(0.0)];
        let all: Vec<_> = zero.iter().chain(given).copied().collect();
        decimal(render, &all, |left, right| Ok(left.add(&right)))
    })
    .rest(Any),
    of("add1f", &[Any], |render, given| {
        decimal(render, &[given[0], Value::Int(1)], |left, right| {
            Ok(left.add(&right))
        })
    }),
    of("subf", &[Any], |render, given| {
        decimal(render, given, |left, right| Ok(left.sub(&right)))
    })
    .rest(Any),
    of("mulf", &[Any], |render, given| {
        decimal(render, given, |left, right| Ok(left.mul(&right)))
    })
    .rest(Any),
    of("divf", &[Any], |render, given| {
        decimal(render, given, |left, right| {
            left.div(&right)
                .ok_or_else(|| Fault::new("decimal division by 0"))
        })
    })
    .rest(Any),
    of("ceil", &[Any], |_, given| {
        Ok(Value::Float(to_float(given[0]).ceil()))
    }),
    of("floor", &[Any], |_, given| {
        Ok(Value::Float(to_float(given[0]).floor()))
    }),
    of("round", &[Any, Int], round).rest(Float),
    of("until", &[Int], |render, given| {
        let end = int_of(given[0]);
        steps(render, 0, end, if end < 0 { -1 } else { 1 })
    }),
    of("untilStep", &[Int, Int, Int], |render, given| {
        steps(render, int_of(given[0]), int_of(given[1]), int_of(given[2]))
    }),
    of("seq", &[], seq).rest(Int),
];

fn nonzero(number: i64) -> Result<i64, Fault> {
    if number == 0 {
        return Err(Fault::new("integer divide by zero"));
    }
    Ok(number)
}

fn largest<'r>(given: &[Value<'r>]) -> Value<'r> {
    let numbers = given.iter().map(|value| to_int(*value));
    Value::Int64(numbers.max().unwrap_or(0))
}

fn extreme<'r>(given: &[Value<'r>], choose: fn(f64, f64) -> f64) -> Value<'r> {
    let choose = |left: f64, right: f64| {
        if left.is_nan() || right.is_nan() {
            f64::NAN
        } else {
            choose(left, right)
        }
    };
    let numbers = given.iter().map(|value| to_float(*value));
    Value::Float(numbers.reduce(choose).unwrap_or(0.0))
}

/// `cast.ToInt64`: what can not be read is 0.
pub(super) fn to_int(value: Value<'_>) -> i64 {
    match value {
        Value::Int(number) | Value::Int64(number) => number,
        Value::Byte(number) => number.into(),
        // Out of range Go gives the smallest number, on the machines that Tyk runs on.
        Value::Float(number)
            if number.abs() < 9.3e18 && (number as i64 as f64 - number.trunc()).abs() < 1.0 =>
        {
            number as i64
        }
        Value::Float(_) => i64::MIN,
        Value::Bool(flag) => flag.into(),
        Value::Str(_) => parse_int(without_zero_decimal(&str_of(value)), 0).unwrap_or(0),
        _ => 0,
    }
}

/// `1.00` is `1`, but `1.50` is no whole number.
fn without_zero_decimal(text: &str) -> &str {
    let kept = text.trim_end_matches('0');
    match kept.strip_suffix('.') {
        Some(whole) if kept.len() < text.len() => whole,
        _ => text,
    }
}

/// `cast.ToFloat64`: what can not be read is 0.
fn to_float(value: Value<'_>) -> f64 {
    match value {
        Value::Float(number) => number,
        Value::Int(number) | Value::Int64(number) => number as f64,
        Value::Byte(number) => number.into(),
        Value::Bool(flag) => f64::from(u8::from(flag)),
        Value::Str(_) => parse_float(&str_of(value)).unwrap_or(0.0),
        _ => 0.0,
    }
}

fn decimal<'r>(
    render: &mut Render<'r>,
    given: &[Value<'r>],
    apply: impl Fn(Decimal, Decimal) -> Result<Decimal, Fault>,
) -> Answer<'r> {
    let invalid = || Fault::new("Cannot create a Decimal from NaN or an infinity");
    let read = |value: Value<'r>| Decimal::from_float(to_float(value)).ok_or_else(invalid);
    let mut result = read(given[0])?;
    for value in &given[1..] {
        render.step(4)?;
        result = apply(result, read(*value)?)?;
        if result.is_huge() {
            return Err(Fault::limit("the number has too many digits"));
        }
    }
    Ok(Value::Float(result.to_float()))
}

fn round<'r>(_: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let on = match given.get(2) {
        Some(Value::Float(on)) => *on,
        _ => 0.5,
    };
    let places = i32::try_from(int_of(given[1])).unwrap_or(i32::MAX);
    let power = 10_f64.powi(places);
    let digit = power * to_float(given[0]);
    let rounded = if digit.fract() >= on {
        digit.ceil()
    } else {
        digit.floor()
    };
    Ok(Value::Float(rounded / power))
}

/// The numbers from one to before another.
fn numbers(render: &mut Render<'_>, start: i64, end: i64, step: i64) -> Result<Vec<i64>, Fault> {
    let goes = if end < start { step < 0 } else { step > 0 };
    if !goes {
        return Ok(Vec::new());
    }
    let count = end.abs_diff(start).div_ceil(step.unsigned_abs());
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    render.step(count)?;
    if count.saturating_mul(size_of::<Value<'_>>()) > render.heap.left() {
        return Err(render.heap.too_much());
    }
    let numbers = (0..count).map(|at| start.wrapping_add(step.wrapping_mul(at as i64)));
    Ok(numbers.collect())
}

fn steps<'r>(render: &mut Render<'r>, start: i64, end: i64, step: i64) -> Answer<'r> {
    let numbers = numbers(render, start, end, step)?;
    let numbers: Vec<_> = numbers.into_iter().map(Value::Int).collect();
    render.heap.list(&numbers, Items::Ints)
}

fn seq<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let given: Vec<_> = given.iter().map(|value| int_of(*value)).collect();
    let (start, end, step) = match *given {
        [end] => (1, end, None),
        [start, end] => (start, end, None),
        [start, step, end] => (start, end, Some(step)),
        _ => return Ok(Value::Str(b"")),
    };
    let one = if end < start { -1 } else { 1 };
    if end < start && step.is_some_and(|step| step > 0) {
        return Ok(Value::Str(b""));
    }
    let numbers = numbers(render, start, end.saturating_add(one), step.unwrap_or(one))?;
    let texts: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    render.step(size(texts.len() as i64))?;
    render.heap.str(texts.join(" "))
}
