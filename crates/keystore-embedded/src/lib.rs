//! A key store in one file that is encrypted at rest: for whoever has no key management service.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use kes_crypto::SecretBytes;
//! use kes_keystore::{EntryName, KeyStore};
//! use kes_keystore_embedded::{Config, EmbeddedStore};
//! use kes_seal::KeySeal;
//! use kes_types::SystemClock;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temp = tempfile::tempdir()?;
//! # let path = temp.path().join("keys.redb");
//! let seal = KeySeal::from_variable("KES_SEAL_KEY", &KeySeal::generate_text()?)?;
//! let config = Config {
//!     path,
//!     seals: vec![Arc::new(seal)],
//!     undelete: Duration::from_secs(7 * 24 * 60 * 60),
//! };
//! let store = EmbeddedStore::create(config, Arc::new(SystemClock)).await?;
//! let name = EntryName::parse("my-key")?;
//! store.create(&name, &SecretBytes::copy_of(b"value")).await?;
//! assert_eq!(store.get(&name).await?.value.expose_secret(), b"value");
//! store.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! * The `engine` keeps opaque values in a redb database. One thread writes, and what has gathered while it wrote shares the
//!   next commit; a write is answered when it is on the disk.
//! * [`kes_seal::Sealed`] over it seals the values. [`EmbeddedStore`] is both, with what operators need beside.
//! * [`verify`], [`restore`] and [`BackupCheck`] are for backups.
//!
//! What is in the file, and in a backup, is written down in `docs/embedded-format.md`.

mod backup;
mod blocking;
mod disk;
mod engine;
mod error;
mod fault;
mod file;
mod medium;
mod ops;
mod pages;
mod restore;
mod snapshot;
mod store;
mod tables;
mod verify;
mod view;
mod writer;

pub use backup::{BackupCheck, BackupError};
#[doc(hidden)]
pub use engine::{Engine, Settings};
pub use error::ConnectError;
#[doc(hidden)]
pub use file::FileMedium;
pub use file::is_temporary;
#[doc(hidden)]
pub use medium::Medium;
#[doc(hidden)]
pub use pages::Pages;
pub use restore::restore;
pub use store::{Config, EmbeddedStore};
pub use verify::{Report, verify};
