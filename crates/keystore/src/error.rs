//! Why a key store could not do what it was asked.

use std::time::Duration;

/// The cause of an error, kept whole for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a key store could not do what it was asked. Exhaustive on purpose: a new class must be thought through by every
/// caller. No variant carries a value, a token or a credential.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is taken; the stored value is untouched.
    #[error("key exists already")]
    Exists,
    /// There is no such name.
    #[error("no such key")]
    NotFound,
    /// No answer: connection, TLS or DNS failure, time-out, or the service says that it is not available.
    #[error("{store} cannot be reached")]
    Unreachable {
        /// Which store.
        store: String,
        /// What went wrong.
        source: BoxError,
    },
    /// The store is up but locked; usually an operator has to unseal it.
    #[error("{store} is sealed")]
    Sealed {
        /// Which store.
        store: String,
    },
    /// The service asks for fewer requests.
    #[error("{store} throttles requests")]
    Throttled {
        /// Which store.
        store: String,
        /// How long it asks to wait, if it said so.
        retry_after: Option<Duration>,
    },
    /// The store does not accept our credentials; usually they have expired or been revoked.
    #[error("{store} refuses the credentials")]
    AuthFailed {
        /// Which store.
        store: String,
        /// What went wrong.
        source: BoxError,
    },
    /// The credentials are good but not allowed to do this.
    #[error("{store} does not permit this: {hint}")]
    Denied {
        /// Which store.
        store: String,
        /// The permission that is missing.
        hint: String,
    },
    /// The entry is there but switched off or scheduled for deletion.
    #[error("the key is disabled at {store}")]
    Disabled {
        /// Which store.
        store: String,
    },
    /// The store cannot hold this name.
    #[error("invalid name: {reason}")]
    InvalidName {
        /// What the store cannot hold.
        reason: String,
    },
    /// What is stored under the name is not what was stored there, or too large to be.
    #[error("the stored value is corrupt: {reason}")]
    Corrupt {
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else.
    #[error("{store} failed")]
    Backend {
        /// Which store.
        store: String,
        /// What went wrong.
        source: BoxError,
    },
}

impl StoreError {
    /// Whether the error says something about the whole store, not about one name: it is out of reach or sealed.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Sealed { .. })
    }
}
