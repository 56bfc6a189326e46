//! The gateway: reads Tyk's own files and serves them on the layers of `tollgate`.
//!
//! - [`config`]: `tyk.conf`, with overrides from the environment;
//! - [`definition`]: API definitions in Tyk's classic form;
//! - [`load`]: both, with policies, as one snapshot that was looked at as a whole;
//! - [`support`]: what becomes of every field that a file may ask for;
//! - [`problem`]: what is wrong, where, and what would help;
//! - [`schema`]: JSON schemas of the files.

pub mod config;
pub mod definition;
mod document;
pub mod load;
pub mod overrides;
pub mod problem;
pub mod record;
pub mod reference;
pub mod schema;
mod shape;
mod suggest;
pub mod support;
