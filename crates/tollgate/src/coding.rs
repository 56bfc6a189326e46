//! Codings of content: gzip, deflate, Brotli and Zstandard, undone up to a cap and done again.
//!
//! Both have a bound on memory. Buffers that grow are counted with those that they grow out of, and so are the windows
//! of Brotli and Zstandard: a body may ask for one of many MiB, but needs none that is larger than what it comes to.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::{
    Compression,
    bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder},
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};
use http::{HeaderMap, HeaderValue, header::CONTENT_ENCODING};

/// How many codings of one body are undone.
const MOST_CODINGS: usize = 3;

/// Why a body could not be decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CodingError {
    /// It names a coding that is not known, or too many.
    #[error("the coding of the body is not known")]
    Unknown,
    /// It is not in the coding that it names.
    #[error("the body is not coded as it says")]
    Broken,
    /// Decoded it is larger than the cap.
    #[error("the decoded body is too large")]
    TooLarge,
    /// To decode it takes more memory than it may.
    #[error("the body takes too much memory when it is decoded")]
    TooMuchMemory,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// A body as it was before it was coded.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    pub(crate) bytes: Bytes,
    /// What it was in.
    pub(crate) again: Again,
}

impl Decoded {
    /// The same; what stands for it is to be coded so.
    pub(crate) fn recoded(mut self, recode: Recode) -> Self {
        if recode == Recode::Plain && self.again != Again::Plain {
            self.again = Again::Dropped;
        }
        self
    }
}

/// How a body is coded that stands for a decoded one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Again {
    /// It was not coded, and is not.
    Plain,
    /// In the coding that it was in.
    Gzip,
    /// With the frame of zlib, as HTTP has it.
    Zlib,
    /// Without, as some send it.
    Deflate,
    /// It was in what is not written here, and is sent plain.
    Dropped,
}

/// The codings that headers name, the first applied first.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, CodingError> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| CodingError::Unknown)?;
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            codings.push(match &*name.to_ascii_lowercase() {
                "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                _ => return Err(CodingError::Unknown),
            });
        }
    }
    if codings.len() > MOST_CODINGS {
        return Err(CodingError::Unknown);
    }
    Ok(codings)
}

/// Undoes the codings that headers name. What is not coded is not copied. It takes so much memory, beside the body
/// and what codecs take for themselves.
pub(crate) fn decode(
    headers: &HeaderMap,
    body: &Bytes,
    most: usize,
    room: usize,
) -> Result<Decoded, CodingError> {
    let codings = codings(headers)?;
    let mut again = match codings.as_slice() {
        [] => Again::Plain,
        [Coding::Gzip] => Again::Gzip,
        _ => Again::Dropped,
    };
    let mut bytes = body.clone();
    for (at, coding) in codings.iter().rev().enumerate() {
        // What comes of one coding is held while the next is undone.
        let room = match at {
            0 => room,
            _ => room.saturating_sub(bytes.len()),
        };
        bytes = match coding {
            Coding::Gzip => read(|| Ok(MultiGzDecoder::new(&*bytes)), most, room)?,
            Coding::Brotli => brotli(&bytes, most, room)?,
            Coding::Zstd => zstd(&bytes, most, room)?,
            // The name means the frame of zlib; but many send what is within it alone.
            Coding::Deflate => {
                let framed = read(|| Ok(ZlibDecoder::new(&*bytes)), most, room);
                let (read, form) = match framed {
                    Err(CodingError::Broken) => {
                        let bare = read(|| Ok(DeflateDecoder::new(&*bytes)), most, room);
                        (bare, Again::Deflate)
                    }
                    framed => (framed, Again::Zlib),
                };
                if codings.len() == 1 {
                    again = form;
                }
                read?
            }
        };
    }
    if bytes.len() > most {
        return Err(CodingError::TooLarge);
    }
    Ok(Decoded { bytes, again })
}

/// How much is decoded at once.
const PIECE: usize = 16 << 10;

