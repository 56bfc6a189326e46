//! Proxy and server over real sockets: both ends are played by the test.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "shared/ports.rs"]
mod ports;

mod proxy {
    mod attacks;
    mod errors;
    mod http2;
    mod requests;
    mod retries;
    mod slow;
    mod stop;
    mod streaming;
    mod support;
    mod tls;
    mod upgrades;
}
