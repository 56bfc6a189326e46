//! Reads times by a layout.

use super::{
    DAYS, MONTHS, Time, civil_from_days, days_from_civil, days_in, is_leap,
    layout::{Unit, next_unit},
    seconds_of,
};

/// What was read of a text so far.
#[derive(Default)]
struct Read {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: u32,
    pm: bool,
    am: bool,
    utc: bool,
    offset: Option<i32>,
    zone: Option<String>,
}

/// Reads a time by a layout. The zone's name is given besides.
pub(crate) fn parse(layout: &str, text: &str) -> Option<(Time<'static>, String)> {
    let mut read = Read::default();
    let (mut layout, mut text) = (layout, text);
    while let Some((before, unit, after)) = next_unit(layout) {
        text = skip(text, before)?;
        text = read.unit(unit, text, after)?;
        layout = after;
    }
    let rest = skip(text, layout)?;
    if !rest.is_empty() {
        return None;
    }
    read.time()
}

/// What is behind a prefix; spaces stand for any number of spaces.
fn skip<'t>(mut text: &'t str, mut prefix: &str) -> Option<&'t str> {
    while let Some(char) = prefix.chars().next() {
        if char == ' ' {
            if !text.is_empty() && !text.starts_with(' ') {
                return None;
            }
            prefix = prefix.trim_start_matches(' ');
            text = text.trim_start_matches(' ');
            continue;
        }
        text = text.strip_prefix(char)?;
        prefix = &prefix[char.len_utf8()..];
    }
    Some(text)
}

/// A number of one or two digits; of two where it is fixed.
fn number(text: &str, is_fixed: bool) -> Option<(i64, &str)> {
    let bytes = text.as_bytes();
    let first = bytes.first().filter(|byte| byte.is_ascii_digit())?;
    match bytes.get(1).filter(|byte| byte.is_ascii_digit()) {
        Some(second) => {
            let value = (first - b'0') * 10 + (second - b'0');
            Some((value.into(), &text[2..]))
        }
        None if is_fixed => None,
        None => Some(((first - b'0').into(), &text[1..])),
    }
}

fn in_range(
    (value, rest): (i64, &str),
    range: std::ops::RangeInclusive<i64>,
) -> Option<(i64, &str)> {
    range.contains(&value).then_some((value, rest))
}

/// Which of these names a text begins with, and what is behind it.
fn name<'t>(text: &'t str, names: &[&str], length: Option<usize>) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(at, name)| {
        let name = &name[..length.unwrap_or(name.len())];
        let start = text.get(..name.len())?;
        start
            .eq_ignore_ascii_case(name)
            .then(|| (at, &text[name.len()..]))
    })
}

/// Digits behind a point as nanoseconds.
fn nanos(digits: &str) -> Option<u32> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kept = &digits[..digits.len().min(9)];
    let value: u32 = kept.parse().ok()?;
    Some(value * 10_u32.pow(9 - u32::try_from(kept.len()).ok()?))
}

