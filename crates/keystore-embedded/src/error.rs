//! Why a store cannot be made, opened, restored or verified.

use std::io;
use std::path::PathBuf;

use kes_keystore::StoreError;
use kes_seal::OpenError;

use crate::backup::BackupError;

/// Why a store, or a backup of one, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured path is empty.
    #[error("the path of the key store is empty")]
    NoPath,
    /// There is no store where one was to be opened.
    #[error(
        "there is no key store at {}: put it back, make a new one by `kes init`, or restore a backup by `kes store restore`",
        path.display()
    )]
    Absent {
        /// The configured path.
        path: PathBuf,
    },
    /// There is no file to verify or restore.
    #[error("there is no {what} at {}: look for it, or correct the path", path.display())]
    Missing {
        /// What was to be there.
        what: &'static str,
        /// The given path.
        path: PathBuf,
    },
    /// There is something where a new store was to be made.
    #[error("{} exists already, and stays as it is: move it aside first, or choose another path", path.display())]
    Exists {
        /// The configured path.
        path: PathBuf,
    },
    /// The folder in which the store is to be is not there.
    #[error("the folder of the key store {} does not exist: create it first, or mount what should be there", path.display())]
    NoFolder {
        /// The configured path.
        path: PathBuf,
    },
    /// Another process uses the store.
    #[error(
        "the key store {} is in use by another process: stop that one first, or give each server a store of its own",
        path.display()
    )]
    InUse {
        /// The configured path.
        path: PathBuf,
    },
    /// A folder, a pipe or something else has the configured name.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The configured path.
        path: PathBuf,
    },
    /// What is there is not a store, or one that is damaged. It stays as it is.
    #[error(
        "{} is damaged or not a key store: {reason}; restore a backup, or correct the path",
        path.display()
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A later release has written the file.
    #[error(
        "the key store {} has format version {found}, and this program knows version {known}: use a newer release of it",
        path.display()
    )]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// The version that the file has.
        found: u64,
        /// The latest version that this program knows.
        known: u64,
    },
    /// The system refuses something.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The store could not be read or written.
    #[error("the key store {} cannot be used", path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: StoreError,
    },
    /// The sealing of a store or a backup, which the error names, could not be opened or changed.
    #[error(transparent)]
    Seal(Box<OpenError>),
    /// The backup is refused.
    #[error("the backup {} cannot be used", path.display())]
    Backup {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: BackupError,
    },
    /// The process is ending.
    #[error("the key store was not opened, because the process is ending")]
    Stopped,
}

impl From<OpenError> for ConnectError {
    fn from(error: OpenError) -> Self {
        Self::Seal(Box::new(error))
    }
}
