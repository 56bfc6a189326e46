//! In which encoding a document is: by its byte order mark, then by what it declares, else UTF-8.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::InputError;

/// The document as UTF-8. A buffer for another encoding is got only where there is room for it.
pub(super) fn to_utf8(
    bytes: &[u8],
    has_room: impl Fn(usize) -> bool,
) -> Result<Cow<'_, str>, InputError> {
    let unknown = || InputError::new("the document is in no known encoding");
    let marked = Encoding::for_bom(bytes);
    let (encoding, bytes) = match marked {
        Some((encoding, length)) => (encoding, &bytes[length..]),
        None => (declared(bytes), bytes),
    };
    if encoding == UTF_8 {
        let text = str::from_utf8(bytes);
        return text.map(Cow::from).map_err(|_| unknown());
    }
    let most = encoding
        .new_decoder_without_bom_handling()
        .max_utf8_buffer_length_without_replacement(bytes.len());
    if !most.is_some_and(has_room) {
        return Err(InputError::too_large());
    }
    let (text, had_errors) = encoding.decode_without_bom_handling(bytes);
    match had_errors {
        false => Ok(text),
        true => Err(unknown()),
    }
}

/// What the declaration says, where there is one and it names what is known.
fn declared(bytes: &[u8]) -> &'static Encoding {
    let head = &bytes[..bytes.len().min(256)];
    let name = || {
        let start = memchr::memmem::find(head, b"<?xml")?;
        let end = memchr::memmem::find(head, b"?>")?;
        let declaration = head.get(start..end)?;
        let at = memchr::memmem::find(declaration, b"encoding")?;
        let rest = &declaration[at + b"encoding".len()..];
        let quote = rest.iter().position(|byte| matches!(byte, b'"' | b'\''))?;
        let rest_behind = &rest[quote + 1..];
        let length = rest_behind.iter().position(|byte| *byte == rest[quote])?;
        Some(&rest_behind[..length])
    };
    let Some(encoding) = name().and_then(Encoding::for_label) else {
        return UTF_8;
    };
    // What says UTF-16 and could be read so far is not.
    if encoding == UTF_16BE || encoding == UTF_16LE {
        return UTF_8;
    }
    // Those who say Latin-1 and write UTF-8 are many.
    if encoding == encoding_rs::WINDOWS_1252 && !bytes.is_ascii() && str::from_utf8(bytes).is_ok() {
        return UTF_8;
    }
    encoding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], text: Option<&str>) {
        assert_eq!(to_utf8(bytes, |_| true).ok().as_deref(), text);
    }

    #[test]
    fn encodings_are_found() {
        check(b"<a>\xe9</a>", None);
        check(
            b"<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>",
            Some("<?xml version='1.0' encoding='ISO-8859-1'?><a>\u{e9}</a>"),
        );
        check(b"\xff\xfe<\0a\0/\0>\0", Some("<a/>"));
        check(b"\xef\xbb\xbf<a/>", Some("<a/>"));
        check(
            b"<?xml version=\"1.0\" encoding=\"windows-1251\"?>\xcf",
            Some("<?xml version=\"1.0\" encoding=\"windows-1251\"?>\u{41f}"),
        );
    }
}
