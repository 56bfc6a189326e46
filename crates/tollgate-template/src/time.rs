//! Times, and Go's way of writing them: by the example `Mon Jan 2 15:04:05 MST 2006`.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

/// A moment, and where it is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Time<'r> {
    /// Since 1970.
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
    /// East of Greenwich, in seconds.
    pub(crate) offset: i32,
    /// What the zone is called; empty where it has no name.
    pub(crate) zone: &'r str,
}

/// The zero time of Go: the start of the year 1.
pub(crate) const ZERO: Time<'static> = Time {
    seconds: -62_135_596_800,
    nanos: 0,
    offset: 0,
    zone: "UTC",
};

/// A moment as people tell it.
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: u32,
    pub(crate) day: u32,
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    pub(crate) second: u32,
    /// From Sunday, 0.
    pub(crate) weekday: usize,
    /// From 1.
    pub(crate) day_of_year: u32,
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(month: i64, year: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A date and a time of day as seconds since 1970; parts may be out of their range, as in Go's `Date`.
pub(crate) fn seconds_of(
    (year, month, day): (i64, i64, i64),
    (hour, minute, second): (i64, i64, i64),
) -> i64 {
    let years = (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    let days = days_from_civil(year.saturating_add(years), month, 1).saturating_add(day - 1);
    let of_day = hour
        .saturating_mul(3600)
        .saturating_add(minute * 60)
        .saturating_add(second);
    days.saturating_mul(86_400).saturating_add(of_day)
}

/// How far from the calendar of anybody a moment may be, in seconds: some 250 million years.
const FARTHEST: i64 = 1 << 53;

impl<'r> Time<'r> {
    /// A moment in UTC. What is far out is taken as the farthest.
    pub(crate) fn utc(seconds: i64, nanos: u32) -> Self {
        Self {
            seconds: seconds.clamp(-FARTHEST, FARTHEST),
            nanos,
            offset: 0,
            zone: "UTC",
        }
    }

    pub(crate) fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        Self::utc(
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            since.subsec_nanos(),
        )
    }

    /// Later by so many nanoseconds.
    pub(crate) fn after(self, nanos: i64) -> Self {
        let all =
            i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos) + i128::from(nanos);
        let seconds = i64::try_from(all.div_euclid(1_000_000_000)).unwrap_or(self.seconds);
        let nanos = u32::try_from(all.rem_euclid(1_000_000_000)).unwrap_or(0);
        Self {
            seconds: seconds.clamp(-FARTHEST, FARTHEST),
            nanos,
            ..self
        }
    }

    /// Nanoseconds since another time, as far as 64 bits reach.
    pub(crate) fn since(self, other: Time<'_>) -> i64 {
        let seconds = i128::from(self.seconds) - i128::from(other.seconds);
        let nanos = i128::from(self.nanos) - i128::from(other.nanos);
        let all = seconds * 1_000_000_000 + nanos;
        i64::try_from(all).unwrap_or(if all < 0 { i64::MIN } else { i64::MAX })
    }

    /// The offset and the name of a zone at this moment; UTC where there is no such zone.
    pub(crate) fn zone_at(self, name: &str) -> (i32, String) {
        let is_path = name.starts_with(['/', '\\']) || name.contains("..");
        let zone = match name {
            "" | "UTC" | "Local" => None,
            _ if is_path => None,
            name => TimeZone::get(name).ok(),
        };
        let moment = Timestamp::from_second(self.seconds).ok();
        match zone.zip(moment) {
            None => (0, "UTC".into()),
            Some((zone, moment)) => {
                let info = zone.to_offset_info(moment);
                (info.offset().seconds(), info.abbreviation().into())
            }
        }
    }

    pub(crate) fn civil(self) -> Civil {
        let local = self.seconds + i64::from(self.offset);
        let (days, of_day) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil_from_days(days);
        let small = |number: i64| u32::try_from(number).unwrap_or(0);
        Civil {
            year,
            month: small(month),
            day: small(day),
            hour: small(of_day / 3600),
            minute: small(of_day / 60 % 60),
            second: small(of_day % 60),
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            day_of_year: small(days - days_from_civil(year, 1, 1) + 1),
        }
    }

    /// As `encoding/json` writes it.
    pub(crate) fn rfc3339(self) -> String {
        self.format("2006-01-02T15:04:05.999999999Z07:00")
    }

    pub(crate) fn format(self, layout: &str) -> String {
        let civil = self.civil();
        let mut out = String::with_capacity(layout.len() + 10);
        let mut rest = layout;
        while let Some((before, unit, after)) = next_unit(rest) {
            out.push_str(before);
            self.push(&mut out, unit, &civil);
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn push(self, out: &mut String, unit: Unit, civil: &Civil) {
        let hour12 = match civil.hour % 12 {
            0 => 12,
            hour => hour,
        };
        let text = match unit {
            Unit::Year => match civil.year {
                year @ 0.. => format!("{year:04}"),
                year => format!("-{:04}", -year),
            },
            Unit::ShortYear => format!("{:02}", civil.year.rem_euclid(100)),
            Unit::Month => MONTHS[civil.month as usize - 1].into(),
            Unit::ShortMonth => MONTHS[civil.month as usize - 1][..3].into(),
            Unit::NumMonth => civil.month.to_string(),
            Unit::ZeroMonth => format!("{:02}", civil.month),
            Unit::Weekday => DAYS[civil.weekday].into(),
            Unit::ShortWeekday => DAYS[civil.weekday][..3].into(),
            Unit::Day => civil.day.to_string(),
            Unit::UnderDay => format!("{:2}", civil.day),
            Unit::ZeroDay => format!("{:02}", civil.day),
            Unit::UnderYearDay => format!("{:3}", civil.day_of_year),
            Unit::ZeroYearDay => format!("{:03}", civil.day_of_year),
            Unit::Hour => format!("{:02}", civil.hour),
            Unit::Hour12 => hour12.to_string(),
            Unit::ZeroHour12 => format!("{hour12:02}"),
            Unit::Minute => civil.minute.to_string(),
            Unit::ZeroMinute => format!("{:02}", civil.minute),
            Unit::Second => civil.second.to_string(),
            Unit::ZeroSecond => format!("{:02}", civil.second),
            Unit::UpperPm => if civil.hour >= 12 { "PM" } else { "AM" }.into(),
            Unit::LowerPm => if civil.hour >= 12 { "pm" } else { "am" }.into(),
            Unit::Zone => self.zone_text(),
            Unit::Offset(form) => form.format(self.offset),
            Unit::Fraction {
                separator,
                digits,
                trims,
            } => self.fraction(separator, digits, trims),
        };
        out.push_str(&text);
    }

    fn zone_text(self) -> String {
        if !self.zone.is_empty() {
            return self.zone.into();
        }
        let form = OffsetForm {
            z: false,
            colon: false,
            parts: 2,
        };
        form.format(self.offset)
    }

    fn fraction(self, separator: char, digits: usize, trims: bool) -> String {
        let all = format!("{:09}", self.nanos);
        let mut kept = &all[..digits.min(9)];
        if trims {
            kept = kept.trim_end_matches('0');
            if kept.is_empty() {
                return String::new();
            }
        }
        let zeros = if trims { 0 } else { digits.saturating_sub(9) };
        format!("{separator}{kept}{}", "0".repeat(zeros))
    }
}

impl fmt::Display for Time<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("2006-01-02 15:04:05.999999999 -0700 MST"))
    }
}

