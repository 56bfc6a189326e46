//! Methods of values that have some: times, versions, forms and headers.

use super::{
    Answer, Any, Function, Int, Str, Time as Moment, Version as Release, int_of, nil_pointer, of,
    str_of, text_of,
};
use crate::{
    escape,
    render::Render,
    semver::Version,
    time::{Time, ZERO, seconds_of},
    value::{MapKind, Value},
};

/// The method of a value.
pub(crate) fn method(value: Value<'_>, name: &[u8]) -> Option<&'static Function> {
    let methods = match value {
        Value::Time(_) => TIME,
        Value::Version(_) => VERSION,
        Value::Map(map) => match map.kind() {
            MapKind::Form => FORM,
            MapKind::Headers => HEADERS,
            MapKind::Any | MapKind::Strings => return None,
        },
        _ => return None,
    };
    methods.iter().find(|method| method.name.as_bytes() == name)
}

const TIME: &[Function] = &[
    of("Year", &[Any], |_, given| {
        civil(given, |time| Value::Int(time.civil().year))
    }),
    of("Month", &[Any], |render, given| {
        told(render, given, "January")
    }),
    of("Day", &[Any], |_, given| {
        civil(given, |time| Value::Int(time.civil().day.into()))
    }),
    of("Hour", &[Any], |_, given| {
        civil(given, |time| Value::Int(time.civil().hour.into()))
    }),
    of("Minute", &[Any], |_, given| {
        civil(given, |time| Value::Int(time.civil().minute.into()))
    }),
    of("Second", &[Any], |_, given| {
        civil(given, |time| Value::Int(time.civil().second.into()))
    }),
    of("Nanosecond", &[Any], |_, given| {
        civil(given, |time| Value::Int(time.nanos.into()))
    }),
    of("Weekday", &[Any], |render, given| {
        told(render, given, "Monday")
    }),
    of("YearDay", &[Any], |_, given| {
        civil(given, |time| Value::Int(time.civil().day_of_year.into()))
    }),
    of("Unix", &[Any], |_, given| {
        civil(given, |time| Value::Int64(time.seconds))
    }),
    of("UnixMilli", &[Any], |_, given| {
        civil(given, |time| Value::Int64(time.since(EPOCH) / 1_000_000))
    }),
    of("UnixNano", &[Any], |_, given| {
        civil(given, |time| Value::Int64(time.since(EPOCH)))
    }),
    of("IsZero", &[Any], |_, given| {
        civil(given, |time| {
            Value::Bool((time.seconds, time.nanos) == (ZERO.seconds, 0))
        })
    }),
    of("UTC", &[Any], utc),
    of("Local", &[Any], utc), // The zone of the program is UTC.
    of("String", &[Any], |render, given| {
        let time = time_of(given[0])?;
        render.heap.str(time.to_string())
    }),
    of("Format", &[Any, Str], |render, given| {
        let (time, layout) = (time_of(given[0])?, str_of(given[1]));
        render.step(layout.len())?;
        render.heap.str(time.format(&layout))
    }),
    of("AddDate", &[Any, Int, Int, Int], |render, given| {
        let time = time_of(given[0])?;
        let civil = time.civil();
        let far = |value| int_of(value).clamp(-1_000_000, 1_000_000);
        let date = (
            civil.year + far(given[1]),
            i64::from(civil.month) + far(given[2]),
            i64::from(civil.day) + far(given[3]),
        );
        let of_day = (civil.hour.into(), civil.minute.into(), civil.second.into());
        let seconds = seconds_of(date, of_day) - i64::from(time.offset);
        render.heap.time(Time { seconds, ..time })
    }),
    of("Before", &[Any, Moment], |_, given| {
        let (left, right) = (time_of(given[0])?, time_of(given[1])?);
        Ok(Value::Bool(
            (left.seconds, left.nanos) < (right.seconds, right.nanos),
        ))
    }),
    of("After", &[Any, Moment], |_, given| {
        let (left, right) = (time_of(given[0])?, time_of(given[1])?);
        Ok(Value::Bool(
            (left.seconds, left.nanos) > (right.seconds, right.nanos),
        ))
    }),
    of("Equal", &[Any, Moment], |_, given| {
        let (left, right) = (time_of(given[0])?, time_of(given[1])?);
        Ok(Value::Bool(
            (left.seconds, left.nanos) == (right.seconds, right.nanos),
        ))
    }),
];

const EPOCH: Time<'static> = Time {
    seconds: 0,
    nanos: 0,
    offset: 0,
    zone: "UTC",
};

fn utc<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let time = time_of(given[0])?;
    render.heap.time(Time::utc(time.seconds, time.nanos))
}

fn time_of<'r>(value: Value<'r>) -> Result<Time<'r>, crate::error::Fault> {
    match value {
        Value::Time(time) => Ok(*time),
        _ => Err(nil_pointer()),
    }
}

fn civil<'r>(given: &[Value<'r>], part: fn(Time<'r>) -> Value<'r>) -> Answer<'r> {
    time_of(given[0]).map(part)
}