/// Reads what a decoder gives. Where there is no room for a buffer to grow into another, what comes is counted first,
/// and then decoded again.
fn read<R: Read>(
    open: impl Fn() -> Result<R, CodingError>,
    most: usize,
    room: usize,
) -> Result<Bytes, CodingError> {
    let mut reader = open()?;
    let mut bytes = Vec::new();
    loop {
        if bytes.len() > most {
            return Err(CodingError::TooLarge);
        }
        let capacity = bytes.capacity();
        if bytes.len() == capacity {
            let wished = (2 * capacity).max(PIECE).min(most.saturating_add(1));
            if capacity + wished > room {
                break;
            }
            bytes.reserve_exact(wished - bytes.len());
        }
        if fill(&mut reader, &mut bytes)? == 0 {
            if bytes.capacity() + bytes.len() > room {
                break;
            }
            return Ok(bytes.into_boxed_slice().into());
        }
    }
    drop(bytes);
    drop(reader);
    let mut reader = open()?;
    let mut piece = Vec::with_capacity(PIECE.min(room));
    let mut length = 0_usize;
    loop {
        match fill(&mut reader, &mut piece)? {
            0 => break,
            more => length += more,
        }
        piece.clear();
        if length > most {
            return Err(CodingError::TooLarge);
        }
    }
    if length.saturating_add(piece.capacity()) > room {
        return Err(CodingError::TooMuchMemory);
    }
    let mut reader = open()?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length && fill(&mut reader, &mut bytes)? > 0 {}
    Ok(bytes.into())
}

/// Reads a piece into a buffer that has room; tells its length.
fn fill(reader: &mut impl Read, bytes: &mut Vec<u8>) -> Result<usize, CodingError> {
    let start = bytes.len();
    bytes.resize(bytes.capacity().min(start + PIECE), 0);
    let read = reader
        .read(&mut bytes[start..])
        .map_err(|_| CodingError::Broken)?;
    bytes.truncate(start + read);
    Ok(read)
}

/// A window of a decoder.
struct Window {
    /// How it is written in the body.
    byte: u8,
    /// What a decoder takes for it, besides what one takes for itself.
    takes: usize,
    /// How much may come with it.
    may_come: usize,
}

/// Tries windows that are larger and larger, until one is large enough for what comes: what refers to nothing further
/// back than its beginning needs no larger one.
fn with_windows(
    windows: impl Iterator<Item = Window>,
    most: usize,
    room: usize,
    read: impl Fn(u8, usize, usize) -> Result<Bytes, CodingError>,
) -> Result<Bytes, CodingError> {
    for window in windows {
        let Some(left) = room.checked_sub(window.takes) else {
            break;
        };
        let is_enough = window.may_come >= most;
        match read(window.byte, most.min(window.may_come), left) {
            Err(CodingError::TooLarge | CodingError::Broken) if !is_enough => {}
            read => return read,
        }
    }
    Err(CodingError::TooMuchMemory)
}

/// Brotli: the window is in the first bits, and of 18 to 24 bits it is three of them that say it.
fn brotli(bytes: &[u8], most: usize, room: usize) -> Result<Bytes, CodingError> {
    const BUFFER: usize = 4096;
    /// The largest that is written otherwise.
    const SMALL: usize = 1 << 17;
    let (&first, rest) = bytes.split_first().ok_or(CodingError::Broken)?;
    let asked = first >> 1 & 7;
    if first & 1 == 0 || asked == 0 {
        let decoder = || Ok(brotli_decompressor::Decompressor::new(bytes, BUFFER));
        return read(decoder, most, room);
    }
    let windows = (1..=asked).map(|bits| {
        let window = SMALL << bits;
        Window {
            byte: first & !0b1110 | bits << 1,
            takes: match bits {
                1 => 0,
                _ => window,
            },
            may_come: match bits == asked {
                true => usize::MAX,
                false => window - 64,
            },
        }
    });
    with_windows(windows, most, room, |byte, most, room| {
        let first = [byte];
        let decoder = || {
            let patched = first.chain(rest);
            Ok(brotli_decompressor::Decompressor::new(patched, BUFFER))
        };
        read(decoder, most, room)
    })
}