/// What a layout names.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Year,
    ShortYear,
    Month,
    ShortMonth,
    NumMonth,
    ZeroMonth,
    Weekday,
    ShortWeekday,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    UpperPm,
    LowerPm,
    Zone,
    Offset(OffsetForm),
    Fraction {
        separator: char,
        digits: usize,
        trims: bool,
    },
}

/// How an offset is written: `-07`, `-0700`, `Z07:00:00` and so on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OffsetForm {
    /// UTC is `Z`.
    z: bool,
    colon: bool,
    /// Hours; minutes too; seconds too.
    parts: usize,
}

impl OffsetForm {
    fn format(self, offset: i32) -> String {
        if self.z && offset == 0 {
            return "Z".into();
        }
        let sign = if offset < 0 { '-' } else { '+' };
        let size = offset.unsigned_abs();
        let parts = [size / 3600, size / 60 % 60, size % 60];
        let parts: Vec<_> = parts[..self.parts]
            .iter()
            .map(|part| format!("{part:02}"))
            .collect();
        format!("{sign}{}", parts.join(if self.colon { ":" } else { "" }))
    }

    /// The offset that a text begins with, and what is behind it.
    fn parse(self, text: &str) -> Option<(i32, &str)> {
        let (sign, mut rest) = match text.as_bytes().first()? {
            b'+' => (1, &text[1..]),
            b'-' => (-1, &text[1..]),
            _ => return None,
        };
        let mut parts = [0, 0, 0];
        for (at, part) in parts.iter_mut().enumerate().take(self.parts) {
            if at > 0 && self.colon {
                rest = rest.strip_prefix(':')?;
            }
            let digits = rest
                .get(..2)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
            *part = digits.parse::<i32>().ok()?;
            rest = &rest[2..];
        }
        let [hours, minutes, seconds] = parts;
        (hours <= 24 && minutes < 60 && seconds < 60)
            .then_some((sign * (hours * 3600 + minutes * 60 + seconds), rest))
    }
}

