//! Reads a form for one rendering.

use std::borrow::Cow;

use crate::{
    error::Fault,
    read::grouped,
    value::{Entry, Heap, Value},
};

/// The members of a form, as [`form`](crate::form) has them. The list is counted by the heap.
pub(crate) fn members<'r>(heap: &'r Heap<'r>, body: &'r [u8]) -> Result<Vec<Entry<'r>>, Fault> {
    /// Buffers that grow while a field is decoded, and what is kept of it.
    const BUFFERS: usize = 8;
    let kept = |text: Cow<'r, str>| match text {
        Cow::Borrowed(text) => Ok(text.as_bytes()),
        Cow::Owned(text) => heap.kept(text.as_bytes()),
    };
    let mut members = Vec::new();
    let most = memchr::memchr_iter(b'&', body).count() + 1;
    heap.grow(&mut members, most, 0)?;
    for field in body.split(|byte| *byte == b'&') {
        let is_plain = memchr::memchr2(b'%', b'+', field).is_none();
        if !is_plain {
            heap.room_for(BUFFERS * field.len())?;
        }
        for (name, value) in form_urlencoded::parse(field) {
            heap.reserve(&mut members, 1)?;
            members.push((kept(name)?, Value::Str(kept(value)?)));
        }
    }
    grouped(heap, &mut members, 0, |_| false)?;
    Ok(members)
}