/// Zstandard: the window is in a byte of the header, or it is as large as what comes.
fn zstd(bytes: &[u8], most: usize, room: usize) -> Result<Bytes, CodingError> {
    /// Exponents and mantissas: with each there is room for a block and a piece between the window and the power of two
    /// that the decoder gets for it.
    const WINDOWS: [(u8, u8); 8] = [
        (7, 0),
        (8, 2),
        (9, 4),
        (10, 6),
        (11, 6),
        (12, 6),
        (13, 6),
        (14, 6),
    ];
    let (header, asked, rest) = zstd_header(bytes).ok_or(CodingError::Broken)?;
    let windows = WINDOWS.into_iter().map(|(exponent, mantissa)| {
        let base = 1_usize << (10 + exponent);
        let window = base + base / 8 * usize::from(mantissa);
        Window {
            byte: exponent << 3 | mantissa,
            takes: match exponent {
                7 => 0,
                _ => 2 * base,
            },
            may_come: match window >= asked {
                true => usize::MAX,
                false => window,
            },
        }
    });
    with_windows(windows, most, room, |byte, most, room| {
        let mut header = header;
        header[5] = byte;
        let decoder = || {
            let patched = header.chain(rest);
            let decoder = ruzstd::decoding::StreamingDecoder::new(patched);
            decoder.map_err(|_| CodingError::Broken)
        };
        read(decoder, most, room)
    })
}

/// The header of a frame with a byte for its window, the window that it asks for, and what is behind that byte.
fn zstd_header(bytes: &[u8]) -> Option<([u8; 6], usize, &[u8])> {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let (head, rest) = bytes.split_at_checked(5)?;
    let descriptor = head[4];
    let header = |descriptor| {
        let mut header = [0; 6];
        header[..5].copy_from_slice(head);
        header[4] = descriptor;
        header
    };
    if descriptor & SINGLE_SEGMENT == 0 {
        let (&byte, rest) = rest.split_first()?;
        let base = 1_usize.checked_shl(10 + u32::from(byte >> 3))?;
        let asked = base.saturating_add(base / 8 * usize::from(byte & 7));
        return Some((header(descriptor), asked, rest));
    }
    // In place of the window there is how much comes; where that is a byte, it is there only without a window.
    let length_of_id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let (length, besides) = [(1, 0), (2, 256), (4, 0), (8, 0)][usize::from(descriptor >> 6)];
    let mut comes = [0; 8];
    comes[..length].copy_from_slice(rest.get(length_of_id..length_of_id + length)?);
    let asked = usize::try_from(u64::from_le_bytes(comes)).unwrap_or(usize::MAX);
    let rest = match length {
        // Dictionaries are not known here, so there is no id of one either.
        1 if length_of_id == 0 => rest.get(1..)?,
        1 => return None,
        _ => rest,
    };
    let header = header(descriptor & !SINGLE_SEGMENT);
    Some((header, asked.saturating_add(besides), rest))
}

/// What becomes of a coding that was undone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recode {
    /// The new body is coded as the old one, where that coding is written here.
    AsBefore,
    /// The new body is plain.
    Plain,
}

/// Codes what stands for a decoded body as that was, where this is known, and says so in the headers. Where there is
/// no room for that, beside the body and what codecs take for themselves, it stays plain.
pub(crate) fn encode(again: Again, body: Vec<u8>, headers: &mut HeaderMap, room: usize) -> Bytes {
    let level = Compression::default();
    let out = Within {
        bytes: Vec::new(),
        room,
    };
    let (name, coded) = match again {
        Again::Plain => return body.into(),
        Again::Dropped => ("", Err(io::ErrorKind::Unsupported.into())),
        Again::Gzip => {
            let mut encoder = GzEncoder::new(out, level);
            let coded = encoder.write_all(&body).and_then(|()| encoder.finish());
            ("gzip", coded)
        }
        Again::Zlib => {
            let mut encoder = ZlibEncoder::new(out, level);
            let coded = encoder.write_all(&body).and_then(|()| encoder.finish());
            ("deflate", coded)
        }
        Again::Deflate => {
            let mut encoder = DeflateEncoder::new(out, level);
            let coded = encoder.write_all(&body).and_then(|()| encoder.finish());
            ("deflate", coded)
        }
    };
    match coded {
        Ok(Within { bytes, .. }) => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
            bytes.into()
        }
        Err(_) => {
            headers.remove(CONTENT_ENCODING);
            body.into()
        }
    }
}

