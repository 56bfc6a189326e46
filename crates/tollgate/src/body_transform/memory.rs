//! How much memory the transform of one body takes.

/// How much memory a transform may take at any moment: twice as much as the largest body that is read, and a little that
/// does not depend on it ([`FLOOR`](Self::FLOOR); [`CODEC`](Self::CODEC) where the body is in a coding).
///
/// All that is got for one body has to fit: the body as it came, what it is decoded to, what it is read into, what the
/// template makes on the way, and what it writes. A buffer that grows counts with the one that it grows out of. What does
/// not fit is refused, or goes on as it came, as [`OnTransformError`](super::OnTransformError) says.
/// What the template is given besides, the session's metadata and the request, is theirs and not counted.
///
/// ```
/// use tollgate::body_transform::{BodyTransform, Given, Memory};
///
/// let counts = BodyTransform::parse("counts", "{{ len .array }}")?;
/// let doubles = BodyTransform::parse("doubles", "{{ .array | jsonMarshal }}{{ .array | jsonMarshal }}")?;
/// let body = format!("[{}7]", "7,".repeat(499_999));
/// let room = Memory::for_bodies_up_to(body.len()).besides(body.len());
/// assert_eq!(counts.render_within(body.as_bytes(), &Given::nothing(), room)?, b"500000");
/// let refused = doubles.render_within(body.as_bytes(), &Given::nothing(), room);
/// assert!(refused.is_err_and(|err| err.is_too_large()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Memory {
    most: usize,
}

impl Memory {
    /// What there is however small the cap is, in bytes.
    pub const FLOOR: usize = 64 << 10;

    /// What decoders and encoders take for themselves besides, in bytes: tables, buffers of a fixed
    /// size, and a first window.
    pub const CODEC: usize = 1 << 20;

    /// The memory where bodies of up to so many bytes are read.
    pub const fn for_bodies_up_to(cap: usize) -> Self {
        Self {
            most: cap.saturating_mul(2).saturating_add(Self::FLOOR),
        }
    }

    /// How many bytes are left beside a body of this size.
    #[must_use]
    pub const fn besides(self, body: usize) -> usize {
        self.most.saturating_sub(body)
    }
}
