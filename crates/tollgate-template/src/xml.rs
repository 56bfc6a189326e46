//! XML as data, and data as XML, by the rules of `clbanning/mxj`, which Tyk uses.

pub(crate) mod charset;
pub(crate) mod read;
pub(crate) mod write;

/// The prefix of a key that is an attribute.
const ATTRIBUTE: &str = "-";

/// The key of an element's text where it has attributes or elements too.
const TEXT: &str = "#text";

/// Whether a text can be the name of an element or an attribute.
pub(crate) fn is_name(name: &str) -> bool {
    let starts = |char: char| {
        matches!(char,
            ':' | 'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}'
            | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}'
            | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}'
            | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
            | '\u{10000}'..='\u{effff}')
    };
    let goes_on = |char: char| {
        starts(char)
            || matches!(char,
                '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
    };
    let mut chars = name.chars();
    chars.next().is_some_and(starts) && chars.all(goes_on)
}

/// Whether XML 1.0 may hold a character.
pub(crate) fn is_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
