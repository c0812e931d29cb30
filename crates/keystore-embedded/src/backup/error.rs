//! Why a backup is refused.

use kes_keystore::EntryName;
use kes_seal::SealError;

use super::format::VERSION;

/// Why a backup is refused. Nothing has been made out of it then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It begins with something else.
    #[error("this is not a backup of a key store")]
    NotABackup,
    /// A later release wrote it.
    #[error(
        "the backup has format version {found}, and this program reads version {VERSION}: use a newer release of it"
    )]
    Newer {
        /// The version that it says it has.
        found: u32,
    },
    /// Something is missing at its end.
    #[error("the backup is incomplete: it ends after {length} bytes, before its trailer does")]
    Truncated {
        /// How many bytes there are.
        length: u64,
    },
    /// Something was put after its end.
    #[error("the backup is not as it was written: there is more after its end at byte {end}")]
    Extended {
        /// Where the trailer ends.
        end: u64,
    },
    /// It is not as it was written.
    #[error("the backup is damaged at byte {at}: {what}")]
    Damaged {
        /// Where the damaged part begins. The damage itself may be before it.
        at: u64,
        /// What is wrong with the part.
        what: &'static str,
    },
    /// It was refused already, and now more of it was given.
    #[error("the backup was refused already")]
    Refused,
    /// Its header is that of another store.
    #[error("the backup says that it is of store {said}, but its header is that of store {found}")]
    OtherStore {
        /// The store's id where the backup begins.
        said: String,
        /// The store's id in the header.
        found: String,
    },
    /// The trailer's tag was not made with the store's root key over these bytes.
    #[error(
        "the backup is not one that store {store} has written, but altered, or put together from parts of several"
    )]
    Forged {
        /// The store's id.
        store: String,
        /// What the check of the tag says.
        source: SealError,
    },
    /// A value does not open under its name.
    #[error("the value of key '{name}' in the backup is not what its store has written under this name")]
    Value {
        /// The key's name.
        name: EntryName,
        /// What the opening says.
        source: SealError,
    },
}
