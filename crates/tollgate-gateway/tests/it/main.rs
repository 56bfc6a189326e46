//! The gateway as its users meet it: files, and the program.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod check;
mod load;
