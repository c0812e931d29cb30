//! The file store from outside: the promises of every store, the state of its folder, and several processes on it.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as the tests do")]

mod files;
mod processes;
mod promises;

use std::path::Path;

use kes_crypto::SecretBytes;
use kes_keystore::EntryName;
use kes_keystore_fs::{Config, FsStore};

async fn connect(path: &Path) -> FsStore {
    FsStore::connect(Config {
        path: path.to_owned(),
    })
    .await
    .unwrap()
}

fn name(text: &str) -> EntryName {
    EntryName::parse(text).unwrap()
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::copy_of(text.as_bytes())
}
