//! Secrets, key records, ciphertext formats and the ciphers behind them. No I/O, no async, no unsafe.
//!
//! A [`KeyVersion`] is one stored version of a master key. It reads every form in which the reference ever stored a key
//! and every form in which it wrote a ciphertext, and writes the current ones:
//!
//! ```
//! use kes_crypto::{Algorithm, KeyVersion};
//! use kes_types::{Clock, SystemClock};
//!
//! let key = KeyVersion::generate(Algorithm::preferred(), SystemClock.now(), "")?;
//! let stored = key.encode();
//!
//! let key = KeyVersion::decode(stored.expose_secret())?;
//! let ciphertext = key.seal(b"attack at dawn", b"where and when")?;
//! assert_eq!(key.open(&ciphertext, b"where and when")?.expose_secret(), b"attack at dawn");
//! assert!(key.open(&ciphertext, b"elsewhere").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Beside it: [`ApiKey`], the credential of a client, and [`pem`], which reads certificates and private keys, also encrypted
//! ones. `kes-keystore` stores what [`KeyVersion::encode`] returns; `kes-keyring` gives keys names.

mod algorithm;
mod api_key;
mod cipher;
mod ciphertext;
mod encoding;
mod identity;
pub mod pem;
mod random;
mod record;
mod secret;

pub use algorithm::{Algorithm, UnsupportedAlgorithm};
pub use api_key::{ApiKey, BadApiKey};
pub use cipher::DecryptError;
pub use identity::identity_of_spki;
pub use random::{RandomError, fill_random};
pub use record::{CorruptRecord, DATA_KEY_LEN, ImportError, KeyVersion, NoHmacKey};
pub use secret::SecretBytes;
