//! The functions that hash tokens for the store.

use std::fmt;

use sha2::Sha256;
use smallvec::SmallVec;

use crate::store::StorageKey;

/// A function that hashes tokens, and passwords of old records.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HashFunction {
    /// Tyk's own cut of MurmurHash3: it looks at whole blocks of four bytes alone. Texts that differ
    /// in the one to three bytes after them, and all shorter than four, have one hash.
    Murmur32,
    /// The first half of [`Murmur128`](Self::Murmur128).
    Murmur64,
    /// MurmurHash3 for 64-bit machines.
    Murmur128,
    /// SHA-256, the only one here from which a token can not be made up.
    Sha256,
}

impl HashFunction {
    /// The function of this name in Tyk's settings and tokens.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "murmur32" => Some(Self::Murmur32),
            "murmur64" => Some(Self::Murmur64),
            "murmur128" => Some(Self::Murmur128),
            "sha256" => Some(Self::Sha256),
            _ => None,
        }
    }

    /// The name in Tyk's settings and tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Murmur32 => "murmur32",
            Self::Murmur64 => "murmur64",
            Self::Murmur128 => "murmur128",
            Self::Sha256 => "sha256",
        }
    }

    /// Hashes a text.
    pub fn hash(self, text: &str) -> Digest {
        let bytes = text.as_bytes();
        match self {
            Self::Murmur32 => Digest::of_bytes(&murmur32(bytes).to_be_bytes()),
            Self::Murmur64 => Digest::of_bytes(&murmur128(bytes).0.to_be_bytes()),
            Self::Murmur128 => {
                let (high, low) = murmur128(bytes);
                Digest::of_bytes(&(u128::from(high) << 64 | u128::from(low)).to_be_bytes())
            }
            Self::Sha256 => Digest::of_bytes(&<Sha256 as sha2::Digest>::digest(bytes)),
        }
    }
}

/// A hash, in lower-case hexadecimal digits. `Debug` does not print it, as a store is asked by it.
#[derive(Clone, Eq, PartialEq)]
pub struct Digest(SmallVec<[u8; 64]>); // Invariant: hexadecimal digits.

impl Digest {
    /// The digits of some bytes.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        Self(digits.map(|digit| HEX[usize::from(digit)]).collect())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits are ASCII")
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl From<Digest> for StorageKey {
    fn from(digest: Digest) -> Self {
        Self::of_ascii(digest.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// The state of MurmurHash3-32 after its whole blocks: Tyk's library hands it out before the tail,
/// the length and the last mix are in, and stored names are made of it.
fn murmur32(bytes: &[u8]) -> u32 {
    bytes.chunks_exact(4).fold(0, |hash: u32, block| {
        let block = block.try_into().expect("four bytes");
        let scrambled = u32::from_le_bytes(block)
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593);
        (hash ^ scrambled)
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64)
    })
}

/// MurmurHash3 x64-128 with seed zero.
fn murmur128(bytes: &[u8]) -> (u64, u64) {
    let blocks = bytes.chunks_exact(16);
    let tail = blocks.remainder();
    let (mut one, mut two) = (0, 0);
    for block in blocks {
        let (low, high) = halves(block.try_into().expect("sixteen bytes"));
        one = (one ^ scramble_one(low))
            .rotate_left(27)
            .wrapping_add(two)
            .wrapping_mul(5)
            .wrapping_add(0x52dc_e729);
        two = (two ^ scramble_two(high))
            .rotate_left(31)
            .wrapping_add(one)
            .wrapping_mul(5)
            .wrapping_add(0x3849_5ab5);
    }

    // A scrambled zero is zero, so a padded tail, and an empty one, come out as they should.
    let mut padded = [0; 16];
    padded[..tail.len()].copy_from_slice(tail);
    let (low, high) = halves(padded);
    let length = bytes.len() as u64;
    one ^= scramble_one(low) ^ length;
    two ^= scramble_two(high) ^ length;

    one = one.wrapping_add(two);
    two = two.wrapping_add(one);
    (one, two) = (last_mix(one), last_mix(two));
    one = one.wrapping_add(two);
    two = two.wrapping_add(one);
    (one, two)
}

fn halves(block: [u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(block);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    let low = both as u64;
    (low, (both >> 64) as u64)
}

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

fn scramble_one(half: u64) -> u64 {
    half.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn scramble_two(half: u64) -> u64 {
    half.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn last_mix(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::HashFunction::{self, Murmur32, Murmur64, Murmur128, Sha256};

    #[track_caller]
    fn check(function: HashFunction, text: &str, digits: &str) {
        assert_eq!(
            function.hash(text).as_str(),
            digits,
            "{function:?} of {text:?}"
        );
        assert_eq!(HashFunction::from_name(function.name()), Some(function));
    }

    #[test]
    fn bare_texts_have_the_hashes_tyk_gives_them() {
        check(Murmur32, "", "00000000");
        check(Murmur64, "", "0000000000000000");
        check(Murmur128, "", "00000000000000000000000000000000");
        check(Murmur32, "abc", "00000000");
        check(Murmur64, "abc", "b4963f3f3fad7867");
        check(Murmur128, "abc", "b4963f3f3fad78673ba2744126ca2d52");
        check(Murmur32, "abcd", "86a7049e");
        check(Murmur32, "abcdefg", "86a7049e");
        check(Murmur64, "abcd", "b87bb7d64656cd4f");
        check(Murmur64, "abcdefg", "a6cd2f9fc09ee499");
        check(Murmur32, "abcdefgh", "a6c877af");
        check(Murmur64, "abcdefgh", "cc8a0ab037ef8c02");
        check(Murmur128, "abcdefgh", "cc8a0ab037ef8c0248890d60eb6940a1");
        check(Murmur32, "hello", "ef13efcd");
        check(Murmur64, "hello", "cbd8a7b341bd9b02");
        check(Murmur128, "hello", "cbd8a7b341bd9b025b1e906a48ae1d19");
        check(Murmur32, "custom-key", "d46c8d92");
        check(Murmur64, "custom-key", "adc4a3939770e1d6");
        check(Murmur128, "custom-key", "adc4a3939770e1d609c50bb613a38d6b");
    }

    #[test]
    fn passwords_have_the_hashes_tyk_gives_them() {
        check(Murmur32, "password", "720d69a3");
        check(Murmur64, "password", "d5bd0cde2957bf46");
        check(Murmur128, "password", "d5bd0cde2957bf464f345112bc5a9590");
        let sha256 = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";
        check(Sha256, "password", sha256);
    }

    #[test]
    fn murmur32_does_not_see_the_tail() {
        for user in [
            "defaultuser1",
            "defaultuser12",
            "defaultuser123",
            "defaultuser1234",
        ] {
            check(Murmur32, user, "eec1090c");
        }
    }

    #[test]
    fn a_digest_is_not_printed() {
        assert_eq!(format!("{:?}", Sha256.hash("password")), "Digest(…)");
    }
}