/// A buffer that grows up to a size, together with what it grows out of.
struct Within {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Within {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let capacity = self.bytes.capacity();
        let needed = self.bytes.len() + piece.len();
        if needed > capacity {
            let twice = needed.max(2 * capacity);
            let wished = match capacity + twice > self.room {
                true => needed,
                false => twice,
            };
            if capacity + wished > self.room {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            self.bytes.reserve_exact(wished - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn headers(coding: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, coding.parse().unwrap());
        headers
    }

    #[track_caller]
    fn check(coding: &str, body: &[u8], expected: Result<&str, CodingError>) {
        let decoded = decode(&headers(coding), &Bytes::copy_from_slice(body), 64, 1 << 20);
        let text = decoded.map(|decoded| String::from_utf8(decoded.bytes.to_vec()).unwrap());
        assert_eq!(text.as_deref().map_err(|err| *err), expected, "{coding}");
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn bodies_are_decoded() {
        check("identity", b"plain", Ok("plain"));
        check("gzip", &gzip(b"hello"), Ok("hello"));
        check("GZIP", &gzip(b"hello"), Ok("hello"));
        check("gzip, gzip", &gzip(&gzip(b"hello")), Ok("hello"));
        check(
            "deflate",
            &[0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            Ok("hello"),
        );
        check(
            "br",
            &[0x0b, 0x02, 0x80, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x03],
            Ok("hello"),
        );
        let zstd = [
            0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x05, 0x29, 0x00, 0x00, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
        ];
        check("zstd", &zstd, Ok("hello"));
    }

    #[test]
    fn attack_45_what_says_one_thing_and_is_another_is_told() {
        check("gzip", b"hello", Err(CodingError::Broken));
        check("br", b"hello", Err(CodingError::Broken));
        check("zstd", b"hello", Err(CodingError::Broken));
        check("deflate", b"hello", Err(CodingError::Broken));
        check("compress", b"hello", Err(CodingError::Unknown));
        check("gzip, gzip, gzip, gzip", b"", Err(CodingError::Unknown));
    }

    #[test]
    fn attack_45_a_bomb_is_decoded_up_to_the_cap_alone() {
        check(
            "gzip",
            &gzip(&vec![b'x'; 1 << 20]),
            Err(CodingError::TooLarge),
        );
        check(
            "gzip, gzip",
            &gzip(&gzip(&vec![b'x'; 1 << 20])),
            Err(CodingError::TooLarge),
        );
    }

    #[test]
    fn bodies_are_coded_as_they_were() {
        for coding in ["gzip", "deflate"] {
            let raw: &[u8] = match coding {
                "gzip" => &gzip(b"hello"),
                _ => &[0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            };
            let mut headers = headers(coding);
            let decoded = decode(&headers, &Bytes::copy_from_slice(raw), 64, 1 << 20).unwrap();
            let again = encode(decoded.again, b"new".into(), &mut headers, 1 << 20);
            assert_eq!(headers[CONTENT_ENCODING], coding);
            assert_eq!(decode(&headers, &again, 64, 1 << 20).unwrap().bytes, "new");
        }
        let mut headers = headers("br");
        let body = Bytes::from_static(&[0x0b, 0x02, 0x80, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x03]);
        let decoded = decode(&headers, &body, 64, 1 << 20).unwrap();
        assert_eq!(
            encode(decoded.again, b"new".into(), &mut headers, 1 << 20),
            "new"
        );
        assert_eq!(headers.get(CONTENT_ENCODING), None);
    }
}