/// What is before the first unit of a layout, the unit, and what is behind it.
fn next_unit(layout: &str) -> Option<(&str, Unit, &str)> {
    for (at, _) in layout.char_indices() {
        if let Some((unit, skipped, length)) = unit_at(layout, at) {
            return Some((
                &layout[..at + skipped],
                unit,
                &layout[at + skipped + length..],
            ));
        }
    }
    None
}

/// The unit at a place, how much stays before it, and its length.
fn unit_at(layout: &str, at: usize) -> Option<(Unit, usize, usize)> {
    let rest = &layout[at..];
    let starts_lower = |text: &str| text.starts_with(|char: char| char.is_ascii_lowercase());
    let found = |unit, length| Some((unit, 0, length));
    match rest.as_bytes()[0] {
        b'J' if rest.starts_with("January") => found(Unit::Month, 7),
        b'J' if rest.starts_with("Jan") && !starts_lower(&rest[3..]) => found(Unit::ShortMonth, 3),
        b'M' if rest.starts_with("Monday") => found(Unit::Weekday, 6),
        b'M' if rest.starts_with("Mon") && !starts_lower(&rest[3..]) => {
            found(Unit::ShortWeekday, 3)
        }
        b'M' if rest.starts_with("MST") => found(Unit::Zone, 3),
        b'0' => match rest.as_bytes().get(1..)? {
            [b'0', b'2', ..] => found(Unit::ZeroYearDay, 3),
            [b'1', ..] => found(Unit::ZeroMonth, 2),
            [b'2', ..] => found(Unit::ZeroDay, 2),
            [b'3', ..] => found(Unit::ZeroHour12, 2),
            [b'4', ..] => found(Unit::ZeroMinute, 2),
            [b'5', ..] => found(Unit::ZeroSecond, 2),
            [b'6', ..] => found(Unit::ShortYear, 2),
            _ => None,
        },
        b'1' if rest.starts_with("15") => found(Unit::Hour, 2),
        b'1' => found(Unit::NumMonth, 1),
        b'2' if rest.starts_with("2006") => found(Unit::Year, 4),
        b'2' => found(Unit::Day, 1),
        b'_' if rest.starts_with("_2006") => Some((Unit::Year, 1, 4)),
        b'_' if rest.starts_with("_2") => found(Unit::UnderDay, 2),
        b'_' if rest.starts_with("__2") => found(Unit::UnderYearDay, 3),
        b'3' => found(Unit::Hour12, 1),
        b'4' => found(Unit::Minute, 1),
        b'5' => found(Unit::Second, 1),
        b'P' if rest.starts_with("PM") => found(Unit::UpperPm, 2),
        b'p' if rest.starts_with("pm") => found(Unit::LowerPm, 2),
        b'-' => offset_at(rest, '-'),
        b'Z' => offset_at(rest, 'Z'),
        b'.' | b',' => fraction_at(rest),
        _ => None,
    }
}

