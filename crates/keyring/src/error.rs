//! Why the key ring could not do what it was asked.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use kes_crypto::{Algorithm, DecryptError, RandomError};
use kes_keystore::StoreError;

/// Why the key ring could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is no such key.
    #[error("key does not exist")]
    NotFound,
    /// The name is taken; the stored key is untouched.
    #[error("key already exists")]
    Exists,
    /// The ciphertext was not made with this key and context, or has been altered.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// The key was stored before keys had an HMAC key.
    #[error("key does not support HMAC")]
    NoHmacKey,
    /// The key has no version of that name.
    #[error("key version does not exist")]
    NoSuchVersion,
    /// The key to import does not have the size that the algorithm needs.
    #[error("invalid key size for '{0}'")]
    KeySize(Algorithm),
    /// The key store failed.
    #[error("failed to {doing}")]
    Store {
        /// What was being done.
        doing: Doing,
        /// What went wrong.
        source: StoreError,
    },
    /// The system's random number generator failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// What the key store was asked to do. `Display` gives the words that clients see after "failed to".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Store a key.
    Create,
    /// Read a key.
    Read,
    /// Delete a key.
    Delete,
    /// List keys.
    List,
    /// Bring back a deleted key.
    Undelete,
    /// Describe the store.
    Info,
    /// Back up the store.
    Backup,
}

impl Doing {
    /// The error for a store that failed at this.
    pub(crate) fn failed(self, source: StoreError) -> KeyringError {
        match (self, source) {
            (Self::Create | Self::Undelete, StoreError::Exists) => KeyringError::Exists,
            (Self::Read | Self::Delete | Self::Undelete, StoreError::NotFound) => KeyringError::NotFound,
            (doing, source) => KeyringError::Store { doing, source },
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create key",
            Self::Read => "read key",
            Self::Delete => "delete key",
            Self::List => "list keys",
            Self::Undelete => "undelete key",
            Self::Info => "describe the key store",
            Self::Backup => "back up the key store",
        })
    }
}

/// The same failure for one more of those who waited for it: same class, same words, with the cause shared.
pub(crate) fn share(error: &Arc<StoreError>) -> StoreError {
    let source = || Box::new(SharedCause(Arc::clone(error)));
    match &**error {
        StoreError::Exists => StoreError::Exists,
        StoreError::NotFound => StoreError::NotFound,
        StoreError::Unreachable { store, .. } => StoreError::Unreachable {
            store: store.clone(),
            source: source(),
        },
        StoreError::Sealed { store } => StoreError::Sealed { store: store.clone() },
        StoreError::Throttled { store, retry_after } => StoreError::Throttled {
            store: store.clone(),
            retry_after: *retry_after,
        },
        StoreError::AuthFailed { store, .. } => StoreError::AuthFailed {
            store: store.clone(),
            source: source(),
        },
        StoreError::Denied { store, hint } => StoreError::Denied {
            store: store.clone(),
            hint: hint.clone(),
        },
        StoreError::Disabled { store } => StoreError::Disabled { store: store.clone() },
        StoreError::InvalidName { reason } => StoreError::InvalidName {
            reason: reason.clone(),
        },
        StoreError::Corrupt { reason } => StoreError::Corrupt {
            reason: reason.clone(),
        },
        StoreError::Backend { store, .. } => StoreError::Backend {
            store: store.clone(),
            source: source(),
        },
    }
}

/// The cause of an error that several have got.
#[derive(Debug)]
struct SharedCause(Arc<StoreError>);

impl SharedCause {
    fn cause(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause().map_or(Ok(()), |cause| fmt::Display::fmt(cause, f))
    }
}

impl Error for SharedCause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause()?.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_failure_keeps_its_class_and_its_causes() {
        let original = Arc::new(StoreError::Unreachable {
            store: "Somewhere".into(),
            source: "connection refused".into(),
        });
        let shared = share(&original);
        assert!(matches!(shared, StoreError::Unreachable { .. }));
        assert_eq!(shared.to_string(), original.to_string());
        assert_eq!(shared.source().unwrap().to_string(), "connection refused");
    }

    #[test]
    fn a_missing_entry_is_a_missing_key_only_where_one_key_is_meant() {
        assert!(matches!(
            Doing::Read.failed(StoreError::NotFound),
            KeyringError::NotFound
        ));
        assert!(matches!(
            Doing::Delete.failed(StoreError::NotFound),
            KeyringError::NotFound
        ));
        assert!(matches!(
            Doing::Undelete.failed(StoreError::NotFound),
            KeyringError::NotFound
        ));
        for doing in [Doing::Create, Doing::Undelete] {
            assert!(matches!(doing.failed(StoreError::Exists), KeyringError::Exists));
        }
        assert!(matches!(
            Doing::List.failed(StoreError::NotFound),
            KeyringError::Store {
                doing: Doing::List,
                ..
            }
        ));
        let error = Doing::Read.failed(StoreError::Exists);
        assert_eq!(error.to_string(), "failed to read key");
    }
}
