//! The pages under `docs/` and the README, compiled and run.
