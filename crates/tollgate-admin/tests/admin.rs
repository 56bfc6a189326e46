//! The control API as a router, over a store in memory and a gateway that is played.

#[path = "admin/corpus.rs"]
mod corpus;
#[path = "admin/gateway.rs"]
mod gateway;
#[path = "admin/world.rs"]
mod world;
