//! What must hold of anything that is read: sessions, policies, tokens, texts, paths, rewrites, templates and
//! documents of XML.
//!
//! Each module has a `check`, which takes any bytes and panics where something does not hold. The
//! fuzz targets call it with what libFuzzer makes up; `tests/seeds.rs` of the workspace calls it with
//! every file under `seeds`.
//!
//! Inputs of several parts are lines of text, so that a seed can be read and written by hand.

pub mod numbers;
pub mod paths;
pub mod policies;
pub mod rewrites;
pub mod session;
pub mod templates;
pub mod tokens;
pub mod variables;
pub mod xml;

/// Panics where something does not hold of the input.
pub type Property = fn(&[u8]);

/// The targets by the names of their folders under `seeds`.
pub const TARGETS: [(&str, Property); 8] = [
    ("session", session::check),
    ("policies", policies::check),
    ("tokens", tokens::check),
    ("variables", variables::check),
    ("paths", paths::check),
    ("rewrites", rewrites::check),
    ("templates", templates::check),
    ("xml", xml::check),
];
