//! The control API as a router, over a store in memory and a gateway that is played.

#![expect(clippy::unwrap_used, reason = "what fails here is a test")]

#[path = "admin/access.rs"]
mod access;
#[path = "admin/beyond.rs"]
mod beyond;
#[path = "admin/corpus.rs"]
mod corpus;
#[path = "admin/counters.rs"]
mod counters;
#[path = "admin/gateway.rs"]
mod gateway;
#[path = "admin/rotation.rs"]
mod rotation;
#[path = "admin/routes.rs"]
mod routes;
#[path = "admin/world.rs"]
mod world;
