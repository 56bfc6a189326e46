//! The suite that every store passes.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use tollgate_core::{ManualClock, store::conformance};
use tollgate_embedded::{Durability, EmbeddedOptions};

#[test]
fn it_is_a_store() {
    for durability in [Durability::Synced, Durability::Written] {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(1_700_000_000);
        let store = EmbeddedOptions::new(folder.path().join("store.redb"))
            .durability(durability)
            .clock(clock.clone())
            .open()
            .unwrap();
        conformance::block_on(conformance::sessions(&store, &clock));
        conformance::block_on(conformance::limits(&store, &clock));
    }
}
