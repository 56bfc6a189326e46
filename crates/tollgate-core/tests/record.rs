//! The record as Tyk prints it, and the tokens it is found by.
//!
//! `fixtures/documented_session.json` is the session object of Tyk's documents. The other fixtures
//! are what a Tyk gateway 5.6.0 answered and stored, with moments and random texts filled in.

#![expect(clippy::unwrap_used, reason = "a test that fails")]

#[path = "record/decoding.rs"]
mod decoding;
#[path = "record/encoding.rs"]
mod encoding;
#[path = "record/printed.rs"]
mod printed;
#[path = "record/rules.rs"]
mod rules;
#[path = "record/tokens.rs"]
mod tokens;
