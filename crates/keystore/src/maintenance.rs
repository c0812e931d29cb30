//! What a key store that this program keeps itself can do beyond the contract.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kes_types::Timestamp;
use tokio::sync::mpsc;

use crate::{EntryName, KeyStore, StoreError};

/// What operators ask of a key store that is theirs alone to look after. A service looks after itself, so most key stores
/// have none of this.
#[async_trait]
pub trait Maintenance: fmt::Debug + Send + Sync + 'static {
    /// What there is to know about the store.
    async fn info(&self) -> Result<StoreInfo, StoreError>;

    /// Makes a deleted entry usable again, with the value it had. [`StoreError::NotFound`] if it was not deleted or is
    /// already gone for good; [`StoreError::Exists`] if it is there.
    async fn undelete(&self, name: &EntryName) -> Result<(), StoreError>;

    /// Begins a backup of one point in time, sealed as in the store. Writes go on meanwhile. One at a time: another one is
    /// [`StoreError::Throttled`].
    async fn backup(&self) -> Result<Backup, StoreError>;

    /// Measurements, cheap enough to be asked for at any time.
    fn gauges(&self) -> StoreGauges;
}

/// What a backend gives once it has connected.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The key store.
    pub store: Arc<dyn KeyStore>,
    /// What it can do beyond the contract.
    pub maintenance: Option<Arc<dyn Maintenance>>,
}

impl<S: KeyStore> From<Arc<S>> for Connected {
    fn from(store: Arc<S>) -> Self {
        Self {
            store,
            maintenance: None,
        }
    }
}

impl From<Arc<dyn KeyStore>> for Connected {
    fn from(store: Arc<dyn KeyStore>) -> Self {
        Self {
            store,
            maintenance: None,
        }
    }
}

/// What there is to know about a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreInfo {
    /// What kind of store, as the configuration names it: `embedded`.
    pub kind: &'static str,
    /// Where it is, such as a path.
    pub location: String,
    /// Version of its format.
    pub format: u32,
    /// Its id, in hexadecimal.
    pub id: String,
    /// What its root key is wrapped with.
    pub seals: Vec<SealInfo>,
    /// Number of keys.
    pub keys: u64,
    /// Number of deleted keys that can be brought back.
    pub deleted: u64,
    /// How long deleted keys can be brought back.
    pub undelete: Duration,
    /// Size in bytes.
    pub size: u64,
    /// When the last backup was read to its end.
    pub last_backup: Option<Timestamp>,
}

/// One wrapping of a store's root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealInfo {
    /// What kind of seal, such as `key`.
    pub kind: String,
    /// The seal's public check value.
    pub check: String,
    /// Where the configuration says that the seal is; `None` for one that it does not list.
    pub source: Option<String>,
}

/// Measurements of a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreGauges {
    /// Number of keys.
    pub keys: u64,
    /// Number of deleted keys that can be brought back.
    pub deleted: u64,
    /// Size in bytes.
    pub size: u64,
    /// When the last backup was read to its end.
    pub last_backup: Option<Timestamp>,
    /// How long commits took.
    pub commits: CommitTimes,
}

/// How long commits took: a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CommitTimes {
    /// How many took at most as long as the bound of the same place, and longer than the bound before; those beyond the
    /// last bound come last.
    pub counts: [u64; Self::BOUNDS.len() + 1],
    /// How long all of them took together.
    pub sum: Duration,
}

impl CommitTimes {
    /// Upper bounds in seconds.
    pub const BOUNDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];
}

/// A backup on its way: pieces of a file, in order. It is complete when there is no further piece, and only then.
#[derive(Debug)]
pub struct Backup {
    pieces: mpsc::Receiver<Result<Bytes, StoreError>>,
}

impl Backup {
    /// A backup whose pieces arrive by `pieces`.
    #[must_use]
    pub const fn new(pieces: mpsc::Receiver<Result<Bytes, StoreError>>) -> Self {
        Self { pieces }
    }

    /// The next piece; `None` at the end. After an error there is no further one.
    pub async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        self.pieces.recv().await
    }
}
