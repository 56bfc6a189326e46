//! `printf`, `print` and `println`, as Go's `fmt` has them.

use crate::{
    error::Fault,
    float,
    out::Out,
    print::{DEEPEST_VALUE, too_deep},
    quote::{quote, quote_rune},
    unicode::{chars, is_print},
    value::{Heap, Value},
};

/// The largest width or precision, as in Go.
const WIDEST: i64 = 1_000_000;

#[derive(Clone, Copy, Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
    /// `%#v`. What `%+v` changes, no value here has.
    sharp_v: bool,
}

struct Printer<'r> {
    heap: &'r Heap<'r>,
    out: Vec<u8>,
    most: usize,
    flags: Flags,
}

/// `fmt.Sprintf`.
pub(crate) fn printf<'r>(
    heap: &'r Heap<'r>,
    format: &[u8],
    arguments: &[Value<'r>],
    most: usize,
) -> Result<Vec<u8>, Fault> {
    let mut printer = Printer {
        heap,
        out: Vec::new(),
        most,
        flags: Flags::default(),
    };
    let mut cursor = Cursor {
        format,
        at: 0,
        argument: 0,
        reordered: false,
        is_good_index: true,
    };
    while let Some(percent) = memchr::memchr(b'%', &format[cursor.at..]) {
        printer.push(&format[cursor.at..cursor.at + percent])?;
        cursor.at += percent + 1;
        printer.verb(&mut cursor, arguments)?;
    }
    printer.push(&format[cursor.at..])?;
    if !cursor.reordered && cursor.argument < arguments.len() {
        printer.extra(&arguments[cursor.argument..])?;
    }
    Ok(printer.out)
}

/// Where in the format it is, and which argument is next.
struct Cursor<'f> {
    format: &'f [u8],
    at: usize,
    argument: usize,
    /// Whether the format names its arguments by number.
    reordered: bool,
    is_good_index: bool,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    /// `[n]`, where it is there.
    fn index(&mut self, arguments: usize) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &self.format[self.at..];
        let Some(end) = rest.iter().position(|byte| *byte == b']') else {
            self.is_good_index = false;
            self.at += 1;
            return false;
        };
        let number = str::from_utf8(&rest[1..end]).ok();
        let is_number = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = number
            .filter(is_number)
            .and_then(|text| text.parse::<usize>().ok());
        self.at += end + 1;
        match number.and_then(|number| number.checked_sub(1)) {
            Some(index) if index < arguments => {
                self.argument = index;
                true
            }
            _ => {
                self.is_good_index = false;
                number.is_some()
            }
        }
    }

    /// A number in the format; none where it is too large.
    fn number(&mut self) -> Option<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        let digits = str::from_utf8(&self.format[start..self.at]).unwrap_or_default();
        let number: i64 = digits.parse().ok()?;
        (number <= WIDEST).then_some(usize::try_from(number).unwrap_or(0))
    }

    /// `*`: the next argument, where it is a whole number that is not too large.
    fn star(&mut self, arguments: &[Value<'_>]) -> Option<i64> {
        let value = arguments.get(self.argument).copied()?;
        self.argument += 1;
        let number = match value {
            Value::Int(number) | Value::Int64(number) => number,
            Value::Byte(number) => number.into(),
            _ => return None,
        };
        (-WIDEST..=WIDEST).contains(&number).then_some(number)
    }
}

impl<'r> Printer<'r> {
    fn push(&mut self, text: &[u8]) -> Result<(), Fault> {
        if self.out.len() + text.len() > self.most {
            return Err(self.heap.too_long());
        }
        self.out.extend_from_slice(text);
        Ok(())
    }