fn offset_at(rest: &str, first: char) -> Option<(Unit, usize, usize)> {
    let forms = [
        ("070000", false, 3),
        ("07:00:00", true, 3),
        ("0700", false, 2),
        ("07:00", true, 2),
        ("07", false, 1),
    ];
    let behind = &rest[1..];
    let (text, colon, parts) = forms
        .into_iter()
        .find(|(text, ..)| behind.starts_with(text))?;
    let form = OffsetForm {
        z: first == 'Z',
        colon,
        parts,
    };
    Some((Unit::Offset(form), 0, 1 + text.len()))
}

fn fraction_at(rest: &str) -> Option<(Unit, usize, usize)> {
    let bytes = rest.as_bytes();
    let digit = *bytes.get(1).filter(|byte| matches!(byte, b'0' | b'9'))?;
    let digits = bytes[1..].iter().take_while(|byte| **byte == digit).count();
    if bytes.get(1 + digits).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let unit = Unit::Fraction {
        separator: char::from(bytes[0]),
        digits,
        trims: digit == b'9',
    };
    Some((unit, 0, 1 + digits))
}

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

/// `time.ParseDuration`, in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1_i128, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut all = 0_i128;
    while !rest.is_empty() {
        let is_of_number = |char: char| char.is_ascii_digit() || char == '.';
        let number_end = rest.find(|char| !is_of_number(char))?;
        let (number, behind) = rest.split_at(number_end);
        let unit_end = behind.find(is_of_number).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if part.contains('.') || (whole.is_empty() && part.is_empty()) || whole.len() > 19 {
            return None;
        }
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        all += whole * scale;
        let part = &part[..part.len().min(18)];
        if !part.is_empty() {
            let value: i128 = part.parse().ok()?;
            all += value * scale / 10_i128.pow(u32::try_from(part.len()).ok()?);
        }
        if all > i128::from(i64::MAX) {
            return None;
        }
        rest = behind;
    }
    i64::try_from(sign * all).ok()
}

/// `time.Duration.String` of whole seconds.
pub(crate) fn duration_text(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let size = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (size / 3600, size / 60 % 60, size % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
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

    #[test]
    fn times_are_told_by_example() {
        let time = Time::utc(1_709_211_845, 120_000_000);
        for (layout, text) in [
            ("Monday, 2 January 2006", "Thursday, 29 February 2024"),
            ("Mon Jan _2 3:4:5 PM", "Thu Feb 29 1:4:5 PM"),
            ("06-1-02T15.000Z07:00", "24-2-29T13.120Z"),
            (".999 ,000000", ".12 ,120000"),
            ("002 __2 _2006", "060  60 _2024"),
        ] {
            assert_eq!(time.format(layout), text, "{layout}");
        }
        assert_eq!(ZERO.to_string(), "0001-01-01 00:00:00 +0000 UTC");
    }

    #[test]
    fn durations_are_read() {
        for (text, nanos) in [
            ("1h15m30.918s", Some(4_530_918_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("0", Some(0)),
            ("1d", None),
            ("", None),
            ("99999999999h", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
    }
}
