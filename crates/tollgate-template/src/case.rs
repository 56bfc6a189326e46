//! Words and their cases, as the libraries behind sprig have them (`xstrings`, `goutils`, `strings.Title`).

use crate::unicode::{
    is_digit, is_letter, is_lower, is_punct, is_space, is_title, is_upper, to_lower, to_title,
    to_upper,
};

/// `strings.Title`: the first letter of each word in title case.
pub(crate) fn title(text: &str) -> String {
    let mut before = ' ';
    let is_separator = |char: char| {
        if char.is_ascii() {
            return !(char.is_ascii_alphanumeric() || char == '_');
        }
        !is_letter(char) && !is_digit(char) && is_space(char)
    };
    text.chars()
        .map(|char| {
            let starts = is_separator(std::mem::replace(&mut before, char));
            if starts { to_title(char) } else { char }
        })
        .collect()
}

/// `goutils.Uncapitalize`: the first letter of each word in lower case.
pub(crate) fn uncapitalize(text: &str) -> String {
    let mut starts = true;
    let lower = text.chars().map(|char| {
        if is_space(char) {
            starts = true;
            return char;
        }
        if std::mem::take(&mut starts) {
            to_lower(char)
        } else {
            char
        }
    });
    lower.collect()
}

/// `goutils.SwapCase`
pub(crate) fn swap_case(text: &str) -> String {
    let mut starts = true;
    let swapped = text.chars().map(|char| {
        if is_upper(char) || is_title(char) {
            starts = false;
            to_lower(char)
        } else if is_lower(char) {
            if std::mem::take(&mut starts) {
                to_title(char)
            } else {
                to_upper(char)
            }
        } else {
            starts = is_space(char);
            char
        }
    });
    swapped.collect()
}

fn is_connector(char: char) -> bool {
    char == '-' || char == '_' || is_space(char)
}

/// `xstrings.ToPascalCase`
pub(crate) fn pascal_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    // Connectors in front are kept, and where there is nothing else, the last of them is written twice.
    let mut last = loop {
        let Some(char) = chars.next() else {
            out.extend(out.chars().next_back());
            return out;
        };
        if !is_connector(char) {
            break char;
        }
        out.push(char);
    };
    let mut after_upper = is_upper(last);
    last = to_upper(last);
    for char in chars {
        let before = std::mem::replace(&mut last, char);
        if is_connector(last) && is_connector(before) {
            out.push(before);
            continue;
        }
        if is_connector(before) {
            after_upper = is_upper(last);
            last = to_upper(last);
        } else {
            if after_upper {
                if is_upper(last) {
                    last = to_lower(last);
                } else {
                    after_upper = false;
                }
            }
            out.push(before);
        }
    }
    out.push(last);
    out
}

/// What stands between words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Case {
    Snake,
    Kebab,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    None,
    Number,
    Upper,
    Alphabet,
    Connector,
    Punctuation,
    Other,
}

/// `xstrings.ToSnakeCase` and `ToKebabCase`.
pub(crate) fn with_connector(text: &str, case: Case) -> String {
    let connector = match case {
        Case::Snake => '_',
        Case::Kebab => '-',
    };
    let mut out = String::with_capacity(text.len() + 8);
    let (mut kind, mut word, mut rest) = next_word(text);
    while !rest.is_empty() {
        if kind != Word::Connector {
            lower(&mut out, kind, word, connector);
        }
        let (before, last) = (kind, word);
        (kind, word, rest) = next_word(rest);
        match before {
            Word::Number => {
                while matches!(kind, Word::Alphabet | Word::Number) {
                    lower(&mut out, kind, word, connector);
                    (kind, word, rest) = next_word(rest);
                }
                if !matches!(kind, Word::None | Word::Punctuation | Word::Connector) {
                    out.push(connector);
                }
            }
            Word::Connector => lower(&mut out, before, last, connector),
            Word::Punctuation => {}
            _ if kind != Word::Number => {
                if !matches!(kind, Word::Connector | Word::Punctuation) {
                    out.push(connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word, rest) = next_word(rest);
                if kind != Word::Alphabet {
                    // The number belongs to the word before it.
                    lower(&mut out, Word::Number, number, connector);
                    if !matches!(kind, Word::Connector | Word::Punctuation) {
                        out.push(connector);
                    }
                    continue;
                }
                out.push(connector);
                lower(&mut out, Word::Number, number, connector);
                while matches!(kind, Word::Alphabet | Word::Number) {
                    lower(&mut out, kind, word, connector);
                    (kind, word, rest) = next_word(rest);
                }
                if !matches!(kind, Word::None | Word::Connector | Word::Punctuation) {
                    out.push(connector);
                }
            }
        }
    }
    lower(&mut out, kind, word, connector);
    out
}

fn lower(out: &mut String, kind: Word, word: &str, connector: char) {
    match kind {
        Word::Upper | Word::Other | Word::Alphabet => out.extend(word.chars().map(to_lower)),
        Word::Connector => out.extend(word.chars().map(|_| connector)),
        _ => out.push_str(word),
    }
}

/// Letters, but for those of CJK.
fn is_alphabet(char: char) -> bool {
    const CJK: [std::ops::RangeInclusive<char>; 3] = [
        '\u{3400}'..='\u{4d85}',
        '\u{4e00}'..='\u{9fcc}',
        '\u{20000}'..='\u{2b81d}',
    ];
    is_letter(char) && !CJK.iter().any(|range| range.contains(&char))
}

/// The kind of the first word, the word, and what is behind it.
fn next_word(text: &str) -> (Word, &str, &str) {
    let Some(first) = text.chars().next() else {
        return (Word::None, "", "");
    };
    let while_is = |kind: Word, is_in: &dyn Fn(char) -> bool| {
        let end = text.char_indices().skip(1).find(|(_, char)| !is_in(*char));
        let (word, rest) = text.split_at(end.map_or(text.len(), |(at, _)| at));
        (kind, word, rest)
    };
    let is_small = |char: char| is_alphabet(char) && !is_upper(char);
    match first {
        first if is_connector(first) => while_is(Word::Connector, &is_connector),
        first if is_punct(first) => while_is(Word::Punctuation, &is_punct),
        first if is_upper(first) => upper_word(text, first, &is_small),
        first if is_alphabet(first) => while_is(Word::Alphabet, &is_small),
        first if first.is_numeric() => while_is(Word::Number, &char::is_numeric),
        _ => while_is(Word::Other, &|char| {
            !is_connector(char) && !is_alphabet(char) && !char.is_numeric() && !is_punct(char)
        }),
    }
}

/// `HTTP` of `HTTPStatus`, or `Status`.
fn upper_word<'t>(
    text: &'t str,
    first: char,
    is_small: &dyn Fn(char) -> bool,
) -> (Word, &'t str, &'t str) {
    let mut end = first.len_utf8();
    let second = text[end..].chars().next();
    match second {
        Some(second) if is_upper(second) => {
            let mut last = 0;
            let mut next = None;
            for char in text[end..].chars() {
                if !is_upper(char) {
                    next = Some(char);
                    break;
                }
                last = char.len_utf8();
                end += last;
            }
            // Its last capital begins the next word.
            if next.is_some_and(is_alphabet) {
                end -= last;
            }
        }
        Some(second) if is_alphabet(second) => {
            let small = text[end..].chars().take_while(|char| is_small(*char));
            end += small.map(char::len_utf8).sum::<usize>();
        }
        _ => {}
    }
    let (word, rest) = text.split_at(end);
    (Word::Upper, word, rest)
}
