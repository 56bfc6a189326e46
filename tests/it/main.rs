//! Stories through real stacks, by subject.

#![expect(clippy::unwrap_used, reason = "what fails here is a test")]

mod attacks;
mod bodies;
mod cancel;
mod coverage;
mod examples;
mod express;
mod failing_store;
mod lessons;
mod observe;
mod order;
mod peers;
mod stack;
mod support;
mod walls;