fn told<'r>(render: &mut Render<'r>, given: &[Value<'r>], layout: &str) -> Answer<'r> {
    let time = time_of(given[0])?;
    render.heap.str(time.format(layout))
}

const VERSION: &[Function] = &[
    of("Major", &[Any], |_, given| {
        number(given, |version| version.major)
    }),
    of("Minor", &[Any], |_, given| {
        number(given, |version| version.minor)
    }),
    of("Patch", &[Any], |_, given| {
        number(given, |version| version.patch)
    }),
    of("Prerelease", &[Any], |_, given| {
        text(given, |version| &version.pre)
    }),
    of("Metadata", &[Any], |_, given| {
        text(given, |version| &version.metadata)
    }),
    of("Original", &[Any], |_, given| {
        text(given, |version| &version.original)
    }),
    of("String", &[Any], |render, given| {
        let version = version_of(given[0])?;
        render.heap.str(version.to_string())
    }),
    of("Compare", &[Any, Release], |_, given| {
        Ok(Value::Int(order(given)? as i64))
    }),
    of("LessThan", &[Any, Release], |_, given| {
        Ok(Value::Bool(order(given)?.is_lt()))
    }),
    of("LessThanEqual", &[Any, Release], |_, given| {
        Ok(Value::Bool(order(given)?.is_le()))
    }),
    of("GreaterThan", &[Any, Release], |_, given| {
        Ok(Value::Bool(order(given)?.is_gt()))
    }),
    of("GreaterThanEqual", &[Any, Release], |_, given| {
        Ok(Value::Bool(order(given)?.is_ge()))
    }),
    of("Equal", &[Any, Release], |_, given| {
        Ok(Value::Bool(order(given)?.is_eq()))
    }),
    of("IncMajor", &[Any], |render, given| {
        next(render, given, |version| {
            (version.major.wrapping_add(1), 0, 0)
        })
    }),
    of("IncMinor", &[Any], |render, given| {
        next(render, given, |version| {
            (version.major, version.minor.wrapping_add(1), 0)
        })
    }),
    of("IncPatch", &[Any], |render, given| {
        next(render, given, |version| {
            let up = u64::from(version.pre.is_empty());
            (version.major, version.minor, version.patch.wrapping_add(up))
        })
    }),
];

fn version_of<'r>(value: Value<'r>) -> Result<&'r Version, crate::error::Fault> {
    match value {
        Value::Version(version) => Ok(version),
        _ => Err(nil_pointer()),
    }
}

fn number<'r>(given: &[Value<'r>], part: fn(&Version) -> u64) -> Answer<'r> {
    let number = part(version_of(given[0])?);
    Ok(Value::Int64(i64::try_from(number).unwrap_or(i64::MAX)))
}

fn text<'r>(given: &[Value<'r>], part: fn(&Version) -> &str) -> Answer<'r> {
    Ok(Value::Str(part(version_of(given[0])?).as_bytes()))
}

fn order(given: &[Value<'_>]) -> Result<std::cmp::Ordering, crate::error::Fault> {
    Ok(version_of(given[0])?.compare(version_of(given[1])?))
}

fn next<'r>(
    render: &mut Render<'r>,
    given: &[Value<'r>],
    parts: fn(&Version) -> (u64, u64, u64),
) -> Answer<'r> {
    render.heap.charge(256)?;
    let version = version_of(given[0])?;
    Ok(render.heap.version(version.next(parts(version))))
}

const FORM: &[Function] = &[
    of("Get", &[Any, Str], |render, given| {
        Ok(first(render, given[0], text_of(given[1])))
    }),
    of("Has", &[Any, Str], |render, given| {
        let found = super::map_of(given[0]).and_then(|map| render.heap.get(map, text_of(given[1])));
        Ok(Value::Bool(found.is_some()))
    }),
    of("Encode", &[Any], encode),
];

const HEADERS: &[Function] = &[
    of("Get", &[Any, Str], |render, given| {
        let name = canonical(&str_of(given[1]));
        Ok(first(render, given[0], name.as_bytes()))
    }),
    of("Values", &[Any, Str], |render, given| {
        let name = canonical(&str_of(given[1]));
        let map = super::map_of(given[0]);
        let found = map.and_then(|map| render.heap.get(map, name.as_bytes()));
        Ok(found.unwrap_or(super::strings::no_texts()))
    }),
];

/// The first text of a name; nothing where there is none.
fn first<'r>(render: &Render<'r>, map: Value<'r>, name: &[u8]) -> Value<'r> {
    let found = super::map_of(map).and_then(|map| render.heap.get(map, name));
    let list = found.and_then(crate::render::list_of);
    list.and_then(|list| list.get(0)).unwrap_or(Value::Str(b""))
}

/// A header's name in the capitals of Go.
fn canonical(name: &str) -> String {
    let mut before = '-';
    let capital = |char: char| {
        let starts = std::mem::replace(&mut before, char) == '-';
        if starts {
            char.to_ascii_uppercase()
        } else {
            char.to_ascii_lowercase()
        }
    };
    name.chars().map(capital).collect()
}

fn encode<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let map = super::map_of(given[0]);
    let entries = map.map(|map| render.heap.entries(map)).unwrap_or_default();
    let mut pairs = Vec::new();
    for (name, values) in entries {
        let values = crate::render::list_of(values);
        for value in values.into_iter().flat_map(|list| list.iter()) {
            render.step(1)?;
            let pair = [escape::query(name), escape::query(text_of(value))];
            pairs.push(pair.join(&b'='));
        }
    }
    render.heap.str(pairs.join(&b'&'))
}
