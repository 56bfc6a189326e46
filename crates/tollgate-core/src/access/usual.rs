//! Paths in which nothing has to be looked at twice, told at one look: most are.
//!
//! Every request's path is read more than once on its way, so eight bytes are compared together, each in its
//! own eighth of a number.

/// Whether a path is one of segments of letters, digits, `-`, `_` and `~`, none of them empty but the last.
#[inline]
pub(super) fn is_usual(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let Some(last) = path.last_chunk() else {
        let mut padded = [b'-'; 8];
        padded[..path.len()].copy_from_slice(path);
        return Eight::of(&padded).are_usual();
    };
    let mut behind_slash = 0;
    for eight in path.chunks_exact(8).filter_map(<[u8]>::first_chunk) {
        let eight = Eight::of(eight);
        let slashes = eight.equal(b'/');
        if !eight.are_usual() || slashes & behind_slash != 0 {
            return false;
        }
        behind_slash = slashes >> 56;
    }
    // What is left, and what came before once more.
    Eight::of(last).are_usual()
}

/// Eight bytes. Where bytes are told apart, the highest bit of a byte's eighth says yes.
#[derive(Clone, Copy)]
struct Eight(u64);

const ONES: u64 = u64::from_le_bytes([1; 8]);
const YES: u64 = u64::from_le_bytes([0x80; 8]);

impl Eight {
    fn of(bytes: &[u8; 8]) -> Self {
        Self(u64::from_le_bytes(*bytes))
    }

    #[inline]
    fn are_usual(self) -> bool {
        let small = Self(self.0 | (ONES * 0x20));
        let letters = small.at_least(b'a') & !small.at_least(b'z' + 1);
        let digits_and_slashes = self.at_least(b'/') & !self.at_least(b'9' + 1);
        let marks = self.equal(b'-') | self.equal(b'_') | self.equal(b'~');
        let slashes = self.equal(b'/');
        let is_ascii = self.0 & YES == 0; // Nothing above holds where it is not.
        is_ascii
            && (letters | digits_and_slashes | marks) & YES == YES
            && slashes & (slashes << 8) == 0
    }

    /// Which bytes are this or more, where all are ASCII: nothing is carried over to the next byte.
    fn at_least(self, byte: u8) -> u64 {
        self.0.wrapping_add(ONES * u64::from(0x80 - byte)) & YES
    }

    /// Which bytes are this, where all are ASCII.
    fn equal(self, byte: u8) -> u64 {
        let differences = self.0 ^ (ONES * u64::from(byte));
        !differences.wrapping_add(ONES * 0x7F) & YES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_usual_byte_by_byte(path: &[u8]) -> bool {
        let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_~/".contains(byte);
        path.first() == Some(&b'/')
            && path.iter().all(is_usual)
            && !path.windows(2).any(|pair| pair == b"//")
    }

    #[test]
    fn every_byte_counts_in_every_place() {
        for length in 1..=26 {
            let mut path = vec![b'x'; length];
            path[0] = b'/';
            for place in 0..length {
                let before = path[place];
                for byte in 0..=u8::MAX {
                    path[place] = byte;
                    let expected = is_usual_byte_by_byte(&path);
                    assert_eq!(is_usual(&path), expected, "{path:?}");
                }
                path[place] = before;
            }
        }
    }

    #[test]
    fn two_slashes_are_seen_in_every_place() {
        for length in 2..=26 {
            for place in 0..length - 1 {
                let mut path = vec![b'x'; length];
                path[0] = b'/';
                path[place] = b'/';
                path[place + 1] = b'/';
                assert!(!is_usual(&path), "{path:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_is_what_it_is_byte_by_byte(path in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(is_usual(&path), is_usual_byte_by_byte(&path));
        }

        #[test]
        fn of_nearly_usual_ones_too(path in "/[a-zA-Z0-9/_~.%{-]{0,40}") {
            let path = path.as_bytes();
            prop_assert_eq!(is_usual(path), is_usual_byte_by_byte(path));
        }
    }
}
