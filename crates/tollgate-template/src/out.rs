//! What a rendering writes into: a text that grows within the memory of its heap.

use crate::{error::Fault, value::Heap};

/// A text that is being written. What there is no room for is left out, and the text is then given to nobody.
pub(crate) struct Out<'r> {
    heap: &'r Heap<'r>,
    bytes: Vec<u8>,
    /// How long it may well become, so that it need not grow there by many steps.
    likely: usize,
    is_full: bool,
}

impl<'r> Out<'r> {
    pub(crate) fn new(heap: &'r Heap<'r>) -> Self {
        Self {
            heap,
            bytes: Vec::new(),
            likely: 0,
            is_full: false,
        }
    }

    /// With room for so many bytes, where there is any, and what it may well come to.
    pub(crate) fn with_room(heap: &'r Heap<'r>, room: usize, likely: usize) -> Self {
        let mut out = Self::new(heap);
        out.likely = likely;
        if heap.hold(room).is_ok() {
            out.bytes.reserve_exact(room);
        }
        out
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Room for some more bytes.
    #[inline]
    fn has_room(&mut self, more: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= more || self.grows(more)
    }

    #[cold]
    fn grows(&mut self, more: usize) -> bool {
        const LONG: usize = 32 << 10;
        let twice = self.bytes.capacity().saturating_mul(2);
        let wished = match twice.max(self.bytes.len() + more) > LONG {
            true => twice.max(self.likely),
            false => twice,
        };
        if !self.is_full && self.heap.grow(&mut self.bytes, more, wished).is_ok() {
            return true;
        }
        self.is_full = true;
        false
    }

    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        if self.has_room(1) {
            self.bytes.push(byte);
        }
    }

    #[inline]
    pub(crate) fn extend_from_slice(&mut self, text: &[u8]) {
        if self.has_room(text.len()) {
            self.bytes.extend_from_slice(text);
        }
    }

    pub(crate) fn spaces(&mut self, length: usize) {
        if self.has_room(length) {
            self.bytes.extend(std::iter::repeat_n(b' ', length));
        }
    }

    /// Writes something short: a number, a time.
    pub(crate) fn short(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        const SHORT: usize = 128;
        if self.has_room(SHORT) {
            write(&mut self.bytes);
        }
    }

    /// Fails where something was left out.
    pub(crate) fn is_whole(&self) -> Result<(), Fault> {
        if self.is_full {
            return Err(Fault::memory());
        }
        Ok(())
    }

    /// The text. It is counted no longer.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.heap.release(self.bytes.capacity());
        self.bytes
    }
}