impl Read {
    fn unit<'t>(&mut self, unit: Unit, text: &'t str, behind: &str) -> Option<&'t str> {
        let digits = |length: usize| {
            let digits = text.get(..length)?;
            let value: i64 = digits
                .parse()
                .ok()
                .filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            Some((value, &text[length..]))
        };
        let rest;
        match unit {
            Unit::Year => (self.year, rest) = digits(4)?,
            Unit::ShortYear => {
                let (year, behind) = digits(2)?;
                self.year = year + if year >= 69 { 1900 } else { 2000 };
                rest = behind;
            }
            Unit::Month | Unit::ShortMonth => {
                let length = (unit == Unit::ShortMonth).then_some(3);
                let (at, behind) = name(text, &MONTHS, length)?;
                self.month = Some(at as i64 + 1);
                rest = behind;
            }
            Unit::NumMonth | Unit::ZeroMonth => {
                let (month, behind) = in_range(number(text, unit == Unit::ZeroMonth)?, 1..=12)?;
                self.month = Some(month);
                rest = behind;
            }
            Unit::Weekday => rest = name(text, &DAYS, None)?.1,
            Unit::ShortWeekday => rest = name(text, &DAYS, Some(3))?.1,
            Unit::Day | Unit::UnderDay | Unit::ZeroDay => {
                let text = match unit {
                    Unit::UnderDay => text.strip_prefix(' ').unwrap_or(text),
                    _ => text,
                };
                let (day, behind) = number(text, unit == Unit::ZeroDay)?;
                self.day = Some(day);
                rest = behind;
            }
            Unit::UnderYearDay | Unit::ZeroYearDay => {
                let spaces = text.len() - text.trim_start_matches(' ').len();
                let spaces = if unit == Unit::UnderYearDay {
                    spaces.min(2)
                } else {
                    0
                };
                let of_year = text.get(spaces..3)?.parse().ok()?;
                self.day_of_year = Some(of_year);
                rest = &text[3..];
            }
            Unit::Hour => (self.hour, rest) = in_range(number(text, false)?, 0..=23)?,
            Unit::Hour12 | Unit::ZeroHour12 => {
                (self.hour, rest) = in_range(number(text, unit == Unit::ZeroHour12)?, 0..=12)?;
            }
            Unit::Minute | Unit::ZeroMinute => {
                (self.minute, rest) = in_range(number(text, unit == Unit::ZeroMinute)?, 0..=59)?;
            }
            Unit::Second | Unit::ZeroSecond => {
                let behind_it;
                (self.second, behind_it) =
                    in_range(number(text, unit == Unit::ZeroSecond)?, 0..=59)?;
                rest = self.unnamed_fraction(behind_it, behind)?;
            }
            Unit::UpperPm | Unit::LowerPm => {
                let (am, pm) = if unit == Unit::UpperPm {
                    ("AM", "PM")
                } else {
                    ("am", "pm")
                };
                self.am = text.starts_with(am);
                self.pm = text.starts_with(pm);
                rest = text.get(2..).filter(|_| self.am || self.pm)?;
            }
            Unit::Offset(form) => match text.strip_prefix('Z').filter(|_| form.z) {
                Some(behind) => {
                    self.utc = true;
                    rest = behind;
                }
                None => {
                    let (offset, behind) = form.parse(text)?;
                    self.offset = Some(offset);
                    rest = behind;
                }
            },
            Unit::Zone => match text.strip_prefix("UTC") {
                Some(behind) => {
                    self.utc = true;
                    rest = behind;
                }
                None => {
                    let length = zone_length(text)?;
                    self.zone = Some(text[..length].into());
                    rest = &text[length..];
                }
            },
            Unit::Fraction { digits, trims, .. } => rest = self.fraction(text, digits, trims)?,
        }
        Some(rest)
    }

    /// A fraction of a second that the layout does not name.
    fn unnamed_fraction<'t>(&mut self, text: &'t str, behind: &str) -> Option<&'t str> {
        let bytes = text.as_bytes();
        let has_fraction = matches!(bytes, [b'.' | b',', digit, ..] if digit.is_ascii_digit());
        let is_named = matches!(next_unit(behind), Some((_, Unit::Fraction { .. }, _)));
        if !has_fraction || is_named {
            return Some(text);
        }
        let digits = bytes[1..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.nanos = nanos(&text[1..=digits])?;
        Some(&text[digits + 1..])
    }

    fn fraction<'t>(&mut self, text: &'t str, digits: usize, trims: bool) -> Option<&'t str> {
        let bytes = text.as_bytes();
        let digits = if trims {
            if !matches!(bytes, [b'.' | b',', digit, ..] if digit.is_ascii_digit()) {
                return Some(text); // A fraction of zero may be left out.
            }
            bytes[1..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        } else {
            digits
        };
        let part = text
            .get(..=digits)
            .filter(|part| part.starts_with(['.', ',']))?;
        self.nanos = nanos(&part[1..])?;
        Some(&text[digits + 1..])
    }

    fn time(mut self) -> Option<(Time<'static>, String)> {
        if self.pm && self.hour < 12 {
            self.hour += 12;
        } else if self.am && self.hour == 12 {
            self.hour = 0;
        }
        if let Some(of_year) = self.day_of_year {
            if of_year < 1 || of_year > 365 + i64::from(is_leap(self.year)) {
                return None;
            }
            let days = days_from_civil(self.year, 1, 1) + of_year - 1;
            let (_, month, day) = civil_from_days(days);
            if self.month.is_some_and(|given| given != month)
                || self.day.is_some_and(|given| given != day)
            {
                return None;
            }
            (self.month, self.day) = (Some(month), Some(day));
        }
        let (month, day) = (self.month.unwrap_or(1), self.day.unwrap_or(1));
        if day < 1 || day > days_in(month, self.year) {
            return None;
        }
        let seconds = seconds_of(
            (self.year, month, day),
            (self.hour, self.minute, self.second),
        );
        let named = self.zone.unwrap_or_default();
        let (offset, zone) = match (self.utc, self.offset) {
            (true, _) | (false, None) if named.is_empty() => (0, "UTC".into()),
            (true, _) => (0, "UTC".into()),
            (false, Some(0)) if named.is_empty() => (0, "UTC".into()),
            (false, Some(offset)) => (offset, named),
            (false, None) => {
                let of_gmt = named
                    .strip_prefix("GMT")
                    .and_then(|hours| hours.parse::<i32>().ok());
                (of_gmt.unwrap_or(0) * 3600, named)
            }
        };
        let time = Time {
            seconds: seconds - i64::from(offset),
            nanos: self.nanos,
            offset,
            zone: "",
        };
        Some((time, zone))
    }
}

