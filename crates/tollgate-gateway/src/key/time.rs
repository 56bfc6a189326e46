//! Times as people write them on a command line.

use jiff::{Span, SpanRelativeTo, Timestamp, civil::Date, tz::TimeZone};

/// A length of time in seconds: `30s`, `1h30m`, `30d`, `2w`; a number alone is seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let span: Option<Span> = text.parse().ok();
    let day = SpanRelativeTo::days_are_24_hours();
    let length = span.and_then(|span| span.to_duration(day).ok());
    let seconds = length.and_then(|length| u64::try_from(length.as_secs()).ok());
    seconds.ok_or_else(|| "expected a length of time, as 30s, 1h or 30d".to_owned())
}

/// How many in how long: `100/1m`, `10/s`, `1000/30d`.
pub(super) fn many_in(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/');
    let parts = parts.and_then(|(many, time)| {
        let time = time.trim();
        let one = time.starts_with(|first: char| first.is_ascii_alphabetic());
        let time = if one {
            format!("1{time}")
        } else {
            time.to_owned()
        };
        Some((many.trim().parse().ok()?, seconds(&time).ok()?))
    });
    match parts {
        Some((many, time)) if 0 < many && 0 < time => Ok((many, time)),
        _ => Err("expected how many in how long, as 100/1m or 1000/30d".to_owned()),
    }
}

/// A time to come, in Unix seconds: a length from now, a date, or RFC 3339; 0 for `never`.
pub(super) fn later(text: &str, now: Timestamp) -> Result<i64, String> {
    if text == "never" {
        return Ok(0);
    }
    let length = seconds(text)
        .ok()
        .and_then(|seconds| i64::try_from(seconds).ok());
    let after = length.and_then(|seconds| now.as_second().checked_add(seconds));
    let date = || {
        let date: Date = text.parse().ok()?;
        let start = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
        Some(start.as_second())
    };
    let written = || text.parse::<Timestamp>().ok().map(Timestamp::as_second);
    match after.or_else(written).or_else(date) {
        Some(time) if now.as_second() < time => Ok(time),
        Some(_) => Err("lies in the past".to_owned()),
        None => Err("expected 30d, 2027-01-31, 2027-01-31T12:00:00Z or never".to_owned()),
    }
}

/// Unix seconds, for people.
pub(super) fn written(seconds: Option<u64>) -> String {
    let seconds = seconds.filter(|seconds| *seconds != 0);
    let time = seconds.and_then(|seconds| i64::try_from(seconds).ok());
    let time = time.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "never".to_owned(), |time| time.to_string())
}

/// A length of time, for people: in the largest unit that tells it whole.
pub(super) fn length(seconds: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")];
    let whole = UNITS
        .iter()
        .find(|(unit, _)| seconds >= *unit && seconds % unit == 0.0);
    match whole {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_every_unit() {
        for (text, expected) in [
            ("0", Some(0)),
            ("90", Some(90)),
            ("30s", Some(30)),
            ("1h30m", Some(5400)),
            ("30d", Some(2_592_000)),
            ("2w", Some(1_209_600)),
            ("-1h", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_limit_is_how_many_in_how_long() {
        for (text, expected) in [
            ("100/1m", Some((100, 60))),
            ("10/s", Some((10, 1))),
            ("5 / 30d", Some((5, 2_592_000))),
            ("10", None),
            ("0/s", None),
            ("1/0", None),
            ("x/s", None),
        ] {
            assert_eq!(many_in(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn an_end_lies_ahead() {
        let now = Timestamp::from_second(1_800_000_000).unwrap(); // 2027-01-15T08:00:00Z
        for (text, expected) in [
            ("never", Some(0)),
            ("1d", Some(1_800_086_400)),
            ("2027-01-16", Some(1_800_057_600)),
            ("2027-01-15T09:00:00Z", Some(1_800_003_600)),
            ("2027-01-15", None),
            ("0", None),
            ("tomorrow", None),
        ] {
            assert_eq!(later(text, now).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_length_is_told_in_the_largest_whole_unit() {
        let told = [1.0, 90.0, 120.0, 7200.0, 2_592_000.0, 0.5].map(length);
        assert_eq!(told, ["1 s", "90 s", "2 min", "2 h", "30 d", "0.5 s"]);
    }
}
