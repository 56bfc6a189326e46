//! Classes of characters as Go's `unicode` package has them.

use std::borrow::Cow;

use unicode_general_category::{GeneralCategory as Category, get_general_category};

pub(crate) fn is_letter(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_alphabetic();
    }
    use Category::{
        LowercaseLetter, ModifierLetter, OtherLetter, TitlecaseLetter, UppercaseLetter,
    };
    matches!(
        get_general_category(char),
        LowercaseLetter | ModifierLetter | OtherLetter | TitlecaseLetter | UppercaseLetter
    )
}

pub(crate) fn is_digit(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_digit();
    }
    get_general_category(char) == Category::DecimalNumber
}

pub(crate) fn is_upper(char: char) -> bool {
    get_general_category(char) == Category::UppercaseLetter
}

pub(crate) fn is_lower(char: char) -> bool {
    get_general_category(char) == Category::LowercaseLetter
}

pub(crate) fn is_title(char: char) -> bool {
    get_general_category(char) == Category::TitlecaseLetter
}

pub(crate) fn is_punct(char: char) -> bool {
    use Category::{
        ClosePunctuation, ConnectorPunctuation, DashPunctuation, FinalPunctuation,
        InitialPunctuation, OpenPunctuation, OtherPunctuation,
    };
    matches!(
        get_general_category(char),
        ClosePunctuation
            | ConnectorPunctuation
            | DashPunctuation
            | FinalPunctuation
            | InitialPunctuation
            | OpenPunctuation
            | OtherPunctuation
    )
}

/// Letters, marks, numbers, punctuation, symbols, and the space.
pub(crate) fn is_print(char: char) -> bool {
    if char.is_ascii() {
        return char == ' ' || char.is_ascii_graphic();
    }
    use Category::{
        Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, SpaceSeparator, Surrogate,
        Unassigned,
    };
    !matches!(
        get_general_category(char),
        Control
            | Format
            | LineSeparator
            | ParagraphSeparator
            | PrivateUse
            | SpaceSeparator
            | Surrogate
            | Unassigned
    )
}

/// White space as Go sees it.
pub(crate) fn is_space(char: char) -> bool {
    char.is_whitespace()
}

/// The simple upper case: one character for one.
pub(crate) fn to_upper(char: char) -> char {
    only(char, char.to_uppercase())
}

/// The simple lower case: one character for one. `İ` is `i` in Go.
pub(crate) fn to_lower(char: char) -> char {
    if char == 'İ' {
        'i'
    } else {
        only(char, char.to_lowercase())
    }
}

fn only(char: char, mut mapped: impl ExactSizeIterator<Item = char>) -> char {
    match (mapped.len(), mapped.next()) {
        (1, Some(mapped)) => mapped,
        _ => char,
    }
}

/// The title case, which differs from the upper case for few.
pub(crate) fn to_title(char: char) -> char {
    match char {
        'Ǆ'..='ǆ' => 'ǅ',
        'Ǉ'..='ǉ' => 'ǈ',
        'Ǌ'..='ǌ' => 'ǋ',
        'Ǳ'..='ǳ' => 'ǲ',
        char => to_upper(char),
    }
}

/// Each character of a text; bytes that are no UTF-8 are U+FFFD each, as in Go.
pub(crate) fn chars(text: &[u8]) -> impl Iterator<Item = char> {
    text.utf8_chunks().flat_map(|chunk| {
        let broken = chunk.invalid().iter().map(|_| '\u{fffd}');
        chunk.valid().chars().chain(broken)
    })
}

/// A text as UTF-8, with U+FFFD for each byte that is none. The standard library puts one for several.
pub(crate) fn lossy(text: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(text) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(chars(text).collect()),
    }
}
