//! A key store of one file a key in one folder, without encryption at rest: for tests, development, and small set-ups
//! whose disk is encrypted. Several servers may share the folder, also with the reference.
//!
//! ```
//! use kes_crypto::SecretBytes;
//! use kes_keystore::{EntryName, KeyStore};
//! use kes_keystore_fs::{Config, FsStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temp = tempfile::tempdir()?;
//! # let path = temp.path().join("keys");
//! let store = FsStore::connect(Config { path: path.clone() }).await?;
//! store.create(&EntryName::parse("my-key")?, &SecretBytes::copy_of(b"value")).await?;
//! assert_eq!(std::fs::read(path.join("my-key"))?, b"value");
//! # Ok(())
//! # }
//! ```
//!
//! A key appears under its name whole and durable, or not at all: it is written to a temporary file in the same folder,
//! which is then given the key's name in one step that replaces nothing.

mod folder;
mod temp;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kes_crypto::SecretBytes;
use kes_keystore::{Entry, EntryName, KeyStore, Page, StoreError};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use crate::folder::Folder;

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder. It is created, with its parents and for its owner only, when it does not exist.
    pub path: PathBuf,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured path is empty.
    #[error("the path of the key store folder is empty")]
    NoPath,
    /// Something else has the configured name.
    #[error("{} exists and is not a folder", path.display())]
    NotAFolder {
        /// The configured path.
        path: PathBuf,
    },
    /// The folder does not exist and cannot be created, or cannot be looked at.
    #[error("cannot create or open the folder {}", path.display())]
    Open {
        /// The configured path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder is there, but keys cannot be both read and written in it.
    #[error("the folder {} cannot be used", path.display())]
    Unusable {
        /// The configured path.
        path: PathBuf,
        /// What went wrong.
        source: StoreError,
    },
    /// The process is ending.
    #[error("the folder was not opened, because the process is ending")]
    Stopped(#[source] JoinError),
}

/// Keeps each entry in a file of its own, named like the entry.
#[derive(Debug)]
pub struct FsStore {
    folder: Arc<Folder>,
    turns: Turns,
}

/// Bounds the threads that wait for the disk, each kind of operation for itself, so that none keeps another one waiting.
#[derive(Debug)]
struct Turns {
    gets: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    pings: Arc<Semaphore>,
}

impl Turns {
    fn new() -> Self {
        let turns = |at_once| Arc::new(Semaphore::new(at_once as usize));
        Self {
            gets: turns(AT_ONCE),
            lists: turns(FEW_AT_ONCE),
            writes: turns(AT_ONCE),
            pings: turns(FEW_AT_ONCE),
        }
    }
}

impl FsStore {
    /// Opens the folder, creates it if it is missing, removes what crashed processes have left half-written, and checks
    /// that it can be used. Reads no key, so that the number of keys hardly matters.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub async fn connect(config: Config) -> Result<Self, ConnectError> {
        let opening = spawn_blocking(move || Folder::connect(config.path));
        let folder = Arc::new(opening.await.map_err(ConnectError::Stopped)??);
        Ok(Self {
            folder,
            turns: Turns::new(),
        })
    }

    /// Runs `work` on a thread that may block. Work that has begun runs to its end, also when its caller goes away.
    async fn run<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        work: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(turns)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let folder = Arc::clone(&self.folder);
        let running = spawn_blocking(move || {
            let result = work(&folder);
            drop(turn);
            result
        });
        match running.await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Backend {
                store: self.to_string(),
                source: error.into(),
            }),
        }
    }
}

#[async_trait]
impl KeyStore for FsStore {
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError> {
        let (name, value) = (name.clone(), SecretBytes::copy_of(value.expose_secret()));
        self.run(&self.turns.writes, move |folder| folder.create(&name, &value))
            .await
    }

    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError> {
        let name = name.clone();
        self.run(&self.turns.gets, move |folder| folder.get(&name)).await
    }

    async fn delete(&self, name: &EntryName) -> Result<(), StoreError> {
        let name = name.clone();
        self.run(&self.turns.writes, move |folder| folder.delete(&name))
            .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.run(&self.turns.lists, move |folder| {
            folder.list(&prefix, after.as_ref(), limit)
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.run(&self.turns.pings, Folder::ping).await
    }

    /// Waits for the operations that have begun.
    async fn close(&self) {
        let Turns {
            gets,
            lists,
            writes,
            pings,
        } = &self.turns;
        for (turns, all) in [
            (gets, AT_ONCE),
            (lists, FEW_AT_ONCE),
            (writes, AT_ONCE),
            (pings, FEW_AT_ONCE),
        ] {
            let _all = turns
                .acquire_many(all)
                .await
                .expect("the semaphore is never closed");
        }
    }
}

impl fmt::Display for FsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.folder.fmt(f)
    }
}

/// Enough for a disk to put several flushes into one, and far fewer than the runtime has threads.
const AT_ONCE: u32 = 32;

/// A list reads the whole folder. And pings have turns of their own only so that a disk that hangs does not get another
/// thread to hang with every poll.
const FEW_AT_ONCE: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_kind_of_operation_waits_for_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_owned();
        let store = FsStore::connect(Config { path }).await.expect("a new folder");
        let name = EntryName::parse("key").expect("a name");
        let _gets = store
            .turns
            .gets
            .acquire_many(AT_ONCE)
            .await
            .expect("never closed");
        let _lists = store
            .turns
            .lists
            .acquire_many(FEW_AT_ONCE)
            .await
            .expect("never closed");
        store
            .create(&name, &SecretBytes::copy_of(b"value"))
            .await
            .expect("a write waits for no read");
        let _writes = store
            .turns
            .writes
            .acquire_many(AT_ONCE)
            .await
            .expect("never closed");
        drop(_gets);
        store
            .get(&name)
            .await
            .expect("a get waits for no write and no list");
        let _gets = store
            .turns
            .gets
            .acquire_many(AT_ONCE)
            .await
            .expect("never closed");
        store.ping().await.expect("a ping waits for nothing");
        drop(_lists);
        store
            .list("", None, NonZeroUsize::MIN)
            .await
            .expect("a list waits for no get and no write");
    }
}