    /// One verb, behind its `%`.
    fn verb(&mut self, cursor: &mut Cursor<'_>, arguments: &[Value<'r>]) -> Result<(), Fault> {
        self.flags = Flags::default();
        cursor.is_good_index = true;
        while let Some(flag) = cursor.peek() {
            match flag {
                b'#' => self.flags.sharp = true,
                b'0' => self.flags.zero = true,
                b'+' => self.flags.plus = true,
                b'-' => self.flags.minus = true,
                b' ' => self.flags.space = true,
                _ => break,
            }
            cursor.at += 1;
        }
        let mut after_index = cursor.index(arguments.len());
        if cursor.peek() == Some(b'*') {
            cursor.at += 1;
            match cursor.star(arguments) {
                Some(width) => {
                    self.flags.minus |= width < 0;
                    self.flags.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => self.push(b"%!(BADWIDTH)")?,
            }
            after_index = false;
        } else {
            self.flags.width = cursor.number();
            if after_index && self.flags.width.is_some() {
                cursor.is_good_index = false; // `%[3]2d`
            }
        }
        // A point that ends the format is its verb.
        if cursor.peek() == Some(b'.') && cursor.at + 1 < cursor.format.len() {
            cursor.at += 1;
            if after_index {
                cursor.is_good_index = false; // `%[3].2d`
            }
            after_index = cursor.index(arguments.len());
            if cursor.peek() == Some(b'*') {
                cursor.at += 1;
                let precision = cursor.star(arguments);
                self.flags.precision = precision.and_then(|number| usize::try_from(number).ok());
                if self.flags.precision.is_none() {
                    self.push(b"%!(BADPREC)")?;
                }
                after_index = false;
            } else {
                self.flags.precision = Some(cursor.number().unwrap_or(0));
            }
        }
        if !after_index {
            cursor.index(arguments.len());
        }
        let Some((verb, size)) = crate::lex::first_char(&cursor.format[cursor.at..]) else {
            return self.push(b"%!(NOVERB)");
        };
        cursor.at += size;
        if verb == '%' {
            return self.push(b"%");
        }
        if !cursor.is_good_index {
            return self.complain(verb, b"(BADINDEX)");
        }
        let Some(argument) = arguments.get(cursor.argument) else {
            return self.complain(verb, b"(MISSING)");
        };
        cursor.argument += 1;
        if matches!(verb, 'v' | 'w') {
            self.flags.sharp_v = std::mem::take(&mut self.flags.sharp);
            self.flags.plus = false;
        }
        self.argument(*argument, verb)
    }

    fn complain(&mut self, verb: char, what: &[u8]) -> Result<(), Fault> {
        let verb = format!("%!{verb}");
        self.push(verb.as_bytes())?;
        self.push(what)
    }

    fn extra(&mut self, arguments: &[Value<'r>]) -> Result<(), Fault> {
        self.flags = Flags::default();
        self.push(b"%!(EXTRA ")?;
        for (at, argument) in arguments.iter().enumerate() {
            if at > 0 {
                self.push(b", ")?;
            }
            if argument.is_nil() {
                self.push(b"<nil>")?;
            } else {
                self.push(argument.type_name().as_bytes())?;
                self.push(b"=")?;
                self.argument(*argument, 'v')?;
            }
        }
        self.push(b")")
    }

    fn argument(&mut self, value: Value<'r>, verb: char) -> Result<(), Fault> {
        match (verb, value) {
            ('T' | 'v', Value::Missing | Value::Nil) => self.pad(b"<nil>"),
            (_, Value::Missing | Value::Nil) => self.bad_verb(verb, value),
            ('T', value) => self.formatted(value.type_name().as_bytes()),
            ('p', value) => self.bad_verb(verb, value),
            // It is for errors, and for the whole of what is none.
            ('w', value) => self.bad_verb(verb, value),
            (verb, value) => self.value(value, verb, 0),
        }
    }

    fn bad_verb(&mut self, verb: char, value: Value<'r>) -> Result<(), Fault> {
        self.complain(verb, b"(")?;
        if value.is_nil() {
            self.push(b"<nil>")?;
        } else {
            self.push(value.type_name().as_bytes())?;
            self.push(b"=")?;
            self.value(value, 'v', 0)?;
        }
        self.push(b")")
    }

    fn value(&mut self, value: Value<'r>, verb: char, depth: usize) -> Result<(), Fault> {
        if depth > DEEPEST_VALUE {
            return Err(too_deep());
        }
        match value {
            Value::Missing | Value::Nil if self.flags.sharp_v => self.push(b"interface {}(nil)"),
            Value::Missing | Value::Nil => self.push(b"<nil>"),
            Value::Bool(flag) => match verb {
                't' | 'v' => self.pad(if flag { b"true" } else { b"false" }),
                _ => self.bad_verb(verb, value),
            },
            Value::Int(number) | Value::Int64(number) => {
                self.integer(value, number.unsigned_abs(), number < 0, true, verb)
            }
            Value::Byte(number) => self.integer(value, number.into(), false, false, verb),
            Value::Float(number) => match verb {
                'v' => self.float(number, 'g', None),
                'b' | 'g' | 'G' | 'x' | 'X' => self.float(number, verb, None),
                'f' | 'e' | 'E' | 'F' => self.float(number, verb, Some(6)),
                _ => self.bad_verb(verb, value),
            },
            Value::Complex(real, imaginary) => self.complex(value, (real, imaginary), verb),
            Value::Str(text) => match verb {
                'v' if self.flags.sharp_v => self.quoted(text),
                'v' | 's' => self.formatted(text),
                'x' | 'X' => self.hexadecimal(text, verb),
                'q' => self.quoted(text),
                _ => self.bad_verb(verb, value),
            },
            Value::List(list) => {
                let (open, between, close): (&[u8], &[u8], &[u8]) = if self.flags.sharp_v {
                    (b"{", b", ", b"}")
                } else {
                    (b"[", b" ", b"]")
                };
                if self.flags.sharp_v {
                    self.push(value.type_name().as_bytes())?;
                    if list.is_nil() {
                        return self.push(b"(nil)");
                    }
                }
                self.push(open)?;
                for (at, item) in list.iter().enumerate() {
                    if at > 0 {
                        self.push(between)?;
                    }
                    self.value(item, verb, depth + 1)?;
                }
                self.push(close)
            }
            Value::Map(map) => {
                if self.flags.sharp_v {
                    self.push(value.type_name().as_bytes())?;
                    self.push(b"{")?;
                } else {
                    self.push(b"map[")?;
                }
                for (at, (key, item)) in self.heap.entries(map).enumerate() {
                    if at > 0 {
                        self.push(if self.flags.sharp_v { b", " } else { b" " })?;
                    }
                    self.value(Value::Str(key), verb, depth + 1)?;
                    self.push(b":")?;
                    self.value(item, verb, depth + 1)?;
                }
                self.push(if self.flags.sharp_v { b"}" } else { b"]" })
            }
            Value::Time(_) | Value::Version(_) | Value::Certificate(_) => {
                let text = crate::print::text(self.heap, value)?;
                match verb {
                    'v' | 's' => self.formatted(&text),
                    'x' | 'X' => self.hexadecimal(&text, verb),
                    'q' => self.quoted(&text),
                    _ => self.bad_verb(verb, value),
                }
            }
        }
    }

    /// Writes a text to the width.
    fn pad(&mut self, text: &[u8]) -> Result<(), Fault> {
        let length = chars(text).count();
        let missing = self.flags.width.unwrap_or(0).saturating_sub(length);
        if self.out.len() + missing + text.len() > self.most {
            return Err(self.heap.too_long());
        }
        if self.flags.minus {
            self.out.extend_from_slice(text);
            self.out.extend(std::iter::repeat_n(b' ', missing));
        } else {
            let fill = if self.flags.zero { b'0' } else { b' ' };
            self.out.extend(std::iter::repeat_n(fill, missing));
            self.out.extend_from_slice(text);
        }
        Ok(())
    }

    fn truncated<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let Some(precision) = self.flags.precision else {
            return text;
        };
        let mut at = 0;
        for _ in 0..precision {
            match crate::lex::first_char(&text[at..]) {
                Some((_, size)) => at += size,
                None => return text,
            }
        }
        &text[..at]
    }

    fn formatted(&mut self, text: &[u8]) -> Result<(), Fault> {
        let text = self.truncated(text);
        self.pad(text)
    }

    fn quoted(&mut self, text: &[u8]) -> Result<(), Fault> {
        let text = self.truncated(text);
        let can_be_raw = !text.contains(&b'`')
            && str::from_utf8(text).is_ok_and(|text| {
                text.chars().all(|char| {
                    char == '\t' || (char >= ' ' && char != '\x7f' && char != '\u{feff}')
                })
            });
        let quoted = if self.flags.sharp && can_be_raw {
            [b"`", text, b"`"].concat()
        } else {
            quote(text, self.flags.plus)
        };
        self.pad(&quoted)
    }

    fn hexadecimal(&mut self, text: &[u8], verb: char) -> Result<(), Fault> {
        let length = self
            .flags
            .precision
            .map_or(text.len(), |precision| precision.min(text.len()));
        if length * 5 + self.out.len() > self.most {
            return Err(self.heap.too_long());
        }
        let prefix = if verb == 'x' { "0x" } else { "0X" };
        let mut written = String::new();
        for (at, byte) in text[..length].iter().enumerate() {
            if self.flags.space && at > 0 {
                written.push(' ');
            }
            if self.flags.sharp && (self.flags.space || at == 0) {
                written.push_str(prefix);
            }
            let byte = if verb == 'x' {
                format!("{byte:02x}")
            } else {
                format!("{byte:02X}")
            };
            written.push_str(&byte);
        }
        self.pad(written.as_bytes())
    }

    fn pad_left_with_spaces(&mut self, text: &[u8]) -> Result<(), Fault> {
        let zero = std::mem::replace(&mut self.flags.zero, false);
        let padded = self.pad(text);
        self.flags.zero = zero;
        padded
    }

    fn integer(
        &mut self,
        value: Value<'r>,
        size: u64,
        is_negative: bool,
        is_signed: bool,
        verb: char,
    ) -> Result<(), Fault> {
        let char = || {
            u32::try_from(size)
                .ok()
                .filter(|_| !is_negative)
                .and_then(char::from_u32)
        };
        match verb {
            'v' if self.flags.sharp_v && !is_signed => {
                let text = format!("0x{size:x}");
                self.pad(text.as_bytes())
            }
            'v' | 'd' => self.digits(size, is_negative, 10, verb),
            'b' => self.digits(size, is_negative, 2, verb),
            'o' | 'O' => self.digits(size, is_negative, 8, verb),
            'x' | 'X' => self.digits(size, is_negative, 16, verb),
            'c' => {
                let char = char().unwrap_or('\u{fffd}');
                self.pad(char.encode_utf8(&mut [0; 4]).as_bytes())
            }
            'q' => {
                let quoted = quote_rune(char().unwrap_or('\u{fffd}'), self.flags.plus);
                self.pad(quoted.as_bytes())
            }
            'U' => {
                let size = if is_negative {
                    size.wrapping_neg()
                } else {
                    size
                };
                let digits = format!("{size:X}");
                let least = self.flags.precision.unwrap_or(4).max(4);
                if least + self.out.len() > self.most {
                    return Err(self.heap.too_long());
                }
                let zeros = "0".repeat(least.saturating_sub(digits.len()));
                let mut text = format!("U+{zeros}{digits}");
                if let Some(char) = char().filter(|char| self.flags.sharp && is_print(*char)) {
                    text.push_str(&format!(" '{char}'"));
                }
                self.pad_left_with_spaces(text.as_bytes())
            }
            _ => self.bad_verb(verb, value),
        }
    }

    fn digits(&mut self, size: u64, is_negative: bool, base: u32, verb: char) -> Result<(), Fault> {
        let flags = self.flags;
        if flags.precision == Some(0) && size == 0 {
            // Nothing but the width.
            return self.pad_left_with_spaces(b"");
        }
        let mut text = match base {
            2 => format!("{size:b}"),
            8 => format!("{size:o}"),
            16 if verb == 'X' => format!("{size:X}"),
            16 => format!("{size:x}"),
            _ => size.to_string(),
        };
        let has_sign = is_negative || flags.plus || flags.space;
        let least = match (flags.precision, flags.width) {
            (Some(precision), _) => precision,
            (None, Some(width)) if flags.zero && !flags.minus => {
                width.saturating_sub(usize::from(has_sign))
            }
            _ => 0,
        };
        if least + self.out.len() > self.most {
            return Err(self.heap.too_long());
        }
        if text.len() < least {
            text.insert_str(0, &"0".repeat(least - text.len()));
        }
        match (base, verb) {
            (2, _) if flags.sharp => text.insert_str(0, "0b"),
            (8, _) if flags.sharp && !text.starts_with('0') => text.insert(0, '0'),
            (16, 'X') if flags.sharp => text.insert_str(0, "0X"),
            (16, _) if flags.sharp => text.insert_str(0, "0x"),
            _ => {}
        }
        if verb == 'O' {
            text.insert_str(0, "0o");
        }
        if is_negative {
            text.insert(0, '-');
        } else if flags.plus {
            text.insert(0, '+');
        } else if flags.space {
            text.insert(0, ' ');
        }
        self.pad_left_with_spaces(text.as_bytes())
    }

    fn float(&mut self, value: f64, verb: char, default: Option<usize>) -> Result<(), Fault> {
        let flags = self.flags;
        let precision = flags.precision.or(default);
        if precision.unwrap_or(0) + self.out.len() > self.most {
            return Err(self.heap.too_long());
        }
        let mut text = float::format(value, verb, precision);
        if !text.starts_with(['+', '-']) {
            text.insert(0, '+');
        }
        let is_number = value.is_finite();
        if !is_number {
            if value.is_nan() && !flags.space && !flags.plus {
                text.remove(0);
            }
            return self.pad_left_with_spaces(text.as_bytes());
        }
        if flags.sharp && verb != 'b' {
            text = with_point(&text, verb, precision);
        }
        if flags.space && !flags.plus && text.starts_with('+') {
            text.replace_range(0..1, " ");
        }
        let shows_sign = flags.plus || !text.starts_with('+');
        if !shows_sign {
            text.remove(0);
        }
        if shows_sign && flags.zero && !flags.minus {
            // The sign stands before the zeros.
            let width = flags.width.unwrap_or(0);
            if width > text.len() {
                let zeros = width - text.len();
                if width + self.out.len() > self.most {
                    return Err(self.heap.too_long());
                }
                text.insert_str(1, &"0".repeat(zeros));
            }
            return self.push(text.as_bytes());
        }
        self.pad(text.as_bytes())
    }

    fn complex(
        &mut self,
        value: Value<'r>,
        (real, imaginary): (f64, f64),
        verb: char,
    ) -> Result<(), Fault> {
        let (verb, default) = match verb {
            'v' => ('g', None),
            'b' | 'g' | 'G' | 'x' | 'X' => (verb, None),
            'f' | 'F' | 'e' | 'E' => (verb, Some(6)),
            _ => return self.bad_verb(verb, value),
        };
        let plus = self.flags.plus;
        self.push(b"(")?;
        self.float(real, verb, default)?;
        self.flags.plus = true;
        self.float(imaginary, verb, default)?;
        self.push(b"i)")?;
        self.flags.plus = plus;
        Ok(())
    }
}

