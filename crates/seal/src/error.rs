//! What can go wrong, as it is told to people.

use std::fmt;
use std::io;
use std::path::PathBuf;

use kes_crypto::RandomError;
use kes_keystore::{BoxError, StoreError};

use crate::SealId;

/// Why a seal or a root key could not do what it was asked. No variant carries anything secret.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The seal file is not there, or cannot be read.
    #[error("cannot read the seal file {}", path.display())]
    Unreadable {
        /// The configured path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something that is no file has the configured name.
    #[error("the seal file {} is a folder", path.display())]
    IsAFolder {
        /// The configured path.
        path: PathBuf,
    },
    /// Others than the owner can get at the seal file.
    #[error(
        "the seal file {} is accessible to group or others (mode {mode:04o}): run `chmod 600 {}`, and replace the seal if somebody may have read it",
        path.display(), path.display()
    )]
    OpenToOthers {
        /// The configured path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The seal is not 32 bytes in base64 on one line.
    #[error("the seal in {place} {problem}: it has to be 32 random bytes in standard base64, on one line")]
    Malformed {
        /// Where the seal is.
        place: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The service that is the seal, or leads to it, does not answer or refuses.
    #[error("the seal cannot be used now")]
    Unavailable {
        /// What went wrong.
        source: BoxError,
    },
    /// Sealed with another key, for another place, or altered: there is one answer.
    #[error("does not open: it is damaged, or was sealed with another key or for another place")]
    DoesNotOpen,
    /// Sealed in a way that this version of the program does not know, or damaged.
    #[error(
        "is sealed in version {version} of the format, which this version of the program does not know, or is damaged"
    )]
    UnknownVersion {
        /// The version.
        version: u8,
    },
    /// More than can be stored.
    #[error("has {length} bytes, more than the {limit} that are possible")]
    TooLarge {
        /// How much it is.
        length: usize,
        /// How much it may be.
        limit: usize,
    },
    /// A seal calls itself something, or wraps a key into something, that a header cannot hold.
    #[error("the seal {problem}")]
    Unfit {
        /// What a header cannot hold.
        problem: &'static str,
    },
    /// There is no randomness to be had.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The cryptographic library refused.
    #[error("the cipher failed")]
    Cipher,
}

/// Why a store was not opened, made or resealed. Nothing has been changed then. `store` says which one, or which backup.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No seal was given.
    #[error("{store}: no seal is configured")]
    NoSeal {
        /// Which store.
        store: String,
    },
    /// The store has no header.
    #[error(
        "{store} has no header: it is not a sealed store, or was never completed; restore a backup, or move it away and make a new one"
    )]
    NoHeader {
        /// Which store.
        store: String,
    },
    /// A store that was to be made has a header already.
    #[error("{store} has a header already: it is in use, and stays as it is")]
    AlreadyInitialised {
        /// Which store.
        store: String,
    },
    /// A store that was to be made has entries.
    #[error("{store} has entries, but no header: it is no new store, and stays as it is")]
    NotEmpty {
        /// Which store.
        store: String,
    },
    /// None of the given seals is one that the store is sealed with.
    #[error(
        "{store} is sealed with {}, but what was given is {}; nothing was changed: give the seal that it was sealed with",
        any_of(needed),
        all_of(given)
    )]
    WrongSeal {
        /// Which store.
        store: String,
        /// The seals that would do.
        needed: Vec<SealId>,
        /// The seals that were given, and where each was found.
        given: Vec<(SealId, String)>,
    },
    /// A seal that should have done does not give the root key.
    #[error("{store}: the wrapping by {seal} ({place}) does not give the root key")]
    Unwrap {
        /// Which store.
        store: String,
        /// Which seal.
        seal: SealId,
        /// Where it was found.
        place: String,
        /// What went wrong.
        source: SealError,
    },
    /// A seal does not wrap the root key, or not so that it can be unwrapped again.
    #[error("{store}: the root key was not wrapped with {seal} ({place})")]
    Wrap {
        /// Which store.
        store: String,
        /// Which seal.
        seal: SealId,
        /// Where it was found.
        place: String,
        /// What went wrong.
        source: SealError,
    },
    /// The root key that makes a store, or what is written with it, could not be made.
    #[error("{store}: the header could not be written")]
    Write {
        /// Which store.
        store: String,
        /// What went wrong.
        source: SealError,
    },
    /// The header or its generation record is not as it was written.
    #[error("{store}: the {part} is damaged: {reason}; restore an earlier backup")]
    Damaged {
        /// Which store.
        store: String,
        /// Which part of it.
        part: HeaderPart,
        /// What is wrong with it.
        reason: String,
    },
    /// The header is a genuine one of this store, but not its newest.
    #[error(
        "{store}: the header (generation {found}) is not the one that was written last (generation {expected}): an older header or generation record, or that of a copy of the store, was put in its place; put back what was there, or restore a backup"
    )]
    OldHeader {
        /// Which store.
        store: String,
        /// What the header says.
        found: u64,
        /// What the generation record says.
        expected: u64,
    },
    /// Written by a newer version of this program.
    #[error(
        "{store} has format {version}, but this version of the program knows no format beyond {}: use a newer version",
        crate::FORMAT
    )]
    NewerFormat {
        /// Which store.
        store: String,
        /// Its format.
        version: u32,
    },
    /// No more seals fit into the header.
    #[error(
        "{store} has {} wrappings already: drop some first, by listing one of its seals, and not the new one",
        crate::MAX_WRAPPINGS
    )]
    TooManySeals {
        /// Which store.
        store: String,
    },
    /// Others reseal the store at the same time, again and again.
    #[error("{store} is being resealed by somebody else: try again")]
    Raced {
        /// Which store.
        store: String,
    },
    /// The store failed.
    #[error("{store}: the header was not read or written")]
    Store {
        /// Which store.
        store: String,
        /// What went wrong.
        source: StoreError,
    },
}

/// One of the two values by which a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderPart {
    /// The header.
    Header,
    /// The generation record.
    GenerationRecord,
}

impl fmt::Display for HeaderPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::GenerationRecord => "generation record",
        })
    }
}

fn any_of(needed: &[SealId]) -> String {
    let texts: Vec<_> = needed.iter().map(SealId::to_string).collect();
    texts.join(" or ")
}

fn all_of(given: &[(SealId, String)]) -> String {
    let texts: Vec<_> = given
        .iter()
        .map(|(id, place)| format!("{id} ({place})"))
        .collect();
    texts.join(" and ")
}
