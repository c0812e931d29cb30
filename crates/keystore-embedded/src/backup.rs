//! Backups: one point in time of a store as one stream of bytes, sealed as in the store.
//!
//! The format stands in `docs/embedded-format.md`. [`format`] says what its parts are, [`encode`] writes them, [`decode`]
//! reads them as they arrive, and [`send`] makes a running store's backup out of a snapshot.

mod check;
mod decode;
mod encode;
mod error;
mod format;
mod send;

pub use check::BackupCheck;
pub(crate) use decode::{Decoder, Event};
pub use error::BackupError;
pub(crate) use format::{Content, MAGIC, PIECE, hex};
pub(crate) use send::Backups;
#[cfg(test)]
pub(crate) use send::Source;

#[cfg(test)]
pub(crate) use encode::Encoder;

#[cfg(test)]
mod tests;
