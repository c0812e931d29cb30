//! What every key store promises, for this one in each of its forms, against a real Vault.

use std::sync::Arc;

use kes_keystore::conformance::{self, Subject};
use kes_keystore_vault::KvVersion;

use crate::rig::Place;

/// Each promise gets an engine of its own.
async fn keeps_every_promise(place: impl Fn() -> Place<'static>) {
    conformance::all(async || Arc::new(place().store().await) as Subject).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn version_1_keeps_every_promise_of_a_store() {
    keeps_every_promise(|| Place::new(KvVersion::V1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn version_2_keeps_every_promise_of_a_store() {
    keeps_every_promise(|| Place::new(KvVersion::V2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn version_2_with_a_prefix_and_transit_keeps_every_promise_of_a_store() {
    keeps_every_promise(|| {
        Place::new(KvVersion::V2)
            .with_prefix("a folder/keys")
            .with_transit()
    })
    .await;
}
