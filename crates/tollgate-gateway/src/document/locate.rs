//! Finds a value in a JSON text that is known to be one.

use super::{Step, is_key};

/// Where the value begins that the steps lead to, or the last one on the way that is there. Of
/// members with one name the last counts.
pub(super) fn offset(text: &str, steps: &[Step]) -> usize {
    let bytes = text.as_bytes();
    let mut at = skip_space(bytes, 0);
    for step in steps {
        match find(bytes, at, step) {
            Some(found) => at = found,
            None => break,
        }
    }
    at
}

/// The member or item of the value at `at`.
fn find(bytes: &[u8], at: usize, step: &Step) -> Option<usize> {
    let is_object = match bytes.get(at)? {
        b'{' => true,
        b'[' => false,
        _ => return None,
    };
    let mut found = None;
    let mut index = 0;
    let mut at = skip_space(bytes, at + 1);
    while !matches!(bytes.get(at)?, b'}' | b']') {
        let mut is_mine = *step == Step::Index(index);
        if is_object {
            let end = skip_value(bytes, at);
            let key = serde_json::from_slice::<String>(&bytes[at..end]).ok()?;
            is_mine = is_key(step, &key);
            at = skip_space(bytes, skip_space(bytes, end) + 1); // Behind the colon.
        }
        if is_mine {
            found = Some(at);
        }
        at = skip_space(bytes, skip_value(bytes, at));
        if bytes.get(at) == Some(&b',') {
            at = skip_space(bytes, at + 1);
        }
        index += 1;
    }
    found
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let space = rest.iter().take_while(|byte| byte.is_ascii_whitespace());
    at + space.count()
}

/// The end of the value that begins at `at`.
fn skip_value(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = skip_text(bytes, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            b',' | b':' if depth == 0 => return at,
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn skip_text(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}
