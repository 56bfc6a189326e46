//! Stories through real stacks, by subject.

mod attacks;
mod bodies;
mod cancel;
mod coverage;
mod examples;
mod failing_store;
mod observe;
mod order;
mod peers;
mod stack;
mod support;
mod walls;
