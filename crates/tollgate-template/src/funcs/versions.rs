//! Versions.

use super::{Function, Str, of, str_of};
use crate::{
    error::Fault,
    semver::{Version, meets},
    value::Value,
};

pub(super) const ALL: &[Function] = &[
    of("semver", &[Str], |render, given| {
        render.heap.charge(256)?;
        let version = Version::parse(&str_of(given[0]));
        let version = version.ok_or_else(|| Fault::new("Invalid Semantic Version"))?;
        Ok(render.heap.version(version))
    }),
    of("semverCompare", &[Str, Str], |render, given| {
        let (constraint, version) = (str_of(given[0]), str_of(given[1]));
        render.step(constraint.len() + version.len())?;
        let met = meets(&constraint, &version);
        met.map(Value::Bool)
            .ok_or_else(|| Fault::new("improper constraint or version"))
    }),
];
