//! Small writes, put together.
//!
//! A head and a short body come as two pieces. The system takes one piece for less than it takes a list of
//! them, by more than it costs to copy a few thousand bytes; see `docs/design/gateway.md`.

use std::io::IoSlice;

use smallvec::SmallVec;

/// How many bytes are copied at most.
const MOST: usize = 4096;

/// Writes pieces that are small together as one; `None` where they are not, and nothing is written.
pub(crate) fn as_one<T>(pieces: &[IoSlice<'_>], write: impl FnOnce(&[u8]) -> T) -> Option<T> {
    if let [piece] = pieces {
        return Some(write(piece));
    }
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    if MOST < length {
        return None;
    }
    let mut whole = SmallVec::<[u8; MOST]>::new();
    for piece in pieces {
        whole.extend_from_slice(piece);
    }
    Some(write(&whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&[u8]], whole: Option<&[u8]>) {
        let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        assert_eq!(as_one(&pieces, <[u8]>::to_vec).as_deref(), whole);
    }

    #[test]
    fn small_pieces_are_written_in_their_order() {
        check(&[b"head", b"body"], Some(b"headbody"));
        check(&[b"", b"body", b""], Some(b"body"));
        check(&[], Some(b""));
        let (half, more) = ([b'x'; MOST / 2], [b'x'; MOST / 2 + 1]);
        check(&[&half, &half], Some(&[b'x'; MOST]));
        check(&[&half, &more], None);
        check(&[&[b'x'; 2 * MOST]], Some(&[b'x'; 2 * MOST]));
    }
}
