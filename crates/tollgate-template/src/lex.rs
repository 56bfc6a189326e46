//! From text to tokens, as Go's `text/template/parse` cuts it.

use std::str;

use crate::unicode::{is_digit, is_letter};

/// What a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Text,
    Left,
    Right,
    LeftParen,
    RightParen,
    Space,
    Assign,
    Declare,
    Pipe,
    Char,
    Bool,
    Number,
    Complex,
    Rune,
    Str,
    Raw,
    Variable,
    Field,
    Identifier,
    Dot,
    Nil,
    Keyword(Keyword),
    End,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Range,
    Template,
    With,
}

/// A token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind,
    pub(crate) at: usize,
    pub(crate) text: &'t [u8],
}

/// A text that can not be cut, and where.
pub(crate) type Wrong = (usize, String);

pub(crate) struct Lexer<'t> {
    input: &'t [u8],
    pos: usize,
    start: usize,
    in_action: bool,
    parens: usize,
    /// Tokens that are ready: never more than one.
    ready: Option<Token<'t>>,
}

const END: Option<char> = None;

impl<'t> Lexer<'t> {
    pub(crate) fn new(input: &'t [u8]) -> Self {
        Self {
            input,
            pos: 0,
            start: 0,
            in_action: false,
            parens: 0,
            ready: None,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Token<'t>, Wrong> {
        loop {
            if let Some(token) = self.ready.take() {
                return Ok(token);
            }
            let token = if self.in_action {
                self.action()?
            } else {
                self.text()?
            };
            if let Some(token) = token {
                return Ok(token);
            }
        }
    }

    fn rest(&self) -> &'t [u8] {
        &self.input[self.pos..]
    }

    /// The next character; bytes that are no UTF-8 count as U+FFFD each.
    fn peek(&self) -> Option<char> {
        first_char(self.rest()).map(|(char, _)| char)
    }

    fn take(&mut self) -> Option<char> {
        let (char, size) = first_char(self.rest())?;
        self.pos += size;
        Some(char)
    }

