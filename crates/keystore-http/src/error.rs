//! Why there is no answer.

use std::fmt;

use kes_keystore::StoreError;

/// What kept a request from being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host's name has no address.
    Dns,
    /// No connection: refused, unreachable, or a proxy does not make it.
    Connect,
    /// A connection, but not one that can be trusted, or the server does not trust us.
    Tls,
    /// It took too long.
    Timeout,
    /// The connection ended before the answer did.
    Closed,
    /// The answer is longer than allowed.
    TooLarge,
    /// The answer is not HTTP, or the request is nothing that can be sent.
    Protocol,
}

/// Why there is no answer. One line: the server, the cause, and what to do where that is known. It holds no part of the
/// URL but the host, and nothing of the request or the answer. There is no source: what an HTTP library says may quote the
/// URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    pub(crate) failure: Failure,
    pub(crate) may_have_arrived: bool,
    pub(crate) host: String,
    pub(crate) cause: String,
    pub(crate) remedy: Option<String>,
}

impl SendError {
    /// What kept the request from being answered.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        self.failure
    }

    /// Whether the service may have received the request, and done what it asks for. `false` is certain.
    #[must_use]
    pub const fn may_have_arrived(&self) -> bool {
        self.may_have_arrived
    }

    /// The error of `store`: that it cannot be reached, or, where it answers but not as it should, that it failed.
    #[must_use]
    pub fn into_store_error(self, store: String) -> StoreError {
        let source = self.into();
        StoreError::Unreachable { store, source }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.cause)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SendError {}
