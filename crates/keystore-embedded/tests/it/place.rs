//! A store whose file is taken away while it is in use.

use std::fs;
use std::sync::Arc;

use kes_keystore::{KeyStore as _, Maintenance as _, StoreError};
use kes_keystore_embedded::EmbeddedStore;
use kes_types::SystemClock;
use tempfile::TempDir;

use crate::rig;

#[tokio::test]
async fn nothing_is_written_to_a_file_that_was_moved_away() {
    let folder = TempDir::new().unwrap();
    let (path, elsewhere) = (folder.path().join("keys.redb"), folder.path().join("elsewhere"));
    let store = EmbeddedStore::create(rig::config(&path), Arc::new(SystemClock))
        .await
        .unwrap();
    rig::create(&store, "before").await.unwrap();

    fs::rename(&path, &elsewhere).unwrap();
    for _ in 0..2 {
        let error = rig::create(&store, "lost").await.unwrap_err();
        let text = rig::chain(&error);
        assert!(
            matches!(error, StoreError::Backend { .. }) && text.contains("put it back"),
            "{text}"
        );
        assert!(rig::present(&store, "before").await.unwrap(), "reads go on");
        store.ping().await.unwrap();
    }
    // Neither to another one that has come in its place.
    fs::write(&path, "another").unwrap();
    rig::create(&store, "lost").await.unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"another");

    fs::rename(&elsewhere, &path).unwrap();
    rig::create(&store, "after").await.unwrap();
    assert_eq!(store.info().await.unwrap().keys, 2);
    store.close().await;

    let store = EmbeddedStore::open(rig::config(&path), Arc::new(SystemClock))
        .await
        .unwrap();
    assert_eq!(rig::list(&store, "").await.unwrap(), ["after", "before"]);
    store.close().await;
}
