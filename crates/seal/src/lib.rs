//! Sealing: what a store keeps is encrypted under the store's root key, and the root key is kept with it, wrapped by a
//! [`Seal`] that is elsewhere.
//!
//! [`Sealed`] is a key store over any store that has a place for a header. It knows nothing of files or databases; which
//! bytes it writes is in `docs/embedded-format.md`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use kes_seal::{KeySeal, Seal};
//!
//! let text = KeySeal::generate_text()?;
//! let seal = KeySeal::from_variable("KES_SEAL_KEY", &text)?;
//! assert_eq!(seal.to_string(), "environment variable KES_SEAL_KEY");
//! assert_eq!(seal.id().kind, "key");
//! # Ok::<(), kes_seal::SealError>(())
//! ```
//!
//! * [`KeySeal`]: a seal that is a 256-bit key, in a file or an environment variable.
//! * [`Sealed::initialise`] gives a new store its root key and header, [`Sealed::open`] opens a store that has one, and
//!   [`Sealed::reseal`] replaces the seal while the store is in use.
//! * [`open_header`]: the root key of a header that is not in a store, such as that of a backup.

mod aead;
mod error;
mod header;
mod key;
mod opening;
mod reader;
mod seal;
mod sealed;
mod store_key;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod vectors;

pub use error::{HeaderPart, OpenError, SealError};
pub use header::{FORMAT, Header, HeaderError, HeaderRecord, MAX_HEADER, MAX_WRAPPINGS, Wrapping};
pub use key::KeySeal;
pub use opening::{OpenedHeader, open_header};
pub use seal::{Seal, SealId, Seals};
pub use sealed::{HeaderStore, Resealed, Sealed};
pub use store_key::{MAX_SEALED, MAX_VALUE, StoreKey};
