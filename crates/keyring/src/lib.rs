//! What can be done with a named master key, over a [`KeyStore`](kes_keystore::KeyStore) and a cache of parsed keys.
//! Nothing here knows HTTP: another protocol, a migration or an embedder calls the same [`Keyring`].
//!
//! ```no_run
//! # async fn example(store: std::sync::Arc<dyn kes_keystore::KeyStore>) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use kes_keyring::{CacheSettings, Keyring, Scope};
//! use kes_types::{KeyName, SystemClock};
//!
//! let keyring = Keyring::new(store, CacheSettings::default(), Arc::new(SystemClock));
//! let _background = keyring.start();
//!
//! let (scope, name) = (Scope::default(), KeyName::parse("minio")?);
//! keyring.create(&scope, &name, "somebody").await?;
//! let data_key = keyring.generate(&scope, &name, "", b"bucket/object").await?;
//! let opened = keyring.decrypt(&scope, &name, "", &data_key.ciphertext, b"bucket/object").await?;
//! assert!(opened.plaintext.ct_eq(&data_key.plaintext));
//! # Ok(())
//! # }
//! ```
//!
//! # The cache
//!
//! * Every entry has its own times ([`CacheSettings`]). Only a fetch fills the cache; creating a key does not, because a
//!   store that claims to have written a key may not have it.
//! * A missing key is fetched once for everybody who waits for it, in a task of its own: whoever gives up waiting leaves
//!   the others unharmed. A failure is answered to all of them and then forgotten.
//! * [`Keyring::delete`] takes the key out of the cache before it asks the store, and what was being fetched when a delete
//!   or create happened never enters the cache. That holds also when the store then fails to delete: whether it did is
//!   often unknown, and a key that somebody wants gone must not be served from memory. It costs one fetch if the key is
//!   still there.
//! * When a fetch or a ping fails as unreachable or sealed, the store is known to be offline. From then on nothing but one
//!   probe asks for keys, missing ones fail at once, and cached ones stay usable as [`CacheSettings::offline`] says.
//!   No other failure counts: a refusal or an internal error for one name says nothing about the rest.
//! * Once the store is back, keys that only the outage kept usable have expired. Those in use are fetched again in the
//!   background, a few at a time.
//!
//! A cached key costs about 430 bytes of resident memory, with a name and a creator of 64 characters each: a million of
//! them 430 MB. `cargo run --profile dist -p kes-keyring --example million` measures it. Finding a cached key takes one
//! short lock of one of 64 shards, two reference counts and one atomic store, and allocates nothing.
//!
//! A store that this program keeps itself can do more than the contract says: [`Keyring::upkeep`] brings back deleted keys,
//! describes the store and backs it up.
//!
//! [`Keyring::start`] runs what needs a background: the polling, the probe, the refreshing, and the removal of entries that
//! nobody asks for.

mod cache;
mod crypt;
mod error;
mod fetch;
mod keyring;
mod monitor;
mod reach;
pub mod service;
mod tasks;
mod upkeep;

pub use cache::{CacheSettings, CacheStats, Scope};
pub use crypt::{DataKey, Decrypted, Encrypted, Mac};
pub use error::{Doing, KeyringError};
pub use keyring::{KeyInfo, KeyPage, Keyring};
pub use monitor::Background;
pub use upkeep::Upkeep;
