//! Records that have ended are dropped: a few are looked at with each commit, one after the other.

use std::ops::Bound::{Excluded, Unbounded};

use redb::{Error, ReadableTable};
use tollgate_core::Moment;

use crate::{
    file::{Meta, Tables},
    record::{Mark, Record},
    writer::size,
};

const SWEPT: usize = 4; // Of each kind, with each commit.

/// Where to go on.
#[derive(Default)]
pub(crate) struct Sweep {
    session: Option<String>,
    counter: Option<Vec<u8>>,
}

impl Sweep {
    pub(crate) fn go_on(
        &mut self,
        tables: &mut Tables<'_>,
        meta: &mut Meta,
        now: Moment,
    ) -> Result<(), Error> {
        self.sessions(tables, meta, now)?;
        self.counters(tables, now)
    }

    fn sessions(
        &mut self,
        tables: &mut Tables<'_>,
        meta: &mut Meta,
        now: Moment,
    ) -> Result<(), Error> {
        let from = self.session.as_deref().map_or(Unbounded, Excluded);
        let mut ended = Vec::new();
        let mut last = None;
        for entry in tables
            .sessions
            .range::<&str>((from, Unbounded))?
            .take(SWEPT)
        {
            let (key, record) = entry?;
            if Record::read(record.value()).is_some_and(|read| read.has_ended(now.unix_nanos)) {
                ended.push((key.value().to_owned(), size(key.value(), record.value())));
            }
            last = Some(key.value().to_owned());
        }
        for (key, size) in ended {
            tables.sessions.remove(key.as_str())?;
            meta.live = meta.live.saturating_sub(size);
        }
        self.session = last; // Past the end it starts anew.
        Ok(())
    }

    fn counters(&mut self, tables: &mut Tables<'_>, now: Moment) -> Result<(), Error> {
        let from = self.counter.as_deref().map_or(Unbounded, Excluded);
        let mut ended = Vec::new();
        let mut last = None;
        for entry in tables
            .counters
            .range::<&[u8]>((from, Unbounded))?
            .take(SWEPT)
        {
            let (name, mark) = entry?;
            if Mark::read(mark.value()).is_some_and(|mark| mark.is_over(now.unix_nanos)) {
                ended.push(name.value().to_owned());
            }
            last = Some(name.value().to_owned());
        }
        for name in ended {
            tables.counters.remove(&*name)?;
        }
        self.counter = last;
        Ok(())
    }
}
