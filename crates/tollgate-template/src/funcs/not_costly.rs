//! In place of functions that this build does not have: see the feature `costly`.

use super::Answer;
use crate::{error::Fault, render::Render, value::Value};

macro_rules! not_built {
    ($($name:ident)*) => {
        $(pub(super) fn $name<'r>(_: &mut Render<'r>, _: &[Value<'r>]) -> Answer<'r> {
            Err(Fault::new("this build does not have the function"))
        })*
    };
}

not_built!(bcrypt htpasswd derive_password private_key authority self_signed signed custom);
