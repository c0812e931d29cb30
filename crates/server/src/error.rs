//! What clients see when something goes wrong, and what the log does.

use std::borrow::Cow;

use http::StatusCode;
use kes_crypto::Algorithm;
use kes_keyring::service::Failure;
use kes_keyring::{Doing, KeyringError};
use kes_keystore::{BoxError, StoreError};
use kes_types::wire::BadBody;
use kes_types::{BadName, BadPattern};

pub(crate) const NOT_AUTHORIZED: &str = "not authorized: insufficient permissions";
pub(crate) const KEY_NOT_FOUND: &str = "key does not exist";
pub(crate) const KEY_EXISTS: &str = "key already exists";
pub(crate) const NOT_AUTHENTIC: &str = "decryption failed: ciphertext is not authentic";
pub(crate) const POLICY_NOT_FOUND: &str = "policy does not exist";
pub(crate) const IDENTITY_NOT_FOUND: &str = "identity does not exist";
pub(crate) const NO_CERTIFICATE: &str = "tls: client certificate is required";
pub(crate) const TWO_CERTIFICATES: &str = "tls: received more than one client certificate";
pub(crate) const NO_HMAC: &str = "key does not support HMAC";
pub(crate) const UNREACHABLE: &str = "key store is not reachable";
pub(crate) const UNAVAILABLE: &str = "key store is unavailable";
pub(crate) const OVERLOADED: &str = "server is overloaded";
pub(crate) const TIMED_OUT: &str = "request timed out";
pub(crate) const UNRECORDED: &str = "the audit log cannot be written";
pub(crate) const BACKUP_RUNS: &str = "another backup is under way";

/// A request that failed: one text for the client, and what the log may know beyond it.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: Cow<'static, str>,
    /// Why, for the log only.
    pub(crate) source: Option<BoxError>,
    /// The method that the path wants, on a 405.
    pub(crate) allow: Option<&'static str>,
    /// The client should come again.
    pub(crate) retry: bool,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            message: message.into(),
            source: None,
            allow: None,
            retry: false,
        }
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_authorized() -> Self {
        Self::new(StatusCode::FORBIDDEN, NOT_AUTHORIZED)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found")
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        Self {
            allow: Some(allowed),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        }
    }

    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request body is too large")
    }

    pub(crate) fn overloaded() -> Self {
        Self {
            retry: true,
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, OVERLOADED)
        }
    }

    pub(crate) fn internal(source: impl Into<BoxError>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error").because(source)
    }

    pub(crate) fn because(self, source: impl Into<BoxError>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }

    /// The state of the key store, as `/v1/ready` tells it.
    pub(crate) fn not_ready(error: StoreError) -> Self {
        let answer = if error.is_outage() {
            Self::new(StatusCode::GATEWAY_TIMEOUT, UNREACHABLE)
        } else {
            Self::new(StatusCode::BAD_GATEWAY, UNAVAILABLE)
        };
        answer.because(error)
    }
}

impl Failure for ApiError {
    fn timed_out() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, TIMED_OUT)
    }

    fn unrecorded() -> Self {
        Self {
            retry: true,
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, UNRECORDED)
        }
    }
}

impl From<BadName> for ApiError {
    fn from(error: BadName) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<BadPattern> for ApiError {
    fn from(error: BadPattern) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<BadBody> for ApiError {
    fn from(error: BadBody) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<KeyringError> for ApiError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::NotFound => Self::new(StatusCode::NOT_FOUND, KEY_NOT_FOUND),
            KeyringError::Exists => Self::bad_request(KEY_EXISTS),
            KeyringError::Decrypt(_) => Self::bad_request(NOT_AUTHENTIC),
            KeyringError::NoHmacKey => Self::new(StatusCode::CONFLICT, NO_HMAC),
            KeyringError::NoSuchVersion => Self::bad_request("key version does not exist"),
            KeyringError::KeySize(algorithm) => Self::bad_key_size(algorithm),
            KeyringError::Random(error) => Self::internal(error),
            KeyringError::Store { doing, source } => Self::store(doing, source),
        }
    }
}

impl ApiError {
    fn bad_key_size(algorithm: Algorithm) -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            format!("invalid key size for '{algorithm}'"),
        )
    }

    fn store(doing: Doing, source: StoreError) -> Self {
        let failed = match doing {
            Doing::Create => "failed to create key",
            Doing::Read => "failed to read key",
            Doing::Delete => "failed to delete key",
            Doing::List => "failed to list keys",
            Doing::Undelete => "failed to undelete key",
            Doing::Info => "failed to describe the key store",
            Doing::Backup => "failed to back up the key store",
        };
        let answer = match &source {
            StoreError::Exists => Self::bad_request(KEY_EXISTS),
            StoreError::NotFound => Self::new(StatusCode::NOT_FOUND, KEY_NOT_FOUND),
            StoreError::InvalidName { reason } => {
                Self::bad_request(format!("the key store cannot hold this name: {reason}"))
            }
            StoreError::Throttled { .. } if doing == Doing::Backup => Self {
                retry: true,
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, BACKUP_RUNS)
            },
            StoreError::Unreachable { .. }
            | StoreError::Sealed { .. }
            | StoreError::Throttled { .. }
            | StoreError::AuthFailed { .. }
            | StoreError::Denied { .. }
            | StoreError::Disabled { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Backend { .. } => Self::new(StatusCode::BAD_GATEWAY, failed),
        };
        answer.because(source)
    }
}
