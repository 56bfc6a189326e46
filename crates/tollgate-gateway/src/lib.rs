//! The gateway: reads Tyk's own files and serves them on the layers of `tollgate`.
//!
//! - [`config`]: `tyk.conf`, with overrides from the environment;
//! - [`definition`]: API definitions in Tyk's classic form;
//! - [`load`]: both, with policies, as one snapshot that was looked at as a whole;
//! - [`mod@reference`] and [`secret_stores`]: values that texts name and that are elsewhere;
//! - [`support`]: what becomes of every field that a file may ask for;
//! - [`problem`]: what is wrong, where, and what would help;
//! - [`compose`]: a definition becomes an [`api`], found by its [`route`];
//! - [`edge`]: what is decided before a key is looked for;
//! - [`proxy`] and [`serve`]: the way to upstreams, and the listeners;
//! - [`tls`]: which TLS is spoken on both; [`ports`] and [`sockets`]: where is listened;
//! - [`gateway`]: a snapshot in force, and how it is replaced;
//! - [`observe`]: the access log and metrics; [`health`]: whether the store answers.
//! - [`schema`]: JSON schemas of the files.

mod answer;
pub mod api;
pub mod compose;
pub mod config;
pub mod control;
pub mod definition;
mod document;
pub mod edge;
pub mod gateway;
pub mod health;
pub mod load;
pub mod meta_schema;
pub mod observe;
mod onward;
pub mod overrides;
pub mod ports;
pub mod problem;
pub mod proxy;
pub mod record;
pub mod reference;
pub mod route;
pub mod schema;
pub mod secret_stores;
pub mod serve;
mod serving;
mod shape;
mod small_writes;
pub mod sockets;
pub mod storage;
mod suggest;
pub mod support;
pub mod tls;