/// `%#g` and the like: with a point, and with zeros at the end.
fn with_point(text: &str, verb: char, precision: Option<usize>) -> String {
    let (sign, rest) = text.split_at(1);
    let is_hex = matches!(verb, 'x' | 'X');
    let exponent = rest.find(if is_hex { ['p', 'P'] } else { ['e', 'E'] });
    let (number, tail) = rest.split_at(exponent.unwrap_or(rest.len()));
    // Of the two for hexadecimal digits, Go fills up the lower case alone.
    let is_filled = matches!(verb, 'g' | 'G' | 'x');
    let mut digits = if is_filled { precision.unwrap_or(6) } else { 0 };
    let mut has_point = false;
    let mut seen_nonzero = false;
    for char in number.chars() {
        match char {
            '.' => has_point = true,
            char => {
                seen_nonzero |= char != '0';
                if seen_nonzero {
                    digits = digits.saturating_sub(1);
                }
            }
        }
    }
    let point = if has_point {
        ""
    } else {
        if number.len() == 1 && number == "0" {
            digits = digits.saturating_sub(1);
        }
        "."
    };
    let zeros = "0".repeat(digits);
    format!("{sign}{number}{point}{zeros}{tail}")
}

/// `fmt.Sprint`: a space between two that are no texts.
pub(crate) fn print<'r>(
    heap: &'r Heap<'r>,
    arguments: &[Value<'r>],
    most: usize,
) -> Result<Vec<u8>, Fault> {
    let mut out = Out::new(heap);
    let mut was_text = true;
    for (at, argument) in arguments.iter().enumerate() {
        let is_text = matches!(argument, Value::Str(_));
        if at > 0 && !is_text && !was_text {
            out.push(b' ');
        }
        crate::print::print(heap, &mut out, *argument, most)?;
        was_text = is_text;
    }
    out.is_whole()?;
    Ok(out.into_bytes())
}

/// `fmt.Sprintln`: a space between all.
pub(crate) fn println<'r>(
    heap: &'r Heap<'r>,
    arguments: &[Value<'r>],
    most: usize,
) -> Result<Vec<u8>, Fault> {
    let mut out = Out::new(heap);
    for (at, argument) in arguments.iter().enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        crate::print::print(heap, &mut out, *argument, most)?;
    }
    out.push(b'\n');
    out.is_whole()?;
    Ok(out.into_bytes())
}
