//! What is written of a session and of a counter.

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use serde_json::value::RawValue;
use tollgate_core::{Session, store::Version};

/// A stored session: version, end and JSON.
#[derive(Debug, PartialEq)]
pub(crate) struct Record<'a> {
    pub(crate) version: Version,
    /// Nanoseconds since 1970 at which the record ends; [`NEVER`] for one that stays.
    pub(crate) ends: u64,
    pub(crate) json: &'a str,
}

pub(crate) const NEVER: u64 = u64::MAX;

impl<'a> Record<'a> {
    /// `None` where it is not one.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = word(bytes)?;
        let (ends, json) = word(rest)?;
        Some(Self {
            version: Version(version),
            ends,
            json: std::str::from_utf8(json).ok()?,
        })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.json.len());
        bytes.extend_from_slice(&self.version.0.to_le_bytes());
        bytes.extend_from_slice(&self.ends.to_le_bytes());
        bytes.extend_from_slice(self.json.as_bytes());
        bytes
    }

    pub(crate) fn has_ended(&self, unix_nanos: u64) -> bool {
        self.ends <= unix_nanos
    }
}

fn word(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u64::from_le_bytes(*word), rest))
}

/// What the file says of a counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Mark {
    /// Never below what counts.
    pub(crate) units: u64,
    /// Nanoseconds since 1970 from which on none of them counts; [`NEVER`] for never.
    pub(crate) until: u64,
    /// When it was written, by the same clock.
    pub(crate) written: u64,
}

impl Mark {
    pub(crate) const LEN: usize = 24;

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (units, rest) = word(bytes)?;
        let (until, rest) = word(rest)?;
        let (written, rest) = word(rest)?;
        rest.is_empty().then_some(Self {
            units,
            until,
            written,
        })
    }

    pub(crate) fn write(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (place, word) in bytes
            .chunks_exact_mut(8)
            .zip([self.units, self.until, self.written])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn is_over(&self, unix_nanos: u64) -> bool {
        self.until != NEVER && self.until <= unix_nanos
    }

    /// How long it counts from `unix_nanos` on; `None` for ever. A clock that was set back does not make
    /// it last longer than it would have when it was written.
    pub(crate) fn left(&self, unix_nanos: u64) -> Option<u64> {
        if self.until == NEVER {
            return None;
        }
        let left = self.until.saturating_sub(unix_nanos);
        Some(left.min(self.until.saturating_sub(self.written)))
    }
}

/// The session as JSON without the members that are as in one that says nothing: a member that is
/// missing means just that, and most are.
pub(crate) fn slim(session: &Session) -> String {
    let json = session.to_json();
    slimmed(&json).unwrap_or(json)
}

type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn slimmed(json: &str) -> Option<String> {
    static PLAIN: LazyLock<BTreeMap<String, Box<RawValue>>> = LazyLock::new(|| {
        let plain = Session::default().to_json();
        serde_json::from_str(&plain).unwrap_or_default()
    });
    let mut members: Members<'_> = serde_json::from_str(json).ok()?;
    members.retain(|name, value| {
        let plain = PLAIN.get(&**name);
        plain.is_none_or(|plain| plain.get() != value.get())
    });
    serde_json::to_string(&members).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, stored: &str) {
        let session: Session = json.parse().unwrap();
        assert_eq!(slim(&session), stored);
        let again: Session = stored.parse().unwrap();
        assert_eq!(again.to_json(), session.to_json(), "nothing is lost");
    }

    #[test]
    fn a_session_is_stored_without_what_says_nothing() {
        check("{}", "{}");
        check(
            r#"{"rate": 10, "per": 60, "alias": ""}"#,
            r#"{"per":60,"rate":10}"#,
        );
        check(
            r#"{"quota_max": -1, "note": {"a": null}, "tags": null}"#,
            r#"{"note":{"a": null},"quota_max":-1}"#,
        );
    }

    #[test]
    fn records_and_marks_are_read_as_written() {
        let record = Record {
            version: Version(7),
            ends: 9,
            json: "{}",
        };
        assert_eq!(Record::read(&record.write()), Some(record));
        assert_eq!(Record::read(&[0; 15]), None);
        let mark = Mark {
            units: 1,
            until: 2,
            written: 3,
        };
        assert_eq!(Mark::read(&mark.write()), Some(mark));
        assert_eq!(Mark::read(&[0; 25]), None);
    }
}
