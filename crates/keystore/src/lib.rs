//! The contract between the service and whatever keeps its master keys: [`KeyStore`], with its errors, its conformance
//! suite, the in-memory store, and wrappers that are key stores themselves.
//!
//! ```
//! use std::num::NonZeroUsize;
//!
//! use kes_crypto::SecretBytes;
//! use kes_keystore::{EntryName, KeyStore, MemoryStore, StoreError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let name = EntryName::parse("my-key")?;
//! store.create(&name, &SecretBytes::copy_of(b"value")).await?;
//! assert_eq!(store.get(&name).await?.value.expose_secret(), b"value");
//!
//! let taken = store.create(&name, &SecretBytes::copy_of(b"another")).await;
//! assert!(matches!(taken, Err(StoreError::Exists)));
//!
//! let page = store.list("my-", None, NonZeroUsize::MIN).await?;
//! assert_eq!((page.names, page.next), (vec![name], None));
//! # Ok(())
//! # }
//! ```
//!
//! A new backend runs [`conformance::all`] before anything else; one that can only list everything has
//! [`paging`] sort and cut the answer.

pub mod conformance;
mod entry;
mod error;
mod limited;
mod maintenance;
mod measured;
pub mod memory;
mod op;
pub mod paging;
mod patience;

use std::fmt;
use std::num::NonZeroUsize;

use async_trait::async_trait;
use kes_crypto::SecretBytes;

pub use entry::{Entry, EntryName, Page};
pub use error::{BoxError, StoreError};
pub use limited::{Limited, Limits, TimedOut, Waited};
pub use maintenance::{Backup, CommitTimes, Connected, Maintenance, SealInfo, StoreGauges, StoreInfo};
pub use measured::{Measured, Observer, Outcome};
pub use memory::MemoryStore;
pub use op::StoreOp;
pub use patience::Patience;

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
    async fn list(
        &self,
        prefix: &str,
        after: Option<&EntryName>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError>;

    /// Asks the store for a sign of life, as cheaply as proves that requests would work.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Stops background work; called once, after the last request.
    async fn close(&self);
}
