//! The contract between the service and whatever keeps its master keys: [`KeyStore`], with its errors, its conformance
//! suite, the in-memory store, and wrappers that are key stores themselves.

mod entry;
mod error;

use std::fmt;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use kes_crypto::SecretBytes;

pub use entry::{Entry, EntryName, Page};
pub use error::{BoxError, StoreError};

/// Maps names to immutable, opaque values. All operations are called concurrently, and each may be cancelled by dropping
/// its future: a cancelled write has happened whole or not at all.
///
/// `Display` says where the store is (`Filesystem: /var/lib/kes`), never with what credentials.
#[async_trait]
pub trait KeyStore: fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Stores `value` under `name` durably, or fails with [`StoreError::Exists`] and changes nothing, also when two
    /// servers race.
    async fn create(&self, name: &EntryName, value: &SecretBytes) -> Result<(), StoreError>;

    /// The exact bytes that were stored under `name`, or [`StoreError::NotFound`].
    async fn get(&self, name: &EntryName) -> Result<Entry, StoreError>;

    /// Removes `name` durably. An absent name is [`StoreError::NotFound`] where the service can tell, else a success.
    async fn delete(&self, name: &EntryName) -> Result<(), StoreError>;

    /// At most `limit` names that start with `prefix`, in byte order, from the first one after `after`. Every name that is
    /// there throughout is listed exactly once by following [`Page::next`]. What could not be a name is left out.
    async fn list(&self, prefix: &str, after: Option<&EntryName>, limit: NonZeroUsize) -> Result<Page, StoreError>;

    /// Asks the store for a sign of life, as cheaply as proves that requests would work.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Stops background work; called once, after the last request.
    async fn close(&self);
}