    fn emit(&mut self, kind: Kind) -> Token<'t> {
        let (at, text) = (self.start, &self.input[self.start..self.pos]);
        self.start = self.pos;
        Token { kind, at, text }
    }

    fn wrong<T>(&self, message: impl Into<String>) -> Result<T, Wrong> {
        Err((self.start, message.into()))
    }

    fn text(&mut self) -> Result<Option<Token<'t>>, Wrong> {
        let Some(found) = find(self.rest(), b"{{") else {
            self.pos = self.input.len();
            let kind = if self.pos > self.start {
                Kind::Text
            } else {
                Kind::End
            };
            return Ok(Some(self.emit(kind)));
        };
        let delimiter = self.pos + found;
        self.pos = delimiter;
        if trims_left(&self.input[delimiter + 2..]) {
            let text = &self.input[self.start..delimiter];
            let kept = text.trim_end_matches_space().len();
            self.pos = self.start + kept;
        }
        let token = (self.pos > self.start).then(|| self.emit(Kind::Text));
        self.pos = delimiter;
        self.start = delimiter;
        self.left()?;
        // The text comes before the delimiter that was just found.
        match (token, self.ready.take()) {
            (Some(text), left) => {
                self.ready = left;
                Ok(Some(text))
            }
            (None, left) => Ok(left),
        }
    }

    /// The left delimiter, or a comment and all of it.
    fn left(&mut self) -> Result<(), Wrong> {
        let trims = trims_left(&self.input[self.pos + 2..]);
        let after = self.pos + 2 + if trims { 2 } else { 0 };
        if self.input[after..].starts_with(b"/*") {
            self.pos = after;
            self.start = after;
            return self.comment();
        }
        self.pos += 2;
        let token = self.emit(Kind::Left);
        self.pos = after;
        self.start = after;
        self.in_action = true;
        self.parens = 0;
        self.ready = Some(token);
        Ok(())
    }

    fn comment(&mut self) -> Result<(), Wrong> {
        self.pos += 2;
        let Some(end) = find(self.rest(), b"*/") else {
            return self.wrong("unclosed comment");
        };
        self.pos += end + 2;
        match self.at_right() {
            Some(trims) => self.skip_right(trims),
            None => return self.wrong("comment ends before closing delimiter"),
        }
        Ok(())
    }

    /// Whether the right delimiter is here, and whether it trims what is behind it.
    fn at_right(&self) -> Option<bool> {
        let rest = self.rest();
        if trims_right(rest) && rest[2..].starts_with(b"}}") {
            return Some(true);
        }
        rest.starts_with(b"}}").then_some(false)
    }

    fn skip_right(&mut self, trims: bool) {
        self.pos += 2;
        if trims {
            self.pos += 2;
            let rest = self.rest();
            self.pos += rest.len() - rest.trim_start_matches_space().len();
        }
        self.start = self.pos;
    }

    fn right(&mut self, trims: bool) -> Token<'t> {
        if trims {
            self.pos += 2;
            self.start = self.pos;
        }
        self.pos += 2;
        let token = self.emit(Kind::Right);
        if trims {
            let rest = self.rest();
            self.pos += rest.len() - rest.trim_start_matches_space().len();
            self.start = self.pos;
        }
        self.in_action = false;
        token
    }

    fn action(&mut self) -> Result<Option<Token<'t>>, Wrong> {
        if let Some(trims) = self.at_right() {
            if self.parens == 0 {
                return Ok(Some(self.right(trims)));
            }
            return self.wrong("unclosed left paren");
        }
        let before = self.pos;
        let Some(char) = self.take() else {
            return self.wrong("unclosed action");
        };
        let kind = match char {
            ' ' | '\t' | '\r' | '\n' => {
                self.pos = before;
                return Ok(self.space());
            }
            '=' => Kind::Assign,
            ':' => {
                if self.take() != Some('=') {
                    return self.wrong("expected :=");
                }
                Kind::Declare
            }
            '|' => Kind::Pipe,
            '"' => self.quoted('"', "unterminated quoted string", Kind::Str)?,
            '`' => self.raw()?,
            '$' => self.named(Kind::Variable)?,
            '\'' => self.quoted('\'', "unterminated character constant", Kind::Rune)?,
            '.' if !self.rest().first().is_some_and(u8::is_ascii_digit) => {
                self.named(Kind::Field)?
            }
            '.' | '+' | '-' | '0'..='9' => {
                self.pos = before;
                self.number()?
            }
            '(' => {
                self.parens += 1;
                Kind::LeftParen
            }
            ')' => {
                let Some(parens) = self.parens.checked_sub(1) else {
                    return self.wrong("unexpected right paren");
                };
                self.parens = parens;
                Kind::RightParen
            }
            char if is_alphanumeric(char) => self.identifier()?,
            char if char.is_ascii_graphic() => Kind::Char,
            char => return self.wrong(format!("unrecognized character in action: {char:?}")),
        };
        Ok(Some(self.emit(kind)))
    }

    fn space(&mut self) -> Option<Token<'t>> {
        let rest = self.rest();
        let spaces = rest.len() - rest.trim_start_matches_space().len();
        self.pos += spaces;
        // The last space may belong to ` -}}`.
        let last = &self.input[self.pos - 1..];
        if trims_right(last) && last[2..].starts_with(b"}}") {
            self.pos -= 1;
            if spaces == 1 {
                return Some(self.right(true));
            }
        }
        Some(self.emit(Kind::Space))
    }

    fn quoted(&mut self, end: char, unclosed: &str, kind: Kind) -> Result<Kind, Wrong> {
        loop {
            match self.take() {
                Some('\\') => {
                    if matches!(self.take(), END | Some('\n')) {
                        return self.wrong(unclosed);
                    }
                }
                END | Some('\n') => return self.wrong(unclosed),
                Some(char) if char == end => return Ok(kind),
                Some(_) => {}
            }
        }
    }

    fn raw(&mut self) -> Result<Kind, Wrong> {
        match self.rest().iter().position(|byte| *byte == b'`') {
            Some(end) => {
                self.pos += end + 1;
                Ok(Kind::Raw)
            }
            None => self.wrong("unterminated raw quoted string"),
        }
    }

    /// A field or a variable; alone `.` is the dot.
    fn named(&mut self, kind: Kind) -> Result<Kind, Wrong> {
        if self.at_terminator() {
            return Ok(if kind == Kind::Field { Kind::Dot } else { kind });
        }
        while self.peek().is_some_and(is_alphanumeric) {
            self.take();
        }
        if !self.at_terminator() {
            return self.bad_character();
        }
        Ok(kind)
    }

    fn identifier(&mut self) -> Result<Kind, Wrong> {
        while self.peek().is_some_and(is_alphanumeric) {
            self.take();
        }
        if !self.at_terminator() {
            return self.bad_character();
        }
        Ok(match &self.input[self.start..self.pos] {
            b"block" => Kind::Keyword(Keyword::Block),
            b"break" => Kind::Keyword(Keyword::Break),
            b"continue" => Kind::Keyword(Keyword::Continue),
            b"define" => Kind::Keyword(Keyword::Define),
            b"else" => Kind::Keyword(Keyword::Else),
            b"end" => Kind::Keyword(Keyword::End),
            b"if" => Kind::Keyword(Keyword::If),
            b"range" => Kind::Keyword(Keyword::Range),
            b"template" => Kind::Keyword(Keyword::Template),
            b"with" => Kind::Keyword(Keyword::With),
            b"nil" => Kind::Nil,
            b"true" | b"false" => Kind::Bool,
            _ => Kind::Identifier,
        })
    }

    fn bad_character<T>(&self) -> Result<T, Wrong> {
        let char = self.peek().unwrap_or('\u{fffd}');
        self.wrong(format!("bad character U+{:04X}", char as u32))
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            END | Some(' ' | '\t' | '\r' | '\n' | '.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(_) => self.rest().starts_with(b"}}"),
        }
    }

    fn number(&mut self) -> Result<Kind, Wrong> {
        if !self.scan_number() {
            return self.bad_number();
        }
        if !matches!(self.peek(), Some('+' | '-')) {
            return Ok(Kind::Number);
        }
        if self.scan_number() && self.input[self.pos - 1] == b'i' {
            return Ok(Kind::Complex);
        }
        self.bad_number()
    }

    fn bad_number<T>(&self) -> Result<T, Wrong> {
        let text = String::from_utf8_lossy(&self.input[self.start..self.pos]);
        self.wrong(format!("bad number syntax: {text:?}"))
    }

    fn accept(&mut self, set: &[u8]) -> bool {
        let is_in = self.rest().first().is_some_and(|byte| set.contains(byte));
        self.pos += usize::from(is_in);
        is_in
    }

    fn scan_number(&mut self) -> bool {
        self.accept(b"+-");
        let (mut is_decimal, mut is_hex) = (true, false);
        let mut digits: &[u8] = b"0123456789_";
        if self.accept(b"0") {
            is_decimal = false;
            if self.accept(b"xX") {
                digits = b"0123456789abcdefABCDEF_";
                is_hex = true;
            } else if self.accept(b"oO") {
                digits = b"01234567_";
            } else if self.accept(b"bB") {
                digits = b"01_";
            } else {
                is_decimal = true;
            }
        }
        while self.accept(digits) {}
        if self.accept(b".") {
            while self.accept(digits) {}
        }
        if (is_decimal && self.accept(b"eE")) || (is_hex && self.accept(b"pP")) {
            self.accept(b"+-");
            while self.accept(b"0123456789_") {}
        }
        self.accept(b"i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.take();
            return false;
        }
        true
    }
}

