//! Texts in quotes: Go's `strconv.Quote`.

use std::fmt::Write as _;

use crate::unicode::is_print;

/// `%q`; `only_ascii` is `%+q`.
pub(crate) fn quote(text: &[u8], only_ascii: bool) -> Vec<u8> {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            escape(&mut quoted, char, '"', only_ascii);
        }
        for byte in chunk.invalid() {
            let _ = write!(quoted, "\\x{byte:02x}"); // Into a text nothing fails.
        }
    }
    quoted.push('"');
    quoted.into_bytes()
}

/// `%q` of a character.
pub(crate) fn quote_rune(char: char, only_ascii: bool) -> String {
    let mut quoted = String::from("'");
    escape(&mut quoted, char, '\'', only_ascii);
    quoted.push('\'');
    quoted
}

fn escape(out: &mut String, char: char, quote: char, only_ascii: bool) {
    let _ = match char {
        '\\' => out.write_str("\\\\"),
        char if char == quote => write!(out, "\\{char}"),
        char if is_print(char) && (char.is_ascii() || !only_ascii) => out.write_char(char),
        '\x07' => out.write_str("\\a"),
        '\x08' => out.write_str("\\b"),
        '\x0c' => out.write_str("\\f"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\x0b' => out.write_str("\\v"),
        char if char < ' ' || char == '\x7f' => write!(out, "\\x{:02x}", u32::from(char)),
        char if u32::from(char) < 0x1_0000 => write!(out, "\\u{:04x}", u32::from(char)),
        char => write!(out, "\\U{:08x}", u32::from(char)),
    }; // Into a text nothing fails.
}
