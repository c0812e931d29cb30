//! A store whose file is taken away while it is in use, and what the log says of it.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};

use kes_keystore::{KeyStore as _, Maintenance as _, StoreError};
use kes_keystore_embedded::EmbeddedStore;
use kes_types::SystemClock;
use tempfile::TempDir;

use crate::rig;

#[tokio::test]
async fn nothing_is_written_to_a_file_that_was_moved_away() {
    let folder = TempDir::with_prefix(MARK).unwrap();
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .finish();
    // For the thread that writes, too. No other test of this program sets one.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let (path, elsewhere) = (folder.path().join("keys.redb"), folder.path().join("elsewhere"));
    let store = EmbeddedStore::create(rig::config(&path), Arc::new(SystemClock))
        .await
        .unwrap();
    rig::create(&store, "before").await.unwrap();

    fs::rename(&path, &elsewhere).unwrap();
    for _ in 0..3 {
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
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "once and not for every request: {lines:?}");
    assert!(
        lines[0].contains("ERROR") && lines[0].contains("neither created nor deleted"),
        "{lines:?}"
    );
    assert!(lines[0].contains("put it back"), "the reason: {lines:?}");

    fs::rename(&elsewhere, &path).unwrap();
    assert!(matches!(
        rig::create(&store, "before").await,
        Err(StoreError::Exists)
    ));
    assert_eq!(log.lines().len(), 1, "nothing was written yet");
    rig::create(&store, "after").await.unwrap();
    let lines = log.lines();
    assert!(
        lines.len() == 2 && lines[1].contains("created and deleted again"),
        "{lines:?}"
    );
    assert_eq!(store.info().await.unwrap().keys, 2);
    store.close().await;

    let store = EmbeddedStore::open(rig::config(&path), Arc::new(SystemClock))
        .await
        .unwrap();
    assert_eq!(rig::list(&store, "").await.unwrap(), ["after", "before"]);
    store.close().await;
}

/// The lines about the store of this test, but for what is said when it is made.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        if text.contains(MARK) && !text.contains("a new root key") {
            self.0.lock().unwrap().push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins the name of the store's folder, so that it is in each line about the store.
const MARK: &str = "moved-away-";