/// The first character of a text and its length; a byte that is no UTF-8 is U+FFFD.
pub(crate) fn first_char(text: &[u8]) -> Option<(char, usize)> {
    let first = *text.first()?;
    if first.is_ascii() {
        return Some((first.into(), 1));
    }
    let window = &text[..text.len().min(4)];
    let valid = match str::from_utf8(window) {
        Ok(valid) => valid,
        Err(err) => str::from_utf8(&window[..err.valid_up_to()]).unwrap_or_default(),
    };
    Some(
        valid
            .chars()
            .next()
            .map_or(('\u{fffd}', 1), |char| (char, char.len_utf8())),
    )
}

fn is_alphanumeric(char: char) -> bool {
    char == '_' || is_letter(char) || is_digit(char)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn trims_left(behind: &[u8]) -> bool {
    matches!(behind, [b'-', space, ..] if is_space(*space))
}

fn trims_right(text: &[u8]) -> bool {
    matches!(text, [space, b'-', ..] if is_space(*space))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, wanted)
}

trait TrimSpace {
    fn trim_start_matches_space(&self) -> &[u8];
    fn trim_end_matches_space(&self) -> &[u8];
}

impl TrimSpace for [u8] {
    fn trim_start_matches_space(&self) -> &[u8] {
        let start = self.iter().position(|byte| !is_space(*byte));
        &self[start.unwrap_or(self.len())..]
    }

    fn trim_end_matches_space(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| !is_space(*byte));
        &self[..end.map_or(0, |at| at + 1)]
    }
}