/// How long the abbreviation of a zone is that a text begins with.
fn zone_length(text: &str) -> Option<usize> {
    if text.starts_with("ChST") || text.starts_with("MeST") {
        return Some(4);
    }
    let signed = |text: &str| {
        let sign = text.starts_with(['+', '-']);
        let digits = text
            .get(1..)?
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        let hours: u32 = text.get(1..=digits)?.parse().ok()?;
        (sign && digits > 0 && hours <= 23).then_some(1 + digits)
    };
    if let Some(behind) = text.strip_prefix("GMT") {
        return Some(3 + signed(behind).unwrap_or(0));
    }
    if text.starts_with(['+', '-']) {
        return signed(text);
    }
    let capitals = text
        .bytes()
        .take(6)
        .take_while(u8::is_ascii_uppercase)
        .count();
    match capitals {
        3 => Some(3),
        4 => (text.as_bytes()[3] == b'T' || text.starts_with("WITA")).then_some(4),
        5 => (text.as_bytes()[4] == b'T').then_some(5),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(layout: &str, text: &str, expected: Option<&str>) {
        let read = parse(layout, text);
        let told = read.map(|(time, zone)| {
            Time {
                zone: &zone,
                ..time
            }
            .to_string()
        });
        assert_eq!(told.as_deref(), expected, "{layout} {text}");
    }

    #[test]
    fn times_are_read_by_example() {
        check(
            "2006-01-02",
            "2024-02-29",
            Some("2024-02-29 00:00:00 +0000 UTC"),
        );
        check("2006-01-02", "2021-02-29", None);
        check(
            "Jan _2 06 3:04pm",
            "Mar  4 21 1:05pm",
            Some("2021-03-04 13:05:00 +0000 UTC"),
        );
        check(
            "2006 002",
            "2024 060",
            Some("2024-02-29 00:00:00 +0000 UTC"),
        );
        check(
            "15:04:05 -07:00",
            "01:02:03.5 -01:30",
            Some("0000-01-01 01:02:03.5 -0130 -0130"),
        );
        check(
            "15:04 MST",
            "01:02 CEST",
            Some("0000-01-01 01:02:00 +0000 CEST"),
        );
    }
}
