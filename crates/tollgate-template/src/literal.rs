//! Literals of Go: numbers, characters and strings.

use crate::{lex::first_char, tree::Number};

/// `strconv.Unquote` of a string in `"` or in backquotes.
pub(crate) fn unquote(quoted: &[u8]) -> Result<Vec<u8>, String> {
    let inner = &quoted[1..quoted.len() - 1];
    if quoted[0] == b'`' {
        return Ok(inner
            .iter()
            .copied()
            .filter(|byte| *byte != b'\r')
            .collect());
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while !rest.is_empty() {
        let (unit, behind) = unquote_unit(rest, b'"')?;
        match unit {
            Unit::Char(char) => text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(byte) => text.push(byte),
        }
        rest = behind;
    }
    Ok(text)
}

/// A character in `'`.
pub(crate) fn rune(quoted: &[u8]) -> Result<Number, String> {
    let malformed = || {
        let text = String::from_utf8_lossy(quoted);
        format!("malformed character constant: {text}")
    };
    let (unit, behind) = unquote_unit(&quoted[1..], b'\'')?;
    if behind != b"'" {
        return Err(malformed());
    }
    let value = match unit {
        Unit::Char(char) => i64::from(u32::from(char)),
        Unit::Byte(byte) => byte.into(),
    };
    Ok(Number {
        int: Some(value),
        float: Some(value as f64),
        complex: None,
        looks_like_float: false,
    })
}

enum Unit {
    Char(char),
    /// An escape that stands for a byte, which need not be UTF-8.
    Byte(u8),
}

/// What one character or escape stands for, and what is behind it.
fn unquote_unit(text: &[u8], quote: u8) -> Result<(Unit, &[u8]), String> {
    let invalid = || String::from("invalid syntax");
    let [first, behind @ ..] = text else {
        return Err(invalid());
    };
    if *first == quote {
        return Err(invalid());
    }
    if *first != b'\\' {
        let (char, size) = first_char(text).ok_or_else(invalid)?;
        // A byte that is no UTF-8 stays what it is.
        let unit = if size == 1 && !first.is_ascii() {
            Unit::Byte(*first)
        } else {
            Unit::Char(char)
        };
        return Ok((unit, &text[size..]));
    }
    let [escape, behind @ ..] = behind else {
        return Err(invalid());
    };
    let plain = |char| Ok((Unit::Char(char), behind));
    match escape {
        b'a' => plain('\x07'),
        b'b' => plain('\x08'),
        b'f' => plain('\x0c'),
        b'n' => plain('\n'),
        b'r' => plain('\r'),
        b't' => plain('\t'),
        b'v' => plain('\x0b'),
        b'\\' => plain('\\'),
        b'\'' | b'"' if *escape == quote => plain(char::from(*escape)),
        b'x' => {
            let (value, behind) = digits(behind, 2, 16).ok_or_else(invalid)?;
            let byte = u8::try_from(value).map_err(|_| invalid())?;
            Ok((Unit::Byte(byte), behind))
        }
        b'u' | b'U' => {
            let length = if *escape == b'u' { 4 } else { 8 };
            let (value, behind) = digits(behind, length, 16).ok_or_else(invalid)?;
            let char = char::from_u32(value).ok_or_else(invalid)?;
            Ok((Unit::Char(char), behind))
        }
        b'0'..=b'7' => {
            let (value, behind) = digits(&text[1..], 3, 8).ok_or_else(invalid)?;
            let byte = u8::try_from(value).map_err(|_| invalid())?;
            Ok((Unit::Byte(byte), behind))
        }
        _ => Err(invalid()),
    }
}

fn digits(text: &[u8], length: usize, radix: u32) -> Option<(u32, &[u8])> {
    let (digits, behind) = text.split_at_checked(length)?;
    let mut value = 0_u32;
    for digit in digits {
        let digit = char::from(*digit).to_digit(radix)?;
        value = value.checked_mul(radix)?.checked_add(digit)?;
    }
    Some((value, behind))
}

/// A number literal.
pub(crate) fn number(text: &[u8]) -> Result<Number, String> {
    let text = str::from_utf8(text).map_err(|_| String::from("illegal number syntax"))?;
    let illegal = || format!("illegal number syntax: {text:?}");
    if let Some(imaginary) = text.strip_suffix('i') {
        let sign = imaginary.rfind(['+', '-']).filter(|at| *at > 0);
        let sign =
            sign.filter(|at| !matches!(imaginary.as_bytes()[at - 1], b'e' | b'E' | b'p' | b'P'));
        let (real, imaginary) = imaginary.split_at(sign.unwrap_or(0));
        let part = |text: &str| {
            if text.is_empty() {
                Some(0.0)
            } else {
                parse_float(text)
            }
        };
        let real = part(real).ok_or_else(illegal)?;
        let imaginary = parse_float(imaginary).ok_or_else(illegal)?;
        let float = (imaginary == 0.0).then_some(real);
        return Ok(Number {
            int: float.and_then(whole),
            float,
            complex: Some((real, imaginary)),
            looks_like_float: true,
        });
    }
    let is_hex = text.trim_start_matches(['+', '-']).get(..2);
    let is_hex = matches!(is_hex, Some("0x" | "0X"));
    let looks_like_float = text.contains(['.', 'p', 'P']) || (!is_hex && text.contains(['e', 'E']));
    if let Some(int) = parse_int(text, 0) {
        return Ok(Number {
            int: Some(int),
            float: Some(int as f64),
            complex: None,
            looks_like_float,
        });
    }
    if let Some(unsigned) = parse_uint(text, 0) {
        return Ok(Number {
            int: None,
            float: Some(unsigned as f64),
            complex: None,
            looks_like_float,
        });
    }
    let float = parse_float(text).ok_or_else(illegal)?;
    if !looks_like_float {
        return Err(format!("integer overflow: {text:?}"));
    }
    Ok(Number {
        int: whole(float),
        float: Some(float),
        complex: None,
        looks_like_float,
    })
}

fn whole(float: f64) -> Option<i64> {
    let int = float as i64;
    (int as f64 == float).then_some(int)
}

/// `strconv.ParseUint`; base 0 goes by the prefix.
pub(crate) fn parse_uint(text: &str, base: u32) -> Option<u64> {
    let (digits, base) = if base == 0 {
        let (digits, base) = match text.get(..2) {
            Some("0x" | "0X") => (&text[2..], 16),
            Some("0b" | "0B") => (&text[2..], 2),
            Some("0o" | "0O") => (&text[2..], 8),
            _ if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
            _ => (text, 10),
        };
        if digits.contains('_') && !has_good_underscores(text) {
            return None;
        }
        (digits.replace('_', ""), base)
    } else {
        (text.to_owned(), base)
    };
    if digits.is_empty() || digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(&digits, base).ok()
}

/// `strconv.ParseInt`; base 0 goes by the prefix.
pub(crate) fn parse_int(text: &str, base: u32) -> Option<i64> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = parse_uint(digits, base)?;
    if is_negative {
        return 0_i64.checked_sub_unsigned(value);
    }
    i64::try_from(value).ok()
}

