//! Stories through real stacks, by subject.

mod bodies;
mod cancel;
mod examples;
mod failing_store;
mod observe;
mod order;
mod peers;
mod stack;
mod support;
mod walls;
