//! Values as Go prints them: `%v`.

use crate::{
    error::Fault,
    float,
    out::Out,
    value::{Heap, Value},
};

/// How deeply values may hold each other where they are walked.
pub(crate) const DEEPEST_VALUE: usize = 200;

pub(crate) fn too_deep() -> Fault {
    Fault::limit("values hold each other too deeply")
}

/// Writes a value, up to `most` bytes in all.
pub(crate) fn print<'r>(
    heap: &'r Heap<'r>,
    out: &mut Out<'r>,
    value: Value<'r>,
    most: usize,
) -> Result<(), Fault> {
    nested(heap, out, value, most, 0)
}

/// The text of a value.
pub(crate) fn text<'r>(heap: &'r Heap<'r>, value: Value<'r>) -> Result<Vec<u8>, Fault> {
    let mut out = Out::new(heap);
    print(heap, &mut out, value, heap.left())?;
    Ok(out.into_bytes())
}

fn nested<'r>(
    heap: &'r Heap<'r>,
    out: &mut Out<'r>,
    value: Value<'r>,
    most: usize,
    depth: usize,
) -> Result<(), Fault> {
    if depth > DEEPEST_VALUE {
        return Err(too_deep());
    }
    match value {
        Value::Missing | Value::Nil => out.extend_from_slice(b"<nil>"),
        Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Int(value) | Value::Int64(value) => {
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        Value::Byte(value) => {
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
        Value::Float(value) => out.short(|out| float::general(out, value)),
        Value::Complex(real, imaginary) => out.short(|out| float::complex(out, real, imaginary)),
        Value::Str(text) => out.extend_from_slice(text),
        Value::List(list) => {
            out.push(b'[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push(b' ');
                }
                nested(heap, out, item, most, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Map(map) => {
            out.extend_from_slice(b"map[");
            for (at, (key, value)) in heap.entries(map).enumerate() {
                if at > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(key);
                out.push(b':');
                nested(heap, out, value, most, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Time(time) => out.extend_from_slice(time.to_string().as_bytes()),
        Value::Version(version) => out.extend_from_slice(version.to_string().as_bytes()),
        Value::Certificate(certificate) => {
            let mut text = Vec::new();
            certificate.print(&mut text);
            out.extend_from_slice(&text);
        }
    }
    if out.len() > most {
        return Err(heap.too_long());
    }
    out.is_whole()
}