/// Underscores stand between digits, or behind the base's prefix.
fn has_good_underscores(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']);
    let prefix = text.get(..2).map(str::to_ascii_lowercase);
    let (has_base, is_hex) = match prefix.as_deref() {
        Some("0x") => (true, true),
        Some("0b" | "0o") => (true, false),
        _ => (false, false),
    };
    let mut before = if has_base { '0' } else { '^' };
    for char in text[if has_base { 2 } else { 0 }..].chars() {
        let is_digit = char.is_ascii_digit() || (is_hex && char.is_ascii_hexdigit());
        match (before, char) {
            (_, _) if is_digit => before = '0',
            ('0', '_') => before = '_',
            (_, '_') | ('_', _) => return false,
            _ => before = '!',
        }
    }
    before != '_'
}

/// `strconv.ParseFloat`: decimal or hexadecimal, `inf` and `nan`; none where it is out of range.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if text.len() - unsigned.len() > 1 {
        return None;
    }
    let lower = unsigned.to_ascii_lowercase();
    match &*lower {
        "inf" | "infinity" => {
            return Some(if text.starts_with('-') {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            });
        }
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        if !has_good_underscores(unsigned) {
            return None;
        }
        let value = parse_hex_float(&hex.replace('_', ""))?;
        return Some(if text.starts_with('-') { -value } else { value });
    }
    let is_number = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if !is_number || (text.contains('_') && !has_good_underscores(unsigned)) {
        return None;
    }
    let value = text.replace('_', "").parse();
    value.ok().filter(|value: &f64| value.is_finite())
}

fn parse_hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + part.len() > 14 || whole.is_empty() && part.is_empty() {
        return None; // More digits would have to be rounded; nobody writes them.
    }
    let digits = u64::from_str_radix(&format!("{whole}{part}"), 16).ok()?;
    let exponent: i32 = exponent.parse().ok()?;
    let exponent = exponent.checked_sub(4 * i32::try_from(part.len()).ok()?)?;
    let value = digits as f64 * 2_f64.powi(exponent.clamp(-1100, 1100));
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_by_their_prefix() {
        for (text, value) in [
            ("0x1F", Some(31)),
            ("017", Some(15)),
            ("0b11", Some(3)),
            ("1_000", Some(1000)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("1__0", None),
            ("08", None),
            ("", None),
        ] {
            assert_eq!(parse_int(text, 0), value, "{text}");
        }
    }

    #[test]
    fn floats_are_read_as_go_does() {
        for (text, value) in [
            ("1e3", Some(1000.0)),
            (".5e1", Some(5.0)),
            ("0x1.8p1", Some(3.0)),
            ("1e400", None),
            ("1_0", Some(10.0)),
            ("1__0", None),
        ] {
            assert_eq!(parse_float(text), value, "{text}");
        }
    }

    #[test]
    fn strings_are_unquoted() {
        let text = unquote(br#""a\tb\x41\u00e9\101\xff""#).expect("a string");
        assert_eq!(text, b"a\tbA\xc3\xa9A\xff");
        assert!(unquote(br#""a\qb""#).is_err());
        assert_eq!(unquote(b"`a\\n\r`").expect("a string"), b"a\\n");
    }
}
