//! What every key store promises, for this one, alone and as a server uses it.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::sync::Arc;

use kes_keystore::conformance::{self, Subject};
use kes_keystore::{Limited, Limits};
use tempfile::TempDir;

use crate::connect;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_keeps_every_promise_of_a_store() {
    let folders = RefCell::new(Vec::new());
    conformance::all(async || {
        let folder = TempDir::new().unwrap();
        let store = connect(&folder.path().join("keys")).await;
        folders.borrow_mut().push(folder);
        Arc::new(store) as Subject
    })
    .await;
}

#[tokio::test]
async fn it_keeps_them_within_limits() {
    let folders = RefCell::new(Vec::new());
    conformance::all(async || {
        let folder = TempDir::new().unwrap();
        let store = Arc::new(connect(folder.path()).await);
        folders.borrow_mut().push(folder);
        let limits = Limits {
            at_once: NonZeroUsize::new(20).unwrap(),
            ..Limits::default()
        };
        Arc::new(Limited::new(store, limits)) as Subject
    })
    .await;
}
