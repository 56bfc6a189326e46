//! Times, and Go's way of writing them: by the example `Mon Jan 2 15:04:05 MST 2006`.

mod duration;
mod layout;
mod read;

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};

use self::layout::{OffsetForm, Unit, next_unit};
pub(crate) use self::{
    duration::{duration_text, parse_duration},
    read::parse,
};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
