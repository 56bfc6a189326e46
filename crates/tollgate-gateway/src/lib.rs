//! Tollgate as a program: files in, gateway out.

pub mod proxy;
pub mod serve;
