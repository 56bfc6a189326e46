//! Durations as Go writes them: `1h15m30.9s`.

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
