//! Layouts: what the parts of `Mon Jan 2 15:04:05 MST 2006` stand for.

/// What a layout names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unit {
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
pub(super) struct OffsetForm {
    /// UTC is `Z`.
    pub(super) z: bool,
    pub(super) colon: bool,
    /// Hours; minutes too; seconds too.
    pub(super) parts: usize,
}

impl OffsetForm {
    pub(super) fn format(self, offset: i32) -> String {
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
    pub(super) fn parse(self, text: &str) -> Option<(i32, &str)> {
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
pub(super) fn next_unit(layout: &str) -> Option<(&str, Unit, &str)> {
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
