//! Floating point numbers as Go's `strconv` and `encoding/json` write them.

use std::fmt::Write as _;

/// `%v`: the shortest digits that read back, with an exponent for what is small and what is large.
pub(crate) fn general(out: &mut Vec<u8>, value: f64) {
    if whole(out, value, 1e6) {
        return;
    }
    out.extend_from_slice(format(value, 'g', None).as_bytes());
}

/// Below this every whole number is a float of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes a whole number below a size, as most numbers of documents are. Zero with a sign is none of them.
fn whole(out: &mut Vec<u8>, value: f64, below: f64) -> bool {
    let is_whole = value.abs() < below && value.trunc() == value;
    if is_whole && !(value == 0.0 && value.is_sign_negative()) {
        // Whole and below 2^53, so nothing is cut off.
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
        return true;
    }
    false
}

/// A complex number: `(1+2i)`.
pub(crate) fn complex(out: &mut Vec<u8>, real: f64, imaginary: f64) {
    let imaginary = format(imaginary, 'g', None);
    let sign = if imaginary.starts_with(['-', '+']) {
        ""
    } else {
        "+"
    };
    let real = format(real, 'g', None);
    out.extend_from_slice(format!("({real}{sign}{imaginary}i)").as_bytes());
}

/// As `encoding/json` writes it.
pub(crate) fn json(out: &mut Vec<u8>, value: f64) {
    if whole(out, value, EXACT) {
        return;
    }
    let size = value.abs();
    let verb = if size != 0.0 && !(1e-6..1e21).contains(&size) {
        'e'
    } else {
        'f'
    };
    let text = format(value, verb, None);
    // `e-09` is written `e-9`.
    match text.split_once("e-0") {
        Some((mantissa, digit)) if verb == 'e' => {
            out.extend_from_slice(mantissa.as_bytes());
            out.extend_from_slice(b"e-");
            out.extend_from_slice(digit.as_bytes());
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
}

/// No float has more digits than this, before its point or behind it: what follows are zeros. The standard library
/// panics where it is asked for many more.
const LONGEST: usize = 1100;

/// The digits of a number, and where its point is: `0.digits * 10^point`.
struct Digits {
    is_negative: bool,
    digits: String,
    point: i32,
}

impl Digits {
    fn of(value: f64, significant: Option<usize>) -> Self {
        let written = match significant {
            Some(0) | None => format!("{:e}", value.abs()),
            Some(digits) => format!("{:.*e}", digits.min(LONGEST) - 1, value.abs()),
        };
        let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let mut digits = mantissa.replace('.', "");
        let zeros = significant.unwrap_or(0).saturating_sub(digits.len());
        digits.extend(std::iter::repeat_n('0', zeros));
        let is_zero = digits.bytes().all(|digit| digit == b'0');
        Self {
            is_negative: value.is_sign_negative(),
            digits,
            point: if is_zero { 1 } else { exponent + 1 },
        }
    }
}

/// `strconv.FormatFloat(value, verb, precision, 64)`; no precision is the shortest that reads back.
pub(crate) fn format(value: f64, verb: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    match verb {
        'b' => binary(value),
        'x' | 'X' => hexadecimal(value, precision, verb == 'X'),
        'e' | 'E' => {
            let digits = Digits::of(value, precision.map(|precision| precision + 1));
            exponential(&digits, verb)
        }
        'f' | 'F' => match precision {
            Some(precision) => {
                let written = precision.min(LONGEST);
                format!("{value:.written$}{}", "0".repeat(precision - written))
            }
            None => fixed(&Digits::of(value, None)),
        },
        _ => {
            let wanted = precision.map(|precision| precision.max(1));
            let mut digits = Digits::of(value, wanted);
            let kept = digits.digits.trim_end_matches('0').len().max(1);
            digits.digits.truncate(kept);
            let number = i32::try_from(digits.digits.len()).unwrap_or(i32::MAX);
            let least = match wanted.and_then(|wanted| i32::try_from(wanted).ok()) {
                Some(wanted) if wanted > number && number >= digits.point => number,
                Some(wanted) => wanted,
                None => SHORTEST,
            };
            let exponent = digits.point - 1;
            if exponent < -4 || exponent >= least {
                exponential(&digits, if verb == 'G' { 'E' } else { 'e' })
            } else {
                fixed(&digits)
            }
        }
    }
}

/// From which exponent on the shortest form is written with one.
const SHORTEST: i32 = 6;

fn exponential(digits: &Digits, verb: char) -> String {
    let mut text = String::new();
    if digits.is_negative {
        text.push('-');
    }
    let (first, rest) = digits.digits.split_at(1);
    text.push_str(first);
    if !rest.is_empty() {
        text.push('.');
        text.push_str(rest);
    }
    let exponent = digits.point - 1;
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(text, "{verb}{sign}{:02}", exponent.unsigned_abs()); // Into a text nothing fails.
    text
}

fn fixed(digits: &Digits) -> String {
    let mut text = String::new();
    if digits.is_negative {
        text.push('-');
    }
    let all = &digits.digits;
    match usize::try_from(digits.point) {
        Ok(point) if point > 0 => {
            let split = point.min(all.len());
            text.push_str(&all[..split]);
            text.extend(std::iter::repeat_n('0', point - split));
            let part = all[split..].trim_end_matches('0');
            if !part.is_empty() {
                text.push('.');
                text.push_str(part);
            }
        }
        _ => {
            text.push_str("0.");
            let zeros = usize::try_from(-digits.point).unwrap_or(0);
            text.extend(std::iter::repeat_n('0', zeros));
            text.push_str(all);
        }
    }
    text
}

/// `mantissa p exponent`, both decimal.
fn binary(value: f64) -> String {
    let (mantissa, exponent) = parts(value);
    let sign = if value.is_sign_negative() { "-" } else { "" };
    format!("{sign}{mantissa}p{exponent:+}")
}

/// The mantissa as a whole number, and the power of two it is to be multiplied with.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0);
    let mantissa = bits & ((1 << 52) - 1);
    match exponent {
        0 => (mantissa, -1074),
        _ => (mantissa | 1 << 52, exponent - 1075),
    }
}

fn hexadecimal(value: f64, precision: Option<usize>, is_upper: bool) -> String {
    let (mut mantissa, mut exponent) = parts(value);
    if mantissa == 0 {
        exponent = 0;
    } else {
        while mantissa & (1 << 60) == 0 {
            mantissa <<= 1;
            exponent -= 1;
        }
        exponent += 60;
    }
    if let Some(precision) = precision.filter(|precision| *precision < 15) {
        let shift = precision * 4;
        let extra = (mantissa << shift) & ((1 << 60) - 1);
        mantissa >>= 60 - shift;
        if extra | (mantissa & 1) > 1 << 59 {
            mantissa += 1;
        }
        mantissa <<= 60 - shift;
        if mantissa & (1 << 61) != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let mut digits = format!("{:015x}", mantissa & ((1 << 60) - 1));
    match precision {
        None => digits.truncate(digits.trim_end_matches('0').len()),
        Some(precision) => {
            digits.truncate(precision);
            digits.extend(std::iter::repeat_n('0', precision - digits.len()));
        }
    }
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    let exponent = exponent.unsigned_abs();
    let first = mantissa >> 60;
    let text = format!("{sign}0x{first}{point}{digits}p{exponent_sign}{exponent:02}");
    if is_upper { text.to_uppercase() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: f64, verb: char, precision: Option<usize>, text: &str) {
        assert_eq!(
            format(value, verb, precision),
            text,
            "{value} {verb} {precision:?}"
        );
    }

    #[test]
    fn numbers_print_as_in_go() {
        check(100_000.0, 'g', None, "100000");
        check(1_234_567.5, 'g', Some(3), "1.23e+06");
        check(0.0001, 'g', None, "0.0001");
        check(0.00001, 'g', None, "1e-05");
        check(-0.0, 'g', None, "-0");
        check(2.5, 'f', Some(0), "2");
        check(0.0, 'e', Some(2), "0.00e+00");
        check(1.0, 'b', None, "4503599627370496p-52");
        check(1.0, 'x', None, "0x1p+00");
        check(3.0, 'g', Some(5), "3");
    }

    #[test]
    fn json_has_its_own_rule() {
        for (value, text) in [
            (1e6, "1000000"),
            (1e21, "1e+21"),
            (1e-7, "1e-7"),
            (0.000001, "0.000001"),
            (1.5e-10, "1.5e-10"),
            (-0.0, "-0"),
        ] {
            let mut out = Vec::new();
            json(&mut out, value);
            assert_eq!(out, text.as_bytes());
        }
    }
}
