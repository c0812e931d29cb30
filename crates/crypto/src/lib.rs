//! Secrets, key records, ciphertext formats and the ciphers behind them. No I/O, no async, no unsafe.

mod secret;

pub use secret::SecretBytes;
