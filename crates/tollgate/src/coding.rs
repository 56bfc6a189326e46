//! Codings of content: gzip, deflate, Brotli and Zstandard, undone up to a cap and done again.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::{
    Compression,
    read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder},
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
    again: Again,
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
enum Again {
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

/// Undoes the codings that headers name. What is not coded is not copied.
pub(crate) fn decode(
    headers: &HeaderMap,
    body: &Bytes,
    most: usize,
) -> Result<Decoded, CodingError> {
    let codings = codings(headers)?;
    let mut again = match codings.as_slice() {
        [] => Again::Plain,
        [Coding::Gzip] => Again::Gzip,
        _ => Again::Dropped,
    };
    let mut bytes = body.clone();
    for coding in codings.iter().rev() {
        bytes = match coding {
            Coding::Gzip => read(MultiGzDecoder::new(&*bytes), most)?,
            Coding::Brotli => read(brotli_decompressor::Decompressor::new(&*bytes, 4096), most)?,
            Coding::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(&*bytes);
                read(decoder.map_err(|_| CodingError::Broken)?, most)?
            }
            // The name means the frame of zlib; but many send what is within it alone.
            Coding::Deflate => match read(ZlibDecoder::new(&*bytes), most) {
                Err(CodingError::Broken) => {
                    if codings.len() == 1 {
                        again = Again::Deflate;
                    }
                    read(DeflateDecoder::new(&*bytes), most)?
                }
                read => {
                    if codings.len() == 1 {
                        again = Again::Zlib;
                    }
                    read?
                }
            },
        };
    }
    if bytes.len() > most {
        return Err(CodingError::TooLarge);
    }
    Ok(Decoded { bytes, again })
}

fn read(reader: impl Read, most: usize) -> Result<Bytes, CodingError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(limit).read_to_end(&mut bytes);
    read.map_err(|_| CodingError::Broken)?;
    if bytes.len() > most {
        return Err(CodingError::TooLarge);
    }
    Ok(bytes.into())
}

/// What becomes of a coding that was undone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recode {
    /// The new body is coded as the old one, where that coding is written here.
    AsBefore,
    /// The new body is plain.
    Plain,
}

/// Codes what stands for a decoded body as that was, where this is known, and says so in the headers.
pub(crate) fn encode(decoded: &Decoded, body: Vec<u8>, headers: &mut HeaderMap) -> Bytes {
    let level = Compression::default();
    let written = |encoded: io::Result<Vec<u8>>| encoded.unwrap_or_default(); // Memory does not fail.
    let (name, body) = match decoded.again {
        Again::Plain => return body.into(),
        Again::Dropped => {
            headers.remove(CONTENT_ENCODING);
            return body.into();
        }
        Again::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            (
                "gzip",
                written(encoder.write_all(&body).and_then(|()| encoder.finish())),
            )
        }
        Again::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            (
                "deflate",
                written(encoder.write_all(&body).and_then(|()| encoder.finish())),
            )
        }
        Again::Deflate => {
            let mut encoder = DeflateEncoder::new(Vec::new(), level);
            (
                "deflate",
                written(encoder.write_all(&body).and_then(|()| encoder.finish())),
            )
        }
    };
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
    body.into()
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
        let decoded = decode(&headers(coding), &Bytes::copy_from_slice(body), 64);
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
            let decoded = decode(&headers, &Bytes::copy_from_slice(raw), 64).unwrap();
            let again = encode(&decoded, b"new".into(), &mut headers);
            assert_eq!(headers[CONTENT_ENCODING], coding);
            assert_eq!(decode(&headers, &again, 64).unwrap().bytes, "new");
        }
        let mut headers = headers("br");
        let body = Bytes::from_static(&[0x0b, 0x02, 0x80, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x03]);
        let decoded = decode(&headers, &body, 64).unwrap();
        assert_eq!(encode(&decoded, b"new".into(), &mut headers), "new");
        assert_eq!(headers.get(CONTENT_ENCODING), None);
    }
}
