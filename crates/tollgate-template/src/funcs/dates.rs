//! Dates. The local zone is UTC.

use super::{Answer, Any, Function, Str, Time as Moment, of, str_of};
use crate::{
    error::Fault,
    render::Render,
    time::{self, Time, ZERO},
    value::Value,
};

pub(super) const ALL: &[Function] = &[
    of("now", &[], |render, _| render.heap.time(Time::now())),
    of("date", &[Str, Any], |render, given| {
        date(render, &str_of(given[0]), given[1], "Local")
    }),
    of("dateInZone", &[Str, Any, Str], date_in_zone),
    of("date_in_zone", &[Str, Any, Str], date_in_zone),
    of("htmlDate", &[Any], |render, given| {
        date(render, HTML, given[0], "Local")
    }),
    of("htmlDateInZone", &[Any, Str], |render, given| {
        date(render, HTML, given[0], &str_of(given[1]))
    }),
    of("dateModify", &[Str, Moment], |render, given| {
        modified(render, given).unwrap_or(Ok(given[1]))
    }),
    of("date_modify", &[Str, Moment], |render, given| {
        modified(render, given).unwrap_or(Ok(given[1]))
    }),
    of("mustDateModify", &[Str, Moment], must_modify),
    of("must_date_modify", &[Str, Moment], must_modify),
    of("toDate", &[Str, Str], |render, given| {
        match read(render, given) {
            Some(time) => time,
            None => render.heap.time(ZERO),
        }
    }),
    of("mustToDate", &[Str, Str], |render, given| {
        let time = read(render, given);
        time.unwrap_or_else(|| Err(Fault::new("the text is no time of this form")))
    }),
    of("unixEpoch", &[Moment], |render, given| match given[0] {
        Value::Time(time) => render.heap.str(time.seconds.to_string()),
        _ => Err(super::nil_pointer()),
    }),
    of("ago", &[Any], |render, given| {
        let since = Time::now().since(moment(given[0]));
        let seconds = (since as f64 / 1e9).round() as i64;
        render.heap.str(time::duration_text(seconds))
    }),
    of("duration", &[Any], |render, given| {
        let seconds = match given[0] {
            Value::Int64(seconds) => seconds,
            value @ Value::Str(_) => str_of(value).parse().unwrap_or(0),
            _ => 0,
        };
        // As in Go, the count of nanoseconds wraps.
        let seconds = seconds.wrapping_mul(1_000_000_000) / 1_000_000_000;
        render.heap.str(time::duration_text(seconds))
    }),
    of("durationRound", &[Any], |render, given| {
        let nanos = match given[0] {
            Value::Int64(nanos) => nanos,
            Value::Time(time) => Time::now().since(*time),
            value @ Value::Str(_) => time::parse_duration(&str_of(value)).unwrap_or(0),
            _ => 0,
        };
        render.heap.str(rounded(nanos.unsigned_abs()))
    }),
];

const HTML: &str = "2006-01-02";

/// A time, or seconds since 1970 as a whole number. Whatever else it is, it is now.
fn moment<'r>(value: Value<'r>) -> Time<'r> {
    match value {
        Value::Time(time) => *time,
        Value::Int(seconds) | Value::Int64(seconds) => Time::utc(seconds, 0),
        _ => Time::now(),
    }
}

fn date<'r>(render: &mut Render<'r>, layout: &str, value: Value<'r>, zone: &str) -> Answer<'r> {
    let time = moment(value);
    let (offset, zone) = time.zone_at(zone);
    let time = Time {
        offset,
        zone: &zone,
        ..time
    };
    render.step(layout.len())?;
    render.heap.str(time.format(layout))
}

fn date_in_zone<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    date(render, &str_of(given[0]), given[1], &str_of(given[2]))
}

/// None where the text is no duration.
fn modified<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Option<Answer<'r>> {
    let Value::Time(time) = given[1] else {
        return None;
    };
    let nanos = time::parse_duration(&str_of(given[0]))?;
    Some(render.heap.time(time.after(nanos)))
}

fn must_modify<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    modified(render, given).unwrap_or_else(|| Err(Fault::new("the text is no duration")))
}

fn read<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Option<Answer<'r>> {
    let (layout, text) = (str_of(given[0]), str_of(given[1]));
    let (time, zone) = time::parse(&layout, &text)?;
    let zone = match render.heap.bytes(zone.as_bytes()) {
        Ok(zone) => str::from_utf8(zone).unwrap_or_default(),
        Err(fault) => return Some(Err(fault)),
    };
    Some(render.heap.time(Time { zone, ..time }))
}

/// The largest unit alone, as `3h`.
fn rounded(nanos: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    let units = [
        (365 * 86_400, "y"),
        (30 * 86_400, "mo"),
        (86_400, "d"),
        (3600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let fitting = units
        .into_iter()
        .find(|(seconds, _)| nanos > seconds * SECOND);
    fitting.map_or("0s".into(), |(seconds, unit)| {
        let count = nanos / (seconds * SECOND);
        format!("{count}{unit}")
    })
}
