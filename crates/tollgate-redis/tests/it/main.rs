//! The store on real servers that each test starts on a free port.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod conformance;
mod server;
